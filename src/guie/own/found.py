"""All that `guie look` finds in a folder of photos, as plain data; nothing here prints or draws."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from guie.files import whole_file
from guie.own.features import features_of
from guie.own.photos import Photos
from guie.own.scores import Row, Score, ids_of, ranked, row_of, why_no_score, without_twins
from guie.own.small import LARGE_PACK_PX, PACK_PX, SmallPhotos, make_small
from guie.own.suspects import neighbours_of, suspicious_labels, twins_of
from guie.own.towers import Refused, Tower
from guie.shown import counted

if TYPE_CHECKING:
    from accelerate import Accelerator

SCORE_COLUMNS = (
    "tower",
    *("mp5", "mp5_low", "mp5_high", "r1", "is_best", "p_vs_best", "mp5_pca64", "r1_pca64"),
    *("dim", "ms_per_image", "n_parameters", "image_px", "licence", "reason"),
)
SMALL_PX = 112  # a shorter side below this: the tower sees an enlarged, blurred photo
SPLITS = {"train", "training", "val", "valid", "validation", "test", "query", "gallery", "index"}  # names of folders
JOINS_SPLITS = "^[^/]+/(.+)/[^/]+$"  # for --label-from: the label without the first folder


@dataclass(frozen=True)
class Found:
    """What a look found.

    Attributes:
        photos: What is in the folder.
        small: The photos that can be read.
        rows: A row for each tower; towers that cannot be had among them.
        best: The row with the best score, or the first one without labels; its neighbours are those below.
        no_score: Why there is no score; '' if there is one.
        alone: Score of the best tower without photos that are there twice; None if there are none.
        neighbours: int64 [n, k], rows of `small.table`, the nearest first.
        cosines: float32 [n, k].
        twins: See `twins_of`.
        suspects: See `suspicious_labels`.
    """

    photos: Photos
    small: SmallPhotos
    rows: Sequence[Row | Refused]
    best: Row
    no_score: str
    alone: Score | None
    neighbours: np.ndarray
    cosines: np.ndarray
    twins: pd.DataFrame
    suspects: pd.DataFrame

    @property
    def sizes(self) -> pd.Series:
        """Number of photos of each label, the largest first."""
        labels = self.small.table["label"]
        return labels[labels != ""].value_counts().sort_index().sort_values(ascending=False, kind="stable")

    @property
    def singles(self) -> list[str]:
        """Labels with one photo."""
        sizes = self.sizes
        return sorted(map(str, sizes.index[sizes == 1]))

    @property
    def tiny(self) -> pd.DataFrame:
        """Photos whose shorter side has fewer than `SMALL_PX` pixels: path, original_width, original_height."""
        table = self.small.table
        columns = ["original_width", "original_height"]
        shorter = table[columns].min(axis=1)
        return table.loc[shorter < SMALL_PX, ["path", *columns]]

    @property
    def by_label(self) -> pd.DataFrame:
        """label, photos, mp5 and r1 of each label that has two photos, the worst first; empty without a score."""
        if self.best.full is None:
            return pd.DataFrame(columns=["label", "photos", "mp5", "r1"])
        queries = self.best.full.queries.dropna(subset="mp5")
        labels = self.small.table.set_index("path")["label"]
        table = queries.groupby(queries["image_id"].map(labels))[["mp5", "r1"]].mean()
        table = table.assign(photos=self.sizes).rename_axis("label").reset_index()
        return table.sort_values(["mp5", "label"], ignore_index=True)[["label", "photos", "mp5", "r1"]]


def look_at(photos: Photos, wanted: Sequence[Tower | Refused], cache: Path, accelerator: Accelerator) -> Found:
    """Looks at photos.

    Args:
        photos: What is in the folder.
        wanted: Towers, in the order of the table.
        cache: Small photos and features are kept here.
        accelerator: The device.

    Raises:
        ValueError: no photo can be read, fewer than two can, or no tower can be had; the message is one line.
    """
    px = PACK_PX if all(isinstance(t, Refused) or t.image_px <= PACK_PX for t in wanted) else LARGE_PACK_PX
    small = make_small(photos, cache / f"small_{px}", px)
    if len(small.table) < 2:
        raise ValueError(f"{photos.root} holds one photo that can be read; at least two are needed to compare")
    ids = ids_of(small)
    rows = ranked([_row(tower, small, ids, px, cache / "features", accelerator) for tower in wanted])
    usable = [row for row in rows if isinstance(row, Row)]
    if not usable:
        raise ValueError("; ".join(f"{row.name}: {row.reason}" for row in rows if isinstance(row, Refused)))
    best = next((row for row in usable if row.is_best), usable[0])
    neighbours, cosines = neighbours_of(best.features.values)
    twins = twins_of(small)
    return Found(
        photos,
        small,
        rows,
        best,
        why_no_score(ids),
        without_twins(best, ids, twins),
        neighbours,
        cosines,
        twins,
        suspicious_labels(small.table["label"], small.table["path"], neighbours),
    )


def _row(
    tower: Tower | Refused, small: SmallPhotos, ids: pd.DataFrame, px: int, cache: Path, accelerator: Accelerator
) -> Row | Refused:
    """A tower's row; a tower that cannot be had is told, and the others go on."""
    if isinstance(tower, Refused):
        return tower
    try:
        features = features_of(tower, small, px, cache, accelerator)
    except (ValueError, FileNotFoundError) as error:
        return Refused(tower.name, str(error))
    return row_of(tower, features, ids)


def notes(found: Found) -> list[str]:
    """What is worth knowing before the numbers are believed, in whole sentences."""
    told = []
    labels = found.small.table["label"]
    top = {PurePosixPath(label).parts[0].lower() for label in labels[labels != ""].unique()}
    is_split = len(top) > 1 and top <= SPLITS and labels.str.contains("/").any()
    if found.photos.kind == "folders" and is_split:
        told.append(
            f"The top folders ({', '.join(sorted(top))}) look like splits, so the same label counts as several; "
            f"--label-from '{JOINS_SPLITS}' joins them."
        )
    n_without = int((labels == "").sum())
    if n_without and found.photos.kind != "flat":
        told.append(f"{counted(n_without, 'photo')} without a label: found by others, but never a query.")
    if (
        found.alone is not None
        and found.best.full is not None
        and decimal(found.alone.mp5) < decimal(found.best.full.mp5)
    ):
        told.append(
            f"Photos that are there twice make a score too good: without their second copies mP@5 is "
            f"{decimal(found.alone.mp5)}, not {decimal(found.best.full.mp5)}."
        )
    n_labels = len(found.sizes) - len(found.singles)
    if found.best.full is not None and n_labels < 30:
        told.append(f"The score is over {counted(n_labels, 'label')}: too few to be precise.")
    return told


def decimal(value: float, digits: int = 3) -> str:
    """A score with so many digits and no leading zero: .412."""
    return re.sub(r"^0", "", f"{value:.{digits}f}")


def write_lists(found: Found, folder: Path) -> None:
    """Writes problems.csv, duplicates.csv, suspects.csv and scores.csv into a folder."""
    tables = {
        "problems": found.small.problems,
        "duplicates": found.twins,
        "suspects": found.suspects,
        "scores": score_table(found.rows),
    }
    for name, table in tables.items():
        with whole_file(folder / f"{name}.csv") as temporary:
            table.to_csv(temporary, index=False)


def score_table(rows: Sequence[Row | Refused]) -> pd.DataFrame:
    """The table of towers with all numbers; NaN where there is none."""
    found = [_refused(row) if isinstance(row, Refused) else _scored(row) for row in rows]
    return pd.DataFrame(found, columns=list(SCORE_COLUMNS))


def _refused(row: Refused) -> dict[str, object]:
    return {"tower": row.name, "reason": row.reason}


def _scored(row: Row) -> dict[str, object]:
    values: dict[str, object] = {"tower": row.tower.name, "dim": row.features.values.shape[1]}
    if row.full is not None:
        values |= {"mp5": row.full.mp5, "mp5_low": row.full.low, "mp5_high": row.full.high, "r1": row.full.r1}
        values |= {"is_best": row.is_best, "p_vs_best": row.p}
    if row.reduced is not None:
        values |= {"mp5_pca64": row.reduced.mp5, "r1_pca64": row.reduced.r1}
    return values | {
        "ms_per_image": row.features.ms_per_image,
        "n_parameters": row.features.n_parameters,
        "image_px": row.tower.image_px,
        "licence": row.tower.licence,
        "reason": "",
    }
