"""Cosines to class centres and proxies, and the curves made of them, against loops."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hand_batch import NO_LOOK, batch_of, drawn
from small_model import COUNTS, DIM, LABELS, N_CLASSES, NECK, WIDTH
from torch import Tensor

from guie.settings.objective import (
    ArcFace,
    ClassMargin,
    CosFace,
    ProxyAnchor,
    ProxyGml,
    ProxyNca,
    Softmax,
    SoftTriple,
    SphereFace,
    SphereFaceR,
)
from guie.settings.optim import Optim
from guie.settings.stage import Stage
from guie.train.objectives import class_cosines as module
from guie.train.objectives.build import build_objective
from guie.train.objectives.centers import CenterObjective
from guie.train.objectives.class_cosines import class_cosines

KINDS: tuple[tuple[Any, int], ...] = (
    (ArcFace(margin_rad=0.3), 1),
    (ArcFace(margin_rad=ClassMargin(0.1, 0.4), n_sub_centers=2), 2),
    (CosFace(margin_cosine=0.2), 1),
    (Softmax(n_sub_centers=3), 3),
    (SphereFace(), 1),
    (SphereFaceR(), 1),
    (ProxyAnchor(), 1),
    (ProxyGml(n_proxies=2), 2),
    (ProxyNca(), 1),
    (SoftTriple(n_centers=3), 3),
)


def cosine(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True)) / math.hypot(*one) / math.hypot(*other)


def by_loop(embeddings: Tensor, centers: Tensor, labels: Tensor, n_each: int) -> tuple[list[float], list[float]]:
    """Of each row: its nearest centre of its class, and the nearest of another."""
    own, others = [], []
    for row, label in zip(embeddings.tolist(), labels.tolist(), strict=True):
        cosines = [(i // n_each, cosine(row, center)) for i, center in enumerate(centers.tolist())]
        own.append(max(value for c, value in cosines if c == label))
        others.append(max((value for c, value in cosines if c != label), default=math.nan))
    return own, others


@pytest.mark.parametrize("n_each", [1, 3])
@pytest.mark.parametrize("block", [1, 40, 1 << 22])
def test_class_cosines_are_those_of_a_loop(monkeypatch: pytest.MonkeyPatch, n_each: int, block: int) -> None:
    monkeypatch.setattr(module, "BLOCK", block)
    embeddings, labels = drawn(11, 4, 7)
    centers = drawn(7 * n_each, 4, 1, seed=3)[0]
    own, nearest = class_cosines(embeddings, centers, labels, n_each)
    expected = by_loop(embeddings, centers, labels, n_each)
    assert own.tolist() == pytest.approx(expected[0], abs=1e-12)
    assert nearest.tolist() == pytest.approx(expected[1], abs=1e-12)


def test_single_class_has_no_other() -> None:
    own, nearest = class_cosines(torch.eye(2), torch.ones(1, 2), torch.zeros(2, dtype=torch.int64))
    assert own.tolist() == pytest.approx([0.5**0.5] * 2) and nearest.isnan().all()


def objective_of(settings: Any) -> CenterObjective:
    torch.manual_seed(0)
    stage = Stage("s", trains="head", optim=Optim(n_epochs=1, batch_size=8, lr=0.1), neck=NECK, objective=settings)
    objective = build_objective(stage, WIDTH, COUNTS, LABELS)
    assert isinstance(objective, CenterObjective)
    return objective


def shifted(settings: Any, own: float, label: int) -> float:
    """The cosine with the margin, of one row."""
    match settings:
        case ArcFace(margin_rad=float(margin)):
            return math.cos(math.acos(own) + margin)
        case ArcFace(margin_rad=ClassMargin(low=low, high=high, power=power)):
            powers = [n**power for n in COUNTS.tolist()]
            share = (powers[label] - min(powers)) / (max(powers) - min(powers))
            return math.cos(math.acos(own) + low + (high - low) * share)
        case CosFace(margin_cosine=margin):
            return own - margin
        case SoftTriple():
            return own - settings.margin_cosine
        case SphereFaceR():
            return math.cos(min(math.pi, settings.angle_factor * math.acos(own)))
        case SphereFace():  # the plain cosine weighs 1,000 at step 0; psi is cos(4 angle) on its first branch
            angle = math.acos(own)
            branch = math.floor(4 * angle / math.pi)
            return (1000 * own + (-1) ** branch * math.cos(4 * angle) - 2 * branch) / 1001
    return own


@pytest.mark.parametrize(("settings", "n_each"), KINDS, ids=lambda value: type(value).__name__)
def test_curves_are_those_of_a_loop(settings: Any, n_each: int) -> None:
    """Rows near their own centres, so that with and without the margin different shares are active."""
    objective = objective_of(settings)
    labels = torch.arange(40) % N_CLASSES
    centers = torch.nn.functional.normalize(objective.points().detach())
    noise = torch.randn(40, DIM, generator=torch.Generator().manual_seed(5))
    embeddings = centers[labels * n_each] + 0.6 * noise
    objective.after_step(batch_of(embeddings, labels), NO_LOOK)
    own, others = by_loop(embeddings.double(), centers.double(), labels, n_each)
    targets = [shifted(settings, value, label) for value, label in zip(own, labels.tolist(), strict=True)]
    curves = objective.curves(0)
    is_active = [target <= other for target, other in zip(targets, others, strict=True)]
    assert 0 < sum(is_active) < 40 and curves["active_share"] == pytest.approx(sum(is_active) / 40)
    assert curves["target_cosine"] == pytest.approx(sum(own) / 40, abs=1e-5)
    assert curves["best_other_cosine"] == pytest.approx(sum(others) / 40, abs=1e-5)
    if isinstance(settings, ArcFace | CosFace):
        angles = [math.acos(target) - math.acos(value) for target, value in zip(targets, own, strict=True)]
        assert curves["row_margin_rad"] == pytest.approx(sum(angles) / 40, abs=1e-5)
    pairs = [(i, j) for i in range(40) for j in range(40) if i != j]
    same = [cosine(embeddings[i].tolist(), embeddings[j].tolist()) for i, j in pairs if labels[i] == labels[j]]
    assert curves["positive_cosine"] == pytest.approx(sum(same) / len(same), abs=1e-5)


def test_counted_steps_alone_are_counted() -> None:
    """A pass over a million centres for the curves must not come with each step."""
    objective = objective_of(Softmax())
    counted = []
    for step in range(6):
        before = float(objective.means.n.sum())
        batch = replace(batch_of(*drawn(8, DIM, N_CLASSES, step), step=step), is_counted=step in (0, 4))
        objective.after_step(batch, NO_LOOK)
        counted += [step] if float(objective.means.n.sum()) > before else []
    assert counted == [0, 4]


def test_curves_go_on_from_their_buffers() -> None:
    one, other = objective_of(Softmax()), objective_of(Softmax())
    one.after_step(batch_of(*drawn(8, DIM, N_CLASSES)), NO_LOOK)
    other.load_state_dict(one.state_dict())
    assert one.curves(0) == other.curves(0) and np.isfinite(one.curves(0)["target_cosine"])
