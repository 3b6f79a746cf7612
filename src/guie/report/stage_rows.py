"""A recipe's rows as a table: the settings by which a reader compares stages."""

from __future__ import annotations

from dataclasses import fields

from guie.settings.objective import ClassMargin, GrowingMargin, ObjectiveSettings
from guie.settings.recipe import Recipe
from guie.settings.stage import Soup, Stage

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
    """One list of cells a row of the recipe, in the order of `COLUMNS`; what a soup does not have is empty."""
    return [_trained(recipe, row) if isinstance(row, Stage) else _soup(recipe, row) for row in recipe.stages]


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
    return [
        stage.name,
        recipe.parent(stage),
        recipe.stages.phase_of(stage.name),
        stage.trains,
        stage.image_px,
        stage.patch_stride,
        optim.n_epochs,
        optim.batch_size,
        f"{optim.lr:g}",
        stage.neck.dim,
        type(objective).__name__,
        f"{objective.scale:g}" if hasattr(objective, "scale") else "",
        margin_text(objective),
    ]


def _soup(recipe: Recipe, soup: Soup) -> list[str | int]:
    kind = "greedy soup" if soup.is_greedy else "soup"
    start = [soup.name, ", ".join(soup.of), recipe.stages.phase_of(soup.name), kind]
    return [*start, *[""] * (len(COLUMNS) - len(start))]
