"""What the exported embedding scores at other widths and as codes, as a table of the page and of the terminal."""

from __future__ import annotations

from typing import Any

import pandas as pd

from guie.evaluate.code_loss import FLOAT
from guie.report.collect import is_number
from guie.report.markup import NOTHING, score_text


def dimension_rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of `dimensions.csv` for people: name, n_bytes, mp5, interval, change, p, is_exported."""
    rows = []
    for row in table.to_dict("records"):
        low, high = row["mp5_low"], row["mp5_high"]
        rows.append(
            {
                "name": _name(row),
                "n_bytes": int(row["n_bytes"]),
                "mp5": row["mp5"],
                "interval": (low, high) if is_number(low) and is_number(high) else None,
                "change": NOTHING if row["is_exported"] else _change(row["loss"]),
                "p": score_text(row["p"]),
                "is_exported": bool(row["is_exported"]),
            }
        )
    return rows


def _name(row: dict[str, Any]) -> str:
    numbers = f"{int(row['dim']):,}"
    if row["is_exported"]:
        return f"{numbers}, exported"
    return numbers if row["code"] == FLOAT else f"{numbers}, {str(row['code']).removeprefix('all, ')}"


def _change(loss: float) -> str:
    change = round(-loss, 3)
    return f"{change:+.3f}" if change else "0.000"


def dimensions_text(table: pd.DataFrame) -> str:
    """The table as lines of text, the exported embedding marked."""
    rows = dimension_rows(table)
    width = max(len(row["name"]) for row in rows)
    lines = [f"  {'numbers':<{width}}  {'bytes':>6}  {'mP@5':>6}  {'change':>6}"]
    for row in rows:
        sign = ">" if row["is_exported"] else " "
        values = f"{row['n_bytes']:>6,}  {score_text(row['mp5']):>6}  {row['change']:>6}"
        lines.append(f"{sign} {row['name']:<{width}}  {values}")
    return "\n".join(lines)
