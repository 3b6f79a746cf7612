"""Writes what objectives.py found: objectives.md, its charts, and the measured numbers of the page for users."""

from __future__ import annotations

import re
from pathlib import Path

from objectives_parts import Files
from objectives_tables import CLOSING, OPENING, charts, document, with_interval

from guie.files import whole_file
from guie.run import PROJECT

PAGE = PROJECT / "src/guie/recipes/OBJECTIVES.md"
NOT_MEASURED = "not measured yet"
# A reference of the page and the numbers behind it, up to the end of the cell: `published MarginLoss`: mP@5 .670 ± .003
# Costs name the batch and its parts: `costs Contrastive 1024 in 4`: 80 s an epoch, 900 MB
QUOTE = re.compile(r"(`(published|tuned|vit|costs) (\w+)(?: (\d+) in (\d+))?`: )([^|;\n]*?)(?= *[|;\n])")


def write_all(files: Files, folder: Path, page: Path | None = None) -> str:
    """Writes objectives.md and its charts into a folder; says what was written.

    Args:
        files: The rows.
        folder: Of objectives.md.
        page: The page whose numbers are written, too; None for none.
    """
    texts = {"objectives.md": document(files, _conclusions(folder / "objectives.md")), **charts(files)}
    for name, text in texts.items():
        with whole_file(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    written = f"wrote {', '.join(texts)} in {folder}"
    return f"{written}, and {fill_page(files, page)} quotes of {page}" if page else written


def _conclusions(path: Path) -> str:
    """What a person wrote into objectives.md; empty where there is none."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    return text.partition(OPENING)[2].partition(CLOSING)[0]


def fill_page(files: Files, page: Path) -> int:
    """Writes the measured numbers behind the page's references, such as `published MarginLoss`; how many there are."""
    text = page.read_text(encoding="utf-8")
    filled, n = QUOTE.subn(lambda found: found[1] + _quote(files, *found.groups()[1:5]), text)
    if filled != text:
        with whole_file(page) as temporary:
            temporary.write_text(filled, encoding="utf-8")
    return n


def _quote(files: Files, part: str, name: str, batch: str | None, n_parts: str | None) -> str:
    """Score and cost of a row, or that it is not measured yet."""
    if part == "costs":
        rows = files.costs.find(objective=name, batch=int(batch or 128), n_parts=int(n_parts or 1))
        if rows.empty:
            return NOT_MEASURED
        return f"{rows['epoch_s'].iloc[0]:.0f} s an epoch, {rows['memory_mb'].iloc[0]:.0f} MB"
    rows = files.vit.find(objective=name, trains="all") if part == "vit" else files.main.find(part=part, objective=name)
    if rows["mp5"].dropna().empty:
        return NOT_MEASURED
    digits = 0 if part == "vit" else 2
    return (
        f"mP@5 {with_interval(rows['mp5'])}, {rows['epoch_s'].median():.{digits}f} s an epoch, "
        f"{rows['memory_mb'].median():.0f} MB"
    )
