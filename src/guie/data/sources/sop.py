"""Stanford Online Products: `Ebay_train.txt`, `Ebay_test.txt` with image_id class_id super_class_id path; class ids
are numbered across both lists."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from guie.data.catalogue import DataSet, KaggleCopy
from guie.data.sources import read_fields, shared_group, table_of

SET = DataSet(
    title="Stanford Online Products",
    page="https://cvgl.stanford.edu/projects/lifted_struct/",
    licence="see the LICENSE in its archive",
    is_commercial=False,
    folder="sop",
    whole=(("", 120053, 22634),),
    how="follow the page's link; unpack Stanford_Online_Products.zip and call its folder sop",
    kaggle=KaggleCopy(
        "liucong12601/stanford-online-products-dataset",
        (("Ebay_train.txt", "Ebay_train.txt"), ("Ebay_test.txt", "Ebay_test.txt")),
        "code on GitHub that calls kagglehub with it and reads Ebay_train.txt beside the images",
    ),
)


def build(folder: Path) -> pd.DataFrame:
    """Lists the set at `folder`. The twelve super classes (bicycle, sofa, ...) are kinds of products, not near-twins,
    and make no groups.

    Raises:
        FileNotFoundError: a list is missing.
        ValueError: a line does not have four fields.
    """
    names = ("image_id", "class_id", "super_class_id", "path")
    lists = {split: read_fields(folder / f"Ebay_{split}.txt", *names, n_before=1) for split in ("train", "test")}
    rows = table_of((path, label, split) for split, lines in lists.items() for _, label, _, path in lines)
    return rows.assign(group=[shared_group("sop", path) for path in rows["path"]])
