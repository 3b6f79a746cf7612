"""A small ray caster: textured balls, blocks and tubes, seen through a pinhole camera.

Coordinates: x to the right, y up, z towards the viewer. Things stand on the plane y = 0 around the origin and are about
two units high. Every part is a unit shape (within -1..1 on each axis) that is stretched, turned and moved. Textures are
called skins.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

FLAT_NORMAL = 1e-6  # smallest divisor, for rays that are parallel to a plane
HORIZON = 1e-4  # slope of a ray below which it meets the ground


@dataclass(frozen=True)
class Part:
    """One textured solid.

    Attributes:
        shape: ball, block or tube (its axis is y).
        centre: Its middle.
        half: Half of its extents along its own axes.
        skin: Textures uint8 [n_panels, h, w, 3]. The panels of a block are front/back, left/right and top/bottom; of a
            tube its side and its ends; of a ball its whole surface.
        taper: How much narrower it is at the top, in x and z: 0 is straight, 1 a point or a ridge, -1 twice as wide. A
            tube uses the first number only.
        turn: Rotation of the part's own axes, float [3, 3].
        gloss: Strength of the highlight, 0..1.
    """

    shape: str
    centre: tuple[float, float, float]
    half: tuple[float, float, float]
    skin: np.ndarray
    taper: tuple[float, float] = (0.0, 0.0)
    turn: np.ndarray | None = None
    gloss: float = 0.0


@dataclass(frozen=True)
class Camera:
    """A pinhole that looks at `target`.

    Attributes:
        turn: From the world's axes to the camera's, float [3, 3].
        target: The point in the middle of the image, before `offset`.
        distance: From the camera to the target.
        focal: Focal length in pixels.
        offset: Where the target lies in the image, in pixels from the middle (right, down).
    """

    turn: np.ndarray
    target: tuple[float, float, float]
    distance: float
    focal: float
    offset: tuple[float, float] = (0.0, 0.0)

    @property
    def position(self) -> np.ndarray:
        """Where the camera is, in the world; float [3]."""
        return np.asarray(self.target) + self.turn.T @ np.array([0.0, 0.0, self.distance])

    def project(self, points: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Projects world points, float [n, 3], to pixels (x, y), float [n, 2], of an image of this shape. Points behind
        the camera get pixels far outside."""
        seen = (points - self.position) @ self.turn.T
        depth = np.maximum(-seen[:, 2], 1e-3)
        x = shape[1] / 2 + self.offset[0] + self.focal * seen[:, 0] / depth
        y = shape[0] / 2 + self.offset[1] - self.focal * seen[:, 1] / depth
        return np.stack([x, y], axis=1)

    def rays(
        self, shape: tuple[int, ...], left: int, top: int, right: int, bottom: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Slopes (x, y) of the rays through a window of an image of this shape: float32 [1, width] and [height, 1]."""
        x = (np.arange(left, right, dtype=np.float32) + 0.5 - shape[1] / 2 - self.offset[0]) / self.focal
        y = -(np.arange(top, bottom, dtype=np.float32) + 0.5 - shape[0] / 2 - self.offset[1]) / self.focal
        return x[None, :], y[:, None]


@dataclass(frozen=True)
class Light:
    """A distant lamp and ambient light.

    Attributes:
        direction: Unit vector towards the lamp in the camera's axes, float32 [3].
        lamp: Brightness that the lamp adds to a surface that faces it.
        ambient: Brightness of every surface.
    """

    direction: np.ndarray
    lamp: float
    ambient: float


def rotation(yaw_deg: float, pitch_deg: float = 0.0, roll_deg: float = 0.0) -> np.ndarray:
    """The rotation about y, then x, then z; float [3, 3]."""
    (cy, sy), (cp, sp), (cr, sr) = (
        (math.cos(math.radians(a)), math.sin(math.radians(a))) for a in (yaw_deg, pitch_deg, roll_deg)
    )
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return about_z @ about_x @ about_y


def render(canvas: np.ndarray, camera: Camera, light: Light, parts: Sequence[Part]) -> None:
    """Draws the parts into `canvas`, uint8 [h, w, 3]; nearer parts hide farther ones."""
    depth = np.full(canvas.shape[:2], np.inf, np.float32)
    for part in parts:
        _render_part(canvas, depth, camera, light, part)


def _render_part(canvas: np.ndarray, depth: np.ndarray, camera: Camera, light: Light, part: Part) -> None:
    """Draws one part where it is nearer than `depth`, float32 [h, w], and writes its distance there."""
    left, top, right, bottom = _bounds(camera, part, canvas.shape)
    if left >= right or top >= bottom:
        return
    start, to_part = _camera_in_part(camera, part)
    x, y = camera.rays(canvas.shape, left, top, right, bottom)
    ray = _directions(x, y, to_part)
    cast = {"ball": _cast_ball, "tube": _cast_tube, "block": _cast_block}[part.shape]
    distance, face = cast(start, ray, part.taper)
    window = depth[top:bottom, left:right]
    hit = distance < window
    flat = np.flatnonzero(hit)
    if not flat.size:
        return
    np.copyto(window, distance, where=hit)
    reach = distance.ravel()[flat]
    face = face.ravel()[flat]
    point = np.stack([start[k] + reach * ray[k].ravel()[flat] for k in range(3)])
    normal = to_part.T @ _normals(part, point, face)
    canvas[top:bottom, left:right][hit] = _shaded(part, light, normal, _paint(part, point, face))


def _directions(x: np.ndarray, y: np.ndarray, turn: np.ndarray) -> list[np.ndarray]:
    """The directions of rays, by their slopes [1, w] and [h, 1], along each of three turned axes: float32 [h, w]."""
    return [x * turn[k, 0] + y * turn[k, 1] - turn[k, 2] for k in range(3)]


def _axes(part: Part) -> np.ndarray:
    """The part's own axes in the world, float [3, 3], one a column."""
    return np.eye(3) if part.turn is None else part.turn


def _bounds(camera: Camera, part: Part, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """The window (left, top, right, bottom) of an image that holds a part; empty where that is out of view."""
    signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float)
    widest = 1 - min(0.0, *part.taper)  # a negative taper widens the top
    around = signs * np.asarray(part.half) * [widest, 1, widest]
    corners = camera.project(around @ _axes(part).T + np.asarray(part.centre), shape)
    size = [shape[1], shape[0]]
    left, top = np.clip(np.floor(corners.min(0)).astype(int), 0, size).tolist()
    right, bottom = np.clip(np.ceil(corners.max(0)).astype(int) + 1, 0, size).tolist()
    return left, top, right, bottom


def _camera_in_part(camera: Camera, part: Part) -> tuple[list[float], np.ndarray]:
    """The camera in the space where a part is a unit shape.

    Returns:
        Its position, and the matrix that maps directions in the camera's axes to that space, float32 [3, 3].
    """
    into_part = np.diag(1 / np.asarray(part.half)) @ _axes(part).T
    place = into_part @ (camera.position - np.asarray(part.centre))
    start = [float(value) for value in place]  # numpy's floats would turn the float32 arrays into float64
    return start, (into_part @ camera.turn.T).astype(np.float32)


def _shaded(part: Part, light: Light, normal: np.ndarray, paint: np.ndarray) -> np.ndarray:
    """The colours of lit points, uint8 [n, 3].

    Args:
        part: Its gloss is read.
        light: The lamp and the ambient light.
        normal: Normals in the camera's axes, of any length, float32 [3, n].
        paint: Colours of the skin, float32 [n, 3] or [1, 3].
    """
    length = np.sqrt(np.einsum("kn,kn->n", normal, normal) + 1e-12)
    towards = np.maximum(light.direction @ normal, 0) / length
    colour = paint * (light.ambient + light.lamp * towards)[:, None]
    if part.gloss:
        halfway = light.direction + np.array([0, 0, 1], np.float32)
        shine = np.maximum(halfway @ normal, 0) / (length * np.float32(np.linalg.norm(halfway)))
        eighth = np.square(np.square(np.square(shine)))
        colour += (255 * part.gloss * eighth * eighth * eighth)[:, None]
    return np.minimum(colour, 255).astype(np.uint8)


def _cast_ball(start: list[float], ray: list[np.ndarray], taper: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Distance along each ray to the unit ball, inf where it is missed, and the face that is hit, always 0."""
    a = ray[0] ** 2 + ray[1] ** 2 + ray[2] ** 2
    b = start[0] * ray[0] + start[1] * ray[1] + start[2] * ray[2]
    root = b * b - a * (sum(value * value for value in start) - 1)
    distance = np.where(root > 0, (-b - np.sqrt(np.maximum(root, 0))) / a, np.inf)
    return np.where(distance > 0, distance, np.inf), np.zeros(a.shape, np.int8)


def _cast_tube(start: list[float], ray: list[np.ndarray], taper: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Distance along each ray to a tube whose radius is 1 at the bottom and 1 - taper at the top, and the face that is
    hit: 0 is its side, 1 an end."""
    grow = -taper[0] / 2
    middle = 1 - taper[0] / 2
    side = _cast_side(start, ray, middle, grow)
    end = _cast_end(start, ray, middle, grow)
    return np.minimum(side, end), (end < side).astype(np.int8)


def _cast_side(start: list[float], ray: list[np.ndarray], middle: float, grow: float) -> np.ndarray:
    """Distance along each ray to the side of a tube of radius middle + grow * y; inf where it is missed."""
    radius = middle + grow * start[1]
    a = ray[0] ** 2 + ray[2] ** 2 - (grow * ray[1]) ** 2
    b = start[0] * ray[0] + start[2] * ray[2] - grow * radius * ray[1]
    root = b * b - a * (start[0] ** 2 + start[2] ** 2 - radius**2)
    square = np.sqrt(np.maximum(root, 0))
    safe = np.where(np.abs(a) < FLAT_NORMAL, FLAT_NORMAL, a)
    side = np.full(a.shape, np.inf, np.float32)
    for sign in (-1, 1) if grow else (-1,):  # a straight tube is entered at the nearer root
        distance = (-b + sign * square) / safe
        is_inside = (root > 0) & (distance > 0) & (np.abs(start[1] + distance * ray[1]) <= 1)
        side = np.where(is_inside & (distance < side), distance, side)
    return side


def _cast_end(start: list[float], ray: list[np.ndarray], middle: float, grow: float) -> np.ndarray:
    """Distance along each ray to the end of a tube that faces the camera, if one does; inf where it is missed."""
    end = np.full(ray[0].shape, np.inf, np.float32)
    if abs(start[1]) <= 1:
        return end
    y = math.copysign(1.0, start[1])
    distance = (y - start[1]) / np.where(np.abs(ray[1]) < FLAT_NORMAL, FLAT_NORMAL, ray[1])
    across = (start[0] + distance * ray[0]) ** 2 + (start[2] + distance * ray[2]) ** 2
    return np.where((distance > 0) & (across <= (middle + grow * y) ** 2), distance, end)


def _cast_block(start: list[float], ray: list[np.ndarray], taper: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Distance along each ray to a block that narrows upwards, and the face that is hit: 0 and 1 look along z, 2 and 3
    along x, 4 and 5 along y."""
    enter, leave = np.zeros_like(ray[0]), np.full_like(ray[0], np.inf)
    face = np.zeros(enter.shape, np.int8)
    for k, (normal, reach) in enumerate(block_planes(taper)):
        along = sum(n * r for n, r in zip(normal, ray, strict=True) if n)
        inside = reach - sum(n * value for n, value in zip(normal, start, strict=True))
        if inside < 0:  # the camera is outside this plane: a ray must enter through it
            distance = inside / np.minimum(along, -FLAT_NORMAL)
            nearer = distance > enter
            np.copyto(enter, distance, where=nearer)
            face[nearer] = k
        else:
            np.minimum(leave, inside / np.maximum(along, FLAT_NORMAL), out=leave)
    return np.where((enter > 0) & (enter < leave), enter, np.inf), face


def block_planes(taper: tuple[float, float]) -> list[tuple[tuple[float, float, float], float]]:
    """The six planes (normal, reach) of a unit block: a point p is inside if normal . p <= reach for all of them."""
    tx, tz = taper
    sides = [
        ((0.0, tz / 2, 1.0), 1 - tz / 2),
        ((0.0, tz / 2, -1.0), 1 - tz / 2),
        ((1.0, tx / 2, 0.0), 1 - tx / 2),
        ((-1.0, tx / 2, 0.0), 1 - tx / 2),
    ]
    return [*sides, ((0.0, 1.0, 0.0), 1.0), ((0.0, -1.0, 0.0), 1.0)]


def _normals(part: Part, point: np.ndarray, face: np.ndarray) -> np.ndarray:
    """Outward normals of points of the unit shape, float32 [3, n], of any length."""
    if part.shape == "ball":
        return point
    if part.shape == "block":
        return np.array([normal for normal, _ in block_planes(part.taper)], np.float32).T[:, face]
    grow = -part.taper[0] / 2
    normal = np.stack([point[0], -grow * (1 + grow + grow * point[1]), point[2]])
    is_end = face == 1
    normal[:, is_end] = [[0], [1], [0]] * np.sign(point[1, is_end])
    return normal


def _paint(part: Part, point: np.ndarray, face: np.ndarray) -> np.ndarray:
    """The skin's colours at points [3, n] of the unit shape: float32 [n, 3], or [1, 3] if it has one colour only."""
    n_panels, height, width = part.skin.shape[:3]
    if n_panels * height * width == 1:
        return part.skin.reshape(1, 3).astype(np.float32)
    if part.shape == "block":
        u, v = _places_on_block(point, face)
        panel = face // 2
    else:
        u, v = _places_around(part.shape, point, face)
        panel = face
    row = np.minimum(np.maximum((v * height).astype(np.int32), 0), height - 1)
    column = np.minimum(np.maximum((u * width).astype(np.int32), 0), width - 1)
    return part.skin[np.minimum(panel, n_panels - 1), row, column].astype(np.float32)


def _places_on_block(point: np.ndarray, face: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where points [3, n] of a unit block lie on the panel of their face: shares [n] of its width and height."""
    x, y, z = point
    u = (np.choose(face, [x, -x, -z, z, x, x]) + 1) / 2
    return u, (1 - np.where(face >= 4, -z, y)) / 2


def _places_around(shape: str, point: np.ndarray, face: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where points [3, n] of a unit ball or tube lie on their panel: shares [n] of its width and height."""
    x, y, z = point
    u = np.arctan2(x, z) / (2 * np.pi) + 0.5
    v = 0.5 - np.arcsin(np.clip(y, -1, 1)) / np.pi if shape == "ball" else (1 - y) / 2
    if not face.any():
        return u, v
    return np.where(face == 1, (x + 1) / 2, u), np.where(face == 1, (z + 1) / 2, v)


def floor(canvas: np.ndarray, camera: Camera, texture: np.ndarray, tile: float) -> None:
    """Draws the plane y = 0 into `canvas`, covered with `texture`, one copy every `tile` units. Far away it fades to
    the texture's mean colour."""
    height, width = canvas.shape[:2]
    x, y = camera.rays(canvas.shape, 0, 0, width, height)
    ray = _directions(x, y, camera.turn.astype(np.float32).T)
    place = [float(value) for value in camera.position]
    is_below = ray[1] < -HORIZON
    distance = np.where(is_below, -place[1] / np.minimum(ray[1], -HORIZON), 1e4).astype(np.float32)
    u, v = ((place[k] + distance * ray[k]) / tile % 1 * n for k, n in ((0, texture.shape[1]), (2, texture.shape[0])))
    laid = _looked_up(texture, u, v)
    fade = np.clip(distance / (6 * camera.distance), 0, 1)[..., None]
    laid = (laid * (1 - fade) + texture.reshape(-1, 3).mean(0) * fade + 0.5).astype(np.uint8)
    canvas[is_below] = laid[is_below]


def _looked_up(texture: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The colours of a texture that repeats, uint8 [h, w, 3], at the pixels (u, v), each [h, w]."""
    where = (u.astype(np.float32), v.astype(np.float32))
    return cv2.remap(texture, *where, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)


def shadows(canvas: np.ndarray, camera: Camera, parts: Sequence[Part], strength: float) -> None:
    """Darkens the ground of `canvas` softly below all parts that stand less than 0.3 units above it."""
    small = 4  # drawn at a quarter of the size: it is blurred anyway
    mask = np.zeros((canvas.shape[0] // small, canvas.shape[1] // small), np.uint8)
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    ring = np.stack([np.cos(angle), np.zeros_like(angle), np.sin(angle)], axis=1)
    for part in parts:
        if part.centre[1] - part.half[1] < 0.3:
            spot = 1.2 * max(part.half[0], part.half[2]) * ring + np.array([part.centre[0], 0.0, part.centre[2]])
            cv2.fillPoly(mask, [np.round(camera.project(spot, canvas.shape) / small).astype(np.int32)], (255,))
    soft = cv2.GaussianBlur(mask, (0, 0), max(mask.shape) / 24)
    light = (
        255
        - cv2.resize(soft, (canvas.shape[1], canvas.shape[0]), interpolation=cv2.INTER_LINEAR).astype(np.float32)
        * strength
    )
    cv2.multiply(canvas, cv2.merge([light, light, light]), dst=canvas, scale=1 / 255, dtype=cv2.CV_8U)
