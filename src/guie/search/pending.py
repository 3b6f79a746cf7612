"""Keeps what an update has embedded so far on the disk, so that a killed update continues where it stopped.

key              which model made the embeddings, see `ModelFile.key`
rows.jsonl       a line for each photo: [path, size, mtime_ns, digest]
embeddings.f32   float32, `dim` numbers for each line
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from guie.files import full_disk_told, whole_file

KNOWN_COLUMNS = ("path", "size", "mtime_ns", "digest")
SYNC_S = 20.0  # about the seconds of work that a power cut may cost; a killed process loses one batch


class Pending:
    """The files above, open for appending.

    Args:
        folder: Their folder; made if it is missing.
        key: Key of the model. Files of another model are removed.
        dim: Length of an embedding.

    Attributes:
        table: `KNOWN_COLUMNS` of the photos that an earlier start has embedded.
        embeddings: float32 [n, dim], in the order of that table.
    """

    def __init__(self, folder: Path, key: str, dim: int) -> None:
        """Reads the complete rows and cuts off the rest."""
        self.folder = folder
        self.dim = dim
        if folder.is_dir() and _text(folder / "key") != key:
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with whole_file(folder / "key") as temporary:
            temporary.write_text(key, encoding="utf-8")
        self._rows = folder / "rows.jsonl"
        self._numbers = folder / "embeddings.f32"
        self.table, self.embeddings = self._read()
        self._synced = time.monotonic()

    def add(self, rows: Sequence[tuple[str, int, int, str]], embeddings: np.ndarray) -> None:
        """Appends photos and their embeddings, float32 [n, dim].

        Raises:
            OSError: the disk is full; the message names the folder.
        """
        with full_disk_told(self.folder), self._numbers.open("ab") as numbers, self._rows.open("ab") as lines:
            numbers.write(np.ascontiguousarray(embeddings, np.float32).tobytes())
            numbers.flush()  # numbers first, so that every line has its numbers
            lines.write("".join(f"{json.dumps(row)}\n" for row in rows).encode())
            lines.flush()
            if time.monotonic() - self._synced > SYNC_S:
                os.fsync(numbers.fileno())
                os.fsync(lines.fileno())
                self._synced = time.monotonic()

    def all(self) -> tuple[pd.DataFrame, np.ndarray]:
        """Table and embeddings of everything that is there now."""
        return self._read()

    def remove(self) -> None:
        """Removes the files, once their contents are in an index."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _read(self) -> tuple[pd.DataFrame, np.ndarray]:
        lines = self._rows.read_bytes().split(b"\n")[:-1] if self._rows.is_file() else []
        rows = _whole_rows(lines)
        n_bytes = self._numbers.stat().st_size if self._numbers.is_file() else 0
        n = min(len(rows), n_bytes // (4 * self.dim))
        if n:
            embeddings: np.ndarray = np.memmap(self._numbers, np.float32, "r", shape=(n, self.dim))
            n = _n_unit(embeddings)  # after a power cut a file may end in zeros
            embeddings = embeddings[:n]
        else:
            embeddings = np.empty((0, self.dim), np.float32)
        self._cut(n, sum(len(line) + 1 for line in lines[:n]))
        return pd.DataFrame(rows[:n], columns=list(KNOWN_COLUMNS)), embeddings

    def _cut(self, n: int, n_bytes_of_lines: int) -> None:
        """Shortens both files to `n` photos."""
        for path, n_bytes in ((self._numbers, n * 4 * self.dim), (self._rows, n_bytes_of_lines)):
            if path.is_file() and path.stat().st_size > n_bytes:
                os.truncate(path, n_bytes)


def _whole_rows(lines: list[bytes]) -> list[tuple[str, int, int, str]]:
    """The rows up to the first line that is not whole."""
    rows = []
    for line in lines:
        try:
            row: Any = json.loads(line)
            path, size, mtime_ns, digest = row
        except (ValueError, TypeError):
            break
        rows.append((str(path), int(size), int(mtime_ns), str(digest)))
    return rows


def _n_unit(embeddings: np.ndarray) -> int:
    """How many rows from the first on have length 1."""
    for first in range(0, len(embeddings), 1 << 16):
        block = np.asarray(embeddings[first : first + (1 << 16)], dtype=np.float64)
        is_unit = np.abs(np.einsum("nd,nd->n", block, block) - 1) < 1e-3
        if not is_unit.all():
            return first + int(np.argmin(is_unit))
    return len(embeddings)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
