"""Reads an image file of any kind as upright RGB pixels, or says why it cannot be read."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from guie.data.metadata import exif_orientation, kind_of, orientation_of, without_metadata
from guie.errors import is_of_the_machine
from guie.files import is_named_pipe

# Only these decoders run: PIL would start Ghostscript for a file that says it is EPS.
FORMATS = ["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "AVIF", "JPEG2000"]
HEIF_PLUGINS = ("pi_heif", "pillow_heif")  # of one author; the first only reads, and holds no code under the GPL
for _plugin in HEIF_PLUGINS:
    with contextlib.suppress(ImportError):
        importlib.import_module(_plugin).register_heif_opener()
        FORMATS.append("HEIF")
        break
EXTENSIONS = (
    *(".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm"),
    *(".jfif", ".jpe", ".jif", ".apng", ".dib", ".pgm", ".pbm", ".pnm"),
    *(".avif", ".jp2", ".j2k", ".jpx", ".heic", ".heif", ".hif"),
)
HEIC = "HEIC, damaged; fetch it again" if "HEIF" in FORMATS else "HEIC; pip install pi-heif reads it"
UNREAD = (  # formats that no decoder here reads: offset of their magic bytes, these bytes, what to tell
    *((8, brand, HEIC) for brand in (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")),
    *((0, mark, "JPEG XL; convert it") for mark in (b"\xff\x0a", b"\0\0\0\x0cJXL ")),
    (0, b"8BPS", "Photoshop; convert it"),
    (0, b"%PDF", "PDF; convert it"),
    (0, b"v/1\x01", "OpenEXR; convert it"),
    (0, b"II\xbc\x01", "JPEG XR; convert it"),
    (0, b"\0\0\1\0", "icon; convert it"),
    (128, b"DICM", "DICOM; convert it"),
)
N_HEAD = 1000  # first bytes, which tell the format of a file
NO_IMAGE = "unreadable header: no image, or of an unknown kind"
_SWAPS_SIDES = (5, 6, 7, 8)  # orientations that exchange width and height
_TURN = Image.Transpose
_TURNS = {
    2: _TURN.FLIP_LEFT_RIGHT,
    3: _TURN.ROTATE_180,
    4: _TURN.FLIP_TOP_BOTTOM,
    5: _TURN.TRANSPOSE,
    6: _TURN.ROTATE_270,
    7: _TURN.TRANSVERSE,
    8: _TURN.ROTATE_90,
}


def read_image(source: str | Path | bytes, min_short_side: int | None = None) -> np.ndarray:
    """The pixels of an image file.

    Args:
        source: A path, or the file's bytes.
        min_short_side: Large JPEGs may be decoded at half, a quarter or an eighth of their size, as long as their
            shorter side keeps at least this many pixels; None decodes in full.

    Returns:
        uint8 [height, width, 3], RGB, writable.

    Raises:
        ValueError: it cannot be read; the message says why in a few words.
    """
    return np.array(load_image(source, min_short_side)[0])


def read_file(path: str | Path) -> bytes:
    """The bytes of an image's file.

    Raises:
        ValueError: it cannot be read; the message says why in a few words.
    """
    try:
        if is_named_pipe(path):
            raise ValueError("a named pipe")
        return Path(path).read_bytes()
    except OSError as error:
        if is_of_the_machine(error):  # not a fault of the image: it must not be left out
            raise
        raise ValueError(_reason(error)) from error


def load_image(source: str | Path | bytes, min_short_side: int | None = None) -> tuple[Image.Image, tuple[int, int]]:
    """The image, upright and in RGB, and its width and height in full resolution; arguments and errors as in
    `read_image`.

    EXIF rotation is applied, transparency is laid on white, 16-bit grey is scaled (PIL alone would clip it), an
    animation gives its first frame. Other metadata is ignored, however damaged.
    """
    file = source if isinstance(source, bytes) else read_file(source)
    try:
        if kind_of(file) == "TIFF":
            with contextlib.suppress(Exception):  # first without its tags: libtiff prints many warnings about odd ones
                return _decoded(without_metadata(file), file, min_short_side)
        return _decoded(file, file, min_short_side)
    except Image.DecompressionBombError as error:
        raise ValueError(_reason(error)) from error
    except Exception as error:  # damaged files make PIL raise anything, from struct.error to KeyError
        if is_of_the_machine(error):
            raise
        try:
            return _decoded(without_metadata(file), file, min_short_side)
        except Exception as again:
            if is_of_the_machine(again):
                raise
        raise ValueError(_reason(error, file)) from error


def _decoded(file: bytes, original: bytes, min_short_side: int | None) -> tuple[Image.Image, tuple[int, int]]:
    """Decodes `file` and turns it as the metadata in `original` says; `file` may be `original` without metadata."""
    with _open(file) as image:
        size = image.size
        if min_short_side and min(size) > 2 * min_short_side:
            image.draft(None, (min_short_side, min_short_side))
        is_reduced = image.size != size
        image.load()
        orientation = _orientation(image, original)
        rgb = _to_rgb(image)
    upright = rgb.transpose(_TURNS[orientation]) if orientation in _TURNS else rgb
    if not is_reduced:
        return upright, upright.size
    return upright, (size[1], size[0]) if orientation in _SWAPS_SIDES else size


def _orientation(image: Image.Image, file: bytes) -> int:
    """The EXIF orientation that is still to be applied, 1 to 8."""
    if image.format == "TIFF":
        return 1  # PIL has turned it
    found = orientation_of(file)
    # ImageMagick writes EXIF into a PNG as hexadecimal digits.
    if found == 1 and isinstance(text := image.info.get("Raw profile type exif"), str):
        digits = "".join(text.split()[2:])
        found = (
            exif_orientation(bytes.fromhex(digits))
            if len(digits) % 2 == 0 and all(c in "0123456789abcdefABCDEF" for c in digits)
            else 1
        )
    if image.format not in ("JPEG", "MPO", "PNG", "WEBP") and isinstance(exif := image.info.get("exif"), bytes):
        found = exif_orientation(exif)
    return found or 1


def header_problem(path: str | Path) -> str:
    """Why the file at `path` cannot be used as an image, judged by its header alone; '' if no reason is found."""
    try:
        if is_named_pipe(path):
            return "a named pipe"
        with _open(path):
            return ""
    except UnidentifiedImageError as error:
        reason = _reason(error)
    except (OSError, Image.DecompressionBombError) as error:
        if is_of_the_machine(error):
            raise
        return _reason(error)
    except Exception as error:
        if is_of_the_machine(error):
            raise
        reason = _reason(error)
    try:
        with open(path, "rb") as file:
            head = file.read(N_HEAD)
        if unread := _unread(head):
            return f"unreadable header: {unread}"
        if not kind_of(head):  # it is not read in full: it may be an archive of many GB
            return reason
        with _open(without_metadata(Path(path).read_bytes())):
            return ""
    except Exception as error:
        if is_of_the_machine(error):
            raise
        return reason


def is_image(path: str | Path) -> bool:
    """Whether a file holds an image. Its content decides, not its name. Whether it can be decoded is not asked."""
    reason = header_problem(path)
    return (
        not reason
        or reason.startswith("too large")
        or (reason.startswith("unreadable header: ") and reason != NO_IMAGE)
    )


def _unread(file: bytes) -> str:
    """What to tell of a file that begins with these bytes, if its format is not read here (`UNREAD`); '' otherwise."""
    if b"<svg" in file[:N_HEAD]:
        return "SVG; convert it"
    return next(
        (name for at, mark, name in UNREAD if file[at : at + len(mark)] == mark and (at != 8 or file[4:8] == b"ftyp")),
        "",
    )


def _open(source: str | Path | bytes) -> Image.Image:
    n_bytes = len(source) if isinstance(source, bytes) else os.stat(source).st_size
    if n_bytes == 0:
        raise ValueError("zero bytes")
    image = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS)
    width, height = image.size
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and width * height > limit:  # PIL only warns up to twice the limit
        image.close()
        raise Image.DecompressionBombError(f"{width} x {height} pixels, more than {limit}")
    if image.mode == "F":
        image.close()
        raise ValueError("floating-point pixels, whose range is unknown")
    return image


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "I" or image.mode.startswith("I;"):
        return _from_16_bit(np.asarray(image))
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        ground = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        return Image.alpha_composite(ground, layer).convert("RGB")
    return image.convert("RGB")


def _from_16_bit(values: np.ndarray) -> Image.Image:
    values = values.astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError("integer pixels outside 0..65535")
    return Image.fromarray(((values + 128) // 257).astype(np.uint8)).convert("RGB")


def _reason(error: Exception, file: bytes = b"") -> str:
    """The error in a few words, the same on every machine: without memory addresses and absolute paths.

    Args:
        error: What PIL or the operating system raised.
        file: The file's first bytes, where they are known: they tell a format that no decoder here reads.
    """
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return "missing"
    if isinstance(error, UnidentifiedImageError):
        unread = _unread(file[:N_HEAD])
        return f"unreadable header: {unread}" if unread else NO_IMAGE
    if isinstance(error, Image.DecompressionBombError):
        return f"too large: {error}"
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be opened: {error.strerror}"
    return str(error) if str(error) == "zero bytes" else f"cannot be decoded: {str(error) or type(error).__name__}"
