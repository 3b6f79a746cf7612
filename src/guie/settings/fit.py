"""What a PCA is fitted on: images with or without labels, and words for towers that embed text as well."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from guie.settings.fields import nearest, within
from guie.settings.model import Model
from guie.settings.names import PRETRAINED


@dataclass(frozen=True)
class FitImages:
    """Images of some sources, pooled: of a labelled source its training images, of an unlabelled one all.

    Attributes:
        sources: The sources' names; empty is all labelled sources that stages train on.
        weight: Their share of the covariance, relative to the weights beside it, however many images there are.
    """

    sources: tuple[str, ...] = ()
    weight: float = within(1.0, low=1e-6, high=1e6)


@dataclass(frozen=True)
class FitWords:
    """Words, embedded by the text tower that was trained with the image tower (4th place).

    They add to the covariance, not to the mean: texts and images lie apart in the joint space, and the direction
    between them tells nothing about images. For members whose output is the joint space as it was pretrained.

    Attributes:
        file: A text file in UTF-8, absolute or relative to the data root, with a word on each line; empty lines and
            lines that begin with # are skipped.
        template: The sentence of each word, which stands for `{}`.
        weight: Their share of the covariance, relative to the weights beside it, however many words there are.
    """

    file: str = "words.txt"
    template: str = "a photo of a {}."
    weight: float = within(1.0, low=1e-6, high=1e6)

    def check(self, at: str) -> None:
        """Raises ValueError without a file, and for a template that has not exactly one place for the word."""
        if not self.file.strip():
            raise ValueError(f"{at}.file is empty; name a text file with a word on each line")
        if self.template.count("{}") != 1 or set(self.template.replace("{}", "")) & set("{}"):
            raise ValueError(f"{at}.template is {self.template!r}, must hold {{}} once, as in 'a photo of a {{}}.'")


FitOn = tuple[FitImages | FitWords, ...]
TRAINING: FitOn = (FitImages(),)  # where nothing is said


def described(entry: FitImages | FitWords) -> str:
    """What an entry holds, in a few words."""
    if isinstance(entry, FitWords):
        return f"words of {entry.file}"
    return f"images of {' + '.join(entry.sources)}" if entry.sources else "training images"


def without(fit_on: FitOn, sources: Sequence[str]) -> FitOn:
    """The entries without some sources. An entry that names no other source is dropped, together with its weight."""
    left: list[FitImages | FitWords] = []
    for entry in fit_on:
        if isinstance(entry, FitWords) or not entry.sources:
            left.append(entry)
        elif own := tuple(name for name in entry.sources if name not in sources):
            left.append(replace(entry, sources=own))
    return tuple(left)


def shares_described(fit_on: FitOn) -> str:
    """What a PCA is fitted on and the shares: `67% training images, 33% images of mine`; of one entry without share."""
    if len(fit_on) == 1:
        return described(fit_on[0])
    whole = sum(entry.weight for entry in fit_on)
    return ", ".join(f"{entry.weight / whole:.0%} {described(entry)}" for entry in fit_on)


def check_sources(at: str, fit_on: FitOn, names: Sequence[str]) -> None:
    """Raises ValueError where a source stands twice, or is none of `names`: those trained on and the unlabelled."""
    seen: list[str] = []
    for i, entry in enumerate(fit_on):
        for name in entry.sources if isinstance(entry, FitImages) else ():
            if name not in names:
                raise ValueError(
                    f"{at}.{i}.sources names {name!r}, which is no source with training images or images without "
                    f"labels; {nearest(name, names)}"
                )
            if name in seen:
                raise ValueError(f"{at}: the source {name!r} stands twice; give it one weight")
            seen.append(name)


def check_joint_space(at: str, stage: str, output: str, model: Model, trained_by: str) -> None:
    """Raises ValueError where words cannot be embedded into the space of a member's output.

    Args:
        at: Path of the setting.
        stage: The member's.
        output: The member's, `feature` or `embedding`.
        model: Its backbone.
        trained_by: The stage that trained the backbone; '' where none did.
    """
    reason = ""
    if output != "feature":
        reason = f"its output is {output!r}, which the text tower does not share: take output='feature'"
    elif model.library != "open_clip":
        reason = f"{model.library}'s {model.name} has no text tower: take one of open_clip"
    elif model.feature:
        reason = f"its feature is {model.feature!r}, not the projected one that texts share: leave model.feature empty"
    elif model.beside:
        reason = (
            f"{', '.join(other.name for other in model.beside)} beside it has no text there: leave model.beside empty"
        )
    elif not model.weights:
        reason = "its weights are random, so that texts and images share no space: name model.weights"
    elif trained_by:
        reason = f"{trained_by} trained its backbone away from the text tower's space: take stage {PRETRAINED!r}"
    if reason:
        raise ValueError(f"{at} is fitted on words, but of member {stage} {reason}; or leave FitWords out")
