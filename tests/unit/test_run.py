"""One run: folders, done-marks, fingerprints, seeds, the log."""

import importlib.metadata
import json
import logging
import os
import platform
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from guie import run as run_module
from guie.recipe import Data, DrawnWorld, Embed, Member, Model, Recipe, Setting, Source, Stage
from guie.run import (
    DOORS,
    FOLDERS,
    PROJECT,
    Run,
    clear,
    commit,
    default_out,
    fingerprint,
    is_done,
    keep_freed_memory,
    mark_done,
    outputs_digest,
    peak_memory_gb,
    read_done,
    seed_everything,
    set_up_logging,
)


def a_run(tmp_path: Path, drawn: bool = False) -> Run:
    recipe = Recipe(
        name="example",
        data=Data((Source("a", "class_folders", "a", "d"),), drawn=DrawnWorld() if drawn else None),
        model=Model("timm", "resnet18"),
        stages=(Stage("s1", "head", "head", 64, 1, 8, 0.01, fresh=("neck", "classifier")), Stage("s2", "highres", "backbone", 64, 1, 8, 0.01)),
        embed=Embed((Setting("only", (Member("s1", 64),)),)),
        seed=5,
    )
    return Run(recipe.validate(), tmp_path / "data", tmp_path / "out" / "example")


def finish(run: Run, folder: Path, settings: str = "s", inputs: dict[str, str] | None = None) -> dict:
    return mark_done(run, folder, "door 01", settings, inputs or {}, time.time(), {"n": 1})


def test_folders_are_made_where_the_number_says(tmp_path: Path):
    run = a_run(tmp_path)
    assert run.folder(3) == tmp_path / "out/example/03_packed" and run.folder(3).is_dir()
    assert run.stage_folder("s1") == tmp_path / "out/example/04_head/s1" and run.stage_folder("s1").is_dir()
    assert run.stage_folder("s2") == tmp_path / "out/example/06_highres/s2"
    with pytest.raises(ValueError, match="no stage 's3'"):
        run.stage_folder("s3")


def test_images_root_is_the_drawn_world_or_the_data_root(tmp_path: Path):
    assert a_run(tmp_path).images_root == tmp_path / "data"
    assert a_run(tmp_path, drawn=True).images_root == tmp_path / "out/example/drawn"


def test_weights_are_found_in_order_and_the_error_lists_the_places(tmp_path: Path):
    run = a_run(tmp_path)
    with pytest.raises(FileNotFoundError) as caught:
        run.weights_path("w.safetensors")
    for place in (tmp_path / "data/w.safetensors", tmp_path / "weights/w.safetensors", PROJECT / "weights/w.safetensors"):
        assert str(place) in str(caught.value)
    for folder in ("weights", "data"):  # the later one has precedence
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "w.safetensors").touch()
        assert run.weights_path("w.safetensors") == tmp_path / folder / "w.safetensors"
    absolute = tmp_path / "elsewhere.safetensors"
    with pytest.raises(FileNotFoundError, match="elsewhere"):
        run.weights_path(str(absolute))
    absolute.touch()
    assert run.weights_path(str(absolute)) == absolute


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


def test_clear_keeps_the_log_only(tmp_path: Path):
    (tmp_path / "s1").mkdir()
    for name in ("s1/a", "b", "done.json", "log.txt"):
        (tmp_path / name).write_text(name)
    clear(tmp_path)
    assert os.listdir(tmp_path) == ["log.txt"]


def test_seed_everything_repeats_all_three_generators():
    def draw() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    seed_everything(2**31 - 1)
    first = draw()
    assert draw() != first
    seed_everything(2**31 - 1)
    assert draw() == first
    seed_everything(0)
    assert draw() != first


def page_faults_of_later_allocations(is_kept: bool) -> int:
    """Page faults when 64 MiB are filled five times after 64 MiB were freed, in a fresh process: the setting cannot be undone, and forks inherit it."""
    code = (
        "import resource, numpy as np\n"
        "from guie.run import keep_freed_memory\n"
        f"assert not {is_kept} or keep_freed_memory()\n"
        "np.ones(8 << 20)\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "for _ in range(5):\n"
        "    np.ones(8 << 20)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)\n"
    )
    return int(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_keep_freed_memory_spares_the_page_faults():
    assert page_faults_of_later_allocations(is_kept=False) >= 150  # each takes 32 huge pages or 16384 small ones
    assert page_faults_of_later_allocations(is_kept=True) < 50


def test_keep_freed_memory_is_off_elsewhere(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(run_module.platform, "system", lambda: "Darwin")
    assert keep_freed_memory() is False


def test_peak_memory_is_at_least_what_is_held():
    held = np.ones(40_000_000)  # 0.32 GB
    assert peak_memory_gb() > held.nbytes / 1e9


def test_commit_outside_a_checkout_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(run_module, "PROJECT", tmp_path)
    assert commit() == "unknown"


def test_commit_marks_a_changed_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.c"]
    for words in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "first"]):
        subprocess.run([*git, *words], check=True)
    monkeypatch.setattr(run_module, "PROJECT", tmp_path)
    clean = commit()
    assert len(clean) == 10 and int(clean, 16) >= 0
    (tmp_path / "new").touch()
    assert commit() == clean + "+"


def test_default_out_is_the_environment_or_the_project(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GUIE_OUT", "/somewhere")
    assert default_out() == Path("/somewhere")
    monkeypatch.delenv("GUIE_OUT")
    assert default_out() == PROJECT / "artifacts"
    assert (PROJECT / "pyproject.toml").is_file()


def test_doors_and_folders_bear_their_number():
    assert list(DOORS) == list(FOLDERS) == list(range(1, 10))
    for number in DOORS:
        assert Path(DOORS[number]).name.startswith(f"{number:02d}_")
        assert FOLDERS[number].startswith(f"{number:02d}_")


@pytest.mark.parametrize("is_main", [True, False])
def test_log_goes_to_the_terminal_and_with_details_to_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str], is_main: bool):
    try:
        set_up_logging(tmp_path, is_main)
        set_up_logging(tmp_path, is_main)  # a second call replaces the first
        log = logging.getLogger("guie.somewhere")
        log.info("shown")
        log.debug("detail")
        log.error("wrong")
    finally:
        for handler in list(logging.getLogger("guie").handlers):
            logging.getLogger("guie").removeHandler(handler)
            handler.close()
    assert capsys.readouterr().out.splitlines() == (["shown", "wrong"] if is_main else ["wrong"])
    lines = (tmp_path / "log.txt").read_text().splitlines() if is_main else []
    assert [line.split(": ")[-1] for line in lines] == (["shown", "detail", "wrong"] if is_main else [])
