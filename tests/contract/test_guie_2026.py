"""The arithmetic in guie_2026's docstring, derived again: parameters and products are counted on torch's meta device,
the rest by hand."""

import importlib
import re

import pytest
import timm
import torch
from torch.utils.flop_counter import FlopCounterMode

from guie.own.towers import tower
from guie.recipe import Recipe, load_recipe

T4_FP16, T4_FP32 = 25.0, 8.1  # TFLOP/s: sustained, as in kaggle_t4; the peak that NVIDIA states
N_IMAGES, N_CLASSES, N_SCORED, SECONDS = 328_000, 35_000, 205_000, 9 * 3600


@pytest.fixture(scope="module")
def doc() -> str:
    return " ".join((importlib.import_module("guie.recipes.guie_2026").__doc__ or "").split())


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return load_recipe("guie_2026")


@pytest.fixture(scope="module")
def towers(recipe: Recipe) -> list[torch.nn.Module]:
    with torch.device("meta"):
        return [timm.create_model(model.name, num_classes=0).eval().requires_grad_(False) for model in recipe.models]


def tera(network: torch.nn.Module, px: int) -> float:
    """10**12 additions and multiplications for an image."""
    network.set_input_size(img_size=px)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, px, px, device="meta"))
    return counter.get_total_flops() / 1e12


def told(doc: str, *patterns: str) -> None:
    for pattern in patterns:
        assert re.search(pattern, doc), pattern


def test_both_towers_are_free_and_one_of_each_kind(recipe: Recipe):
    assert [tower(f"timm:{model.name}.{model.weights_tag}").licence for model in recipe.models] == ["apache-2.0"] * 2
    assert recipe.model_of("s3_both") == recipe.model and recipe.model.each == recipe.models
    assert [recipe.model_of(name).each for name in ("s1_language", "s2_self_supervised")] == [
        (model,) for model in recipe.models
    ]


def test_time_of_the_features_and_of_the_scorer(doc: str, towers: list[torch.nn.Module]):
    first, second = (tera(network, 224) for network in towers)
    whole = first + second
    told(doc, rf"{first:.3f} \+ {second:.3f} = {whole:.3f} TFLOP")
    work = whole * N_IMAGES * 2
    assert abs(work - 252_600) < 150
    told(doc, "252,600 TFLOP", rf"{work / (2 * T4_FP16) / 60:.0f} minutes on two")
    share = whole * N_SCORED / SECONDS / T4_FP32
    told(doc, rf"{whole * N_SCORED / SECONDS:.1f} TFLOP/s, {share:.0%}".replace("%", " %"))
    told(doc, rf"need {2 * share:.0%};".replace("%", " %"))
    large = sum(tera(network, 378) for network in towers)
    told(doc, rf"378 px \({large:.3f} TFLOP\) would need {large * N_SCORED / SECONDS / T4_FP32:.0%}".replace("%", " %"))


def test_memory_and_disk(doc: str, recipe: Recipe, towers: list[torch.nn.Module]):
    first, second = (sum(p.numel() for p in network.parameters()) for network in towers)
    told(doc, rf"{first / 1e6:.0f} M parameters", rf"{second / 1e6:.0f} M\)")
    told(doc, rf"4 \* {(first + second) / 1e6:.0f} M bytes = {4 * (first + second) / 1e9:.1f} GB")
    hidden = towers[0].blocks[0].mlp.fc1.out_features  # type: ignore[index, union-attr]
    n_tokens = towers[0].set_input_size(img_size=224) or towers[0].patch_embed.num_patches  # type: ignore[operator]
    assert towers[0].num_prefix_tokens == 0  # no class token
    told(doc, rf"{recipe.embed.batch_size} images of {n_tokens} tokens", rf"{hidden:,} numbers")
    told(doc, rf"is {recipe.embed.batch_size * n_tokens * hidden * 2 / 1e6:.0f} MB")
    width, dim = sum(network.num_features for network in towers), recipe.stage("s3_both").neck.dim  # type: ignore[misc]
    told(doc, rf"{width:,} numbers become {dim}", rf"= {16 * (width + N_CLASSES) * dim / 1e6:.0f} MB")
    told(doc, rf"= {N_IMAGES * width * 2 * 2 / 1e9:.1f} GB; the")
    told(doc, rf"in fp16 {2 * (first + second) / 1e9:.1f} GB")
    product = 6 * recipe.stage("s3_both").optim.batch_size * N_CLASSES * dim / 1e9
    n_steps = N_IMAGES / recipe.stage("s3_both").optim.batch_size * recipe.stage("s3_both").optim.n_epochs
    told(doc, rf"= {product:.1f} GFLOP", rf"{round(n_steps, -2):,.0f} steps, or {n_steps * product / 4000:.0f} s")
