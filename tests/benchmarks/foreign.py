"""Leave one domain out with the whole pipeline: minibench as it was, each step to what it is now, and rows that train
longer or keep more of the pretrained backbone.

Each row is a recipe, and its folds are made by `guie foreign`: four domains, each left out in turn, for every seed. A
row adds one ingredient to its base. The page compares it with the nearest base that was measured, in brackets. If rows
between them are missing, the gain is that of several ingredients. Form `backbone` trains minibench's doors 04 and 05:
the head, the backbone at 160 px, the head again, and one of 512 numbers whose PCA is exported. Form `small` is the same
with all images at 128 px and half the epochs of the backbone. Form `head` trains heads alone, on the pretrained
backbone; form `whole` is all of minibench, door 06 too.

Finished folds are skipped, so the script may be broken off and started again. Seeds come one after the other: after the
first, the table has all rows.

Run: python tests/benchmarks/foreign.py --data-root ../shared/data --out artifacts/foreign --plan   what is left
     python tests/benchmarks/foreign.py --data-root ../shared/data --out artifacts/foreign --seeds 0 1 2
     python tests/benchmarks/foreign.py --out artifacts/foreign --table-only
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from guie.cli.foreign_results import QUERIES
from guie.cli.main import main as guie
from guie.errors import run_to_the_end
from guie.evaluate.foreign_table import NEVER_SEEN, SEEN, compared, fold_scores, last_row, refits, summary
from guie.files import whole_file
from guie.own.recipe_text import recipe_text
from guie.recipe import (
    HEAD,
    PRETRAINED,
    ArcFace,
    Interpolate,
    KeepCosines,
    Member,
    Recipe,
    Setting,
    Stage,
    Stages,
    Sum,
)
from guie.recipes.minibench import BOTH
from guie.recipes.minibench import RECIPE as MINIBENCH
from guie.run import FOREIGN, PROJECT

HERE = Path(__file__).resolve().parent
DOMAINS = sorted({source.domain for source in MINIBENCH.data.sources})
# Rough minutes of a fold on two cores, where none is finished yet: a little less than minibench's (minibench.md), which
# trains on a quarter more images; small by its pixels and epochs.
MINUTES = {"head": 5, "small": 8, "backbone": 25, "whole": 45}
SMALL_PX = 128
TRAINED = {  # what a form trains, on the page
    "head": "A 64-d and a wide head are trained, on the pretrained backbone; a PCA reduces the wide one.",
    "small": f"Trained at {SMALL_PX} px: head, backbone, the head again, and a wide head that a PCA reduces.",
    "backbone": "Trained: head, backbone at 160 px, the head again, and a wide head at 224 px that a PCA reduces.",
    "whole": "All of minibench is trained.",
}
SLOWER = {"twice": 1.4, "twice_between": 1.4, "twice_pretrained": 1.4}  # times these minutes, of rows that train longer
Change = Callable[[Recipe], Recipe]


@dataclass(frozen=True)
class Row:
    """A recipe.

    Attributes:
        name: In the table.
        slug: Of its folder.
        base: The name of the row that it is compared with; '' for none.
        change: What it makes of minibench.
    """

    name: str
    slug: str
    base: str
    change: Change


def stages_of(recipe: Recipe, change: Callable[[Stage], Stage]) -> Recipe:
    """The recipe with every stage that trains changed."""
    phases = {
        phase: tuple(change(row) if isinstance(row, Stage) else row for row in recipe.stages.of_phase(phase))
        for phase in ("head", "backbone", "highres")
    }
    return replace(recipe, stages=Stages(**phases))


def as_it_was(recipe: Recipe) -> Recipe:
    """minibench without what it gained since: raw features, random starts, no cosines kept."""

    def change(stage: Stage) -> Stage:
        assert isinstance(stage.objective, Sum)
        return replace(
            stage,
            start=replace(stage.start, has_pca_neck=False, has_mean_centers=False),
            neck=replace(stage.neck, has_unit_input=False),
            objective=stage.objective.terms[0],
        )

    return stages_of(recipe, change)


def unit_pca(recipe: Recipe) -> Recipe:
    """Necks over unit features; a fresh one starts as their PCA."""

    def change(stage: Stage) -> Stage:
        is_fresh = stage.start.fresh == HEAD
        start = replace(stage.start, has_pca_neck=is_fresh)
        return replace(stage, neck=replace(stage.neck, has_unit_input=True), start=start)

    return stages_of(recipe, change)


def class_means(recipe: Recipe) -> Recipe:
    """Fresh class centres start as the means of their classes."""

    def change(stage: Stage) -> Stage:
        return replace(stage, start=replace(stage.start, has_mean_centers=stage.start.fresh == HEAD))

    return stages_of(unit_pca(recipe), change)


def keeps_cosines(recipe: Recipe, trains: tuple[str, ...], weight: float = 100.0) -> Recipe:
    """Cosines are kept beside the class loss, while the named parts train."""

    def change(stage: Stage) -> Stage:
        kept = KeepCosines(weight=weight if stage.trains in trains else 0.0)
        assert isinstance(stage.objective, ArcFace)
        return replace(stage, objective=Sum(terms=(stage.objective, kept)))  # of one shape in all stages

    return stages_of(class_means(recipe), change)


def twice_the_epochs(recipe: Recipe) -> Recipe:
    """The first backbone stage trains for twice as many epochs."""
    tuned = recipe.stages.backbone[0].name

    def change(stage: Stage) -> Stage:
        n_epochs = stage.optim.n_epochs * (2 if stage.name == tuned else 1)
        return replace(stage, optim=replace(stage.optim, n_epochs=n_epochs))

    return stages_of(recipe, change)


def interpolated(recipe: Recipe) -> Recipe:
    """Heads stand on a backbone that lies half way between the pretrained and the tuned one."""
    tuned = recipe.stages.backbone[0].name
    between = Interpolate("s2_between", of=tuned)
    changed = stages_of(
        recipe,
        lambda stage: replace(stage, start=replace(stage.start, of=between.name)) if stage.start.of == tuned else stage,
    )
    first, *later = changed.stages.backbone
    return replace(changed, stages=replace(changed.stages, backbone=(first, between, *later)))


def pretrained_kept(recipe: Recipe) -> Recipe:
    """Stages after the tuned backbone keep the cosines of the pretrained features, not those of the tuned ones."""
    tuned = recipe.stages.backbone[0].name

    def change(stage: Stage) -> Stage:
        if tuned not in recipe.behind([stage.name]) - {stage.name}:
            return stage
        assert isinstance(stage.objective, Sum)
        loss, kept = stage.objective.terms
        assert isinstance(kept, KeepCosines)
        return replace(stage, objective=Sum(terms=(loss, replace(kept, of=PRETRAINED))))

    return stages_of(recipe, change)


KEPT = "+ KeepCosines(100) in heads and backbone: minibench"
TWICE = "+ twice the epochs"
ROWS = (
    Row("minibench as it was", "was", "", as_it_was),
    Row("unit features, PCA start", "pca", "minibench as it was", lambda r: unit_pca(as_it_was(r))),
    Row("+ class means", "means", "unit features, PCA start", lambda r: class_means(as_it_was(r))),
    Row("+ KeepCosines(100), head", "keep_head", "+ class means", lambda r: keeps_cosines(as_it_was(r), ("head",))),
    Row(KEPT, "keep", "+ KeepCosines(100), head", lambda recipe: recipe),
    Row(TWICE, "twice", KEPT, twice_the_epochs),
    Row("class means, Interpolate(.5)", "between", "+ class means", lambda r: interpolated(class_means(as_it_was(r)))),
    Row("twice the epochs, Interpolate(.5)", "twice_between", TWICE, lambda r: interpolated(twice_the_epochs(r))),
    Row(
        "twice the epochs, pretrained cosines kept",
        "twice_pretrained",
        TWICE,
        lambda r: pretrained_kept(twice_the_epochs(r)),
    ),
)
# These rows differ only where a backbone is trained; form `head` trains none.
OF_THE_BACKBONE = {"keep", "twice", "between", "twice_between", "twice_pretrained"}


def of_form(form: str) -> Recipe:
    """minibench, as far as the form trains it. The exported setting ends in a PCA, which a refit can fit anew."""
    if form == "whole":
        return MINIBENCH
    wide = Setting("wide head, flip, PCA-64", (Member("s4_wide_head_224", 224, BOTH),), pca_dim=64)
    stages = replace(MINIBENCH.stages, highres=())
    settings = (*MINIBENCH.embed.settings[1:4], wide)
    if form == "head":
        head = replace(stages.backbone[2], name="s4_wide_head_224", start=replace(stages.head[0].start))
        stages, settings = Stages(head=(*stages.head, head)), (*MINIBENCH.embed.settings[1:3], wide)
    recipe = replace(MINIBENCH, stages=stages, embed=replace(MINIBENCH.embed, settings=settings))
    return (small(recipe) if form == "small" else recipe).validate()


def small(recipe: Recipe) -> Recipe:
    """The recipe with every image at `SMALL_PX`, and half the epochs of the backbone."""

    def named(name: str) -> str:
        return name.replace("224", str(SMALL_PX)).replace("160", str(SMALL_PX))

    def stage_at(stage: Stage) -> Stage:
        n_epochs = stage.optim.n_epochs // (2 if stage.trains == "backbone" else 1)
        start = replace(stage.start, of=named(stage.start.of))
        optim = replace(stage.optim, n_epochs=n_epochs)
        return replace(stage, name=named(stage.name), image_px=SMALL_PX, start=start, optim=optim)

    def setting_at(setting: Setting) -> Setting:
        members = [replace(member, stage=named(member.stage), image_px=SMALL_PX) for member in setting.members]
        return replace(setting, members=tuple(members))

    changed = stages_of(recipe, stage_at)
    settings = tuple(map(setting_at, recipe.embed.settings))
    data = replace(recipe.data, pack_px=SMALL_PX + SMALL_PX // 4)
    return replace(changed, data=data, embed=replace(recipe.embed, settings=settings))


def rows_of(arguments: argparse.Namespace) -> list[Row]:
    """The chosen rows, as far as the form can tell them apart."""
    told_apart = [row for row in ROWS if arguments.form != "head" or row.slug not in OF_THE_BACKBONE]
    return [row for row in told_apart if not arguments.rows or row.slug in arguments.rows]


def folder_of(out: Path, form: str, row: Row) -> Path:
    """Where `guie foreign` leaves a row's folds."""
    return out / f"{form}_{row.slug}" / FOREIGN


def measure(arguments: argparse.Namespace) -> None:
    """Makes all folds that are not there, seed by seed.

    Raises:
        ValueError: a fold failed; the line above says why.
    """
    # Packed images are taken over from the first row's folds, whose name the recipe of every row has.
    form = replace(of_form(arguments.form), name=f"{arguments.form}_{ROWS[0].slug}")
    for n in range(1, len(arguments.seeds) + 1):
        for row in rows_of(arguments):
            file = folder_of(arguments.out, arguments.form, row).parent / "minibench.py"
            file.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(file) as temporary:
                temporary.write_text(recipe_text(row.change(form).validate(), row.name), encoding="utf-8")
            print(f"\n=== {row.name}", flush=True)
            words = [file, "--name", file.parent.name, "--data-root", arguments.data_root, "--out", arguments.out]
            words += ["--refit", 0.5, "--seeds", *arguments.seeds[:n], "--domains", *arguments.domains]
            if guie(["foreign", *map(str, words)]):
                raise ValueError(f"{row.name} stopped; the line above says why. The same command goes on")


def plan(arguments: argparse.Namespace) -> str:
    """What is left, in minutes: of the mean of finished folds, else of `MINUTES`."""
    lines, total = [], 0.0
    for row in rows_of(arguments):
        folder = folder_of(arguments.out, arguments.form, row)
        folds = [folder / f"seed{seed}_without_{name}" for seed in arguments.seeds for name in arguments.domains]
        done = [fold for fold in folds if (fold / "never_seen/done.json").is_file()]
        each = statistics.mean(map(minutes_of, done)) if done else MINUTES[arguments.form] * SLOWER.get(row.slug, 1)
        total += each * (len(folds) - len(done))
        lines.append(f"{row.name:<40} {len(done):3} of {len(folds)} folds, {each:5.1f} min each")
    return "\n".join([*lines, f"left: about {total:.0f} min, {total / 60:.1f} h"])


def minutes_of(fold: Path) -> float:
    """What the doors of a fold, and its answers, took; of the images, which are shared, nothing."""
    marks = [json.loads(path.read_text()) for path in fold.glob("*/done.json") if path.parent.name > "04"]
    return sum(float(mark["seconds"]) for mark in marks) / 60


def table(arguments: argparse.Namespace) -> tuple[str, pd.DataFrame]:
    """The page, and the score of every fold: of those of --seeds and --domains that every row has finished.

    Raises:
        ValueError: there is none.
    """
    found = {}
    for row in rows_of(arguments):
        places = [folder_of(out, arguments.form, row) / QUERIES for out in (arguments.out, *arguments.beside)]
        tables = [pd.read_parquet(place) for place in places if place.is_file()]
        if tables:
            found[row.name] = _without_repeats(tables)
    if not found:
        raise ValueError(f"{arguments.out} holds no finished row of form {arguments.form}; run without --table-only")
    shared = {(seed, domain) for seed in arguments.seeds for domain in arguments.domains}
    for own in found.values():
        shared &= set(zip(own["seed"], own["left_out"], strict=True))
    if not shared:
        raise ValueError(
            f"the finished rows have no fold of --seeds and --domains in common ({', '.join(found)}); name rows that "
            "have one with --rows, or run without --table-only"
        )
    for name, own in found.items():
        is_shared = [fold in shared for fold in zip(own["seed"], own["left_out"], strict=True)]
        found[name] = own[is_shared]
    scores = pd.concat(fold_scores(own).assign(recipe=name) for name, own in found.items())
    return "\n".join([*_head(arguments, found), *_rows(found), "", *_refits(found), ""]), scores


def _without_repeats(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """Queries of several folders as one table; a fold that two of them hold is that of the first."""
    held: set[tuple[int, str]] = set()
    parts = []
    for own in tables:
        folds = list(zip(own["seed"], own["left_out"], strict=True))
        parts.append(own[[fold not in held for fold in folds]])
        held |= set(folds)
    return pd.concat(parts, ignore_index=True)


def _head(arguments: argparse.Namespace, found: dict[str, pd.DataFrame]) -> list[str]:
    first = next(iter(found.values()))
    folds = first[["seed", "left_out"]].drop_duplicates()
    seeds = " ".join(map(str, sorted(folds["seed"].unique())))
    return [
        "# Leave one domain out, the whole pipeline",
        "",
        f"`python tests/benchmarks/foreign.py --data-root ../shared/data --form {arguments.form} --seeds {seeds}`: "
        f"{len(folds)} fold{'s' * (len(folds) > 1)} that every row has",
        f"({', '.join(sorted(folds['left_out'].unique()))} left out in turn). mP@5 of the exported 64 numbers. Queries "
        "and index are all",
        "validation images of all domains, the same in every fold. The gain is over the row in brackets, the",
        "nearest base that was measured, on the same queries. Its 95 % interval is over the domains (Student's t of",
        "their means over the seeds; of one domain, over the seeds) and, in parentheses, by resampling classes.",
        TRAINED[arguments.form],
        "",
        "| row | domain never seen | gain | domains seen | gain |",
        "|---|---|---|---|---|",
    ]


def _rows(found: dict[str, pd.DataFrame]) -> list[str]:
    lines = []
    for row in ROWS:
        if row.name not in found:
            continue
        own = found[row.name]
        means = summary(own[own["row"] == last_row(own)]).set_index("side")["mean"]
        gains = pd.DataFrame(columns=["row", "side"])
        base = base_of(row, found)
        if base:
            gains = compared(found[base], own, (base, row.name))
        cells = [row.name + (f" [{base}]" if base else "")]
        for side in (NEVER_SEEN, SEEN):
            line = gains[(gains["row"] == "last row") & (gains["side"] == side)]
            cells += [_short(f"{means[side]:.3f}"), _gain(line.iloc[0]) if len(line) else ""]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def base_of(row: Row, found: Collection[str]) -> str:
    """The name of the nearest row that it stands on and that was measured; '' if there is none."""
    bases = {other.name: other.base for other in ROWS}
    base = row.base
    while base and base not in found:
        base = bases[base]
    return base


def _refits(found: dict[str, pd.DataFrame]) -> list[str]:
    lines = [
        "`refit` fits the PCA of the exported row anew, half to the images of the other half of the foreign domain's",
        "classes, without their labels:",
        "",
        "| row | never seen, before | after | gain | domains seen, gain |",
        "|---|---|---|---|---|",
    ]
    for name, own in found.items():
        gains = refits(own)
        gains = gains[gains["row"] == last_row(own)].set_index("side") if len(gains) else gains
        if len(gains):
            never = gains.loc[NEVER_SEEN]
            cells = [name, *(_short(f"{never[when]:.3f}") for when in ("before", "after")), _gain(never)]
            lines.append(f"| {' | '.join([*cells, _gain(gains.loc[SEEN])])} |")
    return lines


def _gain(line: pd.Series) -> str:
    def between(kind: str) -> str:
        low, high = line[f"{kind}_low"], line[f"{kind}_high"]
        return "–" if math.isnan(low) else f"{low:+.3f} to {high:+.3f}"

    return _short(f"{line['mean']:+.3f}, {between('fold')} ({between('class')})")


def _short(text: str) -> str:
    return text.replace("0.", ".")


def main() -> None:
    """Measures what is left, and writes the table."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--data-root", type=Path, default=PROJECT.parent / "shared/data", help="of minibench's data sets")
    p.add_argument("--out", type=Path, default=PROJECT / "artifacts/foreign", help="where the folds go")
    p.add_argument(
        "--beside",
        type=Path,
        nargs="+",
        default=[],
        metavar="FOLDER",
        help="other folders of --out whose folds the table counts, too (the table alone: --plan and the work do not)",
    )
    p.add_argument("--form", choices=MINUTES, default="backbone", help="what is trained (default: backbone)")
    p.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    p.add_argument("--domains", nargs="+", default=DOMAINS, choices=DOMAINS, help="to leave out (default: all)")
    p.add_argument("--rows", nargs="+", choices=[row.slug for row in ROWS], help="only these (default: all)")
    p.add_argument("--page", type=Path, default=HERE / "foreign.md", help="the table, with a .csv of the same name")
    p.add_argument("--plan", action="store_true", help="print what is left, and end")
    p.add_argument("--table-only", action="store_true", help="write the table of what is there, and end")
    arguments = p.parse_args()
    arguments.out = arguments.out.resolve()
    if arguments.plan:
        print(plan(arguments))
        return
    if not arguments.table_only:
        measure(arguments)
    text, scores = table(arguments)
    with whole_file(arguments.page) as temporary:
        temporary.write_text(text, encoding="utf-8")
    with whole_file(arguments.page.with_suffix(".csv")) as temporary:
        scores.to_csv(temporary, index=False)
    print(text)


if __name__ == "__main__":
    sys.exit(run_to_the_end(main, "foreign.py"))
