"""The first cell of the notebooks: what a person sets there reaches the session. The cells themselves run here."""

import os
from pathlib import Path
from typing import Any

import nbformat
import pytest

from guie.kaggle import session as session_module
from guie.kaggle import weights as weights_module
from guie.run import PROJECT


def run_cells(name: str, place: Path, **settings: Any) -> dict[str, Any]:
    """Runs a notebook's first cell, with these settings in place of its own, and the one that begins the session."""
    cells = [cell.source for cell in nbformat.read(PROJECT / f"notebooks/{name}.ipynb", as_version=4).cells]
    (first,) = (text for text in cells if "INPUT = Path(" in text)
    (begins,) = (text for text in cells if "session = begin(" in text)
    os.environ |= {"GUIE_INPUT": str(place / "input"), "GUIE_WORKING": str(place / "working")}
    variables: dict[str, Any] = {}
    exec(first, variables)
    assert settings.keys() <= variables.keys(), f"the first cell of {name} lacks {settings.keys() - variables.keys()}"
    exec(begins.partition("open_doors(session")[0], variables | settings)
    return variables


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two cards, one of the large recipe's data sets attached, no network."""
    monkeypatch.setattr(session_module, "cards", lambda: (14.6, 14.6))
    monkeypatch.setattr(weights_module, "is_online", lambda: False)
    for name in ("GUIE_INPUT", "GUIE_WORKING"):
        monkeypatch.setenv(name, "")
    (tmp_path / "input/products-10k/train").mkdir(parents=True)
    (tmp_path / "input/products-10k/train.csv").touch()
    return tmp_path


def test_data_set_that_is_not_attached_is_told_unless_sets_leave_it_out(place: Path) -> None:
    with pytest.raises(FileNotFoundError, match="kaggle_t4 fits the cards, but gldv2 is not attached"):
        run_cells("reproduce_on_kaggle", place)
    with pytest.raises(FileNotFoundError, match=r"kaggle_t4 needs weights of open_clip's ViT-H-14 .* below .*/input;"):
        run_cells("reproduce_on_kaggle", place, SETS=["products10k"])


def test_weights_are_looked_for_where_the_cell_says(place: Path) -> None:
    (place / "input/mine").mkdir()
    with pytest.raises(FileNotFoundError, match=r"there is no file of weights below .*/input/mine; attach"):
        run_cells("reproduce_on_kaggle", place, SETS=["products10k"], WEIGHTS=[str(place / "input/mine")])


def test_run_has_the_name_that_the_cell_says(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_cells("reproduce_on_kaggle", place, RECIPE="tiny", NAME="second")
    assert f"results    {place}/working/artifacts/second\n" in capsys.readouterr().out
    with pytest.raises(FileNotFoundError, match="no run of second with door 07 done"):
        run_cells("submit", place, RECIPE="tiny", NAME="second")


def test_submit_takes_the_same_two(place: Path) -> None:
    with pytest.raises(ValueError, match="SETS names 'nothing', which kaggle_t4 does not read"):
        run_cells("submit", place, SETS=["nothing"], WEIGHTS=None, RECIPE="kaggle_t4")
