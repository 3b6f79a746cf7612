"""Embeddings of many photos by an exported file. They are computed in parts, which a start after an interruption
reuses."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from guie.data.image import read_image
from guie.files import whole_file
from guie.machine import n_cores
from guie.shown import progress

PARTS = ".embeddings"  # the folder of parts
N_PART = 1024  # photos in a part; at most this many are computed again after an interruption
AHEAD = 4  # photos that each reading thread may be ahead


class Photo(NamedTuple):
    """A photo to embed.

    Attributes:
        path: Its path as written into the output.
        label: Its label, or ''.
        file: Where it is.
    """

    path: str
    label: str
    file: Path


@dataclass(frozen=True)
class Part:
    """Some photos' embeddings.

    Attributes:
        embeddings: float32 [n, width]; zeros where a photo cannot be read.
        reasons: Why a photo cannot be read, '' where it can.
    """

    embeddings: np.ndarray
    reasons: list[str]

    @property
    def is_read(self) -> np.ndarray:
        """Which photos can be read, bool [n]."""
        return np.array([not reason for reason in self.reasons], dtype=bool)

    @property
    def readable(self) -> np.ndarray:
        """The embeddings of the photos that can be read, float32 [n_readable, width]."""
        return self.embeddings[self.is_read]


def computed(
    module: torch.jit.ScriptModule, width: int, digest: str, photos: Sequence[Photo], parts: Path
) -> list[Part]:
    """All parts. Parts of an earlier start are not computed again.

    Args:
        module: uint8 [1, 3, height, width] to float [1, width].
        width: Width of its output.
        digest: Digest of what decides the output. Parts with another digest are not used.
        photos: The photos; they go into the module in full size.
        parts: The folder of parts. The caller removes it when it is no longer needed.
    """
    parts.mkdir(parents=True, exist_ok=True)
    names = []
    with progress(total=len(photos), desc="embeddings") as bar:
        for first in range(0, len(photos), N_PART):
            here = photos[first : first + N_PART]
            name = parts / f"{first:09d}-{_key(digest, here)}.npz"
            if not name.is_file():
                _save_part(name, _part(module, width, here, bar))
            names.append(name)
            bar.update(first + len(here) - bar.n)
    return [_load_part(name) for name in names]


def _key(digest: str, photos: Sequence[Photo]) -> str:
    """A key that changes with the model, and with the name, size or time of any photo."""
    sha = hashlib.sha256(digest.encode())
    for photo in photos:
        try:
            stat = photo.file.stat()
            state = f"{stat.st_size} {stat.st_mtime_ns}"
        except OSError:
            state = "missing"
        sha.update(f"{photo.path}\0{state}\0".encode(errors="surrogateescape"))
    return sha.hexdigest()[:16]


def _part(module: torch.jit.ScriptModule, width: int, photos: Sequence[Photo], bar: tqdm) -> Part:
    """Embeds some photos, one at a time, while threads read the next ones."""
    embeddings = np.zeros((len(photos), width), dtype=np.float32)
    reasons = []
    with torch.no_grad():
        for i, image in enumerate(_images([photo.file for photo in photos])):
            reasons.append(image if isinstance(image, str) else "")
            if not isinstance(image, str):
                pixels = torch.from_numpy(image).permute(2, 0, 1)[None]
                embeddings[i] = module(pixels)[0].float().cpu().numpy()
            bar.update(1)
    return Part(embeddings, reasons)


def _images(files: Sequence[Path]) -> Iterator[np.ndarray | str]:
    """For each file, in order: the image, uint8 [h, w, 3], or why it cannot be read."""
    n = n_cores()
    with ThreadPoolExecutor(n) as pool:
        waiting = [pool.submit(_image, file) for file in files[: AHEAD * n]]
        for i in range(len(files)):
            yield waiting.pop(0).result()
            if i + AHEAD * n < len(files):
                waiting.append(pool.submit(_image, files[i + AHEAD * n]))


def _image(file: Path) -> np.ndarray | str:
    try:
        return read_image(file)
    except ValueError as error:
        return str(error)


def _save_part(path: Path, part: Part) -> None:
    with whole_file(path) as temporary, temporary.open("wb") as handle:
        np.savez(handle, embeddings=part.embeddings, reasons=np.array(part.reasons, dtype=np.str_))


def _load_part(path: Path) -> Part:
    with np.load(path) as stored:
        return Part(stored["embeddings"], [str(reason) for reason in stored["reasons"]])
