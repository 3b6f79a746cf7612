"""The shipped ViT off the shelf, beside raw pixels, a ViT with random weights and its teacher: mP@5 and R@1 on classes
of real images.

Prints a markdown table. The ViT never saw the validation half of seed 0. Run, two minutes after doors 01-03 of
minibench:
     python tests/benchmarks/vit.py --packed artifacts/minibench/03_packed \\
         --teacher ../shared/weights/mobilenetv2_100_imagenet.safetensors
"""

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from guie.data.packed import PackedImages
from guie.embed.ensemble import rows_of
from guie.embed.retrieval import retrieve, summarise
from guie.embed.views import to_square
from guie.model.backbone import Backbone, build_backbone
from guie.recipe import Model
from guie.run import PROJECT, keep_freed_memory

VIT = Model("timm", "vit_tiny_patch16_224")
TEACHER = Model("timm", "mobilenetv2_100", pad_type="same")


def main() -> None:
    """Embeds the validation images in each way and prints the table."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--packed", type=Path, required=True, help="03_packed of a run")
    p.add_argument(
        "--weights",
        type=Path,
        default=PROJECT / "weights/vit_tiny_drawn.safetensors",
        help="of the ViT (default: the shipped ones)",
    )
    p.add_argument("--teacher", type=Path, help="of the MobileNetV2; left out if not given")
    arguments = p.parse_args()
    keep_freed_memory()
    packed = PackedImages(arguments.packed)
    rows = rows_of(packed, "val")
    index = packed.index.iloc[rows]
    print(
        f"| off the shelf, {len(rows)} images of {index['class_id'].nunique()} classes | px | dim | mP@5 | R@1 "
        "|\n|---|---|---|---|---|"
    )
    settings: list[tuple[str, int, Backbone | None]] = [("raw pixels", 16, None)]
    settings += [("ViT-Ti/16, random weights", px, build_backbone(VIT, px)) for px in (112,)]
    settings += [("ViT-Ti/16, ours", px, build_backbone(VIT, px, arguments.weights)) for px in (112, 160, 224)]
    if arguments.teacher:
        settings += [
            ("MobileNetV2, its teacher", px, build_backbone(TEACHER, px, arguments.teacher)) for px in (160, 224)
        ]
    for name, px, backbone in settings:
        embeddings = embedded(packed, rows, px, backbone)
        scores = summarise(retrieve(embeddings, index["class_id"].to_numpy()), index["domain"].to_numpy())
        print(f"| {name} | {px} | {embeddings.shape[1]} | {scores['mp5']:.3f} | {scores['r1']:.3f} |", flush=True)


def embedded(packed: PackedImages, rows: np.ndarray, px: int, backbone: Backbone | None) -> np.ndarray:
    """L2-normalised features, float32 [n, dim]; of no backbone the centred pixels themselves."""
    parts = []
    with torch.inference_mode():
        for start in range(0, len(rows), 64):
            squares = [
                to_square(torch.from_numpy(packed.read(int(i))).permute(2, 0, 1)[None], px)
                for i in rows[start : start + 64]
            ]
            pixels = (torch.cat(squares) / 255.0 - 0.5) / 0.5
            parts.append(F.normalize(backbone(pixels) if backbone else pixels.flatten(1), dim=1))
    return torch.cat(parts).numpy()


if __name__ == "__main__":
    main()
