"""Door 03: every image is decoded once, made small and written into tar shards; duplicates are found.

Every packed image is an upright RGB JPEG without metadata. A raw file that is one already, and small enough, keeps its
coded pixels byte for byte; others are encoded in the recipe's quality. Shards are packed in parallel. A later run keeps
the shards whose rows and settings are still the same.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import shutil
from collections.abc import Iterator
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from guie.data.duplicates import LEFT_TRAINING, LEFT_UNLABELLED, tell_duplicates
from guie.data.image import load_image, read_file
from guie.data.manifest import BALANCED_COLUMNS, log_table, read_manifest, stop_if_too_many, write_table
from guie.data.packed import INDEX_COLUMNS, PLACE_COLUMNS
from guie.data.shards import COPIED_COLUMN, PRINT_COLUMNS, Shard, kept_table, pack_shard, plan_shards
from guie.data.unlabelled import NO_CLASS, all_duplicates, read_unlabelled
from guie.machine import n_cores
from guie.processes import process_pool
from guie.run import Run
from guie.shown import progress

log = logging.getLogger(__name__)


def pack_images(run: Run) -> dict[str, Any]:
    """Writes `03_packed/`: tar shards, index.parquet, problems.parquet, duplicates.parquet.

    Args:
        run: Reads data.pack_*, jpeg_quality, shard_mb, max_bad_share and duplicate_bits of its recipe, 02_balanced and
            the raw images.

    Returns:
        n_images, n_problems, n_copied (images whose code is the raw file's), n_duplicates, n_leaks (training pictures
        that were taken out because they are also in validation), n_shards and mb (their size).

    Raises:
        FileNotFoundError: 02_balanced is missing.
        ValueError: more than data.max_bad_share of a source's images cannot be decoded.
    """
    data = run.recipe.data
    folder = run.folder(3)
    rows = _rows_of(run.folder(2))
    shards = plan_shards(rows, folder, run.images_root, data)
    packed = pd.concat([rows, _packed_places(shards, len(rows), run)], axis=1)
    is_bad = packed["reason"] != ""
    write_table(folder / "problems.parquet", packed[is_bad].reset_index(drop=True)[["image_id", "path", "reason"]])
    _stop_or_summarise(packed, is_bad, data.max_bad_share, folder)
    index = packed[~is_bad]
    duplicates = all_duplicates(index, data.duplicate_bits)
    index = _without_leaks(index, duplicates)
    write_table(folder / "duplicates.parquet", duplicates)
    tell_duplicates(duplicates, folder / "duplicates.parquet")
    write_table(folder / "index.parquet", index[list(INDEX_COLUMNS)])
    counts = {"n_images": len(index), "n_problems": int(is_bad.sum()), "n_copied": int(index[COPIED_COLUMN].sum())}
    counts |= {"n_duplicates": len(duplicates), "n_leaks": int((duplicates["outcome"] == LEFT_TRAINING).sum())}
    return counts | {"n_shards": len(shards), "mb": round(sum(shard.n_bytes() for shard in shards) / 1e6, 3)}


def _rows_of(balanced: Path) -> pd.DataFrame:
    """One row per image that door 02 left in its folder."""
    train = read_manifest(balanced / "train.parquet", BALANCED_COLUMNS, is_unique=False)
    others = [read_manifest(balanced / "val.parquet", BALANCED_COLUMNS), read_unlabelled(balanced)]
    return unique_rows(train, *(part for part in others if len(part)))


def _packed_places(shards: list[Shard], n_rows: int, run: Run) -> pd.DataFrame:
    """Packs the shards that an earlier run has not finished.

    Returns:
        A row per image, in the order of the shards; columns as `pack_shard` returns them.
    """
    changes = progress(shards, desc="looking for changes", leave=False, delay=2)
    keys = {shard.path: shard.key() for shard in changes}
    kept = ((shard, kept_table(shard, keys[shard.path], run.verify)) for shard in shards)
    done = {shard.path: table for shard, table in kept if table is not None}
    _remove_stale(run.folder(3), done)
    if done:
        log.info("%d of %d shards are packed already", len(done), len(shards))
    waiting = [shard for shard in shards if shard.path not in done]
    for shard, table in pack_all(waiting, n_rows, run.scheduler):
        finished = table.assign(key=keys[shard.path], state=shard.state(), digest=shard.digest())
        write_table(shard.table_path, finished)
        done[shard.path] = table
    return pd.concat([done[shard.path] for shard in shards], ignore_index=True)


def _without_leaks(index: pd.DataFrame, duplicates: pd.DataFrame) -> pd.DataFrame:
    """The index without the training and unlabelled pictures that are also in validation."""
    leaks = duplicates["image_id"][duplicates["outcome"].isin((LEFT_TRAINING, LEFT_UNLABELLED))]
    return index[~index["image_id"].isin(leaks)].reset_index(drop=True)


def unique_rows(train: pd.DataFrame, *others: pd.DataFrame) -> pd.DataFrame:
    """One row per image of all splits, with `repeats` (its rows in `train`; 1 in others), sorted by (split, class_id,
    image_id)."""
    repeats = train.groupby("image_id").size()
    train = train.drop_duplicates("image_id")
    parts = [train.assign(repeats=train["image_id"].map(repeats)), *(other.assign(repeats=1) for other in others)]
    rows = pd.concat(parts)
    rows["repeats"] = rows["repeats"].astype(np.int64)
    return rows.sort_values(["split", "class_id", "image_id"], ignore_index=True)


def pack_all(
    shards: list[Shard], n_rows: int, scheduler: str, what: str = "packing"
) -> Iterator[tuple[Shard, pd.DataFrame]]:
    """Packs shards in parallel and yields each with its table as it is finished.

    Args:
        shards: What is to be packed.
        n_rows: Number of all images, those of finished shards included, for the progress bar.
        scheduler: See `process_pool`.
        what: The progress bar's text.

    Raises:
        OSError: a process was killed.
    """
    if not shards:
        return
    if _changes_sizes(shards[0]):
        # Once, before the processes are forked: else each takes seconds and 200 MB to import its own.
        importlib.import_module("torch")
    try:
        with (
            progress(
                total=n_rows,
                initial=n_rows - sum(len(shard.images) for shard in shards),
                desc=what,
                leave=False,
            ) as bar,
            process_pool(min(n_cores(), len(shards)), scheduler) as pool,
        ):
            futures = {pool.submit(pack_shard, shard): shard for shard in shards}
            for future in as_completed(futures):
                shard = futures[future]
                table = pd.DataFrame(future.result(), columns=[*PLACE_COLUMNS, *PRINT_COLUMNS, COPIED_COLUMN, "reason"])
                table = table.astype({"phash": np.uint64})
                yield shard, table
                bar.update(len(table))
    except BrokenProcessPool as error:
        raise OSError(
            "a packing process was killed, perhaps for lack of memory; start again, finished shards are kept"
        ) from error


def _changes_sizes(shard: Shard) -> bool:
    """Whether one of a shard's first 16 images is resized when it is packed."""
    for path in shard.images[:16]:
        with contextlib.suppress(ValueError):
            _, (width, height) = load_image(read_file(path), min_short_side=shard.data.pack_px)
            if shard.data.pack_square or min(width, height) > shard.data.pack_px:
                return True
    return False


def _remove_stale(folder: Path, kept: dict[Path, pd.DataFrame]) -> None:
    """Removes shards of earlier runs that are not kept, their tables, and the tables over all shards."""
    names = {path.name for path in kept} | {f".{path.stem}.parquet" for path in kept}
    for path in folder.iterdir():
        is_shard = path.name.lstrip(".").startswith("shard_") and path.name not in names
        if is_shard or path.name in ("index.parquet", "problems.parquet", "duplicates.parquet"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _stop_or_summarise(packed: pd.DataFrame, is_bad: pd.Series, max_bad_share: float, folder: Path) -> None:
    """Logs a row of counts for each source; stops the run if too many of a source's images are bad."""
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
            "classes": good["class_id"][good["class_id"] != NO_CLASS].nunique(),
            "copied": int(good[COPIED_COLUMN].sum()),
            "problems": len(problems),
        }
        summary.append(row | {"MB": round(int(good["size"].sum()) / 1e6, 1)})
    log_table(summary)
