"""How well towers find photos of the same label, before any training: each photo is a query among all others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from guie.embed.pca import fit_pca
from guie.embed.search import l2_normalised
from guie.evaluate.intervals import paired_p
from guie.evaluate.protocols import merged, scored, summary
from guie.own.features import Features
from guie.own.small import SmallPhotos
from guie.own.towers import Refused, Tower

PCA_DIM = 64
DOUBT = 0.05  # a larger p is called luck, as in the report of a run


@dataclass(frozen=True)
class Score:
    """A score of some embeddings.

    Attributes:
        mp5: Mean precision at 5, see `host_precision`.
        low: Lower end of its 95 % interval, for other labels of the same kind; NaN with one label.
        high: Upper end.
        r1: Share of queries whose nearest photo has their label.
        queries: The value of each query, as `scored` returns them.
    """

    mp5: float
    low: float
    high: float
    r1: float
    queries: pd.DataFrame


@dataclass(frozen=True)
class Row:
    """A row of the table of towers.

    Attributes:
        tower: The tower.
        features: Its features of the photos.
        full: Score of all its dimensions; None without labels to compare.
        reduced: Score after PCA to 64 dimensions, fitted on the same photos; None if there are too few photos.
        is_best: Whether no other tower has a higher mP@5.
        p: Probability of a difference from the best this large by luck, see `paired_p`; None for the best.
    """

    tower: Tower
    features: Features
    full: Score | None
    reduced: Score | None
    is_best: bool = False
    p: float | None = None

    @property
    def is_luck(self) -> bool:
        """Whether its distance from the best may be luck."""
        return self.p is not None and self.p >= DOUBT


def ids_of(small: SmallPhotos) -> pd.DataFrame:
    """image_id, class_id (-1: no label) and domain of each photo, as `guie.evaluate` takes them."""
    return pd.DataFrame(
        {"image_id": small.table["path"], "class_id": small.table["class_id"].to_numpy(np.int64), "domain": "photos"}
    )


def why_no_score(ids: pd.DataFrame) -> str:
    """Why labels give no score; '' if they do."""
    sizes = ids.loc[ids["class_id"] >= 0, "class_id"].value_counts()
    if sizes.empty:
        return "there are no labels"
    if not (sizes >= 2).any():
        return "no label has two photos, so no photo can find another one of its label"
    if len(sizes) == 1 and (ids["class_id"] >= 0).all():
        return "all photos have one label, so every neighbour is right"
    return ""


def score(embeddings: np.ndarray, ids: pd.DataFrame) -> Score:
    """The score of embeddings, float [n, dim]; `why_no_score` must be ''."""
    queries = scored(l2_normalised(embeddings), ids, merged(ids), is_quiet=True)
    row = summary(queries)
    return Score(row["mp5"], row["mp5_low"], row["mp5_high"], row["r1"], queries)


def reduced(features: np.ndarray) -> np.ndarray | None:
    """Normalised features after PCA to 64 dimensions, float32 [n, 64]; None if photos or features are too few."""
    n, width = features.shape
    if min(n - 1, width) < PCA_DIM:
        return None
    unit = l2_normalised(features)
    return fit_pca(unit, PCA_DIM).transform(unit)


def row_of(tower: Tower, features: Features, ids: pd.DataFrame) -> Row:
    """A tower's scores; without labels to compare it has none."""
    if why_no_score(ids):
        return Row(tower, features, None, None)
    small = reduced(features.values)
    return Row(tower, features, score(features.values, ids), None if small is None else score(small, ids))


def ranked(rows: list[Row | Refused]) -> list[Row | Refused]:
    """The same rows with the best one marked, and the others compared with it.

    Rows keep their order. Where there are several, the p-values are not corrected for the number of comparisons.
    """
    scores = {i: row.full for i, row in enumerate(rows) if isinstance(row, Row) and row.full is not None}
    if not scores:
        return rows
    best = max(scores, key=lambda i: (scores[i].mp5, -i))
    compared: list[Row | Refused] = []
    for i, row in enumerate(rows):
        if isinstance(row, Refused) or row.full is None:
            compared.append(row)
        else:
            p = None if i == best else _p(row.full, scores[best])
            compared.append(Row(row.tower, row.features, row.full, row.reduced, i == best, p))
    return compared


def _p(one: Score, other: Score) -> float:
    queries = one.queries
    arrays = [queries[name].to_numpy() for name in ("class_id", "domain")]
    return paired_p(queries["mp5"].to_numpy(), other.queries["mp5"].to_numpy(), arrays[0], arrays[1])


def without_twins(row: Row, ids: pd.DataFrame, twins: pd.DataFrame) -> Score | None:
    """The score without photos that have a twin earlier in the list; None if nothing changes or nothing is left.

    Args:
        row: Of the tower.
        ids: As `ids_of` returns them.
        twins: path and twin of each photo that is there twice.
    """
    later = twins.loc[twins["twin"] < twins["path"], "path"]
    is_kept = ~ids["image_id"].isin(later)
    if is_kept.all() or row.full is None or why_no_score(ids[is_kept]):
        return None
    return score(row.features.values[is_kept.to_numpy()], ids[is_kept].reset_index(drop=True))
