"""Features and embeddings of the training set by the model in training, for objectives that need them between steps."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from guie.embed.extract import Squares
from guie.embed.features import Stored
from guie.embed.loading import load_batches
from guie.embed.views import normalise
from guie.model.embedder import Embedder
from guie.train.sharding import ends_everywhere

MEMORY_SHARE = 0.25  # of a container, for a look's loader processes: those of the training step hold half of it


class ModelLook:
    """See `Look`."""

    def __init__(
        self, labels: np.ndarray, plain: Callable[[np.ndarray], Tensor], model: Embedder, by: Mapping[str, Stored]
    ) -> None:
        """A look at the training set.

        Args:
            labels: int64 [n_items].
            plain: What the neck takes of plain views, float32 [n, feature_dim (+ 3)], of rows of the training set.
            model: Asked in eval mode.
            by: What teachers make of all rows of the training set, float32 [n_items, dim], by the teacher's name.
        """
        self.labels, self.plain, self.model, self.by = labels, plain, model, by

    @torch.no_grad()
    def features(self, items: np.ndarray) -> Tensor:
        """See `Look`."""
        with eval_mode(self.model):
            return self.plain(items)[:, : self.model.backbone.feature_dim]  # without the image's size

    @torch.no_grad()
    def embeddings(self, items: np.ndarray) -> Tensor:
        """See `Look`."""
        with eval_mode(self.model):
            embeddings: Tensor = self.model.neck(self.plain(items))
        return embeddings

    def taught(self, row: str, items: np.ndarray) -> Tensor:
        """See `Look`."""
        return torch.from_numpy(self.by[row][items])


@contextlib.contextmanager
def eval_mode(model: Embedder) -> Iterator[None]:
    """Eval mode while the block runs; afterwards each module has its own mode again."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, is_training in modes.items():
            module.training = is_training


def image_features(
    squares: Squares,
    items: np.ndarray,
    model: Embedder,
    mean_std: tuple[Sequence[float], Sequence[float]],
    n_at_once: int,
    accelerator: Accelerator,
) -> Tensor:
    """Features of plain images, float32 [n, feature_dim], the same on every process. All processes must ask.

    Loader processes read the images. Passes of `n_at_once` images are dealt out to the processes: process r computes
    the passes r, r + n_processes, ... So the numbers do not depend on how many processes there are. Where the passes
    run out, a process computes the last one again and drops it, because sharded weights need all processes.

    Args:
        squares: The images at the stage's size.
        items: int64 [n], which of them.
        model: On the accelerator's device, in eval mode.
        mean_std: Of the pixels.
        n_at_once: Images of a pass.
        accelerator: Device, precision and processes.

    Raises:
        ValueError: another process failed. The one that failed raises its own error.
    """
    rank, n_processes = accelerator.process_index, accelerator.num_processes
    starts = range(0, len(items), n_at_once)
    turns = range(rank, -(-len(starts) // n_processes) * n_processes, n_processes)
    plan = [items[starts[min(turn, len(starts) - 1)] :][:n_at_once].tolist() for turn in turns]
    found = torch.zeros(len(items), model.backbone.feature_dim, device=accelerator.device)
    batch_bytes = min(n_at_once, len(items)) * 3 * squares.image_px**2 * 4
    with ends_everywhere(accelerator):  # each process reads other images: an unreadable one ends all before they meet
        for turn, pixels in zip(
            turns, load_batches(squares, plan, batch_bytes, memory_share=MEMORY_SHARE), strict=True
        ):
            normal = normalise(pixels.to(accelerator.device), *mean_std)
            with accelerator.autocast():
                features = model.backbone(normal.contiguous(memory_format=torch.channels_last))
            if turn < len(starts):
                found[starts[turn] : starts[turn] + n_at_once] = features
    if n_processes == 1:
        return found
    gathered: Tensor = accelerator.reduce(found, reduction="sum")  # each row is 0 in all processes but one
    return gathered
