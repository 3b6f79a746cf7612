"""SphereFace and SphereFace-R: published values, pytorch-metric-learning, loops, finite differences."""

import math

import pytest
import torch
import torch.nn.functional as F
from hand_batch import batch_of, drawn
from metric_fixtures import F4, P2
from pytorch_metric_learning.losses import SphereFaceLoss
from torch import Tensor

from guie.settings.fields import check
from guie.settings.objective import SphereFace, SphereFaceR
from guie.train.objectives.sphereface import (
    SphereFaceSoftmax,
    falling_cosine,
    plain_weight_at,
    widened_cosine,
)

PLAIN = SphereFace(plain_weight_start=0.0, plain_weight_end=0.0)


def cosines_at(*degrees: float) -> Tensor:
    return torch.tensor([math.cos(math.radians(degree)) for degree in degrees], dtype=torch.float64)


def loss_of(settings: SphereFace | SphereFaceR, x: Tensor, labels: Tensor, centers: Tensor, step: int = 0) -> Tensor:
    objective = SphereFaceSoftmax(settings, *centers.shape).double()
    with torch.no_grad():
        objective.centers.copy_(centers)
    return objective(batch_of(x, labels, step))["loss"]


def test_falling_cosine_has_its_known_values() -> None:
    found = falling_cosine(cosines_at(0, 30, 60, 90, 120, 180), 4)
    assert found.tolist() == pytest.approx([1, -0.5, -1.5, -3, -4.5, -7], abs=1e-9)


@pytest.mark.parametrize("factor", [1, 2, 3, 4, 7])
def test_falling_cosine_falls_without_a_jump(factor: int) -> None:
    found = falling_cosine(cosines_at(*[i / 10 for i in range(1801)]), factor)
    steps = found.diff()
    assert (steps < 1e-12).all() and steps.abs().max() < 0.003 * factor
    assert found[[0, -1]].tolist() == pytest.approx([1, 1 - 2 * factor])


def test_widened_cosine_has_its_known_values() -> None:
    found = widened_cosine(cosines_at(60, 90, 150, 180), 1.5)
    assert found.tolist() == pytest.approx([0, -0.707107, -1, -1], abs=1e-6)
    assert widened_cosine(cosines_at(0), 1.5).tolist() == pytest.approx([1], abs=1e-5)


@pytest.mark.parametrize(("lengths", "value"), [((1, 1, 1, 1), 1.302296), ((1, 2, 3, 4), 3.275751)])
def test_sphereface_has_its_known_values(lengths: tuple[int, ...], value: float) -> None:
    x = F4[0] * torch.tensor(lengths, dtype=torch.float64)[:, None]
    assert float(loss_of(PLAIN, x, F4[1], P2[0]).detach()) == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize("factor", [2, 4])
def test_sphereface_equals_pytorch_metric_learning(factor: int) -> None:
    """Loss and gradients, of embeddings of any length."""
    x, labels = drawn(25, 6, 5)
    theirs = SphereFaceLoss(5, 6, margin=factor, scale=1).double()
    settings = SphereFace(angle_factor=factor, plain_weight_start=0.0, plain_weight_end=0.0)
    mine = SphereFaceSoftmax(settings, 5, 6).double()
    with torch.no_grad():
        mine.centers.copy_(theirs.W.T)
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    one, other = mine(batch_of(a, labels))["loss"], theirs(b, labels)
    one.backward()
    other.backward()
    assert float(one.detach()) == pytest.approx(float(other.detach()), rel=1e-9)
    torch.testing.assert_close(a.grad, b.grad, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(mine.centers.grad, theirs.W.grad.T, rtol=1e-6, atol=1e-9)


def loop(settings: SphereFace | SphereFaceR, x: Tensor, labels: Tensor, centers: Tensor, weight: float) -> float:
    """The mean cross entropy, one logit after the other, by angles."""
    total = 0.0
    for row, label in zip(x, labels.tolist(), strict=True):
        length, logits = float(row.norm()), []
        for c, center in enumerate(centers):
            angle = math.acos(float(row @ center / row.norm() / center.norm()))
            value = math.cos(angle)
            if c == label and isinstance(settings, SphereFace):
                m = settings.angle_factor
                k = min(int(m * angle / math.pi), m - 1)
                psi = (-1) ** k * math.cos(m * angle) - 2 * k
                value = (weight * value + psi) / (1 + weight)
            elif c == label:
                value = math.cos(min(settings.angle_factor, math.pi / angle) * angle)
            logits.append(value * (length if isinstance(settings, SphereFace) else settings.scale))
        total += math.log(sum(math.exp(logit) for logit in logits)) - logits[label]
    return total / len(labels)


@pytest.mark.parametrize("step", [0, 10, 100_000])
def test_weight_of_the_plain_cosine_falls_during_the_stage(step: int) -> None:
    weight = {0: 1000.0, 10: 1000 / 2.2, 100_000: 5.0}[step]
    assert plain_weight_at(SphereFace(), step) == pytest.approx(weight)
    (x, labels), centers = drawn(12, 4, 3), drawn(3, 4, 1, 7)[0]
    expected = loop(SphereFace(), x, labels, centers, weight)
    assert float(loss_of(SphereFace(), x, labels, centers, step).detach()) == pytest.approx(expected, rel=1e-9)


def test_fixed_scale_form_equals_a_loop_whatever_the_lengths() -> None:
    (x, labels), centers = drawn(30, 4, 3), drawn(3, 4, 1, 7)[0]
    settings = SphereFaceR(angle_factor=1.7, scale=12.0)
    expected = loop(settings, x, labels, centers, 0.0)
    for lengths in (1.0, torch.linspace(0.1, 9, 30, dtype=torch.float64)[:, None]):
        assert float(loss_of(settings, x * lengths, labels, centers).detach()) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("settings", [PLAIN, SphereFace(), SphereFaceR()])
def test_gradients_are_those_of_finite_differences(settings: SphereFace | SphereFaceR) -> None:
    x, labels = drawn(8, 4, 3, 2)
    objective = SphereFaceSoftmax(settings, 3, 4).double()
    with torch.no_grad():
        objective.centers.copy_(drawn(3, 4, 1, 8)[0])
    given = (x.requires_grad_(), objective.centers)
    assert torch.autograd.gradcheck(lambda e, _: objective(batch_of(e, labels, 3))["loss"], given)


@pytest.mark.parametrize("settings", [PLAIN, SphereFace(), SphereFaceR()])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_on_their_centre_and_opposite_stay_finite(settings: SphereFace | SphereFaceR, dtype: torch.dtype) -> None:
    centers = F.normalize(torch.randn(50, 16, generator=torch.Generator().manual_seed(0), dtype=dtype))
    x = torch.cat([centers, -centers]).requires_grad_()  # some float32 cosines are above 1
    objective = SphereFaceSoftmax(settings, 50, 16).to(dtype)
    with torch.no_grad():
        objective.centers.copy_(centers)
    loss = objective(batch_of(x, torch.arange(50).repeat(2), 10_000))["loss"]
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(x.grad).all() and torch.isfinite(objective.centers.grad).all()


def test_weight_of_the_plain_cosine_cannot_rise() -> None:
    with pytest.raises(ValueError, match=r"^here.plain_weight_end is 5.0, must be 0.0 to 1.0$"):
        check(SphereFace(plain_weight_start=1.0), "here")
