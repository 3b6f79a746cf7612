"""What this process may use of the machine: cores, memory, shared memory. A container or a shell may grant less than
the machine has."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")  # where Linux keeps it; Docker's default is 64 MB
_UNLIMITED = 1 << 60  # cgroup v1 writes a number near 2**63 where there is no limit
_CPU_FILES = {"": ("cpu.max",), "cpu": ("cpu.cfs_quota_us", "cpu.cfs_period_us")}  # of cgroup v2 and v1
_MEMORY_FILES = {"": "memory.max", "memory": "memory.limit_in_bytes"}


def n_cores() -> int:
    """Cores that this process may use: its CPU affinity, and at most its container's CPU quota, rounded up."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota()
    return cores if quota is None else min(cores, max(1, -int(-quota // 1)))


def cpu_quota(root: Path = Path("/sys/fs/cgroup"), memberships: Path = Path("/proc/self/cgroup")) -> float | None:
    """The CPU time that the process' control groups grant, in CPUs: 1.5 for `docker run --cpus 1.5`. None if unlimited.

    Args:
        root: Where control groups are mounted.
        memberships: The file that names the process' groups.

    Source: docs.kernel.org, admin-guide/cgroup-v2, cpu.max; scheduler/sched-bwc for version 1.
    """
    found = []
    for kind, folder in _groups(root, memberships, set(_CPU_FILES)):
        words = " ".join(_text(folder / name) for name in _CPU_FILES[kind]).split()
        if len(words) == 2 and all(word.isdigit() and int(word) for word in words):  # "max" and -1 are no limit
            found.append(int(words[0]) / int(words[1]))
    return min(found, default=None)


def memory_limit(root: Path = Path("/sys/fs/cgroup"), memberships: Path = Path("/proc/self/cgroup")) -> int | None:
    """Bytes of memory that the process' control groups grant to all their processes together; None if unlimited.

    Args:
        root: Where control groups are mounted.
        memberships: The file that names the process' groups.
    """
    words = [_text(folder / _MEMORY_FILES[kind]) for kind, folder in _groups(root, memberships, set(_MEMORY_FILES))]
    return min((int(word) for word in words if word.isdigit() and int(word) < _UNLIMITED), default=None)


def address_limit() -> int | None:
    """Bytes of address space that the shell grants to each process (`ulimit -v`); None if unlimited."""
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if soft == resource.RLIM_INFINITY else soft


def free_shared_memory() -> int | None:
    """Free bytes in /dev/shm, through which loader processes pass batches; None if there is no such folder."""
    return shutil.disk_usage(SHARED_MEMORY).free if SHARED_MEMORY.is_dir() else None


def peak_memory() -> int:
    """The largest resident memory of this process so far, in bytes.

    On Linux it is VmHWM. `ru_maxrss` survives exec, so it may be the peak of the program that started this one.
    """
    status = Path("/proc/self/status")
    for line in status.read_text().splitlines() if status.is_file() else ():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def check_names(**paths: Path) -> None:
    """Checks that file names are UTF-8 here, since tables and weights store them as UTF-8.

    Args:
        **paths: Paths to check, by the option that they were given with.

    Raises:
        ValueError: the shell's file names are not UTF-8, or a path is not valid UTF-8 or holds a control character.
    """
    encoding = sys.getfilesystemencoding()
    if encoding.replace("-", "").lower() != "utf8":
        raise ValueError(
            f"this shell's file names are {encoding} (LC_ALL, LANG or PYTHONUTF8=0), and a run needs UTF-8; export "
            "PYTHONUTF8=1 and start again"
        )
    check_paths(**paths)


def check_paths(**paths: Path) -> None:
    """As `check_names`, but for the paths alone: the shell's encoding is not asked."""
    for option, path in paths.items():
        if any(character < " " or "\ud800" <= character <= "\udfff" for character in str(path)):
            raise ValueError(
                f"--{option} {str(path)!r} holds bytes that are not UTF-8, or a control character; choose another place"
            )


def check_writable(folder: Path, option: str = "--out") -> None:
    """Makes a folder if it is missing, then writes and removes a small file there. So an error comes before the work.

    Args:
        folder: Where files will be written.
        option: The option that chose the folder, for the message.

    Raises:
        OSError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".try.") as file:
            file.write(bytes(1 << 16))
            file.flush()
    except OSError as error:
        remedy = (
            f"free some space, or choose another place with {option}"
            if error.errno == errno.ENOSPC
            else f"choose another place with {option}"
        )
        raise OSError(error.errno, f"{folder} cannot be written ({os.strerror(error.errno or 0)}); {remedy}") from error


def check_room(folder: Path, n_bytes: int, option: str = "--out") -> None:
    """Checks that a folder has room for a file: reserves the disk space and releases it.

    For libraries that end the process when the disk is full, as torch.jit.save does in C++.

    Args:
        folder: Where the file will be written.
        n_bytes: Its size.
        option: The option that chose the folder, for the message.

    Raises:
        OSError: there is not enough room.
    """
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, max(1, n_bytes))
            elif shutil.disk_usage(folder).free < n_bytes:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError as error:
        told = (
            f"no room for {n_bytes / 1e6:,.0f} MB at {folder} ({error.strerror}); free some space, or choose another "
            f"place with {option}"
        )
        raise OSError(error.errno, told) from error


def check_writable_file(path: Path, option: str = "--out") -> None:
    """As `check_writable`, for a file that will be written or replaced.

    Raises:
        OSError: the file cannot be written.
    """
    if path.is_dir():
        raise OSError(errno.EISDIR, f"{path} is a folder; name a file with {option}")
    check_writable(path.parent, option)
    if path.exists() and not os.access(path, os.W_OK):
        raise OSError(
            errno.EACCES, f"{path} may not be replaced; check its owner and mode, or choose another place with {option}"
        )


def _groups(root: Path, memberships: Path, kinds: set[str]) -> Iterator[tuple[str, Path]]:
    """Kind and folder of each control group of the process, and of the groups above it.

    The kind is '' for cgroup v2, and the controller's name for v1. In a container the names in `memberships` may be the
    host's; then only `root` itself exists.
    """
    for line in _text(memberships).splitlines():
        _, controllers, name = line.split(":", 2)
        for kind in kinds & set(controllers.split(",")):
            top = root / controllers if kind else root
            top = root / kind if kind and not top.is_dir() else top
            group = top / name.strip("/")
            for folder in (group, *group.parents):
                yield kind, folder
                if folder == top:
                    break


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
