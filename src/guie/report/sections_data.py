"""The section about the data: images and classes of each set, files that could not be used, and duplicates."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from guie.data.names import shown_name
from guie.report.charts import Line, line_chart
from guie.report.charts_bars import Bar, BarRow, bar_chart
from guie.report.collect import DataSummary
from guie.report.markup import NOTHING, count_text, filled
from guie.report.palette import kind

MAX_LISTED = 50
SIZES = "Sizes of the training classes"
TAILS = "Images per training class of each set"
MAX_LONG_TAILS = 8  # lines of the chart; the table has all sets
HEAD = (
    "set",
    "domain",
    "training classes",
    "images",
    "rows after balancing",
    "validation classes",
    "images",
    "images per training class",
)
OUTCOMES = {
    "left training": "in training and in validation: the training copy was left out",
    "two labels": "with two labels, both in training or both in validation: kept, and worth a look",
    "same label": "twice in one class: kept",
    "left the unlabelled": "without a label and in validation: the unlabelled copy was left out",
}


def sizes_chart(summary: DataSummary) -> Markup:
    """Training classes by their number of images; '' without any."""
    rows = []
    for size, count in summary.class_sizes.items():
        images = f"{size} image{'' if size == '1' else 's'}"
        rows.append(BarRow(images, "", (Bar(count, "final", f"{count} training classes with {images}"),)))
    return bar_chart("Training classes by number of images", rows, "classes") if rows else Markup("")


def long_tail_chart(summary: DataSummary) -> Markup:
    """Images of each training class of every set; '' without any.

    A set's largest class is at the left. The x axis is a share of the set's classes, so that sets of any size can be
    compared.
    """
    lines = []
    for i, source in enumerate(_largest_sources(summary)):
        sizes = summary.sizes_by_source[source]
        at = np.unique(np.linspace(0, len(sizes) - 1, 40).astype(int))
        xs = [100 * (k + 0.5) / len(sizes) for k in at]
        lines.append(Line(source, f"line-{kind(i)}", xs, [float(sizes[k]) for k in at]))
    if not lines:
        return Markup("")
    axis = "classes of the set, the largest first, %"
    return line_chart(TAILS, lines, axis, is_from_zero=True, size=(380, 240))


def long_tail_keys(summary: DataSummary) -> list[tuple[str, str]]:
    """Styles of the sets' lines."""
    return [(f"line-{kind(i)}", name) for i, name in enumerate(_largest_sources(summary))]


def data(summary: DataSummary) -> Markup:
    """Images and classes of every set, what could not be used, and duplicates."""
    listed = summary.problems.head(MAX_LISTED)
    rows = None if summary.groups is None else _set_rows(summary, summary.groups)
    return filled(
        "data.html",
        head=HEAD,
        sets=rows,
        unlabelled=[(source, count_text(n)) for source, n in sorted(summary.unlabelled.items())],
        styles=[""] * (len(rows) - 1) + ["total"] if rows else [],
        sizes_title=SIZES,
        sizes=sizes_chart(summary),
        tails_title=TAILS,
        tails=long_tail_chart(summary),
        tail_keys=long_tail_keys(summary),
        n_problems=len(summary.problems),
        problem_columns=list(listed.columns),
        problems=listed.astype(str).assign(path=listed["path"].astype(str).map(shown_name)).to_numpy().tolist(),
        duplicates=None if summary.duplicates is None else _duplicates(summary.duplicates),
    )


def _largest_sources(summary: DataSummary) -> list[str]:
    by_size = sorted(summary.sizes_by_source, key=lambda name: -summary.sizes_by_source[name].sum())
    return sorted(by_size[:MAX_LONG_TAILS])


def _set_rows(summary: DataSummary, groups: pd.DataFrame) -> list[list[str]]:
    """A row for each set of each domain, and one for all of them together."""
    rows = []
    for (domain, source), of in groups.groupby(["domain", "source"], sort=True):
        rows.append([source, domain, *_counts(of), _spread(summary, str(source))])
    return [*rows, ["all", "", *_counts(groups), ""]]


def _counts(groups: pd.DataFrame) -> list[str]:
    train = groups[groups["split"] == "train"]
    val = groups[groups["split"] == "val"]
    sums = [*train[["n_classes", "n_images", "n_rows"]].sum(), *val[["n_classes", "n_images"]].sum()]
    return [count_text(value) for value in sums]


def _spread(summary: DataSummary, source: str) -> str:
    """Images of the smallest, the middle and the largest training class."""
    sizes = summary.sizes_by_source.get(source)
    if sizes is None:
        return NOTHING
    return f"{sizes[-1]:,} · {np.median(sizes):,.0f} · {sizes[0]:,}"


def _duplicates(duplicates: pd.DataFrame) -> dict[str, Any]:
    """How many pictures are there twice, by outcome, and the first of them."""
    order = {outcome: i for i, outcome in enumerate(OUTCOMES)}
    first = duplicates.sort_values("outcome", key=lambda names: names.map(order), kind="stable").head(MAX_LISTED)
    is_same = duplicates["is_same_file"].astype(bool)
    outcomes = []
    for outcome, meaning in OUTCOMES.items():
        own = duplicates["outcome"] == outcome
        if own.any():
            counts = {"n": int(own.sum()), "n_same_file": int((own & is_same).sum())}
            outcomes.append({"outcome": outcome, "meaning": meaning, **counts})
    return {"n": len(duplicates), "outcomes": outcomes, "rows": [_duplicate_row(row) for row in first.itertuples()]}


def _duplicate_row(row: Any) -> list[str]:
    how = "same file" if row.is_same_file else "looks alike"
    return [row.image_id, row.twin, f"{row.split}, {row.twin_split}", how, row.outcome]
