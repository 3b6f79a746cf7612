"""Done-marks: which outputs a step wrote, from which inputs, and whether the files are unchanged.

Also the lock that keeps a second start out of a run's folder.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import hashlib
import importlib.metadata
import json
import logging
import os
import platform
import shlex
import stat
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from guie.files import digest_of_file, save_json
from guie.run import Run, commit, peak_memory_gb

MARK = "done.json"
NO_OUTPUTS = (MARK, "log.txt", "last.pt")
ADDED_TO = "card.json"  # submission/check_submission.py --card changes its bytes, but it must stay JSON
LOCK = ".lock"  # in the run's folder
log = logging.getLogger(__name__)
# Of a file: size in bytes, then times of the last write and of the last change of any kind, in ns. A list, for JSON.
State = list[int]


def read_done(folder: Path) -> dict[str, Any] | None:
    """The done-mark of `folder`. None if the step is unfinished, or its mark is damaged."""
    path = folder / MARK
    if not path.is_file():
        return None
    try:
        mark = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:  # not JSON, or not UTF-8
        mark = None
    needed = {"settings": str, "inputs": dict, "outputs": dict, "metrics": dict, "seconds": int | float}
    later = {"files": dict, "marks": list, "versions": dict, "read": dict}  # missing in the marks of earlier code
    is_mark = isinstance(mark, dict) and all(isinstance(mark.get(name), kind) for name, kind in needed.items())
    if not is_mark or not all(isinstance(mark.get(name, kind()), kind) for name, kind in later.items()):
        log.warning("%s is damaged; the step runs again", path)
        return None
    return mark


def is_done(folder: Path, settings: str, inputs: dict[str, str], verify: bool = False) -> bool:
    """Whether `folder` holds the finished result of these settings and inputs, every output as it was written.

    Args:
        folder: The folder of a door or a stage.
        settings: Digest of the settings that it depends on.
        inputs: Digests of what it reads.
        verify: Compare the bytes of all outputs, not only of those whose size or times have changed.
    """
    mark = read_done(folder)
    if mark is None or mark["settings"] != settings or mark["inputs"] != inputs:
        return False
    found = damages(folder, mark, verify)
    for name, what in list(found.items())[:1]:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        log.warning("%s %s%s; it is made again", folder / name, what, more)
    return not found


def damages(folder: Path, mark: dict[str, Any], verify: bool = False) -> dict[str, str]:
    """The outputs of a finished step that are not as they were written. Maps each name to what is wrong ("is missing").

    Without `verify` a file with the recorded size and times counts as unchanged: programs cannot set the time of the
    last change (ctime). If they differ, as after a copy, the bytes are compared.
    """
    problems = {
        name: _damage(folder / name, digest, mark.get("files", {}).get(name), verify)
        for name, digest in mark["outputs"].items()
    }
    problems |= {
        name: "" if read_done((folder / name).parent) else "is missing or damaged" for name in mark.get("marks", ())
    }
    return {name: problem for name, problem in problems.items() if problem}


def _damage(path: Path, digest: str, recorded: State | None, verify: bool) -> str:
    try:
        state = state_of(path)
        if path.name == ADDED_TO:
            json.loads(path.read_bytes())
        elif recorded and state[0] != recorded[0]:
            return f"has {state[0]:,} bytes, {recorded[0]:,} were written"
        elif (verify or state != recorded) and digest_of_file(path) != digest:
            return "has other bytes than were written"
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    except ValueError:
        return "is not JSON"
    return ""


def state_of(path: Path) -> State:
    """Size and times of a file; see `State`.

    Raises:
        FileNotFoundError: there is no file of that name.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise FileNotFoundError(errno.ENOENT, "is not a file", str(path))
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def renew_states(out: Path, folder: Path) -> None:
    """Records the current times of a step's outputs, so that the bytes of a copied folder are compared only once.

    Does nothing if the folder cannot be written, or another process uses the run.

    Args:
        out: The run's folder.
        folder: A finished step in it. The caller has found its outputs unchanged.
    """
    mark = read_done(folder)
    if mark is None or _states(folder, mark) == mark.get("files"):
        return
    with contextlib.suppress(OSError, ValueError), locked(out):  # a read-only folder, or a run in use
        mark = read_done(folder)
        if mark is not None:
            save_json(folder / MARK, mark | {"files": _states(folder, mark)})


def mark_again(folder: Path, mark: dict[str, Any]) -> None:
    """Writes the mark of a step whose files were taken from another folder, with their times here."""
    save_json(folder / MARK, mark | {"files": _states(folder, mark)})


def _states(folder: Path, mark: dict[str, Any]) -> dict[str, State]:
    return {name: state_of(folder / name) for name in mark["outputs"]}


def remove_damaged(folder: Path, verify: bool = False) -> None:
    """Removes the outputs of a finished step that are not as they were written, so that no work continues from them."""
    mark = read_done(folder)
    for name in damages(folder, mark, verify) if mark else ():
        (folder / name).unlink(missing_ok=True)


def mark_done(
    run: Run,
    folder: Path,
    step: str,
    settings: str,
    inputs: dict[str, str],
    started: float,
    metrics: dict[str, Any],
    read: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Writes `done.json`, the last file of a step, and returns its content.

    Args:
        run: The run that the step belongs to.
        folder: Of the step.
        step: Its name, for people.
        settings: Digest of the settings that it depends on.
        inputs: Digests of what it read.
        started: When it began, in seconds since the epoch.
        metrics: What it found.
        read: The settings themselves, so that it can be told later which of them differ.
    """
    paths = [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    names = {str(path.relative_to(folder)): path for path in paths if path.name not in NO_OUTPUTS}
    torch = sys.modules.get("torch")  # the doors that compute have loaded it
    mark = {
        "step": step,
        "settings": settings,
        "read": read or {},
        "inputs": inputs,
        "outputs": {name: digest_of_file(path) for name, path in names.items()},
        "files": {name: state_of(path) for name, path in names.items()},
        "marks": [str(path.relative_to(folder)) for path in paths if path.name == MARK and path.parent != folder],
        "seed": run.recipe.seed,
        "seconds": round(time.time() - started, 2),
        "device": run.device,
        "threads": torch.get_num_threads() if torch else None,
        "peak_memory_gb": peak_memory_gb(),
        "metrics": metrics,
        "commit": commit(),
        "code": code_digest(),
        "versions": versions(),
    }
    save_json(folder / MARK, mark)
    return mark


def versions() -> dict[str, str]:
    """The versions of Python and torch, by name."""
    return {"python": platform.python_version(), "torch": importlib.metadata.version("torch")}


def readers() -> dict[str, str]:
    """Versions of the optional packages that read further image formats, by name.

    With another version, files may be read that were left out before.
    """
    found = {}
    for name in ("pi-heif", "pillow-heif"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


@functools.cache
def code_digest() -> str:
    """One hash over the package's source files. Unlike the commit, it covers uncommitted changes and needs no git."""
    sha, package = hashlib.sha256(), Path(__file__).parent
    for path in sorted(package.rglob("*.py")):
        sha.update(f"{path.relative_to(package)}\0".encode() + path.read_bytes() + b"\0")
    return sha.hexdigest()[:16]


def other_code(mark: dict[str, Any]) -> str:
    """Which code and versions made a finished step, as far as they differ from this code; '' if they do not."""
    words = [
        f"{name} {mark['versions'].get(name)}"
        for name, value in versions().items()
        if mark.get("versions", {}).get(name, value) != value
    ]
    if mark.get("code", code_digest()) != code_digest():
        words.insert(0, f"commit {mark.get('commit')} (this is {commit()})")
    return ", ".join(words)


def outputs_digest(folder: Path) -> str:
    """One hash over the outputs of `folder`'s step; '' if the step is unfinished."""
    mark = read_done(folder)
    if mark is None:
        return ""
    # Without metrics.csv, which holds times, and curve.csv, which no later step reads.
    curves = ("metrics.csv", "curve.csv")
    values = {name: digest for name, digest in mark["outputs"].items() if Path(name).name not in curves}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def fingerprint(root: Path, folders: Iterable[str]) -> str:
    """One hash over names, sizes and times of all files below `folders` of `root`.

    It changes when a file is added, removed or edited. Links are followed. A folder that was visited before, such as
    one that links to a folder above it, is not entered again: its own name and the first name are hashed.
    """
    sha = hashlib.sha256()
    met: dict[tuple[int, int], str] = {}
    with tqdm(desc="looking for changes", unit="file", disable=None, leave=False, delay=2) as bar:
        for folder in folders:
            waiting = [root / folder]
            while waiting:
                path = waiting.pop()
                found = _lines(path, root, met)
                sha.update("".join(line for _, line in found).encode("utf-8", "surrogateescape"))
                waiting += [inner for inner, _ in reversed(found) if inner is not None]
                bar.update(len(found))
    return sha.hexdigest()[:16]


def _lines(folder: Path, root: Path, met: dict[tuple[int, int], str]) -> list[tuple[Path | None, str]]:
    """A pair for each entry of `folder`, sorted by name: the folder to enter next, or None, and the line to hash."""
    own = os.path.relpath(folder, root)
    lines: list[tuple[Path | None, str]] = []
    try:
        status = folder.stat()
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:  # missing, which the source's reader reports, or not readable
        return []
    met.setdefault((status.st_dev, status.st_ino), own)
    for entry in entries:
        state = _status(entry)
        if state is None:
            continue
        name, inode = f"{own}/{entry.name}", (state.st_dev, state.st_ino)
        if not stat.S_ISDIR(state.st_mode):
            lines.append((None, f"{name} {state.st_size} {state.st_mtime_ns}\n"))
        elif inode in met:
            lines.append((None, f"{name} is {met[inode]}\n"))
        else:
            met[inode] = name
            lines.append((Path(entry.path), f"{name}/\n"))
    return lines


def _status(entry: os.DirEntry[str]) -> os.stat_result | None:
    """What an entry leads to; the link itself where it is broken or leads in a circle; None where it is gone by now."""
    for follows in (True, False):
        with contextlib.suppress(OSError):
            return entry.stat(follow_symlinks=follows)
    return None


@contextlib.contextmanager
def locked(out: Path, option: str = "--out") -> Iterator[bool]:
    """Keeps a second start out of a run's folder while the block runs; yields whether the lock is held.

    It is a POSIX record lock. The kernel releases it when the process ends, however it ends. Forked loader processes,
    which may live a few seconds longer, do not inherit it. NFS supports it. On a file system without locks a warning is
    logged and the work goes on.

    Args:
        out: The folder.
        option: The option that chose it, for messages.

    Raises:
        ValueError: another process holds the lock; the message gives its number, machine and command.
        OSError: `out` cannot be written to.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        handle = (out / LOCK).open("a+", encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise OSError(
            error.errno, f"{out} cannot be written to ({error.strerror}); choose another place with {option}"
        ) from error
    with handle:
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                handle.seek(0)
                holder = handle.read().strip() or "another process"
                raise ValueError(
                    f"{out} is in use by {holder}; wait until it has ended, or choose another place with {option}"
                ) from error
            log.warning(
                "%s: the file system has no locks (%s); do not start this recipe twice at a time", out, error.strerror
            )
            yield False
            return
        handle.truncate(0)
        handle.write(f"process {os.getpid()} on {platform.node()}: {shlex.join(sys.argv)}\n")
        handle.flush()
        yield True
        handle.truncate(0)
