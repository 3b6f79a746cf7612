"""Divide and Conquer: which slice a batch trains, when clusters change, and what is left out."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from guie.settings.objectives.divide import DivideConquer
from guie.train.objectives.base import Batch
from guie.train.objectives.divide import DividedEmbedding
from guie.train.objectives.draws import generator_of
from guie.train.objectives.margin_triplets import class_triplets, margin_loss

LABELS = torch.arange(80) % 8


class TwoSides:
    """80 images of 8 classes: the odd and the even classes lie on two sides."""

    labels = LABELS.numpy()

    def __init__(self) -> None:
        self.n_asked = 0

    def embeddings(self, items: Any) -> Tensor:
        self.n_asked += 1
        noise = torch.randn(80, 8, generator=torch.Generator().manual_seed(0))
        return (noise + 20 * (2 * (LABELS % 2) - 1)[:, None])[torch.from_numpy(items)]


def objective_of(**settings: Any) -> DividedEmbedding:
    torch.manual_seed(0)
    return DividedEmbedding(DivideConquer(**{"n_clusters": 2} | settings), 8, 8, LABELS)


def batch_of(items: list[int], embeddings: Tensor, step: int = 0) -> Batch:
    rows = torch.tensor(items)
    return Batch(embeddings, embeddings, LABELS[rows], rows, torch.zeros_like(rows), 0, step)


def of_cluster(objective: DividedEmbedding, cluster: int) -> list[int]:
    return np.flatnonzero(objective.clusters.numpy() == cluster).tolist()


def test_batches_are_of_the_clusters_and_train_their_slice_alone():
    objective = objective_of()
    objective.begin_epoch(0, TwoSides())
    groups = objective.groups()
    assert groups is not None and all(len(np.unique(groups[LABELS.numpy() % 2 == side])) == 1 for side in (0, 1))
    for cluster in (0, 1):
        items = of_cluster(objective, cluster)
        embeddings = torch.randn(len(items), 8, requires_grad=True)
        batch = batch_of(items, embeddings)
        objective(batch)["margin"].backward()
        assert embeddings.grad is not None
        own = slice(4 * cluster, 4 * cluster + 4)
        assert (embeddings.grad[:, own] != 0).any()
        assert (embeddings.grad[:, 4 - 4 * cluster : 8 - 4 * cluster] == 0).all()
        unit = F.normalize(embeddings.detach()[:, own])
        triplets = class_triplets(unit, LABELS[items], generator_of(batch, "DivideConquer"))
        expected = margin_loss(unit, triplets, 0.2, 1.2)[0]
        assert float(objective(batch)["margin"].detach()) == pytest.approx(float(expected))


def test_clusters_are_made_every_second_epoch_until_the_whole_is_trained():
    objective, look = objective_of(n_divided_epochs=5), TwoSides()
    asked = []
    for epoch in range(7):
        objective.begin_epoch(epoch, look)
        asked.append(look.n_asked)
        assert (objective.groups() is None) == (epoch >= 5)
        assert objective.curves(epoch)["n_clusters"] == (2 if epoch < 5 else 1)
    assert asked == [1, 1, 2, 2, 3, 3, 3]
    embeddings = torch.randn(16, 8, requires_grad=True)
    objective(batch_of(list(range(16)), embeddings))["margin"].backward()
    assert embeddings.grad is not None and (embeddings.grad != 0).any(dim=0).all()


def test_clusters_keep_their_numbers():
    objective, look = objective_of(every_epochs=1), TwoSides()
    objective.begin_epoch(0, look)
    before = objective.clusters.clone()
    for epoch in range(1, 8):  # torch's random numbers go on, and k-means numbers as it likes
        objective.begin_epoch(epoch, look)
        assert torch.equal(objective.clusters, before)


def test_curves_tell_sizes_and_active_share():
    objective = objective_of()
    objective.begin_epoch(0, TwoSides())
    items = of_cluster(objective, 0)
    objective.after_step(batch_of(items, torch.randn(len(items), 8)), TwoSides())
    curves = objective.curves(0)
    assert (curves["smallest_cluster"], curves["largest_cluster"], curves["left_out_share"]) == (40, 40, 0)
    assert 0 < curves["active_share"] <= 1 and curves["positive_cosine"] == curves["positive_cosine"]


def test_what_cannot_be_divided_is_refused():
    with pytest.raises(ValueError, match=r"neck.dim 8 cannot be cut into 3 slices"):
        objective_of(n_clusters=3)
    with pytest.raises(ValueError, match=r"neck.dim 8 cannot be cut into 8 slices"):
        objective_of(n_clusters=8)
    with pytest.raises(ValueError, match=r"objective.n_clusters is 9, and there are 8 classes"):
        objective_of(n_clusters=9)
    with pytest.raises(ValueError, match=r"objective.min_classes is 9, and there are 8 classes"):
        objective_of(min_classes=9)
    with pytest.raises(ValueError, match=r"^DivideConquer: no cluster holds 5 classes with two images each; make obj"):
        objective_of(min_classes=5).begin_epoch(0, TwoSides())


class Apart:
    """80 images of 8 classes: in the first epoch on two sides, afterwards one class far from the others."""

    labels = LABELS.numpy()

    def __init__(self) -> None:
        self.n_asked = 0

    def embeddings(self, items: Any) -> Tensor:
        self.n_asked += 1
        if self.n_asked == 1:
            return TwoSides().embeddings(items)
        noise = 0.01 * torch.randn(80, 8, generator=torch.Generator().manual_seed(0))
        return (noise + F.one_hot((LABELS == 7).long(), 8))[torch.from_numpy(items)]


def test_earlier_clusters_stay_where_the_new_ones_leave_out_every_image(caplog: pytest.LogCaptureFixture):
    """A batch of 8 classes, which the second clustering cannot give: the stage goes on with the first one's."""
    torch.manual_seed(0)
    objective = DividedEmbedding(DivideConquer(n_clusters=2, every_epochs=1), 8, 8, LABELS, batch_classes=4)
    look = Apart()
    objective.begin_epoch(0, look)
    before = objective.clusters.clone()
    assert objective.curves(0)["refused_clusterings"] == 0 and not caplog.records
    objective.begin_epoch(1, look)  # a cluster of 7 classes, and one of class 7 alone, which is left out
    assert objective.curves(1)["left_out_share"] == 0.125 and objective.curves(1)["refused_clusterings"] == 0
    assert "in epoch 2 10 of 80 images are left out" in caplog.text and "fewer than 4 classes" in caplog.text
    objective.min_classes = 8
    objective.clusters.copy_(before)
    objective.begin_epoch(2, look)
    assert torch.equal(objective.clusters, before) and objective.curves(2)["refused_clusterings"] == 1
    assert "in epoch 3 no new cluster holds 8 classes with two images each; the earlier clusters stay" in caplog.text


def test_cluster_holds_the_classes_of_a_batch():
    for settings, batch_classes, expected in ((0, 0, 2), (0, 5, 5), (6, 5, 6), (3, 0, 3)):
        torch.manual_seed(0)
        objective = DividedEmbedding(DivideConquer(2, min_classes=settings), 8, 8, LABELS, batch_classes)
        assert objective.min_classes == expected
