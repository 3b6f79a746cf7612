"""The submission as a program of `torch.export`, for versions of torch without TorchScript.

`torch.export` records one path for all image sizes. So everything that depends on an image's size is computed with
tensors here. The resize to a square is two matrix products, whose matrices hold the weights of antialiased bicubic
interpolation. The TorchScript file uses torch's own operator for it.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from guie.embed.ensemble import Tower
from guie.embed.views import frame_of
from guie.export.assembly import checked_projection, combined, member, projected
from guie.export.torchscript import MAX_SIDE
from guie.files import whole_file
from guie.model.neck import size_inputs
from guie.settings.embed import CONTEST_DIM

CUBIC = -0.5  # parameter of Keys' kernel, as in torch's antialiased interpolation
GREY = 128.0


class Program(nn.Module):
    """Towers, views and projection in eager mode, with one path for images of every size."""

    mean: Tensor
    std: Tensor
    center: Tensor
    matrix: Tensor

    def __init__(
        self,
        towers: Sequence[Tower],
        mean: Sequence[float],
        std: Sequence[float],
        projection: tuple[Tensor, Tensor] | None = None,
        pack_px: int = 320,
        is_mean: bool = False,
        power: float = 1.0,
        has_unit_length: bool = True,
        dim: int = CONTEST_DIM,
    ) -> None:
        """Takes the arguments of `build_submission`."""
        super().__init__()
        self.networks = nn.ModuleList(tower.module for tower in towers)
        self.towers, self.pack_px = [(tower.image_px, tower.views, float(tower.weight)) for tower in towers], pack_px
        self.is_mean, self.power, self.has_unit_length = is_mean, power, has_unit_length
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))
        with torch.no_grad():
            widths = [tower.module(torch.zeros(1, 3, tower.image_px, tower.image_px)).shape[1] for tower in towers]
        center, matrix = checked_projection(projection, widths[0] if is_mean else sum(widths), dim)
        self.register_buffer("center", center)
        self.register_buffer("matrix", matrix)
        for i, tower in enumerate(towers):
            self.register_buffer(f"size_matrix{i}", tower.size_matrix)

    def forward(self, images: Tensor) -> Tensor:
        """float32 [n, dim] of uint8 [n, 3, height, width]."""
        sides = torch.stack(
            [torch.scalar_tensor(images.size(i), dtype=torch.float64, device=self.mean.device) for i in (2, 3)]
        )
        squares: dict[tuple[int, str], Tensor] = {}
        parts = []
        for i, (network, (px, views, weight)) in enumerate(zip(self.networks, self.towers, strict=True)):
            outputs = []
            for view in views:
                key = (px, frame_of(view))
                if key not in squares:
                    squares[key] = (square(images, sides, *key) / 255.0 - self.mean) / self.std
                outputs.append(network(squares[key].flip(3) if view == "flip" else squares[key]).float())
            parts.append(member(outputs, self._by_size(i, sides), weight))
        return projected(combined(parts, self.is_mean, self.power), self.center, self.matrix, self.has_unit_length)

    def _by_size(self, i: int, sides: Tensor) -> Tensor:
        """What the image's size adds to member i's output: float32 [1, d], or a zero. The size is that after door 03's
        packing."""
        size_matrix = getattr(self, f"size_matrix{i}")
        if size_matrix is None:
            return torch.zeros((), device=sides.device)
        packed = torch.floor(sides * (self.pack_px / sides.min()).clamp(max=1.0) + 0.5).clamp(min=1.0).float()
        return size_inputs(packed[:1], packed[1:]) @ size_matrix.T


def square(images: Tensor, sides: Tensor, px: int, frame: str) -> Tensor:
    """Computes `to_square` with tensors.

    Args:
        images: uint8 [n, 3, height, width].
        sides: Height and width, float64 [2].
        px: Side of the square.
        frame: See `to_square`.

    Returns:
        float32 [n, 3, px, px], 0..255.
    """
    is_square = 20 * (sides[0] - sides[1]).abs() <= sides.max()
    never, always = torch.zeros_like(is_square), torch.ones_like(is_square)
    is_cropped, is_padded = {
        "squash": (never, never),
        "crop": (always, never),
        "pad": (never, always),
        "aspect": (is_square, never),
        "aspect_pad": (always, ~is_square),
    }[frame]
    start = torch.where(is_cropped, torch.floor(sides / 20), 0.0)
    length = sides - 2 * start
    longer = length.max()
    fitted = torch.floor((length * px + torch.floor(longer / 2)) / longer).clamp(min=2.0)
    inner = torch.where(is_padded, fitted, float(px))
    offset = torch.floor((px - inner) / 2)
    (rows, row_is_filled), (columns, column_is_filled) = (
        _weights(images.size(2 + i), start[i], length[i], inner[i], offset[i], px) for i in (0, 1)
    )
    pixels = torch.matmul(rows, torch.matmul(images.float(), columns.T)).clamp(0.0, 255.0)
    return torch.where(row_is_filled[:, None] & column_is_filled, pixels, GREY)


def _weights(n: int, start: Tensor, length: Tensor, inner: Tensor, offset: Tensor, px: int) -> tuple[Tensor, Tensor]:
    """Interpolation weights of one side, from `n` to `px` pixels.

    Args:
        n: Pixels of the image's side.
        start: First pixel of the part that is used.
        length: Pixels of this part.
        inner: Number of the `px` pixels that this part fills.
        offset: First of these pixels.
        px: Side of the square.

    Returns:
        float32 [px, n], and which of the `px` pixels are filled, bool [px].

    Source: R. Keys, Cubic convolution interpolation, 1981; the kernel is widened by the scale where an image is made
    smaller.
    """
    to, of = torch.arange(px, device=start.device) - offset, torch.arange(n, device=start.device)
    scale = length / inner
    widened = scale.clamp(min=1.0)
    distance = ((of - start + 0.5) - (to[:, None] + 0.5) * scale).abs() / widened
    near = ((CUBIC + 2) * distance - (CUBIC + 3)) * distance * distance + 1
    far = CUBIC * (((distance - 5) * distance + 8) * distance - 4)
    kernel = torch.where(distance < 1, near, torch.where(distance < 2, far, 0.0))
    kernel = torch.where((of >= start) & (of < start + length), kernel, 0.0)
    return (kernel / kernel.sum(dim=1, keepdim=True)).float(), (to >= 0) & (to < inner)


def export_program(program: Program) -> ExportedProgram:
    """`torch.export` of the program for 1 to `MAX_SIDE` pixels a side and any number of images of equal size."""
    example = torch.randint(0, 256, (2, 3, 61, 47), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    sizes = {0: Dim.DYNAMIC, 2: Dim("height", min=1, max=MAX_SIDE), 3: Dim("width", min=1, max=MAX_SIDE)}
    return torch.export.export(program.eval(), (example,), dynamic_shapes=(sizes,))


def save_program(exported: ExportedProgram, path: Path) -> None:
    """Writes a `.pt2` file, whole or not at all."""
    with whole_file(path) as temporary, temporary.open("wb") as handle, warnings.catch_warnings():
        # a warning about tensors that are views of a larger one; all of ours are on the CPU
        warnings.filterwarnings("ignore", message="No complete tensor found in the group")
        torch.export.save(exported, handle)
