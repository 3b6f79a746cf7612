"""ViT-H/14 at full size on this machine, random weights: resolutions and patch strides of the 1st place, a training step, an inference step.

Run: python tests/benchmarks/full_size.py > tests/benchmarks/full_size.md   (about five minutes, 16 GB)
"""

import subprocess
import sys
import time

import torch

from guie.model.backbone import build_backbone
from guie.model.embedder import build_embedder
from guie.model.pooling import keep_less
from guie.recipe import load_recipe
from guie.run import keep_freed_memory, n_cores, peak_memory_gb
from guie.train.parameters import close_blocks, make_optimizer

RECIPE = load_recipe("first_place")
BATCH = 2


def main() -> None:
    """Each part in a process of its own, for its memory."""
    parts = [("infer", px, stride) for px, stride in ((224, 0), (280, 0), (290, 12))] + [("train", 224, 0), ("train", 290, 12)]
    if len(sys.argv) == 4:
        part(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
        return
    print(f"# ViT-H/14 at full size\n\n`python tests/benchmarks/full_size.py`: {n_cores()} cores, no GPU, torch {torch.__version__}, fp32, random weights.\n")
    print("| step | px | patch stride | tokens | batch | seconds | largest memory, GB |\n|---|---|---|---|---|---|---|")
    for name, px, stride in parts:
        command = [sys.executable, __file__, name, str(px), str(stride)]
        print(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip().splitlines()[-1], flush=True)


def part(name: str, px: int, stride: int) -> None:
    """One row of the table: the second of two steps is timed."""
    keep_freed_memory()
    stage = RECIPE.stage("s2_backbone")
    backbone = build_backbone(type(RECIPE.model)("open_clip", "ViT-H-14"), px, patch_stride=stride)
    tokens = backbone.network.grid_size
    embedder = build_embedder(backbone, stage, 1000, 0)
    pixels, labels = torch.randn(BATCH, 3, px, px), torch.arange(BATCH)
    keep_less(embedder.backbone.network)
    embedder.neck.requires_grad_(False)
    embedder.classifier.requires_grad_(False)
    close_blocks(embedder, stage)
    optimizer = make_optimizer(embedder, stage) if name == "train" else None
    for _ in range(2):
        started = time.time()
        if optimizer is None:
            with torch.no_grad():
                assert embedder.eval().neck(embedder.backbone(pixels)).shape == (BATCH, 64)
        else:
            optimizer.zero_grad()
            embedder.train()(pixels, labels, 0.5).backward()
            optimizer.step()
    print(f"| {name} | {px} | {stride or 14} | {tokens[0]} x {tokens[1]} | {BATCH} | {time.time() - started:.1f} | {peak_memory_gb():.1f} |")


if __name__ == "__main__":
    main()
