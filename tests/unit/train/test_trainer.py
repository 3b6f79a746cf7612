"""One stage, trained in this process: parts of a batch, clipping, the average of the weights, and a loss or a weight that is not finite."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import Tensor

from guie.data.packing import PackedImages
from guie.door import open_door
from guie.embed import extract as extraction
from guie.files import load_weights
from guie.recipe import DrawnWorld, Recipe, Stage, load_recipe
from guie.run import Run
from guie.train import trainer
from guie.train.trainer import StageLoop, train_stage

TINY = load_recipe("tiny")
WORLD = replace(TINY, data=replace(TINY.data, drawn=DrawnWorld(12, 6, 64)))
HEAD = replace(TINY.stages[0], n_epochs=2, batch_size=16, dropout=0.0, optimizer="sgd", momentum=0.0, weight_decay=0.0, schedule="constant", warmup_share=0.0)
DOORS = {1: "guie.data.build:build_manifests", 2: "guie.data.balance:merge_and_balance", 3: "guie.data.packing:pack_images"}
FILE = '''
"""A small world for tests."""
from dataclasses import replace
from guie.recipe import DrawnWorld
from guie.recipes.tiny import RECIPE as TINY
RECIPE = replace(TINY, data=replace(TINY.data, drawn=DrawnWorld(12, 6, 64)))
'''


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose images are packed."""
    folder = tmp_path_factory.mktemp("trainer")
    (folder / "tiny.py").write_text(FILE)
    for number, work in DOORS.items():
        assert (
            open_door(number, "A door.", work, ["--recipe", str(folder / "tiny.py"), "--data-root", str(folder), "--out", str(folder), "--device", "cpu"]) == 0
        )
    return folder / "tiny"


@pytest.fixture
def mine(out: Path) -> Iterator[None]:
    yield
    for file in out.glob("04_head/*/*"):
        file.unlink()


def trained(out: Path, stage: Stage) -> dict[str, Tensor]:
    recipe: Recipe = replace(WORLD, stages=(stage,))
    run = Run(recipe, out, out, device="cpu")
    train_stage(run, stage, PackedImages(run.folder(3)), Accelerator(cpu=True))
    return {name: tensor for name, tensor in load_weights(run.stage_folder(stage.name) / "final.safetensors").items() if not name.startswith("backbone.")}


def apart(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def test_parts_of_a_batch_add_up_to_the_whole(out: Path, mine: None) -> None:
    whole, parts, other = (trained(out, replace(HEAD, **words)) for words in ({}, {"n_accumulate": 4}, {"batch_size": 8}))
    assert apart(whole, parts) < 1e-5 < 1e-4 < apart(whole, other)


def test_no_step_is_longer_than_the_clipped_gradient(out: Path, mine: None, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = steps_of(monkeypatch)
    trained(out, replace(HEAD, lr=1.0, clip_norm=0.02))
    clipped = lengths(seen)
    seen.clear()
    trained(out, replace(HEAD, lr=1.0))
    assert len(clipped) > 5 and max(clipped) <= 0.02 * (1 + 1e-4) < min(lengths(seen))


def test_average_of_the_weights_is_its_formula(out: Path, mine: None, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = steps_of(monkeypatch)
    result = trained(out, replace(HEAD, ema_decay=0.6))
    names, average = list(seen[0]), {name: tensor.double() for name, tensor in seen[0].items()}
    for t, weights in enumerate(seen[1:]):
        decay = min(0.6, (1 + t) / (10 + t))
        average = {name: decay * average[name] + (1 - decay) * weights[name].double() for name in names}
    assert len(seen) > 6
    for name in names:
        torch.testing.assert_close(result[name].double(), average[name], rtol=1e-5, atol=1e-6)
        assert not torch.allclose(result[name], seen[-1][name], rtol=1e-5, atol=1e-6)


def steps_of(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Tensor]]:
    """The trained weights before the first step and after each."""
    seen: list[dict[str, Tensor]] = []
    step = StageLoop._train_step

    def noted(loop: StageLoop, inputs: Tensor, labels: Tensor, numbers: np.ndarray) -> float:
        seen.extend([] if seen else [{name: tensor.detach().clone() for name, tensor in loop._trained()}])
        value = step(loop, inputs, labels, numbers)
        seen.append({name: tensor.detach().clone() for name, tensor in loop._trained()})
        return value

    monkeypatch.setattr(StageLoop, "_train_step", noted)
    return seen


def lengths(seen: list[dict[str, Tensor]]) -> list[float]:
    """How far each step went."""
    return [float(sum((b[name] - a[name]).square().sum() for name in a).sqrt()) for a, b in pairwise(seen)]


@pytest.mark.parametrize(("is_loss", "said"), [(True, "the loss is nan at epoch 2, step 1, images "), (False, "a weight is not finite at epoch 2, step 2;")])
def test_what_is_not_finite_stops_the_stage_and_the_good_checkpoint_goes_on(
    out: Path, mine: None, monkeypatch: pytest.MonkeyPatch, is_loss: bool, said: str
) -> None:
    undisturbed = trained(out, HEAD)
    for file in (out / "04_head" / HEAD.name).iterdir():
        file.unlink()
    monkeypatch.setattr(trainer, "CHECKPOINT_S", -1.0)  # after each step
    batches: list[list[str]] = []
    gradient, step = StageLoop._gradient, StageLoop._train_step

    def noted(loop: StageLoop, inputs: Tensor, labels: Tensor, numbers: np.ndarray) -> float:
        batches.append([str(image_id) for image_id in loop.train_set.image_ids[numbers]])
        return step(loop, inputs, labels, numbers)

    def spoilt(loop: StageLoop, inputs: Tensor, labels: Tensor) -> float:
        value = gradient(loop, inputs, labels)
        if (loop.epoch, loop.step) != (1, 1):
            return value
        next(p for _, p in loop._trained()).grad.mul_(torch.inf)  # type: ignore[union-attr]
        return float("nan") if is_loss else value

    with monkeypatch.context() as patch:
        patch.setattr(StageLoop, "_train_step", noted)
        patch.setattr(StageLoop, "_gradient", spoilt)
        with pytest.raises(ValueError, match=said) as caught:
            trained(out, HEAD)
    assert "try a lower stages.s1_head.lr" in str(caught.value)
    folder = out / "04_head" / HEAD.name
    if is_loss:
        assert (folder / "not_finite.txt").read_text().splitlines() == batches[-1] and batches[-1][0] in str(caught.value)
    assert (folder / "last.pt").is_file() and not (folder / "final.safetensors").exists()
    assert apart(undisturbed, trained(out, HEAD)) == 0.0


@pytest.mark.parametrize(
    ("where", "remedy"),
    [
        ("_train_step", f"--set stages.{HEAD.name}.n_accumulate=2 (the same gradient in parts, now 1)"),
        ("_extract_slice", f"--set embed.batch_size={TINY.embed.batch_size // 2} (now {TINY.embed.batch_size})"),
    ],
)
def test_full_card_is_one_line_with_what_to_set_and_the_traceback_is_in_the_log(
    out: Path, mine: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], where: str, remedy: str
) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nSee the documentation")

    monkeypatch.setattr(StageLoop if where == "_train_step" else extraction, where, full)
    for cached in (out / "cache").glob("*"):
        cached.unlink()
    options = ["--recipe", str(out.parent / "tiny.py"), "--out", str(out.parent), "--data-root", str(out.parent), "--device", "cpu"]
    assert open_door(4, "A door.", "guie.train.trainer:train_phase", options, phase="head") == 2
    told = capsys.readouterr().err
    log = out / "04_head/log.txt"
    assert told.startswith("error: door 04: the card's memory is full; ") and told.count("\n") == 1 and remedy in told
    assert told.endswith(f"; the traceback is in {log}\n") and "OutOfMemoryError" in log.read_text() and "Traceback" in log.read_text()
