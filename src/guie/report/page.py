"""Door 09: the page that shows a run. One file, nothing fetched from anywhere."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from guie.files import whole_file
from guie.report import sections, sections_data, sections_embedding, sections_gallery, sections_runs
from guie.report.charts import grid, keyed
from guie.report.collect import Facts, Scores, collect
from guie.report.embedding import Embedding, read_embedding
from guie.report.gallery import Gallery, read_gallery
from guie.report.markup import score_text, seconds_text
from guie.report.pictures import as_file, neighbours_picture, raster, standalone
from guie.report.runs import Compared, read_runs
from guie.report.script import SCRIPT
from guie.report.style import CSS
from guie.run import Run

MAX_MB = 10
NAVIGATION = {
    "ladder": "Ladder",
    "domains": "Domains",
    "runs": "Runs",
    "training": "Training",
    "embedding": "Embedding",
    "gallery": "Neighbours",
    "data": "Data",
    "cost": "Cost",
    "settings": "Settings",
}
# Says what the page may do: nothing but show itself. A forgotten link to a font would be refused, not fetched.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Report:
    """All that the page shows; `runs` is empty where none are compared."""

    facts: Facts
    gallery: Gallery
    embedding: Embedding | None
    runs: tuple[Compared, ...]


def write_report(run: Run, compare: Sequence[Path] = ()) -> dict[str, Any]:
    """Writes `09_report/index.html` from the run's artefacts, and its charts as SVG and PNG beside it, and logs the ladder.

    Args:
        run: The run.
        compare: Folders of other finished runs.

    Returns:
        The exported setting's scores, the number of queries shown and the page's size.

    Raises:
        ValueError: `scores.csv` of door 07 is missing or does not fit the recipe; artefacts that are optional show as absent instead.
        FileNotFoundError: a folder of `compare` holds no run.
    """
    report = read_report(run, compare)
    path = run.folder(9) / "index.html"
    html = render(report).encode()
    _write_whole(path, html)
    _write_pictures(run.folder(9), report)
    if len(html) > MAX_MB * 1e6:
        log.warning("%s has %.1f MB, more than the %d MB that every browser and mail takes", path, len(html) / 1e6, MAX_MB)
    scores, n_queries = report.facts.scores, len(report.gallery.queries)
    log.info("%s", ladder_text(scores))
    log.info("report: %s (%.1f MB, %d queries)", path, len(html) / 1e6, n_queries)
    final = scores.table.iloc[scores.final]
    return {"mp5": float(final["mp5"]), "r1": float(final["r1"]), "n_queries_shown": n_queries, "megabytes": round(len(html) / 1e6, 3)}


def read_report(run: Run, compare: Sequence[Path] = ()) -> Report:
    """Reads everything; see `write_report`."""
    facts = collect(run)
    runs = read_runs(run, facts, compare)
    return Report(facts, read_gallery(run), read_embedding(run), runs)


def charts(report: Report) -> dict[str, str]:
    """The page's charts with their keys, by the names of their files, for a paper."""
    facts, found, runs = report.facts, report.embedding, report.runs
    scores, own = facts.scores, sections_embedding
    result = {"ladder": keyed(sections.ladder_chart(scores), "", sections.ladder_keys(scores)), "training": _training(facts)}
    if scores.domains:
        result["domains"] = keyed(sections.domains_chart(scores), "", sections.domains_keys(scores))
    if found is not None:
        result["spectrum"] = keyed(own.spectrum_chart(found), own.SPECTRUM, ())
        result["energy"] = keyed(own.energy_chart(found), own.ENERGY, own.energy_keys(found))
        result["map"] = keyed(own.map_svg(found.map), "", [(f"map-{i}", name) for i, name in enumerate(found.map.domains)])
        if found.similarities is not None:
            result["similarities"] = keyed(own.similarity_chart(found.similarities), own.SIMILARITIES, own.PAIR_KEYS)
    if facts.data.class_sizes:
        result["class_sizes"] = keyed(sections_data.sizes_chart(facts.data), sections_data.SIZES, ())
        result["images_per_class"] = keyed(sections_data.long_tail_chart(facts.data), sections_data.TAILS, sections_data.long_tail_keys(facts.data))
    if runs:
        result["runs"] = keyed(sections_runs.runs_chart(runs), "", [("mark", "R@1")])
        if any(run.scores.domains for run in runs):
            result["runs_domains"] = keyed(sections_runs.runs_domains_chart(runs), "", sections_runs.runs_keys(runs))
    return {name: chart for name, chart in result.items() if chart}


def _training(facts: Facts) -> str:
    """The curves of all stages, a row a stage; '' without any."""
    drawn = {stage.name: sections.stage_charts(stage) for stage in facts.stages}
    drawn = {name: own for name, own in drawn.items() if any(own.values())}
    titles = [title for title in sections.FIGURE_TITLES if any(own[title] for own in drawn.values())]
    names = [[f"{name}: {title}" if own[title] else "" for title in titles] for name, own in drawn.items()]
    return grid([[own[title] for title in titles] for own in drawn.values()], names) if drawn else ""


def _write_pictures(folder: Path, report: Report) -> None:
    for name, chart in charts(report).items():
        _write_whole(folder / f"{name}.svg", standalone(chart).encode())
        _write_whole(folder / f"{name}.png", as_file(raster(chart), "PNG"))
    picture = neighbours_picture(report.gallery.queries)
    if picture is not None:
        _write_whole(folder / "neighbours.jpg", as_file(picture, "JPEG"))


def _write_whole(path: Path, content: bytes) -> None:
    with whole_file(path) as temporary:
        temporary.write_bytes(content)


def render(report: Report) -> str:
    """The whole page as HTML: a pure function of what was collected."""
    facts = report.facts
    title = f"{facts.recipe.name} · seed {facts.recipe.seed} · {facts.commit}"
    body = {
        "ladder": sections.ladder(facts.scores),
        "domains": sections.domains(facts.scores),
        "runs": sections_runs.compared(report.runs) if report.runs else "",
        "training": sections.training(facts.stages),
        "embedding": sections_embedding.embedding(report.embedding),
        "gallery": sections_gallery.gallery(report.gallery),
        "data": sections_data.data(facts.data),
        "cost": sections.cost(facts.steps),
        "settings": sections.settings(facts.recipe, facts.steps),
    }
    links = "".join(f'<li><a href="#{name}">{text}</a></li>' for name, text in NAVIGATION.items() if body[name])
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{escape(title)}</title><style>{CSS}</style></head><body>'
        f'<a class="skip" href="#ladder">Skip to the scores</a>{_header(facts)}<nav aria-label="Sections"><ul>{links}</ul></nav>'
        f"<main>{''.join(body[name] for name in NAVIGATION)}</main><footer><p>Made by door 09 of guie from the artefacts of this run.</p></footer>"
        f"<script>{SCRIPT}</script></body></html>\n"
    )


def ladder_text(scores: Scores) -> str:
    """The ladder as lines of text, the exported setting marked."""
    width = max(len("setting"), *(len(name) for name in scores.table["setting"]))
    lines = [f"  {'setting':<{width}}  {'mP@5':>6}  {'R@1':>6}  {'dims':>5}"]
    for i, row in enumerate(scores.table.to_dict("records")):
        sign = ">" if i == scores.final else " "
        lines.append(f"{sign} {row['setting']:<{width}}  {score_text(row['mp5']):>6}  {score_text(row['r1']):>6}  {row['dim']!s:>5}")
    return "\n".join(lines)


def _header(facts: Facts) -> str:
    scores, recipe = facts.scores, facts.recipe
    first, final = scores.table.iloc[0], scores.table.iloc[scores.final]
    gain = float(final["mp5"]) - float(first["mp5"])
    seconds = sum(step.mark["seconds"] for step in facts.steps if step.mark and not step.is_stage and "seconds" in step.mark)
    cells = [
        (score_text(final["r1"]), "R@1"),
        (str(final["dim"]), "dimensions"),
        *([(f"{gain:+.3f}", f"mP@5 against {first['setting']}")] if scores.final else []),
        (f"{int(final['n_queries']):,}", f"queries, in an index of {int(final['n_index']):,}"),
        (seconds_text(float(seconds)), "for doors 01 to 08"),
    ]
    small = "".join(f"<div><b>{escape(value)}</b><span>{escape(text)}</span></div>" for value, text in cells)
    mean = f"mP@5, mean over {len(scores.domains)} domains of unseen classes" if scores.domains else "mP@5 on unseen classes"
    return (
        f'<header><p class="kicker">guie · report of a run</p><h1>{escape(recipe.name)}</h1>'
        f'<p class="facts">seed <b>{recipe.seed}</b> · commit <b>{escape(facts.commit)}</b> · {escape(recipe.model.library)} <b>{escape(recipe.model.name)}</b>'
        f" · exported setting <b>{escape(str(final['setting']))}</b></p>"
        f'<div class="hero"><div class="score"><b>{score_text(final["mp5"])}</b><span>{escape(mean)}</span></div>{small}</div></header>'
    )
