"""Any set with one folder for each class: `<folder>/<class>/<image>`."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from guie.data.image import EXTENSIONS


def build(folder: Path) -> pd.DataFrame:
    """Lists the images in the folders below `folder`; other files and hidden names are passed over.

    Raises:
        FileNotFoundError: `folder` does not exist.
        ValueError: it holds no class folder with images.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"the folder {folder} does not exist; put the data set there, or point --data-root or the source's folder elsewhere")
    classes = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    rows = [(f"{name}/{image}", f"{name}/{image}", name, "") for name in classes for image in _images(folder / name)]
    if not rows:
        kinds = " ".join(EXTENSIONS)
        raise ValueError(f"{folder} holds {len(classes)} folders and no <class>/<image> ({kinds}); point the source's folder one level up or down")
    return pd.DataFrame(rows, columns=["image_id", "path", "source_label", "split"], dtype=str)


def _images(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir() if entry.suffix.lower() in EXTENSIONS and not entry.name.startswith("."))
