"""The colours of the report, light and dark, and how each mark of a chart is painted.

The page, the SVG files and the PNG files all use them.
"""

from __future__ import annotations

from dataclasses import dataclass

LIGHT = {
    "ground": "#f6f7f9",
    "paper": "#ffffff",
    "ink": "#16202c",
    "soft": "#566372",
    "rule": "#d9dfe6",
    "grid": "#e8ecf1",
    "accent": "#1d5fd1",
    "accent-ink": "#ffffff",
    "step": "#8fb4ee",
    "step-ink": "#10233f",
    "first": "#a9b4c0",
    "first-ink": "#16202c",
    "second": "#b4530a",
    "right": "#13773a",
    "right-ground": "#e4f5ea",
    "wrong": "#b3261e",
    "wrong-ground": "#fdeceb",
    "k0": "#1d5fd1",
    "k1": "#b4530a",
    "k2": "#13773a",
    "k3": "#a3268f",
    "k4": "#0e7490",
    "k5": "#7a5c00",
    "k6": "#c2255c",
    "k7": "#5b5bd6",
}
DARK = {
    "ground": "#10151b",
    "paper": "#182029",
    "ink": "#e7edf3",
    "soft": "#9fb0c0",
    "rule": "#303c48",
    "grid": "#26313c",
    "accent": "#6ea8ff",
    "accent-ink": "#0b1a30",
    "step": "#2f5590",
    "step-ink": "#e7edf3",
    "first": "#55636f",
    "first-ink": "#f2f5f8",
    "second": "#f2a65a",
    "right": "#5fd08a",
    "right-ground": "#15301f",
    "wrong": "#ff8a80",
    "wrong-ground": "#3a1a18",
    "k0": "#6ea8ff",
    "k1": "#f2a65a",
    "k2": "#5fd08a",
    "k3": "#e58ad6",
    "k4": "#56c7dc",
    "k5": "#d6b84a",
    "k6": "#ff8fab",
    "k7": "#aaa8ff",
}
N_KINDS = 8  # k0 to k7: domains or classes of the map, runs beside each other


@dataclass(frozen=True)
class Paint:
    """How a mark looks; colours are names of the palette, '' is none."""

    fill: str = ""
    stroke: str = ""
    width: float = 1.0
    dash: tuple[float, ...] = ()
    font_px: float = 12.0
    is_bold: bool = False


TEXT = Paint("ink")
PAINTS = {
    "label": Paint("ink", is_bold=True),
    "value": TEXT,
    "inside": TEXT,
    "on-first": Paint("first-ink"),
    "on-step": Paint("step-ink"),
    "on-final": Paint("accent-ink", is_bold=True),
    **{f"on-k{i}": Paint("paper") for i in range(N_KINDS)},
    "tick": Paint("soft", font_px=11),
    "axis": Paint("soft", font_px=11),
    "grid": Paint(stroke="grid"),
    "rule": Paint(stroke="soft"),
    "first": Paint("first"),
    "step": Paint("step"),
    "final": Paint("accent"),
    "mark": Paint("paper", "second", 2),
    "halo": Paint(stroke="paper", width=4),
    "whisker": Paint(stroke="ink", width=1.5),
    "one": Paint(stroke="accent", width=2),
    "two": Paint(stroke="second", width=2, dash=(6, 3)),
    "three": Paint(stroke="right", width=2, dash=(2, 2)),
    "dot-one": Paint("accent"),
    "dot-two": Paint("second"),
    "dot-three": Paint("right"),
    **{f"k{i}": Paint(f"k{i}") for i in range(N_KINDS)},
    "other": Paint("first"),
    **{f"line-k{i}": Paint(stroke=f"k{i}", width=2) for i in range(N_KINDS)},
    **{f"dot-line-k{i}": Paint(f"k{i}") for i in range(N_KINDS)},
}


def kind(i: int) -> str:
    """The style of the i-th domain or run; after eight they begin anew."""
    return f"k{i % N_KINDS}"


def paint(styles: str) -> Paint:
    """The paint of an element's class attribute: that of its last word, the plain text's without one."""
    return PAINTS[styles.split()[-1]] if styles else TEXT
