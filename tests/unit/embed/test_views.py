"""The pixels that a backbone sees: against PIL, and against arithmetic."""

import numpy as np
import pytest
import torch
from PIL import Image

from guie.embed.views import apply_view, normalise, to_square


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
