"""One model four ways on 200 real images of all shapes: eager, TorchScript, torch.export, and TorchScript in the
contest's PyTorch 1.11.

Run, a minute or two; `old` is made in src/README.md, "The export":
     python tests/benchmarks/parity.py --run artifacts/demo --images ../shared/data --old old/bin/python
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from guie.data.image import load_image, read_file
from guie.embed.ensemble import Tower, load_tower
from guie.embed.pca import PCA
from guie.embed.views import apply_view, frame_of, normalise, to_square
from guie.export.plain import write_out
from guie.export.program import Program, export_program, save_program
from guie.export.torchscript import build_submission, quiet_jit
from guie.machine import n_cores
from guie.model.normalisation import mean_std
from guie.recipe import load_recipe
from guie.run import PROJECT, Run

N_IMAGES, N_NEIGHBOURS, MAX_ASPECT = 200, 5, 8.0
OLD = """
import sys, numpy, torch
module, images = torch.jit.load(sys.argv[1]).eval(), numpy.load(sys.argv[2])
with torch.no_grad():
    made = [module(torch.from_numpy(images[str(i)])).numpy() for i in range(len(images.files))]
    numpy.save(sys.argv[3], numpy.concatenate(made))
print(torch.__version__)
"""


def main() -> None:
    """Prints the table."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--run", type=Path, required=True, help="a finished run, artifacts/<recipe>")
    p.add_argument("--recipe", default="demo")
    p.add_argument("--images", type=Path, default=PROJECT.parent / "shared/data")
    p.add_argument("--old", help="a Python with an older torch")
    arguments = p.parse_args()
    recipe = load_recipe(arguments.recipe)
    run = Run(recipe, PROJECT, arguments.run.resolve(), "cpu")
    towers = [load_tower(run, member) for member in recipe.embed.final.members]
    pca = PCA.load(run.folder(7) / "pca.npz")
    images = some_images(arguments.images)
    embedded = {
        "eager, fused attention": np.concatenate(
            [eager(towers, *mean_std(recipe.model), pca, image) for image in tqdm(images)]
        )
    }
    for tower in towers:
        write_out(tower.module)
    given = (towers, *mean_std(recipe.model), (torch.from_numpy(pca.mean_), torch.from_numpy(pca.matrix)))
    with tempfile.TemporaryDirectory() as folder, quiet_jit():
        script, program, stored, results = (
            Path(folder, name) for name in ("saved_model.pt", "saved_model.pt2", "images.npz", "old.npy")
        )
        torch.jit.save(build_submission(*given), script)
        save_program(export_program(Program(*given)), program)
        embedded[f"TorchScript, torch {torch.__version__}"] = every(torch.jit.load(script).eval(), images)
        embedded[f"torch.export, torch {torch.__version__}"] = every(torch.export.load(program).module(), images)
        if arguments.old:
            np.savez(stored, **{str(i): image.numpy() for i, image in enumerate(images)})
            told = subprocess.run(
                [arguments.old, "-c", OLD, script, stored, results], check=True, capture_output=True, text=True
            ).stdout
            embedded[f"TorchScript, torch {told.strip()}"] = np.load(results)
    sides = np.array([image.shape[2:] for image in images])
    print(
        f"# Parity\n\n`{' '.join(['python', 'tests/benchmarks/parity.py', *sys.argv[1:]])}`: {n_cores()} cores, "
        f"{time.strftime('%Y-%m-%d')}."
    )
    print(
        f"\n{len(images)} real images of {sides.min()} to {sides.max()} pixels a side, half of them cut to aspects of "
        f"up to {MAX_ASPECT:g} to 1; the final"
    )
    print(
        f"setting of `{recipe.name}`. Each list of the {N_NEIGHBOURS} nearest among the others is compared with the "
        "eager one's.\n"
    )
    print("| | largest cosine distance to eager | equal lists of neighbours |\n|---|---|---|")
    reference = embedded["eager, fused attention"]
    for name, values in embedded.items():
        cosines = (
            (values.astype(np.float64) * reference).sum(1)
            / np.linalg.norm(values.astype(np.float64), axis=1)
            / np.linalg.norm(reference, axis=1)
        )
        equal = (nearest(values) == nearest(reference)).all(axis=1)
        print(f"| {name} | {max(0.0, 1 - cosines.min()):.1e} | {equal.sum()} of {len(images)} |")


def some_images(folder: Path) -> list[torch.Tensor]:
    """uint8 [1, 3, h, w] of images spread over the folder; every other one is cut to a random aspect."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    rng, images = np.random.default_rng(0), []
    for i, path in enumerate(paths[:: max(1, len(paths) // N_IMAGES)][:N_IMAGES]):
        pixels = np.array(load_image(read_file(path))[0])
        height, width = pixels.shape[:2]
        if i % 2:
            aspect = float(np.exp(rng.uniform(-1, 1) * np.log(MAX_ASPECT)))
            height, width = (max(1, int(min(height, width * aspect))), max(1, int(min(width, height / aspect))))
        images.append(torch.from_numpy(np.ascontiguousarray(pixels[:height, :width])).permute(2, 0, 1)[None])
    return images


def eager(
    towers: list[Tower], mean: tuple[float, ...], std: tuple[float, ...], pca: PCA, image: torch.Tensor
) -> np.ndarray:
    """The final embedding, float64 [1, 64], as door 07 computes it."""
    parts = []
    with torch.no_grad():
        for tower in towers:
            views = [
                tower.module(apply_view(normalise(to_square(image, tower.image_px, frame_of(v)), mean, std), v))
                for v in tower.views
            ]
            parts.append(tower.weight * F.normalize(torch.stack(views).mean(dim=0), dim=1))
    joined = F.normalize(torch.cat(parts, dim=1), dim=1).numpy().astype(np.float64)
    projected = (joined - pca.mean_) @ pca.matrix.T
    return projected / np.linalg.norm(projected, axis=1, keepdims=True)


def every(module: torch.nn.Module, images: list[torch.Tensor]) -> np.ndarray:
    """float32 [n, 64], one image at a time."""
    with torch.no_grad():
        return np.concatenate([module(image).numpy() for image in tqdm(images)])


def nearest(embeddings: np.ndarray) -> np.ndarray:
    """int64 [n, 5]: of each, the nearest of the others."""
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    cosines = unit.astype(np.float64) @ unit.T.astype(np.float64)
    np.fill_diagonal(cosines, -np.inf)
    return np.argsort(-cosines, axis=1, kind="stable")[:, :N_NEIGHBOURS]


if __name__ == "__main__":
    main()
