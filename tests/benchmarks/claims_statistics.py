"""Statistics over many models, for claims that are not a comparison of two: one value a seed, from the rows of
objectives.py and universal.py.

Each value has a standard error over what it is a sample of: objectives, drawn with replacement 400 times, or the four
domains. All seeds have the same objectives and domains, so more seeds do not reduce it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from claims_types import SEEDS
from objectives_parts import Files
from objectives_settings import OBJECTIVES, PUBLISHED
from scipy import stats
from universal import FILE as UNIVERSAL

N_DRAWS = 400
N_DOMAINS = 4
COLLAPSED = 0.1  # an objective so far below the median would rule each correlation; it is left out, as the page says
# R@1 on Stanford Online Products; shared/facts/objectives.md, section 8. Those of semi-hard triplets, lifted structure
# and ProxyNCA have 64 numbers and stand in ProxyGML's table, as those of multi-similarity and SoftTriple do; BIER's is
# that of A-BIER.
PAPERS = {
    "Triplet_semihard": 66.7,
    "LiftedStructure": 62.5,
    "ProxyNca_original": 73.7,
    "MarginLoss": 72.7,
    "MultiSimilarity": 78.2,
    "SoftTriple": 78.3,
    "ProxyGml": 78.0,
    "ProxyAnchor": 79.2,
    "Triplet_easy_positive": 78.3,
    "Contrastive_memory": 80.6,
    "Pads": 76.5,
    "Mic": 77.2,
    "Bier": 74.2,
    "DivideConquer": 75.9,
    "Diva": 79.6,
    "GroupLoss": 75.7,
    "MessagePassing": 81.4,
}


class NotMeasuredError(ValueError):
    """The rows that a statistic needs are not there, or not all of them."""


@dataclass(frozen=True)
class Value:
    """What a statistic says for a seed.

    Attributes:
        value: The statistic.
        error: Its standard error over objectives or domains.
        n_freedom: Degrees of freedom of the error.
    """

    value: float
    error: float
    n_freedom: int


Statistic = Callable[[Files, int], Value]


def _column(files: Files, part: str, column: str, seed: int) -> pd.Series:
    """A column of a part, by objective; NaN for an objective that could not be trained.

    Raises:
        NotMeasuredError: rows are missing.
    """
    rows = files.main.find(part=part, seed=seed).set_index("objective")[column]
    if missing := [name for name in OBJECTIVES if name not in rows.index]:
        raise NotMeasuredError(
            f"objectives.csv lacks {len(missing)} rows of part {part} and seed {seed}: run objectives.py"
        )
    return rows[list(OBJECTIVES)].astype(float)


def _without_collapsed(scores: pd.Series) -> pd.Series:
    """True for each objective that has a score near the others'."""
    return scores > scores.median() - COLLAPSED


def resampled(table: pd.DataFrame, statistic: Callable[[pd.DataFrame], float]) -> Value:
    """A statistic of a table with a row for each objective, and its standard error over the rows."""
    rng = np.random.default_rng(0)
    drawn = [statistic(table.iloc[rng.integers(0, len(table), len(table))]) for _ in range(N_DRAWS)]
    return Value(statistic(table), float(np.nanstd(drawn, ddof=1)), len(table) - 1)


def _spearman(one: pd.Series, other: pd.Series) -> float:
    return float(stats.spearmanr(one, other).statistic)


def _correlation(of: str, and_of: str) -> Statistic:
    """Spearman's rank correlation of two columns over the searched objectives, without collapsed ones."""

    def statistic(files: Files, seed: int) -> Value:
        columns = {name: _column(files, "tuned", name, seed) for name in {"mp5", of, and_of}}
        table = pd.DataFrame(columns)[_without_collapsed(columns["mp5"])]
        return resampled(table, lambda rows: _spearman(rows[of], rows[and_of]))

    return statistic


def _apart(of: str, and_of: str) -> Statistic:
    """The disagreement of two columns, each `PART NAME`, about the order of objectives."""

    def statistic(files: Files, seed: int) -> Value:
        columns = {f"{column} {s}": _column(files, *column.split(), s) for column in (of, and_of) for s in SEEDS}
        kept = [_without_collapsed(_column(files, "tuned", "mp5", s)) for s in SEEDS]
        table = pd.DataFrame(columns)[np.logical_and.reduce(kept)].dropna()
        return resampled(table, lambda rows: disagreement(rows, of, and_of, seed))

    return statistic


def disagreement(rows: pd.DataFrame, of: str, and_of: str, seed: int) -> float:
    """How much worse two metrics agree about an order than each agrees with itself; 0 says that both order alike.

    Between two seeds even one metric orders objectives otherwise. So both agreements are between different seeds: the
    rank correlation of one metric here and the other there, less that of a metric here and the same there (of both the
    geometric mean, since the noise of both lowers the former). The mean over the other seeds.

    Args:
        rows: A row for each objective, with columns `METRIC SEED`.
        of: The one metric.
        and_of: The other.
        seed: Here.

    Source: Spearman 1904, on correlations of measurements with error.
    """
    found = []
    for other in [s for s in SEEDS if s != seed]:
        pairs = [(of, and_of), (and_of, of), (of, of), (and_of, and_of)]
        across, back, *alone = (_spearman(rows[f"{here} {seed}"], rows[f"{there} {other}"]) for here, there in pairs)
        found.append((across + back) / 2 - np.sqrt(np.prod(np.maximum(alone, 0.0))))
    return float(np.mean(found))


def _papers_and_ours(files: Files, seed: int) -> Value:
    table = pd.DataFrame({"papers": PAPERS, "ours": _column(files, "tuned", "mp5", seed)[list(PAPERS)]}).dropna()
    return resampled(table, lambda rows: _spearman(rows["papers"], rows["ours"]))


def _quartiles_apart(files: Files, seed: int) -> Value:
    table = _column(files, "tuned", "mp5", seed).dropna().to_frame()
    return resampled(table, lambda rows: float(rows["mp5"].quantile(0.75) - rows["mp5"].quantile(0.25)))


def _left_out(row: str, base: str) -> Statistic:
    """The difference of two rows of universal.py on the domain left out. The four domains are the sample."""

    def statistic(files: Files, seed: int) -> Value:
        rows = UNIVERSAL.find(seed=seed).set_index(["row", "left_out"])["never"]
        values = [_of_domains(rows, name) for name in (row, base)]
        if any(len(found) < N_DOMAINS for found in values):
            raise NotMeasuredError(f"universal.csv lacks rows of seed {seed}: run universal.py --seeds {seed}")
        by_domain = values[0] - values[1]
        return Value(float(by_domain.mean()), float(by_domain.std(ddof=1) / np.sqrt(N_DOMAINS)), N_DOMAINS - 1)

    return statistic


def _of_domains(rows: pd.Series, name: str) -> pd.Series:
    return rows[name] if name in rows.index.get_level_values(0) else rows.iloc[:0]


STATISTICS: dict[str, Statistic] = {
    "papers and ours": _papers_and_ours,
    "published and searched": _apart(f"{PUBLISHED} mp5", "tuned mp5"),
    "quartiles apart": _quartiles_apart,
    "NMI and MAP@R": _apart("tuned nmi", "tuned map_at_r"),
    "R@1 and MAP@R": _apart("tuned r1", "tuned map_at_r"),
    "mP@5 and MAP@R": _apart("tuned mp5", "tuned map_at_r"),
    "mP@5 and rho": _correlation("mp5", "spectral_decay"),
    "mP@5 and density": _correlation("mp5", "density"),
    "head and features, never seen": _left_out("ArcFace, random start", "all 1,280 numbers"),
    "head and PCA, never seen": _left_out("ArcFace, random start", "PCA-64 of unit features"),
    "PCA start, never seen": _left_out("ArcFace of unit features, PCA start", "ArcFace, random start"),
    "distillation, never seen": _left_out(
        "the same, KeepCosines(100)", "ArcFace of unit features, PCA start, class means"
    ),
    "refit, never seen": _left_out("refit on its unlabelled half, share .5", "PCA-64 of unit features"),
    "width, never seen": _left_out("PCA-128 of unit features", "PCA-64 of unit features"),
}
