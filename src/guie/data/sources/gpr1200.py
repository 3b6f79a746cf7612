"""GPR1200: `images/<category>_<original name>.jpg`; the category is what stands before the first `_`."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from guie.data.catalogue import DataSet
from guie.data.sources import images_in, need_folder, table_of

SET = DataSet(
    title="GPR1200",
    page="https://github.com/Visual-Computing/GPR1200",
    licence="non-commercial research",
    is_commercial=False,
    folder="gpr1200",
    whole=(("", 12000, 1200),),
    how="follow the page's link to the images; unpack images/ into the folder",
)


def build(folder: Path) -> pd.DataFrame:
    """Lists the set at `folder`; all of it is made for testing.

    Raises:
        FileNotFoundError: no folder `images`.
        ValueError: a name without `_`.
    """
    need_folder(folder / "images")
    names = images_in(folder / "images")
    wrong = [name for name in names if "_" not in name]
    if wrong or not names:
        raise ValueError(f"{folder / 'images'} holds {wrong[0]!r}, expected <category>_<name>.jpg" if wrong else f"{folder / 'images'} holds no image")
    return table_of((f"images/{name}", name.split("_", 1)[0], "test") for name in names)
