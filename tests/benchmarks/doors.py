"""Opens doors for a benchmark."""

import subprocess
import sys
from collections.abc import Iterable, Sequence
from typing import TextIO

from guie.run import DOORS, PROJECT


def open_doors(numbers: Iterable[int], options: Sequence[str], stdout: TextIO | None = None) -> None:
    """Opens doors one after the other, each in a process of its own.

    Args:
        numbers: Of the doors, 1 to 9.
        options: The same for each.
        stdout: Where they print; None is this process' own.

    Raises:
        ValueError: a door failed. It has said why.
    """
    for number in numbers:
        done = subprocess.run([sys.executable, str(PROJECT / DOORS[number]), *options], stdout=stdout, check=False)
        if done.returncode:
            why = f"status {done.returncode}; the line above says why"
            if done.returncode < 0:
                why = f"signal {-done.returncode}"
            raise ValueError(f"door {number:02d} ended with {why}")
