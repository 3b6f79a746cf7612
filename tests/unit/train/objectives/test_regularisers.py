"""KoLeo and the threshold-consistent margin: published values, pytorch-metric-learning, finite differences."""

import math

import pytest
import torch
import torch.nn.functional as F
from hand_batch import NO_LOOK, batch_of, drawn
from metric_fixtures import F4, G5, at_degrees
from pytorch_metric_learning.losses import ThresholdConsistentMarginLoss
from torch import Tensor

from guie.settings.objective import KoLeo, ThresholdConsistentMargin
from guie.train.objectives.regularisers import ConsistentMarginTerm, KoLeoTerm


def koleo(embeddings: Tensor, weight: float = 1.0) -> Tensor:
    labels = torch.zeros(len(embeddings), dtype=torch.int64)
    terms = KoLeoTerm(KoLeo(weight=weight))(batch_of(embeddings, labels))
    assert list(terms) == ["spread"]
    return terms["spread"]


@pytest.mark.parametrize(
    ("embeddings", "value"),
    [
        (F4[0], 0.242596),
        (G5[0], 0.029776),
        (at_degrees(20, 200), -math.log(2)),
        (at_degrees(20, 110), -math.log(2) / 2),
    ],
)
def test_koleo_has_its_known_values(embeddings: Tensor, value: float) -> None:
    assert float(koleo(embeddings)) == pytest.approx(value, abs=1e-6)
    lengths = torch.linspace(0.2, 7, len(embeddings), dtype=torch.float64)[:, None]
    assert float(koleo(embeddings * lengths, weight=0.7)) == pytest.approx(0.7 * value, abs=1e-6)


def test_koleo_equals_a_loop() -> None:
    x, _ = drawn(40, 5, 3)
    total = 0.0
    for i in range(40):
        unit = [F.normalize(row, dim=0) for row in x]
        total -= math.log(min(float((unit[i] - unit[j]).norm()) for j in range(40) if j != i)) / 40
    assert float(koleo(x)) == pytest.approx(total, abs=1e-6)


def test_koleo_has_the_gradient_of_finite_differences() -> None:
    """Which neighbour is the nearest is constant; both ends of a pair are pushed."""
    assert torch.autograd.gradcheck(koleo, drawn(9, 3, 2)[0].requires_grad_())


def test_duplicates_and_opposite_rows_stay_finite() -> None:
    for dtype in (torch.float32, torch.float64):
        x = torch.tensor([[3.0, 4.0], [3.0, 4.0], [3.0, 4.00001], [-3.0, -4.0]], dtype=dtype).requires_grad_()
        value = koleo(x)
        value.backward()
        assert torch.isfinite(value) and torch.isfinite(x.grad).all()
        assert float(value.detach()) < -math.log(1e-4)


def test_one_row_alone_is_a_zero_with_a_graph() -> None:
    x = torch.ones(1, 3, requires_grad=True)
    koleo(x).backward()
    assert x.grad.tolist() == [[0.0, 0.0, 0.0]]
    term = KoLeoTerm(KoLeo())
    term.after_step(batch_of(x.detach(), torch.tensor([0])), NO_LOOK)
    assert term.curves(0) == {}


def test_koleo_tells_the_distance_to_the_nearest() -> None:
    term = KoLeoTerm(KoLeo())
    expected = (1 + 2 * 2 * math.sin(math.radians(15)) + math.sqrt(2)) / 4  # of F4: 60, 30, 30 and 90 degrees
    term.after_step(batch_of(*F4), NO_LOOK)
    assert term.curves(0)["nearest_distance"] == pytest.approx(expected, abs=1e-5)
    term.begin_epoch(1, NO_LOOK)
    assert term.curves(1) == {}


def margin_terms(embeddings: Tensor, labels: Tensor, **words: float) -> dict[str, Tensor]:
    objective = ConsistentMarginTerm(ThresholdConsistentMargin(**words), embeddings.shape[1], 100)
    return objective(batch_of(embeddings, labels))


def test_consistent_margin_has_its_known_values() -> None:
    terms = {name: float(value) for name, value in margin_terms(*F4).items()}
    assert terms == pytest.approx({"pull": 0.65, "push": 0.366025}, abs=1e-6)
    assert float(sum(margin_terms(*G5).values())) == pytest.approx(0.855827, abs=1e-6)


def test_consistent_margin_equals_pytorch_metric_learning() -> None:
    for seed in range(5):
        x, labels = drawn(20, 4, 3, seed)
        words = {"positive_weight": 0.3, "negative_weight": 2.0}
        margins = {"positive_margin_cosine": 0.6, "negative_margin_cosine": 0.1}
        mine = sum(margin_terms(x, labels, **words, **margins).values())
        theirs = ThresholdConsistentMarginLoss(0.3, 2.0, 0.6, 0.1)(x, labels)
        assert float(mine) == pytest.approx(float(theirs), rel=1e-12)


def test_consistent_margin_has_the_gradient_of_finite_differences() -> None:
    x, labels = drawn(9, 3, 3)
    assert torch.autograd.gradcheck(lambda e: sum(margin_terms(e, labels).values()), x.requires_grad_())


@pytest.mark.parametrize("labels", [[0, 1], [0, 0]])
def test_nothing_that_costs_is_a_zero_with_a_graph(labels: list[int]) -> None:
    """Two opposite rows of two classes; two equal rows of one class."""
    x = torch.tensor([[1.0, 0.0], [1.0 if labels == [0, 0] else -1.0, 0.0]], requires_grad=True)
    terms = margin_terms(x, torch.tensor(labels))
    sum(terms.values()).backward()
    assert [float(term.detach()) for term in terms.values()] == [0.0, 0.0] and x.grad.abs().max() == 0.0


def test_consistent_margin_tells_the_share_of_pairs_that_cost_something() -> None:
    """Of the six pairs of F4 those of one class, .5 and 0, are below .9; of the others .866 alone is above .5."""
    objective = ConsistentMarginTerm(ThresholdConsistentMargin(), 2, 100)
    objective.after_step(batch_of(*F4), NO_LOOK)
    expected = {"active_share": 0.5, "positive_cosine": 0.25, "negative_cosine": (0 - 1 + 0.866025 - 0.5) / 4}
    assert objective.curves(0) == pytest.approx(expected, abs=1e-5)
    objective.begin_epoch(1, NO_LOOK)
    assert objective.curves(1) == {}
