"""What `guie foreign` found about a run's recipe, read from the run's folder."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from guie.evaluate.foreign_recipe import head_only, read_by_folds
from guie.evaluate.foreign_table import DIFFERENCE, SUMMARY_COLUMNS, last_row, rows_of
from guie.run import FOREIGN, FOREIGN_COMPARED, FOREIGN_HEAD, FOREIGN_RECIPE, FOREIGN_SUMMARY
from guie.settings.recipe import Recipe

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Foreign:
    """The folds of a recipe.

    Attributes:
        summary: See `guie.evaluate.foreign_table.summary`; the column domain is '' for all domains together.
        compared: See `guie.evaluate.foreign_table.compared`, with the column against; None without another run.
        is_head_only: Whether only the stages of the first phase were trained.
    """

    summary: pd.DataFrame
    compared: pd.DataFrame | None = None
    is_head_only: bool = False

    @property
    def rows(self) -> list[str]:
        """The rows of the ladder."""
        return rows_of(self.summary)

    @property
    def last(self) -> str:
        """The row that the recipe exports."""
        return last_row(self.summary)

    @property
    def is_apart(self) -> bool:
        """Whether no query was asked of both kinds of folds, so that both scores are of different domains."""
        return DIFFERENCE not in set(self.summary["side"])

    def lines(self, row: str, domain: str = "") -> pd.DataFrame:
        """The lines of a row, by their side."""
        is_meant = (self.summary["row"] == row) & (self.summary["domain"] == domain)
        return self.summary[is_meant].set_index("side")

    @property
    def domains(self) -> list[str]:
        """The domains that were asked about."""
        return [name for name in dict.fromkeys(self.summary["domain"]) if name]


def read_foreign(out: Path, recipe: Recipe) -> tuple[Foreign, ...]:
    """The finished results of `guie foreign` for this recipe, and for its first phase alone (--head-only). Results of
    other settings are skipped with a warning.

    Raises:
        ValueError: a summary lacks a column.
    """
    found = []
    for name in (FOREIGN, FOREIGN_HEAD):
        path = out / name / FOREIGN_SUMMARY
        if path.is_file() and _is_of(path.parent, recipe):
            summary = pd.read_csv(path, dtype={"domain": str, "row": str}, keep_default_na=False, na_values={
                column: [""] for column in SUMMARY_COLUMNS if column not in ("domain", "row", "side")
            })  # fmt: skip
            missing = [column for column in SUMMARY_COLUMNS if column not in summary]
            if missing or summary.empty:
                raise ValueError(f"{path} is damaged (it lacks {missing}); the same guie foreign writes it again")
            other = path.with_name(FOREIGN_COMPARED)
            compared = pd.read_csv(other) if other.is_file() else None
            found.append(Foreign(summary, compared, name == FOREIGN_HEAD))
    return tuple(found)


def _is_of(folder: Path, recipe: Recipe) -> bool:
    """Whether the folds in a folder were made with a recipe's settings; its name and seed are ignored. Warns if not."""
    try:
        made = json.loads((folder / FOREIGN_RECIPE).read_text(encoding="utf-8"))
        own = read_by_folds(head_only(recipe) if folder.name == FOREIGN_HEAD else recipe)
    except FileNotFoundError:
        log.warning("%s is not shown: its command has not finished; the same guie foreign goes on", folder)
        return False
    except ValueError as error:  # damaged, or no stage that --head-only could train
        log.warning("%s is not shown: %s", folder, error)
        return False
    apart = [path for path, value in own.items() if not isinstance(made, dict) or made.get(path) != value]
    if apart:
        log.warning("%s is not shown: it is of other settings than this run (%s)", folder, ", ".join(apart))
    return not apart
