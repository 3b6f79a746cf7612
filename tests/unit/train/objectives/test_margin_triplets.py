"""Triplets of a batch and their margin loss, against loops, numbers computed by hand, and pytorch-metric-learning."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from pytorch_metric_learning.losses import MarginLoss
from torch import Tensor

from guie.train.objectives.distances import log_inverse_density
from guie.train.objectives.draws import Triplets
from guie.train.objectives.margin_triplets import (
    class_triplets,
    draw_by_distance,
    margin_loss,
    one_class_triplets,
    three_class_triplets,
)


def circle(*degrees: float) -> Tensor:
    angles = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    return torch.stack([angles.cos(), angles.sin()], dim=1)


def all_triplets(labels: Tensor) -> Triplets:
    n = range(len(labels))
    rows = [
        (a, p, k)
        for a, p, k in itertools.product(n, n, n)
        if a != p and labels[a] == labels[p] and labels[a] != labels[k]
    ]
    return Triplets(*torch.tensor(rows).T)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def points(n: int, dim: int, seed: int = 0) -> Tensor:
    return F.normalize(torch.randn(n, dim, dtype=torch.float64, generator=generator(seed)))


def test_margin_loss_of_four_points_is_that_computed_by_hand():
    labels, beta = torch.tensor([0, 0, 1, 1]), torch.tensor(1.2, dtype=torch.float64, requires_grad=True)
    loss, share = margin_loss(circle(0, 60, 90, 180), all_triplets(labels), 0.2, beta)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(0.570263, abs=1e-6)
    assert beta.grad == pytest.approx(-1 / 3)
    assert float(share) == 6 / 16


def test_margin_loss_of_five_points_is_that_computed_by_hand():
    labels = torch.tensor([0, 0, 1, 1, 0])
    loss, _ = margin_loss(circle(0, 50, 115, 170, 260), all_triplets(labels), 0.2, 1.2)
    assert float(loss) == pytest.approx(0.621088, abs=1e-6)


def test_margin_loss_is_the_librarys():
    for seed in range(5):
        unit, labels = points(12, 4, seed), torch.arange(12) % 4
        theirs = MarginLoss(margin=0.2, beta=1.0)(unit, labels)
        assert float(margin_loss(unit, all_triplets(labels), 0.2, 1.0)[0]) == pytest.approx(float(theirs), abs=1e-7)


def test_margin_loss_has_the_gradient_of_finite_differences():
    embeddings, labels = torch.randn(6, 3, dtype=torch.float64, generator=generator()), torch.tensor([0, 0, 1, 1, 2, 2])
    beta = torch.tensor(1.1, dtype=torch.float64, requires_grad=True)

    def loss(x: Tensor, b: Tensor) -> Tensor:
        return margin_loss(F.normalize(x), all_triplets(labels), 0.2, b)[0]

    assert torch.autograd.gradcheck(loss, (embeddings.requires_grad_(), beta))


def test_equal_and_opposite_rows_have_finite_gradients():
    for dtype in (torch.float32, torch.float64):
        rows = torch.tensor([[1.0, 2.0], [1.0, 2.0], [-1.0, -2.0], [-1.0, -2.0]], dtype=dtype, requires_grad=True)
        labels = torch.tensor([0, 0, 1, 1])
        loss, _ = margin_loss(F.normalize(rows), all_triplets(labels), 0.2, 0.1)
        loss.backward()
        assert rows.grad is not None and rows.grad.isfinite().all()


def test_without_a_triplet_the_loss_is_a_zero_with_its_graph():
    rows = points(3, 2).requires_grad_()
    for labels in (torch.tensor([0, 1, 2]), torch.tensor([0, 0, 0]), torch.tensor([-1, -1, -1])):
        loss, share = margin_loss(rows, class_triplets(rows, labels, generator()), 0.2, 1.2)
        loss.backward()
        assert float(loss.detach()) == 0 and math.isnan(share)
    assert rows.grad is not None and (rows.grad == 0).all()


def test_density_weights_are_those_computed_by_hand():
    def shares(distances: list[float], dim: int) -> list[float]:
        return torch.softmax(log_inverse_density(torch.tensor(distances, dtype=torch.float64), dim), 0).tolist()

    assert shares([0.3, 1.0], 3) == pytest.approx([2 / 3, 1 / 3])  # .3 counts as .5
    assert shares([1.0, 1.4], 3) == pytest.approx([1.4 / 2.4, 1 / 2.4])  # w = 1 / d
    found = log_inverse_density(torch.tensor([0.5, 1.0, 1.4], dtype=torch.float64), 64)
    assert found.tolist() == pytest.approx([44.9436, 8.7743, -0.3243], abs=1e-4)
    assert log_inverse_density(torch.tensor([0.0, 2.0]), 64).isfinite().all()


def test_negatives_are_drawn_in_proportion_to_their_weights():
    """In four dimensions w is 1 / (d^2 (1 - d^2/4)^(1/2)): 1.1547 at d = 1, .7787 at 1.3."""
    unit = torch.zeros(3, 4, dtype=torch.float64)
    unit[0, 0] = 1
    for row, distance in ((1, 1.0), (2, 1.3)):
        unit[row, 0] = 1 - distance**2 / 2
        unit[row, row] = math.sqrt(1 - float(unit[row, 0]) ** 2)
    weights = [1 / (d**2 * math.sqrt(1 - d**2 / 4)) for d in (1.0, 1.3)]
    is_allowed = torch.zeros(3, 3, dtype=torch.bool)
    is_allowed[0, 1:] = True
    own = generator(5)
    found = torch.cat([draw_by_distance(unit, is_allowed, own) for _ in range(4000)], dim=1).T
    assert set(found[:, 0].tolist()) == {1, 2} and (found[:, 1:] == -1).all()
    assert float((found[:, 0] == 1).double().mean()) == pytest.approx(weights[0] / sum(weights), abs=0.025)


def test_far_negatives_are_drawn_only_where_there_is_no_nearer_one():
    unit = circle(0, 170, 80, 180)  # from 0: 1.99, 1.29, 2
    is_allowed = torch.zeros(4, 4, dtype=torch.bool)
    is_allowed[0, 1:] = True
    is_allowed[1, 0] = True  # its only one is far
    own = generator()
    found = torch.cat([draw_by_distance(unit, is_allowed, own) for _ in range(50)], dim=1).T
    assert (found[:, 0] == 2).all() and (found[:, 1] == 0).all()


def of(triplets: Triplets) -> list[tuple[int, int, int]]:
    columns = (triplets.anchors, triplets.positives, triplets.negatives)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def test_triplets_have_the_classes_that_they_should():
    labels = torch.tensor([0, 0, 0, 1, 1, 2, 3, 3, 3, 3])
    items = torch.tensor([7, 7, 8, 1, 2, 3, 4, 5, 6, 6])
    unit = points(10, 4)
    seen: dict[str, set[int]] = {"class": set(), "three": set(), "one": set()}
    for seed in range(30):
        for a, p, n in of(class_triplets(unit, labels, generator(seed))):
            assert a != p and labels[a] == labels[p] != labels[n]
            seen["class"].add(a)
        for a, p, n in of(three_class_triplets(unit, labels, generator(seed))):
            assert len({int(labels[row]) for row in (a, p, n)}) == 3
            seen["three"].add(a)
        for a, p, n in of(one_class_triplets(labels, items, generator(seed))):
            assert labels[a] == labels[p] == labels[n] and len({int(items[row]) for row in (a, p, n)}) == 3
            seen["one"].add(a)
    assert seen["class"] == set(range(10)) - {5}  # the only one of its class
    assert seen["three"] == set(range(10))
    assert seen["one"] == {6, 7, 8, 9}  # class 0 has two images, in three rows


def test_rows_of_no_class_are_in_no_triplet():
    labels = torch.tensor([0, 0, 1, 1, -1, -1])
    for seed in range(20):
        assert all(max(rows) < 4 for rows in of(class_triplets(points(6, 3), labels, generator(seed))))


def test_two_classes_have_no_triplet_of_three():
    assert not of(three_class_triplets(points(4, 3), torch.tensor([0, 0, 1, 1]), generator()))
