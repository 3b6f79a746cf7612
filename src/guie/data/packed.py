"""The packed images that door 03 wrote: their index, and each JPEG read by its byte offset."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from guie.data.manifest import BALANCED_COLUMNS, read_manifest
from guie.errors import is_of_the_machine
from guie.run import Run
from guie.settings.data import UNLABELLED
from guie.settings.fields import nearest

PLACE_COLUMNS = ("shard", "offset", "size", "width", "height", "original_width", "original_height")
INDEX_COLUMNS = (*BALANCED_COLUMNS, "repeats", *PLACE_COLUMNS)
NEVER = "never"  # split of a foreign domain's validation images: asked about, never seen
GIVEN = "given"  # split of its training images: not trained on; a refit may see them, without labels
HIDDEN = "hidden"  # split of images without labels whose source names it: neither trained on, fitted on nor given


class PackedImages:
    """The packed images of a run, by their row in the index.

    Holds no open file: it may be pickled and used after a fork.

    Args:
        folder: A run's `03_packed`.
        foreign_domain: See `guie.settings.data.Data`. Its images are in neither `train`, `val` nor `unlabelled`, but in
            `NEVER`, `GIVEN` and `HIDDEN`; the rows keep their order.

    Attributes:
        index: One row per image, sorted by (split, class_id, image_id) as they were packed; columns as in
            `INDEX_COLUMNS`.

    Raises:
        FileNotFoundError: the folder has no index.
        ValueError: no image with a label is of the foreign domain, or no other one can be trained on.
    """

    def __init__(self, folder: Path, foreign_domain: str = "") -> None:
        """Reads the index."""
        self.folder = folder
        self.index = read_manifest(folder / "index.parquet", INDEX_COLUMNS)
        if foreign_domain:
            self.index["split"] = _without(self.index, foreign_domain)
        self._shards = self.index["shard"].tolist()
        self._places = self.index[["offset", "size"]].to_numpy(dtype=np.int64)

    def __len__(self) -> int:
        """Number of images."""
        return len(self._shards)

    def read_bytes(self, i: int) -> bytes:
        """The JPEG file of the image in row `i`."""
        offset, size = self._places[i].tolist()
        descriptor = os.open(self.folder / self._shards[i], os.O_RDONLY)
        try:
            return os.pread(descriptor, size, offset)
        finally:
            os.close(descriptor)

    def read(self, i: int, least_px: int = 0) -> np.ndarray:
        """The pixels of the image in row `i`: uint8 [height, width, 3], RGB.

        Args:
            i: The row.
            least_px: Length that both sides must keep. An image of at least twice that is decoded at a half, quarter or
                eighth of its size, which is faster; 0 decodes it in full.

        Raises:
            ValueError: the shard was damaged after it was packed.
        """
        try:
            with Image.open(io.BytesIO(self.read_bytes(i)), formats=("JPEG",)) as image:
                if least_px:
                    image.draft("RGB", (least_px, least_px))
                return np.array(image)
        except (OSError, SyntaxError) as error:
            if is_of_the_machine(error):
                raise
            raise ValueError(
                f"{self.folder / self._shards[i]} is damaged at image {i} ({error}); delete that file and run door 03 "
                "again"
            ) from error


def images_of(run: Run) -> PackedImages:
    """The packed images of a run, in the splits that its recipe's foreign domain leaves them.

    Raises:
        FileNotFoundError: door 03 has not finished.
        ValueError: see `PackedImages`.
    """
    return PackedImages(run.folder(3), run.recipe.data.foreign_domain)


def _without(index: pd.DataFrame, domain: str) -> pd.Series:
    """The splits of the images where nothing of a domain may be seen.

    Raises:
        ValueError: no image with a label is of this domain, or no other one can be trained on.
    """
    is_foreign = index["domain"] == domain
    is_unlabelled = index["split"] == UNLABELLED
    if not (is_foreign & ~is_unlabelled).any():
        there = sorted(index["domain"][~is_unlabelled].unique())
        raise ValueError(f"data.foreign_domain is {domain!r}, of which there is no image; {nearest(domain, there)}")
    if not (~is_foreign & (index["split"] == "train")).any():
        raise ValueError(
            f"data.foreign_domain is {domain!r}, and no other domain has a training image: nothing is left to train on"
        )
    own = np.select([index["split"] == "val", is_unlabelled], [NEVER, HIDDEN], GIVEN)
    return index["split"].mask(is_foreign, pd.Series(own, index.index))
