"""Reuses results of the recipe's own run in a run made with --name: doors with equal settings and inputs are not run
again.

Large files are hard links: they take no room, and are never written in place (`guie.files`). Small ones are copies.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from pathlib import Path

from guie.done import MARK, damages, locked, mark_again, read_done, renew_states
from guie.files import whole_file
from guie.run import FOLDERS, Run

SHARED = range(1, 8)  # doors; the export and the report hold the run's name
LINKED_BYTES = 1 << 20  # files from this size on are links
log = logging.getLogger(__name__)


def take_over(run: Run, origin: Path, number: int, settings: str, inputs: dict[str, str]) -> bool:
    """Gives a run the result of door `number` that another run has, if it would be made alike.

    Nothing is taken while another process uses one of the runs, or where the run has begun work of its own.

    Args:
        run: The run that needs the result.
        origin: The folder of the other run.
        number: The door.
        settings: Digest of the settings that it reads.
        inputs: Digests of what it reads. A device that is '' is any.

    Returns:
        Whether the result is there now.
    """
    source, folder = origin / FOLDERS[number], run.out / FOLDERS[number]
    is_there = (source / MARK).is_file()  # else not even a lock is left where no run is
    if number not in SHARED or origin == run.out or not is_there or read_done(folder) is not None:
        return False
    is_taken = False
    with contextlib.suppress(ValueError, OSError), locked(origin), locked(run.out):
        mark = read_done(source)
        if mark is None or mark["settings"] != settings or not _alike(mark["inputs"], inputs):
            return False
        names = [*mark["outputs"], *mark.get("marks", ())]  # the marks of stages after their files
        if _has_own_work(folder, names) or damages(source, mark, run.verify):
            return False
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            with whole_file(folder / name) as temporary:
                _link(source / name, temporary)
        mark_again(folder, mark)
        is_taken = True
    if is_taken:
        renew_states(origin, source)  # a link changes the times of its file
        log.info("taken over from %s, which was made alike", source)
    return is_taken


def _alike(made: dict[str, str], wanted: dict[str, str]) -> bool:
    if wanted.get("device") == "":
        wanted = wanted | {"device": made.get("device", "")}
    return made == wanted


def _has_own_work(folder: Path, names: list[str]) -> bool:
    """Whether a folder holds more than its log and what an earlier, killed start has taken over."""
    files = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return any(
        str(file) not in {*names, "log.txt", MARK} and not any(part.startswith(".") for part in file.parts)
        for file in files
    )


def _link(source: Path, target: Path) -> None:
    """The file under another name: a hard link if it is large and the file system has links, else a copy."""
    if source.stat().st_size >= LINKED_BYTES:
        with contextlib.suppress(OSError):
            os.link(source, target)
            return
    shutil.copy2(source, target)
