"""Which queries the report shows with their neighbours, and their thumbnails."""

from __future__ import annotations

import base64
import io
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd
from PIL import Image
from tqdm import tqdm

from guie.data.packing import PackedImages
from guie.run import DOORS, FOLDERS, Run

THUMB_PX = 112
THUMB_QUALITY = 72  # some 3.5 kB a thumbnail
MAX_QUERIES = 96  # of six thumbnails, 4.7 kB each in base64: under 3 MB
N_BEST, N_WORST, N_RANDOM = 4, 5, 5  # of each domain
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
class Query:
    """One query and its neighbours.

    Attributes:
        picked: best, worst or random.
        score: The query's precision under the contest's metric, 0..1.
        first_score: The same in the first setting; None where that is not known.
        is_right: Whether the nearest image is of the query's class.
        jpeg: Its thumbnail, base64.
    """

    image_id: str
    label: str
    domain: str
    picked: str
    score: float
    first_score: float | None
    is_right: bool
    neighbours: tuple[Neighbour, ...]
    jpeg: str


def read_gallery(run: Run) -> tuple[Query, ...]:
    """Best, worst and random queries of every domain, with thumbnails; empty where door 07 left no neighbours or door 03 no images."""
    folder, packed = run.out / FOLDERS[7], run.out / FOLDERS[3]
    needed = (folder / "neighbours.parquet", folder / "val_ids.parquet", packed / "index.parquet")
    if not all(path.is_file() for path in needed):
        return ()
    images = PackedImages(packed)
    gone = [name for name in images.index["shard"].unique() if not (packed / name).is_file()]
    if gone:
        log.warning("no gallery: %s is gone; %s, opened with the same options, packs it again", packed / gone[0], DOORS[3])
        return ()
    neighbours, ids = pd.read_parquet(needed[0]), pd.read_parquet(needed[1])
    final = neighbours[neighbours["setting"] == run.recipe.embed.final.name]
    if final.empty:
        return ()
    others = neighbours.loc[neighbours["setting"] != run.recipe.embed.final.name]
    first = query_scores(others[others["setting"] == others["setting"].iloc[0]], ids) if len(others) else pd.Series(dtype=float)
    scores = query_scores(final, ids)
    chosen = choose(scores, ids, run.recipe.seed)
    rows = {query: group.sort_values("rank") for query, group in final[final["query_id"].isin(chosen["image_id"])].groupby("query_id")}
    return tuple(_queries(images, ids.set_index("image_id"), chosen, rows, first))


def query_scores(neighbours: pd.DataFrame, ids: pd.DataFrame) -> pd.Series:
    """Each query's precision as the contest's host counts it: hits among the first m ranks over m, m = min(relevant images, 5).

    Args:
        neighbours: query_id, rank (from 1), is_correct of one setting.
        ids: image_id, class_id of all validation images.

    Returns:
        float, by query id; queries without a relevant image are left out.
    """
    n_relevant = ids.groupby("class_id")["image_id"].transform("size").set_axis(ids["image_id"]) - 1
    m = neighbours["query_id"].map(n_relevant).clip(upper=5)
    hits = (neighbours["is_correct"].astype(bool) & (neighbours["rank"] <= m)).groupby(neighbours["query_id"]).sum()
    limit = m.groupby(neighbours["query_id"]).first()
    return (hits / limit)[limit > 0]


def choose(scores: pd.Series, ids: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Queries of every domain: the best, the worst and random ones, each of another class while there are enough.

    Args:
        scores: By query id.
        ids: image_id, class_id, domain.
        seed: The choice is a function of it and of the ids, not of their order.

    Returns:
        image_id, class_id, domain, score, picked; at most `MAX_QUERIES` rows.
    """
    table = ids[ids["image_id"].isin(scores.index)].sort_values("image_id", ignore_index=True)
    table["score"] = table["image_id"].map(scores)
    table = table.sample(frac=1.0, random_state=seed)  # ties of the score are many: a random one of them
    picked = [_picked(group) for _, group in table.groupby("domain", sort=True)]
    return _trimmed(pd.concat(picked, ignore_index=True)) if picked else table.assign(picked="")


def thumbnail(image: np.ndarray) -> str:
    """A uint8 [h, w, 3] image as base64 JPEG, longer side at most `THUMB_PX`."""
    picture = Image.fromarray(image)
    picture.thumbnail((THUMB_PX, THUMB_PX), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=THUMB_QUALITY, optimize=True)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def _picked(domain: pd.DataFrame) -> pd.DataFrame:
    """The worst, best and random queries of one domain, whose rows come in random order."""
    picked = domain.head(0).assign(picked="")
    for word, count in (("worst", N_WORST), ("best", N_BEST), ("random", N_RANDOM)):
        rows = domain[~domain["image_id"].isin(picked["image_id"])]
        by = [] if word == "random" else ["score"]
        if by:
            rows = rows.sort_values("score", kind="stable", ascending=word == "worst")
        rows = rows.assign(is_repeat=rows["class_id"].isin(picked["class_id"]) | rows.duplicated("class_id"))
        rows = rows.sort_values([*by, "is_repeat"], kind="stable", ascending=[*(word == "worst" for _ in by), True])
        picked = pd.concat([picked, rows.drop(columns="is_repeat").head(count).assign(picked=word)])
    return picked


def _trimmed(chosen: pd.DataFrame) -> pd.DataFrame:
    """At most `MAX_QUERIES`: the first of each domain and kind stay before any second, the worst ones before the others."""
    turn = chosen.groupby(["domain", "picked"]).cumcount()
    kind = chosen["picked"].map({"worst": 0, "best": 1, "random": 2})
    order = pd.DataFrame({"turn": turn, "kind": kind}).sort_values(["turn", "kind"], kind="stable")
    return chosen.loc[sorted(order.index[:MAX_QUERIES])].reset_index(drop=True)


def _queries(images: PackedImages, ids: pd.DataFrame, chosen: pd.DataFrame, rows: dict[str, pd.DataFrame], first: pd.Series) -> Iterable[Query]:
    labels = images.index["source_label"]
    n_relevant = ids["class_id"].map(ids["class_id"].value_counts()) - 1

    @cache
    def jpeg(row: int) -> str:
        return thumbnail(images.read(row))

    for query in tqdm(chosen.itertuples(), total=len(chosen), desc="thumbnails", unit="query", disable=None):
        near = []
        for row in rows[query.image_id].itertuples():
            at = int(ids.at[row.image_id, "pack_row"])
            counts = row.rank <= min(n_relevant[query.image_id], 5)
            near.append(Neighbour(row.image_id, str(labels.iloc[at]), float(row.similarity), bool(row.is_correct), bool(counts), jpeg(at)))
        at = int(ids.at[query.image_id, "pack_row"])
        before = float(first[query.image_id]) if query.image_id in first.index else None
        is_right = bool(near) and near[0].is_correct
        yield Query(query.image_id, str(labels.iloc[at]), str(query.domain), query.picked, float(query.score), before, is_right, tuple(near), jpeg(at))
