"""Finds the newest run of a person's photos that has exported a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from guie.data.sources.csv_list import LIST
from guie.done import MARK
from guie.own.linked import LINKED, noted_source
from guie.own.place import is_same
from guie.run import FOLDERS, MODEL_NAME


def newest_export(source: Path, out: Path) -> Path | None:
    """The file that the newest run on some photos has exported; None if there is none.

    A run is on these photos if `guie train` was given the same folder or the same list, or if they are a source in the
    run's recipe.json. Two lists in one folder are different photos.

    Args:
        source: The folder or CSV of the photos.
        out: The folder of all runs, see `guie.run.default_out`.
    """
    source = source.resolve()
    marks = [path for depth in ("*", "*/*") for path in out.glob(f"{depth}/{FOLDERS[8]}/{MARK}")]
    exports = [mark.with_name(MODEL_NAME) for mark in marks if _is_of(mark.parents[1], source)]
    return max((path for path in exports if path.is_file()), key=lambda path: path.stat().st_mtime_ns, default=None)


def _is_of(run: Path, source: Path) -> bool:
    if (run / LINKED).is_symlink():
        return _is_trained_on(run, source)
    folder = source.parent if source.name == LIST else source
    try:
        record: dict[str, Any] = json.loads((run / "recipe.json").read_text(encoding="utf-8"))
        data_root = Path(record["arguments"]["data_root"])
        data = record["recipe"]["data"]
        if data.get("drawn"):
            return False
        return folder in [(data_root / item["folder"]).resolve() for item in data["sources"]]
    except (OSError, ValueError, KeyError, TypeError):  # no run's folder, or one of another version
        return False


def _is_trained_on(run: Path, source: Path) -> bool:
    """Whether a run of `guie train` is on a folder or list. A run without a note is on the folder that it links to."""
    noted = noted_source(run)
    return (run / LINKED).resolve() == source if noted is None else is_same(noted.get("photos", ""), source)
