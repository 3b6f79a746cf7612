"""What a step has made: done-marks, damaged files, fingerprints of raw data, the lock."""

import importlib.metadata
import json
import os
import platform
import time
from pathlib import Path

import pytest

from guie.done import fingerprint, is_done, mark_done, outputs_digest, read_done
from guie.recipe import Data, Embed, Member, Model, Recipe, Setting, Source, Stage
from guie.run import Run


def a_run(tmp_path: Path) -> Run:
    recipe = Recipe(
        name="example",
        data=Data((Source("a", "class_folders", "a", "d"),)),
        model=Model("timm", "resnet18"),
        stages=(Stage("s1", "head", "head", 64, 1, 8, 0.01, fresh=("neck", "classifier")),),
        embed=Embed((Setting("only", (Member("s1", 64),)),)),
        seed=5,
    )
    return Run(recipe.validate(), tmp_path / "data", tmp_path / "out" / "example")


def finish(run: Run, folder: Path, settings: str = "s", inputs: dict[str, str] | None = None) -> dict:
    return mark_done(run, folder, "door 01", settings, inputs or {}, time.time(), {"n": 1})


def test_unfinished_folder_is_not_done(tmp_path: Path):
    folder = a_run(tmp_path).folder(1)
    assert read_done(folder) is None
    assert not is_done(folder, "s", {})
    assert outputs_digest(folder) == ""


def test_finished_folder_is_done_for_equal_settings_and_inputs_only(tmp_path: Path):
    run = a_run(tmp_path)
    folder = run.folder(2)
    (folder / "a.txt").write_text("a")
    finish(run, folder, "s", {"01_manifests": "x"})
    assert is_done(folder, "s", {"01_manifests": "x"})
    assert not is_done(folder, "other", {"01_manifests": "x"})
    assert not is_done(folder, "s", {"01_manifests": "y"})
    assert not is_done(folder, "s", {})
    (folder / "a.txt").unlink()
    assert not is_done(folder, "s", {"01_manifests": "x"})


def test_mark_holds_what_a_reader_asks_for(tmp_path: Path):
    run = a_run(tmp_path)
    folder = run.folder(4)
    (folder / "s1").mkdir()
    for name in ("s1/final.safetensors", "s1/last.pt", "s1/done.json", ".hidden.tmp", "log.txt"):
        (folder / name).write_text(name)
    mark = mark_done(run, folder, "door 04", "s", {"03_packed": "x"}, time.time() - 2, {"loss": 0.5})
    assert mark == json.loads((folder / "done.json").read_text()) == read_done(folder)
    assert list(mark["outputs"]) == ["s1/final.safetensors"]  # resume states, marks, logs and half files are no outputs
    assert (mark["step"], mark["seed"], mark["device"], mark["metrics"]) == ("door 04", 5, "cpu", {"loss": 0.5})
    assert 2 <= mark["seconds"] < 10
    assert mark["versions"] == {"python": platform.python_version(), "torch": importlib.metadata.version("torch")}
    assert 0.05 < mark["peak_memory_gb"] < 100


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"settings": "s"}'])
def test_damaged_mark_counts_as_unfinished(tmp_path: Path, text: str):
    folder = a_run(tmp_path).folder(1)
    (folder / "done.json").write_text(text)
    assert read_done(folder) is None
    assert not is_done(folder, "s", {})


def test_outputs_digest_changes_with_an_output_and_not_with_metrics_or_time(tmp_path: Path):
    run = a_run(tmp_path)
    folder = run.folder(1)
    (folder / "a.txt").write_text("a")
    finish(run, folder)
    first = outputs_digest(folder)
    mark_done(run, folder, "door 01", "s", {}, time.time() - 100, {"n": 2})
    assert outputs_digest(folder) == first
    (folder / "a.txt").write_text("b")
    finish(run, folder)
    assert outputs_digest(folder) != first
    (folder / "a.txt").write_text("a")
    (folder / "b.txt").write_text("")
    finish(run, folder)
    assert outputs_digest(folder) != first


def test_fingerprint_sees_added_removed_edited_and_touched_files(tmp_path: Path):
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/one.jpg").write_bytes(b"12")
    (tmp_path / "a/two.jpg").write_bytes(b"12")
    seen = [fingerprint(tmp_path, ["a"])]
    assert fingerprint(tmp_path, ["a"]) == seen[0]
    (tmp_path / "a/three.jpg").write_bytes(b"")
    seen.append(fingerprint(tmp_path, ["a"]))
    (tmp_path / "a/two.jpg").write_bytes(b"123")
    seen.append(fingerprint(tmp_path, ["a"]))
    os.utime(tmp_path / "a/two.jpg", ns=(1, 1))
    seen.append(fingerprint(tmp_path, ["a"]))
    (tmp_path / "a/b/one.jpg").rename(tmp_path / "a/b/uno.jpg")
    seen.append(fingerprint(tmp_path, ["a"]))
    assert len(set(seen)) == len(seen)


def test_fingerprint_takes_names_that_are_no_utf8_and_broken_links(tmp_path: Path):
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.jpg")).touch()
    (tmp_path / "link").symlink_to("nowhere")
    assert len(fingerprint(tmp_path, ["."])) == 16
