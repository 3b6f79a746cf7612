"""A stage that leaves out a fold of its training classes trains on the others and is validated on that fold alone."""

import csv
import logging
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from accelerate import Accelerator
from changing import changed
from small_world import WORLD, copied
from torch import nn

from guie.data.packed import PackedImages
from guie.embed.retrieval import retrieve
from guie.files import load_weights
from guie.recipe import ArcFace, Fold, Interpolate, KoLeo, Retain, Setting, Soup, Stages, Sum, Validation, load_recipe
from guie.report.stage_rows import COLUMNS, stage_rows
from guie.run import Run
from guie.train import validation
from guie.train.stage import train_row
from guie.train.train_set import TrainSet, train_rows, val_rows
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
    for number in range(1, 5):
        stage = replace(STAGE, sources=(), left_out=Fold(number=number, of=4))
        trained, asked = train_rows(index, stage), val_rows(index, stage)
        assert set(index["split"].iloc[asked]) == {"train"}
        assert sorted([*trained, *asked]) == np.flatnonzero(index["split"] == "train").tolist()
        classes = set(index["class_id"].iloc[asked])
        assert not classes & set(index["class_id"].iloc[trained])
        seen += sorted(classes)
        assert classes == {c for i, c in enumerate(DEALT) if i % 4 == number - 1}
    assert sorted(seen) == list(range(10))


def test_without_a_fold_all_training_classes_train_and_the_validation_images_validate():
    index = index_of()
    stage = replace(STAGE, sources=(), left_out=None)
    assert train_rows(index, stage).tolist() == np.flatnonzero(index["split"] == "train").tolist()
    assert val_rows(index, stage).tolist() == np.flatnonzero(index["split"] == "val").tolist()


def test_a_fold_is_of_the_stages_own_sources():
    index = index_of()
    stage = replace(STAGE, sources=("two",), left_out=Fold(number=2, of=4))
    assert set(index["class_id"].iloc[val_rows(index, stage)]) == {1, 9}  # as where all sources train
    assert set(index["class_id"].iloc[train_rows(index, stage)]) == {3, 5, 7}


def test_a_number_beyond_the_folds_is_refused():
    for number, told in ((5, "is 5; of 4 folds the numbers are 1 to 4"), (0, "is 0, must be 1 to 100")):
        with pytest.raises(ValueError, match=f"left_out.number {told}"):
            replace(TINY, stages=Stages(head=(replace(STAGE, left_out=Fold(number=number, of=4)),))).validate()


def test_classes_of_another_fold_need_a_fresh_objective():
    first = replace(STAGE, left_out=Fold(number=1, of=4))
    second = replace(STAGE, name="s9_again", start=replace(STAGE.start, of=first.name, fresh=()), left_out=None)
    with pytest.raises(ValueError, match=r"stages.s9_again.left_out is another than .*fresh=\('objective',\)"):
        replace(TINY, stages=Stages(head=(first, second))).validate()


def test_what_a_fold_chose_was_not_chosen_by_what_is_reported():
    """The table's dagger marks scores that took part in a choice; the fold's classes are no reported ones."""
    from guie.recipe import Member

    best = replace(STAGE, validation=replace(STAGE.validation, keeps_best=True, every_epochs=1))
    setting = Setting("last", (Member(best.name, best.image_px),))
    for stage, expected in ((best, (f"{best.name}: best epoch",)), (replace(best, left_out=Fold(number=1)), ())):
        recipe = replace(TINY, stages=Stages(head=(stage,)), embed=replace(TINY.embed, settings=(setting,)))
        assert recipe.chosen_on_validation(setting) == expected


def train_set_of(index: pd.DataFrame, **fields: Any) -> TrainSet:
    """The training set of STAGE over all sources, where no domain or `foreign_domain` is foreign."""
    foreign = fields.pop("foreign_domain", "")
    recipe = replace(TINY, data=replace(TINY.data, foreign_domain=foreign))
    index = index.assign(image_id=np.arange(len(index)).astype(str), repeats=1)
    return TrainSet(recipe, replace(STAGE, sources=(), **fields), SimpleNamespace(index=index))  # type: ignore[arg-type]


def test_a_fold_that_cannot_be_asked_is_refused_before_it_trains():
    assert train_set_of(index_of(n_images=2), left_out=Fold(number=1, of=4)).n_classes == 7
    told = r"left_out: fold 1 of 4 has no class of two images, .*; take another number, or a smaller left_out.of"
    with pytest.raises(ValueError, match=rf"stages.{STAGE.name}.{told}"):
        train_set_of(index_of(n_images=1), left_out=Fold(number=1, of=4))
    told = "left_out.of: 10 classes cannot be dealt to 11 folds; take a smaller number, or add classes"
    with pytest.raises(ValueError, match=f"stages.{STAGE.name}.{told}"):
        train_set_of(index_of(), left_out=Fold(number=1, of=11))


def test_too_few_images_beside_a_foreign_domain_name_it():
    index, told = index_of(), r"\(data.foreign_domain leaves 'a' out\)"
    given = index.assign(split=index["split"].mask(index["domain"] == "a", "given"))
    with pytest.raises(ValueError, match=f"no training image is left after balancing; lower .* {told}"):
        train_set_of(index.assign(split="given"), foreign_domain="a")
    with pytest.raises(ValueError, match=f"only images of generic sets or without labels are left to train on {told}"):
        train_set_of(given, foreign_domain="a", retain=Retain(features_weight=1.0, generic=("two",)))
    with pytest.raises(ValueError, match="are left to train on;"):
        train_set_of(index, retain=Retain(features_weight=1.0, generic=("one", "two")))


def test_generic_sets_without_an_image_are_refused_before_the_term_changes_its_meaning():
    """Without the check all images would carry the term of the features, those that the objective sees included."""
    index, generic = index_of(), Retain(features_weight=1.0, generic=("two",))
    assert train_set_of(index, retain=generic).is_generic.sum() == 15
    hidden = index.assign(split=index["split"].mask(index["source"] == "two", "given"))
    told = r"retain.generic names two, of which no image is left{}: nothing .*retain.generic=\(\)"
    with pytest.raises(ValueError, match=told.format("")):
        train_set_of(hidden, retain=generic)
    with pytest.raises(ValueError, match=told.format(r" \(data.foreign_domain leaves 'b' out\)")):
        train_set_of(hidden, foreign_domain="b", retain=generic)


def test_report_says_where_scores_are_those_of_a_fold():
    less = replace(STAGE, name="less", left_out=Fold(number=1, of=4))
    mixed = (Soup("soup", of=("less",)), Interpolate("between", of="less"), Soup("whole", of=(STAGE.name,)))
    rows = stage_rows(replace(TINY, stages=Stages(head=(STAGE, less, *mixed))))
    own = "; its scores are those of fold 1 of 4"
    assert [row[COLUMNS.index("trains")] for row in rows] == [
        *(STAGE.trains, f"{STAGE.trains}{own}"),
        *(f"soup{own}", f"interpolation, 0.5 tuned{own}", "soup"),
    ]


def test_report_tells_scale_and_margin_of_a_sum():
    objective = Sum(terms=(KoLeo(weight=0.5), ArcFace(scale=20.0, margin_rad=0.3)))
    (row,) = stage_rows(replace(TINY, stages=Stages(head=(replace(STAGE, objective=objective),))))
    assert row[-3:] == ["KoLeo + ArcFace", "20", "0.3 (rad)"]


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
    stage = replace(STAGE, sources=(), left_out=Fold(number=3, of=4))
    model = SimpleNamespace(backbone=nn.Linear(2, 2), neck=nn.Identity())
    run = SimpleNamespace(recipe=SimpleNamespace(model_of=lambda name: TINY.model))
    scores = validated(run, stage, model, store, is_kept=True)  # type: ignore[arg-type]
    assert store.asked[0].tolist() == np.flatnonzero(index["class_id"].isin((4, 3))).tolist()
    assert scores["mp5"] == 1.0


def test_stage_trains_without_its_fold_and_keeps_the_epoch_that_is_best_on_it(
    packed_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """Centres are those of the other fold's classes; the scores of all epochs are those of its own."""
    out = copied(packed_world, tmp_path)
    stage = changed(
        WORLD.stage("s1_head"),
        left_out=Fold(number=1, of=2),
        validation=Validation(every_epochs=1, keeps_best=True),
        optim__n_epochs=3,
        optim__lr=0.3,
    )
    asked: list[set[int]] = []

    def noted(embeddings: np.ndarray, class_ids: np.ndarray) -> Any:
        asked.append(set(class_ids.tolist()))
        return retrieve(embeddings, class_ids)

    monkeypatch.setattr(validation, "retrieve", noted)
    run = Run(changed(WORLD, stages=Stages(head=(stage,))), out, out, device="cpu")
    packed = PackedImages(run.folder(3))
    with caplog.at_level(logging.INFO, "guie"):
        result = train_row(run, stage, packed, Accelerator(cpu=True))
    train = packed.index[packed.index["split"] == "train"]
    in_order = [c for _, own in sorted(train.groupby("domain")["class_id"]) for c in sorted(set(own))]
    assert len(in_order) == len(set(in_order)) > 10
    centers = load_weights(run.stage_folder(stage.name) / "final.safetensors")["objective.centers"]
    assert len(centers) == len(in_order[1::2]) < len(in_order)
    assert len(asked) == 4 and all(classes == set(in_order[::2]) for classes in asked)
    with (run.stage_folder(stage.name) / "metrics.csv").open() as handle:
        by_epoch = [float(row["val_mp5"]) for row in csv.DictReader(handle)]
    assert len(set(by_epoch)) > 1 and result["mp5"] == pytest.approx(max(by_epoch), abs=1e-6)
    assert f"stage {stage.name}: mP@5 of fold 1 of 2 {result['mp5']:.3f}" in caplog.text
    assert "validation mP@5" not in caplog.text
