"""Two sections: queries and their neighbours, which a script filters and sets beside each other; and the classes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from markupsafe import Markup

from guie.data.names import shown_name
from guie.report.by_class import MAX_CLASSES
from guie.report.choice import picks_of
from guie.report.collect import is_number
from guie.report.gallery import Gallery, Query
from guie.report.markup import NOTHING, filled, score_text


def gallery(shown: Gallery) -> Markup:
    """Queries with their nearest images in some rows of the ladder, and filters."""
    queries = shown.queries
    settings = dict.fromkeys(answer.setting for query in queries for answer in query.answers)
    domains = sorted({query.domain for query in queries})
    numbers = all_numbers(shown)
    found = {query.picked for query in queries}
    return filled(
        "gallery.html",
        queries=queries,
        domains=domains,
        settings=list(settings),
        picks={word: n for word, n in picks_of(len(domains)).items() if word in found},
        numbers=numbers,
        hidden_pictures=_hidden(queries, numbers),
    )


def classes(shown: Gallery) -> Markup:
    """Every class with its scores and what it is taken for, the worst first, and the most frequent mix-ups."""
    listed = shown.classes.head(MAX_CLASSES)
    mixups: Any = shown.mixups.itertuples()
    return filled(
        "classes.html",
        n_classes=len(shown.classes),
        settings=shown.settings,
        has_domains=shown.classes["domain"].nunique() > 1,
        rows=[_class_row(row) for row in listed.itertuples()],
        mixups=[row._replace(label=shown_name(row.label), taken_for=shown_name(row.taken_for)) for row in mixups],
        pictures=shown.pictures,
        numbers=all_numbers(shown),
    )


def all_numbers(shown: Gallery) -> dict[str, int]:
    """A number for each different picture of both sections, by which the page's script finds it."""
    return picture_numbers(shown.queries, [picture.jpeg for picture in shown.pictures.values()])


def picture_numbers(queries: Sequence[Query], more: Sequence[str] = ()) -> dict[str, int]:
    """A number for each different picture, by which the page's script finds it."""
    all_of = (jpeg for query in queries for jpeg in _thumbnails(query))
    return {jpeg: i for i, jpeg in enumerate(dict.fromkeys((*all_of, *more)))}


def _class_row(row: Any) -> dict[str, Any]:
    """A class as its template shows it."""
    change = row.mp5 - row.mp5_first
    return {
        "label": shown_name(row.label),
        "domain": row.domain,
        "n_images": int(row.n_images),
        "mp5": score_text(row.mp5),
        "first": score_text(row.mp5_first),
        "change": f"{change:+.3f}" if is_number(change) else NOTHING,
        "example": row.example,
        "taken_for": shown_name(row.taken_for),
        "wrong_image": row.wrong_image,
        "n_wrong": int(row.n_wrong),
    }


def _thumbnails(query: Query) -> Iterator[str]:
    yield query.jpeg
    for answer in query.answers:
        yield from (near.jpeg for near in answer.neighbours)


def _hidden(queries: Sequence[Query], numbers: dict[str, int]) -> dict[str, str]:
    """The thumbnails that no visible answer shows, by their numbers; the page holds each of them once."""
    seen = {jpeg for query in queries for jpeg in (query.jpeg, *(near.jpeg for near in query.final.neighbours))}
    return {str(number): jpeg for jpeg, number in numbers.items() if jpeg not in seen}
