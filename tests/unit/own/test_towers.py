import json
import re
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from guie.model.normalisation import mean_std
from guie.own.towers import SHIPPED_PX, TAGS, Refused, Tower, tower, towers, weights_in


def weights(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({"x": torch.zeros(1)}, path)
    return path


def test_the_shipped_one_is_a_file_of_the_project():
    shipped = tower("shipped")
    assert shipped.weights is not None and shipped.weights.is_file()
    assert (shipped.image_px, shipped.licence, shipped.short) == (SHIPPED_PX, "apache-2.0", "shipped ViT")
    assert tower("shipped@112").image_px == 112


def test_tags_of_timm_take_size_licence_and_pixels_from_timm():
    for text in TAGS:
        found = tower(text)
        name, tag = re.fullmatch(r"timm:([^.]+)\.([^@]+)(?:@\d+)?", text).groups()
        config = timm.get_pretrained_cfg(f"{name}.{tag}")
        assert found.licence == config.license == "apache-2.0"
        assert found.model.name == name and found.model.weights == f"pretrained:{tag}"
        assert found.image_px == (int(text.partition("@")[2]) if "@" in text else config.input_size[-1])
        assert mean_std(found.model) == (tuple(config.mean), tuple(config.std))


def test_a_name_without_a_tag_takes_the_default_one():
    name = "vit_small_patch16_dinov3"
    found = tower(f"timm:{name}")
    assert found.model.weights == f"pretrained:{timm.get_pretrained_cfg(name).tag}"
    assert found.licence == "dinov3-license"


@pytest.mark.parametrize(
    ("text", "px", "licence"),
    [
        ("open_clip:ViT-B-16-SigLIP2:webli", 224, "apache-2.0"),
        ("open_clip:ViT-B-16-SigLIP2-384:webli", 384, "apache-2.0"),
        ("open_clip:PE-Core-L-14-336:meta", 336, "apache-2.0"),
        ("open_clip:ViT-H-14-378:dfn5b", 378, "apple-ascl"),
        ("open_clip:MobileCLIP2-S0:dfndr2b", 256, "apple-amlr"),
        ("open_clip:ViT-H-14-worldwide:metaclip2_worldwide", 224, "cc-by-nc-4.0"),
        ("open_clip:ViT-H-14:laion2b_s32b_b79k@280", 280, "mit"),
        ("open_clip:RN50:yfcc15m", 224, "not known"),
    ],
)
def test_tags_of_open_clip(text: str, px: int, licence: str):
    found = tower(text)
    assert (found.image_px, found.licence) == (px, licence)
    assert found.model.library == "open_clip" and found.weights is None


def test_default_tag_of_open_clip_is_one_of_the_networks_own_activation():
    assert tower("open_clip:ViT-B-32").model.weights == "pretrained:laion2b_e16"  # the first of GELU
    assert tower("open_clip:ViT-B-32-quickgelu").model.weights == "pretrained:openai"
    # without one the first, which building it refuses or takes
    assert tower("open_clip:RN50").model.weights == "pretrained:openai"


def test_files_of_weights_tell_their_network_by_recipe_config_name_or_text(tmp_path: Path):
    known = tower(str(weights(tmp_path / "mobilenetv2_100_imagenet.safetensors")))
    assert (known.model.name, known.model.pad_type, known.model.mean) == ("mobilenetv2_100", "same", (0.5, 0.5, 0.5))
    hub = weights(tmp_path / "hub/model.safetensors")
    (hub.parent / "config.json").write_text(json.dumps({"architecture": "resnet18"}))
    assert tower(str(hub)).model.name == "resnet18"
    by_name = tower(str(weights(tmp_path / "vit-small-patch16-224-mine.safetensors")))
    assert by_name.model.name == "vit_small_patch16_224"
    written = tower("timm:resnet26=mine.safetensors@96", [weights(tmp_path / "mine.safetensors").parent])
    assert (written.model.name, written.image_px, written.licence) == ("resnet26", 96, "not known")
    assert written.weights == tmp_path / "mine.safetensors"
    with pytest.raises(ValueError, match=r"which network mine\.safetensors is for cannot be told; write timm:NAME="):
        tower(str(tmp_path / "mine.safetensors"))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("resnet", "is no tower; write shipped, a file"),
        ("timm:vit_base_patch16_siglip224", "timm has no network 'vit_base_patch16_siglip224'; similar: vit_base"),
        ("timm:resnet18.fantasy", "timm has no weights 'fantasy' for resnet18; timm.list_pretrained() lists all"),
        ("timm:qqq", "timm has no network 'qqq'; timm.list_models() lists all"),
        (
            "open_clip:ViT-B-16-SigLIP22:webli",
            "open_clip has no network 'ViT-B-16-SigLIP22'; similar: ViT-B-16-SigLIP2",
        ),
        ("open_clip:ViT-B-16-SigLIP2:webly", "open_clip has no weights 'webly' for ViT-B-16-SigLIP2; similar: webli"),
        ("nowhere.safetensors", "weights nowhere.safetensors are in none of"),
        ("shipped@8", "8 px, must be 16 to 4096"),
    ],
)
def test_a_tower_that_does_not_exist_is_one_line(text: str, told: str):
    with pytest.raises(ValueError, match=re.escape(told)) as error:
        tower(text)
    assert "\n" not in str(error.value)


def test_default_stands_for_the_shipped_one_files_that_are_found_and_tags(tmp_path: Path):
    weights(tmp_path / "weights/resnet18_mine.safetensors")
    weights(tmp_path / "weights/strange.safetensors")
    (tmp_path / "weights/README.md").write_text("x")
    found = towers(["default", "shipped"], [tmp_path / "weights", tmp_path / "none", tmp_path / "weights"])
    assert [one.name for one in found] == [
        "shipped",
        str(tmp_path / "weights/resnet18_mine.safetensors"),
        str(tmp_path / "weights/strange.safetensors"),
        *TAGS,
    ]
    assert [type(one) for one in found] == [Tower, Tower, Refused, *[Tower] * len(TAGS)]


def test_the_shipped_file_is_not_found_a_second_time():
    shipped = tower("shipped")
    assert shipped.weights is not None
    assert shipped.weights not in list(weights_in([shipped.weights.parent]))
