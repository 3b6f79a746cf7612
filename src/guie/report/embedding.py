"""The exported embedding of the validation images: its spectrum, its similarities, and a map with thumbnails."""

from __future__ import annotations

import base64
import io
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from PIL import Image

from guie.data.names import shown_name
from guie.data.packed import PackedImages
from guie.report import geometry
from guie.report.album import open_images
from guie.report.charts_map import Point
from guie.report.collect import pca_shares
from guie.report.palette import N_KINDS
from guie.report.svg import OTHER
from guie.run import DOORS, FOLDERS, Run
from guie.shown import progress

MAX_MAPPED = 800  # images on the map
MAX_ROWS = 50_000  # of the spectrum
TILE_PX = 72
TILE_QUALITY = 70  # some 1.7 kB a tile
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Map:
    """Validation images in the plane.

    Attributes:
        points: One per image.
        kinds: Names of the domains, by the points' numbers; where all images are of one domain, names of the
            `N_KINDS` classes that have most images there, and the other points are grey.
        sheet: base64 JPEG with a tile of `TILE_PX` for every point, row by row; '' where the packed images are gone.
        n_columns: Tiles in a row.
        n_all: Images that the points were taken from.
    """

    points: tuple[Point, ...]
    kinds: tuple[str, ...]
    sheet: str
    n_columns: int
    n_all: int
    is_by_class: bool = False

    @property
    def keys(self) -> list[tuple[int, str]]:
        """Number and name of what the markers stand for."""
        has_others = any(point.kind == OTHER for point in self.points)
        return [*enumerate(self.kinds), *([(OTHER, "other classes")] if has_others else [])]


@dataclass(frozen=True)
class Embedding:
    """What the embedding looks like.

    Attributes:
        spectrum: Of the exported setting's embedding of validation images.
        pca_shares: The share of the training features' variance that each component of the final projection keeps; None
            without PCA.
        similarities: Of pairs of validation images; None where no class has two.
        map: The same images in the plane.
    """

    spectrum: geometry.Spectrum
    pca_shares: np.ndarray | None
    similarities: geometry.Similarities | None
    map: Map


def read_embedding(run: Run) -> Embedding | None:
    """The embedding that door 07 left; None where it is absent, does not fit its ids, or is one point.

    Raises:
        ValueError: an embedding is not finite.
    """
    folder = run.out / FOLDERS[7]
    needed = (folder / "val_embeddings.npy", folder / "val_ids.parquet")
    if not all(path.is_file() for path in needed):
        return None
    vectors = np.load(needed[0], mmap_mode="r")
    ids = pd.read_parquet(needed[1])
    if len(vectors) != len(ids) or len(ids) < 2:
        remedy = f"the embedding is not drawn; open door 07 again: {DOORS[7]} --force"
        log.warning("%s has %d rows and its ids %d: %s", needed[0], len(vectors), len(ids), remedy)
        return None
    rows = np.sort(np.random.default_rng(run.recipe.seed).permutation(len(vectors))[:MAX_ROWS])
    values = np.asarray(vectors[rows], np.float32)
    if not np.isfinite(values).all():
        cause = "the stage it comes from has diverged: lower its lr"
        raise ValueError(f"{needed[0]} holds values that are no numbers; {cause}")
    spectrum = geometry.spectrum(values)
    if spectrum is None:
        return None
    found = geometry.similarities(values, ids["class_id"].to_numpy()[rows], run.recipe.seed)
    return Embedding(spectrum, pca_shares(run.out), found, _map(run, vectors, ids))


def tile_sheet(images: PackedImages, rows: Sequence[int]) -> tuple[str, int]:
    """Images in tiles of `TILE_PX`, each whole and centred: one JPEG as base64, and its columns."""
    n_columns = max(1, math.ceil(math.sqrt(len(rows))))
    sheet = Image.new("RGB", (n_columns * TILE_PX, math.ceil(len(rows) / n_columns) * TILE_PX), "#808890")
    for i, row in enumerate(progress(rows, desc="tiles of the map")):
        tile = Image.fromarray(images.read(row, TILE_PX))
        tile.thumbnail((TILE_PX, TILE_PX), Image.Resampling.LANCZOS)
        left = i % n_columns * TILE_PX
        top = i // n_columns * TILE_PX
        sheet.paste(tile, (left + (TILE_PX - tile.width) // 2, top + (TILE_PX - tile.height) // 2))
    buffer = io.BytesIO()
    sheet.save(buffer, "JPEG", quality=TILE_QUALITY, optimize=True)
    return base64.b64encode(buffer.getvalue()).decode("ascii"), n_columns


def _map(run: Run, vectors: np.ndarray, ids: pd.DataFrame) -> Map:
    rows = geometry.sample(ids, MAX_MAPPED, run.recipe.seed)
    images = open_images(run)
    some = ids.iloc[rows]
    labels = some["image_id"] if images is None else images.index["source_label"].iloc[some["pack_row"]]
    some = some.assign(label=labels.astype(str).map(shown_name).to_numpy(), row=rows)
    is_by_class = ids["domain"].nunique() == 1
    kinds, numbers = _classes(some) if is_by_class else _domains(some)
    some = some.assign(number=numbers, is_coloured=numbers != OTHER)
    some = some.sort_values("is_coloured", kind="stable")  # what comes first is drawn below
    places = geometry.plane(np.asarray(vectors[some["row"].to_numpy()], np.float32), run.recipe.seed)
    points = []
    for (x, y), row in zip(places, some.itertuples(), strict=True):
        text = row.label if is_by_class else f"{row.label} · {row.domain}"
        points.append(Point(float(x), float(y), int(row.number), int(row.class_id), text))
    sheet, n_columns = tile_sheet(images, some["pack_row"].tolist()) if images is not None else ("", 1)
    return Map(tuple(points), kinds, sheet, n_columns, len(ids), is_by_class)


def _domains(some: pd.DataFrame) -> tuple[tuple[str, ...], np.ndarray]:
    """Names of the domains, and the number of each image's."""
    names, numbers = np.unique(some["domain"].astype(str), return_inverse=True)
    return tuple(map(str, names)), numbers


def _classes(some: pd.DataFrame) -> tuple[tuple[str, ...], np.ndarray]:
    """Names of the classes with most images, and the number of each image's; `OTHER` for images of other classes."""
    sizes = some.groupby("class_id").agg(label=("label", "first"), n=("label", "size"))
    sizes = sizes[sizes["n"] > 1].sort_values(["n", "label"], ascending=[False, True]).head(N_KINDS)
    numbers = some["class_id"].map(dict(zip(sizes.index, range(len(sizes)), strict=True))).fillna(OTHER)
    return tuple(sizes["label"]), numbers.astype(int).to_numpy()
