"""Reads and embeds photos: threads read and decode the next ones while the model computes."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from guie.data.duplicates import content_hash
from guie.data.image import read_file
from guie.machine import n_cores
from guie.search.embedder import Embedder


@dataclass(frozen=True)
class Photo:
    """A photo that was read.

    Attributes:
        path: Its path in the table.
        digest: Hash of its bytes; '' if they could not be read.
        n_bytes: Number of its bytes.
        embedding: float32 [dim], of length 1. None if its bytes were known already, or if it has no embedding.
        reason: Why it has no embedding, or ''.
    """

    path: str
    digest: str
    n_bytes: int
    embedding: np.ndarray | None
    reason: str = ""


@dataclass(frozen=True)
class _Decoded:
    path: str
    digest: str
    n_bytes: int
    pixels: np.ndarray | None
    reason: str = ""


def read_all(
    files: Iterable[tuple[str, Path]], embedder: Embedder, known: Collection[str] = frozenset()
) -> Iterator[list[Photo]]:
    """Yields the photos batch by batch, in their order.

    Args:
        files: Path in the table, and file, of each photo.
        embedder: The model.
        known: Digests whose embeddings are known; such photos are neither decoded nor embedded.
    """

    def decoded(path: str, file: Path) -> _Decoded:
        try:
            content = read_file(file)
        except ValueError as error:
            return _Decoded(path, "", 0, None, str(error))
        digest = content_hash(content)
        if digest in known:
            return _Decoded(path, digest, len(content), None)
        try:
            return _Decoded(path, digest, len(content), embedder.pixels(content))
        except ValueError as error:
            return _Decoded(path, digest, len(content), None, str(error))

    with ThreadPoolExecutor(n_cores(), thread_name_prefix="photos") as pool:
        try:
            ahead: list[Future[_Decoded]] = []
            for batch in itertools.chain(_batches(files, embedder.batch), [[]]):
                waiting = [pool.submit(decoded, path, file) for path, file in batch]
                if ahead:
                    yield _embedded([future.result() for future in ahead], embedder)
                ahead = waiting
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _embedded(photos: list[_Decoded], embedder: Embedder) -> list[Photo]:
    images = [photo.pixels for photo in photos if photo.pixels is not None]
    embeddings, reasons = embedder.embed(images)
    of_images = iter(zip(embeddings, reasons, strict=True))
    found = []
    for photo in photos:
        embedding, reason = next(of_images) if photo.pixels is not None else (None, photo.reason)
        found.append(Photo(photo.path, photo.digest, photo.n_bytes, None if reason else embedding, reason))
    return found


def _batches(files: Iterable[tuple[str, Path]], n: int) -> Iterator[list[tuple[str, Path]]]:
    iterator = iter(files)
    while batch := list(itertools.islice(iterator, n)):
        yield batch
