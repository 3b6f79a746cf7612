"""The last block for the class token alone: features and gradients of the library's own network, and less work."""

import copy
import logging

import open_clip
import pytest
import timm
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from guie.model import class_token
from guie.model.backbone import Backbone, build_backbone
from guie.model.class_token import OpenClipBlock, TimmBlock, keep_class_token
from guie.model.pooling import take_feature
from guie.settings.model import Model

PX = 64
SMALL = {"img_size": PX, "patch_size": 16, "embed_dim": 48, "depth": 3, "num_heads": 3, "num_classes": 0}
OF_TIMM = {
    "plain": {},
    "registers and layer scale": {"reg_tokens": 2, "init_values": 0.3},
    "normed queries and output": {"qk_norm": True, "scale_attn_norm": True},
    "no bias, norm before": {"qkv_bias": False, "pre_norm": True},
}
CLIP = {"image_size": PX, "patch_size": 16, "width": 48, "layers": 3, "heads": 3, "mlp_ratio": 4.0, "output_dim": 20}


def stirred(network: nn.Module) -> nn.Module:
    """With weights so large that every token and every norm matters."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return network.eval()


def vit(**options: object) -> nn.Module:
    return stirred(timm.models.vision_transformer.VisionTransformer(**SMALL | options))


def clip(**options: object) -> nn.Module:
    return stirred(open_clip.transformer.VisionTransformer(**CLIP | options))


def changed(network: nn.Module, feature: str = "") -> Backbone:
    """A copy as `build_backbone` makes it."""
    network = copy.deepcopy(network)
    backbone = Backbone(network, 0, take_feature(network, feature))
    keep_class_token(network, backbone.pooling, backbone, PX)
    return backbone


def gradients(network: nn.Module, pixels: Tensor) -> dict[str, Tensor]:
    torch.manual_seed(5)
    (network(pixels) * torch.randn(pixels.shape[0], 1)).square().sum().backward()
    return {name.removeprefix("network."): each.grad for name, each in network.named_parameters()}


def check_equal(network: nn.Module, backbone: Backbone) -> None:
    """The features, the names of the weights, and the gradient of every weight."""
    pixels = torch.randn(3, 3, PX, PX)
    assert list(backbone.network.state_dict()) == list(network.state_dict())
    with torch.no_grad():
        expected = network(pixels)
        torch.testing.assert_close(backbone(pixels), expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))
    expected, got = gradients(network.train(), pixels), gradients(backbone.train(), pixels)
    assert got.keys() == expected.keys()
    largest = max(float(gradient.abs().max()) for gradient in expected.values())
    assert largest > 0
    for name, gradient in expected.items():
        torch.testing.assert_close(got[name], gradient, rtol=1e-4, atol=1e-6 * largest, msg=name)


@pytest.mark.parametrize("name", OF_TIMM)
def test_timm_network_is_the_same(name: str) -> None:
    network = vit(**OF_TIMM[name])
    backbone = changed(network)
    assert type(backbone.network.blocks[-1]) is TimmBlock
    check_equal(network, backbone)


@pytest.mark.parametrize("options", [{}, {"ls_init_value": 0.3}, {"final_ln_after_pool": True}], ids=str)
def test_open_clip_network_is_the_same(options: dict[str, object]) -> None:
    network = clip(**options)
    backbone = changed(network)
    assert type(backbone.network.transformer.resblocks[-1]) is OpenClipBlock
    check_equal(network, backbone)
    backbone.network.set_grad_checkpointing(True)
    check_equal(network, backbone)


def test_steps_with_stochastic_depth_draw_the_same_numbers() -> None:
    network = vit(drop_path_rate=0.5, proj_drop_rate=0.0)
    backbone, pixels = changed(network), torch.randn(8, 3, PX, PX)
    network.train(), backbone.train()
    for seed in range(4):
        torch.manual_seed(seed)
        expected = network(pixels)
        torch.manual_seed(seed)
        torch.testing.assert_close(backbone(pixels), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def test_class_token_of_a_network_that_pools_otherwise() -> None:
    """With feature="cls" it is the first token after the norm; the library's own forward would pool the others."""
    network = vit(global_pool="avg", fc_norm=False, class_token=True)
    backbone, pixels = changed(network, "cls"), torch.randn(2, 3, PX, PX)
    assert type(backbone.network.blocks[-1]) is TimmBlock
    with torch.no_grad():
        expected = network.forward_features(pixels)[:, 0]
        torch.testing.assert_close(backbone(pixels), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    ("network", "feature"),
    [
        (vit(global_pool="avg"), ""),
        (vit(global_pool="map"), ""),
        (vit(), "mean"),
        (clip(), "gem"),
        (clip(pool_type="avg"), ""),
        (clip(attentional_pool=True, attn_pooler_queries=4, attn_pooler_heads=4), ""),
        (vit(block_fn=timm.models.vision_transformer.ParallelScalingBlock), ""),
        (timm.create_model("resnet10t", num_classes=0), ""),
    ],
    ids=lambda each: each if isinstance(each, str) else type(each).__name__,
)
def test_other_features_and_blocks_stay(network: nn.Module, feature: str) -> None:
    backbone = changed(network, feature)
    assert not [part for part in backbone.modules() if isinstance(part, TimmBlock | OpenClipBlock)]


def test_block_that_computes_something_else_stays(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As if the library's block did more in another version."""
    monkeypatch.setattr(class_token.TimmBlock, "forward", lambda self, tokens: tokens[:, :1] + 1)
    network, pixels = vit(), torch.randn(2, 3, PX, PX)
    with caplog.at_level(logging.WARNING):
        backbone = changed(network)
    assert "the last block of VisionTransformer computes all tokens" in caplog.text
    with torch.no_grad():
        torch.testing.assert_close(backbone(pixels), network(pixels))


def test_a_recipes_backbone_does_less() -> None:
    """vit_tiny's last block without the queries, the projection and the MLP of 49 of 50 tokens: 10 of 12 parts of its
    weights."""
    built = build_backbone(Model("timm", "vit_tiny_patch16_224", mean=(0.5,) * 3, std=(0.5,) * 3), 112).network
    own, pixels = timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=112), torch.randn(1, 3, 112, 112)
    counts = []
    for network in (own.eval(), built):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(pixels)
        counts.append(counter.get_total_flops())
    assert counts[0] - counts[1] == 49 * 10 * 192**2 * 2  # on a CPU the counter leaves out the attention's products
