"""Networks by name and tag: only what is needed is built, and what is missing is told in one line, without a
network."""

import json
import logging
import socket
from pathlib import Path

import open_clip
import pytest
import timm
import torch
from open_clip import pretrained as tags_of_open_clip

from guie.model.backbone import build_backbone
from guie.model.libraries import build_network
from guie.recipe import Model

SMALL = {"image_size": 64, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}
TEXT = {"context_length": 8, "vocab_size": 16, "width": 16, "heads": 2, "layers": 1}


@pytest.fixture
def small_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a small open_clip model whose text side is a network of Hugging Face's."""
    (tmp_path / "small-hf.json").write_text(
        json.dumps({"embed_dim": 24, "vision_cfg": SMALL, "text_cfg": {"hf_model_name": "nobody/has-this", **TEXT}})
    )
    (tmp_path / "small-clip.json").write_text(json.dumps({"embed_dim": 24, "vision_cfg": SMALL, "text_cfg": TEXT}))
    open_clip.add_model_config(tmp_path)
    return "small-clip"


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


def test_tower_beside_a_text_side_of_hugging_face_needs_no_network(small_clip: str, no_network: None):
    for name in ("small-hf", "roberta-ViT-B-32"):
        with torch.device("meta"):
            assert type(build_network(Model("open_clip", name))).__name__ == "VisionTransformer"


def test_tower_is_that_of_open_clips_whole_model(small_clip: str):
    torch.manual_seed(5)
    whole = open_clip.create_model(small_clip).eval()
    torch.manual_seed(5)
    alone = build_network(Model("open_clip", small_clip)).eval()
    assert all(torch.equal(tensor, whole.visual.state_dict()[name]) for name, tensor in alone.state_dict().items())


def test_random_weights_are_not_announced_where_a_file_is_loaded(
    small_clip: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    torch.save(open_clip.create_model(small_clip).state_dict(), tmp_path / "w.pt")
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        build_backbone(Model("open_clip", small_clip), 64, tmp_path / "w.pt")
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        open_clip.create_model(small_clip)  # what others announce is still heard
    assert "initialized randomly" in caplog.text


def test_weights_of_a_tag_are_the_towers(small_clip: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    whole = open_clip.create_model(small_clip).eval()
    torch.save(
        {"state_dict": {f"module.{n}": t for n, t in whole.state_dict().items()}, "args": None}, tmp_path / "clip.pt"
    )
    monkeypatch.setitem(
        tags_of_open_clip._PRETRAINED,
        small_clip,
        {"mine": {"file": str(tmp_path / "clip.pt"), "mean": (0.1, 0.2, 0.3), "std": (1, 1, 1)}},
    )
    pixels = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = open_clip.create_model(small_clip, pretrained="mine").eval().encode_image(pixels)
        torch.testing.assert_close(
            build_backbone(Model("open_clip", small_clip, "pretrained:mine"), 64)(pixels), expected
        )
        torch.testing.assert_close(expected, whole.encode_image(pixels))


@pytest.mark.parametrize(
    ("model", "told"),
    [
        (
            Model("timm", "vit_tiny_patch16_224", "pretrained:nothing"),
            "timm has these tags for vit_tiny_patch16_224: augreg_in21k",
        ),
        (Model("timm", "vit_tiny_patch16"), "is not a model of timm .*similar names: .*vit_tiny_patch16_224"),
        (Model("timm", "no_such_thing_at_all_zzz"), "similar names: none"),
        (Model("timm", "samvit_base_patch16_224", "pretrained:a"), "timm has no weights for samvit_base_patch16_224"),
        (Model("open_clip", "ViT-B-33"), "is not an open_clip model; similar names: ViT-B-32"),
        (
            Model("open_clip", "ViT-B-32", "pretrained:laion"),
            "open_clip has these tags for ViT-B-32: .*laion2b_s34b_b79k",
        ),
        (
            Model("timm", "vit_tiny_patch16_224", "pretrained:augreg_in21k"),
            "could not be fetched .huggingface.co cannot be reached.*HF_HUB_OFFLINE=1.*or name a file",
        ),
        (
            Model("open_clip", "ViT-B-32", "pretrained:laion2b_s34b_b79k"),
            "could not be fetched .huggingface.co cannot be reached",
        ),
        (
            Model("open_clip", "roberta-ViT-B-32", "pretrained:laion2b_s12b_b32k"),
            "could not be fetched .huggingface.co cannot be reached",
        ),
        *(
            (
                Model(library, f"hf-hub:me/mine{revision}"),
                f"^the configuration of {library}'s hf-hub:me/mine{revision} could not be fetched .huggingface.co",
            )
            for library, revision in (("timm", "@v2"), ("open_clip", ""))
        ),
    ],
)
def test_names_tags_and_a_missing_network_are_told_in_one_line(model: Model, told: str, no_network: None):
    with pytest.raises(ValueError, match=told) as caught, torch.device("meta"):
        build_network(model)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


def test_cached_weights_are_not_asked_for_at_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_network: None):
    import huggingface_hub

    folder = tmp_path / "models--timm--vit_tiny_patch16_224.augreg_in21k/snapshots/1"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    asked: list[str] = []

    def create(name: str, **options: object) -> torch.nn.Module:
        asked.append(name)
        return torch.nn.Identity()

    monkeypatch.setattr(timm, "create_model", create)
    build_network(Model("timm", "vit_tiny_patch16_224", "pretrained:augreg_in21k"))
    assert asked == ["vit_tiny_patch16_224.augreg_in21k"]
    (tmp_path / "models--me--mine/snapshots/1").mkdir(parents=True)
    (tmp_path / "models--me--mine/snapshots/1/config.json").write_bytes(b"")
    build_network(Model("timm", "hf-hub:me/mine@v2"))
    assert asked[1:] == ["hf-hub:me/mine@v2"]
