"""What goes wrong with an objective is said: each case of issue 15, item 6, is an error of one line or a visible
number."""

import logging
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from changing import changed
from hand_batch import NO_LOOK, batch_of, drawn
from small_model import DIM, LABELS, N_CLASSES, NECK, WIDTH, small_model
from torch import Tensor

from guie.recipe import Weighted
from guie.settings.fields import check
from guie.settings.objective import (
    ArcFace,
    BatchHard,
    Contrastive,
    DistanceWeighted,
    Diva,
    DivideConquer,
    EasyPositive,
    Library,
    MarginLoss,
    Memory,
    Mic,
    MultiSimilarity,
    NtXent,
    Pads,
    ProxyAnchor,
    RhoMargin,
    RhoTriplet,
    SemiHard,
    SharingMatters,
    SupCon,
    ThresholdConsistentMargin,
    Triplet,
)
from guie.settings.optim import Optim
from guie.settings.sampling import PerClass
from guie.settings.stage import Stage
from guie.train.model import load_parts
from guie.train.objectives.base import Objective
from guie.train.objectives.build import build_objective
from guie.train.stage import _warn_of_single_images

STAGE = Stage("s", trains="head", optim=Optim(n_epochs=1, batch_size=8, lr=0.1), neck=NECK)


def objective_of(settings: Any, labels: Tensor = LABELS) -> Objective:
    torch.manual_seed(0)
    return build_objective(changed(STAGE, objective=settings), WIDTH, torch.bincount(labels), labels)


def test_one_image_of_a_class_in_a_batch_is_refused_where_positives_are_needed() -> None:
    stage = changed(STAGE, objective=SupCon(), sampling=PerClass(images_per_class=1))
    with pytest.raises(
        ValueError, match=r"SupCon, which compares images of one class, but sampling.images_per_class i"
    ):
        check(stage, "stages.s")
    check(changed(stage, objective=ArcFace()), "stages.s")


@pytest.mark.parametrize(("sampling", "what"), [(PerClass(), "is its own positive"), (Weighted(), "has no positive")])
def test_classes_of_one_image_are_counted(
    caplog: pytest.LogCaptureFixture, sampling: PerClass | Weighted, what: str
) -> None:
    labels = np.array([0, 0, 1, 2, 2, 3])
    train_set = cast(Any, SimpleNamespace(labels=labels, n_classes=4, is_hidden=np.zeros(6, bool)))
    stage = changed(STAGE, objective=SupCon(), sampling=sampling)
    with caplog.at_level(logging.WARNING, "guie"):
        _warn_of_single_images(changed(stage, objective=ArcFace()), train_set)
        assert caplog.text == ""
        _warn_of_single_images(stage, train_set)
    assert f"stages.s: 2 of 4 classes have one image, which {what}; raise data.min_per_class" in caplog.text


def test_rows_without_a_positive_are_a_share() -> None:
    objective = objective_of(SupCon())
    objective.after_step(batch_of(drawn(8, DIM, 1)[0], torch.tensor([0, 0, 1, 2, 3, 4, 4, 4])), NO_LOOK)
    assert objective.curves(0)["with_positive_share"] == 5 / 8


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (
            DivideConquer(n_clusters=6),
            "DivideConquer: objective.n_clusters is 6, and there are 5 classes; make it smal",
        ),
        (Mic(n_clusters=101), "Mic: 101 clusters need at least 202 images of classes with several, and there are 200"),
    ],
)
def test_fewer_classes_or_images_than_clusters_are_told(settings: Any, told: str) -> None:
    with pytest.raises(ValueError, match=f"^{told}"):
        objective_of(settings)


def test_proxies_for_classes_that_changed_are_refused() -> None:
    """A parent of five classes, a child of four: another split, or sources that lost a class."""
    stage = changed(STAGE, objective=ProxyAnchor())
    weights = small_model(stage).result()
    child = small_model(stage)
    child.objective = objective_of(ProxyAnchor(), LABELS[LABELS < N_CLASSES - 1])

    def weights_of(part: str) -> dict[str, Tensor]:
        return {name.partition(".")[2]: t for name, t in weights.items() if name.startswith(f"{part}.")}

    load = partial(load_parts, child, weights_of, where="stage b from a")
    told = (
        r"^stage b from a: its objective does not fit this stage .*proxies.*; if it should start anew, name it in start"
    )
    with pytest.raises(ValueError, match=told):
        load(fresh=())
    load(fresh=("objective",))


def test_memory_larger_than_the_training_set_is_told_and_seen(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "guie"):
        objective = objective_of(Contrastive(memory=Memory(size=400)))
    assert "memory.size is 400, and there are 200 training images: it holds 200 embeddings" in caplog.text
    for step in range(40):
        objective.after_step(batch_of(*drawn(8, DIM, N_CLASSES, step), step=step), NO_LOOK)
    assert 0 < objective.curves(0)["memory_fill"] <= 0.5


def apart() -> tuple[Tensor, Tensor]:
    """Ten rows of five classes at right angles: nothing violates a margin."""
    return torch.eye(N_CLASSES, DIM).repeat(2, 1), torch.arange(N_CLASSES).repeat(2)


@pytest.mark.parametrize(
    "settings",
    [
        Contrastive(),
        Triplet(),
        MarginLoss(beta_distance=0.7),
        RhoTriplet(flip_share=0.0),
        ThresholdConsistentMargin(),
        Library(),
        DivideConquer(beta_distance=0.7, n_clusters=3),
        Pads(beta_distance=0.7, has_self_regularisation=False),
    ],
    ids=lambda settings: type(settings).__name__,
)
def test_loss_of_zero_shows_an_active_share_of_zero(settings: Any) -> None:
    objective = objective_of(settings)
    batch = batch_of(*apart())
    torch.manual_seed(0)
    assert float(sum(objective(batch).values())) == pytest.approx(0, abs=1e-6)
    objective.after_step(batch, NO_LOOK)
    assert objective.curves(0)["active_share"] == pytest.approx(0, abs=1e-6)
    objective.means.reset()  # type: ignore[union-attr,operator]
    objective.after_step(batch_of(torch.ones(10, DIM), batch.labels), NO_LOOK)  # all negatives are too near
    assert objective.curves(0)["active_share"] >= 0.5


NOTHING = (
    Triplet(miner=SemiHard()),
    Triplet(miner=BatchHard()),
    MarginLoss(miner=DistanceWeighted()),
    NtXent(miner=EasyPositive()),
    MultiSimilarity(),
    Library(loss="AngularLoss"),
    RhoMargin(),
    Pads(has_self_regularisation=False),
    SharingMatters(regressor_dim=4),
    Diva(regressor_dim=4, decorrelation_weight=0.0, intra_weight=0.0, sample_weight=0.0),
    DivideConquer(n_clusters=3),
)


@pytest.mark.parametrize("labels", [[0, 1, 2, 3], [0, 0, 0, 0]], ids=["no positive", "no negative"])
@pytest.mark.parametrize("settings", NOTHING, ids=lambda settings: type(settings).__name__)
def test_nothing_to_compare_is_a_zero_on_the_graph(settings: Any, labels: list[int]) -> None:
    objective = objective_of(settings)
    embeddings = drawn(4, DIM, 1)[0].float().requires_grad_()
    batch = replace(batch_of(embeddings, torch.tensor(labels)), features=drawn(4, WIDTH, 1)[0].float())
    terms = objective(batch)
    own = [term for name, term in terms.items() if name not in ("decorrelation", "shared")]
    total = torch.stack(own).sum()
    total.backward()
    assert embeddings.grad is not None and not embeddings.grad.isnan().any()
    if labels == [0, 1, 2, 3] or not isinstance(settings, NtXent | MultiSimilarity | Library | RhoMargin | MarginLoss):
        assert float(total.detach()) == pytest.approx(0, abs=1e-6)
