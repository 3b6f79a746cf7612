"""MIC and Sharing Matters: what each encoder learns from, and which gradient reaches it."""

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from guie.settings.objectives.mic import Mic
from guie.settings.objectives.sharing import SharingMatters
from guie.train.objectives.base import Batch
from guie.train.objectives.draws import generator_of
from guie.train.objectives.margin_triplets import class_triplets, margin_loss, three_class_triplets
from guie.train.objectives.mic import TraitEncoder
from guie.train.objectives.sharing import SharedEncoder

LABELS = torch.cat([torch.arange(120) % 6, torch.tensor([6])])  # the last is alone of its class


class Traits:
    """Features: far apart for each class; within a class the images are left or right of its centre."""

    labels = LABELS.numpy()

    def __init__(self) -> None:
        self.n_asked = 0

    def features(self, items: Any) -> Tensor:
        self.n_asked += 1
        side = 2.0 * (torch.arange(121) // 6 % 2) - 1
        noise = 0.05 * torch.randn(121, 3, generator=torch.Generator().manual_seed(0))
        centers = 100 * torch.randn(7, 3, generator=torch.Generator().manual_seed(1))
        features = centers[LABELS] + noise
        features[:, 0] += (1 + LABELS) * side  # wider in some classes than in others
        return features[torch.from_numpy(items)]


def batch_of(items: Tensor, dtype: torch.dtype = torch.float64, width: int = 3) -> Batch:
    n = torch.Generator().manual_seed(2)
    features = torch.randn(len(items), width, generator=n, dtype=torch.float64).to(dtype).requires_grad_()
    embeddings = torch.randn(len(items), 4, generator=n, dtype=torch.float64).to(dtype).requires_grad_()
    return Batch(features, embeddings, LABELS[items], items, torch.zeros_like(items), 0, 5)


def mic(**settings: Any) -> TraitEncoder:
    torch.manual_seed(0)
    given = {"n_clusters": 2, "trait_dim": 5, "regressor_dim": 6, "decorrelation_weight": 3.0, "trait_weight": 0.7}
    return TraitEncoder(Mic(**given | settings), 4, 3, LABELS).double()


def sharing(**settings: Any) -> SharedEncoder:
    torch.manual_seed(0)
    given = {"shared_dim": 5, "regressor_dim": 6, "decorrelation_weight": 3.0, "shared_weight": 0.7}
    return SharedEncoder(SharingMatters(**given | settings), 4, 3, 7).double()


def test_clusters_are_traits_and_no_classes():
    objective = mic()
    objective.begin_epoch(0, Traits())
    traits = objective.traits.numpy()
    sides = np.arange(121) // 6 % 2
    assert traits[120] == -1
    assert all(len(np.unique(traits[:120][sides[:120] == side])) == 1 for side in (0, 1))
    curves = objective.curves(0)
    assert (curves["n_clusters"], curves["smallest_cluster"], curves["largest_cluster"]) == (2, 60, 60)


def test_clusters_are_made_every_third_epoch():
    objective, look, asked = mic(), Traits(), []
    for epoch in range(7):
        objective.begin_epoch(epoch, look)
        asked.append(look.n_asked)
    assert asked == [1, 1, 1, 2, 2, 2, 3]


def test_number_of_clusters_follows_the_images_unless_given():
    assert mic(n_clusters=0).n_clusters == 2  # 120 images of classes with several
    many = torch.arange(6000) % 9
    assert TraitEncoder(Mic(), 4, 3, many).n_clusters == 100
    assert TraitEncoder(Mic(), 4, 3, many[:450]).n_clusters == 9
    with pytest.raises(ValueError, match="Mic: 61 clusters need at least 122 images"):
        mic(n_clusters=61)
    with pytest.raises(ValueError, match=r"s.objective.n_clusters is 1"):
        Mic(n_clusters=1).check("s.objective")


def test_loss_of_mic_is_that_of_its_parts():
    objective = mic()
    objective.begin_epoch(0, Traits())
    batch = batch_of(torch.arange(90, 121))
    terms = objective(batch)
    first, second = F.normalize(batch.embeddings), F.normalize(objective.second(batch.features))
    generator = generator_of(batch, "Mic")
    own = margin_loss(first, class_triplets(first, batch.labels, generator), 0.2, 1.2)[0]
    others = class_triplets(second, objective.traits[batch.items], generator)
    assert float(terms["class"].detach()) == pytest.approx(float(own.detach()))
    assert float(terms["trait"].detach()) == pytest.approx(
        0.7 * float(margin_loss(second, others, 0.2, 1.2)[0].detach())
    )
    assert float(terms["decorrelation"].detach()) == pytest.approx(
        3 * float(objective.adversary(first, second).detach())
    )
    assert 30 not in others.anchors.tolist()  # the image alone of its class


def test_loss_of_sharing_is_that_of_its_parts():
    objective = sharing()
    batch = batch_of(torch.arange(24))
    terms = objective(batch)
    first, second = F.normalize(batch.embeddings), F.normalize(objective.second(batch.features))
    generator = generator_of(batch, "SharingMatters")
    own = margin_loss(first, class_triplets(first, batch.labels, generator), 0.2, 1.2)[0]
    others = three_class_triplets(second, batch.labels, generator)
    assert float(terms["class"].detach()) == pytest.approx(float(own.detach()))
    assert float(terms["shared"].detach()) == pytest.approx(
        0.7 * float(margin_loss(second, others, 0.2, 1.2)[0].detach())
    )
    assert len(others.anchors) == 24


@pytest.mark.parametrize("make", [mic, sharing])
def test_each_part_moves_what_it_should(make: Any):
    """Without the adversary the embedding learns from classes alone, and the feature from the second encoder alone."""
    objective = make(decorrelation_weight=0.0)
    objective.begin_epoch(0, Traits())
    batch = batch_of(torch.arange(24))
    terms = objective(batch)
    terms[objective.task].backward(retain_graph=True)
    assert batch.embeddings.grad is None and batch.features.grad is not None and (batch.features.grad != 0).any()
    assert objective.betas.grad is not None and objective.betas.grad[0] == 0
    batch.features.grad = None
    terms["class"].backward()
    assert batch.features.grad is None and batch.embeddings.grad is not None


def test_images_size_beside_the_feature_is_not_seen():
    objective, batch = sharing(), batch_of(torch.arange(24), width=6)
    sum(objective(batch).values()).backward()
    assert batch.features.grad is not None and (batch.features.grad[:, 3:] == 0).all()


@pytest.mark.parametrize("make", [mic, sharing])
def test_equal_and_opposite_rows_have_finite_gradients(make: Any):
    objective = make().float()
    objective.begin_epoch(0, Traits())
    one = batch_of(torch.arange(8), torch.float32)
    with torch.no_grad():
        for rows in (one.features, one.embeddings):
            rows[1:4], rows[4:] = rows[0], -rows[0]
    sum(objective(one).values()).backward()
    assert one.features.grad is not None and one.features.grad.isfinite().all()
    assert one.embeddings.grad is not None and one.embeddings.grad.isfinite().all()


@pytest.mark.parametrize("make", [mic, sharing])
def test_curves_tell_how_many_rows_the_second_encoder_learns_from(make: Any):
    objective = make()
    objective.begin_epoch(0, Traits())
    batch = batch_of(torch.tensor([0, 1, 2, 3, 120]))  # of five classes: no pair of one
    objective.after_step(batch.detached(), Traits())
    curves = objective.curves(0)
    assert curves["beta_distance"] == curves[f"{objective.task}_beta_distance"] == 1.2
    assert curves[f"{objective.task}_row_share"] == (0 if objective.task == "trait" else 1)
    assert "active_share" not in curves and all(math.isfinite(value) for value in curves.values())


def test_two_classes_have_nothing_to_share():
    with pytest.raises(ValueError, match="of three classes, and there are 2"):
        SharedEncoder(SharingMatters(), 4, 3, 2)
