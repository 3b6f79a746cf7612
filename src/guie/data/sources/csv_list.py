"""Any set with a list of its own: `images.csv` with path,label and maybe domain, split and group; paths are relative to
the folder.

A path is a file's name on disk. If there is no such file, it is read as manifests write names (`guie.data.names`):
`caf%E9.jpg` is the file whose name holds the byte E9. If the column `escaped` says `yes`, the paths and labels of these
rows are in the manifests' form, whatever is on disk; `guie train` writes such lists.
"""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd

from guie.data.names import name_on_disk
from guie.data.sources import read_csv
from guie.settings.data import GROUPS

LIST = "images.csv"
ESCAPED = "escaped"


def build(folder: Path) -> pd.DataFrame:
    """Lists the set at `folder`. An image whose domain is empty or absent gets the source's.

    Raises:
        FileNotFoundError: no `images.csv`.
        ValueError: it lacks a column.
    """
    table = read_csv(folder / LIST, "path", "label")
    is_escaped = [text == "yes" for text in table.get(ESCAPED, [""] * len(table))]
    pairs = list(zip(table["path"], is_escaped, strict=True))
    # dtype object: pandas' `str` cannot hold file names that are not UTF-8.
    paths = pd.Series([_on_disk(folder, path, escaped) for path, escaped in pairs], dtype=object)
    labels = [
        name_on_disk(label) if escaped else label for label, escaped in zip(table["label"], is_escaped, strict=True)
    ]
    more = {name: table.get(name, "") for name in ("split", "domain", "group")}
    return pd.DataFrame(
        {"image_id": paths, "path": paths, "source_label": pd.Series(labels, dtype=object), **more},
    )


def _on_disk(folder: Path, path: str, is_escaped: bool) -> str:
    """The name on disk of a listed path; the path itself where neither form is there."""
    if "%" not in path:
        return path
    decoded = name_on_disk(path)
    if is_escaped:
        return decoded
    return decoded if not os.path.exists(folder / path) and os.path.exists(folder / decoded) else path


def files_of(folder: Path) -> list[str]:
    """The files that decide what `build` finds: the lists themselves, and the listed files, whether there or not."""
    lists = [str(folder / name) for name in (LIST, GROUPS)]
    try:
        table = build(folder)
    except (OSError, ValueError):  # door 01 says what is wrong
        return lists
    return lists + [os.path.join(folder, path) for path in table["path"]]
