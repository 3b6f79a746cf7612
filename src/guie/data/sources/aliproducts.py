"""AliProducts (Tianchi 231780): `<part>/<class_id>/<image>`, nine training parts and maybe `val`; a class lies in
several parts."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from guie.data.catalogue import DataSet
from guie.data.sources import folders_in, images_in, table_of

SET = DataSet(
    title="AliProducts",
    page="https://retailvisionworkshop.github.io/recognition_challenge_2020/",
    licence="the challenge's terms",
    is_commercial=False,
    folder="aliproducts",
    size="nine archives",
    how="Tianchi data set 231780 (an account): unpack train_val.part1.tar.gz to part9 into the folder",
)


def build(folder: Path) -> pd.DataFrame:
    """Lists the set at `folder`; folders of the same name in different parts are one class.

    Raises:
        FileNotFoundError: `folder` does not exist.
        ValueError: it holds no `<part>/<class_id>/<image>`.
    """
    rows = []
    for part in folders_in(folder):
        for name in folders_in(folder / part):
            rows += [
                (f"{part}/{name}/{image}", name, "val" if part == "val" else "train")
                for image in images_in(folder / part / name)
            ]
    if not rows:
        raise ValueError(f"{folder} holds no <part>/<class_id>/<image>; point the source's folder one level up or down")
    return table_of(rows)
