"""Did training help? The sentence that `guie train` ends with."""

from __future__ import annotations

import math

from guie.embed.verdict import FEWEST
from guie.evaluate.pairs import Paired

LEVEL = 0.05


def verdict(found: Paired, is_unseen: bool) -> str:
    """One sentence for people.

    Args:
        found: The trained model compared with the tower as it is, reduced to the same width.
        is_unseen: Whether training saw none of the classes.
    """
    seen = "that training did not see" if is_unseen else "whose other photos it was trained on"
    scores = f"mP@5 {found.after:.3f} against {found.before:.3f} off the shelf on {found.n_classes} classes {seen}"
    change = f"{found.difference:+.3f}"
    if math.isnan(found.low):
        return f"{scores}: {change}. That is too few classes to tell."
    between = f"95 % interval {found.low:+.3f} to {found.high:+.3f}, {_chance(found.p)}"
    if found.n_classes < FEWEST:
        return f"{scores}: {change} ({between}). Fewer than {FEWEST} classes are too few to tell."
    if found.p >= LEVEL:
        return f"No difference that can be told from luck: {scores}, {change} ({between})."
    return f"Training {'helped' if found.difference > 0 else 'did harm'}: {scores}, {change} ({between})."


def _chance(p: float) -> str:
    return "p < .001" if p < 0.001 else f"p = {p:.3f}".replace("0.", ".")
