"""Every recipe that comes with the project loads, says what it is, and can be shrunk."""

import importlib
import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest

from guie.recipe import Recipe, Row, Setting, Stage, load_recipe
from guie.recipes._shrunk import LARGEST_PCA, shrunk

RECIPES = sorted(path.stem for path in (Path(__file__).resolve().parents[2] / "src/guie/recipes").glob("[a-z]*.py"))


def test_recipes_are_found():
    assert {"minibench", "tiny"} <= set(RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_is_valid_and_named_like_its_file(name: str):
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe.validate() == recipe


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_docstring_says_what_where_and_on_what(name: str):
    doc = importlib.import_module(f"guie.recipes.{name}").__doc__
    assert doc is not None and doc.startswith(f"{name}: ")
    assert doc.split("\n")[0].endswith("."), "./run.sh --help shows the first line"
    assert "Machine:" in doc and "Score to expect" in doc


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_sources_have_a_parser(name: str):
    for source in load_recipe(name).data.sources:
        assert importlib.util.find_spec(f"guie.data.sources.{source.kind}") is not None, source


def structure(row: Row) -> tuple[object, ...]:
    """What of a row the copy keeps: of a stage what decides which weights it builds and loads, of other rows all."""
    if not isinstance(row, Stage):
        return (row,)
    kinds = (row.objective, row.optim.method, row.optim.schedule, row.optim.blocks, row.sampling)
    neck = replace(row.neck, dim=min(row.neck.dim, LARGEST_PCA)) if row.start.has_pca_neck else row.neck
    start = (row.start.of, row.start.fresh, row.start.has_pca_neck, row.start.has_mean_centers)
    return (row.name, row.trains, *start, neck, *map(type, kinds))


def ladder(setting: Setting) -> tuple[object, ...]:
    """What of a setting the copy keeps."""
    return (setting.name, setting.pca_dim, [(m.stage, m.views, m.output) for m in setting.members])


def phases(recipe: Recipe) -> list[list[str]]:
    return [[row.name for row in recipe.stages.of_phase(phase)] for phase in ("head", "backbone", "highres")]


@pytest.mark.parametrize("name", RECIPES)
def test_tiny_copy_keeps_the_structure_and_shrinks_the_rest(name: str):
    recipe = load_recipe(name)
    tiny = shrunk(recipe)
    assert tiny.validate() is tiny
    assert tiny.name == f"{name}_tiny"
    assert tiny.data == load_recipe("tiny").data
    assert list(map(structure, tiny.stages)) == list(map(structure, recipe.stages))
    assert phases(tiny) == phases(recipe) and sum(map(len, phases(tiny))) == len(list(recipe.stages))
    assert all(s.image_px <= 96 and s.optim.n_epochs <= 2 and s.optim.batch_size <= 16 for s in tiny.stages.trained)
    assert list(map(ladder, tiny.embed.settings)) == list(map(ladder, recipe.embed.settings))
