"""Errors of commands, each in one line: what it means, what to set, where its traceback is; and the exit status.

Exit statuses: 0 for success; 1 for an unforeseen error; 2 for an error that the user can resolve, with another value or
another machine; 130 for an interruption.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import sys
import textwrap
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from guie.machine import address_limit, memory_limit
from guie.shown import painted

log = logging.getLogger(__name__)
PROJECT = Path(__file__).resolve().parents[2]
SPARE = 4 << 20  # bytes that are free again when an error is told: where memory is full, the message needs some, too
LONGEST = 400  # characters of a library's message
_MEMORY_NOTE = "less memory: "
_TRACEBACK = "Traceback (most recent call last)"

_MEMORY = (
    r"^(numpy\S*)?_?\w*MemoryError|can't allocate memory|not enough memory|Cannot allocate "
    r"memory|bad_alloc|Insufficient memory|Unable to allocate"
    r"|failed to map segment|[Oo]ut of memory"
)
_OF_THE_MACHINE = (
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
    errno.EAGAIN,
    errno.EIO,
    errno.ESTALE,
    errno.ENOSPC,
    errno.EDQUOT,
)

# Patterns of the errors that libraries raise, and what they mean. {memory} is the remedy noted by `memory_remedy`;
# {limit} is what `_limit` returns.
KNOWN: tuple[tuple[str, str], ...] = (
    (
        r"^(torch\.)?OutOfMemoryError|CUDA out of memory|HIP out of memory|C[A-Z]+_STATUS_ALLOC_FAILED|CUDA error: out "
        r"of memory",
        "the card's memory is full; {memory}",
    ),
    (
        r"killed by signal: Bus error|unable to (open|resize|allocate|mmap) .*shared memory|shared memory "
        r"object|unable to write to file </torch|/dev/shm",
        "shared memory is too small (/dev/shm, 64 MB in Docker); start the container with --shm-size=2g or --ipc=host",
    ),
    (
        r"killed by signal: Killed|exited unexpectedly|BrokenProcessPool|terminated abruptly",
        "a process that loads or makes images was killed, most often for lack of memory; {memory}. The same command "
        "goes on from what is finished",
    ),
    (
        _MEMORY,
        "the memory is full{limit}; {memory}",
    ),
    (
        r"can't start new thread|Resource temporarily unavailable",
        "no more threads or processes may be started{limit}; raise ulimit -u and ulimit -v",
    ),
    (
        r"received 0 items of ancdata|Too many open files",
        "too many files are open; raise the limit with ulimit -n 4096",
    ),
    (
        r"No space left on device|Not enough free space|Disk quota exceeded",
        "the disk is full; free some space, or choose another place with --out",
    ),
    (
        r"no kernel image is available|driver version is insufficient|NVIDIA driver.*too old",
        "this torch does not fit the card; --device cpu, or another torch",
    ),
    (
        r"^AcceleratorError|CUDA error|CUDNN_STATUS|CUBLAS_STATUS|cuDNN error",
        "the card reported an error; start again, with --device cpu if it comes back",
    ),
    (
        r"NCCL|Connection (closed|reset) by peer|Gloo|DistBackendError|DistStoreError",
        "another process of this run has stopped; its own output says why",
    ),
    (
        r"^(torch\.\S*|_\w+|\w*)(Unsupported|TorchRuntimeError|BackendCompilerFailed|InductorError|CppCompileError|TorchExportError|UserError)\b",
        "torch cannot compile or export this network; to do without saved_model.pt2: --set export.has_program=false",
    ),
    (
        r"libGL\.so|libgthread",
        "OpenCV lacks a library of the desktop; pip install opencv-python-headless instead",
    ),
    (
        r"^(ModuleNotFoundError|ImportError)",
        "a package is missing or damaged; pip install -r requirements.txt -c constraints.txt",
    ),
)

_OUT = "check its owner and mode, or choose another place with --out"
BY_NUMBER: dict[int, str] = {
    errno.ENOSPC: "the disk is full; free some space, or choose another place with --out",
    errno.EDQUOT: "the disk quota is used up; free some space, or choose another place with --out",
    errno.EACCES: _OUT,
    errno.EPERM: _OUT,
    errno.EROFS: "choose another place with --out",
    errno.ENOTDIR: "a file lies where a folder is needed; move it away, or choose another place",
    errno.EEXIST: "something else lies there; move it away, or choose another place with --out",
    errno.EISDIR: "a folder lies where a file is needed; move it away, or name a file",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ELOOP: "its symbolic links go in a circle",
    errno.EIO: "the disk may be failing; try another",
    errno.ESTALE: "the network folder is gone; mount it again",
    errno.ENOENT: "name one that exists",
}


def run_to_the_end(
    work: Callable[[], int | None],
    what: str,
    folder: Path | str = "",
    interrupted: str = "the same command starts again",
) -> int:
    """Runs a command and returns its exit status. An error is printed in one line on stderr.

    With GUIE_TRACEBACK=1 in the environment errors are raised instead.

    Args:
        work: The command; it returns an exit status, or None for 0.
        what: The command's name in messages, such as `door 04`.
        folder: Where it writes, for errors that name no path.
        interrupted: What to do after an interruption, for the message.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a file name may hold what the terminal cannot show
    spare = []
    try:
        spare.append(bytearray(SPARE))
        return work() or 0
    except KeyboardInterrupt:
        print(f"{painted('interrupted', 'warning', sys.stderr)}; {interrupted}", file=sys.stderr)
        return 130
    except Exception as error:
        if os.environ.get("GUIE_TRACEBACK"):
            raise
        spare.clear()
        log.debug("traceback", exc_info=True)
        line, status = explained(error, what, folder)
        tell_error(line)
        return status


def tell_error(line: str) -> None:
    """Prints an error on stderr, in one line."""
    print(f"{painted('error:', 'error', sys.stderr)} {line}", file=sys.stderr)


@contextlib.contextmanager
def memory_remedy(remedy: str) -> Iterator[None]:
    """Adds a note to errors that leave the block: what to set if memory ran out. The innermost note is used.

    Args:
        remedy: Such as `--set embed.batch_size=16 (now 32)`.
    """
    try:
        yield
    except Exception as error:
        if not _noted(error):
            error.add_note(_MEMORY_NOTE + remedy)
        raise


def explained(error: Exception, what: str, folder: Path | str = "") -> tuple[str, int]:
    """One line about an error, and the exit status.

    Args:
        error: The error, with its traceback.
        what: The command's name.
        folder: Where the command writes.
    """
    text = message(error)
    if isinstance(error, OSError) and error.errno is not None and error.strerror != os.strerror(error.errno):
        return _one_line(error.strerror or text), 2  # our own message, with the errno of its kind
    if isinstance(error, OSError) and error.errno in BY_NUMBER:
        place = error.filename2 or error.filename or folder or what  # of two files, the second is the target
        return f"{place}: {error.strerror}; {_remedy(error)}", 2
    if isinstance(error, ValueError | OSError) and getattr(error, "errno", None) is None and _is_ours(error):
        return text, 2
    kind = _short(f"{type(error).__name__}: {text}" if text else type(error).__name__)
    for pattern, meaning in KNOWN:
        if re.search(pattern, kind):
            at = f" at {folder}" if folder and "disk" in meaning else ""
            return (
                f"{what}{at}: {meaning.format(memory=_noted(error) or 'give it more', limit=_limit())} "
                f"({kind}){_where()}",
                2,
            )
    return f"{what} stopped at {_place(error)}: {kind}{_where()}", 1


def _remedy(error: OSError) -> str:
    """What to do about an error of the operating system. If a folder could not be made: choose another --out."""
    frames = _frames(error)
    is_unmade = error.errno == errno.ENOENT and frames and frames[-1].function == "mkdir"
    return "choose another place with --out" if is_unmade else BY_NUMBER[error.errno or 0]


def is_of_the_machine(error: BaseException) -> bool:
    """Whether an error while reading a file comes from the machine, not from the file: memory or file handles ran out,
    or the disk failed.

    Callers let such an error pass. Otherwise the user would be told to delete or fetch again a file that is intact.
    """
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in _OF_THE_MACHINE):
        return True
    if not isinstance(error, RuntimeError | OSError | ImportError):
        return False
    return re.search(_MEMORY, f"{type(error).__name__}: {error}") is not None


def message(error: BaseException) -> str:
    """The message of an error in one line. If a loader process passed the error on, the last line of its traceback."""
    text = str(error)
    if _TRACEBACK in text:
        lines = [line for line in text.strip().splitlines() if line and not line.startswith(" ")]
        text = re.sub(r"^[\w.]+: ", "", lines[-1])
    return _one_line(text)


def first_sentence(error: BaseException, longest: int = 200) -> str:
    """The first sentence of a library's message, cut between words if it is longer; its type where it has none."""
    lines = str(error).strip().splitlines()
    return textwrap.shorten(lines[0].split(". ")[0], longest, placeholder=" ...") if lines else type(error).__name__


def log_path() -> str:
    """The path of the package's log file, or ''."""
    files = [
        handler.baseFilename
        for handler in logging.getLogger("guie").handlers
        if isinstance(handler, logging.FileHandler)
    ]
    return next((file for file in files if file != os.devnull), "")


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def _where() -> str:
    path = log_path()
    return f"; the traceback is in {path}" if path else "; GUIE_TRACEBACK=1 shows the traceback"


def _limit() -> str:
    """The memory limits of container and shell, in parentheses; '' if there are none."""
    limits = {"the container's limit": memory_limit(), "ulimit -v": address_limit()}
    told = [f"{name} is {value / 1e9:.1f} GB" for name, value in limits.items() if value is not None]
    return f" ({', '.join(told)})" if told else ""


def _noted(error: BaseException) -> str:
    notes = [note for note in getattr(error, "__notes__", []) if note.startswith(_MEMORY_NOTE)]
    return notes[0].removeprefix(_MEMORY_NOTE) if notes else ""


def _is_ours(error: Exception) -> bool:
    """Whether a `raise` statement of the project raised the error, here or in a worker process.

    Its message is then written for the user.
    """
    frames = _frames(error)
    return bool(frames) and _in_project(frames[-1].path) and re.search(r"\braise\b", frames[-1].source) is not None


def _place(error: Exception) -> str:
    """Function, file and line of the project's innermost frame."""
    for frame in reversed(_frames(error)):
        if _in_project(frame.path):
            return f"{frame.function} ({Path(frame.path).relative_to(PROJECT)}:{frame.line})"
    return "its start"


class _Frame(NamedTuple):
    path: str
    line: str
    function: str
    source: str


def _frames(error: Exception) -> list[_Frame]:
    """The frames of an error's traceback, the innermost last. Frames of a worker process (DataLoader,
    ProcessPoolExecutor) come after this process' own."""
    own = [
        _Frame(frame.filename, str(frame.lineno), frame.name, frame.line or "")
        for frame in traceback.extract_tb(error.__traceback__)
    ]
    texts = (str(error), str(error.__cause__ or ""))
    text = next((text for text in texts if _TRACEBACK in text), "")  # TorchScript's errors name files, too
    return own + [
        _Frame(*found) for found in re.findall(r'^ *File "([^"]+)", line (\d+), in (\S+)\n(.*)', text, re.MULTILINE)
    ]


def _in_project(path: str) -> bool:
    """Whether a file belongs to the project; the environment in .venv does not."""
    return Path(path).is_relative_to(PROJECT) and ".venv" not in Path(path).relative_to(PROJECT).parts
