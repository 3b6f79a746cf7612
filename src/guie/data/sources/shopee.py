"""Shopee price match: `train_images/<image>`, `train.csv` with posting_id,image,image_phash,title,label_group; an image stands in several postings."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from guie.data.sources import read_csv, table_of


def build(folder: Path) -> pd.DataFrame:
    """Lists the set at `folder`, each image once for each of its groups.

    Raises:
        FileNotFoundError: no `train.csv`.
        ValueError: it lacks a column.
    """
    table = read_csv(folder / "train.csv", "image", "label_group").drop_duplicates(["image", "label_group"])
    return table_of((f"train_images/{image}", label, "train") for image, label in zip(table["image"], table["label_group"], strict=True))
