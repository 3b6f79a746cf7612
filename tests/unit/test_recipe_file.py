"""A mistake in a recipe's file is one line that names the file, the line in it, the field, and the nearest name or what to write."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from guie.fieldtypes import check_types
from guie.recipe import EpochMargin, Model, Recipe, Stage, load_recipe

RECIPES = sorted(path.stem for path in (Path(__file__).resolve().parents[2] / "src/guie/recipes").glob("[a-z]*.py"))
FILE = """from dataclasses import replace
from guie.recipe import *
from guie.recipes.tiny import RECIPE as TINY

FIRST = replace(TINY.stages[0])
RECIPE = replace(TINY, name="mine", stages=(FIRST, *TINY.stages[1:]))
"""
HEAD = 'Stage("s", "head", "head", 64, 1, 8, 0.01, fresh=("neck", "classifier"))'


def loaded(tmp_path: Path, first: str) -> Recipe:
    path = tmp_path / "mine.py"
    path.write_text(FILE.replace("replace(TINY.stages[0])", first))
    return load_recipe(str(path))


@pytest.mark.parametrize(
    ("first", "told"),
    [
        (HEAD.replace("fresh", "lrr=1, fresh"), "Stage has no field 'lrr'; did you mean 'lr'?"),
        ("replace(TINY.stages[0], n_epoch=3)", "Stage has no field 'n_epoch'; did you mean 'n_epochs'?"),
        ("replace(TINY.stages[0], augment=Augment(rotate=3))", "Augment has no field 'rotate'; did you mean 'rotate_deg'?"),
        ('Stage("s", "head", "head", 64)', "Stage lacks 'n_epochs', 'batch_size', and 'lr'"),
        ('Stage(name="s", phase="head", trains="head", n_epochs=1, batch_size=8, lr=.1)', "Stage lacks 'image_px'"),
        ("EpochMargin(0.1, 0.2, 0.3, 0.4)", "EpochMargin has 3 fields, and 4 values are given; name them"),
        ('Stge("s")', "name 'Stge' is not defined; did you mean 'Stage'?"),
        ("replace(TINY.stage[0])", "TypeError: 'method' object is not subscriptable"),
        ("replace(TINY.stages[9])", "IndexError: tuple index out of range"),
    ],
)
def test_what_python_refuses_is_told_with_its_line(tmp_path: Path, first: str, told: str) -> None:
    with pytest.raises(ValueError) as caught:
        loaded(tmp_path, first)
    assert str(caught.value) == f"recipe file {tmp_path / 'mine.py'}, line 5, cannot be read: {told}"


def test_syntax_and_imports_are_told(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    for text, told in (
        ("X = (1,\n", "cannot be read: SyntaxError: '(' was never closed (mine.py, line 1)"),
        ("from guie.recipe import Stagge\n", "did you mean 'Stage'?"),
        ("import no_such_package\n", "line 1, cannot be read: ModuleNotFoundError: No module named 'no_such_package'"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError) as caught:
            load_recipe(str(path))
        assert str(caught.value).startswith(f"recipe file {path}") and told in str(caught.value) and "\n" not in str(caught.value)


WRONG = [
    ({"lr": "1e-3"}, "stages.s1_head.lr is '1e-3' (str), must be a number: write it without quotes"),
    ({"n_epochs": "3"}, "stages.s1_head.n_epochs is '3' (str), must be a whole number: write it without quotes"),
    ({"n_epochs": 3.0}, "stages.s1_head.n_epochs is 3.0 (float), must be a whole number"),
    ({"n_epochs": True}, "stages.s1_head.n_epochs is True (bool), must be a whole number"),
    ({"batch_size": np.int64(8)}, f"stages.s1_head.batch_size is {np.int64(8)!r} (int64), must be a whole number: write int(...) around it"),
    ({"keeps_best": 1}, "stages.s1_head.keeps_best is 1 (int), must be True or False"),
    ({"keeps_best": "no"}, "stages.s1_head.keeps_best is 'no' (str), must be True or False"),
    ({"fresh": ["neck", "classifier"]}, "stages.s1_head.fresh is ['neck', 'classifier'] (list), must be a tuple of texts: write (...) instead of [...]"),
    ({"fresh": "neck"}, "stages.s1_head.fresh is 'neck' (str), must be a tuple of texts: write ('neck',)"),
    ({"fresh": ("neck", 3)}, "stages.s1_head.fresh.1 is 3 (int), must be a text"),
    ({"drops": (1, 2.5)}, "stages.s1_head.drops.1 is 2.5 (float), must be a whole number"),
    ({"margin": 0.3}, "stages.s1_head.margin is 0.3 (float), must be an EpochMargin: write EpochMargin(start_rad, step_rad, max_rad)"),
    ({"margin": EpochMargin("a")}, "stages.s1_head.margin.start_rad is 'a' (str), must be a number: write it without quotes"),  # type: ignore[arg-type]
    ({"lr": None}, "stages.s1_head.lr is None (NoneType), must be a number"),
    ({"name": 3}, "stages.0.name is 3 (int), must be a text"),
    ({"model": "timm"}, "stages.s1_head.model is 'timm' (str), must be a Model: write Model("),
]


@pytest.mark.parametrize(("change", "told"), WRONG, ids=[next(iter(change)) + str(i) for i, (change, _) in enumerate(WRONG)])
def test_wrong_type_is_told_with_field_value_and_remedy(change: dict[str, Any], told: str) -> None:
    recipe = load_recipe("tiny")
    recipe = replace(recipe, stages=(replace(recipe.stages[0], **change), *recipe.stages[1:]))
    with pytest.raises(ValueError) as caught:
        check_types(recipe)
    assert str(caught.value).startswith(told) and "\n" not in str(caught.value)


def test_wrong_types_outside_the_stages() -> None:
    recipe = load_recipe("tiny")
    for wrong, told in (
        (replace(recipe, stages=list(recipe.stages)), "stages is [Stage("),
        (replace(recipe, stages=recipe.stages[0]), "must be a tuple of Stages: write (Stage("),
        (replace(recipe, seed="0"), "seed is '0' (str)"),
        (replace(recipe, model=Model("timm", "x", mean=(0.5, 0.5))), "model.mean is (0.5, 0.5) (tuple), must be a tuple of 3 numbers"),  # type: ignore[arg-type]
        (replace(recipe, model=Model("timm", "x", mean=0.5)), "model.mean is 0.5 (float), must be a tuple of 3 numbers"),  # type: ignore[arg-type]
        (replace(recipe, data=None), "data is None (NoneType), must be a Data: write Data("),
    ):
        with pytest.raises(ValueError) as caught:
            check_types(wrong)
        assert told in str(caught.value) and "\n" not in str(caught.value)


def test_types_are_looked_at_when_a_file_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^stages.s1_head.lr is '1e-3' \(str\), must be a number"):
        loaded(tmp_path, 'replace(TINY.stages[0], lr="1e-3")')
    assert loaded(tmp_path, "replace(TINY.stages[0], lr=1)").stages[0].lr == 1  # a whole number is a number


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_of_ours_holds_what_its_types_say(name: str) -> None:
    check_types(load_recipe(name))


def test_stage_that_is_no_dataclass_of_ours() -> None:
    with pytest.raises(ValueError, match="must be a Stage"):
        check_types(replace(load_recipe("tiny"), stages=("s1",)))
    assert Stage.__name__ == "Stage"
