"""Which recipe a session takes: by cards, attached data and weights."""

import shutil
from pathlib import Path

import pytest

from guie.kaggle.choice import cards, choose_recipe
from guie.kaggle.inputs import sets_of_sources
from guie.recipe import load_recipe

T4 = 14.6
SETS = {"gldv2": Path("/data/gldv2"), "products10k": Path("/data/products10k")}


@pytest.mark.parametrize(
    ("card_gb", "folders", "name", "why"),
    [
        ((), SETS, "demo", "there is no GPU, which kaggle_t4 needs"),
        ((T4, T4), SETS, "kaggle_t4", "2 cards of 14.6 GB"),
        ((79.2,), SETS, "kaggle_t4", "1 card of 79.2 GB"),
        ((T4, 8.0), SETS, "demo", "smallest has 8.0"),
        ((T4, T4), {}, "demo", "gldv2, products10k are not attached"),
    ],
)
def test_recipe_is_the_large_one_only_with_cards_and_data(
    card_gb: tuple[float, ...], folders: dict[str, Path], name: str, why: str
) -> None:
    chosen, reason = choose_recipe(card_gb, folders)
    assert chosen == name and why in reason
    load_recipe(chosen)


def test_small_recipe_is_not_taken_where_a_data_set_of_the_large_one_is_attached() -> None:
    only = {"gldv2": SETS["gldv2"]}
    with pytest.raises(FileNotFoundError, match=r"products10k is not attached; attach it, .*SETS .*RECIPE = 'demo'"):
        choose_recipe((T4, T4), only)
    chosen, _ = choose_recipe((T4, T4), only, sets_of_sources(load_recipe("kaggle_t4"), ["gldv2"]), "SETS")
    assert chosen == "kaggle_t4"


@pytest.mark.parametrize("asked", ["SETS", "WEIGHTS"])
def test_small_recipe_is_not_taken_where_the_first_cell_asks_for_the_large_one(asked: str) -> None:
    with pytest.raises(ValueError, match=f"^{asked} is set, but there is no GPU, which kaggle_t4 needs; switch on"):
        choose_recipe((), SETS, asked=asked)
    with pytest.raises(ValueError, match=f"{asked} is set, but .*the smallest has 8.0"):
        choose_recipe((8.0,), SETS, asked=asked)
    with pytest.raises(FileNotFoundError, match="gldv2, products10k are not attached; attach them"):
        choose_recipe((T4,), {}, asked=asked)


def test_cards_are_those_that_torch_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    # A driver seems to be there, so torch is asked on every machine.
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    found = cards()
    assert len(found) == torch.cuda.device_count() and all(0.5 < gb < 1000 for gb in found)


def test_machine_without_a_driver_has_no_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr("subprocess.run", lambda *words, **more: pytest.fail("torch was asked"))
    assert cards() == ()
