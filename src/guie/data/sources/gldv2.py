"""Google Landmarks v2, training part: `train/<a>/<b>/<c>/<id>.jpg`, a, b, c being the first three characters of the id.

Three forms of its list are in use: CVDF's `train.csv` (id,url,landmark_id; 4,132,914 images), CVDF's `train_clean.csv`
(landmark_id,images with the ids separated by spaces; 1,580,470 images) and Kaggle's `train.csv` (id,landmark_id; the
clean subset). Where `train_clean.csv` lies beside `train.csv`, the clean list is read, as all winners did.
`train_label_to_category.csv` (landmark_id,category: a page of Wikimedia Commons) may be absent. It tells which
landmarks are also in other sets, whose landmark ids differ.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

import pandas as pd

from guie.data.catalogue import DataSet, Download, KaggleCopy
from guie.data.manifest import GROUP_SEPARATOR
from guie.data.sources import SHARED, is_there, read_csv, shared_group

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
        *(
            Download(f"{S3}/metadata/{name}.csv")
            for name in ("train", "train_clean", "train_attribution", "train_label_to_category")
        ),
        *(
            Download(f"{S3}/train/images_{n:03d}.tar", "train", f"{S3}/md5sum/train/md5.images_{n:03d}.txt")
            for n in range(500)
        ),
    ),
    kaggle=KaggleCopy(
        "landmark-recognition-2021",
        (("train.csv", "train.csv"), ("train", "train")),
        "github.com/morrisfl/UniFEx, README.md",
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
        raise ValueError(
            f"{folder}: the id {short.iloc[0]!r} has fewer than three characters; an image lies at "
            "train/<a>/<b>/<c>/<id>.jpg"
        )
    path = "train/" + ids.str[0] + "/" + ids.str[1] + "/" + ids.str[2] + "/" + ids + ".jpg"
    group = groups_of(ids, table["landmark_id"], folder / "train_label_to_category.csv")
    return pd.DataFrame(
        {"image_id": ids, "path": path, "source_label": table["landmark_id"], "split": "train", "group": group}
    )


def groups_of(ids: pd.Series, landmarks: pd.Series, categories: Path) -> list[str]:
    """The groups of each image: the image itself, and the landmark's category on Wikimedia Commons if the list
    `categories` exists."""
    groups = [shared_group("gldv2", image) for image in ids]
    if not is_there(categories):
        return groups
    table = read_csv(categories, "landmark_id", "category")
    table = table[table["category"] != ""]
    place = dict(zip(table["landmark_id"], map(place_group, table["category"]), strict=True))
    return [
        f"{group}{GROUP_SEPARATOR}{place[landmark]}" if landmark in place else group
        for group, landmark in zip(groups, landmarks, strict=True)
    ]


def place_group(category: str) -> str:
    """The group of a place by its category. `http://commons.wikimedia.org/wiki/Category:Lake_Louise` and `Lake Louise`
    give the same group."""
    return f"{SHARED}place/{unquote(category).rpartition('Category:')[2].replace('_', ' ').strip()}"
