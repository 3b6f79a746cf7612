"""What people see on a terminal: colour, the width of the window, tables that fit into it, progress bars.

Colour is for a terminal only, never for a pipe or a file, and not where NO_COLOR is set (https://no-color.org).
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TextIO

from tqdm import tqdm

Style = Literal["error", "warning", "score"]
ESCAPES: dict[Style, str] = {"error": "\x1b[1;31m", "warning": "\x1b[33m", "score": "\x1b[1;32m"}  # ECMA-48, SGR
SCORE = re.compile(r"(?<=mP@5 )-?\d?\.\d+")
RESET = "\x1b[0m"
GAP = "  "  # between columns
NARROWEST = 12  # columns of a name that is cut
WHAT = 18  # columns of a bar's text
# Of a log record: the one place where it is shown, the terminal or log.txt; both without it.
ONLY, TERMINAL, FILE = "only", "terminal", "file"
BAR = "{desc} {percentage:3.0f}% |{bar}| {n_fmt}/{total_fmt} {elapsed}<{remaining}{postfix}"


def has_colour(stream: TextIO) -> bool:
    """Whether colours are wanted there: it is a terminal that knows them, and NO_COLOR is not set."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def painted(text: str, style: Style, stream: TextIO | None = None) -> str:
    """A text in colour where the stream shows colours, else as it is.

    Args:
        text: What to paint.
        style: What it is.
        stream: Where it goes; None is stdout.
    """
    return f"{ESCAPES[style]}{text}{RESET}" if has_colour(stream or sys.stdout) else text


def counted(n: int, word: str) -> str:
    """`1 photo`, `1,200 photos`."""
    return f"{n:,} {word}{'' if n == 1 else 's'}"


def with_scores(text: str, stream: TextIO | None = None) -> str:
    """A text with the scores in it painted: numbers behind `mP@5`."""
    return SCORE.sub(lambda found: painted(found[0], "score", stream), text)


def window_columns(stream: TextIO | None = None) -> int:
    """The width of the terminal; 0 where the stream is none, so that nothing need be cut for it."""
    return shutil.get_terminal_size().columns if (stream or sys.stdout).isatty() else 0


def folded(text: str, rest: str = "", stream: TextIO | None = None) -> str:
    """A text in lines that fit the window of a stream (default: stdout), the later ones indented by `rest`; as it is
    where that is no terminal. Words, such as paths, stay whole."""
    width = window_columns(stream)
    if not width:
        return text
    return textwrap.fill(text, width, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False)


def cut(text: str, width: int) -> str:
    """The text in at most `width` columns: its middle is left out where it is longer."""
    if len(text) <= width:
        return text
    left = (width - 1) // 2
    return f"{text[:left]}…{text[len(text) - (width - 1 - left) :]}"


def table(
    rows: Sequence[Sequence[str]],
    width: int,
    left: Sequence[int] = (),
    styles: Mapping[tuple[int, int], Style] | None = None,
    signs: Sequence[str] = (),
) -> list[str]:
    """Lines of an aligned table that fits a width.

    Where it is too wide, names in the first column lose their middle. Where that is not enough, the other columns go
    into several blocks, one below the other; each begins with the names.

    Args:
        rows: The cells; the first row is the head.
        width: Columns at most; 0 for any number.
        left: Columns that are aligned to the left, besides the first.
        styles: Cells to paint, by row and column.
        signs: One character before each row; none indents all rows alike.
    """
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    name = widths[0]
    if width:
        rest = sum(own + len(GAP) for own in widths[1:])
        name = min(name, max(NARROWEST, width - len(GAP) - rest))
    lines: list[str] = []
    for block in _blocks(widths, name, width):
        lines += [""] if lines else []
        for i, row in enumerate(rows):
            cells = [cut(row[0], name).ljust(name)]
            for column in block:
                cell = row[column].ljust(widths[column]) if column in left else row[column].rjust(widths[column])
                style = (styles or {}).get((i, column))
                cells.append(painted(cell, style) if style else cell)
            lines.append(f"{signs[i] if signs else ' '} {GAP.join(cells)}".rstrip())
    return lines


def _blocks(widths: Sequence[int], name: int, width: int) -> list[list[int]]:
    """The columns besides the first, in as many blocks as the width needs; a block has one column at least."""
    blocks: list[list[int]] = [[]]
    used = len(GAP) + name
    for column in range(1, len(widths)):
        needed = len(GAP) + widths[column]
        if width and blocks[-1] and used + needed > width:
            blocks.append([])
            used = len(GAP) + name
        blocks[-1].append(column)
        used += needed
    return blocks


def progress(items: Any = None, desc: str = "", **words: Any) -> tqdm:
    """A progress bar whose text has the same length in every bar; hidden where stderr is no terminal.

    Args:
        items: What is gone through; None where the caller updates the bar.
        desc: What is done.
        **words: Of `tqdm`.
    """
    bar = tqdm(
        items,
        desc=cut(desc, WHAT).ljust(WHAT),
        **{"disable": None, "dynamic_ncols": True, "bar_format": BAR} | words,
    )
    if not bar.disable and (bar.nrows or 0) < 0:  # a window of 0 rows (`stty cols 80`), where tqdm shows nothing
        bar.nrows = bar.dynamic_ncols = None
        bar.ncols = bar.ncols if (bar.ncols or 0) > 0 else None
    return bar
