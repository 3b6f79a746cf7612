"""R-margin, R-triplet and R-contrastive: what is drawn, how often, and what it costs."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hand_batch import NO_LOOK, batch_of, drawn
from metric_fixtures import F4
from torch import Tensor

from guie.settings.fields import check
from guie.settings.objective import RhoContrastive, RhoMargin, RhoTriplet
from guie.train.objectives import tuples as module
from guie.train.objectives.distances import log_inverse_density, row_distances
from guie.train.objectives.draws import Triplets
from guie.train.objectives.tuples import RhoTuples, draw_tuples

KINDS = (RhoContrastive(), RhoMargin(), RhoTriplet())
every_kind = pytest.mark.parametrize("settings", KINDS, ids=lambda kind: type(kind).__name__)


def test_density_of_distances_has_its_known_values() -> None:
    """facts/objectives.md 2: three dimensions, four, sixty-four."""
    of = torch.tensor([1.0, math.sqrt(2)], dtype=torch.float64)
    assert log_inverse_density(of, 3, 0.1, 2.0).softmax(0).tolist() == pytest.approx([0.585786, 0.414214], abs=1e-6)
    assert log_inverse_density(of, 4, 0.1, 2.0).softmax(0).tolist() == pytest.approx([0.620204, 0.379796], abs=1e-6)
    of = torch.tensor([0.5, 1.0, 1.4], dtype=torch.float64)
    assert log_inverse_density(of, 64, 0.1, 2.0).tolist() == pytest.approx([44.9436, 8.7743, -0.3243], abs=1e-4)


def times_drawn(settings: RhoTriplet, angles: list[float], labels: list[int], n: int) -> dict[int, float]:
    """How often each row is the negative of row 0, in three dimensions."""
    radians = torch.tensor(angles).deg2rad()
    unit = torch.stack([radians.cos(), radians.sin(), torch.zeros(len(angles))], dim=1)
    generator = torch.Generator().manual_seed(0)
    counts: dict[int, float] = {}
    for _ in range(n):
        found = draw_tuples(unit, torch.tensor(labels), settings, generator)
        negative = int(found.negatives[found.anchors == 0])
        counts[negative] = counts.get(negative, 0) + 1 / n
    return counts


def test_near_negatives_are_drawn_by_the_density_of_their_distance() -> None:
    """Distances .3, 1 and 1.9 count as .5, 1 and 1.4: weights 2, 1 and 1 / 1.4 in three dimensions."""
    angles = [0.0, 10.0] + [math.degrees(2 * math.asin(d / 2)) for d in (0.3, 1.0, 1.9)]
    found = times_drawn(RhoTriplet(flip_share=0.0), angles, [0, 0, 1, 1, 1], 4000)
    total = 2 + 1 + 1 / 1.4
    expected = {2: 2 / total, 3: 1 / total, 4: 1 / 1.4 / total}
    assert found == pytest.approx(expected, abs=0.03)


@every_kind
def test_tuples_are_what_they_should_be(settings: RhoMargin | RhoTriplet | RhoContrastive) -> None:
    """Every row with a positive is an anchor once; a share of them is flipped."""
    x, labels = drawn(60, 8, 12, 3)
    unit, n_turned, n_all, partners = F.normalize(x), 0, 0, set()
    generator = torch.Generator().manual_seed(1)
    for _ in range(200):
        found = draw_tuples(unit, labels, replace(settings, flip_share=0.3), generator)
        assert found.anchors.tolist() == [i for i in range(60) if int((labels == labels[i]).sum()) > 1]
        for a, p, n in zip(*(rows.tolist() for rows in (found.anchors, found.positives, found.negatives)), strict=True):
            n_all += 1
            if p == a:
                n_turned += 1
                assert n != a and labels[n] == labels[a]
            else:
                assert labels[p] == labels[a] and labels[n] != labels[a]
                partners.add((a, p))
    assert n_turned / n_all == pytest.approx(0.3, abs=0.02)
    possible = {(i, j) for i in range(60) for j in range(60) if i != j and labels[i] == labels[j]}
    assert partners == possible  # each positive is drawn some time


def test_rows_without_partners_have_no_tuple() -> None:
    unit = F.normalize(drawn(4, 3, 1)[0])
    never, always = RhoTriplet(flip_share=0.0), RhoTriplet(flip_share=1.0)
    lone, alike = torch.tensor([0, 1, 2, 3]), torch.tensor([0, 0, 0, 0])

    def anchors_of(labels: Tensor, settings: RhoTriplet) -> list[int]:
        return draw_tuples(unit, labels, settings, torch.Generator().manual_seed(0)).anchors.tolist()

    assert anchors_of(lone, never) == anchors_of(lone, always) == []
    assert anchors_of(alike, never) == []  # there is no negative
    assert anchors_of(alike, always) == [0, 1, 2, 3]
    assert anchors_of(torch.tensor([0, 0, 1, 2]), never) == [0, 1]


def cost_of(
    settings: RhoMargin | RhoTriplet | RhoContrastive, x: Tensor, labels: Tensor, rows: list[tuple[int, int, int]]
) -> Tensor:
    """The loss where these tuples are drawn."""
    objective = RhoTuples(settings, int(labels.max()) + 1).double()
    given = Triplets(*torch.tensor(rows).T) if rows else Triplets(*torch.empty(3, 0, dtype=torch.int64))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "draw_tuples", lambda *_: given)
        return objective(batch_of(x, labels))["loss"].detach()


def test_costs_by_hand() -> None:
    """F4; the first tuple is flipped, so that its positive distance is 0: facts/objectives.md 1.3 gives .4."""
    (x, labels), turned, plain = F4, (0, 0, 1), (2, 3, 1)  # distances 0 and 1; sqrt(2) and .517638
    margin = RhoMargin(margin_distance=0.2, beta_distance=1.2)
    assert float(cost_of(margin, x, labels, [turned])) == pytest.approx(0.4, abs=1e-6)
    both = 0.4 + (0.2 + math.sqrt(2) - 1.2) + (0.2 + 1.2 - 0.517638)
    assert float(cost_of(margin, x, labels, [turned, plain])) == pytest.approx(both / 3, abs=1e-6)
    triplet = (0.0 + (math.sqrt(2) - 0.517638 + 0.2)) / 2
    assert float(cost_of(RhoTriplet(), x, labels, [turned, plain])) == pytest.approx(triplet, abs=1e-6)
    contrastive = ((0 + 0) + (math.sqrt(2) + 1 - 0.517638)) / 2
    assert float(cost_of(RhoContrastive(), x, labels, [turned, plain])) == pytest.approx(contrastive, abs=1e-6)


@every_kind
def test_no_tuple_is_a_zero_with_a_graph(settings: RhoMargin | RhoTriplet | RhoContrastive) -> None:
    x = torch.eye(3, dtype=torch.float64).requires_grad_()
    objective = RhoTuples(settings, 3)
    loss = objective(batch_of(x, torch.arange(3)))["loss"]
    loss.backward()
    assert float(loss.detach()) == 0.0 and x.grad.abs().max() == 0.0
    objective.after_step(batch_of(x.detach(), torch.arange(3)), NO_LOOK)
    assert "active_share" not in objective.curves(0)


@every_kind
def test_duplicates_stay_finite(settings: RhoMargin | RhoTriplet | RhoContrastive) -> None:
    for flip_share in (0.0, 0.5, 1.0):
        x = torch.tensor([[1.0, 0]] * 3 + [[-1.0, 0]] * 2).requires_grad_()
        objective = RhoTuples(replace(settings, flip_share=flip_share), 2)
        loss = objective(batch_of(x, torch.tensor([0, 0, 1, 1, 0])))["loss"]
        loss.backward()
        assert torch.isfinite(loss) and torch.isfinite(x.grad).all()


@every_kind
def test_gradients_are_those_of_finite_differences(settings: RhoMargin | RhoTriplet | RhoContrastive) -> None:
    """The draw is constant for the gradient; the threshold has one of its own."""
    x, labels = drawn(10, 4, 3, 5)
    objective = RhoTuples(settings, 3).double()

    def loss(embeddings: Tensor, *_: Tensor) -> Tensor:
        return objective(batch_of(embeddings, labels))["loss"]

    assert torch.autograd.gradcheck(loss, (x.requires_grad_(), *objective.parameters()))
    a, b = torch.randn(2, 6, 3, dtype=torch.float64)
    assert torch.autograd.gradcheck(row_distances, (a.requires_grad_(), b.requires_grad_()))


def test_threshold_by_class_gets_its_own_gradient() -> None:
    """A positive that is too far raises its class' threshold, a negative that is too near lowers it: distances 0 and
    1, sqrt(2) and sqrt(2), of which one each costs something."""
    objective = RhoTuples(RhoMargin(beta_distance=1.1, has_class_beta=True), 3).double()
    x, labels = F4
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "draw_tuples", lambda *_: Triplets(*torch.tensor([(0, 0, 1), (2, 3, 0)]).T))
        objective(batch_of(x, labels))["loss"].backward()
    assert objective.beta_distance.grad.tolist() == [0.5, -0.5, 0.0]
    assert objective.rates() == {"beta_distance": 50.0} and objective.undecayed() == ("beta_distance",)
    assert objective.curves(0)["beta_distance"] == pytest.approx(1.1)
    assert RhoTuples(RhoTriplet(), 3).rates() == {} and not list(RhoTuples(RhoTriplet(), 3).parameters())


def test_share_of_tuples_that_cost_something_is_told() -> None:
    x, labels = F4
    objective = RhoTuples(RhoTriplet(flip_share=0.0, margin_distance=0.0), 2)
    for step in range(50):
        objective.after_step(batch_of(x, labels, step), NO_LOOK)
    told = objective.curves(0)
    assert 0.0 < told["active_share"] < 1.0 and told["positive_cosine"] == pytest.approx(0.25, abs=1e-5)
    objective.begin_epoch(1, NO_LOOK)
    assert objective.curves(1) == {}


def test_nearest_distance_is_not_beyond_the_farthest() -> None:
    with pytest.raises(ValueError, match=r"^here.nearest_distance is 1.0, must be 0.0 to 0.9$"):
        check(RhoTriplet(nearest_distance=1.0, farthest_distance=0.9), "here")
