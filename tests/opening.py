"""Runs doors as a user does: each in its own process, on the smallest drawn world."""

import contextlib
import multiprocessing
import os
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from guie.run import DOORS, PROJECT

SMALL = (
    "data.drawn.n_instances=8",
    "stages.s2_backbone.optim.n_epochs=6",
    "stages.s5_highres_backbone.optim.n_epochs=2",
)


def open_door(number: int, out: Path, *extra: str, recipe: str = "tiny", sets: tuple[str, ...] = SMALL) -> str:
    """Runs a door to its end and returns its output."""
    command = [
        sys.executable,
        str(PROJECT / DOORS[number]),
        "--recipe",
        recipe,
        "--out",
        str(out),
        "--device",
        "cpu",
        *extra,
    ]
    for text in sets:
        command += ["--set", text]
    done = subprocess.run(command, capture_output=True, text=True, cwd=out, timeout=600)
    assert done.returncode == 0, f"status {done.returncode}: {done.stdout}{done.stderr}"
    return done.stdout


FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    [
        "guie.train.stage",
        "guie.data.augment",
        "guie.synthetic.world",
        "guie.data.packing",
        "sklearn.decomposition",
        "timm",
    ]
)


class ForkedScript:
    """A script in a process of its own, in which the packages are already imported. This saves five seconds per start.

    It has the methods of subprocess.Popen that the tests use.
    """

    def __init__(self, script: Path) -> None:
        """Starts the script. Its output goes to a file beside it."""
        self.args = [str(script)]
        self.log = script.with_suffix(".log")
        self.process = FORKS.Process(target=_run_script, args=(str(script), str(self.log)))
        self.process.start()
        self.pid = self.process.pid

    def poll(self) -> int | None:
        """The exit status; None while it runs."""
        return self.process.exitcode

    @property
    def returncode(self) -> int | None:
        """As `poll`."""
        return self.process.exitcode

    def communicate(self, timeout: float | None = None) -> tuple[str, None]:
        """Waits for the end and returns all output."""
        self.process.join(timeout)
        assert self.process.exitcode is not None, f"{self.args} still runs after {timeout} s"
        return self.log.read_text(), None


def _run_script(script: str, log: str) -> None:
    import torch

    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(handle, stream)
    torch.set_num_threads(1)
    runpy.run_path(script, run_name="__main__")


HOLD = """
import sys, time
from pathlib import Path
from guie.done import locked
sys.argv = ["05_train_backbone.py", "--recipe", "my recipe"]
with locked(Path({out!r})) as is_held:
    print(is_held, flush=True)
    {then}
    time.sleep(60)
"""


@contextlib.contextmanager
def holder(out: Path, then: str = "") -> Iterator[subprocess.Popen[str]]:
    """Another process that locks a run's folder while the block runs. It is killed at the end.

    Args:
        out: The run's folder.
        then: Code that the process runs after it has the lock.
    """
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD.format(out=str(out), then=then)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "True\n"
    yield process
    process.kill()
    process.wait()
