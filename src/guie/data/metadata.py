"""Metadata of image files: the orientation is read from it, all else is ignored, damaged or not.

PIL decodes tags, profiles, texts and extensions while it opens a file. One odd value among them may raise an error
although all pixels are sound. Such a file is opened again without them: `without_metadata` keeps only the parts that
the pixels depend on.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

EXIF_HEADS = (b"Exif\0\0", b"Exif\0\xff")
XMP_ORIENTATION = re.compile(rb"tiff:Orientation(?:=[\"']|>)\s*([1-8])\b")
ORIENTATION = 0x0112
INTEGERS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i"}  # the types of TIFF tags that may hold an orientation
PNG_PIXELS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
WEBP_PIXELS = (b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF")
WEBP_METADATA_FLAGS = 0x20 | 0x08 | 0x04  # ICC, EXIF, XMP
TIFF_PIXELS = {
    254,
    *range(256, 260),
    262,
    266,
    273,
    *range(277, 280),
    284,
    292,
    293,
    317,
    320,
    *range(322, 326),
    332,
    338,
    339,
    347,
}
TIFF_PIXELS |= {*range(512, 516), *range(517, 522), *range(529, 533)}  # JPEG inside, YCbCr


class Segment(NamedTuple):
    """A piece of a file: its name, its bytes [start, end), and its content, the bytes [first, last)."""

    name: bytes
    start: int
    end: int
    first: int
    last: int


def orientation_of(file: bytes) -> int:
    """The orientation of a JPEG, PNG or WebP file, 1 to 8; 1 if it states none or an invalid one.

    EXIF takes precedence over XMP. Only EXIF's first directory counts: the others describe thumbnails.
    """
    kind, exif, xmp = kind_of(file), b"", b""
    for segment in _segments(file):
        body = file[segment.first : segment.last]
        is_exif = (kind == "PNG" and segment.name == b"eXIf") or (kind == "WEBP" and segment.name == b"EXIF")
        if not exif and (is_exif or (segment.name == b"\xe1" and body.startswith(EXIF_HEADS))):
            exif = body
        elif segment.name in (b"\xe1", b"XMP ", b"iTXt") and b"Orientation" in body:
            xmp = xmp or body
    found = exif_orientation(exif)
    if not found and (text := XMP_ORIENTATION.search(xmp)):
        found = int(text[1])
    return found or 1


def exif_orientation(exif: bytes) -> int:
    """The orientation in an EXIF block, 1 to 8, or 0 if it has none. The block may be truncated or damaged after it."""
    while exif.startswith(EXIF_HEADS):
        exif = exif[6:]
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None or len(exif) < 10:
        return 0
    (at,) = struct.unpack_from(f"{order}I", exif, 4)
    for tag, kind, count, value in _entries(exif, at, order):
        if tag == ORIENTATION and (number := _orientation(kind, count, value, order)):
            return number
    return 0


def _orientation(kind: int, count: int, value: bytes, order: str) -> int:
    """The value of an orientation tag, 1 to 8, or 0 if it is invalid."""
    if kind not in INTEGERS or not count:
        return 0
    number = int(struct.unpack_from(order + INTEGERS[kind], value)[0])
    return number if 1 <= number <= 8 else 0


def without_metadata(file: bytes) -> bytes:
    """The file with only the parts that its pixels depend on; unchanged if its layout is unknown or damaged."""
    kind = kind_of(file)
    if kind == "TIFF":
        return _tiff_pixels(file)
    if kind == "GIF":
        return _gif_first_frame(file)
    if kind == "ISO":  # AVIF, HEIF: the item stays, but is no longer called Exif
        return re.sub(rb"(infe(?:\x02.{7}|\x03.{9}))Exif", rb"\1skip", file, flags=re.DOTALL)
    segments = list(_segments(file))
    if not segments:
        return file
    kept = b"".join(_kept(file, kind, segment) for segment in segments)
    if kind == "WEBP":
        return b"RIFF" + struct.pack("<I", len(kept) + 4) + b"WEBP" + kept
    return file[: segments[0].start] + kept + (file[segments[-1].end :] if kind == "JPEG" else b"")


def kind_of(file: bytes) -> str:
    """JPEG, PNG, WEBP, GIF, TIFF, ISO (AVIF, HEIF), or ''."""
    heads = {b"\xff\xd8\xff": "JPEG", b"\x89PNG\r\n\x1a\n": "PNG", b"GIF8": "GIF", b"II*\0": "TIFF", b"MM\0*": "TIFF"}
    for head, kind in heads.items():
        if file.startswith(head):
            return kind
    if file[:4] == b"RIFF" and file[8:12] == b"WEBP":
        return "WEBP"
    return "ISO" if file[4:8] == b"ftyp" else ""


def _segments(file: bytes) -> Iterator[Segment]:
    walk = {"JPEG": jpeg_segments, "PNG": _png_segments, "WEBP": _webp_segments}.get(kind_of(file))
    return walk(file) if walk else iter(())


def jpeg_segments(file: bytes) -> Iterator[Segment]:
    """The segments before the first scan."""
    at = 2
    while at + 4 <= len(file) and file[at] == 0xFF:
        marker = file[at + 1]
        if marker == 0xFF:  # padding
            at += 1
            continue
        if marker in (0x00, 0x01, 0xDA) or 0xD0 <= marker <= 0xD9:
            return
        end = at + 2 + int.from_bytes(file[at + 2 : at + 4], "big")
        if end < at + 4 or end > len(file):
            return
        yield Segment(bytes([marker]), at, end, at + 4, end)
        at = end


def _png_segments(file: bytes) -> Iterator[Segment]:
    at = 8
    while at + 12 <= len(file):
        size, name = int.from_bytes(file[at : at + 4], "big"), file[at + 4 : at + 8]
        end = at + 12 + size
        if end > len(file):
            if name in PNG_PIXELS:  # truncated: kept, so that PIL reports it
                yield Segment(name, at, len(file), at + 8, len(file))
            return
        yield Segment(name, at, end, at + 8, at + 8 + size)
        if name == b"IEND":
            return
        at = end


def _webp_segments(file: bytes) -> Iterator[Segment]:
    at = 12
    while at + 8 <= len(file):
        size = int.from_bytes(file[at + 4 : at + 8], "little")
        end = at + 8 + size
        if end > len(file):
            if file[at : at + 4] in WEBP_PIXELS:
                yield Segment(file[at : at + 4], at, len(file), at + 8, len(file))
            return
        yield Segment(file[at : at + 4], at, min(end + size % 2, len(file)), at + 8, end)
        at = end + size % 2


def _kept(file: bytes, kind: str, segment: Segment) -> bytes:
    """The bytes of the segment, or b'' if no pixel depends on it."""
    whole, body = file[segment.start : segment.end], file[segment.first : segment.last]
    if kind == "PNG":
        return whole if segment.name in PNG_PIXELS else b""
    if kind == "WEBP":
        if segment.name == b"VP8X" and body:
            return whole[:8] + bytes([whole[8] & ~WEBP_METADATA_FLAGS]) + whole[9:]
        return whole if segment.name in WEBP_PIXELS else b""
    marker = segment.name[0]
    if marker == 0xE0:
        return whole if body.startswith(b"JFIF\0") and len(body) >= 14 else b""
    if marker == 0xEE:  # says how the colours are stored
        return whole if body.startswith(b"Adobe") and len(body) >= 12 else b""
    return b"" if 0xE0 <= marker <= 0xEF or marker == 0xFE else whole


def _entries(file: bytes, at: int, order: str) -> Iterator[tuple[int, int, int, bytes]]:
    """Tag, type, count and the four bytes of the value (or of its offset) of each entry of a directory; it may be
    truncated."""
    if at + 2 > len(file):
        return
    (n,) = struct.unpack_from(f"{order}H", file, at)
    for place in range(at + 2, min(at + 2 + 12 * n, len(file) - 11), 12):
        tag, kind, count = struct.unpack_from(f"{order}HHI", file, place)
        yield tag, kind, count, file[place + 8 : place + 12]


def _tiff_pixels(file: bytes) -> bytes:
    """The TIFF file with only one directory, at its old offset, that holds the pixels' tags and a valid orientation."""
    order = "<" if file[:1] == b"I" else ">"
    if len(file) < 8:
        return file
    (at,) = struct.unpack_from(f"{order}I", file, 4)
    kept = []
    for tag, kind, count, value in _entries(file, at, order):
        if tag in TIFF_PIXELS:
            kept.append(struct.pack(f"{order}HHI", tag, kind, count) + value)
        elif tag == ORIENTATION and (number := _orientation(kind, count, value, order)):
            kept.append(struct.pack(f"{order}HHIHH", tag, 3, 1, number, 0))
    directory = struct.pack(f"{order}H", len(kept)) + b"".join(kept) + bytes(4)
    return file[:at] + directory + file[at + len(directory) :] if kept else file


def _gif_first_frame(file: bytes) -> bytes:
    """The GIF file with only its first frame and that frame's control block."""
    if len(file) < 13:
        return file
    at = 13 + (3 << (file[10] & 7) + 1 if file[10] & 0x80 else 0)
    head, control = file[:at], b""
    while at + 10 <= len(file):
        if file[at] == 0x2C:
            data = at + 10 + (3 << (file[at + 9] & 7) + 1 if file[at + 9] & 0x80 else 0) + 1
            return head + control + file[at : _after_blocks(file, data)] + b"\x3b"
        if file[at] != 0x21:
            return file
        end = _after_blocks(file, at + 2)
        if file[at + 1] == 0xF9 and file[at + 2] == 4:
            control = file[at:end]
        at = end
    return file


def _after_blocks(file: bytes, at: int) -> int:
    """The offset behind a chain of length-prefixed blocks that begins at `at`."""
    while at < len(file) and file[at]:
        at += 1 + file[at]
    return min(at + 1, len(file))
