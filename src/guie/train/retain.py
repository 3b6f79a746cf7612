"""What holds a moving backbone near its start: the terms of `Retain`.

Source: Ypsilantis et al., Infusing fine-grained visual knowledge to vision-language models, arXiv 2508.12137.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor

from guie.embed.features import Stored
from guie.settings.retain import Retain
from guie.train.objectives.base import Batch, Objective
from guie.train.sharding import full_tensor


@dataclass(frozen=True)
class Retained:
    """The state of the backbone at the stage's start, near which it is held. It is constant during training. So a stage
    that resumes rebuilds it from the weights that it started from and from the feature cache.

    Attributes:
        settings: The weights of the two terms.
        features: float32 [n_items, feature_dim], those of the plain training images at the start, read by rows; None
            without their term.
        is_generic: bool [n_items], which training images the objective does not see; None where it sees all.
        weights: The backbone's parameters that train, as they were at the start, by name; empty without their term.
    """

    settings: Retain
    features: Stored | None
    is_generic: np.ndarray | None
    weights: dict[str, Tensor]

    def terms(self, batch: Batch, objective: Objective) -> dict[str, Tensor]:
        """The objective's terms over the rows that it sees, and that of the features.

        Images without the term of the features count as 0 in its mean.
        """
        seen = self.seen(batch)
        terms = {} if seen is None else objective(seen)
        if self.features is None:
            return terms
        start = torch.from_numpy(np.asarray(self.features[batch.items.cpu().numpy()])).to(batch.features)
        changes = (F.normalize(batch.features) - F.normalize(start)).square().mean(1)
        carries = self._generic(batch)
        changes = changes if carries is None else changes * carries
        return terms | {"kept_features": self.settings.features_weight * changes.mean()}

    def seen(self, batch: Batch) -> Batch | None:
        """The rows of a batch that the objective sees; None if there are none."""
        is_hidden = self._generic(batch)
        if is_hidden is None:
            return batch
        return None if is_hidden.all() else batch.of(~is_hidden)

    def _generic(self, batch: Batch) -> Tensor | None:
        if self.is_generic is None:
            return None
        return torch.from_numpy(self.is_generic[batch.items.cpu().numpy()]).to(batch.items.device)

    @torch.no_grad()
    def pull(self, parameters: dict[str, Tensor], accelerator: Accelerator) -> dict[str, float]:
        """Adds the gradient of the term of the weights, and returns the term; nothing without it.

        Args:
            parameters: The model's that train, by name, with the gradient of the other terms.
            accelerator: Of all processes, which all have the same gradient; in fp16 gradients are left scaled.
        """
        if not self.weights:
            return {}
        scaler, weight = accelerator.scaler, self.settings.weights_weight
        scale = scaler.get_scale() if scaler is not None else 1.0
        distances = []
        for name, start in self.weights.items():
            parameter = parameters[name]
            moved = parameter.detach() - start
            distances.append(full_tensor(moved.square().mean()).float())
            if parameter.grad is not None:
                parameter.grad.add_(moved, alpha=2 * scale * weight / parameter.numel())
        return {"kept_weights": weight * float(torch.stack(distances).sum())}


def retained(
    settings: Retain, features: Stored | None, is_generic: np.ndarray, trained: dict[str, Tensor]
) -> Retained | None:
    """Makes the `Retained` of a stage before its first step; None where no term holds the backbone.

    Args:
        settings: The stage's.
        features: See `Retained`.
        is_generic: bool [n_items], the training images of generic sets.
        trained: The model's parameters that train, by name; those of the backbone are copied.
    """
    if settings == Retain():
        return None
    names = [name for name in trained if name.startswith("backbone.")] if settings.weights_weight else []
    weights = {name: trained[name].detach().clone() for name in names}
    return Retained(settings, features, is_generic if settings.generic else None, weights)
