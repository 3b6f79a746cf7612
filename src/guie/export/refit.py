"""Fits the projection of an exported model to other photos. The networks stay; only two buffers of the file change.

The model of door 08 ends in a PCA that was fitted to the training images, or to what `embed.fit_on` names. On images of
another kind, most of the loss from so few dimensions arises in this PCA.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from guie.embed.accelerator import keep_float32
from guie.embed.projection import Projection
from guie.export.submission import load_script, save_module
from guie.files import digest_of_tensors

# Largest difference of a number between the file and numpy, relative to the largest number if lengths are not one.
TOLERANCE = 1e-4
OF_PROJECTION = ("center", "matrix")  # the buffers of the file that a refit changes


@dataclass(frozen=True)
class Refittable:
    """An exported model, whose outputs before the projection can be computed.

    Attributes:
        path: The saved_model.pt.
        projection: Its last step.
        opened: The model without its projection: uint8 [n, 3, height, width] to the joined outputs, float32 [n, D] of
            length one.
        device: Where `opened` computes.
    """

    path: Path
    projection: Projection
    opened: torch.jit.ScriptModule
    device: str

    @property
    def width(self) -> int:
        """Number of dimensions before the projection."""
        return len(self.projection.center)

    @property
    def is_whitened(self) -> bool:
        """Whether the components of the projection have different lengths, as whitening gives them."""
        lengths = np.linalg.norm(self.projection.matrix.astype(np.float64), axis=1)
        return bool(lengths.max() > 1.001 * lengths.min())


def open_model(path: Path, device: str = "cpu") -> Refittable:
    """Opens an exported file.

    Args:
        path: A saved_model.pt of door 08.
        device: Where its networks compute.

    Raises:
        ValueError: it was not written by door 08, or does not end in a projection.
    """
    keep_float32()
    module = load_script(path)
    if not (hasattr(module, "center") and hasattr(module, "matrix")):
        raise ValueError(f"{path} was not written by door 08: it has no projection; name a saved_model.pt of a run")
    center, matrix = module.center.numpy(), module.matrix.numpy()
    if np.array_equal(matrix, np.eye(len(center))):
        raise ValueError(
            f"{path} does not end in a projection: its {len(center)} numbers come from a trained head. To fit that "
            "one to your photos, train it: guie train PHOTOS; a refit is for models whose last row has a PCA"
        )
    opened = load_script(path).to(device)
    opened.matrix, opened.center = torch.eye(len(center), device=device), torch.zeros(len(center), device=device)
    return Refittable(path, Projection(center.copy(), matrix.copy(), bool(module.has_unit_length)), opened, device)


def has_equal_networks(model: Refittable, other: Refittable, images: Sequence[np.ndarray]) -> bool:
    """Whether two models give the same outputs before their projections, which may differ.

    Their tensors are compared, and their outputs: views, image sizes and the way members are joined are code.

    Args:
        model: One.
        other: The other.
        images: uint8 [3, height, width], on which they are compared.
    """
    digests = set()
    for each in (model, other):
        tensors = each.opened.state_dict()
        own = {name: tensor.cpu() for name, tensor in tensors.items() if name not in OF_PROJECTION}
        digests.add(digest_of_tensors(own))
    if len(digests) > 1:
        return False
    batches = [torch.from_numpy(image)[None] for image in images]
    pairs = [(joined_outputs(model, batch), joined_outputs(other, batch)) for batch in batches]
    return all(a.shape == b.shape and np.allclose(a, b, atol=TOLERANCE) for a, b in pairs)


def save_refitted(model: Refittable, projection: Projection, images: Sequence[np.ndarray], path: Path) -> float:
    """Writes the model with another projection, and checks the written file.

    Args:
        model: The model.
        projection: The other projection, to the same number of dimensions.
        images: Images on which the file is compared with numpy, of any sizes, uint8 [3, height, width].
        path: Where to write; not the model's own file.

    Returns:
        The largest difference of a number between the file and numpy, as compared with `TOLERANCE`.

    Raises:
        ValueError: they differ.
        OSError: the file cannot be written.
    """
    module = load_script(model.path)
    module.center.copy_(torch.from_numpy(projection.center))
    module.matrix.copy_(torch.from_numpy(projection.matrix))
    save_module(module, path)
    written = load_script(path).to(model.device)
    largest = 0.0
    for image in images:
        batch = torch.from_numpy(image)[None]
        with torch.no_grad():
            expected = projection(joined_outputs(model, batch))
            got = written(batch).cpu().numpy()
        scale = 1.0 if projection.has_unit_length else float(np.abs(expected).max())
        largest = max(largest, float(np.abs(got - expected).max()) / scale)
    if not largest <= TOLERANCE:
        raise ValueError(
            f"the written file differs from its projection by {largest:.2g} (at most {TOLERANCE}); it was not kept"
        )
    return largest


def joined_outputs(model: Refittable, images: Tensor) -> np.ndarray:
    """The outputs before the projection, float32 [n, D] of length one, for uint8 [n, 3, height, width]."""
    with torch.no_grad():
        joined: np.ndarray = model.opened(images).float().cpu().numpy()
    return joined / np.linalg.norm(joined, axis=1, keepdims=True).clip(1e-12)
