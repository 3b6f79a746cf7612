"""The frame of a page: one HTML file that fetches nothing, with the style sheet, the colours and the script in it."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from guie.report.markup import asset, filled
from guie.report.palette import DARK, LIGHT, N_KINDS, PAINTS

STYLES = ("report.css", "gallery.css")
SCRIPTS = ("lists.js", "dialog.js", "gallery.js", "map.js", "report.js")  # functions, and at last what calls them


def whole_page(template: str, sections: list[tuple[str, str, Markup]], **values: Any) -> str:
    """A page as HTML.

    Args:
        template: Extends `base.html`.
        sections: Id, name in the navigation and content of each section, in the order of the page.
        **values: What the template shows beside them.
    """
    page = filled(
        template,
        sections=sections,
        colours=_colours(),
        style_sheet=Markup("").join(asset(name) for name in STYLES),
        script=Markup("").join(asset(name) for name in SCRIPTS),
        **values,
    )
    return str(page)


def _colours() -> Markup:
    """The part of the style sheet that the palette decides."""
    marks = filled("marks.css", paints=PAINTS, colour="var(--{})".format)
    return filled("colours.css", light=LIGHT, dark=DARK, marks=marks, n_kinds=N_KINDS)
