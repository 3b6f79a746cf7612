"""Processes that share a long list of small jobs: of this machine, ending with the one that started them, or of a
dask.distributed cluster."""

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
    """A pool of `n` processes; when the block fails, jobs that wait are not begun: a full disk is told at once.

    With the address of a dask.distributed scheduler, its workers do the jobs; those of a worker that is lost are done
    by another. They must see the same folders under the same names. A job is a pure function that writes its files
    whole, so twice is as good as once.

    OpenCV and torch work in one thread meanwhile: their own threads do not survive a fork, and a process that waits for
    them waits for ever.
    """
    if scheduler:
        yield from _cluster(scheduler)
        return
    torch: Any = sys.modules.get("torch")  # drawing needs none of it, and its import takes seconds
    n_threads, n_torch_threads = cv2.getNumThreads(), torch.get_num_threads() if torch else 0
    cv2.setNumThreads(1)
    if torch:
        torch.set_num_threads(1)
    # fork starts at once; a fresh interpreter per process would import everything first. Elsewhere the platform's
    # default.
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
    """Lets a process end when its parent is killed (otherwise it would wait for work for ever), and keeps PIL's remarks
    on odd EXIF to itself.

    A torch that it imports itself works in one thread, as the parent's does.
    """
    os.environ["OMP_NUM_THREADS"] = "1"
    warnings.filterwarnings("ignore", module="PIL")
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
