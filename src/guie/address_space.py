"""Whether a command's libraries start within the address space that the shell grants to a process (`ulimit -v`).

Libraries reserve address space when they are loaded and when they start their threads. Where it is refused, some raise
an error, OpenCV ends the process by a signal, and OpenBLAS ends it or asks again for ever. So they are tried first, in
a process of their own. Arrow, which reads tables, waits for ever for threads that were refused, even late in the work.
So its threads are started before the work, after as many threads of Python. Its own allocator, mimalloc, reserves 1 GiB
at once, if it can, and leaves too little for threads. So Arrow takes the system's.
"""

from __future__ import annotations

import errno
import importlib
import io
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from guie.machine import address_limit, n_cores

MARGIN = 1 << 28  # bytes that the libraries must leave to the work: threads, images and batches
CPU_S = 20 + n_cores()  # seconds of CPU time: torch with timm take 6, and waiting threads of many cores count, too
START_S = 60  # seconds from the end of the imports until the libraries have started; they take 1, or wait for ever
LONGEST_S = 600.0  # seconds until a process that waits for ever is killed; imports from a network disk are slow


def check_address_space(modules: Sequence[str], what: str, folder: Path | None = None) -> None:
    """Tries modules and their libraries in a process of their own, and starts Arrow's threads in this one, if there is
    a limit.

    ARROW_DEFAULT_MEMORY_POOL is then set for this process and those that it starts, unless it was set before. Arrow
    reads it once, so it changes nothing in a process that has allocated with Arrow already.

    Args:
        modules: Their full names, such as `guie.data.build`.
        what: The command's name in messages, such as `door 04`.
        folder: Where the command writes, for the message.

    Raises:
        OSError: they do not start within the limit.
        RuntimeError: Arrow's threads do not start in this process, which holds more than the other one.
    """
    limit = address_limit()
    if limit is None:
        return
    os.environ["ARROW_DEFAULT_MEMORY_POOL"] = os.environ.get("ARROW_DEFAULT_MEMORY_POOL") or "system"
    command = [sys.executable, "-P", "-m", __name__, *modules]
    why = _failure(command)
    if why:
        at = f" at {folder}" if folder else ""
        told = (
            f"{what}{at}: its libraries do not start with so little address space (ulimit -v is "
            f"{limit / 1e9:.1f} GB; {why[:200]}); raise the limit, or lift it with ulimit -v unlimited"
        )
        raise OSError(errno.ENOMEM, told)
    start_arrow()


def _failure(command: list[str]) -> str:
    """Runs a command, and says in one line why it failed; '' if it did not."""
    paths = [*filter(None, [os.environ.get("PYTHONPATH")]), str(Path(__file__).resolve().parents[1])]
    try:
        done = subprocess.run(
            command,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},  # this package, installed or not
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=LONGEST_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"a library had not started after {LONGEST_S:.0f} s"
    if done.returncode == -signal.SIGXCPU:
        return f"a library had not started after {CPU_S} s of CPU time"
    if done.returncode == -signal.SIGALRM:
        return f"a library had not started after {START_S} s"
    if done.returncode < 0:
        return f"a library ended with {signal.Signals(-done.returncode).name}"
    lines = done.stderr.strip().splitlines() or [f"a library ended with status {done.returncode}"]
    if lines[-1].startswith("ModuleNotFoundError"):
        return ""  # the limit is not to blame: the door's own import tells
    return lines[-1] if done.returncode else ""


def start_arrow() -> None:
    """Starts the only two threads that Arrow then has: one that computes, and one that reads files.

    Raises:
        RuntimeError: two threads cannot be started.
    """
    import pandas as pd
    import pyarrow as pa

    _try_threads(2)
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    pd.read_parquet(io.BytesIO(pd.DataFrame({"a": [0]}).to_parquet()))


def _try_threads(n: int) -> None:
    """Starts so many threads at once, and ends them.

    Raises:
        RuntimeError: one cannot be started.
    """
    is_over = threading.Event()
    started: list[threading.Thread] = []
    try:
        for _ in range(n):
            thread = threading.Thread(target=is_over.wait)
            thread.start()
            started.append(thread)
    finally:
        is_over.set()
        for thread in started:
            thread.join()


def start_libraries(modules: Sequence[str]) -> None:
    """Imports modules, and lets the libraries that came with them start their threads and reserve their memory.

    Args:
        modules: Their full names.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S if hard == resource.RLIM_INFINITY else min(CPU_S, hard), hard))
    limit = address_limit()
    if limit is not None:
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (max(0, limit - MARGIN), hard))
    for name in modules:
        importlib.import_module(name)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])
    signal.alarm(START_S)  # ends the process, even where it waits in a library
    if "pandas" in sys.modules:
        start_arrow()
    import numpy as np

    square = np.ones((512, 512), dtype=np.float32)
    square @ square
    if "cv2" in sys.modules:
        import cv2

        cv2.resize(square, (256, 256), interpolation=cv2.INTER_AREA)
    if "scipy.linalg" in sys.modules:  # scipy and faiss each bring a copy of OpenBLAS
        from scipy.linalg import blas

        blas.sgemm(1.0, square, square)
    if "faiss" in sys.modules:
        import faiss

        index = faiss.IndexFlatIP(512)
        index.add(square)
        index.search(square, 1)
    if "torch" in sys.modules:
        import torch
        import torch.nn.functional as F

        weight = torch.ones(8, 3, 3, 3, requires_grad=True)
        F.conv2d(torch.ones(4, 3, 64, 64), weight).sum().backward()


if __name__ == "__main__":
    start_libraries(sys.argv[1:])
