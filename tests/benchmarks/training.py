"""Training as people write it (timm, pytorch-metric-learning's ArcFaceLoss, torchvision's ImageFolder) beside doors 04 and 05, in one run.

The images are minibench's; the backbone is the project's ViT-Ti/16 at 112 px. Both loops see a plain or mirrored image in each epoch, train the same neck
and ArcFace margin with AdamW for the same ten epochs, and end with the same validation. The accuracy of the cached head stage is compared
over the seeds.

Run: python tests/benchmarks/training.py --data-root ../shared/data > tests/benchmarks/training.md   (half an hour; needs minibench's images)
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from guie.data.packing import PackedImages
from guie.embed.retrieval import retrieve, summarise
from guie.run import DOORS, PROJECT, n_cores

PX, N_EPOCHS, BATCH, LR, MARGIN = 112, 10, 128, 2e-3, 0.3
N_STEPS, STEP_BATCH = 40, 32  # of a backbone stage, after four to warm up
RECIPE = f'''"""bench: a head stage of ten epochs and a backbone stage of one, for tests/benchmarks/training.py."""
from guie.recipe import *
from guie.recipes.minibench import RECIPE as MINIBENCH
FIXED = EpochMargin({MARGIN}, 0.0, {MARGIN})
RECIPE = Recipe(
    "bench", MINIBENCH.data, Model("timm", "vit_tiny_patch16_224", "vit_tiny_drawn.safetensors"),
    (
        Stage("head", "head", "head", {PX}, {N_EPOCHS}, {BATCH}, {LR}, fresh=("neck", "classifier"), margin=FIXED, schedule="constant", warmup_share=0.0,
              sample_power=0.0),
        Stage("backbone", "backbone", "backbone", {PX}, 1, {STEP_BATCH}, 1e-4, margin=FIXED),
    ),
    Embed((Setting("head", (Member("head", {PX}),)),)),
)
'''


def main() -> None:
    """Runs every part in a process of its own, and prints the tables."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--data-root", type=Path, default=PROJECT.parent / "shared/data")
    p.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    p.add_argument("--plain", nargs=2, metavar=("PACK", "SEED"), help=argparse.SUPPRESS)
    arguments = p.parse_args()
    if arguments.plain:
        print(json.dumps(plain(Path(arguments.plain[0]), int(arguments.plain[1]))))
        return
    with tempfile.TemporaryDirectory() as folder:
        rows = [measured(Path(folder), arguments.data_root, seed) for seed in arguments.seeds]
    print(report(rows))


def measured(folder: Path, data_root: Path, seed: int) -> tuple[dict[str, float], dict[str, float]]:
    """What the plain loop and the doors need for one seed: seconds, images/s, mP@5."""
    (folder / "bench.py").write_text(RECIPE)
    out = folder / f"seed{seed}"
    options = ["--recipe", str(folder / "bench.py"), "--data-root", str(data_root), "--out", str(out), "--set", f"seed={seed}", "--device", "cpu"]
    for door in (1, 2, 3, 4, 5):
        subprocess.run([sys.executable, str(PROJECT / DOORS[door]), *options], check=True, stdout=sys.stderr)
    run = out / "bench"
    stages = {name: json.loads((run / name / "done.json").read_text()) for name in ("04_head/head", "05_backbone/backbone")}
    curves = {name: np.genfromtxt(run / name / "metrics.csv", delimiter=",", names=True) for name in stages}
    epochs = curves["04_head/head"]["seconds"]
    ours = {
        "total": stages["04_head/head"]["seconds"],
        "epoch": float(np.median(epochs)),
        "mp5": stages["04_head/head"]["metrics"]["mp5"],
        "step": float(curves["05_backbone/backbone"]["images_per_s"]),
    }
    command = [sys.executable, __file__, "--plain", str(run / "03_packed"), str(seed)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]), ours


def plain(pack: Path, seed: int) -> dict[str, float]:
    """The loop of a notebook: fp32, torchvision's transforms and loader, everything forwarded in every epoch."""
    import timm
    from pytorch_metric_learning.losses import ArcFaceLoss
    from safetensors.torch import load_file
    from torchvision import datasets, transforms

    torch.manual_seed(seed)
    packed = PackedImages(pack)
    index = packed.index
    with tempfile.TemporaryDirectory() as folder:
        for row, (split, class_id) in enumerate(zip(index["split"], index["class_id"], strict=True)):
            path = Path(folder, split, f"{class_id:05d}", f"{row:06d}.jpg")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(packed.read_bytes(row))
        normal = transforms.Normalize((0.5,) * 3, (0.5,) * 3)
        squash = [transforms.Resize((PX, PX)), transforms.ToTensor(), normal]
        train = datasets.ImageFolder(f"{folder}/train", transforms.Compose([transforms.RandomHorizontalFlip(), *squash]))
        val = datasets.ImageFolder(f"{folder}/val", transforms.Compose(squash))
        backbone = timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=PX)
        weights = {name: tensor.float() for name, tensor in load_file(PROJECT / "weights/vit_tiny_drawn.safetensors").items()}
        weights["pos_embed"] = timm.layers.resample_abs_pos_embed(weights["pos_embed"], (PX // 16, PX // 16))
        backbone.load_state_dict(weights)
        backbone.requires_grad_(False).eval()
        neck = nn.Sequential(nn.Dropout(0.2), nn.Linear(192, 64))
        loss = ArcFaceLoss(len(train.classes), 64, margin=float(np.degrees(MARGIN)), scale=30)
        optimizer = torch.optim.AdamW([*neck.parameters(), *loss.parameters()], lr=LR, weight_decay=1e-4)
        loader = torch.utils.data.DataLoader(train, BATCH, shuffle=True, drop_last=True, num_workers=2)
        started, epochs = time.time(), []
        for _ in range(N_EPOCHS):
            began = time.time()
            for images, labels in loader:
                optimizer.zero_grad()
                loss(neck(backbone(images)), labels).backward()
                optimizer.step()
            epochs.append(time.time() - began)
        neck.eval()
        with torch.no_grad():
            embeddings = torch.cat([neck(backbone(images)) for images, _ in torch.utils.data.DataLoader(val, BATCH, num_workers=2)]).numpy()
        total = time.time() - started
        rows = [int(Path(path).stem) for path, _ in val.samples]
        scores = summarise(retrieve(embeddings, np.array(val.targets)), index["domain"].to_numpy()[rows])
        return {"total": total, "epoch": statistics.median(epochs), "mp5": scores["mp5"], "step": plain_steps(backbone, neck, loss, train)}


def plain_steps(backbone: nn.Module, neck: nn.Module, loss: nn.Module, train: Any) -> float:
    """Images/s of a backbone stage."""
    backbone.requires_grad_(True).train()
    optimizer = torch.optim.AdamW(backbone.parameters(), lr=1e-4)
    loader = iter(torch.utils.data.DataLoader(train, STEP_BATCH, shuffle=True, drop_last=True, num_workers=2))
    began = time.time()
    for step in range(4 + N_STEPS):
        if step == 4:
            began = time.time()
        images, labels = next(loader)
        optimizer.zero_grad()
        loss(neck(backbone(images)), labels).backward()
        optimizer.step()
    return N_STEPS * STEP_BATCH / (time.time() - began)


def report(rows: list[tuple[dict[str, float], dict[str, float]]]) -> str:
    """The markdown of both tables."""

    def mean(i: int, key: str) -> float:
        return statistics.mean(row[i][key] for row in rows)

    lines = [
        f"# Training\n\n`python tests/benchmarks/training.py`: {n_cores()} cores ({os.uname().machine}), no GPU, torch {torch.__version__};",
        f"images of minibench, ViT-Ti/16 at {PX} px, means over {len(rows)} seeds.\n",
        "| | as people write it | doors 04 and 05 | ratio |\n|---|---|---|---|",
        f"| head-only stage of {N_EPOCHS} epochs with its validation, caching included, s | {mean(0, 'total'):.0f} | {mean(1, 'total'):.1f} "
        f"| **{mean(0, 'total') / mean(1, 'total'):.1f} x** |",
        f"| each further epoch, s | {mean(0, 'epoch'):.1f} | {mean(1, 'epoch'):.3f} | **{mean(0, 'epoch') / mean(1, 'epoch'):.0f} x** |",
        f"| backbone-only stage, images/s | {mean(0, 'step'):.1f} | {mean(1, 'step'):.1f} | **{mean(1, 'step') / mean(0, 'step'):.2f} x** |",
        "\n| seed | mP@5, forwarded in every epoch | mP@5, cached |\n|---|---|---|",
        *(f"| {i} | {theirs['mp5']:.3f} | {ours['mp5']:.3f} |" for i, (theirs, ours) in enumerate(rows)),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
