"""What is known of each public set: where it is had, under what licence, how large it is when whole.

The facts stand beside the reader of each layout, as `SET` in the modules of `guie.data.sources`.
"""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass

from guie.settings.data import Data, Source

UNKNOWN = "not known"


@dataclass(frozen=True)
class Download:
    """One file that is openly hosted.

    Attributes:
        url: Where.
        folder: Where it lands (an archive: is unpacked), relative to the set's folder.
        md5: 32 hexadecimal digits, or the address of a text that begins with them; '' where none is published.
    """

    url: str
    folder: str = ""
    md5: str = ""


@dataclass(frozen=True)
class DataSet:
    """A public set.

    Attributes:
        title: Its name.
        page: Where it is described.
        licence: In a few words; `UNKNOWN` where nobody of us has read it.
        is_commercial: Whether the licence allows commercial use; False where it is not known to.
        folder: Where it must lie under the data root.
        size: Of the download, in words.
        whole: (form, images, classes) of each form in which it is published; 0 where the number is not known.
        files: What is downloaded; empty for sets behind an account or a form.
        how: What to do by hand, where `files` is empty.
    """

    title: str
    page: str
    licence: str
    is_commercial: bool
    folder: str
    size: str = ""
    whole: tuple[tuple[str, int, int], ...] = ()
    files: tuple[Download, ...] = ()
    how: str = ""


@dataclass(frozen=True)
class Licence:
    """A source's licence, where it is read, and whether it allows commercial use."""

    text: str
    is_commercial: bool
    page: str


def known_sets() -> dict[str, DataSet]:
    """The sets by kind, in alphabetical order; a reader without `SET` is of anyone's sets, of which nothing is
    known."""
    from guie.data import sources  # the readers know this module

    kinds = sorted(module.name for module in pkgutil.iter_modules(sources.__path__))
    modules = {kind: importlib.import_module(f"{sources.__name__}.{kind}") for kind in kinds}
    return {kind: module.SET for kind, module in modules.items() if hasattr(module, "SET")}


def licence_of(data: Data, source: Source) -> Licence:
    """What the recipe says of a source, else what is known of its kind; drawn images are the project's own."""
    if data.drawn is not None:
        return Licence("drawn by this project", True, "")
    known = known_sets().get(source.kind)
    if source.licence:
        return Licence(source.licence, source.is_commercial, known.page if known else "")
    return Licence(known.licence, known.is_commercial, known.page) if known else Licence(UNKNOWN, False, "")


def completeness(kind: str, n_images: int, n_classes: int) -> str:
    """How what was found compares with the set when whole: `whole (clean)`, `1,000 of 141,931`, or '' where nothing is
    known."""
    known = known_sets().get(kind)
    forms = known.whole if known else ()
    for form, images, classes in forms:
        if images == n_images and classes in (0, n_classes):
            return f"whole ({form})" if form else "whole"
    if not forms:
        return ""
    form, images, classes = min(forms, key=lambda row: abs(row[1] - n_images))
    text = f"{n_images:,} of {images:,} images" + (f", {n_classes:,} of {classes:,} classes" if classes else "")
    return f"{text} ({form})" if form else text
