"""What a stage goes on from: a checkpoint of another thread count, damaged files; and what is told before it begins."""

import logging
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from changing import changed
from small_world import WORLD
from test_trainer import HEAD, apart, out, trained, undisturbed  # noqa: F401  (out and undisturbed are fixtures)

from guie import run as run_module
from guie.data.packed import PackedImages
from guie.done import read_done
from guie.embed.ensemble import note_pretrained
from guie.embed.fitted import check_rows
from guie.files import load_state, save_json
from guie.model.backbone import Backbone
from guie.recipe import Model, Setting, load_recipe
from guie.run import Run, keep_conditions
from guie.train import stage as stage_module
from guie.train.stage import train_phase

FOLDER = f"04_head/{HEAD.name}"


@pytest.fixture(autouse=True)
def clean(out: Path, caplog: pytest.LogCaptureFixture) -> Iterator[None]:  # noqa: F811
    n = torch.get_num_threads()
    caplog.set_level(logging.INFO, "guie")
    yield
    torch.set_num_threads(n)
    for file in out.glob("04_head/*/*"):
        file.unlink()


def interrupted(out: Path, n_steps: int = 3) -> Path:  # noqa: F811
    """The checkpoint of a stage that was stopped after some steps."""
    saved = []

    def stop(moment: str) -> None:
        saved.extend([moment] if moment == "checkpoint" else [])
        if len(saved) == n_steps:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(out, HEAD, notice=stop, checkpoint_every_s=-1.0)
    return out / FOLDER / "last.pt"


@pytest.mark.parametrize(
    "change",
    [
        {"trains": "neck", "start__has_mean_centers": True},
        {"trains": "objective", "start__has_pca_neck": True},
        {"start__has_pca_neck": True, "start__has_mean_centers": True, "neck__has_unit_input": True},
    ],
    ids=["means", "PCA", "both"],
)
def test_what_an_epoch_sets_once_goes_on_as_it_was(out: Path, change: dict[str, object]):  # noqa: F811
    """`begin_epoch` points centres at their classes' means and makes the neck a PCA, once; a checkpoint must hold them
    though only the other part trains."""
    stage = changed(HEAD, **change)
    expected = trained(out, stage)
    for file in (out / FOLDER).iterdir():
        file.unlink()

    def stop(moment: str) -> None:
        if moment == "checkpoint":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(out, stage, notice=stop, checkpoint_every_s=-1.0)
    assert apart(expected, trained(out, stage)) == 0.0


def test_resumed_stage_computes_in_the_threads_it_was_begun_in(
    out: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    monkeypatch.setattr(run_module, "n_cores", lambda: 2)
    torch.set_num_threads(2)
    assert load_state(interrupted(out))["threads"] == 2
    torch.set_num_threads(1)
    caplog.clear()
    trained(out, HEAD)
    assert torch.get_num_threads() == 2
    assert f"stage {HEAD.name}: was begun with 2 threads, which are kept; this start would take 1" in caplog.messages
    mark = read_done(out / FOLDER)
    assert mark is not None and mark["threads"] == 2
    torch.set_num_threads(1)
    trained(out, HEAD)  # done: the stages after it go on in its threads
    assert torch.get_num_threads() == 2


def test_too_few_cores_or_another_device_are_told(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    monkeypatch.setattr(run_module, "n_cores", lambda: 2)
    n = torch.get_num_threads()
    keep_conditions("s", {"threads": n + 64, "device": "cpu"}, "cpu")
    keep_conditions("s", {"threads": n, "device": "cuda:1"}, "cpu")
    assert torch.get_num_threads() == n
    assert caplog.messages == [
        f"stage s: was begun with {n + 64} threads and goes on with {n}: not bit-equal to an uninterrupted run",
        "stage s: was begun on cuda and goes on on cpu: the weights are not those of an uninterrupted run",
    ]
    caplog.clear()
    keep_conditions("s", {"threads": n, "device": "cuda:1"}, "cuda")
    keep_conditions("s", {}, "cpu")
    assert caplog.messages == []


@pytest.mark.parametrize("n_kept", [0, 1000, None], ids=["emptied", "truncated", "zeroed inside"])
def test_damaged_checkpoint_is_told_and_the_stage_ends_as_an_undisturbed_one(
    out: Path,  # noqa: F811
    undisturbed: dict[str, torch.Tensor],  # noqa: F811
    caplog: pytest.LogCaptureFixture,
    n_kept: int | None,
):
    path = interrupted(out)
    data = path.read_bytes()
    middle = len(data) // 2
    path.write_bytes(data[:n_kept] if n_kept is not None else data[:middle] + bytes(2000) + data[middle + 2000 :])
    caplog.clear()
    assert apart(undisturbed, trained(out, HEAD)) == 0
    told = [line for line in caplog.messages if "training starts anew" in line]
    assert len(told) == 1 and str(path) in told[0]


def test_checkpoint_of_other_settings_is_told_and_not_used(out: Path, caplog: pytest.LogCaptureFixture):  # noqa: F811
    other = changed(HEAD, optim__lr=HEAD.optim.lr / 2)
    expected = {name: tensor.clone() for name, tensor in trained(out, other).items()}
    for file in (out / FOLDER).iterdir():
        file.unlink()
    interrupted(out)
    caplog.clear()
    assert apart(expected, trained(out, other)) == 0
    told = f"stage {HEAD.name}: the checkpoint there was made with other settings or data; training starts anew"
    assert told in caplog.messages


def test_damaged_weights_of_a_finished_stage_are_trained_again(out: Path, caplog: pytest.LogCaptureFixture):  # noqa: F811
    expected = {name: tensor.clone() for name, tensor in trained(out, HEAD).items()}  # which are mapped from the file
    path = out / FOLDER / "final.safetensors"
    times, whole = path.stat(), path.read_bytes()
    path.write_bytes(whole[:-40] + bytes(40))  # safetensors itself does not notice
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    caplog.clear()
    assert apart(expected, trained(out, HEAD)) == 0
    assert f"{path} has other bytes than were written; it is made again" in caplog.messages
    assert path.read_bytes() == whole


def test_pca_of_too_few_images_is_told_before_anything_is_trained(out: Path, monkeypatch: pytest.MonkeyPatch):  # noqa: F811
    n = int((PackedImages(out / "03_packed").index["split"] == "train").sum())
    monkeypatch.setattr(stage_module, "train_row", lambda *_: pytest.fail("training has begun"))
    for dim, is_told in ((n - 1, False), (n, True)):
        settings = tuple(replace(row, pca_dim=dim if row.pca_dim else 0) for row in WORLD.embed.settings)
        recipe = changed(WORLD, embed__settings=settings)
        if not is_told:
            check_rows(Run(recipe, out, out), PackedImages(out / "03_packed"))
            continue
        said = rf"TTA, re-ranked.pca_dim is {n}, which needs more than {n} training images; the pack has {n}"
        with pytest.raises(ValueError, match=said):
            train_phase(Run(recipe, out, out), "head")


def test_pca_wider_than_its_members_is_no_recipe():
    recipe = load_recipe("tiny")
    row = Setting("wide", recipe.embed.final.members, pca_dim=129)
    said = r"embed.settings.wide.pca_dim is 129, more than the 128 numbers that its members give"
    with pytest.raises(ValueError, match=said):
        changed(recipe, embed__settings=(row, *recipe.embed.settings)).validate()


def test_weights_behind_a_tag_are_recorded_and_others_refused(tmp_path: Path):
    model = Model("timm", "x", "pretrained:in1k")
    run = Run(load_recipe("tiny"), tmp_path, tmp_path)

    def loaded(value: float) -> Backbone:
        network = torch.nn.Linear(2, 2).requires_grad_(False)
        network.weight.fill_(value)
        return Backbone(network, 2)

    first = loaded(1.0)
    first.network.bias.zero_()
    note_pretrained(run, model, first)
    note_pretrained(run, model, first)
    note_pretrained(run, replace(model, weights="pretrained:other"), loaded(2.0))
    said = r"timm x pretrained:in1k: the library gives weights with digest \w{16}, but this run began with \w{16}"
    with pytest.raises(ValueError, match=said):
        note_pretrained(run, model, loaded(3.0))
    save_json(tmp_path / "pretrained.json", {})
    note_pretrained(run, model, loaded(3.0))


def test_kept_epoch_is_told(out: Path, caplog: pytest.LogCaptureFixture):  # noqa: F811
    trained(out, changed(HEAD, validation__every_epochs=1, validation__keeps_best=True))
    scores = [float(row.split(",")[-2]) for row in (out / FOLDER / "metrics.csv").read_text().splitlines()[1:]]
    best = scores.index(max(scores))
    told = [line for line in caplog.messages if "keeps epoch" in line]
    assert len(scores) == 2 and told == [f"stage s1_head: keeps epoch {best + 1} of 2, mP@5 {scores[best]:.4f}"]
