"""The ray caster against rays that are followed one by one."""

import math

import numpy as np
import pytest

from guie.synthetic.drawing import Camera, Light, Part, floor, render, rotation, shadows
from guie.synthetic.skins import plain, tint

LIGHT = Light(np.array([0, 0, 1], np.float32), 0.0, 1.0)  # no shading: a part shows its skin
WHITE = plain((255, 255, 255))


def is_inside(part: Part, points: np.ndarray) -> np.ndarray:
    """Which points [n, 3] of the world lie within the part; from the definition, with no ray."""
    turn = np.eye(3) if part.turn is None else part.turn
    x, y, z = (((points - np.array(part.centre)) @ turn) / np.array(part.half)).T
    along = (y + 1) / 2
    if part.shape == "ball":
        return x * x + y * y + z * z <= 1
    if part.shape == "tube":
        return (abs(y) <= 1) & (np.hypot(x, z) <= 1 - part.taper[0] * along)
    return (abs(y) <= 1) & (abs(x) <= 1 - part.taper[0] * along) & (abs(z) <= 1 - part.taper[1] * along)


def marched(camera: Camera, part: Part, px: int) -> np.ndarray:
    """Which pixels see the part, by 800 small steps along the ray of each; bool [px, px]."""
    seen = np.zeros((px, px), bool)
    steps = np.linspace(3, 7, 800)[:, None]
    for row in range(px):
        for column in range(px):
            ray = np.array(
                [
                    (column + 0.5 - px / 2 - camera.offset[0]) / camera.focal,
                    -(row + 0.5 - px / 2 - camera.offset[1]) / camera.focal,
                    -1.0,
                ]
            )
            seen[row, column] = is_inside(part, camera.position + steps * (camera.turn.T @ ray)).any()
    return seen


@pytest.mark.parametrize(
    "part",
    [
        Part("ball", (0.2, 0.1, 0), (0.9, 0.5, 0.7), WHITE, turn=rotation(30, 20, 10)),
        Part("tube", (0, 0, 0), (0.6, 0.8, 0.6), WHITE, turn=rotation(0, 60)),
        Part("tube", (0, 0, 0), (0.7, 0.9, 0.7), WHITE, (1.0, 0.0)),
        Part("tube", (0, 0, 0), (0.5, 0.6, 0.5), WHITE, (-0.5, 0.0), rotation(10, 80)),
        Part("block", (0, -0.1, 0.1), (0.7, 0.5, 0.4), WHITE, turn=rotation(20, 50)),
        Part("block", (0, 0, 0), (0.8, 0.7, 0.6), WHITE, (1.0, 1.0)),
        Part("block", (0, 0, 0), (0.8, 0.7, 0.6), WHITE, (1.0, 0.0), rotation(70)),
        Part("block", (0, 0, 0), (0.8, 0.7, 0.6), WHITE, (0.3, 0.9)),
    ],
    ids=["ball", "tube", "cone", "cup", "box", "pyramid", "gable", "bag"],
)
def test_outline_of_a_part_is_that_of_a_ray_march(part: Part):
    camera = Camera(rotation(25, 18, 6), (0.0, 0.0, 0.0), 5.0, 44.0, (1.5, -1.0))
    canvas = np.zeros((24, 24, 3), np.uint8)
    render(canvas, camera, LIGHT, [part])
    expected = marched(camera, part, 24)
    assert expected.sum() > 40
    assert (expected != (canvas[..., 0] > 0)).sum() <= 2  # steps of 0.005 may jump over a corner


def test_nearer_part_hides_the_farther_whatever_their_order():
    near, far = (
        Part("ball", (0, 0, 1.5), (0.5, 0.5, 0.5), plain((255, 0, 0))),
        Part("block", (0, 0, -1), (1, 1, 0.2), plain((0, 0, 255))),
    )
    camera, results = Camera(np.eye(3), (0, 0, 0), 6.0, 60.0), []
    for parts in ([near, far], [far, near]):
        canvas = np.zeros((32, 32, 3), np.uint8)
        render(canvas, camera, LIGHT, parts)
        results.append(canvas)
    np.testing.assert_array_equal(*results)
    assert results[0][16, 16].tolist() == [255, 0, 0] and results[0][9, 9].tolist() == [0, 0, 255]


@pytest.mark.parametrize(("turn", "colour"), [(0, 10), (180, 10), (90, 20), (-90, 20)])
def test_block_shows_front_and_side_panels(turn: float, colour: int):
    skin = np.stack([np.full((4, 4, 3), value, np.uint8) for value in (10, 20, 30)])
    canvas = np.zeros((16, 16, 3), np.uint8)
    render(
        canvas, Camera(rotation(turn), (0, 0, 0), 5.0, 40.0), LIGHT, [Part("block", (0, 0, 0), (0.8, 0.8, 0.8), skin)]
    )
    assert canvas[8, 8].tolist() == [colour] * 3


@pytest.mark.parametrize("shape", ["block", "tube", "ball"])
def test_writing_on_a_part_reads_from_left_to_right_and_top_to_bottom(shape: str):
    panel = np.zeros((40, 40, 3), np.uint8)
    panel[:20, :20], panel[:20, 20:], panel[20:, :20], panel[20:, 20:] = 50, 100, 150, 200
    skin = panel[None] if shape == "block" else np.roll(np.concatenate([panel, panel], axis=1), 20, axis=1)[None]
    canvas = np.zeros((40, 40, 3), np.uint8)
    render(canvas, Camera(np.eye(3), (0, 0, 0), 8.0, 100.0), LIGHT, [Part(shape, (0, 0, 0), (1, 1, 1), skin)])
    assert [int(canvas[y, x, 0]) for y, x in ((15, 15), (15, 24), (24, 15), (24, 24))] == [50, 100, 150, 200]


def test_lamp_from_the_right_lights_the_right_side():
    canvas = np.zeros((32, 32, 3), np.uint8)
    lamp = Light(np.array([1, 0, 0], np.float32), 0.8, 0.2)
    render(
        canvas,
        Camera(np.eye(3), (0, 0, 0), 5.0, 60.0),
        lamp,
        [Part("ball", (0, 0, 0), (1, 1, 1), plain((200, 200, 200)))],
    )
    assert canvas[16, 24, 0] > 110 and canvas[16, 7, 0] == 40  # the ambient fifth


def test_render_leaves_the_rest_of_the_canvas_alone():
    canvas = np.full((20, 30, 3), 77, np.uint8)
    render(
        canvas,
        Camera(np.eye(3), (0, 0, 0), 5.0, 20.0),
        LIGHT,
        [Part("ball", (90, 0, 0), (1, 1, 1), WHITE), Part("ball", (0, 0, 0), (0.5, 0.5, 0.5), WHITE)],
    )
    assert (canvas[:, :8] == 77).all() and (canvas[:, 22:] == 77).all() and canvas[10, 15, 0] == 255


def test_floor_fills_what_lies_below_the_horizon():
    canvas = np.full((60, 40, 3), 200, np.uint8)
    camera = Camera(rotation(0, 20), (0, 0.5, 0), 4.0, 50.0)
    floor(canvas, camera, np.full((8, 8, 3), 90, np.uint8), 1.0)
    horizon = 30 - 50 * math.tan(math.radians(20))
    assert (canvas[: math.floor(horizon) - 1] == 200).all() and (canvas[math.ceil(horizon) + 1 :] == 90).all()


def test_shadow_is_dark_below_a_part_and_absent_far_from_it():
    canvas = np.full((80, 80, 3), 200, np.uint8)
    shadows(
        canvas, Camera(rotation(0, 60), (0, 0, 0), 6.0, 60.0), [Part("ball", (0, 0.4, 0), (0.4, 0.4, 0.4), WHITE)], 0.5
    )
    assert canvas[40, 40, 0] < 130 and canvas[2, 2, 0] == 200


def test_tint_keeps_to_its_ranges():
    rng = np.random.default_rng(0)
    colours = np.array([tint(rng, (0.0, 0.1), (0.9, 1.0)) for _ in range(50)])
    assert colours.max(1).min() >= 228 and colours.min() >= 200
