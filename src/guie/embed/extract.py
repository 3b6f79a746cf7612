"""Backbone features of packed images. They are extracted once and kept in memory-mapped files; an interrupted
extraction resumes."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from guie.data.packed import PackedImages
from guie.done import state_of
from guie.embed.halves import Halves, to_halves
from guie.embed.loading import load_batches
from guie.embed.views import apply_view, frame_of, normalise, to_square
from guie.errors import memory_remedy
from guie.files import digest_of_file, digest_of_tensors, save_json, whole_file
from guie.model.backbone import Backbone, folded
from guie.model.normalisation import mean_std
from guie.settings.model import Model
from guie.shown import progress
from guie.versions import EXTRACTION

log = logging.getLogger(__name__)
CHECKPOINT_S = 20.0
Change = Callable[[np.ndarray, int], np.ndarray]


@dataclass(frozen=True)
class FeatureRequest:
    """Everything that decides the values of features. Its digest is their key in the cache.

    Attributes:
        pack: Digest of the packed images.
        backbone: Digest of the backbone's weights.
        model: The recipe's model section.
        image_px: Side of the square.
        view: One of VIEWS, or the name of an augmented view.
        rows: Digest of the rows of the pack.
        patch_stride: Pixels from one patch of a transformer to the next; 0 is the patch's side.
        precision: Name of the torch dtype that the backbone computes in; see `precision_on`.
        storage: Type of the numbers on the disk, float32 or bfloat16.
        version: Version of the extraction's code.
    """

    pack: str
    backbone: str
    model: Model
    image_px: int
    view: str
    rows: str
    patch_stride: int = 0
    precision: str = "float32"
    storage: str = "float32"
    version: int = EXTRACTION

    @property
    def key(self) -> str:
        """First 16 hex digits of the SHA-256 over all fields and the pixels' mean and std. If the recipe states no
        mean and std, those of the library are used."""
        return hashlib.sha256(f"{self!r} {mean_std(self.model)}".encode()).hexdigest()[:16]


class Squares(Dataset[Tensor]):
    """Packed images as float32 [3, px, px], 0..255, framed for a view."""

    def __init__(self, packed: PackedImages, rows: np.ndarray, image_px: int, view: str, change: Change | None) -> None:
        """Images of `rows` of the pack, int64 [n]; `change` may alter an image, given its row."""
        self.packed, self.rows, self.image_px, self.frame, self.change = packed, rows, image_px, frame_of(view), change

    def __len__(self) -> int:
        """Number of images."""
        return len(self.rows)

    def __getitem__(self, i: int) -> Tensor:
        """One image; `i` counts `rows`."""
        row = int(self.rows[i])
        image = self.packed.read(row)
        if self.change is not None:
            image = self.change(image, row)
        return to_square(
            torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None], self.image_px, self.frame
        )[0]


def digest_of_rows(rows: np.ndarray) -> str:
    """First 16 hex digits of the SHA-256 of the row numbers."""
    return hashlib.sha256(np.ascontiguousarray(rows, dtype=np.int64).tobytes()).hexdigest()[:16]


def extract(
    cache: Path,
    request: FeatureRequest,
    backbone: Backbone,
    packed: PackedImages,
    rows: np.ndarray,
    accelerator: Accelerator,
    batch_size: int,
    change: Change | None = None,
    other_views: Sequence[str] = (),
) -> np.ndarray | Halves:
    """Features of `rows` of the pack, memory-mapped read-only. Rows are read as float32 [n_rows, feature_dim].

    Each request is extracted once; an interrupted extraction continues where it stopped. With several processes, each
    extracts a slice of the rows.

    Args:
        cache: Folder of the cached files.
        request: Decides the cache's key.
        backbone: On the accelerator's device.
        packed: The images.
        rows: int64 [n_rows], row numbers of the pack.
        accelerator: Device and processes.
        batch_size: Images per forward pass.
        change: Alters an image before it is resized (augmented views); must be a pure function of image and row.
        other_views: Other views with the same frame that will be needed later. They are extracted in the same pass, so
            that each image is decoded once.
    """
    requests = [request, *(replace(request, view=view) for view in other_views)]
    missing = [wanted for wanted in requests if not _is_whole(cache / f"{wanted.key}.npy")]
    accelerator.wait_for_everyone()  # all processes must have looked before one of them writes
    if missing:
        n, rank = accelerator.num_processes, accelerator.process_index
        cuts = [len(rows) * i // n for i in range(n + 1)]
        parts = [cache / f"{wanted.key}.part{rank}of{n}.npy" for wanted in missing]
        squares = Squares(packed, rows[cuts[rank] : cuts[rank + 1]], request.image_px, request.view, change)
        with memory_remedy(f"--set embed.batch_size={max(1, batch_size // 2)} (now {batch_size})"):
            _extract_slice(parts, missing, backbone, squares, accelerator, batch_size)
        accelerator.wait_for_everyone()
        for wanted in missing if accelerator.is_main_process else []:
            _join(cache, wanted.key, n, cache / f"{wanted.key}.npy")
        accelerator.wait_for_everyone()
    stored = np.load(cache / f"{request.key}.npy", mmap_mode="r")
    return Halves(stored) if request.storage == "bfloat16" else stored


def _extract_slice(
    parts: list[Path],
    requests: list[FeatureRequest],
    backbone: Backbone,
    squares: Squares,
    accelerator: Accelerator,
    batch_size: int,
) -> None:
    """Fills one part file for each view, from the first row that is not yet written. The .json file beside a part says
    how many rows are written."""
    n_done = min(_n_done(part, len(squares)) for part in parts)
    is_half = requests[0].storage == "bfloat16"
    features = _open_parts(parts, (len(squares), backbone.feature_dim), is_half, is_new=n_done == 0)
    loader = _images_from(n_done, squares, batch_size)
    is_training = backbone.training
    network = _Network.of(backbone, requests[0], accelerator.device)
    saved = time.time()
    with torch.inference_mode(), _progress(n_done, len(squares), requests, accelerator) as bar:
        for images in loader:
            normal = normalise(images.to(accelerator.device), *mean_std(requests[0].model))
            for wanted, rows in zip(requests, features, strict=True):
                batch = network.features(apply_view(normal, wanted.view if squares.change is None else "plain"))
                rows[n_done : n_done + len(batch)] = to_halves(batch) if is_half else batch.numpy()
            n_done += len(images)
            bar.update(len(images))
            if time.time() - saved > CHECKPOINT_S:
                _note(parts, features, n_done)
                saved = time.time()
    _note(parts, features, n_done)
    backbone.train(is_training)


def _open_parts(parts: list[Path], shape: tuple[int, int], is_half: bool, is_new: bool) -> list[np.memmap]:
    """The files of a slice, one for each view, open for writing.

    Args:
        parts: Their paths.
        shape: (n_rows, feature_dim) of each.
        is_half: Whether numbers are stored in bfloat16, not float32.
        is_new: Whether to create the files. Existing ones are then overwritten.

    Raises:
        OSError: the disk is full.
    """
    parts[0].parent.mkdir(parents=True, exist_ok=True)
    for part in parts if is_new else []:
        part.with_suffix(".json").unlink(missing_ok=True)
        _allocate(part, shape, is_half)
    return [np.lib.format.open_memmap(part, mode="r+") for part in parts]


def _images_from(first: int, squares: Squares, batch_size: int) -> Iterator[Tensor]:
    """Batches of the squares from number `first` on, float32 [<= batch_size, 3, px, px]."""
    left = range(first, len(squares))
    plan = [list(left[start : start + batch_size]) for start in range(0, len(left), batch_size)]
    return load_batches(squares, plan, batch_bytes=min(batch_size, len(left)) * 3 * squares.image_px**2 * 4)


def _progress(n_done: int, n: int, requests: list[FeatureRequest], accelerator: Accelerator) -> tqdm:
    """A bar that starts at `n_done` of `n` images; it is hidden in all processes of a machine but the first."""
    hidden = None if accelerator.is_local_main_process else True
    return progress(total=n, initial=n_done, desc=f"features {requests[0].image_px} px", disable=hidden)


@dataclass(frozen=True)
class _Network:
    """A backbone in eval mode that computes in the requested precision, with its batch norms folded where that is
    possible.

    Attributes:
        module: The backbone, or a copy of it.
        device: Where it is.
        dtype: The type that it computes in.
        has_half_weights: Whether its weights are of that type. If not, autocast chooses the type of each operation.
    """

    module: Backbone
    device: torch.device
    dtype: torch.dtype
    has_half_weights: bool

    @classmethod
    def of(cls, backbone: Backbone, request: FeatureRequest, device: torch.device) -> _Network:
        """Prepares a backbone for a request. The given backbone itself is set to eval mode."""
        module = folded(backbone, request.image_px)
        dtype: torch.dtype = getattr(torch, request.precision)
        # autocast on a CPU is slower than float32
        has_half_weights = device.type == "cpu" and dtype != torch.float32
        if has_half_weights:
            module = copy.deepcopy(module).to(dtype)
        return cls(module, device, dtype, has_half_weights)

    def features(self, pixels: Tensor) -> Tensor:
        """float32 [n, feature_dim] on the CPU, of normalised pixels, float32 [n, 3, px, px] on the device."""
        pixels = pixels.to(self.dtype) if self.has_half_weights else pixels
        is_cast = self.dtype != torch.float32 and self.device.type != "cpu"
        with torch.autocast(self.device.type, self.dtype, enabled=is_cast):
            return self.module(pixels.contiguous(memory_format=torch.channels_last)).float().cpu()


def _n_done(part: Path, n_rows: int) -> int:
    """Number of rows of a part that are certainly written. It is 0 if the part does not have `n_rows` rows, or if its
    .json file cannot be read."""
    try:
        noted: int = json.loads(part.with_suffix(".json").read_text(encoding="utf-8"))["n_done"]
        return noted if len(np.load(part, mmap_mode="r")) == n_rows else 0
    except (OSError, EOFError, ValueError, KeyError, TypeError):
        return 0


def _note(parts: list[Path], features: list[np.memmap], n_done: int) -> None:
    """Records for every part that its first `n_done` rows are on the disk."""
    for part, rows in zip(parts, features, strict=True):
        rows.flush()
        save_json(part.with_suffix(".json"), {"n_done": n_done})


def half_of(device: torch.device) -> torch.dtype | None:
    """The half precision of backbones on a device: bf16, or fp16 on cards without bf16 (T4, V100). None on a CPU, where
    autocast is slower than float32."""
    if device.type != "cuda":
        return None
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def precision_on(device: torch.device, wanted: str = "auto") -> str:
    """Name of the torch dtype that extraction computes in: `wanted`, or for `auto` the card's half precision and
    float32 on a CPU.

    On a CPU `auto` is float32 even with AMX, because door 08 compares its float32 export with embeddings of these
    features. In bf16, MobileNetV2's features have cosines as low as .976 to those in float32, and half of the neighbour
    lists change. The shipped ViT changes less: cosines are .9998, and 97 of 100 lists stay the same.
    """
    if wanted == "auto":
        return str(half_of(device) or torch.float32).removeprefix("torch.")
    if device.type == "cpu" and wanted == "bfloat16" and not torch.cpu._is_amx_tile_supported():
        log.warning("this CPU has no AMX: bfloat16 is slower here than float32; use --set embed.precision=auto")
    return wanted


def _allocate(path: Path, shape: tuple[int, int], is_half: bool) -> None:
    """Makes an array file of zeros and reserves its space on the disk. So a full disk is an error here, not a crash
    later.

    Raises:
        OSError: the disk is full.
    """
    np.lib.format.open_memmap(path, mode="w+", dtype=np.uint16 if is_half else np.float32, shape=shape).flush()
    if not hasattr(os, "posix_fallocate"):
        return
    try:
        with path.open("rb+") as handle:
            os.posix_fallocate(handle.fileno(), 0, path.stat().st_size)
    except OSError as error:
        path.unlink()
        gigabytes = np.prod(shape) * (2 if is_half else 4) / 1e9
        raise OSError(
            error.errno,
            f"no room for {gigabytes:.1f} GB of features at {path.parent}; free some, or choose another --out",
        ) from error


def _join(cache: Path, key: str, n: int, whole: Path) -> None:
    """Joins the slices of `n` processes to one file, writes its seal and deletes the slices."""
    parts = [cache / f"{key}.part{rank}of{n}.npy" for rank in range(n)]
    if n > 1:
        arrays = [np.load(p, mmap_mode="r") for p in parts]
        with whole_file(parts[0].with_name(f"{key}.part.npy")) as temporary:
            joined = np.lib.format.open_memmap(
                temporary, mode="w+", dtype=arrays[0].dtype, shape=(sum(map(len, arrays)), arrays[0].shape[1])
            )
            np.concatenate(arrays, out=joined)
            joined.flush()
    made = parts[0] if n == 1 else cache / f"{key}.part.npy"
    digest = digest_of_file(made)
    save_json(_seal_of(whole), {"state": [], "digest": digest})  # before the rename: a kill between them loses nothing
    made.replace(whole)
    save_json(_seal_of(whole), {"state": state_of(whole), "digest": digest})
    for stale in cache.glob(f"{key}.part*"):
        stale.unlink()


def _seal_of(features: Path) -> Path:
    """The file beside cached features that holds their state and digest."""
    return features.with_suffix(".json")


def _is_whole(features: Path) -> bool:
    """Whether cached features exist with the bytes that were written. Damaged ones are logged, and the caller extracts
    them again."""
    try:
        seal = json.loads(_seal_of(features).read_text(encoding="utf-8"))
        is_whole: bool = state_of(features) == seal["state"] or digest_of_file(features) == seal["digest"]
    except FileNotFoundError:  # features or seal: not made yet, or the process was killed between the two
        return False
    except (ValueError, KeyError, TypeError, OSError):  # the seal is not JSON, or has other fields
        is_whole = False
    if not is_whole:
        log.warning("%s has other bytes than were written; these features are extracted again", features)
    return is_whole


def digest_of_backbone(backbone: Backbone) -> str:
    """Digest of a backbone's weights, a part of the key of its cached features."""
    return digest_of_tensors(backbone.state_dict())
