"""Patches that are left out while a transformer trains: how many, which, and that none is left out afterwards."""

import pytest
import timm
import torch
from torch import Tensor, nn

from guie.model.backbone import Backbone, build_backbone
from guie.model.patch_drop import drop_patches
from guie.settings.model import Model

SMALL = {"depth": 2, "embed_dim": 48, "num_heads": 3}
TOWERS = {
    "test_vit": {},
    "deit_tiny_distilled_patch16_224": SMALL,
    "vit_small_patch16_dinov3": SMALL,
    "vit_pe_core_small_patch16_384": {**SMALL, "attn_pool_num_heads": 3},
    "naflexvit_base_patch16_siglip": SMALL,
    "vit_base_patch16_siglip_224": SMALL,
}
PX, PATCH_PX, SHARE = 96, 16, 0.6
N_PATCHES = (PX // PATCH_PX) ** 2
N_KEPT = 14  # int(36 * .4)


def tower(name: str) -> Backbone:
    torch.manual_seed(0)
    if name == "ViT-S-32-alt":
        return build_backbone(Model("open_clip", name), 2 * PX)
    network = timm.create_model(name, num_classes=0, **TOWERS[name])
    if "naflex" not in name:
        network.set_input_size(img_size=PX)
    return Backbone(network, 0)


def seen(backbone: Backbone, n_images: int = 3) -> Tensor:
    """bool [n, places]: on which patches of each image its feature depends."""
    px = 2 * PX if hasattr(backbone.network, "patch_dropout") else PX  # open_clip's patches have 32 px
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randn(n_images, 3, px, px, generator=generator).requires_grad_()
    weights = torch.randn(backbone(pixels[:1]).shape[1], generator=generator)
    torch.manual_seed(2)
    (backbone(pixels) @ weights).sum().backward()
    assert pixels.grad is not None
    places = nn.functional.avg_pool2d(pixels.grad.abs().sum(1, keepdim=True), px * PATCH_PX // PX)
    return places.flatten(1) > 0


@pytest.mark.parametrize("name", [*TOWERS, "ViT-S-32-alt"])
def test_feature_depends_on_the_kept_patches_alone_and_in_eval_mode_on_all(name: str):
    backbone = tower(name)
    drop_patches(backbone.network, SHARE)
    kept = seen(backbone.train())
    assert kept.sum(1).tolist() == [N_KEPT] * 3
    assert not torch.equal(kept[0], kept[1])  # each image keeps others
    assert seen(backbone.eval()).all() and kept.shape == (3, N_PATCHES)


@pytest.mark.parametrize("name", [*TOWERS, "ViT-S-32-alt"])
def test_network_in_eval_mode_sees_all_patches_as_soon_as_it_is_prepared(name: str):
    backbone = tower(name).eval()
    drop_patches(backbone.network, SHARE)
    assert seen(backbone).all()


def test_feature_is_that_of_a_network_which_gets_the_kept_tokens_only():
    backbone = tower("test_vit")
    network = backbone.network
    drop_patches(network, SHARE)
    pixels = torch.randn(3, 3, PX, PX, generator=torch.Generator().manual_seed(1))
    places = seen(backbone.train())
    torch.manual_seed(2)
    got = backbone(pixels)
    with torch.no_grad():
        tokens = network._pos_embed(network.patch_embed(pixels))
        for i in range(3):
            alone = torch.cat([tokens[i, :1], tokens[i, 1:][places[i]]])[None]
            expected = network.forward_head(network.norm(network.blocks(network.norm_pre(alone))))
            torch.testing.assert_close(got[i : i + 1], expected, rtol=1e-4, atol=1e-5)


def test_same_seed_keeps_the_same_patches():
    backbone = tower("test_vit").train()
    drop_patches(backbone.network, SHARE)
    assert torch.equal(seen(backbone), seen(backbone))


@pytest.mark.parametrize("name", ["test_convnext", "test_resnet", "hiera_tiny_224"])
def test_network_without_such_tokens_is_refused(name: str):
    with torch.device("meta"):
        network = timm.create_model(name, num_classes=0)
    with pytest.raises(ValueError, match=rf"^a {type(network).__name__} cannot leave out patches .* patch_drop to 0$"):
        drop_patches(network, 0.5)
