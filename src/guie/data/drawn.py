"""A world that the project draws itself, written in the layouts of real data sets.

Three domains (buildings, packaged products, toys) of instances that are seen from several sides, in changing light, before
changing grounds, partly hidden. Every third instance is a near-twin or a sibling of the one before, so that the task is not
trivial. Each image is a pure function of (seed, domain, instance, view).
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import logging
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from guie.checkpoint import save_json, whole_file
from guie.data.drawing import Camera, Colour, Light, Part, floor, mottled, patterned, plain, render, rotation, shadows, tint
from guie.data.drawn_things import Dice, landmark, product, toy
from guie.recipe import DrawnWorld

VERSION = 1  # of the drawings; raise it when they change, and worlds on disk are drawn anew
SUPERSAMPLING = 2  # rays per pixel and axis
SETS = ("gldv2", "products10k", "toys")  # the folders that this module owns
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Domain:
    """How the instances of one domain are made and photographed.

    Attributes:
        number: Enters the seed.
        make: Builds an instance.
        yaw_deg: Largest turn to either side.
        pitch_deg: Range of the camera's elevation.
        aspects: Heights over widths that occur.
        is_outdoors: Sky, hills and trees instead of a wall and clutter.
    """

    number: int
    make: Callable[[Dice], list[Part]]
    yaw_deg: float
    pitch_deg: tuple[float, float]
    aspects: tuple[float, ...]
    is_outdoors: bool = False


DOMAINS = {
    "landmarks": Domain(0, landmark, 48.0, (-2.0, 9.0), (3 / 4, 4 / 3, 2 / 3), is_outdoors=True),
    "products": Domain(1, product, 40.0, (2.0, 28.0), (1.0, 4 / 3, 1.0)),
    "toys": Domain(2, toy, 65.0, (6.0, 38.0), (3 / 4, 1.0, 4 / 3)),
}


@dataclass(frozen=True)
class Shot:
    """One image to be drawn: where it goes, and what it shows."""

    path: Path
    domain: str
    instance: int
    view: int


def draw_world(folder: Path, world: DrawnWorld, seed: int) -> None:
    """Draws the world into `folder`, unless it is there already.

    Writes `gldv2/train/a/b/c/ID.jpg` with `gldv2/train.csv` (id, url, landmark_id), `products10k/train/N.jpg` with
    `products10k/train.csv` (name, class, group), `toys/CLASS/N.jpg`, and `world.json`. Images that are there are left alone, so that a
    killed run goes on where it was; a world of other settings is removed and drawn anew.

    Args:
        folder: Made when missing.
        world: How many instances and views, how large.
        seed: Of the world.

    Raises:
        ValueError: a setting out of its range, or a damaged `world.json`.
        FileExistsError: `folder` holds a set of the same name that was not drawn here.
    """
    _check(world)
    settings = {**asdict(world), "seed": seed, "version": VERSION}
    shots = list(_shots(folder, world, seed))
    if _is_whole(folder, settings, shots):
        return
    _prepare(folder, settings)
    missing = [shot for shot in shots if not shot.path.is_file()]
    for shot in tqdm(missing, desc="drawing the world", unit="image", disable=None):
        _write_jpeg(shot.path, draw_image(shot.domain, shot.instance, shot.view, world.image_px, seed), seed + shot.view)
    _write_tables(folder, world, seed)
    save_json(folder / "world.json", {**settings, "is_whole": True, "n_images": len(shots)})
    log.info("drew %d of %d images in %s", len(missing), len(shots), folder)


def draw_image(domain: str, instance: int, view: int, image_px: int, seed: int) -> np.ndarray:
    """Draws one image.

    Args:
        domain: landmarks, products or toys.
        instance: Number of the instance.
        view: Number of the view.
        image_px: Longer side.
        seed: Of the world.

    Returns:
        uint8 [h, w, 3], RGB.
    """
    d = DOMAINS[domain]
    rng = _rng(seed, d.number, instance, view, 9)
    parts = _thing(domain, instance, seed)
    aspect = d.aspects[int(rng.integers(len(d.aspects)))]
    width, height = (image_px, round(image_px * aspect)) if aspect <= 1 else (round(image_px / aspect), image_px)
    camera, light = _camera(rng, d, parts, (height, width)), _light(rng)
    ground = np.empty((height, width, 3), np.uint8)
    _ground(ground, rng, d, camera)
    everything = [*parts, *(_trees_and_people(rng, camera) if d.is_outdoors else _clutter(rng, camera))]
    canvas = cv2.resize(ground, None, fx=SUPERSAMPLING, fy=SUPERSAMPLING, interpolation=cv2.INTER_LINEAR)
    closer = replace(camera, focal=camera.focal * SUPERSAMPLING, offset=(camera.offset[0] * SUPERSAMPLING, camera.offset[1] * SUPERSAMPLING))
    shadows(canvas, closer, everything, 0.5)
    render(canvas, closer, light, everything)
    return _photographed(cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA), rng)


@lru_cache(maxsize=len(DOMAINS))  # the views of an instance are drawn one after the other
def _thing(domain: str, instance: int, seed: int) -> list[Part]:
    return DOMAINS[domain].make(_dice(seed, DOMAINS[domain].number, instance))


def _rng(*keys: int) -> np.random.Generator:
    return np.random.default_rng(keys)


def _dice(seed: int, domain: int, instance: int) -> Dice:
    """Every third instance has the form of the one before: in turn a twin (other details only) and a sibling (other colours too)."""
    is_kin = instance % 3 == 2
    base = instance - 1 if is_kin else instance
    skin = base if instance % 2 == 0 else instance
    return Dice(_rng(seed, domain, base, 0), _rng(seed, domain, skin, 1), _rng(seed, domain, instance, 2))


def _camera(rng: np.random.Generator, domain: Domain, parts: list[Part], shape: tuple[int, ...]) -> Camera:
    """A camera that sees the whole thing, more or less: it fills 60 to 105 % of the shorter side."""
    low = np.min([np.asarray(p.centre) - p.half for p in parts], axis=0)
    high = np.max([np.asarray(p.centre) + p.half for p in parts], axis=0)
    size, distance = float(max(high - low)), float(rng.uniform(2.2, 4.5) * max(high - low))
    fill = rng.uniform(0.6, 1.05) * (max(shape[:2]) if domain.is_outdoors and high[1] > 2 and shape[0] > shape[1] else min(shape[:2]))
    turn = rotation(rng.uniform(-domain.yaw_deg, domain.yaw_deg), rng.uniform(*domain.pitch_deg), rng.normal(0, 2.5))
    offset = rng.uniform(-0.09, 0.09, 2) * shape[1::-1]
    middle = (low + high) / 2
    return Camera(turn, (float(middle[0]), float(middle[1]), float(middle[2])), distance, float(fill * distance / size), (float(offset[0]), float(offset[1])))


def _light(rng: np.random.Generator) -> Light:
    direction = np.array([rng.uniform(-1, 1), rng.uniform(0.3, 1.2), rng.uniform(0.3, 1.0)])
    lamp = float(rng.uniform(0.25, 0.65))
    return Light((direction / np.linalg.norm(direction)).astype(np.float32), lamp, float(rng.uniform(0.95, 1.1) - 0.75 * lamp))


def _ground(canvas: np.ndarray, rng: np.random.Generator, domain: Domain, camera: Camera) -> None:
    """What lies behind and below: sky and hills over grass or stone; or a wall over a table, a carpet or plain white."""
    height, width = canvas.shape[:2]
    if domain.is_outdoors:
        _sky(canvas, rng, camera)
        colours = ((96, 128, 62), (150, 145, 136), (176, 160, 125), (104, 104, 108), (92, 118, 130), (222, 224, 228))
        texture = mottled(rng, colours[int(rng.integers(len(colours)))], 128, float(rng.uniform(4, 16)))
        return floor(canvas, camera, texture, float(rng.uniform(5, 9)))
    if rng.random() < 0.25:  # a catalogue's photo
        canvas[:] = int(rng.integers(225, 256))
        return None
    wall, table = (tint(rng, (0.05, 0.6), (0.25, 0.95)) for _ in range(2))
    canvas[:] = cv2.resize(mottled(rng, wall, 32, 26), (width, height), interpolation=cv2.INTER_LINEAR)
    if rng.random() < 0.5:
        for _ in range(int(rng.integers(3, 9))):
            x, y, w, h = (int(v) for v in rng.uniform(0, 1, 4) * (width, height * 0.7, width / 3, height / 2))
            cv2.rectangle(canvas, (x, y), (x + w, y + h), tint(rng, (0.1, 0.8), (0.2, 0.9)), -1)
        cv2.blur(canvas, (7, 7), canvas)
    grain = patterned(rng, table, tint(rng, (0.05, 0.5), (0.3, 0.95)))[0] if rng.random() < 0.4 else mottled(rng, table, 64, 30)
    return floor(canvas, camera, cv2.blur(grain, (3, 3)), float(rng.uniform(0.8, 2.5)))


def _sky(canvas: np.ndarray, rng: np.random.Generator, camera: Camera) -> None:
    """A gradient with clouds, and a ridge of hills or roofs on the horizon."""
    height, width = canvas.shape[:2]
    skies: tuple[tuple[Colour, Colour], ...] = (
        ((90, 150, 220), (200, 225, 245)),
        ((170, 175, 182), (215, 216, 218)),
        ((70, 80, 130), (240, 170, 120)),
        ((28, 34, 66), (84, 82, 120)),
    )
    top, low = (np.array(c, np.float32) for c in skies[int(rng.choice(4, p=(0.45, 0.3, 0.15, 0.1)))])
    slope = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    clouds = cv2.resize(rng.uniform(-1, 1, (7, 5)).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)[..., None]
    canvas[:] = np.clip(top * (1 - slope) + low * slope + 38 * np.maximum(clouds - 0.1, 0), 0, 255).astype(np.uint8)
    horizon = height / 2 + camera.offset[1] + camera.focal * camera.turn[2, 1] / max(camera.turn[1, 1], 0.1) * -1.0
    n = int(rng.integers(8, 24))
    ridge = horizon - rng.uniform(0, 0.16) * height * rng.uniform(0, 1, n)
    x = np.linspace(-10, width + 10, n)
    if rng.random() < 0.5:  # roofs instead of hills
        x, ridge = np.repeat(x, 2)[1:], np.repeat(ridge, 2)[:-1]
    outline = np.concatenate([np.stack([x, ridge], 1), [[width + 10, height], [-10, height]]]).astype(np.int32)
    cv2.fillPoly(canvas, [outline], tuple(int(c) for c in 0.6 * low + 0.4 * np.array(tint(rng, (0.1, 0.5), (0.25, 0.6)))), cv2.LINE_AA)


def _beside(camera: Camera, right: float, nearer: float) -> tuple[float, float]:
    """A place (x, z) on the ground, as the camera sees it: so far to the right of the thing, and so much nearer."""
    return (
        float(camera.target[0] + camera.turn[0, 0] * right + camera.turn[2, 0] * nearer),
        float(camera.target[2] + camera.turn[0, 2] * right + camera.turn[2, 2] * nearer),
    )


def _trees_and_people(rng: np.random.Generator, camera: Camera) -> list[Part]:
    """Trees beside, behind and sometimes before a building, and passers-by in front of it."""
    parts: list[Part] = []
    for _ in range(int(rng.integers(0, 4))):
        x, z = _beside(camera, float(rng.choice([-1, 1]) * rng.uniform(0.9, 2.2)), float(rng.uniform(-2, 2.2)))
        size, leaf = float(rng.uniform(0.25, 0.55)), tint(rng, (0.3, 0.7), (0.25, 0.55))
        skin = mottled(rng, (leaf[1] // 2, max(leaf), leaf[2] // 3), 24, 30)[None]
        parts.append(Part("tube", (x, size, z), (0.06, size, 0.06), plain((92, 70, 50))))
        is_fir = rng.random() < 0.4
        parts.append(Part("tube" if is_fir else "ball", (x, size * 2.2, z), (size, size * (1.8 if is_fir else 1.1), size), skin, (1.0, 0.0)))
    for _ in range(int(rng.integers(0, 5))):
        x, z = _beside(camera, float(rng.uniform(-1.3, 1.3)), float(rng.uniform(1.2, 2.4)))
        parts.append(Part("tube", (x, 0.15, z), (0.06, 0.15, 0.06), plain(tint(rng, (0.1, 0.9), (0.15, 0.8))), (0.4, 0.0)))
        parts.append(Part("ball", (x, 0.34, z), (0.045, 0.055, 0.045), plain((205, 160, 130))))
    return parts


def _clutter(rng: np.random.Generator, camera: Camera) -> list[Part]:
    """Boxes, cans and balls around a thing, now and then one that hides a part of it, and sometimes fingers that hold it."""
    parts: list[Part] = []
    for k in range(int(rng.integers(0, 5))):
        in_front = k == 0 and rng.random() < 0.6
        right = float(rng.choice([-1, 1]) * (rng.uniform(0.45, 0.85) if in_front else rng.uniform(1.1, 2.0)))
        x, z = _beside(camera, right, float(rng.uniform(0.9, 1.3) if in_front else rng.uniform(-1.6, 0.4)))
        r, h = float(rng.uniform(0.18, 0.4)), float(rng.uniform(0.2, 0.45) if in_front else rng.uniform(0.25, 0.9))
        skin, shape = patterned(rng, tint(rng), tint(rng)), ("ball", "block", "tube")[int(rng.integers(3))]
        h = r if shape == "ball" else h
        parts.append(Part(shape, (x, h, z), (r, h, r), skin, turn=rotation(rng.uniform(-60, 60)), gloss=float(rng.choice([0, 0.3]))))
    if rng.random() < 0.2:
        side, y, hand = float(rng.choice([-1, 1])), float(rng.uniform(0.3, 0.9)), tint(rng, (0.3, 0.5), (0.45, 0.9))
        for k in range(4):
            x, z = _beside(camera, side * 0.75, 0.75)
            skin = plain((max(hand), int(0.72 * max(hand)), int(0.55 * max(hand))))
            parts.append(Part("ball", (x, y + 0.16 * k, z), (0.34, 0.085, 0.1), skin, turn=camera.turn.T))
    return parts


def _photographed(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """White balance, exposure, contrast, a little blur and noise; uint8 in and out."""
    if rng.random() < 0.5:
        image = cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.3, 1.0)))
    gains = rng.uniform(0.9, 1.1, 3) * rng.uniform(0.7, 1.15)
    pixels = (image.astype(np.float32) - 128) * np.float32(rng.uniform(0.8, 1.1)) + 128
    pixels = pixels * gains.astype(np.float32)
    pixels += rng.standard_normal(image.shape, dtype=np.float32) * np.float32(rng.uniform(0, 7))
    return np.clip(pixels, 0, 255).astype(np.uint8)


def _code(seed: int, *keys: object) -> str:
    """16 hex digits that stand for these keys."""
    return hashlib.sha256(repr((seed, *keys)).encode()).hexdigest()[:16]


def _label(seed: int, domain: str, instance: int) -> int:
    """A class number with gaps, as real sets have them."""
    return instance * 37 + int(_code(seed, domain, instance), 16) % 37


def _shots(folder: Path, world: DrawnWorld, seed: int) -> Iterator[Shot]:
    for instance in range(world.n_instances):
        for view in range(world.n_views):
            code = _code(seed, "landmarks", instance, view)
            yield Shot(folder / "gldv2" / "train" / code[0] / code[1] / code[2] / f"{code}.jpg", "landmarks", instance, view)
            yield Shot(folder / "products10k" / "train" / f"{instance * world.n_views + view}.jpg", "products", instance, view)
            yield Shot(folder / "toys" / f"toy {_label(seed, 'toys', instance):04d}" / f"{view}.jpg", "toys", instance, view)


def _write_tables(folder: Path, world: DrawnWorld, seed: int) -> None:
    pairs = [(instance, view) for instance in range(world.n_instances) for view in range(world.n_views)]
    landmarks = sorted((_code(seed, "landmarks", i, v), f"drawn://landmarks/{i}/{v}", _label(seed, "landmarks", i)) for i, v in pairs)
    products = [(f"{i * world.n_views + v}.jpg", _label(seed, "products", i), i // 3) for i, v in pairs]
    for path, head, rows in (("gldv2", ("id", "url", "landmark_id"), landmarks), ("products10k", ("name", "class", "group"), products)):
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([head, *rows])
        with whole_file(folder / path / "train.csv") as temporary:
            temporary.write_text(text.getvalue(), encoding="utf-8")


def _write_jpeg(path: Path, image: np.ndarray, key: int) -> None:
    """Writes beside, then renames, without whole_file's fsync: a world that a power cut damages is drawn again in seconds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    quality = [cv2.IMWRITE_JPEG_QUALITY, 80 + key * 7 % 16]
    is_encoded, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), quality)
    assert is_encoded
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(data.tobytes())
    temporary.replace(path)


def _is_whole(folder: Path, settings: dict[str, int], shots: list[Shot]) -> bool:
    mark = _mark(folder)
    tables = (folder / name / "train.csv" for name in ("gldv2", "products10k"))
    return mark.get("is_whole") is True and _agrees(mark, settings) and all(path.is_file() for path in (*tables, *(s.path for s in shots)))


def _mark(folder: Path) -> dict[str, object]:
    path = folder / "world.json"
    try:
        mark = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is damaged ({error}); delete the folder {folder}, and the world is drawn anew") from error
    return mark if isinstance(mark, dict) else {}


def _agrees(mark: dict[str, object], settings: dict[str, int]) -> bool:
    return all(mark.get(name) == value for name, value in settings.items())


def _prepare(folder: Path, settings: dict[str, int]) -> None:
    """Removes a world of other settings and what a killed run left half-written, and notes what is being drawn."""
    mark = _mark(folder)
    present = [folder / name for name in SETS if (folder / name).exists()]
    if present and not mark:
        raise FileExistsError(f"{present[0]} exists, and no world.json beside it says that it was drawn here; move it away, or choose another place with --out")
    if not _agrees(mark, settings):
        for path in present:
            shutil.rmtree(path)
    for name in SETS:
        for path in (folder / name).rglob(".*.tmp"):
            path.unlink()
    save_json(folder / "world.json", {**settings, "is_whole": False})


def _check(world: DrawnWorld) -> None:
    for name, low, high in (("n_instances", 1, 10**6), ("n_views", 1, 10**4), ("image_px", 32, 4096)):
        value = getattr(world, name)
        if not low <= value <= high:
            raise ValueError(f"data.drawn.{name} is {value}, must be {low} to {high}")
