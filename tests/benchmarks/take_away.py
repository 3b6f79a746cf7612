"""What `guie export` writes of a run: sizes, times, parity; and what kinds of small codes cost.

Run: python tests/benchmarks/take_away.py --run artifacts/demo --images ../shared/data > tests/benchmarks/take_away.md
The codes are measured on the run's validation images, and on real images by the shipped ViT as it is, whose PCA is
fitted on half of the classes and scored on the others.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from guie.cli.main import main as guie
from guie.data.image import read_image
from guie.embed.codes import LARGEST, fit_codes, signs, to_bits
from guie.embed.pca import fit_pca
from guie.embed.retrieval import retrieve
from guie.embed.search import l2_normalised
from guie.embed.views import normalise, to_square
from guie.evaluate.code_loss import code_loss
from guie.evaluate.intervals import class_interval, paired_p
from guie.model.backbone import build_backbone
from guie.own.photos import read_photos
from guie.recipe import load_recipe
from guie.run import PROJECT
from guie.saved import saved_run

PX, PER_CLASS, MIN_CLASSES, N_ROTATIONS = 112, 12, 8, 3


def main() -> None:
    """Prints the page."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--run", type=Path, required=True, help="a finished run")
    p.add_argument("--images", type=Path, default=PROJECT.parent / "shared/data", help="folders of class folders")
    p.add_argument("--features", type=Path, help="keeps the features of --images (.npz)")
    arguments = p.parse_args()
    run = saved_run(arguments.run)
    final = run.recipe.embed.final
    print("# Take away\n")
    print(f"`python tests/benchmarks/take_away.py --run RUN`: recipe {run.recipe.name}, {_members(final.members)};")
    load = os.getloadavg()[0]
    print(f"{_processor()}, {torch.get_num_threads()} threads, load {load:.1f}, torch {torch.__version__}.\n")
    _formats(arguments.run)
    for name, (train, val, ids) in {
        f"validation images of {run.recipe.name}": _of_run(run.folder(7)),
        "real images, the shipped ViT off the shelf, PCA-64": _of_images(arguments.images, arguments.features),
    }.items():
        _codes(name, train, val, ids)


def _members(members: tuple) -> str:  # type: ignore[type-arg]
    return ", ".join(f"{member.stage} at {member.image_px} px ({'/'.join(member.views)})" for member in members)


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} x {names[0]}" if names else platform.processor()


def _formats(run: Path) -> None:
    """Exports all formats, and prints a row for each."""
    with tempfile.TemporaryDirectory() as scratch:
        started, cpu = time.perf_counter(), time.process_time()
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            assert guie(["export", str(run), "--to", scratch]) == 0
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
        done = json.loads(Path(scratch, "export.json").read_text(encoding="utf-8"))
    print("| format | MB | smallest cosine to TorchScript | largest difference of a number | s an image |")
    print("|---|---|---|---|---|")
    for row in done["formats"]:
        size = sum(row["files"].values()) / 1e6
        gap = max(0.0, 1 - row["min_cosine"])
        print(
            f"| {row['format']} | {size:.1f} | 1 - {gap:.0e} | {row['max_difference']:.1e} | "
            f"{row['seconds_per_image']:.3f} |"
        )
    n = done["formats"][0]["n_images"]
    print(f"\nCompared on {n} images. All of it took {seconds:.0f} s, {cpu:.0f} s of processor time.\n")


def _of_run(folder: Path) -> tuple[np.ndarray, np.ndarray, pd.DataFrame]:
    """Training and validation embeddings of a run, and the latter's classes and domains."""
    train, val = (np.load(folder / f"{split}_embeddings.npy") for split in ("train", "val"))
    return train, val, pd.read_parquet(folder / "val_ids.parquet")


def _of_images(root: Path, kept: Path | None) -> tuple[np.ndarray, np.ndarray, pd.DataFrame]:
    """The same of images in class folders: half of the classes give the PCA and the scale, the others are scored."""
    if kept is None or not kept.is_file():
        features, labels, domains = _features(root)
        if kept is not None:
            np.savez(kept, F=features, L=labels, D=domains)
    else:
        with np.load(kept) as stored:
            features, labels, domains = stored["F"], stored["L"], stored["D"]
    few = pd.Series(labels).groupby(domains).nunique()
    is_kept = ~np.isin(domains, few.index[few < MIN_CLASSES])  # of a flat folder, whose photos have one label
    features, labels, domains = features[is_kept], labels[is_kept], domains[is_kept]
    classes = np.unique(labels)
    first = set(np.random.default_rng(0).permutation(classes)[: len(classes) // 2])
    is_first = np.array([label in first for label in labels])
    pca = fit_pca(features[is_first], 64)
    ids = pd.DataFrame({"class_id": np.unique(labels[~is_first], return_inverse=True)[1], "domain": domains[~is_first]})
    return pca.transform(features[is_first]), pca.transform(features[~is_first]), ids


def _features(root: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features of the shipped ViT, labels and domains of up to PER_CLASS images a class."""
    model = load_recipe("demo").model
    backbone = build_backbone(model, PX, PROJECT / "weights" / model.weights, 0).eval()
    features, labels, domains = [], [], []
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        photos = read_photos(folder)
        table = photos.table[photos.table["label"] != ""].groupby("label").head(PER_CLASS)
        for path, label in tqdm(table.itertuples(index=False), total=len(table), desc=folder.name):
            pixels = torch.from_numpy(read_image(photos.file(path), PX)).permute(2, 0, 1)[None]
            with torch.no_grad():
                features.append(backbone(normalise(to_square(pixels, PX), model.mean, model.std))[0].numpy())
            labels.append(f"{folder.name}/{label}")
            domains.append(folder.name)
    return np.stack(features), np.array(labels), np.array(domains)


def _codes(name: str, train: np.ndarray, val: np.ndarray, ids: pd.DataFrame) -> None:
    """Prints the codes that are written, and other kinds that were tried."""
    train, val = l2_normalised(train), l2_normalised(val)
    codes = fit_codes(train)
    print(f"## Codes: {name}\n")
    print(f"{len(val):,} queries; mP@5, 95 % interval by class, and p of the difference from float32.\n")
    print("| code | bytes | mP@5 | 95 % | lost | p |\n|---|---|---|---|---|---|")
    for row in code_loss(val, ids, codes).to_dict("records"):
        print(_row(row["code"], row["n_bytes"], row["mp5"], (row["mp5_low"], row["mp5_high"]), row["loss"], row["p"]))
    print("\nOther kinds:\n\n| code | bytes | mP@5 | 95 % | lost | p |\n|---|---|---|---|---|---|")
    class_ids, domains = ids["class_id"].to_numpy(), ids["domain"].to_numpy()
    full = retrieve(val, class_ids).precision
    for kind, (n_bytes, change) in _kinds(train).items():
        precision = retrieve(change(val), class_ids).precision
        mean = float(pd.Series(precision).groupby(domains).mean().mean())
        whole = float(pd.Series(full).groupby(domains).mean().mean())
        between = class_interval(precision, class_ids, domains)
        print(_row(kind, n_bytes, mean, between, whole - mean, paired_p(full, precision, class_ids, domains)))
    print()


def _row(name: str, n_bytes: int, mp5: float, between: tuple[float, float], lost: float, p: float) -> str:
    return f"| {name} | {n_bytes} | {mp5:.3f} | {between[0]:.3f} to {between[1]:.3f} | {lost:.3f} | {p:.4f} |"


def _kinds(train: np.ndarray) -> dict[str, tuple[int, Callable[[np.ndarray], np.ndarray]]]:
    """Bytes of an image, and what embeddings become, for each kind of code that is not written."""
    dim = train.shape[1]
    scales, center = np.abs(train).max(axis=0) / LARGEST, train.mean(axis=0)

    def steps(x: np.ndarray) -> np.ndarray:
        return np.clip(np.rint(x / scales), -LARGEST, LARGEST).astype(np.float32)

    def rotated(seed: int) -> Callable[[np.ndarray], np.ndarray]:
        turn = np.linalg.qr(np.random.default_rng(seed).normal(size=(dim, dim)))[0]
        return lambda x: signs(to_bits((x - center) @ turn))

    kinds: dict[str, tuple[int, Callable[[np.ndarray], np.ndarray]]] = {
        "int8, a scale for each dimension": (dim, lambda x: steps(x) * scales.astype(np.float32)),
        "the same, searched as it is": (dim, steps),
        "binary, mean subtracted": (dim // 8, lambda x: signs(to_bits(x - center))),
    }
    for seed in range(N_ROTATIONS):
        kinds[f"binary, mean subtracted, random rotation {seed}"] = (dim // 8, rotated(seed))
    return kinds


if __name__ == "__main__":
    main()
