"""A sum of objectives is each of its parts, told apart by their names."""

import copy
import os
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from accelerate import Accelerator
from hand_batch import NO_LOOK, batch_of, drawn
from opening import FORKS
from small_model import COUNTS, LABELS, N_CLASSES, NECK, WIDTH, Tower, inputs_at
from torch import Tensor, nn

from guie.settings.fields import check
from guie.settings.objective import (
    ArcFace,
    Contrastive,
    DivideConquer,
    KeepCosines,
    KoLeo,
    Memory,
    Pads,
    ProxyGml,
    RhoMargin,
    Softmax,
    Sum,
    ThresholdConsistentMargin,
)
from guie.settings.optim import Optim
from guie.settings.stage import Stage
from guie.train.gradient import Position, gradient
from guie.train.model import Model, build_model
from guie.train.objective_turns import after_step
from guie.train.objectives.base import Batch, Look, Objective
from guie.train.objectives.build import TABLE, Shape
from guie.train.objectives.sums import SumOfObjectives

SHAPE = Shape(3, 4, 4, torch.ones(3), torch.arange(30) % 3)


class Part(Objective):
    """Notes what it is told; its loss is the embeddings' sum times its only weight."""

    def __init__(self, factor: float, groups: Any = None, is_additive: bool = False) -> None:
        super().__init__()
        self.weight, self.own_groups, self.is_additive = nn.Parameter(torch.tensor(factor)), groups, is_additive
        self.factor, self.told = factor, []

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        return {"a": self.weight * batch.embeddings.sum(), "b": self.weight * 2}

    def after_step(self, batch: Batch, look: Look) -> None:
        self.told.append(("step", batch.step, look))

    def begin_epoch(self, epoch: int, look: Look) -> None:
        self.told.append(("epoch", epoch, look))

    def groups(self) -> np.ndarray | None:
        return self.own_groups

    def rates(self) -> dict[str, float]:
        return {"weight": self.factor}

    def undecayed(self) -> tuple[str, ...]:
        return ("weight",)

    def curves(self, epoch: int) -> dict[str, float]:
        return {"shared": self.factor, f"own_{self.factor:.0f}": epoch}


def test_terms_are_those_of_the_parts_and_their_gradient_is_the_sum() -> None:
    parts = [Part(2.0), Part(3.0)]
    both = SumOfObjectives(["Left", "Right"], parts)
    x = torch.ones(2, 2, requires_grad=True)
    terms = both(batch_of(x, torch.arange(2)))
    assert {name: float(term.detach()) for name, term in terms.items()} == {
        "left_a": 8.0, "left_b": 4.0, "right_a": 12.0, "right_b": 6.0,
    }  # fmt: skip
    sum(terms.values()).backward()
    assert x.grad.tolist() == [[5.0, 5.0]] * 2 and [float(part.weight.grad) for part in parts] == [6.0, 6.0]


def test_every_part_is_told_of_every_step_and_epoch() -> None:
    parts = [Part(2.0), Part(3.0)]
    both = SumOfObjectives(["Left", "Right"], parts)
    both.begin_epoch(4, NO_LOOK)
    both.after_step(batch_of(torch.ones(2, 2), torch.arange(2), step=7), NO_LOOK)
    assert parts[0].told == parts[1].told == [("epoch", 4, None), ("step", 7, None)]


def test_part_that_needs_labels_sees_only_rows_that_have_one() -> None:
    """Labels from the number of classes on are those of rows without one; by hand."""
    parts = [Part(2.0), Part(3.0)]
    both = SumOfObjectives(["Left", "Right"], parts, [True, False], n_classes=2)
    x = torch.ones(3, 2, requires_grad=True)
    terms = both(batch_of(x, torch.tensor([0, 2, 1])))
    assert terms["left_a"].item() == 8.0 and terms["right_a"].item() == 18.0
    sum(terms.values()).backward()
    assert x.grad.tolist() == [[5.0, 5.0], [3.0, 3.0], [5.0, 5.0]]
    without = batch_of(torch.ones(2, 2), torch.tensor([2, 3]), step=9)
    assert set(both(without)) == {"right_a", "right_b"}
    both.after_step(without, NO_LOOK)
    assert not parts[0].told and parts[1].told == [("step", 9, None)]
    assert not SumOfObjectives(["A", "B"], [Part(1.0, is_additive=True)] * 2, [True, False], 2).is_additive


def test_cosines_of_images_without_labels_are_kept_beside_class_centres() -> None:
    """The class loss is that of the labelled rows alone, the cosines are those of all pairs."""
    labels = torch.arange(30) % 4  # of the last there are three classes only
    settings = Sum(terms=(ArcFace(), KeepCosines(weight=5.0)))
    torch.manual_seed(0)
    shape = Shape(3, 4, 6, torch.ones(3), labels, is_backbone_frozen=True)
    both = TABLE[Sum](settings, shape).double()
    embeddings, features = drawn(30, 4, 4, seed=1)[0], drawn(30, 6, 4, seed=2)[0]
    terms = both(batch_of(embeddings, labels, features=features))
    arc, keep = both.parts["arcface"], both.parts["keepcosines"]
    (own,) = arc(batch_of(embeddings[labels < 3], labels[labels < 3])).values()
    (cosines,) = keep(batch_of(embeddings, labels, features=features)).values()
    assert [term.item() for term in terms.values()] == pytest.approx([own.item(), cosines.item()])


def steps_with_unlabelled(n_steps: int, n_parts: int, stop_at: int = -1) -> dict[str, Tensor]:
    """The weights and buffers after steps of which every third image has no label, and those of the last step none.
    In the step before the last, these are the images of every second place alone: of two processes, all of one.

    Before step `stop_at` another model takes over, from a copy of all weights, buffers and the optimizer's state.
    """
    labels = LABELS.clone()
    labels[::3] = N_CLASSES
    objective = Sum(terms=(ArcFace(), Contrastive(memory=Memory(40)), KeepCosines()))
    stage = Stage("s", trains="all", optim=Optim(n_epochs=1, batch_size=32, lr=0.01), neck=NECK, objective=objective)

    def begun() -> tuple[Model, torch.optim.Optimizer]:
        torch.manual_seed(0)
        model = build_model(Tower(), stage, COUNTS, labels, 0).double()  # type: ignore[arg-type]
        model.open(stage)
        model.objective.begin_epoch(0, SmallLook(labels))
        return model, torch.optim.AdamW(model.parameters(), lr=stage.optim.lr)

    model, optimizer = begun()
    for step in range(n_steps):
        if step == stop_at:
            states = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
            model, optimizer = begun()
            model.load_state_dict(states[0])
            optimizer.load_state_dict(states[1])
        items = torch.randint(0, 200, (32,), generator=torch.Generator().manual_seed(step))
        if step >= n_steps - 2:
            items[1::2] = items[1::2] // 3 * 3
            items[::2] = items[::2] // 3 * 3 + (step < n_steps - 1)
        given = inputs_at(step, items % N_CLASSES, items, torch.float64)
        accelerator = Accelerator(cpu=True)
        own = given.inputs[accelerator.process_index :: accelerator.num_processes]
        given = replace(given, inputs=own, labels=labels[items])
        optimizer.zero_grad()
        position = Position(0, step, 1000 + step)
        batch, terms = gradient(model.train(), given, n_parts, position, accelerator)
        assert any("arcface" in term for term in terms) == (step < n_steps - 1)
        optimizer.step()
        after_step(model, batch, NO_LOOK, position, accelerator)
    return {**model.state_dict(), **dict(model.named_buffers())}


class SmallLook:
    """200 training images with known features."""

    def __init__(self, labels: Tensor) -> None:
        self.labels = labels.numpy()

    def features(self, items: np.ndarray) -> Tensor:
        return torch.randn(200, WIDTH, generator=torch.Generator().manual_seed(78))[torch.from_numpy(items)]


def test_parts_and_another_start_give_the_same_weights_where_labels_are_missing() -> None:
    """Two terms skip the unlabelled rows, a memory is fed by fewer rows, and a batch without a label has one term."""
    whole, parts, resumed = (steps_with_unlabelled(5, n, stop) for n, stop in ((1, -1), (4, -1), (1, 3)))
    assert whole.keys() == parts.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert apart(whole, parts) < 1e-12


def apart(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(float((one[name].double() - other[name].double()).abs().max()) for name in one if one[name].numel())


def one_of_two(rank: int, port: int, folder: str) -> None:
    """One of two processes, with every second image of each batch."""
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", **address)
    torch.set_num_threads(1)
    assert Accelerator(cpu=True).num_processes == 2
    torch.save([steps_with_unlabelled(5, n_parts) for n_parts in (1, 4)], Path(folder) / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_give_the_weights_of_one_where_labels_are_missing(tmp_path: Path) -> None:
    """Also where one process has images without a label alone, and where both have."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.start_processes(one_of_two, args=(port, str(tmp_path)), nprocs=2, start_method=FORKS.get_start_method())
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    one = steps_with_unlabelled(5, 1)
    for own, others in zip(first, second, strict=True):
        assert apart(own, others) == 0.0 and apart(one, own) < 1e-12


def test_rates_and_undecayed_name_the_parts_parameters() -> None:
    both = SumOfObjectives(["Left", "Right"], [Part(2.0), Part(3.0)])
    assert both.rates() == {"parts.left.weight": 2.0, "parts.right.weight": 3.0}
    assert set(both.undecayed()) == set(both.rates()) == {name for name, _ in both.named_parameters()}


def test_curves_of_parts_keep_their_names_apart() -> None:
    both = SumOfObjectives(["Left", "Right"], [Part(2.0), Part(3.0)])
    assert both.curves(5) == {"left_shared": 2.0, "left_own_2": 5, "right_shared": 3.0, "right_own_3": 5}


def test_curves_of_two_memories_are_both_shown() -> None:
    terms = (Contrastive(margin_cosine=-1.0, memory=Memory(8)), ThresholdConsistentMargin(memory=Memory(20)))
    both = TABLE[Sum](Sum(terms=terms), SHAPE)
    for step in range(2):
        both.after_step(batch_of(torch.eye(4)[[0, 1, 2, 3]], torch.tensor([0, 0, 1, 1]), step), NO_LOOK)
    found = both.curves(0)
    assert found["contrastive_memory_fill"] != found["thresholdconsistentmargin_memory_fill"] == 0.4  # 8 of 20
    assert found["contrastive_active_share"] != found["thresholdconsistentmargin_active_share"]


def test_process_0_is_followed_where_one_part_asks_for_it() -> None:
    both = SumOfObjectives(["Left", "Right"], [Part(2.0), Part(3.0)])
    assert not both.is_shared_after(4)
    both.parts["right"].is_shared_after = lambda step: step == 4  # type: ignore[method-assign]
    assert both.is_shared_after(4) and not both.is_shared_after(5)


def test_one_part_decides_which_images_share_a_batch() -> None:
    groups = np.arange(5)
    assert SumOfObjectives(["Left", "Right"], [Part(2.0), Part(3.0)]).groups() is None
    assert SumOfObjectives(["Left", "Right"], [Part(2.0), Part(3.0, groups)]).groups() is groups
    terms = (Pads(), KoLeo(), DivideConquer())
    with pytest.raises(
        ValueError, match=r"^s.terms: Pads and DivideConquer both decide which images share a batch; tak"
    ):
        check(Sum(terms=terms), "s")
    check(Sum(terms=terms[:2]), "s")


def test_sum_is_a_mean_of_parts_of_a_batch_only_where_all_are() -> None:
    for one, other in ((True, True), (True, False), (False, False)):
        parts = [Part(1.0, is_additive=one), Part(1.0, is_additive=other)]
        assert SumOfObjectives(["Left", "Right"], parts).is_additive is (one and other)


def test_sum_of_real_kinds_is_the_sum_of_their_losses() -> None:
    terms = (
        ThresholdConsistentMargin(memory=Memory(9)),
        KoLeo(weight=0.7),
        ArcFace(center_lr_factor=5.0),
        ProxyGml(n_proxies=2),
    )
    both = TABLE[Sum](Sum(terms=terms), SHAPE).double()
    x, labels = drawn(12, 4, 3)
    batch = batch_of(x, labels)
    both.after_step(batch_of(*drawn(9, 4, 3, 1)), NO_LOOK)  # the memory holds something
    parts = dict(both.parts.items())
    expected = sum(float(term.detach()) for part in parts.values() for term in part(batch).values())
    found = both(batch)
    assert sum(float(term.detach()) for term in found.values()) == pytest.approx(expected, rel=1e-12)
    assert set(found) == {
        "thresholdconsistentmargin_pull", "thresholdconsistentmargin_push", "koleo_spread", "arcface_loss",
        "proxygml_rows", "proxygml_proxies",
    }  # fmt: skip
    assert both.rates() == {"parts.arcface.centers": 5.0, "parts.proxygml.proxies": 300.0}
    assert both.curves(0).keys() >= {
        "thresholdconsistentmargin_memory_fill", "koleo_nearest_distance", "arcface_margin_rad",
        "proxygml_active_share",
    }  # fmt: skip


@pytest.mark.parametrize("terms", [(), (KoLeo(),), (KoLeo(), KoLeo(weight=0.1))])
def test_sum_needs_several_kinds_each_once(terms: tuple[Any, ...]) -> None:
    with pytest.raises(ValueError, match="it needs several kinds, each once"):
        check(Sum(terms=terms), "here")


def test_sum_needs_positives_and_has_the_state_of_its_terms() -> None:
    assert not Sum(terms=(KoLeo(), ArcFace())).needs_positives
    assert Sum(terms=(KoLeo(), RhoMargin())).needs_positives
    shapes = {
        Sum(terms=terms).state_shape()
        for terms in (
            (KoLeo(), RhoMargin()), (KoLeo(), RhoMargin(has_class_beta=True)), (RhoMargin(), KoLeo()),
            (ArcFace(), Softmax()), (ArcFace(), Softmax(n_sub_centers=2)),
        )
    }  # fmt: skip
    assert len(shapes) == 5
    assert Sum(terms=(KoLeo(weight=0.1), RhoMargin())).state_shape() in shapes
