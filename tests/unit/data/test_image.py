"""Reading one image: every trap that image files in the wild hold."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from guie.data.image import header_problem, load_image, read_image

RED, BLUE = (255, 0, 0), (0, 0, 255)


def _pixels(height: int = 6, width: int = 4, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def _encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_read_image_from_path_and_from_bytes(tmp_path: Path) -> None:
    pixels = _pixels()
    path = tmp_path / "a.png"
    Image.fromarray(pixels).save(path)
    for source in (path, str(path), path.read_bytes()):
        result = read_image(source)
        assert result.dtype == np.uint8 and result.flags.writeable
        np.testing.assert_array_equal(result, pixels)


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, lambda a: a),
        (2, lambda a: a[:, ::-1]),
        (3, lambda a: a[::-1, ::-1]),
        (4, lambda a: a[::-1]),
        (5, lambda a: a.transpose(1, 0, 2)),
        (6, lambda a: np.rot90(a, -1)),
        (7, lambda a: a[::-1, ::-1].transpose(1, 0, 2)),
        (8, lambda a: np.rot90(a, 1)),
    ],
)
def test_read_image_turned_by_exif(orientation: int, upright) -> None:
    pixels, exif = _pixels(), Image.Exif()
    exif[0x0112] = orientation
    expected = upright(pixels)
    np.testing.assert_array_equal(read_image(_encoded(Image.fromarray(pixels), "PNG", exif=exif)), expected)
    image, size = load_image(_encoded(Image.fromarray(pixels), "JPEG", exif=exif))
    assert image.size == size == (expected.shape[1], expected.shape[0])


def test_read_image_with_alpha_is_laid_on_white() -> None:
    image = Image.new("RGBA", (3, 1))
    image.putdata([(255, 0, 0, 255), (255, 0, 0, 128), (0, 0, 0, 0)])
    # 0 * 128/255 + 255 * 127/255 = 127
    np.testing.assert_array_equal(
        read_image(_encoded(image, "PNG"))[0], [[255, 0, 0], [255, 127, 127], [255, 255, 255]]
    )


def test_read_image_with_grey_and_alpha_is_laid_on_white() -> None:
    image = Image.new("LA", (2, 1))
    image.putdata([(40, 255), (40, 0)])
    np.testing.assert_array_equal(read_image(_encoded(image, "PNG"))[0], [[40] * 3, [255] * 3])


def test_read_image_with_palette_and_transparency() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([*RED, *BLUE])
    image.putdata([0, 1])
    np.testing.assert_array_equal(read_image(_encoded(image, "PNG"))[0], [RED, BLUE])
    np.testing.assert_array_equal(read_image(_encoded(image, "PNG", transparency=0))[0], [(255, 255, 255), BLUE])


@pytest.mark.parametrize(
    ("ink", "rgb"), [((0, 0, 0, 0), (255, 255, 255)), ((0, 255, 255, 0), RED), ((0, 0, 0, 255), (0, 0, 0))]
)
def test_read_image_in_cmyk(ink: tuple[int, ...], rgb: tuple[int, ...]) -> None:
    result = read_image(_encoded(Image.new("CMYK", (8, 8), ink), "JPEG", quality=100))
    np.testing.assert_allclose(result[4, 4].astype(int), rgb, atol=4)


def test_read_image_in_16_bit_grey_is_scaled_not_clipped() -> None:
    values = np.array([[0, 257 * 100, 65535, 1000]], dtype=np.uint16)
    for kind in ("PNG", "TIFF"):
        np.testing.assert_array_equal(read_image(_encoded(Image.fromarray(values), kind))[0, :, 1], [0, 100, 255, 4])


def test_read_image_in_grey_and_black_and_white() -> None:
    assert read_image(_encoded(Image.new("L", (2, 2), 77), "PNG")).tolist() == [[[77] * 3] * 2] * 2
    assert read_image(_encoded(Image.new("1", (1, 1), 1), "PNG")).tolist() == [[[255] * 3]]


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_read_image_of_animation_is_its_first_frame(kind: str) -> None:
    first, second = Image.new("RGB", (8, 8), RED), Image.new("RGB", (8, 8), BLUE)
    data = _encoded(
        first, kind, save_all=True, append_images=[second], **({"lossless": True} if kind == "WEBP" else {})
    )
    with Image.open(io.BytesIO(data)) as image:
        assert image.n_frames == 2
    np.testing.assert_array_equal(read_image(data), np.array(first))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_read_image_truncated_is_refused(kind: str) -> None:
    data = _encoded(Image.fromarray(_pixels(64, 64)), kind)
    with pytest.raises(ValueError, match=r"cannot be decoded|unreadable header"):
        read_image(data[: len(data) // 2])


def test_read_image_of_huge_dimensions_is_refused_before_decoding(tmp_path: Path) -> None:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    for side in (10_000, 100_000):  # PIL alone warns at the first, and raises at the second
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
        path = tmp_path / f"{side}.png"
        path.write_bytes(
            b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
        )
        with (
            pytest.warns(Image.DecompressionBombWarning) if side == 10_000 else _nothing(),
            pytest.raises(ValueError, match="too large"),
        ):
            read_image(path)
    assert header_problem(path).startswith("too large")


class _nothing:  # noqa: N801
    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> None: ...


def test_header_problem_of_files_that_are_no_images(tmp_path: Path) -> None:
    for name, data, reason in (
        ("zero.jpg", b"", "zero bytes"),
        ("text.jpg", b"<html>404 not found</html>", "unreadable header: no image, or of an unknown kind"),
        (
            "script.eps",
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
            "unreadable header: no image, or of an unknown kind",
        ),
    ):
        (tmp_path / name).write_bytes(data)
        assert header_problem(tmp_path / name) == reason
        with pytest.raises(ValueError, match=reason):
            read_image(tmp_path / name)
    assert header_problem(tmp_path / "absent.jpg") == "missing"
    assert header_problem(tmp_path / "zero.jpg" / "below.jpg") == "missing"
    (tmp_path / "good.jpg").write_bytes(_encoded(Image.new("RGB", (2, 2)), "JPEG"))
    assert header_problem(tmp_path / "good.jpg") == ""


@pytest.mark.parametrize(
    ("min_short_side", "short_side"),
    [(None, 800), (401, 800), (400, 800), (399, 400), (201, 400), (200, 200), (199, 200), (90, 100)],
)
def test_load_image_reduces_large_jpegs_but_never_below_the_target(min_short_side: int | None, short_side: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    gradient = np.linspace(0, 255, 1000).astype(np.uint8)[None, :, None].repeat(800, 0).repeat(3, 2)
    for options, size in (({}, (1000, 800)), ({"exif": exif}, (800, 1000))):
        image, original_size = load_image(_encoded(Image.fromarray(gradient), "JPEG", **options), min_short_side)
        assert original_size == size
        assert min(image.size) == short_side
        assert (image.width > image.height) == (size[0] > size[1])


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")
def test_read_image_of_mutated_bytes_gives_pixels_or_valueerror() -> None:
    rng = np.random.default_rng(0)
    n_read = n_refused = 0
    for kind in ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF"):
        whole = np.frombuffer(_encoded(Image.fromarray(_pixels(16, 16)), kind), dtype=np.uint8)
        for _ in range(150):
            data = whole.copy()
            data[rng.integers(0, min(len(data), 200), 4)] = rng.integers(0, 256, 4)
            try:
                result = read_image(data.tobytes())
                assert result.ndim == 3 and result.shape[2] == 3
                n_read += 1
            except ValueError:
                n_refused += 1
    assert n_read > 50 and n_refused > 50
