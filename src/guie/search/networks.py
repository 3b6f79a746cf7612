"""The forward passes of the search's models.

timm and open_clip are imported only where they are needed: this takes seconds, and an exported model does not need
them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from guie.embed.views import normalise, to_square
from guie.own.towers import Tower


class Network(Protocol):
    """A forward pass."""

    def __call__(self, images: Sequence[np.ndarray]) -> Tensor:
        """Embeds images, uint8 [height, width, 3] each, of any sizes: float [n, dim]."""


class Exported:
    """An exported file, uint8 [n, 3, height, width] -> float [n, dim]. Images of one size form one batch."""

    def __init__(self, module: torch.jit.ScriptModule) -> None:
        """Wraps a module in eval mode."""
        self.module = module

    def __call__(self, images: Sequence[np.ndarray]) -> Tensor:
        """As in `Network`."""
        groups: dict[tuple[int, ...], list[int]] = {}
        for i, image in enumerate(images):
            groups.setdefault(image.shape, []).append(i)
        outputs = [self.module(_batch([images[i] for i in group])) for group in groups.values()]
        order = np.concatenate([*map(np.asarray, groups.values())])
        return torch.cat(outputs)[torch.from_numpy(np.argsort(order))]


class OffTheShelf:
    """A backbone's feature of images that are squashed to squares, as `guie look` scores it."""

    def __init__(self, network: Tower, device: str) -> None:
        """Builds the backbone and loads its weights."""
        from guie.model.backbone import build_backbone, folded
        from guie.model.normalisation import mean_std

        backbone = build_backbone(network.model, network.image_px, network.weights)
        self.dim = backbone.feature_dim
        self.backbone = folded(backbone, network.image_px).to(device)
        self.mean, self.std = mean_std(network.model)
        self.image_px = network.image_px
        self.device = device

    def __call__(self, images: Sequence[np.ndarray]) -> Tensor:
        """As in `Network`."""
        squares = torch.cat([to_square(_batch([image]), self.image_px) for image in images]).to(self.device)
        normal = normalise(squares, self.mean, self.std)
        return self.backbone(normal.contiguous(memory_format=torch.channels_last))


def _batch(images: Sequence[np.ndarray]) -> Tensor:
    """uint8 [n, 3, height, width] of images of one size."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
