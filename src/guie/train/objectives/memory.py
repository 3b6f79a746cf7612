"""A memory of the embeddings of earlier batches."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from guie.settings.objectives.memory import Memory
from guie.train.objectives.base import Batch


class MemoryBank(nn.Module):
    """A ring of the newest embeddings. All of it is in buffers, so that a stage resumes exactly."""

    embeddings: Tensor
    labels: Tensor
    position: Tensor
    count: Tensor

    def __init__(self, settings: Memory, dim: int) -> None:
        """An empty memory of embeddings of `dim` numbers."""
        super().__init__()
        self.settings = settings
        self.register_buffer("embeddings", torch.zeros(settings.size, dim))
        self.register_buffer("labels", torch.zeros(settings.size, dtype=torch.int64))
        self.register_buffer("position", torch.zeros((), dtype=torch.int64))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def known(self, step: int) -> tuple[Tensor, Tensor]:
        """Embeddings, float [k, dim], and labels, int64 [k]; none before the memory's first step."""
        n = int(self.count) if step >= self.settings.start_step else 0
        return self.embeddings[:n], self.labels[:n]

    @torch.no_grad()
    def add(self, batch: Batch) -> None:
        """Takes in a batch's embeddings in the place of the oldest; of a larger batch the last ones."""
        size = self.settings.size
        new = batch.embeddings[-size:].to(self.embeddings.dtype)
        places = (int(self.position) + torch.arange(len(new), device=self.labels.device)) % size
        self.embeddings[places] = new
        self.labels[places] = batch.labels[-size:]
        self.position.fill_((int(self.position) + len(new)) % size)
        self.count.fill_(min(int(self.count) + len(new), size))

    @torch.no_grad()
    def clear(self) -> None:
        """Forgets everything."""
        self.position.zero_()
        self.count.zero_()
