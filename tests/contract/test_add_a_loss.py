"""README.md, "Add a loss in three steps", followed to the letter in a copy of the project: its code written, its tests
run."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from small_world import copied

ROOT = Path(__file__).resolve().parents[2]


def blocks() -> list[str]:
    """The code of the section, a text a block."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.split("### Add a loss in three steps")[1].split("\n## ")[0]
    return re.findall(r"^```python\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)


def edited(path: Path, *changes: tuple[str, str]) -> None:
    text = path.read_text(encoding="utf-8")
    for before, after in changes:
        assert text.count(before) == 1, (path, before)
        text = text.replace(before, after)
    path.write_text(text, encoding="utf-8")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with the loss of the README."""
    copy = tmp_path_factory.mktemp("loss") / "project"
    shutil.copytree(ROOT / "src", copy / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    shutil.copytree(ROOT / "tests", copy / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    settings, module, row, example = blocks()
    folder = copy / "src/guie"
    edited(
        folder / "settings/objective.py",
        ('"ObjectiveSettings",', '"ObjectiveSettings", "Pairs",'),
        ("ObjectiveSettings = Term | Sum\n", "ObjectiveSettings = Term | Sum | Pairs\n"),
        (
            "from guie.settings.objectives.sums",
            "from guie.settings.objectives.pulls import Pairs\nfrom guie.settings.objectives.sums",
        ),
    )
    (folder / "settings/objectives/pulls.py").write_text(settings, encoding="utf-8")
    (folder / "train/objectives/pulls.py").write_text(module, encoding="utf-8")
    edited(
        folder / "train/objectives/build.py",
        ("    Softmax: _margin,\n", f"    Softmax: _margin,\n{row}"),
        ("from guie.settings.stage", "from guie.settings.objective import Pairs\nfrom guie.settings.stage"),
        (
            "from guie.train.objectives.margin",
            "from guie.train.objectives.pulls import PairLoss\nfrom guie.train.objectives.margin",
        ),
    )
    edited(
        copy / "tests/contract/test_objectives.py",
        ("    Softmax: (Softmax(),", f"{example}    Softmax: (Softmax(),"),
        ("from guie.settings.optim", "from guie.settings.objective import Pairs\nfrom guie.settings.optim"),
    )
    return copy


def run(project: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(project / "src"), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *words], cwd=project, env=environment, capture_output=True, text=True, timeout=600, check=False
    )


@pytest.mark.slow
@pytest.mark.full
def test_new_loss_keeps_what_every_objective_keeps(project: Path):
    done = run(
        project, "-m", "pytest", "-p", "no:cacheprovider", "tests/contract/test_objectives.py", "-k", "Pairs or example"
    )
    assert done.returncode == 0, done.stdout
    more = ["tests/unit/test_setting_ranges.py", "tests/contract/test_digests.py", "-m", "not slow"]
    done_more = run(project, "-m", "pytest", "-p", "no:cacheprovider", *more)
    assert done_more.returncode == 0, done_more.stdout
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 5


@pytest.mark.slow
def test_new_loss_trains(project: Path, packed_world: Path, tmp_path: Path):
    folder = copied(packed_world, tmp_path)  # doors 01 to 03, by this project
    options = ["--recipe", str(tmp_path / "tiny.py"), "--data-root", str(tmp_path), "--out", str(tmp_path)]
    sets = ["stages.s1_head.optim.n_epochs=2", "stages.s1_head.optim.batch_size=8"]
    sets += ["stages.s1_head.objective=Pairs", "stages.s2_backbone.objective=Pairs"]
    options += ["--device", "cpu", *(word for text in sets for word in ("--set", text))]
    done = run(project, str(project / "src/04_train_head.py"), *options)
    assert done.returncode == 0, done.stdout + done.stderr
    losses = (folder / "04_head/s1_head/metrics.csv").read_text().splitlines()
    assert len(losses) == 3 and losses[0].startswith("epoch,step,loss,loss_pull,loss_push,lr,")
