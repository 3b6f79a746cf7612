"""Which recipe a session takes: by cards, attached data and weights."""

import shutil
from pathlib import Path

import pytest

from guie.kaggle.choice import cards, choose_recipe
from guie.recipe import load_recipe

T4 = 14.6
SETS = {"gldv2": Path("/data/gldv2"), "products10k": Path("/data/products10k")}


@pytest.mark.parametrize(
    ("card_gb", "folders", "can_have_weights", "name", "why"),
    [
        ((), SETS, True, "demo", "no GPU"),
        ((T4, T4), SETS, True, "kaggle_t4", "2 cards of 14.6 GB"),
        ((79.2,), SETS, True, "kaggle_t4", "1 card of 79.2 GB"),
        ((T4, 8.0), SETS, True, "demo", "smallest has 8.0"),
        ((T4, T4), {"gldv2": Path("/data/gldv2")}, True, "demo", "products10k is not attached"),
        ((T4, T4), {}, True, "demo", "gldv2, products10k is not attached"),
        ((T4, T4), SETS, False, "demo", "backbone"),
    ],
)
def test_recipe_is_the_large_one_only_with_cards_data_and_weights(
    card_gb: tuple[float, ...], folders: dict[str, Path], can_have_weights: bool, name: str, why: str
) -> None:
    chosen, reason = choose_recipe(card_gb, folders, can_have_weights)
    assert chosen == name and why in reason
    load_recipe(chosen)


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
