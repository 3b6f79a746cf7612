"""The run of an earlier version: which one is taken, how it was started, how it is copied or linked."""

import json
import os
from pathlib import Path

import pytest
from kaggle_folders import make_run

from guie.door import open_door
from guie.kaggle.earlier import copy_run, earlier_run, link_run, options_of
from guie.run import FOLDERS


def test_attached_run_is_the_one_that_got_furthest(tmp_path: Path) -> None:
    assert earlier_run(tmp_path) is None
    make_run(tmp_path / "v1/artifacts/tiny", (1, 2, 3), ("04_head/s1_head",))
    stages = ("04_head/s1_head", "05_backbone/s2_backbone")
    best = make_run(tmp_path / "notebooks/me/v2/artifacts/tiny", (1, 2, 3), stages)
    demo = make_run(tmp_path / "v3/artifacts/demo", (1, 2, 3, 4, 5, 6, 7))
    assert [earlier_run(tmp_path, name) for name in ("", "tiny", "minibench")] == [demo, best, None]


def test_of_equal_runs_the_newest_is_taken(tmp_path: Path) -> None:
    old, new = (make_run(tmp_path / name / "artifacts/tiny", (1,)) for name in ("b", "a"))
    os.utime(old, (1e9, 1e9))
    assert earlier_run(tmp_path) == new
    os.utime(new, (9e8, 9e8))
    assert earlier_run(tmp_path) == old


@pytest.mark.parametrize("out", ["out", "my out", 'Ann\'s "out"'])
def test_options_are_those_that_a_door_was_opened_with(tmp_path: Path, out: str) -> None:
    weights = "model.weights=my 'own' file.safetensors"
    words = ["--recipe", "tiny", "--set", "seed=3", "--licence", "commercial", "--out", str(tmp_path / out)]
    assert open_door(1, "A door.", lambda run: {}, [*words, "--set", weights]) == 0
    run = tmp_path / out / "tiny"
    assert options_of(run) == ("tiny", ("seed=3", "data.licence=commercial", weights))
    assert json.loads((run / "recipe.json").read_text())["arguments"]["out"] == str(tmp_path / out)


@pytest.mark.parametrize(
    "text",
    [
        '{"command": "src/04.py --recipe tiny", "commit": "0", "recipe": {}}',  # as older versions wrote it
        '{"arguments": {"recipe": "tiny"}}',
        '{"arguments": null}',
        "[]",
        '{"arguments": {"rec',
    ],
)
def test_run_without_arguments_is_told_with_the_remedy(tmp_path: Path, text: str) -> None:
    run = make_run(tmp_path / "artifacts/tiny", (1,))
    (run / "recipe.json").write_text(text)
    told = r"artifacts/tiny/recipe\.json has no `arguments`.* Set RECIPE = 'tiny'"
    with pytest.raises(ValueError, match=told) as caught:
        options_of(run)
    assert "\n" not in str(caught.value)


def test_copy_of_a_read_only_run_is_whole_and_can_be_written_to(tmp_path: Path) -> None:
    earlier = make_run(tmp_path / "in/tiny", (1, 2), ("04_head/s1_head",))
    (earlier / "02_balanced/.hidden").write_text("x")
    (earlier / "04_head/s1_head/last.pt").write_bytes(os.urandom(100_000))
    for path in sorted(earlier.rglob("*"), reverse=True):
        path.chmod(0o555 if path.is_dir() else 0o444)
    run = tmp_path / "out/tiny"
    (tmp_path / "out/.tiny.copying/stale").mkdir(parents=True)  # of a copy that was killed
    copy_run(earlier, run)
    names = sorted(str(path.relative_to(earlier)) for path in earlier.rglob("*"))
    assert names == sorted(str(path.relative_to(run)) for path in run.rglob("*")) and len(names) >= 8
    pairs = [(run / name, earlier / name) for name in names if (earlier / name).is_file()]
    assert len(pairs) >= 5 and all(copy.read_bytes() == file.read_bytes() for copy, file in pairs)
    assert all(path.stat().st_mode & 0o200 for path in run.rglob("*"))
    assert all(copy.stat().st_mtime_ns == file.stat().st_mtime_ns for copy, file in pairs)
    assert [path.name for path in run.parent.iterdir()] == ["tiny"]


def test_run_in_the_working_folder_is_not_overwritten(tmp_path: Path) -> None:
    earlier, run = make_run(tmp_path / "in/tiny", (1, 2)), make_run(tmp_path / "out/tiny", (1, 2, 3))
    copy_run(earlier, run)
    assert (run / FOLDERS[3] / "done.json").is_file()


def test_linked_run_lends_all_but_export_and_report(tmp_path: Path) -> None:
    earlier = make_run(tmp_path / "in/tiny", (1, 2, 3, 7, 8, 9))
    link_run(earlier, tmp_path / "out/tiny")
    link_run(earlier, tmp_path / "out/tiny")
    links = {path.name for path in (tmp_path / "out/tiny").iterdir() if path.is_symlink()}
    assert links == {FOLDERS[number] for number in (1, 2, 3, 7)}
    assert not (tmp_path / "out/tiny/recipe.json").is_symlink()
