"""The CSV files of objectives.py: a row is written when its work is done, whole or not at all, and never made again."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from guie.files import whole_file
from guie.run import PROJECT

SCORES = ("mp5", "mp5_low", "mp5_high", "r1", "map_at_r", "nmi", "spectral_decay", "density")
COSTS = ("epoch_s", "memory_mb")
# Of every row: the seconds that it took, why it has no scores (empty where it has), the code and the processor.
ENDING = ("row_s", "problem", "commit", "processor")


TEXTS = ("objective", "claim", "setup", "setting", "problem", "commit", "processor")  # never read as numbers


@dataclass(frozen=True)
class Results:
    """One of the files. Several processes may write to it.

    Attributes:
        path: The file.
        key: The columns that tell the rows apart.
        values: The other columns before `ENDING`.
    """

    path: Path
    key: tuple[str, ...]
    values: tuple[str, ...]

    @property
    def columns(self) -> list[str]:
        """All of them, in their order."""
        return [*self.key, *self.values, *ENDING]

    def read(self) -> pd.DataFrame:
        """All rows; none where there is no file.

        Raises:
            ValueError: the file has other columns.
        """
        if not self.path.is_file():
            return pd.DataFrame(columns=self.columns)
        rows = pd.read_csv(self.path, dtype=dict.fromkeys(TEXTS, str))
        if list(rows.columns) != self.columns:
            raise ValueError(
                f"{self.path} has the columns {', '.join(rows.columns)}, and not {', '.join(self.columns)}: other code "
                "wrote it; move it away"
            )
        return rows

    def find(self, **key: Any) -> pd.DataFrame:
        """The rows with these values."""
        rows = self.read()
        for name, value in key.items():
            rows = rows[rows[name] == value]
        return rows

    def add(self, *added: dict[str, Any]) -> None:
        """Writes rows that belong together, all or none. Columns that one lacks are empty.

        Where a row with the key of one of them is there already, because another process was faster, nothing is
        written.

        Raises:
            ValueError: one has a column that the file has not.
        """
        if unknown := {name for row in added for name in row} - set(self.columns):
            raise ValueError(f"{self.path.name} has no column {', '.join(sorted(unknown))}")
        with alone_in(self.path.parent):
            new = pd.DataFrame(list(added), columns=self.columns)
            rows = self.read()
            if len(rows) and new[list(self.key)].merge(rows[list(self.key)]).size:
                return
            rows = pd.concat([rows, new], ignore_index=True) if len(rows) else new
            with whole_file(self.path) as temporary:
                rows.to_csv(temporary, index=False)


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Waits until no other process is in such a block of a folder, and keeps others waiting. It leaves no file."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another process at work in {folder}", file=sys.stderr, flush=True)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)  # closing is not enough while a forked process still has it open
        os.close(descriptor)


@functools.cache
def code_commit(*scripts: str) -> str:
    """The commit, with `+` if the source, the scripts of objectives.py or those named, as git patterns, have changes;
    what they write does not count."""
    git = ["git", "-C", str(PROJECT)]
    page = ":(exclude)src/guie/recipes/OBJECTIVES.md"
    paths = ["src", "data_prep", "weights", "tests/benchmarks/objectives*.py", *scripts, page]
    try:
        head = subprocess.run([*git, "rev-parse", "--short=10", "HEAD"], capture_output=True, text=True, check=True)
        changes = subprocess.run(
            [*git, "status", "--porcelain", "--", *paths], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip() + ("+" if changes.stdout.strip() else "")


def processor(device: str = "cpu") -> str:
    """The processor's name, as Linux tells it; a card's before it, and its precision behind."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    own = names[0] if names else platform.machine()
    if device == "cpu":
        return own
    import torch  # here: what a script imports before guie.run may not load torch, see there

    from guie.embed.accelerator import precision_of

    return f"{torch.cuda.get_device_name(device)}, {own}, {precision_of(device)}"


def is_card(processor: str) -> bool:
    """Whether a row's processor is a card."""
    return processor.endswith((", bf16", ", fp16"))
