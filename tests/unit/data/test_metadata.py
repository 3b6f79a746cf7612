"""Metadata by the thousand, odd and damaged, on sound pixels: no image is lost, none is changed, and only the
orientation counts."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from guie.data.image import header_problem, load_image, read_image
from guie.data.metadata import exif_orientation, orientation_of, without_metadata

pytestmark = pytest.mark.filterwarnings("ignore")
PIXELS = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3) * 14
# The six pixels a b c / d e f as a viewer must show them, by hand from the EXIF standard (2.32, table of tag 274: where
# row 0 and column 0 are).
SHOWN = {
    1: ("abc", "def"),
    2: ("cba", "fed"),
    3: ("fed", "cba"),
    4: ("def", "abc"),
    5: ("ad", "be", "cf"),
    6: ("da", "eb", "fc"),
    7: ("fc", "eb", "da"),
    8: ("cf", "be", "ad"),
}
KNOWN_TAGS = (
    256,
    259,
    271,
    282,
    283,
    296,
    306,
    315,
    330,
    513,
    514,
    700,
    33432,
    33723,
    34377,
    34665,
    34675,
    34853,
    36864,
    37500,
    37510,
    40960,
    40965,
    50341,
)


def shown(orientation: int) -> np.ndarray:
    colour = dict(zip("abcdef", PIXELS.reshape(6, 3), strict=True))
    return np.array([[colour[letter] for letter in row] for row in SHOWN[orientation]])


def encoded(kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image = Image.fromarray(np.kron(PIXELS, np.ones((8, 8, 1), np.uint8)) if kind in ("JPEG", "GIF") else PIXELS)
    image.save(
        buffer,
        kind,
        **({"quality": 100, "subsampling": 0} if kind == "JPEG" else {"lossless": True} if kind == "WEBP" else {}),
        **options,
    )
    return buffer.getvalue()


def tag(number: int, kind: int, count: int, value: bytes, order: str = "<") -> bytes:
    return struct.pack(f"{order}HHI", number, kind, count) + value.ljust(4, b"\0")[:4]


def exif(*tags: bytes, order: str = "<", after: bytes = bytes(4)) -> bytes:
    return (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(tags)) + b"".join(tags) + after


def random_tags(rng: np.random.Generator, order: str, base: int = 0) -> list[bytes]:
    """Up to eight tags of any number, type, count and value, none of which is the orientation."""
    tags = []
    for _ in range(rng.integers(1, 9)):
        number = int(rng.choice(KNOWN_TAGS)) if rng.random() < 0.7 else int(rng.integers(0, 65536))
        count = int(rng.choice([0, 1, 1, 2, 4, 9, 300, 2**31, 2**32 - 1]))
        value = struct.pack(f"{order}I", int(rng.integers(0, 200))) if rng.random() < 0.6 else rng.bytes(4)
        tags.append(tag(number if number != 274 else 271, int(rng.integers(0, 15)), count, value, order))
    return tags


def random_exif(rng: np.random.Generator) -> tuple[bytes, int]:
    """An EXIF block, maybe cut off after the orientation, and the orientation that it states."""
    order = "<" if rng.random() < 0.5 else ">"
    orientation = int(rng.integers(0, 10))
    stated = [tag(274, 3, 1, struct.pack(f"{order}H", orientation), order)] if orientation else []
    tags = random_tags(rng, order)
    place = int(rng.integers(0, len(tags) + 1))
    block = exif(*tags[:place], *stated, *tags[place:], order=order, after=rng.bytes(int(rng.integers(0, 80))))
    if rng.random() < 0.3:
        least = 10 + 12 * (place + 1)
        block = block[: int(rng.integers(least, max(least + 1, len(block) + 1)))]
    return block, orientation if 1 <= orientation <= 8 else 1


def png_chunk(name: bytes, body: bytes, crc: int | None = None) -> bytes:
    return (
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body) if crc is None else crc)
    )


def with_chunk(png: bytes, chunk: bytes, before: bytes = b"IDAT") -> bytes:
    at = png.index(before) - 4
    return png[:at] + chunk + png[at:]


def with_segment(jpeg: bytes, marker: int, body: bytes) -> bytes:
    return jpeg[:2] + bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body + jpeg[2:]


def with_riff(webp: bytes, name: bytes, body: bytes) -> bytes:
    """A lossless WebP file in its extended form with one more chunk at the end."""
    flags = {b"EXIF": 0x08, b"XMP ": 0x04, b"ICCP": 0x20}.get(name, 0)
    extended = b"VP8X" + struct.pack("<IB", 10, flags) + bytes(3) + struct.pack("<I", 2)[:3] + struct.pack("<I", 1)[:3]
    more = name + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)
    chunks = extended + (more + webp[12:] if name == b"ICCP" else webp[12:] + more)
    return b"RIFF" + struct.pack("<I", len(chunks) + 4) + b"WEBP" + chunks


PLAIN = {kind: encoded(kind) for kind in ("JPEG", "PNG", "WEBP", "GIF")}
EXIF_INTO: dict[str, Callable[[bytes], bytes]] = {
    "JPEG": lambda block: with_segment(PLAIN["JPEG"], 0xE1, b"Exif\0\0" + block),
    "PNG": lambda block: with_chunk(PLAIN["PNG"], png_chunk(b"eXIf", block)),
    "PNG, after the pixels": lambda block: with_chunk(PLAIN["PNG"], png_chunk(b"eXIf", block), b"IEND"),
    "WEBP": lambda block: with_riff(PLAIN["WEBP"], b"EXIF", block),
}


def letters_of(pixels: np.ndarray) -> np.ndarray:
    """One pixel for each letter, from an image with 8 x 8 pixels a letter."""
    return pixels[4::8, 4::8] if min(pixels.shape[:2]) > 8 else pixels


@pytest.mark.parametrize("kind", EXIF_INTO)
def test_random_tags_neither_lose_nor_change_an_image(kind: str):
    rng = np.random.default_rng(13)
    for _ in range(1500):
        block, orientation = random_exif(rng)
        pixels = letters_of(read_image(EXIF_INTO[kind](block)))
        np.testing.assert_allclose(pixels.astype(int), shown(orientation), atol=3 if kind == "JPEG" else 0)


@pytest.mark.parametrize("kind", EXIF_INTO)
def test_noise_for_tags_does_not_lose_an_image(kind: str):
    """Without any layout; orientations by chance do not occur in these 400."""
    rng = np.random.default_rng(7)
    for _ in range(400):
        head = b"" if rng.random() < 0.5 else exif()[:8]
        pixels = letters_of(read_image(EXIF_INTO[kind](head + rng.bytes(int(rng.integers(0, 60))))))
        np.testing.assert_allclose(pixels.astype(int), shown(1), atol=3 if kind == "JPEG" else 0)


def tiff(rng: np.random.Generator, orientation: int, compression: str) -> bytes:
    """A TIFF file with random tags among those of its pixels."""
    plain = io.BytesIO()
    Image.fromarray(PIXELS).save(plain, "TIFF", compression=compression)
    file = plain.getvalue()
    (at,) = struct.unpack_from("<I", file, 4)
    (n,) = struct.unpack_from("<H", file, at)
    own = [file[at + 2 + 12 * i : at + 14 + 12 * i] for i in range(n)]
    used = {struct.unpack_from("<H", entry)[0] for entry in own} | {274}
    odd = {struct.unpack_from("<H", entry)[0]: entry for entry in random_tags(rng, "<")}
    tags = own + [entry for number, entry in odd.items() if number not in used | {513, 514}]
    if orientation:
        tags.append(tag(274, 3, 1, struct.pack("<H", orientation)))
    tags.sort(key=lambda entry: struct.unpack_from("<H", entry)[0])
    return (
        file[:4]
        + struct.pack("<I", len(file))
        + file[8:]
        + struct.pack("<H", len(tags))
        + b"".join(tags)
        + bytes(4)
        + rng.bytes(100)
    )


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
def test_random_tags_in_a_tiff_neither_lose_nor_change_it(compression: str):
    rng = np.random.default_rng(3)
    for _ in range(600):
        orientation = int(rng.integers(0, 9))
        np.testing.assert_array_equal(read_image(tiff(rng, orientation, compression)), shown(orientation or 1))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("order", ["<", ">"])
def test_eight_orientations_by_hand(orientation: int, order: str):
    block = exif(
        tag(271, 2, 4, b"ab\0\0", order), tag(274, 3, 1, struct.pack(f"{order}H", orientation), order), order=order
    )
    for kind, into in EXIF_INTO.items():
        np.testing.assert_allclose(
            letters_of(read_image(into(block))).astype(int), shown(orientation), atol=3 if kind == "JPEG" else 0
        )
    image, size = load_image(EXIF_INTO["JPEG"](block), 4)
    assert size == ((24, 16) if orientation < 5 else (16, 24)) and image.size < size


def test_orientation_that_does_not_exist_or_has_another_type():
    def of(number: int, kind: int = 3, count: int = 1, order: str = "<") -> int:
        return exif_orientation(
            exif(
                tag(274, kind, count, struct.pack(f"{order}{'H' if kind in (3, 8) else 'I'}", number), order),
                order=order,
            )
        )

    assert [of(number) for number in (0, 1, 8, 9, 65535)] == [0, 1, 8, 0, 0]
    assert [of(6, kind, order=order) for kind in (1, 3, 4, 8, 9) for order in "<"] == [6] * 5
    assert [of(6, kind, order=">") for kind in (3, 4, 8, 9)] == [6] * 4
    assert [of(6, kind) for kind in (0, 2, 5, 7, 10, 11, 12, 13, 14, 999)] == [0] * 10
    assert of(6, count=0) == 0
    first = exif(tag(274, 2, 1, b"6\0"), tag(274, 3, 1, b"\x06\0"))
    assert exif_orientation(first) == 6
    thumbnail = exif(
        tag(271, 2, 1, b"x"), after=struct.pack("<I", 26) + struct.pack("<H", 1) + tag(274, 3, 1, b"\x06\0") + bytes(4)
    )
    assert exif_orientation(thumbnail) == 0, "the second directory is the thumbnail's"
    whole = exif(tag(271, 2, 1, b"x"), tag(274, 3, 1, b"\x06\0"))
    assert [exif_orientation(whole[:n]) for n in range(len(whole) - 4)] == [0] * (len(whole) - 4) and exif_orientation(
        whole[:-4]
    ) == 6


def test_xmp_turns_only_where_exif_does_not():
    packet = b'http://ns.adobe.com/xap/1.0/\0<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    jpeg = with_segment(PLAIN["JPEG"], 0xE1, packet)
    assert orientation_of(jpeg) == 6 and read_image(jpeg).shape == (24, 16, 3)
    both = with_segment(jpeg, 0xE1, b"Exif\0\0" + exif(tag(274, 3, 1, b"\x01\0")))
    assert orientation_of(both) == 1 and read_image(both).shape == (16, 24, 3)
    element = with_riff(PLAIN["WEBP"], b"XMP ", b"<tiff:Orientation>8</tiff:Orientation>")
    np.testing.assert_array_equal(read_image(element), shown(8))


BIG_TEXT = zlib.compress(b"x" * 80_000_000, 9)
ODD_CHUNKS = {
    "profile that does not unpack": png_chunk(b"iCCP", b"name\0\0" + b"no zlib"),
    "profile of another method": png_chunk(b"iCCP", b"name\0\x07" + b"??"),
    "profile without end of name": png_chunk(b"iCCP", b"name"),
    "short gamma": png_chunk(b"gAMA", b"\0"),
    "short chromaticity": png_chunk(b"cHRM", b"\0\1\2"),
    "empty sRGB": png_chunk(b"sRGB", b""),
    "short density": png_chunk(b"pHYs", b"\0\0"),
    "text without end of key": png_chunk(b"tEXt", b"\xff\xfe"),
    "text that does not unpack": png_chunk(b"zTXt", b"key\0\0garbage"),
    "text of another method": png_chunk(b"zTXt", b"key\0\x09garbage"),
    "text that unpacks to 80 MB": png_chunk(b"zTXt", b"key\0\0" + BIG_TEXT),
    "international text, cut off": png_chunk(b"iTXt", b"key\0\1\0"),
    "international text that unpacks to 80 MB": png_chunk(b"iTXt", b"key\0\1\0en\0key\0" + BIG_TEXT),
    "wrong checksum": png_chunk(b"tEXt", b"key\0value", crc=7),
    "tags with a wrong checksum": png_chunk(b"eXIf", exif(tag(271, 2, 4, b"abc")), crc=7),
    "animation without frames": png_chunk(b"acTL", b"\0"),
    "unknown chunk": png_chunk(b"zzZz", b"\0" * 50, crc=1),
    "many megabytes of text": b"".join(png_chunk(b"tEXt", b"k%d\0" % i + b"v" * 900_000) for i in range(75)),
}


@pytest.mark.parametrize("name", ODD_CHUNKS)
@pytest.mark.parametrize("before", [b"IDAT", b"IEND"])
def test_odd_chunks_of_a_png_do_not_lose_it(name: str, before: bytes, tmp_path: Path):
    file = with_chunk(PLAIN["PNG"], ODD_CHUNKS[name], before)
    np.testing.assert_array_equal(read_image(file), PIXELS)
    (tmp_path / "a.png").write_bytes(file)
    assert header_problem(tmp_path / "a.png") == ""


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "JPEG", "TIFF"])
def test_damaged_colour_profile_is_passed_over(kind: str):
    for profile in (b"", b"\0" * 200, b"acsp" * 40):
        file = encoded(kind, icc_profile=profile)
        np.testing.assert_allclose(letters_of(read_image(file)).astype(int), PIXELS, atol=3 if kind == "JPEG" else 0)


def test_any_application_segment_or_comment_of_a_jpeg_is_passed_over():
    rng = np.random.default_rng(5)
    heads = (
        b"",
        b"JFIF\0",
        b"Exif\0\0",
        b"Exif\0\xff",
        b"ICC_PROFILE\0",
        b"MPF\0",
        b"Photoshop 3.0\0",
        b"Adobe",
        b"FPXR\0",
        b"http://ns.adobe.com/xap/1.0/\0",
    )
    for _ in range(1500):
        marker = int(rng.choice([*range(0xE0, 0xF0), 0xFE]))
        head = heads[rng.integers(len(heads))]
        body = head + rng.bytes(
            int(rng.integers(0, 7 if head in (b"Adobe", b"JFIF\0") else 90))
        )  # a whole Adobe segment would be no metadata
        np.testing.assert_allclose(
            letters_of(read_image(with_segment(PLAIN["JPEG"], marker, body))).astype(int), PIXELS, atol=3
        )


def test_jpeg_keeps_what_says_how_its_colours_are_stored():
    buffer = io.BytesIO()
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(buffer, "JPEG", quality=100)
    file = buffer.getvalue()
    assert b"Adobe" in file
    for odd in (
        file,
        with_segment(
            file, 0xE1, b"Exif\0\0" + exif(tag(34665, 4, 1, b"\xff\xff\0\0"), tag(282, 5, 1, b"\xff\xff\xff\xff"))
        ),
    ):
        for again in (odd, without_metadata(odd)):
            np.testing.assert_allclose(read_image(again)[8, 8].astype(int), (255, 0, 0), atol=4)


def test_extensions_of_a_gif_do_not_lose_it():
    sound = read_image(PLAIN["GIF"])
    at = 13 + (3 << (PLAIN["GIF"][10] & 7) + 1 if PLAIN["GIF"][10] & 0x80 else 0)
    for extension in (
        b"\x21\xf9\x01\x00\x00",
        b"\x21\xf9\x02ab\x00",
        b"\x21\xff\x0bNETSCAPE2.0\x01\x01\x00",
        b"\x21\xff\x03abc\x00",
        b"\x21\xfe\x02\xff\xfe\x00",
        b"\x21\x33\x00",
    ):
        np.testing.assert_array_equal(read_image(PLAIN["GIF"][:at] + extension + PLAIN["GIF"][at:]), sound)
    clear = io.BytesIO()
    Image.fromarray(np.array([[0, 1]], np.uint8)).save(clear, "GIF", transparency=0)
    np.testing.assert_array_equal(read_image(without_metadata(clear.getvalue())), read_image(clear.getvalue()))


def test_avif_with_odd_tags_is_read():
    buffer = io.BytesIO()
    Image.fromarray(np.kron(PIXELS, np.ones((16, 16, 1), np.uint8))).save(
        buffer, "AVIF", quality=90, exif=b"II*\0" + b"\xff" * 40
    )
    sound = read_image(buffer.getvalue())
    assert sound.shape == (32, 48, 3)
    np.testing.assert_allclose(sound[8::16, 8::16].astype(int), PIXELS, atol=12)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "TIFF"])
def test_file_without_metadata_has_the_same_pixels(kind: str):
    options = {"exif": exif(tag(271, 2, 4, b"abc"))} if kind in ("PNG", "JPEG", "WEBP") else {}
    file = (
        encoded(kind, **options)
        if kind != "TIFF"
        else encoded(kind, tiffinfo={271: "abc", TiffImagePlugin.X_RESOLUTION: 72.0})
    )
    bare = without_metadata(file)
    np.testing.assert_array_equal(read_image(bare), read_image(file))
    assert b"abc" not in bare or kind == "TIFF"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "TIFF"])
def test_damaged_pixels_stay_refused(kind: str):
    big = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(big, kind)
    file = big.getvalue()
    if kind != "TIFF":
        with pytest.raises(ValueError, match="cannot be decoded"):
            read_image(file[: len(file) * 3 // 4])
    if kind == "PNG":  # one bit of the pixels, which the checksum tells
        at = file.index(b"IDAT") + 200
        with pytest.raises(ValueError, match="cannot be decoded"):
            read_image(file[:at] + bytes([file[at] ^ 1]) + file[at + 1 :])


def test_without_metadata_of_any_bytes_never_fails():
    rng = np.random.default_rng(1)
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"):
        file = encoded(kind)
        for _ in range(200):
            data = np.frombuffer(file, np.uint8).copy()
            data[rng.integers(0, min(len(data), 120), 6)] = rng.integers(0, 256, 6)
            for cut in (len(data), int(rng.integers(0, len(data)))):
                without_metadata(data[:cut].tobytes())
                assert 1 <= orientation_of(data[:cut].tobytes()) <= 8
