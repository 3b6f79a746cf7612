"""What rows, sources and recipes may be called, and which fields decide a row's weights."""

from __future__ import annotations

import re
from collections.abc import Sequence

from guie.settings.fields import nearest

PRETRAINED = "pretrained"  # the name of the stage that trained nothing: the backbone as it was loaded
# Beside the row's own.
OF_WEIGHTS = ("model", "data.limits", "data.foreign_domain", "embed.precision", "embed.storage", "seed")


def read_by_row(name: str) -> tuple[str, ...]:
    """The paths of all fields that decide the weights of the row called `name`."""
    return (*OF_WEIGHTS, f"stages.{name}")


def check_name(place: str, name: str) -> None:
    """Raises ValueError for a name that cannot be a folder and a part of a path of fields."""
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise ValueError(f"{place} is {name!r}, must be of letters, digits, _ and - only")


def check_row_name(at: str, name: str) -> None:
    """Raises ValueError for a name that no row may have."""
    check_name("stages.name", name)
    if name == PRETRAINED:
        raise ValueError(f"{at}: the name {PRETRAINED!r} is taken by the backbone as it is loaded")


def check_earlier(place: str, name: str, earlier: Sequence[str]) -> None:
    """Raises ValueError for a name that is none of the rows before; `place` begins the message."""
    if name not in earlier:
        raise ValueError(f"{place} {name!r}, which is no earlier stage; {nearest(name, earlier)}")
