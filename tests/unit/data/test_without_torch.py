"""Doors 01 to 03 work where torch cannot be imported; they load it only for images that are made smaller."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

SCRIPT = """
import sys
sys.modules["torch"] = None  # every import of it fails, in the processes that are forked, too
from guie.door import open_door
WORK = ["guie.data.build:build_manifests", "guie.data.balance:merge_and_balance", "guie.data.packing:pack_images"]
sys.exit(max(open_door(number, "A door.", work, sys.argv[1:]) for number, work in enumerate(WORK, 1)))
"""
RECIPE = """
from dataclasses import replace
from guie.recipe import *
from guie.recipes.tiny import RECIPE as TINY
RECIPE = replace(TINY, name="mine", data=Data((Source("toys", "class_folders", "toys", "toys"),), pack_px={pack_px}))
"""


def opened(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", SCRIPT, "--out", str(folder / "out"), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_drawn_world_is_packed_without_torch(tmp_path: Path) -> None:
    done = opened(tmp_path, "--recipe", "tiny", "--set", "data.drawn.n_instances=4", "--set", "data.drawn.n_views=4")
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(pd.read_parquet(tmp_path / "out/tiny/03_packed/index.parquet")) > 30


@pytest.mark.parametrize("pack_px", [64, 32])
def test_own_images_need_torch_only_where_they_are_made_smaller(tmp_path: Path, pack_px: int) -> None:
    rng = np.random.default_rng(0)
    for i in range(16):
        path = tmp_path / f"data/toys/class_{i // 4}/{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (50, 60, 3), dtype=np.uint8)).save(path)
    (tmp_path / "mine.py").write_text(RECIPE.format(pack_px=pack_px))
    done = opened(tmp_path, "--recipe", str(tmp_path / "mine.py"), "--data-root", str(tmp_path / "data"))
    assert done.returncode == (0 if pack_px == 64 else 2), done.stdout + done.stderr
    if pack_px == 64:
        assert (pd.read_parquet(tmp_path / "out/mine/03_packed/index.parquet")["height"] == 50).all()
    else:
        assert "error: door 03: a package is missing or damaged" in done.stderr and done.stderr.count("\n") == 1
