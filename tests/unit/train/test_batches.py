"""Which images and classes a stage trains on."""

from dataclasses import replace
from typing import cast

import pandas as pd
import pytest

from guie.data.packing import PackedImages
from guie.recipe import Recipe, Stage, load_recipe
from guie.train.batches import TrainSet

RECIPE: Recipe = load_recipe("tiny")
STAGE: Stage = replace(RECIPE.stages[0], batch_size=4)


class FakePack:
    """Two sources; class 1 has lost its images, validation stands between."""

    index = pd.DataFrame(
        {
            "image_id": list("abcdefg"),
            "source": ["x", "x", "y", "y", "y", "x", "y"],
            "class_id": [0, 0, 2, 3, 3, 4, 5],
            "split": ["train"] * 5 + ["val"] * 2,
            "repeats": [1, 2, 1, 1, 1, 0, 0],
        }
    )


PACK = cast(PackedImages, FakePack())


def test_classes_are_numbered_without_gaps():
    whole = TrainSet(RECIPE, STAGE, PACK)
    assert (whole.rows.tolist(), whole.labels.tolist(), whole.n_classes) == ([0, 1, 2, 3, 4], [0, 0, 1, 2, 2], 3)


def test_stage_of_one_source_has_its_classes_alone():
    part = TrainSet(RECIPE, replace(STAGE, sources=("y",)), PACK)
    assert (part.rows.tolist(), part.labels.tolist(), part.n_classes) == ([2, 3, 4], [0, 1, 1], 2)
    assert set(part.image_ids[part.step_items(0).ravel()]) <= {"c", "d", "e"}


def test_source_without_training_images_is_named():
    with pytest.raises(ValueError, match="no training image is left after balancing in z"):
        TrainSet(RECIPE, replace(STAGE, sources=("z",)), PACK)


def test_images_per_class_needs_as_many_classes():
    items = TrainSet(RECIPE, replace(STAGE, images_per_class=2), PACK).step_items(0)
    assert all(len(set(TrainSet(RECIPE, STAGE, PACK).labels[batch])) == 2 for batch in items)
    with pytest.raises(ValueError, match="needs 4 classes, and there are 3; make the batch smaller"):
        TrainSet(RECIPE, replace(STAGE, images_per_class=1), PACK)
