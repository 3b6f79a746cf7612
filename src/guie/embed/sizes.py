"""Image sizes as additional inputs of a neck (5th place).

The size is that of the packed image, whose shorter side is at most `data.pack_px`. The export computes it from its
input image.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from guie.data.packed import PackedImages
from guie.embed.halves import Halves
from guie.embed.joined import Joined
from guie.model.neck import N_SIZES, n_sizes, size_inputs
from guie.settings.neck import Neck


def sizes_of(packed: PackedImages, rows: np.ndarray) -> np.ndarray:
    """What `size_inputs` gives for `rows` of the pack, float32 [n_rows, 3]."""
    index = packed.index
    heights, widths = (
        torch.from_numpy(index[name].to_numpy()[rows].astype(np.float32)) for name in ("height", "width")
    )
    return size_inputs(heights, widths).numpy()


def sized(features: np.ndarray | Halves | Joined, packed: PackedImages, rows: np.ndarray, shape: Neck) -> np.ndarray:
    """The inputs of a neck for `rows`: their features, float32 [n_rows, feature_dim], with the image's size in three
    more columns if the neck takes it."""
    own = features[:]
    return np.concatenate([own, sizes_of(packed, rows)], axis=1) if n_sizes(shape) else own


class Sized:
    """Features on the disk with the image sizes beside them. Both are read and joined row by row."""

    def __init__(self, features: np.ndarray | Halves | Joined, sizes: np.ndarray) -> None:
        """`features` is float32 [n, feature_dim], possibly a memory map; `sizes` is float32 [n, 3]."""
        self.features, self.sizes = features, sizes

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.features)

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        """float32 [n_rows, feature_dim + 3]."""
        return np.concatenate([self.features[rows], self.sizes[rows]], axis=1)


def split_sizes(neck: nn.Linear) -> tuple[nn.Linear, Tensor]:
    """Splits a linear neck of features and sizes into a neck of features alone and the weights of the sizes.

    Without the sizes, pixels are the network's only input, so that it can be traced. What the sizes contribute is added
    where the image's size is known.

    Returns:
        The neck of features; and the weights of the sizes, float32 [embedding_dim, 3].
    """
    weight = neck.weight.detach()
    of_feature = nn.Linear(weight.shape[1] - N_SIZES, weight.shape[0], bias=neck.bias is not None)
    with torch.no_grad():
        of_feature.weight.copy_(weight[:, :-N_SIZES])
        if neck.bias is not None:
            of_feature.bias.copy_(neck.bias)
    return of_feature.requires_grad_(False).eval(), weight[:, -N_SIZES:].contiguous()
