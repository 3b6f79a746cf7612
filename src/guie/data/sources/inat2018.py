"""iNaturalist 2018: `train2018.json`, `val2018.json` with images (id, file_name) and annotations (image_id,
category_id).

A file_name is `train_val2018/<group>/<category>/<hash>.jpg`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from guie.data.catalogue import DataSet, Download
from guie.data.sources import is_there, need_keys, read_json, shared_group, table_of

HOST = "https://ml-inat-competition-datasets.s3.amazonaws.com/2018"
SET = DataSet(
    title="iNaturalist 2018",
    page="https://github.com/visipedia/inat_comp",
    licence="each image its own, most of them non-commercial",
    is_commercial=False,
    folder="inat2018",
    size="120 GB",
    whole=(("train and val", 437513 + 24426, 8142),),
    files=tuple(Download(f"{HOST}/{name}.tar.gz") for name in ("train2018.json", "val2018.json", "train_val2018")),
)


def build(folder: Path) -> pd.DataFrame:
    """Lists the set at `folder`; the list of the validation part may be absent.

    Raises:
        FileNotFoundError: no `train2018.json`.
        ValueError: a list does not have this form, or it annotates an image that it does not name.
    """
    has_val = is_there(folder / "val2018.json")
    rows = table_of(
        row
        for split in (["train", "val"] if has_val else ["train"])
        for row in _rows(folder / f"{split}2018.json", split)
    )
    return rows.assign(group=[shared_group("inat", path) for path in rows["path"]])


def _rows(path: Path, split: str) -> Iterator[tuple[str, str, str]]:
    lists = read_json(path, dict)
    need_keys(path, 0, lists, "images", "annotations")
    for number, entry in enumerate(lists["images"]):
        need_keys(path, number, entry, "id", "file_name")
    names = {entry["id"]: entry["file_name"] for entry in lists["images"]}
    for number, entry in enumerate(lists["annotations"]):
        need_keys(path, number, entry, "image_id", "category_id")
        if entry["image_id"] not in names:
            raise ValueError(
                f"{path}: annotation {number} is of image {entry['image_id']}, which `images` does not name"
            )
        yield names[entry["image_id"]], str(entry["category_id"]), split
