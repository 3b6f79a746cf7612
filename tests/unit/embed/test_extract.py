"""Extraction in another precision than float32, and the keys of what is cached."""

import os
import shutil
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from guie.embed.extract import FeatureRequest, extract, precision_on
from guie.model.backbone import Backbone, build_backbone
from guie.recipe import Model

MODEL = Model("timm", "test_vit")
REQUEST = FeatureRequest("pack", "weights", MODEL, 64, "plain", "rows")


class Pack:
    """Six smooth pictures of different shapes; counts what is read."""

    def __init__(self) -> None:
        self.n_read = 0

    def read(self, row: int) -> np.ndarray:
        self.n_read += 1
        y, x = np.mgrid[: 40 + 9 * row, :70]
        return (
            np.stack([127 + 120 * np.sin(x / (3 + row)), 127 + 120 * np.cos(y / (4 + row)), 2 * x], axis=-1)
            .clip(0, 255)
            .astype(np.uint8)
        )


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return build_backbone(MODEL, 64, seed=0).eval()


def features(cache: Path, backbone: Backbone, pack: Pack, request: FeatureRequest) -> np.ndarray:
    return extract(cache, request, backbone, pack, np.arange(6), Accelerator(cpu=True), 6)


def test_bfloat16_is_near_float32_and_leaves_the_backbone_alone(tmp_path: Path, backbone: Backbone) -> None:
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    exact = features(tmp_path, backbone, Pack(), REQUEST)
    half = features(tmp_path, backbone, Pack(), replace(REQUEST, precision="bfloat16"))
    assert exact.dtype == half.dtype == np.float32 and exact.shape == half.shape == (6, backbone.feature_dim)
    assert not np.array_equal(exact, half)
    cosines = (exact * half).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(half, axis=1)
    assert cosines.min() > 0.999
    assert all(
        torch.equal(tensor, before[name]) and tensor.dtype == before[name].dtype
        for name, tensor in backbone.state_dict().items()
    )


def test_cached_features_are_not_made_again_and_float32_is_not_taken_for_bfloat16(
    tmp_path: Path, backbone: Backbone
) -> None:
    pack = Pack()
    first = np.array(features(tmp_path, backbone, pack, REQUEST))
    n_read = pack.n_read
    np.testing.assert_array_equal(features(tmp_path, backbone, pack, REQUEST), first)
    assert n_read == pack.n_read == 6
    features(tmp_path, backbone, pack, replace(REQUEST, precision="bfloat16"))
    assert pack.n_read == 12 and len(list(tmp_path.glob("*.npy"))) == 2


def test_every_field_of_a_request_decides_its_key() -> None:
    others = [
        replace(
            REQUEST,
            **{
                field.name: MODEL
                if field.name == "model"
                else "another"
                if isinstance(getattr(REQUEST, field.name), str)
                else 99
            },
        )
        for field in fields(REQUEST)
        if field.name != "model"
    ] + [replace(REQUEST, model=replace(MODEL, name="test_vit2"))]
    assert len(others) == len(fields(REQUEST)) == 10
    assert len({request.key for request in [REQUEST, *others]}) == 11


def test_precision_on_a_cpu_is_float32_unless_asked_for(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpu = torch.device("cpu")
    assert precision_on(cpu) == precision_on(cpu, "auto") == precision_on(cpu, "float32") == "float32"
    for has_amx in (True, False):
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda has_amx=has_amx: has_amx)
        caplog.clear()
        assert precision_on(cpu, "bfloat16") == "bfloat16"
        assert ("no AMX" in caplog.text) != has_amx


def test_precision_on_a_card_is_its_half(monkeypatch: pytest.MonkeyPatch) -> None:
    for has_bf16, expected in ((True, "bfloat16"), (False, "float16")):
        monkeypatch.setattr(
            torch.cuda, "is_bf16_supported", lambda including_emulation=True, has_bf16=has_bf16: has_bf16
        )
        assert precision_on(torch.device("cuda")) == expected
        assert precision_on(torch.device("cuda"), "float32") == "float32"


def test_views_of_one_frame_are_made_in_one_pass_and_equal_those_made_alone(tmp_path: Path, backbone: Backbone) -> None:
    pack, both, alone = Pack(), tmp_path / "both", tmp_path / "alone"
    flip = replace(REQUEST, view="flip")
    plain = extract(both, REQUEST, backbone, pack, np.arange(6), Accelerator(cpu=True), 6, other_views=["flip"])  # type: ignore[arg-type]
    assert pack.n_read == 6
    np.testing.assert_array_equal(plain, features(alone, backbone, Pack(), REQUEST))
    np.testing.assert_array_equal(features(both, backbone, pack, flip), features(alone, backbone, Pack(), flip))
    assert pack.n_read == 6 and not np.array_equal(plain, features(both, backbone, pack, flip))


def test_a_view_that_is_behind_holds_the_other_back(tmp_path: Path, backbone: Backbone) -> None:
    """Killed after one view's progress was noted and before the other's: both go on from the smaller."""
    flip = replace(REQUEST, view="flip")
    whole = [np.array(features(tmp_path / "whole", backbone, Pack(), wanted)) for wanted in (REQUEST, flip)]
    for wanted, values, n_done in ((REQUEST, whole[0], 4), (flip, whole[1], 2)):
        part = tmp_path / f"{wanted.key}.part0of1.npy"
        np.save(part, np.where(np.arange(6)[:, None] < n_done, values, np.nan))
        part.with_suffix(".json").write_text(f'{{"n_done": {n_done}}}')
    pack = Pack()
    plain = extract(tmp_path, REQUEST, backbone, pack, np.arange(6), Accelerator(cpu=True), 6, other_views=["flip"])  # type: ignore[arg-type]
    assert pack.n_read == 4
    np.testing.assert_allclose(plain, whole[0], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(features(tmp_path, backbone, pack, flip), whole[1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("damage", ["emptied", "truncated", "zeroed", "seal lost", "seal emptied"])
def test_damaged_features_in_the_cache_are_told_and_made_again(
    tmp_path: Path, backbone: Backbone, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    expected = np.array(features(tmp_path, backbone, Pack(), REQUEST))
    path = tmp_path / f"{REQUEST.key}.npy"
    times, whole = path.stat(), path.read_bytes()
    if damage.startswith("seal"):
        seal = path.with_suffix(".json")
        seal.unlink() if damage == "seal lost" else seal.write_bytes(b"")
    else:
        path.write_bytes({"emptied": b"", "truncated": whole[:-8], "zeroed": whole[:-400] + bytes(400)}[damage])
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    pack = Pack()
    np.testing.assert_array_equal(features(tmp_path, backbone, pack, REQUEST), expected)
    assert pack.n_read == 6
    assert [str(path) in line for line in caplog.messages] == ([] if damage == "seal lost" else [True])
    np.testing.assert_array_equal(features(tmp_path, backbone, pack, REQUEST), expected)
    assert pack.n_read == 6


def test_copied_features_are_taken_as_they_are(tmp_path: Path, backbone: Backbone) -> None:
    expected = np.array(features(tmp_path / "one", backbone, Pack(), REQUEST))
    shutil.copytree(tmp_path / "one", tmp_path / "two", copy_function=shutil.copyfile)
    pack = Pack()
    np.testing.assert_array_equal(features(tmp_path / "two", backbone, pack, REQUEST), expected)
    assert pack.n_read == 0


@pytest.mark.parametrize("damage", ["part truncated", "note emptied", "part lost"])
def test_half_extracted_features_that_are_damaged_begin_anew(tmp_path: Path, backbone: Backbone, damage: str) -> None:
    expected = np.array(features(tmp_path / "whole", backbone, Pack(), REQUEST))
    part = tmp_path / f"{REQUEST.key}.part0of1.npy"
    np.save(part, np.where(np.arange(6)[:, None] < 4, expected, np.nan))
    part.with_suffix(".json").write_text('{"n_done": 4}')
    if damage == "note emptied":
        part.with_suffix(".json").write_text("")
    else:
        part.write_bytes(part.read_bytes()[:-100]) if damage == "part truncated" else part.unlink()
    pack = Pack()
    np.testing.assert_allclose(features(tmp_path, backbone, pack, REQUEST), expected, rtol=1e-4, atol=1e-4)
    assert pack.n_read == 6
