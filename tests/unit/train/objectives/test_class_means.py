"""Centres and proxies of every kind that has them start at the means of their classes' embeddings."""

import typing

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from changing import changed
from metric_fixtures import F4
from small_model import COUNTS, DIM, LABELS, N_CLASSES, NECK, WIDTH
from torch import Tensor

from guie.settings.objective import ArcFace, ObjectiveSettings, ProxyGml, Softmax, SphereFace, SphereFaceR
from guie.settings.optim import Optim
from guie.settings.stage import Stage
from guie.train.objectives.build import build_objective
from guie.train.objectives.class_means import point_at_means

STAGE = Stage("s", trains="head", optim=Optim(n_epochs=1, batch_size=8, lr=0.01), neck=NECK)
KINDS: tuple[tuple[ObjectiveSettings, int], ...] = (
    (ArcFace(), 1),
    (Softmax(n_sub_centers=3), 3),
    (SphereFace(), 1),
    (SphereFaceR(), 1),
    (ProxyGml(n_proxies=4), 4),
)


class KnownLook:
    """The small model's images, whose embeddings lie about one direction a class."""

    labels = LABELS.numpy()
    embeddings_of_all = 3 * torch.randn(N_CLASSES, DIM, generator=torch.Generator().manual_seed(1))[LABELS]
    embeddings_of_all = embeddings_of_all + torch.randn(200, DIM, generator=torch.Generator().manual_seed(2))

    def embeddings(self, items: np.ndarray) -> Tensor:
        return self.embeddings_of_all[torch.from_numpy(items)]


def centers_after(settings: ObjectiveSettings, has_mean_centers: bool, epoch: int) -> tuple[Tensor, Tensor]:
    """The objective's only parameter, before and after the epoch begins."""
    torch.manual_seed(0)
    stage = changed(STAGE, objective=settings, start__has_mean_centers=has_mean_centers)
    objective = build_objective(stage, WIDTH, COUNTS, LABELS)
    (centers,) = objective.parameters()
    before = centers.detach().clone()
    objective.begin_epoch(epoch, KnownLook())
    return before, centers.detach()


@pytest.mark.parametrize(("settings", "n_each"), KINDS, ids=lambda value: type(value).__name__)
def test_centers_begin_at_the_means_of_their_classes(settings: ObjectiveSettings, n_each: int) -> None:
    assert settings.has_centers
    before, centers = centers_after(settings, True, 0)
    assert len(centers) == N_CLASSES * n_each
    for c in range(N_CLASSES):
        total = torch.zeros(DIM)
        for embedding, label in zip(KnownLook.embeddings_of_all, LABELS.tolist(), strict=True):
            total += embedding / embedding.norm() * (label == c)
        own = F.normalize(centers[c * n_each : (c + 1) * n_each])
        cosines = own @ F.normalize(total, dim=0)
        assert (cosines > (0.9999 if n_each == 1 else 0.99)).all()
        assert n_each == 1 or (own @ own.T).fill_diagonal_(-1).max() < 1 - 1e-6  # they stand apart
    assert float(centers.norm(dim=1).mean()) == pytest.approx(float(before.norm(dim=1).mean()), rel=1e-5)


@pytest.mark.parametrize(("settings", "n_each"), KINDS, ids=lambda value: type(value).__name__)
def test_centers_begin_there_once_and_only_where_it_is_asked_for(settings: ObjectiveSettings, n_each: int) -> None:
    for has_mean_centers, epoch in ((True, 1), (False, 0)):
        before, centers = centers_after(settings, has_mean_centers, epoch)
        assert torch.equal(before, centers)


def test_every_kind_with_centers_is_tried() -> None:
    kinds = {kind for kind in typing.get_args(ObjectiveSettings) if kind.has_centers is True}
    tried = {type(settings) for settings, _ in KINDS}
    assert {ArcFace, SphereFace, SphereFaceR, ProxyGml} <= kinds and tried <= kinds


def test_means_of_f4_are_the_published_ones() -> None:
    centers = torch.eye(2, dtype=torch.float64)
    point_at_means(centers, 1, *F4)
    assert centers.flatten().tolist() == pytest.approx([0.866025, 0.5, -0.707107, 0.707107], abs=1e-6)
