"""Runs doors and other commands, each in its own process: a new Python as a user starts it, or a fork of a server that
has imported the packages already, which saves the five seconds of every start."""

import contextlib
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from guie.run import DOORS, PROJECT

SMALL = (
    "data.drawn.n_instances=8",
    "stages.s2_backbone.optim.n_epochs=6",
    "stages.s5_highres_backbone.optim.n_epochs=2",
)


def door_command(number: int, out: Path, *extra: str, recipe: str = "tiny", sets: Sequence[str] = SMALL) -> list[str]:
    """The script of a door and its options."""
    options = ["--recipe", recipe, "--out", str(out), "--device", "cpu", *extra]
    return [str(PROJECT / DOORS[number]), *options, *(word for text in sets for word in ("--set", text))]


def open_door(
    number: int, out: Path, *extra: str, recipe: str = "tiny", sets: Sequence[str] = SMALL, is_forked: bool = False
) -> str:
    """Runs a door to its end and returns its output.

    Args:
        number: The door.
        out: Where the run's folder is.
        *extra: Further options.
        recipe: The recipe's name or file.
        sets: Values of `--set`.
        is_forked: In a process of the fork server instead of a new Python.
    """
    command = door_command(number, out, *extra, recipe=recipe, sets=sets)
    if is_forked:
        done = forked(command, cwd=out)
    else:
        done = subprocess.run([sys.executable, *command], capture_output=True, text=True, cwd=out, timeout=600)
    assert done.returncode == 0, f"status {done.returncode}: {done.stdout}{done.stderr}"
    return done.stdout


FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    [
        "guie.train.stage",
        "guie.train.objectives.library",
        "guie.data.augment",
        "guie.synthetic.world",
        "guie.data.packing",
        "guie.evaluate.ladder",
        "guie.export.submission",
        "guie.report.page",
        "sklearn.decomposition",
        "timm",
    ]
)


def forked(
    command: Sequence[str | Path],
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float = 600,
) -> subprocess.CompletedProcess[str]:
    """As `subprocess.run` of Python with its output captured, but in a process of the fork server.

    Variables that packages read while they are imported have no effect there.

    Args:
        command: A script and its arguments, or `-m`, a module and its arguments, or `-c` and a text.
        cwd: The working folder; None for that of this process.
        env: All environment variables; None for those of this process.
        timeout: Seconds until the process is killed and the test fails.
    """
    words = [str(word) for word in command]
    with tempfile.TemporaryDirectory() as scratch:
        logs = Path(scratch) / "stdout", Path(scratch) / "stderr"
        given = (words, str(cwd or Path.cwd()), dict(os.environ if env is None else env), *map(str, logs))
        process = FORKS.Process(target=run_command, args=given)
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise AssertionError(f"{words} still ran after {timeout} s: {logs[1].read_text(errors='replace')}")
        stdout, stderr = (log.read_text(encoding="utf-8", errors="surrogateescape") for log in logs)
    return subprocess.CompletedProcess(words, process.exitcode, stdout, stderr)


def run_command(words: list[str], cwd: str, env: dict[str, str], stdout: str, stderr: str) -> None:
    """The work of a process of `forked`: its two streams go to files."""
    _prepare(stdout, stderr)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    try:
        _run(words)
    finally:
        join_threads()


def _run(words: list[str]) -> None:
    if words[0] == "-c":
        sys.argv = ["-c", *words[2:]]
        exec(compile(words[1], "<string>", "exec"), {"__name__": "__main__"})
    elif words[0] == "-m":
        sys.argv = words[1:]
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = words
        script = Path(words[0]).resolve()
        sys.path.insert(0, str(script.parent))
        runpy.run_path(str(script), run_name="__main__")


def join_threads() -> None:
    """Waits for the threads that are no daemons, as Python does at its end, before a process of multiprocessing closes
    its queues: a pool that is shutting down would lose the words that end its workers, and both would wait for ever."""
    for thread in threading.enumerate():
        if not thread.daemon and thread is not threading.current_thread():
            thread.join()


def _prepare(stdout: str, stderr: str) -> None:
    """Lets this process write to files, compute with one thread, and start others as a new Python does on Linux."""
    import torch

    for stream, path in ((1, stdout), (2, stderr)):
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(handle, stream)
        os.close(handle)
    torch.set_num_threads(1)
    multiprocessing.set_start_method("fork", force=True)


class ForkedScript:
    """A script in a process of the fork server.

    It has the methods of subprocess.Popen that the tests use.
    """

    def __init__(self, script: Path) -> None:
        """Starts the script. Its output goes to a file beside it."""
        self.args = [str(script)]
        self.log = script.with_suffix(".log")
        self.log.unlink(missing_ok=True)  # of an earlier start
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
    _prepare(log, log)
    try:
        runpy.run_path(script, run_name="__main__")
    finally:
        join_threads()


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
