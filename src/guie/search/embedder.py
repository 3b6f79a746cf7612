"""The models that embed photos for the search: an exported model, or a network off the shelf."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import warnings
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from guie.data.shards import small_pixels
from guie.embed.search import l2_normalised
from guie.errors import is_of_the_machine
from guie.files import digest_of_file
from guie.machine import check_paths
from guie.own.small import PACK_PX
from guie.own.towers import ENDINGS, SHIPPED, Tower, tower
from guie.run import FOLDERS, MODEL_NAME
from guie.search.networks import Exported, Network, OffTheShelf
from guie.search.newest import newest_export
from guie.versions import EXTRACTION, REDUCTION

EXPORTED = "exported model"
OFF_THE_SHELF = "off the shelf"
BATCH = 32  # photos at a time
BATCH_OF_FULL_SIZE = 4  # for models that take photos in full size: 36 MB each at 12 megapixels
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelFile:
    """Which model makes the embeddings, as an index records it.

    Attributes:
        kind: `EXPORTED` or `OFF_THE_SHELF`.
        name: Path of the exported file; or the tower as `guie.own.towers` writes it.
        digest: Digest of the file's bytes; for a tower, of its weights, its feature and its preprocessing.
        pack_px: Photos are reduced as by door 03: the shorter side gets at most this many pixels. 0 keeps the size.
        is_given: Whether the user named it with --model.
        dim: Length of an embedding; 0 until a model is loaded.
    """

    kind: str
    name: str
    digest: str
    pack_px: int
    is_given: bool = False
    dim: int = 0

    @property
    def key(self) -> str:
        """First 16 hex digits of a SHA-256: embeddings of equal keys can be compared."""
        decides = [self.kind, self.digest, self.pack_px, REDUCTION, EXTRACTION]
        return hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:16]

    @property
    def text(self) -> str:
        """The model's name for messages."""
        if self.kind == EXPORTED:
            return f"{EXPORTED} {self.name}"
        return f"{'the shipped ViT' if self.name == SHIPPED else self.name} off the shelf"

    @property
    def short(self) -> str:
        """As `text`, but without folders, for pages that people send. For a run's file the run's name is kept."""
        library, equals, file = ("", "", self.name) if self.kind == EXPORTED else self.name.rpartition("=")
        if not file.startswith("/"):
            return self.text
        path = Path(file)
        name = f"{path.parents[1].name}/{path.name}" if path.parent.name == FOLDERS[8] else path.name
        return replace(self, name=f"{library}{equals}{name}").text


@dataclass(frozen=True)
class Embedder:
    """A loaded model.

    Attributes:
        model: Which one.
        network: Its forward pass.
    """

    model: ModelFile
    network: Network = field(repr=False)

    @property
    def batch(self) -> int:
        """Photos at a time."""
        return BATCH if self.model.pack_px else BATCH_OF_FULL_SIZE

    def pixels(self, file: bytes) -> np.ndarray:
        """Decodes an image's file to the pixels that the model takes: uint8 [height, width, 3], upright, RGB.

        Raises:
            ValueError: it cannot be read; the message says why in a few words.
        """
        return small_pixels(file, self.model.pack_px)[0]

    def embed(self, images: Sequence[np.ndarray]) -> tuple[np.ndarray, list[str]]:
        """Embeddings of images.

        Args:
            images: uint8 [height, width, 3] each, as `pixels` gives them.

        Returns:
            float32 [n, dim], L2-normalised; and for each image why it has none, or ''.
        """
        embeddings = np.zeros((len(images), self.model.dim), np.float32)
        reasons = [""] * len(images)
        for first in range(0, len(images), self.batch):
            rows = range(first, min(first + self.batch, len(images)))
            self._fill(embeddings, reasons, images, list(rows))
        return embeddings, reasons

    def _fill(self, embeddings: np.ndarray, reasons: list[str], images: Sequence[np.ndarray], rows: list[int]) -> None:
        """Fills the rows of one batch. If it fails, its images are embedded one by one, so that only bad ones fail."""
        try:
            with torch.inference_mode():
                found = self.network([images[i] for i in rows]).float().cpu().numpy()
        except RuntimeError as error:
            if is_of_the_machine(error):
                raise
            if len(rows) > 1:
                for i in rows:
                    self._fill(embeddings, reasons, images, [i])
                return
            log.debug("the model fails", exc_info=True)
            reasons[rows[0]] = "the model fails at its pixels"
            return
        for i, row in zip(rows, l2_normalised(found), strict=True):
            if np.isfinite(row).all() and row.any():
                embeddings[i] = row
            else:
                reasons[i] = "the model gives no direction for it (zeros or numbers that are not finite)"


def load_given(name: str, device: str, folders: Sequence[Path] = ()) -> Embedder:
    """The model that the user named: an exported file, the folder of a run, or a tower such as `shipped`.

    Args:
        name: As the user wrote it. The contents of a file decide whether it holds weights or an exported model.
        device: Where it computes.
        folders: Where files of weights are looked for, if only a file's name is given.

    Raises:
        FileNotFoundError: nothing is there, or the run has exported nothing yet.
        ValueError: it is neither a model that door 08 exports nor a tower.
    """
    path = Path(name)
    written = re.sub(r"@\d+$", "", name)
    if written == SHIPPED or written.startswith(("timm:", "open_clip:")):
        return _load_tower(name, device, is_given=True, folders=folders)
    if path.is_dir():
        return _load_run(path, device)
    if not written.endswith(ENDINGS):
        return _load_exported(path, device, is_given=True)
    places = [Path(written).expanduser(), *(folder / written for folder in folders)]
    file = next((place for place in places if place.is_file()), None)
    if file is not None and is_torchscript(file):
        return _load_exported(file, device, is_given=True)
    if file is None and not written.endswith(".safetensors"):
        return _load_exported(path, device, is_given=True)  # raises: the file does not exist
    try:
        return _load_tower(name, device, is_given=True, folders=folders)
    except ValueError as error:
        if file is None or written.endswith(".safetensors"):
            raise
        raise ValueError(f"{file} is no TorchScript file, and as a file of weights: {error}") from error


def is_torchscript(path: Path) -> bool:
    """Whether a file is what torch.jit.save writes: a ZIP archive with code. torch.save's archives have none."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any("/code/" in name for name in archive.namelist())


def _load_run(folder: Path, device: str) -> Embedder:
    for file in (folder / FOLDERS[8] / MODEL_NAME, folder / MODEL_NAME):
        if file.is_file():
            return _load_exported(file, device, is_given=True)
    raise FileNotFoundError(
        f"--model {folder} has no {FOLDERS[8]}/{MODEL_NAME}; name a run whose door 08 is done, or an exported file"
    )


def load_found(source: Path, out: Path, device: str) -> Embedder:
    """The exported model of the newest run of these photos; where there is none, the shipped ViT off the shelf.

    Args:
        source: The folder or CSV of the photos.
        out: The folder of all runs, see `guie.run.default_out`.
        device: Where it computes.
    """
    newest = newest_export(source, out)
    if newest is None:
        return _load_tower(SHIPPED, device, is_given=False)
    return _load_exported(newest, device, is_given=False)


def load_again(model: ModelFile, device: str) -> Embedder:
    """The model that made an index.

    Raises:
        FileNotFoundError: its file is gone.
        ValueError: its file holds another model now.
    """
    loaded = load_named(model, device, "index again with --model FILE")
    if loaded.model.key != model.key:
        raise ValueError(
            f"the index was made by {model.text}, which has changed since (digest {model.digest}, now "
            f"{loaded.model.digest}); index the folder again: guie search FOLDER"
        )
    return loaded


def load_named(model: ModelFile, device: str, remedy: str) -> Embedder:
    """The model that is now at the path of an index's model.

    Raises:
        FileNotFoundError: its file is gone; the message ends in the remedy.
    """
    if model.kind == OFF_THE_SHELF:
        return _load_tower(model.name, device, model.is_given)
    if not Path(model.name).is_file():
        raise FileNotFoundError(f"the index was made by {model.text}, which is gone; {remedy}")
    return _load_exported(Path(model.name), device, model.is_given)


def _load_tower(name: str, device: str, is_given: bool, folders: Sequence[Path] = ()) -> Embedder:
    found = tower(name, folders)
    if found.weights is not None:
        found = replace(found, weights=found.weights.resolve())
    if found.weights is not None and not found.weights.is_file():
        raise FileNotFoundError(f"the weights {found.weights} of the network {name} are gone; name another --model")
    network = OffTheShelf(found, device)
    weights = found.model.weights if found.weights is None else digest_of_file(found.weights)
    sees = (found.model.library, found.model.name, found.model.feature, found.image_px, network.mean, network.std)
    digest = hashlib.sha256(repr((weights, *sees)).encode()).hexdigest()[:16]
    pack_px = max(PACK_PX, found.image_px)
    return Embedder(ModelFile(OFF_THE_SHELF, _lasting(found), digest, pack_px, is_given, network.dim), network)


def _lasting(found: Tower) -> str:
    """The tower's name with the absolute path of its file, so that it is valid in every directory."""
    if found.weights is None or found.name.partition("@")[0] == SHIPPED:
        return found.name
    px = re.search(r"@\d+$", found.name)
    library = f"{found.model.library}:{found.model.name}=" if found.name.startswith(("timm:", "open_clip:")) else ""
    return f"{library}{found.weights}{px[0] if px else ''}"


def _load_exported(path: Path, device: str, is_given: bool) -> Embedder:
    if not path.is_file():
        raise FileNotFoundError(
            f"--model {path} does not exist; name an exported file ({MODEL_NAME}) or a run's folder"
        )
    check_paths(model=path)  # torch opens no other
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r".*torch\.jit\..* is deprecated")
            module = torch.jit.load(path, map_location=device).eval()
    except RuntimeError as error:
        if is_of_the_machine(error):
            raise
        raise ValueError(f"{path} is no TorchScript file; name a {MODEL_NAME} that door 08 exported") from error
    network = Exported(module)
    dim = _dim_of(network, path)
    # Our modules store the size to which photos are reduced; a module from elsewhere takes them in full size.
    pack_px = int(getattr(module, "pack_px", 0))
    file = path.resolve()
    return Embedder(ModelFile(EXPORTED, str(file), digest_of_file(file), pack_px, is_given, dim), network)


def _dim_of(network: Exported, path: Path) -> int:
    """The length of the embeddings, from a trial run.

    Raises:
        ValueError: the module does not take uint8 images of any size, or does not give one row for each.
    """
    contract = "an exported model takes uint8 [1, 3, height, width] of any size and gives float [1, dim]"
    try:
        with torch.inference_mode():
            trial = network([np.full((40, 56, 3), 128, np.uint8)])
    except (RuntimeError, TypeError) as error:
        if is_of_the_machine(error):
            raise
        raise ValueError(f"{path} does not run on a photo; {contract}") from error
    if not isinstance(trial, Tensor) or trial.dim() != 2 or len(trial) != 1 or not trial.is_floating_point():
        shape = list(trial.shape) if isinstance(trial, Tensor) else type(trial).__name__
        raise ValueError(f"{path} gives {shape} for one photo; {contract}")
    return int(trial.shape[1])
