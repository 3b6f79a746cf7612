"""Killed at any moment, a stage ends as if it had not been; two processes train as one."""

import contextlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from opening import ForkedScript

from guie.done import locked
from guie.files import load_weights
from guie.run import DOORS, PROJECT
from guie.train.trainer import MOMENTS

pytestmark = pytest.mark.slow
RECIPE = '''
"""A small run for tests."""
from dataclasses import replace
from guie.recipe import (
    HEAD, ArcFace, ClassMargin, Cost, DrawnWorld, GrowingMargin, Neck, Optim, Retain, Stage, Stages, Start, Validation,
)
from guie.recipes.tiny import AUGMENT
from guie.recipes.tiny import RECIPE as TINY

def head(name, image_px):
    return Stage(
        name,
        trains="head",
        image_px=image_px,
        start=Start(fresh=HEAD),
            objective=ArcFace(margin_rad=GrowingMargin(start=0.1, step=0.1, max=0.4)),
        optim=Optim(n_epochs=4, batch_size=8, lr={lr}),
        cost=Cost(n_cached_augmentations=1),
        augment=AUGMENT,
    )

def backbone(name, image_px, n_epochs, lr, ema_decay):
    return Stage(
        name,
        trains="backbone",
        image_px=image_px,
            objective=ArcFace(margin_rad=0.4),
        optim=Optim(n_epochs=n_epochs, batch_size=8, lr=lr, ema_decay=ema_decay),
        retain=Retain(features_weight=10.0, weights_weight=100.0),
        augment=AUGMENT,
    )

AGAIN = Stage(
    "s3_head_again",
    trains="head",
    image_px=64,
    start=Start(fresh=HEAD, has_mean_centers=True),
    neck=Neck(dropouts=(0.1, 0.3)),
    objective=ArcFace(margin_rad=ClassMargin(low=0.1, high=0.4), n_sub_centers=2),
    optim=Optim(n_epochs=4, batch_size=8, lr={lr}, sam_rho=0.05),
    cost=Cost(n_cached_augmentations=1, n_parts=2),
    validation=Validation(every_epochs=1, keeps_best=True),
    augment=AUGMENT,
)
RECIPE = replace(
    TINY,
    name="kill",
    data=replace(TINY.data, drawn=DrawnWorld(6, 6, 64)),
    stages=Stages(
        head=(head("s1_head", 64),),
        backbone=(backbone("s2_backbone", 64, n_epochs=3, lr=2e-3, ema_decay=0.9), AGAIN),
        highres=(
            head("s4_highres_head", 80),
            backbone("s5_highres_backbone", 80, n_epochs=2, lr=1e-3, ema_decay=0.0),
        ),
    ),
    embed=replace(TINY.embed, settings=TINY.embed.settings[:3]),
)
'''


STAGES = ["s1_head", "s2_backbone", "s3_head_again", "s4_highres_head", "s5_highres_backbone"]
HOSTS = (
    Path(__file__).parent / "localhost.txt"
)  # without it accelerate's launcher says nothing and starts one process on a CPU
LAUNCHER = (
    *(sys.executable, "-m", "accelerate.commands.launch", "--cpu"),
    *("--num_machines", "1", "--num_processes", "2", "--mixed_precision", "no", "--dynamo_backend", "no"),
    *("--mpirun_hostfile", str(HOSTS), "--main_process_port", str(random.SystemRandom().randrange(20000, 30000))),
)


def recipe_text(lr: float = 3e-3) -> str:
    """The recipe with another learning rate of the heads."""
    return RECIPE.format(lr=lr)


# The status of a door. The first process writes its mark, so the others wait before they open the next one.
OPENED = """
import runpy, sys
def opened(door):
    try:
        runpy.run_path(door, run_name="__main__")
    except SystemExit as end:
        import torch.distributed
        if torch.distributed.is_initialized():
            torch.distributed.barrier()
        return end.code
"""


def start(
    doors: int | tuple[int, ...], recipe: Path, out: Path, *launcher: str, every_step: bool = False, first: str = ""
) -> subprocess.Popen[str] | ForkedScript:
    """Opens a door in a process of its own, or several in one.

    `every_step` writes a checkpoint after each step, as if the minute were over, and takes a breath after it, so that a
    test can kill the work in the middle however fast the machine is. `first` is Python that runs before.
    """
    slow = (
        "import functools, time, guie.train.stage as s, guie.embed.extract as e\n"
        "breath = lambda moment: time.sleep(0.03) if moment == 'checkpoint' else None\n"
        "s.train_row = functools.partial(s.train_row, checkpoint_every_s=-1, notice=breath)\n"
        "e.CHECKPOINT_S = -1\n"
    )
    numbers = (doors,) if isinstance(doors, int) else doors
    paths = [str(PROJECT / DOORS[number]) for number in numbers]
    script = out / "open_door.py"
    script.write_text(
        (slow if every_step else first) + OPENED + "\n"
        f"sys.argv = ['door', '--recipe', {str(recipe)!r}, '--out', {str(out)!r}, '--device', 'cpu']\n"
        f"sys.exit(max(opened(door) for door in {paths}))\n"
    )
    if not launcher:
        return ForkedScript(script)
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }  # mpirun is beside python
    return subprocess.Popen(
        [*launcher, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env=environment,
    )


def finish(process: subprocess.Popen[str] | ForkedScript) -> str:
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 0, output
    assert ("device cpu, 2 processes" in output) == (
        "accelerate.commands.launch" in list(process.args) and "\nalready done: " not in output
    ), output
    return output


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The recipe file, and a run of doors 01-05 that nobody disturbed."""
    out = tmp_path_factory.mktemp("whole")
    recipe = out / "kill.py"
    recipe.write_text(recipe_text())
    for number in range(1, 6):
        finish(start(number, recipe, out))
    return recipe, out


def with_images(whole: Path, out: Path) -> Path:
    """A run whose doors 01-03 are done, as those of `whole` are."""
    for name in ("drawn", "01_manifests", "02_balanced", "03_packed"):
        shutil.copytree(whole / "kill" / name, out / "kill" / name)
    return out


def weights_of(out: Path) -> dict[str, torch.Tensor]:
    files = sorted((out / "kill").glob("0*/*/final.safetensors"))
    assert [f.parent.name for f in files] in (STAGES, STAGES[:3])
    return {f"{f.parent.name}.{name}": tensor for f in files for name, tensor in load_weights(f).items()}


def _is_being_written(path: Path, out: Path) -> bool:
    """Whether a file still lies in a writer's scratch folder, whose name begins with a dot."""
    return any(part.startswith(".") for part in path.relative_to(out).parts)


def wait_for_work(process: subprocess.Popen[str] | ForkedScript, out: Path) -> None:
    """Until the process has written a checkpoint or a slice of features."""
    began = time.time()
    while process.poll() is None:
        with contextlib.suppress(FileNotFoundError):  # renamed just now
            files = [
                p for pattern in ("last.pt", "*.part*") for p in out.rglob(pattern) if not _is_being_written(p, out)
            ]
            if any(p.stat().st_mtime > began for p in files):
                return
        time.sleep(0.01)


def kill(process: subprocess.Popen[str] | ForkedScript) -> tuple[bool, str]:
    """Kills the process and its children; whether it was still at work, and what it had said."""
    was_running = process.poll() is None
    if was_running:  # the workers are in groups of their own
        everyone = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
        for one in everyone:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        psutil.wait_procs(everyone[:-1], timeout=30)  # until then they hold the lock of the run
    return was_running, process.communicate()[0]


@pytest.mark.parametrize(
    ("n", "least"), [pytest.param(1, 3, marks=pytest.mark.full), pytest.param(7, 20, marks=pytest.mark.full)]
)
def test_killed_run_ends_bit_equal_to_the_uninterrupted_one(
    uninterrupted: tuple[Path, Path], tmp_path: Path, n: int, least: int
) -> None:
    """Each door is killed n times at a random moment."""
    recipe, whole = uninterrupted
    finish(start(6, recipe, whole))
    n_kills, output = disturbed(recipe, with_images(whole, tmp_path), (4, 5, 6), n)
    assert n_kills >= least and "resumes at epoch" in output, output
    expected, got = weights_of(whole), weights_of(tmp_path)
    assert expected.keys() == got.keys()
    assert all(torch.equal(expected[name], got[name]) for name in expected)


def disturbed(recipe: Path, out: Path, doors: tuple[int, ...], n: int, *launcher: str) -> tuple[int, str]:
    """Opens each door, kills it up to n times at a random moment of its work, and lets it end; how often it was at
    work, and all that it said."""
    rng = random.Random(0)
    n_kills, output = 0, ""
    for number in doors:
        for _ in range(n):
            process = start(number, recipe, out, *launcher, every_step=True)
            wait_for_work(process, out)
            time.sleep(rng.uniform(0.0, 0.2))
            was_running, said = kill(process)
            wait_until_free(out / "kill")
            n_kills += was_running
            output += said
        output += finish(start(number, recipe, out, *launcher, every_step=True))
    return n_kills, output


@pytest.mark.full
def test_changed_stage_does_not_resume_from_other_settings(uninterrupted: tuple[Path, Path], tmp_path: Path) -> None:
    """In one process: tests/unit/train/test_going_on.py; tests/pipeline/test_replay.py has checkpoints of others."""
    recipe, whole = uninterrupted
    process = start(4, recipe, with_images(whole, tmp_path), every_step=True)
    while process.poll() is None and not list(tmp_path.glob("kill/04_head/s1_head/last.pt")):
        time.sleep(0.01)
    assert kill(process)[0]
    recipe.with_name("other.py").write_text(recipe_text(lr=1.5e-3))
    output = finish(start(4, recipe.with_name("other.py"), tmp_path))
    assert "made with other settings" in output and "resumes" not in output


@pytest.fixture(scope="module")
def in_two(uninterrupted: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Doors 04 and 05 in two processes, undisturbed."""
    recipe, one = uninterrupted
    out = with_images(one, tmp_path_factory.mktemp("two"))
    finish(start((4, 5), recipe, out, *LAUNCHER))
    return out


def test_two_processes_train_as_one(uninterrupted: tuple[Path, Path], in_two: Path) -> None:
    """With dropout, several centres, SAM, parts and a moving average, all as one process has them."""
    two = weights_of(in_two)
    expected = {name: tensor for name, tensor in weights_of(uninterrupted[1]).items() if name in two}
    difference = {name: float((expected[name] - two[name]).abs().max()) for name in two}
    worst = max(difference, key=difference.__getitem__)
    assert len(two) > 100 and difference[worst] < 2e-4, (worst, difference[worst])


@pytest.mark.full
def test_two_processes_killed_at_random_moments_end_bit_equal(
    uninterrupted: tuple[Path, Path], in_two: Path, tmp_path: Path
) -> None:
    recipe, one = uninterrupted
    two, killed = weights_of(in_two), with_images(one, tmp_path)
    n_kills, output = disturbed(recipe, killed, (4, 5), 1, *LAUNCHER)
    assert n_kills >= 2 and "resumes at epoch" in output, output
    again = weights_of(killed)
    assert all(torch.equal(two[name], again[name]) for name in two)


def wait_until_free(run: Path) -> None:
    """Until no process holds the run's lock: of two that are killed, one may live a moment longer."""
    deadline = time.time() + 60
    while True:
        try:
            with locked(run):
                return
        except ValueError:
            assert time.time() < deadline
            time.sleep(0.1)


# What kills a stage: how often the moment has come, and where the process kills itself.
DIES = """
import functools, os, signal
from pathlib import Path
import guie.embed.extract as e
import guie.train.stage as s
seen = []
def die(moment):
    seen.append(moment)
    if seen.count({moment!r}) == {n}:
        os.kill(os.getpid(), signal.SIGKILL)
s.train_row = functools.partial(s.train_row, checkpoint_every_s=-1, notice=die)
e.CHECKPOINT_S = -1
note, rename = e.save_json, Path.replace
def noted(*given):
    note(*given)
    die("features half extracted")
def renamed(path, target):
    if path.name == "last.pt":
        die("before the rename")
    return rename(path, target)
e.save_json, Path.replace = noted, renamed
"""
OUTSIDE = ("features half extracted", "before the rename")
OF_THE_TRAINER = [pytest.param(moment, marks=pytest.mark.full) for moment in MOMENTS]  # test_trainer.py stops at each


@pytest.mark.parametrize("moment", [*OF_THE_TRAINER, *OUTSIDE])
def test_killed_at_a_named_moment_door_05_ends_bit_equal(
    uninterrupted: tuple[Path, Path], tmp_path: Path, moment: str
) -> None:
    recipe, whole = uninterrupted
    out = with_images(whole, tmp_path)
    shutil.copytree(whole / "kill/04_head", out / "kill/04_head")
    n = 1 if moment == "best kept" else 2  # a better epoch need not come twice
    killed = start(5, recipe, out, first=DIES.format(moment=moment, n=n))
    killed.communicate(timeout=300)
    assert killed.returncode == -signal.SIGKILL
    finish(start(5, recipe, out))
    expected, got = weights_of(whole), weights_of(out)
    assert set(got) <= set(expected) and len(got) > 100
    assert all(torch.equal(expected[name], got[name]) for name in got)


@pytest.mark.full
@pytest.mark.parametrize("moment", MOMENTS)
def test_two_processes_killed_at_a_named_moment_end_bit_equal(
    uninterrupted: tuple[Path, Path], in_two: Path, tmp_path: Path, moment: str
) -> None:
    recipe, whole = uninterrupted
    out = with_images(whole, tmp_path)
    shutil.copytree(in_two / "kill/04_head", out / "kill/04_head")
    killed = start(5, recipe, out, *LAUNCHER, first=DIES.format(moment=moment, n=1 if moment == "best kept" else 2))
    killed.communicate(timeout=300)
    assert killed.returncode != 0
    wait_until_free(out / "kill")
    finish(start(5, recipe, out, *LAUNCHER))
    expected, got = weights_of(in_two), weights_of(out)
    assert expected.keys() == got.keys()
    assert all(torch.equal(expected[name], got[name]) for name in got)


SHARDED = """
\"\"\"A transformer, all of it trained, its weights spread over the processes where there are several.\"\"\"
from dataclasses import replace
from guie.recipe import (
    HEAD, ArcFace, Cost, DrawnWorld, GrowingMargin, Member, Neck, Optim, Retain, Setting, Stage, Stages, Start,
    Validation,
)
from guie.recipes.tiny import AUGMENT
from guie.recipes.tiny import RECIPE as TINY

FIRST = Stage(
    "s1_head",
    trains="head",
    image_px=64,
    start=Start(fresh=HEAD),
    neck=Neck(has_norm=True),
    objective=ArcFace(margin_rad=GrowingMargin(start=0.1, step=0.1, max=0.4)),
    optim=Optim(n_epochs=1, batch_size=8, lr=3e-3),
    cost=Cost(n_cached_augmentations=1),
    augment=AUGMENT,
)
ALL = Stage(
    "s2_backbone",
    trains="all",
    image_px=64,
    neck=Neck(has_norm=True),
    objective=ArcFace(margin_rad=0.4),
    optim=Optim(n_epochs=2, batch_size=8, lr=2e-3, backbone_lr_factor=0.1, sam_rho=0.05, clip_norm=1.0, ema_decay=0.9),
    cost=Cost(n_parts=2, has_sharded_weights=True),
    retain=Retain(features_weight=10.0, weights_weight=100.0),
    validation=Validation(every_epochs=1),
    augment=AUGMENT,
)
RECIPE = replace(
    TINY,
    name="kill",
    model=replace(TINY.model, name="test_vit"),
    data=replace(TINY.data, drawn=DrawnWorld(6, 6, 64)),
    stages=Stages(head=(FIRST,), backbone=(ALL,)),
    embed=replace(TINY.embed, settings=(Setting("all", (Member("s2_backbone", 64),)),)),
)
"""


Sharded = tuple[Path, dict[str, Path]]  # the recipe, and runs: of one process, of two, and with door 04 alone
RESULT = "kill/05_backbone/s2_backbone/final.safetensors"


@pytest.fixture(scope="module")
def sharded(uninterrupted: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Sharded:
    folder = tmp_path_factory.mktemp("sharded")
    recipe = folder / "sharded.py"
    recipe.write_text(SHARDED)
    outs = {name: folder / name for name in ("begun", "one", "two")}
    finish(start(4, recipe, with_images(uninterrupted[1], outs["begun"])))
    for name in ("one", "two"):
        shutil.copytree(outs["begun"], outs[name])
    finish(start(5, recipe, outs["one"]))
    assert re.search(r"spread over 2 processes; this one holds 5\d %", finish(start(5, recipe, outs["two"], *LAUNCHER)))
    return recipe, outs


@pytest.mark.full
def test_sharded_weights_train_as_whole_ones(sharded: Sharded, tmp_path: Path) -> None:
    recipe, outs = sharded
    out = tmp_path / "killed"
    shutil.copytree(outs["begun"], out)
    process = start(5, recipe, out, *LAUNCHER, every_step=True)
    wait_for_work(process, out)
    assert kill(process)[0]
    wait_until_free(out / "kill")
    alone = start(5, recipe, out)
    told = alone.communicate(timeout=300)[0]
    assert "by several processes with has_sharded_weights; start several again" in told and alone.returncode == 2
    assert "resumes at epoch" in finish(start(5, recipe, out, *LAUNCHER))
    one, two, killed = (load_weights(path / RESULT) for path in (outs["one"], outs["two"], out))
    assert len(one) > 50 and one.keys() == two.keys()
    worst = max(float((one[name] - two[name]).abs().max()) for name in one)
    assert worst < 2e-4, worst
    assert all(torch.equal(two[name], killed[name]) for name in two)


@pytest.mark.full
@pytest.mark.parametrize("moment", [moment for moment in MOMENTS if moment != "best kept"])
def test_sharded_stage_killed_at_a_named_moment_ends_bit_equal(sharded: Sharded, tmp_path: Path, moment: str) -> None:
    recipe, outs = sharded
    out = tmp_path / "killed"
    shutil.copytree(outs["begun"], out)
    killed = start(
        5, recipe, out, *LAUNCHER, first=DIES.format(moment=moment, n=1 if moment in ("validated", "epoch end") else 2)
    )
    killed.communicate(timeout=300)
    assert killed.returncode != 0
    wait_until_free(out / "kill")
    finish(start(5, recipe, out, *LAUNCHER))
    two, again = (load_weights(path / RESULT) for path in (outs["two"], out))
    assert all(torch.equal(two[name], again[name]) for name in two)
