"""What objectives.py found, as tables, charts and a page: all from its CSV files."""

from __future__ import annotations

import pandas as pd
from objectives_charts import Dots, dot_chart, scatter_chart
from objectives_parts import CASES, Files
from objectives_settings import OBJECTIVES, PUBLISHED, SEARCH, settings_of
from scipy import stats

COLUMNS = {
    "mp5": "mP@5",
    "r1": "R@1",
    "map_at_r": "MAP@R",
    "nmi": "NMI",
    "spectral_decay": "ρ",
    "density": "density",
}
NOTES = """`±`: half the 95 % interval of the mean over the seeds (Student's t): other training runs and, in parts
published and tuned, other splits of the same classes. The splits overlap, since each leaves half of the classes
unseen, so that for new classes it is too narrow. `classes`: the 95 % interval of mP@5 for other classes of the same
kind with these weights (bootstrap-t over classes, mean of the seeds' ends). ≈: with the seeds paired, the 95 %
interval of the difference to the first row holds 0. ρ is the spectral decay and density the ratio of distances
within and between classes, both of the unseen classes; smaller ρ means more directions in use. Seconds are CPU time
of an epoch, all threads together; MB is the largest memory of the training beyond what held images and features
before."""


def half_width(values: pd.Series) -> float:
    """Of the 95 % interval of the mean, Student's t; NaN of fewer than two values."""
    values = values.dropna()
    if len(values) < 2:
        return float("nan")
    return float(stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5)


def short(value: float, digits: int = 3) -> str:
    """`.641`."""
    return f"{value:.{digits}f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.{digits}f}"


def with_interval(values: pd.Series) -> str:
    """`.641 ± .003`; of one value the value, of none a dash."""
    if values.dropna().empty:
        return "–"
    half = half_width(values)
    return short(values.mean()) if pd.isna(half) else f"{short(values.mean())} ± {short(half)}"


def ranked(rows: pd.DataFrame) -> list[str]:
    """The objectives by their mean mP@5, the best first; those without a score last."""
    means = rows.groupby("objective")["mp5"].mean()
    return list(means.sort_values(ascending=False, na_position="last").index)


def difference(rows: pd.DataFrame, name: str, other: str, score: str = "mp5") -> pd.Series:
    """By seed: a score of `name` less that of `other`."""
    by_seed = rows.set_index("seed")
    own, others = (by_seed[by_seed["objective"] == which][score] for which in (name, other))
    return (own - others).dropna()


def is_within_noise(steps: pd.Series) -> bool:
    """Whether the 95 % interval of the mean of paired differences holds 0; False of fewer than two."""
    return len(steps) > 1 and bool(abs(steps.mean()) <= half_width(steps))


def score_table(rows: pd.DataFrame, chosen: bool = False) -> str:
    """Markdown: a row an objective, the best first; `chosen` adds the settings that the search chose."""
    heads = ["objective", "seeds", "mP@5", "classes", *list(COLUMNS.values())[1:], "s an epoch", "MB"]
    heads += ["chosen setting"] if chosen else []
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    names = ranked(rows)
    for name in names:
        own = rows[rows["objective"] == name]
        mark = " ≈" if name != names[0] and is_within_noise(difference(rows, name, names[0])) else ""
        cells = [name, str(own["mp5"].count()), with_interval(own["mp5"]) + mark, _classes(own)]
        cells += [with_interval(own[score]) for score in list(COLUMNS)[1:]]
        cells += [f"{own['epoch_s'].median():.2f}", f"{own['memory_mb'].median():.0f}"]
        cells += [_counted(own["setting"])] if chosen else []
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + _problems(rows)


def _classes(rows: pd.DataFrame) -> str:
    """`.61 to .67`."""
    low, high = rows["mp5_low"].mean(), rows["mp5_high"].mean()
    return "–" if pd.isna(low) else f"{short(low, 2)} to {short(high, 2)}"


def _counted(settings: pd.Series) -> str:
    """`scale=10 (3), published (2)`."""
    return ", ".join(f"{setting} ({n})" for setting, n in settings.value_counts(sort=True).items())


def _problems(rows: pd.DataFrame) -> str:
    """A line for each row without scores."""
    failed = rows[rows["problem"].notna()]
    return "".join(f"\n\n{row.objective}, seed {row.seed}: {row.problem}" for row in failed.itertuples())


def search_table() -> str:
    """Markdown: what the search tries for each objective, and where the values come from."""
    lines = ["| objective | settings beside the published one | source of the range |", "|---|---|---|"]
    for name in OBJECTIVES:
        tried = ", ".join(setting for setting in settings_of(name) if setting != PUBLISHED)
        lines.append(f"| {name} | {tried} | {SEARCH[name].source} |")
    return "\n".join(lines)


def vit_table(rows: pd.DataFrame) -> str:
    """Markdown: the head alone and all weights, side by side."""
    deeper = " | ".join(list(COLUMNS.values())[1:])
    lines = [
        f"| objective | seeds | head, mP@5 | all, mP@5 | gain | classes | {deeper} | s an epoch | MB |",
        "|" + "---|" * 13,
    ]
    whole, head = (rows[rows["trains"] == trains] for trains in ("all", "head"))
    for name in ranked(whole):
        own, before = (of[of["objective"] == name].set_index("seed") for of in (whole, head))
        mark = " ≈" if name != ranked(whole)[0] and is_within_noise(difference(whole, name, ranked(whole)[0])) else ""
        cells = [name, str(len(own)), with_interval(before["mp5"]), with_interval(own["mp5"]) + mark]
        cells += [with_interval(own["mp5"] - before["mp5"]), _classes(own)]
        cells += [with_interval(own[score]) for score in list(COLUMNS)[1:]]
        cells += [f"{own['epoch_s'].median():.0f}", f"{own['memory_mb'].median():.0f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + _problems(rows)


def cost_table(rows: pd.DataFrame) -> str:
    """Markdown: seconds and memory of each case, and their ratios to the case that they are compared with: the margin
    loss alone, or the batch in one part."""
    lines = [
        "| objective | batch | parts | CPU s an epoch | s an epoch | MB | CPU time, ratio | memory, ratio |",
        "|" + "---|" * 8,
    ]
    known = rows.set_index(["objective", "batch", "n_parts"])
    for case in CASES:
        key = (case["objective"], case["batch"], case["n_parts"])
        if key not in known.index:
            continue
        base = ("MarginLoss", 128, 1) if case["batch"] == 128 else (case["objective"], case["batch"], 1)
        own = known.loc[key]
        ratios = ["–", "–"]
        if base in known.index:
            ratios = [f"{own[column] / known.loc[base][column]:.2f}" for column in ("epoch_s", "memory_mb")]
        cells = [
            *map(str, key),
            f"{own['epoch_s']:.0f}",
            f"{own['epoch_wall_s']:.0f}",
            f"{own['memory_mb']:.0f}",
            *ratios,
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def charts(files: Files) -> dict[str, str]:
    """The SVG files by name, of the parts that have rows."""
    main = files.main.read()
    drawn = {}
    parts = {part: main[main["part"] == part] for part in (PUBLISHED, "tuned")}
    order = ranked(main) if len(main) else []
    by_part = {part: _dots(rows) for part, rows in parts.items() if len(rows)}
    if by_part:
        drawn["objectives.svg"] = dot_chart("mP@5 of unseen classes, head on cached features", order, by_part)
        points = {
            str(name): (float(of["epoch_s"].median()), float(of["mp5"].mean()))
            for name, of in parts[PUBLISHED].dropna(subset="mp5").groupby("objective")
        }
        name = "What an epoch costs, and what it gives: published settings"
        drawn["objectives_cost.svg"] = scatter_chart(name, points, ("CPU seconds an epoch", "mP@5"))
    vit = files.vit.read()
    if len(vit):
        by_part = {trains: _dots(vit[vit["trains"] == trains]) for trains in ("head", "all")}
        order = ranked(vit[vit["trains"] == "all"])
        drawn["objectives_vit.svg"] = dot_chart("mP@5 of unseen classes, the project's ViT at 112 px", order, by_part)
    return drawn


def _dots(rows: pd.DataFrame) -> Dots:
    """Mean and half width of each objective."""
    by = rows.groupby("objective")["mp5"]
    return {str(name): (float(of.mean()), half_width(of)) for name, of in by if of.notna().any()}


def document(files: Files, conclusions: str = "") -> str:
    """The text of objectives.md; `conclusions` are what a person wrote about the tables."""
    main = files.main.read()
    marks = pd.concat([of.read()[["commit", "processor"]] for of in (files.main, files.search, files.vit, files.costs)])
    by_processor = marks.drop_duplicates().groupby("processor")["commit"].agg(", ".join)
    made = ";\n".join(f"{name}, commits\n{commits}" for name, commits in by_processor.items())
    said = f"{OPENING}\n{conclusions.strip()}\n{CLOSING}"
    parts = [HEAD.format(made=made or "not run yet"), said, NOTES]
    parts += ["![mP@5 of all objectives](objectives.svg)"] if len(main) else []
    for part, text in ((PUBLISHED, PUBLISHED_TEXT), ("tuned", TUNED_TEXT)):
        rows = main[main["part"] == part]
        if len(rows):
            parts += [text, score_table(rows, chosen=part == "tuned")]
    if len(main):
        parts.append("![mP@5 by CPU seconds an epoch](objectives_cost.svg)")
    parts += [SEARCH_TEXT, search_table()]
    vit = files.vit.read()
    if len(vit):
        parts += [VIT_TEXT, vit_table(vit), "![mP@5, head alone and all weights](objectives_vit.svg)"]
    costs = files.costs.read()
    if len(costs):
        parts += [COST_TEXT, cost_table(costs)]
    return "\n\n".join(parts) + "\n"


OPENING = "<!-- conclusions: written by hand, kept by objectives.py -->"
CLOSING = "<!-- /conclusions -->"
HEAD = """# All objectives under equal conditions

`python tests/benchmarks/objectives.py --data-root ../shared/data`: {made}.
[objectives.py](objectives.py) says what each part is; the rows stand in objectives.csv, objectives_search.csv,
objectives_vit.csv and objectives_costs.csv."""
PUBLISHED_TEXT = """## Published settings

A 64-d head on the cached features of an ImageNet MobileNetV2 at 224 px, 20 epochs, learning rate .001 for all;
about 500 classes train and as many others are scored."""
TUNED_TEXT = """## The best of an equal search

The same, with the setting that was best on two folds of the training classes, chosen for each seed. Where the
published setting was chosen, the row is the published one's."""
SEARCH_TEXT = """## What the search tries

Five settings of each objective on two folds: the published one and four others."""
VIT_TEXT = """## All weights of a small ViT

The project's ViT-Ti/16 at 112 px: the head alone on cached features, and then all weights for two epochs in batches
of 64, published settings. One split of the classes; the seeds differ in the training alone."""
COST_TEXT = """## Costs on a moving backbone

The same ViT, each case in a process of its own, both cores. Rows of batches of 128: the margin loss, and three
methods that are the margin loss with work beside it. Rows of 1,024: the batch in one part and in several. The loss
that compares all images needs one more pass without gradient for parts; ArcFace does not, since its loss is a mean
over images."""
