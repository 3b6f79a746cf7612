"""What objectives with class centres or proxies have in common: a start at the means of the classes, and curves."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from guie.train.objectives.base import Batch, Look, Objective
from guie.train.objectives.class_cosines import class_cosines
from guie.train.objectives.class_means import start_from_means
from guie.train.objectives.step_means import StepMeans, pair_cosines

COLUMNS = ("active_share", "target_cosine", "best_other_cosine", "positive_cosine", "negative_cosine")


def check_classes(kind: str, n_classes: int) -> None:
    """Raises ValueError for one class alone; `kind` is the settings' class, for the message."""
    if n_classes < 2:
        raise ValueError(f"{kind} tells classes apart, and the stage has {n_classes} class; take more sources")


class CenterObjective(Objective):
    """Class centres or proxies, and how near a batch is to them.

    The curves are means over the counted steps: `target_cosine` to the nearest centre of the own class,
    `best_other_cosine` to the nearest of another class, `active_share` of the rows whose cosine to their own class,
    after the margin, is at most that to the nearest other class.

    Attributes:
        n_each: Centres of a class.
        has_mean_centers: `begin_epoch(0)` points the centres at the means of their classes' embeddings.
        means: Of the counted steps of the epoch.
    """

    def __init__(self, n_each: int, has_mean_centers: bool, *columns: str) -> None:
        """Nothing is counted yet; `columns` are further curves, which `margin_curves` gives."""
        super().__init__()
        self.n_each, self.has_mean_centers = n_each, has_mean_centers
        self.means = StepMeans((*COLUMNS, *columns))

    def points(self) -> nn.Parameter:
        """The centres, float32 [n_classes * n_each, dim]; those of a class follow each other."""
        raise NotImplementedError

    def target(self, own: Tensor, batch: Batch) -> Tensor:
        """The cosines to the own classes with the margin, float [n], of those without, float [n]."""
        return own

    def margin_curves(self, own: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Further numbers of a step, of the cosines to the own classes without and with the margin, float [n] both."""
        return {}

    @torch.no_grad()
    def begin_epoch(self, epoch: int, look: Look) -> None:
        """Points the centres at their classes' means before the first epoch, if asked to."""
        self.means.reset()
        if epoch == 0 and self.has_mean_centers:
            start_from_means(self.points(), self.n_each, look)

    @torch.no_grad()
    def after_step(self, batch: Batch, look: Look) -> None:
        """Counts a step that is counted: cosines to a million centres cost about a third of a step."""
        if not batch.is_counted:
            return
        own, nearest = class_cosines(batch.embeddings, self.points(), batch.labels, self.n_each)
        target = self.target(own, batch)
        counted = {
            "active_share": (target <= nearest).double().mean(),
            "target_cosine": own.mean(),
            "best_other_cosine": nearest.mean(),
        }
        self.means.add({**counted, **pair_cosines(batch.embeddings, batch.labels), **self.margin_curves(own, target)})

    def curves(self, epoch: int) -> dict[str, float]:
        """See `Objective`."""
        return self.means.values()
