"""Shopee price match: `train_images/<image>`, `train.csv` with posting_id,image,image_phash,title,label_group; several
postings may share an image."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from guie.data.catalogue import DataSet, KaggleCopy
from guie.data.sources import read_csv, table_of

SET = DataSet(
    title="Shopee",
    page="https://www.kaggle.com/c/shopee-product-matching",
    licence="the contest's rules",
    is_commercial=False,
    folder="shopee",
    whole=(("repeated images removed", 32412, 11011),),
    how="kaggle competitions download shopee-product-matching (an account, and its rules accepted)",
    kaggle=KaggleCopy(
        "shopee-product-matching",
        (("train.csv", "train.csv"), ("train_images", "train_images")),
        "code on GitHub that reads /kaggle/input/competitions/shopee-product-matching/train_images",
    ),
)


def build(folder: Path) -> pd.DataFrame:
    """Lists the set at `folder`, each image once for each of its label groups (classes). Classes that share a picture
    (image_phash) are near-twins.

    Raises:
        FileNotFoundError: no `train.csv`.
        ValueError: it lacks a column.
    """
    table = read_csv(folder / "train.csv", "image", "label_group").drop_duplicates(["image", "label_group"])
    rows = table_of(
        (f"train_images/{image}", label, "train")
        for image, label in zip(table["image"], table["label_group"], strict=True)
    )
    return rows.assign(group=table["image_phash"].to_numpy() if "image_phash" in table else "")
