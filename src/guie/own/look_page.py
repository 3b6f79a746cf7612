"""The page of `guie look`: one HTML file that fetches nothing, made of the parts of the report of a run."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from guie.data.names import shown_name
from guie.embed.retrieval import K
from guie.files import whole_file
from guie.own.found import SMALL_PX, Found, notes
from guie.own.look_text import WHERE, remedy_of, without_folders
from guie.own.scores import DOUBT, Row, Score
from guie.own.sheet import contact_sheet
from guie.own.suspects import pairs_of
from guie.own.towers import Refused
from guie.report.album import thumbnail
from guie.report.choice import choose, mistakes, mix_ups
from guie.report.frame import whole_page
from guie.report.gallery import Answer, Neighbour, Query
from guie.report.markup import count_text, filled, score_text
from guie.report.sections_gallery import picture_numbers

N_RANDOM = 18
N_CONFUSED = 12
N_SUSPECTS = 24
N_TWINS = 24
N_LISTED = 200  # rows of a table of files
N_LABELS = 15  # rows of the table of labels before a click
SEED = 0  # of the choice of random queries


def write_page(found: Found, folder: Path) -> None:
    """Writes `index.html`, and contact sheets of suspicious labels and of twins with two labels where there are any."""
    album = _Album(found)
    with whole_file(folder / "index.html") as temporary:
        temporary.write_text(render(found, album), encoding="utf-8", errors="backslashreplace")
    suspects = [_suspect_row(album, row) for row in found.suspects.head(N_SUSPECTS).itertuples()]
    across = found.twins[found.twins["has_two_labels"]]
    twins = [_twin_row(album, row) for row in pairs_of(across).head(N_TWINS).itertuples()]
    for name, rows in (("suspects", suspects), ("duplicates", twins)):
        path = folder / f"{name}.jpg"
        if not rows:
            path.unlink(missing_ok=True)
            continue
        with whole_file(path) as temporary:
            contact_sheet(rows).save(temporary, "JPEG", quality=85)


class _Album:
    """Photos by their row: what is written under them, and their thumbnails, each made once."""

    def __init__(self, found: Found) -> None:
        self.found = found
        self.paths: list[str] = found.small.table["path"].tolist()
        self.labels: list[str] = found.small.table["label"].tolist()
        self.rows = {path: i for i, path in enumerate(self.paths)}
        sizes = found.sizes
        self.n_counted = [min(K, int(sizes.get(label, 1)) - 1) if label else 0 for label in self.labels]
        self.pixels = cache(found.small.images.read)
        self.jpeg = cache(lambda row: thumbnail(self.pixels(row)))

    def caption(self, row: int) -> str:
        """Label and file; the path alone where it holds the label."""
        label = self.labels[row]
        if not label or self.found.photos.kind == "folders":
            return shown_name(self.paths[row])
        return f"{shown_name(label)} · {shown_name(self.paths[row])}"

    def query(self, row: int, picked: str) -> Query:
        """A photo with its nearest ones."""
        near = tuple(self._neighbour(row, rank) for rank in range(min(K, self.found.neighbours.shape[1])))
        tower = self.found.best.tower.short
        is_query = self.n_counted[row] > 0
        n_right = sum(bool(one.is_correct) for one in near if one.counts)
        score = n_right / self.n_counted[row] if is_query else None
        answer = Answer(tower, score, near[0].is_correct if is_query else None, near)
        return Query(self.paths[row], self.caption(row), "", picked, (answer,), self.jpeg(row))

    def _neighbour(self, row: int, rank: int) -> Neighbour:
        other = int(self.found.neighbours[row, rank])
        label = self.labels[row]
        is_correct = self.labels[other] == label if label and self.labels[other] else None
        counts = not label or rank < self.n_counted[row]
        similarity = float(self.found.cosines[row, rank])
        return Neighbour(self.paths[other], self.caption(other), similarity, is_correct, counts, self.jpeg(other))


def render(found: Found, album: _Album | None = None) -> str:
    """The whole page as HTML."""
    album = album or _Album(found)
    table = _neighbour_table(found)
    score = found.best.full
    return whole_page(
        "look.html",
        _sections(found, album, table),
        heading=found.photos.root.resolve().name or str(found.photos.root),
        where=WHERE[found.photos.kind],
        tower=found.best.tower.short,
        best=score,
        interval=_interval(score),
        no_score=found.no_score,
        numbers=_numbers(found),
        notes=notes(found),
    )


def _numbers(found: Found) -> list[tuple[str, str]]:
    """The numbers of the head, and what they mean."""
    score = found.best.full
    numbers = [(score_text(score.r1), "R@1")] if score else []
    numbers += [(count_text(len(found.small.table)), "photos"), (count_text(len(found.sizes)), "labels")]
    if len(found.sizes):
        numbers += [(count_text(len(found.suspects)), "labels worth a look")]
    else:
        numbers += [(count_text(len(found.twins)), "there twice")]
    return [*numbers, (count_text(len(found.small.problems)), "files not used")]


def _sections(found: Found, album: _Album, table: pd.DataFrame) -> list[tuple[str, str, Markup]]:
    """Id, name in the navigation and content of each section."""
    gallery, confused = _chosen(found, album, table)
    has_labels = len(found.sizes) > 0
    why = "Photos at random, each with its five nearest. Frames and signs show whether a neighbour has its label."
    mixed = "The nearest photo has another label and is very similar: near-twins, a wrong label, or a weak network."
    suspects = [
        album.query(album.rows[row.path], f"neighbours say {row.suggested}")
        for row in found.suspects.head(N_SUSPECTS).itertuples()
    ]
    doubts = [
        "The neighbours of these photos, which do not include the photo itself, vote for another label. "
        f"{len(found.suspects):,} of {len(found.small.table):,} photos, the clearest first; suspects.csv has all. "
        "They are worth a look, not all wrong: a weak network doubts many right labels."
    ]
    sections = [
        ("score", "Networks", _towers(found)),
        ("gallery", "Neighbours", _cards("gallery", "Photos and their nearest", [why], gallery, "")),
    ]
    if has_labels:
        nothing = "No label is contradicted by its neighbours."
        sections += [
            (
                "mixups",
                "Mix-ups",
                _cards("mixups", "Mix-ups", [mixed], confused, "No photo is mixed up."),
            ),
            ("suspects", "Labels", _cards("suspects", "Labels worth a look", doubts, suspects, nothing)),
        ]
    return [*sections, ("twins", "Twins", _twins(found, album)), ("photos", "Photos", _photos(found, table))]


def _neighbour_table(found: Found) -> pd.DataFrame:
    """query_id, rank (from 1), image_id, similarity, is_correct of the five nearest of each labelled photo."""
    paths = found.small.table["path"].to_numpy()
    codes = found.small.table["class_id"].to_numpy()
    near = found.neighbours[:, :K]
    query, rank = np.nonzero((codes >= 0)[:, None] & (near >= 0))
    other = near[query, rank]
    return pd.DataFrame(
        {
            "query_id": paths[query],
            "rank": rank + 1,
            "image_id": paths[other],
            "similarity": found.cosines[query, rank],
            "is_correct": codes[query] == codes[other],
        }
    )


def _ids(found: Found) -> pd.DataFrame:
    """image_id, class_id and domain of the photos; those without a label get a class of their own."""
    codes = found.small.table["class_id"].to_numpy()
    own = np.where(codes >= 0, codes, -1 - np.arange(len(codes)))
    return pd.DataFrame({"image_id": found.small.table["path"], "class_id": own, "domain": "photos"})


def _chosen(found: Found, album: _Album, table: pd.DataFrame) -> tuple[list[Query], list[Query]]:
    """Random photos, and photos whose nearest one has another label; each of another label while there are enough."""
    ids = _ids(found)
    if found.best.full is not None:  # photos that are alone with their label ask nothing
        ids = ids[[count > 0 for count in album.n_counted]]
    scores = pd.Series(0.0, index=ids["image_id"])
    surprise = mistakes(table[table["query_id"].isin(ids["image_id"])])
    chosen = choose(scores, surprise, ids, SEED, picks={"random": N_RANDOM, "confused": N_CONFUSED})
    queries = {
        word: [album.query(album.rows[row.image_id], "") for row in chosen[chosen["picked"] == word].itertuples()]
        for word in ("random", "confused")
    }
    return queries["random"], queries["confused"]


def _towers(found: Found) -> Markup:
    rows = [_tower_row(row) for row in found.rows if isinstance(row, Row)]
    refused = [row for row in found.rows if isinstance(row, Refused)]
    refusals = [[without_folders(row.name), without_folders(row.sentence)] for row in refused]
    has_luck = any(isinstance(row, Row) and row.is_luck for row in found.rows)
    return filled(
        "look_towers.html", rows=rows, refusals=refusals, remedy=remedy_of(found.rows), has_luck=has_luck, doubt=DOUBT
    )


def _tower_row(row: Row) -> dict[str, Any]:
    milliseconds = row.features.ms_per_image
    return {
        "name": f"{row.tower.short}{' ≈' if row.is_luck else ''}",
        "detail": f"{without_folders(row.tower.name)}, {row.tower.image_px} px",
        "style": "final" if row.is_best else "",
        "mp5": row.full.mp5 if row.full else None,
        "interval": _interval(row.full),
        "r1": row.full.r1 if row.full else None,
        "reduced": row.reduced.mp5 if row.reduced else None,
        "dim": row.features.values.shape[1],
        "milliseconds": f"{milliseconds:.1f}" if milliseconds < 10 else f"{milliseconds:.0f}",
        "parameters": f"{row.features.n_parameters / 1e6:,.1f} M",
        "licence": row.tower.licence,
    }


def _interval(score: Score | None) -> str:
    """The 95 % interval as text; '' where there is none."""
    if score is None or not math.isfinite(score.low):
        return ""
    return f"{score_text(score.low)} to {score_text(score.high)}"


def _cards(name: str, title: str, notes: list[str], queries: list[Query], nothing: str) -> Markup:
    return filled(
        "look_cards.html",
        section_id=name,
        title=title,
        notes=notes,
        queries=queries,
        nothing=nothing,
        numbers=picture_numbers(queries),
        domains=[""],
        settings=list(dict.fromkeys(answer.setting for query in queries for answer in query.answers)),
    )


def _twins(found: Found, album: _Album) -> Markup:
    pairs = []
    for row in pairs_of(found.twins).head(N_TWINS).itertuples():
        rows = [album.rows[str(path)] for path in (row.path, row.twin)]
        images = [{"jpeg": album.jpeg(i), "name": album.caption(i)} for i in rows]
        pairs.append({"images": images, "how": row.how, "has_two_labels": bool(row.has_two_labels)})
    jpegs: Iterable[str] = (image["jpeg"] for pair in pairs for image in pair["images"])
    return filled(
        "look_twins.html",
        pairs=pairs,
        n=len(found.twins),
        n_two=int(found.twins["has_two_labels"].sum()),
        numbers={jpeg: i for i, jpeg in enumerate(dict.fromkeys(jpegs))},
        domains=[""],
        settings=[],
    )


def _photos(found: Found, table: pd.DataFrame) -> Markup:
    labels = found.small.table.set_index("path")["label"]
    mixed = mix_ups(table, _ids(found), labels) if len(table) else pd.DataFrame()
    by_label = [
        [shown_name(row.label), count_text(row.photos), score_text(row.mp5), score_text(row.r1)]
        for row in found.by_label.itertuples()
    ]
    tiny = [
        [shown_name(row.path), f"{row.original_width} x {row.original_height}"]
        for row in found.tiny.head(N_LISTED).itertuples()
    ]
    return filled(
        "look_photos.html",
        labels=by_label,
        n_shown=N_LABELS,
        singles=[shown_name(label) for label in found.singles],
        mixups=[
            [shown_name(row.label), shown_name(row.taken_for) or "no label", int(row.n)] for row in mixed.itertuples()
        ],
        tiny=tiny,
        n_tiny=len(found.tiny),
        small_px=SMALL_PX,
        problems=[
            [shown_name(path), reason] for path, reason in found.small.problems.head(N_LISTED).itertuples(index=False)
        ],
        n_problems=len(found.small.problems),
    )


def _suspect_row(album: _Album, row: Any) -> list[tuple[np.ndarray, str]]:
    """A suspicious photo and its three nearest, each with its caption, for the contact sheet."""
    i = album.rows[row.path]
    near = [int(other) for other in album.found.neighbours[i, :3]]
    first = (album.pixels(i), f"{album.caption(i)}\n{row.suggested}?")
    return [first, *((album.pixels(other), album.caption(other)) for other in near)]


def _twin_row(album: _Album, row: Any) -> list[tuple[np.ndarray, str]]:
    """Two photos that are the same and have two labels, for the contact sheet."""
    return [(album.pixels(album.rows[path]), album.caption(album.rows[path])) for path in (row.path, row.twin)]
