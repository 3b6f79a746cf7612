"""Embeddings of a folder of photos as one parquet file, for vector stores.

Each row holds id, path, label, embedding, and its codes of int8 and bits (`guie.embed.codes`). The id is a UUID made
from the path, so a photo keeps its id when others come or go.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from tqdm.auto import tqdm

from guie.data.image import read_image
from guie.embed.codes import Codes, fit_codes, to_bits
from guie.export.assembly import EMBEDDING_DIM
from guie.files import save_json, whole_file
from guie.machine import n_cores

log = logging.getLogger(__name__)
PARQUET = "embeddings.parquet"
ABOUT = "embeddings.json"
PARTS = ".embeddings"  # what an interrupted start leaves: parts of finished photos
N_PART = 1024  # photos of a part; at most so many are computed again after an interruption
AHEAD = 4  # photos that each reading thread may be ahead
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("path", pa.string()),
        ("label", pa.string()),
        ("embedding", pa.list_(pa.float32(), EMBEDDING_DIM)),
        ("int8", pa.list_(pa.int8(), EMBEDDING_DIM)),
        ("binary", pa.binary(EMBEDDING_DIM // 8)),
    ]
)


class Photo(NamedTuple):
    """A photo to embed.

    Attributes:
        path: As it is written into the file.
        label: '' without one.
        file: Where it is.
    """

    path: str
    label: str
    file: Path


@dataclass(frozen=True)
class _Part:
    """Some photos' embeddings.

    Attributes:
        embeddings: float32 [n, 64]; zeros where a photo cannot be read.
        reasons: Why a photo cannot be read, '' where it can.
    """

    embeddings: np.ndarray
    reasons: list[str]


def save_vectors(
    script: torch.jit.ScriptModule, digest: str, photos: Sequence[Photo], folder: Path, codes: Codes | None, device: str
) -> list[tuple[str, str]]:
    """Writes embeddings.parquet and embeddings.json, which says how codes are read. Each is whole or absent.

    Photos are computed in parts that are kept until the end, so an interrupted start goes on where it stopped.

    Args:
        script: The TorchScript module; photos go into it in full size.
        digest: Of its file; parts of another file are not used.
        photos: In the order of the rows.
        folder: Where to write.
        codes: Fitted on training embeddings; None fits them on these photos.
        device: Where to compute.

    Returns:
        Path and reason of each photo that cannot be read; it has no row.

    Raises:
        ValueError: no photo can be read.
    """
    names = _computed(script.to(device), digest, photos, folder / PARTS)
    read = [_load_part(name) for name in names]
    reasons = [reason for part in read for reason in part.reasons]
    problems = [(photo.path, reason) for photo, reason in zip(photos, reasons, strict=True) if reason]
    if len(problems) == len(photos):
        raise ValueError(f"none of {len(photos)} photos can be read, {problems[0][0]} for one: {problems[0][1]}")
    codes = codes or fit_codes(np.concatenate([_readable(part) for part in read]))
    (folder / ABOUT).unlink(missing_ok=True)
    _write(folder / PARQUET, photos, read, codes, digest)
    about = {
        "model_digest": digest,
        "n_photos": len(photos) - len(problems),
        "int8": {"scale": codes.scale, "meaning": "embedding / its length = int8 * scale"},
        "binary": {"meaning": "bit i is embedding[i] > 0; the highest bit first"},
        "unread": [{"path": path, "reason": reason} for path, reason in problems],
    }
    save_json(folder / ABOUT, about)
    shutil.rmtree(folder / PARTS)
    return problems


def _computed(module: torch.jit.ScriptModule, digest: str, photos: Sequence[Photo], parts: Path) -> list[Path]:
    """The files of all parts; those that an earlier start left are not computed again."""
    parts.mkdir(parents=True, exist_ok=True)
    names = []
    with tqdm(total=len(photos), desc="embeddings", unit="photo", disable=None) as bar:
        for first in range(0, len(photos), N_PART):
            here = photos[first : first + N_PART]
            name = parts / f"{first:09d}-{_key(digest, here)}.npz"
            if not name.is_file():
                _save_part(name, _part(module, here, bar))
            names.append(name)
            bar.update(first + len(here) - bar.n)
    return names


def _key(digest: str, photos: Sequence[Photo]) -> str:
    """Changes with the model, and with the name, size or time of any of the photos."""
    sha = hashlib.sha256(digest.encode())
    for photo in photos:
        try:
            stat = photo.file.stat()
            state = f"{stat.st_size} {stat.st_mtime_ns}"
        except OSError:
            state = "missing"
        sha.update(f"{photo.path}\0{state}\0".encode(errors="surrogateescape"))
    return sha.hexdigest()[:16]


def _part(module: torch.jit.ScriptModule, photos: Sequence[Photo], bar: tqdm) -> _Part:
    """Embeds some photos, one at a time, while threads read the next ones."""
    embeddings = np.zeros((len(photos), EMBEDDING_DIM), dtype=np.float32)
    reasons = []
    with torch.no_grad():
        for i, image in enumerate(_images([photo.file for photo in photos])):
            reasons.append(image if isinstance(image, str) else "")
            if not isinstance(image, str):
                pixels = torch.from_numpy(image).permute(2, 0, 1)[None]
                embeddings[i] = module(pixels)[0].float().cpu().numpy()
            bar.update(1)
    return _Part(embeddings, reasons)


def _images(files: Sequence[Path]) -> Iterator[np.ndarray | str]:
    """Images, uint8 [h, w, 3], or why one cannot be read, in the order of the files."""
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


def _readable(part: _Part) -> np.ndarray:
    return part.embeddings[np.array([not reason for reason in part.reasons], dtype=bool)]


def _save_part(path: Path, part: _Part) -> None:
    with whole_file(path) as temporary, temporary.open("wb") as handle:
        np.savez(handle, embeddings=part.embeddings, reasons=np.array(part.reasons, dtype=np.str_))


def _load_part(path: Path) -> _Part:
    with np.load(path) as stored:
        return _Part(stored["embeddings"], [str(reason) for reason in stored["reasons"]])


def _write(path: Path, photos: Sequence[Photo], parts: Sequence[_Part], codes: Codes, digest: str) -> None:
    """The parquet file, one row group for each part."""
    facts = {"model_digest": digest, "int8_scale": repr(codes.scale)}
    schema = SCHEMA.with_metadata(facts)
    first = 0
    with whole_file(path) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        for part in parts:
            here = photos[first : first + len(part.reasons)]
            kept = [photo for photo, reason in zip(here, part.reasons, strict=True) if not reason]
            first += len(here)
            if kept:
                writer.write_table(_rows(kept, _readable(part), codes, schema))


def _rows(photos: Sequence[Photo], embeddings: np.ndarray, codes: Codes, schema: pa.Schema) -> pa.Table:
    """The rows of some photos."""
    bits = to_bits(embeddings)
    columns = [
        pa.array([str(uuid.uuid5(uuid.NAMESPACE_URL, photo.path)) for photo in photos], pa.string()),
        pa.array([photo.path for photo in photos], pa.string()),
        pa.array([photo.label for photo in photos], pa.string()),
        pa.FixedSizeListArray.from_arrays(pa.array(embeddings.ravel()), EMBEDDING_DIM),
        pa.FixedSizeListArray.from_arrays(pa.array(codes.to_int8(embeddings).ravel()), EMBEDDING_DIM),
        pa.array([row.tobytes() for row in bits], pa.binary(EMBEDDING_DIM // 8)),
    ]
    return pa.Table.from_arrays(columns, schema=schema)
