"""Door 09: the page that shows a run, as one HTML file that fetches nothing."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from guie.embed.verdict import FEWEST, Verdict, read_verdict
from guie.files import whole_file
from guie.report.chart_files import charts
from guie.report.collect import Facts, Scores, collect
from guie.report.embedding import Embedding, read_embedding
from guie.report.foreign import Foreign, read_foreign
from guie.report.frame import whole_page
from guie.report.gallery import Gallery, read_gallery
from guie.report.markup import score_text
from guie.report.pictures import as_file, neighbours_picture, raster, standalone
from guie.report.runs import Compared, read_runs
from guie.report.sections import domains, ladder, settings
from guie.report.sections_cost import cost
from guie.report.sections_data import data
from guie.report.sections_dimensions import dimensions_text
from guie.report.sections_embedding import embedding
from guie.report.sections_foreign import foreign
from guie.report.sections_gallery import classes, gallery
from guie.report.sections_runs import compared
from guie.report.sections_training import training
from guie.run import Run
from guie.settings.fit import shares_described

MAX_MB = 10
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Report:
    """All that the page shows.

    `runs` is empty where none are compared, `verdict` None where `guie train` left none, `foreign` empty where
    `guie foreign` found nothing about the recipe.
    """

    facts: Facts
    gallery: Gallery
    embedding: Embedding | None
    runs: tuple[Compared, ...]
    verdict: Verdict | None = None
    foreign: tuple[Foreign, ...] = ()


def write_report(run: Run, compare: Sequence[Path] = (), folder: Path | None = None) -> dict[str, Any]:
    """Writes `index.html`, and the charts as SVG and PNG beside it, and logs the ladder.

    Args:
        run: The run.
        compare: Folders of other finished runs.
        folder: Where to; None is the run's `09_report`.

    Returns:
        The exported setting's scores, the number of queries shown and the page's size.

    Raises:
        ValueError: `scores.csv` of door 07 is missing or does not fit the recipe. The page says of other files that
            they are absent.
        FileNotFoundError: a folder of `compare` holds no run.
    """
    report = read_report(run, compare)
    folder = folder or run.folder(9)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "index.html"
    html = render(report).encode()
    _write_whole(path, html)
    _write_pictures(folder, report)
    megabytes = len(html) / 1e6
    if megabytes > MAX_MB:
        log.warning("%s has %.1f MB, more than the %d MB that every browser and mail takes", path, megabytes, MAX_MB)
    scores = report.facts.scores
    n_queries = len(report.gallery.queries)
    if report.verdict is not None:
        log.info("%s", report.verdict.sentence)
    log.info("%s", ladder_text(scores))
    if report.facts.dimensions is not None:
        log.info("%s", dimensions_text(report.facts.dimensions))
    log.info("report: %s (%.1f MB, %d queries)", path, megabytes, n_queries)
    final = scores.table.iloc[scores.final]
    return {
        "mp5": float(final["mp5"]),
        "r1": float(final["r1"]),
        "n_queries_shown": n_queries,
        "megabytes": round(megabytes, 3),
    }


def read_report(run: Run, compare: Sequence[Path] = ()) -> Report:
    """Reads everything; see `write_report`."""
    facts = collect(run)
    runs = read_runs(run, facts, compare)
    verdict = read_verdict(run.out, run.recipe)
    return Report(facts, read_gallery(run), read_embedding(run), runs, verdict, read_foreign(run.out, run.recipe))


def render(report: Report) -> str:
    """The whole page as HTML: a pure function of what was collected."""
    facts = report.facts
    rows = facts.scores.table.to_dict("records")
    first = rows[0]
    final = rows[facts.scores.final]
    doors = [step.mark for step in facts.steps if step.mark and not step.is_stage]
    return whole_page(
        "page.html",
        recipe=facts.recipe,
        commit=facts.commit,
        verdict=report.verdict,
        fewest_classes=FEWEST,
        first=first,
        final=final,
        is_chosen=bool(final.get("chosen_on")),
        gain=final["mp5"] - first["mp5"] if facts.scores.final else None,
        n_domains=len(facts.scores.domains),
        seconds=float(sum(mark.get("seconds", 0.0) for mark in doors)),
        sections=_sections(report),
    )


def ladder_text(scores: Scores) -> str:
    """The ladder as lines of text, the exported setting marked."""
    width = max(len("setting"), *(len(name) for name in scores.table["setting"]))
    lines = [f"  {'setting':<{width}}  {'mP@5':>6}  {'R@1':>6}  {'dims':>5}"]
    for i, row in enumerate(scores.table.to_dict("records")):
        sign = ">" if i == scores.final else " "
        values = f"{score_text(row['mp5']):>6}  {score_text(row['r1']):>6}  {row['dim']!s:>5}"
        lines.append(f"{sign} {row['setting']:<{width}}  {values}{'  †' if row.get('chosen_on') else ''}")
    if any(scores.table.get("chosen_on", [])):
        lines.append("  † something was chosen by this score, which is therefore too good")
    return "\n".join(lines)


def _sections(report: Report) -> list[tuple[str, str, Markup]]:
    """Id, name in the navigation and content of every section, in the order of the page."""
    facts = report.facts
    others = [("runs", "Runs", compared(report.runs))] if report.runs else []
    has_one = len(facts.scores.domains) == 1  # whose scores are those of the ladder
    by_class = [("classes", "Classes", classes(report.gallery))] if len(report.gallery.classes) else []
    never_seen = [("foreign", "Never seen", foreign(report.foreign))] if report.foreign else []
    by_domain = [] if has_one else [("domains", "Domains", domains(facts.scores))]
    return [
        ("ladder", "Ladder", _ladder(report)),
        *by_domain,
        *never_seen,
        *others,
        ("training", "Training", training(facts.stages)),
        ("embedding", "Embedding", embedding(report.embedding, facts.dimensions)),
        ("gallery", "Neighbours", gallery(report.gallery)),
        *by_class,
        ("data", "Data", data(facts.data)),
        ("cost", "Cost", cost(facts.steps)),
        ("settings", "Settings", settings(facts.recipe, facts.steps)),
    ]


def _ladder(report: Report) -> Markup:
    recipe = report.facts.recipe
    is_unseen = recipe.data.val_by == "class"
    is_of_another = report.verdict is not None and report.verdict.is_unseen and not is_unseen
    fitted_on = shares_described(recipe.embed.fit_on_of(recipe.embed.final)) + recipe.data.told_of_foreign
    return ladder(report.facts.scores, is_unseen, is_of_another, fitted_on)


def _write_pictures(folder: Path, report: Report) -> None:
    for name, chart in charts(report.facts, report.embedding, report.runs, report.foreign).items():
        _write_whole(folder / f"{name}.svg", standalone(chart).encode())
        _write_whole(folder / f"{name}.png", as_file(raster(chart), "PNG"))
    picture = neighbours_picture(report.gallery.queries)
    if picture is not None:
        _write_whole(folder / "neighbours.jpg", as_file(picture, "JPEG"))
    if len(report.gallery.classes):
        _write_whole(folder / "classes.csv", report.gallery.classes.to_csv(index_label="class_id").encode())


def _write_whole(path: Path, content: bytes) -> None:
    with whole_file(path) as temporary:
        temporary.write_bytes(content)
