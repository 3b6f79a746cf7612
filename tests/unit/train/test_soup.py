"""Soups: the mean by hand, what is refused, and what a greedy one takes in."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from guie.embed.features import FeatureStore
from guie.recipe import Soup, load_recipe
from guie.run import Run
from guie.train import soup
from guie.train.model import Model
from guie.train.soup import averaged


def test_mean_by_hand_keeps_types_and_the_first_counter():
    a = {"w": torch.tensor([1.0, 2.0]), "h": torch.tensor([1.0], dtype=torch.float16), "n": torch.tensor(3)}
    b = {"w": torch.tensor([4.0, 2.0]), "h": torch.tensor([2.0], dtype=torch.float16), "n": torch.tensor(9)}
    c = {"w": torch.tensor([4.0, 5.0]), "h": torch.tensor([6.0], dtype=torch.float16), "n": torch.tensor(1)}
    mean = averaged([a, b, c])
    assert mean["w"].tolist() == [3.0, 3.0] and mean["h"].tolist() == [3.0] and mean["n"] == 3
    assert {name: t.dtype for name, t in mean.items()} == {name: t.dtype for name, t in a.items()}
    assert torch.equal(averaged([a])["w"], a["w"])


@pytest.mark.parametrize(
    ("other", "complaint"),
    [
        ({"w": torch.zeros(3)}, r"alike models; w is \[2\] in one and \[3\] in another"),
        ({"w": torch.zeros(2), "v": torch.zeros(1)}, "alike models; only one has v"),
        ({}, "alike models; only one has w"),
    ],
)
def test_unequal_models_are_refused(other: dict[str, torch.Tensor], complaint: str):
    with pytest.raises(ValueError, match=complaint):
        averaged([{"w": torch.zeros(2)}, other])


# Process 0 may score otherwise than this one, and all must take the same: with one score for all it takes in every row.
@pytest.mark.parametrize(("is_greedy", "of_0", "expected"), [(False, None, 0.8), (True, None, 2.0), (True, 0.5, 0.8)])
def test_greedy_soup_takes_in_what_does_not_lower_the_score(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, is_greedy: bool, of_0: float | None, expected: float
):
    """Weights 3, 1, -1.6 and nearness to 2: the best alone is 1 (it scores .7), with 3 it is 2, with the third .8."""
    weights = {"a": 3.0, "b": 1.0, "c": -1.6}
    known = {"a": 0.6, "b": 0.7, "c": 0.1}

    class FakeModel:
        value = 0.0

        def state_dict(self) -> dict[str, torch.Tensor]:
            return {"memory of the objective": torch.zeros(2)}

        def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
            self.value = float(state["w"])

    def scores(run: Run, stage: Any, model: FakeModel, *others: Any, **words: Any) -> dict[str, float]:
        return {"mp5": 1 - abs(model.value - 2.0) / 4}

    monkeypatch.setattr(soup, "stage_weights", lambda run, name: {"w": torch.tensor(weights[name])})
    monkeypatch.setattr(soup, "read_done", lambda folder: {"metrics": {"mp5": known[folder.name]}})
    monkeypatch.setattr(soup, "validated", scores)
    if of_0 is not None:
        monkeypatch.setattr(soup, "of_process_0", lambda value, accelerator: of_0)
    fields = {"recipe": load_recipe("fourth_place"), "stage_folder": lambda self, name: tmp_path / name}
    run = cast(Run, type("FakeRun", (), fields)())
    store = cast(FeatureStore, SimpleNamespace(accelerator=SimpleNamespace(num_processes=1)))
    model, row = FakeModel(), Soup("soup_h", of=("a", "b", "c"), is_greedy=is_greedy)
    soup.average_weights(run, row, cast(Model, model), store)
    assert model.value == pytest.approx(expected)


def test_stages_know_their_backbone():
    recipe = load_recipe("fourth_place")
    assert [recipe.model_of(name).name for name in ("pretrained", "h_plain", "l_cutout", "soup_h", "soup_l")] == [
        "ViT-H-14", "ViT-H-14", "ViT-L-14-336-quickgelu", "ViT-H-14", "ViT-L-14-336-quickgelu",
    ]  # fmt: skip
    assert [model.name for model in recipe.models] == ["ViT-H-14", "ViT-L-14-336-quickgelu"]
    assert load_recipe("minibench").model_of("s7_head_288") is load_recipe("minibench").model
