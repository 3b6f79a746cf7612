"""A claim about layers, as claims.py measures it, on a card and on the CPU: a small transformer on drawn images."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from opening import forked

from guie.run import PROJECT

pytestmark = pytest.mark.slow
RECIPE = '''
"""Drawn images and a small transformer."""
from dataclasses import replace
from guie.recipe import DrawnWorld, Member, Setting, Stages
from guie.recipes.tiny import RECIPE as TINY

RECIPE = replace(
    TINY,
    name="card",
    model=replace(TINY.model, name="test_vit"),
    data=replace(TINY.data, drawn=DrawnWorld(12, 6, 64)),
    stages=Stages(head=TINY.stages.head),
    embed=replace(TINY.embed, settings=(Setting("head", (Member("s1_head", 64),)),)),
)
'''
# One process for each device: accelerate keeps the first device of a process. The arms are those of `full_tuning`,
# smaller; seed 1 is trained in the split and on the features of seed 0.
SCRIPT = """
import json, runpy, sys
from dataclasses import replace
from pathlib import Path

tests, out, device = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
sys.path[:0] = [str(tests), str(tests / "benchmarks")]
import claims, claims_work, objectives_training
from claims_stages import all_weights, on_the_vit
from claims_types import Arm, Claim
from claims_work import Bench, val_features
from doors_here import open_here
from guie.launch import choose_device
from objectives_parts import Files
from objectives_results import processor

def packed(seed, data_root, folder):  # drawn images have no data root
    for door in (1, 2, 3):
        words = ["--recipe", str(out / "card.py"), "--out", str(folder), "--set", f"seed={seed}"]
        assert open_here(door, words) == 0
objectives_training._pack = packed
claims_work.RECIPE = runpy.run_path(str(out / "card.py"))["RECIPE"]
moved = []
def noted(world, packed, model, image_px):
    start, now = world.features["plain"], val_features(world, packed, model, image_px)
    rows = claims_work.rows_of(packed, "val")
    moved.append([type(now).__name__, str(now.dtype), float(abs(now - start[rows]).max())])
    moved[-1] += sorted({parameter.device.type for parameter in model.parameters()})
    return now
claims_work.val_features = noted

def small(stage):
    return replace(stage, image_px=64, optim=replace(stage.optim, batch_size=16, n_epochs=2))
def arm(*stages):
    return Arm(tuple(map(small, stages)), has_first_split=True)
both = Claim("both", "layers", "", "", "", arm(on_the_vit()), arm(on_the_vit(), all_weights()))
fixed = Claim("fixed", "layers", "", "", "", both.other, arm(on_the_vit(), all_weights(trains="backbone")))
device = choose_device(device)
bench = Bench(out, out, out / "claims", Files(out), device)
rows = {f"{claim.name} {seed}": claims.measured(bench, claim, seed) for seed in (0, 1) for claim in (both, fixed)}
world = bench._of_seed(both.base, 0)
found = {"rows": rows, "moved": moved, "processor": processor(device), "features": world.features["plain"].tolist()}
(out / "found.json").write_text(json.dumps(found))
"""
CARD = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an accelerator")]


@pytest.fixture(scope="module")
def on_cpu(tmp_path_factory: pytest.TempPathFactory) -> dict:
    return measured(tmp_path_factory.mktemp("cpu"), "cpu")


def measured(out: Path, device: str) -> dict:
    (out / "card.py").write_text(RECIPE)
    path = os.pathsep.join([str(PROJECT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    words = ["-c", SCRIPT, str(PROJECT / "tests"), str(out), device]
    if device == "cpu":  # a fork has no use of a card
        done = forked(words, env=environment, timeout=300)
    else:
        done = subprocess.run([sys.executable, *words], capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((out / "found.json").read_text())


def check(found: dict, device: str) -> None:
    """Every side has scores; what was trained is on the device, has moved, and its features are numpy's."""
    assert len(found["moved"]) == 4  # of three sides with a moved backbone and two seeds, one side is shared
    for kind, dtype, far, *devices in found["moved"]:
        assert (kind, dtype, devices) == ("ndarray", "float32", [device]) and far > 1e-3
    for name, row in found["rows"].items():
        assert 0 < row["base"] <= 1 and 0 < row["other"] <= 1 and row["n_freedom"] > 0, name
    first, second = ([found["rows"][f"both {seed}"][side] for side in ("base", "other")] for seed in (0, 1))
    assert first != second  # other random numbers, the same images


def test_a_claim_about_layers_is_measured_on_the_cpu(on_cpu: dict) -> None:
    check(on_cpu, "cpu")
    assert not on_cpu["processor"].endswith(("bf16", "fp16"))


@pytest.mark.parametrize("device", [pytest.param("cuda", marks=CARD)])
def test_a_claim_about_layers_is_measured_on_a_card(on_cpu: dict, tmp_path: Path, device: str) -> None:
    """In half precision, and so nearly with the CPU's features; random weights train to nearly the same scores."""
    found = measured(tmp_path, device)
    check(found, device)
    assert found["processor"].startswith(torch.cuda.get_device_name()) and found["processor"].endswith(("bf16", "fp16"))
    ours, theirs = (torch.tensor(side["features"]) for side in (found, on_cpu))
    alike = torch.cosine_similarity(ours, theirs)
    assert alike.min() > 0.99 and alike.mean() > torch.cosine_similarity(ours, theirs.roll(1, 0)).mean()
    assert all(abs(row["base"] - on_cpu["rows"][name]["base"]) < 0.2 for name, row in found["rows"].items())
