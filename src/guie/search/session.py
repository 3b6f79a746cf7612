"""Chooses index and model for one start of `guie search`, and reports what was done to the index."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from guie.launch import check_device, choose_device
from guie.own.look import check_apart, weights_folders
from guie.own.photos import read_photos, told
from guie.run import default_out
from guie.search.embedder import Embedder, load_again, load_found, load_given, load_named
from guie.search.store import HEADER, PLACE, Header, Index, all_places, default_place, open_index, read_header
from guie.search.update import Changes, update

Say = Callable[[str], None]
AUTO = "auto"  # of --model: forgets the one that was given


@dataclass(frozen=True)
class Session:
    """An open index, the model that made it, and the device that the model is on."""

    index: Index
    embedder: Embedder
    device: str

    @classmethod
    def open(cls, arguments: argparse.Namespace, photos: Path | None, query: Path | None, say: Say) -> Session:
        """Updates the index of `photos` and opens it. Without `photos`, the index that fits the query is opened as it
        is; with --no-update, that of `photos` as well.

        Args:
            arguments: The options of `guie search`.
            photos: The folder or CSV, or None.
            query: The first photo to search with, or None.
            say: Prints a line for the user.

        Raises:
            FileNotFoundError: there is no such index, model or folder.
            ValueError: the index cannot be read, or another process updates it.
        """
        check_device(arguments.device)
        device = choose_device(arguments.device)
        if photos is None or arguments.no_update:
            place = _named_place(arguments) or (default_place(photos, default_out()) if photos else _place_for(query))
            index = open_index(place)
            say(f"index: {_described(index)}, made {index.header.made}, in {place}")
            return cls(index, load_again(index.header.model, device), device)
        return cls._updated(arguments, photos, device, say)

    @classmethod
    def _updated(cls, arguments: argparse.Namespace, photos: Path, device: str, say: Say) -> Session:
        place = _named_place(arguments) or default_place(photos, default_out())
        check_apart(place, photos, "--index or --out")
        found = read_photos(photos, arguments.label_from)
        embedder = _embedder(arguments, place, photos, found.root, device)
        index, changes = update(place, found, photos, embedder, arguments.label_from, arguments.verify)
        if changes.anew:
            say(f"the index is made anew: {changes.anew}")
        say(f"index: {_described(index)}, in {place}")
        if embedder.model.is_given and not arguments.model:
            say(f"  the model was given by --model earlier; --model {AUTO} chooses anew")
        say(f"  {_told(changes)}")
        _tell_problems(index.problems, place / index.header.generation, say)
        return cls(index, embedder, device)


def _named_place(arguments: argparse.Namespace) -> Path | None:
    """The index's folder by --index or --out; None without them."""
    place: Path | None = arguments.index
    return arguments.out / PLACE if arguments.out else place


def _embedder(arguments: argparse.Namespace, place: Path, photos: Path, root: Path, device: str) -> Embedder:
    """The model of --model; else the one that an earlier --model gave this index; else that of `load_found`."""
    if arguments.model == AUTO:
        return load_found(photos, default_out(), device)
    if arguments.model:
        return load_given(arguments.model, device, weights_folders(root))
    try:
        before: Header | None = read_header(place) if (place / HEADER).is_file() else None
    except ValueError:  # damaged: the update makes it anew and says so
        before = None
    if before is not None and before.model.is_given:
        return load_named(before.model, device, "choose another --model")
    return load_found(photos, default_out(), device)


def _place_for(query: Path | None) -> Path:
    """The index for a photo: the newest index of a folder that holds the photo; else the newest of a folder in the
    current directory; else the newest of all.

    Raises:
        FileNotFoundError: there is none.
    """
    places = all_places(default_out())
    if not places:
        raise FileNotFoundError(f"there is no index in {default_out()}; make one: guie search FOLDER")
    here = Path(os.getcwd())
    file = Path(os.path.abspath(query)) if query else here
    for fits in (
        lambda header: file.is_relative_to(header.root),
        lambda header: Path(header.root).is_relative_to(here),
        lambda header: True,
    ):
        for place, header in places:
            if fits(header):
                return place
    raise AssertionError("the last rule takes any")


def _described(index: Index) -> str:
    photos = "photo" if len(index) == 1 else "photos"
    return f"{len(index):,} {photos} of {index.header.photos}, by {index.header.model.text}"


def _told(changes: Changes) -> str:
    """What the update did, in one line."""
    counts = {"new": changes.n_new, "changed": changes.n_changed, "removed": changes.n_removed}
    told = ", ".join(f"{n:,} {what}" for what, n in counts.items() if n) or "nothing has changed"
    n = changes.n_embedded
    rate = f" ({n / changes.seconds:.0f}/s)" if n >= 100 else ""
    resumed = f", {changes.n_resumed:,} by an earlier start" if changes.n_resumed else ""
    return f"{told}; {n:,} embedded{rate}{resumed}; {changes.seconds:.1f} s"


def _tell_problems(problems: pd.DataFrame, folder: Path, say: Say) -> None:
    for line in told(problems, "not in the index", f"; all are in {folder / 'problems.parquet'}"):
        say(line)
