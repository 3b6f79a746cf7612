"""RP2K: `train/<class>/<image>`, `test/<class>/<image>` (below `all/` in the archive); classes have Chinese names,
which some tools unzip as `#U674e#U5b50`."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

import pandas as pd

from guie.data.catalogue import UNKNOWN, DataSet
from guie.data.sources import folders_in, images_in, need_folder, table_of

SET = DataSet(
    title="RP2K",
    page="https://www.pinlandata.com/rp2k_dataset",
    licence=UNKNOWN,
    is_commercial=False,
    folder="rp2k",
    how="follow the page's link; unpack rp2k_dataset.zip, which holds all/, into the folder",
)


def build(folder: Path) -> pd.DataFrame:
    """Lists the set at `folder`; a class is named in Chinese whichever way its folder was unzipped, its path as it lies
    on disk.

    Raises:
        FileNotFoundError: no folder `train`.
    """
    need_folder(folder)
    start = "all/" if (folder / "all").is_dir() else ""
    need_folder(folder / start / "train")
    rows = []
    for split in ("train", "test"):
        part = folder / start / split
        for name in folders_in(part) if part.is_dir() else []:
            rows += [(f"{start}{split}/{name}/{image}", class_name(name), split) for image in images_in(part / name)]
    return table_of(rows)


def class_name(folder: str) -> str:
    """The name that a folder stands for: `#Uxxxx` back to its character, in Unicode's composed form."""
    return unicodedata.normalize("NFC", re.sub(r"#U([0-9a-fA-F]{4})", lambda code: chr(int(code[1], 16)), folder))
