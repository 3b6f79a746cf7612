"""The section with queries and their neighbours, which a script filters and sets beside each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from markupsafe import Markup

from guie.report.choice import PICKS
from guie.report.gallery import Gallery, Query
from guie.report.markup import filled


def gallery(shown: Gallery) -> Markup:
    """Queries with their nearest images in some rows of the ladder, filters, and the most frequent mix-ups."""
    queries = shown.queries
    settings = dict.fromkeys(answer.setting for query in queries for answer in query.answers)
    numbers = picture_numbers(queries)
    return filled(
        "gallery.html",
        queries=queries,
        domains=sorted({query.domain for query in queries}),
        settings=list(settings),
        picks=PICKS,
        numbers=numbers,
        hidden_pictures=_hidden(queries, numbers),
        mixups=[[row.label, row.taken_for, row.domain, int(row.n)] for row in shown.mixups.itertuples()],
    )


def picture_numbers(queries: Sequence[Query]) -> dict[str, int]:
    """A number for each different thumbnail, by which the page's script finds it."""
    all_of = (jpeg for query in queries for jpeg in _thumbnails(query))
    return {jpeg: i for i, jpeg in enumerate(dict.fromkeys(all_of))}


def _thumbnails(query: Query) -> Iterator[str]:
    yield query.jpeg
    for answer in query.answers:
        yield from (near.jpeg for near in answer.neighbours)


def _hidden(queries: Sequence[Query], numbers: dict[str, int]) -> dict[str, str]:
    """The thumbnails that no visible answer shows, by their numbers; the page holds each of them once."""
    seen = {jpeg for query in queries for jpeg in (query.jpeg, *(near.jpeg for near in query.final.neighbours))}
    return {str(number): jpeg for jpeg, number in numbers.items() if jpeg not in seen}
