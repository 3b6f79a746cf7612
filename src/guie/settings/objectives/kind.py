"""What the settings of all objectives have in common."""

from __future__ import annotations

from typing import Any

LARGEST_DISTANCE = 2.0  # of two vectors of length 1
# Of the learned boundary of a margin loss: published are 5e-4 for a model of 1e-5 (Roth et al., ICML 2020; PADS).
BETA_LR_FACTOR = 50.0


class Kind:
    """What all objectives' settings have in common.

    Attributes:
        has_weights: It has parameters of its own, which `trains="objective"` trains alone.
        has_centers: Its parameters are class centres or proxies, which may start as their classes' means.
        has_groups: It decides which images share a batch. A stage has at most one such objective.
        compares_images: It compares the images of a batch with each other; one image alone teaches nothing.
        needs_positives: A batch must hold several rows of a class. Such an objective compares images, too.
        needs_labels: It uses labels. An objective that uses none may learn from images without labels.
        needs_all_labels: It works on all training images by their labels: it clusters them, holds some out or keeps a
            key of each.
        teachers: What it learns from: the recipe's rows, for their embeddings, or `pretrained`, for its features.
    """

    has_weights = False
    has_centers = False
    has_groups = False
    compares_images = False
    needs_positives = False
    needs_labels = True
    needs_all_labels = False
    teachers: tuple[str, ...] = ()

    @property
    def min_batch_classes(self) -> int:
        """The fewest classes of a batch from which it learns anything."""
        return 2 if self.needs_positives else 1

    @property
    def may_lack_labels(self) -> bool:
        """Whether images without labels may be among its training images."""
        return not self.needs_labels

    def state_shape(self) -> tuple[Any, ...]:
        """What decides which weights and buffers the objective has: rows that agree in it can load each other's
        objective."""
        return (type(self).__name__,)

    def check_batch(self, at: str, n_classes: int) -> None:
        """Raises ValueError where it cannot learn from batches of `n_classes` classes, as `PerClass` draws them."""
        if n_classes < self.min_batch_classes:
            raise ValueError(
                f"{at} is {type(self).__name__}, which needs {self.min_batch_classes} classes in a batch, and sampling "
                f"gives {n_classes}; take fewer sampling.images_per_class, or a larger optim.batch_size"
            )
