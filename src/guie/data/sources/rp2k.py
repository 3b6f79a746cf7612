"""RP2K: `train/<class>/<image>`, `test/<class>/<image>` (below `all/` in the archive). Classes have Chinese names,
which some tools unzip as `#U674e#U5b50`."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

import pandas as pd

from guie.data.catalogue import UNKNOWN, DataSet, KaggleCopy
from guie.data.sources import folders_in, images_in, need_folder, table_of

SET = DataSet(
    title="RP2K",
    page="https://www.pinlandata.com/rp2k_dataset",
    licence=UNKNOWN,
    is_commercial=False,
    folder="rp2k",
    how="follow the page's link; unpack rp2k_dataset.zip, which holds all/, into the folder",
    kaggle=KaggleCopy(
        "khyeh0719/rp2k-dataset",
        (("all", "all"),),
        "READMEs on GitHub that link kaggle.com/datasets/khyeh0719/rp2k-dataset and read rp2k_dataset/all/train",
    ),
)


def build(folder: Path) -> pd.DataFrame:
    """Lists the set at `folder`. The label is the class's Chinese name, however its folder was unzipped; the path is
    the one on disk.

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
    """The class name of a folder: `#Uxxxx` is replaced by its character, in Unicode's composed form (NFC)."""
    return unicodedata.normalize("NFC", re.sub(r"#U([0-9a-fA-F]{4})", lambda code: chr(int(code[1], 16)), folder))
