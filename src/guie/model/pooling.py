"""Selects which output of a backbone is its feature: the library's own output, the one before a projection, or pooled
tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

# Source: Radenovic et al., Fine-tuning CNN image retrieval with no human annotation, TPAMI 2019; learnt p is near 3.
GEM_P = 3.0


def take_feature(network: Any, feature: str) -> str:
    """Removes the layers of `network` that a feature does not need.

    Args:
        network: The network, with its weights loaded.
        feature: See `Model.feature`.

    Returns:
        The argument `pooling` of `pooled_tokens`, or '' if the network's own forward gives the feature.

    Raises:
        ValueError: the network has no such feature; the message says which it has.
    """
    if type(network).__module__ == "open_clip.transformer":
        return _of_open_clip_vit(network, feature)
    if not feature:
        return ""
    if type(network).__module__ == "open_clip.modified_resnet":
        if feature in ("unprojected", "cls"):
            raise ValueError(
                _refusal(
                    network,
                    feature,
                    "its attention pool is its projection",
                    "'mean', 'max' or 'gem' of the map before it, or ''",
                )
            )
        network.attnpool = nn.Identity()
        return feature
    if hasattr(network, "trunk"):  # open_clip's wrapper of a timm network
        if feature == "unprojected":
            _drop_projection(network)
            return ""
        network.head = nn.Identity()
    return _of_timm(getattr(network, "trunk", network), feature)


def _refusal(network: Any, feature: str, why: str, instead: str) -> str:
    trunk = getattr(network, "trunk", network)
    return f"model.feature is {feature!r}, which a {type(trunk).__name__} does not have: {why}; take {instead}"


def _of_open_clip_vit(network: Any, feature: str) -> str:
    """`take_feature` for open_clip's own vision transformer. It always has a class token. CoCa's transformer also
    returns all tokens; this is turned off unless they are pooled."""
    network.output_tokens = False
    is_attentive = network.attn_pool is not None
    if not feature and network.pool_type == "none" and not is_attentive:
        raise ValueError(_refusal(network, feature, "it does not pool its tokens", "'mean', 'max' or 'gem'"))
    if not feature:
        return ""
    if is_attentive and feature != "unprojected":
        raise ValueError(
            _refusal(
                network,
                feature,
                "it pools its tokens by attention, with the last norm after that",
                "'unprojected', the pooled tokens, or ''",
            )
        )
    if feature == "cls" and network.pool_type != "tok":
        raise ValueError(
            _refusal(
                network,
                feature,
                f"it pools {network.pool_type!r} and has not trained its class token",
                "'mean', 'max' or 'gem'",
            )
        )
    if feature == "unprojected" and network.proj is None:
        raise ValueError(_refusal(network, feature, "it has no projection", "''"))
    network.proj = None
    if feature in ("unprojected", "cls"):
        return ""
    network.output_tokens = True
    return feature


def _drop_projection(network: Any) -> None:
    """Removes the projection from open_clip's wrapper of a timm network: a layer of its head or, if it has none, the
    classification layer of the timm network."""
    layers = dict(network.head.named_children())
    if "proj" in layers or "mlp" in layers:
        network.head = nn.Sequential(*(layer for name, layer in layers.items() if name == "pool"))
    elif "pool" in layers:
        raise ValueError(
            _refusal(
                network,
                "unprojected",
                "its attention pool is its projection",
                "'mean', 'max' or 'gem' of the map before it, or ''",
            )
        )
    elif not network.trunk.num_classes:
        raise ValueError(
            _refusal(network, "unprojected", "it has no projection, and its output is the pooled tokens", "''")
        )
    else:
        network.trunk.reset_classifier(0)  # keeps its pooling


def _of_timm(network: Any, feature: str) -> str:
    """`take_feature` for a timm network: the layers after its tokens or feature map are removed."""
    if feature == "unprojected" or not hasattr(network, "forward_features"):
        raise ValueError(
            _refusal(
                network, feature, "it has no projection" if feature == "unprojected" else "it gives no tokens", "''"
            )
        )
    if feature == "cls" and not _has_class_token(network):
        raise ValueError(_refusal(network, feature, "it has no class token", "'mean', 'max' or 'gem'"))
    if isinstance(getattr(network, "attn_pool", None), nn.Module):
        network.attn_pool = None
    if isinstance(getattr(network, "head", None), nn.Module):
        network.head = nn.Identity()
    return feature


def _has_class_token(network: Any) -> bool:
    """Whether a timm network has a class token; register tokens do not count. NaFlexVit has it in `embeds`."""
    return any(getattr(part, "cls_token", None) is not None for part in (network, getattr(network, "embeds", None)))


def pooled_tokens(network: Any, pixels: Tensor, pooling: str) -> Tensor:
    """Pools the last layer's tokens (after its norm), or the positions of its feature map, to one vector per image.

    Args:
        network: Prepared by `take_feature`.
        pixels: float [n, 3, px, px].
        pooling: cls, mean, max or gem; the last three leave class and register tokens out.

    Returns:
        float [n, d].

    Raises:
        ValueError: a timm network has tokens of several widths, or no tokens beside the class token.
    """
    network = getattr(network, "trunk", network)
    if type(network).__module__ == "open_clip.transformer":
        tokens = network(pixels)[1]
        if network.pool_type == "none":
            tokens = tokens[:, 1:]
        late_norm = network.ln_post if network.final_ln_after_pool else None
    elif type(network).__module__ == "open_clip.modified_resnet":
        tokens, late_norm = network(pixels).flatten(2).transpose(1, 2), None
    else:
        tokens = _timm_tokens(network, network.forward_features(pixels), pooling)
        has_late_norm = isinstance(getattr(network, "norm", None), nn.Identity) and isinstance(
            getattr(network, "fc_norm", None), nn.Module
        )
        late_norm = network.fc_norm if has_late_norm else None
    pooled = _POOLS[pooling](tokens)
    return pooled if late_norm is None else late_norm(pooled)


def _timm_tokens(network: Any, output: Any, pooling: str) -> Tensor:
    """The tokens to pool, float [n, t, d], from the output of `forward_features`, float [n, t, d], [n, d, h, w] or [n,
    h, w, d]."""
    width = network.num_features
    if isinstance(output, Tensor) and output.ndim == 4 and width in (output.shape[1], output.shape[3]):
        is_channels_last = output.shape[1] != width or getattr(network, "output_fmt", "") == "NHWC"
        return output.flatten(1, 2) if is_channels_last else output.flatten(2).transpose(1, 2)
    if not isinstance(output, Tensor) or output.ndim != 3:
        raise ValueError(_refusal(network, pooling, "it has tokens of several widths", "''"))
    if pooling == "cls":
        return output[:, :1]
    n_prefix = getattr(network, "num_prefix_tokens", int(_has_class_token(network)))
    if output.shape[1] <= n_prefix:
        raise ValueError(_refusal(network, pooling, "its last layer keeps the class token alone", "'cls' or ''"))
    return output[:, n_prefix:]


def generalised_mean(tokens: Tensor) -> Tensor:
    """GeM pooling: the cube root of the mean of cubes, of numbers clamped to at least 1e-6. float [n, t, d] -> [n, d],
    computed in float32."""
    return tokens.float().clamp(min=1e-6).pow(GEM_P).mean(1).pow(1 / GEM_P).to(tokens.dtype)


_POOLS: dict[str, Callable[[Tensor], Tensor]] = {
    "cls": lambda tokens: tokens[:, 0],
    "mean": lambda tokens: tokens.mean(1),
    "max": lambda tokens: tokens.amax(1),
    "gem": generalised_mean,
}


def enable_gradient_checkpointing(network: nn.Module) -> None:
    """Turns gradient checkpointing on.

    Raises:
        ValueError: the network has none.
    """
    change = getattr(network, "set_grad_checkpointing", None)
    if change is None:
        raise ValueError(f"a {type(network).__name__} has no gradient checkpointing; set has_grad_checkpoints=False")
    change(True)
