"""How the images of a batch are drawn."""

from __future__ import annotations

from dataclasses import dataclass

from guie.settings.fields import within


@dataclass(frozen=True, kw_only=True)
class Weighted:
    """Images are drawn one by one.

    Attributes:
        power: An image of a class with n images is drawn with weight n ** power: 0 takes images as they are, -1 makes
            all classes equally frequent.
        is_of_one_source: Each batch is of one data set, and the sets take turns, as in UnED (arXiv 2309.01858).
    """

    power: float = within(-0.5, low=-1.0, high=0.0)
    is_of_one_source: bool = False


@dataclass(frozen=True, kw_only=True)
class PerClass:
    """Each batch has the same number of rows of each of its classes: images_per_class * views_per_image.

    Attributes:
        images_per_class: Different images of a class in a batch.
        views_per_image: Rows of each image, augmented differently.
        power: A class with n images is drawn with weight n ** (1 + power).
        is_of_one_source: Each batch is of one data set, and the sets take turns, as in UnED (arXiv 2309.01858).
    """

    images_per_class: int = within(4, low=1, high=10**4)
    views_per_image: int = within(1, low=1, high=100)
    power: float = within(-0.5, low=-1.0, high=0.0)
    is_of_one_source: bool = False

    @property
    def rows_per_class(self) -> int:
        """Rows of a class in a batch."""
        return self.images_per_class * self.views_per_image
