"""Killed at any moment, a stage ends as if it had not been; two processes train as one."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from guie.checkpoint import load_weights
from guie.run import DOORS, PROJECT

pytestmark = pytest.mark.slow
RECIPE = '''
"""A small run for tests."""
from dataclasses import replace
from guie.recipe import ClassFrequencyMargin, DrawnWorld, NeckShape
from guie.recipes.tiny import RECIPE as TINY

STAGES = tuple(replace(s, n_epochs=3 if s.trains == "backbone" else 4, batch_size=8, ema_decay=0.9 if s.trains == "backbone" else 0.0) for s in TINY.stages[:3])
LAST = replace(
    STAGES[2],
    fresh=("neck", "classifier"),
    neck=NeckShape(dropouts=(0.1, 0.3)),
    n_sub_centers=2,
    has_mean_centers=True,
    sam_rho=0.05,
    n_accumulate=2,
    validate_every=1,
    keeps_best=True,
    class_margin=ClassFrequencyMargin(0.1, 0.4),
)
RECIPE = replace(
    TINY,
    name="kill",
    data=replace(TINY.data, drawn=DrawnWorld(6, 6, 64)),
    stages=(*STAGES[:2], LAST, replace(TINY.stages[3], n_epochs=4, batch_size=8), replace(TINY.stages[4], n_epochs=2, batch_size=8)),
    embed=replace(TINY.embed, settings=TINY.embed.settings[:3]),
)
'''


STAGES = ["s1_head", "s2_backbone", "s3_head_again", "s4_highres_head", "s5_highres_backbone"]
N_KILLS = 8  # of each door
LAUNCHER = (
    *(sys.executable, "-m", "accelerate.commands.launch", "--cpu"),
    *("--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"),
)


def start(number: int, recipe: Path, out: Path, *launcher: str, every_step: bool = False) -> subprocess.Popen[str]:
    """Opens a door in a process of its own; `every_step` writes a checkpoint after each step, as if the minute were over, and takes a breath
    after it, so that a test can kill the work in the middle however fast the machine is."""
    path = PROJECT / DOORS[number]
    code = (
        "import sys, time, runpy, guie.train.trainer as t, guie.embed.extract as e\n"
        "t.CHECKPOINT_S = e.CHECKPOINT_S = -1\n"
        "save = t.save_state\n"
        "t.save_state = lambda *given: (save(*given), time.sleep(0.03))\n"
        f"sys.argv = ['door', '--recipe', {str(recipe)!r}, '--out', {str(out)!r}, '--device', 'cpu']\n"
        f"runpy.run_path({str(path)!r}, run_name='__main__')\n"
    )
    script = out / "every_step.py"
    script.write_text(code)
    target = [str(script)] if every_step else [str(path), "--recipe", str(recipe), "--out", str(out), "--device", "cpu"]
    command = [*(launcher or (sys.executable,)), *target]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )


def finish(process: subprocess.Popen[str]) -> str:
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 0, output
    return output


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The recipe file, and a run of doors 01-06 that nobody disturbed."""
    out = tmp_path_factory.mktemp("whole")
    recipe = out / "kill.py"
    recipe.write_text(RECIPE)
    for number in range(1, 7):
        finish(start(number, recipe, out))
    return recipe, out


def weights_of(out: Path) -> dict[str, torch.Tensor]:
    files = sorted((out / "kill").glob("0*/*/final.safetensors"))
    assert [f.parent.name for f in files] in (STAGES, STAGES[:3])
    return {f"{f.parent.name}.{name}": tensor for f in files for name, tensor in load_weights(f).items()}


def wait_for_work(process: subprocess.Popen[str], out: Path) -> None:
    """Until the process has written a checkpoint or a slice of features."""
    began = time.time()
    while process.poll() is None:
        if any(p.stat().st_mtime > began for pattern in ("last.pt", "*.part*") for p in out.rglob(pattern)):
            return
        time.sleep(0.01)


def kill(process: subprocess.Popen[str]) -> tuple[bool, str]:
    """Kills the process and its children; whether it was still at work, and what it had said."""
    was_running = process.poll() is None
    if was_running:
        os.killpg(process.pid, signal.SIGKILL)
    return was_running, process.communicate()[0]


def test_killed_run_ends_bit_equal_to_the_uninterrupted_one(uninterrupted: tuple[Path, Path], tmp_path: Path) -> None:
    recipe, whole = uninterrupted
    for number in range(1, 4):
        finish(start(number, recipe, tmp_path))
    n_kills, output = disturbed(recipe, tmp_path, (4, 5, 6), N_KILLS)
    assert n_kills >= 20 and "resumes at epoch" in output, output
    expected, got = weights_of(whole), weights_of(tmp_path)
    assert expected.keys() == got.keys()
    assert all(torch.equal(expected[name], got[name]) for name in expected)


def disturbed(recipe: Path, out: Path, doors: tuple[int, ...], n: int, *launcher: str) -> tuple[int, str]:
    """Opens each door, kills it up to n times at a random moment of its work, and lets it end; how often it was at work, and all that it said."""
    rng = random.Random(0)
    n_kills, output = 0, ""
    for number in doors:
        for _ in range(n):
            process = start(number, recipe, out, *launcher, every_step=True)
            wait_for_work(process, out)
            time.sleep(rng.uniform(0.0, 0.2))
            was_running, said = kill(process)
            n_kills += was_running
            output += said
        output += finish(start(number, recipe, out, *launcher, every_step=True))
    return n_kills, output


def test_changed_stage_does_not_resume_from_other_settings(uninterrupted: tuple[Path, Path], tmp_path: Path) -> None:
    recipe, _ = uninterrupted
    for number in range(1, 4):
        finish(start(number, recipe, tmp_path))
    process = start(4, recipe, tmp_path, every_step=True)
    while process.poll() is None and not list(tmp_path.rglob("last.pt")):
        time.sleep(0.01)
    assert kill(process)[0]
    recipe.with_name("other.py").write_text(RECIPE.replace("batch_size=8", "batch_size=8, lr=s.lr / 2", 1))
    output = finish(start(4, recipe.with_name("other.py"), tmp_path))
    assert "made with other settings" in output and "resumes" not in output


def test_two_processes_train_as_one(tmp_path: Path) -> None:
    single = tmp_path / "no_dropout.py"  # dropout draws other numbers in each process
    single.write_text(RECIPE.replace("batch_size=8", "batch_size=8, dropout=0.0"))
    outs = [tmp_path / "one", tmp_path / "two"]
    for out, words in zip(outs, ((), LAUNCHER), strict=True):
        out.mkdir()
        for number in (1, 2, 3):
            finish(start(number, single, out))
        for number in (4, 5):
            finish(start(number, single, out, *words))
    one, two = (weights_of(out) for out in outs)
    worst = max(float((one[name] - two[name]).abs().max()) for name in one)
    assert worst < 2e-3, worst
    killed = tmp_path / "killed"
    killed.mkdir()
    for number in (1, 2, 3):
        finish(start(number, single, killed))
    n_kills, output = disturbed(single, killed, (4, 5), 2, *LAUNCHER)
    assert n_kills >= 3 and "resumes at epoch" in output, output
    again = weights_of(killed)
    assert all(torch.equal(two[name], again[name]) for name in two)
