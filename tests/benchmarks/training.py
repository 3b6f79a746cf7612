"""Training as people write it (timm, pytorch-metric-learning's ArcFaceLoss, torchvision's ImageFolder) beside doors 04
and 05, in one run.

The images and the MobileNetV2 are minibench's, at 112 px. Both loops see a plain or mirrored image in each epoch, train
the same neck and ArcFace margin with AdamW for the same ten epochs from centres of the same length, with batch norm in
eval mode, and end with the same validation. The plain loop's process has none of the doors' environment variables.
Steps of the backbone stage are timed for the project's ViT-Ti/16, too: the second epoch's, and the plain loop's after
four steps to warm up.

How long the centres are at the start matters: AdamW moves a long centre's direction more slowly. The doors start them
with numbers of a standard deviation of .01, pytorch-metric-learning with 1; the second table has both loops at both
starts.

Run, 25 minutes for the first seed, 20 for each other:
     python tests/benchmarks/training.py --data-root ../shared/data > tests/benchmarks/training.md
On an accelerator, both sides in bf16 by autocast; or the backbone stages alone, in some minutes:
     python tests/benchmarks/training.py --device cuda
     python tests/benchmarks/training.py --device cuda --steps
Only the ViT's training steps, on one batch in memory, timm's network beside guie's. The first command lets waiting
threads sleep, as the doors do; the second lets them spin:
     python tests/benchmarks/training.py --bare
     OMP_WAIT_POLICY=ACTIVE python tests/benchmarks/training.py --bare
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from doors import open_doors
from pages import paragraph
from torch import nn

from guie.data.packed import PackedImages
from guie.embed.retrieval import retrieve, summarise
from guie.errors import run_to_the_end
from guie.machine import n_cores
from guie.recipe import Model, Optim, Stage, load_recipe
from guie.run import FOLDERS, PROJECT, Run

PX, N_EPOCHS, BATCH, LR, MARGIN = 112, 10, 128, 2e-3, 0.3
STARTS = {"ours": 0.01, "theirs": 1.0}  # standard deviation of the centres' numbers before the first step
N_FIFTH = 250_000 + 141_931 + 10_000 + 3_030  # training images of the 5th place: arXiv 2210.09495
N_STEPS, STEP_BATCH = 40, 32  # of a backbone stage, after four to warm up
MODELS = {
    "mobilenetv2": ("mobilenetv2_100", "mobilenetv2_100_imagenet.safetensors", ', pad_type="same", **OWN'),
    "vit": ("vit_tiny_patch16_224", "vit_tiny_drawn.safetensors", ""),
}
RECIPE = '''"""{name}: a head stage and a backbone stage of two epochs, for tests/benchmarks/training.py."""
from guie.recipe import *
from guie.recipes.minibench import HALF, WEIGHTS
from guie.recipes.minibench import RECIPE as MINIBENCH
OWN = {{"mean": HALF, "std": HALF, "own_normalisation_of": WEIGHTS}}
FIRST = Stage(
    "head",
    trains="head",
    image_px={px},
    start=Start(fresh=HEAD),
    objective=ArcFace(margin_rad={margin}),
    optim=Optim(n_epochs={n_epochs}, batch_size={batch}, lr={lr}, schedule=Constant(warmup_share=0.0)),
    sampling=Weighted(power=0.0),
)
SECOND = Stage(
    "backbone",
    trains="backbone",
    image_px={px},
    objective=ArcFace(margin_rad={margin}),
    optim=Optim(n_epochs=2, batch_size={step_batch}, lr=1e-4),
)
RECIPE = Recipe(
    name="{name}",
    data=MINIBENCH.data,
    model=Model("timm", "{model}", "{weights}"{more}),
    stages=Stages(head=(FIRST,), backbone=(SECOND,)),
    embed=Embed((Setting("head", (Member("head", {px}),)),)),
)
'''


def main() -> None:
    """Runs each part in a separate process, and prints the tables."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--data-root", type=Path, default=PROJECT.parent / "shared/data")
    p.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    p.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    p.add_argument("--steps", action="store_true", help="the backbone stages alone, of the first seed")
    p.add_argument("--bare", action="store_true", help="the ViT's steps alone, on one batch in memory")
    p.add_argument("--plain", nargs=5, metavar=("MODEL", "PACK", "WEIGHTS", "SEED", "START"), help=argparse.SUPPRESS)
    p.add_argument("--door-4", nargs=2, metavar=("START", "OPTIONS"), help=argparse.SUPPRESS)
    arguments = p.parse_args()
    if arguments.bare:
        timms, ours, all_ours = bare()
        print(f"timm's network {timms:.1f} images/s, guie's {ours:.1f} ({ours / timms:.2f} x),")
        print(f"with the doors' optimizer {all_ours:.1f} ({all_ours / timms:.2f} x)")
        print(f"OMP_WAIT_POLICY={os.environ['OMP_WAIT_POLICY']}, {torch.get_num_threads()} threads")
        return
    if arguments.plain:
        model, pack, weights, seed, start = arguments.plain
        device = torch.device(arguments.device)
        has_head = model == "mobilenetv2" and not arguments.steps
        print(json.dumps(plain(model, Path(pack), Path(weights), int(seed), float(start), device, has_head)))
        return
    if arguments.door_4:
        door_4_from(float(arguments.door_4[0]), json.loads(arguments.door_4[1]))
        return
    with tempfile.TemporaryDirectory() as folder:
        places = Path(folder), arguments.data_root, arguments.device
        if arguments.steps:
            rows = {name: measured(*places, name, arguments.seeds[0], True, has_head=False) for name in MODELS}
            print("\n".join([told_of(arguments.seeds[:1], arguments.device, " --steps"), *backbone_rows(rows)]))
            return
        head = [measured(*places, "mobilenetv2", seed, seed == arguments.seeds[0]) for seed in arguments.seeds]
        vit = measured(*places, "vit", arguments.seeds[0], True)
    print(report(arguments.seeds, arguments.device, head, vit))


def measured(
    folder: Path,
    data_root: Path,
    device: str,
    name: str,
    seed: int,
    has_backbone_stage: bool,
    has_head: bool | None = None,
) -> tuple[dict[str, float], dict[str, float]]:
    """What the plain loop and the doors need for one seed: seconds, images/s, mP@5 from either start ("mp5 ours", "mp5
    theirs"). The head-only stage is compared, too, where `has_head` is true; None: for the MobileNetV2."""
    _, weights, _ = MODELS[name]
    has_head = name == "mobilenetv2" if has_head is None else has_head
    out = folder / f"seed{seed}"
    options = [
        "--recipe",
        str(write_recipe(folder, name, N_EPOCHS if has_head else 1)),
        "--data-root",
        str(data_root),
        "--out",
        str(out),
        "--set",
        f"seed={seed}",
        "--device",
        device,
    ]
    for number in (1, 2, 3) if (out / "mobilenetv2").is_dir() else ():  # the same images
        shutil.copytree(out / "mobilenetv2" / FOLDERS[number], out / name / FOLDERS[number])
    open_doors((1, 2, 3, 4, 5) if has_backbone_stage else (1, 2, 3, 4), options, stdout=sys.stderr)
    run = out / name
    done = json.loads((run / "04_head/head/done.json").read_text())
    ours = {
        "total": done["seconds"],
        "mp5 ours": done["metrics"]["mp5"],
        "epoch": float(np.median(curve(run / "04_head/head")["seconds"])),
    }
    ours["n_images"] = float((PackedImages(run / "03_packed").index["split"] == "train").sum())
    if has_backbone_stage:
        ours["step"] = float(curve(run / "05_backbone/backbone")["images_per_s"][-1])  # the first epoch warms up
    file = Run(load_recipe(str(folder / f"{name}.py")), data_root.resolve(), run).weights_path(weights)
    theirs: dict[str, float] = {}
    for start in STARTS if has_head else ("ours",):
        command = [
            sys.executable,
            __file__,
            "--device",
            device,
            "--plain",
            name,
            str(run / "03_packed"),
            str(file),
            str(seed),
            str(STARTS[start]),
            *([] if has_head else ["--steps"]),
        ]
        told = subprocess.run(
            command, check=True, stdout=subprocess.PIPE, text=True, env=environment_of_a_script()
        ).stdout
        found = json.loads(told.splitlines()[-1])
        theirs = found | theirs | {f"mp5 {start}": found.get("mp5", 0.0)}  # times are those of the first
    if has_head:  # last, since it makes the stage anew
        subprocess.run(
            [sys.executable, __file__, "--door-4", str(STARTS["theirs"]), json.dumps([*options, "--force"])],
            check=True,
            stdout=sys.stderr,
        )
        ours["mp5 theirs"] = json.loads((run / "04_head/head/done.json").read_text())["metrics"]["mp5"]
    return theirs, ours


def write_recipe(folder: Path, name: str, n_epochs: int) -> Path:
    """Writes the recipe for a network in `MODELS`, with so many epochs of the head; returns the file."""
    model, weights, more = MODELS[name]
    settings = {"margin": MARGIN, "px": PX, "n_epochs": n_epochs, "batch": BATCH, "lr": LR, "step_batch": STEP_BATCH}
    path = folder / f"{name}.py"
    path.write_text(RECIPE.format(name=name, model=model, weights=weights, more=more, **settings))
    return path


def environment_of_a_script() -> dict[str, str]:
    """Without what guie.run sets in this process, and what a shell may have set for OpenMP."""
    return {
        name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "KMP_", "GOMP_", "MALLOC_"))
    }


def door_4_from(start: float, options: list[str]) -> None:
    """Door 04 with longer centres at the start: what they would be worth, not a setting of the doors."""
    from guie.door import open_door
    from guie.train.objectives.margin_softmax import MarginSoftmax

    usual = MarginSoftmax.__init__

    def longer(self: MarginSoftmax, *args: Any, **words: Any) -> None:
        usual(self, *args, **words)
        self.centers.data.mul_(start / STARTS["ours"])

    MarginSoftmax.__init__ = longer  # type: ignore[method-assign]
    sys.exit(open_door(4, None, "guie.train.stage:train_phase", options, phase="head"))


def curve(stage: Path) -> Any:
    """The columns of a stage's metrics.csv."""
    return np.genfromtxt(stage / "metrics.csv", delimiter=",", names=True)


def plain_backbone(name: str, weights: Path) -> nn.Module:
    """The same network by timm."""
    import timm
    from safetensors.torch import load_file

    tensors = {key: tensor.float() for key, tensor in load_file(weights).items()}
    if name == "vit":
        backbone = timm.create_model(MODELS[name][0], num_classes=0, img_size=PX)
        tensors["pos_embed"] = timm.layers.resample_abs_pos_embed(tensors["pos_embed"], (PX // 16, PX // 16))
    else:
        backbone = timm.create_model(MODELS[name][0], num_classes=0, pad_type="same")
    backbone.load_state_dict({key: tensor for key, tensor in tensors.items() if not key.startswith("classifier.")})
    return backbone.requires_grad_(False).eval()


def plain(
    name: str, pack: Path, weights: Path, seed: int, start: float, device: torch.device, has_head: bool
) -> dict[str, float]:
    """The loop of a notebook: torchvision's transforms and loader, everything forwarded in every epoch, fp32 on a CPU
    and bf16 autocast on a card; `start` as in STARTS. Without `has_head` the steps of a backbone stage alone."""
    from pytorch_metric_learning.losses import ArcFaceLoss
    from torchvision import datasets, transforms

    torch.manual_seed(seed)
    packed = PackedImages(pack)
    index = packed.index
    with tempfile.TemporaryDirectory() as folder:
        for row, (split, class_id) in enumerate(zip(index["split"], index["class_id"], strict=True)):
            path = Path(folder, split, f"{class_id:05d}", f"{row:06d}.jpg")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(packed.read_bytes(row))
        normal = transforms.Normalize((0.5,) * 3, (0.5,) * 3)  # as minibench has it
        squash = [transforms.Resize((PX, PX)), transforms.ToTensor(), normal]
        train = datasets.ImageFolder(
            f"{folder}/train", transforms.Compose([transforms.RandomHorizontalFlip(), *squash])
        )
        val = datasets.ImageFolder(f"{folder}/val", transforms.Compose(squash))
        backbone = plain_backbone(name, weights).to(device)
        neck = nn.Sequential(nn.Dropout(0.2), nn.Linear(backbone.num_features, 64)).to(device)
        loss = ArcFaceLoss(len(train.classes), 64, margin=float(np.degrees(MARGIN)), scale=30).to(device)
        loss.W.data.mul_(start)  # which starts with 1
        if not has_head:
            return {"step": plain_steps(backbone, neck, loss, train, device)}
        optimizer = torch.optim.AdamW([*neck.parameters(), *loss.parameters()], lr=LR, weight_decay=1e-4)
        loader = torch.utils.data.DataLoader(train, BATCH, shuffle=True, drop_last=True, **loading(device))
        started, epochs = time.time(), []
        for _ in range(N_EPOCHS):
            began = time.time()
            for images, labels in loader:
                optimizer.zero_grad()
                with autocast(device):
                    embeddings = neck(backbone(images.to(device, non_blocking=True)))
                loss(embeddings.float(), labels.to(device, non_blocking=True)).backward()
                optimizer.step()
            wait(device)
            epochs.append(time.time() - began)
        neck.eval()
        with torch.no_grad(), autocast(device):
            val_loader = torch.utils.data.DataLoader(val, BATCH, **loading(device))
            embeddings = torch.cat([neck(backbone(images.to(device))).float().cpu() for images, _ in val_loader])
        total = time.time() - started
        rows = [int(Path(path).stem) for path, _ in val.samples]
        scores = summarise(retrieve(embeddings.numpy(), np.array(val.targets)), index["domain"].to_numpy()[rows])
        return {
            "total": total,
            "epoch": statistics.median(epochs),
            "mp5": scores["mp5"],
            "step": plain_steps(backbone, neck, loss, train, device),
        }


def loading(device: torch.device) -> dict[str, Any]:
    """Of a loader: a process a core; memory that a card copies from without waiting."""
    return {"num_workers": n_cores(), "pin_memory": device.type == "cuda"}


def autocast(device: torch.device) -> torch.autocast:
    """bf16 on a card, as the doors have it."""
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")


def wait(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def bare() -> tuple[float, float, float]:
    """Images/s of the ViT's backbone stage without a loader: timm's network, guie's network, and guie's network with
    the doors' optimizer; the other two use torch's AdamW with its defaults. The three take turns; each rate is that of
    its median step."""
    import timm

    from guie.model.backbone import build_backbone
    from guie.train.model import build_model
    from guie.train.parameters import make_optimizer, open_parts

    name = MODELS["vit"][0]
    model = Model("timm", name, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    stage = Stage("bare", trains="backbone", image_px=PX, optim=Optim(n_epochs=1, batch_size=STEP_BATCH, lr=1e-4))
    as_in_doors = build_model(build_backbone(model, PX), stage, torch.ones(2), torch.arange(2), 0)
    open_parts(as_in_doors, stage)
    networks = [timm.create_model(name, num_classes=0, img_size=PX), build_backbone(model, PX), as_in_doors.backbone]
    optimizers = [torch.optim.AdamW(network.parameters(), lr=1e-4) for network in networks[:2]]
    optimizers.append(make_optimizer(as_in_doors, stage))
    pixels = torch.randn(STEP_BATCH, 3, PX, PX)
    seconds: tuple[list[float], ...] = ([], [], [])
    for _ in range(N_STEPS):
        for network, optimizer, own in zip(networks, optimizers, seconds, strict=True):
            began = time.time()
            optimizer.zero_grad()
            network.train()(pixels).square().mean().backward()
            optimizer.step()
            own.append(time.time() - began)
    timms, ours, all_ours = (STEP_BATCH / statistics.median(own) for own in seconds)
    return timms, ours, all_ours


def plain_steps(backbone: nn.Module, neck: nn.Module, loss: nn.Module, train: Any, device: torch.device) -> float:
    """Images/s of a backbone stage."""
    backbone.requires_grad_(True).train()
    for module in backbone.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()  # as the doors have it: the same work, and no statistics of 32 images
    optimizer = torch.optim.AdamW(backbone.parameters(), lr=1e-4)
    loader = iter(torch.utils.data.DataLoader(train, STEP_BATCH, shuffle=True, drop_last=True, **loading(device)))
    began = time.time()
    for step in range(4 + N_STEPS):
        if step == 4:
            wait(device)
            began = time.time()
        images, labels = next(loader)
        optimizer.zero_grad()
        with autocast(device):
            embeddings = neck(backbone(images.to(device, non_blocking=True)))
        loss(embeddings.float(), labels.to(device, non_blocking=True)).backward()
        optimizer.step()
    wait(device)
    return N_STEPS * STEP_BATCH / (time.time() - began)


def told_of(seeds: list[int], device: str, more: str = "") -> str:
    """The heading, what was run, and the head of the table; `more` are further options."""
    on_card = device == "cuda"
    options = f"--seeds {' '.join(map(str, seeds))}{' --device cuda' if on_card else ''}{more}"
    told = f"""
    `python tests/benchmarks/training.py {options}`: {n_cores()} cores ({os.uname().machine}),
    {torch.cuda.get_device_name() if on_card else "no GPU"}, torch {torch.__version__}; images of minibench at {PX} px.
    The plain loop is timm, pytorch-metric-learning's ArcFaceLoss and torchvision's ImageFolder, in
    {"bf16 by autocast on both sides" if on_card else "fp32"}, with batches of {BATCH}, or of {STEP_BATCH} where the
    backbone trains; its loader has {n_cores()} processes. Both loops start from centres of the same length, keep batch
    norm in eval mode and augment by a flip. They differ in this: the doors keep freed memory, let waiting threads
    sleep, compute convolutions channels last, and read small packed images. The plain loop has torch's defaults, and
    reads the same packed images as files.
    """
    columns = "| | as people write it | doors 04 and 05 | ratio |\n|---|---|---|---|"
    return f"# Training\n\n{paragraph(told)}\n\n{columns}"


def backbone_rows(rows: dict[str, tuple[dict[str, float], dict[str, float]]]) -> list[str]:
    """The lines of the table about backbone stages."""
    names = {"mobilenetv2": "MobileNetV2", "vit": "ViT-Ti/16"}
    lines = []
    for name, (theirs, ours) in rows.items():
        ratio = ours["step"] / theirs["step"]
        lines.append(
            f"| {names[name]}: backbone-only stage, images/s | {theirs['step']:.1f} | {ours['step']:.1f} | "
            f"**{ratio:.2f} x** |"
        )
    return lines


def report(
    seeds: list[int],
    device: str,
    head: list[tuple[dict[str, float], dict[str, float]]],
    vit: tuple[dict[str, float], dict[str, float]],
) -> str:
    """The markdown of both tables."""
    theirs, ours = ({key: statistics.mean(row[i][key] for row in head) for key in ("total", "epoch")} for i in (0, 1))
    lines = [
        told_of(seeds, device),
        f"| MobileNetV2: head-only stage of {N_EPOCHS} epochs with its validation, caching included, s | "
        f"{theirs['total']:.0f} | {ours['total']:.1f} "
        f"| **{theirs['total'] / ours['total']:.1f} x** |",
        f"| each further epoch, s | {theirs['epoch']:.1f} | {ours['epoch']:.3f} | "
        f"**{theirs['epoch'] / ours['epoch']:.0f} x** |",
    ]
    n_images = head[0][1]["n_images"]
    per_second = n_images / ours["epoch"]
    lines += backbone_rows({"mobilenetv2": head[0], "vit": vit})
    hours = N_FIFTH * 1000 / per_second / 3600
    told = f"""
    An epoch of {n_images:,.0f} images in {ours["epoch"]:.3f} s is {per_second:,.0f} images/s. The 5th place's head saw
    {N_FIFTH:,} images a thousand times: at this rate {hours:.1f} hours, twice that with SAM's second gradient; by
    arithmetic, not run.
    """
    lines.append(f"\n{paragraph(told)}")
    columns = [
        (kind, side, start) for start in STARTS for kind, side in (("forwarded in every epoch", 0), ("cached", 1))
    ]
    lines.append(
        "\n| seed "
        f"|{''.join(f' mP@5, {kind}, centres of {STARTS[start]:g} |' for kind, _, start in columns)}\n|{'---|' * 5}"
    )
    for seed, row in zip(seeds, head, strict=True):
        lines.append(f"| {seed} |" + "".join(f" {row[side][f'mp5 {start}']:.3f} |" for _, side, start in columns))
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(run_to_the_end(main, "training.py"))
