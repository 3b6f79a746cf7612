"""Prints the values that run.sh needs from Python, besides the doors, to stdout.

python -m guie.sequence recipe NAME|FILE.py [FIELD=VALUE ...]   its name, export.min_parity_cosine, data.val_by
                                                                and embed.dim
python -m guie.sequence scores FILE.csv                         the scores that door 07 wrote, as a table for people
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from guie.errors import run_to_the_end
from guie.recipe import load_recipe
from guie.shown import Style, table, window_columns


def describe_recipe(name_or_path: str, *overrides: str) -> str:
    """Four words for the shell: the recipe's name, which has no spaces, `export.min_parity_cosine`, `data.val_by`,
    `embed.dim`.

    Raises:
        ValueError: there is no such recipe, or an override does not fit it.
        FileNotFoundError: the recipe's file does not exist.
    """
    recipe = load_recipe(name_or_path, overrides)
    return f"{recipe.name} {recipe.export.min_parity_cosine} {recipe.data.val_by} {recipe.embed.dim}"


def score_table(path: str) -> str:
    """The scores of `scores.csv` as a text table, with a line for each setting.

    Raises:
        OSError: the file cannot be read.
        ValueError: it lacks a column.
    """
    with Path(path).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    try:
        cells = [(row["setting"], row["dim"], f"{float(row['mp5']):.3f}", f"{float(row['r1']):.3f}") for row in rows]
        if not cells:
            raise ValueError("no rows")
    except (KeyError, ValueError):
        raise ValueError(f"{path} is damaged; write it again with: ./run.sh --from 7 --force") from None
    styles: dict[tuple[int, int], Style] = {(len(cells), 2): "score"}  # the setting that is exported
    return "\n".join(table([("", "dim", "mP@5", "R@1"), *cells], window_columns(), styles=styles))


ANSWERS: dict[str, Callable[..., str]] = {"recipe": describe_recipe, "scores": score_table}


def main(argv: Sequence[str] | None = None) -> int:
    """Prints an answer and returns the exit status; see `guie.errors`."""
    form = argparse.RawDescriptionHelpFormatter
    p = argparse.ArgumentParser("python -m guie.sequence", description=__doc__, formatter_class=form)
    p.add_argument("question", choices=ANSWERS)
    p.add_argument("words", nargs=argparse.REMAINDER, help="see above; a word may begin with a dash")
    arguments = p.parse_args(argv)
    return run_to_the_end(lambda: print(ANSWERS[arguments.question](*arguments.words)), "run.sh")


if __name__ == "__main__":
    sys.exit(main())
