"""Every family of towers through our door: the library's own features at two resolutions, overlapping patches, and an
export with the operators of torch 1.11."""

import os
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from tower_families import CLIP, FAMILIES, HALF, IMAGENET, RAW, Family, Theirs, reduce, side_by_side, stir

from guie.embed.views import normalise
from guie.export.operators import unknown_to_1_11
from guie.export.plain import write_out
from guie.export.torchscript import quiet_jit, trace_network
from guie.model.backbone import Backbone, build_backbone
from guie.model.normalisation import mean_std
from guie.own.towers import tower
from guie.run import PROJECT
from guie.settings.model import Model

OLD = os.environ.get("GUIE_OLD_PYTHON", "")  # a Python with torch 1.11 or 1.13; src/README.md says how to make one
LOADS = """
import sys, numpy, torch
with torch.no_grad():
    numpy.save(sys.argv[3], torch.jit.load(sys.argv[1])(torch.from_numpy(numpy.load(sys.argv[2]))).numpy())
"""


def images_of(px: int) -> Tensor:
    """Two images: dark and bright noise."""
    noise = torch.randint(0, 120, (2, 3, px, px), dtype=torch.uint8, generator=torch.Generator().manual_seed(px))
    return noise + torch.tensor([0, 130], dtype=torch.uint8).view(2, 1, 1, 1)


def is_near(got: Tensor, expected: Tensor) -> bool:
    """Within 2e-4 of the largest feature: float32 through a few layers, and features that are not all alike."""
    assert float((expected[0] - expected[1]).abs().max()) > 1e-3 * float(expected.abs().max())
    return got.shape == expected.shape and float((got - expected).abs().max()) < 2e-4 * float(expected.abs().max())


def ours(model: Model, backbone: Backbone, images: Tensor) -> Tensor:
    with torch.no_grad():
        return backbone(normalise(images.float(), *mean_std(model)))


def check_family(family: Family, folder: Path, sides: tuple[int, ...]) -> None:
    model = Model(family.library, family.name, f"pretrained:{family.tag}")
    np.testing.assert_allclose(mean_std(model), family.pixels, atol=1e-6)
    theirs = Theirs(family)
    stir(theirs.tower)
    path = folder / "weights.pt"
    torch.save(theirs.tower.state_dict(), path)
    for px in sides:
        backbone = build_backbone(model, px, path, has_tag_weights=False)
        assert is_near(ours(model, backbone, images_of(px)), theirs.at(px)(images_of(px))), px
    check_export(backbone, sides[-1], folder)
    check_overlap(family, model, theirs, path)


def check_overlap(family: Family, model: Model, theirs: Theirs, weights: Path) -> None:
    """Overlapping patches give what the library's network gives for these patches side by side, exported, too."""
    if not family.patch_px:
        with pytest.raises(ValueError, match=r"cannot cut overlapping patches .*; leave it at 0"):
            build_backbone(model, family.px[0], weights, patch_stride=8, has_tag_weights=False)
        return
    px, stride = 2 * family.patch_px + 13, family.patch_px * 2 // 3
    backbone = build_backbone(model, px, weights, patch_stride=stride, has_tag_weights=False)
    images = images_of(px)
    wide = side_by_side(images, family.patch_px, stride)
    assert is_near(ours(model, backbone, images), theirs.at(wide.shape[-1])(wide))
    check_export(backbone, px, weights.parent)


def check_export(backbone: Backbone, px: int, folder: Path) -> None:
    """The saved trace gives the features, and an old torch knows all that is in it."""
    pixels = images_of(px) / 64 - 2
    with torch.no_grad():
        expected = backbone(pixels)
    traced, _ = trace_network(write_out(backbone), px)
    with quiet_jit():
        torch.jit.save(traced, str(folder / "m.pt"))
    with torch.no_grad():
        got = torch.jit.load(str(folder / "m.pt"))(pixels)
    assert is_near(got, expected)
    assert unknown_to_1_11(folder / "m.pt") == []
    if OLD:
        np.save(folder / "pixels.npy", pixels.numpy())
        files = [str(folder / name) for name in ("m.pt", "pixels.npy", "old.npy")]
        subprocess.run([OLD, "-c", LOADS, *files], check=True)
        assert is_near(torch.from_numpy(np.load(folder / "old.npy")), expected)


@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_small_member_of_every_family(family: Family, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    torch.manual_seed(0)
    reduce(family, monkeypatch)
    check_family(family, tmp_path, family.px)


@pytest.mark.full
@pytest.mark.parametrize("family", [family for family in FAMILIES if not family.is_large], ids=str)
def test_smallest_published_member_of_every_family(family: Family, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    torch.manual_seed(0)
    reduce(replace(family, small={}), monkeypatch)  # the text tower alone
    check_family(family, tmp_path, (224, 280 if family.patch_px == 14 else 256))


def rows_of_the_table() -> list[list[str]]:
    text = (PROJECT / "weights/README.md").read_text(encoding="utf-8").partition("## Image towers of today")[2]
    lines = [line for line in text.partition("\n## ")[0].splitlines() if line.startswith("| ")][1:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_table_of_towers_says_what_the_libraries_state():
    """Every name and tag is known, under the licence that the library gives, and normalised as the table says."""
    pixels = {".5; .5": HALF, "0; 1": RAW, "CLIP's": CLIP, "ImageNet's": IMAGENET}
    listed = set()
    for title, of_timm, of_open_clip, licence, normalised, overlap in rows_of_the_table():
        expected = next(pair for text, pair in pixels.items() if normalised.startswith(text))
        names = [f"timm:{name}" for name in re.findall("`(.+?)`", of_timm)]
        names += [f"open_clip:{name}" for name in re.findall("`(.+?)`", of_open_clip)]
        for name in names:
            found = tower(name)
            assert found.licence in licence, (title, name, found.licence)
            np.testing.assert_allclose(mean_std(found.model), expected, atol=1e-6, err_msg=name)
            listed.add((found.model.library, found.model.name, found.model.weights_tag, overlap != "no"))
    swept = {(f.library, f.name, f.tag, bool(f.patch_px)) for f in FAMILIES if "convnext" not in f.name}
    others = {name for name in swept if name not in listed}
    assert {name for _, name, *_ in others} == {  # beside a twin or a larger one of the same family
        "vit_small_patch14_reg4_dinov2",
        "vit_base_patch16_radio_v3",
        "naflexvit_so400m_patch16_radio_v4",
    }
