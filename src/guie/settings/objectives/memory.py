"""A memory of the embeddings of earlier batches."""

from __future__ import annotations

from dataclasses import dataclass

from guie.settings.fields import within


@dataclass(frozen=True)
class Memory:
    """A memory of the embeddings of earlier batches, compared with each batch.

    Attributes:
        size: Embeddings that are kept, the newest.
        start_step: The step of the stage from which they are compared; before, they only gather.

    Source: Wang et al., Cross-batch memory, CVPR 2020, arXiv 1912.06798.
    """

    size: int = within(1024, low=1, high=10**7)
    start_step: int = within(0, low=0, high=10**9)
