"""Folders that a Kaggle notebook finds, for tests: an earlier run, and a project whose doors do no work."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from guie.dependencies import read_values, settings_digest
from guie.recipe import load_recipe
from guie.run import DOORS, FOLDERS
from guie.settings.names import read_by_row
from guie.versions import CODE, OF_WEIGHTS

MARK = {"inputs": {}, "outputs": {}, "metrics": {}, "seconds": 1.0}
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
    """Makes a run's folder with the done-marks of these doors and stages, and with the arguments of its start."""
    folder.mkdir(parents=True)
    arguments = {"recipe": recipe, "set": list(sets)}
    (folder / "recipe.json").write_text(json.dumps({"arguments": arguments}))
    made = load_recipe(recipe, sets)
    settings = {FOLDERS[number]: (settings_digest(made, number), read_values(made, number)) for number in doors}
    for place in stages:
        read = read_by_row(Path(place).name)
        settings[place] = (made.digest(*read, **OF_WEIGHTS), made.values_of(read) | {CODE: OF_WEIGHTS})
    for place, (digest, read) in settings.items():
        (folder / place).mkdir(parents=True)
        (folder / place / "done.json").write_text(json.dumps(MARK | {"settings": digest, "read": read}))
    return folder


def fake_project(folder: Path) -> Path:
    """Makes a project whose doors print their number and add it to the file `opened`.

    FAIL_<n> of the environment is the exit status of door n, and WAIT_<n> the seconds that it runs.
    """
    for name in DOORS.values():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(DOOR)
    (folder / "submission").mkdir()
    (folder / "submission/check_submission.py").write_text(CHECKER)
    return folder
