"""What `guie look` prints. Lines fit the terminal, but for paths; they have at most 110 columns."""

from __future__ import annotations

import math
import re
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

from guie.data.names import shown_name
from guie.own.found import SMALL_PX, Found, decimal, notes
from guie.own.photos import N_NAMED, told_first
from guie.own.scores import Row, Score
from guie.own.suspects import pairs_of
from guie.own.towers import Refused
from guie.shown import Style, counted, painted, table

MIN_COLUMNS = 40
MAX_COLUMNS = 110
FOLDERS = re.compile(r"(?<![^\s=,:(])~?(/[^/\s,:]+)+/")  # the folders of an absolute path
WHAT_MP5 = (
    "mP@5: the share of the five nearest photos that have the label of the photo that asks, or of as many as its "
    "label has. R@1: how often the nearest one has it."
)
HEAD = ("tower", "mP@5", "95 %", "R@1", "PCA-64", "ms", "size", "licence")
HOW_TO_FETCH = (
    "Weights are fetched once where there is a network; copy its ~/.cache/huggingface here, or write timm:NAME=FILE."
)
WHAT_SIGNS = "> is the best; = may differ from it by luck alone (paired test over labels, p >= .05)."
WHERE = {
    "folders": "labels are the folders",
    "flat": "no labels",
    "table": "labels are those of the list",
    "pattern": "labels are taken from the paths",
}


def lines_of(found: Found, folder: Path, seconds: float, columns: int = 0) -> list[str]:
    """The summary.

    Args:
        found: What was found.
        folder: Where the lists and the page are.
        seconds: How long it took.
        columns: Width; 0 takes the terminal's.
    """
    width = min(MAX_COLUMNS, max(MIN_COLUMNS, columns or shutil.get_terminal_size((80, 24)).columns))
    lines = ["", *_wrapped(_head(found), width)]
    for item in _items(found):
        lines += _wrapped(item, width, first="  ", rest="    ")
    lines += ["", *_scores(found, width)]
    if found.best.full is not None:
        lines += _wrapped(WHAT_MP5, width, first="  ", rest="  ")
    for note in notes(found):
        lines += [painted(line, "warning") for line in _wrapped(note, width, first="! ", rest="  ")]
    return [*lines, "", f"Lists: {folder}/*.csv", f"Page:  {folder / 'index.html'}   ({seconds:.0f} s)"]


def _wrapped(text: str, width: int, first: str = "", rest: str = "") -> list[str]:
    return textwrap.wrap(
        text, width, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    )


def _head(found: Found) -> str:
    table = found.small.table
    width, height = (int(table[name].median()) for name in ("original_width", "original_height"))
    n_labels = len(found.sizes)
    labels = f" of {n_labels:,} label{'' if n_labels == 1 else 's'}" if n_labels else ""
    return f"{len(table):,} photos{labels} ({WHERE[found.photos.kind]}), typically {width} x {height} px"


def _items(found: Found) -> Iterator[str]:
    """What is odd about the photos, each with up to three names."""
    singles = found.singles
    if singles:
        names = _named([shown_name(label) for label in singles])
        yield f"{counted(len(singles), 'label')} with one photo, which cannot be found: {names}"
    tiny = [f"{shown_name(row.path)} ({row.original_width} x {row.original_height})" for row in found.tiny.itertuples()]
    if tiny:
        yield f"{counted(len(tiny), 'photo')} below {SMALL_PX} px: {_named(tiny)}"
    problems = [f"{shown_name(row.path)} ({row.reason})" for row in told_first(found.small.problems).itertuples()]
    if problems:
        yield f"{counted(len(problems), 'file')} not used: {_named(problems, ' -> problems.csv')}"
    twins = found.twins
    pairs = [f"{shown_name(row.path)} and {shown_name(row.twin)}" for row in pairs_of(twins).itertuples()]
    n_two = int(twins["has_two_labels"].sum())
    if len(twins):
        across = f", {n_two:,} of them with two labels" if n_two else ""
        yield f"{counted(len(twins), 'photo')} there twice{across}: {_named(pairs, ' -> duplicates.csv')}"
    suspects = [f"{shown_name(row.path)} ({shown_name(row.suggested)}?)" for row in found.suspects.itertuples()]
    if suspects:
        yield f"{counted(len(suspects), 'label')} worth a look: {_named(suspects, ' -> suspects.csv')}"


def _named(names: Sequence[str], where: str = "") -> str:
    more = f" and {len(names) - N_NAMED:,} more" if len(names) > N_NAMED else ""
    return "; ".join(names[:N_NAMED]) + more + where


def _scores(found: Found, width: int) -> Iterator[str]:
    """The table of towers, and why some of them are not in it."""
    rows = [row for row in found.rows if isinstance(row, Row)]
    if found.best.full is None:
        by = f", by {found.best.tower.name}; the other networks are only timed" if len(rows) > 1 else ""
        yield from _wrapped(f"No score: {found.no_score}. The page shows what is near to what{by}.", width)
        if len(rows) == 1:
            return
    else:
        yield from _wrapped("Off the shelf, without training: each photo asks, all others answer", width)
    yield from _table(rows, width)
    if len(rows) > 1 and found.best.full is not None:
        yield from _wrapped(WHAT_SIGNS, width, "  ", "  ")
    for refused in found.rows:
        if isinstance(refused, Refused):
            yield from _wrapped(f"{refused.name}: {refused.sentence}", width, "- ", "  ")
    yield from _wrapped(remedy_of(found.rows), width, "  ", "  ")


def remedy_of(rows: Sequence[Row | Refused]) -> str:
    """What to do about towers that could not be fetched; '' where all could."""
    is_offline = any(isinstance(row, Refused) and "could not be fetched" in row.reason for row in rows)
    return HOW_TO_FETCH if is_offline else ""


def without_folders(text: str) -> str:
    """A text whose absolute paths are file names only, for pages that people send."""
    return FOLDERS.sub("", text)


def _table(rows: Sequence[Row], width: int) -> list[str]:
    """The rows below a head, the best score in colour."""
    best: dict[tuple[int, int], Style] = {(i, 1): "score" for i, row in enumerate(rows, 1) if row.is_best}
    cells = [HEAD, *map(_cells, rows)]
    return table(cells, width, left=[len(HEAD) - 1], styles=best, signs=[" ", *map(_sign, rows)])


def _sign(row: Row) -> str:
    return ">" if row.is_best else "=" if row.is_luck else " "


def _cells(row: Row) -> tuple[str, ...]:
    full = row.full
    milliseconds = row.features.ms_per_image
    return (
        row.tower.short,
        decimal(full.mp5) if full else "-",
        _interval(full),
        decimal(full.r1) if full else "-",
        decimal(row.reduced.mp5) if row.reduced else "-",
        f"{milliseconds:.0f}" if milliseconds >= 10 else f"{milliseconds:.1f}",
        _millions(row.features.n_parameters),
        row.tower.licence,
    )


def _millions(n: int) -> str:
    return f"{n / 1e6:.0f}M" if n >= 1e7 else f"{n / 1e6:.1f}M"


def _interval(score: Score | None) -> str:
    if score is None or not math.isfinite(score.low):
        return "-"
    return f"{decimal(score.low, 2)}-{decimal(score.high, 2)}"
