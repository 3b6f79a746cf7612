"""Backbones of both libraries: shapes, batch norm, weights that do not fit."""

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from guie.files import load_weights, save_weights
from guie.model.backbone import Backbone, build_backbone, folded
from guie.model.patches import set_resolution
from guie.recipe import Model, load_recipe
from guie.train.model import build_model, load_parts

SMALL = Model("timm", "test_convnext")


def test_seed_decides_random_weights() -> None:
    a, b, c = (build_backbone(SMALL, 64, seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not all(torch.equal(a[name], c[name]) for name in a)


def test_batch_norm_keeps_its_statistics_in_training_mode() -> None:
    backbone = build_backbone(Model("timm", "test_resnet"), 64).train()
    before = {n: b.clone() for n, b in backbone.named_buffers()}
    assert backbone.training and any("running_mean" in n for n in before)
    backbone(torch.randn(4, 3, 64, 64) + 5)
    assert all(torch.equal(before[n], b) for n, b in backbone.named_buffers())


def test_position_embedding_follows_the_resolution() -> None:
    small, large = (build_backbone(Model("timm", "test_vit"), px, seed=3) for px in (160, 224))
    with torch.no_grad():
        assert (
            small(torch.randn(1, 3, 160, 160)).shape
            == large(torch.randn(1, 3, 224, 224)).shape
            == (1, small.feature_dim)
        )
    assert large.network.pos_embed.shape[1] - 1 == (224 // 16) ** 2


def test_open_clip_tower_takes_another_resolution() -> None:
    backbone = build_backbone(Model("open_clip", "ViT-S-32-alt"), 96)
    with torch.no_grad():
        assert backbone(torch.randn(2, 3, 96, 96)).shape == (2, backbone.feature_dim)


def test_open_clip_resnet_takes_another_resolution() -> None:
    """RN50's structure at a tenth of its width: at the side that it was built for nothing changes."""
    from open_clip.modified_resnet import ModifiedResNet

    torch.manual_seed(0)
    network = ModifiedResNet((1, 1, 1, 1), output_dim=16, heads=4, image_size=64, width=8).eval()
    pixels = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        before = network(pixels)
        set_resolution(network, 64)
        assert torch.equal(network(pixels), before)
        set_resolution(network, 96)
        for px in (95, 97, 96):
            set_resolution(network, px)
            assert network(torch.randn(2, 3, px, px)).shape == (2, 16)
    assert network.attnpool.positional_embedding.shape[0] == 1 + 3 * 3
    for px, stride, complaint in ((16, 0, "at least 32"), (64, 8, "cannot cut overlapping patches")):
        with pytest.raises(ValueError, match=complaint):
            set_resolution(network, px, stride)


def test_whole_clip_files_give_their_image_tower(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """open_clip warns of a model without weights. That is false where we load them, and must not be said there."""
    import open_clip

    model = Model("open_clip", "ViT-S-32-alt")
    whole = open_clip.create_model(model.name).eval()
    assert "No pretrained weights loaded" in caplog.text, "true here"
    caplog.clear()
    save_file(whole.state_dict(), tmp_path / "open_clip_model.safetensors")
    torch.save(
        {"epoch": 1, "state_dict": {f"module.{name}": tensor for name, tensor in whole.state_dict().items()}},
        tmp_path / "epoch_1.pt",
    )
    pixels = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        expected = whole.encode_image(pixels)
        for name in ("open_clip_model.safetensors", "epoch_1.pt"):
            torch.testing.assert_close(build_backbone(model, 224, tmp_path / name)(pixels), expected)
    assert "weights" not in caplog.text.lower(), caplog.text


def test_weights_of_the_library_load_without_their_classification_layer(tmp_path: Path) -> None:
    whole = timm.create_model("test_convnext", num_classes=10)
    save_file(whole.state_dict(), tmp_path / "w.safetensors")
    backbone = build_backbone(SMALL, 64, tmp_path / "w.safetensors")
    whole.reset_classifier(0)
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(backbone(x), whole.eval()(x))


@pytest.mark.parametrize("content", [b"", b"not safetensors", b"\x80\x04pickle"])
def test_damaged_weights_are_refused_with_a_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        build_backbone(SMALL, 64, path)


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    save_file({"stem.weight": torch.zeros(3)}, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match="does not fit the backbone"):
        build_backbone(SMALL, 64, tmp_path / "w.safetensors")


@pytest.mark.parametrize("library", ["timm", "open_clip"])
def test_unknown_name_is_refused(library: str) -> None:
    with pytest.raises(ValueError, match="no_such_net"):
        build_backbone(Model(library, "no_such_net"), 64)


def test_parts_load_strictly_but_for_the_fresh_ones(tmp_path: Path) -> None:
    stage = load_recipe("tiny").stage("s1_head")
    a, b = (build_model(build_backbone(SMALL, 64, seed=s), stage, torch.ones(5), torch.arange(5), s) for s in (0, 1))
    save_weights(tmp_path / "a.safetensors", a.result())

    def weights_of(part: str) -> dict[str, torch.Tensor]:
        return load_weights(tmp_path / "a.safetensors", f"{part}.")

    own = {name: tensor.clone() for name, tensor in b.state_dict().items()}
    load_parts(b, weights_of, ("objective",), "here")
    differ = {name for name, tensor in b.state_dict().items() if not torch.equal(tensor, own[name])}
    assert differ == {"neck.linear.weight", "neck.linear.bias"}
    assert all(torch.equal(b.state_dict()[name], a.state_dict()[name]) for name in differ)
    load_parts(b, weights_of, (), "here")
    assert torch.equal(b.objective.centers, a.objective.centers) and not torch.equal(
        own["objective.centers"], a.objective.centers
    )
    more_classes = build_model(build_backbone(SMALL, 64), stage, torch.ones(6), torch.arange(6), 0)
    with pytest.raises(ValueError, match=r"here: its objective does not fit this stage .* name it in start\.fresh"):
        load_parts(more_classes, weights_of, (), "here")
    assert set(weights_of("objective")) == {"centers"}
    assert {name.split(".")[0] for name in load_weights(tmp_path / "a.safetensors")} == {
        "backbone",
        "neck",
        "objective",
    }


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_vit"])
def test_folded_backbone_gives_the_same_features(name: str) -> None:
    backbone = build_backbone(Model("timm", name), 160, seed=1)
    for module in backbone.modules():  # statistics that are not the trivial ones
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
    n_norms = sum(isinstance(m, torch.nn.BatchNorm2d) for m in backbone.modules())
    fast = folded(backbone, 160)
    assert sum(isinstance(m, torch.nn.BatchNorm2d) for m in fast.modules()) < max(1, n_norms)
    x = torch.randn(2, 3, 160, 160)
    with torch.no_grad():
        torch.testing.assert_close(fast(x), backbone.eval()(x), rtol=1e-3, atol=1e-4)
    assert sum(isinstance(m, torch.nn.BatchNorm2d) for m in backbone.modules()) == n_norms  # the original is untouched


def test_norm_that_only_stands_beside_a_convolution_is_not_folded() -> None:
    class Parallel(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 3, 3, padding=1)
            self.norm = torch.nn.BatchNorm2d(3)
            torch.nn.init.constant_(self.norm.weight, 3.0)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (self.conv(x) + self.norm(x)).mean((2, 3))

    backbone = Backbone(Parallel(), 3)
    assert folded(backbone, 32) is backbone


@pytest.mark.parametrize(
    ("library", "name", "tag", "other"),
    [
        ("open_clip", "ViT-L-14-336", "openai", "ViT-L-14-336-quickgelu"),
        ("open_clip", "ViT-H-14", "dfn5b", "ViT-H-14-quickgelu"),
        ("open_clip", "ViT-H-14-worldwide", "metaclip2_worldwide", "ViT-H-14-worldwide-quickgelu"),
        ("timm", "vit_large_patch14_clip_336", "openai", "vit_large_patch14_clip_quickgelu_336"),
        ("timm", "vit_huge_patch14_clip_224", "dfn5b", "vit_huge_patch14_clip_quickgelu_224"),
        ("timm", "vit_huge_patch14_clip_224", "metaclip2_worldwide", "vit_huge_patch14_clip_quickgelu_224"),
    ],
)
def test_weights_of_another_activation_are_refused_before_they_are_fetched(
    library: str, name: str, tag: str, other: str
) -> None:
    with pytest.raises(ValueError, match=rf"another activation than the weights '{tag}' .* set model.name='{other}'"):
        build_backbone(Model(library, name, f"pretrained:{tag}"), 336)  # type: ignore[arg-type]
