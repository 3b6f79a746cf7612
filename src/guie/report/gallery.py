"""Queries with their neighbours and pictures, and the classes that are taken for others, as the report shows them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from guie.data.packed import PackedImages
from guie.report.album import Album, Picture, open_images
from guie.report.by_class import MAX_CLASSES, NO_CLASSES, by_class
from guie.report.choice import MAX_QUERIES, choose, mistakes, mix_ups, n_counted, picks_of, query_scores
from guie.run import FOLDERS, Run

MAX_PICTURES = 1056  # different ones of the queries
MAX_SETTINGS = 8  # of the ladder, the first and the last among them
NO_MIXUPS = pd.DataFrame(columns=["domain", "label", "taken_for", "n", "query_id", "image_id"])


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
        jpeg: Its picture, base64.
        file: Its file, as the enlarged picture names it; '' where the id does.
    """

    image_id: str
    label: str
    similarity: float
    is_correct: bool | None
    counts: bool
    jpeg: str
    file: str = ""

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
        picked: random, worst, confused or best.
        answers: Of up to `MAX_SETTINGS` rows of the ladder, in the order of the ladder; the exported one is the last.
        jpeg: Its picture, base64.
        file: Its file, as the enlarged picture names it; '' where the id does.
    """

    image_id: str
    label: str
    domain: str
    picked: str
    answers: tuple[Answer, ...]
    jpeg: str
    file: str = ""

    @property
    def final(self) -> Answer:
        """The exported setting's answer."""
        return self.answers[-1]


@dataclass(frozen=True)
class Gallery:
    """Queries to look at, and which classes are taken for which.

    Attributes:
        queries: Of every domain.
        mixups: As `mix_ups` returns them.
        classes: As `by_class` returns them: all classes.
        pictures: Those that the two tables show, by image id.
        settings: The names of the first and the exported setting with neighbours; one name where they are the same.
    """

    queries: tuple[Query, ...]
    mixups: pd.DataFrame
    classes: pd.DataFrame = field(default_factory=NO_CLASSES.copy)
    pictures: Mapping[str, Picture] = field(default_factory=dict)
    settings: tuple[str, ...] = ()


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
    return _filled(by_setting, ids, images, run.recipe.seed)


def _filled(by_setting: dict[str, pd.DataFrame], ids: pd.DataFrame, images: PackedImages, seed: int) -> Gallery:
    """The gallery of settings that have neighbours; the last one is exported."""
    *_, final = by_setting
    scores = {name: query_scores(rows, ids) for name, rows in by_setting.items()}
    chosen = _as_many_as_fit(scores[final], ids, by_setting, seed)
    labels = ids.set_index("image_id")["pack_row"].map(images.index["source_label"])
    mixups = mix_ups(by_setting[final], ids, labels)
    classes = by_class(by_setting, ids, labels)
    in_tables = {*mixups["query_id"], *mixups["image_id"], *_examples(classes)}
    album = Album(images, ids, _n_shown(chosen, by_setting, in_tables))
    queries = tuple(_queries(album, chosen, by_setting, scores, n_counted(ids).to_dict()))
    names = tuple(dict.fromkeys((next(iter(by_setting)), final)))
    return Gallery(queries, mixups, classes, {name: album.picture(name) for name in sorted(in_tables)}, names)


def _examples(classes: pd.DataFrame) -> set[str]:
    """The images that the table of the classes shows."""
    shown = classes.head(MAX_CLASSES)
    return {*shown["example"], *shown["wrong_image"]} - {""}


def _n_shown(chosen: pd.DataFrame, by_setting: Mapping[str, pd.DataFrame], others: set[str]) -> Counter[str]:
    """How often the page holds each picture: as often as the exported answers show it; any other one once."""
    *_, final = by_setting.values()
    queries = set(chosen["image_id"])
    n_shown = Counter(final.loc[final["query_id"].isin(queries), "image_id"]) + Counter(queries)
    answers = (set(rows.loc[rows["query_id"].isin(queries), "image_id"]) for rows in by_setting.values())
    for name in others.union(*answers) - set(n_shown):
        n_shown[name] = 1
    return n_shown


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
    """As `choose`, with no more queries than the page has room for their different pictures."""
    *_, final = by_setting.values()
    surprise = mistakes(final)
    picks = picks_of(ids["domain"].nunique())
    n = MAX_QUERIES
    while True:
        chosen = choose(scores, surprise, ids, seed, n, picks)
        near = (rows.loc[rows["query_id"].isin(chosen["image_id"]), "image_id"] for rows in by_setting.values())
        if n == 1 or len(set(chosen["image_id"]).union(*near)) <= MAX_PICTURES:
            return chosen
        n = max(1, min(n, len(chosen)) * 9 // 10)


def _queries(
    album: Album,
    chosen: pd.DataFrame,
    by_setting: dict[str, pd.DataFrame],
    scores: dict[str, pd.Series],
    counted: Mapping[str, int],
) -> Iterator[Query]:
    """The chosen queries, with their answers and pictures; `counted` has how many results the metric looks at."""
    shown = {name: _by_query(rows, chosen) for name, rows in by_setting.items()}
    for query in chosen.itertuples():
        name = query.image_id
        answers = []
        for setting, by_query in shown.items():
            if name in by_query:
                near = tuple(_neighbour(album, row, counted[name]) for row in by_query[name].itertuples())
                answers.append(Answer(setting, float(scores[setting][name]), near[0].is_correct, near))
        own = album.picture(name)
        yield Query(name, own.label, str(query.domain), query.picked, tuple(answers), own.jpeg, own.file)


def _neighbour(album: Album, row: Any, n_counted: int) -> Neighbour:
    """A row of door 07's neighbours, with what is shown of it."""
    own = album.picture(row.image_id)
    counts = bool(row.rank <= n_counted)
    return Neighbour(row.image_id, own.label, float(row.similarity), bool(row.is_correct), counts, own.jpeg, own.file)


def _by_query(neighbours: pd.DataFrame, chosen: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The neighbours of each chosen query, the nearest first."""
    rows = neighbours[neighbours["query_id"].isin(chosen["image_id"])]
    return {str(query): group.sort_values("rank") for query, group in rows.groupby("query_id")}
