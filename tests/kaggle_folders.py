"""Folders as Kaggle shows them to a notebook: an earlier run, and a project whose doors do no work."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from guie.run import DOORS, FOLDERS

MARK = {"settings": "", "inputs": {}, "outputs": {}, "metrics": {}, "seconds": 1.0}
DOOR = """
import os, pathlib, sys, time
n = int(pathlib.Path(sys.argv[0]).name[:2])
print("door", n, "TQDM_MININTERVAL" in os.environ, os.environ.get("HF_HOME", ""), flush=True)
with open("opened", "a") as file: file.write(str(n))
try:
    time.sleep(float(os.environ.get(f"WAIT_{n}", "0")))
except KeyboardInterrupt:
    sys.exit(130)
sys.exit(int(os.environ.get(f"FAIL_{n}", "0")))
"""
CHECKER = "import os, sys; print('checked', *sys.argv[1:]); sys.exit(int(os.environ.get('FAIL_CHECK', '0')))"


def make_run(
    folder: Path,
    doors: Sequence[int],
    stages: Sequence[str] = (),
    recipe: str = "tiny",
    sets: Sequence[str] = ("seed=3",),
) -> Path:
    """A run's folder with done-marks of these doors and stages, and the arguments that it was started with."""
    folder.mkdir(parents=True)
    arguments = {"recipe": recipe, "set": list(sets)}
    (folder / "recipe.json").write_text(json.dumps({"arguments": arguments}))
    for place in [*(FOLDERS[number] for number in doors), *stages]:
        (folder / place).mkdir(parents=True)
        (folder / place / "done.json").write_text(json.dumps(MARK))
    return folder


def fake_project(folder: Path) -> Path:
    """Doors that print their number and add it to `opened`; FAIL_<n> is the status of one, WAIT_<n> its seconds."""
    for name in DOORS.values():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(DOOR)
    (folder / "submission").mkdir()
    (folder / "submission/check_submission.py").write_text(CHECKER)
    return folder
