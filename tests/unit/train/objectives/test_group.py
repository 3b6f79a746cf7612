"""Group Loss against the values of its dynamics computed by hand, written-out loops, and finite differences."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from guie.settings.objective import GroupLoss
from guie.train.objectives.base import Batch
from guie.train.objectives.draws import generator_of
from guie.train.objectives.group import GroupObjective, correlation, draw_anchors, group_terms, replicate

N_CLASSES, DIM, WIDTH = 4, 6, 5
LABELS = torch.tensor([0, 0, 0, 1, 1, 2, 3, 3])
SIMILARITY = torch.tensor([[1.0, 0.0, 0.2], [0.0, 1.0, 0.8], [0.2, 0.8, 1.0]], dtype=torch.float64)
SHARES = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]], dtype=torch.float64)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def batch_of(embeddings: Tensor, labels: Tensor, features: Tensor | None = None) -> Batch:
    rows = torch.arange(len(labels))
    return Batch(embeddings if features is None else features, embeddings, labels, rows, rows * 0, 0, 0)


def objective_of(settings: GroupLoss) -> GroupObjective:
    torch.manual_seed(3)
    return GroupObjective(settings, N_CLASSES, DIM, WIDTH).double()


@pytest.mark.parametrize(
    ("n_iterations", "end"), [(1, (0.35, 0.65)), (2, (0.169604, 0.830396)), (3, (0.044252, 0.955748))]
)
def test_dynamics_of_two_anchors_and_a_row_between_them(n_iterations: int, end: tuple[float, float]) -> None:
    shares = replicate(SHARES, SIMILARITY, n_iterations)
    assert shares[2].tolist() == pytest.approx(end, abs=1e-6)
    assert torch.equal(shares[:2], SHARES[:2])  # anchors stay


def test_dynamics_without_similarity_to_oneself() -> None:
    shares = replicate(SHARES, SIMILARITY - torch.eye(3, dtype=torch.float64), 1)
    assert shares[2].tolist() == pytest.approx((0.2, 0.8), abs=1e-12)


def test_anchors_count_in_the_mean() -> None:
    logits, is_anchor = torch.zeros(3, 2, dtype=torch.float64), torch.tensor([True, True, False])
    loss = group_terms(logits, SIMILARITY, torch.tensor([0, 1, 1]), is_anchor, 24.0, 1)
    assert float(loss) == pytest.approx(-math.log(0.65) / 3, abs=1e-9) == pytest.approx(0.143594, abs=1e-6)


def test_correlation_is_pearsons_without_its_negative_part() -> None:
    rows = torch.tensor([[1.0, 2, 3], [1, 2, 4], [3, 2, 1]], dtype=torch.float64)
    assert float(correlation(rows)[0, 1]) == pytest.approx(0.981981, abs=1e-6)
    assert correlation(rows)[2, :2].tolist() == [0.0, 0.0]
    rows = drawn(7, DIM)
    assert correlation(rows).numpy() == pytest.approx(np.corrcoef(rows.numpy()).clip(0), abs=1e-10)
    assert correlation(rows, has_self=False).numpy() == pytest.approx(
        np.corrcoef(rows.numpy()).clip(0) - np.eye(7), abs=1e-10
    )


def loop(
    logits: np.ndarray,
    rows: np.ndarray,
    labels: list[int],
    is_anchor: list[bool],
    temperature: float,
    n_iterations: int,
    has_self: bool,
) -> float:
    """The group's term, one number after the other."""
    n, n_classes = logits.shape
    shares = np.zeros((n, n_classes))
    for i in range(n):
        powers = [math.exp(logit / temperature) for logit in logits[i]]
        for c in range(n_classes):
            shares[i, c] = float(labels[i] == c) if is_anchor[i] else powers[c] / sum(powers)
    for _ in range(n_iterations):
        grown = np.zeros_like(shares)
        for i in range(n):
            for j in range(n):
                if i != j or has_self:
                    similarity = max(0.0, float(np.corrcoef(rows[i], rows[j])[0, 1]))
                    grown[i] += similarity * shares[j]
            grown[i] *= shares[i]
            grown[i] /= grown[i].sum()
        shares = grown
    return sum(-math.log(shares[i, label] + 1e-12) for i, label in enumerate(labels)) / n


@pytest.mark.parametrize("has_self", [True, False])
@pytest.mark.parametrize("n_iterations", [1, 3])
def test_terms_are_those_of_a_loop(n_iterations: int, has_self: bool) -> None:
    settings = GroupLoss(
        temperature=2.0,
        n_anchors=1,
        n_iterations=n_iterations,
        cross_entropy_weight=0.5,
        compares="features",
        has_self_similarity=has_self,
    )
    objective = objective_of(settings)
    embeddings, features = drawn(8, DIM), drawn(8, WIDTH, seed=1) + 1  # correlated, so that each row has support
    features[:, :2] += 3
    batch = batch_of(embeddings, LABELS, features)
    is_anchor = draw_anchors(LABELS, 1, generator_of(batch, "GroupLoss")).tolist()
    terms = objective(batch)
    logits = objective.classifier(embeddings).detach()
    own = loop(logits.numpy(), features.numpy(), LABELS.tolist(), is_anchor, 2.0, n_iterations, has_self)
    assert list(terms) == ["group", "cross_entropy"]
    assert float(terms["group"].detach()) == pytest.approx(own, abs=1e-9)
    crossed = sum(
        math.log(sum(math.exp(z - row[label]) for z in row))
        for row, label in zip(logits.tolist(), LABELS.tolist(), strict=True)
    )
    assert float(terms["cross_entropy"].detach()) == pytest.approx(0.5 * crossed / 8, abs=1e-12)


def test_gradient_flows_through_similarity_and_all_iterations() -> None:
    is_anchor = torch.tensor([True, False, False, True, False, True, True, False])

    def loss(embeddings: Tensor, weight: Tensor) -> Tensor:
        return group_terms(embeddings @ weight.T, correlation(embeddings), LABELS, is_anchor, 2.0, 3)

    embeddings = drawn(8, DIM, seed=4).requires_grad_()
    weight = drawn(N_CLASSES, DIM, seed=5).requires_grad_()
    assert torch.autograd.gradcheck(loss, (embeddings, weight))
    fixed = correlation(embeddings).detach()
    stopped = group_terms(embeddings @ weight.T, fixed, LABELS, is_anchor, 2.0, 3)
    whole = torch.autograd.grad(loss(embeddings, weight), embeddings)[0]
    assert (whole - torch.autograd.grad(stopped, embeddings)[0]).abs().max() > 1e-4


@pytest.mark.parametrize("has_self", [True, False])
def test_equal_constant_and_opposite_rows_have_finite_gradients(has_self: bool) -> None:
    rows = drawn(8, DIM, seed=6)
    rows[1], rows[3], rows[4], rows[5] = rows[0], 2.0, -rows[0], 0.0
    for dtype in (torch.float32, torch.float64):
        objective = objective_of(GroupLoss(n_iterations=4, has_self_similarity=has_self)).to(dtype)
        embeddings = rows.to(dtype).requires_grad_()
        total = sum(objective(batch_of(embeddings, LABELS)).values())
        assert isinstance(total, Tensor) and total.isfinite()
        total.backward()
        assert embeddings.grad is not None and embeddings.grad.isfinite().all() and embeddings.grad.abs().max() < 100


def test_row_without_support_keeps_its_probabilities() -> None:
    similarity = torch.zeros(3, 3, dtype=torch.float64)
    assert torch.equal(replicate(SHARES, similarity, 2), SHARES)


def test_anchors_are_drawn_in_each_class() -> None:
    counts = torch.zeros(8)
    generator = torch.Generator().manual_seed(0)
    for _ in range(600):
        is_anchor = draw_anchors(LABELS, 2, generator)
        assert torch.bincount(LABELS[is_anchor], minlength=4).tolist() == [2, 1, 1, 1]  # of 3, 2, 1 and 2 rows
        counts += is_anchor
    assert (counts / 600).tolist() == pytest.approx([2 / 3, 2 / 3, 2 / 3, 0.5, 0.5, 1, 0.5, 0.5], abs=0.08)
    assert not draw_anchors(LABELS, 0, generator).any()


def test_batch_of_single_images_has_a_group_term_of_zero() -> None:
    objective = objective_of(GroupLoss())
    embeddings = drawn(4, DIM).requires_grad_()
    batch = batch_of(embeddings, torch.arange(4))
    terms = objective(batch)
    assert float(terms["group"].detach()) == pytest.approx(0.0, abs=1e-9) and terms["group"].requires_grad
    objective.after_step(batch.detached(), None)  # type: ignore[arg-type]
    assert objective.curves(0)["active_share"] == 0.0


def test_active_share_is_of_rows_that_are_no_anchors() -> None:
    objective = objective_of(GroupLoss(n_anchors=2))
    objective.after_step(batch_of(drawn(8, DIM), LABELS), None)  # type: ignore[arg-type]
    assert objective.curves(0)["active_share"] == pytest.approx(3 / 8, abs=1e-6)
    objective.begin_epoch(1, None)  # type: ignore[arg-type]
    assert objective.curves(1) == {}


def test_what_cannot_be_correlated_or_classified_is_refused() -> None:
    with pytest.raises(ValueError, match=r"GroupLoss correlates embeddings, and these have 1 number"):
        GroupObjective(GroupLoss(), N_CLASSES, 1, WIDTH)
    with pytest.raises(ValueError, match=r"have 1 class; take more sources"):
        GroupObjective(GroupLoss(), 1, DIM, WIDTH)
