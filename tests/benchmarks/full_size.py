"""ViT-H/14 at full size on this machine, random weights: what the 1st place's stages take, and the export of two of
them.

Run, about 15 minutes, with 16 GB of memory and 10 GB of disk:
     python tests/benchmarks/full_size.py > tests/benchmarks/full_size.md
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from pages import paragraph
from torch import nn

from guie.embed.ensemble import Tower
from guie.export.plain import write_out
from guie.export.storage import store
from guie.export.torchscript import build_submission, quiet_jit
from guie.machine import n_cores
from guie.model.backbone import Backbone, build_backbone
from guie.model.pooling import enable_gradient_checkpointing
from guie.recipe import load_recipe
from guie.run import keep_freed_memory, peak_memory_gb
from guie.train.model import build_model
from guie.train.objectives.base import Batch
from guie.train.parameters import freeze_early_blocks, make_optimizer

RECIPE = load_recipe("first_place")
BATCH = 2
STEPS = (("infer", 224, 0), ("infer", 280, 0), ("infer", 290, 12), ("train", 224, 0), ("train", 290, 12))


def main() -> None:
    """Each part in a process of its own, for its memory."""
    if len(sys.argv) > 1:
        {"step": step, "export": export, "load": load}[sys.argv[1]](*sys.argv[2:])
        return
    print(
        f"# ViT-H/14 at full size\n\n`python tests/benchmarks/full_size.py`: {n_cores()} cores, no GPU, torch "
        f"{torch.__version__}, random weights."
    )
    print("\nSteps in fp32; only the backbone is trained, by SGD with gradient checkpoints.\n")
    print("| step | px | patch stride | tokens | batch | seconds | largest memory, GB |\n|---|---|---|---|---|---|---|")
    for part in STEPS:
        print(own_process("step", *part), flush=True)
    told = """
    Export of two members with different weights, 224 px and 290 px with overlapping patches, both with a mirrored view,
    PCA-64. The input is one photo of 640 x 480.
    """
    print(f"\n{paragraph(told)}\n")
    print(
        "| stored as | file, GB | export, s | its memory, GB | load, s | an image, s | memory, GB "
        "|\n|---|---|---|---|---|---|---|"
    )
    with tempfile.TemporaryDirectory() as folder:
        for storage in ("fp32", "fp16", "bf16"):
            path = str(Path(folder, "saved_model.pt"))
            print(f"| {storage} | {own_process('export', storage, path)} | {own_process('load', path)} |", flush=True)


def own_process(*words: object) -> str:
    """The last line that this script prints when called so."""
    return (
        subprocess.run([sys.executable, __file__, *map(str, words)], check=True, capture_output=True, text=True)
        .stdout.strip()
        .splitlines()[-1]
    )


def vit_h(px: int, stride: int, seed: int = 0) -> Backbone:
    """The tower with random weights."""
    return build_backbone(type(RECIPE.model)("open_clip", "ViT-H-14"), px, seed=seed, patch_stride=stride)


def step(name: str, size: str, stride: str) -> None:
    """One row of the first table: the second of two steps is timed."""
    keep_freed_memory()
    px, stage = int(size), RECIPE.stage("s2_backbone")
    model = build_model(vit_h(px, int(stride)), stage, torch.ones(1000), torch.arange(1000), 0)
    tokens = model.backbone.network.grid_size
    pixels, labels = torch.randn(BATCH, 3, px, px), torch.arange(BATCH)
    enable_gradient_checkpointing(model.backbone.network)
    model.open(stage)
    freeze_early_blocks(model, stage)
    optimizer = make_optimizer(model, stage) if name == "train" else None
    for _ in range(2):
        started = time.time()
        if optimizer is None:
            with torch.no_grad():
                assert model.eval().neck(model.backbone(pixels)).shape == (BATCH, 64)
        else:
            optimizer.zero_grad()
            model.set_mode(stage)
            features = model.backbone(pixels)
            batch = Batch(features, model.neck(features), labels, labels, torch.zeros_like(labels), epoch=0, step=0)
            sum(model.objective(batch).values()).backward()
            optimizer.step()
    print(
        f"| {name} | {px} | {int(stride) or 14} | {tokens[0]} x {tokens[1]} | {BATCH} | {time.time() - started:.1f} | "
        f"{peak_memory_gb():.1f} |"
    )


def export(storage: str, path: str) -> None:
    """Writes the file; prints its size, seconds and memory."""
    keep_freed_memory()
    started, towers = time.time(), []
    for seed, (px, stride) in enumerate(((224, 0), (290, 12))):
        backbone: nn.Module = vit_h(px, stride, seed).eval()
        towers.append(Tower(store(write_out(backbone), storage), px, ("plain", "flip"), 1.0))
    module = build_submission(towers, RECIPE.model.mean, RECIPE.model.std, (torch.zeros(2048), torch.randn(64, 2048)))
    with quiet_jit():
        torch.jit.save(module, path)
    print(f"{Path(path).stat().st_size / 1e9:.2f} | {time.time() - started:.0f} | {peak_memory_gb():.1f}")


def load(path: str) -> None:
    """Loads the file and embeds two photos; prints seconds of loading and of the second, and memory."""
    started = time.time()
    with quiet_jit():
        module = torch.jit.load(path).eval()
    loaded = time.time() - started
    for _ in range(2):
        started = time.time()
        with torch.no_grad():
            assert module(torch.randint(0, 256, (1, 3, 480, 640), dtype=torch.uint8)).shape == (1, 64)
    print(f"{loaded:.1f} | {time.time() - started:.1f} | {peak_memory_gb():.1f}")


if __name__ == "__main__":
    main()
