"""The sections about scores and settings: what they show, as values for their templates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from guie.evaluate.dimensions import own_columns
from guie.evaluate.intervals import NO_INTERVAL
from guie.report.charts_bars import Bar, BarRow, bar_chart
from guie.report.collect import Scores, Step, is_number
from guie.report.markup import NOTHING, filled, score_text
from guie.report.stage_rows import COLUMNS, TEXTS, stage_rows
from guie.settings.model import Model
from guie.settings.recipe import Recipe

DOUBT = 0.05  # a step of the ladder with this p or a larger one may be luck


def ladder_chart(scores: Scores) -> Markup:
    """Every setting as a bar, with its interval where door 07 estimated one."""
    rows = []
    for i, row in enumerate(scores.table.to_dict("records")):
        interval = scores.interval(i)
        between = f" ({score_text(interval[0])} to {score_text(interval[1])})" if interval else ""
        tip = f"{row['setting']}: mP@5 {score_text(row['mp5'])}{between}, R@1 {score_text(row['r1'])}"
        tip += f", {row['dim']} numbers"
        bar = Bar(float(row["mp5"]), _row_style(scores, i), tip, interval)
        rows.append(BarRow(row["setting"], f"{row['dim']}-d", (bar,), Bar(float(row["r1"]), "mark", tip)))
    axis = f"mP@5 (bar) and R@1 (diamond){', mean over domains' if len(scores.domains) > 1 else ''}"
    return bar_chart("The ladder: mP@5 and R@1 of every setting", rows, axis)


def ladder_keys(scores: Scores) -> list[tuple[str, str]]:
    """Styles of the ladder's chart and what they mean."""
    keys = [("first", "first setting"), ("step", "between"), ("final", "exported"), ("mark", "R@1")]
    if len(scores.table) <= 2:
        keys.remove(("step", "between"))
    if _has_interval(scores):
        keys.append(("whisker", "95% interval of mP@5, classes resampled"))
    return keys


def ladder(scores: Scores, is_unseen: bool, is_of_another: bool = False, fitted_on: str = "") -> Markup:
    """Every setting of door 07 as bars and as a table.

    Args:
        scores: The ladder.
        is_unseen: Whether training saw none of the classes.
        is_of_another: Whether the head quotes the score of another training, see `guie.embed.verdict`.
        fitted_on: What the final projection was fitted on.
    """
    rows = _ladder_rows(scores)
    was_estimated = "mp5_low" in scores.table
    return filled(
        "ladder.html",
        is_unseen=is_unseen,
        is_of_another=is_of_another,
        n_domains=len(scores.domains),
        chart=ladder_chart(scores),
        keys=ladder_keys(scores),
        rows=rows,
        widths=_ladder_widths(scores),
        pca_share=scores.pca_share,
        fitted_on=fitted_on,
        has_p="p_vs_previous" in scores.table,
        has_choice=any(row["chosen_on"] for row in rows),
        no_interval=NO_INTERVAL[0].upper() + NO_INTERVAL[1:] if was_estimated and not _has_interval(scores) else "",
        doubt=f"{DOUBT:g}",
    )


def domains_chart(scores: Scores) -> Markup:
    """Scores of each domain: the first setting's above the exported one's."""
    shown = [("final", scores.table.iloc[scores.final])]
    if scores.final != 0:
        shown.insert(0, ("first", scores.table.iloc[0]))
    rows = []
    for domain in scores.domains:
        bars = []
        for style, row in shown:
            score = float(row[f"mp5_{domain}"])
            bars.append(Bar(score, style, f"{domain}, {row['setting']}: {score_text(score)}"))
        change = bars[-1].value - bars[0].value
        has_change = len(bars) > 1 and is_number(change)
        rows.append(BarRow(domain, f"{change:+.3f}" if has_change else "", tuple(bars)))
    return bar_chart("mP@5 of each domain, first and exported setting", rows, "mP@5")


def domains_keys(scores: Scores) -> list[tuple[str, str]]:
    """Styles of the domains' chart and what they mean."""
    names = scores.table["setting"]
    final = ("final", str(names.iloc[scores.final]))
    return [("first", str(names.iloc[0])), final] if scores.final else [final]


def domains(scores: Scores) -> Markup:
    """Scores of each domain as bars, and a table of all settings."""
    if not scores.domains:
        return filled("domains.html", domains=[])
    rows = []
    for i, row in enumerate(scores.table.to_dict("records")):
        values = [(row[f"mp5_{domain}"], row.get(f"r1_{domain}")) for domain in scores.domains]
        rows.append({"setting": row["setting"], "scores": values, "style": "final" if i == scores.final else ""})
    return filled(
        "domains.html",
        domains=list(scores.domains),
        chart=domains_chart(scores),
        keys=domains_keys(scores),
        rows=rows,
    )


def settings(recipe: Recipe, steps: Sequence[Step] = ()) -> Markup:
    """The recipe in short, its stages as a table, and all of it as JSON.

    Args:
        recipe: The recipe.
        steps: The steps of the run: door 04 noted the mean and standard deviation of the pixels.
    """
    return filled(
        "settings.html",
        short=_recipe_in_short(recipe, steps),
        columns=COLUMNS,
        texts=TEXTS,
        stages=stage_rows(recipe),
        recipe_json=recipe.to_json(),
    )


def _recipe_in_short(recipe: Recipe, steps: Sequence[Step]) -> list[tuple[str, str]]:
    model = recipe.model
    data = recipe.data
    filled_up = f", filled up to {data.fill_per_class}" if data.fill_per_class else ""
    return [
        ("backbone", " beside ".join(f"{each.library} {each.name}" for each in model.each)),
        ("weights", ", ".join(each.weights or "random" for each in model.each)),
        ("pixels", _pixels(model, steps) + ("; the backbones beside it by their own" if model.beside else "")),
        ("training classes", f"{data.min_per_class} to {data.max_per_class} images each{filled_up}"),
        ("validation", f"{data.val_class_share:.0%} of the classes of each domain"),
        ("packed images", f"shorter side {data.pack_px} px, JPEG quality {data.jpeg_quality}"),
        ("seed", str(recipe.seed)),
    ]


def _pixels(model: Model, steps: Sequence[Step]) -> str:
    """Mean and standard deviation that normalise the pixels: what door 04 noted, or else what the recipe states."""
    doors = [step for step in steps if step.door == 4 and not step.is_stage]
    noted = doors[0].noted if doors else {}
    mean = noted.get("mean", model.mean)
    std = noted.get("std", model.std)
    if not mean or not std:
        return f"mean and std as {model.library} has them"
    origin = "" if model.mean else f" ({model.library}'s)"
    return f"mean {', '.join(f'{v:.4g}' for v in mean)}; std {', '.join(f'{v:.4g}' for v in std)}{origin}"


def _ladder_rows(scores: Scores) -> list[dict[str, Any]]:
    rows = []
    for i, row in enumerate(scores.table.to_dict("records")):
        shown = {name: row[name] for name in ("setting", "members", "views", "projection", "mp5", "r1", "dim")}
        shown |= {"interval": scores.interval(i), "style": _row_style(scores, i)}
        shown |= {"chosen_on": row.get("chosen_on", ""), "p": _p_text(row.get("p_vs_previous"))}
        rows.append(shown)
    return rows


def _ladder_widths(scores: Scores) -> dict[str, Any]:
    """head and rows of the ladder's scores at other widths; no rows where no row of the ladder has any."""
    columns = [name for name in scores.table if str(name).startswith("dim_") and scores.table[name].notna().any()]
    head = [str(name).removeprefix("dim_") for name in columns]
    rows = []
    has_others = any(name not in ("dim_64", "dim_all") for name in columns)
    for row in scores.table.to_dict("records") if has_others else []:
        own = own_columns(row["dim"], "pca" in str(row["projection"]))
        cells = [Markup("<b>{}</b>") if name in own else Markup("{}") for name in columns]
        values = [cell.format(score_text(row[name])) for cell, name in zip(cells, columns, strict=True)]
        rows.append([row["setting"], *values])
    return {"head": head, "rows": rows}


def _has_interval(scores: Scores) -> bool:
    return any(scores.interval(i) for i in range(len(scores.table)))


def _row_style(scores: Scores, row: int) -> str:
    if row == scores.final:
        return "final"
    return "first" if row == 0 else "step"


def _p_text(p: Any) -> str:
    """A p-value, with a sign where the difference may be luck."""
    if not is_number(p):
        return NOTHING
    text = "<.001" if p < 0.001 else f"{p:.3f}"
    return f"≈ {text}" if p >= DOUBT else text
