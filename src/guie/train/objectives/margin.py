"""ArcFace, CosFace and normalised softmax over any number of classes.

The [batch, n_classes] logits are never materialised: the loss is computed in blocks of a few thousand classes, which
are computed again in the backward pass. A million classes and a batch of 256 would be a gigabyte of logits in float32,
of which a loss written in steps keeps four or five copies. All of it is in float32 (float64 for float64 inputs),
whatever the precision around it.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from guie.settings.objectives.margins import ClassMargin, GrowingMargin

# Closer to +-1 than this the cosine counts as constant: d(acos)/d(cos) is 707 here and infinite at 1, and float32 puts
# the cosine of a vector with itself above 1 for a fifth of all vectors.
EPSILON = 1e-6
# Logits at a time, by type of device. 4 MB stay in a CPU's cache. A card gets 64 MB, since small blocks wait for their
# launches: a million classes in blocks of 4 MB took 16 times pytorch-metric-learning's time on an H200.
BLOCK = {"cpu": 1 << 20, "cuda": 1 << 24}
KINDS = ("arcface", "cosface", "softmax")


def margin_at(margin: GrowingMargin, epoch: int) -> float:
    """The margin of the epoch, counted from 0."""
    return min(margin.start + epoch * margin.step, margin.max)


def class_margins(margin: ClassMargin, counts: Tensor) -> Tensor:
    """The margin of each class in radians, float32 [n_classes], of its training rows, [n_classes].

    Source: 3rd place of Google Landmark Recognition 2020, arXiv 2010.05350; there the powers of the data's own extremes
    are the ends.
    """
    powers = counts.double().clamp_min(1) ** margin.power
    low, high = powers.min(), powers.max()
    share = (powers - low) / (high - low) if high > low else torch.ones_like(powers)
    return (margin.low + (margin.high - margin.low) * share).float()


def shifted_cosine(cosine: Tensor, margin: float | Tensor, kind: str) -> tuple[Tensor, Tensor]:
    """The cosine of a row and its own class with the margin, and the slope d(shifted)/d(cosine).

    ArcFace adds the margin to the angle (arXiv 1801.07698, equation 3); where the angle exceeds pi - margin, cos(angle
    + margin) would grow again, and the cosine is lowered by margin * sin(margin) instead, as in the reference
    implementation. CosFace (arXiv 1801.09414) lowers the cosine by the margin. Softmax, normalised, leaves it.

    Args:
        cosine: float [n].
        margin: One for all, or float [n].
        kind: One of `KINDS`.
    """
    one = torch.ones_like(cosine)
    if kind == "softmax":
        return cosine, one
    margin = torch.as_tensor(margin, dtype=cosine.dtype, device=cosine.device)
    if kind == "cosface":
        return cosine - margin, one
    inside = cosine.clamp(-1 + EPSILON, 1 - EPSILON)
    sine = (1 - inside * inside).sqrt()
    is_plain = inside > torch.cos(math.pi - margin)
    shifted = torch.where(is_plain, inside * margin.cos() - sine * margin.sin(), inside - margin * margin.sin())
    slope = torch.where(is_plain, margin.cos() + inside / sine * margin.sin(), one)
    return shifted, slope * (inside == cosine)


def margin_cross_entropy(
    embeddings: Tensor,
    centers: Tensor,
    labels: Tensor,
    margin: float | Tensor,
    scale: float,
    kind: str = "arcface",
    smoothing: float = 0.0,
    n_sub: int = 1,
) -> Tensor:
    """The mean cross entropy of scaled cosines, the own class's with a margin.

    Args:
        embeddings: float [n, dim], of any length and precision.
        centers: float [n_classes * n_sub, dim], of any length; the sub-centres of a class follow each other.
        labels: int64 [n], 0 to n_classes - 1.
        margin: In radians (cosface: in cosine); one for all, or float [n].
        scale: s.
        kind: One of `KINDS`.
        smoothing: Share of the target that is spread over all classes.
        n_sub: Sub-centres of each class, of which the nearest counts (Deng et al., Sub-center ArcFace, ECCV 2020).

    Returns:
        float32 (or float64), a scalar.
    """
    with torch.autocast(embeddings.device.type, enabled=False):
        wide = embeddings if embeddings.dtype == torch.float64 else embeddings.float()
        losses: Tensor = _MarginCrossEntropy.apply(
            F.normalize(wide), centers, labels, margin, scale, kind, smoothing, n_sub
        )
        return losses.mean()


class _MarginCrossEntropy(torch.autograd.Function):
    """Each row's loss, [n], of unit embeddings; exact gradients for embeddings and centres."""

    @staticmethod
    def forward(
        ctx: Any,
        unit: Tensor,
        centers: Tensor,
        labels: Tensor,
        margin: float | Tensor,
        scale: float,
        kind: str,
        smoothing: float,
        n_sub: int,
    ) -> Tensor:
        n_classes = len(centers) // n_sub
        own_centers = F.normalize(centers.view(n_classes, n_sub, -1)[labels].to(unit.dtype), dim=2)
        own, own_sub = torch.einsum("nd,nkd->nk", unit, own_centers).max(dim=1)
        shifted, slope = shifted_cosine(own, margin, kind)
        total = torch.full_like(own, -math.inf)
        spread = torch.zeros_like(own)
        for start, stop in _blocks(n_classes, n_sub, unit):
            logits, _, _ = _block_logits(unit, centers, start, stop, n_sub, scale)
            _set_own(logits, labels, start, scale * shifted)
            total = torch.logaddexp(total, logits.logsumexp(dim=1))
            if smoothing:
                spread += logits.sum(dim=1)
        ctx.save_for_backward(unit, centers, labels, total, shifted, slope, own_sub)
        ctx.settings = (scale, smoothing, n_sub)
        return total - (1 - smoothing) * scale * shifted - smoothing / n_classes * spread

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        unit, centers, labels, total, shifted, slope, own_sub = ctx.saved_tensors
        scale, smoothing, n_sub = ctx.settings
        n_classes = len(centers) // n_sub
        unit_grad = torch.zeros_like(unit)
        centers_grad = torch.empty_like(centers) if ctx.needs_input_grad[1] else None
        for start, stop in _blocks(n_classes, n_sub, unit):
            of_block = slice(start * n_sub, stop * n_sub)
            logits, directions, nearest = _block_logits(unit, centers, start, stop, n_sub, scale)
            rows, columns = _set_own(logits, labels, start, scale * shifted)
            slopes = logits.sub_(total[:, None]).exp_().sub_(smoothing / n_classes)  # of the loss by the logits
            slopes[rows, columns] -= 1 - smoothing
            slopes.mul_(gradients[0][:, None] * scale)  # by the cosines
            slopes[rows, columns] *= slope[rows]
            if nearest is not None:
                nearest[rows, columns] = own_sub[rows]
                slopes = _to_sub_centers(slopes, nearest, n_sub)
            unit_grad += slopes @ directions
            if centers_grad is not None:
                centers_grad[of_block] = _pull(slopes, unit, centers[of_block], directions)
        return unit_grad, centers_grad, None, None, None, None, None, None


def _to_sub_centers(slopes: Tensor, nearest: Tensor, n_sub: int) -> Tensor:
    """Slopes by the cosines of classes, [n, n_classes], given to each class' nearest sub-centre: [n, n_classes *
    n_sub]."""
    spread = torch.zeros(*slopes.shape, n_sub, dtype=slopes.dtype, device=slopes.device)
    return spread.scatter_(2, nearest[..., None], slopes[..., None]).flatten(1)


def _pull(slopes: Tensor, unit: Tensor, centers: Tensor, directions: Tensor) -> Tensor:
    """The gradient of centres, [k, dim], of the slopes by their cosines, [n, k]; `directions` are the centres at length
    one."""
    pull = slopes.T @ unit
    pull -= directions * (directions * pull).sum(dim=1, keepdim=True)  # a centre's length changes nothing
    lengths = centers.to(unit.dtype).norm(dim=1, keepdim=True).clamp_min(1e-12)
    return pull.div_(lengths)


def _blocks(n_classes: int, n_sub: int, unit: Tensor) -> list[tuple[int, int]]:
    """First and last class of each block, of at most `BLOCK` logits of all rows of `unit`."""
    step = max(1, BLOCK.get(unit.device.type, BLOCK["cpu"]) // max(1, len(unit) * n_sub))
    return [(start, min(start + step, n_classes)) for start in range(0, n_classes, step)]


def _block_logits(
    unit: Tensor, centers: Tensor, start: int, stop: int, n_sub: int, scale: float
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Scaled cosines of a block of classes, [n, stop - start], its unit centres, and which sub-centre was nearest."""
    directions = F.normalize(centers[start * n_sub : stop * n_sub].to(unit.dtype))
    cosines = unit @ directions.T
    nearest = None
    if n_sub > 1:
        cosines, nearest = cosines.view(len(unit), -1, n_sub).max(dim=2)
    return cosines.mul_(scale), directions, nearest


def _set_own(logits: Tensor, labels: Tensor, start: int, own: Tensor) -> tuple[Tensor, Tensor]:
    """Puts the logits of the own classes, [n], into a block of logits, [n, n_classes], in place; their rows and
    columns.

    Args:
        logits: Of the classes from `start` on.
        labels: int64 [n].
        start: The block's first class.
        own: float [n].
    """
    rows = ((labels >= start) & (labels < start + logits.shape[1])).nonzero()[:, 0]
    columns = labels[rows] - start
    logits[rows, columns] = own[rows]
    return rows, columns
