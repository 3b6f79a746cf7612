"""submit.ipynb after a run that began with a file of weights, which is not attached any more: doors 08 and 09."""

from pathlib import Path

import pytest
import timm
import torch
from doors_here import open_here
from safetensors.torch import save_file

from guie.kaggle import begin
from guie.kaggle import session as session_module
from guie.kaggle import weights as weights_module
from guie.kaggle.session import command
from guie.run import FOLDERS

RECIPE = """
from dataclasses import replace
from guie.recipe import DrawnWorld, Embed, Export, Member, Model, Setting, Stages
from guie.recipes.tiny import RECIPE as TINY
HEAD = TINY.stages.head[0]
HEAD = replace(HEAD, name="s1_head", image_px=32, optim=replace(HEAD.optim, n_epochs=1))
BARE, TRAINED = Member("pretrained", 32, output="feature"), Member("s1_head", 32)
RECIPE = replace(
    TINY,
    name="mine",
    data=replace(TINY.data, drawn=DrawnWorld(10, 6, 64)),
    model=Model("timm", "test_resnet", "w.safetensors", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
    stages=Stages(head=(HEAD,)),
    embed=Embed((Setting("off the shelf", (BARE,)), Setting("head", (TRAINED,)))),
    export=Export(n_parity_images=4),
)
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is attached after doors 01 to 07, and the recipe's file; the file of weights is gone."""
    place = tmp_path_factory.mktemp("kaggle")
    (place / "mine.py").write_text(RECIPE)
    torch.manual_seed(3)
    (place / "data").mkdir()
    save_file(timm.create_model("test_resnet").state_dict(), place / "data/w.safetensors")
    options = ["--recipe", str(place / "mine.py"), "--out", str(place / "input/v1/artifacts")]
    for number in range(1, 8):
        assert open_here(number, [*options, *(["--data-root", str(place / "data")] if number > 3 else [])]) == 0
    (place / "data/w.safetensors").unlink()
    return place


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "cards", lambda: ())
    monkeypatch.setattr(weights_module, "is_online", lambda: False)


def test_trained_run_is_exported_without_the_weights_that_it_began_with(trained: Path, tmp_path: Path) -> None:
    session = begin(trained / "input", tmp_path, only_export=True)
    assert open_here(8, [*command(session, 8)[2:]]) == 0
    assert (session.run / FOLDERS[8] / "submission.zip").is_file()
    run = trained / "input/v1/artifacts/mine"
    assert not (run / FOLDERS[8]).exists()
    with pytest.raises(FileNotFoundError, match=r"mine needs weights of timm's test_resnet \(w.safetensors\)"):
        begin(trained / "input", tmp_path / "again")
    assert not (tmp_path / "again/artifacts/mine").exists(), "nothing is copied before all is known to be there"


def test_door_07_itself_needs_them(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--recipe", str(trained / "mine.py"), "--out", str(trained / "input/v1/artifacts")]
    assert open_here(7, [*words, "--data-root", str(trained / "data")]) == 2
    assert "weights w.safetensors are in none of" in capsys.readouterr().err


def test_export_of_pretrained_weights_themselves_needs_them_before_the_door(trained: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.py"
    other.write_text(RECIPE.replace('Setting("head", (TRAINED,))', 'Setting("both", (TRAINED, BARE), 64)'))
    with pytest.raises(FileNotFoundError, match=r"mine needs weights of timm's test_resnet"):
        begin(trained / "input", tmp_path / "working", str(other), only_export=True)
