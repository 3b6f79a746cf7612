"""Draws a contact sheet of the drawn world: a row for each instance, a column for each view, twins below one another.

Run     python data_prep/contact_sheet.py --out data_prep/drawn_world.jpg
Prints  images a second of each domain, on one core
"""

import argparse
import time
from pathlib import Path

import cv2
import numpy as np

from guie.data.drawn_scene import DOMAINS, draw_image


def main() -> None:
    """Draws, times, writes."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", type=Path, required=True, help="the JPEG to write")
    p.add_argument("--seed", type=int, default=0, help="of the world (default: %(default)s)")
    p.add_argument("--n-instances", type=int, default=4, help="rows of each domain (default: %(default)s)")
    p.add_argument("--n-views", type=int, default=8, help="columns (default: %(default)s)")
    p.add_argument("--image-px", type=int, default=160, help="longer side that is drawn (default: %(default)s)")
    arguments = p.parse_args()
    cv2.setNumThreads(1)
    rows = []
    for domain in DOMAINS:
        began = time.perf_counter()
        for instance in range(1, arguments.n_instances + 1):  # instance 2 is a twin of 1
            views = [draw_image(domain, instance, view, arguments.image_px, arguments.seed) for view in range(arguments.n_views)]
            rows.append(np.concatenate([cv2.resize(view, (120, 120), interpolation=cv2.INTER_AREA) for view in views], axis=1))
        print(f"{domain:10}  {arguments.n_instances * arguments.n_views / (time.perf_counter() - began):5.1f} images/s")
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(arguments.out), np.concatenate(rows)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 82]):
        raise SystemExit(f"error: {arguments.out} cannot be written; give --out a name that ends in .jpg")
    print(arguments.out)


if __name__ == "__main__":
    main()
