"""Doors on a small disk that is full at first and has room then. Each door is a process of its own."""

import ctypes
import json
import multiprocessing
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from opening import FORKS, run_command

CLONE_NEWNS = 0x00020000  # of linux/sched.h: mounts of its own


@dataclass(frozen=True)
class Opening:
    """A door on the small disk.

    Attributes:
        command: Its script and options.
        folder: Its folder, as seen while the disk is there; may be missing.
    """

    command: list[str]
    folder: Path


@dataclass(frozen=True)
class End:
    """How a door ended: the exit status, the lines of its standard error, and the names in its folder."""

    status: int
    errors: list[str]
    left: list[str]


def skip_without_mounts() -> None:
    """Skips the test where no small disk can be mounted."""
    if os.getuid() or subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("only root may mount a small disk of its own")


def full_then_free(
    place: Path, size_mb: int, free_kb: int, openings: Sequence[Opening], copied: Sequence[Path] = ()
) -> list[tuple[End, End]]:
    """Opens each door while only `free_kb` KB are free, then again with room: how it ended.

    Args:
        place: A folder, over which the disk is mounted for these doors alone.
        size_mb: The disk's size.
        free_kb: What is left free.
        openings: The doors, in their order.
        copied: Files and folders that are copied into the run `tiny` there before.
    """
    logs = place.parent / "ends"
    logs.mkdir()
    process = FORKS.Process(target=_open_all, args=(place, size_mb, free_kb, list(openings), list(copied), logs))
    process.start()
    process.join(600)
    assert process.exitcode == 0
    ends = [End(**end) for end in json.loads((logs / "ends.json").read_text())]
    return list(zip(ends[::2], ends[1::2], strict=True))


def _open_all(place: Path, size_mb: int, free_kb: int, openings: list[Opening], copied: list[Path], logs: Path) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if library.unshare(CLONE_NEWNS):
        raise OSError(ctypes.get_errno(), "unshare")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_mb}m", "tmpfs", str(place)], check=True)
    (place / "tiny").mkdir()
    for path in copied:
        (shutil.copytree if path.is_dir() else shutil.copy2)(path, place / "tiny" / path.name)
    ends = []
    for opening in openings:
        filler = place / "fill"
        free = shutil.disk_usage(place).free - 1024 * free_kb
        with filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, free)
        ends.append(_end_of(opening, logs / f"{len(ends)}"))
        filler.unlink()
        ends.append(_end_of(opening, logs / f"{len(ends)}"))
    (logs / "ends.json").write_text(json.dumps(ends))


def _end_of(opening: Opening, log: Path) -> dict[str, object]:
    given = (opening.command, str(log.parent), dict(os.environ), f"{log}.out", f"{log}.err")
    process = multiprocessing.get_context("fork").Process(target=run_command, args=given)
    process.start()
    process.join()
    errors = [line for line in Path(f"{log}.err").read_text().splitlines() if line.strip()]
    left = sorted(path.name for path in opening.folder.iterdir()) if opening.folder.is_dir() else []
    return {"status": process.exitcode, "errors": errors, "left": left}
