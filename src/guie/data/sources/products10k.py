"""Products-10K: `train/<name>` with `train.csv` (name,class,group); `test/<name>` with `test_kaggletest.csv`
(name,class,...), which may be absent."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from guie.data.catalogue import UNKNOWN, DataSet, KaggleCopy
from guie.data.sources import is_there, read_csv

SET = DataSet(
    title="Products-10K",
    page="https://products-10k.github.io/",
    licence=UNKNOWN,
    is_commercial=False,
    folder="products10k",
    whole=(("train", 141931, 9691),),
    how="follow the page's links, or Kaggle products-10k (an account); unpack train/ and train.csv into the folder",
    kaggle=KaggleCopy(
        "products-10k",
        (("train.csv", "train.csv"), ("train", "train")),
        "code on GitHub that reads products-10k/train.csv, and train/ or train/train/",
    ),
)

LISTS = {"train": "train.csv", "test": "test_kaggletest.csv"}


def build(folder: Path) -> pd.DataFrame:
    """Lists the set at `folder`. Both parts share their classes. Products of one `group` are hard to tell apart; the
    test list has no groups.

    Raises:
        FileNotFoundError: no `train.csv`.
        ValueError: a list lacks a column.
    """
    has_test = is_there(folder / LISTS["test"]) and (folder / "test").is_dir()
    return pd.concat(
        [_part(folder, split) for split in (["train", "test"] if has_test else ["train"])], ignore_index=True
    )


def _part(folder: Path, split: str) -> pd.DataFrame:
    table = read_csv(folder / LISTS[split], "name", "class")
    path = f"{split}/" + table["name"]  # both parts begin at 0.jpg, so the id must name the part
    return pd.DataFrame(
        {
            "image_id": path,
            "path": path,
            "source_label": table["class"],
            "split": split,
            "group": table.get("group", ""),
        }
    )
