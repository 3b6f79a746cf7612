"""What the report shows, read from a run's artefacts as plain data: nothing here knows HTML."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from guie.done import read_done
from guie.run import DIMENSIONS, DOORS, FOLDERS, PHASE_FOLDERS, Run
from guie.settings.data import RESERVED_DOMAINS, UNLABELLED
from guie.settings.recipe import Recipe

TEXT_COLUMNS = ("setting", "members", "views", "projection", "commit")
SCORE_COLUMNS = (*TEXT_COLUMNS, "dim", "n_queries", "n_index", "mp5", "r1", "seed")
POINT_COLUMNS = ("step", "loss", "lr")
CURVE_COLUMNS = ("epoch", "step", "loss", "lr", "images_per_s", "seconds", "val_mp5", "val_r1")
DIMENSION_COLUMNS = ("dim", "code", "n_bytes", "mp5", "mp5_low", "mp5_high", "loss", "p", "is_exported")
CLASS_COLUMNS = ("source", "domain", "split", "n_images", "n_rows")
DUPLICATE_COLUMNS = ("image_id", "twin", "split", "twin_split", "is_same_file", "outcome")
SIZE_EDGES = (1, 2, 3, 5, 9, 17, 33, 65, 129)  # images a class: 1, 2, 3-4, 5-8, ... more than 128


@dataclass(frozen=True)
class Scores:
    """The ladder of door 07.

    Attributes:
        table: `scores.csv`, one row per setting, in the order of the ladder; `mp5_low`, `mp5_high`, `p_vs_previous`
            and `chosen_on` where door 07 wrote them.
        domains: The domains that have a score.
        final: Position of the exported setting.
        pca_share: Share of the training images' variance that the final projection keeps; None without PCA.
    """

    table: pd.DataFrame
    domains: tuple[str, ...]
    final: int
    pca_share: float | None

    def interval(self, row: int) -> tuple[float, float] | None:
        """The ends of a row's mP@5; None where they are not known."""
        if not {"mp5_low", "mp5_high"} <= set(self.table):
            return None
        low = float(self.table["mp5_low"].iloc[row])
        high = float(self.table["mp5_high"].iloc[row])
        return (low, high) if math.isfinite(low) and math.isfinite(high) else None


@dataclass(frozen=True)
class StageCurves:
    """The training of one stage.

    Attributes:
        name: Its name.
        phase: head, backbone or highres.
        metrics: `metrics.csv`, a row an epoch; None where the stage left none.
        points: `curve.csv`, about 20 rows however many epochs there are; None where the stage left none.
        fold: The training classes that it left out and was validated on, as `fold 1 of 4`; '' where it was validated on
            the validation images.
    """

    name: str
    phase: str
    metrics: pd.DataFrame | None
    points: pd.DataFrame | None = None
    fold: str = ""


@dataclass(frozen=True)
class DataSummary:
    """What doors 01 to 03 found.

    Attributes:
        groups: source, domain, split, n_classes, n_images (before balancing), n_rows (after). None without
            `classes.parquet`.
        class_sizes: Label of a range of images per class -> training classes in it.
        sizes_by_source: Source -> images of each of its training classes, int64, the largest first.
        problems: step, source, path, reason of everything that could not be used.
        duplicates: Columns of `DUPLICATE_COLUMNS`; None where door 03 left no list.
        unlabelled: Source without labels -> its packed images.
    """

    groups: pd.DataFrame | None
    class_sizes: dict[str, int]
    sizes_by_source: dict[str, np.ndarray]
    problems: pd.DataFrame
    duplicates: pd.DataFrame | None
    unlabelled: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Step:
    """One door (`is_stage` False) or stage, with its done-mark; None where it has not finished."""

    name: str
    door: int
    is_stage: bool
    mark: dict[str, Any] | None
    images_per_s: float | None = None

    @property
    def noted(self) -> dict[str, Any]:
        """The metrics of the done-mark; empty where there are none."""
        return (self.mark or {}).get("metrics") or {}

    def number(self, name: str) -> float | None:
        """A finite number of the done-mark; None where there is none."""
        value = self.mark.get(name) if self.mark else None
        return float(value) if is_number(value) else None


@dataclass(frozen=True)
class Facts:
    """Everything the report shows except what needs images or other runs.

    Attributes:
        dimensions: Has DIMENSION_COLUMNS; None where door 07 left none.
    """

    recipe: Recipe
    commit: str
    scores: Scores
    stages: tuple[StageCurves, ...]
    data: DataSummary
    steps: tuple[Step, ...]
    dimensions: pd.DataFrame | None = None


def collect(run: Run) -> Facts:
    """Reads the artefacts of a run.

    Raises:
        ValueError: `scores.csv` is missing, empty or damaged, or lacks the exported setting. The message names the
            command of door 07, which writes it.
    """
    scores = read_scores(run)
    commit = str(scores.table["commit"].iloc[scores.final])
    stages = read_stages(run)
    dimensions = read_dimensions(run.out)
    return Facts(run.recipe, commit, scores, stages, read_data(run), read_steps(run, stages), dimensions)


def read_dimensions(out: Path) -> pd.DataFrame | None:
    """What the exported embedding scores at other widths and as codes; None where an older door 07 left no such file.

    Raises:
        ValueError: it lacks a column or has no row.
    """
    path = out / FOLDERS[7] / DIMENSIONS
    table = _csv(path)
    if table is None:
        return None
    missing = [name for name in DIMENSION_COLUMNS if name not in table.columns]
    if missing or table.empty:
        remedy = f"open door 07 again with the same options: python {DOORS[7]} --force ..."
        raise ValueError(f"{path} has {len(table)} rows and lacks the columns {missing}; {remedy}")
    return table


def read_scores(run: Run) -> Scores:
    """The ladder.

    Raises:
        ValueError: see `collect`.
    """
    return scores_in(run.out, run.recipe.embed.final.name)


def scores_in(out: Path, final: str) -> Scores:
    """The ladder of the run in folder `out`, whose exported setting is called `final`.

    Raises:
        ValueError: see `collect`.
    """
    table = _score_table(out / FOLDERS[7] / "scores.csv", final)
    found = [str(column).removeprefix("mp5_") for column in table.columns if str(column).startswith("mp5_")]
    domains = tuple(name for name in found if name not in RESERVED_DOMAINS)
    shares = pca_shares(out)
    row = int(np.flatnonzero(table["setting"] == final)[-1])
    return Scores(table, domains, row, None if shares is None else float(shares.sum()))


def pca_shares(out: Path) -> np.ndarray | None:
    """The share of the training features' variance that each component of the final projection holds, float64 [dim].

    None without PCA.
    """
    path = out / FOLDERS[7] / "pca.npz"
    if not path.is_file():
        return None
    with np.load(path) as arrays:
        return arrays.get("explained_variance_ratio")


def read_stages(run: Run) -> tuple[StageCurves, ...]:
    """The curves of every stage of the recipe, in its order."""
    result = []
    for stage in run.recipe.stages:
        phase = run.recipe.stages.phase_of(stage.name)
        folder = run.out / PHASE_FOLDERS[phase] / stage.name
        fold = run.recipe.stage(stage.name).left_out
        metrics, points = _metrics(folder / "metrics.csv"), _points(folder / "curve.csv")
        result.append(StageCurves(stage.name, phase, metrics, points, str(fold or "")))
    return tuple(result)


def read_data(run: Run) -> DataSummary:
    """Classes and images of each source, domain and split, and what could not be used."""
    classes = _parquet(run.out / FOLDERS[2] / "classes.parquet", CLASS_COLUMNS)
    problems = _problems(run.out)
    duplicates = _parquet(run.out / FOLDERS[3] / "duplicates.parquet", DUPLICATE_COLUMNS)
    if classes is None:
        return DataSummary(None, {}, {}, problems, duplicates, _unlabelled(run.out))
    counted = {"n_classes": ("n_images", "size"), "n_images": ("n_images", "sum"), "n_rows": ("n_rows", "sum")}
    groups = classes.groupby(["domain", "source", "split"], sort=True).agg(**counted)
    train = classes[classes["split"] == "train"]
    sizes = {str(source): of.to_numpy() for source, of in train.groupby("source", sort=True)["n_images"]}
    by_source = {source: np.sort(of)[::-1] for source, of in sizes.items()}
    class_sizes = _class_sizes(train["n_images"])
    return DataSummary(groups.reset_index(), class_sizes, by_source, problems, duplicates, _unlabelled(run.out))


def read_steps(run: Run, stages: Sequence[StageCurves]) -> tuple[Step, ...]:
    """The done-marks of doors 01 to 08, each door's stages after it."""
    steps = []
    for number in range(1, 9):
        mark = read_done(run.out / FOLDERS[number])
        steps.append(Step(FOLDERS[number], number, False, mark, _images_per_s(number, mark, run.out)))
        for stage in stages:
            if PHASE_FOLDERS[stage.phase] == FOLDERS[number]:
                speed = stage.metrics["images_per_s"].median() if stage.metrics is not None else math.nan
                own = read_done(run.out / FOLDERS[number] / stage.name)
                steps.append(Step(stage.name, number, True, own, float(speed) if math.isfinite(speed) else None))
    return tuple(steps)


def _images_per_s(number: int, mark: dict[str, Any] | None, out: Path) -> float | None:
    """Images that a door handled in a second; of door 08, what the exported model embeds one by one.

    None for the doors of training, whose stages have a speed of their own.
    """
    noted = (mark or {}).get("metrics") or {}
    if number == 8:
        each = noted.get("seconds_per_image")
        return 1 / each if is_number(each) and each > 0 else None
    if number == 7:
        paths = [out / FOLDERS[7] / f"{split}_ids.parquet" for split in ("train", "val")]
        n_images = sum(pq.read_metadata(path).num_rows for path in paths if path.is_file())
    elif number == 2:
        n_images = noted.get("n_train_images", 0) + noted.get("n_val_images", 0)
    else:
        n_images = noted.get("n_images")
    seconds = (mark or {}).get("seconds")
    return n_images / seconds if is_number(n_images) and n_images and is_number(seconds) and seconds else None


def is_number(value: Any) -> TypeGuard[float]:
    """Whether `value` is a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        return False
    return math.isfinite(value)


def _score_table(path: Path, final: str) -> pd.DataFrame:
    """The table in `scores.csv`, its texts without gaps.

    Raises:
        ValueError: see `collect`.
    """
    remedy = f"open door 07 again with the same options: python {DOORS[7]} --force ..."
    if not path.is_file():
        raise ValueError(f"{path} does not exist, and a report needs its scores; {remedy}")
    texts = [*TEXT_COLUMNS, "chosen_on"]
    try:
        table = pd.read_csv(path, dtype=dict.fromkeys(texts, str), keep_default_na=False, na_values=[""])
    except pd.errors.EmptyDataError:
        raise ValueError(f"{path} is empty; {remedy}") from None
    missing = [name for name in SCORE_COLUMNS if name not in table.columns]
    if missing or table.empty:
        raise ValueError(f"{path} has {len(table)} rows and lacks the columns {missing}; {remedy}")
    if final not in set(table["setting"]):
        raise ValueError(f"{path} has no row for {final!r}, the setting that the recipe exports; {remedy}")
    return table.fillna({name: "" for name in texts if name in table})


def _metrics(path: Path) -> pd.DataFrame | None:
    """The numbers of a `metrics.csv`, NaN where one is missing or not finite; None where there is no such file.

    Columns that every stage has come in the order of `CURVE_COLUMNS`; those of the stage's objective follow the loss.
    """
    table = _csv(path)
    if table is None:
        return None
    at = CURVE_COLUMNS.index("loss") + 1
    own = [name for name in table.columns if name not in CURVE_COLUMNS]  # of the stage's objective
    return _finite(table, [*CURVE_COLUMNS[:at], *own, *CURVE_COLUMNS[at:]])


def _points(path: Path) -> pd.DataFrame | None:
    """The numbers of a `curve.csv`, NaN where one is missing or not finite; None where there is no such file."""
    table = _csv(path)
    return None if table is None else _finite(table, POINT_COLUMNS)


def _csv(path: Path) -> pd.DataFrame | None:
    return pd.read_csv(path) if path.is_file() and path.stat().st_size else None


def _finite(table: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    numbers = table.reindex(columns=list(columns)).apply(pd.to_numeric, errors="coerce")
    return numbers.replace([np.inf, -np.inf], np.nan)


def _problems(out: Path) -> pd.DataFrame:
    """What doors 01 and 03 could not use: step, source, path, reason."""
    columns = ["step", "source", "path", "reason"]
    found = []
    listed = _parquet(out / FOLDERS[1] / "problems.parquet", ("source", "path", "reason"))
    if listed is not None and len(listed):
        found.append(listed.assign(step=FOLDERS[1])[columns])
    packed = _parquet(out / FOLDERS[3] / "problems.parquet", ("image_id", "path", "reason"))
    if packed is not None and len(packed):
        source = packed["image_id"].str.split("/").str[0]
        found.append(packed.assign(step=FOLDERS[3], source=source)[columns])
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=columns)


def _unlabelled(out: Path) -> dict[str, int]:
    """The packed images of each source without labels."""
    path = out / FOLDERS[3] / "index.parquet"
    if not path.is_file():
        return {}
    index = pd.read_parquet(path, columns=["source", "split"])
    counts = index["source"][index["split"] == UNLABELLED].value_counts(sort=False)
    return {str(source): int(n) for source, n in counts.items()}


def _class_sizes(n_images: pd.Series) -> dict[str, int]:
    """How many classes have 1, 2, 3-4, ... images; empty ranges at either end are left out."""
    if n_images.empty:
        return {}
    ranges = [(low, high - 1) for low, high in itertools.pairwise(SIZE_EDGES)]
    labels = [str(first) if first == last else f"{first}–{last}" for first, last in ranges] + [f"≥{SIZE_EDGES[-1]}"]
    counts = np.bincount(np.searchsorted(SIZE_EDGES, n_images.to_numpy(), side="right") - 1, minlength=len(labels))
    used = np.flatnonzero(counts)
    return {labels[i]: int(counts[i]) for i in range(used[0], used[-1] + 1)}


def _parquet(path: Path, columns: tuple[str, ...]) -> pd.DataFrame | None:
    """The table at `path`; None where it is absent.

    Raises:
        ValueError: it lacks one of `columns`.
    """
    if not path.is_file():
        return None
    table = pd.read_parquet(path)
    missing = [name for name in columns if name not in table.columns]
    if missing:
        number = next(n for n, name in FOLDERS.items() if name == path.parent.name)
        remedy = f"open that door again with the same options: python {DOORS[number]} --force ..."
        raise ValueError(f"{path} lacks the columns {missing}; {remedy}")
    return table
