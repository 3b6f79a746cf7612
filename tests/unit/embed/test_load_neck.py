"""The neck that doors 07 and 08 use is one linear layer wherever the trained one is: third_place's twenty branches are
one matrix in the file."""

from pathlib import Path

import pytest
import torch
from torch import nn

from guie.embed.ensemble import load_neck
from guie.files import save_weights
from guie.model.neck import Neck
from guie.recipe import load_recipe
from guie.run import Run


@pytest.mark.parametrize(
    ("name", "stage"),
    [("third_place", "s2_all"), ("fourth_place", "h_plain"), ("fifth_place", "s1_head"), ("sixth_place", "s1_all")],
)
def test_trained_neck_is_loaded_as_one_layer(name: str, stage: str, tmp_path: Path):
    torch.manual_seed(0)
    recipe = load_recipe(name)
    run = Run(recipe, tmp_path, tmp_path / "out")
    shape = recipe.stage(stage).neck
    trained, width = Neck(40, shape), 40 + 3 * shape.has_size
    for _ in range(10):
        trained.train()(torch.randn(64, width) + 2)
    save_weights(
        run.stage_folder(stage) / "final.safetensors",
        {f"neck.{key}": tensor for key, tensor in trained.state_dict().items()},
    )
    loaded, features = load_neck(run, stage), torch.randn(30, width)
    assert type(loaded) is nn.Linear and loaded.weight.shape == (shape.dim, width)
    torch.testing.assert_close(loaded(features), trained.eval()(features), rtol=1e-4, atol=1e-5)


def test_neck_with_a_hidden_layer_is_loaded_as_it_was_trained(tmp_path: Path):
    recipe = load_recipe("second_place", ["stages.s1_all.neck.hidden_dim=8", "stages.s2_head.neck.hidden_dim=8"])
    run = Run(recipe, tmp_path, tmp_path / "out")
    trained = Neck(40, recipe.stage("s2_head").neck).eval()
    save_weights(
        run.stage_folder("s2_head") / "final.safetensors",
        {f"neck.{key}": tensor for key, tensor in trained.state_dict().items()},
    )
    features = torch.randn(5, 40)
    assert torch.equal(load_neck(run, "s2_head")(features), trained(features))
