"""Changes the resolution or patch stride of a transformer that is already built; its position embedding is
interpolated.

If the stride is smaller than the patch's side, patches overlap. In its last stage the 1st place of GUIE changed its
ViT-H/14 from 224 px (16 x 16 tokens) to 290 px with a stride of 12 (24 x 24 tokens).
"""

from __future__ import annotations

import contextlib
import copy
from typing import Any, cast

import torch
import torch.nn.functional as F
from timm.layers import PatchEmbed
from timm.models.eva import Eva
from timm.models.naflexvit import NaFlexVit
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from guie.model.side_by_side import SideBySide

MAX_TRIES = 40  # most sizes that `sides_taken` tries


def set_resolution(network: nn.Module, image_px: int, patch_stride: int = 0) -> None:
    """Changes resolution and patch stride in place. Most convolutional networks take any resolution unchanged.

    Args:
        network: A timm network, or the image tower of an open_clip model.
        image_px: Side of the square input.
        patch_stride: Pixels from one patch to the next; 0 is the patch's own side.

    Raises:
        ValueError: the network has no patches, or the stride is not 1 to the patch's side; the image is smaller than a
            patch; or the network cannot take this size (the message names sizes that it takes).
    """
    if isinstance(network, SideBySide):
        for backbone in network.backbones:
            set_resolution(cast(nn.Module, backbone.network), image_px, patch_stride)
        return
    network = getattr(network, "trunk", network)  # open_clip's wrapper of a timm network
    if (
        isinstance(network, VisionTransformer)
        and isinstance(network.patch_embed, PatchEmbed)
        and network.pos_embed is not None
    ):
        _set_timm_vit(network, network.patch_embed, image_px, patch_stride)
    elif isinstance(network, Eva):
        _set_timm_eva(network, image_px, patch_stride)
    elif isinstance(network, NaFlexVit) and (patch_stride or not network.embeds.is_linear):
        _set_naflex(network, image_px, patch_stride)
    elif type(network).__module__ == "open_clip.transformer" and hasattr(network, "conv1"):
        _set_open_clip_vit(network, image_px, patch_stride)
    elif type(network).__module__ == "open_clip.modified_resnet" and not patch_stride:
        _set_open_clip_resnet(network, image_px)
    elif patch_stride:
        raise ValueError(
            f"patch_stride is {patch_stride}, but a {type(network).__name__} cannot cut overlapping patches (plain "
            "vision transformers, EVA and NaFlexVit can); leave it at 0"
        )
    else:
        _set_image_px(network, image_px)


def n_tokens(image_px: int, patch_px: int, stride: int) -> int:
    """Number of patches along one side."""
    return (image_px - patch_px) // stride + 1


def resized_position_embedding(embedding: Tensor, old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """Interpolates a position embedding to another grid: bicubic, antialiased, in float32. The embeddings of prefix
    tokens are kept.

    Args:
        embedding: [..., n_prefix + height * width, dim] for the old grid.
        old: Height and width of the old grid.
        new: Height and width of the new grid.

    Returns:
        [..., n_prefix + new height * new width, dim], of the same dtype.
    """
    if old == new:
        return embedding
    dim = embedding.shape[-1]
    n_prefix = embedding.shape[-2] - old[0] * old[1]
    prefix, grid = embedding[..., :n_prefix, :], embedding[..., n_prefix:, :]
    image = grid.reshape(1, *old, dim).permute(0, 3, 1, 2).float()
    image = F.interpolate(image, new, mode="bicubic", antialias=True, align_corners=False)
    resized = image.permute(0, 2, 3, 1).reshape(*embedding.shape[:-2], new[0] * new[1], dim).to(embedding.dtype)
    return torch.cat([prefix, resized], dim=-2)


def _set_timm_vit(network: VisionTransformer, patches: PatchEmbed, image_px: int, patch_stride: int) -> None:
    assert network.pos_embed is not None and patches.grid_size is not None
    side = _set_stride(patches.proj, image_px, patch_stride)
    network.pos_embed = _resized_parameter(network.pos_embed, patches.grid_size, (side, side))
    patches.img_size = (image_px, image_px)
    patches.strict_img_size = True  # otherwise timm refuses a side that is not a multiple of the patch's
    patches.grid_size, patches.num_patches = (side, side), side * side


def _set_timm_eva(network: Any, image_px: int, patch_stride: int) -> None:
    """For EVA-02, PE-core and DINOv3. Their rotary embedding spreads the tokens over the range of coordinates of its
    training, or over -1 to 1. So overlapping patches get closer coordinates, but cover the same range."""
    patches = network.patch_embed
    old = patches.grid_size
    side = _set_stride(patches.proj, image_px, patch_stride)
    if network.pos_embed is not None:
        network.pos_embed = _resized_parameter(network.pos_embed, old, (side, side))
    patches.img_size = (image_px, image_px)
    patches.strict_img_size = True  # otherwise timm refuses a side that is not a multiple of the patch's
    patches.grid_size, patches.num_patches = (side, side), side * side
    if hasattr(network.rope, "update_feat_shape"):
        network.rope.update_feat_shape([side, side])


def _set_naflex(network: Any, image_px: int, patch_stride: int) -> None:
    """For NaFlexVit, which computes its position embeddings from the grid of each batch. A linear layer on patches is
    replaced by the equivalent convolution."""
    embeds = network.embeds
    if embeds.is_linear:  # it takes patches that were cut without overlap
        embeds.proj = _as_convolution(embeds)
        embeds.is_linear, embeds.flatten = False, True
    _set_stride(embeds.proj, image_px, patch_stride)


def _as_convolution(embeds: Any) -> nn.Conv2d:
    """The convolution of a NaFlexVit's linear patch layer.

    Raises:
        ValueError: the layer normalises the pixels of each patch first.
    """
    if embeds.norm_input is not None:
        raise ValueError("patch_stride: this NaFlexVit normalises each patch before its linear layer; leave it at 0")
    linear, (height, width) = embeds.proj, embeds.patch_size
    n_channels = linear.in_features // (height * width)
    shape = (height, width, n_channels) if embeds.channels_last else (n_channels, height, width)
    kernel = linear.weight.detach().unflatten(1, shape)
    kernel = kernel.permute(0, 3, 1, 2) if embeds.channels_last else kernel
    conv = nn.Conv2d(n_channels, linear.out_features, (height, width), (height, width), bias=linear.bias is not None)
    conv = conv.to(linear.weight)
    conv.weight = nn.Parameter(kernel.contiguous(), requires_grad=linear.weight.requires_grad)
    if linear.bias is not None:
        conv.bias = linear.bias
    return conv


def _set_open_clip_vit(network: Any, image_px: int, patch_stride: int) -> None:
    side = _set_stride(network.conv1, image_px, patch_stride)
    network.positional_embedding = _resized_parameter(network.positional_embedding, network.grid_size, (side, side))
    network.image_size, network.grid_size = (image_px, image_px), (side, side)


def _set_open_clip_resnet(network: Any, image_px: int) -> None:
    """For open_clip's ResNet. Its attention pool has a position embedding for the mean of the feature map and one for
    each position in the map, of 32 x 32 pixels."""
    old, new = (network.image_size + 1) // 32, (image_px + 1) // 32  # the stem rounds up
    if not new:
        raise ValueError(f"image_px is {image_px}, must be at least 32 for a {type(network).__name__}")
    network.attnpool.positional_embedding = _resized_parameter(
        network.attnpool.positional_embedding, (old, old), (new, new)
    )
    network.image_size = image_px


def _set_stride(patches: nn.Conv2d, image_px: int, patch_stride: int) -> int:
    """Sets the stride of the convolution that cuts patches, and returns the number of patches along a side."""
    patch_px = patches.kernel_size[0]
    stride = patch_stride or patch_px
    if stride > patch_px:
        raise ValueError(f"patch_stride is {stride}, must be 1 to {patch_px}, the patch's side (0 for no overlap)")
    if image_px < patch_px:
        raise ValueError(f"image_px is {image_px}, must be at least {patch_px}, the patch's side")
    patches.stride = (stride, stride)
    return n_tokens(image_px, patch_px, stride)


def _resized_parameter(embedding: Tensor, old: tuple[int, int], new: tuple[int, int]) -> nn.Parameter:
    return nn.Parameter(resized_position_embedding(embedding.detach(), old, new), requires_grad=embedding.requires_grad)


def _set_image_px(network: nn.Module, image_px: int) -> None:
    """Sets the input size of any other network by its own method, if it has one, and runs it once at this size."""
    try:
        _adapt(network, image_px, next(network.parameters()).device)
    except Exception as error:  # a wrong size makes networks raise anything, from AssertionError to RuntimeError
        sides = sides_taken(network, image_px)
        remedy = (
            f"near this size it takes {', '.join(map(str, sides))} px; set one of them in image_px of stages and "
            "members"
            if sides
            else "no size near this one was found that works"
        )
        raise ValueError(f"a {type(network).__name__} cannot take images of {image_px} px: {remedy}") from error


def sides_taken(network: nn.Module, image_px: int, n: int = 3) -> list[int]:
    """Up to `n` input sides near `image_px` that a network takes, sorted. They are tried on torch's meta device, which
    computes nothing."""
    with torch.no_grad():
        shapes = copy.deepcopy(network).to("meta")
    tried = sorted(
        {*range(32, 1025, 32), *range(48, 673, 48), *range(56, 673, 28)}, key=lambda side: abs(side - image_px)
    )
    taken: list[int] = []
    for side in tried[:MAX_TRIES]:
        trial = copy.deepcopy(shapes)
        with contextlib.suppress(Exception):
            _adapt(trial, side, torch.device("meta"))
            taken.append(side)
        if len(taken) == n:
            break
    return sorted(taken)


def _adapt(network: Any, image_px: int, device: torch.device) -> None:
    """Calls `set_input_size` if the network has a fixed input size, or if it fails at `image_px`. Raises whatever the
    network raises at a size that it cannot take."""
    native = getattr(getattr(network, "patch_embed", None), "img_size", None) or getattr(network, "image_size", None)
    if hasattr(network, "set_input_size") and native not in (None, (image_px, image_px)):
        network.set_input_size(img_size=image_px)
    try:
        _try_size(network, image_px, device)
    except Exception:
        if native is not None or not hasattr(network, "set_input_size"):
            raise
        network.set_input_size(img_size=image_px)
        _try_size(network, image_px, device)


def _try_size(network: nn.Module, image_px: int, device: torch.device) -> None:
    """Runs one forward pass in eval mode; raises whatever the network raises."""
    is_training = network.training
    network.eval()
    try:
        with torch.no_grad():
            network(torch.zeros(1, 3, image_px, image_px, device=device))
    finally:
        network.train(is_training)
