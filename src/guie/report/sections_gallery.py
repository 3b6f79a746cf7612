"""The section with queries and their neighbours, which a script filters and sets beside each other."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape

from guie.report.gallery import PICKS, Answer, Gallery, Neighbour, Query
from guie.report.markup import absent, button, folded, note, score_text, section, table

TITLE = "Queries and their neighbours"


def gallery(shown: Gallery) -> str:
    """Queries with their five nearest images in up to eight rows of the ladder, buttons that filter them, and the most frequent mix-ups."""
    if not shown.queries:
        return section("gallery", TITLE, absent("No gallery: 07_embeddings/neighbours.parquet or val_ids.parquet, or 03_packed, is absent."))
    domains = sorted({query.domain for query in shown.queries})
    settings = list(dict.fromkeys(answer.setting for query in shown.queries for answer in query.answers))
    text = f"Of each domain {', '.join(f'{n} {word}' for word, n in PICKS.items())}, as far as there are: chosen to teach, not a fair sample. "
    text += "Confused: the nearest image is wrong, and more alike than other wrong ones. The query stands first; ✓ and a solid frame mean the same class, "
    text += "✗ and a dashed frame another one; the number is what the row ranks by: the cosine similarity, unless it is post-processed. "
    text += "Pale: more images than the class has others, which the metric leaves out."
    pictures = _numbered(shown.queries)
    cards = "".join(_card(query, f"d{domains.index(query.domain)}", settings, pictures) for query in shown.queries)
    status = f'<p class="note" id="count" role="status">{len(shown.queries)} queries</p>'
    return section(
        "gallery", TITLE, note(text), _filters(domains, settings), status, f'<ul class="cards">{cards}</ul>', _hidden(shown.queries, pictures), _mixups(shown)
    )


def _filters(domains: Sequence[str], settings: Sequence[str]) -> str:
    """Hidden until the script runs, which needs them."""
    groups = (
        ("Domain", [button("domain", "", "all domains"), *(button("domain", f"d{i}", name) for i, name in enumerate(domains))], ""),
        ("Picked as", [button("picked", "", "all"), *(button("picked", word, word) for word in PICKS)], ""),
        (
            "Right or wrong",
            [button("verdict", v, t) for v, t in (("", "right and wrong"), ("right", "✓ nearest is right"), ("wrong", "✗ nearest is wrong"))],
            "",
        ),
        ("Change", [button("change", v, t) for v, t in (("", "all"), ("better", "better beside"), ("worse", "worse beside"))], ' id="change" hidden'),
    )
    parts = [f'<div role="group" aria-label="{label}"{more}>{"".join(buttons)}</div>' for label, buttons, more in groups]
    if len(settings) > 1:
        parts.append(
            f'<div role="group" aria-label="Settings">{_choice("left", "Show", settings, len(settings) - 1)}{_choice("beside", "beside", settings)}</div>'
        )
    return f'<div class="filters" hidden>{"".join(parts)}</div>'


def _choice(name: str, label: str, settings: Sequence[str], chosen: int | None = None) -> str:
    options = ['<option value="">nothing</option>'] if chosen is None else []
    options += [f'<option value="s{i}"{" selected" if i == chosen else ""}>{escape(text)}</option>' for i, text in enumerate(settings)]
    return f'<label for="{name}">{label}</label><select id="{name}">{"".join(options)}</select>'


def _numbered(queries: Sequence[Query]) -> dict[str, int]:
    """A number for each thumbnail: those that only hidden answers show are stored once, by number; visible ones are inline wherever they appear."""
    all_of = (jpeg for query in queries for jpeg in (query.jpeg, *(near.jpeg for answer in query.answers for near in answer.neighbours)))
    return {jpeg: i for i, jpeg in enumerate(dict.fromkeys(all_of))}


def _hidden(queries: Sequence[Query], pictures: dict[str, int]) -> str:
    """The thumbnails that no visible answer has, for the script."""
    seen = {jpeg for query in queries for jpeg in (query.jpeg, *(near.jpeg for near in query.final.neighbours))}
    rest = {str(number): jpeg for jpeg, number in pictures.items() if jpeg not in seen}
    return f'<script type="application/json" id="thumbnails">{json.dumps(rest)}</script>' if rest else ""


def _card(query: Query, domain: str, settings: Sequence[str], pictures: dict[str, int]) -> str:
    """Without the script the exported setting's answer is shown, the others are hidden."""
    head = f"<b>{escape(query.label)}</b><span>{escape(query.domain)}</span><span>{query.picked}</span>"
    image = _image(query.jpeg, f"query: {query.label}", query.image_id, pictures)
    answers = "".join(_answer(answer, f"s{settings.index(answer.setting)}", answer is not query.final, pictures) for answer in query.answers)
    facts = f'data-domain="{domain}" data-picked="{query.picked}" data-verdict="{_verdict(query.final)}"'
    return (
        f'<li class="card" {facts}><div class="head">{head}</div><div class="body">'
        f'<figure class="query">{image}<span class="sign">query</span></figure>{answers}</div></li>'
    )


def _answer(answer: Answer, setting: str, is_hidden: bool, pictures: dict[str, int]) -> str:
    head = f'<p class="of"><span>{escape(answer.setting)}</span> <b>mP@5 {score_text(answer.score)}</b></p>'
    near = "".join(_neighbour(neighbour, rank, is_hidden, pictures) for rank, neighbour in enumerate(answer.neighbours, start=1))
    facts = f'data-setting="{setting}" data-verdict="{_verdict(answer)}" data-score="{answer.score:.4f}"{" hidden" if is_hidden else ""}'
    return f'<div class="answer" {facts}>{head}<div class="strip">{near}</div></div>'


def _verdict(answer: Answer) -> str:
    return "right" if answer.is_right else "wrong"


def _neighbour(near: Neighbour, rank: int, is_hidden: bool, pictures: dict[str, int]) -> str:
    verdict, sign = ("right", "✓") if near.is_correct else ("wrong", "✗")
    image = _image(near.jpeg, f"neighbour {rank}, {verdict}: {near.label}", f"{near.label}\n{near.image_id}", pictures, is_hidden)
    name = f'<span class="name">{escape(near.label)}</span>'
    return f'<figure class="{verdict}{"" if near.counts else " idle"}">{image}<span class="sign">{sign} {near.similarity:.3f}</span>{name}</figure>'


def _image(jpeg: str, alt: str, title: str, pictures: dict[str, int], is_hidden: bool = False) -> str:
    source = "" if is_hidden else f' src="data:image/jpeg;base64,{jpeg}"'
    return f'<img{source} data-picture="{pictures[jpeg]}" alt="{escape(alt)}" title="{escape(title)}" decoding="async">'


def _mixups(shown: Gallery) -> str:
    if shown.mixups.empty:
        return ""
    rows = [[row.label, row.taken_for, row.domain, int(row.n)] for row in shown.mixups.itertuples()]
    body = note("Wrong neighbours that the metric counts, of all queries, by class.")
    head = ("class", "taken for", "its domain", "times")
    return folded(f"The {len(rows)} most frequent mix-ups", body + table(head, rows, "Mix-ups", ("taken for", "its domain")))
