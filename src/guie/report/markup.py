"""Fills the page's templates, and writes numbers as text for them.

The templates, the style sheet and the script are files in `templates/`. Jinja escapes every value that it writes into a
template. What is HTML or SVG already comes as `Markup`: charts, and templates that are filled.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from guie.report.collect import is_number

NOTHING = "–"


def filled(name: str, **values: Any) -> Markup:
    """The template `name` with `values` in it.

    Raises:
        jinja2.UndefinedError: the template uses a value that is not there.
    """
    return Markup(_environment().get_template(name).render(values))


def asset(name: str) -> Markup:
    """The text of a file of `templates/` that is no template: the style sheet or the script."""
    return Markup((files("guie.report") / "templates" / name).read_text(encoding="utf-8"))


def score_text(value: Any) -> str:
    """A score with three digits; a dash where there is none."""
    return f"{value:.3f}" if is_number(value) else NOTHING


def seconds_text(value: Any) -> str:
    """Seconds as `4.2 s`, `3 min 05 s` or `1 h 02 min`; a dash where they are not known."""
    if not is_number(value):
        return NOTHING
    if value < 60:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def memory_text(gigabytes: Any) -> str:
    """Gigabytes with two digits; a dash where they are not known."""
    return f"{gigabytes:.2f} GB" if is_number(gigabytes) else NOTHING


def count_text(count: int) -> str:
    """A whole number with a comma between thousands."""
    return f"{int(count):,}"


def percent_text(share: float, digits: int = 0) -> str:
    """A share of 1 as percent."""
    return f"{share:.{digits}%}"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("guie.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "score": score_text,
        "seconds": seconds_text,
        "memory": memory_text,
        "thousands": count_text,
        "percent": percent_text,
    }
    return environment
