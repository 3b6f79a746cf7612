"""A term that keeps what the backbone, or another row, knew before the stage."""

from __future__ import annotations

from dataclasses import dataclass

from guie.settings.fields import within
from guie.settings.objectives.kind import Kind


@dataclass(frozen=True)
class KeepCosines(Kind):
    """The cosines between the embeddings of a batch stay those between the backbone's features at the stage's start, or
    those between another row's embeddings, or between the features before any training.

    Its loss is the mean of (cosine of two embeddings - cosine of their features)² over all pairs of the batch. It does
    not use classes, so it is added to another objective: `Sum(terms=(ArcFace(), KeepCosines(weight=30.0)))`.
    With another row as teacher it may stand alone. The features are those of the batch where the backbone is frozen.
    If it moves, or if there is a teacher, those of all plain training images are computed once, at the start. They are
    kept in two bytes a number.

    Attributes:
        weight: Factor of the term.
        of: The teacher. An earlier row gives its embeddings; any backbone, size and width. `pretrained` gives the
            features of the stage's own backbone as the library or the file has it, at the stage's image size. They
            differ from the features at the start if an earlier stage trained the backbone. '' is no teacher.

    Source: relational distillation, Park et al., CVPR 2019, arXiv 1904.05068, with cosines in place of distances; the
    13th place of GUIE distilled 256 numbers to 64 so.
    """

    compares_images = True
    needs_labels = False

    weight: float = within(30.0, low=0.0, high=1e6)
    of: str = ""

    @property
    def teachers(self) -> tuple[str, ...]:  # type: ignore[override]
        """See `Kind`."""
        return (self.of,) if self.of else ()
