"""Every recipe of ours runs from images to a proved submission at reduced size, with all of its stages, members and
views."""

import runpy
import shutil
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from doors_here import WORK, open_here

from guie.files import load_weights
from guie.recipe import load_recipe
from guie.recipes._retrieval import ONLINE_PRODUCTS
from guie.run import FOLDERS, PROJECT

pytestmark = pytest.mark.slow
RECIPES = sorted({path.stem for path in (PROJECT / "src/guie/recipes").glob("[a-z]*.py")} - {"tiny"})
WHOLE = (
    "demo",
    "fifth_place",
    "fourth_place",
)  # by default: overlap; SAM, best epoch, sizes; soups, blocks, parts
CHECKED = ("demo", "guie_2026")  # by the checker, too, in this process; door 08 has compared every export with door 07


def run_door(number: int, recipe: Path, out: Path) -> None:
    assert open_here(number, ["--recipe", str(recipe), "--out", str(out)]) == 0


def recipe_file(folder: Path, name: str, n_epochs: int = 2) -> Path:
    path = folder / f"{name}.py"
    path.write_text(
        f'"""{name} on a drawn world of few and small images."""\n'
        "from dataclasses import replace\n"
        "from guie.recipe import DrawnWorld\n"
        "from guie.recipes._shrunk import shrunk\n"
        f"from guie.recipes.{name} import RECIPE as WHOLE\n"
        f"TINY = shrunk(WHOLE, n_epochs={n_epochs})\n"
        "RECIPE = replace(TINY, data=replace(TINY.data, drawn=DrawnWorld(10, 6, 64)))\n"
    )
    return path


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What doors 01 to 03 leave, the same for every recipe."""
    out = tmp_path_factory.mktemp("images")
    recipe = recipe_file(out, "minibench")
    for number in (1, 2, 3):
        run_door(number, recipe, out)
    return out / "minibench_tiny"


def marked(name: str) -> object:
    """The name as a parameter; recipes of the literature share one structure, so by default one of them runs."""
    is_full = name != "irt_r" and load_recipe(name).data == ONLINE_PRODUCTS
    return pytest.param(name, marks=[pytest.mark.full] * is_full)


@pytest.mark.parametrize("name", [marked(name) for name in RECIPES if name not in WHOLE])
def test_every_stage_trains_an_epoch(name: str, images: Path, tmp_path: Path):
    run = tmp_path / f"{name}_tiny"
    for number in (1, 2, 3):
        shutil.copytree(images / FOLDERS[number], run / FOLDERS[number])
    recipe = recipe_file(tmp_path, name, n_epochs=1)
    for number in (4, 5, 6):
        run_door(number, recipe, tmp_path)
    rows = [row.name for row in load_recipe(name).stages]
    trained = {path.parent.name: load_weights(path) for path in run.glob("0*/*/final.safetensors")}
    assert sorted(trained) == sorted(rows)
    assert all(bool(tensor.isfinite().all()) for weights in trained.values() for tensor in weights.values())


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.full] * (n not in WHOLE)) for n in RECIPES])
def test_recipe_runs_from_images_to_submission(
    name: str, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    run = tmp_path / f"{name}_tiny"
    for number in (1, 2, 3):
        shutil.copytree(images / FOLDERS[number], run / FOLDERS[number])
    recipe = recipe_file(tmp_path, name)
    for number in WORK:
        run_door(number, recipe, tmp_path)
    scores = pd.read_csv(run / "07_embeddings/scores.csv")
    assert scores["mp5"].between(0, 1).all() and scores["dim"].iloc[-1] == 64
    if name not in CHECKED:
        return
    file = PROJECT / "submission/check_submission.py"
    checker = SimpleNamespace(**runpy.run_path(str(file)))  # test_notebooks.py starts it as a user does
    embeddings, _ = checker.probe(
        checker.unpack(run / "08_export/submission.zip", tmp_path), run / "08_export/parity", 0.999
    )
    assert len(embeddings) == 10 and "expected embeddings" in capsys.readouterr().out
