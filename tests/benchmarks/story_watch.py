"""Runs a command as a user does, and measures it: wall seconds, processor seconds, and memory of all its processes."""

from __future__ import annotations

import csv
import os
import platform
import signal
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import psutil

from guie.machine import check_writable, check_writable_file
from guie.run import PROJECT, commit

SAMPLE_S = 0.2  # between two looks at the memory
STOP_S = 20.0  # for a process that was asked to end
COLUMNS = ("step", "n", "seconds", "cpu_s", "peak_gb", "n_bytes", "load", "note", "settings", "machine", "commit")


class Cost(NamedTuple):
    """What a step took: wall seconds, processor seconds of all processes, and peak memory in GB."""

    seconds: float
    cpu_s: float
    peak_gb: float


class Watched:
    """A command that runs, or has run.

    Args:
        command: Its words.
        log: Gets what it prints. The measured program writes to a file, as to a pipe: no progress bars.
        folder: Its working directory.
        environment: Its environment.

    Attributes:
        seconds: From start to end.
        cpu_s: Of the command and of all processes that it has waited for.
        peak_gb: Largest sum over its processes of their proportional set sizes (PSS): a page that three processes share
            counts a third in each. Sampled, so a shorter peak is missed.
        status: Exit status; a negative number is a signal.
    """

    def __init__(self, command: Sequence[str], log: Path, folder: Path, environment: Mapping[str, str]) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self.log = log
        self.seconds = self.cpu_s = self.peak_gb = 0.0
        self.status: int | None = None
        self._began = time.perf_counter()
        with log.open("wb") as out:
            self._process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, cwd=folder, env=environment)
        self._sampler = threading.Thread(target=self._sample, daemon=True)
        self._sampler.start()

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self._began

    @property
    def cost(self) -> Cost:
        """What it took; after `wait`."""
        return Cost(self.seconds, self.cpu_s, self.peak_gb)

    @property
    def text(self) -> str:
        """What it has printed so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def wait(self) -> None:
        """Waits for the end, and notes time and memory."""
        if self.status is not None:
            return
        _, status, usage = os.wait4(self._process.pid, 0)  # unlike Popen.wait it tells what this one command used
        self.seconds = self.elapsed
        self.status = self._process.returncode = os.waitstatus_to_exitcode(status)
        self.cpu_s = usage.ru_utime + usage.ru_stime
        self._sampler.join()

    def is_running(self) -> bool:
        """Whether it has not ended. `wait` may still be called after it has."""
        if self.status is not None:
            return False
        return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    def stop(self) -> None:
        """Interrupts it as Ctrl-C does, and kills it if it does not end."""
        for number in (signal.SIGINT, signal.SIGKILL):
            if self.is_running():
                self._process.send_signal(number)
            ends = time.monotonic() + STOP_S
            while self.is_running() and time.monotonic() < ends:
                time.sleep(0.05)
        self.wait()

    def _sample(self) -> None:
        """Follows the memory until the process has ended."""
        root = psutil.Process(self._process.pid)
        while self.status is None:
            try:
                processes = [root, *root.children(recursive=True)]
                if root.status() == psutil.STATUS_ZOMBIE:
                    return
            except psutil.NoSuchProcess:
                return
            self.peak_gb = max(self.peak_gb, sum(map(_pss, processes)) / 1e9)
            time.sleep(SAMPLE_S)


def _pss(process: psutil.Process) -> int:
    """Bytes; 0 of a process that has just ended."""
    try:
        memory = process.memory_full_info()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return 0
    return int(getattr(memory, "pss", 0) or memory.rss)  # PSS is Linux'


@contextmanager
def watched(
    command: Sequence[str], log: Path, folder: Path, environment: Mapping[str, str] | None = None
) -> Iterator[Watched]:
    """Starts a command and ends it with the block.

    Raises:
        SystemExit: it has failed; the message ends with its last lines.
    """
    running = Watched(command, log, folder, os.environ if environment is None else environment)
    try:
        yield running
    except BaseException:
        running.stop()
        raise
    running.wait()
    if running.status != 0:
        last = " / ".join(running.text.strip().splitlines()[-3:])
        raise SystemExit(f"error: {' '.join(command)[:200]} ended with status {running.status}; {log} ends: {last}")


def check_places(out: Path, page: Path | None = None) -> None:
    """Makes the folders that a script writes to, before it works for an hour.

    Raises:
        SystemExit: one cannot be written.
    """
    try:
        check_writable(out, "--out")
        if page is not None:
            check_writable_file(page, "--page")
    except OSError as error:
        raise SystemExit(f"error: {error}") from error


def machine() -> str:
    """Number of cores that this process may use, the processor's name, memory, and the system."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    memory = psutil.virtual_memory().total / 1e9
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    name = names[0] if names else platform.processor() or platform.machine()
    return f"{cores} cores of {name}, {memory:.0f} GB of memory, {platform.system()}"


class Rows:
    """Measurements in a CSV, a row for each step.

    Rows of other settings, of another commit or of another machine stay in the file and do not count. So a page that
    is made of the rows may name one commit and one machine.

    Args:
        path: The file.
        settings: What decides the numbers, such as the number of photos.
        checkout: The project whose commands are measured.
    """

    def __init__(self, path: Path, settings: str, checkout: Path = PROJECT) -> None:
        self.path = path
        self._own = {"settings": settings, "machine": machine(), "commit": commit(checkout)}
        rows: list[dict[str, str]] = []
        if path.is_file():
            with path.open(newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
        self.by_step = {row["step"]: row for row in rows if self._is_own(row)}
        self._others = [row for row in rows if not self._is_own(row)]

    def _is_own(self, row: Mapping[str, str]) -> bool:
        return all(row[name] == value for name, value in self._own.items())

    def __contains__(self, step: str) -> bool:
        return step in self.by_step

    def __getitem__(self, step: str) -> dict[str, str]:
        return self.by_step[step]

    def number(self, step: str, column: str = "seconds") -> float:
        """A number of a step's row."""
        return float(self.by_step[step][column])

    def add(self, step: str, cost: Cost, n: int = 0, n_bytes: int = 0, note: str = "") -> None:
        """Adds a row, or replaces it, and writes the file whole.

        Args:
            step: Its name.
            cost: What it took.
            n: How many images or rows it handled.
            n_bytes: What it left on the disk.
            note: What the command said.
        """
        self.by_step[step] = {
            "step": step,
            "n": str(n),
            "seconds": f"{cost.seconds:.3f}",
            "cpu_s": f"{cost.cpu_s:.3f}",
            "peak_gb": f"{cost.peak_gb:.4f}",
            "n_bytes": str(n_bytes),
            "load": f"{os.getloadavg()[0]:.1f}",
            "note": note,
            **self._own,
        }
        self.save(self.path, [*self._others, *self.by_step.values()])

    def save(self, path: Path, rows: Iterable[dict[str, str]] | None = None) -> None:
        """Writes rows to a file, whole or not at all; without rows, those that count."""
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_name(f".{path.name}.tmp")
        with scratch.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.by_step.values() if rows is None else rows)
        scratch.replace(path)
