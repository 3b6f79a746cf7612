"""Random changes to a training image."""

from __future__ import annotations

from dataclasses import dataclass

from guie.settings.fields import within


@dataclass(frozen=True)
class Augment:
    """Random changes to a training image (albumentations).

    Attributes:
        flip: Probability of a horizontal flip.
        shift: Largest shift, as a share of the side.
        scale: Largest change of scale, as a share.
        rotate_deg: Largest rotation.
        affine: Probability of shift, scale and rotation together (1st and 6th place: .7).
        brightness: Largest change of brightness and contrast, as a share.
        color: Strength of hue and saturation changes, 0..1.
        cutout: Probability of one erased rectangle.
        cutout_low: Its shortest side, as a share of the image's (1st place: .4; 2nd: .1).
        cutout_high: Its longest side (1st place: .4; 2nd: .2).
        has_black_fill: The border that shift, scale and rotation leave, and the erased rectangle, are black (1st and
            6th place), not a reflection and grey.
        jpeg: Probability of JPEG recompression.
        jpeg_low: Lowest quality of that (1st and 6th place: 99).
        jpeg_high: Highest quality.
        randaugment: Operations per image, drawn one after the other from fourteen, thirteen changes and nothing, as in
            RandAugment (Cubuk et al., CVPRW 2020, arXiv 1909.13719); 0 is off.
        randaugment_strength: Of these, 0..1; each is as strong as drawn up to this share of the paper's level 10.
    """

    flip: float = within(0.5, low=0, high=1.0)
    shift: float = within(0.0, low=0, high=0.5)
    scale: float = within(0.0, low=0, high=0.9)
    rotate_deg: float = within(0.0, low=0, high=180.0)
    affine: float = within(1.0, low=0, high=1.0)
    brightness: float = within(0.0, low=0, high=1.0)
    color: float = within(0.0, low=0, high=1.0)
    cutout: float = within(0.0, low=0, high=1.0)
    cutout_low: float = within(0.2, low=0, high=1.0)
    cutout_high: float = within(0.4, low=0, high=1.0)
    has_black_fill: bool = False
    jpeg: float = within(0.0, low=0, high=1.0)
    jpeg_low: int = within(60, low=0, high=100)
    jpeg_high: int = within(95, low=0, high=100)
    randaugment: int = within(0, low=0, high=14)
    randaugment_strength: float = within(0.3, low=0, high=1.0)

    def check(self, at: str) -> None:
        """Raises ValueError where a low end lies above its high end."""
        for name, least in (("cutout", 1e-3), ("jpeg", 1)):
            low, high = (getattr(self, f"{name}_{end}") for end in ("low", "high"))
            if not least <= low <= high:
                raise ValueError(
                    f"{at}.{name}_low is {low} and {name}_high {high}; the low one must be at least {least:g} and not "
                    "above the high one"
                )
