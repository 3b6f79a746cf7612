"""One run: folders, done-marks, fingerprints, seeds, the log."""

import logging
import os
import platform
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from guie import run as run_module
from guie.recipe import (
    HEAD,
    Data,
    DrawnWorld,
    Embed,
    Member,
    Model,
    Optim,
    Recipe,
    Setting,
    Source,
    Stage,
    Stages,
    Start,
)
from guie.run import (
    DOORS,
    FOLDERS,
    PROJECT,
    Run,
    clear,
    commit,
    default_out,
    keep_freed_memory,
    peak_memory_gb,
    seed_everything,
    set_up_logging,
)


def a_run(tmp_path: Path, drawn: bool = False) -> Run:
    optim = Optim(n_epochs=1, batch_size=8, lr=0.01)
    recipe = Recipe(
        name="example",
        data=Data((Source("a", "class_folders", "a", "d"),), drawn=DrawnWorld() if drawn else None),
        model=Model("timm", "resnet18"),
        stages=Stages(
            head=(Stage("s1", trains="head", image_px=64, start=Start(fresh=HEAD), optim=optim),),
            highres=(Stage("s2", trains="backbone", image_px=64, optim=optim),),
        ),
        embed=Embed((Setting("only", (Member("s1", 64),)),)),
        seed=5,
    )
    return Run(recipe.validate(), tmp_path / "data", tmp_path / "out" / "example")


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
    for place in (
        tmp_path / "data/w.safetensors",
        tmp_path / "weights/w.safetensors",
        PROJECT / "weights/w.safetensors",
    ):
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
    """Page faults when 64 MiB are filled five times after 64 MiB were freed, in a fresh process: the setting cannot be
    undone, and forks inherit it."""
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
def test_log_goes_to_the_terminal_and_with_details_to_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], is_main: bool
):
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
