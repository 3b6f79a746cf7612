"""The section about what a run cost: time, memory and speed of every door and stage, and what each of them noted."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from guie.report.collect import Step
from guie.report.markup import NOTHING, filled


def cost(steps: Sequence[Step]) -> Markup:
    """Seconds, peak memory and images a second of every door and stage, and the metrics that they noted."""
    longest = max((step.number("seconds") or 0.0 for step in steps), default=0.0) or 1.0
    doors = [step for step in steps if not step.is_stage]
    peak = max((step.number("peak_memory_gb") or 0.0 for step in steps), default=0.0)
    return filled(
        "cost.html",
        steps=[_row(step, longest) for step in steps],
        seconds=sum(step.number("seconds") or 0.0 for step in doors),
        memory=peak or None,
        versions=_versions(doors),
    )


def _row(step: Step, longest: float) -> dict[str, Any]:
    mark = step.mark or {}
    seconds = step.number("seconds")
    return {
        "name": step.name,
        "style": "stage" if step.is_stage else "door",
        "seconds": seconds,
        "memory": step.number("peak_memory_gb"),
        "speed": _speed(step.images_per_s),
        "share": None if seconds is None else seconds / longest,
        "device": mark.get("device", NOTHING),
        "seed": mark.get("seed", NOTHING),
        "commit": mark.get("commit", NOTHING),
        "noted": ", ".join(_noted(name, value) for name, value in step.noted.items()) or None,
    }


def _speed(images_per_s: float | None) -> str:
    if not images_per_s:
        return NOTHING
    return f"{images_per_s:,.1f}" if images_per_s < 100 else f"{images_per_s:,.0f}"


def _noted(name: str, value: Any) -> str:
    if isinstance(value, float):
        return f"{name} {value:.4g}"
    return f"{name} {value if isinstance(value, str) else json.dumps(value)}"


def _versions(doors: Sequence[Step]) -> list[str]:
    """The versions of Python and the packages that the doors ran with, one text for each combination."""
    noted = [step.mark.get("versions", {}) for step in doors if step.mark]
    texts = {", ".join(f"{name} {version}" for name, version in versions.items()) for versions in noted}
    return sorted(texts - {""})
