"""Any set with one folder for each class: `<folder>/<class>/<image>`."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from guie.data.image import EXTENSIONS
from guie.data.sources import folders_in, images_in, table_of


def build(folder: Path) -> pd.DataFrame:
    """Lists the images in the folders below `folder`; other files and hidden names are skipped.

    Raises:
        FileNotFoundError: `folder` does not exist.
        ValueError: it holds no class folder with images.
    """
    classes = folders_in(folder)
    rows = [(f"{name}/{image}", name, "") for name in classes for image in images_in(folder / name)]
    if not rows:
        kinds = " ".join(EXTENSIONS)
        raise ValueError(
            f"{folder} holds {len(classes)} folders and no <class>/<image> ({kinds}); point the source's folder one "
            "level up or down"
        )
    return table_of(rows)
