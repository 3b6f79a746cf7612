"""One stage, trained in this process: parts, clipping, the average of the weights, what it tells, what stops it."""

import contextlib
import csv
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from accelerate import Accelerator
from changing import changed
from small_model import NECK, SmallPack, inputs_at, small_model
from small_world import WORLD, copied, options
from torch import Tensor

from guie.data.packed import PackedImages
from guie.door import open_door
from guie.embed import extract as extraction
from guie.files import load_weights
from guie.model.embedder import Embedder
from guie.recipe import (
    ArcFace,
    Constant,
    CosFace,
    GrowingMargin,
    ObjectiveSettings,
    Optim,
    Recipe,
    Sgd,
    Softmax,
    Stage,
    Stages,
    Validation,
)
from guie.run import Run
from guie.seeds import seed_of
from guie.train import trainer as module
from guie.train.curves import Curves
from guie.train.gradient import Position, StepInputs, gradient
from guie.train.model import Model
from guie.train.objectives.base import Batch, Look
from guie.train.objectives.margin_softmax import MarginSoftmax
from guie.train.schedule import lr_at
from guie.train.stage import train_row
from guie.train.state import Checkpoint
from guie.train.train_set import TrainSet
from guie.train.trainer import MOMENTS, Trainer

PLAIN = changed(
    Optim(n_epochs=2, batch_size=16, lr=3e-3),
    method=Sgd(momentum=0.0),
    weight_decay=0.0,
    schedule=Constant(warmup_share=0.0),
)
HEAD = changed(WORLD.stage("s1_head"), optim=PLAIN, neck__dropouts=(0.0,))
SMALL = Stage("small", trains="all", optim=changed(PLAIN, backbone_lr_factor=1.0), neck=NECK)


@pytest.fixture(scope="module")
def out(packed_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose images are packed."""
    return copied(packed_world, tmp_path_factory.mktemp("trainer"))


@pytest.fixture
def mine(out: Path) -> Iterator[None]:
    yield
    for file in out.glob("04_head/*/*"):
        file.unlink()


def trained(out: Path, stage: Stage, **trainer_words: Any) -> dict[str, Tensor]:
    """All weights of the packed world's only stage."""
    recipe: Recipe = changed(WORLD, stages=Stages(head=(stage,)))
    run = Run(recipe, out, out, device="cpu")
    train_row(run, stage, PackedImages(run.folder(3)), Accelerator(cpu=True), **trainer_words)
    return load_weights(run.stage_folder(stage.name) / "final.safetensors")


def apart(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)


@pytest.fixture(scope="module")
def undisturbed(out: Path) -> dict[str, Tensor]:
    """The weights of HEAD, trained without an interruption; its files are gone."""
    weights = {name: tensor.clone() for name, tensor in trained(out, HEAD).items()}  # which are mapped from the file
    for file in (out / "04_head" / HEAD.name).iterdir():
        file.unlink()
    return weights


class SmallBatches:
    """Images of the small pack."""

    def __init__(self, train_set: TrainSet) -> None:
        self.train_set = train_set

    def epoch(self, epoch: int, start: int, groups: object = None) -> Iterator[StepInputs]:
        for step, items in enumerate(self.train_set.step_items(epoch)):
            if step >= start:
                labels = torch.from_numpy(self.train_set.labels[items])
                yield inputs_at(100 * epoch + step, labels, torch.from_numpy(items))

    def look(self, model: Embedder) -> Look:
        return cast(Look, "what the objective sees")


def small_trainer(folder: Path, stage: Stage, model: Model, scores: tuple[float, ...] = (), **words: Any) -> Trainer:
    """A trainer of the small model, whose n-th epoch scores `scores[n]`."""

    def validate() -> dict[str, float]:
        mp5 = scores[len(trainer.state.history)]
        return {"mp5": mp5, "r1": mp5 / 2}

    train_set = TrainSet(WORLD, stage, cast(PackedImages, SmallPack()))
    checkpoint = Checkpoint(folder / "last.pt", "key", stage.name, Accelerator(cpu=True))
    trainer = Trainer(stage, 0, model, SmallBatches(train_set), train_set, checkpoint, validate, Curves(None), **words)
    return trainer


def test_parts_of_a_batch_add_up_to_the_whole(out: Path, mine: None) -> None:
    stage = changed(HEAD, trains="all", optim__backbone_lr_factor=1.0, optim__n_epochs=1)
    results = []
    for words in ({}, {"cost__n_parts": 4}, {"optim__batch_size": 8}):
        results.append({name: tensor.clone() for name, tensor in trained(out, changed(stage, **words)).items()})
        assert {name.split(".")[0] for name in results[-1]} == {"backbone", "neck", "objective"}
    whole, parts, other = results
    assert apart(whole, parts) < 1e-5 < 1e-4 < apart(whole, other)


def weights_of(tmp_path: Path, **words: Any) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
    """The trained weights of the small model before the first step and after each, and those that it ends with."""
    stage = changed(SMALL, **words)
    model = small_model(stage)

    def now() -> dict[str, Tensor]:
        return {name: parameter.detach().clone() for name, parameter in model.trained().items()}

    seen = [now()]
    small_trainer(tmp_path, stage, model, notice=lambda moment: seen.append(now()) if moment == "step" else None).run()
    return seen, now()


def lengths(seen: list[dict[str, Tensor]]) -> list[float]:
    """How far each step went."""
    return [float(sum((b[name] - a[name]).square().sum() for name in a).sqrt()) for a, b in pairwise(seen)]


def test_no_step_is_longer_than_the_clipped_gradient(tmp_path: Path) -> None:
    clipped, plain = (lengths(weights_of(tmp_path, optim__lr=1.0, optim__clip_norm=norm)[0]) for norm in (0.02, 0.0))
    assert len(clipped) == 8 and max(clipped) <= 0.02 * (1 + 1e-4) < min(plain)


def test_sharpness_aware_step_is_its_formula(tmp_path: Path) -> None:
    """w - lr * g(w + rho * g(w) / |g(w)|), with the same neurons dropped both times."""
    seen, _ = weights_of(tmp_path, optim__lr=0.05, optim__sam_rho=0.5)
    model, train_set = small_model(SMALL), TrainSet(WORLD, SMALL, cast(PackedImages, SmallPack()))
    given = next(SmallBatches(train_set).epoch(0, 0))

    def gradients() -> dict[str, Tensor]:
        model.zero_grad()
        gradient(model.train(), given, 1, Position(0, 0, seed_of(0, "small", 0, 0)), Accelerator(cpu=True))
        return {name: parameter.grad.double() for name, parameter in model.trained().items()}

    plain = gradients()
    length = sum(float(g.square().sum()) for g in plain.values()) ** 0.5
    with torch.no_grad():
        for name, parameter in model.trained().items():
            parameter += 0.5 / length * plain[name]
    for name, steepest in gradients().items():
        torch.testing.assert_close(seen[1][name].double(), seen[0][name] - 0.05 * steepest, rtol=1e-5, atol=1e-6)
    assert max(float((steepest - plain[name]).abs().max()) for name, steepest in gradients().items()) > 1e-2


def test_average_of_the_weights_is_its_formula(tmp_path: Path) -> None:
    seen, result = weights_of(tmp_path, optim__lr=0.1, optim__ema_decay=0.6, optim__n_epochs=3)
    names, average = list(seen[0]), {name: tensor.double() for name, tensor in seen[0].items()}
    for t, weights in enumerate(seen[1:]):
        decay = min(0.6, (1 + t) / (10 + t))
        average = {name: decay * average[name] + (1 - decay) * weights[name].double() for name in names}
    assert len(seen) == 13
    for name in names:
        torch.testing.assert_close(result[name].double(), average[name], rtol=1e-5, atol=1e-6)
        assert not torch.allclose(result[name], seen[-1][name], rtol=1e-5, atol=1e-6)


# Everything that a checkpoint must hold: momentum, batch norm, an objective with a state, the best epoch.
WHOLE = changed(
    SMALL,
    optim=Optim(n_epochs=3, batch_size=16, lr=1e-2, sam_rho=0.05, clip_norm=1.0, backbone_lr_factor=0.1),
    validation=Validation(every_epochs=1, keeps_best=True),
)


class Counting(MarginSoftmax):
    """Counts what it is told, in a buffer, and adds the count to the loss, so that a lost one changes weights."""

    is_additive = False
    told: Tensor

    def __init__(self) -> None:
        super().__init__(ArcFace(), 5, 6, torch.ones(5))
        self.register_buffer("told", torch.zeros(4))  # steps, and how often each epoch has begun

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        weight = 1 + 0.01 * self.told[0]
        return {name: weight * term for name, term in super().forward(batch).items()} | {
            "no": batch.embeddings.sum() * 0
        }

    def after_step(self, batch: Batch, look: Look) -> None:
        assert look == "what the objective sees" and not batch.embeddings.requires_grad
        self.told[0] += 1

    def begin_epoch(self, epoch: int, look: Look) -> None:
        assert look == "what the objective sees"
        self.told[1 + epoch] += 1


def run_to(
    folder: Path, stop_at: int | None = None, scores: tuple[float, ...] = (0.5, 0.75, 0.25), stage: Stage = WHOLE
) -> tuple[list[str], Trainer]:
    """Trains the stage, or goes on with it, until it has told so many moments."""
    moments: list[str] = []

    def notice(moment: str) -> None:
        moments.append(moment)
        if len(moments) == stop_at:
            raise KeyboardInterrupt

    model = small_model(stage)
    model.objective = Counting()
    with torch.no_grad():
        model.objective.centers.copy_(torch.eye(5, 6))
    trainer = small_trainer(folder, stage, model, scores, notice=notice, checkpoint_every_s=-1.0)
    if stop_at is None:
        trainer.run()
    else:
        with pytest.raises(KeyboardInterrupt):
            trainer.run()
    return moments, trainer


STEP = ["after SAM's second gradient", "step", "checkpoint"]
KEPT, LEFT = ["validated", "best kept", "epoch end"], ["validated", "epoch end"]
EXPECTED = [*STEP * 4, *KEPT, *STEP * 4, *KEPT, *STEP * 4, *LEFT]


def test_moments_come_in_their_order(tmp_path: Path) -> None:
    assert run_to(tmp_path / "other")[0] == EXPECTED
    moments, trainer = run_to(tmp_path, scores=(0.5, 0.25, 0.75))
    assert moments == [*STEP * 4, *KEPT, *STEP * 4, *LEFT, *STEP * 4, *KEPT]
    assert tuple(dict.fromkeys(moments)) == MOMENTS
    assert trainer.model.objective.told.tolist() == [12, 1, 1, 1]
    history = trainer.state.history
    assert [row["val_mp5"] for row in history] == [0.5, 0.25, 0.75]
    assert [(row["epoch"], row["step"]) for row in history] == [(0, 4), (1, 8), (2, 12)]


def test_best_epoch_is_the_result_with_its_statistics(tmp_path: Path) -> None:
    _, trainer = run_to(tmp_path)
    assert trainer.state.best["epoch"] == 1
    assert trainer.model.objective.told.tolist() == [12, 1, 1, 1]  # its buffers end with the stage, as they are
    assert trainer.model.neck.norm.num_batches_tracked == 16  # SAM looks twice
    assert all(
        torch.equal(tensor, trainer.state.best["weights"][name]) for name, tensor in trainer.model.result().items()
    )


# The first and the last of each kind, counted from 1.
PLACES = sorted(
    {i + 1 for moment in MOMENTS for i in (EXPECTED.index(moment), len(EXPECTED) - 1 - EXPECTED[::-1].index(moment))}
)


@pytest.mark.parametrize("stop_at", PLACES, ids=[f"{i} {EXPECTED[i - 1]}" for i in PLACES])
def test_stage_that_is_stopped_anywhere_ends_as_an_undisturbed_one(
    tmp_path: Path, stop_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("guie.train.state.N_POINTS", 5)  # each of two steps or three: a stop falls between two points
    _, whole = run_to(tmp_path / "whole")
    moments, _ = run_to(tmp_path / "stopped", stop_at)
    assert moments == EXPECTED[:stop_at]
    rest, again = run_to(tmp_path / "stopped")
    n_steps = moments.count("checkpoint")
    assert rest.count("step") == 12 - n_steps  # no step that is saved is taken again
    assert is_same(whole.model, again.model)
    unlike = ("images_per_s", "seconds")
    for a, b in zip(whole.state.history, again.state.history, strict=True):
        assert {k: v for k, v in a.items() if k not in unlike} == {k: v for k, v in b.items() if k not in unlike}
    assert whole.state.points == again.state.points and len(again.state.points) == 5


def is_same(one: Model, other: Model) -> bool:
    """Bit by bit."""
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


class Noting(Counting):
    """Notes which steps are counted in the curves."""

    def __init__(self) -> None:
        super().__init__()
        self.counted: list[int] = []

    def after_step(self, batch: Batch, look: Look) -> None:
        self.counted += [batch.step] if batch.is_counted else []


def test_first_step_of_each_epoch_and_every_tenth_is_counted_in_the_curves(tmp_path: Path) -> None:
    """Two epochs of 16 steps, broken off after the seventh step."""
    stage = changed(SMALL, optim__batch_size=4, optim__n_epochs=2)
    found = []
    for stop_at in (7, None):
        model = small_model(stage)
        model.objective = Noting()
        trainer = small_trainer(tmp_path, stage, model, notice=stopping(stop_at), checkpoint_every_s=-1.0)
        with contextlib.suppress(KeyboardInterrupt):
            trainer.run()
        found.append(model.objective.counted)
    assert found == [[0], [10, 16, 26]]


def stopping(stop_at: int | None) -> Callable[[str], None]:
    """Stops a stage when its n-th step is saved."""
    seen: list[str] = []

    def notice(moment: str) -> None:
        seen.extend([moment] if moment == "checkpoint" else [])
        if len(seen) == stop_at:
            raise KeyboardInterrupt

    return notice


def test_average_of_the_weights_goes_on(tmp_path: Path) -> None:
    stage = changed(WHOLE, optim__ema_decay=0.9, validation=Validation())
    _, whole = run_to(tmp_path / "whole", stage=stage)
    run_to(tmp_path / "stopped", 17, stage=stage)
    _, again = run_to(tmp_path / "stopped", stage=stage)
    assert is_same(whole.model, again.model)


def test_every_parameter_has_its_share_of_the_learning_rate(tmp_path: Path) -> None:
    stage = changed(WHOLE, validation=Validation())
    model, rates = small_model(stage), []

    def look(moment: str) -> None:
        if moment == "step":
            groups = trainer.optimizer.param_groups
            rates.append({id(p): group["lr"] for group in groups for p in group["params"]})

    trainer = small_trainer(tmp_path, stage, model, notice=look)
    trainer.run()
    assert len(rates) == 12
    for step, now in enumerate(rates):
        lr = lr_at(stage.optim, step, 12)
        for name, parameter in model.named_parameters():
            assert now[id(parameter)] == pytest.approx(0.1 * lr if name.startswith("backbone.") else lr)


def test_no_checkpoint_is_written_before_it_is_due(tmp_path: Path) -> None:
    moments: list[str] = []
    small_trainer(tmp_path, SMALL, small_model(SMALL), notice=moments.append, checkpoint_every_s=1e6).run()
    assert moments == [*["step"] * 4, "epoch end"] * 2 and not (tmp_path / "last.pt").exists()


@pytest.mark.parametrize(
    ("objective", "own"),
    [
        (ArcFace(margin_rad=GrowingMargin(0.1, 0.2, 0.5)), {"margin_rad": [0.1, 0.3]}),
        (CosFace(margin_cosine=GrowingMargin(0.05, 0.1, 0.5)), {"margin_cosine": [0.05, 0.15]}),
        (Softmax(), {}),
    ],
)
def test_metrics_have_the_columns_of_the_objective(
    out: Path, mine: None, objective: ObjectiveSettings, own: dict[str, list[float]]
) -> None:
    trained(out, changed(HEAD, objective=objective))
    rows = list(csv.DictReader((out / "04_head" / HEAD.name / "metrics.csv").read_text().splitlines()))
    seen = ["active_share", "target_cosine", "best_other_cosine", "positive_cosine", "negative_cosine"]
    seen += ["row_margin_rad"] if own else []
    known = ["epoch", "step", "loss", *own, *seen, "lr", "images_per_s", "seconds", "val_mp5", "val_r1"]
    assert list(rows[0]) == known and len(rows) == 2
    for name, values in own.items():
        assert [float(row[name]) for row in rows] == pytest.approx(values)
    assert rows[0]["val_mp5"] == "" and 0 < float(rows[1]["val_mp5"]) <= 1


@pytest.mark.parametrize(
    ("is_loss", "said"),
    [(True, "the loss is nan at epoch 2, step 1, images "), (False, "a weight is not finite at epoch 2, step 2;")],
)
def test_what_is_not_finite_stops_the_stage_and_the_good_checkpoint_goes_on(
    out: Path,
    mine: None,
    undisturbed: dict[str, Tensor],
    monkeypatch: pytest.MonkeyPatch,
    is_loss: bool,
    said: str,
) -> None:
    train_set = TrainSet(WORLD, HEAD, PackedImages(out / "03_packed"))
    batches: list[list[str]] = []

    def spoilt(
        model: Model, given: StepInputs, n_parts: int, moment: Position, accelerator: Accelerator
    ) -> tuple[Batch | None, dict[str, float]]:
        batches.append([str(image_id) for image_id in train_set.image_ids[given.items.numpy()]])
        batch, terms = gradient(model, given, n_parts, moment, accelerator)
        if (moment.epoch, moment.step) != (1, train_set.n_steps + 1):
            return batch, terms
        next(iter(model.trained().values())).grad.mul_(torch.inf)  # type: ignore[union-attr]
        return batch, {"loss": float("nan")} if is_loss else terms

    with monkeypatch.context() as patch:
        patch.setattr(module, "gradient", spoilt)
        with pytest.raises(ValueError, match=said) as caught:
            trained(out, HEAD, checkpoint_every_s=-1.0)
    assert "try a lower stages.s1_head.optim.lr (now 0.003) or stages.s1_head.optim.clip_norm=1" in str(caught.value)
    folder = out / "04_head" / HEAD.name
    if is_loss:
        assert (folder / "not_finite.txt").read_text().splitlines() == batches[-1] and batches[-1][0] in str(
            caught.value
        )
    assert (folder / "last.pt").is_file() and not (folder / "final.safetensors").exists()
    moments: list[str] = []
    assert apart(undisturbed, trained(out, HEAD, notice=moments.append)) == 0.0
    assert moments.count("step") == train_set.n_steps - 1  # the good steps are not taken again
    assert not (folder / "not_finite.txt").exists()


@pytest.mark.parametrize(
    ("where", "remedy"),
    [
        ("gradient", "a smaller stages.s1_head.optim.batch_size (now 64)"),
        ("folded", f"--set embed.batch_size={WORLD.embed.batch_size // 2} (now {WORLD.embed.batch_size})"),
    ],
)
def test_full_card_is_one_line_with_what_to_set_and_the_traceback_is_in_the_log(
    out: Path, mine: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], where: str, remedy: str
) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nSee the documentation")

    monkeypatch.setattr(module if where == "gradient" else extraction, where, full)
    for cached in (out / "cache").glob("*"):
        cached.unlink()
    assert open_door(4, "A door.", "guie.train.stage:train_phase", options(out.parent), phase="head") == 2
    told = capsys.readouterr().err
    log = out / "04_head/log.txt"
    assert told.startswith("error: door 04: the card's memory is full; ") and told.count("\n") == 1 and remedy in told
    assert (
        told.endswith(f"; the traceback is in {log}\n")
        and "OutOfMemoryError" in log.read_text()
        and "Traceback" in log.read_text()
    )
