"""What turns photos into embeddings for the search: an exported model, or the shipped backbone off the shelf."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from guie.data.shards import small_pixels
from guie.embed.search import l2_normalised
from guie.embed.views import normalise, to_square
from guie.errors import is_of_the_machine
from guie.export.submission import MODEL_NAME
from guie.export.torchscript import quiet_jit
from guie.files import digest_of_file
from guie.model.backbone import Backbone, build_backbone, folded
from guie.model.normalisation import mean_std
from guie.recipe import load_recipe
from guie.run import FOLDERS, PROJECT
from guie.settings.model import Model
from guie.versions import EXTRACTION, PACKING

EXPORTED = "exported model"
OFF_THE_SHELF = "off the shelf"
BATCH = 32  # photos at a time
BATCH_OF_FULL_SIZE = 4  # of models that see photos in full: 36 MB each at 12 megapixels
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelFile:
    """Which model makes the embeddings, as an index records it.

    Attributes:
        kind: `EXPORTED`, or `OFF_THE_SHELF` for the feature of the shipped ViT.
        file: Path of the weights.
        digest: Digest of the file.
        pack_px: Photos are made small as door 03 does, to at most so many pixels of the shorter side; 0 keeps the size.
        is_given: Whether the user named it with --model.
        dim: Length of an embedding; 0 until a model is loaded.
    """

    kind: str
    file: str
    digest: str
    pack_px: int
    is_given: bool = False
    dim: int = 0

    @property
    def key(self) -> str:
        """First 16 hex digits of a SHA-256: embeddings of equal keys can be compared."""
        decides = [self.kind, self.digest, self.pack_px, PACKING, EXTRACTION]
        return hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:16]

    @property
    def text(self) -> str:
        """For messages."""
        return f"{self.kind} {self.file}"


class _Network(Protocol):
    def __call__(self, images: Sequence[np.ndarray]) -> Tensor:
        """float [n, dim] of uint8 [height, width, 3] each, of any sizes."""


@dataclass(frozen=True)
class Embedder:
    """A loaded model.

    Attributes:
        model: Which one.
        network: Its forward pass.
    """

    model: ModelFile
    network: _Network = field(repr=False)

    @property
    def batch(self) -> int:
        """Photos at a time."""
        return BATCH if self.model.pack_px else BATCH_OF_FULL_SIZE

    def pixels(self, file: bytes) -> np.ndarray:
        """The pixels that the model sees of an image's file: uint8 [height, width, 3], upright, RGB.

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
        """Fills the rows of one batch. If the batch fails, its images go one by one, so that one costs no other."""
        try:
            with torch.inference_mode(), quiet_jit():
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


class _Exported:
    """An exported file, uint8 [n, 3, height, width] -> float [n, dim]. Images of one size go together."""

    def __init__(self, module: torch.jit.ScriptModule) -> None:
        self.module = module

    def __call__(self, images: Sequence[np.ndarray]) -> Tensor:
        groups: dict[tuple[int, ...], list[int]] = {}
        for i, image in enumerate(images):
            groups.setdefault(image.shape, []).append(i)
        outputs = [self.module(_batch([images[i] for i in group])) for group in groups.values()]
        order = np.concatenate([*map(np.asarray, groups.values())])
        return torch.cat(outputs)[torch.from_numpy(np.argsort(order))]


class _OffTheShelf:
    """The feature of a backbone, of images squashed to squares, as door 07 scores it."""

    def __init__(self, backbone: Backbone, settings: Model, image_px: int, device: str) -> None:
        self.backbone = backbone
        self.settings = settings
        self.image_px = image_px
        self.device = device

    def __call__(self, images: Sequence[np.ndarray]) -> Tensor:
        squares = torch.cat([to_square(_batch([image]), self.image_px) for image in images]).to(self.device)
        normal = normalise(squares, *mean_std(self.settings))
        return self.backbone(normal.contiguous(memory_format=torch.channels_last))


def _batch(images: Sequence[np.ndarray]) -> Tensor:
    """uint8 [n, 3, height, width] of images of one size."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()


def load_given(path: Path, device: str) -> Embedder:
    """The model that the user named: an exported file, or the folder of a run.

    Raises:
        FileNotFoundError: nothing is there, or the run has exported nothing yet.
        ValueError: it is not a model that door 08 exports.
    """
    if not path.is_dir():
        return _load_exported(path, device, is_given=True)
    for file in (path / FOLDERS[8] / MODEL_NAME, path / MODEL_NAME):
        if file.is_file():
            return _load_exported(file, device, is_given=True)
    raise FileNotFoundError(
        f"--model {path} has no {FOLDERS[8]}/{MODEL_NAME}; name a run whose door 08 is done, or an exported file"
    )


def load_found(folder: Path, out: Path, device: str) -> Embedder:
    """The exported model of the newest run of a folder of photos; where there is none, the shipped ViT off the shelf.

    Args:
        folder: The folder of the photos.
        out: The folder of all runs, see `guie.run.default_out`.
        device: Where it computes.
    """
    newest = newest_export(folder, out)
    return load_off_the_shelf(device) if newest is None else _load_exported(newest, device, is_given=False)


def load_again(model: ModelFile, device: str) -> Embedder:
    """The model that made an index.

    Raises:
        FileNotFoundError: its file is gone.
        ValueError: its file holds another model now.
    """
    file = Path(model.file)
    if not file.is_file():
        raise FileNotFoundError(f"the index was made by {model.text}, which is gone; index again with --model FILE")
    loaded = load_off_the_shelf(device) if model.kind == OFF_THE_SHELF else _load_exported(file, device, model.is_given)
    if loaded.model.key != model.key:
        raise ValueError(
            f"the index was made by {model.text}, which has changed since (digest {model.digest}, now "
            f"{loaded.model.digest}); index the folder again: guie search FOLDER"
        )
    return loaded


def newest_export(folder: Path, out: Path) -> Path | None:
    """The file that the newest run of a folder of photos has exported; None if there is none.

    A run is of this folder if one of the sources in the run's recipe.json is this folder.
    """
    exports = [path for path in out.glob(f"*/{FOLDERS[8]}/{MODEL_NAME}") if _is_of(path.parents[1], folder.resolve())]
    return max(exports, key=lambda path: path.stat().st_mtime_ns, default=None)


def _is_of(run: Path, folder: Path) -> bool:
    try:
        record: dict[str, Any] = json.loads((run / "recipe.json").read_text(encoding="utf-8"))
        data_root = Path(record["arguments"]["data_root"])
        data = record["recipe"]["data"]
        if data.get("drawn"):
            return False
        return folder in [(data_root / source["folder"]).resolve() for source in data["sources"]]
    except (OSError, ValueError, KeyError, TypeError):  # no run's folder, or one of another version
        return False


def load_off_the_shelf(device: str) -> Embedder:
    """The feature of the shipped ViT: the row `off the shelf` of the recipe `demo`."""
    recipe = load_recipe("demo")
    (member,) = recipe.embed.settings[0].members
    file = PROJECT / "weights" / recipe.model.weights_file
    if not file.is_file():
        raise FileNotFoundError(f"the shipped weights {file} are gone (git checkout weights), or name a model: --model")
    backbone = folded(build_backbone(recipe.model, member.image_px, file), member.image_px).to(device)
    model = ModelFile(
        OFF_THE_SHELF,
        str(file),
        digest_of_file(file),
        recipe.data.pack_px,
        dim=backbone.feature_dim,
    )
    return Embedder(model, _OffTheShelf(backbone, recipe.model, member.image_px, device))


def _load_exported(path: Path, device: str, is_given: bool) -> Embedder:
    if not path.is_file():
        raise FileNotFoundError(
            f"--model {path} does not exist; name an exported file ({MODEL_NAME}) or a run's folder"
        )
    try:
        with quiet_jit():
            module = torch.jit.load(path, map_location=device).eval()
    except RuntimeError as error:
        if is_of_the_machine(error):
            raise
        raise ValueError(f"{path} is no TorchScript file; name a {MODEL_NAME} that door 08 exported") from error
    network = _Exported(module)
    dim = _dim_of(network, path)
    # The module knows to what size its photos were packed; one of another maker sees them in full.
    pack_px = int(getattr(module, "pack_px", 0))
    file = path.resolve()
    return Embedder(ModelFile(EXPORTED, str(file), digest_of_file(file), pack_px, is_given, dim), network)


def _dim_of(network: _Exported, path: Path) -> int:
    """The length of the embeddings, by a trial.

    Raises:
        ValueError: the module does not take uint8 images of any size, or gives something else than one row for each.
    """
    contract = "an exported model takes uint8 [1, 3, height, width] of any size and gives float [1, dim]"
    try:
        with torch.inference_mode(), quiet_jit():
            trial = network([np.full((40, 56, 3), 128, np.uint8)])
    except (RuntimeError, TypeError) as error:
        if is_of_the_machine(error):
            raise
        raise ValueError(f"{path} does not run on a photo; {contract}") from error
    if not isinstance(trial, Tensor) or trial.dim() != 2 or len(trial) != 1 or not trial.is_floating_point():
        shape = list(trial.shape) if isinstance(trial, Tensor) else type(trial).__name__
        raise ValueError(f"{path} gives {shape} for one photo; {contract}")
    return int(trial.shape[1])
