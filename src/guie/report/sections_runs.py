"""The section that sets several runs beside each other."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from guie.report.charts import Bar, BarRow, bar_chart
from guie.report.markup import folded, legend, memory_text, note, score_text, seconds_text, section, table
from guie.report.palette import kind
from guie.report.runs import Compared, differences, seeds

TITLE = "Beside other runs"


def runs_chart(runs: Sequence[Compared]) -> str:
    """Every run's exported setting."""
    rows = []
    for i, run in enumerate(runs):
        tip = f"{run.name}, {run.final['setting']}: mP@5 {score_text(run.final['mp5'])}, R@1 {score_text(run.final['r1'])}"
        bar = Bar(float(run.final["mp5"]), kind(i), tip, run.scores.interval(run.scores.final))
        rows.append(BarRow(run.name, f"{run.final['dim']}-d", (bar,), Bar(float(run.final["r1"]), "mark", tip)))
    return bar_chart("mP@5 and R@1 of every run", rows, "mP@5 (bar) and R@1 (diamond) of the exported setting")


def runs_domains_chart(runs: Sequence[Compared]) -> str:
    """Every run's score of each domain; '' where none is known."""
    rows = []
    for domain in _domains(runs):
        of = [(i, run) for i, run in enumerate(runs) if domain in run.scores.domains]
        bars = [Bar(float(run.final[f"mp5_{domain}"]), kind(i), f"{domain}, {run.name}: {score_text(run.final[f'mp5_{domain}'])}") for i, run in of]
        rows.append(BarRow(domain, "", tuple(bars)))
    return bar_chart("mP@5 of each domain and run", rows, "mP@5") if rows else ""


def runs_keys(runs: Sequence[Compared]) -> list[tuple[str, str]]:
    """Styles of the runs."""
    return [(kind(i), run.name) for i, run in enumerate(runs)]


def compared(runs: Sequence[Compared]) -> str:
    """Scores, cost and settings of several runs."""
    text = "The exported setting of every run; this one is the first."
    if len({run.asked for run in runs}) > 1:
        text += " The runs were asked about different images: a part of what parts them is the question, not the recipe."
    domains = _domains(runs)
    cells = []
    for run in runs:
        scores = [score_text(run.final.get(f"mp5_{domain}")) for domain in domains]
        own = [run.final["setting"], run.final["dim"], score_text(run.final["mp5"]), score_text(run.final["r1"]), *scores]
        cells.append([run.name, *own, seconds_text(run.seconds), memory_text(run.peak_memory_gb)])
    head = ("run", "setting", "dims", "mP@5", "R@1", *domains, "time", "peak memory")
    numbers = table(head, cells, "The runs", ("setting",), ["final"] + [""] * (len(cells) - 1))
    keys = legend(*runs_keys(runs))
    charts = f'<div class="bars">{runs_chart(runs)}</div><div class="bars">{runs_domains_chart(runs)}</div>'
    return section("runs", TITLE, note(text), keys, f'<div class="halves">{charts}</div>', numbers, _spread(runs), _ladders(runs), _differences(runs))


def _domains(runs: Sequence[Compared]) -> list[str]:
    return sorted({domain for run in runs for domain in run.scores.domains})


def _spread(runs: Sequence[Compared]) -> str:
    """Mean and standard deviation over runs that differ in the seed alone."""
    lines = []
    for group in seeds(runs):
        values = [(float(run.final["mp5"]), float(run.final["r1"])) for run in group]
        (mp5, mp5_sd), (r1, r1_sd) = ((statistics.mean(v), statistics.stdev(v)) for v in zip(*values, strict=True))
        lines.append(
            note(f"{group[0].settings['name']}, {len(group)} seeds: mP@5 {mp5:.3f} ± {mp5_sd:.3f}, R@1 {r1:.3f} ± {r1_sd:.3f} (mean ± standard deviation).")
        )
    return "".join(lines)


def _ladders(runs: Sequence[Compared]) -> str:
    """The mP@5 of every setting of every run, a column a run."""
    names = dict.fromkeys(name for run in runs for name in run.scores.table["setting"])
    by_run = [dict(zip(run.scores.table["setting"], run.scores.table["mp5"], strict=True)) for run in runs]
    rows: list[list[Any]] = [[name, *(score_text(scores.get(name)) for scores in by_run)] for name in names]
    return folded("All rows of their ladders, mP@5", table(("setting", *(run.name for run in runs)), rows, "The ladders of the runs"))


def _differences(runs: Sequence[Compared]) -> str:
    found = differences([run.settings for run in runs])
    rows = [[path, *values] for path, values in found.items()]
    names = tuple(run.name for run in runs)
    return folded(f"Settings that differ ({len(rows)})", table(("field", *names), rows, "Settings that differ", names) if rows else note("None."))
