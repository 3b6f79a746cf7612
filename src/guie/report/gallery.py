"""Which queries the report shows with their neighbours, and their thumbnails."""

from __future__ import annotations

import base64
import io
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from tqdm import tqdm

from guie.data.packing import PackedImages
from guie.run import DOORS, FOLDERS, Run

THUMB_PX = 112
THUMB_QUALITY = 72  # some 3.5 kB a thumbnail
MAX_THUMBNAILS = 1056  # different ones; 4.7 kB each in base64: 5 MB, half of what the page may have
MAX_QUERIES = 96
MAX_SETTINGS = 8  # of the ladder, the first and the last among them
PICKS = {"worst": 5, "confused": 4, "best": 4, "random": 5}  # of each domain
N_MIXUPS = 15
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Neighbour:
    """One of a query's nearest images; `counts` is False where the metric no longer looks (rank > number of relevant images)."""

    image_id: str
    label: str
    similarity: float
    is_correct: bool
    counts: bool
    jpeg: str


@dataclass(frozen=True)
class Answer:
    """What one setting answers to a query.

    Attributes:
        setting: Its name.
        score: The query's precision under the contest's metric, 0..1.
        is_right: Whether the nearest image is of the query's class.
        neighbours: The nearest first.
    """

    setting: str
    score: float
    is_right: bool
    neighbours: tuple[Neighbour, ...]


@dataclass(frozen=True)
class Query:
    """One query and its neighbours.

    Attributes:
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


NO_MIXUPS = pd.DataFrame(columns=["domain", "label", "taken_for", "n"])


def open_images(run: Run) -> PackedImages | None:
    """The images that door 03 packed; None where its index or one of its shards is gone."""
    packed = run.out / FOLDERS[3]
    if not (packed / "index.parquet").is_file():
        return None
    images = PackedImages(packed)
    gone = [name for name in images.index["shard"].unique() if not (packed / name).is_file()]
    if gone:
        log.warning("no images in the report: %s is gone; %s, opened with the same options, packs it again", packed / gone[0], DOORS[3])
        return None
    return images


def read_gallery(run: Run) -> Gallery:
    """Queries of every domain with thumbnails; empty where door 07 left no neighbours or door 03 no images."""
    folder, final = run.out / FOLDERS[7], run.recipe.embed.final.name
    needed = (folder / "neighbours.parquet", folder / "val_ids.parquet")
    images = open_images(run)
    if images is None or not all(path.is_file() for path in needed):
        return Gallery((), NO_MIXUPS)
    neighbours, ids = pd.read_parquet(needed[0]), pd.read_parquet(needed[1])
    by_setting = {str(name): rows for name, rows in neighbours.groupby("setting", sort=False)}
    if final not in by_setting:
        return Gallery((), NO_MIXUPS)
    by_setting[final] = by_setting.pop(final)  # the last
    if len(by_setting) > MAX_SETTINGS:
        names = list(by_setting)
        by_setting = {names[i]: by_setting[names[i]] for i in np.linspace(0, len(names) - 1, MAX_SETTINGS).round().astype(int)}
    scores = {name: query_scores(rows, ids) for name, rows in by_setting.items()}
    chosen = _as_many_as_fit(scores[final], ids, by_setting, run.recipe.seed)
    shown = {
        name: {str(query): group.sort_values("rank") for query, group in rows[rows["query_id"].isin(chosen["image_id"])].groupby("query_id")}
        for name, rows in by_setting.items()
    }
    labels = ids.set_index("image_id")["pack_row"].map(images.index["source_label"])
    queries = tuple(_queries(images, ids.set_index("image_id"), chosen, shown, scores))
    return Gallery(queries, mix_ups(by_setting[final], ids, labels))


def _as_many_as_fit(scores: pd.Series, ids: pd.DataFrame, by_setting: dict[str, pd.DataFrame], seed: int) -> pd.DataFrame:
    """As `choose`, with no more queries than the page has room for different thumbnails."""
    surprise, n = mistakes(list(by_setting.values())[-1]), MAX_QUERIES
    while True:
        chosen = choose(scores, surprise, ids, seed, n)
        near = (rows.loc[rows["query_id"].isin(chosen["image_id"]), "image_id"] for rows in by_setting.values())
        if n == 1 or len(set(chosen["image_id"]).union(*near)) <= MAX_THUMBNAILS:
            return chosen
        n = max(1, min(n, len(chosen)) * 9 // 10)


def mistakes(neighbours: pd.DataFrame) -> pd.Series:
    """The similarity of the nearest image where it is wrong, by query id: how sure the mistake is.

    Args:
        neighbours: query_id, rank, similarity, is_correct of one setting.
    """
    wrong = neighbours[(neighbours["rank"] == 1) & ~neighbours["is_correct"].astype(bool)]
    return wrong.set_index("query_id")["similarity"]


def mix_ups(neighbours: pd.DataFrame, ids: pd.DataFrame, labels: pd.Series) -> pd.DataFrame:
    """Which classes are most often taken for which: pairs of labels by the number of wrong neighbours that the metric counts.

    Args:
        neighbours: query_id, rank, image_id, is_correct of one setting.
        ids: image_id, class_id, domain.
        labels: By image id.

    Returns:
        domain, label, taken_for, n; at most `N_MIXUPS` rows.
    """
    limit = _n_relevant(ids).clip(upper=5)
    wrong = neighbours[~neighbours["is_correct"].astype(bool) & (neighbours["rank"] <= neighbours["query_id"].map(limit))]
    domains = ids.set_index("image_id")["domain"]
    pairs = pd.DataFrame({"domain": wrong["query_id"].map(domains), "label": wrong["query_id"].map(labels), "taken_for": wrong["image_id"].map(labels)})
    counted = pairs.groupby(["domain", "label", "taken_for"]).size().rename("n").reset_index()
    return counted.sort_values(["n", "domain", "label", "taken_for"], ascending=[False, True, True, True], ignore_index=True).head(N_MIXUPS)


def query_scores(neighbours: pd.DataFrame, ids: pd.DataFrame) -> pd.Series:
    """Each query's precision as the contest's host counts it: hits among the first m ranks over m, m = min(relevant images, 5).

    Args:
        neighbours: query_id, rank (from 1), is_correct of one setting.
        ids: image_id, class_id of all validation images.

    Returns:
        float, by query id; queries without a relevant image are left out.
    """
    m = neighbours["query_id"].map(_n_relevant(ids)).clip(upper=5)
    hits = (neighbours["is_correct"].astype(bool) & (neighbours["rank"] <= m)).groupby(neighbours["query_id"]).sum()
    limit = m.groupby(neighbours["query_id"]).first()
    return (hits / limit)[limit > 0]


def choose(scores: pd.Series, surprise: pd.Series, ids: pd.DataFrame, seed: int, n_queries: int = MAX_QUERIES) -> pd.DataFrame:
    """Queries of every domain: the worst, the most confused, the best and random ones, each of another class while there are enough.

    Args:
        scores: By query id.
        surprise: By query id, of those whose nearest image is wrong: the larger, the more confused.
        ids: image_id, class_id, domain.
        seed: The choice is a function of it and of the ids, not of their order.
        n_queries: At most so many.

    Returns:
        image_id, class_id, domain, score, picked.
    """
    table = ids[ids["image_id"].isin(scores.index)].sort_values("image_id", ignore_index=True)
    table = table.assign(score=table["image_id"].map(scores), surprise=table["image_id"].map(surprise))
    table = table.sample(frac=1.0, random_state=seed)  # ties of the score are many: a random one of them
    picked = [_picked(group) for _, group in table.groupby("domain", sort=True)]
    chosen = _trimmed(pd.concat(picked, ignore_index=True), n_queries) if picked else table.assign(picked="")
    return chosen.drop(columns="surprise")


def thumbnail(image: np.ndarray) -> str:
    """A uint8 [h, w, 3] image as base64 JPEG, longer side at most `THUMB_PX`."""
    picture = Image.fromarray(image)
    picture.thumbnail((THUMB_PX, THUMB_PX), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=THUMB_QUALITY, optimize=True)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def _n_relevant(ids: pd.DataFrame) -> pd.Series:
    """Other images of the same class, by image id."""
    return ids.groupby("class_id")["image_id"].transform("size").set_axis(ids["image_id"]) - 1


def _picked(domain: pd.DataFrame) -> pd.DataFrame:
    """The queries of one domain, whose rows come in random order."""
    order = {"worst": ("score", True), "confused": ("surprise", False), "best": ("score", False)}
    picked = domain.head(0).assign(picked="")
    for word, count in PICKS.items():
        rows = domain[~domain["image_id"].isin(picked["image_id"])]
        if word in order:
            column, is_ascending = order[word]
            rows = rows.dropna(subset=column).sort_values(column, kind="stable", ascending=is_ascending)
        rows = rows.assign(is_repeat=rows["class_id"].isin(picked["class_id"]) | rows.duplicated("class_id"))
        by = {"worst": ["score"], "best": ["score"]}.get(word, [])  # no query of another class at the price of a less extreme score
        rows = rows.sort_values([*by, "is_repeat"], kind="stable", ascending=[*(word == "worst" for _ in by), True])
        picked = pd.concat([picked, rows.drop(columns="is_repeat").head(count).assign(picked=word)])
    return picked


def _trimmed(chosen: pd.DataFrame, n_queries: int) -> pd.DataFrame:
    """At most so many: the first of each domain and kind stay before any second, the worst ones before the others."""
    turn = chosen.groupby(["domain", "picked"]).cumcount()
    kind = chosen["picked"].map({word: i for i, word in enumerate(PICKS)})
    order = pd.DataFrame({"turn": turn, "kind": kind}).sort_values(["turn", "kind"], kind="stable")
    return chosen.loc[sorted(order.index[:n_queries])].reset_index(drop=True)


def _queries(
    images: PackedImages, ids: pd.DataFrame, chosen: pd.DataFrame, shown: dict[str, dict[str, pd.DataFrame]], scores: dict[str, pd.Series]
) -> Iterable[Query]:
    labels = images.index["source_label"]
    limit = (ids["class_id"].map(ids["class_id"].value_counts()) - 1).clip(upper=5)

    @cache
    def jpeg(row: int) -> str:
        return thumbnail(images.read(row))

    def neighbour(row: Any, query_id: str) -> Neighbour:
        at = int(ids.at[row.image_id, "pack_row"])
        counts = bool(row.rank <= limit[query_id])
        return Neighbour(row.image_id, str(labels.iloc[at]), float(row.similarity), bool(row.is_correct), counts, jpeg(at))

    for query in tqdm(chosen.itertuples(), total=len(chosen), desc="thumbnails", unit="query", disable=None):
        answers = []
        for setting, rows in shown.items():
            if query.image_id in rows:
                near = tuple(neighbour(row, query.image_id) for row in rows[query.image_id].itertuples())
                answers.append(Answer(setting, float(scores[setting][query.image_id]), near[0].is_correct, near))
        at = int(ids.at[query.image_id, "pack_row"])
        yield Query(query.image_id, str(labels.iloc[at]), str(query.domain), query.picked, tuple(answers), jpeg(at))
