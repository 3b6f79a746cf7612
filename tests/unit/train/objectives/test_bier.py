"""BIER against numbers computed by hand and loops over pairs."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from guie.settings.objectives.bier import Bier
from guie.train.objectives.base import Batch
from guie.train.objectives.bier import BoostedLearners, boosted_loss, learner_widths


def column(*cosines: float) -> Tensor:
    return torch.tensor(cosines, dtype=torch.float64)[:, None]


def batch_of(embeddings: Tensor, labels: list[int], step: int = 0) -> Batch:
    of_class = torch.tensor(labels)
    rows = torch.arange(len(labels))
    return Batch(embeddings, embeddings, of_class, rows, torch.zeros_like(rows), 0, step)


def test_pair_of_one_class_is_that_computed_by_hand():
    losses, weights = boosted_loss(column(0.2, 0.6, 0.8), torch.tensor([True]), Bier())
    assert weights[:, 0].tolist() == pytest.approx([1, 1.291313, 1.033321], abs=1e-6)
    assert float(losses) == pytest.approx(2.261938, abs=1e-6)


def test_pair_of_two_classes_is_that_computed_by_hand():
    losses, weights = boosted_loss(column(0.6, 0.4, 0.2), torch.tensor([False]), Bier())
    assert weights[:, 0].tolist() == pytest.approx([1, 49.665357, 7.943455], abs=1e-6)
    assert float(losses) == pytest.approx(5.340238, abs=1e-6)


def test_bounded_weights_are_the_slopes_over_the_largest():
    _, weights = boosted_loss(column(0.6, 0.4, 0.2), torch.tensor([False]), Bier(has_bounded_weights=True))
    assert weights[:, 0].tolist() == pytest.approx([1, 49.665357 / 50, 7.943455 / 50], abs=1e-6)


def test_weights_have_no_gradient():
    """The slope by a cosine is its own weight times its own loss' slope, whatever the cosines before it do."""
    cosines = column(0.2, 0.6, 0.8).requires_grad_()
    losses, weights = boosted_loss(cosines, torch.tensor([True]), Bier())
    losses.sum().backward()
    assert not weights.requires_grad and cosines.grad is not None
    for m, s in enumerate((0.2, 0.6, 0.8)):
        own = -2 / (1 + math.exp(2 * (s - 0.5)))
        assert float(cosines.grad[m, 0]) == pytest.approx(float(weights[m, 0]) * own)


def test_widths_follow_the_learners_weights_in_the_ensemble():
    assert learner_widths(600, 3) == [100, 200, 300]
    assert sum(learner_widths(64, 3)) == 64 and learner_widths(64, 3) == [11, 21, 32]
    for n in (2, 3, 5):  # alpha_m = eta_m * prod of (1 - eta) after it
        etas = [2 / (m + 1) for m in range(1, n + 1)]
        alphas = [eta * math.prod(1 - later for later in etas[m + 1 :]) for m, eta in enumerate(etas)]
        assert learner_widths(10**4, n) == pytest.approx([alpha * 10**4 for alpha in alphas], abs=1)


def test_too_narrow_embedding_is_refused():
    with pytest.raises(ValueError, match=r"neck.dim 6 gives 3 learners 1, 2, 3 numbers"):
        learner_widths(6, 3)


@pytest.mark.parametrize("is_bounded", [False, True])
def test_batch_is_a_loop_over_its_pairs(is_bounded: bool):
    torch.manual_seed(0)
    settings = Bier(decorrelation_weight=3.0, regressor_dim=7, has_bounded_weights=is_bounded)
    objective = BoostedLearners(settings, 12).double()
    embeddings, labels = torch.randn(7, 12, dtype=torch.float64), [0, 0, 1, 1, 2, 2, 2]
    terms = objective(batch_of(embeddings, labels))
    learners = [F.normalize(part) for part in (embeddings[:, :2], embeddings[:, 2:6], embeddings[:, 6:])]
    costs: dict[bool, list[float]] = {True: [], False: []}
    for i in range(7):
        for j in range(i):
            is_same, weight, ensemble, cost = labels[i] == labels[j], 1.0, 0.0, 0.0
            for m, unit in enumerate(learners, start=1):
                cosine, factor = float(unit[i] @ unit[j]), 2.0 * (1 if is_same else -25)
                cost += weight * math.log1p(math.exp(-factor * (cosine - 0.5)))
                ensemble = (1 - 2 / (m + 1)) * ensemble + 2 / (m + 1) * cosine
                weight = (1 if is_bounded else abs(factor)) / (1 + math.exp(factor * (ensemble - 0.5)))
            costs[is_same].append(cost)
    assert float(terms["boosted"].detach()) == pytest.approx(sum(sum(own) / len(own) for own in costs.values()))
    own = sum(
        float(objective.adversaries[f"{i}_{j}"](learners[i], learners[j]).detach()) for i, j in ((0, 1), (0, 2), (1, 2))
    )
    assert float(terms["decorrelation"].detach()) == pytest.approx(3 * own)


def test_ensemble_is_the_dot_product_of_weighted_slices():
    """S_M is the sum of alpha_m s_m: widths that follow alpha keep the whole embedding's cosine near it."""
    cosines = [0.3, -0.2, 0.7]
    ensemble = 0.0
    for m, cosine in enumerate(cosines, start=1):
        ensemble = (1 - 2 / (m + 1)) * ensemble + 2 / (m + 1) * cosine
    assert ensemble == pytest.approx(sum(a * s for a, s in zip((1 / 6, 1 / 3, 1 / 2), cosines, strict=True)))


def test_without_pairs_the_loss_is_a_zero_with_its_graph():
    objective = BoostedLearners(Bier(n_learners=2, decorrelation_weight=0.0), 6)
    row = torch.randn(1, 6, requires_grad=True)
    loss = objective(batch_of(row, [0]))["boosted"]
    loss.backward()
    assert float(loss.detach()) == 0 and row.grad is not None and (row.grad == 0).all()


def test_equal_and_opposite_rows_have_finite_gradients():
    row = torch.randn(1, 6)
    rows = torch.cat([row, row, -row, -row]).requires_grad_()
    objective = BoostedLearners(Bier(n_learners=2), 6)
    sum(objective(batch_of(rows, [0, 0, 0, 1])).values()).backward()
    assert rows.grad is not None and rows.grad.isfinite().all()


def test_curves_are_means_over_the_steps():
    torch.manual_seed(0)
    objective = BoostedLearners(Bier(n_learners=2), 6)
    batch = batch_of(torch.randn(6, 6), [0, 0, 1, 1, 2, 2])
    objective.after_step(batch, None)  # type: ignore[arg-type]
    curves = objective.curves(0)
    _, weights, _ = objective._boosted(objective._learners(batch), batch)
    assert list(curves) == ["positive_cosine", "negative_cosine", "learner_weight_1", "learner_weight_2"]
    assert curves["learner_weight_1"] == 1 and curves["learner_weight_2"] == pytest.approx(float(weights[1].mean()))
    objective.begin_epoch(1, None)  # type: ignore[arg-type]
    assert objective.curves(1) == {}


def test_adversaries_have_a_rate_of_their_own_and_no_decay():
    objective = BoostedLearners(Bier(n_learners=2, regressor_lr_factor=7.0), 6)
    assert {name.split(".")[0] for name, _ in objective.named_parameters()} == {"adversaries"}
    assert objective.rates() == {"adversaries": 7.0} and objective.undecayed() == ("adversaries",)
