"""Finds files of weights for a backbone among others: by the names and shapes of their tensors, not by file names.

Numbers are not read, and the network is built without any, so that a file of 4 GB takes a second or two.
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
from guie.model.fitting import fitted_weights
from guie.model.libraries import build_network
from guie.model.weights import read_weights
from guie.settings.model import PICKLED, Model

ENDINGS = (".safetensors", *PICKLED)
DEPTH = 7  # Kaggle mounts a model at input/models/<owner>/<model>/<framework>/<variation>/<version>
MAX_ENTRIES = 1000  # a folder that holds more is one of images
MAX_FOLDERS = 2000  # folders of one level that are read
RUN_MARK = "recipe.json"  # in the folder of a run, whose files are trained weights and not pretrained ones


def weights_in(places: Iterable[Path], skipped: Sequence[Path] = ()) -> list[Path]:
    """All files that may hold weights, by their endings: the places themselves, or what lies below them.

    The highest folders come first. Folders of more than `MAX_ENTRIES` entries, those in `skipped`, which are data sets,
    and the folders of runs are not searched. A run's trained weights have the names and shapes of the pretrained ones.

    Args:
        places: Files and folders. One that is named here is searched even if it is a run's.
        skipped: Folders.
    """
    found: list[Path] = []
    for place in places:
        if place.is_file():
            found.append(place)
        elif place.is_dir():
            found += _below(place, {path.resolve() for path in skipped})
    return list(dict.fromkeys(found))


def _below(top: Path, skipped: set[Path]) -> Iterator[Path]:
    """Reads level by level, at most `MAX_FOLDERS` folders of each.

    Of a level with more folders, those are read whose positions among their siblings, added up from `top` on, are the
    smallest. So one large set does not take the turn of all that is attached beside it.
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

    Of several such files in one folder the first of these is taken, since they hold the same numbers in several forms:
    safetensors before pickles, then names with `open_clip` in them, then the alphabet.

    Args:
        model: Of a recipe; its weights are not looked at.
        files: Files of weights.

    Returns:
        The fitting files, at most one a folder, and why each other file does not fit, in one line.
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
        fitted_weights(_without_numbers(model), read_weights(path, only_shapes=True), path.name)
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
    """What the configuration beside a file of weights says that their shapes do not: another activation or another
    number of heads than open_clip's model has. '' if it says nothing else.
    """
    if model.library != "open_clip":
        return ""
    import open_clip

    has_quick_gelu = bool((open_clip.get_model_config(model.name) or {}).get("quick_gelu"))
    stated, n_stated = _activation_and_heads(folder)
    if stated is not None and stated != has_quick_gelu:
        kinds = ("GELU", "QuickGELU")
        return (
            f"the configuration in {folder} says {kinds[stated]}, and {model.name} has {kinds[has_quick_gelu]}, with "
            "which these weights give wrong features"
        )
    n_heads = next((m.num_heads for m in _without_numbers(model).modules() if isinstance(m, nn.MultiheadAttention)), 0)
    if n_stated and n_heads and n_stated != n_heads:
        return f"the configuration in {folder} says {n_stated} attention heads, and {model.name} has {n_heads}"
    return ""


def _activation_and_heads(folder: Path) -> tuple[bool | None, int]:
    """Whether a folder's configuration says QuickGELU (None: it says nothing), and the number of heads (0: nothing)."""
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
