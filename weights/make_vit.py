r"""Makes weights/vit_tiny_drawn.safetensors, the small Vision Transformer that the project ships.

timm's vit_tiny_patch16_224 (5.5 M parameters) learns, without labels, the features of an ImageNet
MobileNetV2. Its images are drawn by the project (weights/drawn_for_vit.py: seed 1001, so none of them
is in another recipe). With --real-data it also learns from the training half of minibench's real
images, and never from the other half.

Needs   the teacher, mobilenetv2_100_imagenet.safetensors (weights/README.md), and with --real-data
        the images of minibench
Writes  OUT/metrics.csv, OUT/last.pt; at the end the weights and their line in SHA256SUMS, beside
        this script
Run     python weights/make_vit.py --teacher ../shared/weights/mobilenetv2_100_imagenet.safetensors \
            --real-data ../shared/data
Takes   about two hours on two cores (64 images in 1 s; the teacher first, 10 minutes). After a kill
        the same command continues.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from guie.errors import run_to_the_end
from guie.machine import check_writable, check_writable_file
from guie.run import DOORS, PROJECT, default_out, keep_freed_memory, set_up_logging

HERE = Path(__file__).resolve().parent
NAME = "vit_tiny_drawn.safetensors"


def main() -> int:
    """Reads the command line, runs `make`, and returns the exit status; see `guie.errors`."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--teacher", type=Path, required=True, help="the MobileNetV2's safetensors file")
    p.add_argument(
        "--real-data", type=Path, help="folder of minibench's images; without it the ViT learns only from drawn images"
    )
    p.add_argument("--steps", type=int, default=6000, help="training steps of 64 images (default: %(default)s)")
    p.add_argument("--seed", type=int, default=0, help="seed of weights, order and crops (default: %(default)s)")
    p.add_argument(
        "--out", type=Path, default=default_out() / "make_vit", help="work folder (default: artifacts/make_vit)"
    )
    p.add_argument("--weights", type=Path, default=HERE / NAME, help="the file to write (default: beside this script)")
    arguments = p.parse_args()
    return run_to_the_end(lambda: make(arguments), "make_vit", arguments.out, "the same command goes on")


def make(arguments: argparse.Namespace) -> None:
    """Draws and packs the images, distils, and writes the weights."""
    check_writable(arguments.out)
    check_writable_file(arguments.weights, "--weights")
    set_up_logging(arguments.out)
    keep_freed_memory()
    drawn = packed(arguments.out, HERE / "drawn_for_vit.py")
    packs = [drawn]
    if arguments.real_data:
        packs.append(packed(arguments.out, "minibench", "--data-root", arguments.real_data))
    from distil import distil, save_student  # imported late, since they import torch, which is slow
    from teacher import Distillation

    weights = distil(
        packs,
        drawn,
        arguments.teacher,
        arguments.out / "distil",
        Distillation(n_steps=arguments.steps, seed=arguments.seed),
    )
    save_student(arguments.weights, weights)
    print(f"{arguments.weights}  {arguments.weights.stat().st_size / 1e6:.1f} MB")


def packed(out: Path, recipe: Path | str, *options: Path | str) -> Path:
    """Opens doors 01 to 03 of a recipe and returns its `03_packed` folder.

    Raises:
        ValueError: a door failed.
    """
    for number in (1, 2, 3):
        status = subprocess.run(
            [sys.executable, PROJECT / DOORS[number], "--recipe", recipe, "--out", out, *options], check=False
        ).returncode
        if status:
            raise ValueError(f"door {number:02d} stopped with status {status}; the line above says why")
    return out / Path(recipe).stem / "03_packed"


if __name__ == "__main__":
    sys.exit(main())
