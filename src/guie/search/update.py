"""Brings an index up to date with a folder: only photos that are new or have changed are embedded."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from guie.done import locked
from guie.embed.search import Vectors
from guie.errors import is_of_the_machine
from guie.own.photos import Photos
from guie.own.place import is_same
from guie.search.embedder import Embedder
from guie.search.pending import KNOWN_COLUMNS, Pending
from guie.search.reading import Photo, read_all
from guie.search.store import HEADER, PENDING, PHOTO_COLUMNS, Header, Index, open_index
from guie.search.writing import begin, check_own, write_generation
from guie.shown import progress

RECENT_NS = 2_000_000_000  # a later change may leave the file's time as it is: its resolution is 2 s on FAT
UNSURE = -1  # as mtime_ns: the next update compares the bytes
_Place = tuple[str, int, int]  # label, size and mtime_ns of a file


@dataclass(frozen=True)
class Changes:
    """What an update did, in numbers of photos.

    Attributes:
        n_photos: In the index now.
        n_new: Of paths that were not in the index.
        n_changed: Of paths that hold other bytes now.
        n_removed: Of paths that are gone, or can no longer be read.
        n_embedded: Passed through the model by this start. Copies of known photos are not.
        n_resumed: Passed through the model by an earlier start that was interrupted.
        anew: Why an existing index was rebuilt, or ''.
        seconds: How long the update took.
    """

    n_photos: int
    n_new: int
    n_changed: int
    n_removed: int
    n_embedded: int
    n_resumed: int
    anew: str
    seconds: float


@dataclass(frozen=True)
class _Pool:
    """All known embeddings: those of the old index, then the pending ones.

    Attributes:
        table: `KNOWN_COLUMNS` and `row`, the number of the embedding. Each path has one row, the latest.
        by_digest: The number of an embedding for each digest.
        n: Number of embeddings.
    """

    table: pd.DataFrame
    by_digest: dict[str, int]
    n: int

    @classmethod
    def of(cls, old: Index | None, pending: pd.DataFrame) -> _Pool:
        parts = [pending] if old is None else [old.table[list(KNOWN_COLUMNS)], pending]
        table = pd.concat(parts, ignore_index=True)
        table["row"] = np.arange(len(table), dtype=np.int64)
        by_digest = dict(zip(table["digest"].tolist(), table["row"].tolist(), strict=True))
        return cls(table.drop_duplicates("path", keep="last"), by_digest, len(table))


def update(
    place: Path, photos: Photos, source: Path, embedder: Embedder, label_from: str = "", verify: bool = False
) -> tuple[Index, Changes]:
    """Brings the index in `place` up to date, and opens it.

    The embedding of a photo is kept if path, size and time are unchanged. Otherwise its bytes are compared, and only
    photos with other bytes are embedded. The index is replaced as a whole. After an interruption the same call
    continues.

    Args:
        place: The index's folder; made if it is missing.
        photos: The photos that exist now.
        source: The folder or CSV that `photos` was read from.
        embedder: The model. An index of another model is rebuilt.
        label_from: As given to `read_photos`.
        verify: Compare the bytes of all photos, not only sizes and times.

    Raises:
        ValueError: another process updates the index, `place` holds something else, or no photo can be read.
        OSError: the disk is full, or `place` cannot be written.
    """
    began = time.monotonic()
    check_own(place)
    with locked(place, "--index"):
        begin(place)
        old, anew = _old_index(place, source, embedder)
        pending = Pending(place / PENDING, embedder.model.key, embedder.model.dim)
        files, problems = _files(photos)
        pool = _Pool.of(old, pending.table)
        kept, waiting = _split(files, pool, verify)
        read, n_embedded = _read(waiting, photos, embedder, pending, pool, problems)
        table = pd.concat([kept, read], ignore_index=True).sort_values("path", ignore_index=True)
        if table.empty:
            raise ValueError(f"no photo of {source} can be read; {_first(problems)}")
        header = _header(photos, source, embedder, label_from)
        not_taken = _not_taken(photos, problems)
        if old is None or not _is_same(old, header, table, not_taken):
            write_generation(place, header, table, not_taken, _all_embeddings(old, pending))
        pending.remove()
        index = open_index(place)
    changes = _changes(old, index, anew, time.monotonic() - began)
    return index, replace(changes, n_embedded=n_embedded, n_resumed=len(pending.table))


def _old_index(place: Path, source: Path, embedder: Embedder) -> tuple[Index | None, str]:
    """The existing index, and why it must be rebuilt, or ''. The index is None if there is none, or if it must be
    rebuilt.

    Raises:
        ValueError: it is of other photos.
    """
    if not (place / HEADER).is_file():
        return None, ""
    try:
        old = open_index(place)
    except (OSError, ValueError) as error:
        if is_of_the_machine(error):
            raise
        return None, f"the index could not be read: {error}"
    if not is_same(old.header.photos, source):
        raise ValueError(f"{place} holds the index of {old.header.photos}; choose another place with --index")
    if old.header.model.key != embedder.model.key:
        return None, f"it was made by another model ({old.header.model.text}), now {embedder.model.text}"
    return old, ""


def _files(photos: Photos) -> tuple[pd.DataFrame, list[tuple[str, str]]]:
    """path, label, size and mtime_ns of each photo that is there; and (path, reason) of those that are gone."""
    rows = []
    problems = []
    for path, label in photos.table[["path", "label"]].itertuples(index=False, name=None):
        try:
            status = os.stat(photos.file(path))
        except OSError as error:
            if is_of_the_machine(error):
                raise
            problems.append((path, f"cannot be opened: {error.strerror}"))
            continue
        is_recent = abs(time.time_ns() - status.st_mtime_ns) < RECENT_NS
        rows.append((path, label, status.st_size, UNSURE if is_recent else status.st_mtime_ns))
    return pd.DataFrame(rows, columns=["path", "label", "size", "mtime_ns"]), problems


def _split(files: pd.DataFrame, pool: _Pool, verify: bool) -> tuple[pd.DataFrame, dict[str, _Place]]:
    """The photos whose embedding is kept, with digest and row; and those that must be read, by path."""
    joined = files.merge(pool.table, on="path", how="left", suffixes=("", "_known"))
    is_same = (joined["size"] == joined["size_known"]) & (joined["mtime_ns"] == joined["mtime_ns_known"])
    is_same &= (joined["mtime_ns"] != UNSURE) & (not verify)
    kept = joined.loc[is_same, [*PHOTO_COLUMNS, "row"]].astype({"row": np.int64})
    waiting = files[~is_same.to_numpy()]
    return kept, {path: (label, size, mtime) for path, label, size, mtime in waiting.itertuples(index=False, name=None)}


def _read(
    places: dict[str, _Place],
    photos: Photos,
    embedder: Embedder,
    pending: Pending,
    pool: _Pool,
    problems: list[tuple[str, str]],
) -> tuple[pd.DataFrame, int]:
    """Reads photos, and embeds those whose bytes are new. What cannot be read is added to `problems`.

    Returns:
        `PHOTO_COLUMNS` and row of each; and how many were embedded.
    """
    n = pool.n
    rows: list[_Row] = []
    batches = read_all(((path, photos.file(path)) for path in places), embedder, pool.by_digest)
    with progress(total=len(places), desc="photos", leave=False) as bar:
        for batch in batches:
            problems += [(photo.path, photo.reason) for photo in batch if photo.reason]
            new = [photo for photo in batch if photo.embedding is not None]
            numbers = {photo.path: n + i for i, photo in enumerate(new)}
            table = {
                photo.path: _row(photo, places[photo.path], numbers.get(photo.path, pool.by_digest.get(photo.digest)))
                for photo in batch
                if not photo.reason
            }
            if new:
                pending.add([table[photo.path].known for photo in new], np.array([photo.embedding for photo in new]))
            rows += table.values()
            n += len(new)
            bar.update(len(batch))
    return pd.DataFrame(rows, columns=[*PHOTO_COLUMNS, "row"]), n - pool.n


class _Row(NamedTuple):
    """`PHOTO_COLUMNS` of a photo, and the number of its embedding in the pool."""

    path: str
    label: str
    size: int
    mtime_ns: int
    digest: str
    row: int

    @property
    def known(self) -> tuple[str, int, int, str]:
        """`KNOWN_COLUMNS`."""
        return self.path, self.size, self.mtime_ns, self.digest


def _row(photo: Photo, place: _Place, number: int | None) -> _Row:
    """The row of a photo that was read; `place` is its label, and its size and time before it was read."""
    label, size, mtime_ns = place
    assert number is not None  # its bytes are known, or it was embedded
    has_grown = photo.n_bytes != size  # after `_files` noted the size
    return _Row(photo.path, label, photo.n_bytes, UNSURE if has_grown else mtime_ns, photo.digest, number)


def _header(photos: Photos, source: Path, embedder: Embedder, label_from: str) -> Header:
    """The header of the new index; generation and shards are filled in when it is written."""
    made = datetime.now(UTC).isoformat(timespec="seconds")
    return Header(os.path.abspath(source), label_from, os.path.abspath(photos.root), embedder.model, "", (), made=made)


def _not_taken(photos: Photos, problems: list[tuple[str, str]]) -> pd.DataFrame:
    """path and reason of everything that is not in the index, sorted by path."""
    whole = pd.concat([photos.problems, pd.DataFrame(problems, columns=["path", "reason"])], ignore_index=True)
    return whole.astype(str).sort_values("path", ignore_index=True, kind="stable")


def _is_same(old: Index, header: Header, table: pd.DataFrame, problems: pd.DataFrame) -> bool:
    """Whether a new index would be the same as the existing one."""
    names = list(PHOTO_COLUMNS)
    is_header_same = replace(old.header, generation="", shards=(), made=header.made) == header
    return (
        is_header_same
        and len(old.table) == len(table)
        and bool((old.table[names].to_numpy() == table[names].to_numpy()).all())
        and old.problems.to_numpy().tolist() == problems.to_numpy().tolist()
    )


def _all_embeddings(old: Index | None, pending: Pending) -> Vectors:
    """The embeddings in the order of the pool."""
    _, new = pending.all()
    return Vectors((*(() if old is None else old.shards), new))


def _changes(old: Index | None, index: Index, anew: str, seconds: float) -> Changes:
    before = pd.Series(dtype=object) if old is None else old.table.set_index("path")["digest"]
    now = index.table.set_index("path")["digest"]
    both = now.index.intersection(before.index)
    return Changes(
        n_photos=len(now),
        n_new=len(now) - len(both),
        n_changed=int((now[both].to_numpy() != before[both].to_numpy()).sum()),
        n_removed=len(before) - len(both),
        n_embedded=0,
        n_resumed=0,
        anew=anew,
        seconds=seconds,
    )


def _first(problems: list[tuple[str, str]]) -> str:
    return "; ".join(f"{path}: {reason}" for path, reason in problems[:3])
