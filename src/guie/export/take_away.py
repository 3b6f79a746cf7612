"""Writes an exported model in other formats. Each is compared with the TorchScript file before it gets its name."""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.export import ExportedProgram

from guie.errors import first_sentence, is_of_the_machine
from guie.export.formats import NEED_A_RUN, OF_A_MODEL
from guie.export.hub import MODULES, HubFolder, save_hub
from guie.export.onnx_file import onnx_embedder, save_onnx
from guie.export.program import Program, export_program, save_program
from guie.export.submission import PROGRAM_NAME, assembly_of, cosines, load_script, towers_of
from guie.files import digest_of_file, digest_of_tensors, staged
from guie.run import DOORS, FOLDERS, MODEL_NAME, Run
from guie.saved import is_run, saved_run
from guie.settings.embed import CONTEST_DIM

log = logging.getLogger(__name__)
MIN_COSINE = 0.9999  # least cosine between an embedding and that of the TorchScript file
ODD_SIZES = ((1, 1), (3, 7), (97, 64), (64, 700))  # height, width; they check that an image may have any size
ONNX_NAME = "model.onnx"
HUB = "hub"  # the folder's name
REFIT = "refit.json"  # what `guie refit` writes beside its file
REFIT_FIELDS = {"model", "digest_of_model", "photos", "run", "n_photos", "digest"}  # those that are read again
Embedder = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Exported:
    """What door 08 wrote.

    Attributes:
        path: Path of saved_model.pt.
        script: The loaded file.
        run: The run that it is from; None for a file without its run.
        n_refitted: Photos to which `guie refit` fitted its projection; 0 for door 08's own file.
        images: Images by name, uint8 [3, height, width], on which formats are compared.
        embeddings: The script's embeddings of these images, float32 [n_images, dim].
        seconds: The script's time for each image on the CPU, float64 [n_images].
    """

    path: Path
    script: torch.jit.ScriptModule
    run: Run | None
    n_refitted: int
    images: dict[str, np.ndarray]
    embeddings: np.ndarray
    seconds: np.ndarray

    @property
    def digest(self) -> str:
        """Digest of saved_model.pt."""
        return digest_of_file(self.path)


@dataclass(frozen=True)
class Taken:
    """One format that was written.

    Attributes:
        format: Its name in `OF_A_MODEL`.
        files: Number of bytes of each file, by its name below the folder.
        n_images: Number of images on which it was compared with the TorchScript file.
        min_cosine: The smallest cosine to the TorchScript file's embeddings.
        max_difference: The largest difference of a number to the TorchScript file's embeddings.
        seconds_per_image: Median time on the CPU, one image at a time.
    """

    format: str
    files: dict[str, int]
    n_images: int
    min_cosine: float
    max_difference: float
    seconds_per_image: float

    @property
    def megabytes(self) -> float:
        """Size of all its files, in 10**6 bytes."""
        return sum(self.files.values()) / 1e6

    def as_data(self) -> dict[str, Any]:
        """The fields as a dict that JSON can store."""
        return asdict(self)


def read_exported(path: Path) -> Exported:
    """The exported model at a path.

    Args:
        path: A run's folder, a folder or file that `guie refit` wrote, or a saved_model.pt. For a refit and for the
            file in a run's 08_export, the run is found as well.

    Raises:
        FileNotFoundError: there is no such file, or the run has no 08_export yet.
        ValueError: the file is damaged or holds something else.
    """
    path = path.resolve()  # the file of a run may be named from inside its folder
    run, file, n_refitted = _refitted(path) or (*_of_run(path), 0)
    if not file.is_file():
        remedy = "name a run's folder or a saved_model.pt"
        if run is not None:
            remedy = f"run door 08: python {DOORS[8]} --recipe {run.recipe.name}"
        raise FileNotFoundError(f"{file} does not exist; {remedy}")
    try:
        script = load_script(file)
        shape = _as_embedder(script)(np.zeros((1, 3, 2, 2), dtype=np.uint8)).shape
    except Exception as error:
        if is_of_the_machine(error):
            raise
        raise ValueError(
            f"{file} is no whole file of door 08 ({type(error).__name__}: {first_sentence(error)}); export it again, "
            f"or name another (torch {torch.__version__})"
        ) from error
    dim = len(script.matrix) if hasattr(script, "matrix") else CONTEST_DIM
    if shape != (1, dim):
        raise ValueError(f"{file} gives {list(shape)} for an image, a file of door 08 gives [1, {dim}]; name another")
    images = (_parity_images(run) if run else {}) | odd_images()
    embeddings, seconds = _embedded(_as_embedder(script), images)
    return Exported(file, script, run, n_refitted, images, embeddings, seconds)


def _of_run(path: Path) -> tuple[Run | None, Path]:
    """The run of a path, if it has one, and the exported file."""
    folder = path if path.is_dir() else path.parent.parent
    run = saved_run(folder) if path.is_dir() or (is_run(folder) and path.parent.name == FOLDERS[8]) else None
    return run, path if run is None else run.out / FOLDERS[8] / MODEL_NAME


def _refitted(path: Path) -> tuple[Run | None, Path, int] | None:
    """The run, the file and the number of photos of a refit. None if the path is not a refit, or if its file was
    replaced later."""
    folder = path if path.is_dir() else path.parent
    note, file = folder / REFIT, folder / MODEL_NAME
    if not note.is_file() or not file.is_file() or (path.is_file() and path != file):
        return None
    noted = read_refit(note)
    if noted["digest"] != digest_of_file(file):
        return None
    run = Path(noted["run"] or "")
    return saved_run(run) if noted["run"] and is_run(run) else None, file, int(noted["n_photos"])


def read_refit(note: Path) -> dict[str, Any]:
    """What `guie refit` wrote into its refit.json.

    Raises:
        ValueError: the file is damaged, or another program's.
    """
    try:
        noted = json.loads(note.read_text(encoding="utf-8"))
    except ValueError:
        noted = None
    if not isinstance(noted, dict) or not noted.keys() >= REFIT_FIELDS:
        raise ValueError(f"{note} is damaged, or not written by guie refit; move it away")
    return noted


def _parity_images(run: Run) -> dict[str, np.ndarray]:
    """The images that door 08 wrote beside its file."""
    folder = run.out / FOLDERS[8] / "parity"
    images = {}
    for path in sorted(folder.glob("*.png")):
        with Image.open(path) as image:
            images[path.name] = np.ascontiguousarray(np.asarray(image.convert("RGB")).transpose(2, 0, 1))
    if not images:
        raise FileNotFoundError(f"{folder} holds no images to compare with; run door 08 again with --force")
    return images


def odd_images() -> dict[str, np.ndarray]:
    """Images of odd sizes, of random pixels."""
    rng = np.random.default_rng(0)
    return {f"{h}x{w}": rng.integers(0, 256, (3, h, w), dtype=np.uint8) for h, w in ODD_SIZES}


def _as_embedder(module: Callable[[torch.Tensor], torch.Tensor]) -> Embedder:
    """Wraps a torch module as a function of arrays."""

    def embed(images: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            embeddings: np.ndarray = module(torch.from_numpy(images)).numpy()
        return embeddings

    return embed


def _embedded(embed: Embedder, images: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings, float32 [n, dim], computed one image at a time, and the seconds that each took."""
    embeddings, seconds = [], []
    for image in images.values():
        started = time.perf_counter()
        embeddings.append(embed(image[None])[0])
        seconds.append(time.perf_counter() - started)
    return np.stack(embeddings), np.array(seconds)


def take_away(
    exported: Exported, folder: Path, formats: Sequence[str], card: Callable[[list[Taken]], str]
) -> list[Taken]:
    """Writes formats into a folder, in the order of OF_A_MODEL.

    Args:
        exported: The model.
        folder: Where to write: saved_model.pt, saved_model.pt2, model.onnx, hub/.
        formats: Names from OF_A_MODEL.
        card: Gives the text of the hub's model card, given the formats that were written before it.

    Raises:
        ValueError: a format needs the run and there is only a file, or its embeddings differ from the TorchScript
            file's.
    """
    if exported.run is None and (missing := [name for name in formats if name in NEED_A_RUN]):
        raise ValueError(
            f"a run's weights are needed for {', '.join(missing)}, and {exported.path} is a file without its run; name "
            "the run's folder, or take --formats torchscript"
        )
    program = _program(exported, exported.run) if exported.run is not None and set(formats) & set(NEED_A_RUN) else None
    written: list[Taken] = []
    for name in [name for name in OF_A_MODEL if name in formats]:
        written.append(_written(name, exported, folder, program, lambda: card(written)))
        log.info("%s", described(written[-1]))
    return written


def _program(exported: Exported, run: Run) -> ExportedProgram:
    """The run's final setting as a program of torch.export, with the file's projection."""
    towers = towers_of(run)
    share_tensors([tower.module for tower in towers])
    assembly = assembly_of(run)
    if exported.n_refitted:
        assembly["projection"] = (exported.script.center, exported.script.matrix)
    program = Program(towers, **assembly)
    try:
        return export_program(program)
    except Exception as error:  # torch.export raises errors of many classes
        if is_of_the_machine(error):
            raise
        raise ValueError(
            f"torch.export cannot record this network ({type(error).__name__}: {first_sentence(error)}); take "
            "--formats torchscript"
        ) from error


def _written(
    name: str, exported: Exported, folder: Path, program: ExportedProgram | None, card: Callable[[], str]
) -> Taken:
    """Writes one format into a scratch folder and compares it. Only then are its files moved into place."""
    place, last = {
        "torchscript": (folder, MODEL_NAME),
        "program": (folder, PROGRAM_NAME),
        "onnx": (folder, ONNX_NAME),
        "hub": (folder / HUB, MODULES),
    }[name]
    run = exported.run
    facts = {} if run is None else {"recipe": run.recipe.name, "recipe_digest": run.recipe.digest()}
    facts |= {"torchscript_digest": exported.digest}
    with staged(place, last, "--to") as scratch:
        if name == "torchscript":
            shutil.copyfile(exported.path, scratch / last)
            embed = _as_embedder(load_script(scratch / last))
        elif program is None:
            raise ValueError(f"{name} is made from a run's weights; name the run's folder")
        elif name == "program":
            save_program(program, scratch / last)
            embed = _as_embedder(torch.export.load(scratch / last).module())
        elif name == "onnx":
            save_onnx(program, scratch / last, facts)
            embed = onnx_embedder(scratch / last)
        else:
            save_hub(program, scratch, card(), facts, exported.embeddings.shape[1])
            embed = HubFolder(scratch)
        files = {
            str((place / path.name).relative_to(folder)): path.stat().st_size for path in sorted(scratch.iterdir())
        }
        return _compared(name, exported, embed, files)


def _compared(name: str, exported: Exported, embed: Embedder, files: dict[str, int]) -> Taken:
    """Compares a format with the TorchScript file.

    Raises:
        ValueError: they disagree.
    """
    got, seconds = _embedded(embed, exported.images)
    cosine = cosines(got, exported.embeddings)
    worst = int(np.argmin(np.nan_to_num(cosine, nan=-1.0)))
    if not cosine[worst] >= MIN_COSINE:
        raise ValueError(
            f"{name} disagrees with {exported.path}: cosine {cosine[worst]:.6f} on image "
            f"{list(exported.images)[worst]}, must be {MIN_COSINE}; nothing was written. If a stage was trained again "
            "since, run doors 07 and 08 again"
        )
    difference = float(np.abs(got - exported.embeddings).max())
    return Taken(name, files, len(cosine), float(cosine[worst]), difference, float(np.median(seconds)))


def described(taken: Taken) -> str:
    """One line about a format."""
    place = HUB + "/" if taken.format == "hub" else next(iter(taken.files))
    return (
        f"{place:<15} {taken.megabytes:6.1f} MB  cosine to TorchScript >= {taken.min_cosine:.6f}  "
        f"{taken.seconds_per_image:.3f} s an image"
    )


def share_tensors(modules: Sequence[nn.Module]) -> None:
    """Makes parameters and buffers of equal content one object, so that a program stores them once.

    Members of an ensemble often have the same backbone at two resolutions, loaded twice.
    """
    first: dict[str, Any] = {}
    for module in modules:
        for part in module.modules():
            for name, tensor in [*part.named_parameters(recurse=False), *part.named_buffers(recurse=False)]:
                key = f"{type(tensor).__name__} {digest_of_tensors({'': tensor})}"
                setattr(part, name, first.setdefault(key, tensor))
