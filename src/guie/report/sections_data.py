"""The section about the data: images and classes of each set, files that could not be used, pictures that are there twice."""

from __future__ import annotations

from html import escape

import numpy as np
import pandas as pd

from guie.report.charts import Bar, BarRow, Line, bar_chart, line_chart
from guie.report.collect import DataSummary
from guie.report.markup import Markup, absent, figure, folded, legend, note, section, table
from guie.report.palette import kind

MAX_LISTED = 50
SIZES, TAILS = "Sizes of the training classes", "Images per training class of each set"
MAX_LONG_TAILS = 8  # lines of the chart; the table has all
OUTCOMES = {
    "left training": "in training and in validation: the training copy was left out",
    "two labels": "under two labels of one side: kept, and worth a look",
    "same label": "twice in one class: kept",
}


def sizes_chart(summary: DataSummary) -> str:
    """Training classes by their number of images; '' without any."""
    bars = []
    for size, count in summary.class_sizes.items():
        images = f"{size} image{'' if size == '1' else 's'}"
        bars.append(BarRow(images, "", (Bar(count, "final", f"{count} training classes with {images}"),)))
    return bar_chart("Training classes by number of images", bars, "classes") if bars else ""


def long_tail_chart(summary: DataSummary) -> str:
    """Images of each training class of every set, the largest class first, the place as a share of the set's classes; '' without any."""
    lines = []
    for i, source in enumerate(_largest_sources(summary)):
        sizes = summary.sizes_by_source[source]
        at = np.unique(np.linspace(0, len(sizes) - 1, 40).astype(int))
        lines.append(Line(source, f"line-{kind(i)}", [100 * (k + 0.5) / len(sizes) for k in at], [float(sizes[k]) for k in at]))
    return line_chart("Images per training class of each set", lines, "classes of the set, the largest first, %", True, size=(380, 240)) if lines else ""


def long_tail_keys(summary: DataSummary) -> list[tuple[str, str]]:
    """Styles of the sets' lines."""
    return [(f"line-{kind(i)}", name) for i, name in enumerate(_largest_sources(summary))]


def data(summary: DataSummary) -> str:
    """Images and classes of every set, what could not be used, and duplicates."""
    found = _problems(summary.problems) + _duplicates(summary.duplicates)
    if summary.groups is None:
        return section("data", "Data", absent("02_balanced/classes.parquet is absent."), found)
    groups = summary.groups
    rows = [[source, domain, *_counts(of), _spread(summary, str(source))] for (domain, source), of in groups.groupby(["domain", "source"], sort=True)]
    rows.append(["all", "", *_counts(groups), ""])
    styles = [""] * (len(rows) - 1) + ["total"]
    head = ("set", "domain", "training classes", "images", "rows after balancing", "validation classes", "images", "images a training class")
    numbers = table(head, rows, "Images and classes of each set", ("domain",), styles)
    text = "Validation classes never enter training. Balancing drops, cuts and repeats images of training classes only. Images a training class: "
    text += "of the smallest, the middle and the largest class."
    tails = long_tail_chart(summary)
    if not tails:
        return section("data", "Data", note(text), numbers, found)
    charts = figure(SIZES, sizes_chart(summary)) + figure(TAILS, tails, legend(*long_tail_keys(summary)))
    return section("data", "Data", note(text), numbers, f'<div class="halves">{charts}</div>', found)


def _largest_sources(summary: DataSummary) -> list[str]:
    return sorted(sorted(summary.sizes_by_source, key=lambda name: -summary.sizes_by_source[name].sum())[:MAX_LONG_TAILS])


def _counts(groups: pd.DataFrame) -> list[str]:
    train, val = groups[groups["split"] == "train"], groups[groups["split"] == "val"]
    sums = [train["n_classes"].sum(), train["n_images"].sum(), train["n_rows"].sum(), val["n_classes"].sum(), val["n_images"].sum()]
    return [f"{int(value):,}" for value in sums]


def _spread(summary: DataSummary, source: str) -> str:
    sizes = summary.sizes_by_source.get(source)
    return "–" if sizes is None else f"{sizes[-1]:,} · {np.median(sizes):,.0f} · {sizes[0]:,}"


def _problems(problems: pd.DataFrame) -> str:
    if problems.empty:
        return note("No image was refused.")
    rows = problems.head(MAX_LISTED).astype(str).to_numpy().tolist()
    more = f" (the first {MAX_LISTED} of them below)" if len(problems) > MAX_LISTED else ""
    body = table(tuple(problems.columns), rows, "Problems", tuple(problems.columns))
    return f"<details><summary><b>{len(problems):,} files could not be used</b>{more}</summary><div>{body}</div></details>"


def _duplicates(duplicates: pd.DataFrame | None) -> str:
    """How many pictures are there twice, by what came of it, and the first of them."""
    if duplicates is None:
        return absent("03_packed/duplicates.parquet is absent: nobody looked for duplicates.")
    if duplicates.empty:
        return note("No picture is there twice.")
    same = duplicates["is_same_file"].astype(bool)
    counts = []
    for outcome, meaning in OUTCOMES.items():
        own = duplicates["outcome"] == outcome
        if own.any():
            cells = [f"{int((own & is_kind).sum()):,}" for is_kind in (same, ~same)]
            counts.append([Markup(f"{escape(outcome)}<small>{escape(meaning)}</small>"), f"{int(own.sum()):,}", *cells])
    rows = duplicates.sort_values("outcome", key=lambda names: names.map(list(OUTCOMES).index), kind="stable").head(MAX_LISTED)
    listed = [
        [row.image_id, row.twin, f"{row.split}, {row.twin_split}", "same file" if row.is_same_file else "looks alike", row.outcome] for row in rows.itertuples()
    ]
    columns = ("image", "its twin", "split of each", "how", "outcome")
    more = f", the first {MAX_LISTED}" if len(duplicates) > MAX_LISTED else ""
    body = f'<div class="short">{table(("outcome", "pictures", "same file", "looks alike"), counts, "Duplicates by outcome")}</div>'
    body += folded(f"The list{more}", table(columns, listed, "Duplicates", columns))
    return f"<details open><summary><b>{len(duplicates):,} pictures are there twice</b></summary><div>{body}</div></details>"
