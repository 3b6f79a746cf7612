"""Names that are no UTF-8 or hold line breaks, and files that are left out for their kind: listed, told, packed."""

import base64
import io
import logging
import os
import signal
import sys
import tarfile
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from data_recipe import recipe_around
from PIL import Image

from guie.data import image as image_module
from guie.data.balance import merge_and_balance
from guie.data.build import build_manifests, builder, list_source
from guie.data.image import header_problem, is_image, read_file, read_image
from guie.data.names import name_on_disk, safe_name, shown_name
from guie.data.packed import PackedImages
from guie.data.packing import pack_images
from guie.recipe import Data, Source
from guie.run import Run

ODD = {
    b"caf\xe9.jpg": "caf%E9.jpg",  # Latin-1
    b"\xff\xfe.png": "%FF%FE.png",
    b"two\nlines.jpg": "two%0Alines.jpg",
    b"a\ttab.jpg": "a%09tab.jpg",
    b"bell\x07.jpg": "bell%07.jpg",
    b"\"quoted\", 'name'.jpg": "\"quoted\", 'name'.jpg",
    b"100%.jpg": "100%.jpg",
    b"a%20b.jpg": "a%2520b.jpg",  # is no escape, so that the one above cannot be mistaken for another file
    b"a%0Ab.jpg": "a%250Ab.jpg",
    "größe 可乐 🍎.jpg".encode(): "größe 可乐 🍎.jpg",
    b" lead and trail .jpg": " lead and trail .jpg",
    b"semi;colon,comma=.jpg": "semi;colon,comma=.jpg",
    b"-rf *.jpg": "-rf *.jpg",
}


def jpeg(number: int = 0) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(number).integers(0, 256, (12, 10, 3), dtype=np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


def run_of(root: Path, **data: object) -> Run:
    values = {"duplicate_bits": -1, **data}
    recipe = recipe_around(Data((Source("s", "class_folders", "set", "d"),), **values))
    return Run(recipe, root, root / "out")


@pytest.mark.parametrize("name", ODD)
def test_safe_name_by_hand(name: bytes):
    assert safe_name(os.fsdecode(name)) == ODD[name]
    assert os.fsencode(name_on_disk(ODD[name])) == name


def test_safe_names_lead_back_and_never_meet():
    rng = np.random.default_rng(0)
    alphabet = [b"%", b"%", b"2", b"5", b"A", b"\xe9", b"\n", b"\xc3\xa9", b"g"]
    names = {b"".join(alphabet[i] for i in rng.integers(0, len(alphabet), rng.integers(1, 7))) for _ in range(20_000)}
    safe = {safe_name(os.fsdecode(name)): name for name in names}
    assert len(safe) == len(names) > 5000
    for text, name in safe.items():
        text.encode()
        assert text.isprintable() and os.fsencode(name_on_disk(text)) == name


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_odd_names_are_listed_balanced_and_packed(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    labels = [b"plain", b"caf\xe9", b"new\nline", b"50%25"]
    for place, label in enumerate(labels):
        os.makedirs(os.path.join(os.fsencode(tmp_path), b"set", label))
        for number, name in enumerate(ODD):
            Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), b"set", label, name))).write_bytes(
                jpeg(100 * place + number)
            )
    run = run_of(tmp_path)
    assert build_manifests(run) == {"n_images": 4 * len(ODD), "n_classes": 4, "n_problems": 0}
    table = pd.read_parquet(run.out / "01_manifests/s.parquet")
    assert set(table["source_label"]) == {"plain", "caf%E9", "new%0Aline", "50%2525"}
    assert set(table["image_id"]) == {
        f"s/{label}/{name}" for label in set(table["source_label"]) for name in ODD.values()
    }
    merge_and_balance(run)
    assert pack_images(run)["n_images"] == 4 * len(ODD)
    packed = PackedImages(run.out / "03_packed")
    places = {safe_name(os.fsdecode(label)): place for place, label in enumerate(labels)}
    names = {value: number for number, value in enumerate(ODD.values())}
    for row, image_id in enumerate(packed.index["image_id"]):
        _, label, name = image_id.split("/")
        expected = read_image(jpeg(100 * places[label] + names[name]))
        assert np.abs(packed.read(row).astype(int) - expected).mean() < 20  # JPEG of noise; another picture is at 85
    with tarfile.open(next((run.out / "03_packed").glob("*.tar"))) as tar:
        assert len(tar.getnames()) == len(set(tar.getnames())) == 4 * len(ODD)
    assert "".join(caplog.messages).isprintable()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_odd_name_of_a_bad_image_is_told_on_one_line(tmp_path: Path):
    for number, name in enumerate((b"a\nb\xe9.jpg", b"c.jpg")):
        path = os.path.join(os.fsencode(tmp_path), b"set", b"x", name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        Path(os.fsdecode(path)).write_bytes(jpeg() if number else b"no image")
    with pytest.raises(
        ValueError, match=r"1 of 2 images \(50.0%\) of 's' are bad.*set/x/a%0Ab%E9.jpg \(unreadable header"
    ) as told:
        build_manifests(run_of(tmp_path))
    assert str(told.value).isprintable()


HEIC_TOLD = "HEIC; pip install pi-heif reads it"
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200)


def images_of_every_ending(folder: Path) -> dict[str, str]:
    """name -> reason, '' where it is read."""
    folder.mkdir(parents=True)
    Image.open(io.BytesIO(jpeg())).save(folder / "avif.avif")
    Image.open(io.BytesIO(jpeg())).save(folder / "wavelets.jp2")
    Image.open(io.BytesIO(jpeg())).save(folder / "grey.pgm")
    for name in ("a.jfif", "b.JPG", "c.jpe", "d", "e.JPeG", "f.bin", "g.jpg_large", "h.png"):  # the last is a JPEG
        (folder / name).write_bytes(jpeg())
    others = {
        "i.heic": (HEIC, f"unreadable header: {HEIC_TOLD}"),
        "j.jpg": (
            HEIC,
            f"unreadable header: {HEIC_TOLD}",
        ),  # as telephones and browsers rename it
        "k": (HEIC, f"unreadable header: {HEIC_TOLD}"),
        "l.jxl": (b"\xff\x0a" + bytes(60), "unreadable header: JPEG XL; convert it"),
        "m.psd": (b"8BPS" + bytes(60), "unreadable header: Photoshop; convert it"),
        "n.svg": (
            b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>',
            "unreadable header: SVG; convert it",
        ),
    }
    for name, (content, _) in others.items():
        (folder / name).write_bytes(content)
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((4, 4), np.float32)).save(buffer, "TIFF")
    (folder / "o.tif").write_bytes(buffer.getvalue())
    (folder / "p.avif").write_bytes(b"\0\0\0\x1cftypavif" + bytes(100))
    found = dict.fromkeys((path.name for path in folder.iterdir()), "")
    return (
        found
        | {name: reason for name, (_, reason) in others.items()}
        | {"o.tif": "cannot be decoded: floating-point pixels, whose range is unknown"}
    )


def test_files_are_judged_by_what_they_are_and_told_by_ending(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    # as on a machine without the plugin that reads HEIC
    monkeypatch.setattr(image_module, "FORMATS", [name for name in image_module.FORMATS if name != "HEIF"])
    unread = [(at, mark, name.replace(image_module.HEIC, HEIC_TOLD)) for at, mark, name in image_module.UNREAD]
    monkeypatch.setattr(image_module, "UNREAD", unread)
    expected = images_of_every_ending(tmp_path / "set/x")
    for name in ("Thumbs.db", ".DS_Store", "notes.txt", "README", "._a.jpg", "desktop.ini", "boxes.xml", "video.mp4"):
        (tmp_path / "set/x" / name).write_bytes(b"litter")
    with caplog.at_level(logging.DEBUG, logger="guie"):
        run = run_of(tmp_path, max_bad_share=0.6)
        build_manifests(run)
    problems = pd.read_parquet(run.out / "01_manifests/problems.parquet")
    reasons = dict(zip(problems["path"].str.removeprefix("set/x/"), problems["reason"], strict=True))
    assert reasons.pop("p.avif").startswith("unreadable header")
    assert reasons == {name: reason for name, reason in expected.items() if reason}
    good = pd.read_parquet(run.out / "01_manifests/s.parquet")["path"].str.removeprefix("set/x/")
    assert set(good) == {name for name, reason in expected.items() if not reason} - {"p.avif"}
    (line,) = [record.getMessage() for record in caplog.records if "left out" in record.getMessage()]
    assert (
        line.startswith("s: 8 of 19 images are left out: 1 .")
        and f"(unreadable header: {HEIC_TOLD})" in line
        and "others" in line
    )
    (quiet,) = [record for record in caplog.records if "skipped" in record.getMessage()]
    assert quiet.levelno == logging.DEBUG
    told = "s: skipped, because they are not images: 2 hidden, 1 .db, 1 .ini, 1 .mp4, 1 .txt, 1 .xml, 1 without an "
    assert quiet.getMessage() == told + "ending"


def test_left_out_files_are_counted_by_ending_and_reason(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    for number in range(20):
        path = tmp_path / f"set/x/{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg())
    for number in range(7):
        (tmp_path / f"set/x/{number}.psd").write_bytes(b"8BPS" + bytes(60))
    for number in range(5):
        (tmp_path / f"set/x/{number}.PNG").write_bytes(b"")
    with caplog.at_level(logging.INFO, logger="guie"):
        build_manifests(run_of(tmp_path, max_bad_share=0.5))
    assert (
        "s: 12 of 32 images are left out: 7 .psd (unreadable header: Photoshop; convert it), 5 .png (zero bytes), "
        "such as set/x/0.PNG, set/x/0.psd, set/x/1.PNG" in caplog.messages
    )


def test_depths_that_are_read(tmp_path: Path):
    grey = np.arange(16, dtype=np.uint8).reshape(4, 4) * 17
    as_rgb = np.stack([grey] * 3, axis=2)
    images = {
        "1 bit.png": (Image.fromarray(grey > 100), np.where(as_rgb > 100, 255, 0)),
        "grey and alpha.png": (Image.merge("LA", (Image.fromarray(grey), Image.new("L", (4, 4), 255))), as_rgb),
        "16 bit.png": (Image.fromarray(grey.astype(np.uint16) * 257), as_rgb),
        "16 bit.tif": (Image.fromarray(grey.astype(np.uint16) * 257), as_rgb),
        "1 bit.tif": (Image.fromarray(grey > 100), np.where(as_rgb > 100, 255, 0)),
        "palette.gif": (Image.fromarray(grey).convert("P"), as_rgb),
        "cmyk.tif": (Image.merge("CMYK", [Image.new("L", (4, 4))] * 3 + [Image.fromarray(255 - grey)]), as_rgb),
    }
    for name, (image, expected) in images.items():
        image.save(tmp_path / name)
        assert header_problem(tmp_path / name) == ""
        np.testing.assert_allclose(read_image(tmp_path / name).astype(int), expected, atol=1, err_msg=name)


def test_large_file_that_is_no_image_is_not_read_whole(tmp_path: Path):
    with (tmp_path / "features.h5").open("wb") as file:
        file.write(b"\x89HDF\r\n\x1a\n")
        file.truncate(200 << 20)
    tracemalloc.start()
    assert not is_image(tmp_path / "features.h5")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_is_image_looks_at_the_content(tmp_path: Path):
    for name, content, expected in (
        ("a", jpeg(), True),
        ("b", HEIC, True),
        ("c", b"", False),
        ("d", b"text\n", False),
        ("e", b"PK\3\4", False),
    ):
        (tmp_path / name).write_bytes(content)
        assert is_image(tmp_path / name) is expected
    assert not is_image(tmp_path / "absent")


def test_list_source_forgets_what_an_earlier_source_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    for folder in ("one", "two"):
        (tmp_path / folder / "x").mkdir(parents=True)
        (tmp_path / folder / "x/1.jpg").write_bytes(jpeg())
    (tmp_path / "one/x/notes.txt").write_text("x")
    with caplog.at_level(logging.DEBUG, logger="guie"):
        for folder in ("one", "two"):
            list_source(Source(folder, "class_folders", folder, "d"), builder("class_folders"), tmp_path)
    assert [message for message in caplog.messages if "skipped" in message] == [
        "one: skipped, because they are not images: 1 .txt"
    ]


# 32 x 16 px, the left half red and the right half blue, with EXIF orientation 6 (turn clockwise to see it upright);
# written by pillow-heif 1.8.1.
TURNED_HEIC = base64.b64decode(
    "AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAcdtZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAAAAA"
    "ADRpbG9jAAAAAERAAAIAAQAAAAAB6wABAAAAAAAAANEAAgAAAAACvAABAAAAAAAAACQAAAA4aWluZgAAAAAAAgAAABVpbmZlAgAA"
    "AAABAABodmMxAAAAABVpbmZlAgAAAQACAABFeGlmAAAAAA5waXRtAAAAAAABAAABBmlwcnAAAADlaXBjbwAAAHVodmNDAQNwAAAA"
    "kAAAAAAAHvAA/P34+AAADwNgAAEAGEABDAH//wNwAAADAJAAAAMAAAMAHroCQGEAAQApQgEBA3AAAAMAkAAAAwAAAwAeoCCBBZbq"
    "rprm4CGgwIAAAAyAAAADAIRiAAEABkQBwXPBiQAAABNjb2xybmNseAABAA0ABoAAAAAUaXNwZQAAAAAAAABAAAAAQAAAAChjbGFw"
    "AAAAIAAAAAEAAAAQAAAAAf///+AAAAAC////0AAAAAIAAAAQcGl4aQAAAAADCAgIAAAACWlyb3QDAAAAGWlwbWEAAAAAAAAAAQAB"
    "BoECAwWEhgAAABppcmVmAAAAAAAAAA5jZHNjAAIAAQABAAAA/W1kYXQAAADNKAGvBjIZ/nWAiSDwv6+E///wVf2X7U7aTqvxp2Uv"
    "7jwv/+2qRt9cI/pmf+Ff8NiQ75dpvFtRgBxoBUcIStrRhSwkz5pkWfJkf7P538/3Rwuk0O7fz0+FTxp8I7Bdj3howCvQY0qlfUhd"
    "dXTrEEM1SzEqlC4GDaWNS7X1nVGpebrFM0Ma08oSPPpxNE9RQIhnUDHVkNIba7nQI8KTr6CMtooIJLgN3DWpLvi4PemQXtRFT3ZG"
    "qgq3m8LeD8u2L4SKyQNOsZPAA1A/wRJ4vAAAAAZFeGlmAABNTQAqAAAACAABARIAAwAAAAEABgAAAAAAAA=="
)


def test_named_pipe_is_told_and_not_waited_for(tmp_path: Path):
    """A file that became a pipe after the folder was read; nobody writes into it."""
    pipe = tmp_path / "a.jpg"
    os.mkfifo(pipe)
    alarm = signal.signal(signal.SIGALRM, lambda *_: pytest.fail("it waits for a writer"))
    signal.alarm(10)
    try:
        assert header_problem(pipe) == "a named pipe"
        with pytest.raises(ValueError, match=r"^a named pipe$"):
            read_file(pipe)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, alarm)


def test_heic_of_a_telephone_is_read_upright(tmp_path: Path):
    assert "HEIF" in image_module.FORMATS  # requirements.txt has the plugin
    path = tmp_path / "a.heic"
    path.write_bytes(TURNED_HEIC)
    assert header_problem(path) == ""
    pixels = read_image(path).astype(int)
    assert pixels.shape == (32, 16, 3)
    np.testing.assert_allclose(pixels[:12], np.broadcast_to([200, 30, 30], (12, 16, 3)), atol=6)  # the left is on top
    np.testing.assert_allclose(pixels[20:], np.broadcast_to([30, 30, 200], (12, 16, 3)), atol=6)
    path.write_bytes(TURNED_HEIC[:600])
    with pytest.raises(ValueError, match="unreadable header: HEIC, damaged; fetch it again"):
        read_image(path)


def test_a_format_without_a_decoder_is_told_by_name_when_its_pixels_are_read(tmp_path: Path):
    (tmp_path / "a.jpg").write_bytes(b"8BPS" + bytes(60))
    with pytest.raises(ValueError, match=r"^unreadable header: Photoshop; convert it$"):
        read_image(tmp_path / "a.jpg")


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("50%2520off.jpg", "50%20off.jpg"),  # the name on disk has a percent sign itself
        ("a b/Größe.jpg", "a b/Größe.jpg"),
        ("caf%E9.jpg", "caf%E9.jpg"),  # no UTF-8: nothing else can be shown
        ("two%0Alines.jpg", "two%0Alines.jpg"),  # a line break would break the line that shows it
        ("100%", "100%"),
    ],
)
def test_people_see_the_name_on_disk_where_that_is_text(written: str, shown: str):
    assert shown_name(written) == shown
