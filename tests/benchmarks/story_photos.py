"""The photos of a small shop, as they lie on a disk: clothing (CC0) in nested folders, with everything that is wrong.

Grigorev's clothing data set gives the photos and their categories. Folders are Adults/<category> and Kids/<category>,
so their sizes are those of the data: some hold 15 photos, some a single one.
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

HEIC = Path(__file__).with_name("story_shirt.heic")  # a photo of the same data set, as a telephone stores it
PHONE_EVERY = 4  # every fourth photo gets a telephone's size
PHONE_PX = (3024, 4032)  # 12 megapixels
ORIENTATION = 274  # EXIF tag
UPRIGHT_BY_TURN = 6  # its value where a viewer must turn the picture clockwise
NAMES: tuple[Callable[[int], str], ...] = (
    lambda i: f"IMG_{i:04d}.JPG",
    lambda i: f"photo ({i}).jpeg",
    lambda i: f"DSC{i:05d}.jpg",
    lambda i: f"Größe M – {i}.jpg",
    lambda i: f"50%20off_{i}.jpg",
    lambda i: f"{i}.png",
    lambda i: f"{i}.webp",
    lambda i: f"scan_{i}",  # without an ending
)
FORMATS = {".png": "PNG", ".webp": "WEBP"}  # the rest is JPEG


def make_photos(source: Path, folder: Path, n: int, seed: int = 0) -> int:
    """Writes the shop's photos, unless they are there.

    Args:
        source: The clothing data set: `images.csv` and `images/`.
        folder: Where to write. It is replaced whole if it is not finished.
        n: How many photos of the data set.
        seed: Of the choice.

    Returns:
        How many folders hold photos.

    Raises:
        SystemExit: the data set is not there, or has fewer photos.
    """
    finished = folder.with_name(f"{folder.name}.made")
    settings = f"{n} photos, seed {seed}\n"
    if not (finished.is_file() and finished.read_text(encoding="utf-8") == settings):
        finished.unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        for i, row in enumerate(_chosen(source, n, seed)):
            group = "Kids" if row["kids"] == "True" else "Adults"
            path = folder / group / row["label"] / NAMES[i % len(NAMES)](i)
            path.parent.mkdir(parents=True, exist_ok=True)
            with Image.open(source / "images" / f"{row['image']}.jpg") as image:
                _save(image.convert("RGB"), path, is_of_phone=i % PHONE_EVERY == 0)
        _add_mess(folder)
        finished.write_text(settings, encoding="utf-8")
    return len({path.parent for path in folder.rglob("*") if path.is_file()})


def _chosen(source: Path, n: int, seed: int) -> list[dict[str, str]]:
    """Rows of the data set's table: one of each folder first, then at random."""
    table = source / "images.csv"
    if not table.is_file():
        raise SystemExit(f"error: {table} does not exist; name the clothing data set's folder with --source")
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if n > len(rows):
        raise SystemExit(f"error: --n-photos is {n}, and {table} lists {len(rows)}")
    order = [rows[i] for i in np.random.default_rng(seed).permutation(len(rows))]
    firsts: dict[tuple[str, str], dict[str, str]] = {}
    for row in order:
        firsts.setdefault((row["label"], row["kids"]), row)
    rest = [row for row in order if row is not firsts[row["label"], row["kids"]]]
    return [*firsts.values(), *rest][:n]


def _save(image: Image.Image, path: Path, is_of_phone: bool) -> None:
    """Writes a photo; one of a telephone lies on its side, with the EXIF tag that says so."""
    exif = Image.Exif()
    if is_of_phone:
        size = PHONE_PX if image.height > image.width else PHONE_PX[::-1]
        image = image.resize(size, Image.Resampling.BICUBIC)
        if path.suffix.lower() not in FORMATS:
            image = image.transpose(Image.Transpose.ROTATE_90)
            exif[ORIENTATION] = UPRIGHT_BY_TURN
    image.save(path, FORMATS.get(path.suffix, "JPEG"), quality=88, exif=exif.tobytes())


def _add_mess(folder: Path) -> None:
    """Copies, wrong labels, files that cannot be read, and files that are no photos."""
    photos = sorted(path for path in folder.rglob("*.jp*g") if path.is_file())
    large = max(photos, key=lambda path: path.stat().st_size)
    shutil.copy(photos[0], photos[0].with_name("copy of the first.jpg"))
    shutil.copy(photos[1], folder / "Adults" / "Hat" / "not a hat.jpg")
    with Image.open(photos[2]) as image:
        image.convert("RGB").resize((180, 240)).save(photos[2].with_name("smaller copy.jpg"), quality=70)
    shutil.copy(HEIC, folder / "Adults" / "Shirt" / "IMG_2208.heic")
    (large.parent / "broken upload.jpg").write_bytes(large.read_bytes()[: large.stat().st_size // 3])
    (large.parent / "empty.jpg").write_bytes(b"")
    (large.parent / "page not found.jpg").write_text("<!doctype html><title>404</title>", encoding="utf-8")
    (folder / "prices.csv").write_text("item,price\nshirt,12\n", encoding="utf-8")
    (folder / ".DS_Store").write_bytes(bytes(64))
    (folder / "Adults" / "Thumbs.db").write_bytes(bytes(64))
    (folder / "nothing here yet").mkdir()
    shutil.copy(photos[3], folder / "to sort.jpg")
    cut_out = Image.new("RGBA", (400, 300), (0, 0, 0, 0))
    cut_out.paste((170, 30, 60, 255), (100, 60, 300, 240))
    cut_out.save(folder / "Adults" / "Skirt" / "cut out.png")
