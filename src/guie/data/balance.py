"""Door 02: one set out of many, validation classes set aside, training classes balanced.

Every choice is a function of the seed and the names alone (an order by hash), so the result does not depend on the order of
the rows, and a class or image that joins moves few others.
"""

from __future__ import annotations

import hashlib
import logging
from typing import Any

import numpy as np
import pandas as pd

from guie.checkpoint import save_json
from guie.data.manifest import CLASS_KEY, COLUMNS, log_table, read_manifest, write_manifest, write_table
from guie.recipe import Data
from guie.run import Run

CLASS_COLUMNS = ("class_id", "source", "source_label", "domain", "split", "n_images", "n_rows")
BALANCED_COLUMNS = (*COLUMNS, "class_id")
LEFT_OUT = "left out"
log = logging.getLogger(__name__)


def merge_and_balance(run: Run) -> dict[str, Any]:
    """Writes `02_balanced/`: train.parquet, val.parquet, classes.parquet, report.json.

    Args:
        run: Reads data.min_per_class, max_per_class, fill_per_class, val_class_share and seed of its recipe, and 01_manifests.

    Returns:
        Numbers of classes, images and rows for training and validation.

    Raises:
        FileNotFoundError: a manifest is missing.
        ValueError: nothing is left to train on or to validate with.
    """
    recipe, folder = run.recipe, run.folder(2)
    rows = pd.concat([read_manifest(run.folder(1) / f"{source.name}.parquet") for source in recipe.data.sources], ignore_index=True)
    classes = split_classes(rows, recipe.data, recipe.seed)
    train, val = balanced_rows(rows, classes, recipe.data, recipe.seed)
    classes = with_counts(classes, train, val)
    write_manifest(folder / "train.parquet", train, BALANCED_COLUMNS, is_unique=False)
    write_manifest(folder / "val.parquet", val, BALANCED_COLUMNS)
    write_table(folder / "classes.parquet", classes[classes["class_id"] >= 0][list(CLASS_COLUMNS)].reset_index(drop=True))
    report = {"total": _counts(classes), "sources": _counts_by(classes, "source"), "domains": _counts_by(classes, "domain")}
    save_json(folder / "report.json", report)
    _log_summary(classes)
    return {f"n_{split}_{key}": report["total"][split][key] for split in ("train", "val") for key in ("classes", "images", "rows")}


def split_classes(rows: pd.DataFrame, data: Data, seed: int) -> pd.DataFrame:
    """Decides for each class whether it is for training, for validation or left out.

    Args:
        rows: A manifest of all sources.
        data: Its min_per_class and val_class_share are read.
        seed: Of the choice of validation classes.

    Returns:
        One row per class: source, source_label, domain, n_images, split (train, val, left out), class_id (-1 where left out),
        sorted by class_id, those left out last.

    Raises:
        ValueError: no class for training or none for validation.
    """
    classes = rows.groupby(CLASS_KEY, sort=True).agg(domain=("domain", "first"), n_images=("image_id", "size")).reset_index()
    classes["split"] = np.where(classes["n_images"] >= data.min_per_class, "train", LEFT_OUT)
    for domain, group in classes[classes["n_images"] >= 2].groupby("domain", sort=True):
        if len(group) < 2:
            log.warning("domain %s has one class of two or more images: nothing of it is set aside for validation", domain)
            continue
        n_val = min(max(int(data.val_class_share * len(group) + 0.5), 1), len(group) - 1)
        keys = [hash_order(seed, "class", row.source, row.source_label) for row in group.itertuples()]
        classes.loc[group.index[np.argsort(keys)[:n_val]], "split"] = "val"
    for split, remedy in (("train", "lower data.min_per_class or data.val_class_share"), ("val", "validation needs a domain with two classes of two images")):
        if not (classes["split"] == split).any():
            raise ValueError(f"no class is left for {split} out of {len(classes)}; {remedy}")
    rank = classes["split"].map({"train": 0, "val": 1, LEFT_OUT: 2})
    classes = classes.assign(rank=rank).sort_values(["rank", *CLASS_KEY], ignore_index=True)
    classes["class_id"] = np.where(classes["split"] == LEFT_OUT, -1, np.arange(len(classes), dtype=np.int64))
    return classes.drop(columns="rank")


def balanced_rows(rows: pd.DataFrame, classes: pd.DataFrame, data: Data, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of the training and of the validation classes.

    Args:
        rows: A manifest of all sources.
        classes: From `split_classes`.
        data: Its max_per_class and fill_per_class are read; both change training only.
        seed: Of the choice of images in classes that have too many.

    Returns:
        train and val, each a manifest with class_id, sorted by (class_id, image_id); rows of train may repeat.
    """
    known = rows.drop(columns="split").merge(classes[[*CLASS_KEY, "split", "class_id"]], on=CLASS_KEY, validate="many_to_one")
    known = known[[*BALANCED_COLUMNS]].sort_values(["class_id", "image_id"], ignore_index=True)
    train, val = (known[known["split"] == split].reset_index(drop=True) for split in ("train", "val"))
    train = _fill(_cap(train, data.max_per_class, seed), data.fill_per_class)
    return train, val


def _cap(train: pd.DataFrame, max_per_class: int, seed: int) -> pd.DataFrame:
    """At most `max_per_class` images of each class, in an order by hash, so that what `_fill` repeats is chosen blindly, too."""
    train = train.assign(order=[hash_order(seed, "image", image_id) for image_id in train["image_id"]]).sort_values(["class_id", "order"])
    return train[train.groupby("class_id").cumcount() < max_per_class].drop(columns="order").reset_index(drop=True)


def _fill(train: pd.DataFrame, fill_per_class: int) -> pd.DataFrame:
    """Repeats each class's images in turn until it has `fill_per_class` rows."""
    n_images = train.groupby("class_id")["class_id"].transform("size")
    n_full, n_rest = fill_per_class // n_images, fill_per_class % n_images
    repeats = (n_full + (train.groupby("class_id").cumcount() < n_rest)).clip(lower=1)
    repeats[n_images >= fill_per_class] = 1
    return train.loc[train.index.repeat(repeats)].sort_values(["class_id", "image_id"], ignore_index=True)


def hash_order(seed: int, *names: str) -> str:
    """A text that puts names in a random order which depends on nothing but the seed and the names."""
    return hashlib.sha256("\0".join([str(seed), *names]).encode("utf-8", "surrogateescape")).hexdigest()


def with_counts(classes: pd.DataFrame, train: pd.DataFrame, val: pd.DataFrame) -> pd.DataFrame:
    """`classes` with n_rows and n_kept (different images among them) of each, 0 where left out."""
    groups = pd.concat([train, val])[["class_id", "image_id"]].groupby("class_id")["image_id"]
    counts = {name: classes["class_id"].map(series).fillna(0).astype(np.int64) for name, series in (("n_rows", groups.size()), ("n_kept", groups.nunique()))}
    return classes.assign(**counts)


def _counts(classes: pd.DataFrame) -> dict[str, dict[str, int]]:
    names = {"train": "train", "val": "val", LEFT_OUT: "left_out"}
    return {key: _sums(classes[classes["split"] == split]) for split, key in names.items()}


def _sums(group: pd.DataFrame) -> dict[str, int]:
    return {"classes": len(group), "images": int(group["n_images"].sum()), "kept_images": int(group["n_kept"].sum()), "rows": int(group["n_rows"].sum())}


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
