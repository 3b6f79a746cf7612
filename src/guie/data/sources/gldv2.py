"""Google Landmarks v2, training part: `train/<a>/<b>/<c>/<id>.jpg`, a, b, c being the first three characters of the id.

Three forms of its list are in use: CVDF's `train.csv` (id,url,landmark_id; 4,132,914 images), CVDF's `train_clean.csv`
(landmark_id,images with the ids separated by spaces; 1,580,470 images) and Kaggle's `train.csv` (id,landmark_id; the clean
subset). Where `train_clean.csv` lies beside `train.csv`, the clean list is read, as all winners did.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from guie.data.catalogue import DataSet, Download
from guie.data.sources import is_there, read_csv

S3 = "https://s3.amazonaws.com/google-landmark"
SET = DataSet(
    title="Google Landmarks v2, train",
    page="https://github.com/cvdfoundation/google-landmark",
    licence="annotations CC BY 4.0; images CC BY, each its own (train_attribution.csv)",
    is_commercial=True,
    folder="gldv2",
    size="500 tars of 1 GB",
    whole=(("clean", 1580470, 0), ("full", 4132914, 0)),
    files=(
        *(Download(f"{S3}/metadata/{name}.csv") for name in ("train", "train_clean", "train_attribution")),
        *(Download(f"{S3}/train/images_{n:03d}.tar", "train", f"{S3}/md5sum/train/md5.images_{n:03d}.txt") for n in range(500)),
    ),
)


def build(folder: Path) -> pd.DataFrame:
    """Lists the set at `folder`, the one that holds `train/` and a list.

    Raises:
        FileNotFoundError: no list.
        ValueError: a list lacks a column, or an id is shorter than the three characters that place it.
    """
    clean = folder / "train_clean.csv"
    if is_there(clean):
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
