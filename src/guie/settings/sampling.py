"""Which classes a stage leaves out, and how the images of a batch are drawn."""

from __future__ import annotations

from dataclasses import dataclass

from guie.settings.fields import within


@dataclass(frozen=True, kw_only=True)
class Fold:
    """One of several shares of the training classes; each domain's classes are dealt to the shares in turn.

    Attributes:
        number: From 1.
        of: How many shares there are.
    """

    number: int = within(low=1, high=100)
    of: int = within(4, low=2, high=100)

    def check(self, at: str) -> None:
        """Raises ValueError for a share that there is not."""
        if self.number > self.of:
            raise ValueError(f"{at}.number is {self.number}; of {self.of} folds the numbers are 1 to {self.of}")

    def __str__(self) -> str:
        """`fold 1 of 4`."""
        return f"fold {self.number} of {self.of}"


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
