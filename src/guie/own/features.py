"""Features of photos by a tower, kept by file: a later start computes those of new and changed files only."""

from __future__ import annotations

import hashlib
import logging
import shutil
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from guie.files import checked_digest_of_file, whole_file
from guie.own.small import SmallPhotos
from guie.own.towers import Tower
from guie.versions import EXTRACTION, PACKING

if TYPE_CHECKING:
    from accelerate import Accelerator

    from guie.model.backbone import Backbone

BATCH_SIZE = 32
N_TIMED = 4  # images in the forward pass that is timed
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Features:
    """What a tower gives for each photo.

    Attributes:
        values: float32 [n_photos, dim], in the order of the photos, not normalised.
        ms_per_image: Milliseconds of the network alone for one image, on the device that computed the features.
        n_parameters: Numbers in the network.
    """

    values: np.ndarray
    ms_per_image: float
    n_parameters: int


@dataclass(frozen=True)
class _Stored:
    """Features on the disk, by the key of their file."""

    rows: dict[tuple[str, int, int], int]
    values: np.ndarray
    ms_per_image: float
    n_parameters: int


def features_of(tower: Tower, small: SmallPhotos, px: int, cache: Path, accelerator: Accelerator) -> Features:
    """Features of all photos. Interrupted, the same call goes on where it stopped.

    Args:
        tower: The network.
        small: The photos.
        px: Side of the small photos, see `make_small`.
        cache: Folder of this function alone. It holds a file for each tower and device.
        accelerator: The device.

    Raises:
        ValueError: the weights cannot be fetched, or do not fit; the message is one line.
    """
    key = _key(tower, px, accelerator)
    path = cache / f"{key}.npz"
    parts = cache / f"{key}.parts"
    stored = _read(path)
    known = stored.rows if stored is not None else {}
    missing = np.array([i for i, own in enumerate(small.keys) if own not in known], dtype=np.int64)
    if stored is None or len(missing):
        features = _joined(small.keys, missing, _extracted(tower, small, missing, key, parts, accelerator), stored)
    else:
        order = [known[own] for own in small.keys]
        features = Features(stored.values[order], stored.ms_per_image, stored.n_parameters)
    if len(missing) or len(features.values) < len(known):  # new files, or removed ones
        _write(path, small.keys, features)
    shutil.rmtree(parts, ignore_errors=True)
    return features


def _joined(keys: list[tuple[str, int, int]], missing: np.ndarray, new: Features, stored: _Stored | None) -> Features:
    """Features of all files: new ones for the rows in `missing`, stored ones for the others."""
    values = np.empty((len(keys), new.values.shape[1]), np.float32)
    values[missing] = new.values
    if stored is not None:
        kept = np.setdiff1d(np.arange(len(keys)), missing)
        values[kept] = stored.values[[stored.rows[keys[i]] for i in kept]]
    return Features(values, new.ms_per_image, new.n_parameters)


def _key(tower: Tower, px: int, accelerator: Accelerator) -> str:
    """First 16 hex digits of a hash over all that decides the features of a file."""
    from guie.embed.extract import precision_on
    from guie.model.normalisation import mean_std

    weights = tower.model.weights if tower.weights is None else checked_digest_of_file(tower.weights)
    network = (tower.model.library, tower.model.name, tower.model.feature, tower.model.pad_type, weights)
    pixels = (tower.image_px, px, mean_std(tower.model), PACKING, EXTRACTION)
    text = repr((network, pixels, precision_on(accelerator.device)))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _extracted(
    tower: Tower, small: SmallPhotos, rows: np.ndarray, key: str, parts: Path, accelerator: Accelerator
) -> Features:
    """Features of some rows of `small`, float32 [n_rows, dim].

    Args:
        tower: The network.
        small: The photos.
        rows: int64 [n_rows].
        key: Of the tower.
        parts: Where unfinished features are kept.
        accelerator: The device.
    """
    from guie.embed.extract import FeatureRequest, digest_of_rows, extract, precision_on
    from guie.model.backbone import build_backbone

    files = hashlib.sha256(repr([small.keys[i] for i in rows]).encode()).hexdigest()[:16]
    backbone = build_backbone(tower.model, tower.image_px, tower.weights).to(accelerator.device)
    precision = precision_on(accelerator.device)
    request = FeatureRequest(
        files, key, tower.model, tower.image_px, "plain", digest_of_rows(rows), precision=precision
    )
    values = extract(parts, request, backbone, small.images, rows, accelerator, BATCH_SIZE)
    n_parameters = sum(parameter.numel() for parameter in backbone.parameters())
    return Features(np.array(values[:]), _milliseconds(backbone, tower.image_px, accelerator), n_parameters)


def _milliseconds(backbone: Backbone, px: int, accelerator: Accelerator) -> float:
    """Milliseconds of an image in a forward pass of `N_TIMED`: the faster of two passes after a first one."""
    import torch

    from guie.embed.extract import half_of

    device = accelerator.device
    half = half_of(device)
    pixels = torch.zeros(N_TIMED, 3, px, px, device=device).contiguous(memory_format=torch.channels_last)
    times = []
    with torch.inference_mode(), torch.autocast(device.type, half, enabled=half is not None):
        for _ in range(3):
            began = time.perf_counter()
            backbone(pixels).float().cpu()  # copying waits for the device
            times.append(time.perf_counter() - began)
    return 1000 * min(times[1:]) / N_TIMED


def _read(path: Path) -> _Stored | None:
    """Stored features; None where there are none, or where the file is damaged."""
    try:
        with np.load(path) as arrays:
            paths = bytes(arrays["paths"]).decode().split("\n")
            keys = zip(paths, arrays["n_bytes"].tolist(), arrays["mtime_ns"].tolist(), strict=True)
            rows = {key: i for i, key in enumerate(keys)}
            facts: dict[str, Any] = {name: arrays[name].item() for name in ("ms_per_image", "n_parameters")}
            return _Stored(rows, arrays["values"], **facts)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        log.warning("%s cannot be read (%s); these features are computed again", path, error)
        return None


def _write(path: Path, keys: list[tuple[str, int, int]], features: Features) -> None:
    """Writes features with the keys of their files, completely or not at all. A path holds no line break, see
    `guie.data.names`."""
    paths = "\n".join(name for name, _, _ in keys).encode()
    with whole_file(path) as temporary, temporary.open("wb") as handle:
        np.savez(
            handle,
            paths=np.frombuffer(paths, np.uint8),
            n_bytes=np.array([size for _, size, _ in keys], np.int64),
            mtime_ns=np.array([changed for _, _, changed in keys], np.int64),
            values=features.values,
            ms_per_image=np.float64(features.ms_per_image),
            n_parameters=np.int64(features.n_parameters),
        )
