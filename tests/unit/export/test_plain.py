"""What the contest's PyTorch 1.11 can load: attention and GELU written out, formats and operators checked."""

from pathlib import Path

import pytest
import timm.layers
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from guie.embed.ensemble import Tower
from guie.export.operators import unknown_to_1_11
from guie.export.plain import PlainCalls, WrittenOutAttention, WrittenOutGELU, rms_norm, write_out
from guie.export.torchscript import build_submission, quiet_jit, trace_network
from guie.model.backbone import Backbone, build_backbone
from guie.recipe import Model

GREY = (0.5, 0.5, 0.5)


@pytest.mark.parametrize("is_batch_first", [True, False])
@pytest.mark.parametrize("has_bias", [True, False])
def test_attention_is_torchs(is_batch_first: bool, has_bias: bool):
    torch.manual_seed(0)
    fused = nn.MultiheadAttention(24, 3, batch_first=is_batch_first, bias=has_bias).eval()
    plain = WrittenOutAttention(fused)
    x, context, mask = torch.randn(2, 5, 24), torch.randn(2, 7, 24), torch.randn(5, 7)
    if not is_batch_first:
        x, context = x.transpose(0, 1), context.transpose(0, 1)
    with torch.no_grad():
        torch.testing.assert_close(plain(x, x, x, need_weights=False)[0], fused(x, x, x, need_weights=False)[0])
        torch.testing.assert_close(
            plain(x, context, context, attn_mask=mask)[0], fused(x, context, context, attn_mask=mask)[0]
        )


def test_attention_with_other_widths_is_refused():
    with pytest.raises(ValueError, match="cannot be written out"):
        WrittenOutAttention(nn.MultiheadAttention(24, 3, kdim=12, vdim=12))


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu_is_torchs(approximate: str):
    x = torch.linspace(-8, 8, 1001)
    torch.testing.assert_close(WrittenOutGELU(approximate)(x), F.gelu(x, approximate=approximate), atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("eps", [None, 0.1])
@pytest.mark.parametrize("has_weight", [True, False])
def test_rms_norm_is_torchs(eps: float | None, has_weight: bool):
    x, weight = torch.randn(2, 3, 5, 4), torch.randn(5, 4) if has_weight else None
    torch.testing.assert_close(rms_norm(x, (5, 4), weight, eps), F.rms_norm(x, (5, 4), weight, eps))


@pytest.mark.parametrize(
    "activation",
    [nn.GELU(), nn.GELU("tanh"), timm.layers.GELU(), timm.layers.GELUTanh()],
    ids=["exact", "tanh", "timm", "timm's tanh"],
)
def test_written_out_network_keeps_the_kind_of_its_gelu(activation: nn.Module):
    """The two kinds differ by 5e-4 at most, which no cosine of an export shows."""
    x = torch.linspace(-8, 8, 1001)
    expected = activation(x)
    network = write_out(nn.Sequential(nn.Identity(), activation))
    assert type(network[1]) is WrittenOutGELU
    torch.testing.assert_close(network(x), expected, atol=2e-6, rtol=1e-5)


def saved(backbone: Backbone, path: Path) -> tuple[Tensor, Tensor]:
    """Saves a submission of one tower; an image and its embedding."""
    tower = Tower(nn.Sequential(backbone, nn.Linear(backbone.feature_dim, 64)).eval(), 64, ("plain", "flip"), 1.0)
    module = build_submission([tower], GREY, GREY)
    with quiet_jit():
        torch.jit.save(module, str(path))
    image = torch.randint(0, 256, (1, 3, 50, 80), dtype=torch.uint8)
    with torch.no_grad():
        return image, module(image)


@pytest.mark.parametrize(
    ("library", "name"), [("timm", "test_vit"), ("timm", "test_convnext"), ("open_clip", "ViT-S-32-alt")]
)
def test_exports_hold_nothing_that_1_11_lacks(library: str, name: str, tmp_path: Path):
    backbone = build_backbone(Model(library, name), 64).eval()
    pixels = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        before = backbone(pixels)
        after = write_out(backbone)(pixels)
    assert not backbone.training and not any(module.training for module in backbone.modules())
    torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-4)
    saved(backbone, tmp_path / "m.pt")
    assert unknown_to_1_11(tmp_path / "m.pt") == []


def test_minibenchs_mobilenet_holds_nothing_that_1_11_lacks(tmp_path: Path):
    """Its `same` padding is written by F.pad, whose operator is newer than 1.11."""
    saved(write_out(build_backbone(Model("timm", "mobilenetv2_100", pad_type="same"), 64)).eval(), tmp_path / "m.pt")
    assert unknown_to_1_11(tmp_path / "m.pt") == []


class Called(nn.Module):
    """What forwards call as functions, without a module that could be replaced."""

    def forward(self, pixels: Tensor) -> Tensor:
        x = F.pad(pixels, (1, 2, 0, 3)) + F.pad(pixels, [2, 1, 3, 0], value=-0.7)
        x = x + F.pad(pixels, (1, 2, 1, 2), mode="reflect") + F.pad(pixels, (2, 1, 2, 1), "replicate")
        x = F.gelu(x) + F.gelu(x, approximate="tanh")
        tokens = x.flatten(2).transpose(1, 2).unflatten(2, (1, 3)).transpose(1, 2)  # [n, 1 head, tokens, 3]
        far = torch.arange(tokens.shape[2])[None] > 40
        mixed = F.scaled_dot_product_attention(tokens, tokens, tokens, attn_mask=far) + F.scaled_dot_product_attention(
            tokens, tokens, tokens, far * 0.3
        )
        mixed = (
            mixed
            + F.scaled_dot_product_attention(tokens, tokens, tokens, is_causal=True)
            + F.scaled_dot_product_attention(tokens, tokens, tokens, scale=2.0)
        )
        return F.rms_norm(mixed.flatten(1)[:, :64], (64,))


def test_functions_are_written_out_while_traced(tmp_path: Path):
    pixels = torch.randn(3, 3, 8, 8)
    traced, _ = trace_network(Called().eval(), 8)
    torch.testing.assert_close(traced(pixels), Called()(pixels), atol=1e-5, rtol=1e-4)
    with quiet_jit():
        torch.jit.save(traced, str(tmp_path / "m.pt"))
        torch.jit.save(torch.jit.trace(Called(), pixels), str(tmp_path / "as_it_is.pt"))
    assert unknown_to_1_11(tmp_path / "m.pt") == []
    assert unknown_to_1_11(tmp_path / "as_it_is.pt") == [
        "file format 10",
        "aten::pad",
        "aten::rms_norm",
        "aten::scaled_dot_product_attention",
    ]


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate", "circular"])
def test_pad_is_torchs(mode: str, dims: int):
    x = torch.randn(2, 3, *(5, 6, 4)[:dims])
    sizes = (1, 2, 3, 0, 2, 1)[: 2 * dims]
    with PlainCalls():
        padded = F.pad(x, sizes, mode=mode)
    assert torch.equal(padded, F.pad(x, sizes, mode=mode))


def test_what_1_11_lacks_is_named(tmp_path: Path):
    class Wrapped(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.pad(x, (1, 1, 1, 1), mode="circular").mean((2, 3)).repeat(1, 22)[:, :64]

    traced, _ = trace_network(Wrapped().eval(), 8)
    with quiet_jit():
        torch.jit.save(traced, str(tmp_path / "m.pt"))
    assert unknown_to_1_11(tmp_path / "m.pt") == ["aten::pad"]


def test_operators_of_branches_that_are_never_taken_count(tmp_path: Path):
    class Dead(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.interpolate(x, size=(4, 4), mode="bicubic", antialias=True, align_corners=False)

    with quiet_jit():
        torch.jit.save(torch.jit.script(Dead()), str(tmp_path / "m.pt"))
    assert "aten::_upsample_lanczos2d_aa" in unknown_to_1_11(tmp_path / "m.pt")
