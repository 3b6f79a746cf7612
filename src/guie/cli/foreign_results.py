"""Writes and prints the results of `guie foreign`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from guie.evaluate.foreign import QUERIES
from guie.evaluate.foreign_recipe import read_by_folds
from guie.evaluate.foreign_table import (
    DIFFERENCE,
    NEVER_SEEN,
    SEEN,
    by_domain,
    compared,
    fold_scores,
    last_row,
    of_others,
    refits,
    rows_of,
    summary,
)
from guie.evaluate.foreign_text import gain_texts
from guie.files import save_json, whole_file
from guie.recipe import Recipe
from guie.report.foreign import Foreign
from guie.report.markup import NOTHING, score_text
from guie.report.pictures import standalone
from guie.report.sections_foreign import foreign_charts
from guie.run import FOREIGN, FOREIGN_COMPARED, FOREIGN_HEAD, FOREIGN_RECIPE, FOREIGN_SUMMARY
from guie.shown import Style, table, window_columns

SCORES, REFITS = "foreign.csv", "refits.csv"


@dataclass(frozen=True)
class Results:
    """The results of all folds.

    Attributes:
        summary: See `guie.evaluate.foreign_table.summary`; the column domain is '' for all domains together.
        compared: See `guie.evaluate.foreign_table.compared`; None without another run.
        refits: See `guie.evaluate.foreign_table.refits`.
        against: The name of that run.
        n_folds: Pairs of a seed and a domain.
    """

    summary: pd.DataFrame
    compared: pd.DataFrame | None
    refits: pd.DataFrame
    against: str
    n_folds: int


def read_against(run: Path, folder: Path) -> tuple[str, pd.DataFrame]:
    """The name and the queries of another run's folds.

    Args:
        run: Such as artifacts/minibench, or the folder of its folds.
        folder: The folder of this command's folds; its name differs with --head-only.

    Raises:
        FileNotFoundError: it has none.
        ValueError: it is this run itself.
    """
    places = [run / folder.name, run]
    found = next((place for place in places if (place / QUERIES).is_file()), None)
    if found is None:
        how, other = ("with", FOREIGN) if folder.name == FOREIGN_HEAD else ("without", FOREIGN_HEAD)
        also = f", or name {run / other} to compare with those folds" if (run / other / QUERIES).is_file() else ""
        raise FileNotFoundError(
            f"--against {run}: no {folder.name}/{QUERIES} there; first finish guie foreign {how} --head-only for that "
            f"run{also}"
        )
    if found.resolve() == folder.resolve():
        raise ValueError(f"--against {run} is this run itself; name this one's results with --name")
    return found.resolve().parent.name, pd.read_parquet(found / QUERIES)


def write_results(
    folder: Path, recipe: Recipe, queries: pd.DataFrame, against: tuple[str, pd.DataFrame] | None
) -> Results:
    """Writes the tables and the chart; see the command's --help.

    Raises:
        ValueError: the folds do not compare with those of `against`; all but that table is written.
    """
    rows = rows_of(queries)
    parts = [summary(queries), *(by_domain(queries, row) for row in rows)]
    whole = pd.concat(parts, ignore_index=True)
    (folder / FOREIGN_RECIPE).unlink(missing_ok=True)  # the report shows nothing that a kill has left half written
    (folder / FOREIGN_COMPARED).unlink(missing_ok=True)
    with whole_file(folder / QUERIES) as temporary:
        queries.to_parquet(temporary, index=False)
    _write_csv(folder / SCORES, fold_scores(queries))
    gained = refits(queries)
    (folder / REFITS).unlink(missing_ok=True)
    if len(gained):
        _write_csv(folder / REFITS, gained)
    _write_csv(folder / FOREIGN_SUMMARY, whole)
    for name, chart in foreign_charts(Foreign(whole)).items():
        with whole_file(folder / f"{name}.svg") as temporary:
            temporary.write_text(standalone(chart), encoding="utf-8")
    save_json(folder / FOREIGN_RECIPE, read_by_folds(recipe))
    found = None
    if against is not None:
        found = compared(against[1], queries, (against[0], folder.parent.name)).assign(against=against[0])
        _write_csv(folder / FOREIGN_COMPARED, found)
    n_folds = len(queries[["seed", "left_out"]].drop_duplicates())
    return Results(whole, found, gained, against[0] if against else "", n_folds)


def tell(found: Results, folder: Path) -> None:
    """Prints the tables."""
    width = window_columns()
    whole = found.summary[found.summary["domain"] == ""]
    rows = rows_of(whole)
    exported = last_row(whole)
    folds = f"{found.n_folds} fold{'s' * (found.n_folds > 1)}"
    print(f"\nmP@5, mean of {folds}; change with its 95 % interval for other classes")
    print("\n".join(_side_by_side(whole, rows, "row", width, exported)))
    if DIFFERENCE not in set(whole["side"]):
        print(f"{SEEN} and {NEVER_SEEN} are of different domains here; leave out two or more (--domains) to compare")
    last = found.summary[(found.summary["row"] == exported) & (found.summary["domain"] != "")]
    print(f"\n{exported}, by domain")
    print("\n".join(_side_by_side(last, list(dict.fromkeys(last["domain"])), "domain", width)))
    if len(found.refits):
        print("\nmP@5 gained by the refit, with 95 % intervals")
        print("\n".join(_gains(found.refits, width)))
    if found.compared is not None:
        print(f"\nmP@5 gained over {found.against} on the same queries, with 95 % intervals")
        print("\n".join(_gains(found.compared, width)))
    print(f"\nwritten: {folder}/{{{SCORES},{FOREIGN_SUMMARY},foreign.svg}}")


def _side_by_side(lines: pd.DataFrame, names: list[str], column: str, width: int, marked: str = "") -> list[str]:
    """A line for each name: its scores on domains seen and never seen, and their difference; one line may be marked."""
    cells: list[tuple[str, ...]] = [("", SEEN, NEVER_SEEN, "change", "95 %", "classes")]
    for name in names:
        own = lines[lines[column] == name].set_index("side")
        change = own.loc[DIFFERENCE] if DIFFERENCE in own.index else None
        values = [score_text(own["mean"].get(side)) for side in (SEEN, NEVER_SEEN)]
        gained = [NOTHING, NOTHING] if change is None else gain_texts(change)[:2]
        cells.append((name, *values, *gained, f"{int(own['n_classes'].max())}"))
    styles: dict[tuple[int, int], Style] = {(names.index(marked) + 1, 2): "score"} if marked else {}
    return table(cells, width, styles=styles)


def _gains(lines: pd.DataFrame, width: int) -> list[str]:
    cells = [("", "domains", "gained", "other classes", of_others(lines))]
    for line in lines.to_dict("records"):
        cells.append((line["row"], line["side"], *gain_texts(line)))
    return table(cells, width, left=(1,))


def _write_csv(path: Path, lines: pd.DataFrame) -> None:
    with whole_file(path) as temporary:
        lines.to_csv(temporary, index=False)
