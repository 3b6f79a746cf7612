"""The Met: `ground_truth/MET_database.json` (or the mini one), a list of {id, path}; `valset.json` and `testset.json`,
lists of {path, MET_id?}; images below `images/`.

A query without MET_id shows no object of the museum: it is a distractor. It becomes a class with a single image, so
that no other image counts as its match.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from guie.data.catalogue import UNKNOWN, DataSet, KaggleCopy
from guie.data.sources import is_there, need_keys, read_json, table_of

SET = DataSet(
    title="The Met",
    page="http://cmp.felk.cvut.cz/met/",
    licence=UNKNOWN,
    is_commercial=False,
    folder="met",
    size="32 GB",
    whole=(("train", 397121, 224408), ("mini", 38307, 33501)),
    how="follow the page's links; unpack the images into images/ and the ground truth into ground_truth/",
    kaggle=KaggleCopy(
        "dschettler8845/the-met-dataset",
        (("ground_truth", "ground_truth"), ("images", "MET")),
        "code on GitHub that lists the tree of kaggle.com/datasets/dschettler8845/the-met-dataset",
    ),
)

DATABASES = ("MET_database.json", "mini_MET_database.json")
QUERIES = {"valset.json": "val", "testset.json": "test"}


def build(folder: Path) -> pd.DataFrame:
    """Lists the set at `folder`: the full database, or the mini one if there is no other, and the lists of queries that
    exist.

    Raises:
        FileNotFoundError: no database.
        ValueError: a list does not have this form.
    """
    return table_of(_rows(folder / "ground_truth"))


def _rows(lists: Path) -> Iterator[tuple[str, str, str]]:
    database = next((lists / name for name in DATABASES if is_there(lists / name)), lists / DATABASES[0])
    for number, entry in enumerate(read_json(database, list)):
        need_keys(database, number, entry, "id", "path")
        yield f"images/{entry['path']}", str(entry["id"]), "train"
    for name, split in QUERIES.items():
        if not is_there(lists / name):
            continue
        for number, entry in enumerate(read_json(lists / name, list)):
            need_keys(lists / name, number, entry, "path")
            yield f"images/{entry['path']}", str(entry.get("MET_id", f"distractor {entry['path']}")), split
