from pathlib import Path

import pytest

from guie.own.recipe_text import recipe_text
from guie.own.recipes import DIM, REDUCED, TRAINED, Wish, exported_recipe, scored_recipe
from guie.recipe import Recipe, load_recipe

NAMES = sorted(p.stem for p in (Path(__file__).parents[3] / "src/guie/recipes").glob("[a-z]*.py"))


@pytest.mark.parametrize("name", NAMES)
def test_file_gives_the_recipe_back(name: str, tmp_path: Path):
    recipe = load_recipe(name)
    assert round_trip(recipe, tmp_path) == recipe


def round_trip(recipe: Recipe, folder: Path) -> Recipe:
    file = folder / "mine.py"
    file.write_text(recipe_text(recipe, "mine: a recipe."))
    return load_recipe(str(file))


def test_file_is_short_and_fits_the_screen(tmp_path: Path):
    recipe = scored_recipe(Wish("mine"), by_class=True)
    text = recipe_text(recipe, "mine: a recipe.")
    assert round_trip(recipe, tmp_path) == recipe
    assert max(map(len, text.splitlines())) <= 120
    assert "optim=Optim(n_epochs=30" in text
    assert "jpeg_quality" not in text  # a default


def test_exported_setting_is_the_better_one_and_nothing_else_changes():
    wish = Wish("mine", has_backbone=True)
    trained, reduced = exported_recipe(wish, TRAINED), exported_recipe(wish, REDUCED)
    assert trained.embed.final.name == TRAINED
    assert reduced.embed.final.name == REDUCED
    assert trained.stages == reduced.stages
    assert set(trained.embed.settings) == set(reduced.embed.settings)
    assert [row.name for row in trained.stages] == ["s1_head", "s2_backbone", "s3_head"]
    assert trained.embed.final.members[0].stage == "s3_head"


def test_heads_start_from_the_tower_and_all_stages_have_one_neck():
    """The backbone's stage goes on with the head before it, so a neck of another shape would be refused."""
    stages = scored_recipe(Wish("mine", has_backbone=True), by_class=True).stages.trained
    assert [(row.start.has_pca_neck, row.start.has_mean_centers) for row in stages] == [
        (True, True),
        (False, False),
        (True, True),
    ]
    assert len({row.neck for row in stages}) == 1 and stages[0].neck.has_unit_input and stages[0].neck.dim == DIM
