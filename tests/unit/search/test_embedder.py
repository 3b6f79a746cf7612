"""What the models of the search see and give, against other libraries and single images."""

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from exported_model import draw, export_grid
from PIL import Image
from safetensors.torch import load_file
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2.functional import resize

from guie.embed.ensemble import Tower
from guie.export.torchscript import build_submission
from guie.run import PROJECT
from guie.search import embedder as embedder_module
from guie.search.embedder import load_again, load_given


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def test_off_the_shelf_is_the_shipped_vit(tmp_path: Path):
    sizes = [(224, 224), (240, 190), (60, 150)]
    images = [draw(tmp_path / f"{i}.png", i, size) for i, size in enumerate(sizes)]
    network = timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=224)
    weights = load_file(PROJECT / "weights/vit_tiny_drawn.safetensors")
    weights["pos_embed"] = timm.layers.resample_abs_pos_embed(weights["pos_embed"], [14, 14])
    network.load_state_dict(weights)
    expected = []
    for image in images:
        square = resize(
            torch.from_numpy(image).permute(2, 0, 1).float(), [224, 224], InterpolationMode.BICUBIC, antialias=True
        )
        with torch.no_grad():
            expected.append(network.eval()((square.clamp(0, 255)[None] / 255 - 0.5) / 0.5)[0].numpy())
    ours = load_given("shipped", "cpu")
    pixels = [ours.pixels((tmp_path / f"{i}.png").read_bytes()) for i in range(3)]
    assert [p.shape for p in pixels] == [(224, 224, 3), (190, 240, 3), (150, 60, 3)]
    found, reasons = ours.embed(pixels)
    assert reasons == [""] * 3 and found.shape == (3, 192)
    assert np.abs(found - unit(np.array(expected))).max() < 1e-4
    assert load_again(ours.model, "cpu").model == ours.model


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A submission as door 08 builds it, of a network that sees where things are."""
    torch.manual_seed(1)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 5, 2), torch.nn.GELU(), torch.nn.AdaptiveAvgPool2d(3), torch.nn.Flatten(),
        torch.nn.Linear(72, 64),
    ).eval()  # fmt: skip
    path = tmp_path_factory.mktemp("export") / "saved_model.pt"
    mean = std = (0.5, 0.5, 0.5)
    build_submission([Tower(network, 32, ("plain", "flip"), 1.0)], mean, std, pack_px=48).save(str(path))
    return path


def test_exported_file_gives_what_it_gives_alone(exported: Path, tmp_path: Path):
    """In batches of one size each, and made small to the size that the run packed its images to."""
    sizes = [(48, 60), (100, 70), (48, 60), (1, 9), (30, 20), (96, 120)]
    for i, size in enumerate(sizes):
        draw(tmp_path / f"{i}.png", i, size)
    ours = load_given(str(exported), "cpu")
    assert (ours.model.pack_px, ours.model.dim) == (48, 64)
    pixels = [ours.pixels((tmp_path / f"{i}.png").read_bytes()) for i in range(len(sizes))]
    assert [p.shape[1::-1] for p in pixels] == [(48, 60), (69, 48), (48, 60), (1, 9), (30, 20), (48, 60)]
    module = torch.jit.load(str(exported))
    alone = []
    for i in range(len(sizes)):
        image = Image.open(tmp_path / f"{i}.png").convert("RGB")
        if min(image.size) > 48:
            scale = 48 / min(image.size)
            image = image.resize([round(side * scale) for side in image.size], Image.Resampling.BICUBIC)
        with torch.no_grad():
            alone.append(module(torch.from_numpy(np.array(image)).permute(2, 0, 1)[None])[0].numpy())
    found, reasons = ours.embed(pixels)
    assert not any(reasons)
    for i, (a, b) in enumerate(zip(found, unit(np.array(alone)), strict=True)):
        assert float(a @ b) > (0.9999 if min(sizes[i]) > 48 else 0.999999)  # PIL rounds otherwise than torch


def test_one_image_that_fails_costs_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(embedder_module, "BATCH", 4)
    ours = load_given(str(export_grid(tmp_path / "saved_model.pt")), "cpu")
    network = ours.network

    class Fails:
        def __call__(self, images: list[np.ndarray]) -> torch.Tensor:
            if any(image.shape == (7, 7, 3) for image in images):
                raise RuntimeError("shape")
            return network(images)

    images = [draw(tmp_path / "x.png", i, (7, 7) if i == 2 else (8, 8)) for i in range(6)]
    found, reasons = type(ours)(ours.model, Fails()).embed(images)
    assert reasons == ["", "", "the model fails at its pixels", "", "", ""]
    alone = np.stack([ours.embed([image])[0][0] for image in images])
    assert np.abs(np.delete(found - alone, 2, axis=0)).max() < 1e-6 and not found[2].any()


def test_odd_photos_are_seen_upright(tmp_path: Path):
    """EXIF orientation and transparency, through the one reader of images."""
    ours = load_given(str(export_grid(tmp_path / "saved_model.pt", pack_px=0)), "cpu")
    pixels = draw(tmp_path / "x.png", 5, (24, 16))
    buffer, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    turned = Image.fromarray(np.rot90(pixels))  # lies on its side; orientation 6 turns it back by 90 degrees clockwise
    turned.save(buffer, "PNG", exif=exif)
    assert np.array_equal(ours.pixels(buffer.getvalue()), pixels)


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the shipped weights; the current directory is the one above."""
    folder = tmp_path / "work/weights"
    folder.mkdir(parents=True)
    shutil.copy(PROJECT / "weights/vit_tiny_drawn.safetensors", folder)
    monkeypatch.chdir(folder.parent)
    return folder


@pytest.mark.parametrize(
    ("named", "kept"),
    [
        ("weights/vit_tiny_drawn.safetensors@32", "{}/vit_tiny_drawn.safetensors@32"),
        ("vit_tiny_drawn.safetensors@32", "{}/vit_tiny_drawn.safetensors@32"),
        (
            "timm:vit_tiny_patch16_224=weights/vit_tiny_drawn.safetensors@32",
            "timm:vit_tiny_patch16_224={}/vit_tiny_drawn.safetensors@32",
        ),
        ("shipped@32", "shipped@32"),
    ],
)
def test_tower_is_the_same_from_every_directory(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str, kept: str
):
    ours = load_given(named, "cpu", [weights])
    assert ours.model.name == kept.format(weights)
    assert (ours.network.image_px, ours.model.dim) == (32, 192)
    monkeypatch.chdir(tmp_path)
    assert load_again(ours.model, "cpu").model == ours.model


def test_files_of_torch_are_told_apart_by_their_contents(weights: Path, tmp_path: Path):
    state = load_file(weights / "vit_tiny_drawn.safetensors")
    torch.save(state, weights / "vit_tiny_patch16_224.mine.pt")
    ours = load_given("vit_tiny_patch16_224.mine.pt@32", "cpu", [weights])
    assert ours.model.kind == embedder_module.OFF_THE_SHELF and ours.model.dim == 192
    assert load_given(str(export_grid(tmp_path / "vit_tiny_patch16_224.pt")), "cpu").model.kind == "exported model"
    (tmp_path / "cut.pt").write_bytes((tmp_path / "vit_tiny_patch16_224.pt").read_bytes()[:3000])
    with pytest.raises(ValueError, match=r"cut\.pt is no TorchScript file, and as a file of weights: which network"):
        load_given(str(tmp_path / "cut.pt"), "cpu")


@pytest.mark.parametrize(
    ("kind", "name", "short"),
    [
        ("exported model", "/home/me/shop/08_export/saved_model.pt", "exported model shop/saved_model.pt"),
        ("exported model", "/home/me/k=1/own.pt", "exported model own.pt"),
        ("off the shelf", "timm:vit=/home/me/a b/x.pth@224", "timm:vit=x.pth@224 off the shelf"),
        ("off the shelf", "/home/me/x.safetensors", "x.safetensors off the shelf"),
        ("off the shelf", "open_clip:hf-hub:a/b", "open_clip:hf-hub:a/b off the shelf"),
        ("off the shelf", "shipped", "the shipped ViT off the shelf"),
    ],
)
def test_pages_name_the_model_without_its_folder(kind: str, name: str, short: str):
    assert embedder_module.ModelFile(kind, name, "0", 0).short == short
