"""What follows the networks in every exported file: members, views, combination and projection, once for all forms.

These functions are TorchScript: the scripted submission and the program for `torch.export` call the same ones. Door 07
computes the same with numpy (`guie.embed.ensemble`), and each export is compared with it image by image.

This file does without `from __future__ import annotations`: torch.jit reads annotations as types, not as texts.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

EMBEDDING_DIM = 64  # the contest's limit


def member(views: list[Tensor], by_size: Tensor, weight: float) -> Tensor:
    """A member's output: the mean over its views, of length `weight`.

    Args:
        views: Outputs of the network, float32 [n, d] each.
        by_size: What the image's size adds, float32 [d] or [1, d]; zeros for necks that do not take it.
        weight: The member's.
    """
    return F.normalize(torch.stack(views).mean(dim=0) + by_size, dim=1) * weight


def combined(members: list[Tensor], is_mean: bool, power: float) -> Tensor:
    """Members' outputs, float32 [n, d] each, concatenated or averaged, then L2-normalised; with power != 1 also
    power-normalised."""
    joined = F.normalize(torch.stack(members).mean(dim=0) if is_mean else torch.cat(members, dim=1), dim=1)
    return joined if power == 1.0 else F.normalize(torch.sign(joined) * torch.abs(joined) ** power, dim=1)


def projected(joined: Tensor, center: Tensor, matrix: Tensor, has_unit_length: bool) -> Tensor:
    """PCA: (joined - center) @ matrix.T, float32 [n, 64], of length one if asked for.

    Args:
        joined: float32 [n, D].
        center: float32 [D].
        matrix: float32 [64, D].
        has_unit_length: Whether embeddings leave with length one.
    """
    embeddings = torch.matmul(joined - center, matrix.t())
    return F.normalize(embeddings, dim=1) if has_unit_length else embeddings


def checked_projection(projection: tuple[Tensor, Tensor] | None, width: int) -> tuple[Tensor, Tensor]:
    """Center [width] and matrix [64, width] in float32; without a projection, those that change nothing.

    Raises:
        ValueError: the projection is for another width.
    """
    center, matrix = projection if projection is not None else (torch.zeros(width), torch.eye(width))
    if center.shape != (width,) or matrix.shape != (EMBEDDING_DIM, width):
        raise ValueError(
            f"the towers give {width} numbers, the projection takes {list(center.shape)} and {list(matrix.shape)}; "
            f"it must be [{width}] and [{EMBEDDING_DIM}, {width}]: set the final setting's pca_dim to {EMBEDDING_DIM} "
            "and run "
            "door 07 again"
        )
    return center.float().contiguous(), matrix.float().contiguous()
