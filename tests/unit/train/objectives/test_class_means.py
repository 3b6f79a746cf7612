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

from guie.settings.objective import (
    ArcFace,
    KoLeo,
    ObjectiveSettings,
    ProxyAnchor,
    ProxyGml,
    ProxyNca,
    Softmax,
    SoftTriple,
    SphereFace,
    SphereFaceR,
    Sum,
    SupCon,
)
from guie.settings.optim import Optim
from guie.settings.stage import Stage
from guie.train.objectives.build import build_objective
from guie.train.objectives.class_means import point_at_means, start_from_means

STAGE = Stage("s", trains="head", optim=Optim(n_epochs=1, batch_size=8, lr=0.01), neck=NECK)
KINDS: tuple[tuple[ObjectiveSettings, int], ...] = (
    (ArcFace(), 1),
    (Softmax(n_sub_centers=3), 3),
    (SphereFace(), 1),
    (SphereFaceR(), 1),
    (ProxyGml(n_proxies=4), 4),
    (ProxyNca(), 1),
    (ProxyAnchor(), 1),
    (SoftTriple(n_centers=4), 4),
    (Sum(terms=(KoLeo(), ProxyNca())), 1),
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
    tried = {type(settings) for settings, _ in KINDS if not isinstance(settings, Sum)}
    assert {ArcFace, SphereFace, SphereFaceR, ProxyGml, ProxyNca, ProxyAnchor, SoftTriple} <= kinds
    assert tried <= kinds and len(kinds - tried) == 1  # CosFace, whose module is ArcFace's


def test_sum_has_centers_where_one_term_has() -> None:
    assert Sum(terms=(KoLeo(), ProxyAnchor())).has_centers and Sum(terms=(ArcFace(), KoLeo())).has_centers
    assert not Sum(terms=(KoLeo(), SupCon())).has_centers


def test_images_without_a_label_move_no_centre() -> None:
    class Look(KnownLook):
        labels = np.where(np.arange(200) % 5 == 0, N_CLASSES, KnownLook.labels)

    expected, got = torch.randn(2, N_CLASSES, DIM, generator=torch.Generator().manual_seed(3))
    got.copy_(expected)
    is_labelled = torch.from_numpy(Look.labels < N_CLASSES)
    point_at_means(expected, 1, Look.embeddings_of_all[is_labelled], LABELS[is_labelled])
    start_from_means(got, 1, Look())
    assert torch.equal(got, expected)


def test_means_written_by_hand() -> None:
    """Class 0: (1, 0) and (0, 2) give the direction of (1, 1); class 1: one image; class 2 has none and stays."""
    embeddings = torch.tensor([[3.0, 0.0], [0.0, 2.0], [0.0, -5.0]])
    centers = torch.tensor([[0.0, 1.0], [2.0, 0.0], [3.0, 0.0]])
    point_at_means(centers, 1, embeddings, torch.tensor([0, 0, 1]))
    assert centers.flatten().tolist() == pytest.approx([2 * 0.5**0.5, 2 * 0.5**0.5, 0, -2, 3, 0])  # 2: the mean length


def test_several_centers_of_a_class_are_moved_apart_by_a_tenth_along_their_own_starts() -> None:
    centers = torch.tensor([[0.0, 1.0], [0.0, -1.0]])
    point_at_means(centers, 2, torch.tensor([[4.0, 0.0]]), torch.tensor([0]))
    assert centers.flatten().tolist() == pytest.approx(
        [1 / 1.01**0.5, 0.1 / 1.01**0.5, 1 / 1.01**0.5, -0.1 / 1.01**0.5]
    )


def test_means_of_f4_are_the_published_ones() -> None:
    centers = torch.eye(2, dtype=torch.float64)
    point_at_means(centers, 1, *F4)
    assert centers.flatten().tolist() == pytest.approx([0.866025, 0.5, -0.707107, 0.707107], abs=1e-6)
