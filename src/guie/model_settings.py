"""The backbone of a recipe."""

from __future__ import annotations

from dataclasses import dataclass

PRETRAINED_TAG = "pretrained:"


@dataclass(frozen=True)
class Model:
    """The backbone and what its pixels look like.

    Attributes:
        library: `timm` or `open_clip`.
        name: The model's name in that library.
        weights: A `.safetensors` file, or one of torch.save's (`guie.checkpoint.PICKLED`): weights, or a checkpoint with them (absolute, or relative to the
            data root or to `weights/`); `pretrained:TAG` for weights that the library fetches; empty for random weights.
        feature: Which of its outputs: empty is the library's own (open_clip: after the projection; timm: as the model pools); `unprojected` is
            open_clip's before the projection (1st place 1024 numbers, 2nd and 3rd 1280 of the same tower); `cls`, `mean`, `max` or `gem` (p = 3)
            pool the last layer's tokens (of open_clip's towers that are timm's, too). A tower that has no such output is refused.
        pad_type: timm's padding of TensorFlow ports (`same`); empty leaves the library's default.
        mean: Mean of each channel, of pixels in 0..1. None, for both, takes what the library has for these weights (`guie.model.normalisation`).
        std: Standard deviation of each channel, of pixels in 0..1.
        own_normalisation_of: `mean` and `std` may differ from the library's where this repeats `weights`: they are stated for these weights and no others.
    """

    library: str
    name: str
    weights: str = ""
    feature: str = ""
    pad_type: str = ""
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    own_normalisation_of: str = ""

    @property
    def weights_tag(self) -> str:
        """The tag of weights that the library fetches, or ''."""
        return self.weights.removeprefix(PRETRAINED_TAG) if self.weights.startswith(PRETRAINED_TAG) else ""

    @property
    def weights_file(self) -> str:
        """The name of the weights' file, or ''."""
        return "" if self.weights.startswith(PRETRAINED_TAG) else self.weights
