"""Mean and std of the pixels: the library's, read off its own configuration by hand here, and no others without a
word."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from guie.embed.extract import FeatureRequest
from guie.model.normalisation import log_normalisation, mean_std
from guie.recipe import HEAD, Model, Optim, Stage, Start, load_recipe
from guie.recipes._shrunk import shrunk
from guie.run import PROJECT

HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
RAW = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
SAT = ((0.43, 0.411, 0.296), (0.213, 0.156, 0.143))


@pytest.mark.parametrize(
    ("library", "name", "weights", "expected"),
    [
        ("timm", "vit_small_patch16_dinov3", "pretrained:lvd1689m", IMAGENET),
        ("timm", "vit_large_patch16_dinov3", "pretrained:sat493m", SAT),
        ("timm", "vit_base_patch16_224", "pretrained:augreg_in21k", HALF),
        ("timm", "vit_base_patch16_224", "pretrained:dino", IMAGENET),
        ("timm", "vit_base_patch16_224.dino", "", IMAGENET),
        ("timm", "vit_huge_patch14_clip_224", "pretrained:laion2b", CLIP),
        ("timm", "vit_base_patch14_reg1_tipsv2", "pretrained:webli", RAW),
        ("timm", "fastvit_mci0", "pretrained:apple_mclip2_dfndr2b", RAW),
        ("timm", "vit_so400m_patch14_siglip_384", "pretrained:webli", HALF),
        ("timm", "mobilenetv2_100", "mine.safetensors", IMAGENET),  # a file: what all tags of that name have
        ("timm", "vit_tiny_patch16_224", "mine.safetensors", HALF),
        ("timm", "test_efficientnet", "", IMAGENET),
        ("timm", "vit_base_patch16_224", "", HALF),  # random weights: the library's first
        ("open_clip", "ViT-H-14", "pretrained:laion2b_s32b_b79k", CLIP),
        ("open_clip", "PE-Core-L-14-336", "pretrained:meta", HALF),
        ("open_clip", "ViT-B-16-SigLIP2", "pretrained:webli", HALF),
        ("open_clip", "ViT-H-14-CLIPA", "pretrained:datacomp1b", IMAGENET),
        ("open_clip", "MobileCLIP-S1", "pretrained:datacompdr", RAW),
        ("open_clip", "ViT-H-14", "mine.pt", CLIP),
        ("open_clip", "ViT-S-32-alt", "", HALF),  # nobody has trained it
    ],
)
def test_library_decides(library: str, name: str, weights: str, expected: tuple[tuple[float, ...], tuple[float, ...]]):
    mean, std = mean_std(Model(library, name, weights))
    assert mean == pytest.approx(expected[0]) and std == pytest.approx(expected[1])


@pytest.mark.parametrize(
    ("model", "complaint"),
    [
        (
            Model("timm", "vit_small_patch16_dinov3", "pretrained:lvd1689m", mean=HALF[0], std=HALF[1]),
            r"model.mean and model.std are mean 0.5 and std 0.5, but timm has for vit_small_patch16_dinov3 mean 0.485, "
            r"0.456, 0.406 and std 0.229, "
            r"0.224, 0.225 \(tag lvd1689m\).*own_normalisation_of='pretrained:lvd1689m'",
        ),
        (
            Model("open_clip", "ViT-H-14", "pretrained:laion2b_s32b_b79k", mean=IMAGENET[0], std=IMAGENET[1]),
            "mean 0.4815, 0.4578, 0.4082 and std",
        ),
        (
            Model("timm", "mobilenetv2_100", "new.pth", mean=HALF[0], std=HALF[1], own_normalisation_of="old.pth"),
            "own_normalisation_of='new.pth'",
        ),
        (
            Model("timm", "mobilenetv2_100", "tf.safetensors", mean=HALF[0], std=HALF[1]),
            "own_normalisation_of='tf.safetensors'",
        ),
        (
            Model("timm", "vit_base_patch16_224", "mine.pth"),
            r"not stated, and timm has for vit_base_patch16_224 mean 0.5 and std 0.5 \(tag .*\(tag dino, mae\)",
        ),
        (
            Model("timm", "hf-hub:me/mine", "mine.pth"),
            "not stated, and timm has none for hf-hub:me/mine; state those with which mine.pth was trained",
        ),
        (Model("open_clip", "ViT-S-32-alt", "mine.pth"), "open_clip has none for ViT-S-32-alt"),
        (Model("timm", "test_vit", "pretrained:no_such_tag"), "not stated, and timm has none for test_vit"),
        (
            Model("timm", "vit_tiny_patch16_224", "pretrained:augreg_in21k", mean=HALF[0], std=(0.5, 0.5, 0.6)),
            "std 0.5, 0.5, 0.6, but timm has",
        ),
    ],
)
def test_what_contradicts_the_library_or_is_open_is_told(model: Model, complaint: str):
    with pytest.raises(ValueError, match=complaint) as caught:
        mean_std(model)
    assert "\n" not in str(caught.value)


def test_what_is_stated_for_these_weights_counts():
    own = ((0.1, 0.2, 0.3), (0.9, 0.8, 0.7))
    for model in (
        Model("timm", "mobilenetv2_100", "tf.pth", mean=own[0], std=own[1], own_normalisation_of="tf.pth"),
        Model("timm", "mobilenetv2_100", mean=own[0], std=own[1]),  # random weights know none
        Model("timm", "hf-hub:me/mine", "tf.pth", mean=own[0], std=own[1]),
    ):
        assert mean_std(model) == own
    rounded = Model(
        "open_clip",
        "ViT-H-14",
        "pretrained:laion2b_s32b_b79k",
        mean=(0.4815, 0.4578, 0.4082),
        std=(0.2686, 0.2613, 0.2758),
    )
    assert mean_std(rounded) == (rounded.mean, rounded.std)
    assert (
        mean_std(Model("timm", "vit_base_patch16_224", "mine.pth", mean=IMAGENET[0], std=IMAGENET[1])) == IMAGENET
    )  # one of the library's


def test_statement_is_for_the_named_weights_alone():
    recipe = load_recipe("minibench")
    assert mean_std(recipe.model) == HALF
    with pytest.raises(
        ValueError,
        match=r"own_normalisation_of is 'mobilenetv2_100_imagenet.safetensors', and model.weights is 'other.pth'",
    ):
        load_recipe("minibench", ["model.weights=other.pth"])
    switched = load_recipe(
        "minibench",
        ["model.weights=pretrained:ra_in1k", "model.own_normalisation_of=", "model.mean=none", "model.std=none"],
    )
    assert mean_std(switched.model) == IMAGENET
    with pytest.raises(ValueError, match=r"model.mean is None and model.std is .* state both, or neither"):
        load_recipe("minibench", ["model.mean=none", "model.own_normalisation_of="])


WINNERS = (
    "first_place",
    "first_place_released",
    "second_place",
    "third_place",
    "fourth_place",
    "fifth_place",
    "sixth_place",
    "kaggle_t4",
    "relational_13th",
)
LITERATURE = (
    *("irt_o", "irt_l", "irt_r", "berton_low_vram", "berton_high_vram", "roth_margin_rho", "proxy_anchor"),
    *("multi_similarity_xbm", "group_loss", "message_passing", "bier", "divide_and_conquer", "mic", "diva", "pads"),
    "reality_check",
)
# Of every recipe; of the winners' as they were before the library was asked.
PIXELS_OF = (
    dict.fromkeys(WINNERS, CLIP)
    | dict.fromkeys(LITERATURE, IMAGENET)
    | dict.fromkeys(("demo", "guie_2026", "infusing", "minibench", "small_student", "tiny", "unifex_2024"), HALF)
)


def test_every_recipe_has_its_pixels():
    names = sorted(path.stem for path in (PROJECT / "src/guie/recipes").glob("[a-z]*.py"))
    assert names == sorted(PIXELS_OF)
    for name in names:
        for model in load_recipe(name).models:
            expected = IMAGENET if "dinov2" in model.name else PIXELS_OF[name]
            assert np.allclose(mean_std(model), expected, atol=1e-6), name
        assert mean_std(shrunk(load_recipe(name)).model) == HALF


def test_each_backbone_has_its_own_and_both_are_told(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(logging.getLogger("guie"), "propagate", True)
    recipe = load_recipe("tiny")
    other = Stage(
        "s1_head",
        trains="head",
        start=Start(fresh=HEAD, model=Model("timm", "test_efficientnet")),
        optim=Optim(n_epochs=1, batch_size=8, lr=0.01),
    )
    with caplog.at_level(logging.INFO):
        assert log_normalisation(replace(recipe, stages=replace(recipe.stages, head=(other,)))) == HALF
    assert "pixels: mean 0.5 and std 0.5, as" in caplog.text
    assert "pixels: mean 0.485, 0.456, 0.406 and std 0.229, 0.224, 0.225, as timm has it for test_eff" in caplog.text


def test_the_field_of_a_contradiction_is_told():
    wrong = Model("timm", "test_vit", "pretrained:r160_in1k", mean=(0.3,) * 3, std=(0.3,) * 3)
    recipe = load_recipe("tiny")
    (first, *_), own = recipe.stages.head, recipe.model
    teacher = replace(first, start=Start(fresh=HEAD, model=replace(Model("timm", "test_vit2"), beside=(wrong,))))
    cases = {
        "stages.s1_head.start.model.beside.0: model.mean and": replace(
            recipe, stages=replace(recipe.stages, head=(teacher,))
        ),
        "model.beside.0: model.mean and": replace(recipe, model=replace(own, beside=(wrong,))),
        "model.mean and": replace(recipe, model=wrong),
    }
    for told, broken in cases.items():
        with pytest.raises(ValueError, match=f"^{told} model.std are mean 0.3 and std 0.3, but timm has for test_vit"):
            log_normalisation(broken)


def test_cache_of_features_follows_the_numbers(monkeypatch: pytest.MonkeyPatch):
    def key(model: Model) -> str:
        return FeatureRequest("p", "b", model, 64, "plain", "r").key

    silent = Model("timm", "test_efficientnet")
    before = key(silent)
    monkeypatch.setattr("guie.embed.extract.mean_std", lambda model: HALF)  # a library that has changed its mind
    assert key(silent) != before


def test_door_04_tells_and_notes_them(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(logging.getLogger("guie"), "propagate", True)
    with caplog.at_level(logging.INFO):
        log_normalisation(load_recipe("unifex_2024"))
        log_normalisation(load_recipe("minibench"))
    assert "pixels: mean 0.5 and std 0.5, as timm has it for vit_so400m_patch14_siglip_384 webli" in caplog.text
    assert "pixels: mean 0.5 and std 0.5, as the recipe states" in caplog.text


def test_extraction_feeds_the_network_with_the_librarys_numbers(tmp_path: Path):
    from accelerate import Accelerator

    from guie.embed.extract import extract
    from guie.model.backbone import build_backbone

    class Pack:
        def read(self, row: int) -> np.ndarray:
            return np.full((64, 64, 3), (124, 116, 104), dtype=np.uint8)  # ImageNet's mean

    model = Model("timm", "test_efficientnet")
    backbone = build_backbone(model, 64)
    request = FeatureRequest("p", "b", model, 64, "plain", "r")
    features = extract(tmp_path, request, backbone, Pack(), np.arange(1), Accelerator(cpu=True), 1)  # type: ignore[arg-type]
    grey = torch.tensor([124, 116, 104]).view(1, 3, 1, 1) / 255
    expected = (grey - torch.tensor(IMAGENET[0]).view(1, 3, 1, 1)) / torch.tensor(IMAGENET[1]).view(1, 3, 1, 1)
    with torch.no_grad():
        np.testing.assert_allclose(
            features, backbone.eval()(expected.expand(1, 3, 64, 64).contiguous()).numpy(), rtol=1e-3, atol=1e-4
        )


def test_report_shows_what_door_04_noted():
    from guie.report.collect import Step
    from guie.report.sections import settings

    recipe = replace(load_recipe("tiny"), model=Model("timm", "test_efficientnet"))
    noted = Step("04_head", 4, False, {"metrics": {"mean": list(IMAGENET[0]), "std": list(IMAGENET[1])}})
    assert "mean 0.485, 0.456, 0.406; std 0.229, 0.224, 0.225 (timm&#39;s)" in settings(recipe, [noted])
    assert "mean 0.5, 0.5, 0.5; std 0.5, 0.5, 0.5<" in settings(load_recipe("tiny"))
    assert "mean and std as timm has them" in settings(recipe)
