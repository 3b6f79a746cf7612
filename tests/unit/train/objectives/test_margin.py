"""The margin losses against pytorch-metric-learning, a loop by hand, and the places where others' gradients break."""

import math
import typing
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from pytorch_metric_learning.losses import ArcFaceLoss, CosFaceLoss, NormalizedSoftmaxLoss, SubCenterArcFaceLoss
from torch import Tensor

from guie.settings.objective import ArcFace, ClassMargin, CosFace, GrowingMargin, ObjectiveSettings, Softmax
from guie.train.objectives import margin as module
from guie.train.objectives.base import Batch
from guie.train.objectives.class_means import point_at_means
from guie.train.objectives.margin import (
    KINDS,
    class_margins,
    margin_at,
    margin_cross_entropy,
    shifted_cosine,
)
from guie.train.objectives.margin_softmax import MarginSoftmax


def unit(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype), dim=-1)


@pytest.fixture(params=[1 << 20, 100], ids=["one block", "many blocks"])
def block(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(module.BLOCK, "cpu", request.param)


def objective_of(settings: ObjectiveSettings, n_classes: int, dim: int) -> MarginSoftmax:
    return MarginSoftmax(settings, n_classes, dim, torch.ones(n_classes))


def loss_of(objective: MarginSoftmax, embeddings: Tensor, labels: Tensor, epoch: int = 0) -> Tensor:
    items = torch.arange(len(labels))
    (loss,) = objective(Batch(embeddings, embeddings, labels, items, torch.zeros_like(items), epoch, 0)).values()
    return loss


def compare(
    ours: Callable[[Tensor, Tensor], Tensor], oracle: torch.nn.Module, labels: Tensor, embeddings: Tensor
) -> None:
    """Loss and both gradients; the library's centres stand on their side: [dim, n]."""
    mine, theirs = embeddings.clone().requires_grad_(), embeddings.clone().requires_grad_()
    centers = oracle.W.detach().T.clone().requires_grad_()
    left, right = ours(mine, centers), oracle(theirs, labels)
    left.backward()
    right.backward()
    assert left.item() == pytest.approx(right.item(), rel=1e-9)
    torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-6, atol=1e-10)
    torch.testing.assert_close(centers.grad, oracle.W.grad.T, rtol=1e-6, atol=1e-10)


LABELS = torch.arange(40) % 7


@pytest.mark.usefixtures("block")
@pytest.mark.parametrize("margin_rad", [0.0, 0.1, 0.5, 0.8])
@pytest.mark.parametrize("scale", [16.0, 30.0, 64.0])
def test_arcface_equals_pytorch_metric_learning(margin_rad: float, scale: float) -> None:
    oracle = ArcFaceLoss(num_classes=7, embedding_size=16, margin=math.degrees(margin_rad), scale=scale).double()
    compare(lambda x, w: margin_cross_entropy(x, w, LABELS, margin_rad, scale), oracle, LABELS, unit(40, 16) * 3)


@pytest.mark.usefixtures("block")
def test_cosface_and_softmax_equal_pytorch_metric_learning() -> None:
    cosface = CosFaceLoss(num_classes=7, embedding_size=16, margin=0.35, scale=30).double()
    compare(lambda x, w: margin_cross_entropy(x, w, LABELS, 0.35, 30.0, "cosface"), cosface, LABELS, unit(40, 16) * 3)
    softmax = NormalizedSoftmaxLoss(num_classes=7, embedding_size=16, temperature=1 / 30).double()
    compare(lambda x, w: margin_cross_entropy(x, w, LABELS, 0.5, 30.0, "softmax"), softmax, LABELS, unit(40, 16))


@pytest.mark.usefixtures("block")
def test_sub_centers_equal_pytorch_metric_learning() -> None:
    oracle = SubCenterArcFaceLoss(
        num_classes=7, embedding_size=16, margin=math.degrees(0.3), scale=30, sub_centers=3
    ).double()
    compare(lambda x, w: margin_cross_entropy(x, w, LABELS, 0.3, 30.0, n_sub=3), oracle, LABELS, unit(40, 16) * 3)


@pytest.mark.usefixtures("block")
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_loss_equals_a_loop_over_angles(smoothing: float) -> None:
    embeddings, centers, labels = unit(12, 5, seed=1), unit(4, 5, seed=2), torch.arange(12) % 4
    losses = []
    for i in range(12):
        logits = []
        for c in range(4):
            angle = math.acos(float(embeddings[i] @ centers[c]))
            value = math.cos(angle)
            if c == labels[i]:
                value = math.cos(angle + 0.4) if angle + 0.4 < math.pi else math.cos(angle) - 0.4 * math.sin(0.4)
            logits.append(30 * value)
        log_sum = math.log(sum(math.exp(logit) for logit in logits))
        losses.append(
            (1 - smoothing) * (log_sum - logits[int(labels[i])])
            + smoothing * sum(log_sum - logit for logit in logits) / 4
        )
    got = margin_cross_entropy(embeddings, centers, labels, 0.4, 30.0, smoothing=smoothing)
    assert float(got) == pytest.approx(sum(losses) / 12, abs=1e-9)


@pytest.mark.usefixtures("block")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_sub", [1, 3])
def test_gradients_equal_finite_differences(kind: str, n_sub: int) -> None:
    margins = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5], dtype=torch.float64)  # one for each row
    inputs = ((unit(5, 8) * 2).requires_grad_(), (unit(7 * n_sub, 8, seed=1) * 0.3).requires_grad_())
    assert torch.autograd.gradcheck(
        lambda x, w: margin_cross_entropy(x, w, LABELS[:5], margins, 8.0, kind, 0.1, n_sub), inputs
    )


def test_frozen_centers_get_no_gradient_and_cost_none() -> None:
    embeddings, centers = unit(6, 8).requires_grad_(), unit(5, 8, seed=1)
    margin_cross_entropy(embeddings, centers, LABELS[:6] % 5, 0.3, 30.0).backward()
    assert centers.grad is None and embeddings.grad is not None and embeddings.grad.abs().sum() > 0


def test_own_cosine_falls_with_the_angle_over_the_whole_circle() -> None:
    own, slope = shifted_cosine(torch.linspace(0, math.pi, 181, dtype=torch.float64).cos(), 0.5, "arcface")
    beyond = torch.linspace(0, math.pi, 181, dtype=torch.float64) > math.pi - 0.5
    assert (own[~beyond].diff() < 1e-9).all() and (own[beyond].diff() < 1e-9).all()
    assert (slope >= 0).all()


@pytest.mark.parametrize("margin", [0.1, 0.5, 0.8])
def test_shifted_cosine_is_that_of_the_angle_on_both_sides_of_pi_minus_the_margin(margin: float) -> None:
    """Angle + margin beyond pi: the reference implementation takes cos(angle) - margin * sin(margin)."""
    angles = [0.2, 1.0, math.pi / 2, 2.0, math.pi - margin - 0.01, math.pi - margin + 0.01, math.pi - 0.05]
    expected = [
        math.cos(a + margin) if a + margin < math.pi else math.cos(a) - margin * math.sin(margin) for a in angles
    ]
    got, slope = shifted_cosine(torch.tensor(angles, dtype=torch.float64).cos(), margin, "arcface")
    assert got.tolist() == pytest.approx(expected, abs=1e-12)
    slopes = [
        math.sin(a + margin) / math.sin(a) if a + margin < math.pi else 1.0 for a in angles
    ]  # d cos(a + m) / d cos(a)
    assert slope.tolist() == pytest.approx(slopes, abs=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("cosine", [1.0, -1.0, 1 - 1e-7, -1 + 1e-7, 0.0])
def test_gradients_are_finite_at_extreme_cosines(cosine: float, dtype: torch.dtype) -> None:
    embeddings = torch.tensor([[cosine, math.sqrt(max(0.0, 1 - cosine**2))]], dtype=dtype, requires_grad=True)
    centers = torch.tensor([[1.0, 0.0], [0.3, 0.7]], requires_grad=True)
    loss = margin_cross_entropy(embeddings, centers, torch.tensor([0]), 0.5, 64.0)
    loss.backward()
    assert torch.isfinite(loss) and embeddings.grad.dtype == dtype
    assert torch.isfinite(embeddings.grad).all() and torch.isfinite(centers.grad).all()


def test_gradients_are_finite_where_fp32_cosines_exceed_one() -> None:
    embeddings = unit(4000, 64, dtype=torch.float32)
    assert (F.normalize(embeddings) * F.normalize(embeddings)).sum(1).max() > 1  # the trap is there
    centers = embeddings.clone().requires_grad_()
    inputs = embeddings.clone().requires_grad_()
    margin_cross_entropy(inputs, centers, torch.arange(4000), 0.5, 30.0).backward()
    assert torch.isfinite(inputs.grad).all() and torch.isfinite(centers.grad).all()


def test_loss_is_finite_where_every_class_is_behind() -> None:
    """exp of all logits underflows in float32 at scale 64; a running maximum keeps the loss."""
    loss = margin_cross_entropy(
        torch.tensor([[1.0, 0.0]]), torch.tensor([[-1.0, 0.0], [-1.0, 0.01]]), torch.tensor([0]), 0.5, 200.0
    )
    assert torch.isfinite(loss) and loss > 0


def test_loss_stays_float32_under_bf16_autocast() -> None:
    objective = objective_of(ArcFace(margin_rad=0.3), 5, 8)
    embeddings, labels = unit(6, 8, dtype=torch.float32), torch.arange(6) % 5
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = loss_of(objective, embeddings, labels)
    torch.testing.assert_close(inside, loss_of(objective, embeddings, labels))
    assert inside.dtype == torch.float32 and objective.centers.dtype == torch.float32


def test_margin_grows_by_the_epoch_to_its_cap() -> None:
    second_place = GrowingMargin(0.1, 0.1, 0.8)
    assert [round(margin_at(second_place, e), 3) for e in range(10)] == [
        0.1,
        0.2,
        0.3,
        0.4,
        0.5,
        0.6,
        0.7,
        0.8,
        0.8,
        0.8,
    ]


def test_every_kind_has_its_settings() -> None:
    assert {kind.__name__.lower() for kind in typing.get_args(ObjectiveSettings)} >= set(KINDS)
    assert tuple(objective_of(kind(), 3, 4).kind for kind in (ArcFace, CosFace, Softmax)) == KINDS


def test_class_margins_are_the_landmark_winners() -> None:
    """facts/metric_learning.md D2: counts 1 to 10,000 at power -1/4, .05 to .5."""
    counts = torch.tensor([1, 3, 10, 30, 100, 1000, 10_000])
    margins = class_margins(ClassMargin(0.05, 0.5), counts)
    assert [round(value, 2) for value in margins.tolist()] == [0.50, 0.38, 0.28, 0.21, 0.16, 0.09, 0.05]
    assert class_margins(ClassMargin(0.05, 0.5), torch.tensor([7, 7])).tolist() == [0.5, 0.5]


@pytest.mark.parametrize("n_sub", [1, 2])
def test_centers_start_at_the_class_means(n_sub: int) -> None:
    objective = objective_of(ArcFace(margin_rad=0.5, n_sub_centers=n_sub), 4, 8)
    before = objective.centers.detach().clone()
    embeddings = (
        unit(30, 8, dtype=torch.float32) * torch.linspace(0.3, 9, 30)[:, None]
    )  # a long embedding counts as much as a short one
    labels = torch.arange(30) % 3  # class 3 has none
    point_at_means(objective.centers, n_sub, embeddings, labels)
    for c in range(3):
        mean = F.normalize(F.normalize(embeddings[labels == c]).mean(0), dim=0)
        cosines = F.normalize(objective.centers.detach().view(4, n_sub, 8)[c], dim=1) @ mean
        assert (cosines > (0.9999 if n_sub == 1 else 0.99)).all() and (
            n_sub == 1 or cosines.max() - cosines.min() < 0.01
        )
    assert torch.equal(objective.centers.view(4, n_sub, 8)[3], before.view(4, n_sub, 8)[3])
    assert torch.isfinite(loss_of(objective, embeddings, labels))


def test_single_image_classes_start_exactly_at_their_image_and_stay_finite() -> None:
    """The trap of facts/metric_learning.md A2: the cosine is 1 for sure, and others' gradients are infinite there."""
    objective = objective_of(ArcFace(margin_rad=0.5, scale=64.0), 50, 16)
    embeddings = unit(50, 16, dtype=torch.float32).requires_grad_()
    point_at_means(objective.centers, 1, embeddings.detach(), torch.arange(50))
    loss_of(objective, embeddings, torch.arange(50)).backward()
    assert torch.isfinite(embeddings.grad).all() and torch.isfinite(objective.centers.grad).all()
