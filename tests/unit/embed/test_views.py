"""The pixels that a backbone sees: against PIL, and against arithmetic."""

import numpy as np
import pytest
import torch
from PIL import Image

from guie.embed.views import apply_view, frame_of, normalise, to_square
from guie.recipe import VIEWS


@pytest.mark.parametrize("size", [(300, 200), (50, 640), (64, 64), (1, 1), (17, 900)])
def test_squash_equals_pil_bicubic_within_rounding(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    got = to_square(torch.from_numpy(image).permute(2, 0, 1)[None], 64)[0].permute(1, 2, 0).numpy()
    expected = np.asarray(Image.fromarray(image).resize((64, 64), Image.Resampling.BICUBIC), dtype=np.float32)
    assert np.abs(got - expected).max() <= 2.0 and np.abs(got - expected).mean() < 0.5
    assert got.min() >= 0 and got.max() <= 255


def test_normalise_by_hand() -> None:
    pixels = torch.tensor([0.0, 127.5, 255.0]).view(1, 3, 1, 1)
    assert normalise(pixels, (0.5, 0.5, 0.25), (0.5, 0.25, 0.5)).flatten().tolist() == pytest.approx([-1.0, 0.0, 1.5])


def test_flip_mirrors_left_and_right() -> None:
    pixels = torch.arange(6.0).view(1, 1, 2, 3)
    assert apply_view(pixels, "flip").flatten().tolist() == [2, 1, 0, 5, 4, 3]
    with pytest.raises(ValueError, match="upside_down"):
        apply_view(pixels, "upside_down")


def test_crop_keeps_the_middle_nine_tenths() -> None:
    image = torch.zeros(1, 3, 40, 100)
    image[:, :, 2:38, 5:95] = 200.0  # what is left has no edge
    assert (to_square(image, 16, "crop").round() == 200).all() and not (to_square(image, 16) == 200).all()
    image = (
        torch.rand(2, 3, 40, 100, generator=torch.Generator().manual_seed(0)) * 255
    )  # and no more is cut off than a twentieth of each side
    torch.testing.assert_close(
        to_square(image, 16, "crop"), to_square(image[:, :, 2:38, 5:95].contiguous(), 16), rtol=0, atol=0
    )


@pytest.mark.parametrize(
    ("height", "width", "inner"), [(20, 40, (16, 32)), (40, 20, (32, 16)), (1, 900, (2, 32)), (64, 64, (32, 32))]
)
def test_pad_keeps_the_aspect_and_the_whole_image(height: int, width: int, inner: tuple[int, int]) -> None:
    square = to_square(torch.full((2, 3, height, width), 250.0), 32, "pad").round()
    rows, columns = (square[1, 0] > 200).any(1).nonzero().flatten(), (square[1, 0] > 200).any(0).nonzero().flatten()
    assert (len(rows), len(columns)) == inner and set(square.unique().tolist()) <= {128.0, 250.0}
    assert abs(int(rows[0]) - (31 - int(rows[-1]))) <= 1 and abs(int(columns[0]) - (31 - int(columns[-1]))) <= 1


@pytest.mark.parametrize(
    ("height", "width", "is_square"),
    [(40, 40, True), (100, 95, True), (95, 100, True), (100, 94, False), (1, 1, True), (1, 2, False)],
)
def test_aspect_chooses_the_framing_by_the_sides(height: int, width: int, is_square: bool) -> None:
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 3, height, width), dtype=np.uint8))
    top, left = height // 20, width // 20
    middle = images[:, :, top : height - top, left : width - left]
    assert torch.equal(to_square(images, 32, "aspect"), to_square(images, 32, "crop" if is_square else "squash"))
    assert torch.equal(
        to_square(images, 32, "aspect_pad"),
        to_square(images, 32, "crop") if is_square else to_square(middle, 32, "pad"),
    )


def test_every_view_has_a_frame_and_augmented_ones_the_whole_image() -> None:
    assert {view: frame_of(view) for view in (*VIEWS, "augmented_3")} == {
        "plain": "squash", "flip": "squash", "crop": "crop", "pad": "pad", "aspect": "aspect",
        "aspect_pad": "aspect_pad", "augmented_3": "squash",
    }  # fmt: skip
