"""Which rows a soup may average, and between which backbones an interpolation may lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from guie.settings.mixed import Interpolate, Soup
from guie.settings.model import Model
from guie.settings.names import PRETRAINED
from guie.settings.neck import shape_of
from guie.settings.stage import Stage


@dataclass(frozen=True)
class Part:
    """A row that a soup averages.

    Attributes:
        name: The row's.
        stage: The stage that gave its weights their shape.
        model: Its backbone.
        seen: The data sets whose classes the stage's objective sees.
    """

    name: str
    stage: Stage
    model: Model
    seen: set[str]


def check_soup(soup: Soup, parts: Sequence[Part]) -> None:
    """Raises ValueError where the rows of a soup differ from its first one in what makes weights comparable."""
    at, first = f"stages.{soup.name}", parts[0]
    for other in parts:
        for field in ("image_px", "patch_stride", "left_out"):
            if getattr(first.stage, field) != getattr(other.stage, field):
                raise ValueError(
                    f"{at}: {other.name}.{field} is {getattr(other.stage, field)!r}, {first.name} has "
                    f"{getattr(first.stage, field)!r}; a soup is of alike models"
                )
        if first.seen != other.seen:
            raise ValueError(
                f"{at}: {other.name}'s classes are those of {', '.join(sorted(other.seen))}, {first.name}'s of "
                f"{', '.join(sorted(first.seen))}; a soup is of alike models"
            )
        of_first, of_other = ((shape_of(s.neck), s.objective.state_shape()) for s in (first.stage, other.stage))
        if of_first != of_other:
            raise ValueError(
                f"{at}: {other.name} has another neck or another objective than {first.name}; a soup is of alike models"
            )
        if other.model != first.model:
            raise ValueError(
                f"{at}.of: {other.name} has another backbone than {first.name}; make a soup of each and concatenate "
                "them as members"
            )


def check_interpolation(row: Interpolate, start: Model, tuned: Model) -> None:
    """Raises ValueError where an interpolation lies between an earlier row and one of another backbone."""
    if row.start != PRETRAINED and start != tuned:
        raise ValueError(
            f"stages.{row.name}.start: {row.start} has another backbone than {row.of}; name an earlier row of the same "
            f"one, or {PRETRAINED!r}"
        )
