"""The submission as one TorchScript module: a uint8 image of any size in, an embedding out.

Each network is traced, because its input is always a square of one size. The wrapper is scripted, because its images
have any size. torch.jit is deprecated as a whole, but the contest's scorer loads nothing else. This one warning is
silenced in `quiet_jit` and nowhere else.

This file has no `from __future__ import annotations`, because torch.jit needs buffers' annotations that are types, not
strings.
"""

import contextlib
import warnings
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from guie.embed.ensemble import Tower
from guie.embed.views import frame_of, to_square
from guie.export.assembly import checked_projection, combined, member, projected
from guie.export.plain import PlainCalls
from guie.files import digest_of_tensors
from guie.model.neck import N_SIZES, size_inputs
from guie.settings.embed import CONTEST_DIM, VIEWS

MAX_SIDE = 8192  # largest side in pixels that is tested
TRACE_BATCHES = (1, 2, 7)
# As a share of the largest output. Rounding in float32 stays far below it; a branch or batch size that the trace has
# fixed gives errors far above it.
TRACE_TOLERANCE = 1e-3


class _Pass(nn.Module):
    """One forward of one traced network on one view."""

    def __init__(self, network: nn.Module, is_flipped: bool) -> None:
        super().__init__()
        self.network = network
        self.is_flipped = is_flipped

    def forward(self, pixels: Tensor) -> Tensor:
        """float32 [n, d] of normalised pixels, float32 [n, 3, px, px]."""
        if self.is_flipped:
            pixels = torch.flip(pixels, [3])
        return self.network(pixels).float()


class _Resolution(nn.Module):
    """All forwards that share one resized square."""

    def __init__(self, image_px: int, frame: str, passes: Sequence[_Pass]) -> None:
        super().__init__()
        self.image_px = image_px
        self.frame = frame
        self.passes = nn.ModuleList(passes)

    def forward(self, images: Tensor, mean: Tensor, std: Tensor) -> list[Tensor]:
        """One float32 [n, d] for each pass, of uint8 [n, 3, height, width]."""
        pixels = (to_square(images, self.image_px, self.frame) / 255.0 - mean) / std
        outputs: list[Tensor] = []
        for single in self.passes:
            outputs.append(single(pixels))
        return outputs


class _Submission(nn.Module):
    """Resolutions -> passes -> towers -> concatenation -> projection, with the same L2 normalisations as door 07."""

    mean: Tensor
    std: Tensor
    center: Tensor
    matrix: Tensor
    size_matrix: Tensor

    def __init__(
        self,
        resolutions: Sequence[_Resolution],
        tower_passes: list[list[int]],
        tower_weights: list[float],
        pack_px: int,
        is_mean: bool,
        power: float,
        has_unit_length: bool,
    ) -> None:
        super().__init__()
        self.has_unit_length = has_unit_length
        self.is_mean = is_mean
        self.power = power
        self.resolutions = nn.ModuleList(resolutions)
        self.tower_passes = tower_passes
        self.tower_weights = tower_weights
        self.pack_px = pack_px

    def set_constants(self, mean: Tensor, std: Tensor, center: Tensor, matrix: Tensor, size_matrix: Tensor) -> None:
        """Registers the constants as buffers, which follow the module to its device: mean and std [3], center [D],
        matrix [dim, D], size_matrix [D, 3]."""
        self.register_buffer("mean", mean.view(1, 3, 1, 1))
        self.register_buffer("std", std.view(1, 3, 1, 1))
        self.register_buffer("center", center)
        self.register_buffer("matrix", matrix)
        self.register_buffer("size_matrix", size_matrix)

    def forward(self, images: Tensor) -> Tensor:
        """float32 [n, dim] of uint8 [n, 3, height, width] on any device."""
        if images.dtype != torch.uint8 or images.dim() != 4 or images.size(1) != 3 or images.numel() == 0:
            raise ValueError(
                "the input must be uint8 [n, 3, height, width] with at least one pixel; convert the image to RGB and "
                "add the batch dimension"
            )
        images = images.to(self.mean.device)
        outputs: list[Tensor] = []
        for resolution in self.resolutions:
            outputs += resolution(images, self.mean, self.std)
        parts: list[Tensor] = []
        by_size, start = self.by_size(images.size(2), images.size(3)), 0
        for passes, weight in zip(self.tower_passes, self.tower_weights):  # noqa: B905 (TorchScript's zip takes no strict)
            views = [outputs[i] for i in passes]
            stop = start + views[0].size(1)
            parts.append(member(views, by_size[start:stop], weight))
            start = stop
        return projected(combined(parts, self.is_mean, self.power), self.center, self.matrix, self.has_unit_length)

    def by_size(self, height: int, width: int) -> Tensor:
        """What the image's size adds to the towers' outputs: float32 [D], zeros for necks that do not take the size.
        The size is that after door 03's packing."""
        scale = min(1.0, self.pack_px / min(height, width))
        height, width = max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))
        device = self.size_matrix.device
        sizes = size_inputs(torch.tensor([float(height)], device=device), torch.tensor([float(width)], device=device))
        return torch.matmul(self.size_matrix, sizes[0])


# Traced networks and their widths, by the network's id and the resolution.
_Traces = dict[tuple[int, int], tuple[torch.jit.ScriptModule, int]]
# Passes by resolution and frame, and among these by the network's id and the view.
_Passes = dict[tuple[int, str], dict[tuple[int, str], _Pass]]


def build_submission(
    towers: Sequence[Tower],
    mean: Sequence[float],
    std: Sequence[float],
    projection: tuple[Tensor, Tensor] | None = None,
    pack_px: int = 320,
    is_mean: bool = False,
    power: float = 1.0,
    has_unit_length: bool = True,
    dim: int = CONTEST_DIM,
) -> torch.jit.ScriptModule:
    """Builds the module that the contest's scorer loads.

    Towers with the same network and resolution share one forward per view, resolutions share one resize, and weights
    that are equal are stored once.

    Args:
        towers: Members in the order of the concatenation; each module maps normalised float32 [n, 3, px, px] to [n, d],
            on the CPU, in eval mode. Tensors of equal content are made to share memory.
        mean: Mean of each channel, of pixels in 0..1.
        std: Standard deviation of each channel, of pixels in 0..1.
        projection: Center, float [D], and matrix, float [dim, D], of the PCA. D is the sum of all d, or d if towers are
            averaged. None if D is `dim` and there is no PCA.
        pack_px: data.pack_px of the recipe, for towers that take the image's size.
        is_mean: Whether towers are averaged, not concatenated.
        power: Exponent of the power normalisation before the projection; 1 is none.
        has_unit_length: Whether the embeddings are L2-normalised.
        dim: Number of dimensions of an embedding; the contest takes only 64.

    Returns:
        uint8 [n, 3, height, width] of any size -> float32 [n, dim].

    Raises:
        ValueError: a network is in training mode, a trace differs from its network, or the widths do not give `dim`
            dimensions.
    """
    _check_towers(towers)
    _share_equal_weights([tower.module for tower in towers])
    traces = _traced(towers)
    passes = _passes_of(towers, traces)
    resolutions = [_Resolution(px, frame, list(group.values())) for (px, frame), group in passes.items()]
    weights = [float(tower.weight) for tower in towers]
    numbers = _numbers_of_passes(towers, passes)
    wrapper = _Submission(resolutions, numbers, weights, pack_px, is_mean, power, has_unit_length)
    widths = [traces[id(tower.module), tower.image_px][1] for tower in towers]
    center, matrix = checked_projection(projection, widths[0] if is_mean else sum(widths), dim)
    wrapper.set_constants(torch.tensor(mean), torch.tensor(std), center, matrix, _size_matrix(towers, widths))
    with quiet_jit():
        return torch.jit.script(wrapper.eval())


def _traced(towers: Sequence[Tower]) -> _Traces:
    """Traces every network once for each of its resolutions, even if several towers use it."""
    traces: _Traces = {}
    for tower in towers:
        key = (id(tower.module), tower.image_px)
        if key not in traces:
            traces[key] = trace_network(tower.module, tower.image_px)
    return traces


def _passes_of(towers: Sequence[Tower], traces: _Traces) -> _Passes:
    """Every forward that a tower needs, without repetition, in the order of the towers."""
    passes: _Passes = {}
    for tower in towers:
        network, _ = traces[id(tower.module), tower.image_px]
        for view in tower.views:
            group = passes.setdefault((tower.image_px, frame_of(view)), {})
            group.setdefault((id(tower.module), view), _Pass(network, view == "flip"))
    return passes


def _numbers_of_passes(towers: Sequence[Tower], passes: _Passes) -> list[list[int]]:
    """For each tower, the positions of its views among all passes, resolution after resolution."""
    order = [(px, *key) for (px, _), group in passes.items() for key in group]
    return [[order.index((tower.image_px, id(tower.module), view)) for view in tower.views] for tower in towers]


def _size_matrix(towers: Sequence[Tower], widths: Sequence[int]) -> Tensor:
    """The towers' size matrices, stacked: float32 [sum of widths, 3]; zeros for necks that do not take the size."""
    parts = []
    for tower, width in zip(towers, widths, strict=True):
        parts.append(torch.zeros(width, N_SIZES) if tower.size_matrix is None else tower.size_matrix)
    return torch.cat(parts)


def trace_network(module: nn.Module, image_px: int) -> tuple[torch.jit.ScriptModule, int]:
    """Traces a network at batch 1 and compares it with the network itself at batches 1, 2 and 7.

    Args:
        module: float32 [n, 3, px, px] -> float [n, d], in eval mode, on the CPU.
        image_px: Side of the square.

    Returns:
        The traced network, and d.

    Raises:
        ValueError: the trace fails at another batch size, or its outputs differ, because the network's forward depends
            on values or the batch size.
    """
    pixels = torch.randn(max(TRACE_BATCHES), 3, image_px, image_px, generator=torch.Generator().manual_seed(0))
    where = f"the trace of {type(module).__name__} at {image_px} px"
    with quiet_jit(), torch.no_grad():
        with PlainCalls():
            traced = torch.jit.trace(module, pixels[:1], check_trace=False)  # the comparison below is the check
        for n in TRACE_BATCHES:
            expected = module(pixels[:n])
            if expected.dim() != 2 or len(expected) != n:
                raise ValueError(
                    f"{type(module).__name__} gives a tensor of shape {list(expected.shape)} for {n} images; a tower "
                    f"gives [{n}, d]"
                )
            try:
                got = traced(pixels[:n])
            except RuntimeError as error:
                raise ValueError(
                    f"{where} fails at batch {n}: {error}; its forward fixes the batch size, so it cannot be exported "
                    "as it is"
                ) from error
            share = _error_share(got, expected)
            if not share <= TRACE_TOLERANCE:
                raise ValueError(
                    f"{where} differs from the network by {share:.2g} of the largest output at batch {n} (at most "
                    f"{TRACE_TOLERANCE}); "
                    "its forward branches on values or is not deterministic, so it cannot be exported as it is"
                )
    return traced, int(expected.shape[1])


def _error_share(got: Tensor, expected: Tensor) -> float:
    """Largest difference as a share of the largest expected value; infinite where the shapes differ."""
    if got.shape != expected.shape:
        return float("inf")
    return float((got - expected).abs().max() / expected.abs().max().clamp(min=1e-12))


@contextlib.contextmanager
def quiet_jit() -> Iterator[None]:
    """Silences torch.jit's warnings of its own deprecation and the tracer's warnings of constants. All other warnings
    pass."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*torch\.jit\..* is deprecated")
        warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)
        yield


def _check_towers(towers: Sequence[Tower]) -> None:
    """Checks that there are towers, in eval mode and with known views.

    Raises:
        ValueError: one of these does not hold.
    """
    if not towers:
        raise ValueError("there are no towers to export; the final setting of the recipe needs at least one member")
    for i, tower in enumerate(towers):
        if tower.module.training:
            raise ValueError(
                f"tower {i} is in training mode; call .eval() before the export, or dropout would be exported"
            )
        if not tower.views or set(tower.views) - set(VIEWS):
            raise ValueError(f"tower {i} has the views {tower.views}; a tower has at least one of {', '.join(VIEWS)}")


def _share_equal_weights(modules: Sequence[nn.Module]) -> None:
    """Makes tensors of equal content share one storage, because torch.jit.save writes each storage once.

    Members of an ensemble often have the same backbone at two resolutions, loaded twice. For a ViT-H this saves 2.5 GB.
    """
    first: dict[str, Tensor] = {}
    for module in modules:
        for tensor in (*module.parameters(), *module.buffers()):
            tensor.data = first.setdefault(digest_of_tensors({"": tensor}), tensor.data)
