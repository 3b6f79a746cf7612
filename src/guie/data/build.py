"""Door 01: lists the images of each data set, checks that they are on disk, and writes one manifest per source."""

from __future__ import annotations

import difflib
import importlib
import logging
import pkgutil
import posixpath
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from guie.data import sources
from guie.data.catalogue import completeness
from guie.data.image import header_problem
from guie.data.manifest import (
    COLUMNS,
    GROUP_SEPARATOR,
    PROBLEM_COLUMNS,
    SOURCE_COLUMNS,
    check_manifest,
    log_table,
    stop_if_too_many,
    write_manifest,
    write_table,
)
from guie.data.names import name_on_disk, safe_name
from guie.data.sources import SHARED, is_there, passed_over, read_csv
from guie.processes import process_pool
from guie.run import Run
from guie.settings.data import GROUPS, Source
from guie.shown import progress

N_THREADS = 16  # they wait for the disk most of the time
CHUNK = 2000  # images checked at a time
PROBLEMS = "problems"
log = logging.getLogger(__name__)


def build_manifests(run: Run) -> dict[str, Any]:
    """Writes `01_manifests/<source>.parquet` for every source, and `problems.parquet` for all images that cannot be
    used.

    Args:
        run: Reads data.sources, data.drawn, data.max_bad_share and seed of its recipe.

    Returns:
        n_images, n_classes and n_problems over all sources.

    Raises:
        FileNotFoundError: a data set, or a file of it, is missing.
        ValueError: a kind of source is unknown, a file does not have the expected layout, or too many images are bad.
    """
    data = run.recipe.data
    folder = run.folder(1)
    builders = _builders(data.sources)
    if data.drawn is not None:
        from guie.synthetic.world import draw_world  # only recipes that draw need it

        draw_world(folder=run.images_root, world=data.drawn, seed=run.recipe.seed)
    for stale in set(folder.glob("*.parquet")) - {folder / f"{name}.parquet" for name in builders}:
        stale.unlink()
    all_problems: list[pd.DataFrame] = []
    summary: list[dict[str, object]] = []
    for source in data.sources:
        listed = list_source(source, builders[source.name], run.images_root)
        good, problems = split_problems(listed, run.images_root, run.scheduler)
        all_problems.append(problems)
        write_table(folder / f"{PROBLEMS}.parquet", pd.concat(all_problems, ignore_index=True))
        stop_if_too_many(problems, len(listed), source.name, data.max_bad_share, _remedy(source, folder))
        write_manifest(folder / f"{source.name}.parquet", good)
        summary.append(_summary_row(source, good, len(problems), is_drawn=data.drawn is not None))
    log_table(summary)
    return {f"n_{key}": sum(int(str(row[key])) for row in summary) for key in ("images", "classes", "problems")}


def _builders(listed: Iterable[Source]) -> dict[str, Callable[[Path], pd.DataFrame]]:
    """The function that lists each source, by the source's name.

    Raises:
        ValueError: a kind is unknown, or a source is called `problems`, as this door's own file is.
    """
    builders = {source.name: builder(source.kind) for source in listed}
    if PROBLEMS in builders:
        taken = f"the name {PROBLEMS!r} is taken by {PROBLEMS}.parquet"
        raise ValueError(f"data.sources: {taken}; call the source something else")
    return builders


def _remedy(source: Source, folder: Path) -> str:
    """What the user can do about a source with too many problems."""
    check = f"Check the source's folder ({source.folder}) and --data-root, or --set data.max_bad_share=SHARE"
    return f"All are in {folder / PROBLEMS}.parquet. {check}"


def _summary_row(source: Source, good: pd.DataFrame, n_problems: int, is_drawn: bool) -> dict[str, object]:
    """The source's row of the logged table; it says how complete the set is unless the set was drawn."""
    n_images = len(good)
    n_classes = 0 if source.is_unlabelled else good["source_label"].nunique()
    row: dict[str, object] = {"source": source.name, "domain": source.domain}
    row |= {"images": n_images, "classes": n_classes, "problems": n_problems}
    return row if is_drawn else row | {"": completeness(source.kind, n_images, n_classes)}


def builder(kind: str) -> Callable[[Path], pd.DataFrame]:
    """The function that lists a data set of this kind.

    Raises:
        ValueError: `guie.data.sources` has no such module; the message lists the nearest name and all known ones.
    """
    kinds = sorted(module.name for module in pkgutil.iter_modules(sources.__path__))
    if kind not in kinds:
        near = difflib.get_close_matches(kind, kinds, n=1, cutoff=0.5)
        raise ValueError(
            f"no kind of source {kind!r};{f' did you mean {near[0]!r}?' if near else ''} known: {', '.join(kinds)}"
        )
    function: Callable[[Path], pd.DataFrame] = importlib.import_module(f"{sources.__name__}.{kind}").build
    return function


def list_source(source: Source, build: Callable[[Path], pd.DataFrame], images_root: Path) -> pd.DataFrame:
    """All rows that a data set lists, as a manifest sorted by image_id; equal rows are kept once.

    Args:
        source: The data set.
        build: Lists the data set, see `builder`.
        images_root: Folder that `source.folder` and the manifest's paths are relative to.

    Returns:
        The manifest. An image_id may still have two labels: `split_problems` finds those.

    Raises:
        ValueError: the set lists nothing, or a path leads out of it.
    """
    if PurePosixPath(source.folder).is_absolute():
        raise ValueError(f"data.sources.{source.name}.folder is {source.folder!r}; give it relative to --data-root")
    folder = images_root / source.folder
    passed_over.clear()
    listed = build(folder)
    _tell_passed_over(source.name)
    rows = _checked(listed, source, folder)
    rows["group"] = _groups(rows, source.name, folder / GROUPS)
    for name in ("image_id", "path", "source_label"):
        rows[name] = [safe_name(text) for text in rows[name]]
    rows = rows.assign(
        image_id=f"{source.name}/" + rows["image_id"],
        path=rows["path"].map(lambda path: posixpath.normpath(f"{safe_name(source.folder)}/{path}")),
        source=source.name,
    )
    order = ["image_id", "source_label", "path", "split", "group"]
    return rows[list(COLUMNS)].drop_duplicates().sort_values(order, ignore_index=True)


def _tell_passed_over(source: str) -> None:
    """Logs which files of a source were skipped, the most frequent endings first."""
    if passed_over:
        by_number = sorted(passed_over.items(), key=lambda item: (-item[1], item[0]))
        told = ", ".join(f"{n:,} {what}" for what, n in by_number)
        log.debug("%s: skipped, because they are not images: %s", source, told)


def _checked(listed: pd.DataFrame, source: Source, folder: Path) -> pd.DataFrame:
    """Checks the rows that a source lists and gives each a domain.

    Args:
        listed: Has `SOURCE_COLUMNS`; group and domain may be absent, and a domain may be empty.
        source: Its domain is given to rows without one.
        folder: Folder of the images, for the message.

    Raises:
        ValueError: a column or value is wrong, a path leads out of the set, or there is no row.
    """
    columns = (*SOURCE_COLUMNS, "group") if "group" in listed else SOURCE_COLUMNS
    rows = check_manifest(listed, f"source {source.name!r}", columns, is_unique=False)
    is_outside = rows["image_id"].map(lambda name: ".." in name.split("/"))
    if is_outside.any():
        name = rows["image_id"][is_outside].iloc[0]
        raise ValueError(f"source {source.name!r} lists {name!r}; a path may not hold '..'")
    if rows.empty:
        raise ValueError(f"source {source.name!r} lists no image in {folder}; fetch the data set again")
    if "domain" in listed:
        return rows.assign(domain=listed["domain"].reset_index(drop=True).replace("", source.domain))
    return rows.assign(domain=source.domain)


def _groups(rows: pd.DataFrame, source: str, listed: Path) -> list[str]:
    """The groups of each row, from the set's own files and from `groups.csv` (label,group) if the folder has one.

    Raises:
        ValueError: `groups.csv` lacks a column, or names a label that no image has.
    """
    own, more = rows["group"] if "group" in rows else repeat("", len(rows)), repeat("", len(rows))
    if is_there(listed):
        table = read_csv(listed, "label", "group")
        table = table[table["group"] != ""]
        unknown = table["label"][~table["label"].isin(rows["source_label"])]
        if len(unknown):
            raise ValueError(f"{listed} names the label {unknown.iloc[0]!r}, which no image has")
        more = rows["source_label"].map(table.groupby("label")["group"].agg(GROUP_SEPARATOR.join)).fillna("")
    return [_qualified(f"{names}{GROUP_SEPARATOR}{others}", source) for names, others in zip(own, more, strict=True)]


def _qualified(groups: str, source: str) -> str:
    """Names of groups, one per line. The source's name is put before those that do not begin with `SHARED`."""
    names = (name if name.startswith(SHARED) else f"{source}/{name}" for name in groups.split(GROUP_SEPARATOR) if name)
    return GROUP_SEPARATOR.join(map(safe_name, names))


def split_problems(listed: pd.DataFrame, images_root: Path, scheduler: str = "") -> tuple[pd.DataFrame, pd.DataFrame]:
    """Separates the rows whose image can be used from the others.

    Args:
        listed: A manifest.
        images_root: Folder its paths are relative to.
        scheduler: See `process_pool`; '' checks in threads of this process.

    Returns:
        The good rows, and the problems (source, path, reason): missing, empty or unreadable files, and images that are
        listed more than once with different values.
    """
    name = listed["source"].iloc[0]
    paths = listed["path"].tolist()
    chunks = [paths[first : first + CHUNK] for first in range(0, len(paths), CHUNK)]
    with (
        process_pool(1, scheduler) if scheduler else ThreadPoolExecutor(1) as pool,
        progress(total=len(paths), desc=f"checking {name}", leave=False) as bar,
    ):
        found = []
        for part in pool.map(_header_problems, [images_root] * len(chunks), chunks):
            found += part
            bar.update(len(part))
    reasons = pd.Series(found, index=listed.index, dtype=str)
    is_ambiguous = listed["image_id"].duplicated(keep=False) & (reasons == "")
    reasons[is_ambiguous] = "listed more than once, with different labels, paths or splits"
    is_bad = reasons != ""
    problems = listed[is_bad].assign(reason=reasons[is_bad])[list(PROBLEM_COLUMNS)]
    return listed[~is_bad].reset_index(drop=True), problems.reset_index(drop=True)


def _header_problems(images_root: Path, paths: list[str]) -> list[str]:
    """`header_problem` of each path."""
    with warnings.catch_warnings(), ThreadPoolExecutor(N_THREADS) as pool:
        # PIL warns of odd EXIF data. Files that cannot be used become problems anyway.
        warnings.filterwarnings("ignore", module="PIL")
        return list(pool.map(lambda path: header_problem(images_root / name_on_disk(path)), paths))
