"""The computation after the networks in every exported file: views, members, combination and projection.

These functions are TorchScript. The scripted submission and the program for `torch.export` both call them. Door 07
computes the same with numpy (`guie.embed.ensemble`), and door 08 compares each export with it on some validation
images.

This file has no `from __future__ import annotations`, because torch.jit needs annotations that are types, not strings.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from guie.settings.embed import CONTEST_DIM


def member(views: list[Tensor], by_size: Tensor, weight: float) -> Tensor:
    """A member's output, float32 [n, d]: the mean over its views, L2-normalised and multiplied by `weight`.

    Args:
        views: Outputs of the network, float32 [n, d] each.
        by_size: What the image's size adds, float32 [d] or [1, d]; zeros for necks that do not take the size.
        weight: The weight of the member.
    """
    return F.normalize(torch.stack(views).mean(dim=0) + by_size, dim=1) * weight


def combined(members: list[Tensor], is_mean: bool, power: float) -> Tensor:
    """Members' outputs, float32 [n, d] each, concatenated or averaged, then L2-normalised; with power != 1 also
    power-normalised."""
    joined = F.normalize(torch.stack(members).mean(dim=0) if is_mean else torch.cat(members, dim=1), dim=1)
    return joined if power == 1.0 else F.normalize(torch.sign(joined) * torch.abs(joined) ** power, dim=1)


def projected(joined: Tensor, center: Tensor, matrix: Tensor, has_unit_length: bool) -> Tensor:
    """PCA: (joined - center) @ matrix.T, float32 [n, dim], L2-normalised if `has_unit_length`.

    Args:
        joined: float32 [n, D].
        center: float32 [D].
        matrix: float32 [dim, D].
        has_unit_length: Whether the embeddings are L2-normalised.
    """
    embeddings = torch.matmul(joined - center, matrix.t())
    return F.normalize(embeddings, dim=1) if has_unit_length else embeddings


def checked_projection(
    projection: tuple[Tensor, Tensor] | None, width: int, dim: int = CONTEST_DIM
) -> tuple[Tensor, Tensor]:
    """Center [width] and matrix [dim, width] in float32; without a projection, zeros and the identity.

    Raises:
        ValueError: the projection has another width, or there is none and the width is not `dim`.
    """
    center, matrix = projection if projection is not None else (torch.zeros(width), torch.eye(width))
    if center.shape != (width,) or matrix.shape != (dim, width):
        raise ValueError(
            f"the towers give {width} numbers, the projection takes {list(center.shape)} and {list(matrix.shape)}; "
            f"it must be [{width}] and [{dim}, {width}]: set the final setting's pca_dim to {dim} and run door 07 again"
        )
    return center.float().contiguous(), matrix.float().contiguous()
