"""Manifests: their columns, and the checks at every read and write."""

from __future__ import annotations

import logging
from pathlib import Path, PurePosixPath

import pandas as pd

from guie.files import whole_file
from guie.settings.data import RESERVED_DOMAINS, UNLABELLED
from guie.shown import FILE, ONLY, TERMINAL, table, window_columns

COLUMNS = ("image_id", "path", "source", "source_label", "domain", "split", "group")
# What a module in guie.data.sources returns. It may add the columns domain and group.
SOURCE_COLUMNS = ("image_id", "path", "source_label", "split")
BALANCED_COLUMNS = (*(name for name in COLUMNS if name != "group"), "class_id")  # of the manifests that door 02 writes
PROBLEM_COLUMNS = ("source", "path", "reason")
SPLITS = ("train", "val", "test", UNLABELLED, "")
MAY_BE_EMPTY = ("split", "group")
GROUP_SEPARATOR = "\n"  # between the names of groups, where an image has several
CLASS_KEY = ["source", "source_label"]  # identify a class: two sources never share one
log = logging.getLogger(__name__)


def check_manifest(
    frame: pd.DataFrame, where: str | Path, columns: tuple[str, ...] = COLUMNS, is_unique: bool = True
) -> pd.DataFrame:
    """Checks the rows and returns them with exactly `columns`, in this order, and a new index.

    Args:
        frame: The rows.
        where: The file or function they come from, for the message.
        columns: The columns wanted.
        is_unique: Whether every image may occur only once.

    Raises:
        ValueError: a column is missing, a value is missing or not a text, an image_id occurs twice, a path is absolute,
            a domain's name is reserved, or a split is unknown.
    """
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        there = ", ".join(map(str, frame.columns))
        raise ValueError(f"{where} lacks the columns {', '.join(missing)}; it has {there}")
    frame = frame.loc[:, list(columns)].reset_index(drop=True)
    for name in columns:
        if name in COLUMNS:
            _check_texts(frame[name], where)
    if is_unique and frame["image_id"].duplicated().any():
        twice = frame["image_id"][frame["image_id"].duplicated()].iloc[0]
        raise ValueError(f"{where}: the image_id {twice!r} stands twice; ids must be unique within a source")
    _check_values(frame, where)
    return frame


def _check_texts(column: pd.Series, where: str | Path) -> None:
    """Checks that all values of a column are texts, and not empty unless the column is in `MAY_BE_EMPTY`.

    Raises:
        ValueError: names the first wrong row.
    """
    if isinstance(column.dtype, pd.StringDtype):  # it holds texts and missing values only
        is_wrong = column.isna()
    else:
        is_wrong = ~column.map(lambda value: isinstance(value, str)).astype(bool)
    if column.name not in MAY_BE_EMPTY:
        is_wrong |= column == ""
    if is_wrong.any():
        row = int(is_wrong.idxmax())
        raise ValueError(f"{where}: {column.name} of row {row} is {column[row]!r}, must be a text")


def _check_values(frame: pd.DataFrame, where: str | Path) -> None:
    """Checks for absolute paths, reserved names of domains and unknown splits; path and domain may be absent.

    Raises:
        ValueError: names the first wrong value.
    """
    if "path" in frame and frame["path"].str.startswith("/").any():
        path = frame["path"][frame["path"].str.startswith("/")].iloc[0]
        raise ValueError(f"{where}: the path {path!r} is absolute; paths are relative to the data root")
    reserved = sorted(set(frame["domain"].unique()) & set(RESERVED_DOMAINS)) if "domain" in frame else []
    if reserved:
        taken = f"as the column mp5_{reserved[0]} of scores.csv is"
        raise ValueError(f"{where}: a domain is called {reserved[0]!r}, {taken}; name it otherwise")
    unknown = sorted(set(frame["split"].unique()) - set(SPLITS))
    if unknown:
        raise ValueError(f"{where}: split {unknown[0]!r} is none of {SPLITS}")


def write_manifest(path: Path, frame: pd.DataFrame, columns: tuple[str, ...] = COLUMNS, is_unique: bool = True) -> None:
    """Checks rows and writes them as parquet, atomically; arguments and errors as in `check_manifest`."""
    write_table(path, check_manifest(frame, path, columns, is_unique))


def read_manifest(path: Path, columns: tuple[str, ...] = COLUMNS, is_unique: bool = True) -> pd.DataFrame:
    """Reads rows and checks them; arguments and errors as in `check_manifest`.

    Raises:
        FileNotFoundError: no such file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; run the door that writes it")
    return check_manifest(pd.read_parquet(path), path, columns, is_unique)


def write_table(path: Path, frame: pd.DataFrame) -> None:
    """Writes any table as parquet, atomically."""
    with whole_file(path) as temporary:
        frame.to_parquet(temporary, index=False)


def log_table(rows: list[dict[str, object]]) -> None:
    """Logs rows as an aligned table, texts to the left and numbers to the right.

    On the terminal it fits the window; in log.txt it is whole.
    """
    names = list(rows[0])
    texts = [column for column, name in enumerate(names) if all(isinstance(row[name], str) for row in rows)]
    cells = [[value if isinstance(value, str) else f"{value:,}" for value in row.values()] for row in rows]
    whole = table([names, *cells], 0, left=texts)
    shown = table([names, *cells], window_columns(), left=texts)
    for lines, place in ((shown, {ONLY: TERMINAL}), (whole, {ONLY: FILE})) if shown != whole else ((whole, {}),):
        for line in lines:
            log.info("%s", line.removeprefix("  "), extra=place)


def stop_if_too_many(problems: pd.DataFrame, n_rows: int, source: str, max_bad_share: float, remedy: str) -> None:
    """Logs how many of a source's images are left out and why; stops the run if their share is too large.

    Args:
        problems: The source's problems, with the columns path and reason.
        n_rows: Images the source lists.
        source: Its name.
        max_bad_share: The share allowed.
        remedy: What the user can do.

    Raises:
        ValueError: the share is too large; the message has the count, the first three problems and the remedy.
    """
    if len(problems):
        endings = problems["path"].map(lambda path: PurePosixPath(path).suffix.lower() or "without an ending")
        kinds = problems.groupby([endings, "reason"]).size().sort_values(ascending=False, kind="stable")
        told = [f"{n:,} {ending} ({reason})" for (ending, reason), n in kinds.head(4).items()]
        more = [f"{kinds.iloc[4:].sum():,} others"] if len(kinds) > 4 else []
        what = f"{source}: {len(problems):,} of {n_rows:,} images are left out: {', '.join(told + more)}"
        log.info("%s, such as %s", what, ", ".join(problems["path"].head(3)))
    if len(problems) <= max_bad_share * n_rows:
        return
    first = "; ".join(f"{row.path} ({row.reason})" for row in problems.head(3).itertuples())
    share = f"{len(problems)} of {n_rows} images ({len(problems) / n_rows:.1%}) of {source!r}"
    raise ValueError(f"{share} are bad, data.max_bad_share allows {max_bad_share:.1%}. The first: {first}. {remedy}")
