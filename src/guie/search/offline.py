"""`guie search --html`: photos, their neighbours and thumbnails as one page that needs no server."""

from __future__ import annotations

import base64
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from guie.data.duplicates import content_hash
from guie.data.image import read_file
from guie.data.names import shown_name
from guie.files import whole_file
from guie.machine import n_cores
from guie.search.answer import for_people
from guie.search.page import about, page, title
from guie.search.session import Say
from guie.search.store import Index
from guie.search.thumbnails import jpeg_of
from guie.shown import progress

THUMB_PX = 160
MAX_MB = 25  # a page up to this size can still be mailed, and opened in browsers of phones


def write_page(path: Path, index: Index, n_photos: int, k: int, say: Say) -> None:
    """Writes the page.

    Args:
        path: The file.
        index: What is shown.
        n_photos: Most photos in the grid. If the index has more, evenly spaced ones in the order of the paths are
            shown. Their neighbours come from the whole index and are on the page, too.
        k: Neighbours of each.
        say: Prints a line for the user.

    Raises:
        OSError: the file cannot be written.
    """
    n = min(n_photos, len(index))
    rows = np.linspace(0, len(index) - 1, n).round().astype(np.int64)
    data = _data(index, rows, k)
    html = page(title(index), data)
    with whole_file(path) as temporary:
        temporary.write_text(html, encoding="utf-8", errors="backslashreplace")
    megabytes = path.stat().st_size / 1e6
    size = f"{megabytes:.1f} MB{', large for a mail: set a smaller --n-photos' if megabytes > MAX_MB else ''}"
    part = f"{n:,} of {len(index):,} photos" if n < len(index) else f"all {n:,} photos"
    say(f"page: {path}, {part} with their {k} most alike, {size}")
    if n_lost := sum(not thumb for thumb in data["thumbs"].values()):
        say(f"  {n_lost:,} without a picture: changed since they were indexed, or gone")


def _data(index: Index, rows: np.ndarray, k: int) -> dict[str, Any]:
    """What the page holds: the photos of `rows`, their neighbours, and the thumbnails of all of them."""
    near = index.nearest(index.vectors().raw(rows), k, [np.array([row]) for row in rows])
    shown = sorted({*rows.tolist(), *(row for found in near for row, _ in found)})
    return {
        "about": _about(index, rows),
        "shown": [str(row) for row in rows],
        "photos": [_photo(index, row) for row in shown],
        "near": {
            str(row): [(str(other), round(cosine, 4)) for other, cosine in found]
            for row, found in zip(rows, near, strict=True)
        },
        "thumbs": {str(row): thumb for row, thumb in _thumbs(index, shown).items()},
    }


def _about(index: Index, rows: np.ndarray) -> dict[str, Any]:
    """As `about`, with the folders of the photos on the page."""
    told = about(index)
    counts: Counter[str] = Counter()
    for path in index.table["path"].iloc[rows]:
        parts = str(path).split("/")[:-1]
        counts.update("/".join(parts[: depth + 1]) for depth in range(len(parts)))
    known = [name for name, _ in told["folders"] if name in counts]
    part = "" if len(rows) == len(index) else f"; {len(rows):,} of them are on this page"
    return told | {"folders": [(name, counts[name]) for name in known], "facts": told["facts"] + part}


def _photo(index: Index, row: int) -> dict[str, str]:
    path, label = index.table[["path", "label"]].iloc[row]
    return {"id": str(row), "path": for_people(str(path)), "label": shown_name(str(label))}


def _thumbs(index: Index, rows: list[int]) -> dict[int, str]:
    """The thumbnail of each row as base64; '' where the photo has changed or is gone."""

    def made(row: int) -> str:
        try:
            content = read_file(index.file(row))
            if content_hash(content) != index.table["digest"].iloc[row]:
                return ""
            return base64.b64encode(jpeg_of(content, THUMB_PX)).decode("ascii")
        except ValueError:
            return ""

    with ThreadPoolExecutor(n_cores()) as pool:
        return dict(
            zip(
                rows,
                progress(pool.map(made, rows), "thumbnails", total=len(rows), leave=False),
                strict=True,
            )
        )
