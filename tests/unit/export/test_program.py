"""The torch.export file against TorchScript's, whose pixels come from torch's own operator; and weights stored in
half."""

import copy
import zipfile
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn

from guie.embed.ensemble import Tower
from guie.embed.views import to_square
from guie.export.operators import unknown_to_1_11
from guie.export.plain import write_out
from guie.export.program import Program, export_program, save_program, square
from guie.export.storage import store
from guie.export.torchscript import build_submission, quiet_jit
from guie.recipe import VIEWS

MEAN, STD = (0.48, 0.45, 0.40), (0.26, 0.25, 0.27)
SIZES = ((1, 1), (1, 5000), (5000, 1), (3, 7), (97, 64), (64, 66), (300, 1200), (1023, 1025))


def some_images(n: int, height: int, width: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(height).integers(0, 256, (n, 3, height, width), dtype=np.uint8))


@pytest.mark.parametrize("frame", ["squash", "crop", "pad", "aspect", "aspect_pad"])
@pytest.mark.parametrize("size", SIZES)
def test_square_by_matrices_is_torchs_operator(size: tuple[int, int], frame: str):
    images = some_images(1, *size)
    got = square(images, torch.tensor(size, dtype=torch.float64), 48, frame)
    np.testing.assert_allclose(
        got, to_square(images, 48, frame), atol=2e-2
    )  # of 255; the operator sums in float32, over up to 5,000 pixels


def towers() -> list[Tower]:
    torch.manual_seed(0)
    transformer = write_out(timm.create_model("test_vit", depth=2, num_classes=0, img_size=64).eval())
    convolutions = nn.Sequential(
        nn.Conv2d(3, 8, 5, 2), nn.GELU(), nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(72, 64)
    ).eval()
    return [
        Tower(transformer, 64, VIEWS, 1.0),
        Tower(convolutions, 48, ("flip", "crop"), 0.5, torch.randn(64, 3) * 0.1),
    ]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, nn.Module]:
    """Both exports of two towers with PCA; the program through a file and back."""
    path, projection = (
        tmp_path_factory.mktemp("program") / "saved_model.pt2",
        (torch.randn(128) * 0.05, torch.randn(64, 128)),
    )
    save_program(export_program(Program(towers(), MEAN, STD, projection, pack_px=200)), path)
    return build_submission(towers(), MEAN, STD, projection, pack_px=200), torch.export.load(path).module()


@pytest.mark.parametrize(("n", "size"), [(1, size) for size in SIZES] + [(3, (90, 60)), (7, (1, 2))])
def test_program_equals_torchscript(files: tuple[nn.Module, nn.Module], n: int, size: tuple[int, int]):
    images = some_images(n, *size)
    with torch.no_grad():
        script, program = (module(images) for module in files)
    assert program.shape == (n, 64) and program.dtype == torch.float32
    np.testing.assert_allclose(program, script, atol=1e-4)


@pytest.mark.parametrize("options", [{"is_mean": True}, {"power": 0.5}, {"has_unit_length": False}])
def test_program_follows_every_option(options: dict[str, object]):
    image = some_images(1, 50, 70)
    with torch.no_grad():
        program = Program(
            towers(),
            MEAN,
            STD,
            (torch.zeros(64), torch.eye(64)) if "is_mean" in options else (torch.zeros(128), torch.eye(128)[:64]),
            **options,
        )  # type: ignore[arg-type]
        script = build_submission(towers(), MEAN, STD, (program.center, program.matrix), **options)  # type: ignore[arg-type]
        embedding = script(image)
        np.testing.assert_allclose(program.eval()(image), embedding, atol=1e-4)
    assert (abs(float(embedding.norm()) - 1) < 1e-5) == options.get("has_unit_length", True)


@pytest.mark.parametrize(("storage", "min_cosine"), [("fp16", 0.99999), ("bf16", 0.9999)])
def test_half_storage_is_half_the_file_and_computes_in_float32(storage: str, min_cosine: float, tmp_path: Path):
    torch.manual_seed(1)
    whole = write_out(timm.create_model("test_vit", num_classes=0, img_size=64).eval())
    half = store(copy.deepcopy(whole), storage)
    image, sizes, embeddings = some_images(1, 80, 60), [], []
    for module in (whole, half):
        path = tmp_path / "saved_model.pt"
        script = build_submission([Tower(module, 64, ("plain",), 1.0)], MEAN, STD)
        with quiet_jit():
            torch.jit.save(script, path)
        with zipfile.ZipFile(
            path
        ) as archive:  # the tensors alone: code and its line tables grow with the paths of files
            tensors = [
                entry for entry in archive.infolist() if "/data/" in entry.filename or "/constants/" in entry.filename
            ]
        sizes.append(sum(entry.file_size for entry in tensors))
        assert unknown_to_1_11(path) == []
        with quiet_jit():
            embeddings.append(torch.jit.load(path)(image).detach())
    n_bytes = sum(4 * p.numel() for p in whole.parameters())
    assert 0.5 * n_bytes < sizes[1] < 0.52 * n_bytes < 0.99 * n_bytes < sizes[0]
    assert embeddings[1].dtype == torch.float32 and float(embeddings[0][0] @ embeddings[1][0]) > min_cosine
    rounded = {
        name: p.to(getattr(torch, {"fp16": "float16", "bf16": "bfloat16"}[storage])).float() if p.dim() > 1 else p
        for name, p in whole.state_dict().items()
    }
    whole.load_state_dict(rounded)
    expected = build_submission([Tower(whole, 64, ("plain",), 1.0)], MEAN, STD)(image)
    np.testing.assert_allclose(embeddings[1], expected.detach(), atol=1e-6)


def test_a_weight_that_fp16_cannot_hold_is_refused():
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 64))
    nn.init.constant_(network[1].weight, 1e6)
    with pytest.raises(ValueError, match="too large for fp16"):
        store(network, "fp16")
