"""The neck of a stage: from the backbone's feature to the embedding."""

from __future__ import annotations

from dataclasses import dataclass, replace

from guie.settings.fields import within


@dataclass(frozen=True, kw_only=True)
class Neck:
    """The projection from the backbone's feature to the embedding.

    Attributes:
        dim: Numbers of an embedding.
        dropouts: Rates of the dropouts before the last layer; of several the outputs are averaged (4th place: .1 to
            .5).
        is_branched: Each dropout has linear layers of its own (3rd place: twenty).
        has_unit_input: The feature is L2-normalised first. On a domain that it was not fitted on, a PCA of
            L2-normalised features loses less mP@5 than a PCA of features as they are.
        has_norm: Batch norm without trainable weights comes first (5th and 6th place).
        norm_eps: What the batch norm adds to the variance (5th place: 1e-6).
        has_size: The packed image's H/W, H/224 and W/224 stand beside the feature (5th place: worth .003); the backbone
            is frozen.
        hidden_dim: Width of a layer before the last, with a GELU; 0 is none.
        has_bias: Of the last layer.
    """

    dim: int = within(64, low=1, high=10**5)
    dropouts: tuple[float, ...] = within((0.2,), low=0.0, high=0.99)
    is_branched: bool = False
    has_unit_input: bool = False
    has_norm: bool = False
    norm_eps: float = within(1e-5, low=1e-12, high=1.0)
    has_size: bool = False
    hidden_dim: int = within(0, low=0, high=10**5)
    has_bias: bool = True

    def check(self, at: str) -> None:
        """Raises ValueError without a dropout (its rate may be 0), and for size inputs with a hidden layer."""
        if not self.dropouts:
            raise ValueError(f"{at}.dropouts is empty; without dropout it is (0.0,)")
        if self.has_size and self.hidden_dim:
            raise ValueError(f"{at}.has_size excludes hidden_dim, which is {self.hidden_dim}")
        if self.has_size and self.has_unit_input:
            raise ValueError(f"{at}.has_size excludes has_unit_input: the image's size is no part of a direction")


def shape_of(neck: Neck) -> Neck:
    """What of a neck decides the shapes of its weights and what they mean: all but the rates of its dropouts."""
    rates = (0.0,) * (len(neck.dropouts) if neck.is_branched else 1)
    return replace(neck, dropouts=rates)
