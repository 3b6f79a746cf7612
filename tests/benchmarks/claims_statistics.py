"""Statistics over many models, for claims that are not a comparison of two: one number a seed, from the rows of
objectives.py and universal.py."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
from objectives_parts import Files
from objectives_settings import PUBLISHED
from scipy import stats
from universal import FILE as UNIVERSAL

COLLAPSED = 0.1  # an objective so far below the median would rule each correlation; it is left out, as the page says
# R@1 on Stanford Online Products as each method's own paper has it; shared/facts/objectives.md, section 8.
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
    """The rows that a statistic needs are not there."""


def _rows(files: Files, part: str, seed: int) -> pd.DataFrame:
    """The rows of a part by objective, without collapsed ones.

    Raises:
        NotMeasuredError: there are none.
    """
    rows = files.main.find(part=part, seed=seed).dropna(subset=["mp5"]).set_index("objective")
    if rows.empty:
        raise NotMeasuredError(f"objectives.csv has no rows of part {part} and seed {seed}: run objectives.py")
    return rows[rows["mp5"] > rows["mp5"].median() - COLLAPSED]


def _correlation(of: str, and_of: str, part: str = "tuned") -> Callable[[Files, int], float]:
    """Spearman's rank correlation of two columns over objectives."""

    def statistic(files: Files, seed: int) -> float:
        rows = _rows(files, part, seed)
        return float(stats.spearmanr(rows[of], rows[and_of]).statistic)

    return statistic


def _papers_and_ours(files: Files, seed: int) -> float:
    rows = files.main.find(part="tuned", seed=seed).set_index("objective")["mp5"].dropna()
    names = [name for name in PAPERS if name in rows.index]
    if len(names) < len(PAPERS):
        raise NotMeasuredError(f"objectives.csv lacks tuned rows of seed {seed}: run objectives.py")
    return float(stats.spearmanr([PAPERS[name] for name in names], rows[names]).statistic)


def _default_and_searched(files: Files, seed: int) -> float:
    pair = [files.main.find(part=part, seed=seed).set_index("objective")["mp5"] for part in (PUBLISHED, "tuned")]
    both = pd.concat(pair, axis=1, keys=(PUBLISHED, "tuned")).dropna()
    if len(both) < 10:
        raise NotMeasuredError(f"objectives.csv lacks tuned rows of seed {seed}: run objectives.py")
    return float(stats.spearmanr(both[PUBLISHED], both["tuned"]).statistic)


def _quartiles_apart(files: Files, seed: int) -> float:
    scores = files.main.find(part="tuned", seed=seed)["mp5"].dropna()
    if len(scores) < 10:
        raise NotMeasuredError(f"objectives.csv lacks tuned rows of seed {seed}: run objectives.py")
    return float(scores.quantile(0.75) - scores.quantile(0.25))


def _left_out(row: str, base: str, asked: str) -> Callable[[Files, int], float]:
    """The difference of two rows of universal.py, mean over the four domains left out."""

    def statistic(files: Files, seed: int) -> float:
        rows = UNIVERSAL.find(seed=seed).set_index(["row", "left_out"])[asked]
        if row not in rows.index.get_level_values(0):
            raise NotMeasuredError(f"universal.csv has no rows of seed {seed}: run universal.py --seeds {seed}")
        return float((rows[row] - rows[base]).mean())

    return statistic


STATISTICS: dict[str, Callable[[Files, int], float]] = {
    "papers and ours": _papers_and_ours,
    "default and searched": _default_and_searched,
    "quartiles apart": _quartiles_apart,
    "NMI and MAP@R": _correlation("nmi", "map_at_r"),
    "R@1 and MAP@R": _correlation("r1", "map_at_r"),
    "mP@5 and rho": _correlation("mp5", "spectral_decay"),
    "mP@5 and density": _correlation("mp5", "density"),
    "head and features, never seen": _left_out("ArcFace, random start", "all 1,280 numbers", "never"),
    "head and PCA, never seen": _left_out("ArcFace, random start", "PCA-64 of unit features", "never"),
    "PCA start, never seen": _left_out("ArcFace of unit features, PCA start", "ArcFace, random start", "never"),
    "distillation, never seen": _left_out(
        "the same, KeepCosines(100)", "ArcFace of unit features, PCA start, class means", "never"
    ),
    "refit, never seen": _left_out("refit on its unlabelled half, share .5", "PCA-64 of unit features", "never"),
    "width, never seen": _left_out("PCA-128 of unit features", "PCA-64 of unit features", "never"),
}
