"""The weights that the project ships: whole, small, timm's own, and refused when anyone has changed them."""

import pickle
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file

from guie.files import load_weights
from guie.recipe import Model, load_recipe
from guie.run import PROJECT, Run

WEIGHTS = PROJECT / "weights/vit_tiny_drawn.safetensors"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A data root beside whose `weights/` lie a copy of the file and of its checksums."""
    (tmp_path / "weights").mkdir()
    for name in (WEIGHTS.name, "SHA256SUMS"):
        shutil.copy(WEIGHTS.with_name(name), tmp_path / "weights" / name)
    return tmp_path / "weights" / WEIGHTS.name


def run_of(copy: Path) -> Run:
    return Run(
        replace(load_recipe("tiny"), model=Model("timm", "vit_tiny_patch16_224", copy.name)),
        copy.parents[1] / "data",
        copy.parents[1] / "out",
    )


def test_file_is_small_and_the_one_that_is_listed():
    assert WEIGHTS.stat().st_size <= 15e6
    subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=WEIGHTS.parent, check=True, capture_output=True)


def test_timm_loads_it_under_its_own_names():
    weights = load_file(WEIGHTS)
    assert {tensor.dtype for tensor in weights.values()} == {torch.float16}
    network = timm.create_model("vit_tiny_patch16_224", num_classes=0)
    keys = network.load_state_dict(weights, strict=True)
    assert not keys.missing_keys and not keys.unexpected_keys
    assert 5e6 < sum(tensor.numel() for tensor in weights.values()) < 6e6


def test_untouched_copy_is_accepted(copy: Path):
    assert run_of(copy).weights_path(copy.name) == copy
    assert len(run_of(copy).weights_digest()) == 16


def test_one_changed_bit_is_refused(copy: Path):
    content = bytearray(copy.read_bytes())
    content[-1] ^= 1
    copy.write_bytes(content)
    with pytest.raises(ValueError, match=r"has the SHA-256 .* lists .*: it is damaged or another file; fetch it again"):
        run_of(copy).weights_digest()


def test_truncated_file_is_refused_with_and_without_checksums(copy: Path):
    copy.write_bytes(copy.read_bytes()[:-1000])
    with pytest.raises(ValueError, match="it is damaged or another file"):
        run_of(copy).weights_digest()
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        load_weights(copy)


def test_pickle_in_its_place_is_refused_and_not_opened(copy: Path):
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (exec, (f"open({str(copy.parent / 'ran')!r}, 'w')",))

    copy.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(ValueError, match="it is damaged or another file"):
        run_of(copy).weights_digest()
    with pytest.raises(ValueError, match="Pickled weights are read as"):
        load_weights(copy)
    assert not (copy.parent / "ran").exists()
