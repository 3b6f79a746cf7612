"""Door 08: exports the final setting as a submission, and compares it with door 07's embeddings before it is packed."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import time
import zipfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from guie.data.packed import images_of
from guie.embed.ensemble import Tower, load_tower
from guie.embed.pca import PCA
from guie.export.operators import unknown_to_1_11
from guie.export.plain import write_out
from guie.export.program import Program, export_program, save_program
from guie.export.storage import store
from guie.export.torchscript import build_submission, quiet_jit
from guie.files import save_json, whole_file
from guie.machine import check_room
from guie.model.normalisation import mean_std
from guie.run import MODEL_NAME, PROJECT, Run, commit
from guie.settings.embed import CONTEST_DIM
from guie.settings.model import Model
from guie.settings.recipe import Recipe
from guie.shown import progress

log = logging.getLogger(__name__)
PROGRAM_NAME = "saved_model.pt2"
UNIT = "L2-normalised"
RAW = "of the length that the projection gives; the scores are those of unit vectors"


@dataclass(frozen=True)
class Parity:
    """Comparison of the exported file with door 07 on some validation images.

    Attributes:
        image_ids: Ids of the images.
        cosines: float64 [n_images], between the file's embedding and door 07's.
        expected: float32 [n_images, dim], door 07's embeddings.
        seconds_per_image: Median time of the exported file on the CPU, batch 1.
    """

    image_ids: list[str]
    cosines: np.ndarray
    expected: np.ndarray
    seconds_per_image: float


def export_submission(run: Run) -> dict[str, Any]:
    """Builds and saves the submission, re-loads it, compares it with door 07, then packs it.

    Reads 07_embeddings, the stages' weights and 02_balanced's licences; writes saved_model.pt, parity/, submission.zip
    and card.json. A run in the project's own `artifacts/` also copies the zip to `submission/<recipe>/`.

    Returns:
        Largest cosine distance to door 07, seconds per image, sizes.

    Raises:
        ValueError: an exported embedding is further from door 07's than `export.min_parity_cosine` allows,
            `export.n_parity_images` is below 1, or the recipe exports nothing.
    """
    if not run.recipe.embed.dim:
        raise ValueError(
            "embed.dim is 0, so nothing is exported; set it to the dimensions of the last of embed.settings"
        )
    if run.recipe.export.n_parity_images < 1:
        raise ValueError(f"export.n_parity_images is {run.recipe.export.n_parity_images}, must be at least 1")
    folder = run.folder(8)
    model_path, zip_path, program_path = folder / MODEL_NAME, folder / "submission.zip", folder / PROGRAM_NAME
    for stale in (model_path, zip_path, program_path, folder / "card.json"):
        stale.unlink(missing_ok=True)
    scores = final_scores(run)
    towers = towers_of(run)
    save_module(build_submission(towers, **assembly_of(run)), model_path)
    images = _parity_images(run)
    parity = _compared(run, load_script(model_path), images)
    _write_parity(folder / "parity", images, parity)
    program = _compared_program(run, towers, program_path, images) if run.recipe.export.has_program else None
    unknown = unknown_to_1_11(model_path)
    write_zip(model_path, zip_path)
    _copy_to_hand_in(run, zip_path)
    metrics = _metrics(parity, model_path, zip_path)
    files = (model_path, zip_path) if program is None else (model_path, zip_path, program_path)
    save_json(folder / "card.json", _card(run, scores, parity, program, unknown, files))
    log.info("%s   %.1f MB", zip_path, metrics["zip_mb"])
    log.info(
        "largest cosine distance to door 07: %.2g over %d images; %.3f s an image on the CPU (%d threads)",
        metrics["largest_cosine_distance"], len(parity.cosines), parity.seconds_per_image, torch.get_num_threads(),
    )  # fmt: skip
    _warn_of_unknown(unknown)  # last, so that it is read
    return metrics


def _compared_program(run: Run, towers: list[Tower], path: Path, images: dict[int, np.ndarray]) -> Parity:
    """Saves the towers as a program of `torch.export` as well, re-loads it and compares it with door 07."""
    save_program(export_program(Program(towers, **assembly_of(run))), path)
    return _compared(run, torch.export.load(path).module(), images)


def _copy_to_hand_in(run: Run, zip_path: Path) -> None:
    """Copies the zip of a run in the project's `artifacts/` to `submission/<recipe>/`.

    A run in another folder must not replace the submission. Neither must a run whose embeddings the contest refuses.
    """
    if run.recipe.embed.dim != CONTEST_DIM:
        log.warning(
            "the embeddings have %d dimensions, but the contest takes only %d: %s cannot be submitted to it",
            run.recipe.embed.dim, CONTEST_DIM, zip_path.name,
        )  # fmt: skip
    elif run.out.parent == PROJECT / "artifacts":
        with whole_file(PROJECT / "submission" / run.recipe.name / zip_path.name) as temporary:
            shutil.copyfile(zip_path, temporary)


def _metrics(parity: Parity, model_path: Path, zip_path: Path) -> dict[str, Any]:
    """Metrics of door 08: largest cosine distance to door 07, seconds per image, and sizes in MB (10**6 bytes)."""
    return {
        "largest_cosine_distance": float(np.max(1.0 - parity.cosines)),
        "n_parity_images": len(parity.cosines),
        "seconds_per_image": round(parity.seconds_per_image, 4),
        "model_mb": round(model_path.stat().st_size / 1e6, 2),
        "zip_mb": round(zip_path.stat().st_size / 1e6, 2),
    }


def _warn_of_unknown(operators: list[str]) -> None:
    """Warns if PyTorch 1.11 does not know some operators of the file."""
    if not operators:
        return
    log.warning(
        "WARNING: the contest's scorer cannot load this file. It ran PyTorch 1.11, which does not know: %s.",
        ", ".join(operators),
    )
    log.warning(
        "         PyTorch %s can load it. For the contest, choose a backbone without these operators.",
        torch.__version__,
    )


def write_zip(model_path: Path, zip_path: Path) -> None:
    """Writes a zip with exactly `saved_model.pt` at its root. Equal models give equal bytes.

    It is not compressed, because weights hardly shrink.
    """
    entry = zipfile.ZipInfo(MODEL_NAME, date_time=(1980, 1, 1, 0, 0, 0))
    entry.external_attr = 0o644 << 16
    with (
        whole_file(zip_path) as temporary,
        zipfile.ZipFile(temporary, "w") as archive,
        model_path.open("rb") as source,
        archive.open(entry, "w", force_zip64=True) as target,
    ):
        shutil.copyfileobj(source, target, 1 << 20)


def towers_of(run: Run) -> list[Tower]:
    """The final setting's members. They are built on the CPU, so that no other device becomes a constant of a graph."""
    towers = [load_tower(replace(run, device="cpu"), member) for member in run.recipe.embed.final.members]
    for tower in towers:
        store(write_out(tower.module), run.recipe.export.storage)
    return towers


def assembly_of(run: Run) -> dict[str, Any]:
    """Everything after the towers, as arguments of `build_submission` and `Program`."""
    final, projection = run.recipe.embed.final, None
    mean, std = mean_std(run.recipe.model)
    if final.pca_dim:
        pca = PCA.load(run.folder(7) / "pca.npz")
        projection = (torch.from_numpy(pca.mean_), torch.from_numpy(pca.matrix))
    return {
        "mean": mean,
        "std": std,
        "projection": projection,
        "pack_px": run.recipe.data.pack_px,
        "is_mean": final.combine == "mean",
        "power": final.power,
        "has_unit_length": run.recipe.export.has_unit_length,
        "dim": run.recipe.embed.dim,
    }


def _n_bytes(module: torch.jit.ScriptModule) -> int:
    """Number of bytes of the module's tensors. Shared memory counts once."""
    storages = {
        tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
        for tensor in (*module.parameters(), *module.buffers())
    }
    return sum(storages.values())


def save_module(module: torch.jit.ScriptModule, path: Path) -> None:
    """Writes the module, whole or not at all."""
    with whole_file(path) as temporary:
        check_room(path.parent, int(1.05 * _n_bytes(module)) + (4 << 20))  # the weights, and code beside them
        try:
            with quiet_jit():
                torch.jit.save(module, str(temporary))
        except RuntimeError as error:
            raise OSError(
                f"{path} could not be written ({error}); is there space at {path.parent}? --out chooses another place"
            ) from error


def _parity_images(run: Run) -> dict[int, np.ndarray]:
    """Evenly spaced validation images, uint8 [h, w, 3], by their row in door 07's embeddings."""
    ids = pd.read_parquet(run.folder(7) / "val_ids.parquet")
    rows = np.unique(np.linspace(0, len(ids) - 1, min(run.recipe.export.n_parity_images, len(ids))).round().astype(int))
    packed = images_of(run)
    return {int(row): packed.read(int(ids["pack_row"].iloc[row])) for row in rows}


def _compared(run: Run, module: Callable[[Tensor], Tensor], images: dict[int, np.ndarray]) -> Parity:
    """Compares a re-loaded file with door 07, one image at a time as the scorer does.

    Raises:
        ValueError: they disagree.
    """
    embeddings, seconds = [], []
    with torch.no_grad():
        for image in progress(images.values(), desc="parity"):
            batch = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]
            started = time.perf_counter()
            embeddings.append(module(batch)[0].numpy())
            seconds.append(time.perf_counter() - started)
    rows = list(images)
    expected = np.load(run.folder(7) / "val_embeddings.npy", mmap_mode="r")[rows]
    ids = pd.read_parquet(run.folder(7) / "val_ids.parquet")["image_id"].to_numpy()[rows].tolist()
    parity = Parity(ids, cosines(np.stack(embeddings), expected), expected, float(np.median(seconds)))
    _check(parity, run.recipe.export.min_parity_cosine)
    return parity


def load_script(model_path: Path) -> torch.jit.ScriptModule:
    """The file as the scorer loads it."""
    with quiet_jit():
        module: torch.jit.ScriptModule = torch.jit.load(str(model_path)).eval()
    return module


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The cosine of each row of `a` with the same row of `b`, float64 [n]."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    return (a * b).sum(axis=1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))


def _check(parity: Parity, min_cosine: float) -> None:
    """Checks the smallest cosine.

    Raises:
        ValueError: it is below `min_cosine`, or not a number.
    """
    worst = int(np.argmin(np.nan_to_num(parity.cosines, nan=-1.0)))
    if not parity.cosines[worst] >= min_cosine:
        raise ValueError(
            f"the exported file and door 07 disagree: cosine {parity.cosines[worst]:.6f} on image "
            f"{parity.image_ids[worst]}, "
            f"export.min_parity_cosine is {min_cosine}; no zip was written. Run door 07 again with --force; if it "
            "ran in half precision, lower the bound"
        )


def _write_parity(folder: Path, images: dict[int, np.ndarray], parity: Parity) -> None:
    """Writes the images as PNG and door 07's embeddings of them, in the form that `submission/check_submission.py
    --expected` reads."""
    shutil.rmtree(folder, ignore_errors=True)
    names = [f"{i:03d}.png" for i in range(len(images))]
    for name, image in zip(names, images.values(), strict=True):
        with whole_file(folder / name) as temporary:
            Image.fromarray(image).save(temporary, format="PNG")
    with whole_file(folder / "expected.npz") as temporary, temporary.open("wb") as handle:
        np.savez(
            handle,
            names=np.array(names),
            image_ids=np.array(parity.image_ids),
            embeddings=parity.expected.astype(np.float32),
        )


def _card(
    run: Run,
    scores: dict[str, Any],
    parity: Parity,
    program: Parity | None,
    unknown: list[str],
    files: tuple[Path, ...],
) -> dict[str, Any]:
    """The contents of card.json: where the file comes from, what it scores and how it is called."""
    recipe = run.recipe
    return {
        "recipe": recipe.name,
        "recipe_digest": recipe.digest(),
        "seed": recipe.seed,
        "commit": commit(),
        "models": [
            _with_mean_std(model)
            for member in dict.fromkeys(recipe.model_of(member.stage) for member in recipe.embed.final.members)
            for model in member.each
        ],
        "setting": asdict(recipe.embed.final),
        "scores": scores,
        "data": json.loads(
            (run.folder(2) / "licences.json").read_text(encoding="utf-8")
        ),  # of the training images, by source
        "unknown_to_torch_1_11": unknown,
        "files": [{"name": path.name, "sha256": _sha256(path), "bytes": path.stat().st_size} for path in files],
        "storage": recipe.export.storage,
        "torch": torch.__version__,
        "loaded_in": [torch.__version__],  # check_submission.py --card adds the version that it runs in
        "contract": _contract(recipe),
        "parity": {
            "n_images": len(parity.cosines),
            "min_cosine": float(parity.cosines.min()),
            "checked_by": "submission/check_submission.py",
        },
        "program_parity": None
        if program is None
        else {"n_images": len(program.cosines), "min_cosine": float(program.cosines.min())},
    }


def _contract(recipe: Recipe) -> dict[str, str]:
    """How the file is called, and what it gives."""
    length = UNIT if recipe.export.has_unit_length else RAW
    return {
        "input": "uint8 [1, 3, height, width], RGB, 0..255, any size",
        "output": f"float32 [1, {recipe.embed.dim}], {length}",
        "call": "torch.jit.load('saved_model.pt').eval()(image) under torch.no_grad()",
    }


def _with_mean_std(model: Model) -> dict[str, Any]:
    """The model's settings, with the mean and std that normalise its pixels."""
    mean, std = mean_std(model)
    return asdict(replace(model, mean=mean, std=std))


def final_scores(run: Run) -> dict[str, Any]:
    """The final setting's row of scores.csv; empty numbers become None.

    Raises:
        ValueError: there is no such row.
    """
    table = pd.read_csv(run.folder(7) / "scores.csv")
    rows = table[table["setting"] == run.recipe.embed.final.name]
    if rows.empty:
        raise ValueError(
            f"{run.folder(7) / 'scores.csv'} has no row {run.recipe.embed.final.name!r}; run door 07 again with --force"
        )
    scores: dict[str, Any] = json.loads(rows.iloc[[-1]].to_json(orient="records"))[0]
    return scores


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
