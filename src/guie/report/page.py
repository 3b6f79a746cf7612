"""Door 09: the page that shows a run. One file, nothing fetched from anywhere."""

from __future__ import annotations

import logging
from html import escape
from typing import Any

from guie.checkpoint import whole_file
from guie.report import sections
from guie.report.collect import Facts, Scores, collect
from guie.report.gallery import Query, read_gallery
from guie.report.pictures import as_file, ladder_picture, ladder_rows, ladder_svg, neighbours_picture
from guie.report.style import CSS, SCRIPT
from guie.run import Run

MAX_MB = 10
NAVIGATION = (
    ("ladder", "Ladder"),
    ("domains", "Domains"),
    ("training", "Training"),
    ("data", "Data"),
    ("gallery", "Neighbours"),
    ("settings", "Settings"),
    ("times", "Times"),
)
# Says what the page may do: nothing but show itself. A forgotten link to a font would be refused, not fetched.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
log = logging.getLogger(__name__)


def write_report(run: Run) -> dict[str, Any]:
    """Writes `09_report/index.html` from the run's artefacts, neighbours.jpg, ladder.svg and ladder.png beside it, and logs the ladder.

    Returns:
        The exported setting's scores, the number of queries shown and the page's size.

    Raises:
        ValueError: `scores.csv` of door 07 is missing or does not fit the recipe; artefacts that are optional show as absent instead.
    """
    facts = collect(run)
    queries = read_gallery(run)
    path = run.folder(9) / "index.html"
    html = render(facts, queries).encode()
    with whole_file(path) as temporary:
        temporary.write_bytes(html)
    _write_pictures(run, facts, queries)
    if len(html) > MAX_MB * 1e6:
        log.warning("%s has %.1f MB, more than the %d MB that every browser and mail takes", path, len(html) / 1e6, MAX_MB)
    log.info("%s", ladder_text(facts.scores))
    log.info("report: %s (%.1f MB, %d queries)", path, len(html) / 1e6, len(queries))
    final = facts.scores.table.iloc[facts.scores.final]
    return {"mp5": float(final["mp5"]), "r1": float(final["r1"]), "n_queries_shown": len(queries), "megabytes": round(len(html) / 1e6, 3)}


def _write_pictures(run: Run, facts: Facts, queries: tuple[Query, ...]) -> None:
    rows = ladder_rows(facts.scores)
    files = {"ladder.svg": ladder_svg(rows).encode(), "ladder.png": as_file(ladder_picture(rows), "PNG")}
    picture = neighbours_picture(queries)
    if picture is not None:
        files["neighbours.jpg"] = as_file(picture, "JPEG")
    for name, content in files.items():
        with whole_file(run.folder(9) / name) as temporary:
            temporary.write_bytes(content)


def render(facts: Facts, queries: tuple[Query, ...]) -> str:
    """The whole page as HTML: a pure function of what was collected."""
    scores = facts.scores
    names = scores.table["setting"]
    title = f"{facts.recipe.name} · seed {facts.recipe.seed} · {facts.commit}"
    links = "".join(f'<li><a href="#{name}">{text}</a></li>' for name, text in NAVIGATION)
    body = (
        sections.ladder(scores),
        sections.domains(scores),
        sections.training(facts.stages),
        sections.data(facts.data),
        sections.gallery(queries, str(names.iloc[0]), str(names.iloc[scores.final])),
        sections.settings(facts.recipe),
        sections.times(facts.steps),
    )
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{escape(title)}</title><style>{CSS}</style></head><body>'
        f'<a class="skip" href="#ladder">Skip to the scores</a>{_header(facts)}<nav aria-label="Sections"><ul>{links}</ul></nav>'
        f"<main>{''.join(body)}</main><footer><p>Made by door 09 of guie from the artefacts of this run.</p></footer><script>{SCRIPT}</script></body></html>\n"
    )


def ladder_text(scores: Scores) -> str:
    """The ladder as lines of text, the exported setting marked."""
    width = max(len("setting"), *(len(name) for name in scores.table["setting"]))
    lines = [f"  {'setting':<{width}}  {'mP@5':>6}  {'R@1':>6}  {'dims':>5}"]
    for i, row in enumerate(scores.table.to_dict("records")):
        sign = ">" if i == scores.final else " "
        lines.append(f"{sign} {row['setting']:<{width}}  {sections.score_text(row['mp5']):>6}  {sections.score_text(row['r1']):>6}  {row['dim']!s:>5}")
    return "\n".join(lines)


def _header(facts: Facts) -> str:
    scores, recipe = facts.scores, facts.recipe
    first, final = scores.table.iloc[0], scores.table.iloc[scores.final]
    gain = float(final["mp5"]) - float(first["mp5"])
    seconds = sum(step.mark["seconds"] for step in facts.steps if step.mark and not step.is_stage and "seconds" in step.mark)
    cells = [
        (sections.score_text(final["r1"]), "R@1"),
        (str(final["dim"]), "dimensions"),
        *([(f"{gain:+.3f}", f"mP@5 against {first['setting']}")] if scores.final else []),
        (f"{int(final['n_queries']):,}", f"queries, in an index of {int(final['n_index']):,}"),
        (sections.seconds_text(float(seconds)), "for doors 01 to 08"),
    ]
    small = "".join(f"<div><b>{escape(value)}</b><span>{escape(text)}</span></div>" for value, text in cells)
    mean = f"mP@5, mean over {len(scores.domains)} domains of unseen classes" if scores.domains else "mP@5 on unseen classes"
    return (
        f'<header><p class="kicker">guie · report of a run</p><h1>{escape(recipe.name)}</h1>'
        f'<p class="facts">seed <b>{recipe.seed}</b> · commit <b>{escape(facts.commit)}</b> · {escape(recipe.model.library)} <b>{escape(recipe.model.name)}</b>'
        f" · exported setting <b>{escape(str(final['setting']))}</b></p>"
        f'<div class="hero"><div class="score"><b>{sections.score_text(final["mp5"])}</b><span>{escape(mean)}</span></div>{small}</div></header>'
    )
