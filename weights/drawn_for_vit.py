"""drawn_for_vit: the drawn images that the shipped ViT learned from. No other recipe has this seed, so none has these
classes.

It is not trained as a recipe: weights/make_vit.py opens only doors 01 to 03.
"""

from dataclasses import replace

from guie.recipe import DrawnWorld
from guie.recipes.demo import RECIPE as DEMO
from guie.recipes.tiny import RECIPE as TINY

RECIPE = replace(
    TINY,
    name="drawn_for_vit",
    seed=1001,
    data=replace(DEMO.data, drawn=DrawnWorld(n_instances=240, n_views=8, image_px=200), val_class_share=0.1),
)
