"""The search page as HTML: served, or as one file with everything inside."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from guie.search.store import Index

MAX_FOLDERS = 1000  # most folders in the page's list


def page(name: str, data: dict[str, Any] | None = None) -> str:
    """The page.

    Args:
        name: Its title: the name of the photos' folder.
        data: Photos, neighbours and thumbnails, for the page in one file; None for the served page, which asks the
            server.
    """
    template = _environment().get_template("page.html")
    return template.render(name=name, data=data, style_sheet=asset("page.css"), script=asset("page.js"))


def asset(name: str) -> Markup:
    """The text of the style sheet or the script."""
    return Markup((files("guie.search") / "templates" / name).read_text(encoding="utf-8"))


def title(index: Index) -> str:
    """The name of the photos' folder or list."""
    return Path(index.header.photos).name or index.header.photos


def generation(index: Index) -> str:
    """A text that is different for each state of an index."""
    return f"{index.header.generation} {index.header.made}"


def about(index: Index) -> dict[str, Any]:
    """What the page says about the index, and its folders with their numbers of photos."""
    folders = list(index.folders.items())
    if len(folders) > MAX_FOLDERS:  # the upper levels are enough to find one's way
        folders = sorted(folders, key=lambda item: (item[0].count("/"), item[0]))[:MAX_FOLDERS]
    made = index.header.made[:16].replace("T", " ")
    n = f"{len(index):,} photo{'' if len(index) == 1 else 's'}"
    return {
        "generation": generation(index),
        "facts": f"{n}, indexed {made} UTC by {index.header.model.short}",
        "folders": sorted(folders),
        "problem": "",
    }


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("guie.search"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
