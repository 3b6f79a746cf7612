"""Several runs beside each other: whose numbers they are, in which fields they differ, and what is said where a folder
holds no run."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fake_run import DOMAINS, make_fake_run

from guie import dependencies, door
from guie import options as door_options
from guie.cli.report import main as report_command
from guie.cli.report import page_name
from guie.report.collect import collect
from guie.report.gallery import NO_MIXUPS, Gallery
from guie.report.page import Report, render, write_report
from guie.report.runs import differences, read_runs, seeds
from guie.run import FOLDERS, Run, save_recipe


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = make_fake_run(tmp_path_factory.mktemp("fake"))
    save_recipe(run.out, run.recipe, "door", {})
    return run


@pytest.fixture
def finished(made: Run, tmp_path: Path) -> Run:
    """A copy that a test may damage."""
    shutil.copytree(made.out, tmp_path / "run")
    return Run(made.recipe, tmp_path, tmp_path / "run")


@pytest.fixture
def other(finished: Run, tmp_path: Path) -> Run:
    """The same with another seed and half a percent more."""
    shutil.copytree(finished.out, tmp_path / "other")
    recipe = replace(finished.recipe, seed=4)
    save_recipe(tmp_path / "other", recipe, "door", {})
    path = tmp_path / "other" / FOLDERS[7] / "scores.csv"
    table = pd.read_csv(path)
    table.assign(mp5=table["mp5"] + 0.005).to_csv(path, index=False)
    return Run(recipe, tmp_path, tmp_path / "other")


def with_runs(run: Run, other: Run) -> str:
    """The page of a run beside another, without what takes longest."""
    facts = collect(run)
    return render(Report(facts, Gallery((), NO_MIXUPS), None, read_runs(run, facts, [other.out])))


def test_runs_hold_their_own_scores_and_costs(finished: Run, other: Run):
    runs = read_runs(finished, collect(finished), [other.out])
    assert [run.name for run in runs] == ["fake & <bench>, seed 3", "fake & <bench>, seed 4"]
    assert [run.final["mp5"] for run in runs] == pytest.approx([0.708, 0.713])
    marks = [json.loads((finished.out / FOLDERS[n] / "done.json").read_text()) for n in range(1, 9)]
    assert runs[1].seconds == pytest.approx(sum(mark["seconds"] for mark in marks))
    assert runs[1].peak_memory_gb == max(mark["peak_memory_gb"] for mark in marks)
    assert runs[0].asked == runs[1].asked != ""
    assert seeds(runs) == [list(runs)]


def test_page_shows_the_other_run_and_the_spread_of_seeds(finished: Run, other: Run):
    html = with_runs(finished, other)
    mean, deviation = np.mean([0.708, 0.713]), np.std([0.708, 0.713], ddof=1)
    assert f"2 seeds: mP@5 {mean:.3f} ± {deviation:.3f}" in html
    assert '<a href="#runs">' in html and 'id="runs"' in html
    assert "fake &amp; &lt;bench&gt;, seed 4" in html and "<bench>" not in html
    assert "Settings that differ (1)" in html
    assert "evaluated on different images" not in html


def test_page_says_when_the_runs_were_evaluated_on_different_images(finished: Run, other: Run):
    path = other.out / FOLDERS[7] / "val_ids.parquet"
    pd.read_parquet(path).iloc[:-1].to_parquet(path)
    assert "evaluated on different images" in with_runs(finished, other)


def test_runs_with_other_domains_share_a_table(finished: Run, other: Run):
    path = other.out / FOLDERS[7] / "scores.csv"
    pd.read_csv(path).rename(columns={f"mp5_{DOMAINS[0]}": "mp5_toys"}).to_csv(path, index=False)
    assert '<th scope="col" class="n">toys</th>' in with_runs(finished, other)


def test_report_of_several_runs_writes_their_charts(finished: Run, other: Run):
    for path in [
        *finished.out.glob("0[2-6]*"),
        *finished.out.glob("07*/*.[np]*"),
    ]:  # what takes long and is another test's
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    write_report(finished, [other.out])
    assert 'id="runs"' in (finished.out / "09_report" / "index.html").read_text(encoding="utf-8")
    assert {"runs.svg", "runs.png", "runs_domains.svg", "runs_domains.png"} <= {
        path.name for path in (finished.out / "09_report").iterdir()
    }


def test_runs_of_one_name_and_seed_are_told_apart_by_their_folder(finished: Run, tmp_path: Path):
    shutil.copytree(finished.out, tmp_path / "again")
    names = [run.name for run in read_runs(finished, collect(finished), [tmp_path / "again"])]
    assert names[1].endswith(f"{tmp_path.name}/again") and len(set(names)) == 2


def test_pages_of_two_runs_of_one_name_do_not_replace_each_other(
    finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("guie.cli.report.saved_run", lambda folder: finished)  # whose name no recipe file may have
    for folder in ("seed1", "seed2"):
        shutil.copytree(finished.out, tmp_path / folder / "demo")
    before = (finished.out / "09_report/index.html").exists()
    pages = set()
    for folder in ("seed1", "seed2", "seed1"):
        assert report_command([str(finished.out), "--compare", str(tmp_path / folder / "demo")]) == 0
        pages |= set((finished.out / "09_report").glob("compared_with_demo_*/index.html"))
    assert len(pages) == 2
    assert {folder for page in pages for folder in ("seed1", "seed2") if f"{folder}/demo" in page.read_text()} == {
        "seed1",
        "seed2",
    }
    assert (finished.out / "09_report/index.html").exists() == before  # the run's own report stays as it is
    many = tuple(Path(f"/runs/{i}/with_a_rather_long_name") for i in range(40))
    assert page_name(many) != page_name(many[::-1])
    for name in ("with_a_rather_long_name", "моё дерево за домом, летом", "我的照片" * 6):  # bytes count
        folder = finished.out / "names" / page_name(tuple(Path(f"/runs/{i}/{name}") for i in range(40)))
        folder.mkdir(parents=True)
        assert name in folder.name


def test_differences_name_the_fields_and_not_what_is_equal():
    one = {
        "seed": 0,
        "data": {"pack_px": 200, "limits": [1, 2]},
        "stages": {"head": [{"name": "s1", "lr": 0.1, "px": 5}], "backbone": [{"name": "extra", "lr": 1}]},
        "old": None,
    }
    two = {
        "seed": 1,
        "data": {"pack_px": 200, "limits": [1, 3]},
        "stages": {"head": [{"name": "s1", "lr": 0.2, "px": 5}], "backbone": []},
    }
    assert differences([one, two]) == {
        "seed": ["0", "1"],
        "data.limits": ["[1, 2]", "[1, 3]"],
        "stages.s1.lr": ["0.1", "0.2"],
        "stages.extra": ["there", "–"],
        "old": ["null", "–"],
    }
    assert differences([one, one]) == {}


@pytest.mark.parametrize(
    ("damage", "error", "says"),
    [
        (
            lambda out: shutil.rmtree(out),
            FileNotFoundError,
            r"no recipe\.json there; give the folder of a finished run",
        ),
        (lambda out: (out / "recipe.json").write_text("{"), ValueError, r"recipe\.json is damaged"),
        (
            lambda out: (out / "recipe.json").write_text('{"recipe": {"name": "x"}}'),
            ValueError,
            "names no setting to export",
        ),
        (lambda out: (out / FOLDERS[7] / "scores.csv").unlink(), ValueError, r"scores\.csv does not exist"),
    ],
)
def test_folder_that_holds_no_finished_run_is_an_error(
    finished: Run, other: Run, damage, error: type[Exception], says: str
):
    damage(other.out)
    with pytest.raises(error, match=says):
        read_runs(finished, collect(finished), [other.out])


def test_door_hands_the_folders_on_and_opens_again_when_they_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(dependencies.INPUTS, 9, ())
    calls = []

    def work(run: Run, compare: tuple[Path, ...] = ()) -> dict[str, float]:
        calls.append(compare)
        return {}

    def mark(digest: str) -> None:
        (tmp_path / "b" / FOLDERS[7]).mkdir(parents=True, exist_ok=True)
        text = json.dumps(
            {"settings": "", "inputs": {}, "outputs": {"scores.csv": digest}, "metrics": {}, "seconds": 1.0}
        )
        (tmp_path / "b" / FOLDERS[7] / "done.json").write_text(text)

    folders = tuple(tmp_path / name for name in "abc")
    options = ["--recipe", "tiny", "--out", str(tmp_path / "out")]
    compare = ["--compare", str(folders[0]), str(folders[1]), "--compare", str(folders[2])]
    mark("one")
    assert door.open_door(9, "A door.", work, [*options, *compare]) == 0
    assert door.open_door(9, "A door.", work, [*options, *compare]) == 0
    assert calls == [folders]  # the second time it was done
    mark("two")
    assert door.open_door(9, "A door.", work, [*options, *compare]) == 0
    assert door.open_door(9, "A door.", work, options) == 0
    assert calls == [folders, folders, ()]


def test_command_names_the_folders_again():
    arguments = door_options.parser("", 9).parse_args(["--recipe", "tiny", "--compare", "a b", "c"])
    assert door_options.command(9, arguments).endswith("--recipe tiny --compare 'a b' c")
    assert door_options.command(7, arguments).endswith("--recipe tiny")


def test_run_is_not_compared_with_itself(finished: Run, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(finished.out)
    for folder in (finished.out, tmp_path / "link"):
        with pytest.raises(ValueError, match=r"^--compare .* is the run itself; name another finished run$"):
            read_runs(finished, collect(finished), [folder])
