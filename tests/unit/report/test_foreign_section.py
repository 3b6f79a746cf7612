"""The section about domains never seen: that it holds the numbers of guie foreign, and is there only with them."""

import logging
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from changing import changed
from door_bench import made_bench
from fake_run import DOMAINS, make_fake_run
from foreign_queries import ROWS, invented
from html_page import Page

from guie.cli.foreign_results import tell, write_results
from guie.evaluate.foreign_recipe import head_only
from guie.override import override_field
from guie.report.collect import collect
from guie.report.foreign import read_foreign
from guie.report.gallery import NO_MIXUPS, Gallery
from guie.report.page import Report, read_report, render
from guie.report.pictures import raster
from guie.report.sections_foreign import foreign_charts
from guie.run import Run


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_fake_run(tmp_path_factory.mktemp("fake"))


@pytest.fixture
def run(finished: Run, tmp_path: Path) -> Run:
    shutil.copytree(finished.out, tmp_path / "run")
    return Run(replace(finished.recipe, name="fake"), finished.data_root, tmp_path / "run")


def has_section(page: Page) -> bool:
    return "foreign" in [attributes.get("id") for attributes in page.all("section")]


def words_of(page: Page) -> str:
    return " ".join(" ".join(page.texts).split())


def shown(run: Run) -> Page:
    """The page without what takes longest."""
    page = Page(
        render(Report(collect(run), Gallery((), NO_MIXUPS), None, (), foreign=read_foreign(run.out, run.recipe)))
    )
    assert page.open == []
    return page


def test_no_section_without_results(run: Run):
    assert read_report(run).foreign == () and not has_section(shown(run))


def test_section_has_the_numbers_side_by_side(run: Run):
    base, better = invented(DOMAINS), invented(DOMAINS, gain=0.02)
    (run.out / "foreign").mkdir()
    write_results(run.out / "foreign", run.recipe, better, ("base <run>", base))
    page = shown(run)
    assert has_section(page)
    summary = pd.read_csv(run.out / "foreign/summary.csv", keep_default_na=False)
    text = words_of(page)
    for row in ROWS:
        own = summary[(summary["row"] == row) & (summary["domain"] == "")].set_index("side")
        numbers = [f"{float(own.loc[side, 'mean']):.3f}" for side in ("seen", "never seen")]
        numbers.append(f"{float(own.loc['difference', 'mean']):+.3f}")
        assert " ".join(numbers) in text, (row, numbers)
    assert "Gained over base <run>, on the same queries" in text and "+0.020" in text
    assert "12 pairs of a seed and a domain" in text
    assert "are of different domains here" not in text and "95 %, other domains" in text
    assert "Only the stages of the first phase" not in text


def test_head_alone_stands_beside_the_whole_recipe(run: Run):
    for name in ("foreign", "foreign_head"):
        (run.out / name).mkdir()
        recipe = head_only(run.recipe) if name == "foreign_head" else run.recipe
        write_results(run.out / name, recipe, invented(DOMAINS, seeds=(0,)), None)
    parts = read_foreign(run.out, run.recipe)
    assert [part.is_head_only for part in parts] == [False, True]
    assert "only the stages of the first phase were trained" in words_of(shown(run))
    charts = {name: chart for part in parts for name, chart in foreign_charts(part).items()}
    assert set(charts) == {"foreign", "foreign_domains", "foreign_head", "foreign_head_domains"}
    assert all(min(raster(chart).size) > 100 for chart in charts.values())


def test_one_fold_has_no_difference_and_no_interval_over_folds(run: Run, capsys: pytest.CaptureFixture[str]):
    (run.out / "foreign").mkdir()
    queries = invented(DOMAINS, seeds=(0,), rows=("last",))
    found = write_results(run.out / "foreign", run.recipe, queries[queries["left_out"] == DOMAINS[0]], None)
    page = shown(run)
    assert has_section(page) and "Seen and never seen are of different domains here" in words_of(page)
    means = found.summary[found.summary["domain"] == ""].set_index("side")["mean"]
    cells = " ".join(["last", *(f"{means[side]:.3f}" for side in ("seen", "never seen")), "–", "–", "–"])
    assert cells in words_of(page)
    tell(found, run.out)
    assert "seen and never seen are of different domains here" in capsys.readouterr().out


def test_folds_of_other_settings_are_not_shown(run: Run, caplog: pytest.LogCaptureFixture):
    """Of another learning rate; of another seed, name and later stage they are still those of the head alone."""
    head = head_only(run.recipe)
    for name, recipe in (("foreign", run.recipe), ("foreign_head", head)):
        (run.out / name).mkdir()
        write_results(run.out / name, recipe, invented(DOMAINS, seeds=(0,), rows=("last",)), None)
    again = changed(run.recipe, name="again", seed=8, data__foreign_domain=DOMAINS[0])
    assert [part.is_head_only for part in read_foreign(run.out, again)] == [False, True]
    other = override_field(run.recipe, "stages.s2_backbone.optim.lr=0.5")
    with caplog.at_level(logging.WARNING, "guie"):
        assert [part.is_head_only for part in read_foreign(run.out, other)] == [True]
    assert "foreign is not shown: it is of other settings than this run (stages)" in caplog.text
    (run.out / "foreign_head/of_recipe.json").unlink()  # a kill before the last table
    assert read_foreign(run.out, other) == ()
    assert read_foreign(run.out, override_field(run.recipe, "stages.s1_head.optim.lr=0.5")) == ()


def test_damaged_summary_is_told(run: Run):
    (run.out / "foreign").mkdir()
    write_results(run.out / "foreign", run.recipe, invented(DOMAINS, seeds=(0,), rows=("last",)), None)
    (run.out / "foreign/summary.csv").write_text("row,side\n")
    with pytest.raises(ValueError, match=r"summary.csv is damaged .*; the same guie foreign writes it again"):
        read_foreign(run.out, run.recipe)


def test_report_is_made_again_when_there_are_new_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for bench in made_bench(tmp_path, monkeypatch):
        assert bench.open_all() == [*range(1, 10)] and bench.open_all() == []
        for name in (
            "foreign/summary.csv",
            "foreign/compared.csv",
            "foreign/of_recipe.json",
            "foreign_head/compared.csv",
        ):
            path = bench.out(9).parent / name
            for text in ("one", "two"):
                path.parent.mkdir(exist_ok=True)
                path.write_text(text)
                assert [bench.open(9) for _ in range(2)] == [0, 0] and bench.calls == [9], (name, text)
                bench.calls.clear()
