"""Food-101: `images/<class>/<id>.jpg`; `meta/train.txt`, `meta/test.txt` with lines class/id, without `.jpg`."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from guie.data.catalogue import UNKNOWN, DataSet, Download
from guie.data.sources import read_fields, table_of

SET = DataSet(
    title="Food-101",
    page="https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101/",
    licence=UNKNOWN,
    is_commercial=False,
    folder="food-101",
    size="5 GB",
    whole=(("", 101000, 101),),
    files=(Download("http://data.vision.ee.ethz.ch/cvl/food-101.tar.gz", "..", "85eeb15f3717b99a5da872d97d918f87"),),
)


def build(folder: Path) -> pd.DataFrame:
    """Lists the set at `folder`.

    Raises:
        FileNotFoundError: a list is missing.
        ValueError: a line is not class/id.
    """
    rows = []
    for split in ("train", "test"):
        path = folder / "meta" / f"{split}.txt"
        for (name,) in read_fields(path, "class/id"):
            if "/" not in name:
                raise ValueError(f"{path} holds the line {name!r}, expected class/id")
            rows.append((f"images/{name}.jpg", name.split("/", 1)[0], split))
    return table_of(rows)
