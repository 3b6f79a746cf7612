"""A command that ends in time: real processes, short limits."""

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from guie.terminal import run_until


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def is_gone(pid: int) -> bool:
    """Whether the process has ended, or does so within seconds: a signal takes its time."""
    ends = time.time() + 5
    while time.time() < ends:
        try:
            if Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("status", [0, 3, 130])
def test_status_and_output_are_those_of_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], status: int
) -> None:
    code = (
        "import os, sys; print('é →', os.getcwd(), os.environ['WORD']); print('error', file=sys.stderr); "
        f"sys.exit({status})"
    )
    assert run_until(time.time() + 60, python(code), tmp_path, {"WORD": "word"}) == status
    assert capsys.readouterr().out == f"é → {tmp_path} word\nerror\n"


def test_output_longer_than_any_buffer_comes_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_until(time.time() + 60, python("print('ü' * 1_000_001)"), tmp_path) == 0
    assert capsys.readouterr().out == "ü" * 1_000_001 + "\n"


def test_progress_bar_is_drawn_while_the_command_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = (
        "import time\nfrom tqdm import tqdm\nfor _ in tqdm(range(4), desc='steps', disable=None, mininterval=0): "
        "time.sleep(0.2)"
    )
    shown: list[str] = []
    worker = threading.Thread(target=run_until, args=(time.time() + 60, python(code), tmp_path))
    worker.start()
    while worker.is_alive():
        shown.append(capsys.readouterr().out)
        time.sleep(0.05)
    shown.append(capsys.readouterr().out)
    assert sum("steps" in text for text in shown) >= 3  # as it comes, not all at the end
    assert "\rsteps: 100%" in "".join(shown)


def test_time_that_is_up_starts_nothing(tmp_path: Path) -> None:
    assert run_until(time.time() - 1, python("open('started', 'w')"), tmp_path) is None
    assert not (tmp_path / "started").exists()


def test_command_is_interrupted_in_time_and_may_clean_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = """
import sys, time
try:
    print("begun", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    time.sleep(0.3)
    print("x" * 100_000)  # more than a terminal holds: it must still be read
    print("saved")
    sys.exit(130)
"""
    began = time.time()
    assert run_until(began + 1.5, python(code), tmp_path) is None
    assert 1.5 <= time.time() - began < 15
    out = capsys.readouterr().out
    assert out.startswith("begun\n") and out.endswith("x\nsaved\n")


def test_command_is_interrupted_where_this_process_ignores_interruptions(tmp_path: Path) -> None:
    """As `nohup notebook &` does."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        began = time.time()
        assert run_until(began + 1.0, python("import time; time.sleep(60)"), tmp_path) is None
        assert time.time() - began < 15
    finally:
        signal.signal(signal.SIGINT, before)


def test_command_that_finishes_when_interrupted_has_finished(tmp_path: Path) -> None:
    code = "import signal, sys, time; signal.signal(signal.SIGINT, lambda *_: sys.exit(0)); time.sleep(60)"
    assert run_until(time.time() + 1.5, python(code), tmp_path) == 0


def test_command_that_ignores_interruption_is_killed_with_its_children(tmp_path: Path) -> None:
    code = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
open("pids", "w").write(f"{os.getpid()} {child.pid}")
time.sleep(60)
"""
    began = time.time()
    assert run_until(began + 2.0, python(code), tmp_path, grace_s=0.5) is None
    assert time.time() - began < 15
    pids = [int(word) for word in (tmp_path / "pids").read_text().split()]
    assert len(pids) == 2 and all(is_gone(pid) for pid in pids)


def test_worker_left_behind_does_not_hold_the_terminal_open(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); "
        "open('pid', 'w').write(str(p.pid))"
    )
    began = time.time()
    assert run_until(began + 30, python(code), tmp_path) == 0
    assert time.time() - began < 15
    assert is_gone(int((tmp_path / "pid").read_text()))


def test_interrupt_of_the_notebook_interrupts_the_command(tmp_path: Path) -> None:
    inner = """
import sys, time
try:
    open("begun", "w").close()
    time.sleep(60)
except KeyboardInterrupt:
    open("saved", "w").close()
    sys.exit(130)
"""
    outer = f"""
import sys, time
from pathlib import Path
from guie.terminal import run_until
run_until(time.time() + 60, [sys.executable, "-c", {inner!r}], Path("."))
"""
    process = subprocess.Popen(
        [sys.executable, "-c", outer],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a notebook takes it, wherever tests run
    )
    ends = time.time() + 30
    while not (tmp_path / "begun").exists() and time.time() < ends:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert b"KeyboardInterrupt" in said and (tmp_path / "saved").exists()
