"""Opens doors as a user does: in a process of their own, on the smallest drawn world."""

import subprocess
import sys
from pathlib import Path

from guie.run import DOORS, PROJECT

SMALL = ("data.drawn.n_instances=8", "stages.s2_backbone.n_epochs=6", "stages.s5_highres_backbone.n_epochs=2")


def open_door(number: int, out: Path, *extra: str, recipe: str = "tiny", sets: tuple[str, ...] = SMALL) -> str:
    """What the door said."""
    command = [sys.executable, str(PROJECT / DOORS[number]), "--recipe", recipe, "--out", str(out), "--device", "cpu", *extra]
    for text in sets:
        command += ["--set", text]
    done = subprocess.run(command, capture_output=True, text=True, cwd=out, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
