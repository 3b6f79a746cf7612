"""The embeddings of earlier batches: a ring of buffers."""

from __future__ import annotations

import logging

import torch
from torch import Tensor, nn

from guie.settings.objectives.memory import Memory
from guie.train.objectives.base import Batch

log = logging.getLogger(__name__)


def held_size(name: str, size: int, n_items: int) -> int:
    """How many embeddings a memory of a size holds: at most as many as there are training images.

    A larger one would hold several embeddings of every image, the older ones computed with outdated weights.

    Args:
        name: Of the setting, for the warning.
        size: What the setting says.
        n_items: Training images.
    """
    if size > n_items:
        log.warning("%s is %d, and there are %d training images: it holds %d embeddings", name, size, n_items, n_items)
    return min(size, n_items)


class MemoryBank(nn.Module):
    """See `Memory`. An objective asks for `known` in `forward` and calls `add` in `after_step`.

    So a batch meets the batches before it, never itself: pairs within a batch are the objective's own.

    Attributes:
        size: Slots: those of the settings, or the training images where these are fewer.
        embeddings: float32 [size, dim], as the neck gives them, not normalised.
        labels: int64 [size], their classes.
        position: int64, the slot that is written next.
        count: int64, how many slots are filled.
    """

    embeddings: Tensor
    labels: Tensor
    position: Tensor
    count: Tensor

    def __init__(self, settings: Memory, dim: int, kind: str, n_items: int | None = None) -> None:
        """An empty memory.

        Args:
            settings: Its size, and when it begins to count.
            dim: Numbers of an embedding.
            kind: The objective's, for a warning.
            n_items: Training images; the memory holds no more. None sets no limit.
        """
        super().__init__()
        self.settings = settings
        self.size = settings.size if n_items is None else held_size(f"{kind}: memory.size", settings.size, n_items)
        self.register_buffer("embeddings", torch.zeros(self.size, dim))
        self.register_buffer("labels", torch.zeros(self.size, dtype=torch.int64))
        self.register_buffer("position", torch.zeros((), dtype=torch.int64))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def known(self, step: int) -> tuple[Tensor, Tensor]:
        """What it holds at a step of the stage: embeddings, [k, dim], without a graph, and labels, int64 [k]; nothing
        before the settings' `start_step`."""
        n = int(self.count) if step >= self.settings.start_step else 0
        return self.embeddings[:n], self.labels[:n]

    @torch.no_grad()
    def add(self, batch: Batch) -> None:
        """Takes in the rows of a batch; the oldest go. Of a batch larger than the memory the last rows stay."""
        size = self.size
        rows = batch.embeddings.detach()[-size:]
        slots = (self.position + torch.arange(len(rows), device=self.position.device)) % size
        self.embeddings[slots] = rows.to(self.embeddings.dtype)
        self.labels[slots] = batch.labels[-size:]
        self.position.add_(len(rows)).remainder_(size)
        self.count.add_(len(rows)).clamp_(max=size)

    def curves(self) -> dict[str, float]:
        """The share of the settings' size that is filled: below 1 where there are fewer training images."""
        return {"memory_fill": round(int(self.count) / self.settings.size, 6)}
