"""A recipe's rows as a table: the settings by which a reader compares stages."""

from __future__ import annotations

from dataclasses import fields

from guie.settings.mixed import Interpolate, Soup
from guie.settings.objective import ClassMargin, GrowingMargin, ObjectiveSettings, Sum
from guie.settings.recipe import Recipe
from guie.settings.stage import Stage

COLUMNS = (
    "stage",
    "starts from",
    "phase",
    "trains",
    "px",
    "stride",
    "epochs",
    "batch",
    "lr",
    "dims",
    "objective",
    "scale",
    "margin",
)
TEXTS = ("starts from", "phase", "trains", "objective", "margin")  # columns that are no numbers


def stage_rows(recipe: Recipe) -> list[list[str | int]]:
    """One list of cells a row of the recipe, in the order of `COLUMNS`; what a row does not have is empty."""
    return [_trained(recipe, row) if isinstance(row, Stage) else _mixed(recipe, row) for row in recipe.stages]


def margin_text(objective: ObjectiveSettings) -> str:
    """The margin in words, with its unit; empty where there is none."""
    names = [field.name for field in fields(objective) if field.name.startswith("margin_")]
    if not names:
        return ""
    margin, unit = getattr(objective, names[0]), names[0].removeprefix("margin_")
    match margin:
        case GrowingMargin(start=start, step=step, max=largest):
            text = f"{start:g} to {largest:g} by {step:g} an epoch"
        case ClassMargin(low=low, high=high, power=power):
            text = f"{low:g} to {high:g} by class, n^{power:g}"
        case _:
            text = f"{margin:g}"
    return f"{text} ({unit})"


def _trained(recipe: Recipe, stage: Stage) -> list[str | int]:
    optim, objective = stage.optim, stage.objective
    terms = objective.terms if isinstance(objective, Sum) else (objective,)
    return [
        stage.name,
        recipe.parent(stage),
        recipe.stages.phase_of(stage.name),
        _with_fold(stage.trains, stage),
        stage.image_px,
        stage.patch_stride,
        optim.n_epochs,
        optim.batch_size,
        f"{optim.lr:g}",
        stage.neck.dim,
        " + ".join(type(term).__name__ for term in terms),
        next((f"{term.scale:g}" for term in terms if hasattr(term, "scale")), ""),
        next(filter(None, map(margin_text, terms)), ""),
    ]


def _mixed(recipe: Recipe, row: Soup | Interpolate) -> list[str | int]:
    match row:
        case Soup(is_greedy=is_greedy):
            kind = "greedy soup" if is_greedy else "soup"
        case Interpolate(shares=shares):
            kind = f"interpolation, {' or '.join(f'{share:g}' for share in shares)} tuned"
    kind = _with_fold(kind, recipe.stage(row.name))
    start = [row.name, ", ".join(row.reads), recipe.stages.phase_of(row.name), kind]
    return [*start, *[""] * (len(COLUMNS) - len(start))]


def _with_fold(trains: str, stage: Stage) -> str:
    """What a row trains, and on which classes it is scored where its stage left some out."""
    return trains if stage.left_out is None else f"{trains}; its scores are those of {stage.left_out}"
