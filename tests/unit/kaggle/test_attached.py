"""What is found among the attached folders, and under which names it is linked."""

from pathlib import Path

import pytest
from kaggle_folders import fake_project

from guie.data.kaggle_copy import linked_folder
from guie.data.sources import products10k
from guie.kaggle import inputs
from guie.kaggle.choice import LARGE
from guie.kaggle.inputs import attached, data_folders, find_project, link_data
from guie.recipe import load_recipe
from guie.run import PROJECT


def test_data_sets_are_found_by_name_but_for_case_and_punctuation(tmp_path: Path) -> None:
    for name in ("products-10k", "datasets/someone/GLDv2"):
        (tmp_path / name / "train").mkdir(parents=True)
    found = data_folders(load_recipe(LARGE), tmp_path, {})
    assert found == {"gldv2": tmp_path / "datasets/someone/GLDv2", "products10k": tmp_path / "products-10k"}


def test_data_set_that_is_given_goes_before_one_that_is_found(tmp_path: Path) -> None:
    for name in ("products10k", "landmark-recognition-2021"):
        (tmp_path / name).mkdir()
    found = data_folders(load_recipe(LARGE), tmp_path, {"gldv2": str(tmp_path / "landmark-recognition-2021")})
    assert found == {"gldv2": tmp_path / "landmark-recognition-2021", "products10k": tmp_path / "products10k"}
    assert "gldv2" not in data_folders(load_recipe(LARGE), tmp_path, {"gldv2": str(tmp_path / "nowhere")})


@pytest.mark.parametrize(
    ("folder", "given"),
    [
        ("products-10k", {}),
        ("competitions/products-10k", {}),
        ("products10k", {}),
        ("mine", {"products10k": "mine"}),
        ("products-10k/unpacked", {}),
    ],
)
def test_copy_of_kaggle_is_unfolded_whatever_its_folder_is_called(
    tmp_path: Path, folder: str, given: dict[str, str]
) -> None:
    """Kaggle's name of Products-10K is the recipe's own, but for the hyphen; its images lie in train/train/."""
    top = tmp_path / folder
    (top / "train/train").mkdir(parents=True)
    (top / "train/train/0.jpg").write_text("an image")
    (top / "train.csv").write_text("name,class,group\n0.jpg,7,1\n")
    found = data_folders(load_recipe(LARGE), tmp_path, {name: str(tmp_path / path) for name, path in given.items()})
    assert (found["products10k"] / "train/0.jpg").read_text() == "an image"
    assert products10k.build(found["products10k"])["path"].tolist() == ["train/0.jpg"]
    assert linked_folder(found["products10k"]) == top


def test_folder_within_a_data_set_must_be_there(tmp_path: Path) -> None:
    recipe = load_recipe("minibench")
    nested = next(source.folder for source in recipe.data.sources if "/" in source.folder)
    (tmp_path / nested.split("/")[0]).mkdir()
    assert nested.split("/")[0] not in data_folders(recipe, tmp_path, {})
    (tmp_path / nested).mkdir(parents=True)
    assert data_folders(recipe, tmp_path, {})[nested.split("/")[0]] == tmp_path / nested.split("/")[0]


def test_links_show_data_sets_and_weights_under_the_recipes_names(tmp_path: Path) -> None:
    (tmp_path / "in/Landmarks").mkdir(parents=True)
    (tmp_path / "in/Landmarks/train.csv").write_text("id")
    (tmp_path / "in/w.safetensors").write_text("weights")
    root = link_data({"gldv2": tmp_path / "in/Landmarks"}, [tmp_path / "in/w.safetensors"])
    assert (root / "gldv2/train.csv").read_text() == "id" and (root / "w.safetensors").read_text() == "weights"


def test_search_looks_three_folders_deep_and_no_deeper(tmp_path: Path) -> None:
    for place in ("a", "datasets/me/b", "x/y/z/too_deep"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "mark").touch()
    assert attached(tmp_path, "mark") == [tmp_path / "a/mark", tmp_path / "datasets/me/b/mark"]
    assert attached(tmp_path / "absent", "mark") == []


def test_doors_come_from_the_kit_else_from_the_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_project(tmp_path) == PROJECT
    kit = fake_project(tmp_path / "guie-kit/project")
    assert find_project(tmp_path) == kit
    monkeypatch.setattr(inputs, "PROJECT", tmp_path / "site-packages")
    with pytest.raises(FileNotFoundError, match=r"build_kit\.py"):
        find_project(tmp_path / "guie-kit")
