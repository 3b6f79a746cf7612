"""Position embeddings on another grid, overlapping patches: against timm, against a loop over patches, against
hand-counted tokens."""

import pytest
import timm
import torch
from timm.layers import resample_abs_pos_embed
from torch import nn
from tower_families import side_by_side

from guie.model.backbone import build_backbone
from guie.model.patches import n_tokens, resized_position_embedding, set_resolution
from guie.recipe import Model


@pytest.mark.parametrize(
    ("image_px", "patch_px", "stride", "expected"),
    [(224, 14, 14, 16), (280, 14, 14, 20), (290, 14, 12, 24), (224, 16, 16, 14), (160, 16, 12, 13), (16, 16, 1, 1)],
)
def test_tokens_along_a_side(image_px: int, patch_px: int, stride: int, expected: int):
    assert n_tokens(image_px, patch_px, stride) == expected
    assert len([left for left in range(0, image_px, stride) if left + patch_px <= image_px]) == expected


def test_same_grid_changes_nothing():
    embedding = torch.randn(1, 17, 8)
    assert torch.equal(resized_position_embedding(embedding, (4, 4), (4, 4)), embedding)


@pytest.mark.parametrize(("old", "new"), [(14, 20), (16, 24), (14, 13), (14, 7)])
def test_agrees_with_timm(old: int, new: int):
    embedding = torch.randn(1, 1 + old * old, 8)
    expected = resample_abs_pos_embed(
        embedding, (new, new), num_prefix_tokens=1, interpolation="bicubic", antialias=True
    )
    assert torch.allclose(resized_position_embedding(embedding, (old, old), (new, new)), expected, atol=1e-5)


@pytest.mark.parametrize("new", [7, 20, 28])
def test_ramp_stays_a_ramp_and_the_class_token_stays(new: int):
    ramp = (torch.arange(14.0) + 0.5) / 14
    grid = torch.stack([ramp[:, None].expand(14, 14), ramp[None, :].expand(14, 14)], dim=2).reshape(196, 2)
    resized = resized_position_embedding(torch.cat([torch.tensor([[7.0, -7.0]]), grid]), (14, 14), (new, new))
    assert resized[0].tolist() == [7.0, -7.0]
    centres = (torch.arange(float(new)) + 0.5) / new
    inner = (centres > 0.3) & (centres < 0.7)
    got = resized[1:].reshape(new, new, 2)
    assert torch.allclose(got[inner][:, :, 0], centres[inner][:, None].expand(-1, new), atol=2e-3)
    assert torch.allclose(got[:, inner][:, :, 1], centres[inner].expand(new, -1), atol=2e-3)


def test_half_precision_and_shape_without_batch_are_kept():
    resized = resized_position_embedding(torch.randn(10, 4).half(), (3, 3), (5, 5))
    assert resized.dtype == torch.float16 and resized.shape == (26, 4)


@pytest.mark.parametrize(("image_px", "stride", "side"), [(160, 0, 10), (160, 12, 13), (97, 12, 7), (64, 8, 7)])
def test_timm_vit_cuts_overlapping_patches(image_px: int, stride: int, side: int):
    network = timm.create_model("test_vit", num_classes=0).eval()
    set_resolution(network, image_px, stride)
    pixels = torch.randn(2, 3, image_px, image_px)
    with torch.no_grad():
        tokens = network.patch_embed(pixels).reshape(2, -1, 64)  # test_vit leaves the grid as it is
        assert tokens.shape[1] == side * side and network(pixels).shape == (2, 64)
    proj, step = network.patch_embed.proj, stride or 16
    for row, column in ((0, 0), (side - 1, 0), (1, side - 1)):
        patch = pixels[:, :, row * step : row * step + 16, column * step : column * step + 16]
        by_hand = torch.einsum("nchw,dchw->nd", patch, proj.weight) + proj.bias
        assert torch.allclose(tokens[:, row * side + column], by_hand, atol=1e-4)


SMALL = {"depth": 2, "embed_dim": 48, "num_heads": 3}
OVERLAPPING = {
    "test_vit": {},
    "vit_small_patch16_dinov3": SMALL,
    "vit_pe_core_small_patch16_384": {**SMALL, "attn_pool_num_heads": 3},
    "eva02_tiny_patch14_224": SMALL,
    "naflexvit_base_patch16_siglip": SMALL,
    "naflexvit_base_patch16_parfac_gap": {**SMALL, "embed_proj_type": "conv"},
    "vit_base_patch16_siglip_224": SMALL,
}


@pytest.mark.parametrize("name", list(OVERLAPPING))
@pytest.mark.parametrize("stride", [10, 7])
def test_overlap_is_the_librarys_forward_of_the_patches_side_by_side(name: str, stride: int):
    """Position embeddings, rotary ones too, are those of the library for the finer grid."""
    torch.manual_seed(0)
    network = timm.create_model(name, num_classes=0, **OVERLAPPING[name]).eval()
    reference = timm.create_model(name, num_classes=0, **OVERLAPPING[name]).eval()
    reference.load_state_dict(network.state_dict())
    patch_px = 14 if "patch14" in name else 16
    pixels = torch.randn(2, 3, 75, 75)
    wide = side_by_side(pixels, patch_px, stride)
    set_resolution(network, 75, stride)
    if "naflex" not in name:
        reference.set_input_size(img_size=wide.shape[-2:])
    with torch.no_grad():
        got, expected = network(pixels), reference(wide)
        assert torch.allclose(got, expected, atol=1e-4), float((got - expected).abs().max())
        set_resolution(network, 160, 0)  # and back
        if "naflex" not in name:
            reference.set_input_size(img_size=(160, 160))
        if "pos_embed" not in dict(network.named_parameters()):  # interpolated twice it would differ
            plain = torch.randn(1, 3, 160, 160)
            assert torch.allclose(network(plain), reference(plain), atol=1e-4)


def test_open_clip_vit_cuts_overlapping_patches():
    backbone = build_backbone(Model("open_clip", "ViT-S-32-alt"), 96, patch_stride=16, seed=1)
    seen: list[int] = []
    first = backbone.network.transformer.resblocks[0]
    first.register_forward_hook(lambda module, inputs, output: seen.append(output.shape[1]))
    with torch.no_grad():
        assert backbone(torch.randn(2, 3, 96, 96)).shape == (2, backbone.feature_dim)
    assert seen == [1 + 5 * 5]
    native = build_backbone(Model("open_clip", "ViT-S-32-alt"), 224, seed=1)
    expected = resized_position_embedding(native.network.positional_embedding, (7, 7), (5, 5))
    assert torch.equal(backbone.network.positional_embedding, expected)


def test_stride_of_the_patch_is_no_overlap():
    plain, explicit = (build_backbone(Model("timm", "test_vit"), 96, seed=3, patch_stride=stride) for stride in (0, 16))
    pixels = torch.randn(1, 3, 96, 96)
    with torch.no_grad():
        assert torch.equal(plain(pixels), explicit(pixels))


@pytest.mark.parametrize(
    ("network", "image_px", "stride", "complaint"),
    [
        ("test_vit", 96, 17, "patch_stride is 17, must be 1 to 16"),
        ("test_vit", 12, 0, "image_px is 12, must be at least 16"),
        ("test_convnext", 96, 12, "a ConvNeXt cannot cut overlapping patches"),
    ],
)
def test_what_cannot_be_is_told(network: str, image_px: int, stride: int, complaint: str):
    module: nn.Module = timm.create_model(network, num_classes=0)
    with pytest.raises(ValueError, match=complaint):
        set_resolution(module, image_px, stride)
