"""Which charts a stage has, and which columns of its metrics.csv each of them shows."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from guie.report.collect import CURVE_COLUMNS, StageCurves
from guie.report.palette import N_KINDS

UNITS = ("rad", "cosine", "distance")
STYLES = ("one", "two", "three")  # of at most three lines; more have the colours of `palette.kind`
MAX_LINES = N_KINDS  # of one chart


@dataclass(frozen=True)
class Figure:
    """What one chart of a stage shows.

    Attributes:
        title: Its caption.
        curves: For each line: the column of `metrics.csv`, the name and the style.
        is_from_zero: The y axis holds 0.
        is_validation: Its values are scores, which are few.
    """

    title: str
    curves: tuple[tuple[str, str, str], ...]
    is_from_zero: bool = False
    is_validation: bool = False


@dataclass(frozen=True)
class Group:
    """Columns that an objective tells and that share a chart.

    Attributes:
        title: The chart's caption.
        pattern: The whole name of a column; the parts in brackets name its line. Where no bracket has found anything,
            the line is called `all`. A `Sum` writes the name of its part in front of the columns of that part.
    """

    title: str
    pattern: str


LOSS = Figure("loss", (("loss", "loss", "one"),))
RATE = Figure("learning rate", (("lr", "learning rate", "one"),), is_from_zero=True)
SCORES = Figure("validation", (("val_mp5", "mP@5", "one"), ("val_r1", "R@1", "two")), is_validation=True)
# Of what an objective tells; a column belongs to the first group that has its name. Others have a chart of their own.
GROUPS = (
    Group("terms of the loss", r"loss_(.+)"),
    Group("mean cosine of pairs", r"(?:(.+)_)?(positive|negative)_cosine"),
    Group("active share", r"(?:(.+)_)?active_share"),
    Group("beta (distance)", r"(?:(.+)_)?beta_distance"),
    Group("held-out images", r"(?:(.+)_)?held_out_(.+)"),
    Group("images of a cluster", r"(?:(.+)_)?(smallest|largest)_cluster"),
    Group("share of rows or images", r"(.+)_share"),
    Group("mean weight of a learner", r"(?:(.+)_)?learner_weight_(.+)"),
)
ACRONYMS = {"r1": "R@1", "nmi": "NMI"}


def figures_of(stage: StageCurves) -> tuple[Figure, ...]:
    """The charts of a stage: the loss, what its objective tells (every such column of `metrics.csv`), the learning
    rate, and the scores, which are called by the fold where the stage left one out."""
    columns = () if stage.metrics is None else [name for name in stage.metrics.columns if name not in CURVE_COLUMNS]
    scores = replace(SCORES, title=stage.fold) if stage.fold else SCORES
    return (LOSS, *_of_objective(columns), RATE, scores)


def worded(column: str) -> str:
    """A column as a title, its unit in brackets: `margin (rad)` for `margin_rad`, `clusters` for `n_clusters`."""
    column = column.removeprefix("n_")
    name, _, unit = column.rpartition("_")
    return f"{name.replace('_', ' ')} ({unit})" if unit in UNITS and name else column.replace("_", " ")


def _of_objective(columns: Sequence[str]) -> list[Figure]:
    """A chart for each group that has columns, and one for each column of no group, in the order of the columns."""
    by_title: dict[str, list[tuple[str, str]]] = {}
    for column in columns:
        title, line = _place(column)
        by_title.setdefault(title, []).append((column, line))
    figures = []
    for title, lines in by_title.items():
        if len(lines) == 1:  # its own name says more than the group's
            column = lines[0][0]
            figures.append(Figure(worded(column), ((column, worded(column), "one"),), is_from_zero=True))
            continue
        for first in range(0, len(lines), MAX_LINES):
            part = lines[first : first + MAX_LINES]
            style = _styles(len(part))
            curves = tuple((column, line, style(i)) for i, (column, line) in enumerate(part))
            more = f" ({first // MAX_LINES + 1})" if first else ""
            figures.append(Figure(title + more, curves, is_from_zero=True))
    return figures


def _place(column: str) -> tuple[str, str]:
    """The title of a column's chart, and the name of its line."""
    for group in GROUPS:
        if found := re.fullmatch(group.pattern, column):
            words = [ACRONYMS.get(word, word.replace("_", " ")) for word in found.groups() if word]
            return group.title, " ".join(words) or "all"
    return worded(column), worded(column)


def _styles(n: int) -> Callable[[int], str]:
    """The style of each of `n` lines, by its number."""
    return (lambda i: STYLES[i]) if n <= len(STYLES) else (lambda i: f"line-k{i}")
