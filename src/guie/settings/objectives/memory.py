"""A memory of earlier batches, which several objectives may have."""

from __future__ import annotations

from dataclasses import dataclass

from guie.settings.fields import within


@dataclass(frozen=True)
class Memory:
    """A memory of the embeddings of earlier batches, compared with each batch.

    Attributes:
        size: Embeddings that it holds; the oldest go first.
        start_step: First step of the stage, counted from 0, that is compared with it. It fills from step 0 on. Early
            embeddings drift fast, so Wang et al. start at step 1,000.

    Source: Wang et al., Cross-batch memory for embedding learning, CVPR 2020, arXiv 1912.06798.
    """

    size: int = within(1024, low=1, high=10**7)
    start_step: int = within(0, low=0, high=10**9)
