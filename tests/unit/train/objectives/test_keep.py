"""KeepCosines: a loop over pairs, both with a frozen and with a moving backbone."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hand_batch import batch_of

from guie.settings.objective import KeepCosines
from guie.settings.optim import Optim
from guie.settings.stage import Stage
from guie.train.objectives.build import build_objective
from guie.train.objectives.keep import KeepCosinesTerm


def by_loop(embeddings: torch.Tensor, features: torch.Tensor, weight: float) -> float:
    total, n = 0.0, len(embeddings)
    for i in range(n):
        for j in range(n):
            if i != j:
                own = F.cosine_similarity(embeddings[i], embeddings[j], dim=0)
                known = F.cosine_similarity(features[i], features[j], dim=0)
                total += float((own - known) ** 2)
    return weight * total / (n * (n - 1))


def drawn(n: int, dim: int, seed: int) -> torch.Tensor:
    return torch.randn(n, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


class Look:
    labels = np.zeros(9, dtype=np.int64)

    def __init__(self) -> None:
        self.rows = drawn(9, 7, 2).float()

    def features(self, items: np.ndarray) -> torch.Tensor:
        return self.rows[items]

    def embeddings(self, items: np.ndarray) -> torch.Tensor:
        raise AssertionError("it keeps features")

    def taught(self, row: str, items: np.ndarray) -> torch.Tensor:
        assert row == "s1_wide"
        return self.rows[items, :5]


def test_frozen_backbone_keeps_the_features_of_the_batch() -> None:
    embeddings, features = drawn(6, 4, 0).requires_grad_(), drawn(6, 7, 1)
    term = KeepCosinesTerm(KeepCosines(weight=5.0), 7, 9, is_of_batch=True)
    sized = torch.cat([features, torch.full((6, 3), 9.0)], dim=1)  # the image's size is no part of the feature
    batch = batch_of(embeddings, torch.arange(6), features=sized)
    loss = term(batch)["keep"]
    assert float(loss) == pytest.approx(by_loop(embeddings.detach(), features, 5.0), rel=1e-9)
    loss.backward()
    assert embeddings.grad is not None and embeddings.grad.norm() > 0.01
    assert not len(term.reference)


def test_moving_backbone_is_held_to_its_features_at_the_start() -> None:
    look, term = Look(), KeepCosinesTerm(KeepCosines(), 7, 9, is_of_batch=False)
    term.begin_epoch(0, look)
    first = look.rows.clone()
    look.rows = look.rows + 1
    term.begin_epoch(1, look)  # nothing is read again
    items, embeddings = torch.tensor([4, 0, 7, 7]), drawn(4, 4, 3)
    batch = batch_of(embeddings, torch.arange(4), items=items, features=drawn(4, 7, 4))
    expected = by_loop(embeddings, first[items].double(), 30.0)
    assert float(term(batch)["keep"]) == pytest.approx(expected, rel=2e-3)  # the reference has three digits
    assert torch.allclose(term.reference.float().norm(dim=1), torch.ones(9), atol=1e-3)


@pytest.mark.parametrize("is_backbone_frozen", [False, True])
def test_teachers_cosines_take_the_place_of_the_features(is_backbone_frozen: bool) -> None:
    """Also where the backbone is frozen, whose features are another backbone's than the teacher's."""
    stage = Stage(
        "s2",
        trains="head" if is_backbone_frozen else "all",
        objective=KeepCosines(of="s1_wide", weight=2.0),
        optim=Optim(n_epochs=1, batch_size=4, lr=1.0),
    )
    term = build_objective(stage, 7, torch.ones(1), torch.zeros(9, dtype=torch.int64), {"s1_wide": 5})
    look = Look()
    term.begin_epoch(0, look)
    items, embeddings = torch.tensor([4, 0, 8, 7]), drawn(4, 4, 3)
    batch = batch_of(embeddings, torch.arange(4), items=items, features=drawn(4, 7, 4))
    expected = by_loop(embeddings, look.rows[items, :5].double(), 2.0)
    assert float(term(batch)["keep"]) == pytest.approx(expected, rel=2e-3)


def test_one_row_costs_nothing_and_equal_cosines_neither() -> None:
    term = KeepCosinesTerm(KeepCosines(), 7, 9, is_of_batch=True)
    features = drawn(5, 7, 5)
    turned = features @ torch.linalg.qr(drawn(7, 7, 6))[0] * 3  # a turn and another length change no cosine
    assert float(term(batch_of(turned, torch.arange(5), features=features))["keep"]) < 1e-20
    one = drawn(1, 4, 7).requires_grad_()
    loss = term(batch_of(one, torch.arange(1), features=features[:1]))["keep"]
    loss.backward()
    assert float(loss) < 1e-20 and one.grad is not None
