"""Door 07's extraction beside the loop that people write: open_clip in float32, its own transforms, a DataLoader with
default settings.

The images are minibench's groceries, enlarged from about 300 to 1,200 pixels with a little noise: what comes out of a
camera or a shop is larger than what a backbone sees, and such photographs are not at hand. The loop reads these;
extraction reads what door 03 packed of them, once, at the shorter side that recipes have. Both have the same random
weights.

With --device cuda both compute in bf16 by autocast, and the loop's loader has a process a core: with torch's default,
one, it would wait for images alone.

Run     python tests/benchmarks/embed.py --data-root ../shared/data > tests/benchmarks/embed.md
        python tests/benchmarks/embed.py --device cuda       on an accelerator
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from doors import open_doors
from pages import paragraph
from PIL import Image
from safetensors.torch import load_file, save_file

from guie.data.packed import PackedImages
from guie.embed.ensemble import rows_of
from guie.errors import run_to_the_end
from guie.machine import n_cores
from guie.processes import process_pool
from guie.recipe import Model
from guie.run import PROJECT, keep_freed_memory

SIDE, PX, BATCH = 1200, 224, 32
N_IMAGES = {"cpu": {"ViT-B-32": 512, "ViT-L-14": 64}, "cuda": {"ViT-B-32": 1024, "ViT-L-14": 1024}}
RECIPE = '''"""bench: one data set and any stage, for tests/benchmarks/embed.py."""
from guie.recipe import *
FIRST = Stage("head", trains="head", start=Start(fresh=HEAD), optim=Optim(n_epochs=1, batch_size=32, lr=1e-3))
RECIPE = Recipe(
    name="bench",
    data=Data((Source("photos", "class_folders", "photos", "packaged"),)),
    model=Model("timm", "test_vit"),
    stages=Stages(head=(FIRST,)),
    embed=Embed((Setting("head", (Member("head", 224),)),)),
)
'''


def main() -> None:
    """Prints a table in Markdown; with --loop, one measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, default=PROJECT.parent / "shared/data")
    parser.add_argument("--share", type=float, default=1.0, help="of the images, for a quick look")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--loop", nargs=3, metavar=("WHICH", "NETWORK", "N"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.loop:
        which, network, n = arguments.loop
        seconds, features = {"plain": plain, "ours": ours, "ours-float32": ours_in_float32}[which](
            arguments.folder, network, int(n), torch.device(arguments.device)
        )
        np.savez(arguments.folder / f"{which}-{network}.npz", seconds=seconds, features=features)
        return
    with tempfile.TemporaryDirectory() as folder:
        compare(
            Path(folder),
            arguments.data_root,
            {name: max(BATCH, int(n * arguments.share)) for name, n in N_IMAGES[arguments.device].items()},
            arguments.device,
        )


def compare(folder: Path, data_root: Path, n_images: dict[str, int], device: str) -> None:
    """Makes images, pack and weights, runs each loop in a process of its own, and prints."""
    make_photos(folder, data_root, max(n_images.values()))
    packing_s = pack(folder)
    has_amx = torch.cpu._is_amx_tile_supported()
    on_card = device == "cuda"
    what = torch.cuda.get_device_name() if on_card else "AMX" if has_amx else "no AMX"
    machine = f"{n_cores()} cores, {what}, torch {torch.__version__}"
    command = f"python tests/benchmarks/embed.py{' --device cuda' if on_card else ''}"
    told = f"""
    `{command}`, {machine}. Small pictures of groceries, enlarged to {SIDE} pixels at the longer side and with noise, so
    that their JPEGs are as heavy as photographs'. Packing {max(n_images.values())} of them took {packing_s:.0f} s,
    once for all members, views and stages, and is not counted. The plain loop runs with torch's own settings of its
    threads. It computes in {"bf16 by autocast, its loader has a process a core" if on_card else "float32"}.
    """
    print(f"# Features of large images: door 07 beside the plain loop\n\n{paragraph(told)}\n")
    heading = (
        "network",
        "images",
        "plain loop, images/s",
        "door 07",
        "images/s",
        "ratio",
        "smallest cosine",
        "after the mean is taken off",
    )
    print(f"| {' | '.join(heading)} |\n|{'---|' * len(heading)}")
    for network, n in n_images.items():
        make_weights(folder, network)
        seconds, features = measured(folder, "plain", network, n, device)
        ways = {"ours-float32": "float32", "ours": "bfloat16"}
        for which in ("ours",) if on_card else ("ours-float32", "ours") if has_amx else ("ours-float32",):
            name = ways[which]
            own_s, own = measured(folder, which, network, n, device)
            start = f"| {network} | {n} | {n / seconds:.2f} | {name} | {n / own_s:.2f} | {seconds / own_s:.1f} "
            print(
                f"{start}| {cosines(features, own).min():.5f} | "
                f"{cosines(features - features.mean(0), own - own.mean(0)).min():.4f} |",
                flush=True,
            )


def make_photos(folder: Path, data_root: Path, n: int) -> None:
    """Enlarged groceries with a little noise, so that their JPEGs are as heavy as photographs' are; two classes."""
    files = sorted((data_root / "grocery_store").rglob("*.jpg"))
    chosen = np.random.default_rng(0).choice(len(files), n, replace=False)
    paths = [folder / "photos" / f"class{i % 2}" / f"{i:04d}.jpg" for i in range(n)]
    for path in paths[:2]:
        path.parent.mkdir(parents=True, exist_ok=True)
    with process_pool(n_cores()) as pool:
        list(pool.map(make_photo, [files[j] for j in chosen], paths, range(n)))


def make_photo(file: Path, path: Path, seed: int) -> None:
    """One of them."""
    with Image.open(file) as image:
        scale = SIDE / max(image.size)
        size = (round(image.width * scale), round(image.height * scale * 0.75))
        large = image.convert("RGB").resize(size, Image.Resampling.BICUBIC)
    noisy = np.asarray(large) + np.random.default_rng(seed).normal(0, 3, (large.height, large.width, 1))
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path, quality=90)


def pack(folder: Path) -> float:
    """Doors 01 to 03; the seconds of door 03."""
    (folder / "bench.py").write_text(RECIPE)
    options = [
        "--recipe",
        str(folder / "bench.py"),
        "--data-root",
        str(folder),
        "--out",
        str(folder),
        "--device",
        "cpu",
    ]
    open_doors((1, 2, 3), options, stdout=sys.stderr)
    return float(json.loads((folder / "bench/03_packed/done.json").read_text())["seconds"])


def make_weights(folder: Path, network: str) -> None:
    """Random weights of the image tower."""
    import open_clip

    torch.manual_seed(0)
    save_file(open_clip.create_model(network).visual.state_dict(), folder / f"{network}.safetensors")


def measured(folder: Path, which: str, network: str, n: int, device: str) -> tuple[float, np.ndarray]:
    """Seconds and features of one loop."""
    environment = {
        name: value for name, value in os.environ.items() if which != "plain" or name != "OMP_WAIT_POLICY"
    }  # which guie.run sets
    subprocess.run(
        [sys.executable, __file__, "--device", device, "--loop", which, network, str(n), "--folder", str(folder)],
        check=True,
        env=environment,
    )
    with np.load(folder / f"{which}-{network}.npz") as z:
        return float(z["seconds"]), z["features"]


def the_first(folder: Path, n: int) -> tuple[PackedImages, np.ndarray]:
    """The pack, and the rows of n of its images, of both splits in turn."""
    packed = PackedImages(folder / "bench/03_packed")
    return packed, np.sort(np.concatenate([rows_of(packed, split) for split in ("train", "val")]))[:n]


def plain(folder: Path, network: str, n: int, device: torch.device) -> tuple[float, np.ndarray]:
    """The loop of a notebook."""
    import open_clip

    packed, rows = the_first(folder, n)
    paths = [folder / path for path in packed.index["path"].to_numpy()[rows]]
    model = open_clip.create_model(network)
    model.visual.load_state_dict(load_file(folder / f"{network}.safetensors"))
    model.eval().to(device)
    preprocess = open_clip.image_transform(PX, is_train=False, resize_mode="squash", interpolation="bicubic")

    class Photos(torch.utils.data.Dataset[torch.Tensor]):
        def __len__(self) -> int:
            return len(paths)

        def __getitem__(self, i: int) -> torch.Tensor:
            result: torch.Tensor = preprocess(Image.open(paths[i]).convert("RGB"))
            return result

    on_card = device.type == "cuda"
    began = time.time()
    loader = torch.utils.data.DataLoader(Photos(), BATCH, num_workers=n_cores() if on_card else 0, pin_memory=on_card)
    with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=on_card):
        features = [model.encode_image(images.to(device, non_blocking=True)) for images in loader]
    found = torch.cat(features).float().cpu().numpy()
    return time.time() - began, found


def ours(
    folder: Path, network: str, n: int, device: torch.device, precision: str = "bfloat16"
) -> tuple[float, np.ndarray]:
    """What door 07 does for one view of one member, once the door has set up its process."""
    import open_clip

    from guie.embed.accelerator import make_accelerator
    from guie.embed.extract import FeatureRequest, extract
    from guie.model.backbone import build_backbone

    keep_freed_memory()
    packed, rows = the_first(folder, n)
    model = Model(
        "open_clip",
        network,
        str(folder / f"{network}.safetensors"),
        mean=open_clip.OPENAI_DATASET_MEAN,
        std=open_clip.OPENAI_DATASET_STD,
    )
    backbone = build_backbone(model, PX, folder / f"{network}.safetensors").eval().to(device)
    request = FeatureRequest("pack", network, model, PX, "plain", str(n), precision=precision)
    began = time.time()
    features = extract(folder / "cache", request, backbone, packed, rows, make_accelerator(device.type), BATCH)
    return time.time() - began, np.array(features)


def ours_in_float32(folder: Path, network: str, n: int, device: torch.device) -> tuple[float, np.ndarray]:
    """The same in float32, the default on a CPU."""
    return ours(folder, network, n, device, "float32")


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Row by row, float64 [n]."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    return (a * b).sum(axis=1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))


if __name__ == "__main__":
    sys.exit(run_to_the_end(main, "embed.py"))
