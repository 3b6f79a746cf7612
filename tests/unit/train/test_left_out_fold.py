"""A stage that leaves out a fold of its training classes trains on the others and is validated on that fold alone."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from torch import nn

from guie.recipe import Fold, Setting, Stages, load_recipe
from guie.train.train_set import train_rows, val_rows
from guie.train.validation import validated

TINY = load_recipe("tiny")
STAGE = next(iter(TINY.stages.trained))
DEALT = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)  # the training classes, domain after domain: dealt in turn


def index_of(n_classes: int = 10, n_images: int = 3) -> pd.DataFrame:
    """Two domains; classes 0 to 9 train, 10 to 19 validate."""
    class_id = np.repeat(np.arange(2 * n_classes), n_images)
    return pd.DataFrame(
        {
            "class_id": class_id,
            "domain": np.where(class_id % 2 == 0, "a", "b"),
            "source": np.where(class_id % 2 == 0, "one", "two"),
            "split": np.where(class_id < n_classes, "train", "val"),
        }
    )


def test_four_folds_share_out_the_training_classes_of_each_domain():
    index = index_of()
    seen = []
    for number in range(4):
        stage = replace(STAGE, sources=(), left_out=Fold(number=number, of=4))
        trained, asked = train_rows(index, stage), val_rows(index, stage)
        assert set(index["split"].iloc[asked]) == {"train"}
        assert sorted([*trained, *asked]) == np.flatnonzero(index["split"] == "train").tolist()
        classes = set(index["class_id"].iloc[asked])
        assert not classes & set(index["class_id"].iloc[trained])
        seen += sorted(classes)
        assert classes == {c for i, c in enumerate(DEALT) if i % 4 == number}
    assert sorted(seen) == list(range(10))


def test_without_a_fold_all_training_classes_train_and_the_validation_images_validate():
    index = index_of()
    stage = replace(STAGE, sources=(), left_out=None)
    assert train_rows(index, stage).tolist() == np.flatnonzero(index["split"] == "train").tolist()
    assert val_rows(index, stage).tolist() == np.flatnonzero(index["split"] == "val").tolist()


def test_a_fold_is_of_the_stages_own_sources():
    index = index_of()
    stage = replace(STAGE, sources=("two",), left_out=Fold(number=1, of=4))
    assert set(index["class_id"].iloc[val_rows(index, stage)]) == {1, 9}  # as where all sources train
    assert set(index["class_id"].iloc[train_rows(index, stage)]) == {3, 5, 7}


def test_a_number_beyond_the_folds_is_refused():
    with pytest.raises(ValueError, match=r"left_out.number is 4; of 4 folds the numbers are 0 to 3"):
        replace(TINY, stages=Stages(head=(replace(STAGE, left_out=Fold(number=4, of=4)),))).validate()


def test_classes_of_another_fold_need_a_fresh_objective():
    first = replace(STAGE, left_out=Fold(number=0, of=4))
    second = replace(STAGE, name="s9_again", start=replace(STAGE.start, of=first.name, fresh=()), left_out=None)
    with pytest.raises(ValueError, match=r"stages.s9_again.left_out is another than .*fresh=\('objective',\)"):
        replace(TINY, stages=Stages(head=(first, second))).validate()


def test_what_a_fold_chose_was_not_chosen_by_what_is_reported():
    """The table's dagger marks scores that took part in a choice; the fold's classes are no reported ones."""
    from guie.recipe import Member

    best = replace(STAGE, validation=replace(STAGE.validation, keeps_best=True, every_epochs=1))
    setting = Setting("last", (Member(best.name, best.image_px),))
    for stage, expected in ((best, (f"{best.name}: best epoch",)), (replace(best, left_out=Fold(number=0)), ())):
        recipe = replace(TINY, stages=Stages(head=(stage,)), embed=replace(TINY.embed, settings=(setting,)))
        assert recipe.chosen_on_validation(setting) == expected


class _Store:
    """A store whose features are the classes' numbers as unit vectors in a plane, and which notes what is asked for."""

    def __init__(self, index: pd.DataFrame) -> None:
        self.packed = SimpleNamespace(index=index)
        self.accelerator = SimpleNamespace(device="cpu")
        self.asked: list[np.ndarray] = []

    def get(self, encoder: Any, view: str, rows: np.ndarray) -> np.ndarray:
        self.asked.append(rows)
        angle = self.packed.index["class_id"].to_numpy()[rows] * 0.1
        return np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)


def test_a_stage_is_scored_on_its_fold():
    index = index_of()
    store = _Store(index)
    stage = replace(STAGE, sources=(), left_out=Fold(number=2, of=4))
    model = SimpleNamespace(backbone=nn.Linear(2, 2), neck=nn.Identity())
    run = SimpleNamespace(recipe=SimpleNamespace(model_of=lambda name: TINY.model))
    scores = validated(run, stage, model, store, is_kept=True)  # type: ignore[arg-type]
    assert store.asked[0].tolist() == np.flatnonzero(index["class_id"].isin((4, 3))).tolist()
    assert scores["mp5"] == 1.0
