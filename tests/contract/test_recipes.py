"""Every recipe that comes with the project loads, says what it is, and can be shrunk."""

import importlib
import importlib.util
from pathlib import Path

import pytest

from guie.recipe import load_recipe

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
    assert "Machine:" in doc and "Score to expect" in doc


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_sources_have_a_parser(name: str):
    for source in load_recipe(name).data.sources:
        assert importlib.util.find_spec(f"guie.data.sources.{source.kind}") is not None, source


@pytest.mark.parametrize("name", RECIPES)
def test_tiny_copy_keeps_the_structure_and_shrinks_the_rest(name: str):
    recipe = load_recipe(name)
    tiny = recipe.tiny()
    assert tiny.validate() is tiny
    assert tiny.name == f"{name}_tiny"
    assert tiny.data == load_recipe("tiny").data
    assert [(s.name, s.phase, s.trains, s.starts_from, s.fresh, s.embedding_dim) for s in tiny.stages] == [
        (s.name, s.phase, s.trains, s.starts_from, s.fresh, s.embedding_dim) for s in recipe.stages
    ]
    assert all(s.image_px <= 96 and s.n_epochs <= 2 and s.batch_size <= 16 for s in tiny.stages)
    assert [(row.name, row.pca_dim, [(m.stage, m.views, m.output) for m in row.members]) for row in tiny.embed.settings] == [
        (row.name, row.pca_dim, [(m.stage, m.views, m.output) for m in row.members]) for row in recipe.embed.settings
    ]
