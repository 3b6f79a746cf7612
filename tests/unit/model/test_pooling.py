"""Which feature is taken, against the libraries' own and by hand."""

from dataclasses import replace

import pytest
import timm
import torch
from torch import Tensor

from guie.model.backbone import Backbone, build_backbone
from guie.model.pooling import enable_gradient_checkpointing, generalised_mean, pooled_tokens, take_feature
from guie.recipe import Model, load_recipe

VIT = Model("timm", "test_vit")
CLIP = Model("open_clip", "ViT-S-32-alt")
PIXELS = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))


def feature_of(model: Model) -> Tensor:
    with torch.no_grad():
        return build_backbone(model, 96, seed=1)(PIXELS)


def tokens_of_vit() -> Tensor:
    """All tokens after the last norm, the class token first, from a hook. Where the class token is the feature, the
    last block computes no others."""
    network, seen = build_backbone(replace(VIT, feature="mean"), 96, seed=1).network, {}
    network.norm.register_forward_hook(lambda module, inputs, output: seen.update(tokens=output))
    with torch.no_grad():
        network(PIXELS)
    return seen["tokens"]


def test_class_token_is_what_timm_takes():
    assert torch.equal(feature_of(replace(VIT, feature="cls")), feature_of(VIT))
    torch.testing.assert_close(feature_of(VIT), tokens_of_vit()[:, 0])


def test_pooled_patches_leave_the_class_token_out():
    patches = tokens_of_vit()[:, 1:]
    assert patches.shape[1] == 36
    torch.testing.assert_close(feature_of(replace(VIT, feature="mean")), sum(patches[:, i] for i in range(36)) / 36)
    torch.testing.assert_close(feature_of(replace(VIT, feature="max")), patches.max(dim=1).values)
    torch.testing.assert_close(
        feature_of(replace(VIT, feature="gem")), (patches.clamp(min=1e-6) ** 3).mean(1) ** (1 / 3)
    )


def test_gem_by_hand():
    tokens = torch.tensor([[[1.0, -5.0], [2.0, 2.0]]])  # cbrt((1 + 8) / 2), cbrt((0 + 8) / 2)
    torch.testing.assert_close(generalised_mean(tokens), torch.tensor([[4.5 ** (1 / 3), 4 ** (1 / 3)]]))


def test_gem_of_half_precision_is_computed_in_single():
    tokens = torch.tensor([[[60.0], [70.0]]], dtype=torch.float16)  # 70 ** 3 is no number of 16 bits
    with torch.autocast("cpu", dtype=torch.bfloat16):
        pooled = generalised_mean(tokens)
    assert pooled.dtype == torch.float16
    torch.testing.assert_close(pooled, torch.tensor([[((60**3 + 70**3) / 2) ** (1 / 3)]], dtype=torch.float16))


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext"])
def test_maps_of_convolutions_are_pooled_over_their_places(name: str):
    model = Model("timm", name)
    network = build_backbone(model, 96, seed=1).network
    with torch.no_grad():
        places = network.forward_features(PIXELS)
    torch.testing.assert_close(feature_of(replace(model, feature="mean")), places.mean((2, 3)))
    torch.testing.assert_close(feature_of(replace(model, feature="max")), places.amax((2, 3)))
    with pytest.raises(ValueError, match="it has no class token; take 'mean', 'max' or 'gem'"):
        feature_of(replace(model, feature="cls"))


def test_maps_with_channels_last_are_pooled_alike():
    model = Model("timm", "swin_tiny_patch4_window7_224")
    network = timm.create_model(model.name, num_classes=0)
    pixels = torch.randn(1, 3, 224, 224)
    backbone = build_backbone(replace(model, feature="mean"), 224)
    backbone.network.load_state_dict(network.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(
            backbone(pixels), network.eval()(pixels), rtol=1e-4, atol=1e-5
        )  # timm's own is the mean, too


def test_projection_of_open_clip_can_be_left_out():
    whole = build_backbone(CLIP, 96, seed=1)
    before = feature_of(replace(CLIP, feature="unprojected"))
    torch.testing.assert_close(before @ whole.network.proj.detach(), feature_of(CLIP))
    assert torch.equal(before, feature_of(replace(CLIP, feature="cls")))
    names = set(build_backbone(replace(CLIP, feature="unprojected"), 96).state_dict())
    assert set(whole.state_dict()) - names == {"network.proj"}


def test_tokens_of_open_clip_are_pooled():
    network, seen = build_backbone(replace(CLIP, feature="mean"), 96, seed=1).network, {}
    network.ln_post.register_forward_hook(lambda module, inputs, output: seen.update(tokens=output))
    with torch.no_grad():
        network(PIXELS)
    torch.testing.assert_close(feature_of(replace(CLIP, feature="mean")), seen["tokens"][:, 1:].mean(1))


def test_towers_of_open_clip_that_are_timms_are_pooled_as_timm_pools():
    from open_clip.timm_model import TimmModel

    def tower() -> TimmModel:
        torch.manual_seed(1)
        return TimmModel("test_vit", 8, image_size=96, pool="", proj="linear").eval()

    for feature, pick in (
        ("cls", lambda tokens: tokens[:, 0]),
        ("mean", lambda tokens: tokens[:, 1:].mean(1)),
        ("max", lambda tokens: tokens[:, 1:].amax(1)),
    ):
        network = tower()
        with torch.no_grad():
            expected = pick(network.trunk.forward_features(PIXELS))
            torch.testing.assert_close(Backbone(network, 0, take_feature(network, feature))(PIXELS), expected)
    network, projected = tower(), tower()
    with torch.no_grad():
        before = Backbone(network, 0, take_feature(network, "unprojected"))(PIXELS)
        torch.testing.assert_close(projected.head(before), projected(PIXELS))


def test_gradient_checkpoints_change_no_gradient():
    backbones = [build_backbone(VIT, 96, seed=1).train() for _ in range(2)]
    enable_gradient_checkpointing(backbones[1].network)
    for backbone in backbones:
        backbone(PIXELS).square().sum().backward()
    for a, b in zip(backbones[0].parameters(), backbones[1].parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)
    with pytest.raises(ValueError, match="has no gradient checkpointing"):
        enable_gradient_checkpointing(torch.nn.Linear(1, 1))


def test_recipe_names_what_a_library_has():
    recipe = load_recipe("tiny")
    with pytest.raises(ValueError, match=r"model\.feature is 'unprojected', which open_clip's towers have"):
        replace(recipe, model=replace(recipe.model, feature="unprojected")).validate()
    with pytest.raises(ValueError, match=r"model\.feature is 'average', must be one of"):
        replace(recipe, model=replace(recipe.model, feature="average")).validate()


def test_networks_without_prefix_tokens_and_with_a_late_norm_are_pooled_as_timm_does():
    for name in ("vit_tiny_patch16_224", "mixer_s32_224"):
        options = {"global_pool": "avg", "class_token": False, "fc_norm": True} if name.startswith("vit") else {}
        network = timm.create_model(name, num_classes=0, **options).eval()
        pixels = torch.randn(2, 3, 224, 224)
        with torch.no_grad():
            torch.testing.assert_close(pooled_tokens(network, pixels, take_feature(network, "mean")), network(pixels))
