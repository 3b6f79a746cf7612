"""Tests whether another projection suits some photos better: it is fitted to half of them and scored on the other
half."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from guie.embed.projection import Projection
from guie.embed.retrieval import retrieve
from guie.evaluate.kept import Kept, kept
from guie.evaluate.pairs import Paired, paired

MOST_ASKED = 20_000  # photos of the held-out half, evenly spaced: each is compared with each


@dataclass(frozen=True)
class Trial:
    """How two projections compare on photos that the second was not fitted on.

    Attributes:
        n_fitted: Photos that the second was fitted on.
        n_held_out: Photos that tell.
        is_by_label: Whether whole labels were held out.
        before: What the first keeps.
        after: What the second keeps.
        labels: mP@5 of the held-out labels; None where no labels were held out.
        full_width: mP@5 with all numbers before a projection; NaN without labels.
    """

    n_fitted: int
    n_held_out: int
    is_by_label: bool
    before: Kept
    after: Kept
    labels: Paired | None
    full_width: float

    @property
    def is_worse(self) -> bool:
        """Whether the second projection is no better. An mP@5 that changes by more than luck explains decides. Else it
        must keep more neighbours, or have a higher mP@5 and keep more of the spectrum."""
        own = self.labels
        if own is not None and (own.high < 0 or own.low > 0):  # both False for NaN
            return own.high < 0
        if self.after.neighbours > self.before.neighbours:
            return False
        return own is None or own.difference <= 0 or self.after.spectrum <= self.before.spectrum

    def as_data(self) -> dict[str, Any]:
        """For JSON."""
        own = None if self.labels is None else {"full_width": self.full_width, **asdict(self.labels)}
        return {
            "n_fitted": self.n_fitted,
            "n_held_out": self.n_held_out,
            "held_out_by": "label" if self.is_by_label else "photo",
            "before": asdict(self.before),
            "after": asdict(self.after),
            "mp5": own and {name: None if math.isnan(value) else value for name, value in own.items()},
            "is_worse": self.is_worse,
        }


def run_trial(
    joined: np.ndarray,
    names: Sequence[str],
    labels: Sequence[str],
    before: Projection,
    fit: Callable[[np.ndarray], Projection],
) -> Trial:
    """Fits on half of the photos, and compares both projections on the other half.

    Args:
        joined: float32 [n, D] of length one.
        names: Of the photos; which half one is in follows from its name, or from its label.
        labels: '' for a photo without one: it asks nothing, and all others may find it.
        before: The projection that is compared with.
        fit: Gives another one, of joined outputs.
    """
    is_held_out, is_by_label = held_out(names, labels, before.dim + 1)
    after = fit(joined[~is_held_out])
    rows = np.flatnonzero(is_held_out)
    asked = rows[np.linspace(0, len(rows) - 1, min(MOST_ASKED, len(rows))).round().astype(int)]
    unit = joined[asked]
    compared, full_width = None, math.nan
    if is_by_label:
        embeddings = {"before": before(unit), "after": after(unit), "full": unit}
        classes = _classes([labels[row] for row in asked])
        tables = {name: _precisions(vectors, classes) for name, vectors in embeddings.items()}
        compared = paired(tables["before"], tables["after"])
        full_width = paired(tables["before"], tables["full"]).after
    return Trial(
        n_fitted=int((~is_held_out).sum()),
        n_held_out=len(rows),
        is_by_label=is_by_label,
        before=kept(unit, before),
        after=kept(unit, after),
        labels=compared,
        full_width=full_width,
    )


def held_out(names: Sequence[str], labels: Sequence[str], n_least: int) -> tuple[np.ndarray, bool]:
    """Which photos are held out: about half, whole labels where that can be.

    Labels are taken in an order that follows from their text, as long as they do not make much more than half; a photo
    without a label stands for itself. Where either side gets too few photos, or the held-out labels cannot be asked
    about, photos are dealt one by one.

    Args:
        names: Of the photos.
        labels: Of the photos; '' without one.
        n_least: Photos that each side needs.

    Returns:
        bool [n], and whether labels were held out.
    """
    by_label = _half(
        [f"label {label}" if label else f"photo {name}" for name, label in zip(names, labels, strict=True)]
    )
    counts = Counter(label for label, is_out in zip(labels, by_label, strict=True) if is_out and label)
    is_askable = sum(n >= 2 for n in counts.values()) >= 2
    if is_askable and n_least <= by_label.sum() <= len(by_label) - n_least:
        return by_label, True
    return _half([f"photo {name}" for name in names]), False


def _half(units: Sequence[str]) -> np.ndarray:
    """bool [n]: the rows of whole units, about half of them."""
    sizes = Counter(units)
    order = sorted(sizes, key=lambda unit: hashlib.sha256(unit.encode(errors="surrogateescape")).digest())
    chosen, n = set(), 0
    for unit in order:
        if 2 * (n + sizes[unit]) <= 1.2 * len(units) and 2 * n < len(units):
            chosen.add(unit)
            n += sizes[unit]
    return np.array([unit in chosen for unit in units])


def _classes(labels: Sequence[str]) -> np.ndarray:
    """int64 [n], a class for each label; photos without one are each of a class of their own, and ask nothing."""
    own = np.unique(np.array(labels), return_inverse=True)[1]
    is_alone = np.array([not label for label in labels])
    return np.where(is_alone, len(labels) + np.arange(len(labels)), own)


def _precisions(embeddings: np.ndarray, classes: np.ndarray) -> pd.DataFrame:
    precision = retrieve(embeddings, classes).precision
    return pd.DataFrame(
        {"image_id": np.arange(len(classes)), "class_id": classes, "domain": "", "precision": precision}
    )
