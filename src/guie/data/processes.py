"""Processes that share a long list of small jobs and end with the one that started them."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

import cv2
import torch


@contextlib.contextmanager
def process_pool(n: int) -> Iterator[ProcessPoolExecutor]:
    """A pool of `n` processes; when the block fails, jobs that wait are not begun: a full disk is told at once.

    OpenCV and torch work in one thread meanwhile: their own threads do not survive a fork, and a process that waits for them waits for ever.
    """
    n_threads, n_torch_threads = cv2.getNumThreads(), torch.get_num_threads()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    # fork starts at once; a fresh interpreter per process would import everything first. Elsewhere the platform's default.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else None)
    with ProcessPoolExecutor(n, mp_context=context, initializer=_start) as pool:
        try:
            yield pool
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        finally:
            cv2.setNumThreads(n_threads)
            torch.set_num_threads(n_torch_threads)


def _start() -> None:
    """Lets a process end when its parent is killed (otherwise it would wait for work for ever), and keeps PIL's remarks on odd EXIF to itself."""
    warnings.filterwarnings("ignore", module="PIL")
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
