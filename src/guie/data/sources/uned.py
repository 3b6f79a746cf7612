"""UnED's splits of eight sets: `info_files/<set>/<split>.json`, a list of {path, class_id}; images below `images/`,
beside `info_files/`.

A source's folder is one of `info_files/<set>`. If `class_id` is a list, its first entry is the class. Images of no
class (-1, or an empty list) are distractors, each a class of its own. RP2K's images may have their `#Uxxxx` names.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from guie.data.catalogue import DataSet
from guie.data.sources import is_there, need_folder, need_keys, read_json, shared_group, table_of

SET = DataSet(
    title="UnED's splits of eight sets",
    page="https://github.com/nikosips/Universal-Image-Embeddings",
    licence="those of the eight sets",
    is_commercial=False,
    folder="uned",
    how="follow the page: info_files/ and images/",
)

IMAGES = "../../images/"
TAKEN_FROM = ("gldv2", "inat", "sop")  # GPR1200 and the sets' own sources also hold these sets' images
SPLITS = {"train": "train", "val": "val", "test": "test", "index": "test"}  # met's small_index is a part of its index


def build(folder: Path) -> pd.DataFrame:
    """Lists the set at `folder`, one of `info_files/<set>`; an image in two splits belongs to the first.

    Raises:
        FileNotFoundError: the folder has no list of a split.
        ValueError: a list does not have this form.
    """
    need_folder(folder)
    lists = [(folder / f"{name}.json", split) for name, split in SPLITS.items() if is_there(folder / f"{name}.json")]
    if not lists:
        raise FileNotFoundError(
            f"{folder} holds none of {', '.join(f'{name}.json' for name in SPLITS)}; point the source's folder at "
            "info_files/<set>"
        )
    frame = table_of(row for path, split in lists for row in _rows(path, split, folder / IMAGES))
    frame["image_id"] = frame["path"].str.removeprefix(IMAGES)
    frame["group"] = [shared_group(folder.name, path) for path in frame["path"]] if folder.name in TAKEN_FROM else ""
    return frame.drop_duplicates(["path", "source_label"], ignore_index=True)


def _rows(path: Path, split: str, images: Path) -> Iterator[tuple[str, str, str]]:
    for number, entry in enumerate(read_json(path, list)):
        need_keys(path, number, entry, "path", "class_id")
        classes = entry["class_id"] if isinstance(entry["class_id"], list) else [entry["class_id"]]
        image = str(entry["path"])
        label = str(classes[0]) if classes and classes[0] != -1 else f"distractor {image}"
        if not image.isascii() and not (images / image).exists():
            image = "".join(c if c.isascii() else f"#U{ord(c):04x}" for c in image)
        yield IMAGES + image, label, split
