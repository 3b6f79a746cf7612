"""The packed images as the report shows them: label, file, and a picture that is as large as the page has room for."""

from __future__ import annotations

import base64
import io
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
import pandas as pd
from PIL import Image

from guie.data.names import shown_name
from guie.data.packed import PackedImages
from guie.run import DOORS, FOLDERS, Run
from guie.shown import progress

THUMB_PX = 112  # longer side of a small picture
QUALITY = 72  # some 3.5 kB at 112 px, 20 kB at 320 px
SIDES = (320, 240, 180, THUMB_PX, 64)  # of the page's pictures: the largest with which all of them fit
MAX_CHARS = 5_000_000  # base64 of all of them: half of what the page may have
N_TRIED = 24  # pictures from which the size of all is estimated
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Picture:
    """An image on the page.

    Attributes:
        image_id: Its id.
        label: The label of its class.
        file: Its path, without the folders that all images share.
        jpeg: base64.
    """

    image_id: str
    label: str
    file: str
    jpeg: str


class Album:
    """Pictures by their ids, each made once.

    Args:
        images: The packed images.
        ids: image_id, pack_row.
        n_shown: How often the page holds each picture that it shows.
    """

    def __init__(self, images: PackedImages, ids: pd.DataFrame, n_shown: Mapping[str, int]) -> None:
        """Makes the pictures of `n_shown`, of the largest of `SIDES` with which they fit."""
        rows = dict(zip(ids["image_id"], ids["pack_row"], strict=True))
        self._rows = {name: int(rows[name]) for name in n_shown}
        self._images = images
        self._jpegs = self._fitting(n_shown)
        self._labels = images.index["source_label"]
        self._files = files(images.index["path"])

    def picture(self, image_id: str) -> Picture:
        """One of the pictures."""
        row = self._rows[image_id]
        return Picture(
            image_id, shown_name(str(self._labels.iloc[row])), shown_name(self._files[row]), self._jpegs[image_id]
        )

    def _fitting(self, n_shown: Mapping[str, int]) -> dict[str, str]:
        """base64 by id. The smallest side is taken where none fits."""
        names = sorted(n_shown)
        some = names[:: -(-len(names) // N_TRIED)] if names else []
        jpegs: dict[str, str] = {}
        for side in SIDES:
            tried = sum(len(self._jpeg(name, side)) for name in some) / max(1, len(some))
            if side != SIDES[-1] and tried * sum(n_shown.values()) > 1.1 * MAX_CHARS:
                continue
            bar = progress(names, desc=f"pictures, {side} px")
            jpegs = {name: self._jpeg(name, side) for name in bar}
            if sum(len(jpegs[name]) * n for name, n in n_shown.items()) <= MAX_CHARS:
                break
        return jpegs

    def _jpeg(self, image_id: str, side: int) -> str:
        return thumbnail(self._images.read(self._rows[image_id], side), side)


def open_images(run: Run) -> PackedImages | None:
    """The images that door 03 packed; None where its index or one of its shards is gone."""
    packed = run.out / FOLDERS[3]
    if not (packed / "index.parquet").is_file():
        return None
    images = PackedImages(packed)
    gone = [packed / name for name in images.index["shard"].unique() if not (packed / name).is_file()]
    if gone:
        advice = f"{DOORS[3]}, opened with the same options, packs it again"
        log.warning("no images in the report: %s is gone; %s", gone[0], advice)
        return None
    return images


def thumbnail(image: np.ndarray, side: int = THUMB_PX) -> str:
    """A uint8 [h, w, 3] image as base64 JPEG, longer side at most `side`."""
    picture = Image.fromarray(image)
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=QUALITY, optimize=True)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def files(paths: pd.Series) -> list[str]:
    """Paths below a data root, without the leading folders that all of them have."""
    parts = [PurePosixPath(str(path)).parts for path in paths]
    if not parts:
        return []
    first, last = min(parts), max(parts)
    n_same = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return ["/".join(own[min(n_same, len(own) - 1) :]) for own in parts]
