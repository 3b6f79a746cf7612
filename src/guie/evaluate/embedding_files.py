"""Reads embeddings from the file formats that are common for them. Other formats are refused with a remedy."""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd

from guie.data.sources import strict_csv
from guie.errors import first_sentence, is_of_the_machine
from guie.evaluate.id_tables import COLUMNS, with_index
from guie.files import refuse_pipe

REMEDY = "save the array with numpy.save('embeddings.npy', array)"
PICKLE = "opening a pickle can run any program, so pickles are not read"
ID_COLUMN = "image_id"
LABELS = (*COLUMNS[1:], "split")  # columns of ids; in a table of embeddings they are not dimensions
T = TypeVar("T")


def open_embeddings(path: Path, ids: pd.DataFrame | None = None) -> tuple[np.ndarray, ...]:
    """Reads embeddings in the order of the ids: one array or several shards, float [n_i, dim] each.

    Arrays of .npy files are memory-mapped.

    Args:
        path: One of three kinds. Arrays: a .npy file, or a folder of .npy shards, which follow in the order of their
            names (2 before 10). Archives: .npz, .pt, .pth and .safetensors with one array, with several (FILE:NAME
            chooses one), or with one vector under each image_id. Tables: .csv, .tsv and .parquet of numbers or lists.
            If a table has a column image_id, or an archive a list of the ids, this says which row belongs to which
            image. In the embeddings.parquet of `guie export` the paths are the ids.
        ids: A table with the column image_id. The rows of files with ids are put in its order; None keeps theirs.

    Raises:
        FileNotFoundError: the file does not exist, or the folder holds no .npy file.
        ValueError: an unknown format, a damaged file, no array or several, numbers that are not real, or image_ids that
            are not those of `ids`.
    """
    file, name = named(path)
    if not file.exists():
        raise FileNotFoundError(f"{file} does not exist")
    refuse_pipe(file)
    if file.is_dir():
        shards = sorted(file.glob("*.npy"), key=_natural_order)
        if not shards:
            raise FileNotFoundError(f"{file} holds no .npy file")
        parts = tuple(_npy(shard) for shard in shards)
    elif file.suffix.lower() in TABLES:
        parts = (_from_table(file, ids),)
    elif file.suffix.lower() == ".npy":
        parts = (_npy(file),)
    elif file.suffix.lower() in ARRAYS:
        parts = (_of_archive(file, name, _read(file, ARRAYS[file.suffix.lower()]), ids),)
    else:
        raise ValueError(
            f"{file}: {REFUSED.get(file.suffix.lower(), f'the ending {file.suffix!r} is not known')}; {REMEDY}"
        )
    for part in parts:
        _check_numbers(file, part)
    return parts


def named(path: Path) -> tuple[Path, str]:
    """Splits FILE:NAME: `mine.npz:val` is the array `val` of mine.npz, unless a file has that whole name."""
    stem, colon, name = str(path).rpartition(":")
    return (Path(stem), name) if colon and Path(stem).suffix.lower() in ARRAYS and not path.exists() else (path, "")


def _check_numbers(file: Path, array: np.ndarray) -> None:
    if array.dtype.kind not in "fiub":
        what = "complex numbers, which have no cosine here: put real and imaginary parts side by side"
        what = what if array.dtype.kind == "c" else f"numbers of type {array.dtype}, not real numbers"
        raise ValueError(f"{file} holds {what}; {REMEDY}")
    if not array.size:
        raise ValueError(
            f"{file} holds an array of shape {array.shape}, which has no number; save a row for each image"
        )
    if array.ndim != 2:
        raise ValueError(f"{file} holds an array of shape {array.shape}; embeddings are [n_images, dim]: reshape it")


def _read(file: Path, read: Callable[[Path], T]) -> T:
    """Calls `read` on a file. Its errors become one line with the remedy."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of old formats
            return read(file)
    except Exception as error:  # five libraries read files, each with its own exceptions
        if isinstance(error, OSError) or is_of_the_machine(error):
            raise
        reason = first_sentence(error)
        if isinstance(error, pickle.UnpicklingError) or re.search("pickle|Python object", str(error)):
            reason = f"it is damaged, or it holds Python objects ({PICKLE})"
        raise ValueError(f"{file} cannot be read as {file.suffix}: {reason}; {REMEDY}") from error


def _npy(file: Path) -> np.ndarray:
    array = _read(file, lambda path: np.load(path, mmap_mode="r", allow_pickle=False))
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{file} is in fact a .npz archive; rename it to .npz")
    return array


def _npz(file: Path) -> dict[str, np.ndarray]:
    with np.load(file, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def _torch(file: Path) -> dict[str, np.ndarray]:
    """Tensors and lists of texts by their names; items of a list are named by their position."""
    import torch  # imported here, because it takes a second that .npy files need not wait

    found = torch.load(file, map_location="cpu", weights_only=True)
    if not isinstance(found, dict):
        found = dict(enumerate(found)) if isinstance(found, list | tuple) else {"": found}
    arrays = {str(name): _as_numpy(value) for name, value in found.items() if isinstance(value, torch.Tensor)}
    texts = {
        str(name): value
        for name, value in found.items()
        if isinstance(value, list | tuple) and all(isinstance(word, str) for word in value)
    }
    return arrays | {name: np.array(value, dtype=np.str_) for name, value in texts.items()}


def _safetensors(file: Path) -> dict[str, np.ndarray]:
    from safetensors.torch import load_file  # torch's, because numpy has no bfloat16

    return {name: _as_numpy(value) for name, value in load_file(file).items()}


def _as_numpy(tensor: object) -> np.ndarray:
    import torch

    assert isinstance(tensor, torch.Tensor)
    tensor = tensor.detach().to_dense() if tensor.is_sparse else tensor.detach()
    return (
        tensor.float() if tensor.dtype in (torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2) else tensor
    ).numpy()


def _of_archive(file: Path, name: str, arrays: dict[str, np.ndarray], ids: pd.DataFrame | None) -> np.ndarray:
    """The embeddings of an archive, in the order of the ids if the archive holds ids."""
    wanted = [] if ids is None else ids[ID_COLUMN].astype(str).to_list()
    if wanted and not name and set(arrays) == set(wanted):
        return _stacked(file, [arrays[image] for image in wanted], "vectors")
    texts = {
        key: array.astype(str).tolist()
        for key, array in arrays.items()
        if array.ndim == 1 and (array.dtype.kind == "U" or key == ID_COLUMN)
    }
    array = _chosen(file, name, {key: value for key, value in arrays.items() if key not in texts})
    if wanted:
        for key, names in texts.items():
            if key == ID_COLUMN or set(names) == set(wanted):
                return array[_places(file, names, wanted)]
    return array


def _chosen(file: Path, name: str, arrays: dict[str, np.ndarray]) -> np.ndarray:
    """The array called `name`, or the only array with two axes.

    Raises:
        ValueError: there is no such array, or there are several.
    """
    if name:
        if name not in arrays:
            raise ValueError(f"{file} has no array {name!r}; it has {', '.join(arrays) or 'none'}")
        return arrays[name]
    matrices = [key for key, array in arrays.items() if array.ndim == 2] or list(arrays)
    if len(matrices) != 1:
        example = f": choose one as {file}:{matrices[0]}" if matrices else f"; {REMEDY}"
        raise ValueError(f"{file} holds {len(matrices)} arrays ({', '.join(matrices[:8]) or 'no tensor'}){example}")
    return arrays[matrices[0]]


def _places(file: Path, names: list[str], wanted: list[str]) -> np.ndarray:
    """The row in `names` of each id of `wanted`, int64 [n_ids].

    Raises:
        ValueError: the two do not hold the same ids, each once.
    """
    place = {name: row for row, name in enumerate(names)}
    absent = [name for name in wanted if name not in place]
    if absent or not len(place) == len(names) == len(wanted):
        first = f", {absent[0]!r} for one," if absent else ""
        raise ValueError(
            f"{file}: {len(absent)} of the {len(wanted)} ids{first} have no row among its {len(names)}; its image_ids "
            "must be those of --ids"
        )
    return np.array([place[name] for name in wanted])


def _stacked(file: Path, vectors: list[np.ndarray], what: str) -> np.ndarray:
    lengths = {np.shape(vector) for vector in vectors}
    if len(lengths) != 1:
        raise ValueError(f"{file}: its {what} have the shapes {sorted(lengths)[:3]}; embeddings have one length")
    return np.stack([np.asarray(vector) for vector in vectors])


def _from_table(file: Path, ids: pd.DataFrame | None) -> np.ndarray:
    """Numbers of a table, float64 [n, dim], in the order of the ids."""
    table = _read(file, TABLES[file.suffix.lower()])
    if ID_COLUMN in table:
        names = table.pop(ID_COLUMN).astype(str).to_list()
        table = table.iloc[_places(file, names, names if ids is None else ids[ID_COLUMN].astype(str).to_list())]
    table = table.drop(columns=[name for name in LABELS if name in table])
    if table.shape[1] == 1 and len(table) and isinstance(table.iloc[0, 0], np.ndarray | list):
        return _stacked(file, table.iloc[:, 0].to_list(), f"lists of column {table.columns[0]!r}")
    texts = [str(name) for name in table if not pd.api.types.is_numeric_dtype(table[name])]
    if texts:
        raise ValueError(
            f"{file}: the columns {texts[:3]} are not numbers; keep only image_id and one column per dimension"
        )
    whole = [name for name in table if not pd.api.types.is_float_dtype(table[name])]
    whole = [str(name) for name in whole if table[name].nunique() > 1] if len(whole) < table.shape[1] else []
    if whole:
        raise ValueError(
            f"{file}: the columns {whole[:3]} hold integers and the others do not, so they may be ids or labels; "
            "keep only image_id and one column per dimension"
        )
    return table.to_numpy(dtype=np.float64, na_value=np.nan)


def _csv(file: Path) -> pd.DataFrame:
    """Reads a table with or without a header. numpy.savetxt writes none: then the first row is an embedding."""
    separator = "\t" if file.suffix.lower() == ".tsv" else ","
    first = strict_csv(file, sep=separator, header=None, nrows=1, dtype=str, keep_default_na=False).iloc[0]
    is_numbered = list(first) == [str(i) for i in range(len(first))]  # as pandas names the columns of an array
    has_header = is_numbered or not first.map(_is_number).all()
    types = {ID_COLUMN: str} if has_header else None
    table = strict_csv(file, sep=separator, header=0 if has_header else None, dtype=types)
    if "Unnamed: 0" not in table:
        return table
    if pd.api.types.is_numeric_dtype(table["Unnamed: 0"]) or ID_COLUMN in table:  # the index that pandas writes
        return table.drop(columns="Unnamed: 0")
    return table.rename(columns={"Unnamed: 0": ID_COLUMN})  # an index of texts


def _parquet(file: Path) -> pd.DataFrame:
    return with_index(pd.read_parquet(file))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _natural_order(path: Path) -> list[tuple[int, str]]:
    """Sort key of a name in which numbers count by their value: 2 before 10."""
    return [(int(word), "") if word.isdigit() else (-1, word) for word in re.split(r"(\d+)", path.name)]


ARRAYS: dict[str, Callable[[Path], dict[str, np.ndarray]]] = {
    ".npz": _npz,
    ".pt": _torch,
    ".pth": _torch,
    ".safetensors": _safetensors,
}
TABLES: dict[str, Callable[[Path], pd.DataFrame]] = {".csv": _csv, ".tsv": _csv, ".parquet": _parquet}
REFUSED = dict.fromkeys((".pkl", ".pickle", ".joblib"), PICKLE)
REFUSED |= dict.fromkeys(
    (".h5", ".hdf5", ".mat", ".feather", ".arrow", ".jsonl", ".json", ".txt", ".bin", ".fvecs"),
    "this format is not read",
)
