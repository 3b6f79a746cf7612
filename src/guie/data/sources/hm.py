"""H&M: `images/<first three characters>/<article_id>.jpg`, `articles.csv`; the class is product_code: an article's
colours are one product.

An article_id has ten characters and begins with 0. Lists that lost this zero in a spreadsheet are read, too. Some
articles have no image.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from guie.data.catalogue import DataSet, KaggleCopy
from guie.data.sources import need_folder, read_csv, table_of

SET = DataSet(
    title="H&M",
    page="https://www.kaggle.com/c/h-and-m-personalized-fashion-recommendations",
    licence="the contest's rules",
    is_commercial=False,
    folder="hm",
    how=(
        "kaggle competitions download h-and-m-personalized-fashion-recommendations (an account, and its rules accepted)"
    ),
    kaggle=KaggleCopy(
        "h-and-m-personalized-fashion-recommendations",
        (("articles.csv", "articles.csv"), ("images", "images")),
        "torch_geometric.datasets.HM, and code on GitHub that lists its articles.csv and images/010",
    ),
)


def build(folder: Path) -> pd.DataFrame:
    """Lists the articles at `folder` whose image exists: the published set lacks some hundred images.

    Raises:
        FileNotFoundError: no `articles.csv`, or no folder `images`.
        ValueError: it lacks a column.
    """
    table = read_csv(folder / "articles.csv", "article_id", "product_code")
    need_folder(folder / "images")
    there = {path.name for path in (folder / "images").glob("*/*.jpg")}
    articles = zip(table["article_id"].str.zfill(10), table["product_code"], strict=True)
    return table_of(
        (f"images/{article[:3]}/{article}.jpg", product, "train")
        for article, product in articles
        if f"{article}.jpg" in there
    )
