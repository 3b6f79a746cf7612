"""Queries with their neighbours and thumbnails, as the report shows them."""

from __future__ import annotations

import base64
import io
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from tqdm import tqdm

from guie.data.packed import PackedImages
from guie.report.choice import MAX_QUERIES, choose, mistakes, mix_ups, n_counted, query_scores
from guie.run import DOORS, FOLDERS, Run

THUMB_PX = 112
THUMB_QUALITY = 72  # some 3.5 kB a thumbnail
MAX_THUMBNAILS = 1056  # different ones; 4.7 kB each in base64: 5 MB, half of what the page may have
MAX_SETTINGS = 8  # of the ladder, the first and the last among them
NO_MIXUPS = pd.DataFrame(columns=["domain", "label", "taken_for", "n"])
log = logging.getLogger(__name__)


def _verdict(is_right: bool | None) -> str:
    return "" if is_right is None else "right" if is_right else "wrong"


@dataclass(frozen=True)
class Neighbour:
    """One of a query's nearest images.

    Attributes:
        image_id: Its id.
        label: The label of its class.
        similarity: What it is ranked by.
        is_correct: Whether it is of the query's class; None where that is not known.
        counts: Whether the metric looks at its rank: the class may have fewer other images than are shown.
        jpeg: Its thumbnail, base64.
    """

    image_id: str
    label: str
    similarity: float
    is_correct: bool | None
    counts: bool
    jpeg: str

    @property
    def verdict(self) -> str:
        """`right`, `wrong`, or '' where it is not known."""
        return _verdict(self.is_correct)


@dataclass(frozen=True)
class Answer:
    """What one setting finds for a query.

    Attributes:
        setting: Its name.
        score: The query's precision under the contest's metric, 0..1; None for an image that is no query.
        is_right: Whether the nearest image is of the query's class; None where that is not known.
        neighbours: The nearest first.
    """

    setting: str
    score: float | None
    is_right: bool | None
    neighbours: tuple[Neighbour, ...]

    @property
    def verdict(self) -> str:
        """`right` or `wrong`, as the page's filters call it; '' where it is not known."""
        return _verdict(self.is_right)


@dataclass(frozen=True)
class Query:
    """One query and its neighbours.

    Attributes:
        image_id: Its id.
        label: The label of its class.
        domain: Its domain.
        picked: worst, confused, best or random.
        answers: Of up to `MAX_SETTINGS` rows of the ladder, in the order of the ladder; the exported one is the last.
        jpeg: Its thumbnail, base64.
    """

    image_id: str
    label: str
    domain: str
    picked: str
    answers: tuple[Answer, ...]
    jpeg: str

    @property
    def final(self) -> Answer:
        """The exported setting's answer."""
        return self.answers[-1]


@dataclass(frozen=True)
class Gallery:
    """Queries to look at, and which classes are taken for which.

    Attributes:
        queries: Of every domain.
        mixups: domain, label, taken_for, n (wrong neighbours that the metric counts), the most frequent first.
    """

    queries: tuple[Query, ...]
    mixups: pd.DataFrame


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


def read_gallery(run: Run) -> Gallery:
    """Queries of every domain with thumbnails; empty where door 07 left no neighbours or door 03 no images."""
    folder = run.out / FOLDERS[7]
    paths = (folder / "neighbours.parquet", folder / "val_ids.parquet")
    images = open_images(run)
    if images is None or not all(path.is_file() for path in paths):
        return Gallery((), NO_MIXUPS)
    neighbours, ids = (pd.read_parquet(path) for path in paths)
    final = run.recipe.embed.final.name
    by_setting = _by_setting(neighbours, final)
    if not by_setting:
        return Gallery((), NO_MIXUPS)
    scores = {name: query_scores(rows, ids) for name, rows in by_setting.items()}
    chosen = _as_many_as_fit(scores[final], ids, by_setting, run.recipe.seed)
    queries = tuple(_queries(_Album(images, ids), chosen, by_setting, scores))
    labels = ids.set_index("image_id")["pack_row"].map(images.index["source_label"])
    return Gallery(queries, mix_ups(by_setting[final], ids, labels))


def thumbnail(image: np.ndarray) -> str:
    """A uint8 [h, w, 3] image as base64 JPEG, longer side at most `THUMB_PX`."""
    picture = Image.fromarray(image)
    picture.thumbnail((THUMB_PX, THUMB_PX), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=THUMB_QUALITY, optimize=True)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


class _Album:
    """The packed images by their ids: label, thumbnail (made once), and how many neighbours the metric looks at."""

    def __init__(self, images: PackedImages, ids: pd.DataFrame) -> None:
        self._images = images
        self._pack_rows = ids.set_index("image_id")["pack_row"].to_dict()
        self._n_counted = n_counted(ids).to_dict()
        self._jpegs: dict[str, str] = {}

    def label(self, image_id: str) -> str:
        return str(self._images.index["source_label"].iloc[self._pack_rows[image_id]])

    def jpeg(self, image_id: str) -> str:
        if image_id not in self._jpegs:
            self._jpegs[image_id] = thumbnail(self._images.read(self._pack_rows[image_id]))
        return self._jpegs[image_id]

    def neighbour(self, row: Any) -> Neighbour:
        """A row of door 07's neighbours, with what is shown of it."""
        return Neighbour(
            row.image_id,
            self.label(row.image_id),
            float(row.similarity),
            bool(row.is_correct),
            bool(row.rank <= self._n_counted[row.query_id]),
            self.jpeg(row.image_id),
        )


def _by_setting(neighbours: pd.DataFrame, final: str) -> dict[str, pd.DataFrame]:
    """The neighbours of at most `MAX_SETTINGS` settings in the order of the ladder, but `final` is the last.

    Empty where `final` has none.
    """
    found = {str(name): rows for name, rows in neighbours.groupby("setting", sort=False)}
    if final not in found:
        return {}
    names = [*(name for name in found if name != final), final]
    if len(names) > MAX_SETTINGS:
        names = [names[i] for i in np.linspace(0, len(names) - 1, MAX_SETTINGS).round().astype(int)]
    return {name: found[name] for name in names}


def _as_many_as_fit(
    scores: pd.Series,
    ids: pd.DataFrame,
    by_setting: dict[str, pd.DataFrame],
    seed: int,
) -> pd.DataFrame:
    """As `choose`, with no more queries than the page has room for their different thumbnails."""
    *_, final = by_setting.values()
    surprise = mistakes(final)
    n = MAX_QUERIES
    while True:
        chosen = choose(scores, surprise, ids, seed, n)
        near = (rows.loc[rows["query_id"].isin(chosen["image_id"]), "image_id"] for rows in by_setting.values())
        if n == 1 or len(set(chosen["image_id"]).union(*near)) <= MAX_THUMBNAILS:
            return chosen
        n = max(1, min(n, len(chosen)) * 9 // 10)


def _queries(
    album: _Album,
    chosen: pd.DataFrame,
    by_setting: dict[str, pd.DataFrame],
    scores: dict[str, pd.Series],
) -> Iterator[Query]:
    """The chosen queries, with their answers and thumbnails."""
    shown = {name: _by_query(rows, chosen) for name, rows in by_setting.items()}
    for query in tqdm(chosen.itertuples(), total=len(chosen), desc="thumbnails", unit="query", disable=None):
        name = query.image_id
        answers = []
        for setting, by_query in shown.items():
            if name in by_query:
                near = tuple(album.neighbour(row) for row in by_query[name].itertuples())
                answers.append(Answer(setting, float(scores[setting][name]), near[0].is_correct, near))
        yield Query(name, album.label(name), str(query.domain), query.picked, tuple(answers), album.jpeg(name))


def _by_query(neighbours: pd.DataFrame, chosen: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The neighbours of each chosen query, the nearest first."""
    rows = neighbours[neighbours["query_id"].isin(chosen["image_id"])]
    return {str(query): group.sort_values("rank") for query, group in rows.groupby("query_id")}
