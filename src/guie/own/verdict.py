"""Did training help? The sentence that `guie train` ends with."""

from __future__ import annotations

import math

from guie.embed.verdict import FEWEST
from guie.evaluate.pairs import Paired
from guie.own.recipes import REDUCED, TRAINED

LEVEL = 0.05


def verdict(found: Paired, is_unseen: bool) -> str:
    """One sentence for people.

    Args:
        found: The trained model compared with the tower as it is, reduced to the same width.
        is_unseen: Whether training saw none of the classes.
    """
    seen = "that training did not see" if is_unseen else "whose other photos it was trained on"
    scores = (
        f'mP@5 {found.after:.3f} of "{TRAINED}" against {found.before:.3f} of "{REDUCED}" on {found.n_classes} '
        f"classes {seen}"
    )
    change = f"{found.difference:+.3f}"
    if math.isnan(found.low):
        return f"{scores}: {change}. That is too few classes to tell."
    chance = "p < 0.001" if found.p < 0.001 else f"p = {found.p:.3f}"
    between = f"{_interval(found)}, {chance}"
    if found.n_classes < FEWEST:
        return f"{scores}: {change} ({between}). Fewer than {FEWEST} classes are too few to tell."
    if found.p >= LEVEL:
        return f"No difference that can be told from luck: {scores}, {change} ({between})."
    return f"Training {'helped' if found.difference > 0 else 'did harm'}: {scores}, {change} ({between})."


def _interval(found: Paired) -> str:
    """The interval of the difference. An end at -1 or 1 was cut there, so it says nothing about the difference."""
    if found.low <= -1 or found.high >= 1:
        return "too few classes for an interval" if found.n_classes < FEWEST else "no interval"
    return f"95 % interval {found.low:+.3f} to {found.high:+.3f}"
