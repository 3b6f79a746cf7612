"""Every word of `Model.feature` on every family of towers, against what hooks see inside the libraries' own forward
pass."""

from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer
from timm.models.volo import VOLO
from torch import Tensor, nn

from guie.model.backbone import Backbone
from guie.model.libraries import build_network
from guie.model.patches import set_resolution
from guie.model.pooling import take_feature
from guie.recipe import Model

PIXELS = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
POOLS: dict[str, Callable[[Tensor], Tensor]] = {  # of tokens [n, t, d]
    "mean": lambda tokens: sum(tokens[:, i] for i in range(tokens.shape[1])) / tokens.shape[1],
    "max": lambda tokens: tokens.max(dim=1).values,
    "gem": lambda tokens: (tokens.clamp(min=1e-6) ** 3).mean(1) ** (1 / 3),
}


def feature(network: nn.Module, word: str, pixels: Tensor = PIXELS) -> Tensor:
    with torch.no_grad():
        return Backbone(network, 0, take_feature(network, word)).eval()(pixels)


def seen(network: nn.Module, path: str, pixels: Tensor = PIXELS, side: str = "output") -> Tensor:
    """What went into, or came out of, the module at `path` in the network's own forward pass."""
    kept: list[Tensor] = []
    hook = network.get_submodule(path).register_forward_hook(
        lambda module, inputs, output: kept.append(output if side == "output" else inputs[0])
    )
    with torch.no_grad():
        network.eval()(pixels)
    hook.remove()
    return kept[0]


def vit(**options: Any) -> VisionTransformer:
    torch.manual_seed(0)
    network = VisionTransformer(
        64, 16, 32, 2, 2, 2.0, output_dim=24, attn_pooler_queries=5, attn_pooler_heads=2, **options
    ).eval()
    for norm in (network.ln_post, network.ln_pre):
        if isinstance(norm, nn.LayerNorm):  # not the identity, so that a norm that is left out shows
            nn.init.uniform_(norm.weight, 0.5, 2.0)
            nn.init.normal_(norm.bias)
    return network


def wrapped(name: str, pool: str, proj: str, px: int = 64) -> TimmModel:
    torch.manual_seed(0)
    network = TimmModel(name, 24, image_size=px, pool=pool, proj=proj).eval()
    for part in network.modules():
        if isinstance(part, nn.LayerNorm):
            nn.init.uniform_(part.weight, 0.5, 2.0)
            nn.init.normal_(part.bias)
    return network


def is_refused(network: nn.Module, word: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=rf"model\.feature is '{word}', which a \w+ does not have: .*{complaint}"):
        feature(network, word)


# ---- open_clip's own vision transformers


@pytest.mark.parametrize("options", [{}, {"output_tokens": True}, {"no_ln_pre": True}])
def test_open_clip_vit_with_a_class_token(options: dict[str, Any]):
    tokens = seen(vit(**options), "ln_post")
    assert tokens.shape == (2, 17, 32)
    torch.testing.assert_close(feature(vit(**options), ""), tokens[:, 0] @ vit(**options).proj.detach())
    for word in ("unprojected", "cls"):
        torch.testing.assert_close(feature(vit(**options), word), tokens[:, 0])
    for word, pool in POOLS.items():
        torch.testing.assert_close(feature(vit(**options), word), pool(tokens[:, 1:]))


def test_open_clip_vit_that_pools_and_then_normalises_as_clipa_does():
    def clipa() -> VisionTransformer:
        return vit(pool_type="avg", final_ln_after_pool=True, no_ln_pre=True)

    tokens, norm = seen(clipa(), "transformer")[:, 1:], clipa().ln_post
    with torch.no_grad():
        torch.testing.assert_close(feature(clipa(), "unprojected"), norm(tokens.mean(1)))
        torch.testing.assert_close(feature(clipa(), ""), norm(tokens.mean(1)) @ clipa().proj)
        for word, pool in POOLS.items():
            torch.testing.assert_close(feature(clipa(), word), norm(pool(tokens)))
    is_refused(clipa(), "cls", "pools 'avg'")


def test_coca_gives_its_pooled_tokens_alone():
    def coca() -> VisionTransformer:
        return vit(attentional_pool=True, output_tokens=True)

    pooled = seen(coca(), "ln_post")  # one contrastive query, then those of the captions
    assert pooled.shape == (2, 5, 24)
    assert isinstance(coca()(PIXELS), tuple)
    torch.testing.assert_close(feature(coca(), ""), pooled[:, 0] @ coca().proj.detach())
    torch.testing.assert_close(feature(coca(), "unprojected"), pooled[:, 0])
    for word in ("cls", *POOLS):
        is_refused(coca(), word, "pools its tokens by attention, .*take 'unprojected', the pooled tokens, or ''")


def test_tower_that_does_not_pool_needs_a_word():
    is_refused(vit(pool_type="none"), "", "take 'mean', 'max' or 'gem'")
    tokens = seen(vit(pool_type="none"), "ln_post")
    torch.testing.assert_close(feature(vit(pool_type="none"), "mean"), POOLS["mean"](tokens[:, 1:]))


# ---- open_clip's wrapper of timm networks: (name, pool, proj, what stands before the projection, tokens, prefix
# tokens)


@pytest.mark.parametrize(
    ("name", "pool", "proj", "last"),
    [
        ("test_vit", "map", "", "trunk.head"),  # PE-Core
        ("test_vit", "token", "", "trunk.head"),  # EVA01, EVA02, MobileCLIP-B
        ("test_vit", "avg", "", "trunk.head"),
        ("test_vit4", "", "linear", "head.proj"),
        ("test_convnext", "", "linear", "head.proj"),  # the ConvNeXts
        ("test_convnext2", "", "mlp", "head.mlp"),  # convnext_large_d
        ("test_convnext", "avg", "", "trunk.head.fc"),
        ("test_resnet", "avg", "", "trunk.fc"),
        ("test_resnet", "max", "", "trunk.fc"),
        ("test_efficientnet", "avg", "linear", "head.proj"),
        ("test_vit_relpos", "avg", "", "trunk.head"),
        ("test_mambaout", "avg", "", "trunk.head.fc"),
    ],
)
def test_wrapped_timm_towers_give_what_goes_into_the_projection(name: str, pool: str, proj: str, last: str):
    px = 160 if name == "test_vit_relpos" else 64
    pixels = torch.randn(2, 3, px, px, generator=torch.Generator().manual_seed(1))
    before = seen(wrapped(name, pool, proj), last, pixels, side="input").flatten(1)
    got = feature(wrapped(name, pool, proj), "unprojected", pixels)
    torch.testing.assert_close(got, before)
    assert got.shape[1] != 24
    assert feature(wrapped(name, pool, proj), "", pixels).shape == (2, 24)


@pytest.mark.parametrize(("name", "pool", "proj"), [("test_vit", "map", "none"), ("test_convnext", "avg", "none")])
def test_wrapped_towers_without_a_projection_say_so(name: str, pool: str, proj: str):  # SigLIP
    is_refused(wrapped(name, pool, proj), "unprojected", "has no projection")


@pytest.mark.parametrize("pool", ["map", "token", "avg"])
def test_wrapped_vit_pools_the_tokens_after_its_norm(pool: str):
    network = wrapped("test_vit", pool, "")
    has_late_norm = isinstance(network.trunk.norm, nn.Identity)
    tokens, late = seen(network, "trunk.norm"), network.trunk.fc_norm if has_late_norm else nn.Identity()
    assert tokens.shape == (2, 17, 64)
    with torch.no_grad():
        torch.testing.assert_close(feature(wrapped("test_vit", pool, ""), "cls"), late(tokens[:, 0]))
        for word, by_hand in POOLS.items():
            torch.testing.assert_close(feature(wrapped("test_vit", pool, ""), word), late(by_hand(tokens[:, 1:])))


def test_attention_pools_that_are_the_projection_say_so():
    class Wrapped(nn.Module):
        """open_clip's wrapper with pool='rot_attn', proj=''."""

        def __init__(self) -> None:
            super().__init__()
            self.trunk = timm.create_model("test_resnet", num_classes=0, global_pool="")
            self.head = nn.Sequential()
            self.head.add_module("pool", nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(1), nn.Linear(96, 24)))

    is_refused(Wrapped(), "unprojected", "attention pool is its projection; take 'mean', 'max' or 'gem'")
    places = Wrapped().eval().trunk.forward_features(PIXELS).shape
    assert feature(Wrapped(), "mean").shape == (2, places[1])


def test_open_clip_resnet_has_a_map_and_no_unprojected_vector():
    def resnet() -> ModifiedResNet:
        torch.manual_seed(0)
        return ModifiedResNet((1, 1, 1, 1), output_dim=16, heads=4, image_size=64, width=8).eval()

    places = seen(resnet(), "layer4").flatten(2).transpose(1, 2)
    assert places.shape == (2, 4, 256)
    for word, pool in POOLS.items():
        torch.testing.assert_close(feature(resnet(), word), pool(places))
    torch.testing.assert_close(feature(resnet(), ""), seen(resnet(), "attnpool"))
    for word in ("unprojected", "cls"):
        is_refused(resnet(), word, "attention pool is its projection")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "last", "tokens_at", "n_prefix"),
    [
        ("PE-Core-T-16-384", "trunk.head", "trunk.norm", 1),
        ("MobileCLIP2-S0", "trunk.head.fc", "", 0),
        ("ViTamin-S", "head.proj", "trunk.norm", 0),
        ("nllb-clip-base-siglip", "", "trunk.norm", 0),
    ],
)
def test_towers_by_name(name: str, last: str, tokens_at: str, n_prefix: int):
    torch.manual_seed(0)
    network = build_network(Model("open_clip", name)).eval()
    px = network.image_size[0] if "siglip" in name else 64
    set_resolution(network, px)
    pixels, weights = torch.randn(1, 3, px, px), {key: tensor.clone() for key, tensor in network.state_dict().items()}

    def fresh() -> nn.Module:
        other = build_network(Model("open_clip", name)).eval()
        set_resolution(other, px)
        other.load_state_dict(weights)
        return other

    if last:
        torch.testing.assert_close(
            feature(fresh(), "unprojected", pixels),
            seen(network, last, pixels, "input").flatten(1),
            rtol=1e-4,
            atol=1e-5,
        )
    else:
        is_refused(network, "unprojected", "has no projection")
    if tokens_at:
        tokens = seen(network, tokens_at, pixels)[:, n_prefix:]
        late = network.trunk.fc_norm if isinstance(network.trunk.norm, nn.Identity) else nn.Identity()
        with torch.no_grad():
            torch.testing.assert_close(feature(fresh(), "mean", pixels), late(tokens.mean(1)), rtol=1e-4, atol=1e-5)


# ---- timm's families


@pytest.mark.parametrize(
    ("options", "n_prefix"),
    [
        ({}, 1),
        ({"reg_tokens": 4}, 5),
        ({"class_token": False, "global_pool": "avg"}, 0),
        ({"class_token": False, "reg_tokens": 4, "global_pool": "avg"}, 4),
    ],
)
def test_timm_vit_with_and_without_class_and_register_tokens(options: dict[str, Any], n_prefix: int):
    def network() -> nn.Module:
        torch.manual_seed(0)
        return timm.create_model("test_vit", num_classes=0, img_size=64, fc_norm=False, **options).eval()

    tokens = seen(network(), "norm")
    assert tokens.shape[1] == n_prefix + 16
    for word, pool in POOLS.items():
        torch.testing.assert_close(feature(network(), word), pool(tokens[:, n_prefix:]))
    if options.get("class_token", True):
        torch.testing.assert_close(feature(network(), "cls"), tokens[:, 0])
    else:
        is_refused(network(), "cls", "has no class token")


@pytest.mark.parametrize(
    ("name", "options", "n_prefix"),
    [
        (
            VOLO,
            {"layers": (1, 1, 1, 1), "embed_dims": (24, 48, 48, 48), "num_heads": (2, 2, 2, 2), "img_size": 64},
            1,
        ),  # does not say that it has one
        ("xcit_nano_12_p16_224", {"embed_dim": 32, "depth": 2, "img_size": 64}, 1),
        ("eva02_tiny_patch14_224", {"embed_dim": 24, "depth": 2, "num_heads": 2, "img_size": 56}, 1),
        ("vit_tiny_r_s16_p8_224", {"embed_dim": 24, "depth": 2, "num_heads": 2, "img_size": 64}, 1),
    ],
)
def test_timm_transformers_leave_their_class_token_out_of_the_mean(name: Any, options: dict[str, Any], n_prefix: int):
    torch.manual_seed(0)
    network = (
        timm.create_model(name, num_classes=0, **options) if isinstance(name, str) else name(num_classes=0, **options)
    ).eval()
    pixels = torch.randn(2, 3, options["img_size"], options["img_size"])
    with torch.no_grad():
        tokens = network.forward_features(pixels)
        late = network.fc_norm if isinstance(getattr(network, "norm", None), nn.Identity) else nn.Identity()
        expected = {word: late(pool(tokens[:, n_prefix:])) for word, pool in POOLS.items()} | {
            "cls": late(tokens[:, 0])
        }
        for word, value in expected.items():
            torch.testing.assert_close(Backbone(network, 0, take_feature(network, word))(pixels), value)


@pytest.mark.parametrize(
    ("name", "is_last"),
    [("test_resnet", False), ("test_efficientnet", False), ("test_nfnet", False), ("test_mambaout", True)],
)
def test_timm_maps_with_channels_first_and_last(name: str, is_last: bool):
    def network() -> Any:
        torch.manual_seed(0)
        return timm.create_model(name, num_classes=0).eval()

    with torch.no_grad():
        places = network().forward_features(PIXELS)
    for word, pool in POOLS.items():
        torch.testing.assert_close(
            feature(network(), word), pool(places.flatten(1, 2) if is_last else places.flatten(2).transpose(1, 2))
        )


@pytest.mark.parametrize(
    ("name", "options", "word", "complaint"),
    [
        ("crossvit_tiny_240", {}, "mean", "tokens of several widths; take ''"),
        ("pit_ti_224", {}, "mean", "keeps the class token alone; take 'cls' or ''"),
        ("test_vit", {}, "unprojected", "has no projection"),
    ],
)
def test_what_a_timm_network_has_not_is_told(name: str, options: dict[str, Any], word: str, complaint: str):
    network = timm.create_model(name, num_classes=0, **options)
    px = network.pretrained_cfg["input_size"][1] if not name.startswith("test") else 64
    with pytest.raises(ValueError, match=complaint):
        feature(network, word, torch.zeros(1, 3, px, px))


def test_what_a_feature_does_not_need_is_taken_out():
    """Several processes train only what has a gradient: a parameter without one stops them."""
    for network, word in (
        (wrapped("test_vit", "map", ""), "mean"),
        (wrapped("test_convnext", "avg", ""), "max"),
        (vit(), "unprojected"),
    ):
        backbone = Backbone(network, 0, take_feature(network, word))
        backbone(PIXELS).square().sum().backward()
        assert [name for name, parameter in backbone.named_parameters() if parameter.grad is None] == []
