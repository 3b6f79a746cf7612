"""The section that sets several runs beside each other."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from guie.evaluate.pairs import Paired
from guie.report.charts_bars import Bar, BarRow, bar_chart
from guie.report.markup import filled, memory_text, score_text, seconds_text
from guie.report.palette import kind
from guie.report.runs import Compared, differences, pairs, seeds


def runs_chart(runs: Sequence[Compared]) -> Markup:
    """Every run's exported setting."""
    rows = []
    for i, run in enumerate(runs):
        mp5 = run.final["mp5"]
        r1 = run.final["r1"]
        tip = f"{run.name}, {run.final['setting']}: mP@5 {score_text(mp5)}, R@1 {score_text(r1)}"
        bar = Bar(float(mp5), kind(i), tip, run.scores.interval(run.scores.final))
        rows.append(BarRow(run.name, f"{run.final['dim']}-d", (bar,), Bar(float(r1), "mark", tip)))
    axis = "mP@5 (bar) and R@1 (diamond) of the exported setting"
    return bar_chart("mP@5 and R@1 of every run", rows, axis)


def runs_domains_chart(runs: Sequence[Compared]) -> Markup:
    """Every run's score of each domain; '' where none is known."""
    rows = []
    for domain in domains_of(runs):
        bars = []
        for i, run in enumerate(runs):
            if domain in run.scores.domains:
                score = float(run.final[f"mp5_{domain}"])
                bars.append(Bar(score, kind(i), f"{domain}, {run.name}: {score_text(score)}"))
        rows.append(BarRow(domain, "", tuple(bars)))
    return bar_chart("mP@5 of each domain and run", rows, "mP@5") if rows else Markup("")


def runs_keys(runs: Sequence[Compared]) -> list[tuple[str, str]]:
    """Styles of the runs."""
    return [(kind(i), run.name) for i, run in enumerate(runs)]


def compared(runs: Sequence[Compared]) -> Markup:
    """Scores, cost and settings of several runs."""
    domains = domains_of(runs)
    fields = differences([run.settings for run in runs])
    return filled(
        "runs.html",
        keys=runs_keys(runs),
        chart=runs_chart(runs),
        domains_chart=runs_domains_chart(runs),
        names=[run.name for run in runs],
        domains=domains,
        rows=[_row(run, domains) for run in runs],
        styles=["final"] + [""] * (len(runs) - 1),
        has_other_images=len({run.asked for run in runs}) > 1,
        seeds=[_spread(group) for group in seeds(runs)],
        pairs=[_pair(*pair) for pair in pairs(runs)],
        ladders=_ladders(runs),
        differences=[[path, *values] for path, values in fields.items()],
    )


def domains_of(runs: Sequence[Compared]) -> list[str]:
    """The domains that have a score in some run; none where all runs have the same one."""
    names = sorted({domain for run in runs for domain in run.scores.domains})
    return names if len(names) > 1 else []


def _row(run: Compared, domains: Sequence[str]) -> list[Any]:
    final = run.final
    scores = [score_text(final.get(f"mp5_{domain}")) for domain in domains]
    own = [final["setting"], final["dim"], score_text(final["mp5"]), score_text(final["r1"])]
    return [run.name, *own, *scores, seconds_text(run.seconds), memory_text(run.peak_memory_gb)]


def _pair(before: Compared, after: Compared, found: Paired) -> list[str]:
    """A row of the table of pairs."""
    between = "" if math.isnan(found.low) else f"{found.low:+.3f} to {found.high:+.3f}"
    return [before.name, after.name, f"{found.difference:+.3f}", between, f"{found.p:.3f}", str(found.n_classes)]


def _spread(group: Sequence[Compared]) -> dict[str, Any]:
    """Mean and standard deviation over runs that differ in the seed alone."""
    spread = {}
    for metric in ("mp5", "r1"):
        values = [float(run.final[metric]) for run in group]
        spread[metric] = f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}"
    return {"name": group[0].settings["name"], "n": len(group), **spread}


def _ladders(runs: Sequence[Compared]) -> list[list[str]]:
    """The mP@5 of every setting of every run: a row for each setting, a column for each run."""
    tables = [run.scores.table for run in runs]
    names = dict.fromkeys(name for table in tables for name in table["setting"])
    by_run = [dict(zip(table["setting"], table["mp5"], strict=True)) for table in tables]
    return [[name, *(score_text(scores.get(name)) for scores in by_run)] for name in names]
