"""DeepFashion Consumer-to-shop as re-packed on Kaggle: `deepfashion_train.json` holds {group: {item: [paths]}}; the
class is the folder of an image."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pandas as pd

from guie.data.catalogue import DataSet, KaggleCopy
from guie.data.sources import read_json, table_of

SET = DataSet(
    title="DeepFashion Consumer-to-shop, re-packed",
    page="https://www.kaggle.com/datasets/sangamman/deepfashion-consumer-to-shop-training",
    licence="non-commercial research",
    is_commercial=False,
    folder="deepfashion_c2s",
    how="kaggle datasets download sangamman/deepfashion-consumer-to-shop-training (an account)",
    kaggle=KaggleCopy(
        "sangamman/deepfashion-consumer-to-shop-training",
        (("deepfashion_train.json", "deepfashion_train.json"),),
        "github.com/morrisfl/UniFEx, README.md",
    ),
)


def build(folder: Path) -> pd.DataFrame:
    """Lists the set at `folder`.

    Raises:
        FileNotFoundError: no list.
        ValueError: it does not have this form.
    """
    return table_of(dict.fromkeys(_rows(folder / "deepfashion_train.json")))


def _rows(path: Path) -> Iterator[tuple[str, str, str]]:
    for group, items in read_json(path, dict).items():
        if not isinstance(items, dict) or not all(isinstance(paths, list) for paths in items.values()):
            raise ValueError(f"{path}: group {group!r} is {items!r:.80}, expected an object of lists of paths")
        for paths in items.values():
            yield from ((image, str(PurePosixPath(image).parent), "train") for image in paths)
