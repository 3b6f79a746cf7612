"""An exported model whose projection is fitted anew: its networks stay, and only two buffers of the file change.

The model of door 08 ends in a PCA that saw the training images alone. On images of another kind most of what a 64-d
embedding loses is lost there, see `tests/benchmarks/universal.md`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from guie.embed.pca import PCA
from guie.export.assembly import EMBEDDING_DIM
from guie.export.submission import load_script, save_module

TOLERANCE = 1e-4  # of each number of an embedding of length one, between the file and numpy


@dataclass(frozen=True)
class Refittable:
    """An exported model, open before its projection.

    Attributes:
        path: The saved_model.pt.
        center: float32 [D], subtracted from the joined outputs of its networks.
        matrix: float32 [64, D], its projection.
        has_unit_length: Whether its embeddings are L2-normalised.
        opened: A second copy of the file, which gives the joined outputs, float32 [n, D] of length one, of uint8 [n, 3,
            height, width].
    """

    path: Path
    center: np.ndarray
    matrix: np.ndarray
    has_unit_length: bool
    opened: torch.jit.ScriptModule

    @property
    def width(self) -> int:
        """Numbers before the projection."""
        return len(self.center)

    def embeddings(self, joined: np.ndarray, pca: PCA | None = None) -> np.ndarray:
        """Embeddings of joined outputs, float32 [n, 64]; by the file's own projection, or by another."""
        center, matrix = (self.center, self.matrix) if pca is None else (pca.mean_, pca.matrix)
        projected: np.ndarray = ((joined - center) @ matrix.T).astype(np.float32)
        if not self.has_unit_length:
            return projected
        return projected / np.linalg.norm(projected, axis=1, keepdims=True).clip(1e-12)


def open_model(path: Path, device: str = "cpu") -> Refittable:
    """Opens an exported file.

    Args:
        path: A saved_model.pt of door 08.
        device: Where its networks compute.

    Raises:
        ValueError: it is of another maker, or has no projection.
    """
    module = load_script(path)
    if not (hasattr(module, "center") and hasattr(module, "matrix")):
        raise ValueError(f"{path} was not written by door 08: it has no projection; name a saved_model.pt of a run")
    center, matrix = module.center.numpy(), module.matrix.numpy()
    if matrix.shape == (EMBEDDING_DIM, EMBEDDING_DIM) and np.array_equal(matrix, np.eye(EMBEDDING_DIM)):
        raise ValueError(
            f"{path} has no projection: its last setting has no pca_dim, and its networks give {EMBEDDING_DIM} numbers "
            "themselves; name a model whose last setting has one"
        )
    opened = load_script(path).to(device)
    opened.matrix, opened.center = torch.eye(len(center), device=device), torch.zeros(len(center), device=device)
    return Refittable(path, center.copy(), matrix.copy(), bool(module.has_unit_length), opened)


def save_refitted(model: Refittable, pca: PCA, images: Sequence[np.ndarray], path: Path) -> float:
    """Writes the model with another projection, whole or not at all, and checks the written file.

    Args:
        model: The model.
        pca: The other projection, to 64 numbers.
        images: Of any sizes, uint8 [3, height, width], on which the file is compared with numpy.
        path: Where to.

    Returns:
        The largest difference of a number of an embedding between the file and numpy.

    Raises:
        ValueError: they differ.
        OSError: the file cannot be written.
    """
    module = load_script(model.path)
    module.center.copy_(torch.from_numpy(pca.mean_))
    module.matrix.copy_(torch.from_numpy(pca.matrix))
    save_module(module, path)
    written = load_script(path)
    largest = 0.0
    for image in images:
        batch = torch.from_numpy(image)[None]
        with torch.no_grad():
            expected = model.embeddings(joined_outputs(model, batch), pca)
            got = written(batch).numpy()
        scale = 1.0 if model.has_unit_length else float(np.abs(expected).max())
        largest = max(largest, float(np.abs(got - expected).max()) / scale)
    if not largest <= TOLERANCE:
        path.unlink()
        raise ValueError(
            f"the written file differs from its projection by {largest:.2g} (at most {TOLERANCE}); nothing was kept"
        )
    return largest


def joined_outputs(model: Refittable, images: Tensor) -> np.ndarray:
    """What the networks give before the projection, float32 [n, D] of length one, of uint8 [n, 3, height, width]."""
    with torch.no_grad():
        joined: np.ndarray = model.opened(images).float().cpu().numpy()
    return joined / np.linalg.norm(joined, axis=1, keepdims=True).clip(1e-12)
