"""Grocery Store (M. Klasson): `train.txt`, `val.txt` and maybe `test.txt` with lines `path, fine_id, coarse_id`;
`classes.csv` names the ids."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from guie.data.catalogue import DataSet
from guie.data.sources import is_there, read_csv, read_lines

SET = DataSet(
    title="Grocery Store (M. Klasson)",
    page="https://github.com/marcusklasson/GroceryStoreDataset",
    licence="MIT",
    is_commercial=True,
    folder="grocery_store/dataset",
    whole=(("train and val", 2936, 81), ("with test", 5125, 81)),
    how="git clone https://github.com/marcusklasson/GroceryStoreDataset, and call the clone grocery_store",
)

NAME, NUMBER = "Class Name (str)", "Class ID (int)"


def build(folder: Path) -> pd.DataFrame:
    """Lists the set at `folder` (the one that holds `classes.csv`); the class is the fine one, by name.

    Raises:
        FileNotFoundError: a list or the classes are missing.
        ValueError: a line does not have three fields, or its class has no name.
    """
    classes = read_csv(folder / "classes.csv", NAME, NUMBER)
    names = {number.strip(): name.strip() for number, name in zip(classes[NUMBER], classes[NAME], strict=True)}
    splits = ["train", "val"] + (["test"] if is_there(folder / "test.txt") else [])
    rows = [(path, path, name, split) for split in splits for path, name in _lines(folder / f"{split}.txt", names)]
    return pd.DataFrame(rows, columns=["image_id", "path", "source_label", "split"], dtype=str)


def _lines(path: Path, names: dict[str, str]) -> list[tuple[str, str]]:
    found = []
    for number, line in enumerate(read_lines(path), 1):
        if not line.strip():
            continue
        parts = [part.strip() for part in line.rsplit(",", 2)]
        if len(parts) != 3:
            raise ValueError(f"{path} line {number} is {line!r}, expected 'path, fine_id, coarse_id'")
        if parts[1] not in names:
            raise ValueError(f"{path} line {number}: the class {parts[1]!r} is not in {path.with_name('classes.csv')}")
        found.append((parts[0], names[parts[1]]))
    return found
