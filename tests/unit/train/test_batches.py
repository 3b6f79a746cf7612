"""Which images and classes a stage trains on."""

from dataclasses import replace
from typing import cast

import pandas as pd
import pytest

from guie.data.packing import PackedImages
from guie.recipe import Recipe, Stage, load_recipe
from guie.train.batches import TrainSet, less_memory

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


@pytest.mark.parametrize(
    ("change", "remedy"),
    [
        (
            {"trains": "backbone", "batch_size": 12, "n_accumulate": 2},
            "--set stages.s.n_accumulate=4 (the same gradient in parts, now 2), or --set stages.s.has_grad_checkpoints=true, "
            "or a smaller stages.s.batch_size (now 12)",
        ),
        (
            {"trains": "all", "batch_size": 7, "n_accumulate": 1, "has_grad_checkpoints": True},
            "--set stages.s.n_accumulate=7 (the same gradient in parts, now 1), or a smaller stages.s.batch_size (now 7)",
        ),
        ({"trains": "head", "batch_size": 4, "n_accumulate": 4}, "a smaller stages.s.batch_size (now 4)"),
    ],
)
def test_what_to_set_when_the_memory_is_full(change: dict[str, object], remedy: str):
    stage = replace(STAGE, name="s", **change)  # type: ignore[arg-type]
    assert less_memory(stage) == remedy
    for text in remedy.split(", or "):  # each --set is one that the recipe takes
        if text.startswith("--set"):
            load_recipe("tiny", ["stages.s2_backbone.batch_size=12", text.split()[1].replace("stages.s.", "stages.s2_backbone.").replace("=7", "=6")])
