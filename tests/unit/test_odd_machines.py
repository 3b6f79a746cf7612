"""Locales without UTF-8, odd names, full disks and little address space: the work goes on, or one line says what and
where."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

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


FULL = """
mount -t tmpfs -o size=4m tmpfs {place}
free() {{ df --output=avail -B1K {place} | tail -1; }}
fill() {{ dd if=/dev/zero of={place}/fill bs=1K count=$(( $(free) - {free} )) status=none; }}
for door in {doors}; do
    fill; $door 2>> {told}; echo "status $?" >> {told}
    rm {place}/fill; $door > /dev/null 2>> {told} || exit 1
done
ls -A {place}/tiny/03_packed > {told}.files
"""


@pytest.mark.parametrize(
    "free_kb", [pytest.param(0, marks=pytest.mark.slow), 70, pytest.param(120, marks=pytest.mark.slow)]
)
def test_full_disk_at_doors_01_to_03_is_one_line_and_the_door_goes_on_when_there_is_room(
    tmp_path: Path, free_kb: int
) -> None:
    if os.getuid() or subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("only root may mount a small disk of its own")
    place, told = tmp_path / "disk", tmp_path / "told"
    place.mkdir()
    doors = " ".join(
        f"'{sys.executable} {PROJECT / DOORS[number]} {' '.join(SMALL)} --out {place}'" for number in (1, 2, 3)
    )
    script = FULL.format(place=place, free=free_kb, doors=doors, told=told)
    done = subprocess.run(["unshare", "-m", "bash", "-c", script], capture_output=True, text=True, timeout=300)
    lines = told.read_text().splitlines()
    assert done.returncode == 0, done.stdout + done.stderr + told.read_text()
    failed = [line for line in lines if line.startswith("error: ")]
    assert lines.count("status 2") == len(failed) >= 1 and len(lines) == 3 + len(failed)  # nothing but those
    assert all(str(place) in line and "free some space, or choose another place with --out" in line for line in failed)
    assert {"index.parquet", "done.json"} <= set((tmp_path / "told.files").read_text().split())
