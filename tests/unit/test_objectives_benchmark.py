"""What the benchmark of all objectives rests on: all of its settings are valid, its folds leave the unseen classes out,
no row is lost or made twice, and the search takes the best."""

import multiprocessing
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from guie.recipe import Embed, Member, Setting, Stage, Stages
from guie.run import PROJECT
from guie.settings.objective import ObjectiveSettings
from guie.train.objectives.build import TABLE

BENCHMARKS = PROJECT / "tests/benchmarks"


@pytest.fixture(autouse=True)
def _scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def test_every_kind_is_compared_and_each_has_the_same_search():
    from objectives_settings import LR, OBJECTIVES, PUBLISHED, SEARCH, settings_of

    kinds = {type(term) for objective in OBJECTIVES.values() for term in getattr(objective, "terms", (objective,))}
    not_compared = {kind.__name__ for kind in TABLE} - {kind.__name__ for kind in kinds}
    assert not_compared == {"Library", "Sum"}  # Library is of kinds that are there; a Sum was taken apart
    assert list(SEARCH) == list(OBJECTIVES)
    for name, published in OBJECTIVES.items():
        tried = settings_of(name)
        assert len(tried) == 5 and next(iter(tried)) == PUBLISHED and tried[PUBLISHED] == (published, LR), name
        assert len({repr(setting) for setting in tried.values()}) == 5, f"{name}: a value is the published one"
        assert sorted(lr for _, lr in tried.values()) == pytest.approx([LR / 3, LR, LR, LR, 3 * LR])


def test_every_setting_of_the_search_is_a_valid_recipe():
    """One whose value is out of range would end its row after hours."""
    from objectives_settings import MOST_USED, OBJECTIVES, head_stage, settings_of, whole_stage

    stages = {name: [head_stage(name, *setting) for setting in settings_of(name).values()] for name in OBJECTIVES}
    for name in OBJECTIVES:
        for stage in stages[name]:
            assert_valid(stage)
    for name in MOST_USED:
        assert_valid(head_stage(f"{name}_head", OBJECTIVES[name]), whole_stage(name, OBJECTIVES[name]))


def assert_valid(*stages: Stage) -> None:
    """A recipe of these stages is, which ends with the last of them."""
    from objectives_settings import RECIPE

    last = Setting("last", (Member(stages[-1].name, stages[-1].image_px),))
    replace(RECIPE, stages=Stages(head=stages), embed=Embed((last,))).validate()


def test_images_that_are_gone_are_no_result(tmp_path: Path):
    """A row would say so for ever: its seed and objective count as done."""
    from objectives import Clock, run_all
    from objectives_parts import Files, Job

    def work(files: Files) -> list[dict[str, Any]]:
        raise ValueError("Caught ValueError in DataLoader worker process 0. shard_00001.tar is damaged")

    files = Files(tmp_path)
    with pytest.raises(ValueError, match="is damaged"):
        run_all([Job("vit", {"seed": 0, "objective": "ArcFace"}, work)], files, Clock(files))
    assert files.vit.read().empty


def test_folds_are_of_the_training_classes_alone():
    from objectives_training import N_FOLDS, UNSEEN, fold_of

    rng = np.random.default_rng(0)
    classes = np.repeat(np.arange(40), 3)
    index = pd.DataFrame({"class_id": classes, "domain": np.where(classes % 4 == 0, "a", "b")})
    index["split"] = np.where(classes % 2 == 0, "train", "val")
    index = index.sample(frac=1, random_state=int(rng.integers(100)), ignore_index=True)
    packed: Any = SimpleNamespace(index=index)
    validated: list[set[int]] = []
    for fold in range(N_FOLDS):
        found = fold_of(packed, fold).index
        assert (found["class_id"] == index["class_id"]).all()
        assert set(found["split"][index["split"] == "val"]) == {UNSEEN}
        of_split = {split: set(found["class_id"][found["split"] == split]) for split in ("train", "val")}
        assert not of_split["train"] & of_split["val"]
        assert of_split["train"] | of_split["val"] == set(range(0, 40, 2))
        domains = {split: set(found["domain"][found["split"] == split]) for split in ("train", "val")}
        assert domains["train"] == domains["val"] == {"a", "b"}
        validated.append(of_split["val"])
    assert set.union(*validated) == set(range(0, 40, 2)) and not set.intersection(*validated)
    assert (packed.index["split"] != UNSEEN).all()  # the pack itself is as it was


def searched(files: Any, name: str, scores: dict[str, tuple[float, float]]) -> None:
    for setting, by_fold in scores.items():
        for fold, mp5 in enumerate(by_fold):
            files.search.add({"seed": 0, "objective": name, "setting": setting, "fold": fold, "mp5": mp5})


def test_search_takes_the_setting_with_the_best_mean(tmp_path: Path):
    from objectives_parts import Files, NotReadyError

    files = Files(tmp_path)
    names = ["published", "scale=10", "scale=16", "lr=0.00033", "lr=0.003"]
    with pytest.raises(NotReadyError, match="lacks 10 of 10 rows"):
        files.chosen(0, "Softmax")
    nan = float("nan")
    searched(
        files, "Softmax", dict(zip(names, [(0.6, 0.6), (0.5, 0.72), (0.9, nan), (0.61, 0.6), (0.6, 0.61)], strict=True))
    )
    assert files.chosen(0, "Softmax") == "scale=10"  # .61; scale=16 could not be trained in one fold
    with pytest.raises(NotReadyError):
        files.chosen(1, "Softmax")
    tied = ["published", "scale=3", "scale=27", "lr=0.00033", "lr=0.003"]
    searched(files, "ProxyNca", dict.fromkeys(tied, (0.6, 0.5)))
    assert files.chosen(0, "ProxyNca") == "published"
    failed = ["published", "margin_rad=0.2", "margin_rad=0.8", "lr=0.00033", "lr=0.003"]
    searched(files, "ArcFace", dict.fromkeys(failed, (nan, nan)))
    with pytest.raises(ValueError, match="no setting that could be trained"):
        files.chosen(0, "ArcFace")


def add_rows(folder: str, seed: int) -> None:
    import sys

    sys.path.insert(0, str(BENCHMARKS))
    from objectives_parts import Files

    for i in range(5):
        Files(Path(folder)).search.add(
            {"seed": seed, "objective": "Triplet", "setting": "published", "fold": i, "mp5": 0.5}
        )


def test_rows_of_several_processes_are_all_kept(tmp_path: Path):
    from objectives_parts import Files

    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=add_rows, args=(str(tmp_path), seed)) for seed in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    rows = Files(tmp_path).search.read()
    assert sorted(zip(rows["seed"], rows["fold"], strict=True)) == [(seed, i) for seed in range(3) for i in range(5)]
    assert [path.name for path in tmp_path.iterdir()] == ["objectives_search.csv"]


def test_threads_of_the_benchmarks_sleep_while_they_wait():
    """guie.run says so to OpenMP, which listens once: when torch is loaded. Scripts import these modules before it."""
    for module in ("objectives", "claims"):
        script = (
            f"import sys; sys.path.insert(0, {str(BENCHMARKS)!r})\n"
            "class Watch:\n"
            "    def find_spec(self, name, path=None, target=None):\n"
            "        if name == 'torch':\n"
            "            import os\n"
            "            print(os.environ.get('OMP_WAIT_POLICY'), flush=True)\n"
            "            os._exit(0)  # what follows takes six seconds and says no more\n"
            f"sys.meta_path.insert(0, Watch())\nimport {module}"
        )
        environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
        told = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment
        )
        assert told.stdout == "PASSIVE\n", module


def test_a_finished_row_is_not_made_again_and_a_failed_one_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    from objectives import Clock, run_all
    from objectives_parts import Files, Job, NotReadyError
    from objectives_training import CannotTrainError

    made = []

    def work(name: str, files: Files) -> list[dict[str, Any]]:
        made.append(name)
        if name == "Bier":
            raise CannotTrainError("the loss is nan;\ntry a lower lr")
        return [{"setting": "published", "mp5": 0.5, "epoch_s": 1.0}]

    def job(name: str) -> Job:
        return Job("published", {"part": "published", "seed": 0, "objective": name}, lambda files: work(name, files))

    files = Files(tmp_path)
    jobs = [job(name) for name in ("Triplet", "Bier", "SupCon")]
    run_all(jobs[:2], files, Clock(files))
    assert [left.key["objective"] for left in files.missing(jobs)] == ["SupCon"]
    run_all(jobs, files, Clock(files))
    assert made == ["Triplet", "Bier", "SupCon"]
    rows = files.main.read().set_index("objective")
    assert rows["problem"].fillna("").to_dict() == {
        "Triplet": "",
        "Bier": "the loss is nan; try a lower lr",
        "SupCon": "",
    }
    assert np.isnan(rows["mp5"]["Bier"]) and rows["mp5"]["SupCon"] == 0.5 and (rows["commit"] != "").all()
    assert "Bier, seed 0: the loss is nan" in capsys.readouterr().out

    def too_early(files: Files) -> list[dict[str, Any]]:
        raise NotReadyError("run --parts search first")

    def broken(files: Files) -> list[dict[str, Any]]:
        raise ValueError("a fault of the script is no result")

    for expected, wrong in ((NotReadyError, too_early), (ValueError, broken)):
        with pytest.raises(expected):
            run_all([Job("tuned", {"part": "tuned", "seed": 0, "objective": "Triplet"}, wrong)], files, Clock(files))
    assert len(files.main.read()) == 3


def test_a_file_of_other_code_is_refused(tmp_path: Path):
    from objectives_parts import Files

    (tmp_path / "objectives.csv").write_text("seed,objective,mp5\n0,Triplet,0.5\n")
    with pytest.raises(
        ValueError, match=r"objectives\.csv has the columns seed, objective, mp5, and not .* move it away"
    ):
        Files(tmp_path).main.read()
    with pytest.raises(ValueError, match="has no column mp6"):
        Files(tmp_path / "new").main.add({"mp6": 1.0})


def test_intervals_and_paired_differences():
    """By hand: .01 * 4.303 / sqrt(3) = .02484; differences .01, .02, .03 have the same half width and the mean .02."""
    from objectives_tables import difference, half_width, is_within_noise, ranked, with_interval

    assert half_width(pd.Series([0.60, 0.61, 0.62])) == pytest.approx(0.02484, abs=1e-5)
    assert with_interval(pd.Series([0.60, 0.61, 0.62])) == ".610 ± .025"
    assert with_interval(pd.Series([0.61, np.nan])) == ".610" and with_interval(pd.Series([np.nan])) == "–"
    rows = pd.DataFrame({"seed": [0, 1, 2] * 3, "objective": ["a"] * 3 + ["b"] * 3 + ["c"] * 3})
    rows["mp5"] = [0.61, 0.72, 0.83, 0.60, 0.70, 0.80, np.nan, np.nan, np.nan]
    assert ranked(rows) == ["a", "b", "c"]
    assert is_within_noise(difference(rows, "b", "a"))  # .0248 holds .02
    rows.loc[rows["objective"] == "b", "mp5"] = [0.585, 0.695, 0.805]
    assert not is_within_noise(difference(rows, "b", "a"))  # always .025 less, whatever the split
    assert difference(rows, "c", "a").empty


def test_settings_type_is_that_of_the_recipes():
    """The table's values are what a recipe may name."""
    from typing import get_args

    from objectives_settings import OBJECTIVES

    kinds = get_args(ObjectiveSettings)
    assert all(isinstance(objective, kinds) for objective in OBJECTIVES.values())
