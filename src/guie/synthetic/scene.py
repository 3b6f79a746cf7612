"""One image of the drawn world: an instance before its ground, in its light and weather, through a camera.

Each image is a pure function of (seed, domain, instance, view).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import cv2
import numpy as np

from guie.synthetic.artworks import artwork
from guie.synthetic.buildings import landmark
from guie.synthetic.drawing import Camera, Colour, Light, Part, floor, mottled, patterned, plain, render, rotation, shadows, tint
from guie.synthetic.packages import product
from guie.synthetic.solids import Dice
from guie.synthetic.toys import toy

SUPERSAMPLING = 1.5  # rays per pixel and axis; 2 draws a third fewer images a second and looks the same


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
    "artworks": Domain(3, artwork, 50.0, (-3.0, 16.0), (3 / 4, 1.0, 4 / 3)),
    "toys": Domain(2, toy, 65.0, (6.0, 38.0), (3 / 4, 1.0, 4 / 3)),
}


def draw_image(domain: str, instance: int, view: int, image_px: int, seed: int, difficulty: float = 1.0) -> np.ndarray:
    """Draws one image.

    Args:
        domain: landmarks, products, artworks or toys.
        instance: Number of the instance.
        view: Number of the view.
        image_px: Longer side.
        seed: Of the world.
        difficulty: 0 for things that fill the picture, seen sharply in clear weather; 1 for everything that `drawn` promises.

    Returns:
        uint8 [h, w, 3], RGB.
    """
    d = DOMAINS[domain]
    rng = generator(seed, d.number, instance, view, 9)
    parts = _thing(domain, instance, seed)
    aspect = d.aspects[int(rng.integers(len(d.aspects)))]
    width, height = (image_px, round(image_px * aspect)) if aspect <= 1 else (round(image_px / aspect), image_px)
    camera, light = _camera(rng, d, parts, (height, width), difficulty), _light(rng)
    ground = np.empty((height, width, 3), np.uint8)
    _ground(ground, rng, d, camera)
    everything = [*parts, *(_trees_and_people(rng, camera) if d.is_outdoors else _clutter(rng, camera))]
    canvas = cv2.resize(ground, None, fx=SUPERSAMPLING, fy=SUPERSAMPLING, interpolation=cv2.INTER_LINEAR)
    more = canvas.shape[1] / width
    closer = replace(camera, focal=camera.focal * more, offset=(camera.offset[0] * more, camera.offset[1] * more))
    shadows(canvas, closer, everything, 0.5)
    render(canvas, closer, light, everything)
    image = cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA)
    return _photographed(_weathered(image, rng, difficulty) if d.is_outdoors else image, rng, difficulty)


@lru_cache(maxsize=len(DOMAINS))  # the views of an instance are drawn one after the other
def _thing(domain: str, instance: int, seed: int) -> list[Part]:
    return DOMAINS[domain].make(dice_of(seed, DOMAINS[domain].number, instance))


def generator(*keys: int) -> np.random.Generator:
    """The random numbers that belong to these keys, whatever was drawn before."""
    return np.random.default_rng(keys)


def dice_of(seed: int, domain: int, instance: int) -> Dice:
    """Every third instance has the form of the one before: in turn a twin (other details only) and a sibling (other colours too)."""
    is_kin = instance % 3 == 2
    base = instance - 1 if is_kin else instance
    skin = base if instance % 2 == 0 else instance
    return Dice(generator(seed, domain, base, 0), generator(seed, domain, skin, 1), generator(seed, domain, instance, 2))


def _camera(rng: np.random.Generator, domain: Domain, parts: list[Part], shape: tuple[int, ...], difficulty: float) -> Camera:
    """A camera near or far: at full difficulty the thing fills 40 to 110 % of the shorter side, at none 70 to 110 %, and lies off the middle."""
    low = np.min([np.asarray(p.centre) - p.half for p in parts], axis=0)
    high = np.max([np.asarray(p.centre) + p.half for p in parts], axis=0)
    size, distance = float(max(high - low)), float(rng.uniform(2.2, 4.5) * max(high - low))
    share = float(np.exp(rng.uniform(np.log(0.7 - 0.3 * difficulty), np.log(1.1))))
    fill = share * (max(shape[:2]) if domain.is_outdoors and high[1] > 2 and shape[0] > shape[1] else min(shape[:2]))
    turn = rotation(rng.uniform(-domain.yaw_deg, domain.yaw_deg), rng.uniform(*domain.pitch_deg), rng.normal(0, 2.5))
    offset = rng.uniform(-1, 1, 2) * (0.09 + 0.25 * max(0.0, 0.8 - share)) * shape[1::-1]
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


def _photographed(image: np.ndarray, rng: np.random.Generator, difficulty: float) -> np.ndarray:
    """White balance, exposure, contrast, blur of the lens or of the hand, and noise; uint8 in and out."""
    kind = rng.random() / max(difficulty, 1e-9)
    if kind < 0.45:
        image = cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.3, 1.2)))
    elif kind < 0.6:
        image = _shaken(image, float(rng.uniform(2, 6)), float(rng.uniform(0, np.pi)))
    gains = (rng.uniform(0.86, 1.14, 3) * rng.uniform(0.6, 1.2)) ** difficulty
    pixels = (image.astype(np.float32) - 128) * np.float32(rng.uniform(0.8, 1.1)) + 128
    pixels = pixels * gains.astype(np.float32)
    pixels += rng.standard_normal(image.shape, dtype=np.float32) * np.float32(difficulty * rng.uniform(0, 7))
    return np.clip(pixels, 0, 255).astype(np.uint8)


def _shaken(image: np.ndarray, length: float, angle: float) -> np.ndarray:
    """Blur along a line of so many pixels."""
    kernel = np.zeros((7, 7), np.float32)
    reach = np.array([np.cos(angle), np.sin(angle)]) * length / 2
    ends = np.rint(3 + np.stack([-reach, reach])).astype(int)
    cv2.line(kernel, ends[0].tolist(), ends[1].tolist(), (1.0,), 1)
    return cv2.filter2D(image, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REPLICATE)


def _weathered(image: np.ndarray, rng: np.random.Generator, difficulty: float) -> np.ndarray:
    """Clear, hazy, dusky, rainy or snowing; uint8 in and out."""
    kind, strength = rng.random() / max(difficulty, 1e-9), float(rng.uniform(0.15, 0.5))
    height, width = image.shape[:2]
    if kind < 0.2:
        haze = np.full_like(image, int(rng.integers(170, 225)))
        return cv2.addWeighted(image, 1 - strength, haze, strength, 0)
    if kind < 0.35:
        dusk = np.array([0.55, 0.6, 0.85] if rng.random() < 0.5 else [0.95, 0.65, 0.5])
        return np.clip(image * (1 - strength * (1 - dusk * 0.7)), 0, 255).astype(np.uint8)
    if kind < 0.5:
        drops = np.zeros((height, width), np.uint8)
        is_snow, slant = rng.random() < 0.5, int(rng.integers(-4, 5))
        for x, y in (rng.uniform(0, 1, (int(rng.integers(30, 90)), 2)) * (width, height)).astype(int).tolist():
            if is_snow:
                cv2.circle(drops, (x, y), int(rng.integers(1, 3)), (230,), -1, cv2.LINE_AA)
            else:
                cv2.line(drops, (x, y), (x + slant, y + int(rng.integers(5, 14))), (120,), 1, cv2.LINE_AA)
        return cv2.add(image, cv2.merge([drops] * 3))
    return image
