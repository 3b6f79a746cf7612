"""The command `guie evaluate` (`python -m guie.evaluate`): scores embeddings of any model."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from guie.embed.retrieval import mean_of_domains
from guie.errors import run_to_the_end
from guie.evaluate.embedding_files import named, open_embeddings
from guie.evaluate.geometry import clusters, geometry
from guie.evaluate.id_tables import read_ids, read_solution
from guie.evaluate.intervals import NO_INTERVAL
from guie.evaluate.protocols import (
    PROTOCOLS,
    concatenated,
    nearest_ids,
    score_predictions,
    scored,
    solution_task,
    spread,
    summary,
)
from guie.evaluate.shift import shift_curve, shift_splits, split_table
from guie.examples import ExamplesFirst
from guie.machine import check_writable_file
from guie.shown import Style, window_columns
from guie.shown import table as aligned

ASKED = (
    "host_",
    "fold_",
    "mp5_std",
    "density",
    "spectral",
    "alignment",
    "uniformity",
    "nmi",
    "ami",
)  # columns that are shown if an option adds them
SHOWN = (
    "mp5",
    "mp5_low",
    "mp5_high",
    "p_vs_previous",
    "r1",
    "map_at_r",
    "r_precision",
    "map_at_100",
    "full_map",
    "full_map_with_self",
)

EXAMPLES = """
guie evaluate mine.npy --ids mine.csv
guie evaluate before.npy after.npy --ids mine.csv --full --out scores.csv
"""
DESCRIPTION = """\
Scores your own embeddings with the protocols and intervals of door 07.

Several files of the same images make a ladder: each file is tested against the
one before. p_vs_previous tests whether the difference holds for other classes
of the same kind, with these weights. It says nothing about other training
runs. With one id file for each embeddings file, the files are separate runs
(seeds); their mean and standard deviation follow. The distance is cosine by
default; the contest's host used --distance euclidean.

--protocol says what searches what:
  merged       every image searches all others
  per_domain   every image searches the others of its domain
  query_index  images of split query search those of split index
  uned         as merged, or by split where there is one; a hit has the class
               and the domain of the query
  k_fold       classes are dealt to four folds; every image searches the others
               of its fold
  solution     the queries of --solution search the images of split index, or
               all others; its ids say what is relevant

More examples:
  guie evaluate mine.npy --ids mine.csv --protocol per_domain --geometry
  guie evaluate mine.npy --ids mine.csv --protocol solution \\
      --solution solution.csv --distance euclidean
  guie evaluate fold0.npy fold1.npy fold2.npy --ids test.csv --combine
  guie evaluate mine.npy --ids mine.csv --shift 6 --features frozen.npy
"""


def parser() -> argparse.ArgumentParser:
    """The options."""
    usage = "guie evaluate FILE [FILE ...] --ids FILE [options]"
    p = ExamplesFirst(EXAMPLES, prog="guie evaluate", usage=usage, description=DESCRIPTION)
    p.add_argument(
        "embeddings",
        type=Path,
        nargs="+",
        help=(
            ".npy, float [n_images, dim], or a folder of such shards; .npz, .pt, .safetensors (FILE:NAME for one "
            "array of several), .csv, .parquet"
        ),
    )
    p.add_argument(
        "--ids",
        type=Path,
        nargs="+",
        required=True,
        help=".csv or .parquet: image_id, class_id[, domain][, split: query or index]; one for all files, or one each",
    )
    p.add_argument(
        "--protocol",
        choices=[*PROTOCOLS, "solution"],
        default="merged",
        help="which images are queries and which the index (default: %(default)s)",
    )
    p.add_argument(
        "--solution", type=Path, help="the host's file: query id, ids of the relevant images, Public or Private"
    )
    p.add_argument("--distance", choices=("cosine", "euclidean"), default="cosine")
    p.add_argument("--full", action="store_true", help="also mAP over the whole index")
    p.add_argument(
        "--geometry", action="store_true", help="also density, spectral decay, alignment, uniformity, NMI and AMI"
    )
    p.add_argument(
        "--combine",
        action="store_true",
        help="for models trained on different folds: also give the mean of their scores, and score their concatenation",
    )
    p.add_argument(
        "--shift",
        type=int,
        metavar="N",
        help=(
            "score only N train-test splits by class, of growing Fréchet distance; for a model that was trained on "
            "none of the classes"
        ),
    )
    p.add_argument(
        "--features",
        type=Path,
        help="for --shift: features of a frozen network, from which the distance is computed (default: the first file)",
    )
    p.add_argument("--out", type=Path, help="write all columns to this .csv; the splits of --shift beside it")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status. An error is reported in one line, see `guie.errors`."""
    arguments = parser().parse_args(argv)
    return run_to_the_end(lambda: score(arguments), "guie.evaluate", arguments.out or "")


def score(arguments: argparse.Namespace) -> None:
    """Prints the table, and writes it where --out says."""
    if arguments.out:
        check_writable_file(arguments.out)
    _check_effects(arguments)
    table = shifted(arguments) if arguments.shift is not None else rows(arguments)
    shown = [
        name
        for name in ("row", "how", "frechet", "n_test_classes", "n_queries", *SHOWN, "mp5_control")
        if name in table
    ]
    print(as_shown(table[shown + [name for name in table if name not in shown and name.startswith(ASKED)]]))
    if "mp5_low" in table and table["mp5_low"].isna().any():
        print(f"\n{NO_INTERVAL}")
    if arguments.out:
        table.to_csv(arguments.out, index=False)


def _check_effects(arguments: argparse.Namespace) -> None:
    """Raises ValueError for an option that would change nothing."""
    has_several = len(arguments.embeddings) > 1 and len(arguments.ids) == 1
    for option, is_given, has_effect, what in (
        ("--features", arguments.features is not None, arguments.shift is not None, "--shift"),
        ("--combine", arguments.combine, has_several, "several files of embeddings with one of --ids"),
    ):
        if is_given and not has_effect:
            raise ValueError(f"{option} changes nothing here: it is for {what}")


def rows(arguments: argparse.Namespace) -> pd.DataFrame:
    """A row for each file of embeddings, and for their mean where they are seeds or folds.

    Raises:
        ValueError: options that do not go together.
    """
    files = arguments.embeddings
    tables = _tables_of_ids(arguments)
    are_seeds = len(tables) > 1
    found: list[dict[str, object]] = []
    before: pd.DataFrame | None = None
    for i, path in enumerate(files):
        ids = tables[i if are_seeds else 0]
        parts = open_embeddings(path, ids)
        n_rows = sum(map(len, parts))
        if n_rows != len(ids):
            raise ValueError(
                f"{path} has {n_rows} rows and {arguments.ids[i if are_seeds else 0]} {len(ids)}; row i of one must be "
                "row i of the other"
            )
        row, before = one_row(row_name(path), parts, ids, None if are_seeds else before, arguments)
        found.append(row)
    numbers = [{k: v for k, v in row.items() if isinstance(v, int | float)} for row in found]
    if len(files) > 1 and (are_seeds or arguments.combine):
        found.append({"row": "mean" if are_seeds else "separated (mean)", **spread(numbers)})
    if len(files) > 1 and arguments.combine and not are_seeds:
        together = concatenated([np.concatenate(open_embeddings(path, tables[0])) for path in files])
        found.append(one_row("concatenated", (together,), tables[0], None, arguments)[0])
    return pd.DataFrame(found)


def _tables_of_ids(arguments: argparse.Namespace) -> list[pd.DataFrame]:
    """The tables of --ids: one for all files of embeddings, or one each.

    Raises:
        ValueError: the number of tables fits neither, --protocol and --solution do not go together, or `read_ids`
            refuses a table.
    """
    tables = [read_ids(path) for path in arguments.ids]
    if len(tables) not in (1, len(arguments.embeddings)):
        raise ValueError(
            f"{len(tables)} files of ids for {len(arguments.embeddings)} of embeddings: give one for all, or one each"
        )
    if (arguments.protocol == "solution") != bool(arguments.solution):
        raise ValueError("--protocol solution and --solution FILE go together")
    return tables


def row_name(path: Path) -> str:
    """The name of a file's row."""
    file, name = named(path)
    return f"{file.stem}:{name}" if name else file.stem


def one_row(
    name: str,
    parts: tuple[np.ndarray, ...],
    ids: pd.DataFrame,
    before: pd.DataFrame | None,
    arguments: argparse.Namespace,
) -> tuple[dict[str, object], pd.DataFrame]:
    """The row of one file, and the scores of its queries.

    Args:
        name: The row's name.
        parts: float [n_i, dim] each, in the order of `ids`.
        ids: As `read_ids` returns them.
        before: The scores of the queries of the file before; None for the first.
        arguments: The options.
    """
    extra: dict[str, object] = {}
    if arguments.solution:
        solution = read_solution(arguments.solution)
        tasks = [solution_task(ids, solution)]
        ids = ids.assign(domain="all")  # the host's mean is over queries, whatever their domain
        extra |= _host_scores(nearest_ids(parts, ids, tasks[0], arguments.distance), solution)
    else:
        tasks = PROTOCOLS[arguments.protocol](ids)
    queries = scored(parts, ids, tasks, arguments.distance, arguments.full)
    extra |= {
        f"mp5_{domain}": score
        for domain, score in mean_of_domains(queries["mp5"].to_numpy(), queries["domain"].to_numpy())[1].items()
    }
    if arguments.protocol == "k_fold":
        extra |= _spread_of_folds(queries)
    if arguments.geometry:
        array, class_ids = np.concatenate(parts), ids["class_id"].to_numpy()
        extra |= geometry(array, class_ids) | clusters(array, class_ids)
    return {"row": name, **summary(queries, before), **extra}, queries


def _host_scores(nearest: dict[str, list[str]], solution: dict[str, tuple[str, frozenset[str]]]) -> dict[str, float]:
    """host_public and host_private, each only if the solution has queries of this usage.

    Args:
        nearest: The ids found for each query.
        solution: Usage and relevant ids of each query.
    """
    usages = sorted({usage for usage, _ in solution.values()})
    return {f"host_{usage.lower()}": score_predictions(nearest, solution, usage) for usage in usages}


def _spread_of_folds(queries: pd.DataFrame) -> dict[str, float]:
    """fold_mp5 and fold_mp5_std: mean and standard deviation of mp5 over the folds.

    Args:
        queries: As `scored` returns them, with the fold as their task.
    """
    folds = [mean_of_domains(q["mp5"].to_numpy(), q["domain"].to_numpy())[0] for _, q in queries.groupby("task")]
    return {f"fold_{name}": value for name, value in spread([{"mp5": fold} for fold in folds]).items()}


def shifted(arguments: argparse.Namespace) -> pd.DataFrame:
    """The curve of each file over the splits of --shift.

    Raises:
        ValueError: options that do not go with --shift, or arrays of another number of rows than the ids.
    """
    if len(arguments.ids) > 1:
        raise ValueError("--shift takes one file of ids")
    if (
        arguments.protocol != "merged"
        or arguments.solution
        or arguments.full
        or arguments.geometry
        or arguments.combine
    ):
        raise ValueError(
            "--shift has one index and its own scores; leave --protocol, --solution, --full, --geometry and --combine "
            "out"
        )
    ids = read_ids(arguments.ids[0])
    files = {row_name(path): np.concatenate(open_embeddings(path, ids)) for path in arguments.embeddings}
    features = (
        np.concatenate(open_embeddings(arguments.features, ids)) if arguments.features else next(iter(files.values()))
    )
    for name, array in (*files.items(), ("features", features)):
        if len(array) != len(ids):
            raise ValueError(f"{name} has {len(array)} rows and the ids {len(ids)}")
    splits = shift_splits(features, ids["class_id"].to_numpy(), arguments.shift)
    if arguments.out:
        split_table(splits).to_csv(arguments.out.with_suffix(".splits.csv"), index=False)
    curves = [
        shift_curve(splits, [array] * len(splits), ids, distance=arguments.distance).assign(row=name)
        for name, array in files.items()
    ]
    return pd.concat(curves, ignore_index=True)


def as_shown(table: pd.DataFrame) -> str:
    """The table for people: on a terminal in aligned columns that fit the window, else in Markdown."""
    width = window_columns()
    if not width:
        return markdown(table)
    rows = [list(table.columns), *([_cell(value) for value in row] for row in table.itertuples(index=False))]
    at = list(table.columns).index("mp5") if "mp5" in table else 0
    styles: dict[tuple[int, int], Style] = {(i, at): "score" for i in range(1, len(rows))} if at else {}
    return "\n".join(aligned(rows, width, styles=styles))


def markdown(table: pd.DataFrame) -> str:
    """A table in Markdown with three decimals and an empty cell for a missing value."""
    lines = ["| " + " | ".join(table.columns) + " |", "|" + "---|" * table.shape[1]]
    for row in table.itertuples(index=False):
        lines.append("| " + " | ".join(_cell(value) for value in row) + " |")
    return "\n".join(lines)


def _cell(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    return "" if np.isnan(value) else f"{value:.0f}" if value > 1 and value.is_integer() else f"{value:.3f}"


if __name__ == "__main__":
    sys.exit(main())
