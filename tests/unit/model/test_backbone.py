"""Backbones of both libraries: shapes, batch norm, weights that do not fit."""

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from guie.model.backbone import build_backbone
from guie.model.embedder import build_embedder, load_parts, part_of
from guie.recipe import Model, Stage, load_recipe

SMALL = Model("timm", "test_convnext")
FRESH = ("neck", "classifier")


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
        assert small(torch.randn(1, 3, 160, 160)).shape == large(torch.randn(1, 3, 224, 224)).shape == (1, small.feature_dim)
    assert large.network.pos_embed.shape[1] - 1 == (224 // 16) ** 2


def test_open_clip_tower_takes_another_resolution() -> None:
    backbone = build_backbone(Model("open_clip", "ViT-S-32-alt"), 96)
    with torch.no_grad():
        assert backbone(torch.randn(2, 3, 96, 96)).shape == (2, backbone.feature_dim)


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


def test_parts_load_strictly_but_for_the_fresh_ones() -> None:
    stage: Stage = load_recipe("tiny").stages[0]
    a, b = (build_embedder(build_backbone(SMALL, 64, seed=s), stage, 5, s) for s in (0, 1))
    load_parts(b, a.state_dict(), ("classifier",), "here")
    assert torch.equal(a.neck.linear.weight, b.neck.linear.weight)
    assert not torch.equal(a.classifier.centers, b.classifier.centers)
    more_classes = build_embedder(build_backbone(SMALL, 64), stage, 6, 0)
    with pytest.raises(ValueError, match="classifier does not fit"):
        load_parts(more_classes, a.state_dict(), (), "here")
    assert set(part_of(a.state_dict(), "classifier")) == {"centers"}
