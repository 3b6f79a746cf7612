"""The section that compares scores on domains seen in training with scores on a domain left out of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from guie.evaluate.foreign_table import DIFFERENCE, NEVER_SEEN, SEEN, of_others
from guie.evaluate.foreign_text import gain_texts
from guie.report.charts_bars import Bar, BarRow, bar_chart
from guie.report.charts_joined import keyed
from guie.report.foreign import Foreign
from guie.report.markup import NOTHING, filled, score_text

KEYS = (("first", "trained on other classes of the domain"), ("final", "domain never seen"))
STYLES = {SEEN: "first", NEVER_SEEN: "final"}
AXIS = "mP@5, mean over domains"


def rows_chart(found: Foreign) -> Markup:
    """Both scores of every row, with their intervals."""
    rows = [_bars(found, row, "", row) for row in found.rows]
    return bar_chart("mP@5 of domains seen and never seen, every row", rows, AXIS)


def domains_chart(found: Foreign) -> Markup:
    """Both scores of each domain, of the last row."""
    rows = [_bars(found, found.last, domain, domain) for domain in found.domains]
    return bar_chart("mP@5 of each domain, seen and never seen", rows, "mP@5")


def foreign_charts(found: Foreign) -> dict[str, Markup]:
    """The charts as files of their own, by name."""
    name = "foreign_head" if found.is_head_only else "foreign"
    last = f"By domain: {found.last}"
    return {name: keyed(rows_chart(found), "", KEYS), f"{name}_domains": keyed(domains_chart(found), last, KEYS)}


def foreign(parts: Sequence[Foreign]) -> Markup:
    """What `guie foreign` found: scores on domains seen and never seen, side by side."""
    return filled("foreign.html", keys=KEYS, parts=[_part(found) for found in parts])


def _part(found: Foreign) -> dict[str, Any]:
    whole = found.summary[found.summary["domain"] == ""]
    names = [(row, row, "") for row in found.rows]
    domains = [(domain, found.last, domain) for domain in found.domains]
    return {
        "is_head_only": found.is_head_only,
        "is_apart": found.is_apart,
        "n_pairs": int(whole["n_pairs"].max()),
        "of_rows": of_others(whole),
        "of_gains": "" if found.compared is None else of_others(found.compared),
        "last": found.last,
        "chart": rows_chart(found),
        "domains_chart": domains_chart(found),
        "rows": [_cells(found, *name) for name in names],
        "domains": [_cells(found, *name) for name in domains],
        "styles": ["final" if row == found.last else "" for row in found.rows],
        "gains": _gains(found),
        "against": "" if found.compared is None else str(found.compared["against"].iloc[0]),
    }


def _bars(found: Foreign, row: str, domain: str, label: str) -> BarRow:
    lines = found.lines(row, domain)
    bars = []
    for side, style in STYLES.items():
        if side in lines.index:
            line = lines.loc[side]
            interval = (float(line["class_low"]), float(line["class_high"]))
            is_known = all(map(math.isfinite, interval))
            between = f" ({score_text(interval[0])} to {score_text(interval[1])})" if is_known else ""
            tip = f"{label}, {side}: mP@5 {score_text(line['mean'])}{between}"
            bars.append(Bar(float(line["mean"]), style, tip, interval if is_known else None))
    change = f"{lines.loc[DIFFERENCE, 'mean']:+.3f}" if DIFFERENCE in lines.index else ""
    return BarRow(label, change, tuple(bars))


def _cells(found: Foreign, label: str, row: str, domain: str) -> list[str]:
    """A row of a table: both scores, and the difference with its intervals."""
    lines = found.lines(row, domain)
    means = [score_text(lines["mean"].get(side)) for side in STYLES]
    if DIFFERENCE not in lines.index:
        return [label, *means, NOTHING, NOTHING, NOTHING]
    return [label, *means, *gain_texts(lines.loc[DIFFERENCE])]


def _gains(found: Foreign) -> list[list[str]]:
    if found.compared is None:
        return []
    lines = found.compared.to_dict("records")
    return [[line["row"], line["side"], *_means(line), *gain_texts(line)] for line in lines]


def _means(line: Any) -> list[str]:
    return [score_text(line[name]) for name in ("before", "after")]
