"""Which of a backbone's outputs is its feature: the library's own, the one before a projection, or pooled tokens."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

GEM_P = 3.0  # Radenovic et al., Fine-tuning CNN image retrieval with no human annotation, TPAMI 2019: learnt values end near 3


def take_feature(network: Any, feature: str) -> str:
    """Prepares `network`, whose weights are loaded, for a feature of `Model.feature`.

    Returns:
        What `pooled_tokens` is to be called with, or '' where the network's own forward gives the feature.

    Raises:
        ValueError: the network has no such feature.
    """
    if not feature:
        return ""
    is_open_clip = type(network).__module__ == "open_clip.transformer" and hasattr(network, "conv1")
    if is_open_clip and feature in ("unprojected", "cls"):
        network.proj = None
        if feature == "cls" and network.pool_type != "tok":
            raise ValueError(f"model.feature is 'cls', but this tower pools {network.pool_type!r}; use 'mean', 'max' or 'gem'")
        return ""
    if is_open_clip:
        network.proj = None
        network.output_tokens = True
        return feature
    if hasattr(network, "trunk"):  # open_clip's wrapper of a timm network; what it adds is the projection
        network.head = nn.Identity()
        if feature == "unprojected":
            return ""
        network = network.trunk
    if feature == "unprojected" or not hasattr(network, "forward_features"):
        raise ValueError(f"model.feature is {feature!r}, which a {type(network).__name__} has not; leave it empty")
    if feature == "cls" and not getattr(network, "num_prefix_tokens", 0):
        raise ValueError(f"model.feature is 'cls', but a {type(network).__name__} has no class token; use 'mean', 'max' or 'gem'")
    return feature


def pooled_tokens(network: Any, pixels: Tensor, pooling: str) -> Tensor:
    """The last layer's tokens (after its norm), or places of its map, as one vector an image.

    Args:
        network: See `take_feature`.
        pixels: float [n, 3, px, px].
        pooling: cls, mean, max or gem; class and register tokens enter none of the last three.

    Returns:
        float [n, d].
    """
    network = getattr(network, "trunk", network)
    if hasattr(network, "forward_features"):
        tokens = network.forward_features(pixels)
        if tokens.ndim == 4:
            tokens = tokens.flatten(2).transpose(1, 2) if tokens.shape[1] == network.num_features else tokens.flatten(1, 2)
        else:
            n_prefix = getattr(network, "num_prefix_tokens", 0)
            if pooling == "cls":
                return tokens[:, 0]
            tokens = tokens[:, n_prefix:]
    else:
        tokens = network(pixels)[1]
    pooled = tokens.mean(1) if pooling == "mean" else tokens.amax(1) if pooling == "max" else generalised_mean(tokens)
    has_late_norm = isinstance(getattr(network, "norm", None), nn.Identity) and hasattr(network, "fc_norm")  # timm's, where the model itself takes the mean
    return network.fc_norm(pooled) if has_late_norm else pooled


def generalised_mean(tokens: Tensor) -> Tensor:
    """GeM: the mean of the third powers' third root, of what is above zero; float [n, t, d] -> [n, d], in float32."""
    with torch.autocast(tokens.device.type, enabled=False):
        return tokens.float().clamp(min=1e-6).pow(GEM_P).mean(1).pow(1 / GEM_P).to(tokens.dtype)


def keep_less(network: nn.Module) -> None:
    """Turns gradient checkpointing on.

    Raises:
        ValueError: the network has none.
    """
    change = getattr(network, "set_grad_checkpointing", None)
    if change is None:
        raise ValueError(f"a {type(network).__name__} has no gradient checkpointing; set has_grad_checkpoints=False")
    change(True)
