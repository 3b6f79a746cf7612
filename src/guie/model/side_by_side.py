"""Several backbones that see the same image. Their features are concatenated."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from guie.model.normalisation import MeanStd


class Renormalised(nn.Module):
    """Converts pixels that are normalised by one mean and standard deviation to those of another network."""

    scale: Tensor
    shift: Tensor

    def __init__(self, of_input: MeanStd, of_output: MeanStd) -> None:
        """Takes two pairs of mean and standard deviation by channel, of pixels in 0..1."""
        super().__init__()
        (mean, std), (own_mean, own_std) = (torch.tensor(pair, dtype=torch.float64) for pair in (of_input, of_output))
        self.register_buffer("scale", (std / own_std).float().view(1, 3, 1, 1))
        self.register_buffer("shift", ((mean - own_mean) / own_std).float().view(1, 3, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        """float32 [n, 3, h, w] in and out."""
        return pixels * self.scale + self.shift


class SideBySide(nn.Module):
    """Several backbones as one network: each feature is L2-normalised, then they are concatenated.

    Without the normalisation the backbone with the longest features would dominate all cosines.
    """

    def __init__(self, backbones: Sequence[nn.Module], pixels: Sequence[MeanStd]) -> None:
        """Takes backbones and the mean and std that each was trained with; inputs are normalised by the first pair."""
        super().__init__()
        self.backbones = nn.ModuleList(backbones)
        self.pixels = nn.ModuleList(
            nn.Identity() if own == pixels[0] else Renormalised(pixels[0], own) for own in pixels
        )

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalised pixels, float32 [n, 3, px, px], to features, float [n, sum of the widths]."""
        features = [own(change(pixels)) for own, change in zip(self.backbones, self.pixels, strict=True)]
        return torch.cat([F.normalize(feature, dim=1) for feature in features], dim=1)
