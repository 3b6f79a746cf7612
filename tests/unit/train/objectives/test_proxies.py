"""Losses of proxies against values computed by hand, written-out loops and pytorch-metric-learning."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from circle_points import F4, P2, batch_of, random_points
from pytorch_metric_learning import losses
from pytorch_metric_learning.regularizers import SparseCentersRegularizer
from torch import Tensor

from guie.settings.objective import ProxyAnchor, ProxyNca, SoftTriple
from guie.train.objectives.base import Batch, Objective
from guie.train.objectives.proxies import ProxyAnchorObjective, ProxyNcaObjective, SoftTripleObjective, merging

KINDS = {ProxyNca: ProxyNcaObjective, ProxyAnchor: ProxyAnchorObjective, SoftTriple: SoftTripleObjective}
ROWS = (ProxyNca(), ProxyNca(is_plus_plus=False), ProxyAnchor(), SoftTriple(n_centers=3), SoftTriple(n_centers=1))
every_row = pytest.mark.parametrize("settings", ROWS, ids=repr)


def objective_of(settings: ProxyNca | ProxyAnchor | SoftTriple, proxies: Tensor, n_classes: int) -> Objective:
    """With these proxies, or centres, [n, dim]."""
    objective = KINDS[type(settings)](settings, n_classes, proxies.shape[1]).to(proxies.dtype)
    (parameter,) = objective.parameters()
    parameter.data.copy_(proxies)
    return objective


def total(objective: Objective, batch: Batch) -> Tensor:
    return torch.stack(list(objective(batch).values())).sum()


THREE = torch.cat([P2, torch.tensor([[0.0, -1.0]], dtype=torch.float64)])
VALUES = [
    (ProxyNca(is_plus_plus=False, scale=1.0), P2, -1.316987),
    (ProxyNca(scale=1.0), P2, 0.376375),
    (ProxyNca(), P2, 1.647458),
    (ProxyAnchor(), P2, 18.696361),
    (ProxyAnchor(scale=4.0), P2, 2.984643),
    (ProxyAnchor(scale=4.0), THREE, 2.645015),
    (ProxyAnchor(scale=4.0, weight=0.5), THREE, 2.645015 / 2),
]


@pytest.mark.parametrize(("settings", "proxies", "expected"), VALUES)
def test_values_computed_by_hand(settings: ProxyNca | ProxyAnchor, proxies: Tensor, expected: float) -> None:
    for length in (1.0, 5.0):
        objective = objective_of(settings, length * proxies, len(proxies))
        assert float(total(objective, batch_of(2 * length * F4[0], F4[1]))) == pytest.approx(expected, abs=1e-6)


def test_soft_triple_by_hand() -> None:
    """facts/objectives.md, 3.3: the centres are F4, two a class."""
    batch = batch_of(*F4)
    sharp = objective_of(SoftTriple(n_centers=2), F4[0], 2)(batch)
    assert float(sharp["softmax"]) == pytest.approx(0.041523, abs=1e-6)
    soft = objective_of(SoftTriple(n_centers=2, scale=2.0, temperature=1.0), F4[0], 2)(batch)
    assert float(soft["softmax"]) == pytest.approx(0.314944, abs=1e-6)
    assert float(merging(F4[0].unflatten(0, (2, 2)))) == pytest.approx(0.603553, abs=5e-6)  # with 1e-5 in the root
    assert float(sum(soft.values())) == pytest.approx(0.435655, abs=2e-6)
    assert set(objective_of(SoftTriple(n_centers=1), P2, 2)(batch)) == {"softmax"}


def test_soft_triple_is_a_loop() -> None:
    embeddings, labels = random_points(30, 4, 5)
    centers, _ = random_points(15, 4, 5, seed=1)
    settings = SoftTriple(n_centers=3, scale=7.0, temperature=0.2, margin_cosine=0.05, merge_weight=0.4, weight=2.0)
    x, w = F.normalize(embeddings).numpy(), F.normalize(centers).numpy().reshape(5, 3, 4)
    costs = []
    for row, label in zip(x, labels.tolist(), strict=True):
        logits = []
        for c in range(5):
            cosines = w[c] @ row
            share = np.exp(cosines / 0.2) / np.exp(cosines / 0.2).sum()
            logits.append(7.0 * (share @ cosines - 0.05 * (c == label)))
        costs.append(math.log(sum(map(math.exp, logits))) - logits[label])
    pulled = sum(
        math.sqrt(2 + 1e-5 - 2 * w[c, k] @ w[c, m]) for c in range(5) for k in range(3) for m in range(k + 1, 3)
    )
    expected = 2.0 * (sum(costs) / 30 + 0.4 * pulled / (5 * 3 * 2))
    assert float(total(objective_of(settings, centers, 5), batch_of(embeddings, labels))) == pytest.approx(expected)


def test_proxies_equal_the_librarys() -> None:
    """Losses and both gradients."""
    embeddings, labels = random_points(30, 4, 5)
    proxies, _ = random_points(5, 4, 5, seed=1)
    oracles = [(ProxyNca(), losses.ProxyNCALoss(5, 4, softmax_scale=9)), (ProxyAnchor(), losses.ProxyAnchorLoss(5, 4))]
    for settings, oracle in oracles:
        objective = objective_of(settings, proxies, 5)
        oracle.proxies.data = proxies.clone()
        ours, theirs = embeddings.clone().requires_grad_(), embeddings.clone().requires_grad_()
        left, right = total(objective, batch_of(ours, labels)), oracle(theirs, labels)
        left.backward()
        right.backward()
        assert float(left) == pytest.approx(float(right), rel=1e-9)
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-7, atol=1e-12)
        (parameter,) = objective.parameters()
        torch.testing.assert_close(parameter.grad, oracle.proxies.grad, rtol=1e-7, atol=1e-12)


def test_soft_triple_equals_the_librarys() -> None:
    embeddings, labels = random_points(30, 4, 5)
    centers, _ = random_points(15, 4, 5, seed=1)
    oracle = losses.SoftTripleLoss(
        5, 4, centers_per_class=3, weight_regularizer=SparseCentersRegularizer(5, 3), weight_reg_weight=0.2
    )
    oracle.fc.data = centers.T.clone()
    objective = objective_of(SoftTriple(n_centers=3), centers, 5)
    left, right = total(objective, batch_of(embeddings, labels)), oracle(embeddings, labels)
    left.backward()
    right.backward()
    assert float(left) == pytest.approx(float(right), abs=1e-5)
    (parameter,) = objective.parameters()
    torch.testing.assert_close(parameter.grad, oracle.fc.grad.T, rtol=1e-3, atol=1e-5)


@every_row
def test_gradients_are_those_of_finite_differences(settings: ProxyNca | ProxyAnchor | SoftTriple) -> None:
    embeddings, labels = random_points(7, 3, 3)
    n = 3 * getattr(settings, "n_centers", 1)
    objective = objective_of(settings, random_points(n, 3, 3, seed=2)[0], 3)
    assert torch.autograd.gradcheck(lambda x: total(objective, batch_of(x, labels)), embeddings.requires_grad_())


@every_row
def test_rows_on_their_proxies_have_finite_gradients(settings: ProxyNca | ProxyAnchor | SoftTriple) -> None:
    """float32: rows equal to and opposite of proxies, centres of a class that coincide."""
    n = getattr(settings, "n_centers", 1)
    proxies = torch.randn(4, 16, generator=torch.Generator().manual_seed(0)).repeat_interleave(n, dim=0)
    embeddings = torch.cat([proxies[::n], -proxies[::n], proxies[::n]]).requires_grad_()
    objective = objective_of(settings, proxies, 4)
    loss = total(objective, batch_of(embeddings, torch.arange(4).repeat(3)))
    loss.backward()
    (parameter,) = objective.parameters()
    assert loss.dtype == torch.float32 and bool(loss.isfinite())
    assert bool(embeddings.grad.isfinite().all()) and bool(parameter.grad.isfinite().all())


@every_row
def test_weights_have_a_rate_of_their_own_and_no_decay(settings: ProxyNca | ProxyAnchor | SoftTriple) -> None:
    objective = KINDS[type(settings)](settings, 4, 3)
    ((name, _),) = objective.named_parameters()
    assert objective.rates() == {name: 100.0} and objective.undecayed() == (name,)


@every_row
def test_one_class_is_refused(settings: ProxyNca | ProxyAnchor | SoftTriple) -> None:
    with pytest.raises(ValueError, match=f"{type(settings).__name__} tells classes apart, and the stage has 1 class"):
        KINDS[type(settings)](settings, 1, 3)
