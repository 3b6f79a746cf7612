"""Files whose coded pixels door 03 keeps: found, cleaned, and never one whose pixels another reader sees otherwise."""

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from guie.data.image import read_image
from guie.data.jpeg import plain_jpeg

REAL = Path(__file__).parents[4] / "shared/data"
COLOURS = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
PICTURE = Image.fromarray(COLOURS).resize((70, 50), Image.Resampling.BICUBIC)


def saved(image: Image.Image = PICTURE, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **options)
    return buffer.getvalue()


def segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + (len(body) + 2).to_bytes(2, "big") + body


def with_segment(file: bytes, marker: int, body: bytes) -> bytes:
    """`file` with a segment before all of its others."""
    return file[:2] + segment(marker, body) + file[2:]


def frame_at(file: bytes, marker: int = 0xC0) -> int:
    """The offset of the frame's first byte: its precision."""
    return file.index(bytes([0xFF, marker, 0, 17])) + 4


def edited(file: bytes, at: int, value: int) -> bytes:
    return file[:at] + bytes([value]) + file[at + 1 :]


@pytest.mark.parametrize(
    "options",
    [
        {"quality": 30},
        {"quality": 100, "subsampling": 0},
        {"subsampling": 1},
        {"progressive": True},
        {"optimize": True},
        {"restart_marker_blocks": 1},
        {"streamtype": 0},
    ],
    ids=str,
)
def test_plain_file_is_kept_byte_for_byte(options):
    file = saved(**options)
    assert plain_jpeg(file) == file


def test_file_of_opencv_is_kept_byte_for_byte():
    file = cv2.imencode(".jpg", np.asarray(PICTURE))[1].tobytes()
    assert plain_jpeg(file) == file


def test_metadata_is_left_out_and_the_rest_is_the_file_without_it():
    plain = saved()
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 1, "a camera" * 4000
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()  # not sRGB
    file = saved(exif=exif, icc_profile=profile * 200, comment=b"a comment", xmp=b"<x/>")
    assert len(file) > len(plain) + 100_000
    assert plain_jpeg(file) == plain
    assert plain_jpeg(plain + b"a film, as some telephones append it" * 99) == plain


def test_second_picture_of_a_file_is_cut_off():
    buffer = io.BytesIO()
    PICTURE.save(buffer, "MPO", save_all=True, append_images=[PICTURE.rotate(180)])
    kept = plain_jpeg(buffer.getvalue())
    with Image.open(io.BytesIO(kept)) as image:
        assert (image.format, getattr(image, "n_frames", 1)) == ("JPEG", 1)
    np.testing.assert_array_equal(read_image(kept), read_image(buffer.getvalue()))
    assert len(kept) < len(buffer.getvalue()) * 0.6


@pytest.mark.parametrize("orientation", range(2, 9))
def test_turned_file_is_not_kept(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = saved(exif=exif)
    assert plain_jpeg(file) == b""
    np.testing.assert_array_equal(read_image(file), np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(file)))))


def not_kept() -> dict[str, bytes]:
    file, progressive = saved(), saved(progressive=True)
    at = frame_at(file)
    return {
        "png": b"\x89PNG\r\n\x1a\n" + file,
        "nothing": b"",
        "grey": saved(PICTURE.convert("L")),
        "cmyk": saved(PICTURE.convert("CMYK")),
        "rgb, not YCbCr": saved(keep_rgb=True),
        "adobe's rgb": with_segment(file, 0xEE, b"Adobe\0\x64\0\0\0\0\0"),
        "adobe, cut": with_segment(file, 0xEE, b"Adobe\0\x64"),
        "components 0, 1, 2": edited(edited(edited(file, at + 6, 0), at + 9, 1), at + 12, 2),
        "12 bits": edited(file, at, 12),
        "arithmetic code": edited(file, at - 3, 0xC9),
        "lossless": edited(file, at - 3, 0xC3),
        "two frames": file.replace(segment(0xC0, file[at : at + 15]), 2 * segment(0xC0, file[at : at + 15])),
        "no end": file[:-2],
        "cut": file[: len(file) // 2],
        "cut in a later scan": progressive[:-40],
        "head only": file[:100],
        "no scan": file[: file.index(b"\xff\xda")],
        "damaged code": file[:-40] + b"\xff\x02\0\0" + file[-36:],
    }


@pytest.mark.parametrize("what", not_kept())
def test_file_that_others_may_read_otherwise_is_not_kept(what):
    assert plain_jpeg(not_kept()[what]) == b""


def test_adobe_s_ycbcr_is_kept():
    file = with_segment(saved(), 0xEE, b"Adobe\0\x64\0\0\0\0\1")
    assert plain_jpeg(file) == file


@pytest.mark.skipif(not REAL.is_dir(), reason="needs the images of ../shared/data")
def test_real_photos_are_kept_and_two_readers_see_the_raw_file_s_pixels():
    paths = sorted(path for path in REAL.rglob("*.jpg"))[::131]
    n_kept = 0
    for path in paths:
        file = path.read_bytes()
        kept = plain_jpeg(file)
        n_kept += bool(kept)
        if kept:
            np.testing.assert_array_equal(read_image(kept), np.asarray(Image.open(path)))
            np.testing.assert_array_equal(
                cv2.imdecode(np.frombuffer(kept, np.uint8), cv2.IMREAD_COLOR),
                cv2.imread(str(path), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION),
            )
    assert len(paths) > 40 and n_kept > 0.9 * len(paths)
