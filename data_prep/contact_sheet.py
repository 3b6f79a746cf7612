"""Draws a contact sheet of the drawn world, or of what a recipe's stages do to training images.

The world has a row for each instance and a column for each view; a near-twin is below its original. A recipe has a row
for each of its augmentations. The row shows one image of each domain, unchanged and changed three times; the stages
that use the augmentation are printed.

Run     python data_prep/contact_sheet.py --out data_prep/drawn_world.jpg
        python data_prep/contact_sheet.py --recipe first_place --out first_place.jpg
Prints  images a second of each domain, on one core; or the stages of each row
"""

import argparse
import sys
import time
from pathlib import Path

import cv2
import numpy as np

from guie.data.augment import TrainTransform, squash
from guie.errors import run_to_the_end
from guie.files import whole_file
from guie.machine import check_writable_file
from guie.recipe import Augment, Stage, load_recipe
from guie.synthetic.scene import DOMAINS, draw_image


def main() -> int:
    """Reads the command line and returns the exit status; an error is one line."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", type=Path, required=True, help="the JPEG to write")
    p.add_argument("--seed", type=int, default=0, help="seed of the world (default: %(default)s)")
    p.add_argument("--n-instances", type=int, default=4, help="rows of each domain (default: %(default)s)")
    p.add_argument("--n-views", type=int, default=8, help="columns (default: %(default)s)")
    p.add_argument("--image-px", type=int, default=160, help="longer side that is drawn (default: %(default)s)")
    p.add_argument("--recipe", help="show this recipe's augmentation instead: its name, or the path of its file")
    arguments = p.parse_args()
    return run_to_the_end(lambda: make(arguments), "the contact sheet", arguments.out)


def make(arguments: argparse.Namespace) -> None:
    """Draws, times, writes.

    Raises:
        ValueError: an option is out of its range, or --out has another ending than an image's.
        OSError: the file cannot be written.
    """
    for name in ("n_instances", "n_views", "image_px"):
        if getattr(arguments, name) < 1:
            raise ValueError(f"--{name.replace('_', '-')} is {getattr(arguments, name)}, must be at least 1")
    if arguments.out.suffix.lower() not in (".jpg", ".jpeg", ".png"):
        raise ValueError(f"--out {arguments.out}: give it a name that ends in .jpg or .png")
    check_writable_file(arguments.out)
    cv2.setNumThreads(1)
    sheet = augmented(arguments.recipe, arguments.seed) if arguments.recipe else world(arguments)
    done, file = cv2.imencode(arguments.out.suffix, sheet[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 82])
    assert done
    with whole_file(arguments.out) as temporary:
        temporary.write_bytes(file.tobytes())
    print(arguments.out)


def world(arguments: argparse.Namespace) -> np.ndarray:
    """The sheet of the drawn world, uint8 RGB."""
    rows = []
    for domain in DOMAINS:
        began = time.perf_counter()
        for instance in range(1, arguments.n_instances + 1):  # instance 2 is a twin of 1
            views = [
                draw_image(domain, instance, view, arguments.image_px, arguments.seed)
                for view in range(arguments.n_views)
            ]
            rows.append(
                np.concatenate([cv2.resize(view, (120, 120), interpolation=cv2.INTER_AREA) for view in views], axis=1)
            )
        print(f"{domain:10}  {arguments.n_instances * arguments.n_views / (time.perf_counter() - began):5.1f} images/s")
    return np.concatenate(rows)


def augmented(name: str, seed: int) -> np.ndarray:
    """The sheet of a recipe's augmentations, uint8 RGB."""
    kinds: dict[Augment, list[Stage]] = {}
    for stage in load_recipe(name).stages.trained:
        kinds.setdefault(stage.augment, []).append(stage)
    images = [draw_image(domain, 1, 0, 200, seed) for domain in DOMAINS]
    rows = []
    for i, (augment, stages) in enumerate(kinds.items(), 1):
        change = TrainTransform(augment, 120)
        rows.append(
            np.concatenate(
                [view for image in images for view in (squash(image, 120), *(change(image, n) for n in range(3)))],
                axis=1,
            )
        )
        print(f"row {i}: {', '.join(stage.name for stage in stages)}: {augment}")
    return np.concatenate(rows)


if __name__ == "__main__":
    sys.exit(main())
