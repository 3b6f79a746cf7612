"""Scores of domains seen and never seen over all folds and seeds, their differences, and two intervals of each.

The first interval estimates the score on other domains. It is Student's t interval over the domains' means over the
seeds; a domain counts once, because its seeds share its images. With a single domain it is over the seeds, and covers
other splits and trainings. The second interval estimates the score on other classes of these domains. It resamples
classes (`guie.evaluate.intervals`); a class counts once, however many seeds have queries of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from guie.evaluate.intervals import class_interval

SEEN, NEVER_SEEN, DIFFERENCE = "seen", "never seen", "difference"
REFITTED = ", refitted"  # ends the name of a row whose PCA also saw the foreign domain's other images
QUERY = ["seed", "domain", "image_id"]  # what tells a query of a row


@dataclass(frozen=True)
class Estimate:
    """A mean over domains, with equal weight, of each domain's mean over the seeds.

    Attributes:
        mean: The mean.
        class_low: Lower end of the 95 % interval for other classes; NaN where a domain has a single class.
        class_high: Its upper end.
        fold_low: Lower end of the 95 % interval over the domains, or over the seeds of a single domain; NaN where there
            is one of both.
        fold_high: Its upper end.
        n_domains: Domains; with 1 the interval is over the seeds.
        n_pairs: Pairs of a seed and a domain.
        n_classes: Classes that were asked about.
    """

    mean: float
    class_low: float
    class_high: float
    fold_low: float
    fold_high: float
    n_domains: int
    n_pairs: int
    n_classes: int


SUMMARY_COLUMNS = ("row", "dim", "side", *(field.name for field in fields(Estimate)), "domain")


def sides(queries: pd.DataFrame) -> pd.DataFrame:
    """The precision of each query by the models that were trained on its domain, and by the one that was not.

    Args:
        queries: As `guie.evaluate.foreign.ask` writes them, of all folds, with the columns seed and left_out.

    Returns:
        row, seed, domain, image_id, class, dim; `seen`, the mean over the folds that left another domain out, and
        `never seen`; NaN where no fold says it. Queries that have nothing relevant are left out. Rows keep the order in
        which they first stand.
    """
    asked = queries[np.isfinite(queries["precision"])]
    side = np.where(asked["is_never"], NEVER_SEEN, SEEN)
    keys = ["row", *QUERY, "class", "dim"]
    means = asked.assign(side=side).groupby([*keys, "side"], sort=False)["precision"].mean().unstack("side")
    return means.reindex(columns=[SEEN, NEVER_SEEN]).rename_axis(columns=None).reset_index()


def estimate(values: pd.Series, asked: pd.DataFrame, limits: tuple[float, float] = (0.0, 1.0)) -> Estimate | None:
    """The mean of one value a query, and its intervals; None where no value is known.

    Args:
        values: float, NaN where it is not known.
        asked: seed, domain and class of the same queries.
        limits: The range of the values.
    """
    is_known = np.isfinite(values)
    values, asked = values[is_known], asked[is_known]
    if values.empty:
        return None
    pairs = values.groupby([asked["seed"], asked["domain"]]).mean()
    classes, domains = asked["class"].to_numpy(str), asked["domain"].to_numpy(str)
    low, high = class_interval(values.to_numpy(np.float64), classes, domains, limits=limits)
    of_domains = pairs.groupby("domain").mean()
    fold_low, fold_high = student_interval((of_domains if len(of_domains) > 1 else pairs).to_numpy())
    return Estimate(
        mean=float(of_domains.mean()),
        class_low=low,
        class_high=high,
        fold_low=fold_low,
        fold_high=fold_high,
        n_domains=len(of_domains),
        n_pairs=len(pairs),
        n_classes=len(set(zip(domains, classes, strict=True))),
    )


def student_interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Student's interval of the mean of float64 [n]; NaN where there is one value."""
    if len(values) < 2:
        return math.nan, math.nan
    half = stats.t.ppf((1 + level) / 2, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values))
    return float(values.mean() - half), float(values.mean() + half)


def of_others(lines: pd.DataFrame) -> str:
    """What the intervals over the folds generalise to, as the heading of their column."""
    is_one = lines["n_domains"] == 1
    return "other seeds" if is_one.all() else "other domains or seeds" if is_one.any() else "other domains"


def rows_of(queries: pd.DataFrame) -> list[str]:
    """The names of the rows, in the order of the ladder."""
    return list(dict.fromkeys(queries["row"]))


def last_row(queries: pd.DataFrame) -> str:
    """The row that the recipe exports: the last one that is not fitted to the foreign domain."""
    return next(row for row in reversed(rows_of(queries)) if not row.endswith(REFITTED))


def summary(queries: pd.DataFrame) -> pd.DataFrame:
    """A line for each row of the ladder and each of seen, never seen and their difference; see `SUMMARY_COLUMNS`.

    The column domain is '' for all domains together. All three are of the queries that both kinds of folds were asked.
    Where there is none, as of one fold alone, there is no difference, and the two sides are of different queries.
    """
    compared = sides(queries)
    lines = []
    for row in rows_of(queries):
        own = compared[compared["row"] == row]
        is_both = own[[SEEN, NEVER_SEEN]].notna().all(axis=1)
        own = own[is_both] if is_both.any() else own
        change = own[NEVER_SEEN] - own[SEEN]
        sought = ((SEEN, own[SEEN], (0.0, 1.0)), (NEVER_SEEN, own[NEVER_SEEN], (0.0, 1.0)))
        for name, values, limits in (*sought, (DIFFERENCE, change, (-1.0, 1.0))):
            found = estimate(values, own, limits)
            if found is not None:
                lines.append({"row": row, "dim": int(own["dim"].iloc[0]), "side": name, **asdict(found)})
    return pd.DataFrame(lines).assign(domain="")


def by_domain(queries: pd.DataFrame, row: str) -> pd.DataFrame:
    """The same of one row for each domain alone."""
    own = queries[queries["row"] == row]
    parts = [summary(part).assign(domain=domain) for domain, part in own.groupby("domain", sort=True)]
    return pd.concat(parts, ignore_index=True)


def fold_scores(queries: pd.DataFrame) -> pd.DataFrame:
    """A line for each seed, fold, domain and row: the published table of all that was asked.

    Returns:
        seed, left_out, domain, side, row, dim, n_queries, n_classes, mp5 with the 95 % interval for other classes of
        the domain (mp5_low, mp5_high), and r1.
    """
    lines = []
    keys = ["seed", "left_out", "domain", "row"]
    for key, own in queries.groupby(keys, sort=False):
        asked = own[np.isfinite(own["precision"])]
        if asked.empty:
            continue
        classes = asked["class"].to_numpy(str)
        values = asked["precision"].to_numpy(np.float64)
        low, high = class_interval(values, classes, np.zeros(len(asked), int))
        lines.append(
            dict(zip(keys, key, strict=True))
            | {"side": NEVER_SEEN if asked["is_never"].iloc[0] else SEEN, "dim": int(asked["dim"].iloc[0])}
            | {"n_queries": len(asked), "n_classes": len(np.unique(classes))}
            | {"mp5": values.mean(), "mp5_low": low, "mp5_high": high, "r1": asked["recall_at_1"].mean()}
        )
    columns = [*keys[:3], "side", "row", "dim", "n_queries", "n_classes", "mp5", "mp5_low", "mp5_high", "r1"]
    return pd.DataFrame(lines)[columns].round(6)


def compared(before: pd.DataFrame, after: pd.DataFrame, names: tuple[str, str]) -> pd.DataFrame:
    """What one recipe gains over another on the same queries of the same folds and seeds.

    Rows of equal names are compared, and the two last rows, which are exported.

    Args:
        before: Queries of all folds of the recipe that is compared with.
        after: Those of the other.
        names: Of the two, for messages.

    Returns:
        row (`last row` for the two last), side, before, after (means), and of the difference what `Estimate` holds.

    Raises:
        ValueError: they have no fold in common, or were asked other queries in one.
    """
    first, second = _of_shared_folds(before, after, names)
    pairs = [("last row", last_row(first), last_row(second))]
    pairs += [(row, row, row) for row in rows_of(second) if row in set(first["row"])]
    lines = []
    for name, one, other in pairs:
        both = _matched(sides(first[first["row"] == one]), sides(second[second["row"] == other]), names)
        lines += [{"row": name, **gain} for gain in _gains(both)]
    return pd.DataFrame(lines)


def check_comparable(before: pd.DataFrame, asked: pd.DataFrame, names: tuple[str, str]) -> None:
    """Checks before a training what `compared` needs after it.

    Args:
        before: Queries of all folds of the recipe that is compared with.
        asked: What the folds of the other will be asked: seed, left_out, and see `guie.evaluate.foreign.to_be_asked`.
        names: Of the two, for messages.

    Raises:
        ValueError: they have no fold in common, or will be asked other queries in one.
    """
    first, second = _of_shared_folds(before, asked[asked["is_query"]], names)
    keys = [*QUERY, "class"]
    first = first[np.isfinite(first["precision"])]
    _matched(first[keys].drop_duplicates(), second[keys].drop_duplicates(), names)


def refits(queries: pd.DataFrame) -> pd.DataFrame:
    """What each refitted row gains over the same row without the foreign domain's images; columns as of `compared`.

    Empty where no row was refitted.
    """
    lines = []
    for row in rows_of(queries):
        if not row.endswith(REFITTED):
            continue
        name = row.removesuffix(REFITTED)
        before, after = (sides(queries[queries["row"] == one]) for one in (name, row))
        lines += [{"row": name, **gain} for gain in _gains(_matched(before, after, (name, row)))]
    return pd.DataFrame(lines)


def _gains(both: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Side, before, after and what `Estimate` holds of the difference, for each side that both rows know."""
    for side in (SEEN, NEVER_SEEN):
        values = both[f"{side}_before"], both[f"{side}_after"]
        before, after = (estimate(own, both) for own in values)
        gain = estimate(values[1] - values[0], both, (-1.0, 1.0))
        if before and after and gain:
            yield {"side": side, "before": before.mean, "after": after.mean, **asdict(gain)}


def _of_shared_folds(
    before: pd.DataFrame, after: pd.DataFrame, names: tuple[str, str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The answers of the folds that both have.

    Raises:
        ValueError: there is none.
    """
    folds = [set(zip(table["seed"], table["left_out"], strict=True)) for table in (before, after)]
    shared = folds[0] & folds[1]
    if not shared:
        raise ValueError(f"{names[0]} and {names[1]} have no fold in common: {_told(folds[0])}; {_told(folds[1])}")
    return _of_folds(before, shared), _of_folds(after, shared)


def _of_folds(queries: pd.DataFrame, folds: set[tuple[int, str]]) -> pd.DataFrame:
    is_shared = [fold in folds for fold in zip(queries["seed"], queries["left_out"], strict=True)]
    return queries[is_shared]


def _matched(before: pd.DataFrame, after: pd.DataFrame, names: tuple[str, str]) -> pd.DataFrame:
    """Both, a line for each query, with the suffixes `_before` and `_after`.

    Raises:
        ValueError: they are asked other queries.
    """
    keys = [*QUERY, "class"]
    both = before.merge(after, on=keys, suffixes=("_before", "_after"), how="outer", indicator=True)
    n_apart = int((both["_merge"] != "both").sum())
    if n_apart:
        raise ValueError(
            f"{names[0]} and {names[1]} are asked other queries ({n_apart} of {len(both)} are of one alone): compare "
            "recipes with the same data.sources, data.val_* and images"
        )
    return both


def _told(folds: set[tuple[int, str]]) -> str:
    return ", ".join(f"seed {seed} without {domain}" for seed, domain in sorted(folds))
