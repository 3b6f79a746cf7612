"""Builds networks of timm and open_clip by name and tag, without the parts that are not needed. Errors are one line."""

from __future__ import annotations

import difflib
import os
import socket
import types
import urllib.parse
from pathlib import Path
from typing import Any

import huggingface_hub
import timm
from torch import nn

from guie.model.fitting import load_into
from guie.model.weights import read_weights
from guie.settings.model import Model

HUB_PREFIXES = ("hf-hub:", "hf_hub:", "local-dir:")


def build_network(model: Model, has_tag_weights: bool = True) -> nn.Module:
    """The network of a recipe: timm's without its classification layer, or the image tower of an open_clip model,
    without its text tower.

    Args:
        model: The recipe's model section.
        has_tag_weights: Whether the weights of `pretrained:TAG` are fetched and loaded. Otherwise, or without a tag,
            weights are random.

    Raises:
        ValueError: the name or tag is unknown, or the weights cannot be fetched.
    """
    tag = model.weights_tag
    kind, _, repository = model.name.partition(":")
    if kind in ("hf-hub", "hf_hub"):
        _check_reachable(model, repository.partition("@")[0])  # for its configuration
    if model.library == "timm":
        return _timm_network(model, tag, has_tag_weights)
    network = _image_tower(model)
    if tag:
        settings = _tag_settings(model, tag)
        if has_tag_weights:
            _load_tag(network, model, settings)
    return network


def _timm_network(model: Model, tag: str, has_tag_weights: bool) -> nn.Module:
    options: dict[str, Any] = {"pad_type": model.pad_type} if model.pad_type else {}
    if not model.name.startswith(HUB_PREFIXES):
        name = model.name.split(".")[0]
        if not timm.is_model(name):
            close = difflib.get_close_matches(model.name, timm.list_models(), n=5, cutoff=0.5)
            raise ValueError(
                f"model.name {model.name!r} is not a model of timm {timm.__version__}; similar names: "
                f"{', '.join(close) or 'none'}"
            )
        tags = _timm_tags(name)
        if tag and tag not in tags:
            raise ValueError(
                f"model.weights {model.weights!r}: timm has "
                f"{f'these tags for {name}: ' + ', '.join(tags) if tags else f'no weights for {name}'}"
            )
        if tag:
            _check_timm_activation(model, name, tag)
        if tag and has_tag_weights:
            settings = timm.get_pretrained_cfg(f"{name}.{tag}")
            _check_reachable(model, (settings and settings.hf_hub_id) or "")
    whole_name = f"{model.name}.{tag}" if tag else model.name
    try:
        return timm.create_model(whole_name, pretrained=bool(tag) and has_tag_weights, num_classes=0, **options)
    except Exception as error:  # whatever a library, its hub or the network raises
        if tag and has_tag_weights:
            raise ValueError(_not_fetched(model, _first_line(error))) from error
        raise ValueError(f"model.name {model.name!r} of timm cannot be built: {_first_line(error)}") from error


def _timm_tags(name: str) -> list[str]:
    """The tags of timm's weights for a network."""
    return [known.partition(".")[2] for known in timm.list_pretrained(f"{name}*") if known.partition(".")[0] == name]


def _check_timm_activation(model: Model, name: str, tag: str) -> None:
    """Raises ValueError if a tag's weights were trained with QuickGELU and timm has a variant of this network with it.
    timm only notes this in its configuration, and the features would be wrong."""
    settings = timm.get_pretrained_cfg(f"{name}.{tag}")
    is_noted = any("quickgelu" in note.lower() for note in (settings and settings.notes) or ())
    other = name.replace("_clip_", "_clip_quickgelu_")
    if is_noted and "quickgelu" not in name and tag in _timm_tags(other):
        raise ValueError(
            f"model.name {model.name!r} has another activation than the weights {tag!r} were trained with; set "
            f"model.name={other!r}"
        )


def _image_tower(model: Model) -> nn.Module:
    """The image tower alone. A whole model would also build its text tower, which may need files from Hugging Face."""
    import open_clip  # slow to import, and only needed here
    from open_clip.model import _build_vision_tower

    try:
        config = open_clip.get_model_config(model.name)
    except Exception as error:  # of a hf-hub: or local-dir: name
        raise ValueError(f"model.name {model.name!r} of open_clip cannot be read: {_first_line(error)}") from error
    if config is None:
        close = difflib.get_close_matches(model.name, open_clip.list_models(), n=5, cutoff=0.5)
        raise ValueError(
            f"model.name {model.name!r} is not an open_clip model; similar names: {', '.join(close) or 'none'}"
        )
    return _build_vision_tower(config["embed_dim"], config["vision_cfg"], config.get("quick_gelu", False))


def _tag_settings(model: Model, tag: str) -> dict[str, Any]:
    """open_clip's configuration of a tag.

    Raises:
        ValueError: the tag is unknown, or its weights were trained with another activation than the model's.
    """
    import open_clip

    settings: dict[str, Any] = open_clip.get_pretrained_cfg(model.name, tag)
    if not settings:
        tags = open_clip.list_pretrained_tags_by_model(model.name)
        raise ValueError(
            f"model.weights {model.weights!r}: open_clip has "
            f"{f'these tags for {model.name}: ' + ', '.join(tags) if tags else f'no weights for {model.name}'}"
        )
    wanted, own = (
        bool((values or {}).get("quick_gelu")) for values in (settings, open_clip.get_model_config(model.name))
    )
    other = f"{model.name}-quickgelu" if wanted else model.name.removesuffix("-quickgelu")
    # open_clip only warns about another activation, and the features would be wrong.
    if wanted != own and other != model.name and other in open_clip.list_models():
        raise ValueError(
            f"model.name {model.name!r} has another activation than the weights {tag!r} were trained with; set "
            f"model.name={other!r}"
        )
    return settings


def _load_tag(network: nn.Module, model: Model, settings: dict[str, Any]) -> None:
    import open_clip
    from open_clip.convert import convert_state_dict

    repository, _, _ = settings.get("hf_hub", "").rpartition("/")
    _check_reachable(model, repository)
    try:
        path = Path(open_clip.download_pretrained(settings))
    except Exception as error:  # whatever the hub or the network raises
        raise ValueError(_not_fetched(model, _first_line(error))) from error
    weights = convert_state_dict(types.SimpleNamespace(visual=network), read_weights(path))  # Apple's names
    load_into(network, weights, f"{path} ({model.weights})")


def _check_reachable(model: Model, repository: str) -> None:
    """Raises ValueError if weights are not cached and the hub cannot be reached. Hugging Face's client would retry for
    a minute and print a page of warnings.

    Args:
        model: For the message.
        repository: `owner/name` on the hub; '' for weights from elsewhere, which are not checked.
    """
    host = urllib.parse.urlparse(os.environ.get("HF_ENDPOINT", "https://huggingface.co")).hostname or ""
    is_cached = any(
        Path(huggingface_hub.constants.HF_HUB_CACHE, f"models--{repository.replace('/', '--')}", "snapshots").glob(
            "*/*"
        )
    )
    if (
        not repository
        or is_cached
        or any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"))
    ):
        return
    try:
        socket.getaddrinfo(host, 443)
    except OSError as error:
        raise ValueError(
            _not_fetched(model, f"{host} cannot be reached from here: {error.strerror or error}")
        ) from error


def _not_fetched(model: Model, why: str) -> str:
    other = "name a file: model.weights=PATH" if model.weights_tag else "name a network of the library"
    what = f"model.weights {model.weights!r}" if model.weights_tag else "the configuration"
    return (
        f"{what} of {model.library}'s {model.name} could not be fetched ({why}). Run this "
        "once on a machine with a network and copy its ~/.cache/huggingface here (HF_HUB_OFFLINE=1 then avoids "
        f"requests), or {other}"
    )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:150]}"
