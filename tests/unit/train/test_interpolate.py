"""Rows between two others: the mean by a loop, both ends, other parts, and the share that validation chooses."""

import csv
import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from changing import changed
from small_world import WORLD, copied

from guie.data.packed import PackedImages
from guie.done import outputs_digest
from guie.files import load_weights
from guie.model.backbone import build_backbone
from guie.recipe import HEAD, Interpolate, Recipe, Stages, Start
from guie.run import Run
from guie.train import interpolate
from guie.train.interpolate import interpolated
from guie.train.row_inputs import inputs_of
from guie.train.stage import train_row

TUNED = changed(
    WORLD.stage("s1_head"),
    name="tuned",
    trains="all",
    image_px=32,
    start=Start(of="pretrained", fresh=HEAD),
    optim__n_epochs=1,
    optim__lr=1e-2,
    optim__backbone_lr_factor=1.0,
)
ROWS = (
    Interpolate("third", of="tuned", shares=(0.25,)),
    Interpolate("at_start", of="tuned", shares=(0.0,)),
    Interpolate("at_tuned", of="tuned", start="third", shares=(1.0,)),
    Interpolate("chosen", of="tuned", shares=(0.0, 0.25, 1.0)),
    Interpolate("nothing", of="tuned", start="at_tuned"),
)


def test_mean_by_a_loop_keeps_types_counters_and_what_only_the_tuned_has():
    start = {"w": torch.tensor([1.0, -2.0]), "h": torch.tensor([1.0], dtype=torch.float16), "n": torch.tensor(3)}
    tuned = {"w": torch.tensor([5.0, 2.0]), "h": torch.tensor([2.0], dtype=torch.float16), "n": torch.tensor(9)}
    between = interpolated(start, tuned | {"neck": torch.tensor([7.0])}, 0.25)
    assert between["w"].tolist() == [0.75 * 1 + 0.25 * 5, 0.75 * -2 + 0.25 * 2]
    assert between["h"].tolist() == [1.25] and between["h"].dtype == torch.float16
    assert between["n"] == 9 and between["neck"].tolist() == [7.0]


@pytest.fixture(scope="module")
def run(packed_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A tuned stage and the rows between it and others, all done."""
    out = copied(packed_world, tmp_path_factory.mktemp("between"))
    recipe: Recipe = changed(WORLD, stages=Stages(head=(TUNED, *ROWS)))
    run = Run(recipe, out, out, device="cpu")
    for row in recipe.stages:
        train_row(run, row, PackedImages(run.folder(3)), Accelerator(cpu=True))
    return run


def weights_of(run: Run, name: str) -> dict[str, torch.Tensor]:
    return load_weights(run.stage_folder(name) / "final.safetensors")


def metrics_of(run: Run, name: str) -> dict[str, float]:
    with (run.stage_folder(name) / "metrics.csv").open() as handle:
        return {column: float(value) for column, value in list(csv.DictReader(handle))[-1].items() if value}


def test_row_lies_where_it_says(run: Run):
    """Heads are the tuned row's; the backbone is a quarter of the way from the one without training."""
    fresh = build_backbone(run.recipe.model, 32, None, run.recipe.seed).state_dict()
    tuned, third = weights_of(run, "tuned"), weights_of(run, "third")
    assert third.keys() == tuned.keys()
    for name, tensor in third.items():
        part, _, rest = name.partition(".")
        if part != "backbone" or not tensor.is_floating_point():
            assert torch.equal(tensor, tuned[name]), name
            continue
        for now, start, end in zip(tensor.flatten(), fresh[rest].flatten(), tuned[name].flatten(), strict=True):
            assert float(now) == pytest.approx(0.75 * float(start) + 0.25 * float(end), abs=1e-7)
    moved = sum(float((tuned[f"backbone.{name}"] - tensor).abs().max()) > 1e-3 for name, tensor in fresh.items())
    assert moved > 5, "a backbone that did not move lies anywhere"


def test_ends_are_the_rows_themselves(run: Run):
    tuned = weights_of(run, "tuned")
    assert all(torch.equal(tensor, tuned[name]) for name, tensor in weights_of(run, "at_tuned").items())
    fresh = build_backbone(run.recipe.model, 32, None, run.recipe.seed).state_dict()
    at_start = weights_of(run, "at_start")
    assert all(torch.equal(at_start[f"backbone.{name}"], tensor) for name, tensor in fresh.items())
    assert metrics_of(run, "at_tuned")["val_mp5"] == metrics_of(run, "tuned")["val_mp5"]


def test_validation_chooses_the_share(run: Run):
    scores = {share: metrics_of(run, name)["val_mp5"] for share, name in ((0.0, "at_start"), (0.25, "third"))}
    scores[1.0] = metrics_of(run, "tuned")["val_mp5"]
    best = max(scores.values())
    found = metrics_of(run, "chosen")
    assert len(set(scores.values())) > 1 and found["val_mp5"] == best and scores[found["share"]] == best


def test_share_is_the_one_that_process_0_chooses(run: Run, monkeypatch: pytest.MonkeyPatch):
    """Another process may score otherwise; of equal scores the first named share is taken."""
    tied = Interpolate("tied", of="tuned", shares=(1.0, 0.5))
    other = replace(run, recipe=changed(run.recipe, stages=Stages(head=(TUNED, tied))))
    monkeypatch.setattr(interpolate, "of_process_0", lambda value, accelerator: 0.5)
    train_row(other, tied, PackedImages(run.folder(3)), Accelerator(cpu=True))
    assert metrics_of(other, "tied")["share"] == 1.0


def test_features_of_rows_stay_in_the_cache_and_those_of_other_shares_do_not(run: Run):
    """Door 07 may ask for those of `tuned`, `at_start` and `third`, though `chosen` tries all three after them; a share
    that was tried and not taken is no row's."""
    assert len(list(run.cache.glob("*.npy"))) == 3
    tried = Interpolate("tried", of="tuned", shares=(0.7, 0.8))
    other = replace(run, recipe=changed(run.recipe, stages=Stages(head=(TUNED, tried))))
    train_row(other, tried, PackedImages(run.folder(3)), Accelerator(cpu=True))
    assert len(list(run.cache.glob("*.npy"))) == 4


def test_equal_backbones_are_told(run: Run, caplog: pytest.LogCaptureFixture):
    for file in run.stage_folder("nothing").iterdir():
        file.unlink()
    with caplog.at_level(logging.WARNING):
        train_row(run, run.recipe.row("nothing"), PackedImages(run.folder(3)), Accelerator(cpu=True))
    assert "stage nothing: at_tuned and tuned have one and the same backbone" in caplog.text


def test_mark_holds_the_other_end(run: Run):
    """Another start is another row: `at_tuned` starts from `third`, the others from the weights without training."""
    inputs = {row.name: inputs_of(run, row) for row in ROWS}
    assert inputs["at_tuned"]["start"] == outputs_digest(run.stage_folder("third"))
    assert inputs["third"]["start"].startswith("pretrained ")
    assert all(own["parent"] == outputs_digest(run.stage_folder("tuned")) for own in inputs.values())
    changed_start = changed(ROWS[2], start="at_start")
    assert inputs_of(run, changed_start)["start"] != inputs["at_tuned"]["start"]
