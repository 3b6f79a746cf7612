"""Loads weights into a network: finds the prefix of their names, leaves out classification heads, and interpolates
position embeddings of another grid."""

from __future__ import annotations

import logging
import math
import re
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import timm
import torch
from torch import Tensor, nn

from guie.model.patches import resized_position_embedding
from guie.model.transformers_clip import as_open_clip

log = logging.getLogger(__name__)
Tell = Callable[..., None]  # takes a message and its values, as log.info does

# First parts of the names of modules after or beside a backbone. The backbone's feature does not depend on them.
HEADS = (
    "head",
    "heads",
    "head_dist",
    "fc",
    "classifier",
    "last_linear",
    "linear_head",
    "projector",
    "projection_head",
    "predictor",
    "contrastive_head",
    "dino_head",
    "ibot_head",
    "mask_token",
    "decoder_embed",
    "decoder_pos_embed",
    "decoder_blocks",
    "decoder_norm",
    "decoder_pred",
    "decoder",
    "logit_scale",
    "logit_bias",
)
# Words or parts of a prefix that mark an averaged copy of the network, as some keys in `WRAPPERS` do.
AVERAGES = ("ema", "teacher", "swa", "averaged", "target_encoder")
POSITIONS = ("pos_embed", "positional_embedding")
STRANGE_NAMES = {
    "encoder.layers.encoder_layer_0": "torchvision's vision transformers",
    "features.0.0.weight": "torchvision's networks",
    "conv_proj.weight": "torchvision's vision transformers",
    "embeddings.patch_embeddings": "Hugging Face's transformers",
    "embeddings.patch_embedding": "Hugging Face's transformers",
    "vision_model.": "Hugging Face's transformers",
    "layers.0.blocks.0": "a Swin of Microsoft's repository",
    "downsample_layers.0.0.weight": "a ConvNeXt of Meta's repository",
    "radio_model.": "NVIDIA's RADIO",
    "visual.conv1.weight": "CLIP's",
}


def load_into(network: nn.Module, weights: Mapping[str, Tensor], what: str) -> None:
    """Loads weights strictly: every parameter must get a value. A head, a mask token or a decoder that the network does
    not have is left out.

    The prefix (`module.`, `backbone.`, `visual.`, `module.encoder_q.`, ...) is the one under which most of the
    network's own names are found. If the weights do not fit, the conversions for this network are tried: timm's, or
    `as_open_clip`.

    Args:
        network: A timm network, or the image tower of an open_clip model.
        weights: By name.
        what: The file, for messages.

    Raises:
        ValueError: the weights hold several different copies of the network, names are missing or unknown, shapes
            differ, or numbers are not finite. The message is one line.
    """
    fitted = fitted_weights(network, weights, what, log.info)
    _check_numbers(network.state_dict(), fitted, what)
    network.load_state_dict(fitted, strict=False)  # checked above: only counters (num_batches_tracked) may be missing


def fits(network: nn.Module, weights: Mapping[str, Tensor]) -> bool:
    """Whether `load_into` would find a tensor of the right shape for each of the network's."""
    try:
        fitted_weights(network, weights, "the file")
    except ValueError:
        return False
    return True


def _untold(message: str, *values: object) -> None:
    """Says nothing: the weights are only tried."""


def fitted_weights(
    network: nn.Module, weights: Mapping[str, Tensor], what: str, tell: Tell = _untold
) -> dict[str, Tensor]:
    """The weights under the network's own names, as `load_into` loads them; names and shapes are checked.

    Both may be on the device `meta`, without values: then only names and shapes are compared. What is chosen or
    interpolated is told by `tell`.

    Raises:
        ValueError: as `load_into`, for anything but the numbers.
    """
    own = network.state_dict()
    fitted = _fitted(own, weights, what, tell)
    complaint = misfit(own, fitted)
    if not complaint:
        return fitted
    for converted in _conversions(network, weights):
        fitted = _fitted(own, converted, what, tell)
        if not misfit(own, fitted):
            return fitted
    raise ValueError(f"{what} does not fit the backbone, a {type(network).__name__}: {complaint}{_origin(weights)}")


def misfit(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> str:
    """Why `given` cannot be loaded into the tensors `own`, in one line; '' if it can."""
    missing = [name for name in own if name not in given and not name.endswith("num_batches_tracked")]
    unknown = [name for name in given if name not in own]
    other = [
        f"{name} ({_shape(tensor)} for {_shape(own[name])})"
        for name, tensor in given.items()
        if name in own and tensor.shape != own[name].shape
    ]
    parts = [
        f"{len(names)} {what} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
        for names, what in (
            (missing, f"of its {len(own)} tensors are missing"),
            (unknown, "are not known to it"),
            (other, "have another shape"),
        )
        if names
    ]
    return "; ".join(parts)


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a number"


def _fitted(own: Mapping[str, Tensor], weights: Mapping[str, Tensor], what: str, tell: Tell) -> dict[str, Tensor]:
    """The tensors under the best prefix."""
    prefix = _best_prefix(weights, own, what, tell)
    kept = _inside(weights, prefix, own, tell)
    if prefix:
        log.debug("%s: %d tensors under %r, %d others are left out", what, len(kept), prefix, len(weights) - len(kept))
    return kept


def _inside(
    weights: Mapping[str, Tensor], prefix: str, own: Mapping[str, Tensor], tell: Tell = _untold
) -> dict[str, Tensor]:
    """The tensors under a prefix, which is removed. Heads are left out, and position embeddings are interpolated to the
    network's grid."""
    inside = {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}
    kept = {name: tensor for name, tensor in inside.items() if name in own or name.split(".")[0] not in HEADS}
    return {name: _on_grid(name, tensor, own.get(name), tell) for name, tensor in kept.items()}


def _best_prefix(names: Mapping[str, Tensor], own: Mapping[str, Tensor], what: str, tell: Tell) -> str:
    """The prefix under which most names of `own` are found; it is '' or ends in a dot.

    If tensors under a prefix fit, those that do not fit are not considered: they are of another network, such as a
    teacher of another size. If several copies of the network are left, the averaged one is taken (`AVERAGES`), as in
    training checkpoints.

    Raises:
        ValueError: several prefixes have the same number of these names, more than half of all; their tensors differ;
            and not exactly one of them is an average.
    """
    every = _counted_prefixes(names, own)
    fitting = {p: n for p, n in every.items() if n > len(own) // 2 and not misfit(own, _inside(names, p, own))}
    found = fitting or every
    best = max(found.values(), default=0)
    prefixes = [prefix for prefix, n in found.items() if n == best]
    if unfit := [prefix for prefix, n in every.items() if 4 * n >= best and prefix not in found]:
        tell("weights %s: left out, because they do not fit the network: %s", what, ", ".join(map(repr, unfit)))
    if len(prefixes) < 2:
        return prefixes[0] if prefixes else ""
    if best <= len(own) // 2 or _are_alike(names, own, prefixes):
        return min(prefixes, key=len)
    averages = [prefix for prefix in prefixes if {*re.split(r"[._]", prefix), *prefix.split(".")} & set(AVERAGES)]
    if len(averages) != 1:
        raise ValueError(
            f"{what} holds the network {len(prefixes)} times, under {', '.join(map(repr, prefixes))}; save only "
            "the one that you want"
        )
    tell("weights %s: of %d copies the average is taken, %r", what, len(prefixes), averages[0])
    return averages[0]


def _counted_prefixes(names: Collection[str], own: Collection[str]) -> Counter[str]:
    """How many names of `own` are found under each prefix."""
    found: Counter[str] = Counter()
    for name in names:
        pieces = name.split(".")
        found.update(".".join([*pieces[:i], ""]) for i in range(len(pieces)) if ".".join(pieces[i:]) in own)
    return found


def _are_alike(names: Mapping[str, Tensor], own: Collection[str], prefixes: Sequence[str]) -> bool:
    """Whether the tensors under several prefixes are equal. On the device `meta`, without values, they count as
    equal."""
    first = {name.removeprefix(prefixes[0]): tensor for name, tensor in names.items() if name.startswith(prefixes[0])}
    return all(
        first[name].is_meta or torch.equal(first[name], names[prefix + name])
        for prefix in prefixes[1:]
        for name in own
        if name in first and prefix + name in names
    )


def _on_grid(name: str, tensor: Tensor, own: Tensor | None, tell: Tell) -> Tensor:
    """Interpolates a position embedding of another square grid to the network's grid; returns other tensors as they
    are."""
    if (
        own is None
        or tensor.shape == own.shape
        or name.rpartition(".")[2] not in POSITIONS
        or tensor.ndim != own.ndim
        or tensor.shape[:-2] != own.shape[:-2]
        or tensor.shape[-1] != own.shape[-1]
    ):
        return tensor
    side, old_side = math.isqrt(own.shape[-2]), math.isqrt(tensor.shape[-2])
    n_prefix = own.shape[-2] - side**2
    if tensor.ndim not in (2, 3) or tensor.shape[-2] != old_side**2 + n_prefix:
        return tensor
    tell("the position embedding is interpolated from %d x %d to %d x %d", old_side, old_side, side, side)
    return resized_position_embedding(tensor, (old_side, old_side), (side, side))


def _conversions(network: nn.Module, weights: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """Yields the weights after each known conversion from other projects' names to those of this network.

    timm has conversions for its own networks, also inside open_clip's wrapper; `as_open_clip` is for open_clip's. timm
    looks for whole names, so its conversion is also tried on the names below each prefix.
    """
    if type(network).__module__ == "open_clip.transformer":
        yield as_open_clip(weights)
        return
    trunk: Any = getattr(network, "trunk", network)
    convert = _timm_conversion(trunk)
    if convert is None:
        return
    for prefix in _long_prefixes(weights, len(network.state_dict())):
        inside = {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}
        try:
            converted = convert(inside, trunk)
        except Exception as error:  # it is written for certain files; others may make it raise anything
            log.debug("timm's conversion of these weights failed: %s: %s", type(error).__name__, error)
            continue
        start = "" if trunk is network else "trunk."
        yield {f"{start}{name}": tensor for name, tensor in converted.items() if isinstance(tensor, Tensor)}


def _timm_conversion(trunk: Any) -> Callable[[dict[str, Tensor], nn.Module], dict[str, Any]] | None:
    """timm's conversion for a network: that of the module that defines its name, else that of its class's module.

    It is not used for RADIO's own files and a VisionTransformer: timm interpolates their position embedding by settings
    of the name, and without these the features differ slightly. NaFlexVit interpolates the embedding itself.
    """
    architecture = (getattr(trunk, "pretrained_cfg", None) or {}).get("architecture", "")
    if "radio" in architecture and type(trunk).__name__ != "NaFlexVit":
        return None
    modules = [timm.model_entrypoint(architecture).__module__] if timm.is_model(architecture) else []
    for module in (*modules, type(trunk).__module__):
        if hasattr(sys.modules[module], "checkpoint_filter_fn"):
            found: Callable[[dict[str, Tensor], nn.Module], dict[str, Any]] = sys.modules[module].checkpoint_filter_fn
            return found
    return None


def _long_prefixes(names: Collection[str], n_own: int) -> list[str]:
    """'' and the prefixes of up to three words that stand before at least half as many names as the network has
    tensors; short ones first."""
    found: Counter[str] = Counter()
    for name in names:
        pieces = name.split(".")
        found.update(".".join([*pieces[:i], ""]) for i in range(1, min(4, len(pieces))))
    return ["", *sorted((prefix for prefix, n in found.items() if 2 * n >= n_own), key=len)]


def _origin(weights: Collection[str]) -> str:
    """A guess at the project that the names come from, as a sentence for the message."""
    for piece, whose in STRANGE_NAMES.items():
        if any(piece in name for name in weights):
            return f". The names look like {whose}: take the weights under the library's own names"
    return ". Are they of another network?"


def _check_numbers(own: Mapping[str, Tensor], weights: Mapping[str, Tensor], what: str) -> None:
    """Raises ValueError if weights are quantised, sparse or without values, or hold numbers that are not finite."""
    odd = [name for name, tensor in weights.items() if own[name].is_floating_point() and not _has_plain_numbers(tensor)]
    if odd:
        tensor = weights[odd[0]]
        kind = "without values" if tensor.is_meta else "quantised" if tensor.layout == torch.strided else "sparse"
        raise ValueError(
            f"{what}: {len(odd)} of its tensors, {odd[0]} first, are {tensor.dtype}, {kind}: take the weights in fp32, "
            "bf16 or fp16"
        )
    spoilt = [
        name
        for name, tensor in weights.items()
        if not bool(tensor.isfinite().all()) and bool(own[name].isfinite().all())
    ]
    if spoilt:
        n_bad = int((~weights[spoilt[0]].isfinite()).sum())
        raise ValueError(
            f"{what}: {len(spoilt)} of its {len(weights)} tensors hold NaN or infinite numbers, {spoilt[0]} first "
            f"({n_bad} of {weights[spoilt[0]].numel()}): "
            "the training that wrote them diverged, or the file is damaged; take an earlier checkpoint"
        )


def _has_plain_numbers(tensor: Tensor) -> bool:
    """Whether a tensor is dense and holds floating-point numbers of two bytes or more. Formats of one byte need scales,
    which no network here uses."""
    return (
        tensor.is_floating_point()
        and tensor.dtype.itemsize > 1
        and tensor.layout == torch.strided
        and not tensor.is_meta
    )
