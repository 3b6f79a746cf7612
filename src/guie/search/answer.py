"""Answers queries: the nearest photos of an index for image files, as text, JSON or CSV."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from guie.data.duplicates import content_hash
from guie.data.image import read_file
from guie.data.names import safe_name, shown_name
from guie.search.embedder import Embedder
from guie.search.store import Index
from guie.shown import NARROWEST, cut, painted, window_columns

FORMATS = ("text", "json", "csv")


@dataclass(frozen=True)
class Query:
    """An image to search with.

    Attributes:
        name: The name that the user gave.
        embedding: float32 [dim], of length 1; None if the image has none.
        own: int64: its own rows in the index.
        problem: Why it has no embedding, or ''.
    """

    name: str
    embedding: np.ndarray | None
    own: np.ndarray
    problem: str = ""


@dataclass(frozen=True)
class Answer:
    """What was found for a query.

    Attributes:
        query: The query.
        near: (row, cosine), the nearest first.
        n_left_out: How many rows of the index were left out because they are the query itself.
    """

    query: Query
    near: list[tuple[int, float]]
    n_left_out: int


NOWHERE = np.empty(0, dtype=np.int64)


def read_queries(files: Sequence[Path], index: Index, embedder: Embedder) -> list[Query]:
    """Reads and embeds image files, one after the other; a broken one does not stop the others."""
    return [_read_query(file, index, embedder) for file in files]


def _read_query(file: Path, index: Index, embedder: Embedder) -> Query:
    name = safe_name(str(file))
    try:
        content = read_file(file)
    except ValueError as error:
        return Query(name, None, NOWHERE, str(error))
    return query_of(name, content, index, embedder, own_row(file, index))


def query_of(name: str, content: bytes, index: Index, embedder: Embedder, own: np.ndarray = NOWHERE) -> Query:
    """Makes a query from an image's bytes.

    Args:
        name: Name of the query.
        content: The bytes of the image's file.
        index: Where it will be searched.
        embedder: The model that made the index.
        own: int64: its row in the index, if known. If empty, all photos with the same bytes count as its own.
    """
    try:
        embeddings, reasons = embedder.embed([embedder.pixels(content)])
    except ValueError as error:
        return Query(name, None, NOWHERE, str(error))
    if reasons[0]:
        return Query(name, None, NOWHERE, reasons[0])
    return Query(name, embeddings[0], own if len(own) else index.rows_with(content_hash(content)))


def own_row(file: Path, index: Index) -> np.ndarray:
    """int64: the row of a file that lies in the indexed folder; empty if it has none."""
    relative = os.path.relpath(os.path.abspath(file), index.header.root)
    return np.asarray(index.rows_of(safe_name(relative)), dtype=np.int64)


def answer(
    queries: Sequence[Query], index: Index, k: int, has_itself: bool = False, rows: range | None = None
) -> list[Answer]:
    """The k nearest photos of each query. A query without an embedding gets none.

    Args:
        queries: From `read_queries`.
        index: What is searched.
        k: Number of neighbours.
        has_itself: Whether a query that is in the index may find itself.
        rows: Only these rows are searched; None searches all.
    """
    asking = [query for query in queries if query.embedding is not None]
    own = [NOWHERE if has_itself else query.own for query in asking]
    embeddings = np.array([query.embedding for query in asking], dtype=np.float32)
    found = iter(index.nearest(embeddings, k, own, rows) if asking else [])
    return [
        Answer(query, [], 0)
        if query.embedding is None
        else Answer(query, next(found), 0 if has_itself else len(query.own))
        for query in queries
    ]


def as_records(answers: Sequence[Answer], index: Index) -> list[dict[str, Any]]:
    """The answers as JSON can store them."""
    return [
        {"query": found.query.name, "error": found.query.problem}
        if found.query.problem
        else {
            "query": found.query.name,
            "left_out": index.table["path"].iloc[found.query.own].tolist() if found.n_left_out else [],
            "neighbours": [neighbour(index, rank, *near) for rank, near in enumerate(found.near, 1)],
        }
        for found in answers
    ]


def neighbour(index: Index, rank: int, row: int, cosine: float) -> dict[str, Any]:
    """One neighbour: rank, path relative to the photos' folder, label, cosine, and the file's whole path."""
    path, label = index.table[["path", "label"]].iloc[row]
    return {
        "rank": rank,
        "path": str(path),
        "label": str(label),
        "cosine": round(cosine, 6),
        "file": safe_name(str(index.file(row))),
    }


def as_json(answers: Sequence[Answer], index: Index) -> str:
    """One JSON document."""
    about = {
        "photos": index.header.photos,
        "n_photos": len(index),
        "model": index.header.model.text,
        "made": index.header.made,
    }
    return json.dumps({"index": about, "queries": as_records(answers, index)}, indent=2, ensure_ascii=False)


def as_csv(answers: Sequence[Answer], index: Index) -> str:
    """One table: query, rank, path, label, cosine. A query that cannot be read has no rows."""
    buffer = io.StringIO()
    table = csv.writer(buffer, lineterminator="\n")
    table.writerow(["query", "rank", "path", "label", "cosine"])
    for record in as_records(answers, index):
        for near in record.get("neighbours", []):
            table.writerow([record["query"], near["rank"], near["path"], near["label"], f"{near['cosine']:.6f}"])
    return buffer.getvalue().rstrip("\n")


def as_text(answers: Sequence[Answer], index: Index) -> str:
    """For people: rank, cosine and path of each neighbour, and its label if the path does not show it."""
    blocks = []
    for found in answers:
        if found.query.problem:
            continue
        lines = [f"{found.query.name}{_left_out(found)}"]
        for rank, (row, cosine) in enumerate(found.near, 1):
            path, label = (str(value) for value in index.table[["path", "label"]].iloc[row])
            shown = f"   {label}" if label and path.rpartition("/")[0] != label else ""
            lines.append(
                f"{rank:>4}  {painted(f'{cosine:.4f}', 'score')}  {_fitted(for_people(path), len(shown))}{shown}"
            )
        blocks.append("\n".join(lines if found.near else [*lines, "      no other photo in the index"]))
    return "\n\n".join(blocks)


def for_people(path: str) -> str:
    """A photo's path as shown: the file's name as on disk, and the folders as in the index, since searches can name
    them."""
    folder, slash, name = path.rpartition("/")
    return f"{folder}{slash}{shown_name(name)}"


def _fitted(path: str, n_more: int) -> str:
    """The path, cut to the window's width: rank and cosine come before it, and `n_more` characters after it."""
    width = window_columns()
    return cut(path, max(NARROWEST, width - len("   1  1.0000  ") - n_more)) if width else path


def _left_out(found: Answer) -> str:
    if not found.n_left_out:
        return ""
    n_copies = found.n_left_out - 1
    what = f"itself and {n_copies} {'copy' if n_copies == 1 else 'copies'} are" if n_copies else "itself is"
    return f"   ({what} in the index and left out; --with-itself shows it)"
