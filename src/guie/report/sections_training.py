"""The section about training: the curves of every stage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from markupsafe import Markup

from guie.report.charts import Line, line_chart, number, thinned
from guie.report.collect import StageCurves, is_number
from guie.report.markup import filled, score_text
from guie.report.stage_figures import Figure, figures_of

MAX_OPEN_STAGES = 8  # with more stages than these, the curves open on a click


def training(stages: Sequence[StageCurves]) -> Markup:
    """Curves of every stage, and their numbers."""
    shown = [_stage(stage) for stage in stages]
    has_points = any(stage.points is not None for stage in stages)
    return filled("training.html", stages=shown, is_open=len(stages) <= MAX_OPEN_STAGES, has_points=has_points)


def stage_charts(stage: StageCurves) -> dict[str, Markup]:
    """The charts of a stage by their titles; '' where nothing was measured, or a single time."""
    return {figure.title: _chart(stage, figure) for figure in figures_of(stage)}


def _stage(stage: StageCurves) -> dict[str, Any]:
    m = stage.metrics
    if m is None or m.empty:
        return {"name": stage.name, "figures": []}
    charts = stage_charts(stage)
    figures = [
        {
            "title": figure.title,
            "chart": charts[figure.title],
            "legend": [(style, name) for _, name, style in figure.curves],
            "single": _single(stage, figure),
        }
        for figure in figures_of(stage)
    ]
    rows = [[_cell(m[column].iloc[i]) for column in m.columns] for i in thinned(len(m))]
    line = _line(stage.phase, m)
    return {
        "name": stage.name,
        "line": line,
        "figures": figures,
        "columns": list(m.columns),
        "rows": rows,
        "n_rows": len(m),
    }


def _chart(stage: StageCurves, figure: Figure) -> Markup:
    m = _rows_of(stage, figure)
    if m is None:
        return Markup("")
    axis = _axis(m)
    n_measured = {column: int((m[column] * m[axis]).notna().sum()) for column, _, _ in figure.curves}
    if max(n_measured.values()) <= 1:  # a single point is no curve
        return Markup("")
    xs = [float(x) for x in m[axis]]
    measured = [curve for curve in figure.curves if n_measured[curve[0]]]
    lines = [Line(name, style, xs, [float(y) for y in m[column]]) for column, name, style in measured]
    name = f"{stage.name}: {figure.title} by {axis}"
    return line_chart(name, lines, axis, figure.is_from_zero, is_share=figure.is_validation)


def _rows_of(stage: StageCurves, figure: Figure) -> pd.DataFrame | None:
    """What a figure is drawn from: `curve.csv` where it has its columns and more rows than there are epochs."""
    m, points = stage.metrics, stage.points
    if m is None or points is None or len(points) <= len(m):
        return m
    return points if all(column in points for column, _, _ in figure.curves) else m


def _axis(rows: pd.DataFrame) -> str:
    return "step" if rows["step"].notna().any() else "epoch"


def _single(stage: StageCurves, figure: Figure) -> str:
    """The first value of each curve as a text: what is shown of what was measured once."""
    m = _rows_of(stage, figure)
    if m is None:
        return ""
    form = score_text if figure.is_validation else number
    measured = [(name, m[column].dropna()) for column, name, _ in figure.curves]
    text = " · ".join(f"{name} {form(values.iloc[0])}" for name, values in measured if len(values))
    axis = _axis(m)
    at = m[axis].dropna()
    return f"{text}, at {axis} {number(at.iloc[0])}" if text and len(at) and not figure.is_validation else text


def _line(phase: str, metrics: pd.DataFrame) -> str:
    """A stage in a line: phase, epochs, last loss, last score, last speed."""
    n_epochs = metrics["epoch"].nunique()
    words = [phase, f"{n_epochs} epoch{'' if n_epochs == 1 else 's'}"]
    for column, form in (("loss", "loss {:.3f}"), ("val_mp5", "mP@5 {:.3f}"), ("images_per_s", "{:.0f} images/s")):
        known = metrics[column].dropna()
        if len(known):
            words.append(form.format(known.iloc[-1]))
    return " · ".join(words)


def _cell(value: float) -> str:
    return f"{value:.6g}" if is_number(value) else ""
