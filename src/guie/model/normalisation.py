"""Mean and standard deviation that normalise pixels: those of the library for these weights, unless the recipe states
others for exactly these weights."""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping
from typing import Any

from guie.settings.model import Model
from guie.settings.recipe import Recipe

log = logging.getLogger(__name__)

Channels = tuple[float, float, float]
MeanStd = tuple[Channels, Channels]
# For random weights if the library has no values: nothing was trained with other values.
OF_RANDOM: MeanStd = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
TOLERANCE = 5e-4  # CLIP's numbers are often written with three or four decimals


@functools.lru_cache(maxsize=64)
def mean_std(model: Model) -> MeanStd:
    """The mean and standard deviation of each channel, for pixels in 0..1, that `model` needs.

    They come from the library's configuration: that of the tag, or, for a file of weights, the values that all tags of
    this name share.

    Raises:
        ValueError: the recipe states values that the library does not have, and `own_normalisation_of` does not confirm
            them; or the recipe states none, and the library has several for this name, or none.
    """
    stated = (model.mean, model.std) if model.mean and model.std else None
    if stated and (not model.weights or model.own_normalisation_of == model.weights):
        return stated
    known = _known(model)
    if stated:
        if known and not any(_is_close(stated, pair) for pair in known):
            raise ValueError(
                f"model.mean and model.std are {_text(stated)}, but {model.library} has for {model.name} "
                f"{_listed(known)}. Leave both out to take the "
                f"library's; if they are these weights' own, say so: model.own_normalisation_of={model.weights!r}"
            )
        return stated
    if len(known) == 1 or (known and not model.weights):
        return next(iter(known))
    if not model.weights:
        return OF_RANDOM
    which = (
        f"{model.library} has for {model.name} {_listed(known)}"
        if known
        else f"{model.library} has none for {model.name}"
    )
    raise ValueError(
        f"model.mean and model.std are not stated, and {which}; state those with which {model.weights} was trained"
    )


def log_normalisation(recipe: Recipe) -> MeanStd:
    """Logs the mean and std of the pixels for each of the recipe's backbones, and where they come from; returns those
    of the recipe's own backbone.

    Raises:
        ValueError: see `mean_std`.
    """
    for model in recipe.models:
        whose = (
            "as the recipe states"
            if model.mean
            else f"as {model.library} has it for {model.name} {model.weights_tag}".strip()
        )
        try:
            log.info("pixels: %s, %s", _text(mean_std(model)), whose)
        except ValueError as error:
            at = _field_of(recipe, model)
            raise ValueError(str(error) if at == "model" else f"{at}: {error}") from error
    return mean_std(recipe.model)


def _field_of(recipe: Recipe, model: Model) -> str:
    """The first field of a recipe that holds a backbone, such as `stages.s1_teacher.start.model.beside.0`."""
    holders = {"model": recipe.model} | {
        f"stages.{stage.name}.start.model": stage.start.model for stage in recipe.stages.trained if stage.start.model
    }
    return next(
        f"{at}.beside.{i - 1}" if i else at
        for at, holder in holders.items()
        for i, each in enumerate(holder.each)
        if each == model
    )


def _known(model: Model) -> Mapping[MeanStd, list[str]]:
    """The library's tags for each mean and standard deviation; the library's default tag comes first."""
    found: dict[MeanStd, list[str]] = {}
    for tag, pair in _timm_tags(model) if model.library == "timm" else _open_clip_tags(model):
        close = next((other for other in found if _is_close(pair, other)), pair)
        found.setdefault(close, []).append(tag)
    return found


def _timm_tags(model: Model) -> list[tuple[str, MeanStd]]:
    import timm

    name, _, tag = model.name.partition(".")
    tag = model.weights_tag or tag
    if tag or not timm.is_model(name):
        names = [f"{name}.{tag}"]
    else:
        default = timm.get_pretrained_cfg(name)
        pretrained = [known for known in timm.list_pretrained(f"{name}*") if known.partition(".")[0] == name]
        names = sorted(pretrained, key=lambda known: known.partition(".")[2] != (default.tag if default else ""))
    settings = [(known.partition(".")[2], _timm_settings(known)) for known in names]
    return [(tag, _pair(values.mean, values.std)) for tag, values in settings if values is not None]


def _timm_settings(name: str) -> Any:
    """timm's configuration of a name with its tag; None where it has none."""
    import timm

    try:
        return timm.get_pretrained_cfg(name, allow_unregistered=False) if timm.is_model(name) else None
    except RuntimeError:  # an unknown tag
        return None


def _open_clip_tags(model: Model) -> list[tuple[str, MeanStd]]:
    import open_clip  # slow to import

    tags = [model.weights_tag] if model.weights_tag else open_clip.list_pretrained_tags_by_model(model.name)
    settings = [(tag, open_clip.get_pretrained_cfg(model.name, tag)) for tag in tags]
    return [(tag, _pair(values["mean"], values["std"])) for tag, values in settings if values]


def _pair(mean: tuple[float, ...], std: tuple[float, ...]) -> MeanStd:
    channels = [tuple(float(v) for v in values) for values in (mean, std)]
    return channels[0], channels[1]  # type: ignore[return-value]


def _is_close(a: MeanStd, b: MeanStd) -> bool:
    return all(
        abs(x - y) <= TOLERANCE for left, right in zip(a, b, strict=True) for x, y in zip(left, right, strict=True)
    )


def _text(pair: MeanStd) -> str:
    mean, std = (", ".join(f"{v:.4g}" for v in (values if len(set(values)) > 1 else values[:1])) for values in pair)
    return f"mean {mean} and std {std}"


def _listed(known: Mapping[MeanStd, list[str]]) -> str:
    """Each mean and standard deviation with up to three tags, as text."""
    parts = [
        f"{_text(pair)} (tag {', '.join(tags[:3])}{', ...' if len(tags) > 3 else ''})" for pair, tags in known.items()
    ]
    return "; ".join(parts)
