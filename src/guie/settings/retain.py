"""What keeps a moving backbone near its start."""

from __future__ import annotations

from dataclasses import dataclass

from guie.settings.fields import within


@dataclass(frozen=True, kw_only=True)
class Retain:
    """Two terms of the loss that hold a backbone that trains near its state at the start of the stage. That is the
    backbone as it was loaded, where no earlier stage has trained it.

    Training gains on the domains that it sees and loses on others. Published for fine-tuned SigLIP and TIPS: +31 points
    in domain and -6 out of domain without these terms, +29.9 and -.1 with them.

    Attributes:
        features_weight: Weight of the mean of (feature now - feature at the start)² over images and dimensions, both
            features of length 1 (published: 1000). The features at the start are of the images without augmentation and
            come from the feature cache.
        generic: The data sets whose images carry the term of the features alone: the objective does not see them, so
            their labels do not matter. They take part in the sampling as the others do; with `is_of_one_source` the
            sets take turns (published). Empty: all images carry both.
        weights_weight: Weight of the squared distance of the backbone's weights from those at the start: the mean over
            each tensor that trains, summed over the tensors (published: 1e5).

    Source: Ypsilantis et al., Infusing fine-grained visual knowledge to vision-language models, ICCV workshops 2025,
    arXiv 2508.12137; the definitions are those of its code.
    """

    features_weight: float = within(0.0, low=0.0, high=1e6)
    generic: tuple[str, ...] = ()
    weights_weight: float = within(0.0, low=0.0, high=1e9)

    def check(self, at: str) -> None:
        """Raises ValueError for generic sets without the term that they carry."""
        if self.generic and not self.features_weight:
            raise ValueError(
                f"{at}.generic names {', '.join(self.generic)}, whose images carry the term of the features alone, but "
                "features_weight is 0; published is 1000"
            )
