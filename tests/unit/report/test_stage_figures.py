"""Every number of a stage's metrics.csv is seen: what an objective tells as curves, and all columns as a table."""

import csv
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from html import unescape
from pathlib import Path

import pandas as pd
import pytest
from changing import changed
from fake_run import TOLD, make_fake_run

from guie.recipe import Fold
from guie.report.chart_files import charts
from guie.report.collect import StageCurves, collect, read_stages
from guie.report.page import write_report
from guie.report.sections_training import stage_charts, training
from guie.report.stage_figures import figures_of
from guie.run import PHASE_FOLDERS, Run

NO_CURVE = {"epoch", "step", "images_per_s", "seconds"}  # the axis, and what the table and the costs tell
TIP = re.compile(r"<title>(.+?) (-?[\d.]+(?:e-?\d+)?) at (?:step|epoch) (\S+)</title>")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = make_fake_run(tmp_path_factory.mktemp("run"))
    write_report(run)
    return run


def blocks(page: str, names: list[str]) -> dict[str, str]:
    """The part of the page that is about each stage."""
    section = page[page.index('<section id="training"') :]
    section = section[: section.index("</section>")]
    starts = [section.index(f"<b>{name}</b>") for name in names] + [len(section)]
    return {name: section[a:b] for name, a, b in zip(names, starts, starts[1:], strict=False)}


def is_drawn(values: dict[float, float], lines: list[dict[float, float]]) -> bool:
    """Whether a line has these points, up to the digits of a tooltip."""
    return any(
        line.keys() == values.keys()
        and all(line[x] == pytest.approx(y, rel=6e-3, abs=1e-12) for x, y in values.items())
        for line in lines
    )


def test_every_column_of_a_run_is_shown(run: Run):
    names = [stage.name for stage in run.recipe.stages]
    page = (run.out / "09_report" / "index.html").read_text(encoding="utf-8")
    n_columns = 0
    for name, block in blocks(page, names).items():
        lines: dict[str, dict[float, float]] = {}
        for chart, svg in enumerate(re.findall(r"<svg.*?</svg>", block, re.DOTALL)):
            for line, y, x in TIP.findall(svg):
                lines.setdefault(f"{chart} {unescape(line)}", {})[float(x)] = float(y)
        path = run.out / PHASE_FOLDERS[run.recipe.stages.phase_of(name)] / name / "metrics.csv"
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) < 100  # of longer stages a part is drawn
        for column in rows[0]:
            assert f'<th scope="col">{column}</th>' in block or f'<th scope="col" class="n">{column}</th>' in block
            values = {float(row["step"]): float(row[column]) for row in rows if row[column]}
            if column not in NO_CURVE and len(values) > 1:
                n_columns += 1
                assert is_drawn(values, list(lines.values())), f"{name}: {column}"
    assert n_columns >= sum(map(len, TOLD.values())) + 9  # loss, margin and learning rate of three stages, too


def stage_of(columns: list[str], name: str = "s") -> StageCurves:
    table = pd.DataFrame({"epoch": [0, 1], "step": [10, 20], "loss": [2.0, 1.0], "lr": [1e-3, 1e-4]})
    table = table.assign(images_per_s=1.0, seconds=1.0, val_mp5=float("nan"), val_r1=float("nan"))
    return StageCurves(name, "head", table.assign(**{column: [0.5, 0.25] for column in columns}))


def test_what_belongs_together_shares_a_chart():
    columns = ["loss_pull", "loss_push", "active_share", "trait_active_share", "positive_cosine", "negative_cosine"]
    columns += ["mask_cosine", "beta_distance", "trait_beta_distance", "memory_fill", "held_out_r1", "held_out_nmi"]
    columns += [
        "smallest_cluster",
        "largest_cluster",
        "left_out_share",
        "learner_weight_1",
        "learner_weight_2",
        "margin_rad",
    ]
    by_title = {figure.title: [name for _, name, _ in figure.curves] for figure in figures_of(stage_of(columns))}
    assert by_title == {
        "loss": ["loss"],
        "terms of the loss": ["pull", "push"],
        "active share": ["all", "trait"],
        "mean cosine of pairs": ["positive", "negative"],
        "mask (cosine)": ["mask (cosine)"],
        "beta (distance)": ["all", "trait"],
        "memory fill": ["memory fill"],
        "held-out images": ["R@1", "NMI"],
        "images of a cluster": ["smallest", "largest"],
        "left out share": ["left out share"],
        "mean weight of a learner": ["1", "2"],
        "margin (rad)": ["margin (rad)"],
        "learning rate": ["learning rate"],
        "validation": ["mP@5", "R@1"],
    }


def test_parts_of_a_sum_share_the_charts_of_what_they_measure():
    """`Sum` writes the name of a part in front of its columns."""
    columns = ["contrastive_positive_cosine", "contrastive_negative_cosine", "multi_similarity_positive_cosine"]
    columns += ["pads_held_out_r1", "pads_held_out_nmi", "divide_smallest_cluster", "divide_largest_cluster"]
    columns += ["bier_learner_weight_1", "bier_learner_weight_2", "pads_active_share", "active_share"]
    by_title = {figure.title: [name for _, name, _ in figure.curves] for figure in figures_of(stage_of(columns))}
    assert {title: names for title, names in by_title.items() if len(names) > 1 and title != "validation"} == {
        "mean cosine of pairs": ["contrastive positive", "contrastive negative", "multi similarity positive"],
        "held-out images": ["pads R@1", "pads NMI"],
        "images of a cluster": ["divide smallest", "divide largest"],
        "mean weight of a learner": ["bier 1", "bier 2"],
        "active share": ["pads", "all"],
    }


def test_stage_of_one_epoch_has_a_curve_of_its_points_and_no_chart_of_one_dot(tmp_path: Path):
    run = make_fake_run(tmp_path / "run")
    stage = next(stage for stage in run.recipe.stages if stage.name == "s4_backbone_288")
    folder = run.out / PHASE_FOLDERS[run.recipe.stages.phase_of(stage.name)] / stage.name
    points = pd.DataFrame({"step": [6 * i for i in range(1, 21)], "loss": [3 - 0.1 * i for i in range(20)]})
    points["lr"] = [1e-4 * (20 - i) for i in range(20)]
    for has_points in (False, True):
        if has_points:
            points.to_csv(folder / "curve.csv", index=False)
        own = {found.name: found for found in collect(run).stages}
        drawn = stage_charts(own[stage.name])
        for title, column in (("loss", "loss"), ("learning rate", "lr")):
            dots = [(float(x), float(y)) for _, y, x in TIP.findall(drawn[title])]
            expected = list(zip(points["step"], points[column], strict=True)) if has_points else []
            assert len(dots) == len(expected)
            assert all(a == pytest.approx(b, rel=6e-3) for a, b in zip(dots, expected, strict=True))
        assert drawn["margin (rad)"] == ""  # told once, at the end of the epoch
        text = training([own[stage.name]])
        assert "<p>margin (rad) 0.1, at step 127</p>" in text
        assert ("<p>learning rate" in text) == (not has_points)
    longer = {found.name: found for found in collect(run).stages}["s1_head"]  # of 30 epochs
    assert longer.metrics is not None
    few = StageCurves(longer.name, longer.phase, longer.metrics, points)
    assert stage_charts(few)["loss"] == stage_charts(longer)["loss"] != ""


@pytest.mark.parametrize("n", [1, 3, 4, 8, 9, 20])
def test_no_line_is_left_out_and_no_two_of_a_chart_look_alike(n: int):
    columns = [f"loss_term{i}" for i in range(n)]
    stage = stage_of(columns)
    figures = [figure for figure in figures_of(stage) if figure.title not in ("loss", "learning rate", "validation")]
    assert [column for figure in figures for column, _, _ in figure.curves] == columns
    assert len({figure.title for figure in figures}) == len(figures) == -(-n // 8)
    for figure in figures:
        assert len({style for _, _, style in figure.curves}) == len(figure.curves)
        assert stage_charts(stage)[figure.title].count("<polyline") == len(figure.curves)


def test_a_chart_from_zero_holds_what_is_below_zero():
    stage = stage_of(["positive_cosine", "negative_cosine"])
    assert stage.metrics is not None
    stage.metrics["negative_cosine"] = [-0.3, -0.4]
    root = ET.fromstring(stage_charts(stage)["mean cosine of pairs"])
    axis = max(float(line.get("y1")) for line in root.iter("line") if line.get("class") == "grid")
    dots = [float(dot.get("cy")) for dot in root.iter("circle")]
    assert len(dots) == 4 and max(dots) <= axis


def test_stages_of_different_objectives_share_the_file_of_charts(run: Run):
    """Each stage has columns that the others lack; the file had to have them all, or door 09 ended in a KeyError."""
    text = str(charts(collect(run), None, ())["training"])
    for says in ("s1_head: terms of the loss", "s3_head_wide: held-out images", "s2_backbone: margin (rad)"):
        assert says in text
    assert "s3_head_wide: terms of the loss" not in text
    for meaning in ("discriminative", "positive", "negative", "smallest", "R@1"):
        assert f">{meaning}</text>" in text


def test_report_of_a_damaged_column_still_comes(tmp_path: Path):
    run = make_fake_run(tmp_path / "run")
    path = run.out / PHASE_FOLDERS["head"] / "s1_head" / "metrics.csv"
    table = pd.read_csv(path)
    table.assign(positive_cosine="?", loss_intra=float("inf")).to_csv(path, index=False)
    text = str(charts(collect(run), None, ())["training"])
    assert "s1_head: terms of the loss" in text and "s1_head: mean cosine of pairs" in text


def test_scores_of_a_fold_that_was_left_out_are_called_by_it(run: Run):
    """Not `validation`: they are of training classes."""
    head = tuple(replace(row, left_out=Fold(number=2, of=4)) if row.name == "s1_head" else row
                 for row in run.recipe.stages.head)  # fmt: skip
    stages = read_stages(replace(run, recipe=changed(run.recipe, stages__head=head)))
    titles = {stage.name: figures_of(stage)[-1].title for stage in stages}
    assert titles.pop("s1_head") == "fold 2 of 4" and set(titles.values()) == {"validation"}
