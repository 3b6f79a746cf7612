"""Door 03: every image decoded once, made small and checked, in tar shards that are read by byte offset; duplicates
found.

Every packed image is a plain RGB JPEG of the recipe's quality, upright, with nothing else inside. A shard holds up to
`MAX_IMAGES` images and is the unit of work: its tar is renamed into place when it is whole, then a hidden table beside
it (`.shard_00000.parquet`) says for which rows and settings it was made. A later run keeps the shards whose table still
fits.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import io
import logging
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from PIL import Image
from tqdm import tqdm

from guie.data.balance import BALANCED_COLUMNS
from guie.data.duplicates import colours, content_hash, find_duplicates, perceptual_hash, tell_duplicates
from guie.data.image import load_image, read_file
from guie.data.manifest import log_table, read_manifest, stop_if_too_many, write_table
from guie.data.names import name_on_disk
from guie.data.resize import resized
from guie.done import readers, state_of
from guie.errors import is_of_the_machine
from guie.files import digest_of_file, full_disk_told, whole_file
from guie.machine import n_cores
from guie.processes import process_pool
from guie.run import Run
from guie.settings.data import Data
from guie.versions import PACKING

MAX_IMAGES = 1000  # of a shard: about ten seconds of work are lost at most
PLACE_COLUMNS = ("shard", "offset", "size", "width", "height", "original_width", "original_height")
INDEX_COLUMNS = (*BALANCED_COLUMNS, "repeats", *PLACE_COLUMNS)
PRINT_COLUMNS = ("content", "phash", "colours")  # what duplicates are known by
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Shard:
    """The work of one process: which images go into which tar.

    Attributes:
        path: The tar, or with data.pack_loose the folder.
        image_ids: Names of its images.
        images: Their raw files.
        data: How they are packed.
    """

    path: Path
    image_ids: tuple[str, ...]
    images: tuple[Path, ...]
    data: Data

    @property
    def table_path(self) -> Path:
        """The table that says what the tar was made for."""
        return self.path.with_name(f".{self.path.stem}.parquet")

    def key(self) -> str:
        """Changes with the rows, the settings, and the size or time of any raw file."""
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
        """What is packed so far."""
        return sum(path.stat().st_size for path in self.files())

    def state(self) -> str:
        """Sizes and times of the files: while they stay, the bytes do."""
        return hashlib.sha256(repr([state_of(path) for path in self.files()]).encode()).hexdigest()[:16]

    def digest(self) -> str:
        """Of the files' bytes."""
        return hashlib.sha256(" ".join(map(digest_of_file, self.files())).encode()).hexdigest()[:16]


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
            least_px: Both sides need only be so long: an image of twice that or more is decoded at a half, quarter or
                eighth, which is faster; 0 decodes it whole.

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


def pack_images(run: Run) -> dict[str, Any]:
    """Writes `03_packed/`: tar shards, index.parquet, problems.parquet, duplicates.parquet.

    Args:
        run: Reads data.pack_*, jpeg_quality, shard_mb, max_bad_share and duplicate_bits of its recipe, 02_balanced and
            the raw images.

    Returns:
        n_images, n_problems, n_duplicates, n_leaks (training pictures that are in validation, too, and were taken out),
        n_shards and mb (their size).

    Raises:
        FileNotFoundError: 02_balanced is missing.
        ValueError: more than data.max_bad_share of a source's images cannot be decoded.
    """
    data = run.recipe.data
    folder = run.folder(3)
    train = read_manifest(run.folder(2) / "train.parquet", BALANCED_COLUMNS, is_unique=False)
    rows = unique_rows(train, read_manifest(run.folder(2) / "val.parquet", BALANCED_COLUMNS))
    shards = plan_shards(rows, folder, run.images_root, data)
    places = _packed_places(shards, len(rows), run)
    packed = pd.concat([rows, places[[*PLACE_COLUMNS, *PRINT_COLUMNS, "reason"]]], axis=1)
    is_bad = packed["reason"] != ""
    write_table(folder / "problems.parquet", packed[is_bad].reset_index(drop=True)[["image_id", "path", "reason"]])
    _stop_or_summarise(packed, is_bad, data.max_bad_share, folder)
    index = packed[~is_bad]
    duplicates = find_duplicates(index, data.duplicate_bits)
    index = _without_leaks(index, duplicates)
    write_table(folder / "duplicates.parquet", duplicates)
    tell_duplicates(duplicates, folder / "duplicates.parquet")
    write_table(folder / "index.parquet", index[list(INDEX_COLUMNS)])
    counts = {"n_images": len(index), "n_problems": int(is_bad.sum())}
    counts |= {"n_duplicates": len(duplicates), "n_leaks": int((duplicates["outcome"] == "left training").sum())}
    return counts | {"n_shards": len(shards), "mb": round(sum(shard.n_bytes() for shard in shards) / 1e6, 3)}


def _packed_places(shards: list[Shard], n_rows: int, run: Run) -> pd.DataFrame:
    """Packs the shards that an earlier run has not finished.

    Returns:
        A row per image, in the order of the shards; columns as `pack_shard` returns them.
    """
    changes = tqdm(shards, desc="looking for changes", unit="shard", disable=None, leave=False, delay=2)
    keys = {shard.path: shard.key() for shard in changes}
    kept = ((shard, _kept_table(shard, keys[shard.path], run.verify)) for shard in shards)
    done = {shard.path: table for shard, table in kept if table is not None}
    _remove_stale(run.folder(3), done)
    if done:
        log.info("%d of %d shards are packed already", len(done), len(shards))
    waiting = [shard for shard in shards if shard.path not in done]
    for shard, table in _pack_all(waiting, n_rows, run.scheduler):
        finished = table.assign(key=keys[shard.path], state=shard.state(), digest=shard.digest())
        write_table(shard.table_path, finished)
        done[shard.path] = table
    return pd.concat([done[shard.path] for shard in shards], ignore_index=True)


def _without_leaks(index: pd.DataFrame, duplicates: pd.DataFrame) -> pd.DataFrame:
    """The rows of the index that stay: all but training pictures that are in validation, too."""
    leaks = duplicates["image_id"][duplicates["outcome"] == "left training"]
    return index[~index["image_id"].isin(leaks)].reset_index(drop=True)


def unique_rows(train: pd.DataFrame, val: pd.DataFrame) -> pd.DataFrame:
    """One row per image of both, with `repeats` (its rows in `train`; 1 in `val`), sorted by (split, class_id,
    image_id)."""
    repeats = train.groupby("image_id").size()
    train = train.drop_duplicates("image_id")
    rows = pd.concat([train.assign(repeats=train["image_id"].map(repeats)), val.assign(repeats=1)])
    rows["repeats"] = rows["repeats"].astype(np.int64)
    return rows.sort_values(["split", "class_id", "image_id"], ignore_index=True)


def plan_shards(rows: pd.DataFrame, folder: Path, images_root: Path, data: Data) -> list[Shard]:
    """Cuts the rows, in their order, into shards of at most `MAX_IMAGES` images and about `data.shard_mb`.

    How large an image will be is known only when it is packed; to know the plan before, a byte per pixel of a 4:3 image
    is assumed, which JPEGs of natural images at quality 95 stay below.
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
    """Writes a shard's tar, whole or not at all, or its folder of files; the same images and settings give the same
    bytes.

    Returns:
        For each of its images: the file that holds it, its offset there, size, width, height, original_width,
        original_height, the fingerprints (`PRINT_COLUMNS`), and why it could not be packed ('' when it could, otherwise
        the numbers are -1 and the fingerprints empty).
    """
    data, places = shard.data, []
    with _opened(shard) as add:
        for number, (image_id, path) in enumerate(zip(shard.image_ids, shard.images, strict=True)):
            try:
                pixels, original_size, content = small_image(path, data.pack_px, data.pack_square)
                jpeg = as_jpeg(pixels, data.jpeg_quality)
            except ValueError as error:
                places.append((shard.path.name, *[-1] * 6, "", 0, b"", str(error)))
                continue
            name, offset = add(number, image_id, jpeg)
            prints = (content, perceptual_hash(pixels), colours(pixels))
            places.append((name, offset, len(jpeg), pixels.shape[1], pixels.shape[0], *original_size, *prints, ""))
    return places


@contextlib.contextmanager
def _opened(shard: Shard) -> Iterator[Callable[[int, str, bytes], tuple[str, int]]]:
    """What adds an image, by number, id and JPEG, and says which file holds it and where."""
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


def small_image(path: Path, pack_px: int, is_square: bool = False) -> tuple[np.ndarray, tuple[int, int], str]:
    """The image at `path`, uint8 [h, w, 3], its shorter side at most `pack_px`, or a square; the original's width and
    height; the file's hash.

    Raises:
        ValueError: why it cannot be read, in a few words.
    """
    file = read_file(path)
    image, original_size = load_image(file, min_short_side=pack_px)
    pixels, scale = np.asarray(image), pack_px / min(image.size)
    if is_square:
        pixels = resized(pixels, pack_px, pack_px)
    elif scale < 1:
        pixels = resized(pixels, max(1, round(image.height * scale)), max(1, round(image.width * scale)))
    return pixels, original_size, content_hash(file)


def as_jpeg(pixels: np.ndarray, quality: int) -> bytes:
    """The image, uint8 [h, w, 3], as a JPEG file; OpenCV writes it in half of PIL's time.

    Raises:
        ValueError: JPEG cannot hold it.
    """
    if max(pixels.shape) > 65_500:
        raise ValueError(f"cannot be written as JPEG: {pixels.shape[1]} x {pixels.shape[0]}")
    done, file = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done
    return file.tobytes()


def _pack_all(shards: list[Shard], n_rows: int, scheduler: str) -> Iterator[tuple[Shard, pd.DataFrame]]:
    """Packs shards in parallel and yields each with its table as it is finished."""
    if not shards:
        return
    if _changes_sizes(shards[0]):
        importlib.import_module(
            "torch"
        )  # once, before the processes are forked: each would take seconds and 200 MB for its own
    try:
        with (
            tqdm(
                total=n_rows,
                initial=n_rows - sum(len(shard.images) for shard in shards),
                desc="packing",
                unit="image",
                disable=None,
                leave=False,
            ) as bar,
            process_pool(min(n_cores(), len(shards)), scheduler) as pool,
        ):
            futures = {pool.submit(pack_shard, shard): shard for shard in shards}
            for future in as_completed(futures):
                shard = futures[future]
                table = pd.DataFrame(future.result(), columns=[*PLACE_COLUMNS, *PRINT_COLUMNS, "reason"])
                table = table.astype({"phash": np.uint64})
                yield shard, table
                bar.update(len(table))
    except BrokenProcessPool as error:
        raise OSError(
            "a packing process was killed, perhaps for lack of memory; run the door again, finished shards are kept"
        ) from error


def _changes_sizes(shard: Shard) -> bool:
    """Whether one of a shard's first images is larger than it is packed, so that `resized` has work."""
    for path in shard.images[:16]:
        with contextlib.suppress(ValueError):
            _, (width, height) = load_image(read_file(path), min_short_side=shard.data.pack_px)
            if shard.data.pack_square or min(width, height) > shard.data.pack_px:
                return True
    return False


def _kept_table(shard: Shard, key: str, verify: bool = False) -> pd.DataFrame | None:
    """The table of a shard that was finished earlier for the same rows and settings, and is as it was written, else
    None."""
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


def _remove_stale(folder: Path, kept: dict[Path, pd.DataFrame]) -> None:
    """Removes what earlier runs left: shards that are not kept, their tables, and the index; what killed runs left goes
    when the door begins."""
    names = {path.name for path in kept} | {f".{path.stem}.parquet" for path in kept}
    for path in folder.iterdir():
        is_shard = path.name.lstrip(".").startswith("shard_") and path.name not in names
        if is_shard or path.name in ("index.parquet", "problems.parquet", "duplicates.parquet"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _stop_or_summarise(packed: pd.DataFrame, is_bad: pd.Series, max_bad_share: float, folder: Path) -> None:
    summary: list[dict[str, object]] = []
    for (domain, source), group in packed.groupby(["domain", "source"], sort=True):
        problems = group[is_bad[group.index]]
        remedy = (
            f"All are in {folder / 'problems.parquet'}. Fetch the data set again, or --set data.max_bad_share=SHARE"
        )
        stop_if_too_many(problems, len(group), source, max_bad_share, remedy)
        good = group[~is_bad[group.index]]
        row = {
            "source": source,
            "domain": domain,
            "images": len(good),
            "classes": good["class_id"].nunique(),
            "problems": len(problems),
        }
        summary.append(row | {"MB": round(int(good["size"].sum()) / 1e6, 1)})
    log_table(summary)
