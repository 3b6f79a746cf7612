"""What each change does to an image that was made to show it."""

import multiprocessing
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import albumentations as A
import cv2
import numpy as np
import pytest
import torch

from guie.data import augment
from guie.data.augment import GREY, TrainTransform, squash
from guie.recipe import Augment

NOTHING = Augment(flip=0.0)
EVERYTHING = Augment(
    flip=0.5, shift=0.1, scale=0.2, rotate_deg=15, brightness=0.2, color=0.5, cutout=0.5, jpeg=0.5, randaugment=2
)


def photo(height: int = 120, width: int = 160, seed: int = 0) -> np.ndarray:
    """Soft colours, like a photograph's."""
    coarse = np.random.default_rng(seed).integers(50, 206, (8, 10, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def spot(px: int = 100, x: int = 50, y: int = 50) -> np.ndarray:
    """Black, but for a white disc around (x, y)."""
    return cv2.circle(np.zeros((px, px, 3), np.uint8), (x, y), 8, (255, 255, 255), -1)


def middle_of_light(image: np.ndarray) -> tuple[float, float]:
    """Centre of gravity (x, y)."""
    weight = image.astype(float).sum(2)
    y, x = np.mgrid[0 : image.shape[0], 0 : image.shape[1]]
    return float((x * weight).sum() / weight.sum()), float((y * weight).sum() / weight.sum())


def test_each_of_randaugments_operations_grows_with_the_strength():
    changed = []
    for weak, strong in zip(augment._operations(0.1), augment._operations(1.0), strict=True):
        pipelines = [A.Compose([operation]) for operation in (weak, strong)]
        for pipeline in pipelines:
            pipeline.set_random_seed(0)
        changed.append(
            [
                max(float(np.abs(p(image=photo())["image"].astype(float) - photo()).mean()) for _ in range(8))
                for p in pipelines
            ]
        )
    assert len(changed) == 14
    nothing, auto_contrast, equalize, *others = changed
    assert (
        nothing == [0, 0] and auto_contrast[0] == auto_contrast[1] > 1 and equalize[0] == equalize[1] > 1
    )  # these have no strength
    assert all(weak < strong and strong > 1 for weak, strong in others), others


def test_randaugment_draws_so_many_operations_anew_for_each_seed(monkeypatch: pytest.MonkeyPatch):
    drawn: list[str] = []
    for operation in {type(operation) for operation in augment._operations(0.5)}:
        monkeypatch.setattr(operation, "__call__", noting(operation.__call__, drawn))
    transform = TrainTransform(replace(NOTHING, randaugment=3, randaugment_strength=0.5), 64)
    results, kinds = [], set()
    for seed in range(60):
        drawn.clear()
        results.append(transform(photo(), seed))
        assert len(drawn) == 3
        kinds.add(tuple(drawn))
        assert np.array_equal(transform(photo(), seed), results[-1])
    assert len({image.tobytes() for image in results}) > 50 and len(kinds) > 40
    assert any(
        list(names) != sorted(names, key=[type(o).__name__ for o in augment._operations(0.5)].index) for names in kinds
    )  # in the order drawn


def noting(call: Callable[..., Any], drawn: list[str]) -> Callable[..., Any]:
    def noted(self: Any, *arguments: Any, **words: Any) -> Any:
        drawn.append(type(self).__name__)
        return call(self, *arguments, **words)

    return noted


def in_a_worker(seed: int) -> np.ndarray:
    return TrainTransform(EVERYTHING, 64)(photo(), seed)


class Rows(torch.utils.data.Dataset):
    def __init__(self) -> None:
        self.transform = TrainTransform(EVERYTHING, 64)

    def __len__(self) -> int:
        return 12

    def __getitem__(self, i: int) -> np.ndarray:
        return self.transform(photo(), i)


@pytest.mark.slow  # a fresh interpreter imports torch: 3 s
def test_import_when_the_network_is_watched_connects_nowhere_and_prints_nothing():
    watch = (
        "import socket\n"
        "def refuse(*a, **k): raise SystemExit(f'connection to {a}')\n"
        "socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse\n"
        "import guie.data.augment\n"
    )
    done = subprocess.run([sys.executable, "-W", "error::UserWarning", "-c", watch], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_pixels_with_the_same_seed_are_the_same_in_any_order():
    transform = TrainTransform(EVERYTHING, 64)
    forward = [transform(photo(), seed) for seed in range(8)]
    backward = [TrainTransform(EVERYTHING, 64)(photo(), seed) for seed in reversed(range(8))][::-1]
    np.testing.assert_array_equal(forward, backward)
    assert len({image.tobytes() for image in forward}) == 8


def test_input_after_the_call_is_unchanged():
    for image in (photo(64, 64), photo()):
        before = image.copy()
        for seed in range(10):
            TrainTransform(EVERYTHING, 64)(image, seed)
        np.testing.assert_array_equal(image, before)


def test_input_that_is_read_only_or_a_strided_view_gives_the_same_pixels():
    image = photo()
    locked = image.copy()
    locked.flags.writeable = False
    for other in (locked, np.asfortranarray(image), np.repeat(image, 2, axis=1)[:, ::2]):
        np.testing.assert_array_equal(
            TrainTransform(EVERYTHING, 64)(other, 3), TrainTransform(EVERYTHING, 64)(image, 3)
        )


@pytest.mark.parametrize("shape", [(120, 160), (160, 120), (64, 64), (40, 30), (37, 200), (1, 1)])
def test_no_change_is_a_plain_resize(shape: tuple[int, int]):
    image = photo(*shape)
    result = TrainTransform(NOTHING, 64)(image, 5)
    assert result.dtype == np.uint8 and result.shape == (64, 64, 3) and result.flags.c_contiguous
    exact = torch.nn.functional.interpolate(
        torch.from_numpy(image).permute(2, 0, 1)[None].float(), (64, 64), mode="bicubic", antialias=True
    )
    difference = np.abs(result.astype(float) - exact.clamp(0, 255)[0].permute(1, 2, 0).numpy())
    assert difference.max() < 1.6  # the test-time filter, in floats; the uint8 kernel rounds after each axis


def test_squash_of_fine_stripes_gives_their_mean():
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::4] = 200
    assert (
        np.abs(squash(stripes, 32)[:, 2:-2].astype(int) - 50).max() <= 1
    )  # without antialiasing 118: two of four columns are looked at


def test_flip_with_certainty_mirrors_left_and_right():
    image = photo(64, 64)
    np.testing.assert_array_equal(TrainTransform(Augment(flip=1.0), 64)(image, 0), image[:, ::-1])


def test_flip_at_half_is_a_fair_coin():
    image = photo(16, 16)
    transform = TrainTransform(Augment(flip=0.5), 16)
    flipped = sum(np.array_equal(transform(image, seed), image[:, ::-1]) for seed in range(400))
    assert 160 < flipped < 240  # four standard deviations


def test_flip_and_cutout_are_drawn_independently():
    image = np.full((20, 20, 3), 255, np.uint8)
    image[:, :10] = 0
    transform, counts = TrainTransform(Augment(flip=0.5, cutout=0.5), 20), np.zeros((2, 2), int)
    for seed in range(400):
        result = transform(image, seed)
        is_flipped, is_erased = np.median(result[:, :10]) > 200, bool((result == GREY).any())
        counts[int(is_flipped), int(is_erased)] += 1
    assert (
        counts.sum() == 400 and counts.min() > 65
    )  # 100 each; one shared stream per change would leave two of the four empty


def test_shift_stays_within_its_bounds_on_both_axes():
    transform = TrainTransform(Augment(flip=0, shift=0.2), 100)
    moves = np.array(
        [np.subtract(middle_of_light(transform(spot(), seed)), middle_of_light(spot())) for seed in range(80)]
    )
    assert np.abs(moves).max() <= 20.5 and (moves.max(0) > 14).all() and (moves.min(0) < -14).all()
    assert abs(np.corrcoef(moves.T)[0, 1]) < 0.4  # the axes move on their own


def test_scale_stays_within_its_bounds():
    transform = TrainTransform(Augment(flip=0, scale=0.3), 100)
    areas = np.array([transform(spot(), seed).astype(float).sum() for seed in range(80)]) / spot().astype(float).sum()
    assert areas.min() > 0.7**2 * 0.95 and areas.max() < 1.3**2 * 1.05
    assert areas.min() < 0.65 and areas.max() > 1.4


def test_rotate_stays_within_its_bounds():
    transform = TrainTransform(Augment(flip=0, rotate_deg=20), 101)
    angles = []
    for seed in range(80):
        x, y = middle_of_light(transform(spot(101, 80, 50), seed))
        assert np.hypot(x - 50, y - 50) == pytest.approx(30, abs=0.7)
        angles.append(np.degrees(np.arctan2(y - 50, x - 50)))
    assert max(np.abs(angles)) <= 21 and max(angles) > 14 and min(angles) < -14


def test_border_of_a_shifted_image_has_no_black():
    white = np.full((64, 64, 3), 255, np.uint8)
    transform = TrainTransform(Augment(flip=0, shift=0.3, rotate_deg=30, scale=0.3), 64)
    assert min(transform(white, seed).min() for seed in range(20)) == 255


def test_brightness_keeps_a_flat_image_flat_and_within_its_bounds():
    flat = np.full((32, 32, 3), 100, np.uint8)
    results = [TrainTransform(Augment(flip=0, brightness=0.2), 32)(flat, seed) for seed in range(80)]
    assert all(np.ptp(result) == 0 for result in results)
    values = [int(result[0, 0, 0]) for result in results]
    assert min(values) >= 100 * 0.8 - 51 - 1 and max(values) <= 100 * 1.2 + 51 + 1
    assert min(values) < 70 and max(values) > 130


def test_color_turns_the_hue_but_leaves_grey_alone():
    transform = TrainTransform(Augment(flip=0, color=1.0), 16)
    red, grey = (np.full((16, 16, 3), colour, np.uint8) for colour in ((200, 40, 40), (120, 120, 120)))
    hues = np.array([int(cv2.cvtColor(transform(red, seed), cv2.COLOR_RGB2HSV)[0, 0, 0]) for seed in range(60)])
    turned = (hues + 90) % 180 - 90
    assert np.abs(turned).max() <= 19 and turned.min() < -9 and turned.max() > 9
    brightness = [transform(grey, seed).max() for seed in range(20)]
    assert set(brightness) == {120}


def test_contrast_changes_by_the_stated_share():
    halves = np.full((32, 32, 3), 80, np.uint8)
    halves[16:] = 160
    results = [TrainTransform(Augment(flip=0, brightness=0.2), 32)(halves, seed) for seed in range(80)]
    contrasts = np.array([(int(result[31, 0, 0]) - int(result[0, 0, 0])) / 80 for result in results])
    assert contrasts.min() >= 0.8 - 1 / 80 and contrasts.max() <= 1.2 + 1 / 80
    assert contrasts.min() < 0.87 and contrasts.max() > 1.13


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_color_turns_hue_and_saturation_by_the_stated_share(strength: float):
    """At strength 1 the hue turns by up to 36 degrees, 18 of OpenCV's, and the saturation moves by up to a quarter of
    its scale."""
    transform = TrainTransform(Augment(flip=0, color=strength), 16)
    colour = np.full((16, 16, 3), (150, 90, 90), np.uint8)  # hue 0, saturation 102 of 255
    seen = np.array([cv2.cvtColor(transform(colour, seed), cv2.COLOR_RGB2HSV)[0, 0] for seed in range(80)]).astype(int)
    turned, saturated = (seen[:, 0] + 90) % 180 - 90, seen[:, 1] - 102
    for moves, most in ((turned, 18 * strength), (saturated, 64 * strength)):
        assert np.abs(moves).max() <= most + 2 and moves.min() < -0.75 * most and moves.max() > 0.75 * most
    assert abs(np.corrcoef(turned, saturated)[0, 1]) < 0.4


def test_cutout_erases_one_rectangle_of_the_stated_size():
    sides = []
    for seed in range(60):
        hole = (TrainTransform(Augment(flip=0, cutout=1.0), 100)(np.zeros((100, 100, 3), np.uint8), seed) == GREY).all(
            2
        )
        rows, columns = hole.any(1).sum(), hole.any(0).sum()
        assert hole.sum() == rows * columns  # one, and full
        sides.append((rows, columns))
    for side in zip(*sides, strict=True):
        assert min(side) >= 20 and max(side) <= 40 and max(side) - min(side) > 10


def test_cutout_of_the_first_place_is_black_and_of_one_size():
    image = np.full((100, 100, 3), 200, np.uint8)
    for seed in range(20):
        hole = (
            TrainTransform(Augment(flip=0, cutout=1.0, cutout_low=0.4, cutout_high=0.4, has_black_fill=True), 100)(
                image, seed
            )
            == 0
        ).all(2)
        assert (hole.any(1).sum(), hole.any(0).sum(), hole.sum()) == (40, 40, 1600)


def test_affine_comes_as_often_as_it_is_said_and_its_border_may_be_black():
    image = np.full((40, 40, 3), 200, np.uint8)
    transform = TrainTransform(Augment(flip=0, shift=0.3, affine=0.7, has_black_fill=True), 40)
    changed = sum(bool((transform(image, seed) == 0).any()) for seed in range(400))
    assert 240 < changed < 320  # 280 expected, four standard deviations of 9.2; a shift of less than a pixel is rare


@pytest.mark.parametrize("qualities", [(99, 100), (20, 22)])
def test_jpeg_has_the_stated_quality(qualities: tuple[int, int]):
    image, transform = (
        photo(64, 64),
        TrainTransform(Augment(flip=0, jpeg=1.0, jpeg_low=qualities[0], jpeg_high=qualities[1]), 64),
    )
    expected = {}  # albumentations gives OpenCV the channels as they are
    for quality in range(qualities[0], qualities[1] + 1):
        encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        expected[cv2.imdecode(encoded, cv2.IMREAD_COLOR).tobytes()] = quality
    assert {expected[transform(image, seed).tobytes()] for seed in range(30)} == set(
        range(qualities[0], qualities[1] + 1)
    )


def test_jpeg_changes_pixels_a_little():
    image = photo(64, 64)
    results = [TrainTransform(Augment(flip=0, jpeg=1.0), 64)(image, seed) for seed in range(20)]
    errors = [np.abs(result.astype(int) - image).mean() for result in results]
    assert 0 < min(errors) < max(errors) < 8


def test_jpeg_is_of_quality_60_to_95():
    image = np.repeat(photo(64, 64)[..., :1], 3, axis=2)  # grey: albumentations hands red to OpenCV as blue
    files = {
        q: cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, q])[1], cv2.IMREAD_COLOR)
        for q in range(1, 101)
    }
    qualities = []
    for seed in range(40):
        result = TrainTransform(Augment(flip=0, jpeg=1.0), 64)(image, seed)
        qualities.append(min(q for q, file in files.items() if np.array_equal(file, result)))
    assert 60 <= min(qualities) < 66 and 89 < max(qualities) <= 95, qualities


def test_worker_processes_agree_with_this_one():
    here = np.stack([in_a_worker(seed) for seed in range(12)])
    loaded = torch.utils.data.DataLoader(Rows(), batch_size=5, num_workers=2)
    np.testing.assert_array_equal(np.concatenate([batch.numpy() for batch in loaded]), here)


@pytest.mark.slow
def test_worker_processes_that_are_spawned_agree_with_this_one():
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        np.testing.assert_array_equal(pool.map(in_a_worker, range(4)), [in_a_worker(seed) for seed in range(4)])


@pytest.mark.parametrize(
    ("change", "name"),
    [({"flip": 1.5}, "flip"), ({"shift": -0.1}, "shift"), ({"scale": 1.0}, "scale"), ({"color": 2}, "color")],
)
def test_strength_out_of_range_is_named(change: dict[str, float], name: str):
    with pytest.raises(ValueError, match=rf"augment\.{name} is .*must be 0 to"):
        TrainTransform(Augment(**change), 64)


@pytest.mark.parametrize(
    "image", [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 4), np.uint8), np.zeros((8, 8, 3), np.float32)]
)
def test_image_of_another_kind_is_refused(image: np.ndarray):
    with pytest.raises(ValueError, match=r"must be uint8 \[h, w, 3\]"):
        TrainTransform(NOTHING, 64)(image, 0)
