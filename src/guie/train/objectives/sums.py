"""Several objectives at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from guie.train.objectives.base import Batch, Look, Objective


class SumOfObjectives(Objective):
    """See `Sum`.

    Attributes:
        parts: The objectives, by the names of their kinds in small letters.
        labelled: The names of those that see only rows with a label; none where all rows have one.
        n_classes: Labels of this number and more are those of rows without one.
    """

    def __init__(
        self, names: Sequence[str], parts: Sequence[Objective], is_labelled: Sequence[bool] = (), n_classes: int = 0
    ) -> None:
        """The sum of `parts`, whose terms are told apart by their names.

        Args:
            names: The parts' names.
            parts: The objectives.
            is_labelled: Whether each part sees only rows with a label; empty is none.
            n_classes: Classes of the training set.
        """
        super().__init__()
        self.labelled = {name.lower() for name, is_own in zip(names, is_labelled, strict=False) if is_own}
        self.n_classes = n_classes
        self.parts = nn.ModuleDict({name.lower(): part for name, part in zip(names, parts, strict=True)})
        self.is_additive = all(part.is_additive for part in parts) and not self.labelled

    def _each(self) -> list[tuple[str, Objective]]:
        return [(name, part) for name, part in self.parts.items() if isinstance(part, Objective)]

    def _seen(self, batch: Batch) -> list[tuple[str, Objective, Batch]]:
        """The parts that see anything of a batch, with their names, and what they see of it."""
        if not self.labelled:
            return [(name, part, batch) for name, part in self._each()]
        own = batch.of((batch.labels < self.n_classes).nonzero()[:, 0])
        seen = [(name, part, own if name in self.labelled else batch) for name, part in self._each()]
        return [(name, part, rows) for name, part, rows in seen if len(rows.labels)]

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """See `Objective`; a part that sees no row of the batch has no term."""
        named = ((name, part(rows)) for name, part, rows in self._seen(batch))
        return {f"{name}_{term}": value for name, terms in named for term, value in terms.items()}

    @torch.no_grad()
    def after_step(self, batch: Batch, look: Look) -> None:
        """See `Objective`."""
        for _, part, rows in self._seen(batch):
            part.after_step(rows, look)

    @torch.no_grad()
    def begin_epoch(self, epoch: int, look: Look) -> None:
        """See `Objective`."""
        for _, part in self._each():
            part.begin_epoch(epoch, look)

    def groups(self) -> np.ndarray | None:
        """See `Objective`; those of the one part that has some: `Sum.check` refuses two."""
        found = [groups for _, part in self._each() if (groups := part.groups()) is not None]
        return found[0] if found else None

    def rates(self) -> dict[str, float]:
        """See `Objective`."""
        return {f"parts.{name}.{key}": rate for name, part in self._each() for key, rate in part.rates().items()}

    def undecayed(self) -> tuple[str, ...]:
        """See `Objective`."""
        return tuple(f"parts.{name}.{prefix}" for name, part in self._each() for prefix in part.undecayed())

    def is_shared_after(self, step: int) -> bool:
        """See `Objective`."""
        return any(part.is_shared_after(step) for _, part in self._each())

    def curves(self, epoch: int) -> dict[str, float]:
        """See `Objective`; each column begins with its part's name, as the terms do."""
        curves = ((name, part.curves(epoch)) for name, part in self._each())
        return {f"{name}_{column}": value for name, own in curves for column, value in own.items()}
