"""What holds a moving backbone at its start: gradients by hand, parts and processes, images that the objective does not
see, and a real stage that is broken off."""

import csv
import os
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from accelerate import Accelerator
from changing import changed
from opening import FORKS
from small_model import N_CLASSES, NECK, WIDTH, inputs_at, small_model
from test_trainer import HEAD, apart, out, trained  # noqa: F401  (out is a fixture)
from torch import Tensor

from guie.recipe import HEAD as FRESH
from guie.recipe import ArcFace, Contrastive, Memory, Optim, Retain, Stage, Start, Sum
from guie.train.gradient import Position, gradient
from guie.train.model import Model
from guie.train.objective_turns import after_step
from guie.train.objectives.base import Batch, Look
from guie.train.retain import retained
from guie.train.train_set import labelled

N = 24
BOTH = Retain(features_weight=40.0, weights_weight=700.0)
GENERIC = replace(BOTH, generic=("b",))
STAGE = Stage("s", trains="all", optim=Optim(n_epochs=1, batch_size=N, lr=0.01), neck=changed(NECK, has_norm=False))
IS_GENERIC = torch.arange(200) % 3 == 0  # of the training images
NO_LOOK = cast(Look, None)


def held(settings: Retain, seed: int = 0, objective: ArcFace | Sum | None = None) -> Model:
    """A model in float64 that has moved from its start, and is held to it."""
    model = small_model(changed(STAGE, objective=objective or ArcFace(margin_rad=0.3)), seed).double()
    features = torch.randn(200, WIDTH, generator=torch.Generator().manual_seed(5)).numpy()
    is_generic = IS_GENERIC.numpy() if settings.generic else np.zeros(200, bool)
    model.retained = retained(settings, features, is_generic, dict(model.trained()))
    with torch.no_grad():
        for i, parameter in enumerate(model.backbone.parameters()):
            noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(i), dtype=torch.float64)
            parameter.add_(0.1 * noise)
    return model


def take_step(model: Model, step: int, n_parts: int = 1) -> tuple[Batch | None, dict[str, float]]:
    """The gradient of one step; items 0, 7, 14, ... of which a third are generic."""
    accelerator = Accelerator(cpu=True)
    items = 7 * torch.arange(N)
    given = inputs_at(step, items % N_CLASSES, items, torch.float64)
    given = replace(given, inputs=given.inputs[accelerator.process_index :: accelerator.num_processes])
    return gradient(model.train(), given, n_parts, Position(0, step, 1000 + step), accelerator)


def gradients(model: Model) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("settings", [BOTH, GENERIC, Retain(weights_weight=9.0), Retain(features_weight=9.0)])
def test_gradient_is_autograds_of_the_loss_by_loops(settings: Retain) -> None:
    """The loss, written out: the objective's over the rows that it sees, and both terms number by number."""
    model, by_hand = held(settings), held(settings)
    _, terms = take_step(model, 0)
    items = 7 * torch.arange(N)
    given = inputs_at(0, items % N_CLASSES, items, torch.float64)
    torch.manual_seed(1000)  # the dropout of the step
    features = by_hand.train().backbone(given.inputs)
    embeddings = by_hand.neck(features)
    seen = torch.tensor([not (settings.generic and int(item) % 3 == 0) for item in items])
    batch = Batch(features[seen], embeddings[seen], given.labels[seen], items[seen], items[seen], 0, 0)
    loss = sum(by_hand.objective(batch).values())
    start, held_to = held(settings).retained, by_hand.retained
    assert start is not None and held_to is not None
    kept: list[Tensor] = []
    for row, item in zip(features, items.tolist(), strict=True):
        own, other = row / row.norm(), torch.from_numpy(np.asarray(held_to.features)[item]).double()
        other = other / other.norm()
        is_held = not settings.generic or item % 3 == 0
        kept.append(is_held * sum((own[k] - other[k]) ** 2 for k in range(WIDTH)) / WIDTH)
    expected = {"kept_features": settings.features_weight * torch.stack(kept).mean()}
    distance = torch.zeros((), dtype=torch.float64)
    for name, parameter in by_hand.backbone.named_parameters():
        fresh = small_model(STAGE).get_parameter(f"backbone.{name}").double()
        distance = distance + ((parameter - fresh) ** 2).sum() / parameter.numel()
    expected["kept_weights"] = settings.weights_weight * distance
    expected = {name: value for name, value in expected.items() if float(value.detach())}
    (loss + sum(expected.values())).backward()
    assert {name: value for name, value in terms.items() if name.startswith("kept_") and value} == pytest.approx(
        {name: float(value.detach()) for name, value in expected.items()}, rel=1e-6
    )
    assert apart(gradients(model), gradients(by_hand)) < 1e-12


@pytest.mark.parametrize("settings", [BOTH, GENERIC])
def test_parts_give_the_gradient_of_the_whole(settings: Retain) -> None:
    whole, parts = held(settings), held(settings)
    (_, terms), (_, of_parts) = take_step(whole, 0), take_step(parts, 0, n_parts=4)
    assert of_parts == pytest.approx(terms, rel=1e-6) and apart(gradients(whole), gradients(parts)) < 1e-12


def in_one_of_two(rank: int, port: int, folder: str) -> None:
    """One of two processes, with its share of the images."""
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", **address)
    torch.set_num_threads(1)
    model = held(GENERIC)
    take_step(model, 0, n_parts=2)
    torch.save(gradients(model), Path(folder) / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_give_the_gradient_of_one() -> None:
    model = held(GENERIC)
    take_step(model, 0)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        mp.start_processes(in_one_of_two, args=(port, folder), nprocs=2, start_method=FORKS.get_start_method())
        first, second = (torch.load(Path(folder) / f"{rank}.pt") for rank in (0, 1))
    assert apart(first, second) == 0.0 and apart(gradients(model), first) < 1e-12


def test_objective_sees_no_generic_image_and_remembers_none() -> None:
    """Not in the loss, and not in its memory; a batch of generic images alone leaves both as they are."""
    objective = Sum(terms=(ArcFace(), Contrastive(memory=Memory(size=48, start_step=0))))
    model = held(GENERIC, objective=objective)
    batch, terms = take_step(model, 0)
    assert batch is not None and len(terms) == 4  # two of the objective, two that hold
    place, accelerator = Position(0, 0, 1), Accelerator(cpu=True)
    after_step(model, batch, NO_LOOK, place, accelerator)
    (count,) = (b for name, b in model.objective.named_buffers() if name.endswith("memory.count"))
    assert 0 < int(count) < N and int(count) == sum(int(item) % 3 != 0 for item in batch.items)
    before = {name: b.clone() for name, b in model.objective.named_buffers()}
    generic = batch.of(IS_GENERIC[batch.items])
    after_step(model, generic, NO_LOOK, place, accelerator)
    assert all(torch.equal(b, before[name]) for name, b in model.objective.named_buffers())
    assert model.retained is not None and set(model.retained.terms(generic, model.objective)) == {"kept_features"}


def test_frozen_weights_are_not_held() -> None:
    model = small_model(STAGE)
    next(iter(model.backbone.parameters())).requires_grad_(False)
    found = retained(BOTH, None, np.zeros(200, bool), dict(model.trained()))
    names = [name for name, p in model.named_parameters() if name.startswith("backbone.") and p.requires_grad]
    assert found is not None and sorted(found.weights) == sorted(names) and len(names) == 1
    assert retained(Retain(), None, np.zeros(200, bool), dict(model.trained())) is None


def test_batch_without_a_generic_image_does_not_carry_the_term_of_the_features() -> None:
    """Where the settings name generic sets, none among the images is not the same as no such sets."""
    model = held(GENERIC)
    model.retained = retained(GENERIC, np.ones((200, WIDTH), np.float32), np.zeros(200, bool), dict(model.trained()))
    _, terms = take_step(model, 0)
    assert terms["kept_features"] == 0.0


def test_classes_that_the_objective_sees_come_first() -> None:
    ids = np.array([40, 7, 7, 12, 3, 40, 12])
    is_generic = np.array([False, True, True, False, True, False, True])  # 12 is of both, and so it is seen
    labels, n_classes = labelled(ids, is_generic)
    assert labels.tolist() == [1, 3, 3, 0, 2, 1, 0] and n_classes == 2
    plain, n_all = labelled(ids, np.zeros(7, bool))
    assert plain.tolist() == [3, 1, 1, 2, 0, 3, 2] and n_all == 4
    with pytest.raises(ValueError, match="only images of generic sets or without labels are left"):
        labelled(ids, np.ones(7, bool))


@pytest.fixture
def mine(out: Path) -> Iterator[None]:  # noqa: F811
    yield
    for file in out.glob("04_head/*/*"):
        file.unlink()


REAL = changed(
    HEAD,
    trains="all",
    image_px=32,
    start=Start(of="pretrained", fresh=FRESH),
    optim__backbone_lr_factor=1.0,
    optim__sam_rho=0.05,
    sampling__is_of_one_source=True,
    retain=Retain(features_weight=20.0, generic=("landmarks",), weights_weight=2000.0),
)


def test_real_stage_is_held_and_goes_on_bit_equal(out: Path, mine: None) -> None:  # noqa: F811
    """The centres are those of the classes that it sees; with the terms the backbone ends nearer to its start."""
    whole = {name: tensor.clone() for name, tensor in trained(out, REAL).items()}
    folder = out / "04_head" / REAL.name
    with (folder / "metrics.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert all(float(row[f"loss_kept_{what}"]) > 0 for row in rows for what in ("features", "weights"))
    free = changed(REAL, retain=Retain(features_weight=1e-9, generic=("landmarks",)))
    for file in folder.iterdir():
        file.unlink()
    freed = {name: tensor.clone() for name, tensor in trained(out, free).items()}
    for file in folder.iterdir():
        file.unlink()
    start = trained(out, changed(free, optim__lr=1e-12, optim__n_epochs=1))
    assert distance(whole, start) < 0.7 * distance(freed, start)
    everything = trained(out, changed(REAL, retain=BOTH, name="all_seen", optim__n_epochs=1))
    (centres,) = (name for name in whole if name.startswith("objective."))
    assert 0 < len(whole[centres]) < len(everything[centres])
    for file in folder.iterdir():
        file.unlink()

    def stop(moment: str) -> None:
        saved.extend([moment] if moment == "checkpoint" else [])
        if len(saved) == 3:
            raise KeyboardInterrupt

    saved: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        trained(out, REAL, notice=stop, checkpoint_every_s=-1.0)
    assert apart(whole, trained(out, REAL)) == 0.0


def distance(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """Means over each tensor, summed."""
    names = [name for name in one if name.startswith("backbone.")]
    return sum(float((one[name] - other[name]).square().mean()) for name in names)
