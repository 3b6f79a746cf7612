"""Two settings that were asked the same queries: their difference, its interval and its test."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from guie.embed.retrieval import K, host_precision, mean_of_domains
from guie.evaluate.intervals import class_interval, paired_p


@dataclass(frozen=True)
class Paired:
    """How one setting compares with another on the same queries.

    Attributes:
        before: mP@5 of the one that is compared with.
        after: mP@5 of the other.
        low: Lower end of the 95 % interval of the difference, for other classes of the same kind; NaN where a domain
            has a single class.
        high: Its upper end.
        p: Of the paired test of the difference.
        n_classes: Classes of the queries.
    """

    before: float
    after: float
    low: float
    high: float
    p: float
    n_classes: int

    @property
    def difference(self) -> float:
        """mP@5 gained."""
        return self.after - self.before


def precisions(folder: Path, setting: str) -> pd.DataFrame:
    """The host's precision of each query of a setting, from what door 07 has written.

    Args:
        folder: `07_embeddings` of a run.
        setting: The name of a row of its `scores.csv`.

    Returns:
        image_id, class_id, domain and precision (NaN where nothing is relevant), in the order of `val_ids.parquet`.

    Raises:
        FileNotFoundError: door 07 is not done.
        ValueError: there is no such setting.
    """
    ids = pd.read_parquet(folder / "val_ids.parquet", columns=["image_id", "class_id", "domain"])
    neighbours = pd.read_parquet(folder / "neighbours.parquet", columns=["setting", "query_id", "rank", "is_correct"])
    rows = neighbours[neighbours["setting"] == setting]
    if rows.empty:
        known = ", ".join(map(str, neighbours["setting"].unique()))
        raise ValueError(f"{folder} has no setting {setting!r}; it has {known}")
    place = pd.Series(np.arange(len(ids)), index=ids["image_id"])
    is_correct = np.zeros((len(ids), K), bool)
    is_correct[place[rows["query_id"]].to_numpy(), rows["rank"].to_numpy() - 1] = rows["is_correct"]
    n_of_class = ids.groupby("class_id")["class_id"].transform("size").to_numpy()
    return ids.assign(precision=host_precision(is_correct, n_of_class - 1))


def paired(before: pd.DataFrame, after: pd.DataFrame) -> Paired:
    """Compares two settings, of one run or of two.

    Args:
        before: From `precisions`.
        after: The same images and classes, in any order.

    Raises:
        ValueError: the two were asked other queries.
    """
    first, second = (table.sort_values("image_id", ignore_index=True) for table in (before, after))
    groups = [table.groupby("class_id", sort=False).ngroup() for table in (first, second)]
    if not first["image_id"].equals(second["image_id"]) or not groups[0].equals(groups[1]):
        raise ValueError("the two were asked other queries: their images or classes differ")
    values, others = second["precision"].to_numpy(), first["precision"].to_numpy()
    classes, domains = first["class_id"].to_numpy(), first["domain"].to_numpy()
    low, high = class_interval(values - others, classes, domains, limits=(-1.0, 1.0))
    return Paired(
        before=mean_of_domains(others, domains)[0],
        after=mean_of_domains(values, domains)[0],
        low=low,
        high=high,
        p=paired_p(values, others, classes, domains),
        n_classes=len(np.unique(classes[np.isfinite(values)])),
    )
