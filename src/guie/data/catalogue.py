"""Facts about each public data set: where to get it, its licence, and its size when complete.

Each module in `guie.data.sources` that reads a public set states them as `SET`.
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
        url: Its address.
        folder: Where the file is put, or the archive unpacked, relative to the set's folder.
        md5: 32 hexadecimal digits, or the address of a text file that begins with them; '' if none is published.
    """

    url: str
    folder: str = ""
    md5: str = ""


@dataclass(frozen=True)
class KaggleCopy:
    """A copy of a set on Kaggle, which kagglehub downloads with an account.

    Attributes:
        handle: `owner/name` of a data set; without a slash the name of a competition, whose rules must be accepted.
        holds: (name in the layout that the set's reader expects, name in the copy) of what must be there. The folder
            that holds these may lie deeper in the download.
        seen: A public page or file that names the handle, and shows these names in it.
    """

    handle: str
    holds: tuple[tuple[str, str], ...]
    seen: str

    @property
    def call(self) -> str:
        """The call of kagglehub that downloads it."""
        function = "dataset_download" if "/" in self.handle else "competition_download"
        return f'kagglehub.{function}("{self.handle}")'


@dataclass(frozen=True)
class DataSet:
    """A public set.

    Attributes:
        title: Its name.
        page: Where it is described.
        licence: In a few words; `UNKNOWN` if we have not read it.
        is_commercial: Whether the licence allows commercial use; False if that is not known.
        folder: Its folder, relative to the data root.
        size: Of the download, in words.
        whole: (form, number of images, number of classes) of each form that is published; a number is 0 if not known.
        files: What is downloaded; empty for sets that need an account or a signed form.
        how: What to do by hand if `files` is empty.
        kaggle: A copy on Kaggle in the layout that the reader expects; None if none is known.
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
    kaggle: KaggleCopy | None = None


@dataclass(frozen=True)
class Licence:
    """A source's licence in a few words, whether it allows commercial use, and the page that states it."""

    text: str
    is_commercial: bool
    page: str


def known_sets() -> dict[str, DataSet]:
    """The public sets by kind, in alphabetical order. Readers of any set, such as `class_folders`, have no `SET`."""
    from guie.data import sources  # imported late: the readers import this module

    kinds = sorted(module.name for module in pkgutil.iter_modules(sources.__path__))
    modules = {kind: importlib.import_module(f"{sources.__name__}.{kind}") for kind in kinds}
    return {kind: module.SET for kind, module in modules.items() if hasattr(module, "SET")}


def licence_of(data: Data, source: Source) -> Licence:
    """A source's licence: as the recipe states it, else as it is known of the kind. Drawn images are our own."""
    if data.drawn is not None:
        return Licence("drawn by this project", True, "")
    known = known_sets().get(source.kind)
    if source.licence:
        return Licence(source.licence, source.is_commercial, known.page if known else "")
    return Licence(known.licence, known.is_commercial, known.page) if known else Licence(UNKNOWN, False, "")


def completeness(kind: str, n_images: int, n_classes: int) -> str:
    """Compares what was found with the complete set: `whole (clean)`, `1,000 of 141,931 images (train), ...`, or '' if
    its size is not known."""
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
