"""A drawn world of about two hundred images, packed by the first three doors."""

import shutil
from pathlib import Path

from changing import changed

from guie.door import open_door
from guie.recipe import DrawnWorld, load_recipe

WORLD = changed(load_recipe("tiny"), data__drawn=DrawnWorld(12, 6, 64))
WORKS = ("guie.data.build:build_manifests", "guie.data.balance:merge_and_balance", "guie.data.packing:pack_images")
FILE = '''
"""A small world for tests."""
from dataclasses import replace
from guie.recipe import DrawnWorld
from guie.recipes.tiny import RECIPE as TINY
RECIPE = replace(TINY, data=replace(TINY.data, drawn=DrawnWorld(12, 6, 64)))
'''


def options(folder: Path) -> list[str]:
    """The options of a door. The recipe's file is written into `folder`, and the run goes there, too."""
    (folder / "tiny.py").write_text(FILE)
    places = ["--recipe", str(folder / "tiny.py"), "--out", str(folder)]
    return [*places, "--device", "cpu"]


def pack_world(folder: Path) -> Path:
    """Runs the first three doors and returns the folder of the run."""
    for number, work in enumerate(WORKS, 1):
        assert open_door(number, "A door.", work, options(folder)) == 0
    return folder / "tiny"


def copied(world: Path, folder: Path) -> Path:
    """Copies the run of `pack_world` to another folder, with the recipe's file beside it; returns the run's folder."""
    shutil.copytree(world, folder / "tiny")
    options(folder)
    return folder / "tiny"
