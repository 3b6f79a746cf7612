"""Stanford Cars: `cars_annos.mat`, whose `annotations` name `car_ims/000001.jpg`, the class from 1 to 196 and whether
it is for testing."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import scipy.io

from guie.data.catalogue import UNKNOWN, DataSet
from guie.data.sources import need_file, table_of

SET = DataSet(
    title="Stanford Cars",
    page="https://github.com/pytorch/vision/issues/7545",
    licence=UNKNOWN,
    is_commercial=False,
    folder="cars196",
    whole=(("", 16185, 196),),
    how="the authors' site is gone; of a mirror put cars_annos.mat and car_ims/ into the folder",
)

PATH, CLASS, IS_TEST = 0, 5, 6  # places of the fields; their names differ between copies


def build(folder: Path) -> pd.DataFrame:
    """Lists the set at `folder`; classes are named by their numbers, as in the split of metric learning (1 to 98 for
    training, 99 to 196 for testing).

    Raises:
        FileNotFoundError: no `cars_annos.mat`.
        ValueError: the file is damaged or another one.
    """
    path = folder / "cars_annos.mat"
    need_file(path)
    try:
        entries = scipy.io.loadmat(path, squeeze_me=True)["annotations"]
        rows = [
            (str(entry[PATH]), str(int(entry[CLASS])), "test" if int(entry[IS_TEST]) else "train")
            for entry in map(tuple, entries)
        ]
    except Exception as error:  # scipy has errors of its own for each kind of damage
        raise ValueError(
            f"{path} is not the annotations of Stanford Cars ({type(error).__name__}: {error}); fetch it again"
        ) from error
    return table_of(rows)
