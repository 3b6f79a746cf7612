"""The ViT's own training: no label, no lost step, a file that timm loads."""

import subprocess
from collections import Counter
from dataclasses import replace
from pathlib import Path

import distil as module
import numpy as np
import pytest
import timm
import torch
from distil import batch_at, distil, jittered, lr_at, save_student
from fake_run import make_fake_run
from safetensors.torch import load_file
from teacher import Distillation, ImagePool, crop_at, teacher_targets
from torch import Tensor

from guie.embed.pca import PCA
from guie.files import save_weights

SMALL = Distillation(arch="test_vit", n_steps=6, batch_size=40, student_px=32, teacher_px=40)


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_fake_run(tmp_path_factory.mktemp("fake")).folder(3)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("teacher") / "random.safetensors"
    torch.manual_seed(0)
    save_weights(path, timm.create_model("mobilenetv2_100", pad_type="same", num_classes=0).state_dict())
    return path


def test_interrupted_training_ends_bit_equal(
    pack: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    whole = distil([pack], pack, teacher, tmp_path / "whole", SMALL)
    monkeypatch.setattr(module, "CHECKPOINT_S", -1.0)
    n_calls = 0

    def stumble(crops: Tensor, settings: Distillation, step: int) -> Tensor:
        """Once at the start of each step."""
        nonlocal n_calls
        n_calls += 1
        if n_calls in (3, 5):
            raise KeyboardInterrupt
        return jittered(crops, settings, step)

    monkeypatch.setattr(module, "jittered", stumble)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            distil([pack], pack, teacher, tmp_path / "halting", SMALL)
    halting = distil([pack], pack, teacher, tmp_path / "halting", SMALL)
    assert n_calls == SMALL.n_steps + 2
    assert whole.keys() == halting.keys()
    assert all(torch.equal(whole[name], halting[name]) for name in whole)
    columns = [(tmp_path / name / "metrics.csv").read_text().splitlines()[0] for name in ("whole", "halting")]
    assert columns == ["step,loss,lr,seconds,probe_mp5"] * 2


def test_other_settings_do_not_go_on_with_old_work(pack: Path, teacher: Path, tmp_path: Path):
    distil([pack], None, teacher, tmp_path, replace(SMALL, n_steps=1))
    with pytest.raises(ValueError, match="other settings or images; choose another --out"):
        distil([pack], None, teacher, tmp_path, replace(SMALL, n_steps=2))


def test_student_comes_close_to_its_teacher(pack: Path, teacher: Path, tmp_path: Path):
    settings = replace(SMALL, n_steps=30, token_drop=0.0, lr=3e-3)
    distil([pack], None, teacher, tmp_path, settings)
    rows = (tmp_path / "metrics.csv").read_text().splitlines()
    assert float(rows[-1].split(",")[1]) < 0.9  # the mean over all steps; two independent directions are 1 apart


def test_file_is_loaded_by_timm_and_checked_by_sha256sum(pack: Path, teacher: Path, tmp_path: Path):
    weights = distil([pack], None, teacher, tmp_path / "out", replace(SMALL, n_steps=1))
    (tmp_path / "SHA256SUMS").write_text("0" * 64 + "  small.safetensors\n" + "1" * 64 + "  other.bin\n")
    save_student(tmp_path / "small.safetensors", weights)
    network = timm.create_model("test_vit", num_classes=0)
    keys = network.load_state_dict(load_file(tmp_path / "small.safetensors"), strict=True)
    assert not keys.missing_keys and not keys.unexpected_keys
    assert all(torch.equal(network.state_dict()[name], tensor.half().float()) for name, tensor in weights.items())
    lines = (tmp_path / "SHA256SUMS").read_text().splitlines()
    assert [line.split()[1] for line in lines] == ["small.safetensors", "other.bin"] or [
        line.split()[1] for line in lines
    ] == [
        "other.bin",
        "small.safetensors",
    ]
    (tmp_path / "SHA256SUMS").write_text("".join(f"{line}\n" for line in lines if "small" in line))
    subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=tmp_path, check=True, capture_output=True)


def _silent(pool: ImagePool, n_crops: int) -> list[np.ndarray]:
    """Targets of 4 places and width 1, image + crop / 10 for the feature, and 0, 1, 2, 3 for the places."""
    places = np.broadcast_to(np.arange(4.0)[None, :, None], (len(pool), 4, 1))
    return [
        np.concatenate([np.arange(len(pool))[:, None, None] + crop / 10, places], axis=1).astype(np.float16)
        for crop in range(n_crops)
    ]


def test_every_epoch_sees_every_image_once_in_its_next_crop(pack: Path):
    pool = ImagePool([pack], "train", 40)
    pool.images = [np.full((40, 40, 3), i, np.uint8) for i in range(50)]
    batches = [
        batch_at(pool, _silent(pool, 2), replace(SMALL, batch_size=30, n_crops=2), step) for step in range(5)
    ]  # 150 are three epochs
    images = torch.cat([crops[:, 0, 0, 0] for crops, _ in batches])
    assert Counter(images.tolist()) == dict.fromkeys(range(50), 3)
    assert all(len(set(images[first : first + 50].tolist())) == 50 for first in (0, 50, 100))
    crop = torch.cat([seen[:, 0, 0] for _, seen in batches]) - images
    assert crop.mul(10).round().int().tolist() == [0] * 50 + [1] * 50 + [0] * 50


def test_places_are_mirrored_with_the_picture(pack: Path):
    pool = ImagePool([pack], "train", 40)
    ramp = np.broadcast_to(np.linspace(0, 255, 40)[None, :, None], (40, 40, 3)).astype(np.uint8)
    pool.images = [ramp] * 50
    crops, seen = batch_at(pool, _silent(pool, 8), SMALL, 0)
    is_mirrored = crops[:, 0, 0, 0] > crops[:, 0, -1, 0]
    assert 5 < is_mirrored.sum() < 35
    for mirrored, places in zip(is_mirrored, seen[:, 1:, 0].tolist(), strict=True):
        assert places == ([1, 0, 3, 2] if mirrored else [0, 1, 2, 3])


def test_teacher_sees_the_same_crop(pack: Path, teacher: Path, tmp_path: Path):
    """The stored target is the projected feature that a plain forward of the teacher gives for the crop."""
    pool = ImagePool([pack], "train", 40)
    targets = teacher_targets(teacher, pool, replace(SMALL, n_crops=2), 16, tmp_path)
    assert [t.shape for t in targets] == [(len(pool), 1 + 4, 16)] * 2  # 40 px / 32, rounded up, squared
    network = timm.create_model("mobilenetv2_100", pad_type="same", num_classes=0).eval()
    network.load_state_dict(load_file(teacher))
    crop = crop_at(pool, SMALL, 7, 1, 40)
    with torch.no_grad():
        feature = network((torch.from_numpy(crop).permute(2, 0, 1)[None].float() / 255 - 0.5) / 0.5)
    pca = PCA.load(tmp_path / "pca.npz")
    expected = (feature.numpy() - pca.mean_) @ pca.matrix.T
    assert np.allclose(targets[1][7, 0], expected[0], atol=2e-2 * np.abs(expected).max())


def test_batches_are_a_pure_function_of_seed_and_step(pack: Path):
    pool = ImagePool([pack], "train", 40)
    targets = _silent(pool, 8)
    first, _ = batch_at(pool, targets, SMALL, 3)
    batch_at(pool, targets, SMALL, 9)
    assert torch.equal(first, batch_at(pool, targets, SMALL, 3)[0])
    assert not torch.equal(first, batch_at(pool, targets, SMALL, 4)[0])
    assert not torch.equal(first, batch_at(pool, targets, replace(SMALL, seed=1), 3)[0])


def test_jitter_is_brightness_then_contrast_then_saturation():
    crops = torch.randint(0, 256, (4, 9, 9, 3), dtype=torch.uint8)
    random = torch.rand(3, 4, generator=torch.Generator().manual_seed(3))
    for i, crop in enumerate(crops):
        brightness, contrast, saturation = (1 + SMALL.jitter * (2 * random[:, i] - 1)).tolist()
        pixels = crop.double() / 255 * brightness
        pixels = (pixels - pixels.mean()) * contrast + pixels.mean()
        grey = pixels.mean(dim=2, keepdim=True)
        pixels = ((pixels - grey) * saturation + grey).clamp(0, 1) * 2 - 1
        assert torch.allclose(jittered(crops, SMALL, 3)[i].permute(1, 2, 0).double(), pixels, atol=1e-5)


def test_learning_rate_rises_then_falls():
    settings = Distillation(n_steps=100, warmup_share=0.1, lr=1.0)
    rates = [lr_at(settings, step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1) and rates[9] == rates[10] == 1.0
    assert rates[55] == pytest.approx(0.505) and rates[99] < 0.012
    assert rates[10:] == sorted(rates[10:], reverse=True)
