"""The image's size beside its feature: in training, in door 07 and in the export, against the formula."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from guie.embed.ensemble import Tower
from guie.embed.sizes import sized, sizes_of, split_sizes
from guie.export.torchscript import build_submission
from guie.model.neck import Neck as NeckModule
from guie.model.neck import size_inputs
from guie.recipe import Neck, load_recipe

PACK_PX = 100


def sized_neck(dropouts: tuple[float, ...] = (0.1,), is_branched: bool = False) -> NeckModule:
    """A neck whose batch norm has seen features and sizes."""
    torch.manual_seed(3)
    neck = NeckModule(20, Neck(dropouts=dropouts, is_branched=is_branched, has_norm=True, has_size=True))
    for _ in range(30):
        neck(torch.randn(64, 23) * 2 + 1)
    return neck.eval()


def test_sizes_are_those_of_the_write_up():
    got = size_inputs(torch.tensor([224.0, 100.0]), torch.tensor([448.0, 50.0]))
    np.testing.assert_allclose(got.numpy(), [[0.5, 1.0, 2.0], [2.0, 100 / 224, 50 / 224]], rtol=1e-6)


def test_features_gain_three_columns_only_where_the_neck_takes_them():
    packed = SimpleNamespace(index=pd.DataFrame({"width": [10, 20, 30], "height": [5, 40, 30]}))
    features, rows = np.ones((2, 4), np.float32), np.array([2, 1])
    assert sized(features, packed, rows, Neck()) is features  # type: ignore[arg-type]
    got = sized(features, packed, rows, Neck(has_size=True))  # type: ignore[arg-type]
    assert got.dtype == np.float32 and got.shape == (2, 7)
    np.testing.assert_array_equal(got[:, 4:], sizes_of(packed, rows))  # type: ignore[arg-type]
    np.testing.assert_allclose(got[:, 4], [1.0, 2.0])


@pytest.mark.parametrize(("dropouts", "is_branched"), [((0.1,), False), ((0.1, 0.2), True)])
def test_a_linear_neck_is_its_part_without_sizes_and_a_matrix(dropouts: tuple[float, ...], is_branched: bool):
    neck = sized_neck(dropouts, is_branched)
    features, sizes = torch.randn(9, 20), torch.rand(9, 3) * 3
    with torch.no_grad():
        whole = neck(torch.cat([features, sizes], dim=1))
        of_feature, of_sizes = split_sizes(neck.folded())
        assert of_feature.weight.shape == (64, 20) and of_sizes.shape == (64, 3)
        torch.testing.assert_close(of_feature(features) + sizes @ of_sizes.T, whole, rtol=1e-4, atol=1e-5)


def packed_size(height: int, width: int) -> tuple[int, int]:
    """As door 03 makes images small."""
    scale = PACK_PX / min(height, width)
    return (height, width) if scale >= 1 else (max(1, round(height * scale)), max(1, round(width * scale)))


@pytest.mark.parametrize("size", [(1, 1), (40, 90), (100, 250), (333, 120), (1000, 400)])
def test_export_works_the_size_out_from_the_image(size: tuple[int, int]):
    torch.manual_seed(4)
    backbone, neck = nn.Sequential(nn.Flatten(), nn.Linear(768, 20)).eval(), sized_neck()
    of_feature, of_sizes = split_sizes(neck.folded())
    tower = Tower(nn.Sequential(backbone, of_feature).eval(), 16, ("plain",), 1.0, of_sizes)
    module = build_submission([tower], (0.0,) * 3, (1.0,) * 3, pack_px=PACK_PX)
    image = torch.full((1, 3, *size), 77, dtype=torch.uint8)  # every size of it is the same square
    with torch.no_grad():
        got = module(image)
        height, width = packed_size(*size)
        sizes: Tensor = torch.tensor([[height / width, height / 224, width / 224]])
        expected = neck(torch.cat([backbone(torch.full((1, 3, 16, 16), 77 / 255)), sizes], dim=1))
    torch.testing.assert_close(got, nn.functional.normalize(expected), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("stages.s1_head.neck.hidden_dim=8", "has_size excludes hidden_dim, which is 8"),
        ("data.pack_square=true", "has_size needs data.pack_square off"),
        ("stages.s1_head.trains=all", "has_size needs a frozen backbone"),
    ],
)
def test_recipe_refuses_sizes_where_they_cannot_be(change: str, says: str):
    with pytest.raises(ValueError, match=f"^stages.s1_head.neck.{says}"):
        load_recipe("fifth_place", [change])
