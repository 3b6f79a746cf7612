"""Embeddings of a folder of photos as one parquet file, for vector stores.

Each row holds id, path, label, embedding, and its codes of int8 and bits (`guie.embed.codes`). The id is a UUID made
from the path, so a photo keeps its id when others come or go.
"""

from __future__ import annotations

import logging
import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from guie.embed.accelerator import keep_float32
from guie.embed.codes import Codes, fit_codes, has_bits, to_bits
from guie.export.parts import PARTS, Part, Photo, computed
from guie.files import save_json, whole_file

log = logging.getLogger(__name__)
PARQUET = "embeddings.parquet"
ABOUT = "embeddings.json"
BINARY = "bit i is embedding[i] > 0; the highest bit first"


def schema_of(dim: int) -> pa.Schema:
    """The columns for embeddings of `dim` numbers. Binary codes are whole bytes; for other dims the column is left
    out."""
    fields = [("id", pa.string()), ("path", pa.string()), ("label", pa.string())]
    fields += [("embedding", pa.list_(pa.float32(), dim)), ("int8", pa.list_(pa.int8(), dim))]
    return pa.schema([*fields, *([("binary", pa.binary(dim // 8))] if has_bits(dim) else [])])


def save_vectors(
    script: torch.jit.ScriptModule,
    dim: int,
    digest: str,
    photos: Sequence[Photo],
    folder: Path,
    codes: Codes | None,
    device: str,
) -> list[tuple[str, str]]:
    """Writes embeddings.parquet and embeddings.json, which says how to read the codes. Each is complete or absent.

    Photos are computed in parts that are kept until the end, so that an interrupted start can be continued.

    Args:
        script: The TorchScript module; photos go into it in full size.
        dim: Number of dimensions of its embeddings.
        digest: Digest of its file; parts of another file are not used.
        photos: The photos, in the order of the rows.
        folder: Where to write.
        codes: Fitted on training embeddings; None fits them on these photos.
        device: Where to compute.

    Returns:
        Path and reason of each photo that cannot be read. Such photos have no row.

    Raises:
        ValueError: no photo can be read.
    """
    keep_float32()
    read = computed(script.to(device), dim, digest, photos, folder / PARTS)
    reasons = [reason for part in read for reason in part.reasons]
    problems = [(photo.path, reason) for photo, reason in zip(photos, reasons, strict=True) if reason]
    if len(problems) == len(photos):
        raise ValueError(f"none of {len(photos)} photos can be read, for example {problems[0][0]}: {problems[0][1]}")
    codes = codes or fit_codes(np.concatenate([part.readable for part in read]))
    (folder / ABOUT).unlink(missing_ok=True)
    _write(folder / PARQUET, photos, read, codes, schema_of(dim).with_metadata(_facts(digest, codes)))
    about = {
        "model_digest": digest,
        "n_photos": len(photos) - len(problems),
        "int8": {"scale": codes.scale, "meaning": "embedding / its length = int8 * scale"},
        **({"binary": {"meaning": BINARY}} if has_bits(dim) else {}),
        "unread": [{"path": path, "reason": reason} for path, reason in problems],
    }
    save_json(folder / ABOUT, about)
    shutil.rmtree(folder / PARTS)
    return problems


def _facts(digest: str, codes: Codes) -> dict[str, str]:
    """Metadata of the parquet file."""
    return {"model_digest": digest, "int8_scale": repr(codes.scale)}


def _write(path: Path, photos: Sequence[Photo], parts: Sequence[Part], codes: Codes, schema: pa.Schema) -> None:
    """Writes the parquet file, with one row group for each part."""
    first = 0
    with whole_file(path) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        for part in parts:
            here = photos[first : first + len(part.reasons)]
            kept = [photo for photo, reason in zip(here, part.reasons, strict=True) if not reason]
            first += len(here)
            if kept:
                writer.write_table(_rows(kept, part.readable, codes, schema))


def _rows(photos: Sequence[Photo], embeddings: np.ndarray, codes: Codes, schema: pa.Schema) -> pa.Table:
    """The rows of some photos."""
    dim = embeddings.shape[1]
    columns = [
        pa.array([str(uuid.uuid5(uuid.NAMESPACE_URL, photo.path)) for photo in photos], pa.string()),
        pa.array([photo.path for photo in photos], pa.string()),
        pa.array([photo.label for photo in photos], pa.string()),
        pa.FixedSizeListArray.from_arrays(pa.array(embeddings.ravel()), dim),
        pa.FixedSizeListArray.from_arrays(pa.array(codes.to_int8(embeddings).ravel()), dim),
    ]
    if has_bits(dim):
        columns.append(pa.array([row.tobytes() for row in to_bits(embeddings)], pa.binary(dim // 8)))
    return pa.Table.from_arrays(columns, schema=schema)
