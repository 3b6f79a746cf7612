"""The 130k images that look like the contest's (Kaggle, rhtsingh): `<domain>/<image>`, `train.csv` with
label,image_name."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from guie.data.catalogue import UNKNOWN, DataSet, KaggleCopy
from guie.data.sources import folders_in, read_csv, table_of

SET = DataSet(
    title="130k look-alikes of the contest's domains",
    page="https://www.kaggle.com/datasets/rhtsingh/130k-images-512x512-universal-image-embeddings",
    licence=UNKNOWN,
    is_commercial=False,
    folder="lookalike130k",
    how="the data set of the Kaggle user rhtsingh (an account)",
    kaggle=KaggleCopy(
        "rhtsingh/130k-images-512x512-universal-image-embeddings",
        (("train.csv", "train.csv"),),
        "github.com/riron1206/kaggle-Google-Universal-Image-Embedding-Competition-5th-Place-Solution, README.md",
    ),
)


def build(folder: Path) -> pd.DataFrame:
    """Lists the set at `folder`; an image's label and its folder are each one of eleven domains.

    Raises:
        FileNotFoundError: no `train.csv`.
        ValueError: it lacks a column, or an image lies in two folders.
    """
    table = read_csv(folder / "train.csv", "label", "image_name")
    place: dict[str, str] = {}
    for domain in folders_in(folder):
        for entry in (folder / domain).iterdir():
            if entry.name in place:
                raise ValueError(
                    f"{folder}: {entry.name} lies in {place[entry.name]} and in {domain}; train.csv does not say which "
                    "is meant"
                )
            place[entry.name] = domain
    names = zip(table["image_name"], table["label"], strict=True)
    # An image that is in no folder gets its label's, and door 01 reports it as missing.
    return table_of((f"{place.get(name, label)}/{name}", label, "train") for name, label in names)
