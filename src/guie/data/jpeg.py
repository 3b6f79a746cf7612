"""JPEG files whose coded pixels are kept byte for byte, so that packing does not compress them a second time."""

from __future__ import annotations

import re

from guie.data.metadata import Segment, jpeg_segments, kind_of, orientation_of, without_metadata

FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # markers of a frame; those of tables and an extension are between
KEPT_FRAMES = (0xC0, 0xC1, 0xC2)  # Huffman codes: baseline, extended, progressive; decoders differ on the others
ADOBE, START_OF_SCAN, END_OF_IMAGE = 0xEE, 0xDA, 0xD9
YCBCR = 1  # Adobe's number of the colour transform
# Inside coded pixels 0xFF is followed by 0 (a byte 0xFF of the code) or by a restart marker, D0 to D7.
NEXT_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)


def plain_jpeg(file: bytes) -> bytes:
    """The file without metadata and without what follows the image, if every decoder gives it the same upright pixels.

    Only segments that no pixel depends on are left out, so the code of the pixels stays as it is. A colour profile is
    left out, too, as `load_image` ignores it in every file. That the code is sound is not checked here.

    Returns:
        A JPEG file of 8-bit YCbCr in Huffman code; b'' for a file that is none of these, is turned by its metadata,
        does not end, or may be read as other colours by another decoder.

    Source: ITU-T T.81, annex B; T.872, 6.5.3 (Adobe's segment).
    """
    if kind_of(file) != "JPEG" or orientation_of(file) != 1:
        return b""
    segments = list(jpeg_segments(file))
    if not segments or not _is_ycbcr(file, segments):
        return b""
    end = _end_of_image(file, segments[-1].end)
    return without_metadata(file[:end]) if end else b""


def _is_ycbcr(file: bytes, segments: list[Segment]) -> bool:
    """Whether the one frame has three components of 8 bits, and they are Y, Cb and Cr by every decoder's rule."""
    frames = [segment for segment in segments if segment.name[0] in FRAMES]
    if len(frames) != 1 or frames[0].name[0] not in KEPT_FRAMES:
        return False
    frame = file[frames[0].first : frames[0].last]  # precision, height (2 bytes), width (2), n, 3 bytes a component
    if len(frame) != 15 or frame[0] != 8 or frame[5] != 3:
        return False
    adobe = [file[segment.first : segment.last] for segment in segments if segment.name[0] == ADOBE]
    if any(body.startswith(b"Adobe") and (len(body) < 12 or body[11] != YCBCR) for body in adobe):
        return False
    return tuple(frame[6::3]) == (1, 2, 3)


def _end_of_image(file: bytes, at: int) -> int:
    """The offset behind the end-of-image marker, from a marker's offset `at`; 0 if the image does not end."""
    while file[at : at + 1] == b"\xff" and at + 4 <= len(file):
        marker = file[at + 1]
        if marker < 0xC0 or 0xD0 <= marker <= 0xD8 or marker == 0xFF:
            return 0
        at += 2 + int.from_bytes(file[at + 2 : at + 4], "big")
        if marker != START_OF_SCAN:
            continue
        found = NEXT_MARKER.search(file, at)
        if found is None:
            return 0
        at = found.start()
        if file[at + 1] == END_OF_IMAGE:
            return at + 2
    return 0
