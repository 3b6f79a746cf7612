"""Any set with a list of its own: `images.csv` with path,label and maybe domain, split and group; paths are relative to
the folder."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from guie.data.sources import read_csv


def build(folder: Path) -> pd.DataFrame:
    """Lists the set at `folder`. An image whose domain is empty or absent gets the source's.

    Raises:
        FileNotFoundError: no `images.csv`.
        ValueError: it lacks a column.
    """
    table = read_csv(folder / "images.csv", "path", "label")
    more = {name: table.get(name, "") for name in ("split", "domain", "group")}
    return pd.DataFrame({"image_id": table["path"], "path": table["path"], "source_label": table["label"], **more})
