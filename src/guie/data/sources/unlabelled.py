"""Any folder of images without labels, at any depth: `<folder>/.../<image>`.

No score asks about such images. `embed.fit_on` may name them for the PCA, and the `sources` of a stage whose objective
needs no labels may name them for training.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from guie.data.image import EXTENSIONS
from guie.data.sources import folders_in, images_in, table_of
from guie.settings.data import UNLABELLED


def build(folder: Path) -> pd.DataFrame:
    """Lists all images below `folder`; other files and hidden names are skipped.

    Raises:
        FileNotFoundError: `folder` does not exist.
        ValueError: it holds no image.
    """
    paths = list(_images_below(folder))
    if not paths:
        kinds = " ".join(EXTENSIONS)
        raise ValueError(f"{folder} and its folders hold no image ({kinds}); point the source's folder elsewhere")
    return table_of((path, UNLABELLED, "") for path in paths)


def _images_below(top: Path) -> Iterator[str]:
    """The images below a folder, relative to it.

    A folder that several links lead to is listed once, so that a link to a folder above it ends.
    """
    seen: set[tuple[int, int]] = set()
    waiting = [""]
    while waiting:
        name = waiting.pop()
        folder = top / name
        deeper = folders_in(folder)
        state = folder.stat()
        if (state.st_dev, state.st_ino) in seen:
            continue
        seen.add((state.st_dev, state.st_ino))
        prefix = f"{name}/" if name else ""
        yield from (f"{prefix}{image}" for image in images_in(folder))
        waiting += [f"{prefix}{inner}" for inner in reversed(deeper)]
