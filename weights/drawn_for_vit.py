"""drawn_for_vit: the drawn world that the shipped ViT learned from; its seed differs from those of every other recipe,
so no class is shared.

Not a recipe to train: weights/make_vit.py opens its doors 01-03 only.
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
