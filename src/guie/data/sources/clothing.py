"""Clothing dataset (A. Grigorev): `images.csv` with image,sender_id,label,kids and `images/<image>.jpg`."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from guie.data.catalogue import DataSet, KaggleCopy
from guie.data.sources import read_csv

SET = DataSet(
    title="Clothing (A. Grigorev)",
    page="https://github.com/alexeygrigorev/clothing-dataset",
    licence="CC0",
    is_commercial=True,
    folder="clothing",
    how="clone the repository, or Kaggle agrigorev/clothing-dataset-full (an account): images.csv and images/",
    kaggle=KaggleCopy(
        "agrigorev/clothing-dataset-full",
        (("images.csv", "images.csv"), ("images", "images_original")),
        "code on GitHub that reads /kaggle/input/clothing-dataset-full/images_original and images.csv",
    ),
)

NO_CLASS = ("Not sure", "Other", "Skip")  # answers of the annotators that name no class


def build(folder: Path) -> pd.DataFrame:
    """Lists the set at `folder`; images that the annotators did not assign to a class are left out.

    Raises:
        FileNotFoundError: no `images.csv`.
        ValueError: it lacks a column.
    """
    table = read_csv(folder / "images.csv", "image", "label")
    table = table[~table["label"].isin(NO_CLASS)]
    return pd.DataFrame(
        {
            "image_id": table["image"],
            "path": "images/" + table["image"] + ".jpg",
            "source_label": table["label"],
            "split": "",
        }
    )
