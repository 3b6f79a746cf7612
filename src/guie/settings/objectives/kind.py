"""What the settings of all objectives have in common."""

from __future__ import annotations

from typing import Any


class Kind:
    """What all objectives' settings have in common.

    Attributes:
        has_centers: Its weights are class centres or proxies, which may start as their classes' means.
        needs_positives: A batch must hold several rows of a class.
    """

    has_centers = False
    needs_positives = False

    def state_shape(self) -> tuple[Any, ...]:
        """What decides which weights and buffers the objective has: rows that agree in it can load each other's
        objective."""
        return (type(self).__name__,)
