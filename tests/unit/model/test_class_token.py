"""The last block for the class token alone: features and gradients of the library's own network, and less work."""

import copy
import logging
from collections.abc import Callable

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


def tokens_first() -> nn.Module:
    """An open_clip network whose blocks take [t, n, d]."""
    network = clip()
    network.transformer = stirred(open_clip.transformer.Transformer(48, 3, 3, 4.0, batch_first=False))
    return network


def changed(network: nn.Module, feature: str = "") -> Backbone:
    """A copy as `build_backbone` makes it."""
    network = copy.deepcopy(network)
    backbone = Backbone(network, 0, take_feature(network, feature))
    keep_class_token(network, backbone.pooling)
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


def test_network_in_open_clips_wrapper_is_changed() -> None:
    wrapped = open_clip.timm_model.TimmModel("vit_tiny_patch16_224", 20, pool="token", proj="linear")
    stirred(wrapped)
    backbone, pixels = changed(wrapped), torch.randn(2, 3, 224, 224)
    assert type(backbone.network.trunk.blocks[-1]) is TimmBlock
    with torch.no_grad():
        expected = wrapped(pixels)
        torch.testing.assert_close(backbone(pixels), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


class Other(timm.layers.Attention):
    """Another class, which may compute another thing."""


def with_attention(attention: nn.Module) -> nn.Module:
    network = vit()
    network.blocks[-1].attn = attention.eval()
    return network


@pytest.mark.parametrize(
    ("network", "feature"),
    [
        (vit(global_pool="avg"), ""),
        (vit(global_pool="map"), ""),
        (vit(), "mean"),
        (clip(), "gem"),
        (clip(pool_type="avg"), ""),
        (clip(attentional_pool=True, attn_pooler_queries=4, attn_pooler_heads=4), ""),
        (tokens_first(), ""),
        (vit(block_fn=timm.models.vision_transformer.ParallelScalingBlock), ""),
        (with_attention(Other(48, num_heads=3)), ""),
        (with_attention(timm.layers.Attention(48, num_heads=3, gated=True)), ""),
        (stirred(timm.create_model("deit_tiny_distilled_patch16_224", num_classes=0, img_size=PX)), ""),
        (timm.create_model("resnet10t", num_classes=0), ""),
    ],
    ids=lambda each: each if isinstance(each, str) else type(each).__name__,
)
def test_other_features_and_blocks_stay(network: nn.Module, feature: str, caplog: pytest.LogCaptureFixture) -> None:
    """A distilled network also reads its second token."""
    with caplog.at_level(logging.WARNING):
        backbone = changed(network, feature)
    assert not [part for part in backbone.modules() if isinstance(part, TimmBlock | OpenClipBlock)]
    assert not caplog.records


def forgets_the_attention(block: TimmBlock, tokens: Tensor) -> Tensor:
    first = tokens[:, :1]
    return first + block.ls2(block.mlp(block.norm2(first)))


def reads_what_is_not_there(block: TimmBlock, tokens: Tensor) -> Tensor:
    return tokens[:, :1] + block.norm3(tokens)


@pytest.mark.parametrize("other", [forgets_the_attention, reads_what_is_not_there])
@pytest.mark.parametrize("scale", [None, 1e-5], ids=["", "tiny layer scale"])
def test_block_that_computes_something_else_stays(
    other: Callable[..., Tensor], scale: float | None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As if the library's block did more in another version. At first a layer scale hides what the block adds."""
    monkeypatch.setattr(class_token.TimmBlock, "forward", other)
    network = timm.models.vision_transformer.VisionTransformer(**SMALL, init_values=scale).eval()
    with caplog.at_level(logging.WARNING):
        backbone, pixels = changed(network), torch.randn(2, 3, PX, PX)
    assert "the last block of VisionTransformer is not the one that guie knows" in caplog.text
    with torch.no_grad():
        torch.testing.assert_close(backbone(pixels), network(pixels))


def test_weights_that_are_no_numbers_change_nothing() -> None:
    network = vit()
    with torch.no_grad():
        network.blocks[-1].norm1.weight[3] = float("nan")
    assert type(changed(network).network.blocks[-1]) is TimmBlock


def test_no_random_number_is_drawn() -> None:
    network = vit()
    before = torch.get_rng_state()
    keep_class_token(network, "")
    assert torch.equal(torch.get_rng_state(), before)


def test_default_device_of_the_caller_is_no_matter() -> None:
    """A network is also built inside `with torch.device(...)`; on `meta` there are no numbers to compare."""
    with torch.device("meta"):
        network = timm.models.vision_transformer.VisionTransformer(**SMALL).eval()
        keep_class_token(network, "")
        assert network(torch.zeros(2, 3, PX, PX)).shape == (2, 48)
        own = vit().to_empty(device="cpu")
        keep_class_token(own, "")
    assert type(network.blocks[-1]) is TimmBlock and type(own.blocks[-1]) is TimmBlock


def test_dropout_of_attention_and_projection_acts_while_training() -> None:
    for rates in ({"attn_drop_rate": 0.5}, {"proj_drop_rate": 0.5}):
        network, tokens = vit(**rates), torch.randn(2, 5, 48)
        block = TimmBlock(network.blocks[-1]).train()
        assert not torch.equal(block(tokens), block(tokens)), rates
        block.mlp.eval()
        assert not torch.equal(block(tokens), block(tokens)), rates
        assert torch.equal(block.eval()(tokens), block(tokens))


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
