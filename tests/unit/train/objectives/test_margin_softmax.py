"""Margin softmax in a stage: the margin of its epoch or class, what is plotted, and where class centres start."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from guie.settings.objective import ArcFace, ClassMargin, CosFace, GrowingMargin, ObjectiveSettings, Softmax
from guie.train.objectives.base import Batch
from guie.train.objectives.margin import margin_cross_entropy
from guie.train.objectives.margin_softmax import MarginSoftmax

N_CLASSES, DIM = 6, 8
COUNTS = torch.tensor([1, 16, 81, 256, 1, 10_000])  # whose powers -1/4 are 1, 1/2, 1/3, 1/4, 1, 1/10


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Memory:
    """A training set whose embeddings are known; notes what is asked of it."""

    def __init__(self, embeddings: Tensor, labels: list[int]) -> None:
        self.known, self.labels, self.asked = embeddings, np.array(labels), np.zeros(len(labels), int)

    def embeddings(self, items: np.ndarray) -> Tensor:
        np.add.at(self.asked, items, 1)
        return self.known[torch.from_numpy(items)]


def loss_at(objective: MarginSoftmax, epoch: int, embeddings: Tensor, labels: Tensor) -> float:
    rows = torch.arange(len(labels))
    terms = objective(Batch(embeddings, embeddings, labels, rows, torch.zeros_like(rows), epoch, 0))
    assert list(terms) == ["loss"]
    return float(terms["loss"].detach())


def loop(
    settings: ArcFace | CosFace, centers: Tensor, embeddings: Tensor, labels: Tensor, margins: list[float]
) -> float:
    """The mean cross entropy, one logit after the other, in Python's floats."""
    total = 0.0
    for row, (embedding, label) in enumerate(zip(embeddings.double(), labels.tolist(), strict=True)):
        logits = []
        for c, center in enumerate(centers.double()):
            cosine = float(embedding @ center / embedding.norm() / center.norm())
            if c == label:
                margin = margins[row]
                cosine = cosine - margin if isinstance(settings, CosFace) else math.cos(math.acos(cosine) + margin)
            logits.append(settings.scale * cosine)
        total += math.log(sum(math.exp(logit - logits[label]) for logit in logits))
    return total / len(labels)


@pytest.mark.parametrize(
    "make", [lambda m: ArcFace(margin_rad=m, scale=8.0), lambda m: CosFace(margin_cosine=m, scale=8.0)]
)
def test_growing_margin_is_that_of_the_epoch(make: Callable[[GrowingMargin], ArcFace | CosFace]) -> None:
    settings = make(GrowingMargin(start=0.05, step=0.1, max=0.2))
    objective = MarginSoftmax(settings, N_CLASSES, DIM, COUNTS)
    embeddings, labels = (
        objective.centers.detach()[[0, 1, 2, 3, 3]] + 0.005 * drawn(5, DIM),
        torch.tensor([0, 1, 2, 3, 3]),
    )
    for epoch, margin in ((0, 0.05), (1, 0.15), (2, 0.2), (7, 0.2)):
        expected = loop(settings, objective.centers.detach(), embeddings, labels, [margin] * 5)
        # The smallest loss is 0.01, the difference of logits near 8 in float32, whose last digit is 5e-7.
        assert loss_at(objective, epoch, embeddings, labels) == pytest.approx(expected, rel=1e-5, abs=5e-7)


@pytest.mark.parametrize(
    "make", [lambda m: ArcFace(margin_rad=m, scale=8.0), lambda m: CosFace(margin_cosine=m, scale=8.0)]
)
def test_margin_by_class_is_that_of_the_row(make: Callable[[ClassMargin], ArcFace | CosFace]) -> None:
    """Powers 1 to 1/10 are spread linearly over .1 to .4: 1/2 becomes .1 + .3 * (.5 - .1) / .9."""
    settings = make(ClassMargin(low=0.1, high=0.4))
    objective = MarginSoftmax(settings, N_CLASSES, DIM, COUNTS)
    margins = [0.1 + 0.3 * (power - 0.1) / 0.9 for power in (1, 1 / 2, 1 / 3, 1 / 4, 1, 1 / 10)]
    labels = torch.tensor([5, 1, 0, 2, 1, 3, 4])
    embeddings = objective.centers.detach()[labels] + 0.005 * drawn(7, DIM)
    expected = loop(settings, objective.centers.detach(), embeddings, labels, [margins[label] for label in labels])
    for epoch in (0, 3):
        assert loss_at(objective, epoch, embeddings, labels) == pytest.approx(expected, rel=1e-5)
    (name, plotted), *others = objective.curves(0).items()
    assert not others and name.startswith("margin_") and plotted == pytest.approx(sum(margins) / 6, abs=1e-6)


def test_softmax_has_no_margin() -> None:
    objective = MarginSoftmax(Softmax(scale=8.0), N_CLASSES, DIM, COUNTS)
    embeddings, labels = drawn(5, DIM), torch.arange(5)
    plain = margin_cross_entropy(embeddings, objective.centers, labels, 0.0, 8.0, "arcface")
    for epoch in (0, 9):
        assert loss_at(objective, epoch, embeddings, labels) == pytest.approx(float(plain.detach()), rel=1e-6)


@pytest.mark.parametrize(
    ("settings", "curves"),
    [
        (ArcFace(margin_rad=0.3), [{"margin_rad": 0.3}] * 3),
        (
            ArcFace(margin_rad=GrowingMargin(0.1, 0.2, 0.4)),
            [{"margin_rad": 0.1}, {"margin_rad": 0.3}, {"margin_rad": 0.4}],
        ),
        (CosFace(margin_cosine=0.35), [{"margin_cosine": 0.35}] * 3),
        (CosFace(margin_cosine=GrowingMargin(0.0, 0.25, 0.3)), [{"margin_cosine": m} for m in (0.0, 0.25, 0.3)]),
        (Softmax(), [{}] * 3),
    ],
)
def test_curves_are_the_margin_in_its_own_unit(settings: ObjectiveSettings, curves: list[dict[str, float]]) -> None:
    objective = MarginSoftmax(settings, N_CLASSES, DIM, COUNTS)
    for epoch, expected in enumerate(curves):
        assert objective.curves(epoch) == pytest.approx(expected)


@pytest.mark.parametrize("n_items", [40, 5000])  # 5000: more than are asked for at a time
def test_centers_begin_at_the_means_of_their_classes(n_items: int) -> None:
    """Against a loop: each class' mean of unit vectors, as long as centres are; without images it keeps its centre."""
    labels = [(7 * i) % 5 for i in range(n_items)]  # class 5 has none
    look = Memory(drawn(n_items, DIM, seed=1) * torch.linspace(0.1, 9, n_items)[:, None], labels)
    objective = MarginSoftmax(ArcFace(), N_CLASSES, DIM, COUNTS, has_mean_centers=True)
    before = objective.centers.detach().clone()
    objective.begin_epoch(0, look)
    assert look.asked.tolist() == [1] * n_items
    length = sum(float(center.norm()) for center in before) / N_CLASSES
    for c in range(5):
        mean = [0.0] * DIM
        for embedding, label in zip(look.known.double().tolist(), labels, strict=True):
            if label == c:
                norm = math.sqrt(sum(x * x for x in embedding))
                mean = [m + x / norm for m, x in zip(mean, embedding, strict=True)]
        norm = math.sqrt(sum(x * x for x in mean))
        assert objective.centers[c].tolist() == pytest.approx([length * m / norm for m in mean], abs=1e-6)
    assert torch.equal(objective.centers[5], before[5])


def test_centers_begin_there_once_and_only_where_it_is_asked_for() -> None:
    look = Memory(drawn(12, DIM, seed=2), [i % N_CLASSES for i in range(12)])
    for has_mean_centers, epoch in ((True, 1), (True, 5), (False, 0)):
        objective = MarginSoftmax(ArcFace(), N_CLASSES, DIM, COUNTS, has_mean_centers)
        before = objective.centers.detach().clone()
        objective.begin_epoch(epoch, look)
        assert torch.equal(objective.centers, before)
    assert look.asked.tolist() == [0] * 12
