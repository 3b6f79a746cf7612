"""Runs a command with a time limit, and shows its output as it comes, progress bars included."""

from __future__ import annotations

import codecs
import os
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

GRACE_S = 120.0  # long enough to finish writing a checkpoint
COLUMNS = 110


def run_until(
    ends_at: float,
    command: Sequence[str],
    cwd: Path,
    environment: Mapping[str, str] | None = None,
    grace_s: float = GRACE_S,
) -> int | None:
    """Runs a command and shows its output. Interrupts it (SIGINT) when time is up, or when this process is interrupted.

    The command runs in a new pseudo-terminal, because progress bars are drawn only on a terminal.

    Args:
        ends_at: When time is up, in seconds since the epoch.
        command: Program and arguments.
        cwd: Its working folder.
        environment: Further environment variables, besides those of this process.
        grace_s: Seconds from the interruption until the command and all that it started are killed.

    Returns:
        Its exit status; None if time was up before it had finished.
    """
    if time.time() >= ends_at:
        return None
    terminal, its_end = os.openpty()
    attributes = termios.tcgetattr(its_end)
    attributes[1] &= ~termios.OPOST  # a line ends in "\n", not in "\r\n"
    termios.tcsetattr(its_end, termios.TCSANOW, attributes)
    termios.tcsetwinsize(its_end, (24, COLUMNS))
    # The terminal is there for the bars; what is shown may go into a log, where colours are only odd characters.
    variables = {**os.environ, "NO_COLOR": "1", **(environment or {})}
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=its_end,
        stderr=its_end,
        cwd=cwd,
        env=variables,
        start_new_session=True,
        preexec_fn=_take_interruptions,
    )
    os.close(its_end)
    decode = codecs.getincrementaldecoder("utf-8")("replace").decode
    try:
        is_in_time = _show(process, terminal, ends_at, decode)
    finally:
        try:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                _show(process, terminal, time.time() + grace_s, decode)
        finally:  # after a second interruption, too
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # with the workers that it left behind
            process.wait()
            os.close(terminal)
    return process.returncode if is_in_time or process.returncode == 0 else None


def _take_interruptions() -> None:
    """A process that was started in the background may ignore SIGINT, and what it starts would ignore it, too."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _show(process: subprocess.Popen[bytes], terminal: int, until: float, decode: Callable[[bytes], str]) -> bool:
    """Shows what the process writes until it ends or time is up; returns whether it ended."""
    while True:
        left_s, has_ended = max(0.0, until - time.time()), process.poll() is not None
        ready, _, _ = select.select([terminal], [], [], min(0.1, left_s))
        try:
            block = os.read(terminal, 1 << 16) if ready else None
        except OSError:  # on Linux: no process has the terminal open any more
            block = b""
        if block:
            sys.stdout.write(decode(block))
            sys.stdout.flush()
        elif block is not None:
            with suppress(subprocess.TimeoutExpired):
                process.wait(left_s)
            return process.poll() is not None
        elif has_ended:
            return True
        if not left_s and not has_ended:
            return False
