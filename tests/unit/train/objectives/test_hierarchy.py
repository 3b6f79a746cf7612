"""Hierarchical Divide and Conquer: how clusters split, and what masks do."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from guie.settings.objectives.divide import HierarchicalDivide
from guie.train.objectives.base import Batch
from guie.train.objectives.draws import generator_of
from guie.train.objectives.hierarchy import MaskedEmbedding, matched, mean_cosine, split, two_means
from guie.train.objectives.margin_triplets import class_triplets, margin_loss

LABELS = torch.arange(160) % 16


class FourCorners:
    """160 images of 16 classes; class c lies at corner c % 4 of a rectangle, whose longer side is the first to be
    cut."""

    labels = LABELS.numpy()

    def features(self, items: Any) -> Tensor:
        corner = LABELS % 4
        noise = 0.1 * torch.randn(160, 2, generator=torch.Generator().manual_seed(0))
        return (noise + torch.stack([20.0 * (corner // 2), 5.0 * (corner % 2)], dim=1))[torch.from_numpy(items)]


def objective_of(**settings: Any) -> MaskedEmbedding:
    torch.manual_seed(0)
    return MaskedEmbedding(HierarchicalDivide(**{"n_clusters": 4} | settings), 6, 16, LABELS)


def batch_of(items: list[int], embeddings: Tensor) -> Batch:
    rows = torch.tensor(items)
    return Batch(embeddings, embeddings, LABELS[rows], rows, torch.zeros_like(rows), 0, 0)


def test_clusters_split_in_two_until_there_are_enough():
    objective, look = objective_of(), FourCorners()
    seen = []
    for epoch in range(8):
        objective.begin_epoch(epoch, look)
        seen.append(objective.clusters.numpy().copy())
    assert [len(np.unique(clusters)) for clusters in seen] == [1, 1, 2, 2, 4, 4, 4, 4]
    assert (seen[4] // 2 == seen[2]).all()
    assert all(len(np.unique(seen[2][LABELS.numpy() % 4 // 2 == side])) == 1 for side in (0, 1))
    assert all(len(np.unique(seen[4][LABELS.numpy() % 4 == corner])) == 1 for corner in range(4))
    assert (seen[6] == seen[4]).all()  # split anew, with the same numbers


def test_children_have_their_parents_masks():
    objective, look = objective_of(every_epochs=1), FourCorners()
    with torch.no_grad():
        objective.masks[0] = torch.arange(6.0)
    objective.begin_epoch(1, look)
    assert objective.masks[:2].tolist() == [[0, 1, 2, 3, 4, 5]] * 2
    with torch.no_grad():
        objective.masks[1] = 7.0
    objective.begin_epoch(2, look)
    assert objective.masks[:, 0].tolist() == [0, 0, 7, 7]


def test_loss_is_of_the_masked_embedding():
    objective, look = objective_of(every_epochs=1, mask_weight=0.5), FourCorners()
    objective.begin_epoch(1, look)
    masks = torch.tensor([[1.0, 2, 0, -1, 1, 1], [0.5, 1, 1, 1, 0, 0]])
    with torch.no_grad():
        objective.masks[:2] = masks
    items = np.flatnonzero(objective.clusters.numpy() == 0).tolist()
    embeddings = torch.randn(len(items), 6, generator=torch.Generator().manual_seed(1)).requires_grad_()
    batch = batch_of(items, embeddings)
    terms = objective(batch)
    unit = F.normalize(embeddings.detach() * masks[0].clamp(min=0))
    expected = margin_loss(
        unit, class_triplets(unit, LABELS[items], generator_of(batch, "HierarchicalDivide")), 0.2, 1.2
    )[0]
    assert float(terms["margin"].detach()) == pytest.approx(float(expected))
    first, second = masks.clamp(min=0)
    assert float(terms["masks"].detach()) == pytest.approx(0.5 * float(first @ second / first.norm() / second.norm()))
    sum(terms.values()).backward()
    assert embeddings.grad is not None and (embeddings.grad[:, 2:4] == 0).all() and (embeddings.grad[:, 4] != 0).any()


def test_masks_are_dropped_when_the_whole_is_trained():
    objective, look = objective_of(every_epochs=1, n_divided_epochs=3), FourCorners()
    for epoch in range(4):
        objective.begin_epoch(epoch, look)
    with torch.no_grad():
        objective.masks[:] = 0
    assert objective.groups() is None
    embeddings = torch.randn(32, 6, requires_grad=True)
    terms = objective(batch_of(list(range(32)), embeddings))
    sum(terms.values()).backward()
    assert float(terms["masks"].detach()) == 0
    assert embeddings.grad is not None and (embeddings.grad != 0).any(dim=0).all()
    assert objective.masks.grad is not None and (objective.masks.grad == 0).all()


def test_mean_cosine_of_masks_is_that_computed_by_hand():
    assert float(mean_cosine(torch.tensor([[1.0, 0.0], [1.0, 1.0]]))) == pytest.approx(0.707107, abs=1e-6)
    masks = torch.tensor([[1.0, -3.0], [1.0, 1.0], [0.0, 2.0]])  # below 0 is cut off: 1, 0
    assert float(mean_cosine(masks)) == pytest.approx((0.5**0.5 + 0 + 0.5**0.5) / 3)
    lonely = torch.ones(1, 4, requires_grad=True)
    mean_cosine(lonely).backward()
    assert float(mean_cosine(lonely).detach()) == pytest.approx(0, abs=1e-6) and lonely.grad is not None


def test_halves_without_several_classes_are_no_halves():
    points = np.array([[0.0], [0.1], [0.2], [0.3], [9.0], [9.1]], np.float32)
    assert two_means(points, np.array([0, 0, 1, 1, 2, 2])).tolist() == [0] * 6  # the right half has one class
    assert two_means(points[:1], np.array([0])).tolist() == [0]
    points = np.concatenate([points, points[4:]])
    found = two_means(points, np.array([0, 0, 1, 1, 2, 2, 3, 3]))
    assert len(set(found[:4])) == len(set(found[4:])) == 1 and found[0] != found[4]


def test_split_halves_are_children_of_their_cluster():
    rng = np.random.default_rng(0)
    clusters, labels = rng.integers(0, 3, 90), rng.integers(0, 5, 90)
    found = split(rng.standard_normal((90, 4)).astype(np.float32), clusters, labels)
    assert (found // 2 == clusters).all() and len(np.unique(found)) == 6


def test_halves_keep_the_numbers_of_most_images():
    assert matched(np.array([0, 0, 1, 2, 3, 3]), np.array([1, 1, 0, 2, 3, 2])).tolist() == [1, 1, 0, 2, 3, 3]


def test_half_with_fewer_classes_than_a_batch_is_not_made():
    """Four corners of four classes: batches of eight classes leave two clusters, those of nine leave one."""
    for batch_classes, expected in ((4, 4), (5, 2), (8, 2), (9, 1)):
        torch.manual_seed(0)
        objective = MaskedEmbedding(HierarchicalDivide(4, every_epochs=1), 6, 16, LABELS, batch_classes)
        for epoch in range(5):
            objective.begin_epoch(epoch, FourCorners())
        curves = objective.curves(4)
        assert (curves["n_clusters"], curves["left_out_share"], curves["refused_clusterings"]) == (expected, 0, 0)


def test_stage_begins_with_masks_of_ones_whatever_it_starts_from():
    objective = objective_of()
    with torch.no_grad():
        objective.masks.copy_(torch.randn(4, 6))
    objective.begin_epoch(0, FourCorners())
    assert (objective.masks == 1).all() and int(objective.n_leaves) == 1


def test_number_that_halving_never_reaches_is_refused():
    with pytest.raises(ValueError, match=r"s.objective.n_clusters is 6, must be a power of 2: 4 or 8"):
        HierarchicalDivide(n_clusters=6).check("s.objective")
