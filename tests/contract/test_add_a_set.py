"""data_prep/README.md, "Add a set", followed to the letter in a copy of the project: its files written, its commands
run."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

ROOT = Path(__file__).parents[2]


def section() -> str:
    text = (ROOT / "data_prep/README.md").read_text(encoding="utf-8")
    return text.split("## Add a set")[1].split("\n## ")[0]


def blocks(language: str) -> list[str]:
    found = re.findall(r"^   ```(\w*)\n(.*?)^   ```$", section(), re.DOTALL | re.MULTILINE)
    return [textwrap.dedent(block) for name, block in found if name == language]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    project = tmp_path / "project"
    for name in ("src", "data_prep"):
        shutil.copytree(ROOT / name, project / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    rng = np.random.default_rng(0)
    (project / "DATA/birds/photos").mkdir(parents=True)
    lines = ["file,species"]
    for number in range(24):
        cv2.imwrite(str(project / f"DATA/birds/photos/{number}.jpg"), rng.integers(0, 256, (40, 50, 3), dtype=np.uint8))
        lines.append(f"{number}.jpg,species {number % 6}")
    (project / "DATA/birds/list.csv").write_text("\n".join(lines) + "\n")
    return project


@pytest.mark.slow
def test_add_a_set_to_the_letter(copy: Path):
    for block in blocks("python"):
        name = block.splitlines()[0].removeprefix("# ")
        (copy / name).write_text(block)
    environment = {**os.environ, "PYTHONPATH": str(copy / "src"), "GUIE_OUT": str(copy / "artifacts")}
    (commands,) = blocks("")
    lines = commands.strip().splitlines()
    assert len(lines) == 3
    for line in lines:
        words = shlex.split(line)
        done = subprocess.run([sys.executable, *words[1:]], cwd=copy, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr + done.stdout
    classes = pd.read_parquet(copy / "artifacts/birds/02_balanced/classes.parquet")
    assert (
        set(classes["source_label"]) == {f"species {n}" for n in range(6)} and classes["n_images"].tolist() == [4] * 6
    )
    assert len(pd.read_parquet(copy / "artifacts/birds/03_packed/index.parquet")) == 24
    for recipe in ("tiny", "minibench"):  # and no other recipe is broken by it
        code = (
            "from guie.data.build import builder; from guie.recipe import load_recipe; [builder(s.kind) for s in "
            f"load_recipe({recipe!r}).data.sources]"
        )
        code += (
            "; from guie.data.catalogue import completeness, known_sets, licence_of; assert 'birds' not in known_sets()"
        )
        subprocess.run([sys.executable, "-c", code], cwd=copy, env=environment, check=True)
    done = subprocess.run(
        [sys.executable, "data_prep/00_fetch.py"], cwd=copy, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0 and "Products-10K" in done.stdout
