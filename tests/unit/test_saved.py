"""A run read from its folder has the recipe that it was made with, whatever recipe that was."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from guie.options import as_data, parser
from guie.override import override_field
from guie.recipe import load_recipe
from guie.run import Run, save_recipe
from guie.saved import is_run, saved_run
from guie.settings.reading import recipe_of

NAMES = sorted(path.stem for path in Path(load_recipe.__code__.co_filename).with_name("recipes").glob("[a-z]*.py"))


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_comes_back_from_its_json(name: str):
    recipe = load_recipe(name)
    assert recipe_of(json.loads(recipe.to_json())) == recipe


def saved(tmp_path: Path, name: str = "tiny") -> Path:
    run = Run(load_recipe(name), tmp_path / "data", tmp_path / "out" / name)
    save_recipe(run.out, run.recipe, "a command", {"recipe": name, "data_root": str(run.data_root)})
    return run.out


def test_run_has_its_recipe_and_its_places(tmp_path: Path):
    out = saved(tmp_path)
    assert is_run(out) and not is_run(tmp_path)
    run = saved_run(out, "cuda:1")
    assert run == Run(load_recipe("tiny"), tmp_path / "data", out, "cuda:1")


def test_changed_fields_come_back_too(tmp_path: Path):
    recipe = load_recipe("tiny")
    for text in ("seed=7", "stages.s1_head.objective=CosFace", "stages.s1_head.optim.lr=0.5"):
        recipe = override_field(recipe, text)
    run = Run(recipe, tmp_path, tmp_path / "out")
    save_recipe(run.out, recipe, "", {})
    assert saved_run(run.out).recipe == recipe != load_recipe("tiny")


def test_fields_that_an_older_version_lacked_have_their_defaults(tmp_path: Path):
    path = saved(tmp_path) / "recipe.json"
    values = json.loads(path.read_text())
    del values["recipe"]["export"], values["recipe"]["data"]["val_by"]
    path.write_text(json.dumps(values))
    recipe = load_recipe("tiny")
    assert saved_run(path.parent).recipe == replace(recipe, export=type(recipe.export)())


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda recipe: recipe.update(colour="red"), "colour is unknown: Recipe has no field 'colour'"),
        (lambda recipe: recipe["stages"]["head"][0]["objective"].update(kind="ArcFase"), "did you mean 'ArcFace'"),
        (lambda recipe: recipe["model"].pop("name"), "model: .*missing 1 required positional argument: 'name'"),
        (lambda recipe: recipe["model"].update(mean=[0.5, 0.5]), "model.mean has 2 values, must have 3"),
        (lambda recipe: recipe.update(seed="one"), "seed is 'one'"),
        (lambda recipe: recipe.update(seed=None), "seed is null"),
        (lambda recipe: recipe.update(seed=[1]), "seed is a list"),
        (lambda recipe: recipe.update(seed={}), "seed is a dictionary"),
    ],
)
def test_recipe_of_another_version_is_told_in_one_line(tmp_path: Path, change, told: str):
    path = saved(tmp_path) / "recipe.json"
    values = json.loads(path.read_text())
    change(values["recipe"])
    path.write_text(json.dumps(values))
    with pytest.raises(ValueError, match=rf"recipe\.json is of another version of guie: .*{told}.*; open any door"):
        saved_run(path.parent)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"command": ""}', '{"recipe": {}, "arguments": 3}'])
def test_damaged_file_is_told_in_one_line(tmp_path: Path, text: str):
    path = saved(tmp_path) / "recipe.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"recipe.json is damaged \(.*\); open any door of that run again"):
        saved_run(path.parent)
    with pytest.raises(FileNotFoundError, match=r"is no run: it has no recipe\.json; name a folder such as"):
        saved_run(tmp_path)


def test_a_data_root_below_another_folder_is_the_same_from_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    arguments = parser(None).parse_args(["--data-root", "../shared/data", "--recipe", "tiny"])
    save_recipe(tmp_path / "out", load_recipe("tiny"), "", as_data(arguments))
    monkeypatch.chdir(tmp_path)
    assert saved_run(tmp_path / "out").data_root == tmp_path / "shared/data"
