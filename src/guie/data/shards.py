"""One shard of packed images: what it holds, how it is written, and whether an earlier run's can be kept.

A shard holds up to `MAX_IMAGES` images and is the work of one process. Its tar is renamed into place when it is
complete. A hidden table beside it (`.shard_00000.parquet`) then records the rows and settings it was made from.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import shutil
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from PIL import Image

from guie.data.duplicates import colours, content_hash, perceptual_hash
from guie.data.image import load_image, read_file
from guie.data.jpeg import plain_jpeg
from guie.data.names import name_on_disk
from guie.data.resize import resized
from guie.done import readers, state_of
from guie.files import digest_of_file, full_disk_told, whole_file
from guie.settings.data import Data
from guie.versions import PACKING

MAX_IMAGES = 1000  # of a shard: about ten seconds of work are lost at most
PRINT_COLUMNS = ("content", "phash", "colours")  # an image's fingerprints, by which duplicates are found
COPIED_COLUMN = "is_copied"  # whether an image's code is the raw file's, byte for byte
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Shard:
    """The work of one process: which images go into which tar.

    Attributes:
        path: The tar, or with data.pack_loose the folder.
        image_ids: Ids of its images.
        images: Their raw files.
        data: The settings for packing.
    """

    path: Path
    image_ids: tuple[str, ...]
    images: tuple[Path, ...]
    data: Data

    @property
    def table_path(self) -> Path:
        """The hidden table that records what the tar was made from."""
        return self.path.with_name(f".{self.path.stem}.parquet")

    def key(self) -> str:
        """A hash of the rows, the settings, the decoders' versions, and the size and time of each raw file."""
        settings = (
            self.data.pack_px,
            self.data.pack_square,
            self.data.jpeg_quality,
            Image.__version__,
            *readers().values(),
        )
        sha = hashlib.sha256(f"{PACKING} {settings}\n".encode())
        for image_id, image in zip(self.image_ids, self.images, strict=True):
            try:
                stat = image.stat()
                state = f"{stat.st_size} {stat.st_mtime_ns}"
            except OSError:
                state = "missing"
            sha.update(f"{image_id} {state}\n".encode("utf-8", "surrogateescape"))
        return sha.hexdigest()

    def files(self) -> list[Path]:
        """The tar, or the folder's files."""
        if self.path.is_dir():
            return sorted(self.path.iterdir())
        return [self.path] if self.path.is_file() else []

    def n_bytes(self) -> int:
        """Size of what is packed so far."""
        return sum(path.stat().st_size for path in self.files())

    def state(self) -> str:
        """A hash of the files' sizes and times: while it stays the same, the bytes are taken to be unchanged."""
        return hashlib.sha256(repr([state_of(path) for path in self.files()]).encode()).hexdigest()[:16]

    def digest(self) -> str:
        """A hash of the files' bytes."""
        return hashlib.sha256(" ".join(map(digest_of_file, self.files())).encode()).hexdigest()[:16]


def plan_shards(rows: pd.DataFrame, folder: Path, images_root: Path, data: Data) -> list[Shard]:
    """Cuts the rows, in their order, into shards of at most `MAX_IMAGES` images and about `data.shard_mb`.

    An image's size in bytes is known only after packing. The plan assumes a 4:3 image and one byte per pixel; JPEGs of
    natural images at quality 95 are smaller.
    """
    n = min(MAX_IMAGES, max(1, int(data.shard_mb * 1e6 / (data.pack_px**2 * 4 / 3))))
    shards = []
    for number, start in enumerate(range(0, len(rows), n)):
        part = rows.iloc[start : start + n]
        images = tuple(images_root / name_on_disk(path) for path in part["path"])
        name = f"shard_{number:05d}" if data.pack_loose else f"shard_{number:05d}.tar"
        shards.append(Shard(folder / name, tuple(part["image_id"]), images, data))
    return shards


def pack_shard(shard: Shard) -> list[tuple[Any, ...]]:
    """Writes a shard's tar, atomically, or its folder of files. The same images and settings give the same bytes.

    Returns:
        For each of its images: the file that holds it, its offset there, size, width, height, original_width,
        original_height, the fingerprints (`PRINT_COLUMNS`), whether its code is copied (`COPIED_COLUMN`), and '' or the
        reason why it could not be packed. In that case the numbers are -1 and the fingerprints empty.
    """
    data, places = shard.data, []
    with _open_for_writing(shard) as add:
        for number, (image_id, path) in enumerate(zip(shard.image_ids, shard.images, strict=True)):
            try:
                pixels, original_size, file = small_image(path, data.pack_px, data.pack_square)
                height, width = pixels.shape[:2]
                copied = plain_jpeg(file) if original_size == (width, height) else b""
                jpeg = copied or as_jpeg(pixels, data.jpeg_quality)
            except ValueError as error:
                places.append((shard.path.name, *[-1] * 6, "", 0, b"", False, str(error)))
                continue
            name, offset = add(number, image_id, jpeg)
            prints = (content_hash(file), perceptual_hash(pixels), colours(pixels))
            places.append((name, offset, len(jpeg), width, height, *original_size, *prints, bool(copied), ""))
    return places


@contextlib.contextmanager
def _open_for_writing(shard: Shard) -> Iterator[Callable[[int, str, bytes], tuple[str, int]]]:
    """Yields a function that adds an image (number, id, JPEG) and returns the file that holds it and its offset."""
    if shard.data.pack_loose:
        shutil.rmtree(shard.path, ignore_errors=True)
        shard.path.mkdir()

        def add(number: int, image_id: str, jpeg: bytes) -> tuple[str, int]:
            name = f"{shard.path.name}/{number:04d}.jpg"
            with full_disk_told(shard.path.parent):
                (shard.path.parent / name).write_bytes(jpeg)
            return name, 0

        yield add
        return
    with whole_file(shard.path) as temporary, tarfile.open(temporary, "w") as tar:

        def add(number: int, image_id: str, jpeg: bytes) -> tuple[str, int]:
            member = tarfile.TarInfo(image_id if image_id.endswith(".jpg") else f"{image_id}.jpg")
            member.size = len(jpeg)
            tar.addfile(member, io.BytesIO(jpeg))
            n_blocks = -(-len(jpeg) // tarfile.BLOCKSIZE)
            return shard.path.name, tar.offset - n_blocks * tarfile.BLOCKSIZE

        yield add


def small_image(path: Path, pack_px: int, is_square: bool = False) -> tuple[np.ndarray, tuple[int, int], bytes]:
    """Reads an image and makes it small.

    Args:
        path: The raw file.
        pack_px: The shorter side is at most so long.
        is_square: Whether the image becomes a square of side `pack_px`.

    Returns:
        The pixels, uint8 [h, w, 3]; the original's width and height; the file's bytes.

    Raises:
        ValueError: it cannot be read; the message says why in a few words.
    """
    file = read_file(path)
    pixels, original_size = small_pixels(file, pack_px, is_square)
    return pixels, original_size, file


def small_pixels(file: bytes, pack_px: int, is_square: bool = False) -> tuple[np.ndarray, tuple[int, int]]:
    """The pixels and the size of `small_image`, of a file's bytes; pack_px 0 leaves the image as it is."""
    image, original_size = load_image(file, min_short_side=pack_px or None)
    pixels, scale = np.asarray(image), (pack_px or min(image.size)) / min(image.size)
    if is_square:
        pixels = resized(pixels, pack_px, pack_px)
    elif scale < 1:
        pixels = resized(pixels, max(1, round(image.height * scale)), max(1, round(image.width * scale)))
    return pixels, original_size


def as_jpeg(pixels: np.ndarray, quality: int) -> bytes:
    """The image, uint8 [h, w, 3], as a JPEG file. OpenCV takes half of PIL's time.

    Raises:
        ValueError: a side is too long for JPEG.
    """
    if max(pixels.shape) > 65_500:
        raise ValueError(f"cannot be written as JPEG: {pixels.shape[1]} x {pixels.shape[0]}")
    done, file = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done
    return file.tobytes()


def kept_table(shard: Shard, key: str, verify: bool = False) -> pd.DataFrame | None:
    """The table of a shard that an earlier run finished; None if there is none, or if the rows, the settings or the
    written bytes have changed. `verify` compares all bytes, not only sizes and times."""
    try:
        table = pd.read_parquet(shard.table_path)
    except (OSError, ValueError):  # missing or damaged: pyarrow's error is a ValueError
        return None
    if not {"key", "state", "digest"} <= set(table) or not (table["key"] == key).all() or not shard.files():
        return None
    is_whole = (not verify and (table["state"] == shard.state()).all()) or (table["digest"] == shard.digest()).all()
    if not is_whole:
        log.warning("%s has other bytes than were written; it is packed again", shard.path)
    return table.drop(columns=["key", "state", "digest"]) if is_whole else None
