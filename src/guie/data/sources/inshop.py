"""DeepFashion In-Shop: `Eval/list_eval_partition.txt` with image_name item_id evaluation_status (train, query,
gallery); images in `Img/img/` or `img/`."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from guie.data.catalogue import DataSet
from guie.data.sources import read_fields, table_of

SET = DataSet(
    title="DeepFashion In-Shop",
    page="https://mmlab.ie.cuhk.edu.hk/projects/DeepFashion/InShopRetrieval.html",
    licence="non-commercial research",
    is_commercial=False,
    folder="inshop",
    whole=(("", 52712, 7982),),
    how="sign the agreement on the page; unpack Img/img.zip and Eval/ into the folder",
)

SPLITS = {"train": "train", "query": "test", "gallery": "test"}


def build(folder: Path) -> pd.DataFrame:
    """Lists the set at `folder`; queries and gallery are its test part.

    Raises:
        FileNotFoundError: no list.
        ValueError: a line does not have three fields, or its status is unknown.
    """
    path = folder / "Eval/list_eval_partition.txt"
    lines = read_fields(path, "image_name", "item_id", "evaluation_status", n_before=2)
    for image, _, status in lines:
        if status not in SPLITS:
            raise ValueError(f"{path}: the status of {image} is {status!r}, must be one of {', '.join(SPLITS)}")
    start = "Img/" if (folder / "Img/img").is_dir() else ""
    return table_of((start + image, item, SPLITS[status]) for image, item, status in lines)
