"""Google Landmarks v2, training part: `train/<a>/<b>/<c>/<id>.jpg`, a, b, c being the first three characters of the id.

Three forms of its list are in use: CVDF's `train.csv` (id,url,landmark_id; 4,132,914 images), CVDF's `train_clean.csv`
(landmark_id,images with the ids separated by spaces; 1,580,470 images) and Kaggle's `train.csv` (id,landmark_id; the clean
subset). Where `train_clean.csv` lies beside `train.csv`, the clean list is read, as all winners did.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from guie.data.sources import read_csv


def build(folder: Path) -> pd.DataFrame:
    """Lists the set at `folder`, the one that holds `train/` and a list.

    Raises:
        FileNotFoundError: no list.
        ValueError: a list lacks a column, or an id is shorter than the three characters that place it.
    """
    clean = folder / "train_clean.csv"
    if clean.is_file():
        table = read_csv(clean, "landmark_id", "images")
        table = table.assign(id=table["images"].str.split()).explode("id").dropna(subset="id")
    else:
        table = read_csv(folder / "train.csv", "id", "landmark_id")
    ids = table["id"].astype(str)
    short = ids[ids.str.len() < 3]
    if len(short):
        raise ValueError(f"{folder}: the id {short.iloc[0]!r} has fewer than three characters; an image lies at train/<a>/<b>/<c>/<id>.jpg")
    path = "train/" + ids.str[0] + "/" + ids.str[1] + "/" + ids.str[2] + "/" + ids + ".jpg"
    return pd.DataFrame({"image_id": ids, "path": path, "source_label": table["landmark_id"], "split": "train"})
