"""An index on the disk: embeddings in shards, a table of the photos, and a header that names both.

    index.json        the header: which photos, which model, which generation
    g0007/            one generation; it never changes after it is written
      photos.parquet  path, label, size, mtime_ns, digest of each photo, sorted by path
      problems.parquet  path and reason of what is not in the index
      00000.npy ...   float32 [n, dim], L2-normalised, in the order of the table
    .pending/         what an update has embedded so far (guie.search.pending)
    .guie-search      empty; marks the folder as an index's (guie.search.writing)

An update writes a new generation beside the old one and replaces the header by a rename. So a reader sees the old index
or the new one, never a part.
"""

from __future__ import annotations

import bisect
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from guie.data.names import name_on_disk
from guie.embed.search import Vectors, search, vectors
from guie.errors import is_of_the_machine
from guie.own.place import INDEXED, SEARCH, place_of_index
from guie.search.embedder import ModelFile

HEADER = INDEXED
VERSION = 1  # version of the layout
PHOTO_COLUMNS = ("path", "label", "size", "mtime_ns", "digest")
N_TRIES = 5  # attempts to open an index while it is being replaced
PLACE = SEARCH  # name of the index's folder
PENDING = ".pending"  # in the index's folder: what an interrupted update has embedded, see `guie.search.pending`


@dataclass(frozen=True)
class Header:
    """What `index.json` holds.

    Attributes:
        photos: The folder or CSV that was indexed, absolute.
        label_from: Where labels come from, see `guie.own.photos.read_photos`.
        root: The folder that the paths are relative to, absolute.
        model: Which model made the embeddings.
        generation: Name of the folder with the table and the shards.
        shards: Number of rows of each shard.
        made: When the generation was written, ISO 8601 with the zone.
        version: Version of the layout.
    """

    photos: str
    label_from: str
    root: str
    model: ModelFile
    generation: str
    shards: tuple[int, ...]
    made: str
    version: int = VERSION

    def as_data(self) -> dict[str, Any]:
        """As JSON can store it."""
        return {**asdict(self), "n_photos": sum(self.shards)}

    @classmethod
    def of(cls, data: dict[str, Any]) -> Header:
        """The inverse of `as_data`.

        Raises:
            KeyError, TypeError, ValueError: it is no header of this version.
        """
        if data["version"] != VERSION:
            raise ValueError(f"version {data['version']}")
        names = ("photos", "label_from", "root", "generation", "made")
        if not all(isinstance(data[name], str) for name in names) or "/" in data["generation"]:
            raise ValueError("a field of another kind")
        shards = tuple(int(n) for n in data["shards"])
        return cls(**{name: data[name] for name in names}, model=ModelFile(**data["model"]), shards=shards)


@dataclass(frozen=True)
class Index:
    """An open index. Its shards are memory-mapped; they stay readable after an update has replaced them.

    Attributes:
        place: The index's folder.
        header: Its header.
        table: `PHOTO_COLUMNS` of each photo, sorted by path.
        problems: path and reason of what is not in the index.
        shards: float32 [n_i, dim] each, L2-normalised.
    """

    place: Path
    header: Header
    table: pd.DataFrame
    problems: pd.DataFrame
    shards: tuple[np.ndarray, ...] = field(repr=False)

    def __len__(self) -> int:
        """Number of photos."""
        return len(self.table)

    def file(self, row: int) -> Path:
        """The file of the photo in a row."""
        return Path(self.header.root) / name_on_disk(str(self.table["path"].iloc[row]))

    def rows_of(self, path: str) -> range:
        """The row of a path, or the rows of all photos below a folder, whose path ends in `/`; '' gives all rows."""
        if not path:
            return range(len(self))
        last = f"{path[:-1]}0" if path.endswith("/") else f"{path}\0"  # "0" is the character after "/"
        return range(self._position(path), self._position(last))

    def rows_with(self, digest: str) -> np.ndarray:
        """int64: the rows of all photos with these bytes."""
        return np.flatnonzero((self.table["digest"] == digest).to_numpy())

    @cached_property
    def folders(self) -> dict[str, int]:
        """Number of photos in each folder and the folders below it, sorted by name. The root is left out."""
        parents = self.table["path"].str.rpartition("/")[0].value_counts()
        counts: dict[str, int] = {}
        for parent, n in parents.items():
            parts = str(parent).split("/") if parent else []
            for depth in range(1, len(parts) + 1):
                name = "/".join(parts[:depth])
                counts[name] = counts.get(name, 0) + int(n)
        return dict(sorted(counts.items()))

    def vectors(self, rows: range | None = None) -> Vectors:
        """The embeddings of all photos, or of consecutive rows."""
        if rows is None or len(rows) == len(self):
            return vectors(self.shards)
        starts = np.cumsum([0, *self.header.shards])
        parts = []
        for start, shard in zip(starts, self.shards, strict=False):
            part = shard[max(0, rows.start - start) : max(0, rows.stop - start)]
            if len(part):
                parts.append(part)
        return vectors(parts or [self.shards[0][:0]])

    def nearest(
        self, queries: np.ndarray, k: int, own: Sequence[np.ndarray], rows: range | None = None
    ) -> list[list[tuple[int, float]]]:
        """The nearest photos of each query, exactly; of equal cosines the first path comes first.

        Args:
            queries: float32 [n_queries, dim], L2-normalised.
            k: Number of neighbours.
            own: int64 for each query: rows that are left out.
            rows: Only these rows are searched; None searches all.

        Returns:
            (row, cosine) for each query, the nearest first; fewer than k where the index has no more.
        """
        rows = range(len(self)) if rows is None else rows
        if not len(rows) or not len(queries):
            return [[] for _ in queries]
        n_own = max((len(left_out) for left_out in own), default=0)
        n = min(k + n_own, len(rows))
        found, cosines = search(queries, self.vectors(rows), n)
        answers = []
        for near, values, left_out in zip(found + rows.start, cosines, own, strict=True):
            is_other = ~np.isin(near, left_out)
            pairs = zip(near[is_other][:k].tolist(), values[is_other][:k].tolist(), strict=True)
            answers.append([(row, min(1.0, max(-1.0, cosine))) for row, cosine in pairs])
        return answers

    def _position(self, path: str) -> int:
        paths = self.table["path"]
        return bisect.bisect_left(range(len(paths)), path, key=lambda row: str(paths.iloc[row]))


def default_place(photos: Path, out: Path) -> Path:
    """The index's folder for a folder of photos: `out`/NAME/search, beside what `guie look` writes."""
    return place_of_index(photos, out)


def read_header(place: Path) -> Header:
    """The header of an index.

    Raises:
        FileNotFoundError: there is no index.
        ValueError: it cannot be read.
    """
    path = place / HEADER
    if not path.is_file():
        raise FileNotFoundError(f"{place} holds no index; make one: guie search FOLDER")
    try:
        return Header.of(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        if is_of_the_machine(error):
            raise
        raise ValueError(
            f"{path} is damaged or of another version of guie ({error}); make the index anew: guie search FOLDER"
        ) from error


def open_index(place: Path) -> Index:
    """Opens an index, even while an update replaces it.

    Raises:
        FileNotFoundError: there is no index.
        ValueError: it cannot be read.
    """
    for _ in range(N_TRIES):
        header = read_header(place)
        try:
            return _opened(place, header)
        except FileNotFoundError as error:  # replaced between the two reads, or damaged
            if read_header(place).generation == header.generation:
                raise ValueError(_damaged(place, error)) from error
        except (OSError, ValueError, KeyError) as error:
            if is_of_the_machine(error):
                raise
            raise ValueError(_damaged(place, error)) from error
    raise ValueError(f"{place} was replaced {N_TRIES} times while it was opened; try again")


def _opened(place: Path, header: Header) -> Index:
    folder = place / header.generation
    table = pd.read_parquet(folder / "photos.parquet", columns=list(PHOTO_COLUMNS))
    problems = pd.read_parquet(folder / "problems.parquet", columns=["path", "reason"])
    shards = tuple(np.load(folder / f"{i:05d}.npy", mmap_mode="r") for i in range(len(header.shards)))
    for shard, n in zip(shards, header.shards, strict=True):
        if shard.shape != (n, header.model.dim) or shard.dtype != np.float32:
            raise ValueError(f"a shard is {shard.dtype} {list(shard.shape)}, must be [{n}, {header.model.dim}]")
    if len(table) != sum(header.shards) or not shards:
        raise ValueError(f"{len(table)} photos in the table and {sum(header.shards)} embeddings")
    return Index(place, header, table, problems, shards)


def _damaged(place: Path, error: Exception) -> str:
    return f"the index {place} is damaged ({error}); make it anew: guie search FOLDER"


def all_places(out: Path) -> list[tuple[Path, Header]]:
    """All indexes in `out` that can be read, the newest first."""
    found = []
    for path in out.glob(f"*/{PLACE}/{HEADER}"):
        try:
            found.append((path.stat().st_mtime_ns, path.parent, read_header(path.parent)))
        except (OSError, ValueError):
            continue
    return [(place, header) for _, place, header in sorted(found, key=lambda item: item[0], reverse=True)]
