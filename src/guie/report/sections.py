"""The sections about scores, training, cost and settings, each a pure function from plain data to HTML."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from typing import Any

import pandas as pd

from guie.evaluate.intervals import NO_INTERVAL
from guie.report.charts import MAX_POINTS, Bar, BarRow, Line, bar_chart, line_chart, thinned
from guie.report.collect import CURVE_COLUMNS, Scores, StageCurves, Step, is_number
from guie.report.markup import Markup, absent, folded, legend, memory_text, note, score_text, seconds_text, section, table
from guie.report.stage_rows import COLUMNS, TEXTS, stage_rows
from guie.settings.model import Model
from guie.settings.recipe import Recipe

MAX_OPEN_STAGES = 8  # a recipe with more stages shows their curves folded
DOUBT = 0.05  # a rung whose p is larger may be luck
P_WORDS = "p tests whether the step from the row above holds for other classes of the same kind, with these weights; it says nothing about other training runs"
CHOSEN_WORDS = "†: something of this row was chosen by its score on these very images, which is therefore too good."
# Title, columns of metrics.csv (with name and style of the line), whether the axis begins at 0.
FIGURES = (
    ("loss", (("loss", "loss", "one"),), False),
    ("margin (rad)", (("margin_rad", "margin", "one"),), True),
    ("learning rate", (("lr", "learning rate", "one"),), True),
    ("validation", (("val_mp5", "mP@5", "one"), ("val_r1", "R@1", "two")), False),
)
FIGURE_TITLES = tuple(title for title, _, _ in FIGURES)


def ladder_chart(scores: Scores) -> str:
    """Every setting as a bar, with its interval where door 07 estimated one."""
    rows = []
    for i, row in enumerate(scores.table.to_dict("records")):
        interval = scores.interval(i)
        between = f" ({score_text(interval[0])} to {score_text(interval[1])})" if interval else ""
        tip = f"{row['setting']}: mP@5 {score_text(row['mp5'])}{between}, R@1 {score_text(row['r1'])}, {row['dim']} numbers"
        bar = Bar(float(row["mp5"]), _rung(scores, i), tip, interval)
        rows.append(BarRow(row["setting"], f"{row['dim']}-d", (bar,), Bar(float(row["r1"]), "mark", tip)))
    return bar_chart("The ladder: mP@5 and R@1 of every setting", rows, "mP@5 (bar) and R@1 (diamond), mean over domains")


def ladder_keys(scores: Scores) -> list[tuple[str, str]]:
    """Styles of the ladder's chart and what they mean."""
    n = len(scores.table)
    keys = [("first", "first setting"), *([("step", "between")] if n > 2 else []), ("final", "exported"), ("mark", "R@1")]
    return [*keys, *([("whisker", "95% interval of mP@5, classes resampled")] if any(scores.interval(i) for i in range(n)) else [])]


def ladder(scores: Scores) -> str:
    """Every setting of door 07 as bars and as a table."""
    records = scores.table.to_dict("records")
    has_p = "p_vs_previous" in scores.table
    rows = []
    for i, row in enumerate(records):
        made_of = f"<small>{escape(row['members'])} · views {escape(row['views'])} · projection {escape(row['projection'])}</small>"
        made_of += f"<small>† chosen on {escape(row['chosen_on'])}</small>" if row.get("chosen_on") else ""
        interval = scores.interval(i)
        ends = f"<small>{score_text(interval[0])} to {score_text(interval[1])}</small>" if interval else ""
        cells: list[Any] = [Markup(escape(row["setting"]) + made_of), Markup(score_text(row["mp5"]) + ends, "n"), score_text(row["r1"]), row["dim"]]
        rows.append([*cells, *([_p_text(row["p_vs_previous"])] if has_p else [])])
    chart = f'<div class="bars">{legend(*ladder_keys(scores))}{ladder_chart(scores)}</div>'
    text = "Scores on classes that training never saw: every validation image is a query against all others, of all domains in one index. "
    text += "mP@5 is the contest's: hits among the first m ranks over m, where m is the number of relevant images, at most five; "
    text += "R@1 is the share of queries whose nearest image is right. Both are means over domains with equal weight."
    text += f" The final projection keeps {scores.pca_share:.1%} of the training images' variance." if scores.pca_share is not None else ""
    text += f" {P_WORDS}; above {DOUBT:g} (≈) the step may be luck." if has_p else ""
    has_no_interval = "mp5_low" in scores.table and not any(scores.interval(i) for i in range(len(records)))
    text += f" {NO_INTERVAL[0].upper()}{NO_INTERVAL[1:]}." if has_no_interval else ""
    text += f" {CHOSEN_WORDS}" if any(row.get("chosen_on") for row in records) else ""
    head = ("setting", "mP@5", "R@1", "dims", *(["p, to the row above"] if has_p else []))
    numbers = table(head, rows, "The ladder", (), [_rung(scores, i) for i in range(len(rows))])
    return section("ladder", "The ladder", note(text), f'<div class="pair">{chart}{numbers}</div>')


def domains_chart(scores: Scores) -> str:
    """Scores of each domain, first setting against the exported one."""
    first, final = scores.table.iloc[0], scores.table.iloc[scores.final]
    is_one = scores.final == 0
    rows = []
    for domain in scores.domains:
        before, after = float(first[f"mp5_{domain}"]), float(final[f"mp5_{domain}"])
        bars = [Bar(v, style, f"{domain}, {row['setting']}: {score_text(v)}") for v, style, row in ((before, "first", first), (after, "final", final))]
        change = f"{after - before:+.3f}" if not is_one and is_number(after - before) else ""
        rows.append(BarRow(domain, change, tuple(bars[1:] if is_one else bars)))
    return bar_chart("mP@5 of each domain, first and exported setting", rows, "mP@5")


def domains_keys(scores: Scores) -> list[tuple[str, str]]:
    """Styles of the domains' chart and what they mean."""
    names = scores.table["setting"]
    return [*([("first", str(names.iloc[0]))] if scores.final else []), ("final", str(names.iloc[scores.final]))]


def domains(scores: Scores) -> str:
    """Scores of each domain as bars, and a table of all settings."""
    if not scores.domains:
        return section("domains", "By domain", absent("scores.csv holds no scores of single domains."))
    chart = f'<div class="bars">{legend(*domains_keys(scores))}{domains_chart(scores)}</div>'
    cells = []
    for row in scores.table.to_dict("records"):
        values = [(score_text(row[f"mp5_{d}"]), score_text(row.get(f"r1_{d}"))) for d in scores.domains]
        cells.append([row["setting"], *(Markup(f"{mp5}<small>{r1}</small>", "n") for mp5, r1 in values)])
    styles = ["final" if i == scores.final else "" for i in range(len(cells))]
    numbers = note("mP@5 of every setting, R@1 small below it.") + table(("setting", *scores.domains), cells, "Scores of each domain", (), styles)
    return section("domains", "By domain", f'<div class="pair">{chart}<div>{numbers}</div></div>')


def training(stages: Sequence[StageCurves]) -> str:
    """Curves of every stage."""
    parts = [_stage(stage, is_open=len(stages) <= MAX_OPEN_STAGES) for stage in stages]
    return section("training", "Training", note("One block a stage, in the order they ran. Point at a curve for its values."), *parts)


def settings(recipe: Recipe, steps: Sequence[Step] = ()) -> str:
    """The recipe, with the mean and std of the pixels as door 04 noted them in `steps`: its stages and its ladder as tables, and all of it as JSON."""
    cells = [[*row[:-1], Markup(escape(str(row[-1])), "tight")] for row in stage_rows(recipe)]
    stages = table(COLUMNS, cells, "The stages", TEXTS)
    model, d = recipe.model, recipe.data
    rows = [
        ["backbone", f"{model.library} {model.name}"],
        ["weights", model.weights or "random"],
        ["pixels", _pixels(model, steps)],
        ["training classes", f"{d.min_per_class} to {d.max_per_class} images each" + (f", filled up to {d.fill_per_class}" if d.fill_per_class else "")],
        ["validation", f"{d.val_class_share:.0%} of the classes of each domain"],
        ["packed images", f"shorter side {d.pack_px} px, JPEG quality {d.jpeg_quality}"],
        ["seed", str(recipe.seed)],
    ]
    whole = folded("The whole recipe as JSON", f"<pre tabindex=0><code>{escape(recipe.to_json())}</code></pre>")
    short = f'<div class="short">{table(("what", "value"), rows, "The recipe in short", ("value",))}</div>'
    return section("settings", "Settings", short, "<h3>Stages</h3>", stages, whole)


def _pixels(model: Model, steps: Sequence[Step]) -> str:
    """Mean and standard deviation with which the pixels are normalised: what door 04 noted, or else what the recipe states."""
    noted = next(((step.mark or {}).get("metrics") or {} for step in steps if step.door == 4 and not step.is_stage), {})
    mean, std = noted.get("mean", model.mean), noted.get("std", model.std)
    if not mean or not std:
        return f"mean and std as {model.library} has them"
    return f"mean {', '.join(f'{v:.4g}' for v in mean)}; std {', '.join(f'{v:.4g}' for v in std)}" + ("" if model.mean else f" ({model.library}'s)")


def cost(steps: Sequence[Step]) -> str:
    """Seconds, peak memory and images a second of every door and stage, and the metrics they noted."""
    longest = max((step.number("seconds") or 0.0 for step in steps), default=0.0) or 1.0
    rows: list[list[Any]] = []
    for step in steps:
        mark, seconds = step.mark or {}, step.number("seconds")
        meter = '<span class="absent">not finished</span>' if seconds is None else f'<div class="meter" style="width:{100 * seconds / longest:.1f}%"></div>'
        origin = [mark.get(name, "–") for name in ("device", "seed", "commit")]
        shown = f"{step.images_per_s:,.{1 if step.images_per_s < 100 else 0}f}" if step.images_per_s else "–"
        rows.append([step.name, seconds_text(seconds), memory_text(step.number("peak_memory_gb")), shown, Markup(meter, "meters"), *origin])
    doors = [step for step in steps if not step.is_stage]
    total = sum(step.number("seconds") or 0.0 for step in doors)
    peak = max((step.number("peak_memory_gb") or 0.0 for step in steps), default=0.0)
    rows.append(["all doors", seconds_text(total), memory_text(peak or None), *[""] * 5])
    styles = [*("stage" if step.is_stage else "door" for step in steps), "total"]
    versions = sorted({", ".join(f"{name} {version}" for name, version in step.mark.get("versions", {}).items()) for step in doors if step.mark})
    text = (
        "A door's time contains its stages'. Peak memory: the door's process or a child of it. Images/s: of a stage the median of its epochs while it trains "
    )
    text += "(a stage that trains the head alone reads cached features); of a door its images over its whole time, door 07 through all settings; "
    text += f"of door 08 the exported model's, one image at a time. {'; '.join(versions)}"
    head = ("step", "time", "peak memory", "images/s", "share of the time", "device", "seed", "commit")
    noted = [[step.name, _noted(step.mark)] for step in steps if step.mark and step.mark.get("metrics")]
    more = folded("What each step noted", table(("step", "noted"), noted, "What each step noted", ("noted",)))
    return section("cost", "What it cost", note(text), table(head, rows, "What every door cost", ("share of the time", "device", "commit"), styles), more)


def _rung(scores: Scores, row: int) -> str:
    return "final" if row == scores.final else "first" if row == 0 else "step"


def _p_text(p: Any) -> str:
    """A p-value, marked where the difference may be luck."""
    if not is_number(p):
        return "–"
    return ("≈ " if p >= DOUBT else "") + ("<.001" if p < 0.001 else f"{p:.3f}")


def _stage(stage: StageCurves, is_open: bool) -> str:
    name = f"<b>{escape(stage.name)}</b>"
    if stage.metrics is None or stage.metrics.empty:
        line = '<span class="absent">no curves: metrics.csv is absent</span>'
        return f'<details><summary>{name}{line}</summary><div class="absent">Nothing to draw.</div></details>'
    m = stage.metrics
    charts = stage_charts(stage)
    figures = "".join(_figure(m, title, columns, charts[title]) for title, columns, _ in FIGURES)
    rows = [[_cell(m[column].iloc[i]) for column in CURVE_COLUMNS] for i in thinned(len(m))]
    few = f" (evenly thinned from {len(m):,} rows)" if len(m) > MAX_POINTS else ""
    numbers = f"<details><summary>The numbers{few}</summary><div>{table(CURVE_COLUMNS, rows, f'Numbers of {stage.name}')}</div></details>"
    summary = f"<summary>{name}{escape(_stage_line(stage.phase, m))}</summary>"
    return f'<details{" open" if is_open else ""}>{summary}<div><div class="curves">{figures}</div>{numbers}</div></details>'


def stage_charts(stage: StageCurves) -> dict[str, str]:
    """The charts of a stage by their titles; '' where nothing, or a single validation, was measured."""
    return {title: _chart(stage, title, columns, is_from_zero) for title, columns, is_from_zero in FIGURES}


def _chart(stage: StageCurves, title: str, columns: Sequence[tuple[str, str, str]], is_from_zero: bool) -> str:
    m = stage.metrics
    if m is None or (title == "validation" and all(m[column].count() <= 1 for column, _, _ in columns)):
        return ""
    axis = "step" if m["step"].notna().any() else "epoch"
    xs = [float(value) for value in m[axis]]
    lines = [Line(name, style, xs, [float(v) for v in m[column]]) for column, name, style in columns if (m[column] * m[axis]).notna().any()]
    return line_chart(f"{stage.name}: {title} by {axis}", lines, axis, is_from_zero, is_share=title == "validation") if lines else ""


def _figure(metrics: pd.DataFrame, title: str, columns: Sequence[tuple[str, str, str]], chart: str) -> str:
    """One chart of a stage; the scores as a text where it was validated once, and a word where nothing of it was measured."""
    keys = legend(*((style, name) for _, name, style in columns)) if len(columns) > 1 else ""
    if not chart:
        scores = " · ".join(f"{name} {score_text(metrics[column].dropna().iloc[0])}" for column, name, _ in columns if metrics[column].count())
        chart, keys = (f"<p>{scores}</p>" if title == "validation" and scores else absent("not measured in this stage")), ""
    return f"<figure><figcaption>{title}</figcaption>{chart}{keys}</figure>"


def _stage_line(phase: str, metrics: pd.DataFrame) -> str:
    n_epochs = metrics["epoch"].nunique()
    words = [phase, f"{n_epochs} epoch{'' if n_epochs == 1 else 's'}"]
    for column, form in (("loss", "loss {:.3f}"), ("val_mp5", "mP@5 {:.3f}"), ("images_per_s", "{:.0f} images/s")):
        known = metrics[column].dropna()
        if len(known):
            words.append(form.format(known.iloc[-1]))
    return " · ".join(words)


def _cell(value: float) -> str:
    return f"{value:.6g}" if is_number(value) else ""


def _noted(mark: dict[str, Any]) -> Markup:
    words = []
    for name, value in (mark.get("metrics") or {}).items():
        words.append(f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value if isinstance(value, str) else json.dumps(value)}")
    return Markup(f"<code>{escape(', '.join(words))}</code>" if words else "", "wide")
