"""What every objective is: a module that turns a whole batch into named loss terms."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Batch:
    """The whole batch of one step, the same on every process.

    Attributes:
        features: float [n, feature_dim], what the neck takes (the cut).
        embeddings: float32 (float64 in tests) [n, dim], the neck's output, not normalised; never half precision.
        labels: int64 [n], classes of the training set.
        items: int64 [n], rows of the training set.
        views: int64 [n], which cached view of an image each row is; 0 where images are augmented anew.
        epoch: Counted from 0.
        step: Of the stage, counted from 0.
        seed: Of the step's random numbers: it differs between steps, stages and recipes' seeds.
        is_counted: Whether `after_step` counts the step in the curves; see `step_means.COUNTED_EVERY`.
    """

    features: Tensor
    embeddings: Tensor
    labels: Tensor
    items: Tensor
    views: Tensor
    epoch: int
    step: int
    seed: int = 0
    is_counted: bool = True

    def detached(self) -> Batch:
        """The same numbers without their graph."""
        return replace(self, features=self.features.detach(), embeddings=self.embeddings.detach())

    def of(self, rows: Tensor) -> Batch:
        """Some rows alone: int64 [n_rows], or bool [n]."""
        own = {name: getattr(self, name)[rows] for name in ("features", "embeddings", "labels", "items", "views")}
        return replace(self, **own)


class Look(Protocol):
    """The training set as the model sees it now: in eval mode, without gradient.

    Attributes:
        labels: int64 [n_items], the class of each row of the training set.
    """

    labels: np.ndarray

    def embeddings(self, items: np.ndarray) -> Tensor:
        """float32 [n, dim] of the plain views of rows of the training set, int64 [n]."""

    def features(self, items: np.ndarray) -> Tensor:
        """float32 [n, feature_dim], the backbone's, of the plain views of rows of the training set, int64 [n]."""

    def taught(self, row: str, items: np.ndarray) -> Tensor:
        """float32 [n, dim] of the plain views of rows of the training set, int64 [n]: the embeddings by another row of
        the recipe, or the features of the pretrained backbone. The objective's settings name it among their
        `teachers`."""


class Objective(nn.Module):
    """What a stage minimises. Its parameters are trained, and a later stage may start from them. Its buffers (memories,
    counters, assignments) are checkpointed and end with the stage. Nothing of it is exported.

    Attributes:
        is_additive: The loss of a batch is the mean of its parts' losses, weighted by their sizes, and `after_step`
            changes nothing but what `curves` tells. Then a batch in parts needs no first pass without gradient.
    """

    is_additive = False

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Named terms, scalars, weighted; their sum is minimised.

        It changes no buffer, and its random numbers follow from the step: those of `draws.generator_of`, and dropout's,
        which are torch's own and seeded before each pass. So it may run several times in a step, with one result.
        """
        raise NotImplementedError

    @torch.no_grad()
    def after_step(self, batch: Batch, look: Look) -> None:
        """Called once after each step of the optimizer: memories, moving averages, and curves where the batch is
        counted. That of an additive objective is called where the batch is counted alone."""

    @torch.no_grad()
    def begin_epoch(self, epoch: int, look: Look) -> None:
        """Called before the first step of each epoch; not again where a stage resumes within an epoch."""

    def groups(self) -> np.ndarray | None:
        """Which items may share a batch: those with the same number, int64 [n_items]; None where all may.

        Items with a negative number are left out. The trainer asks after `begin_epoch`. The answer follows from the
        buffers alone, so that a stage resumes exactly.
        """
        return None

    def rates(self) -> dict[str, float]:
        """Factors of the stage's learning rate, by prefix of the parameter's name: `{"proxies": 100.0}`."""
        return {}

    def undecayed(self) -> tuple[str, ...]:
        """Prefixes of the names of parameters without weight decay: proxies, learned boundaries, masks, adversaries.

        The class centres of ArcFace, CosFace, Softmax and SphereFace are decayed, see
        `guie.settings.objectives.margins`.
        """
        return ()

    def is_shared_after(self, step: int) -> bool:
        """Whether all processes take process 0's buffers after this step of the stage.

        An objective whose buffers follow from scores says so, since cards may round these differently.
        """
        return False

    def curves(self, epoch: int) -> dict[str, float]:
        """Numbers to plot for an epoch, by column of `metrics.csv`: margins, learned thresholds."""
        return {}
