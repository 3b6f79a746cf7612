"""Photos made small: decoded once, with sizes and fingerprints. A later start reads new and changed files only."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from PIL import Image

from guie.data.manifest import write_table
from guie.data.names import shown_name
from guie.data.packed import INDEX_COLUMNS, PLACE_COLUMNS, PackedImages
from guie.data.packing import pack_all
from guie.data.shards import MAX_IMAGES, PRINT_COLUMNS, Shard
from guie.done import readers
from guie.machine import n_cores
from guie.own.photos import PROBLEM_COLUMNS, Photos
from guie.settings.data import Data, Source
from guie.versions import PACKING

PACK_PX = 256  # shorter side; enough for networks of 224 and 256 px
LARGE_PACK_PX = 512  # for networks of more pixels
KEY_COLUMNS = ("path", "n_bytes", "mtime_ns")  # a file with the same three is taken to be unchanged
NO_LABEL = -1
SOURCE = "photos"


@dataclass(frozen=True)
class SmallPhotos:
    """Photos that can be read, in the order of their paths.

    Attributes:
        table: A row per photo: path, label ('' for none), class_id (int64, -1 for none), n_bytes, mtime_ns, width,
            height, original_width, original_height, content, phash and colours (see `guie.data.duplicates`).
        images: Their small pixels; row i belongs to row i of `table`.
        problems: path and reason of all that cannot be used, sorted by path.
    """

    table: pd.DataFrame
    images: PackedImages
    problems: pd.DataFrame

    @property
    def keys(self) -> list[tuple[str, int, int]]:
        """Path, size in bytes and time of change of each photo."""
        return list(self.table[list(KEY_COLUMNS)].itertuples(index=False, name=None))


def make_small(photos: Photos, folder: Path, px: int = PACK_PX) -> SmallPhotos:
    """Decodes the photos that `folder` does not hold yet, and keeps them there as small JPEGs in tar shards.

    Interrupted, the same call goes on with the shards that are not finished. Files that could not be read are tried
    again each time.

    Args:
        photos: What to read.
        folder: Where the small photos are kept; it belongs to this function alone.
        px: Length of the shorter side. Smaller photos stay as they are.

    Raises:
        ValueError: not one photo can be read; the message has the first reasons.
    """
    folder.mkdir(parents=True, exist_ok=True)
    reader = f"{PACKING} {px} {Image.__version__} {readers()}"
    listed = _listed(photos)
    known = _known(folder, reader)
    is_known = _keys(listed).isin(_keys(known))
    fresh = list(_packed(listed[~is_known], photos, folder, px, reader, n_all=len(listed)))
    done = pd.concat([table for table in (known, *fresh) if len(table)], ignore_index=True)
    is_bad = done["reason"] != ""
    problems = pd.concat([photos.problems, done.loc[is_bad, list(PROBLEM_COLUMNS)]]).sort_values("path")
    rows = listed.merge(done[~is_bad], on=list(KEY_COLUMNS), validate="one_to_one")
    if rows.empty:
        first = "; ".join(f"{shown_name(row.path)}: {row.reason}" for row in problems.head(3).itertuples())
        raise ValueError(f"none of {len(listed):,} photos can be read. The first: {first}")
    _remove_stale(folder, set(rows["shard"]))
    return SmallPhotos(rows, _indexed(rows, folder), problems.reset_index(drop=True))


def _listed(photos: Photos) -> pd.DataFrame:
    """path, label, class_id, n_bytes and mtime_ns of all photos; -1 where a file is gone."""
    states = []
    for path in photos.table["path"]:
        try:
            stat = os.stat(photos.file(path))
            states.append((stat.st_size, stat.st_mtime_ns))
        except OSError:
            states.append((-1, -1))
    table = photos.table.reset_index(drop=True)
    labels = table["label"].where(table["label"] != "")
    table["class_id"] = pd.factorize(labels, sort=True)[0].astype("int64")  # a missing value becomes -1
    return table.join(pd.DataFrame(states, columns=["n_bytes", "mtime_ns"], dtype="int64"))


def _keys(table: pd.DataFrame) -> pd.Series:
    """One text for each file: it changes when the file does."""
    return table["path"] + "\n" + table["n_bytes"].astype(str) + "\n" + table["mtime_ns"].astype(str)


def _known(folder: Path, reader: str) -> pd.DataFrame:
    """The rows of finished shards, as `_packed` yields them. Shards of other readers or other bytes are left out."""
    columns = [*KEY_COLUMNS, *PLACE_COLUMNS, *PRINT_COLUMNS, "reason"]
    texts = dict.fromkeys(("path", "shard", "content", "reason"), "str")
    tables = [pd.DataFrame(columns=columns).astype({**texts, "n_bytes": "int64", "mtime_ns": "int64"})]
    for path in sorted(folder.glob(".*.parquet")):
        try:
            table = pd.read_parquet(path)
            is_ours = set(table) >= {*columns, "reader", "state"}
        except (OSError, ValueError):  # damaged: the photos are read again
            continue
        shard = folder / f"{path.stem.removeprefix('.')}.tar"
        if is_ours and (table["reader"] == reader).all() and (table["state"] == _state(shard)).all():
            tables.append(table.loc[table["reason"] == "", columns])
    return pd.concat([table for table in tables if len(table)] or tables).drop_duplicates(list(KEY_COLUMNS))


def _state(shard: Path) -> str:
    return Shard(shard, (), (), _settings(PACK_PX)).state()


def _settings(px: int) -> Data:
    return Data(sources=(Source(SOURCE, "class_folders", "", SOURCE),), pack_px=px)


def _packed(
    waiting: pd.DataFrame, photos: Photos, folder: Path, px: int, reader: str, n_all: int
) -> Iterator[pd.DataFrame]:
    """Packs photos in parallel. Each shard's table is written when the shard is finished.

    Args:
        waiting: As `_listed` returns them.
        photos: Where their files are.
        folder: Where shards are written.
        px: Length of the shorter side.
        reader: Versions of the decoders, which the tables note.
        n_all: Number of all photos, for the progress bar.

    Yields:
        path, n_bytes, mtime_ns, the place in the shard, the fingerprints, and '' or the reason why it cannot be read.
    """
    n_each = min(MAX_IMAGES, max(16, -(-len(waiting) // (4 * n_cores()))))
    parts: dict[Path, pd.DataFrame] = {}
    shards = []
    for first in range(0, len(waiting), n_each):
        part = waiting.iloc[first : first + n_each].reset_index(drop=True)
        name = hashlib.sha256(f"{reader}\n{list(_keys(part))}".encode()).hexdigest()[:16]
        files = tuple(photos.file(path) for path in part["path"])
        shards.append(Shard(folder / f"{name}.tar", tuple(part["path"]), files, _settings(px)))
        parts[shards[-1].path] = part[list(KEY_COLUMNS)]
    for shard, table in pack_all(shards, n_all, scheduler="", what="reading photos"):
        finished = parts[shard.path].join(table[[*PLACE_COLUMNS, *PRINT_COLUMNS, "reason"]])
        write_table(shard.table_path, finished.assign(reader=reader, state=shard.state()))
        yield finished


def _remove_stale(folder: Path, kept: set[str]) -> None:
    """Removes shards that hold no photo of today, and their tables."""
    for path in folder.glob("*.tar"):
        if path.name not in kept:
            path.unlink()
    for path in folder.glob(".*.parquet"):
        if f"{path.stem.removeprefix('.')}.tar" not in kept:
            path.unlink()


def _indexed(rows: pd.DataFrame, folder: Path) -> PackedImages:
    """Writes the index that `PackedImages` reads, and opens it."""
    index = rows.assign(
        image_id=rows["path"],
        source=SOURCE,
        source_label=rows["label"].where(rows["label"] != "", "no label"),
        domain=SOURCE,
        split="val",
        repeats=1,
    )
    write_table(folder / "index.parquet", index[list(INDEX_COLUMNS)])
    return PackedImages(folder)
