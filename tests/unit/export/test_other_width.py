"""An export of another width than the contest's: every format has it, the card names it, the contest's check refuses
it."""

import importlib.util
import json
import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from changing import changed
from PIL import Image
from small_run import PX, make_small_run, picture, small_recipe

from guie.cli.main import main
from guie.export import submission
from guie.export.hub import HubFolder
from guie.export.submission import load_script
from guie.recipe import Member, Setting
from guie.run import PROJECT, Run

DIM = 20  # no multiple of 8: without binary codes


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    final = Setting("PCA-20", (Member("s1_head", PX, ("plain", "flip")),), DIM)
    small = small_recipe()
    recipe = changed(small, embed__settings=(small.embed.settings[0], final), embed__dim=DIM).validate()
    return make_small_run(tmp_path_factory.mktemp("runs") / "small", recipe=recipe)


def test_file_is_door_07s_and_says_its_width(run: Run) -> None:
    card = json.loads((run.folder(8) / "card.json").read_text())
    assert card["contract"]["output"] == "float32 [1, 20], L2-normalised" and card["scores"]["dim"] == DIM
    stored = np.load(run.folder(8) / "parity/expected.npz")
    module = load_script(run.folder(8) / "saved_model.pt")
    for name, embedding in zip(stored["names"], stored["embeddings"], strict=True):
        pixels = np.asarray(Image.open(run.folder(8) / "parity" / name))
        with torch.no_grad():
            got = module(torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None])[0].numpy()
        assert got.shape == (DIM,)
        np.testing.assert_allclose(got, embedding, atol=1e-4)
    table = pd.read_csv(run.folder(7) / "dimensions.csv")
    assert table["dim"].tolist() == [*[16] * 4, *[20] * 2, *[32] * 4, *[64] * 4]  # 20 bits are no bytes


def test_contests_check_refuses_it(run: Run) -> None:
    place = importlib.util.spec_from_file_location("check_submission", PROJECT / "submission/check_submission.py")
    assert place is not None and place.loader is not None
    checker = importlib.util.module_from_spec(place)
    place.loader.exec_module(checker)
    module = checker.load(run.folder(8) / "saved_model.pt")
    with pytest.raises(checker.BreachError, match=r"returns shape \[1, 20\](.|\n)*contest takes 64 numbers alone"):
        checker.embed(module, Image.fromarray(picture(1, 1)), "an image")


def test_other_formats_and_a_refit_have_its_width(run: Run, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    for class_id in range(50, 75):
        (photos / str(class_id)).mkdir(parents=True)
        for number in range(2):
            Image.fromarray(picture(class_id, number)).save(photos / f"{class_id}/{number}.png")
    words = ["export", str(run.out), "--to", str(tmp_path / "to"), "--photos", str(photos)]
    assert main([*words, "--formats", "hub,embeddings"]) == 0
    batch = np.ascontiguousarray(picture(50, 0).transpose(2, 0, 1)[None])
    expected = load_script(run.folder(8) / "saved_model.pt")(torch.from_numpy(batch)).detach().numpy()
    np.testing.assert_allclose(HubFolder(tmp_path / "to/hub")(batch), expected, atol=1e-4)
    assert json.loads((tmp_path / "to/hub/config.json").read_text())["dim"] == DIM
    card = (tmp_path / "to/hub/README.md").read_text()
    assert "image embeddings of 20 numbers" in card and "* PCA to 20 numbers, fitted on training images" in card
    assert "| binary |" not in card and "| int8 | 20 |" in card
    table = pd.read_parquet(tmp_path / "to/embeddings.parquet")
    assert list(table.columns) == ["id", "path", "label", "embedding", "int8"] and len(table["int8"].iloc[0]) == DIM
    assert "binary" not in json.loads((tmp_path / "to/embeddings.json").read_text())
    assert main(["refit", str(run.out), str(photos), "--to", str(tmp_path / "refit"), "--anyway"]) == 0
    again = load_script(tmp_path / "refit/saved_model.pt")(torch.from_numpy(batch)).detach().numpy()
    assert again.shape == (1, DIM) and np.abs(again - expected).max() > 1e-3
    assert main(["export", str(tmp_path / "refit"), "--to", str(tmp_path / "two"), "--formats", "torchscript"]) == 0


def test_it_does_not_replace_the_submission(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(submission, "PROJECT", run.out.parent.parent)
    (tmp_path / "submission.zip").write_bytes(b"zip")
    logging.getLogger("guie").propagate = True
    inside = Run(run.recipe, run.data_root, run.out.parent.parent / "artifacts/small")
    submission._copy_to_hand_in(inside, tmp_path / "submission.zip")
    assert "the embeddings have 20 dimensions, but the contest takes only 64" in caplog.text
    assert not (run.out.parent.parent / "submission").exists()
    usual = Run(small_recipe(), run.data_root, inside.out)
    submission._copy_to_hand_in(usual, tmp_path / "submission.zip")
    assert (run.out.parent.parent / "submission/small/submission.zip").read_bytes() == b"zip"
