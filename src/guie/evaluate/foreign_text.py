"""A gain and its two intervals as text, alike in the terminal and in the report."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

UNKNOWN = "–"


def gain_texts(line: pd.Series | Mapping[str, Any]) -> list[str]:
    """A difference, and its 95 % intervals for other classes and over the folds; a dash where one is not known.

    Args:
        line: What `guie.evaluate.foreign_table.Estimate` holds, by name.
    """
    intervals = (_between(line[f"{kind}_low"], line[f"{kind}_high"]) for kind in ("class", "fold"))
    return [f"{line['mean']:+.3f}", *intervals]


def _between(low: float, high: float) -> str:
    return f"{low:+.3f} to {high:+.3f}" if math.isfinite(low) and math.isfinite(high) else UNKNOWN
