"""Augmentation of training images: a pure function of the image and a seed, in whatever process it runs."""

from __future__ import annotations

import os
import random
from typing import Any

# Read on import: without it albumentations 2.0.8 asks pypi.org for its newest version.
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"

import albumentations as A
import cv2
import numpy as np

from guie.data.resize import resized
from guie.settings.augment import Augment
from guie.settings.fields import check
from guie.versions import AUGMENTATION

# The code that augmented pixels depend on: part of the key of cached features.
VERSION = f"{AUGMENTATION} albumentations {A.__version__}"

# Largest shifts at `Augment.color` = 1, in OpenCV's units: hue is 0..179 (18 is 36 degrees), saturation 0..255.
FULL_HUE_SHIFT = 18
FULL_SATURATION_SHIFT = 64
GREY = 128  # fills the erased rectangle: close to zero after normalisation


class TrainTransform:
    """Resizes an image to a square and augments it as an `Augment` says.

    The order is: resize, affine map (shift, scale and rotation about the centre), flip, brightness and contrast, hue
    and saturation, RandAugment, one erased rectangle, JPEG compression. A change whose setting is zero is left out. The
    affine map reflects the image at its border, or fills the outside with black if `has_black_fill`.
    """

    def __init__(self, augment: Augment, image_px: int) -> None:
        """Builds the transform.

        Args:
            augment: What to change and how much.
            image_px: Side of the square.

        Raises:
            ValueError: a probability or a strength out of its range.
        """
        _check(augment, image_px)
        self.image_px = image_px
        self._changes = A.Compose(_changes(augment))

    def __call__(self, image: np.ndarray, seed: int) -> np.ndarray:
        """Changes one image.

        Args:
            image: uint8 [h, w, 3], RGB.
            seed: At least 0, one for each image and epoch. The same image and seed give the same pixels.

        Returns:
            uint8 [image_px, image_px, 3].

        Raises:
            ValueError: the image is not uint8 [h, w, 3].
        """
        pixels = squash(image, self.image_px)
        if not self._changes.transforms:
            return pixels
        # All transforms share one random stream. Compose.set_random_seed gives each a copy of the same stream: every
        # image that is flipped would also be erased.
        self._changes.set_random_state(np.random.default_rng(seed), random.Random(seed))
        return np.ascontiguousarray(self._changes(image=pixels)["image"])


def squash(image: np.ndarray, px: int) -> np.ndarray:
    """Resizes an image to a square, uint8 [px, px, 3], whatever its aspect ratio. Errors as in `resized`."""
    return resized(image, px, px)


def _changes(augment: Augment) -> list[A.BasicTransform]:
    """The transforms of all changes that are not zero."""
    a = augment
    changes: list[A.BasicTransform] = []
    if a.shift or a.scale or a.rotate_deg:
        changes.append(_affine(a))
    if a.flip:
        changes.append(A.HorizontalFlip(p=a.flip))
    if a.brightness:
        changes.append(A.RandomBrightnessContrast(brightness_limit=a.brightness, contrast_limit=a.brightness, p=1.0))
    if a.color:
        changes.append(A.HueSaturationValue(a.color * FULL_HUE_SHIFT, a.color * FULL_SATURATION_SHIFT, 0, p=1.0))
    if a.randaugment:
        operations = (_operations(a.randaugment_strength) for _ in range(a.randaugment))
        changes += [A.OneOf(choice, p=1.0) for choice in operations]  # A.SomeOf would sort them
    if a.cutout:
        changes.append(_cutout(a))
    if a.jpeg:
        changes.append(A.ImageCompression(quality_range=(a.jpeg_low, a.jpeg_high), p=a.jpeg))
    return changes


def _affine(a: Augment) -> A.Affine:
    """Shift, scale and rotation about the centre; outside is a reflection of the image, or black."""
    return A.Affine(
        translate_percent={"x": (-a.shift, a.shift), "y": (-a.shift, a.shift)},
        scale=(1 - a.scale, 1 + a.scale),
        rotate=(-a.rotate_deg, a.rotate_deg),
        keep_ratio=True,
        interpolation=cv2.INTER_LINEAR,
        border_mode=cv2.BORDER_CONSTANT if a.has_black_fill else cv2.BORDER_REFLECT_101,
        p=a.affine,
    )


def _cutout(a: Augment) -> A.CoarseDropout:
    """One erased rectangle, grey or black."""
    sides = (a.cutout_low, a.cutout_high)
    fill = 0 if a.has_black_fill else GREY
    shape = {"hole_height_range": sides, "hole_width_range": sides}
    return A.CoarseDropout(num_holes_range=(1, 1), **shape, fill=fill, p=a.cutout)


def _operations(strength: float) -> list[A.BasicTransform]:
    """The fourteen operations of RandAugment. At strength 1 their ranges end where level 10 of the paper's code does.

    Three things differ from the paper: colour changes the saturation, sharpness only increases, and the strength is
    drawn from the whole range instead of being its end with a random sign.

    Source: Cubuk et al., RandAugment: practical automated data augmentation with a reduced search space, NeurIPS 2020.
    """
    s = strength
    still = {"x": (0.0, 0.0), "y": (0.0, 0.0)}
    grey = dict.fromkeys(("brightness", "contrast", "saturation", "hue"), 0.0)
    moves: list[dict[str, Any]] = [{"rotate": (-30 * s, 30 * s)}]
    moves += [{"shear": still | {axis: (-17 * s, 17 * s)}} for axis in "xy"]  # in degrees; tan(17 degrees) = 0.3
    moves += [{"translate_percent": still | {axis: (-0.3 * s, 0.3 * s)}} for axis in "xy"]
    return [
        A.NoOp(p=1.0),
        A.AutoContrast(method="pil", p=1.0),
        A.Equalize(mode="pil", p=1.0),
        A.Solarize((1 - s, 1 - s), p=1.0),
        A.Posterize(min(7, 8 - round(4 * s)), p=1.0),
        A.Sharpen(alpha=(0.0, 0.9 * s), lightness=(1.0, 1.0), p=1.0),
        *(A.ColorJitter(**(grey | {what: 0.9 * s}), p=1.0) for what in ("brightness", "contrast", "saturation")),
        *(
            A.Affine(**move, interpolation=cv2.INTER_LINEAR, border_mode=cv2.BORDER_REFLECT_101, p=1.0)
            for move in moves
        ),
    ]


def _check(augment: Augment, image_px: int) -> None:
    check(augment, "augment")
    if image_px < 1:
        raise ValueError(f"image_px is {image_px}, must be at least 1")
