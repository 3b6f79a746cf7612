"""What rows, sources and recipes may be called."""

from __future__ import annotations

import re

PRETRAINED = "pretrained"  # the name of the stage that trained nothing: the backbone as it was loaded


def check_name(place: str, name: str) -> None:
    """Raises ValueError for a name that cannot be a folder and a part of a path of fields."""
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise ValueError(f"{place} is {name!r}, must be of letters, digits, _ and - only")
