"""One module per layout of a public data set, each with one pure function `build(folder) -> DataFrame`.

The name of the module is the `kind` of a recipe's source. `build` lists the images that the set's own files name, in
the columns image_id (unique and stable, without the source's name), path (relative to `folder`), source_label and split
(the set's own: train, val, test or ''). Everything is text: an id such as 0012 keeps its zeros. `build` does not check
that the images exist.

The column `group` may be absent. Classes whose images name the same group are near-twins, or show the same thing:
validation by class keeps them on one side. The name of a group is valid within its source; a name that begins with
`SHARED` is valid in all sources. '' means no group; several names are separated by line breaks.
"""

from __future__ import annotations

import json
import os
import warnings
from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from guie.data.image import EXTENSIONS, is_image
from guie.data.names import safe_name

SHARED = "shared:"
NO_IMAGES = {
    ".txt",
    ".csv",
    ".json",
    ".xml",
    ".html",
    ".md",
    ".ini",
    ".db",
    ".log",
    ".py",
    ".npy",
    ".mat",
    ".pkl",
    ".zip",
    ".tar",
    ".gz",
}  # files with these endings are not opened
passed_over: Counter[str] = Counter()  # files that `images_in` skipped, by ending; `list_source` reads and clears it


def read_csv(path: Path, *columns: str) -> pd.DataFrame:
    """Reads a table whose values are all text, also 'NA' and ''.

    Args:
        path: The file.
        columns: The columns that must be there.

    Raises:
        FileNotFoundError: no such file, or no such folder.
        ValueError: it is not a table in UTF-8, or lacks a column.
    """
    need_file(path)
    with path.open("rb") as handle:
        if any(b"\0" in chunk for chunk in iter(lambda: handle.read(1 << 20), b"")):
            raise ValueError(
                f"{path} holds zero bytes: it is damaged, or not in UTF-8; fetch it again, or save it as UTF-8"
            )
    try:
        table = strict_csv(path, dtype=str, keep_default_na=False)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not in UTF-8 ({error.reason}); save it as UTF-8") from error
    except ValueError as error:  # pandas' EmptyDataError and ParserError
        told = str(error).removeprefix("Error tokenizing data. C error: ").strip()
        raise ValueError(f"{path} is not a table of comma-separated values: {told}") from error
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise ValueError(
            f"{path} lacks {', '.join(missing)}: expected the columns {', '.join(columns)}, found "
            f"{', '.join(table.columns)}"
        )
    return table


def strict_csv(path: Path, **options: Any) -> pd.DataFrame:
    """As pandas.read_csv in UTF-8, but a row with more fields than the header is an error. pandas would shift all
    columns by one.

    Raises:
        ValueError: such a row, or an error of pandas.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        try:
            return pd.read_csv(path, encoding="utf-8-sig", index_col=False, **options)
        except pd.errors.ParserWarning as error:
            raise ValueError(
                "a row has more fields than the header; put texts that hold a comma in quotes, and remove commas at "
                "the ends of rows"
            ) from error


def need_file(path: Path) -> None:
    """Raises FileNotFoundError unless `path` is a file; the message lists what is in its folder."""
    if path.is_file():
        return
    need_folder(path.parent)
    there = sorted(entry.name for entry in path.parent.iterdir())[:5]
    raise FileNotFoundError(
        f"{path} does not exist; the folder holds {', '.join(there) or 'nothing'}. Point the source's folder at the "
        "right place"
    )


def is_there(path: Path) -> bool:
    """Whether anything is at `path`. A folder or a broken link counts, so that reading it fails with a message: an
    optional file in bad shape must not be ignored."""
    return os.path.lexists(path)


def read_json(path: Path, kind: type) -> Any:
    """Reads a JSON file that holds a list or an object, as `kind` (list or dict) says.

    Raises:
        FileNotFoundError: no such file, or no such folder.
        ValueError: it is not JSON, or holds something else.
    """
    need_file(path)
    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:  # bytes that are not UTF-8, too
        raise ValueError(f"{path} is not a JSON file: {error}") from error
    if not isinstance(value, kind):
        raise ValueError(f"{path} holds a {type(value).__name__}, expected a {kind.__name__}")
    return value


def read_lines(path: Path) -> list[str]:
    """The lines of a text file.

    Raises:
        FileNotFoundError: no such file, or no such folder.
        ValueError: it is not text in UTF-8.
    """
    need_file(path)
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except ValueError as error:
        raise ValueError(f"{path} is not text in UTF-8: {error}") from error


def read_fields(path: Path, *names: str, n_before: int = 0) -> list[list[str]]:
    """Reads a text file whose lines hold fields separated by spaces; empty lines are skipped.

    Args:
        path: The file.
        names: Names of the fields of a line, which the message shows; every line must have as many.
        n_before: Lines to skip at the top, such as a count and a header.

    Raises:
        FileNotFoundError: no such file, or no such folder.
        ValueError: a line has another number of fields, or the file is not text in UTF-8.
    """
    rows = []
    for number, line in enumerate(read_lines(path)[n_before:], n_before + 1):
        fields = line.split()
        if not fields:
            continue
        if len(fields) != len(names):
            raise ValueError(f"{path} line {number} is {line!r}, expected '{' '.join(names)}'")
        rows.append(fields)
    return rows


def need_keys(path: Path, number: int, entry: Any, *keys: str) -> None:
    """Raises ValueError, which names the file and the entry, unless `entry` is an object with these keys."""
    missing = [key for key in keys if not isinstance(entry, dict) or key not in entry]
    if missing:
        raise ValueError(f"{path}: entry {number} is {entry!r:.80}, which lacks {', '.join(missing)}")


def need_folder(folder: Path) -> None:
    """Raises FileNotFoundError, with the remedy, unless `folder` is a folder."""
    if not folder.is_dir():
        raise FileNotFoundError(
            f"the folder {folder} does not exist; put the data set there, or point --data-root or the source's folder "
            "elsewhere"
        )


def shared_group(data_set: str, image: str) -> str:
    """The group of an image that several public sets hold. It is the same whichever source lists the image.

    Args:
        data_set: The set that the image was published in first: gldv2, inat or sop.
        image: The image's name in that set, or its path.
    """
    name = PurePosixPath(image).name
    while PurePosixPath(name).suffix.lower() in EXTENSIONS:  # GPR1200 adds .jpg to the original name
        name = PurePosixPath(name).stem
    if data_set == "sop":
        name = name.rsplit("_", 1)[0]  # <offer>_<number>.JPG
    return f"{SHARED}{data_set}/{name}"


def table_of(rows: Iterable[tuple[str, str, str]]) -> pd.DataFrame:
    """A source's table of (path, source_label, split); the path is also the image_id."""
    # dtype object: pandas' `str` cannot hold file names that are not UTF-8.
    frame = pd.DataFrame(list(rows), columns=["path", "source_label", "split"], dtype=object)
    return frame.assign(image_id=frame["path"])


def images_in(folder: Path) -> list[str]:
    """Sorted names of the images in a folder: files with an image's ending, and other files whose content is an image.

    Hidden files and files of other kinds are counted in `passed_over`.
    """
    names = []
    with os.scandir(folder) as entries:
        for entry in entries:
            ending = os.path.splitext(entry.name)[1].lower()
            if entry.name.startswith("."):
                passed_over["hidden"] += 1
            elif ending in EXTENSIONS:
                names.append(entry.name)
            elif not entry.is_file():
                continue
            elif ending not in NO_IMAGES and is_image(entry.path):
                names.append(entry.name)
            else:
                passed_over[safe_name(ending) or "without an ending"] += 1
    return sorted(names)


def folders_in(folder: Path) -> list[str]:
    """Sorted names of the folders in a folder, without hidden ones."""
    need_folder(folder)
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
