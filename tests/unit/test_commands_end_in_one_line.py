"""A user's mistake ends every command in one line with status 2, before the work where it can be known, and never in a
traceback."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from opening import forked

from guie.machine import check_writable, check_writable_file
from guie.run import PROJECT

COMMANDS = {
    "fetch": ["data_prep/00_fetch.py"],
    "sheet": ["data_prep/contact_sheet.py"],
    "evaluate": ["-m", "guie.evaluate"],
    "vit": ["weights/make_vit.py"],
    "kit": ["notebooks/build_kit.py"],
    "check": ["submission/check_submission.py"],
    "door": ["data_prep/01_build_manifests.py"],
}


FORKED = ("sheet", "evaluate")  # they import for seconds; test_read_only_folder starts them as a user does


def run(name: str, *options: str, mounted: Path | None = None) -> subprocess.CompletedProcess[str]:
    """The command; with a read-only tmpfs at `mounted` where that is asked for."""
    if name in FORKED and mounted is None:
        return forked([*COMMANDS[name], *options], cwd=PROJECT, timeout=120)
    command = [sys.executable, *COMMANDS[name], *options]
    if mounted is not None:
        command = in_mount(f"mount -t tmpfs -o ro tmpfs {mounted}", command)
    return subprocess.run(command, capture_output=True, text=True, cwd=PROJECT, timeout=120)


def in_mount(mount: str, command: list[str]) -> list[str]:
    """The command where something is mounted for it alone."""
    if os.getuid() or subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("only root may mount a file system of its own")
    return ["unshare", "-m", "sh", "-c", f'{mount} && exec "$@"', "sh", *command]


def lines_of(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [line for line in done.stderr.splitlines() if "Warning" not in line]


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """A file in the way, embeddings with their ids, damaged ones, a text that is no zip."""
    (tmp_path / "in_the_way").write_text("x")
    np.save(tmp_path / "mine.npy", np.eye(8, dtype=np.float32))
    (tmp_path / "mine.csv").write_text("image_id,class_id\n" + "".join(f"{i},{i // 2}\n" for i in range(8)))
    (tmp_path / "damaged.npy").write_bytes(b"\x93NUMPY\x01\x00rubbish")
    (tmp_path / "list.json").write_text(json.dumps([1]))
    return {path.stem: str(path) for path in tmp_path.iterdir()} | {
        "ids": str(tmp_path / "mine.csv"),
        "at": str(tmp_path),
        "mine": str(tmp_path / "mine.npy"),
    }


MISTAKES = [
    (
        "sheet",
        ["--out", "{in_the_way}/x.jpg"],
        "{in_the_way} cannot be written (File exists); choose another place with --out",
    ),
    ("sheet", ["--out", "{at}/x.bmpp"], "--out {at}/x.bmpp: give it a name that ends in .jpg or .png"),
    ("sheet", ["--out", "{at}/x.jpg", "--n-instances", "0"], "--n-instances is 0, must be at least 1"),
    ("sheet", ["--out", "{at}/x.jpg", "--recipe", "tinny"], "no recipe 'tinny'; did you mean 'tiny'?"),
    ("sheet", ["--out", "{at}"], "give it a name that ends in .jpg or .png"),
    (
        "evaluate",
        ["{mine}", "--ids", "{ids}", "--out", "{in_the_way}/scores.csv"],
        "{in_the_way} cannot be written (File exists)",
    ),
    ("evaluate", ["{mine}", "--ids", "{ids}", "--out", "{at}"], "{at} is a folder; name a file with --out"),
    ("evaluate", ["{mine}", "--ids", "{at}/none.csv"], "none.csv"),
    (
        "vit",
        ["--teacher", "{mine}", "--out", "{in_the_way}/x"],
        "{in_the_way}/x cannot be written (Not a directory); choose another place with --out",
    ),
    (
        "vit",
        ["--teacher", "{mine}", "--out", "{at}/o", "--weights", "{at}"],
        "{at} is a folder; name a file with --weights",
    ),
    ("kit", ["--out", "{in_the_way}/kit"], "{in_the_way}/kit"),
    ("kit", ["--out", "{at}/kit", "--image", "{at}/none.txt"], "none.txt"),
    ("fetch", ["gpr120"], "gpr120"),
    ("door", ["--recipe", "tiny", "--out", "{in_the_way}"], "{in_the_way}/tiny"),
    (
        "door",
        ["--recipe", "tiny", "--out", "/proc/out"],
        "/proc/out: No such file or directory; choose another place with --out",
    ),
]


@pytest.mark.parametrize(
    ("name", "options", "told"), MISTAKES, ids=[f"{name}-{options[-1]}" for name, options, _ in MISTAKES]
)
def test_mistake_is_one_line(files: dict[str, str], name: str, options: list[str], told: str) -> None:
    done = run(name, *(option.format(**files) for option in options))
    assert done.returncode == 2, done.stdout + done.stderr
    (line,) = lines_of(done)
    assert line.startswith("error: ") and told.format(**files) in line


def test_checker_tells_what_nobody_foresaw(files: dict[str, str]) -> None:
    done = run("check", files["mine"], "--expected", files["in_the_way"])
    assert (
        (done.returncode, done.stderr) == (1, "")
        and done.stdout.startswith("FAIL  ")
        and done.stdout.splitlines()[-1].startswith("FIX   ")
    )


@pytest.mark.parametrize("name", ["door", "evaluate", "sheet"])
def test_read_only_folder_is_told_before_the_work(tmp_path: Path, files: dict[str, str], name: str) -> None:
    place = tmp_path / "ro"
    place.mkdir()
    options = {
        "door": ["--recipe", "tiny", "--out", str(place)],
        "evaluate": [files["mine"], "--ids", files["ids"], "--out", str(place / "x.csv")],
        "sheet": ["--out", str(place / "x.jpg")],
    }[name]
    done = run(name, *options, mounted=place)
    (line,) = lines_of(done)
    assert (
        done.returncode == 2
        and str(place) in line
        and "Read-only file system" in line
        and "choose another place with --out" in line
    )
    assert done.stdout == ""


def test_place_is_tried_and_left_as_it_was(tmp_path: Path) -> None:
    check_writable(tmp_path / "new/deep")
    assert list((tmp_path / "new/deep").iterdir()) == []
    (tmp_path / "new/x.csv").write_text("old")
    check_writable_file(tmp_path / "new/x.csv")
    assert (tmp_path / "new/x.csv").read_text() == "old"
    with pytest.raises(OSError, match=r"x.csv cannot be written \(File exists\); choose another place with --weights$"):
        check_writable(tmp_path / "new/x.csv", "--weights")
