"""Pools of processes for many small jobs: on this machine, or on a dask.distributed cluster."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from typing import Any

import cv2

N_RETRIES = 3  # of a job whose worker was lost


@contextlib.contextmanager
def process_pool(n: int, scheduler: str = "") -> Iterator[Executor]:
    """Yields a pool of `n` processes. If the block fails, waiting jobs are cancelled, so that the error shows at once.

    With the address of a dask.distributed scheduler, its workers do the jobs. Jobs of a lost worker are done again by
    another. The workers must see the same folders under the same names. A job must be a pure function that writes
    complete files, so that it may run twice.

    OpenCV and torch use one thread in the meantime. Their threads do not survive a fork, and a forked process that
    waits for them never ends.

    Raises:
        ValueError: the package distributed is not installed, or no scheduler answers.
    """
    if scheduler:
        yield from _cluster(scheduler)
        return
    torch: Any = sys.modules.get("torch")  # not imported here: drawing does without it, and the import takes seconds
    n_threads, n_torch_threads = cv2.getNumThreads(), torch.get_num_threads() if torch else 0
    cv2.setNumThreads(1)
    if torch:
        torch.set_num_threads(1)
    # A forked process starts at once; a fresh interpreter first imports everything. Other systems keep their default.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else None)
    with ProcessPoolExecutor(n, mp_context=context, initializer=_start) as pool:
        try:
            yield pool
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        finally:
            cv2.setNumThreads(n_threads)
            if torch:
                torch.set_num_threads(n_torch_threads)


def _cluster(scheduler: str) -> Iterator[Executor]:
    try:
        import distributed
    except ImportError as error:
        raise ValueError("--scheduler needs the package distributed: pip install distributed") from error
    try:
        client = distributed.Client(scheduler, timeout="20s", set_as_default=False)
    except (OSError, ValueError) as error:
        remedy = "start one with 'dask scheduler', and its workers with 'dask worker ADDRESS'"
        raise ValueError(f"no dask.distributed scheduler answers at {scheduler!r} ({error}); {remedy}") from error
    with client:
        pool = client.get_executor(retries=N_RETRIES, pure=False)
        try:
            yield pool
        except BaseException:
            pool.shutdown(wait=False)
            raise


def _start() -> None:
    """Prepares a worker process.

    It ends when its parent is killed; otherwise it would wait for work for ever. PIL's warnings of odd EXIF are hidden.
    If a job imports torch, torch uses one thread, as in the parent.
    """
    os.environ["OMP_NUM_THREADS"] = "1"
    warnings.filterwarnings("ignore", module="PIL")
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
