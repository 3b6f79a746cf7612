"""Locales without UTF-8, odd names, full disks and little address space: the work goes on, or one line says what and
where."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from small_disk import Opening, full_then_free, skip_without_mounts

from guie.run import DOORS, FOLDERS, PROJECT

SMALL = ("--recipe", "tiny", "--set", "data.drawn.n_instances=4", "--set", "data.drawn.n_views=4", "--device", "cpu")


STAGES = ("s1_head", "s2_backbone", "s3_head_again", "s4_highres_head", "s5_highres_backbone")
SHORT = ("data.drawn.n_instances=16", "data.drawn.n_views=6", *(f"stages.{name}.optim.n_epochs=1" for name in STAGES))


def opened(
    number: int, out: str | Path, *, before: str = "", sets: tuple[str, ...] = (), **environment: str
) -> subprocess.CompletedProcess[str]:
    """The door's end, after a line of shell: a mount of its own, or a limit."""
    if "mount" in before and (os.getuid() or subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode):
        pytest.skip("only root may mount a file system of its own")
    more = [word for text in sets for word in ("--set", text)]
    command = [sys.executable, str(PROJECT / DOORS[number]), *SMALL, *more, "--out", str(out)]
    wrapped = [*(("unshare", "-m") if "mount" in before else ()), "sh", "-c", f'{before} exec "$@"', "sh", *command]
    return subprocess.run(
        wrapped, capture_output=True, text=True, errors="surrogateescape", timeout=300, env=os.environ | environment
    )


def error_of(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 2, done.stdout + done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    return line


def test_locale_without_utf8_is_told_with_what_to_export(tmp_path: Path) -> None:
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    assert "this shell's file names are ascii" in error_of(opened(1, tmp_path, **ascii_only))
    assert "export PYTHONUTF8=1" in error_of(opened(1, tmp_path / "ü", **ascii_only))
    done = opened(1, tmp_path / "ü", LC_ALL="C", PYTHONUTF8="1")  # what the line says
    assert done.returncode == 0 and (tmp_path / "ü/tiny/01_manifests/done.json").is_file()


def test_terminal_that_cannot_show_a_name_stops_nothing(tmp_path: Path) -> None:
    done = opened(1, tmp_path / "ü 中", PYTHONIOENCODING="ascii")
    assert done.returncode == 0 and "\\xfc \\u4e2d/tiny/01_manifests" in done.stdout and done.stderr == ""


@pytest.mark.parametrize("name", ["b\udcff", "line\nbreak"])
def test_name_that_is_no_text_is_refused_before_the_work(tmp_path: Path, name: str) -> None:
    done = opened(1, tmp_path / name)
    assert "--out " in error_of(done) and "choose another place" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(  # at 700,000 OpenCV ends its process by SIGSEGV
    "kilobytes", [pytest.param(500_000, marks=pytest.mark.full), 700_000, pytest.param(850_000, marks=pytest.mark.full)]
)
def test_little_address_space_is_one_line(tmp_path: Path, kilobytes: int) -> None:
    line = error_of(opened(1, tmp_path, before=f"ulimit -v {kilobytes};"))
    assert f"ulimit -v is {kilobytes * 1024 / 1e9:.1f} GB" in line and str(tmp_path) in line


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of all doors, one epoch a stage."""
    out = tmp_path_factory.mktemp("finished")
    for number in DOORS:
        done = opened(number, out, sets=SHORT)
        assert done.returncode == 0, done.stdout + done.stderr
    return out


@pytest.mark.full
@pytest.mark.slow
@pytest.mark.parametrize("number", DOORS)
def test_every_door_ends_in_one_line_in_any_address_space(finished: Path, tmp_path: Path, number: int) -> None:
    """Its libraries do not start, or its work fails in one line, or it succeeds: no signal, no line of a library."""
    for kilobytes in (300_000, 700_000, 1_400_000, 2_400_000):
        out = tmp_path / str(kilobytes)
        shutil.copytree(finished, out)
        shutil.rmtree(out / "tiny" / FOLDERS[number])
        done = opened(number, out, before=f"ulimit -v {kilobytes};", sets=SHORT)
        if done.returncode:
            assert f"ulimit -v is {kilobytes * 1024 / 1e9:.1f} GB" in error_of(done)
        else:
            assert done.stderr == "" and (out / "tiny" / FOLDERS[number] / "done.json").is_file()


@pytest.mark.parametrize("free_kb", [0, 70, 120])
def test_full_disk_at_doors_01_to_03_is_one_line_and_the_door_goes_on_when_there_is_room(
    tmp_path: Path, free_kb: int
) -> None:
    skip_without_mounts()
    place = tmp_path / "disk"
    place.mkdir()
    openings = [
        Opening([str(PROJECT / DOORS[number]), *SMALL, "--out", str(place)], place / "tiny" / FOLDERS[number])
        for number in (1, 2, 3)
    ]
    ends = full_then_free(place, 4, free_kb, openings)
    assert [free for _, free in ends if free.status or free.errors] == []
    failed = [full for full, _ in ends if full.status]
    assert failed and all(full.status == 2 and len(full.errors) == 1 for full in failed)
    assert not [full for full, _ in ends if full.errors and not full.status]  # nothing but those
    for full in failed:
        (line,) = full.errors
        assert line.startswith("error: ") and str(place) in line
        assert "free some space, or choose another place with --out" in line
    assert {"index.parquet", "done.json"} <= set(ends[-1][1].left)
