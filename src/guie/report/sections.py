"""The sections of the report, each a pure function from plain data to HTML. Every text that came from data is escaped."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Sequence
from html import escape
from typing import Any

import pandas as pd

from guie.recipe import Recipe
from guie.report.charts import MAX_POINTS, Bar, BarRow, Line, bar_chart, line_chart, thinned
from guie.report.collect import CURVE_COLUMNS, DataSummary, Scores, StageCurves, Step, is_number
from guie.report.gallery import N_BEST, N_RANDOM, N_WORST, Neighbour, Query

MAX_OPEN_STAGES = 6  # a recipe with more stages shows their curves folded
MAX_PROBLEMS = 50
# Title, columns of metrics.csv (with name and style of the line), whether the axis begins at 0.
FIGURES = (
    ("loss", (("loss", "loss", "one"),), False),
    ("margin (rad)", (("margin_rad", "margin", "one"),), True),
    ("learning rate", (("lr", "learning rate", "one"),), True),
    ("validation", (("val_mp5", "mP@5", "one"), ("val_r1", "R@1", "two")), False),
)
STAGE_FIELDS = {"phase": "phase", "trains": "trains", "image_px": "px", "patch_stride": "stride", "n_epochs": "epochs", "batch_size": "batch", "lr": "lr"}
STAGE_FIELDS |= {"embedding_dim": "dims", "scale": "scale"}


def score_text(value: Any) -> str:
    """A score with three digits, a dash where there is none."""
    return f"{value:.3f}" if is_number(value) else "–"


def seconds_text(value: Any) -> str:
    """Seconds as `4.2 s`, `3 min 05 s` or `1 h 02 min`."""
    if not is_number(value):
        return "–"
    if value < 60:
        return f"{value:.1f} s"
    whole = round(value)
    return f"{whole // 60} min {whole % 60:02d} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60:02d} min"


@dataclasses.dataclass(frozen=True)
class Markup:
    """A cell that is HTML already, and a class for it."""

    html: str
    style: str = ""


def table(head: Sequence[str], rows: Sequence[Sequence[Any]], label: str, text: Collection[str] = (), styles: Sequence[str] = ()) -> str:
    """An HTML table in a region that scrolls sideways; the first column names the rows.

    Args:
        head: Titles of the columns.
        rows: Cells, escaped here unless they are `Markup`.
        label: What the table is, for screen readers.
        text: Titles of the columns that hold text; the others are aligned as numbers, the first one never.
        styles: A class for each row.
    """
    kinds = ["" if i == 0 or title in text else "n" for i, title in enumerate(head)]
    parts = [f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(label)}"><table><thead><tr>']
    parts += [f'<th scope="col" class="{kind}">{escape(title)}</th>' for title, kind in zip(head, kinds, strict=True)]
    parts.append("</tr></thead><tbody>")
    for i, row in enumerate(rows):
        parts.append(f'<tr class="{styles[i] if styles else ""}">')
        for tag, kind, cell in zip(['th scope="row"', *["td"] * (len(row) - 1)], kinds, row, strict=True):
            content = cell if isinstance(cell, Markup) else Markup(escape(str(cell)), kind)
            parts.append(f'<{tag} class="{content.style}">{content.html}</{tag[:2]}>')
        parts.append("</tr>")
    return "".join(parts) + "</tbody></table></div>"


def section(name: str, title: str, *parts: str) -> str:
    """A titled section that the navigation can reach."""
    return f'<section id="{name}" aria-labelledby="h-{name}"><h2 id="h-{name}">{escape(title)}</h2>{"".join(parts)}</section>'


def legend(*entries: tuple[str, str]) -> str:
    """Style and meaning of each colour."""
    return '<ul class="legend">' + "".join(f'<li><i class="{style}"></i>{escape(text)}</li>' for style, text in entries) + "</ul>"


def ladder(scores: Scores) -> str:
    """Every setting of door 07 as bars and as a table."""
    rows, table_rows, styles = [], [], []
    for i, row in enumerate(scores.table.to_dict("records")):
        style = "final" if i == scores.final else "first" if i == 0 else "step"
        tip = f"{row['setting']}: mP@5 {score_text(row['mp5'])}, R@1 {score_text(row['r1'])}, {row['dim']} numbers"
        rows.append(BarRow(row["setting"], f"{row['dim']}-d", (Bar(float(row["mp5"]), style, tip),), Bar(float(row["r1"]), "mark", tip)))
        made_of = f"<small>{escape(row['members'])} · views {escape(row['views'])} · projection {escape(row['projection'])}</small>"
        table_rows.append([Markup(escape(row["setting"]) + made_of), score_text(row["mp5"]), score_text(row["r1"]), row["dim"]])
        styles.append(style)
    keys = [("first", "first setting"), *([("step", "between")] if len(rows) > 2 else []), ("final", "exported"), ("mark", "R@1")]
    bars = bar_chart("The ladder: mP@5 and R@1 of every setting", rows, "mP@5 (bar) and R@1 (diamond), mean over domains")
    chart = f'<div class="bars">{legend(*keys)}{bars}</div>'
    head = ("setting", "mP@5", "R@1", "dims")
    kept = f" The final projection keeps {scores.pca_share:.1%} of the training images' variance." if scores.pca_share is not None else ""
    text = "Scores on classes that training never saw: every validation image is a query against all others, of all domains in one index. "
    text += "mP@5 is the contest's: hits among the first m ranks over m, where m is the number of relevant images, at most five; "
    text += "R@1 is the share of queries whose nearest image is right. Both are means over domains with equal weight."
    numbers = table(head, table_rows, "The ladder", (), styles)
    return section("ladder", "The ladder", f'<p class="note">{escape(text + kept)}</p><div class="pair">{chart}{numbers}</div>')


def domains(scores: Scores) -> str:
    """Scores of each domain, first setting against the exported one, and a table of all."""
    if not scores.domains:
        return section("domains", "By domain", '<p class="absent">scores.csv holds no scores of single domains.</p>')
    first, final = scores.table.iloc[0], scores.table.iloc[scores.final]
    is_one = scores.final == 0
    rows = []
    for domain in scores.domains:
        before, after = float(first[f"mp5_{domain}"]), float(final[f"mp5_{domain}"])
        bars = [Bar(v, style, f"{domain}, {row['setting']}: {score_text(v)}") for v, style, row in ((before, "first", first), (after, "final", final))]
        note = f"{after - before:+.3f}" if not is_one and is_number(after - before) else ""
        rows.append(BarRow(domain, note, tuple(bars[1:] if is_one else bars)))
    keys = [("final", str(final["setting"]))] if is_one else [("first", str(first["setting"])), ("final", str(final["setting"]))]
    chart = f'<div class="bars">{legend(*keys)}{bar_chart("mP@5 of each domain, first and exported setting", rows, "mP@5")}</div>'
    cells = []
    for row in scores.table.to_dict("records"):
        values = [(score_text(row[f"mp5_{d}"]), score_text(row.get(f"r1_{d}"))) for d in scores.domains]
        cells.append([row["setting"], *(Markup(f"{mp5}<small>{r1}</small>", "n") for mp5, r1 in values)])
    styles = ["final" if i == scores.final else "" for i in range(len(cells))]
    numbers = '<p class="note">mP@5 of every setting, R@1 small below it.</p>' + table(("setting", *scores.domains), cells, "Scores of each domain", (), styles)
    return section("domains", "By domain", f'<div class="pair">{chart}<div>{numbers}</div></div>')


def training(stages: Sequence[StageCurves]) -> str:
    """Curves of every stage."""
    parts = [_stage(stage, is_open=len(stages) <= MAX_OPEN_STAGES) for stage in stages]
    return section("training", "Training", '<p class="note">One block a stage, in the order they ran. Point at a curve for its values.</p>', *parts)


def data(summary: DataSummary) -> str:
    """Images and classes of every source, and what could not be used."""
    if summary.groups is None:
        return section("data", "Data", '<p class="absent">02_balanced/classes.parquet is absent.</p>', _problems(summary))
    groups = summary.groups
    rows = [[source, domain, *_counts(of)] for (domain, source), of in groups.groupby(["domain", "source"], sort=True)]
    rows.append(["all", "", *_counts(groups)])
    styles = [""] * (len(rows) - 1) + ["total"]
    head = ("source", "domain", "training classes", "images", "rows after balancing", "validation classes", "images")
    numbers = table(head, rows, "Images and classes of each source", ("domain",), styles)
    text = '<p class="note">Validation classes never enter training. Balancing drops, cuts and repeats images of training classes only.</p>'
    if not summary.class_sizes:
        return section("data", "Data", text, numbers, _problems(summary))
    bars = []
    for size, count in summary.class_sizes.items():
        images = f"{size} image{'' if size == '1' else 's'}"
        bars.append(BarRow(images, "", (Bar(count, "final", f"{count} training classes with {images}"),)))
    chart = f'<div class="bars"><h3>Sizes of the training classes</h3>{bar_chart("Training classes by number of images", bars, "classes")}</div>'
    return section("data", "Data", text, f'<div class="pair data">{chart}<div>{numbers}</div></div>', _problems(summary))


def gallery(queries: Sequence[Query], first_setting: str, final_setting: str) -> str:
    """Queries with their five nearest images, and buttons that filter them."""
    if not queries:
        text = "No gallery: 07_embeddings/neighbours.parquet or val_ids.parquet, or 03_packed, is absent."
        return section("gallery", "Queries and their neighbours", f'<p class="absent">{text}</p>')
    names = sorted({query.domain for query in queries})
    buttons = [_button("domain", "", "all domains"), *(_button("domain", f"d{i}", name) for i, name in enumerate(names))]
    verdicts = [_button("verdict", "", "right and wrong"), _button("verdict", "right", "✓ nearest is right"), _button("verdict", "wrong", "✗ nearest is wrong")]
    filters = f'<div class="filters" hidden><div role="group" aria-label="Domain">{"".join(buttons)}</div>'
    filters += f'<div role="group" aria-label="Right or wrong">{"".join(verdicts)}</div></div>'
    filters += f'<p class="note" id="count" role="status">{len(queries)} queries</p>'
    text = f"Setting {final_setting}. Of each domain up to {N_WORST} of the worst, {N_BEST} of the best and {N_RANDOM} random queries: "
    text += "chosen to teach, not a fair sample. "
    text += "The query stands left; ✓ and a solid frame mean the same class, ✗ and a dashed frame another one; the number is the cosine similarity. "
    text += "Pale: more images than the class has others, which the metric leaves out."
    cards = "".join(_card(query, f"d{names.index(query.domain)}", first_setting) for query in queries)
    return section("gallery", "Queries and their neighbours", f'<p class="note">{escape(text)}</p>{filters}<ul class="cards">{cards}</ul>')


def settings(recipe: Recipe) -> str:
    """The recipe: its stages and its ladder as tables, and all of it as JSON."""
    stage_rows = []
    for stage in recipe.stages:
        m = stage.margin
        c = stage.class_margin
        text = f"{m.start_rad:g} to {m.max_rad:g} by {m.step_rad:g} an epoch" if m.step_rad else f"{m.start_rad:g}"
        margin = Markup(f"{c.low_rad:g} to {c.high_rad:g} by class, n^{c.power:g}" if c.high_rad else text, "tight")
        values = [f"{value:g}" if isinstance(value, float) else value for value in (getattr(stage, name) for name in STAGE_FIELDS)]
        stage_rows.append([stage.name, recipe.parent(stage), *values, margin])
    head = ("stage", "starts from", *STAGE_FIELDS.values(), "margin (rad)")
    stages = table(head, stage_rows, "The stages", ("starts from", "phase", "trains", "margin (rad)"))
    model, d = recipe.model, recipe.data
    rows = [
        ["backbone", f"{model.library} {model.name}"],
        ["weights", model.weights or "random"],
        ["training classes", f"{d.min_per_class} to {d.max_per_class} images each" + (f", filled up to {d.fill_per_class}" if d.fill_per_class else "")],
        ["validation", f"{d.val_class_share:.0%} of the classes of each domain"],
        ["packed images", f"shorter side {d.pack_px} px, JPEG quality {d.jpeg_quality}"],
        ["seed", str(recipe.seed)],
    ]
    whole = f"<details><summary>The whole recipe as JSON</summary><div><pre tabindex=0><code>{escape(recipe.to_json())}</code></pre></div></details>"
    short = f'<div class="short">{table(("what", "value"), rows, "The recipe in short", ("value",))}</div>'
    return section("settings", "Settings", short, "<h3>Stages</h3>", stages, whole)


def times(steps: Sequence[Step]) -> str:
    """Seconds and peak memory of every door and stage, and the metrics they noted."""
    longest = max((_mark_number(step, "seconds") or 0.0 for step in steps), default=0.0) or 1.0
    rows: list[list[Any]] = []
    for step in steps:
        mark, seconds = step.mark or {}, _mark_number(step, "seconds")
        meter = '<span class="absent">not finished</span>' if seconds is None else f'<div class="meter" style="width:{100 * seconds / longest:.1f}%"></div>'
        origin = [mark.get(name, "–") for name in ("device", "seed", "commit")]
        rows.append([step.name, seconds_text(seconds), Markup(meter, "meters"), _memory(_mark_number(step, "peak_memory_gb")), *origin])
    doors = [step for step in steps if not step.is_stage]
    total = sum(_mark_number(step, "seconds") or 0.0 for step in doors)
    peak = max((_mark_number(step, "peak_memory_gb") or 0.0 for step in steps), default=0.0)
    rows.append(["all doors", seconds_text(total), "", _memory(peak or None), "", "", ""])
    styles = [*("stage" if step.is_stage else "door" for step in steps), "total"]
    versions = sorted({", ".join(f"{name} {version}" for name, version in step.mark.get("versions", {}).items()) for step in doors if step.mark})
    note = f"<p class=\"note\">A door's time contains its stages'. Peak memory: the door's process or a child of it. {escape('; '.join(versions))}</p>"
    head = ("step", "time", "share", "peak memory", "device", "seed", "commit")
    noted = [[step.name, _noted(step.mark)] for step in steps if step.mark and step.mark.get("metrics")]
    folded = f"<details><summary>What each step noted</summary><div>{table(('step', 'noted'), noted, 'What each step noted', ('noted',))}</div></details>"
    return section("times", "Times and memory", note, table(head, rows, "Times and memory", ("share", "device", "commit"), styles), folded)


def _stage(stage: StageCurves, is_open: bool) -> str:
    name = f"<b>{escape(stage.name)}</b>"
    if stage.metrics is None or stage.metrics.empty:
        line = '<span class="absent">no curves: metrics.csv is absent</span>'
        return f'<details><summary>{name}{line}</summary><div class="absent">Nothing to draw.</div></details>'
    m = stage.metrics
    figures = "".join(_figure(stage.name, m, title, columns, is_from_zero) for title, columns, is_from_zero in FIGURES)
    rows = [[_cell(m[column].iloc[i]) for column in CURVE_COLUMNS] for i in thinned(len(m))]
    few = f" (evenly thinned from {len(m):,} rows)" if len(m) > MAX_POINTS else ""
    numbers = f"<details><summary>The numbers{few}</summary><div>{table(CURVE_COLUMNS, rows, f'Numbers of {stage.name}')}</div></details>"
    summary = f"<summary>{name}{escape(_stage_line(stage.phase, m))}</summary>"
    return f'<details{" open" if is_open else ""}>{summary}<div><div class="curves">{figures}</div>{numbers}</div></details>'


def _figure(stage: str, metrics: pd.DataFrame, title: str, columns: Sequence[tuple[str, str, str]], is_from_zero: bool) -> str:
    """One chart of a stage; says so where nothing of it was measured."""
    axis = "step" if metrics["step"].notna().any() else "epoch"
    xs = [float(value) for value in metrics[axis]]
    lines = [Line(name, style, xs, [float(v) for v in metrics[column]]) for column, name, style in columns if (metrics[column] * metrics[axis]).notna().any()]
    if not lines:
        return f'<figure><figcaption>{title}</figcaption><p class="absent">not measured in this stage</p></figure>'
    if title == "validation" and all(metrics[column].count() <= 1 for column, _, _ in columns):
        scores = " · ".join(f"{name} {score_text(metrics[column].dropna().iloc[0])}" for column, name, _ in columns if metrics[column].count())
        return f"<figure><figcaption>{title}</figcaption><p>{scores}</p></figure>"
    chart = line_chart(f"{stage}: {title} by {axis}", lines, axis, is_from_zero, is_share=title == "validation")
    keys = legend(*((line.style, line.name) for line in lines)) if len(columns) > 1 else ""
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


def _counts(groups: pd.DataFrame) -> list[str]:
    train, val = groups[groups["split"] == "train"], groups[groups["split"] == "val"]
    sums = [train["n_classes"].sum(), train["n_images"].sum(), train["n_rows"].sum(), val["n_classes"].sum(), val["n_images"].sum()]
    return [f"{int(value):,}" for value in sums]


def _problems(summary: DataSummary) -> str:
    problems = summary.problems
    if problems.empty:
        return '<p class="note">No image was refused.</p>'
    rows = problems.head(MAX_PROBLEMS).astype(str).to_numpy().tolist()
    more = f" (the first {MAX_PROBLEMS} of them below)" if len(problems) > MAX_PROBLEMS else ""
    body = table(tuple(problems.columns), rows, "Problems", tuple(problems.columns))
    return f"<details><summary><b>{len(problems):,} files could not be used</b>{more}</summary><div>{body}</div></details>"


def _button(key: str, value: str, text: str) -> str:
    return f'<button type="button" data-key="{key}" data-value="{value}" aria-pressed="{"false" if value else "true"}">{escape(text)}</button>'


def _card(query: Query, domain: str, first_setting: str) -> str:
    verdict = "right" if query.is_right else "wrong"
    before = f"<span>{escape(first_setting)}: {score_text(query.first_score)}</span>" if query.first_score is not None else ""
    head = f"<b>{escape(query.label)}</b><span>{escape(query.domain)}</span><span>{query.picked}</span><span>mP@5 {score_text(query.score)}</span>{before}"
    image = f'<img src="data:image/jpeg;base64,{query.jpeg}" alt="query: {escape(query.label)}" title="{escape(query.image_id)}">'
    shown = f'<figure class="query">{image}<span class="sign">query</span></figure>'
    near = "".join(_neighbour(neighbour, rank) for rank, neighbour in enumerate(query.neighbours, start=1))
    return f'<li class="card" data-domain="{domain}" data-verdict="{verdict}"><div class="head">{head}</div><div class="strip">{shown}{near}</div></li>'


def _neighbour(near: Neighbour, rank: int) -> str:
    verdict, sign = ("right", "✓") if near.is_correct else ("wrong", "✗")
    alt = f"neighbour {rank}, {verdict}: {near.label}"
    image = f'<img src="data:image/jpeg;base64,{near.jpeg}" alt="{escape(alt)}" title="{escape(near.label)}&#10;{escape(near.image_id)}">'
    name = f'<span class="name">{escape(near.label)}</span>'
    return f'<figure class="{verdict}{"" if near.counts else " idle"}">{image}<span class="sign">{sign} {near.similarity:.3f}</span>{name}</figure>'


def _mark_number(step: Step, name: str) -> float | None:
    value = step.mark.get(name) if step.mark else None
    return float(value) if is_number(value) else None  # type: ignore[arg-type]


def _memory(gigabytes: float | None) -> str:
    return "–" if gigabytes is None else f"{gigabytes:.2f} GB"


def _noted(mark: dict[str, Any]) -> Markup:
    words = []
    for name, value in (mark.get("metrics") or {}).items():
        words.append(f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value if isinstance(value, str) else json.dumps(value)}")
    return Markup(f"<code>{escape(', '.join(words))}</code>" if words else "", "wide")
