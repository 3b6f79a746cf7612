"""One module per layout of a public data set, each with one pure function `build(folder) -> DataFrame`.

The name of the module is the `kind` of a recipe's source. `build` lists what the set's own files name, with the columns
image_id (unique and stable, without the source's name), path (relative to `folder`), source_label and split (the set's own:
train, val, test or ''). Everything is text: an id such as 0012 keeps its zeros. Whether the images exist is not its concern.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd


def read_csv(path: Path, *columns: str) -> pd.DataFrame:
    """A table of texts; 'NA' and '' stay what they are.

    Args:
        path: The file.
        columns: The columns that must be there.

    Raises:
        FileNotFoundError: no such file, or no such folder.
        ValueError: it is no table, or lacks a column.
    """
    need_file(path)
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except ValueError as error:  # pandas' EmptyDataError and ParserError, and bytes that are no UTF-8
        raise ValueError(f"{path} is no table of comma-separated values: {error}") from error
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise ValueError(f"{path} lacks {', '.join(missing)}: expected the columns {', '.join(columns)}, found {', '.join(table.columns)}")
    return table


def need_file(path: Path) -> None:
    """FileNotFoundError, saying what lies there instead, unless `path` is a file."""
    if path.is_file():
        return
    if not path.parent.is_dir():
        raise FileNotFoundError(f"the folder {path.parent} does not exist; put the data set there, or point --data-root or the source's folder elsewhere")
    there = sorted(entry.name for entry in path.parent.iterdir())[:5]
    raise FileNotFoundError(f"{path} does not exist; the folder holds {', '.join(there) or 'nothing'}. Point the source's folder at the right place")
