"""One image of the drawn world: an instance before a background, in a light and weather, seen by a camera.

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
from guie.synthetic.drawing import Camera, Light, Part, floor, render, rotation, shadows
from guie.synthetic.packages import product
from guie.synthetic.skins import Colour, mottled, patterned, plain, tint
from guie.synthetic.solids import Dice
from guie.synthetic.toys import toy

SUPERSAMPLING = 1.5  # rays per pixel along each axis; 2 looks the same and draws a third fewer images a second
SKIES: tuple[tuple[Colour, Colour], ...] = (  # at the top, and low: fine, overcast, evening, night
    ((90, 150, 220), (200, 225, 245)),
    ((170, 175, 182), (215, 216, 218)),
    ((70, 80, 130), (240, 170, 120)),
    ((28, 34, 66), (84, 82, 120)),
)


@dataclass(frozen=True)
class Domain:
    """How the instances of one domain are made and photographed.

    Attributes:
        number: A part of the seed.
        make: Builds an instance.
        yaw_deg: Largest turn to either side.
        pitch_deg: Range of the camera's elevation.
        aspects: Ratios of height to width that occur.
        is_outdoors: Whether the background is sky, hills and trees instead of a wall and clutter.
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
        difficulty: 0 draws things large and sharp in clear weather, 1 also small, off centre, blurred, noisy, badly
            exposed and in bad weather.

    Returns:
        uint8 [h, w, 3], RGB.
    """
    d = DOMAINS[domain]
    rng = generator(seed, d.number, instance, view, 9)
    parts = _thing(domain, instance, seed)
    shape = _shape(image_px, d.aspects[int(rng.integers(len(d.aspects)))])
    camera = _camera(rng, d, parts, shape, difficulty)
    light = _light(rng)
    ground = np.empty((*shape, 3), np.uint8)
    _ground(ground, rng, d, camera)
    around = _trees_and_people(rng, camera) if d.is_outdoors else _clutter(rng, camera)
    image = _rendered(ground, camera, light, [*parts, *around])
    if d.is_outdoors:
        image = _weathered(image, rng, difficulty)
    return _photographed(image, rng, difficulty)


def _shape(image_px: int, aspect: float) -> tuple[int, int]:
    """Height and width of an image, by its longer side and height over width."""
    return (round(image_px * aspect), image_px) if aspect <= 1 else (image_px, round(image_px / aspect))


def _rendered(ground: np.ndarray, camera: Camera, light: Light, parts: list[Part]) -> np.ndarray:
    """Draws the parts and their shadows before a background, at `SUPERSAMPLING` times its size, and averages; uint8 [h,
    w, 3] as `ground`."""
    height, width = ground.shape[:2]
    canvas = cv2.resize(ground, None, fx=SUPERSAMPLING, fy=SUPERSAMPLING, interpolation=cv2.INTER_LINEAR)
    more = canvas.shape[1] / width
    offset = (camera.offset[0] * more, camera.offset[1] * more)
    closer = replace(camera, focal=camera.focal * more, offset=offset)
    shadows(canvas, closer, parts, 0.5)
    render(canvas, closer, light, parts)
    return cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA)


@lru_cache(maxsize=len(DOMAINS))  # the views of an instance are drawn one after the other
def _thing(domain: str, instance: int, seed: int) -> list[Part]:
    return DOMAINS[domain].make(dice_of(seed, DOMAINS[domain].number, instance))


def generator(*keys: int) -> np.random.Generator:
    """A generator seeded by these keys alone."""
    return np.random.default_rng(keys)


def dice_of(seed: int, domain: int, instance: int) -> Dice:
    """The generators of an instance. Every third instance has the form of the one before. In turn it is a twin, whose
    details alone differ, and a sibling, whose colours differ, too."""
    is_kin = instance % 3 == 2
    base = instance - 1 if is_kin else instance
    skin = base if instance % 2 == 0 else instance
    return Dice(
        generator(seed, domain, base, 0), generator(seed, domain, skin, 1), generator(seed, domain, instance, 2)
    )


def _camera(
    rng: np.random.Generator,
    domain: Domain,
    parts: list[Part],
    shape: tuple[int, int],
    difficulty: float,
) -> Camera:
    """A camera at a random distance and angle that looks at the thing.

    The thing fills 40 to 110 % of the image's shorter side at difficulty 1, and 70 to 110 % at difficulty 0. The
    smaller it is, the farther it may be off centre.
    """
    low, high = _extent(parts)
    size = float(max(high - low))
    distance = float(rng.uniform(2.2, 4.5) * size)
    share = float(np.exp(rng.uniform(np.log(0.7 - 0.3 * difficulty), np.log(1.1))))
    is_upright = domain.is_outdoors and high[1] > 2 and shape[0] > shape[1]  # a high building in a high picture
    fill = share * (max(shape) if is_upright else min(shape))
    yaw_deg = rng.uniform(-domain.yaw_deg, domain.yaw_deg)
    turn = rotation(yaw_deg, rng.uniform(*domain.pitch_deg), rng.normal(0, 2.5))
    right, down = (rng.uniform(-1, 1, 2) * (0.09 + 0.25 * max(0.0, 0.8 - share)) * shape[::-1]).tolist()
    x, y, z = ((low + high) / 2).tolist()
    return Camera(turn, (x, y, z), distance, float(fill * distance / size), (right, down))


def _extent(parts: list[Part]) -> tuple[np.ndarray, np.ndarray]:
    """The lowest and the highest coordinates of a thing, each float [3], as if none of its parts were turned."""
    low = np.min([np.asarray(part.centre) - part.half for part in parts], axis=0)
    high = np.max([np.asarray(part.centre) + part.half for part in parts], axis=0)
    return low, high


def _light(rng: np.random.Generator) -> Light:
    """A lamp above and in front of the thing. The weaker it is, the stronger is the ambient light."""
    direction = np.array([rng.uniform(-1, 1), rng.uniform(0.3, 1.2), rng.uniform(0.3, 1.0)])
    lamp = float(rng.uniform(0.25, 0.65))
    return Light(
        (direction / np.linalg.norm(direction)).astype(np.float32), lamp, float(rng.uniform(0.95, 1.1) - 0.75 * lamp)
    )


def _ground(canvas: np.ndarray, rng: np.random.Generator, domain: Domain, camera: Camera) -> None:
    """Draws the background: a landscape, a plain light grey as in catalogues, or a room."""
    if domain.is_outdoors:
        _outdoors(canvas, rng, camera)
    elif rng.random() < 0.25:  # a catalogue's photo
        canvas[:] = int(rng.integers(225, 256))
    else:
        _indoors(canvas, rng, camera)


def _outdoors(canvas: np.ndarray, rng: np.random.Generator, camera: Camera) -> None:
    """Draws sky and hills over grass, stone, sand, asphalt, water or snow."""
    _sky(canvas, rng, camera)
    colours = ((96, 128, 62), (150, 145, 136), (176, 160, 125), (104, 104, 108), (92, 118, 130), (222, 224, 228))
    texture = mottled(rng, colours[int(rng.integers(len(colours)))], 128, float(rng.uniform(4, 16)))
    floor(canvas, camera, texture, float(rng.uniform(5, 9)))


def _indoors(canvas: np.ndarray, rng: np.random.Generator, camera: Camera) -> None:
    """Draws a wall, sometimes with blurred pictures, over a table or a carpet."""
    height, width = canvas.shape[:2]
    wall = tint(rng, (0.05, 0.6), (0.25, 0.95))
    table = tint(rng, (0.05, 0.6), (0.25, 0.95))
    canvas[:] = cv2.resize(mottled(rng, wall, 32, 26), (width, height), interpolation=cv2.INTER_LINEAR)
    if rng.random() < 0.5:
        _pictures(canvas, rng)
    if rng.random() < 0.4:
        grain = patterned(rng, table, tint(rng, (0.05, 0.5), (0.3, 0.95)))[0]
    else:
        grain = mottled(rng, table, 64, 30)
    floor(canvas, camera, cv2.blur(grain, (3, 3)), float(rng.uniform(0.8, 2.5)))


def _pictures(canvas: np.ndarray, rng: np.random.Generator) -> None:
    """Draws coloured rectangles on a wall and blurs the image."""
    height, width = canvas.shape[:2]
    for _ in range(int(rng.integers(3, 9))):
        x, y, w, h = (int(v) for v in rng.uniform(0, 1, 4) * (width, height * 0.7, width / 3, height / 2))
        cv2.rectangle(canvas, (x, y), (x + w, y + h), tint(rng, (0.1, 0.8), (0.2, 0.9)), -1)
    cv2.blur(canvas, (7, 7), canvas)


def _sky(canvas: np.ndarray, rng: np.random.Generator, camera: Camera) -> None:
    """Draws a gradient with clouds, and a ridge of hills or roofs on the horizon."""
    height, width = canvas.shape[:2]
    top, low = (np.array(colour, np.float32) for colour in SKIES[int(rng.choice(4, p=(0.45, 0.3, 0.15, 0.1)))])
    slope = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    cover = rng.uniform(-1, 1, (7, 5)).astype(np.float32)
    clouds = cv2.resize(cover, (width, height), interpolation=cv2.INTER_CUBIC)[..., None]
    sky = top * (1 - slope) + low * slope + 38 * np.maximum(clouds - 0.1, 0)
    canvas[:] = np.clip(sky, 0, 255).astype(np.uint8)
    _ridge(canvas, rng, _horizon(camera, height), low)


def _horizon(camera: Camera, height: int) -> float:
    """The row of the horizon in the middle of an image of this height."""
    return height / 2 + camera.offset[1] + camera.focal * camera.turn[2, 1] / max(camera.turn[1, 1], 0.1) * -1.0


def _ridge(canvas: np.ndarray, rng: np.random.Generator, horizon: float, haze: np.ndarray) -> None:
    """Draws hills or roofs that rise from the row of the horizon; their colour is mixed with that of the low sky."""
    height, width = canvas.shape[:2]
    n = int(rng.integers(8, 24))
    y = horizon - rng.uniform(0, 0.16) * height * rng.uniform(0, 1, n)
    x = np.linspace(-10, width + 10, n)
    if rng.random() < 0.5:  # roofs instead of hills
        x = np.repeat(x, 2)[1:]
        y = np.repeat(y, 2)[:-1]
    outline = np.concatenate([np.stack([x, y], 1), [[width + 10, height], [-10, height]]]).astype(np.int32)
    colour = 0.6 * haze + 0.4 * np.array(tint(rng, (0.1, 0.5), (0.25, 0.6)))
    cv2.fillPoly(canvas, [outline], tuple(int(c) for c in colour), cv2.LINE_AA)


def _beside(camera: Camera, right: float, nearer: float) -> tuple[float, float]:
    """A position (x, z) on the ground: `right` units to the right of the thing as the camera sees it, and `nearer`
    units nearer to the camera."""
    return (
        float(camera.target[0] + camera.turn[0, 0] * right + camera.turn[2, 0] * nearer),
        float(camera.target[2] + camera.turn[0, 2] * right + camera.turn[2, 2] * nearer),
    )


def _trees_and_people(rng: np.random.Generator, camera: Camera) -> list[Part]:
    """Trees beside, behind and sometimes before a building, and passers-by in front of it."""
    trees = [part for _ in range(int(rng.integers(0, 4))) for part in _tree(rng, camera)]
    people = [part for _ in range(int(rng.integers(0, 5))) for part in _passer_by(rng, camera)]
    return [*trees, *people]


def _tree(rng: np.random.Generator, camera: Camera) -> list[Part]:
    """The trunk and the crown of a fir or a leafy tree to the left or right of a building."""
    x, z = _beside(camera, float(rng.choice([-1, 1]) * rng.uniform(0.9, 2.2)), float(rng.uniform(-2, 2.2)))
    size = float(rng.uniform(0.25, 0.55))
    leaf = tint(rng, (0.3, 0.7), (0.25, 0.55))
    skin = mottled(rng, (leaf[1] // 2, max(leaf), leaf[2] // 3), 24, 30)[None]
    trunk = Part("tube", (x, size, z), (0.06, size, 0.06), plain((92, 70, 50)))
    is_fir = rng.random() < 0.4
    half = (size, size * (1.8 if is_fir else 1.1), size)
    return [trunk, Part("tube" if is_fir else "ball", (x, size * 2.2, z), half, skin, (1.0, 0.0))]


def _passer_by(rng: np.random.Generator, camera: Camera) -> list[Part]:
    """The body and the head of someone in front of a building."""
    x, z = _beside(camera, float(rng.uniform(-1.3, 1.3)), float(rng.uniform(1.2, 2.4)))
    clothes = plain(tint(rng, (0.1, 0.9), (0.15, 0.8)))
    body = Part("tube", (x, 0.15, z), (0.06, 0.15, 0.06), clothes, (0.4, 0.0))
    return [body, Part("ball", (x, 0.34, z), (0.045, 0.055, 0.045), plain((205, 160, 130)))]


def _clutter(rng: np.random.Generator, camera: Camera) -> list[Part]:
    """Boxes, cans and balls around a thing. The first may stand before it and hide a part; sometimes fingers do."""
    parts = []
    for k in range(int(rng.integers(0, 5))):
        is_in_front = bool(k == 0 and rng.random() < 0.6)
        parts.append(_bystander(rng, camera, is_in_front))
    return [*parts, *_fingers(rng, camera)] if rng.random() < 0.2 else parts


def _bystander(rng: np.random.Generator, camera: Camera, is_in_front: bool) -> Part:
    """A box, can or ball beside a thing, before it or farther away."""
    right = float(rng.choice([-1, 1]) * (rng.uniform(0.45, 0.85) if is_in_front else rng.uniform(1.1, 2.0)))
    x, z = _beside(camera, right, float(rng.uniform(0.9, 1.3) if is_in_front else rng.uniform(-1.6, 0.4)))
    r = float(rng.uniform(0.18, 0.4))
    h = float(rng.uniform(0.2, 0.45) if is_in_front else rng.uniform(0.25, 0.9))
    skin = patterned(rng, tint(rng), tint(rng))
    shape = ("ball", "block", "tube")[int(rng.integers(3))]
    if shape == "ball":
        h = r
    turn = rotation(rng.uniform(-60, 60))
    return Part(shape, (x, h, z), (r, h, r), skin, turn=turn, gloss=float(rng.choice([0, 0.3])))


def _fingers(rng: np.random.Generator, camera: Camera) -> list[Part]:
    """Four fingers that reach in front of a thing from the left or right."""
    side = float(rng.choice([-1, 1]))
    y = float(rng.uniform(0.3, 0.9))
    light = max(tint(rng, (0.3, 0.5), (0.45, 0.9)))
    skin = plain((light, int(0.72 * light), int(0.55 * light)))
    x, z = _beside(camera, side * 0.75, 0.75)
    turn = camera.turn.T
    return [Part("ball", (x, y + 0.16 * k, z), (0.34, 0.085, 0.1), skin, turn=turn) for k in range(4)]


def _photographed(image: np.ndarray, rng: np.random.Generator, difficulty: float) -> np.ndarray:
    """Adds the changes of a camera: white balance, exposure, contrast, defocus or motion blur, noise; uint8 in and
    out."""
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
    """Motion blur along a line of this length in pixels and this angle in radians."""
    kernel = np.zeros((7, 7), np.float32)
    reach = np.array([np.cos(angle), np.sin(angle)]) * length / 2
    ends = np.rint(3 + np.stack([-reach, reach])).astype(int)
    cv2.line(kernel, ends[0].tolist(), ends[1].tolist(), (1.0,), 1)
    return cv2.filter2D(image, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REPLICATE)


def _weathered(image: np.ndarray, rng: np.random.Generator, difficulty: float) -> np.ndarray:
    """Adds haze, dusk, rain, snow or nothing; uint8 in and out."""
    kind = rng.random() / max(difficulty, 1e-9)
    strength = float(rng.uniform(0.15, 0.5))
    if kind < 0.2:
        haze = np.full_like(image, int(rng.integers(170, 225)))
        return cv2.addWeighted(image, 1 - strength, haze, strength, 0)
    if kind < 0.35:
        dusk = np.array([0.55, 0.6, 0.85] if rng.random() < 0.5 else [0.95, 0.65, 0.5])
        return np.clip(image * (1 - strength * (1 - dusk * 0.7)), 0, 255).astype(np.uint8)
    if kind < 0.5:
        return cv2.add(image, cv2.merge([_rain_or_snow(rng, *image.shape[:2])] * 3))
    return image


def _rain_or_snow(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """The light that flakes or slanted drops add, uint8 [height, width]."""
    drops = np.zeros((height, width), np.uint8)
    is_snow = rng.random() < 0.5
    slant = int(rng.integers(-4, 5))
    places = rng.uniform(0, 1, (int(rng.integers(30, 90)), 2)) * (width, height)
    for x, y in places.astype(int).tolist():
        if is_snow:
            cv2.circle(drops, (x, y), int(rng.integers(1, 3)), (230,), -1, cv2.LINE_AA)
        else:
            cv2.line(drops, (x, y), (x + slant, y + int(rng.integers(5, 14))), (120,), 1, cv2.LINE_AA)
    return drops
