"""The page's charts as files of their own, each with its legend, for a paper."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from guie.report import sections, sections_data, sections_runs
from guie.report import sections_embedding as of_embedding
from guie.report.charts_joined import grid, keyed
from guie.report.collect import DataSummary, Facts, Scores
from guie.report.embedding import Embedding
from guie.report.foreign import Foreign
from guie.report.runs import Compared
from guie.report.sections_foreign import foreign_charts
from guie.report.sections_training import stage_charts
from guie.report.stage_figures import Figure, figures_of


def charts(
    facts: Facts, embedding: Embedding | None, runs: Sequence[Compared], foreign: Sequence[Foreign] = ()
) -> dict[str, Markup]:
    """All charts that there are, by the names of their files."""
    drawn = _of_scores(facts.scores) | {"training": _of_training(facts)}
    if embedding is not None:
        drawn |= _of_embedding(embedding)
    if facts.data.class_sizes:
        drawn |= _of_data(facts.data)
    if runs:
        drawn |= _of_runs(runs)
    for found in foreign:
        drawn |= foreign_charts(found)
    return {name: chart for name, chart in drawn.items() if chart}


def _of_scores(scores: Scores) -> dict[str, Markup]:
    drawn = {"ladder": keyed(sections.ladder_chart(scores), "", sections.ladder_keys(scores))}
    if len(scores.domains) > 1:
        drawn["domains"] = keyed(sections.domains_chart(scores), "", sections.domains_keys(scores))
    return drawn


def _of_training(facts: Facts) -> Markup:
    """The curves of all stages, a row for each stage and a column for each kind of chart; '' without any."""
    by_stage = {stage.name: stage_charts(stage) for stage in facts.stages}
    by_stage = {name: own for name, own in by_stage.items() if any(own.values())}
    if not by_stage:
        return Markup("")
    figures = {stage.name: {figure.title: figure for figure in figures_of(stage)} for stage in facts.stages}
    known = dict.fromkeys(title for own in figures.values() for title in own)
    titles = [title for title in known if any(own.get(title) for own in by_stage.values())]
    rows = [[own.get(title, Markup("")) for title in titles] for own in by_stage.values()]
    keys = [[_keys_of(figures[name].get(title)) for title in titles] for name in by_stage]
    return grid(rows, [[f"{name}: {title}" for title in titles] for name in by_stage], keys)


def _keys_of(figure: Figure | None) -> list[tuple[str, str]]:
    """What the lines of a chart are; of a single line its title says it."""
    lines = figure.curves if figure else ()
    return [(style, name) for _, name, style in lines] if len(lines) > 1 else []


def _of_embedding(found: Embedding) -> dict[str, Markup]:
    map_keys = [(f"map-{i}", name) for i, name in found.map.keys]
    energy_keys = of_embedding.energy_keys(found)
    drawn = {
        "spectrum": keyed(of_embedding.spectrum_chart(found), of_embedding.SPECTRUM, ()),
        "energy": keyed(of_embedding.energy_chart(found), of_embedding.ENERGY, energy_keys),
        "map": keyed(of_embedding.map_svg(found.map), "", map_keys),
    }
    if found.similarities is not None:
        chart = of_embedding.similarity_chart(found.similarities)
        drawn["similarities"] = keyed(chart, of_embedding.SIMILARITIES, of_embedding.PAIR_KEYS)
    return drawn


def _of_data(summary: DataSummary) -> dict[str, Markup]:
    tail_keys = sections_data.long_tail_keys(summary)
    return {
        "class_sizes": keyed(sections_data.sizes_chart(summary), sections_data.SIZES, ()),
        "images_per_class": keyed(sections_data.long_tail_chart(summary), sections_data.TAILS, tail_keys),
    }


def _of_runs(runs: Sequence[Compared]) -> dict[str, Markup]:
    drawn = {"runs": keyed(sections_runs.runs_chart(runs), "", [("mark", "R@1")])}
    if sections_runs.domains_of(runs):
        drawn["runs_domains"] = keyed(sections_runs.runs_domains_chart(runs), "", sections_runs.runs_keys(runs))
    return drawn
