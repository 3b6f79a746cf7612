"""Batches of images, made by loader processes, within the memory and the shared memory that this process may use."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from guie.machine import SHARED_MEMORY, free_shared_memory, memory_limit, n_cores

log = logging.getLogger(__name__)
PROCESS_BYTES = 300 << 20  # memory of a loader process: its own pages and the image decoder's


def n_workers(batch_bytes: int = 0, prefetch: int = 2, memory_share: float = 0.5) -> int:
    """Number of loader processes: one per two cores, at most eight, and no more than fit into a share of a container's
    memory.

    Args:
        batch_bytes: Size of a batch.
        prefetch: Batches that each process keeps ready.
        memory_share: Share of the container's memory that all loader processes together may use.
    """
    n, limit = min(8, max(1, n_cores() // 2)), memory_limit()
    return n if limit is None else max(1, min(n, int(limit * memory_share) // (PROCESS_BYTES + prefetch * batch_bytes)))


def load_batches(
    dataset: Dataset[Tensor],
    plan: Sequence[list[Any]],
    batch_bytes: int,
    prefetch: int = 2,
    memory_share: float = 0.5,
) -> Iterator[Tensor]:
    """Yields a batch for each row of the plan, in its order. A plan of one batch is loaded in this process.

    Loader processes send batches through shared memory. If that is too small, they use a pipe, which costs one more
    copy.

    Args:
        dataset: Gives a tensor for each item of the plan; all have one shape.
        plan: The items of each batch.
        batch_bytes: Size of the largest batch.
        prefetch: Batches that each process keeps ready.
        memory_share: See `n_workers`; smaller where other loader processes run.
    """
    n, free = n_workers(batch_bytes, prefetch, memory_share) if len(plan) > 1 else 0, free_shared_memory()
    needed = (n * prefetch + 2) * batch_bytes
    is_piped = n > 0 and free is not None and free < needed
    if is_piped:
        log.info(
            "%s has %.0f MB free, %d loader processes need %.0f: batches go through a pipe instead (docker run "
            "--shm-size=2g would save a copy)",
            SHARED_MEMORY, (free or 0) / 1e6, n, needed / 1e6,
        )  # fmt: skip
    loader = DataLoader(
        dataset,
        batch_sampler=plan,
        num_workers=n,
        prefetch_factor=prefetch if n else None,
        collate_fn=_stacked if is_piped else None,
        generator=torch.Generator(),  # loading must not change the random numbers that are drawn elsewhere
    )
    for batch in loader:
        yield torch.from_numpy(batch) if is_piped else batch


def _stacked(items: list[Tensor]) -> np.ndarray:
    """The items as one array, which the pipe pickles in one piece."""
    return torch.stack(items).numpy()
