"""The backbone of a recipe."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from guie.settings.fields import check_range

PRETRAINED_TAG = "pretrained:"
PICKLED = (
    ".pt",
    ".pth",
    ".bin",
    ".ckpt",
    ".pth.tar",
    ".pt.tar",
    ".th",
    ".pkl",
)  # endings of files that torch.save wrote


@dataclass(frozen=True)
class Model:
    """The backbone and what its pixels look like.

    Attributes:
        library: `timm` or `open_clip`.
        name: The model's name in that library, without a tag.
        weights: A `.safetensors` file, or one of torch.save's (by their endings, `PICKLED`): weights, or a checkpoint
            with them (absolute, or relative to the data root or to `weights/`); `pretrained:TAG` for weights that the
            library fetches; empty for random weights.
        feature: Which of its outputs: empty is the library's own (open_clip: after the projection; timm: as the model
            pools); `unprojected` is open_clip's before the projection (1st place 1024 numbers, 2nd and 3rd 1280 of the
            same tower); `cls`, `mean`, `max` or `gem` (p = 3) pool the last layer's tokens (of open_clip's towers that
            are timm's, too). A tower that has no such output is refused.
        pad_type: timm's padding of TensorFlow ports (`same`); empty leaves the library's default.
        mean: Mean of each channel, of pixels in 0..1. None, for both, takes what the library has for these weights
            (`guie.model.normalisation`).
        std: Standard deviation of each channel, of pixels in 0..1.
        own_normalisation_of: `mean` and `std` may differ from the library's where this repeats `weights`: they are
            stated for these weights and no others.
        beside: Further backbones whose features stand beside this one's, each divided by its length first: one head
            over several families. All see squares of the stage's side; they stay frozen.
    """

    library: Literal["timm", "open_clip"]
    name: str
    weights: str = ""
    feature: Literal["", "unprojected", "cls", "mean", "max", "gem"] = ""
    pad_type: str = ""
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    own_normalisation_of: str = ""
    beside: tuple[Model, ...] = field(default=(), repr=False)  # keys of older caches have no such word

    @property
    def each(self) -> tuple[Model, ...]:
        """The backbones one by one; a single one is itself."""
        return (replace(self, beside=()), *self.beside) if self.beside else (self,)

    @property
    def weights_tag(self) -> str:
        """The tag of weights that the library fetches, or ''."""
        return self.weights.removeprefix(PRETRAINED_TAG) if self.weights.startswith(PRETRAINED_TAG) else ""

    @property
    def weights_file(self) -> str:
        """The name of the weights' file, or ''."""
        return "" if self.weights.startswith(PRETRAINED_TAG) else self.weights

    def _check_tag(self, at: str) -> None:
        """Raises ValueError where the tag is missing, or stands in the name: the weights would then be random."""
        if self.weights == PRETRAINED_TAG:
            raise ValueError(f"{at}.weights is {self.weights!r}, without a tag; leave it empty for random weights")
        name, _, tag = self.name.partition(".")
        if self.library == "timm" and tag and ":" not in self.name and not self.weights_file:
            raise ValueError(
                f"{at}.name is {self.name!r} and {at}.weights is {self.weights!r}: a tag stands in weights, not in the "
                f"name; set {at}.name={name!r} and {at}.weights={(self.weights or PRETRAINED_TAG + tag)!r}, or leave "
                "weights empty for random ones"
            )

    def check(self, at: str) -> None:
        """Raises ValueError for a weights file of an unknown kind, and for fields that contradict each other."""
        if self.feature == "unprojected" and self.library != "open_clip":
            raise ValueError(
                f"{at}.feature is 'unprojected', which open_clip's towers have; timm's models have no projection: "
                "leave it empty"
            )
        if self.weights_file and not self.weights_file.endswith((".safetensors", *PICKLED)):
            endings = ", ".join((".safetensors", *PICKLED))
            raise ValueError(
                f"{at}.weights is {self.weights!r}, must be a file ({endings}), {PRETRAINED_TAG}TAG, or empty for "
                "random weights"
            )
        self._check_tag(at)
        names = [model.name for model in self.each]
        if any(model.beside for model in self.beside) or len(set(names)) < len(names):
            raise ValueError(
                f"{at}.beside: the backbones are {', '.join(names)}; each stands there once, and has none beside itself"
            )
        check_range(f"{at}.mean", self.mean, 0, 1)
        check_range(f"{at}.std", self.std, 1e-6, 1)
        if (self.mean is None) != (self.std is None):
            raise ValueError(
                f"{at}.mean is {self.mean} and {at}.std is {self.std}: state both, or neither to take the library's"
            )
        if self.own_normalisation_of and (self.mean is None or self.own_normalisation_of != self.weights):
            raise ValueError(
                f"{at}.own_normalisation_of is {self.own_normalisation_of!r}, and {at}.weights is {self.weights!r}: "
                f"mean {self.mean} "
                f"and std {self.std} are stated for the former alone. Set own_normalisation_of='' and mean and std to "
                "none to take the "
                "library's"
            )
