"""Where the results of a person's photos go: one folder for `guie look`, `guie search` and `guie train`."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path

from guie.data.names import safe_name

LOOK, SEARCH, PHOTOS = "look", "search", "photos"  # the folders there, of the three commands
LOOKED, INDEXED, TRAINED_ON = "look.json", "index.json", "source.json"  # in them: whose photos they are of
NOTES = (f"{LOOK}/{LOOKED}", f"{SEARCH}/{INDEXED}", f"{PHOTOS}/{TRAINED_ON}")


def place_of(photos: Path, out: Path) -> Path:
    """The folder of the results of a folder or CSV of photos: `out`/NAME.

    NAME is that of the folder or list, with `_` for characters that a run's name cannot have. If results of other
    photos are there, or another recipe's run, a hash of the path is added.

    Args:
        photos: The folder or CSV.
        out: Of all results, see `guie.run.default_out`.
    """
    source = photos.resolve()
    place = out / (re.sub(r"[^A-Za-z0-9_-]+", "_", _name(source)) or "photos")
    return place if _is_free(place, source) else _second(place, source)


def place_of_index(photos: Path, out: Path) -> Path:
    """The folder of the index of these photos: `place_of(photos, out)`/search.

    Versions before November 2026 took the name of the photos as it is, "my photos" for my_photos. Where such an index
    is the only one, it goes on.
    """
    source = photos.resolve()
    found = place_of(photos, out) / SEARCH
    named = out / _name(source)
    if not (found / INDEXED).is_file():
        for earlier in (named / SEARCH, _second(named, source) / SEARCH):
            if (noted := _noted(earlier / INDEXED)) and is_same(noted, source):
                return earlier
    return found


def _name(source: Path) -> str:
    is_list = source.is_file() or (source.suffix.lower() == ".csv" and not source.exists())
    return (source.stem if is_list else source.name) or "photos"


def _second(place: Path, source: Path) -> Path:
    """The place of photos whose own name is taken: a hash of their path is added."""
    return place.with_name(f"{place.name}-{hashlib.sha256(os.fsencode(source)).hexdigest()[:6]}")


def _is_free(place: Path, source: Path) -> bool:
    """Whether a folder holds no results, or those of `source`."""
    owners = [owner for note in NOTES if (owner := _noted(place / note))]
    if not owners:
        return not (place / "recipe.json").is_file()
    return all(is_same(owner, source) for owner in owners)


def _noted(note: Path) -> str:
    """The folder or CSV that a note names; '' where there is none that can be read."""
    try:
        found = json.loads(note.read_text(encoding="utf-8"))["photos"]
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return found if isinstance(found, str) else ""


def is_same(noted: str, photos: Path) -> bool:
    """Whether a note names these photos, perhaps by another link to them.

    Args:
        noted: A path, as it is or as `safe_name` writes it.
        photos: The folder or CSV.
    """
    source = photos.resolve()
    return noted == safe_name(str(source)) or Path(noted).resolve() == source
