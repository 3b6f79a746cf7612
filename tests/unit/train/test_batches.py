"""Which images and classes a stage trains on."""

from typing import cast

import pandas as pd
import pytest
from changing import changed

from guie.data.packed import PackedImages
from guie.recipe import PerClass, Recipe, Stage, load_recipe
from guie.train.batches import less_memory
from guie.train.train_set import TrainSet

RECIPE: Recipe = load_recipe("tiny")
STAGE: Stage = changed(RECIPE.stage("s1_head"), optim__batch_size=4)


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
    part = TrainSet(RECIPE, changed(STAGE, sources=("y",)), PACK)
    assert (part.rows.tolist(), part.labels.tolist(), part.n_classes) == ([2, 3, 4], [0, 1, 1], 2)
    assert set(part.image_ids[part.step_items(0).ravel()]) <= {"c", "d", "e"}


def test_source_without_training_images_is_named():
    with pytest.raises(ValueError, match="no training image is left after balancing in z"):
        TrainSet(RECIPE, changed(STAGE, sources=("z",)), PACK)


def test_images_per_class_needs_as_many_classes():
    items = TrainSet(RECIPE, changed(STAGE, sampling=PerClass(images_per_class=2)), PACK).step_items(0)
    assert all(len(set(TrainSet(RECIPE, STAGE, PACK).labels[batch])) == 2 for batch in items)
    with pytest.raises(ValueError, match="needs 4 classes, and there are 3; make the batch smaller"):
        TrainSet(RECIPE, changed(STAGE, sampling=PerClass(images_per_class=1)), PACK)


@pytest.mark.parametrize(
    ("change", "remedy"),
    [
        (
            {"trains": "backbone", "optim__batch_size": 12, "cost__n_parts": 2},
            "--set stages.s.cost.n_parts=4 (the same gradient in parts, now 2), "
            "or --set stages.s.cost.has_grad_checkpoints=true, or a smaller stages.s.optim.batch_size (now 12)",
        ),
        (
            {"trains": "all", "optim__batch_size": 7, "cost__n_parts": 1, "cost__has_grad_checkpoints": True},
            "--set stages.s.cost.n_parts=7 (the same gradient in parts, now 1), "
            "or a smaller stages.s.optim.batch_size (now 7)",
        ),
        ({"trains": "head", "optim__batch_size": 4, "cost__n_parts": 4}, "a smaller stages.s.optim.batch_size (now 4)"),
    ],
)
def test_what_to_set_when_the_memory_is_full(change: dict[str, object], remedy: str):
    stage = changed(STAGE, name="s", **change)
    assert less_memory(stage) == remedy
    for text in remedy.split(", or "):  # each --set is one that the recipe takes
        if text.startswith("--set"):
            override = text.split()[1].replace("stages.s.", "stages.s2_backbone.").replace("=7", "=6")
            load_recipe("tiny", ["stages.s2_backbone.optim.batch_size=12", override])
