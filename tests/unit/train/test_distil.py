"""The ViT's own training: no label, no lost step, a file that timm loads."""

import subprocess
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from fake_run import make_fake_run
from safetensors.torch import load_file
from torch import Tensor

from guie.checkpoint import save_weights
from guie.train import distil as module
from guie.train.distil import Distillation, ImagePool, batch_at, distil, jittered, lr_at, save_student

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


def test_interrupted_training_ends_bit_equal(pack: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    whole = distil([pack], pack, teacher, tmp_path / "whole", SMALL)
    monkeypatch.setattr(module, "CHECKPOINT_S", -1.0)
    train_step, n_calls = module._Training._train_step, 0

    def stumble(self: module._Training, crops: Tensor) -> float:
        nonlocal n_calls
        n_calls += 1
        if n_calls in (3, 5):
            raise KeyboardInterrupt
        return train_step(self, crops)

    monkeypatch.setattr(module._Training, "_train_step", stumble)
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
    assert [line.split()[1] for line in lines] == ["small.safetensors", "other.bin"] or [line.split()[1] for line in lines] == [
        "other.bin",
        "small.safetensors",
    ]
    (tmp_path / "SHA256SUMS").write_text("".join(f"{line}\n" for line in lines if "small" in line))
    subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=tmp_path, check=True, capture_output=True)


def test_every_epoch_sees_every_image_once(pack: Path):
    pool = ImagePool([pack], "train", 40)
    pool.images = [np.full((40, 40, 3), i, np.uint8) for i in range(50)]
    seen = torch.cat([batch_at(pool, replace(SMALL, batch_size=30), step)[:, 0, 0, 0] for step in range(5)])  # 150 are three epochs
    assert Counter(seen.tolist()) == dict.fromkeys(range(50), 3)
    assert all(len(set(seen[first : first + 50].tolist())) == 50 for first in (0, 50, 100))


def test_crops_are_a_pure_function_of_seed_and_step(pack: Path):
    pool = ImagePool([pack], "train", 40)
    first = batch_at(pool, SMALL, 3)
    batch_at(pool, SMALL, 9)
    assert torch.equal(first, batch_at(pool, SMALL, 3))
    assert not torch.equal(first, batch_at(pool, SMALL, 4))
    assert not torch.equal(first, batch_at(pool, replace(SMALL, seed=1), 3))


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
