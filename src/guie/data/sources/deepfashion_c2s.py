"""DeepFashion Consumer-to-shop: `Eval/list_eval_partition.txt` lists pairs of a consumer's and a shop's image, so
images repeat; images in `Img/` or `img/`."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from guie.data.catalogue import DataSet
from guie.data.sources import read_fields, table_of

SET = DataSet(
    title="DeepFashion Consumer-to-shop",
    page="https://mmlab.ie.cuhk.edu.hk/projects/DeepFashion/Consumer2ShopRetrieval.html",
    licence="non-commercial research",
    is_commercial=False,
    folder="deepfashion_c2s",
    whole=(("", 239557, 33881),),
    how="sign the agreement on the page; unpack Img/ and Eval/ into the folder",
)


def build(folder: Path) -> pd.DataFrame:
    """Lists each image of the pairs once; the class is the item.

    Raises:
        FileNotFoundError: no list.
        ValueError: a line does not have four fields.
    """
    pairs = read_fields(
        folder / "Eval/list_eval_partition.txt",
        "image_pair_name_1",
        "image_pair_name_2",
        "item_id",
        "evaluation_status",
        n_before=2,
    )
    start = "Img/" if (folder / "Img/img").is_dir() else ""  # the archive was unpacked into Img/, or beside Eval/
    rows = [(start + image, item, split) for first, second, item, split in pairs for image in (first, second)]
    return table_of(dict.fromkeys(rows))
