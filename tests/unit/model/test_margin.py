"""ArcFace against pytorch-metric-learning, a loop by hand, and the places where others' gradients break."""

import math

import pytest
import torch
import torch.nn.functional as F
from pytorch_metric_learning.losses import ArcFaceLoss

from guie.model.margin import ArcFace, arcface_logits, margin_at
from guie.recipe import EpochMargin


def unit(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype), dim=-1)


@pytest.mark.parametrize("margin_rad", [0.0, 0.1, 0.5, 0.8])
@pytest.mark.parametrize("scale", [16.0, 30.0, 64.0])
def test_loss_and_gradient_equal_pytorch_metric_learning(margin_rad: float, scale: float) -> None:
    oracle = ArcFaceLoss(num_classes=7, embedding_size=16, margin=math.degrees(margin_rad), scale=scale).double()
    embeddings, labels = unit(40, 16) * 3, torch.arange(40) % 7
    ours_in, theirs_in = embeddings.clone().requires_grad_(), embeddings.clone().requires_grad_()
    centers = oracle.W.detach().T.clone().requires_grad_()  # theirs stands on its side: [dim, n_classes]
    ours = F.cross_entropy(arcface_logits(ours_in, centers, labels, margin_rad, scale), labels)
    theirs = oracle(theirs_in, labels)
    ours.backward()
    theirs.backward()
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-9)
    torch.testing.assert_close(ours_in.grad, theirs_in.grad, rtol=1e-6, atol=1e-10)
    torch.testing.assert_close(centers.grad, oracle.W.grad.T, rtol=1e-6, atol=1e-10)


def test_logits_equal_a_loop_over_angles() -> None:
    embeddings, centers, labels = unit(12, 5, seed=1), unit(4, 5, seed=2), torch.arange(12) % 4
    got = arcface_logits(embeddings, centers, labels, 0.4, 30.0)
    for i in range(12):
        for c in range(4):
            angle = math.acos(float(embeddings[i] @ centers[c]))
            if c == labels[i]:
                value = math.cos(angle + 0.4) if angle + 0.4 < math.pi else math.cos(angle) - 0.4 * math.sin(0.4)
            else:
                value = math.cos(angle)
            assert float(got[i, c]) == pytest.approx(30 * value, abs=1e-9)


def test_own_logit_falls_with_the_angle_over_the_whole_circle() -> None:
    angles = torch.linspace(0, math.pi, 181, dtype=torch.float64)
    embeddings = torch.stack([angles.cos(), angles.sin()], dim=1)
    own = arcface_logits(embeddings, torch.tensor([[1.0, 0.0]], dtype=torch.float64), torch.zeros(181, dtype=torch.long), 0.5, 1.0)[:, 0]
    beyond = angles > math.pi - 0.5
    assert (own[~beyond].diff() < 1e-9).all() and (own[beyond].diff() < 1e-9).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("cosine", [1.0, -1.0, 1 - 1e-7, -1 + 1e-7, 0.0])
def test_gradients_are_finite_at_extreme_cosines(cosine: float, dtype: torch.dtype) -> None:
    embeddings = torch.tensor([[cosine, math.sqrt(max(0.0, 1 - cosine**2))]], dtype=dtype, requires_grad=True)
    centers = torch.tensor([[1.0, 0.0], [0.3, 0.7]], requires_grad=True)
    logits = arcface_logits(embeddings, centers, torch.tensor([0]), 0.5, 64.0)
    F.cross_entropy(logits, torch.tensor([0])).backward()
    assert torch.isfinite(logits).all()
    assert torch.isfinite(embeddings.grad).all() and torch.isfinite(centers.grad).all()


def test_gradients_are_finite_where_fp32_cosines_exceed_one() -> None:
    embeddings = unit(4000, 64, dtype=torch.float32)
    assert (F.normalize(embeddings) * F.normalize(embeddings)).sum(1).max() > 1  # the trap is there
    centers = embeddings.clone().requires_grad_()
    inputs = embeddings.clone().requires_grad_()
    labels = torch.arange(4000)
    F.cross_entropy(arcface_logits(inputs, centers, labels, 0.5, 30.0), labels).backward()
    assert torch.isfinite(inputs.grad).all() and torch.isfinite(centers.grad).all()


def test_logits_stay_float32_under_bf16_autocast() -> None:
    classifier = ArcFace(5, 8, 30.0)
    embeddings, labels = unit(6, 8, dtype=torch.float32), torch.arange(6) % 5
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = classifier(embeddings, labels, 0.3)
    torch.testing.assert_close(inside, classifier(embeddings, labels, 0.3))
    assert inside.dtype == torch.float32 and classifier.centers.dtype == torch.float32


def test_margin_grows_by_the_epoch_to_its_cap() -> None:
    second_place = EpochMargin(0.1, 0.1, 0.8)
    assert [round(margin_at(second_place, e), 3) for e in range(10)] == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.8, 0.8]
