"""An image's size beside its feature, for necks that take it (5th place).

The size is that of the packed image, whose shorter side is at most `data.pack_px`; the export works it out from the
image it is given.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from guie.data.packed import PackedImages
from guie.embed.halves import Halves
from guie.model.neck import N_SIZES, n_sizes, size_inputs
from guie.settings.stage import Neck


def sizes_of(packed: PackedImages, rows: np.ndarray) -> np.ndarray:
    """What `size_inputs` gives for `rows` of the pack, float32 [n_rows, 3]."""
    index = packed.index
    heights, widths = (
        torch.from_numpy(index[name].to_numpy()[rows].astype(np.float32)) for name in ("height", "width")
    )
    return size_inputs(heights, widths).numpy()


def sized(features: np.ndarray | Halves, packed: PackedImages, rows: np.ndarray, shape: Neck) -> np.ndarray:
    """The features of `rows` as a neck of this shape takes them: float32 [n_rows, feature_dim], or with three more
    columns."""
    own = features[:]
    return np.concatenate([own, sizes_of(packed, rows)], axis=1) if n_sizes(shape) else own


class Sized:
    """As `sized`, of features on the disk: rows are read, and the sizes put beside them, when they are asked for."""

    def __init__(self, features: np.ndarray | Halves, sizes: np.ndarray) -> None:
        """Of float32 [n, feature_dim], maybe a memory map, and float32 [n, 3]."""
        self.features, self.sizes = features, sizes

    def __len__(self) -> int:
        """n."""
        return len(self.features)

    def __getitem__(self, rows: slice) -> np.ndarray:
        """float32 [n_rows, feature_dim + 3]."""
        return np.concatenate([self.features[rows], self.sizes[rows]], axis=1)


def split_sizes(neck: nn.Linear) -> tuple[nn.Linear, Tensor]:
    """A neck that takes features and sizes as one that takes features alone, and what each size adds to its output:
    float32 [embedding_dim, 3].

    A network of pixels alone can be traced; its image's size is added where that is known.
    """
    weight = neck.weight.detach()
    of_feature = nn.Linear(weight.shape[1] - N_SIZES, weight.shape[0], bias=neck.bias is not None)
    with torch.no_grad():
        of_feature.weight.copy_(weight[:, :-N_SIZES])
        if neck.bias is not None:
            of_feature.bias.copy_(neck.bias)
    return of_feature.requires_grad_(False).eval(), weight[:, -N_SIZES:].contiguous()
