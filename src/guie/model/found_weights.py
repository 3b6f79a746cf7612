"""Finds files of weights for a backbone among others: by the names and shapes of their tensors, not by file names.

Only names and shapes are read, and the network is built without values, so that a file of 4 GB takes a second or two.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from guie.errors import is_of_the_machine
from guie.model.fitting import fits, fitted_weights
from guie.model.libraries import build_network
from guie.model.weights import read_weights
from guie.settings.model import PICKLED, Model

ENDINGS = (".safetensors", *PICKLED)
DEPTH = 7  # Kaggle mounts a model at input/models/<owner>/<model>/<framework>/<variation>/<version>
MAX_ENTRIES = 1000  # a folder with more entries is taken for a folder of images
MAX_FOLDERS = 2000  # most folders of one level that are read
RUN_MARK = "recipe.json"  # marks the folder of a run. Its weights are trained ones, not pretrained ones


def weights_in(places: Iterable[Path], skipped: Sequence[Path] = ()) -> list[Path]:
    """All files that may hold weights, by their endings: the places themselves, or files below them.

    The highest folders come first. Three kinds of folders are not searched: those of more than `MAX_ENTRIES` entries,
    those in `skipped`, and those of runs, since trained weights have the names and shapes of the pretrained ones.

    Args:
        places: Files and folders. A folder named here is searched even if it is that of a run.
        skipped: Folders of data sets.
    """
    found: list[Path] = []
    for place in places:
        if place.is_file():
            found.append(place)
        elif place.is_dir():
            found += _below(place, {path.resolve() for path in skipped})
    return list(dict.fromkeys(found))


def _below(top: Path, skipped: set[Path]) -> Iterator[Path]:
    """Reads the folders level by level, at most `MAX_FOLDERS` of each level.

    If a level has more, folders that come early among their siblings are read first: the positions of a folder and of
    the folders above it, up to `top`, are added up, and the smallest sums are read. So one large data set does not keep
    the folders beside it from being read.
    """
    level = [(0, top)]
    for _ in range(DEPTH):
        deeper: list[tuple[int, Path]] = []
        for position, folder in sorted(level)[:MAX_FOLDERS]:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
            is_run = folder != top and any(entry.name == RUN_MARK for entry in entries)
            if is_run or len(entries) > MAX_ENTRIES:
                continue
            yield from (Path(entry.path) for entry in entries if entry.name.endswith(ENDINGS) and entry.is_file())
            folders = [Path(entry.path) for entry in entries if entry.is_dir()]
            deeper += [(position + i, path) for i, path in enumerate(folders) if path.resolve() not in skipped]
        level = deeper


def fitting_files(model: Model, files: Iterable[Path]) -> tuple[list[Path], dict[Path, str]]:
    """Which files hold weights of a model's architecture.

    Several such files in one folder hold the same weights in several formats, so only the first is taken. The order is:
    safetensors before pickles, then names with `open_clip` in them, then the alphabet.

    Args:
        model: The model of a recipe; its own weights are ignored.
        files: Files of weights.

    Returns:
        The fitting files, at most one per folder; and for each other file, in one line, why it does not fit.
    """
    fitting: dict[Path, Path] = {}
    reasons: dict[Path, str] = {}
    for path in sorted(files, key=lambda path: (path.name.endswith(PICKLED), "open_clip" not in path.name, path)):
        if path.parent in fitting:
            continue
        if reason := why_not(model, path):
            reasons[path] = reason
        else:
            fitting[path.parent] = path
    return sorted(fitting.values()), reasons


def why_not(model: Model, path: Path) -> str:
    """Why a file does not hold weights of the model's architecture, in one line; '' if it does."""
    try:
        network = _without_numbers(model)
        weights = read_weights(path, only_shapes=True, fits=functools.partial(fits, network))
        fitted_weights(network, weights, path.name)
    except Exception as error:  # a file of anything may be called .bin
        if is_of_the_machine(error):
            raise
        return (str(error).strip().splitlines() or [type(error).__name__])[0]
    return _other_than_configured(model, path.parent)


@functools.cache
def _without_numbers(model: Model) -> nn.Module:
    """The model's network on the device `meta`."""
    with torch.device("meta"):
        return build_network(model, has_tag_weights=False)


def _other_than_configured(model: Model, folder: Path) -> str:
    """How the configuration beside a file of weights contradicts open_clip's model in what shapes do not show, the
    activation and the number of heads; '' if it does not."""
    if model.library != "open_clip":
        return ""
    import open_clip

    has_quick_gelu = bool((open_clip.get_model_config(model.name) or {}).get("quick_gelu"))
    stated, n_stated = _activation_and_heads(folder)
    if stated is not None and stated != has_quick_gelu:
        kinds = ("GELU", "QuickGELU")
        return (
            f"the configuration in {folder} says {kinds[stated]}, but {model.name} has {kinds[has_quick_gelu]}; these "
            "weights would give wrong features"
        )
    n_heads = next((m.num_heads for m in _without_numbers(model).modules() if isinstance(m, nn.MultiheadAttention)), 0)
    if n_stated and n_heads and n_stated != n_heads:
        return f"the configuration in {folder} says {n_stated} attention heads, but {model.name} has {n_heads}"
    return ""


def _activation_and_heads(folder: Path) -> tuple[bool | None, int]:
    """Whether a folder's configuration says QuickGELU, and its number of heads; None and 0 if it does not say."""
    ours = _json(folder / "open_clip_config.json").get("model_cfg")
    if isinstance(ours, dict):
        return bool(ours.get("quick_gelu")), 0
    theirs = _json(folder / "config.json")
    vision = theirs.get("vision_config") or theirs
    if not isinstance(vision, dict) or "clip" not in str(theirs.get("model_type", "")):
        return None, 0
    # transformers writes only what differs from its defaults: QuickGELU and 12 heads
    return vision.get("hidden_act", "quick_gelu") == "quick_gelu", int(vision.get("num_attention_heads", 12))


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
