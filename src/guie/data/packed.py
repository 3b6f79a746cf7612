"""The packed images that door 03 wrote: their index, and each JPEG read by its byte offset."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
from PIL import Image

from guie.data.manifest import BALANCED_COLUMNS, read_manifest
from guie.errors import is_of_the_machine

PLACE_COLUMNS = ("shard", "offset", "size", "width", "height", "original_width", "original_height")
INDEX_COLUMNS = (*BALANCED_COLUMNS, "repeats", *PLACE_COLUMNS)


class PackedImages:
    """The packed images of a run, by their row in the index.

    Holds no open file: it may be pickled and used after a fork.

    Args:
        folder: A run's `03_packed`.

    Attributes:
        index: One row per image, sorted by (split, class_id, image_id); columns as in `INDEX_COLUMNS`.

    Raises:
        FileNotFoundError: the folder has no index.
    """

    def __init__(self, folder: Path) -> None:
        """Reads the index."""
        self.folder = folder
        self.index = read_manifest(folder / "index.parquet", INDEX_COLUMNS)
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
