"""Which photos a person's own folder or list holds, and their labels. No pixel is decoded here."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import pandas as pd

from guie.data.image import EXTENSIONS, is_image
from guie.data.names import name_on_disk, safe_name, shown_name
from guie.data.sources import images_in, passed_over, read_csv
from guie.errors import is_of_the_machine
from guie.files import refuse_pipe
from guie.shown import folded, painted

Kind = Literal["folders", "flat", "table", "pattern"]
COLUMNS = ("path", "label")
PROBLEM_COLUMNS = ("path", "reason")
N_NAMED = 3  # problems that are told by name
DULL = ("hidden", "not an image")  # how reasons begin that nobody misses a photo for; they are told last
SIDE_FOLDERS = ("__MACOSX", "@eaDir", "$RECYCLE.BIN")  # of zip files made by macOS, of Synology, of Windows


@dataclass(frozen=True)
class Photos:
    """The photos of a folder or of a list.

    Attributes:
        root: The folder that all paths are relative to.
        table: path and label of each photo, both text, sorted by path; label is '' where there is none. Odd bytes of
            names are written as in manifests, see `guie.data.names`.
        problems: path and reason of what was not taken: hidden files, files of other kinds, links to folders, missing
            files, folders that may not be read. Also sorted by path.
        kind: Where labels come from: `folders` (the folder of each file), `flat` (no labels), `table` (a CSV) or
            `pattern` (a regular expression over the path).
    """

    root: Path
    table: pd.DataFrame
    problems: pd.DataFrame
    kind: Kind

    def file(self, path: str) -> Path:
        """The file on disk of a path in `table`."""
        return self.root / name_on_disk(path)


def told_first(problems: pd.DataFrame) -> pd.DataFrame:
    """Problems in the order in which they are told: broken photos first, hidden files such as .DS_Store last.

    Args:
        problems: `PROBLEM_COLUMNS`, in any order.
    """
    is_dull = problems["reason"].str.startswith(DULL)
    return problems.assign(is_dull=is_dull).sort_values(["is_dull", "path"], ignore_index=True)[list(PROBLEM_COLUMNS)]


def named(problems: pd.DataFrame, rest: str = "") -> list[str]:
    """A line for each of the first problems, and one for the others.

    Args:
        problems: `PROBLEM_COLUMNS`, in any order.
        rest: Where all are listed, for the last line.
    """
    first = [f"{shown_name(row.path)}: {row.reason}" for row in told_first(problems).head(N_NAMED).itertuples()]
    n_more = len(problems) - len(first)
    return [*first, f"and {n_more:,} more{rest}"] if n_more else first


def told(problems: pd.DataFrame, what: str, rest: str = "") -> list[str]:
    """How many files were not taken, and below it the first of them; nothing where there are none.

    Args:
        problems: `PROBLEM_COLUMNS`, in any order.
        what: What became of them, such as `not taken`.
        rest: Where all are listed, for the last line.
    """
    if problems.empty:
        return []
    files = "file" if len(problems) == 1 else "files"
    return [f"  {len(problems):,} {files} {what}:", *(f"    {line}" for line in named(problems, rest))]


def print_problems(problems: Sequence[tuple[str, str]], what: str, rest: str = "") -> None:
    """Prints what `told` gives; on a terminal in the colour of a warning, unless nobody misses any of the files.

    Args:
        problems: path and reason of each.
        what: See `told`.
        rest: See `told`.
    """
    is_warning = not all(reason.startswith(DULL) for _, reason in problems)
    for line in told(pd.DataFrame(problems, columns=list(PROBLEM_COLUMNS), dtype=object), what, rest):
        text = folded(line, "      ")
        print(painted(text, "warning") if is_warning else text)


def pairs(problems: pd.DataFrame) -> list[tuple[str, str]]:
    """path and reason of each problem of a table."""
    return list(problems[list(PROBLEM_COLUMNS)].itertuples(index=False, name=None))


class _Found(NamedTuple):
    """What a folder or a list holds: (path, label) of photos, (path, reason) of the rest; paths as on disk."""

    root: Path
    rows: list[tuple[str, str]]
    problems: list[tuple[str, str]]


def read_photos(path: Path, label_from: str = "", needs_labels: bool = True) -> Photos:
    """Lists the photos of a folder, with its folders below, or of a CSV.

    In a folder, the label of a photo is the folder that holds it, relative to `path`: `shoes/boots`. Photos in `path`
    itself have no label. A CSV has the columns path and label; its paths are absolute or relative to its own folder.

    Args:
        path: The folder or the CSV.
        label_from: A regular expression with one group, which is searched in each path relative to the root; the text
            of the group is the label. Photos that do not match have none. '' takes the labels of folders or CSV.
        needs_labels: Whether a CSV must have the column label.

    Raises:
        FileNotFoundError: nothing is at `path`.
        ValueError: there is no photo, the CSV lacks a column, or the expression is wrong or matches nothing.
    """
    pattern = _pattern(label_from) if label_from else None
    needed = COLUMNS if needs_labels and pattern is None else COLUMNS[:1]
    if path.is_dir():
        found = _in_folder(path)
    elif path.exists():
        found = _in_list(path, needed)
    else:
        raise FileNotFoundError(f"{path} does not exist; name a folder of photos, or a CSV with {_named(needed)}")
    if not found.rows:
        raise ValueError(_nothing(path, found.problems))
    table = pd.DataFrame([(safe_name(name), safe_name(label)) for name, label in found.rows], columns=list(COLUMNS))
    if pattern is not None:
        table["label"] = _matched(table["path"], pattern)
    problems = pd.DataFrame(
        [(safe_name(name), reason) for name, reason in found.problems], columns=list(PROBLEM_COLUMNS), dtype=object
    )
    kind = _kind(path, table, is_pattern=pattern is not None)
    return Photos(
        found.root,
        table.sort_values("path", ignore_index=True),
        problems.sort_values("path", ignore_index=True, kind="stable"),
        kind,
    )


def _kind(path: Path, table: pd.DataFrame, is_pattern: bool) -> Kind:
    if is_pattern:
        return "pattern"
    if not path.is_dir():
        return "table"
    return "folders" if (table["label"] != "").any() else "flat"


def _pattern(text: str) -> re.Pattern[str]:
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise ValueError(f"--label-from {text!r} is not a regular expression: {error}") from error
    if pattern.groups != 1:
        raise ValueError(
            f"--label-from {text!r} has {pattern.groups} groups, must have one, in parentheses: the label. For "
            "names such as sku123_front.jpg: '([^/_]+)_[^/]*$'"
        )
    return pattern


def _matched(paths: Iterable[str], pattern: re.Pattern[str]) -> list[str]:
    """The label of each path, '' where the pattern does not match.

    Raises:
        ValueError: it matches none.
    """
    names = list(paths)
    labels = [(match[1] or "") if (match := pattern.search(name)) else "" for name in names]
    if not any(labels):
        raise ValueError(f"--label-from {pattern.pattern!r} matches none of {len(names):,} paths, such as {names[0]!r}")
    return labels


def _in_folder(root: Path) -> _Found:
    """Photos and problems of a folder and the folders below it."""
    rows: list[tuple[str, str]] = []
    problems: list[tuple[str, str]] = []

    def unreadable(error: OSError) -> None:
        if is_of_the_machine(error):
            raise error
        name = os.path.relpath(error.filename, root)
        if name == os.curdir:
            raise error
        problems.append((f"{name}/", f"folder cannot be read: {error.strerror}"))

    for folder, folders, files in os.walk(root, onerror=unreadable):
        below = "" if folder == str(root) else os.path.relpath(folder, root)
        passed = {name: reason for name in folders if (reason := _folder_problem(folder, name))}
        problems += [(f"{os.path.join(below, name)}/", reason) for name, reason in passed.items()]
        folders[:] = sorted(set(folders) - passed.keys())
        images = set(images_in(Path(folder))) if files else set()
        for name in files:
            at = os.path.join(below, name)
            if reason := _file_problem(folder, name, name in images):
                problems.append((at, reason))
            else:
                rows.append((at, below))
    passed_over.clear()  # what `images_in` counted stands in `problems` by name
    return _Found(root, rows, problems)


def _folder_problem(folder: str, name: str) -> str:
    """Why a folder is not entered; '' if it is."""
    if os.path.islink(os.path.join(folder, name)):
        return "link to a folder, not followed; name that folder, or copy it here"
    if name.startswith(".") or name in SIDE_FOLDERS:
        return "hidden folder"
    return ""


def _file_problem(folder: str, name: str, is_photo: bool) -> str:
    """Why a file is not taken; '' if it is. A link to a file counts as that file."""
    path = os.path.join(folder, name)
    if name.startswith("."):
        return "hidden file"
    if not os.path.isfile(path):
        return "link that leads nowhere" if os.path.islink(path) else "not a regular file"
    return "" if is_photo else "not an image"


def _named(columns: Sequence[str]) -> str:
    return f"the column{'s' * (len(columns) > 1)} {','.join(columns)}"


def _in_list(path: Path, columns: Sequence[str]) -> _Found:
    """Photos and problems of a CSV that must have these columns.

    Raises:
        ValueError: it is an image or a named pipe, has other separators than commas, or lacks a column.
    """
    refuse_pipe(path)
    if path.suffix.lower() in EXTENSIONS or is_image(path):
        raise ValueError(f"{path} is one photo; name its folder, or a CSV with {_named(columns)}")
    _need_commas(path)
    table = read_csv(path, *columns)
    home = os.path.abspath(path.parent)
    labels: dict[str, str] = {}
    problems: list[tuple[str, str]] = []
    listed = table["label"] if "label" in table else [""] * len(table)
    for number, (name, label) in enumerate(zip(table["path"], listed, strict=True), 2):
        file = os.path.normpath(os.path.join(home, name))
        if not os.path.isfile(file):
            file = os.path.normpath(os.path.join(home, name_on_disk(name)))  # as other tables of guie write it
        if reason := _row_problem(name, label, file, labels):
            problems.append((name or f"row {number}", reason))
        else:
            labels[file] = label
    root = home if all(_is_below(file, home) for file in labels) else os.path.commonpath([home, *labels])
    return _Found(Path(root), [(os.path.relpath(file, root), label) for file, label in labels.items()], problems)


def _need_commas(path: Path) -> None:
    """Raises ValueError if the first line of a table is separated by semicolons or tabs."""
    with path.open("rb") as handle:
        line = handle.readline(1 << 16).decode("utf-8", "replace").strip("\ufeff\r\n")
    for separator, word in ((";", "semicolons"), ("\t", "tabs")):
        if separator in line and "," not in line:
            raise ValueError(f"{path} is separated by {word} ({line[:60]!r}); save it with commas")


def _row_problem(name: str, label: str, file: str, labels: dict[str, str]) -> str:
    """Why a row of a CSV is not taken; '' if it is. `labels` holds the files of earlier rows."""
    if not name:
        return "no path in this row"
    if "://" in name:
        return "web address; fetch the file first"
    if file in labels:
        same = labels[file] == label
        return "listed twice" if same else f"listed twice, as {labels[file]!r} and as {label!r}; the first counts"
    if not os.path.isfile(file):
        return "folder" if os.path.isdir(file) else "missing"
    return ""


def _is_below(file: str, folder: str) -> bool:
    return os.path.commonpath([file, folder]) == folder


def _nothing(path: Path, problems: list[tuple[str, str]]) -> str:
    """The message where there is no photo."""
    first = "; ".join(f"{safe_name(name)}: {reason}" for name, reason in problems[:3])
    rest = f". Not taken: {len(problems):,}, the first: {first}" if problems else ""
    return f"{path} holds no photo ({' '.join(EXTENSIONS[:7])}, ...){rest}"
