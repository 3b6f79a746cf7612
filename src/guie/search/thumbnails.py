"""Small JPEGs of indexed photos. A photo is shown only if its bytes are those that were indexed."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from pathlib import Path

from PIL import Image

from guie.data.duplicates import content_hash
from guie.data.image import load_image, read_file

SMALL_PX = 256  # longer side in the grid
LARGE_PX = 1600  # longer side of the enlarged photo
QUALITY = 80
MAX_CACHED = 64 << 20  # bytes of JPEGs in memory
N_AT_A_TIME = 2  # decoders; a photo of 90 megapixels takes 270 MB while it is decoded


def jpeg_of(content: bytes, longest_px: int) -> bytes:
    """An image's file as an upright JPEG without metadata, its longer side at most `longest_px`.

    Raises:
        ValueError: it cannot be read; the message says why in a few words.
    """
    image, _ = load_image(content, min_short_side=longest_px)
    image.thumbnail((longest_px, longest_px), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY, optimize=True)
    return buffer.getvalue()


class Thumbnails:
    """Makes JPEGs and keeps the latest in memory."""

    def __init__(self) -> None:
        """Starts empty."""
        self._made: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._n_bytes = 0
        self._lock = threading.Lock()
        self._decoders = threading.Semaphore(N_AT_A_TIME)

    def jpeg(self, file: Path, digest: str, longest_px: int) -> bytes:
        """The JPEG of a photo.

        Args:
            file: Its path.
            digest: Digest of the bytes that were indexed.
            longest_px: Longer side at most.

        Raises:
            ValueError: it is gone, holds other bytes by now (or is a link to another file), or cannot be read.
        """
        key = (digest, longest_px)
        with self._lock:
            if key in self._made:
                self._made.move_to_end(key)
                return self._made[key]
        with self._decoders:
            content = read_file(file)
            if content_hash(content) != digest:
                raise ValueError("changed since it was indexed")
            made = jpeg_of(content, longest_px)
        self._keep(key, made)
        return made

    def _keep(self, key: tuple[str, int], made: bytes) -> None:
        with self._lock:
            if key not in self._made:
                self._made[key] = made
                self._n_bytes += len(made)
            while self._n_bytes > MAX_CACHED:
                _, oldest = self._made.popitem(last=False)
                self._n_bytes -= len(oldest)
