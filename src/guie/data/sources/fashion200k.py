"""Fashion200K: `women/<category>/<subcategory>/<id>/<image>`; the class is the product's id."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from guie.data.catalogue import UNKNOWN, DataSet, KaggleCopy
from guie.data.sources import folders_in, images_in, table_of

SET = DataSet(
    title="Fashion200K",
    page="https://github.com/xthan/fashion-200k",
    licence=UNKNOWN,
    is_commercial=False,
    folder="fashion200k",
    how="follow the page's link to the images; unpack women/ into the folder",
    kaggle=KaggleCopy(
        "mayukh18/fashion200k-dataset",
        (("women", "women"),),
        "github.com/soc12/6th-Place-Solution-to-Google-Universal-Image-Embedding, README.md",
    ),
)


def build(folder: Path) -> pd.DataFrame:
    """Lists the set at `folder`.

    Raises:
        FileNotFoundError: no folder `women`.
        ValueError: it holds no image at that depth.
    """
    rows = []
    for category in folders_in(folder / "women"):
        for subcategory in folders_in(folder / "women" / category):
            for product in folders_in(folder / "women" / category / subcategory):
                place = f"women/{category}/{subcategory}/{product}"
                rows += [(f"{place}/{image}", product, "") for image in images_in(folder / place)]
    if not rows:
        raise ValueError(f"{folder / 'women'} holds no <category>/<subcategory>/<id>/<image>; fetch the data set again")
    return table_of(rows)
