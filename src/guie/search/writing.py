"""Writes the files of an index and removes those that it replaces. Nothing else in the index's folder is touched.

A folder of an index holds the empty file `.guie-search`. An update works only in such a folder, or in an empty one: a
user who names a folder with other files by mistake loses none of them.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from guie.data.manifest import write_table
from guie.done import LOCK
from guie.embed.search import Vectors
from guie.files import SCRATCH, full_disk_told, save_json
from guie.search.store import HEADER, PHOTO_COLUMNS, Header

MARKER = ".guie-search"
SHARD_ROWS = 262_144  # 64 MB at 64-d


def check_own(place: Path) -> None:
    """Refuses a folder that is neither empty nor an index's, before anything is written there.

    Raises:
        ValueError: it holds other files.
    """
    if not place.is_dir() or (place / MARKER).is_file() or _has_header(place):
        return
    others = sorted(path.name for path in place.iterdir() if path.name != LOCK)
    if others:
        raise ValueError(
            f"{place} holds other files, such as {others[0]}, and is no index; name an empty folder with --index, "
            "or the folder above it with --out"
        )


def _has_header(place: Path) -> bool:
    """Whether `index.json` belongs to an index. The file of another program lacks these fields."""
    try:
        header = json.loads((place / HEADER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(header, dict) and {"generation", "model", "shards"} <= header.keys()


def begin(place: Path) -> None:
    """Marks a folder as an index's, and removes what killed updates left there. The caller holds its lock."""
    (place / MARKER).touch()
    scratch = re.compile(rf"\.(g\d{{4,}}|{re.escape(HEADER)}\..+){re.escape(SCRATCH)}")
    for path in place.iterdir():
        if scratch.fullmatch(path.name):
            shutil.rmtree(path, ignore_errors=True)


def write_generation(place: Path, header: Header, table: pd.DataFrame, problems: pd.DataFrame, pool: Vectors) -> None:
    """Writes a new generation beside the others, changes the header to name it, and removes the others.

    Args:
        place: The index's folder.
        header: Its header; generation and shards are filled in here.
        table: `PHOTO_COLUMNS` and row, the number of each photo's embedding in `pool`.
        problems: path and reason of what is not in the index.
        pool: Embeddings.

    Raises:
        OSError: the disk is full; the message names the folder.
    """
    numbers = [int(path.name[1:]) for path in place.glob("g*") if re.fullmatch(r"g\d+", path.name)]
    generation = f"g{1 + max(numbers, default=0):04d}"
    stale = [path for path in place.iterdir() if _is_generation(path)]
    scratch = place / f".{generation}{SCRATCH}"
    scratch.mkdir()
    sizes = []
    rows = table["row"].to_numpy(np.int64)
    with full_disk_told(place):
        for number, first in enumerate(range(0, len(rows), SHARD_ROWS)):
            shard = pool.raw(rows[first : first + SHARD_ROWS])
            _save_shard(scratch / f"{number:05d}.npy", shard)
            sizes.append(len(shard))
        write_table(scratch / "photos.parquet", table[list(PHOTO_COLUMNS)])
        write_table(scratch / "problems.parquet", problems)
        scratch.rename(place / generation)
        save_json(place / HEADER, replace(header, generation=generation, shards=tuple(sizes)).as_data())
    for path in stale:
        shutil.rmtree(path, ignore_errors=True)


def _is_generation(path: Path) -> bool:
    """Whether a folder has the name of a generation, and holds nothing but files of one."""
    if path.is_symlink() or not path.is_dir() or not re.fullmatch(r"g\d{4,}", path.name):
        return False
    names = [file.name for file in path.iterdir()]
    return all(re.fullmatch(r"(photos|problems)\.parquet|\d{5,}\.npy", name) for name in names)


def _save_shard(path: Path, shard: np.ndarray) -> None:
    """Writes a shard to the disk. Not through a memory map: on a full disk it would kill this process."""
    with path.open("wb") as file:
        np.save(file, shard)
        file.flush()
        os.fsync(file.fileno())
