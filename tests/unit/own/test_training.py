from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from guie.cli.main import main
from guie.own.linked import ALL, Origin, link_photos
from guie.own.photos import Photos
from guie.own.recipes import Wish
from guie.own.training import check_enough, train
from guie.run import FOLDERS


def photos(root: Path, counts: dict[str, int]) -> Photos:
    rows = [(f"{label}/{i}.jpg", label) for label, n in counts.items() for i in range(n)]
    table = pd.DataFrame(rows, columns=["path", "label"]).sort_values("path", ignore_index=True)
    return Photos(root, table, pd.DataFrame(columns=["path", "reason"]), "folders")


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ({"": 500}, "no photo in .* has a label"),
        ({"a": 100, "b": 27}, "127 labelled photos of 2 classes"),
        ({"a": 500}, "500 labelled photos of 1 classes"),
        ({str(i): 3 for i in range(100)}, "0 of them with four photos"),
    ],
)
def test_too_little_to_train_on_is_told_with_what_needs_no_training(tmp_path: Path, counts: dict[str, int], said: str):
    with pytest.raises(ValueError, match=said) as error:
        train(photos(tmp_path, counts), Wish("mine"), tmp_path / "out", origin=Origin(tmp_path / "my list.csv"))
    assert f"guie search '{tmp_path}/my list.csv'" in str(error.value)
    assert not (tmp_path / "out").exists()


def test_just_enough(tmp_path: Path):
    check_enough(photos(tmp_path, {"a": 127, "b": 1}), tmp_path)


def test_photos_stay_where_they_are_and_the_list_names_the_labelled_ones(tmp_path: Path):
    root, run = tmp_path / "mine", tmp_path / "out/mine"
    root.mkdir()
    link_photos(photos(root, {"a": 2, "": 1, 'b, "c"': 1}), run, Origin(root))
    table = pd.read_csv(run / "photos/images.csv")
    assert table.to_dict("list") == {
        "path": ['all/a/0.jpg', 'all/a/1.jpg', 'all/b, "c"/0.jpg'],
        "label": ["a", "a", 'b, "c"'],
    }  # fmt: skip
    assert (run / "photos" / ALL).resolve() == root
    written = (run / "photos/images.csv").stat().st_mtime_ns
    link_photos(photos(root, {"a": 2, "": 1, 'b, "c"': 1}), run, Origin(root))
    assert (run / "photos/images.csv").stat().st_mtime_ns == written  # so that door 01 has nothing to do


def test_run_of_another_folder_is_not_replaced(tmp_path: Path):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    link_photos(photos(tmp_path / "one", {"a": 100, "b": 100}), tmp_path / "out/mine", Origin(tmp_path / "one"))
    with pytest.raises(ValueError, match=r"is of .*one; give this one another --name"):
        train(photos(tmp_path / "two", {"a": 100, "b": 100}), Wish("mine"), tmp_path / "out")


def test_missing_folder_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["train", str(tmp_path / "none")]) == 2
    assert "none does not exist" in capsys.readouterr().err


@pytest.mark.full
def test_photos_become_a_model_and_a_second_start_has_nothing_to_do(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    """From folders to an export and again; then other settings under the same name are refused, and `guie report`
    needs no options."""
    draw_photos(tmp_path / "mine", n_classes=16, n_photos=9)
    words = ["train", str(tmp_path / "mine"), "--px", "32", "--out", str(tmp_path / "out"), "--device", "cpu"]
    assert main(words) == 0
    first = capfd.readouterr().out
    assert "on 16 classes whose other photos it was trained on" in first
    run = tmp_path / "out/mine"
    assert torch.jit.load(run / "08_export/saved_model.pt")(torch.zeros(1, 3, 40, 50, dtype=torch.uint8)).shape == (
        1,
        64,
    )
    written = (run / FOLDERS[8] / "saved_model.pt").stat().st_mtime_ns
    assert main(words) == 0
    assert (run / FOLDERS[8] / "saved_model.pt").stat().st_mtime_ns == written
    assert main([*words[:2], "--px", "48", *words[4:]]) == 2
    told = capfd.readouterr().err
    assert (
        "other settings, 04_head: stages.s1_head.image_px 32, not 48; give this one another --name, or --force" in told
    )
    (run / FOLDERS[9] / "index.html").unlink()
    assert main(["report", str(run)]) == 0
    assert (run / FOLDERS[9] / "index.html").is_file()


def draw_photos(folder: Path, n_classes: int, n_photos: int) -> None:
    """Photos of noise; those of a class share their colour."""
    rng = np.random.default_rng(0)
    for label in range(n_classes):
        (folder / f"class {label}").mkdir(parents=True)
        colour = rng.integers(0, 200, 3)
        for number in range(n_photos):
            pixels = colour + rng.integers(0, 56, (50, 40, 3))
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"class {label}/{number}.png")


@pytest.mark.parametrize("words", [("train", "none"), ("look", "none"), ("foreign", "tiny")])
@pytest.mark.parametrize(("device", "said"), [("gpu", "'gpu' is no device"), ("cuda:99", "cuda:99: ")])
def test_device_that_is_not_there_is_told_before_any_image_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, str], device: str, said: str
):
    assert main([*words, "--out", str(tmp_path / "out"), "--device", device]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: --device {said}") and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--px", "0"), "--px is 0, must be 8 to 4096"),
        (("--px", "5000"), "--px is 5000, must be 8 to 4096"),
        (("--seed", "-1"), "--seed is -1, must be 0 to 2147483647"),
        (("--name", ""), "--name is '', must be of letters, digits, _ and - only"),
        (("--name", ".."), "--name is '..', must be of letters"),
        (("--name", "a/b"), "--name is 'a/b', must be of letters"),
        (("--out", "a\nb"), "holds bytes that are not UTF-8, or a control character"),
    ],
)
def test_value_out_of_range_is_told_by_its_option_before_the_photos_are_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, str], said: str
):
    assert main(["train", str(tmp_path / "none"), *words]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


@pytest.mark.parametrize("words", [("train", ""), ("look", ""), ("search", ""), ("train", "x", "--out", "")])
def test_empty_path_is_not_the_current_folder(capsys: pytest.CaptureFixture[str], words: tuple[str, ...]):
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 2
    assert capsys.readouterr().err.endswith(": is empty, as an unset variable is; . is the current folder\n")


def test_tracker_that_is_not_installed_is_told_before_the_photos_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["train", str(tmp_path / "no folder"), "--tracker", "mlflow"]) == 2
    assert capsys.readouterr().err == "error: --tracker mlflow needs the package mlflow; run: pip install mlflow\n"
