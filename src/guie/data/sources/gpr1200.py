"""GPR1200: `images/<category>_<original name>.jpg`; the category is what stands before the first `_`.

Categories 0 to 199 are from Google Landmarks v2, 200 to 399 from iNaturalist, 800 to 999 from Stanford Online Products.
These images keep their original names, and the same things may also be in those sets.
`GPR1200_categoryNumber_to_text.json` of the authors' repository names the places; it may be absent.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from guie.data.catalogue import DataSet, KaggleCopy
from guie.data.manifest import GROUP_SEPARATOR
from guie.data.sources import images_in, is_there, need_folder, read_json, shared_group, table_of
from guie.data.sources.gldv2 import place_group

SET = DataSet(
    title="GPR1200",
    page="https://github.com/Visual-Computing/GPR1200",
    licence="non-commercial research",
    is_commercial=False,
    folder="gpr1200",
    whole=(("", 12000, 1200),),
    how=(
        "follow the page's link to the images; unpack images/ into the folder, and "
        "GPR1200_categoryNumber_to_text.json of the page beside it"
    ),
    kaggle=KaggleCopy(
        "mathurinache/gpr1200-dataset",
        (("images", "images"),),
        "code on GitHub that downloads it, and code that reads /kaggle/input/gpr1200-dataset/images",
    ),
)
ORIGINS = {range(200): "gldv2", range(200, 400): "inat", range(800, 1000): "sop"}


def build(folder: Path) -> pd.DataFrame:
    """Lists the set at `folder`; all of it is made for testing.

    Raises:
        FileNotFoundError: no folder `images`.
        ValueError: a name without `_`.
    """
    need_folder(folder / "images")
    names = images_in(folder / "images")
    wrong = [name for name in names if "_" not in name]
    if wrong or not names:
        raise ValueError(
            f"{folder / 'images'} holds {wrong[0]!r}, expected <category>_<name>.jpg"
            if wrong
            else f"{folder / 'images'} holds no image"
        )
    rows = table_of((f"images/{name}", name.split("_", 1)[0], "test") for name in names)
    texts = folder / "GPR1200_categoryNumber_to_text.json"
    places = read_json(texts, dict) if is_there(texts) else {}
    return rows.assign(group=[_group(name, places) for name in names])


def _group(image: str, places: dict[str, str]) -> str:
    category, original = image.split("_", 1)
    number = int(category) if category.isascii() and category.isdigit() else -1
    origin = next((name for numbers, name in ORIGINS.items() if number in numbers), "")
    if not origin:
        return ""
    group = shared_group(origin, original)
    return (
        f"{group}{GROUP_SEPARATOR}{place_group(places[category])}"
        if origin == "gldv2" and places.get(category)
        else group
    )
