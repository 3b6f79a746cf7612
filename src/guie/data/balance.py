"""Door 02: merges the data sets, sets validation classes aside and balances the training classes.

Every choice depends on the seed and the names alone: names are ordered by a hash. So the order of the rows does not
matter, and a new image, or a new class without a group, moves few others. The steps:

1. Sources that `data.licence` rules out are left out. Each image of a distractor source becomes a class of its own.
2. Validation classes are chosen in each domain, whole groups at a time. With val_by="image" a share of each class's
   images is chosen instead. No later step changes the validation set.
3. Training classes with too few images are left out, then those beyond a source's n_classes, then images beyond its
   n_images.
4. Large classes are cut to max_per_class images, small ones are repeated up to fill_per_class rows.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from guie.data.catalogue import licence_of
from guie.data.long_tail import long_tail_svg
from guie.data.manifest import BALANCED_COLUMNS, CLASS_KEY, log_table, read_manifest, write_manifest, write_table
from guie.data.split import groups_of, validation_groups
from guie.data.unlabelled import write_unlabelled
from guie.files import save_json, whole_file
from guie.run import Run
from guie.settings.data import Data, Limit, Source

CLASS_COLUMNS = ("class_id", "source", "source_label", "domain", "split", "n_images", "n_rows")
LEFT_OUT = "left out"
SEEN = "seen: "  # prefix of the label of validation images whose class is also trained on (val_by="image")
log = logging.getLogger(__name__)


def merge_and_balance(run: Run) -> dict[str, Any]:
    """Writes `02_balanced/`: train.parquet, val.parquet, classes.parquet, licences.json, report.json,
    images_per_class.svg, and unlabelled.parquet where a source is unlabelled.

    Args:
        run: Reads the recipe's data.limits, distractors, licence, val_*, *_per_class and seed, and 01_manifests.

    Returns:
        Numbers of classes, images and rows for training and validation.

    Raises:
        FileNotFoundError: a manifest is missing.
        ValueError: nothing is left to train on or to validate with.
    """
    recipe, folder = run.recipe, run.folder(2)
    data, seed = recipe.data, recipe.seed
    sources = allowed_sources(data)
    rows = set_apart(_labelled(run.folder(1), sources), data, seed)
    classes = split_classes(rows, data, seed)
    train, val = balanced_rows(rows, classes, data, seed)
    classes = with_counts(classes, train, val)
    write_manifest(folder / "train.parquet", train, BALANCED_COLUMNS, is_unique=False)
    write_manifest(folder / "val.parquet", val, BALANCED_COLUMNS)
    write_table(
        folder / "classes.parquet", classes[classes["class_id"] >= 0][list(CLASS_COLUMNS)].reset_index(drop=True)
    )
    n_unlabelled = write_unlabelled(folder, run.folder(1), sources)
    save_json(folder / "licences.json", ledger(data, train, n_unlabelled))
    report = {
        "total": _counts(classes),
        "sources": _counts_by(classes, "source"),
        "domains": _counts_by(classes, "domain"),
    }
    save_json(folder / "report.json", report)
    with whole_file(folder / "images_per_class.svg") as temporary:
        temporary.write_text(long_tail_svg(classes[classes["class_id"] >= 0]), encoding="utf-8")
    _log_summary(classes)
    return {
        f"n_{split}_{key}": report["total"][split][key]
        for split in ("train", "val")
        for key in ("classes", "images", "rows")
    }


def _labelled(manifests: Path, sources: Sequence[Source]) -> pd.DataFrame:
    """The manifests of all sources with labels, as one."""
    names = [source.name for source in sources if not source.is_unlabelled]
    return pd.concat([read_manifest(manifests / f"{name}.parquet") for name in names], ignore_index=True)


def allowed_sources(data: Data) -> list[Source]:
    """The sources whose licence `data.licence` allows.

    Raises:
        ValueError: there is none.
    """
    if data.licence == "any":
        return list(data.sources)
    allowed = [source for source in data.sources if licence_of(data, source).is_commercial]
    for source in data.sources:
        if source not in allowed:
            log.info("left out: %s (%s)", source.name, licence_of(data, source).text)
    if all(source.is_unlabelled for source in allowed):
        raise ValueError(
            "no source's licence is known to allow commercial use; if you know that one does, set "
            "Source(licence=..., is_commercial=True)"
        )
    return allowed


def ledger(data: Data, train: pd.DataFrame, n_unlabelled: Mapping[str, int] | None = None) -> list[dict[str, Any]]:
    """The licences of the training images and of those without labels, a row for each source: source, kind, licence,
    is_commercial, page, n_images and n_classes.

    Args:
        data: The recipe's section.
        train: Manifest of the training images.
        n_unlabelled: Images of each unlabelled source.
    """
    counts = (
        train.drop_duplicates("image_id")
        .groupby("source")
        .agg(n_images=("image_id", "size"), n_classes=("class_id", "nunique"))
    )
    for name, n_images in (n_unlabelled or {}).items():
        counts.loc[name] = {"n_images": n_images, "n_classes": 0}
    rows = []
    for source in data.sources:
        if source.name in counts.index:
            known = licence_of(data, source)
            row = {
                "source": source.name,
                "kind": source.kind,
                "licence": known.text,
                "is_commercial": known.is_commercial,
                "page": known.page,
            }
            rows.append(row | {name: int(counts.loc[source.name, name]) for name in counts})
    return rows


def set_apart(rows: pd.DataFrame, data: Data, seed: int) -> pd.DataFrame:
    """Gives each distractor a class of its own. With val_by="image" it also moves the validation images of each class
    into a class of their own.

    A class of four or more images gives `data.val_class_share` of them to validation, at least two, and keeps at least
    two. Their label gets the prefix `SEEN`. Validation images are compared with each other only, so the second class
    changes no score.
    """
    is_distractor = rows["source"].isin(data.distractors)
    rows = rows.assign(source_label=rows["source_label"].where(~is_distractor, rows["image_id"]))
    if "group" in rows:
        # A distractor is neither trained on nor queried, so its near-twins may be on either side.
        rows["group"] = rows["group"].where(~is_distractor, "")
    if data.val_by == "class":
        return rows
    rows = (
        rows.assign(order=_hashes(seed, "image", rows["image_id"]))
        .sort_values([*CLASS_KEY, "order"], ignore_index=True)
        .drop(columns="order")
    )
    groups = rows.groupby(CLASS_KEY)["image_id"]
    n = groups.transform("size")
    n_val = np.minimum(np.maximum((data.val_class_share * n + 0.5).astype(np.int64), 2), n - 2).where(n >= 4, 0)
    place = groups.cumcount() - np.minimum(data.val_fold * n_val, n - n_val)
    is_val = (place >= 0) & (place < n_val) & ~rows["source"].isin(data.distractors)
    return rows.assign(source_label=rows["source_label"].where(~is_val, SEEN + rows["source_label"]))


def split_classes(rows: pd.DataFrame, data: Data, seed: int) -> pd.DataFrame:
    """Decides for each class whether it is for training, for validation or left out.

    Args:
        rows: A manifest of all sources, from `set_apart`; the column `group` may be absent.
        data: Its val_*, distractors, min_per_class and limits are read.
        seed: Of the choice of classes.

    Returns:
        One row per class: source, source_label, domain, n_images, split (train, val, left out), class_id (-1 where left
        out), sorted by class_id, those left out last.

    Raises:
        ValueError: no class for training or none for validation.
    """
    classes = (
        rows.groupby(CLASS_KEY, sort=True).agg(domain=("domain", "first"), n_images=("image_id", "size")).reset_index()
    )
    classes["order"] = _hashes(seed, "class", classes["source"] + "\0" + classes["source_label"])
    is_distractor = classes["source"].isin(data.distractors)
    classes["split"] = _sides(rows, classes, is_distractor, data)
    classes["split"] = _thinned(classes, data)
    _stop_if_none_is_left(classes["split"], is_distractor)
    rank = classes["split"].map({"train": 0, "val": 1, LEFT_OUT: 2})
    classes = classes.assign(rank=rank).sort_values(["rank", *CLASS_KEY], ignore_index=True)
    classes["class_id"] = np.where(classes["split"] == LEFT_OUT, -1, np.arange(len(classes), dtype=np.int64))
    return classes.drop(columns=["rank", "order"])


def _sides(rows: pd.DataFrame, classes: pd.DataFrame, is_distractor: pd.Series, data: Data) -> pd.Series:
    """The split of each class before any is left out: distractors and a share of the others are for validation."""
    is_seen = classes["source_label"].str.startswith(SEEN) & (data.val_by == "image")
    split = pd.Series(np.where(is_distractor | is_seen, "val", "train"), index=classes.index)
    if data.val_by != "class":
        return split
    group = groups_of(rows)
    classes = classes.assign(group=group)
    may_be_chosen = (classes["n_images"] >= 2) & ~is_distractor
    chosen = validation_groups(classes[may_be_chosen], data.val_class_share, data.val_fold)
    is_chosen = classes["group"].isin(chosen) & ~is_distractor
    split[is_chosen] = np.where(may_be_chosen[is_chosen], "val", LEFT_OUT)  # a query needs a second image
    return split


def _stop_if_none_is_left(split: pd.Series, is_distractor: pd.Series) -> None:
    """Checks that training and validation each have a class, distractors not counted.

    Raises:
        ValueError: one of them has none; the message says what may help.
    """
    remedies = {
        "train": "lower data.min_per_class or data.val_class_share",
        "val": "validation needs a domain with two classes of two images",
    }
    for side, remedy in remedies.items():
        if not ((split == side) & ~is_distractor).any():
            raise ValueError(f"no class is left for {side} out of {len(split)}; {remedy}")


def _thinned(classes: pd.DataFrame, data: Data) -> pd.Series:
    """The split of each class after training classes that are too small, or beyond their source's n_classes, are left
    out."""
    least = (
        classes["source"]
        .map({limit.name: limit.min_per_class for limit in data.limits if limit.min_per_class})
        .fillna(data.min_per_class)
    )
    split = classes["split"].where((classes["split"] == "val") | (classes["n_images"] >= least), LEFT_OUT)
    for limit in data.limits:
        if limit.n_classes:
            group = classes[(classes["source"] == limit.name) & (split == "train")]
            split[group.sort_values("order").index[limit.n_classes :]] = LEFT_OUT
    return split


def balanced_rows(
    rows: pd.DataFrame, classes: pd.DataFrame, data: Data, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of the training and of the validation classes.

    Args:
        rows: A manifest of all sources, from `set_apart`.
        classes: From `split_classes`.
        data: Its limits, max_per_class and fill_per_class are read; they change training only.
        seed: Of the choice of images in classes that have too many.

    Returns:
        train and val, each a manifest with class_id, sorted by (class_id, image_id); rows of train may repeat.

    Raises:
        ValueError: a source's n_images is too small for its classes.
    """
    keys = pd.MultiIndex.from_frame(classes[CLASS_KEY])
    place = keys.get_indexer(pd.MultiIndex.from_frame(rows[CLASS_KEY]))
    class_ids = classes["class_id"].to_numpy()[place]
    # Row numbers instead of texts take a tenth of the memory.
    known = pd.DataFrame({"row": np.arange(len(rows)), "class_id": class_ids})
    is_train = (classes["split"] == "train").to_numpy()[place]
    is_val = (classes["split"] == "val").to_numpy()[place]
    train = _training_rows(known[is_train], rows, data, seed)
    return _of_split(rows, train, "train"), _of_split(rows, known[is_val], "val")


def _training_rows(train: pd.DataFrame, rows: pd.DataFrame, data: Data, seed: int) -> pd.DataFrame:
    """Cuts large classes and repeats the images of small ones.

    Args:
        train: row (a position in `rows`) and class_id of all images of the training classes.
        rows: As in `balanced_rows`.
        data: As in `balanced_rows`.
        seed: As in `balanced_rows`.

    Returns:
        row and class_id; a row may repeat.
    """
    order = _hashes(seed, "image", rows["image_id"].iloc[train["row"]])
    train = train.assign(order=order).sort_values(["class_id", "order"], ignore_index=True)
    for limit in data.limits:
        train = _cut(train, (rows["source"] == limit.name).to_numpy()[train["row"]], limit, data.min_per_class)
    train = train[train.groupby("class_id").cumcount() < data.max_per_class].reset_index(drop=True)
    return _fill(train, data.fill_per_class)


def _of_split(rows: pd.DataFrame, known: pd.DataFrame, split: str) -> pd.DataFrame:
    """The rows that `known` names (row, class_id) as the manifest of a split, sorted by (class_id, image_id)."""
    part = rows.iloc[known["row"]].assign(split=split, class_id=known["class_id"].to_numpy())
    return part[[*BALANCED_COLUMNS]].sort_values(["class_id", "image_id"], ignore_index=True)


def _cut(train: pd.DataFrame, is_of_source: np.ndarray, limit: Limit, min_per_class: int) -> pd.DataFrame:
    """Keeps at most `limit.n_images` rows of its source: the first of every class, then the second of every class, and
    so on.

    Raises:
        ValueError: n_images is too small for the source's classes.
    """
    place = train.groupby("class_id").cumcount()[is_of_source]
    if not limit.n_images or len(place) <= limit.n_images:
        return train
    n_classes = int((place == 0).sum())
    if limit.n_images < n_classes * min_per_class:
        text = (
            f"data.limits.{limit.name}.n_images is {limit.n_images}, too few for {n_classes:,} training classes of at "
            f"least {min_per_class} images"
        )
        raise ValueError(f"{text}; set its n_classes, too")
    return train.drop(index=place.sort_values(kind="stable").index[limit.n_images :]).reset_index(drop=True)


def _fill(train: pd.DataFrame, fill_per_class: int) -> pd.DataFrame:
    """Repeats each class's images in turn until it has `fill_per_class` rows."""
    n_images = train.groupby("class_id")["class_id"].transform("size")
    n_full, n_rest = fill_per_class // n_images, fill_per_class % n_images
    repeats = (n_full + (train.groupby("class_id").cumcount() < n_rest)).clip(lower=1)
    repeats[n_images >= fill_per_class] = 1
    return train.loc[train.index.repeat(repeats)]


def _hashes(seed: int, what: str, names: pd.Series) -> np.ndarray:
    """A hash of each name, uint64 [n]. Sorting by it gives a random order that depends on the seed and the names alone;
    `what` ("class", "image") makes the orders of different things independent."""
    start = hashlib.sha256(f"{seed}\0{what}\0".encode())
    result = np.empty(len(names), ">u8")
    chunk = 1 << 16
    for first in range(0, len(names), chunk):
        digests = []
        # An array of objects is read in a third of the time of the column's own iterator.
        for name in names.iloc[first : first + chunk].to_numpy(object):
            state = start.copy()
            state.update(name.encode("utf-8", "surrogateescape"))
            digests.append(state.digest()[:8])
        result[first : first + chunk] = np.frombuffer(b"".join(digests), ">u8")
    return result.astype(np.uint64)


def with_counts(classes: pd.DataFrame, train: pd.DataFrame, val: pd.DataFrame) -> pd.DataFrame:
    """Adds to each class n_rows, its rows after balancing, and n_kept, the distinct images among them; both are 0 if it
    is left out."""
    groups = pd.concat([train, val])[["class_id", "image_id"]].groupby("class_id")["image_id"]
    counts = {
        name: classes["class_id"].map(series).fillna(0).astype(np.int64)
        for name, series in (("n_rows", groups.size()), ("n_kept", groups.nunique()))
    }
    return classes.assign(**counts)


def _counts(classes: pd.DataFrame) -> dict[str, dict[str, int]]:
    names = {"train": "train", "val": "val", LEFT_OUT: "left_out"}
    return {key: _sums(classes[classes["split"] == split]) for split, key in names.items()}


def _sums(group: pd.DataFrame) -> dict[str, int]:
    return {
        "classes": len(group),
        "images": int(group["n_images"].sum()),
        "kept_images": int(group["n_kept"].sum()),
        "rows": int(group["n_rows"].sum()),
    }


def _counts_by(classes: pd.DataFrame, column: str) -> dict[str, Any]:
    return {str(name): _counts(group) for name, group in classes.groupby(column, sort=True)}


def _log_summary(classes: pd.DataFrame) -> None:
    rows: list[dict[str, object]] = []
    for (domain, source), group in classes.groupby(["domain", "source"], sort=True):
        counts = _counts(group)
        row: dict[str, object] = {"source": source, "domain": domain}
        for split in ("train", "val"):
            row |= {f"{split} classes": counts[split]["classes"], f"{split} images": counts[split]["kept_images"]}
        rows.append(row | {"train rows": counts["train"]["rows"], "classes left out": counts["left_out"]["classes"]})
    log_table(rows)
