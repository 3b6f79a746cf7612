"""Backbones of timm and open_clip behind one interface: normalised pixels in, one feature vector per image out."""

from __future__ import annotations

import copy
import itertools
import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from guie.model.class_token import keep_class_token
from guie.model.fitting import fits, load_into
from guie.model.libraries import build_network
from guie.model.normalisation import mean_std
from guie.model.patches import set_resolution
from guie.model.pooling import pooled_tokens, take_feature
from guie.model.side_by_side import SideBySide
from guie.model.weights import read_weights
from guie.settings.model import Model

log = logging.getLogger(__name__)


class Backbone(nn.Module):
    """A timm or open_clip network as a feature extractor. Its BatchNorm layers stay in eval mode even during training.

    Batch norm keeps its stored statistics while the weights are fine-tuned, because batches of 32 are too small to
    estimate them again: `train()` leaves batch norm layers in eval mode. The shipped MobileNetV2 has none, as its norms
    were folded into the convolutions (`weights/README.md`).

    Attributes:
        feature_dim: Width of the feature vector.
    """

    def __init__(self, network: nn.Module, feature_dim: int, pooling: str = "") -> None:
        """Wraps a network.

        Args:
            network: Maps pixels, float32 [n, 3, px, px], to features, [n, feature_dim], or gives tokens to pool.
            feature_dim: Width of the feature.
            pooling: How its tokens are pooled, see `pooled_tokens`; '' calls the network's own forward.
        """
        super().__init__()
        self.network = network
        self.feature_dim = feature_dim
        self.pooling = pooling

    def forward(self, pixels: Tensor) -> Tensor:
        """Features, float [n, feature_dim], of normalised pixels, float [n, 3, px, px]."""
        return pooled_tokens(self.network, pixels, self.pooling) if self.pooling else self.network(pixels)

    def train(self, mode: bool = True) -> Backbone:
        """As `nn.Module.train`, but batch norm stays in eval mode."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self


def build_backbone(
    model: Model,
    image_px: int,
    weights: Path | None = None,
    seed: int = 0,
    patch_stride: int = 0,
    has_tag_weights: bool = True,
) -> Backbone:
    """Builds the backbone of a recipe and loads its weights.

    Args:
        model: The recipe's model section.
        image_px: Side of the square input; position embeddings are interpolated to it.
        weights: A file of tensors under the library's own names (open_clip: of the image tower or of the whole model).
            None takes the tag in `model.weights`, or random weights.
        seed: Seed of random weights.
        patch_stride: Patch stride of a transformer, see `set_resolution`.
        has_tag_weights: Whether the weights of a tag are fetched; see `build_network`.

    Raises:
        ValueError: the name is unknown, names or shapes of the weights do not fit, or the network cannot have this
            patch stride.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # the CPU alone, where it is built
        network = build_network(model, has_tag_weights)
    if weights is not None:
        load_into(network, read_weights(weights, fits=partial(fits, network)), str(weights))
    set_resolution(network, image_px, patch_stride)
    pooling = take_feature(network, model.feature)
    backbone = Backbone(network.eval().to(memory_format=torch.channels_last), 0, pooling)
    keep_class_token(network, pooling)
    with torch.no_grad():
        backbone.feature_dim = backbone(torch.zeros(1, 3, image_px, image_px)).shape[1]
    return backbone


def build_side_by_side(
    model: Model,
    image_px: int,
    weights: Mapping[Model, Path] | None = None,
    seed: int = 0,
    patch_stride: int = 0,
    has_tag_weights: bool = True,
) -> Backbone:
    """Builds a model and the models beside it as one backbone. For a single model this is `build_backbone`.

    Args:
        model: The recipe's model section.
        image_px: Side of the square input of all backbones.
        weights: A file of weights for each backbone that has one (`Model.each`).
        seed: Seed of random weights.
        patch_stride: Patch stride of transformers, see `set_resolution`.
        has_tag_weights: Whether the weights of tags are fetched.

    Raises:
        ValueError: as `build_backbone`.
    """
    backbones = [
        build_backbone(each, image_px, (weights or {}).get(each), seed, patch_stride, has_tag_weights)
        for each in model.each
    ]
    if len(backbones) == 1:
        return backbones[0]
    network = SideBySide(backbones, [mean_std(each) for each in model.each])
    return Backbone(network.eval(), sum(backbone.feature_dim for backbone in backbones))


def parts_of(backbone: Backbone) -> list[Backbone]:
    """The backbones that stand side by side in `backbone`; for a single backbone, the backbone itself."""
    network = backbone.network
    return [cast(Backbone, part) for part in network.backbones] if isinstance(network, SideBySide) else [backbone]


def folded(backbone: Backbone, image_px: int) -> Backbone:
    """A copy with the same features that is faster: its batch norms are folded into the convolutions before them.

    MobileNetV2 at 224 px gives 1.3 times the images/s on a CPU. A norm that is listed after a convolution is not always
    applied to its output, so the copy is compared with the original on random pixels. If they differ, or if there is
    nothing to fold, the backbone itself is returned, in eval mode.
    """
    backbone.eval()
    copied = copy.deepcopy(backbone) if _foldable(backbone) else backbone
    for module, name, conv, norm in _foldable(copied):
        _fold(conv, norm)
        # timm's BatchNormAct2d also holds a dropout and an activation.
        rest = [getattr(norm, part) for part in ("drop", "act") if isinstance(getattr(norm, part, None), nn.Module)]
        setattr(module, name, nn.Sequential(*rest))
    if copied is backbone:
        return backbone
    device = next(backbone.parameters()).device
    pixels = torch.randn(2, 3, image_px, image_px, generator=torch.Generator().manual_seed(0)).to(device)
    with torch.no_grad():
        expected, got = backbone(pixels), copied(pixels)
    if float((expected - got).abs().max()) > 1e-3 * float(expected.abs().max()):
        log.warning(
            "batch norms of %s could not be folded; features are extracted with them", type(backbone.network).__name__
        )
        return backbone
    return copied


def _foldable(backbone: Backbone) -> list[tuple[nn.Module, str, nn.Conv2d, nn.BatchNorm2d]]:
    """(parent, name of the norm, convolution, norm) of every batch norm that is listed right after a convolution."""
    return [
        (module, name, conv, norm)
        for module in backbone.modules()
        for (_, conv), (name, norm) in itertools.pairwise(module.named_children())
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d) and norm.track_running_stats
    ]


def _fold(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    """Puts the affine map of `norm` (eval mode) into the weights of `conv`."""
    assert norm.running_mean is not None and norm.running_var is not None
    gain = norm.weight / (norm.running_var + norm.eps).sqrt()
    bias = conv.bias if conv.bias is not None else torch.zeros_like(norm.running_mean)
    conv.weight = nn.Parameter(
        (conv.weight * gain[:, None, None, None]).detach().contiguous(memory_format=torch.channels_last),
        requires_grad=False,
    )
    conv.bias = nn.Parameter(((bias - norm.running_mean) * gain + norm.bias).detach(), requires_grad=False)
