"""Reads the tables that users write: ids and labels of their images, and the host's solution file.

Labels are compared as they were written: 7 and 007 are two classes. No number is converted to a type that would round
it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from guie.data.sources import strict_csv
from guie.files import refuse_pipe
from guie.settings.data import RESERVED_DOMAINS

COLUMNS = ("image_id", "class_id", "domain")
EXPORTED = {"path": COLUMNS[0], "label": COLUMNS[1]}  # what guie export calls these columns in embeddings.parquet
NO_CLASS = -1
GAPS = ("", "nan", "NaN", "None", "<NA>", "NaT")  # how pandas and Python write a missing value
NEGATIVE = r"-(?=.*[1-9])(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"  # a negative number written as text
USAGES = ("Public", "Private")
IGNORED = "Ignored"  # in GLDv2's solution files: a query that does not count


def read_ids(path: Path) -> pd.DataFrame:
    """Reads the table of your images: image_id, class_id, domain and perhaps split. Row i belongs to embedding i.

    A class_id may be any number or text. A negative number (-1, also written -1.0) and a gap (empty, nan, None, <NA>,
    NaT) mean no class: a distractor. Without the column `domain` all images belong to one domain.

    Returns:
        image_id, domain and split as text. class_id as int64, -1 for no class: integers of a parquet file keep their
        values if all are below 2**63, and other labels are numbered.

    Raises:
        ValueError: a column is missing, there is no row, an image_id is missing or stands twice, a domain is missing
            or has the name of a column, a split is neither query nor index, or labels cannot be told apart with
            certainty.
    """
    table = _read_table(path)
    _check_whole(table, path)
    table = table.assign(image_id=_texts(table["image_id"]), class_id=numbered(table["class_id"], path))
    table["domain"] = _texts(table["domain"]) if "domain" in table else "all"
    reserved = sorted(set(table["domain"]) & set(RESERVED_DOMAINS))
    if reserved:
        raise ValueError(
            f"{path}: the domain {reserved[0]} would get the column mp5_{reserved[0]}, which is taken; rename it"
        )
    twice = table["image_id"][table["image_id"].duplicated()]
    if len(twice):
        raise ValueError(f"{path}: image_id {twice.iloc[0]!r} stands twice")
    if "split" in table:
        table["split"] = _splits(table["split"], path)
    return table


def _check_whole(table: pd.DataFrame, path: Path) -> None:
    """Checks that a table of ids has the columns it needs, and a value wherever one is needed.

    Raises:
        ValueError: no row, no column image_id or class_id, or a row without an image_id or a domain.
    """
    missing = [name for name in COLUMNS[:2] if name not in table.columns]
    if missing or table.empty:
        found = ", ".join(repr(str(name)) for name in table.columns[:6])
        raise ValueError(
            f"{path} has {len(table)} rows and the columns {found}, without {missing}; "
            "it needs image_id, class_id[, domain][, split]"
        )
    for name in ("image_id", "domain"):
        is_gap = table[name].isna() | (table[name].astype(str) == "") if name in table else np.zeros(1, dtype=bool)
        if is_gap.any():
            raise ValueError(f"{path}: row {int(np.argmax(is_gap)) + 1} has no {name}; write one in each row")


def _splits(values: pd.Series, path: Path) -> np.ndarray:
    """The column split as text, object [n].

    Raises:
        ValueError: a split is neither query nor index.
    """
    splits = _texts(values)
    unknown = sorted(set(splits) - {"query", "index"})
    if unknown:
        raise ValueError(f"{path}: a split must be query or index, not {unknown[:3]}")
    return splits


def numbered(class_ids: pd.Series, path: Path | str) -> np.ndarray:
    """int64 [n]: labels as numbers, -1 for no class; see `read_ids`.

    Args:
        class_ids: Labels of any type.
        path: The file that they come from, for the message.

    Raises:
        ValueError: floating-point labels from 2**53 on, complex ones, or texts that differ by white space around them
            alone.
    """
    if isinstance(class_ids.dtype, pd.CategoricalDtype):
        of_category = np.append(numbered(pd.Series(class_ids.cat.categories), path), NO_CLASS)
        return of_category[class_ids.cat.codes.to_numpy()]
    if pd.api.types.is_bool_dtype(class_ids) or not pd.api.types.is_numeric_dtype(class_ids):
        return _numbered_texts(class_ids, path)
    return _numbered_reals(class_ids, path)


def _numbered_reals(class_ids: pd.Series, path: Path | str) -> np.ndarray:
    """As `numbered`, for a column of numbers. Integers keep their values if int64 can hold all of them.

    Raises:
        ValueError: complex numbers, or floats of 2**53 or more.
    """
    if pd.api.types.is_complex_dtype(class_ids):
        raise ValueError(f"{path}: class_id holds complex numbers; write integers or texts")
    is_gap = class_ids.isna().to_numpy()
    known = class_ids[~is_gap]
    if pd.api.types.is_float_dtype(class_ids) and (known.abs() >= 2**53).any():
        raise ValueError(
            f"{path}: class_id holds floats of 2**53 or more, which merge neighbouring integers; "
            "write them as integers or as text"
        )
    labels = np.full(len(class_ids), NO_CLASS, dtype=np.int64)
    is_class = ~is_gap
    is_class[is_class] = (known >= 0).to_numpy(dtype=bool)
    values = class_ids[is_class].to_numpy(dtype=np.float64 if pd.api.types.is_float_dtype(class_ids) else None)
    if pd.api.types.is_integer_dtype(class_ids) and (not len(values) or int(values.max()) < 2**63):
        labels[is_class] = values.astype(np.int64)
    else:
        labels[is_class] = pd.factorize(values)[0]
    return labels


def _numbered_texts(class_ids: pd.Series, path: Path | str) -> np.ndarray:
    """As `numbered`, for a column of texts, bytes, booleans or any mixture. Each different text is a class.

    Raises:
        ValueError: two texts that differ by white space around them alone.
    """
    texts = pd.Series(_texts(class_ids), index=class_ids.index)
    bare_texts = texts.str.strip()
    is_gap = class_ids.isna().to_numpy()
    is_gap = is_gap | (bare_texts.isin(GAPS) | bare_texts.str.fullmatch(NEGATIVE)).to_numpy(dtype=bool)
    known = pd.Series(texts[~is_gap].unique(), dtype=object)
    bare = known.str.strip()
    if bare.duplicated().any():
        alike = known[bare == bare[bare.duplicated()].iloc[0]].tolist()
        raise ValueError(
            f"{path}: the class_ids {alike[0]!r} and {alike[1]!r} differ by white space alone; write them alike, or "
            "name one otherwise"
        )
    return pd.factorize(texts.mask(is_gap))[0].astype(np.int64)


def _texts(values: pd.Series) -> np.ndarray:
    """Each value as text, object [n]. Bytes are decoded as UTF-8; invalid bytes are escaped."""
    return np.array(
        [value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value) for value in values],
        dtype=object,
    )


def _read_table(path: Path) -> pd.DataFrame:
    """Reads a .parquet file, or a .csv or .tsv file with all values as text (float64 would merge labels above 2**53).

    Raises:
        ValueError: it cannot be read, or a row has more fields than the header.
    """
    refuse_pipe(path)
    ending = path.suffix.lower()
    try:
        if ending == ".parquet":
            return with_index(pd.read_parquet(path))
        return strict_csv(path, dtype=str, keep_default_na=False, sep="\t" if ending == ".tsv" else ",")
    except ValueError as error:  # from pandas and pyarrow: no table, another encoding, a damaged file
        kind = "parquet" if ending == ".parquet" else "CSV in UTF-8"
        raise ValueError(
            f"{path} cannot be read as {kind}: {str(error).splitlines()[0]}; save the table again as {kind}"
        ) from error


def with_index(table: pd.DataFrame) -> pd.DataFrame:
    """Turns the index of a parquet file into columns if it has a name, or if it holds texts, which are the
    image_ids.

    In the embeddings.parquet of `guie export`, path and label get the names of `COLUMNS`, and its other columns are
    left out, but for a domain and a split that were added.
    """
    if {"id", *EXPORTED, "embedding"} <= set(table) and not {COLUMNS[0], COLUMNS[1]} & set(table):
        added = [name for name in (COLUMNS[2], "split") if name in table]
        return table[[*EXPORTED, "embedding", *added]].rename(columns=EXPORTED)
    if isinstance(table.index, pd.MultiIndex) or table.index.name is not None:
        return table.reset_index()
    return table if pd.api.types.is_numeric_dtype(table.index) else table.rename_axis(COLUMNS[0]).reset_index()


def read_solution(path: Path) -> dict[str, tuple[str, frozenset[str]]]:
    """Reads the host's solution file: query id -> (usage, ids of the relevant index images).

    The columns are id, space-separated ids, and usage. Their names in the header are ignored, as the host does. Queries
    of usage Ignored, which GLDv2's files have, are left out.

    Raises:
        ValueError: not three columns, an unknown usage, a query that stands twice or has no relevant image, or no
            query that counts.
    """
    table = _read_table(path)
    if table.shape[1] != 3 or table.empty:
        raise ValueError(
            f"{path} has {table.shape[1]} columns and {len(table)} rows; a solution has three: id, index ids, usage"
        )
    solution: dict[str, tuple[str, frozenset[str]]] = {}
    for query, images, usage in zip(*(_texts(table[name]) for name in table), strict=True):
        if usage == IGNORED:
            continue
        if usage not in USAGES:
            raise ValueError(
                f"{path}: the usage of query {query!r} is {usage!r}, neither Public nor Private nor Ignored"
            )
        if query in solution or not images.split():
            raise ValueError(f"{path}: query {query!r} stands twice or has no relevant image")
        solution[query] = (usage, frozenset(images.split()))
    if not solution:
        raise ValueError(f"{path}: every query has the usage Ignored, so no query counts")
    return solution
