"""Finished runs beside each other: what they scored, what they cost, and in which settings they differ."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from guie.done import read_done
from guie.evaluate.pairs import Paired, paired, precisions
from guie.report.collect import Facts, Scores, Step, scores_in
from guie.run import FOLDERS, Run

NOTHING = "–"


@dataclass(frozen=True)
class Compared:
    """One of several runs.

    Attributes:
        name: Recipe and seed, with the folder where that is not enough to tell it from another.
        settings: The recipe as nested dictionaries and lists.
        scores: Its ladder.
        seconds: Of doors 01 to 08; None when none of them tells.
        peak_memory_gb: The same.
        asked: A digest of the validation images; '' where door 07 left no ids.
        folder: Of the run.
    """

    name: str
    settings: dict[str, Any]
    scores: Scores
    seconds: float | None
    peak_memory_gb: float | None
    asked: str
    folder: Path

    @property
    def final(self) -> pd.Series:
        """The exported setting's row."""
        return self.scores.table.iloc[self.scores.final]


def read_runs(run: Run, facts: Facts, folders: Sequence[Path]) -> tuple[Compared, ...]:
    """This run and those in `folders`; empty without any.

    Raises:
        FileNotFoundError: a folder holds no run.
        ValueError: a folder is that of the run itself, or a run's recipe or scores are damaged or missing.
    """
    if not folders:
        return ()
    for folder in folders:
        if folder.resolve() == run.out.resolve():
            raise ValueError(f"--compare {folder} is the run itself; name another finished run")
    recipes = [json.loads(run.recipe.to_json()), *(_recipe(folder) for folder in folders)]
    outs = [run.out, *folders]
    ladders = [facts.scores]
    ladders += [scores_in(out, _final(recipe, out)) for recipe, out in zip(recipes[1:], folders, strict=True)]
    names = [f"{recipe.get('name')}, seed {recipe.get('seed')}" for recipe in recipes]
    result = []
    for name, recipe, scores, out in zip(names, recipes, ladders, outs, strict=True):
        shown = name if names.count(name) == 1 else f"{name}, {out.parent.name}/{out.name}"
        seconds = _numbers(out, "seconds")
        memory = _numbers(out, "peak_memory_gb")
        total = sum(seconds) if seconds else None
        result.append(Compared(shown, recipe, scores, total, max(memory, default=None), _asked(out), out))
    return tuple(result)


def differences(values: Sequence[Any], path: str = "") -> dict[str, list[str]]:
    """Where nested settings differ.

    Args:
        values: The settings of each run.
        path: Where they stand in the whole recipe.

    Returns:
        For each field that differs, its path (`stages.s1_head.optim.lr`) and every run's value; a dash where a run has
        none. Members of a list are called by their names. Of a member that only some runs have, the value is `there`.
    """
    values = [_rows(value) if path == "stages" else _by_name(value) for value in values]
    if all(value == values[0] for value in values):
        return {}
    if all(isinstance(value, dict) for value in values):
        result: dict[str, list[str]] = {}
        for key in dict.fromkeys(key for value in values for key in value):
            own = f"{path}.{key}" if path else str(key)
            result |= differences([value.get(key, NOTHING) for value in values], own)
        return result
    return {path: [_as_text(value) for value in values]}


def seeds(runs: Sequence[Compared]) -> list[list[Compared]]:
    """Groups of two or more runs that differ in nothing but the seed."""
    groups: dict[str, list[Compared]] = {}
    for run in runs:
        key = json.dumps({name: value for name, value in run.settings.items() if name != "seed"}, sort_keys=True)
        groups.setdefault(key, []).append(run)
    return [group for group in groups.values() if len(group) > 1]


def pairs(runs: Sequence[Compared]) -> list[tuple[Compared, Compared, Paired]]:
    """The exported settings of every two runs that were asked the same queries, as (before, after, comparison).

    Runs whose queries or neighbours were lost since are left out.
    """
    found = []
    for before, after in itertools.combinations([run for run in runs if run.asked], 2):
        if before.asked == after.asked:
            with contextlib.suppress(FileNotFoundError, ValueError):  # lost files; equal images of other classes
                tables = (precisions(run.folder / FOLDERS[7], str(run.final["setting"])) for run in (before, after))
                found.append((before, after, paired(*tables)))
    return found


def _numbers(out: Path, name: str) -> list[float]:
    """The value of `name` in the done-marks of doors 01 to 08, as far as they have it."""
    steps = [Step(FOLDERS[n], n, False, read_done(out / FOLDERS[n])) for n in range(1, 9)]
    values = [step.number(name) for step in steps]
    return [value for value in values if value is not None]


def _rows(stages: Any) -> Any:
    """A recipe's rows by name, as `--set` reaches them, each with its phase."""
    if not isinstance(stages, dict):
        return _by_name(stages)
    return {str(row["name"]): {"phase": phase, **row} for phase, rows in stages.items() for row in rows}


def _by_name(value: Any) -> Any:
    """A list of named things as a dictionary; anything else as it is."""
    if isinstance(value, list) and value and all(isinstance(item, dict) and "name" in item for item in value):
        return {str(item["name"]): item for item in value}
    return value


def _as_text(value: Any) -> str:
    if isinstance(value, dict):
        return "there"
    return value if isinstance(value, str) else json.dumps(value)


def _recipe(folder: Path) -> dict[str, Any]:
    path = folder / "recipe.json"
    if not path.is_file():
        remedy = "give the folder of a finished run, artifacts/<recipe>"
        raise FileNotFoundError(f"--compare {folder}: no recipe.json there; {remedy}")
    try:
        recipe = json.loads(path.read_text(encoding="utf-8"))["recipe"]
    except (json.JSONDecodeError, KeyError, TypeError):
        raise ValueError(f"{path} is damaged; open any door of that run again") from None
    return dict(recipe)


def _final(recipe: dict[str, Any], folder: Path) -> str:
    try:
        return str(recipe["embed"]["settings"][-1]["name"])
    except (KeyError, IndexError, TypeError):
        path = folder / "recipe.json"
        raise ValueError(f"{path} names no setting to export; open any door of that run again") from None


def _asked(out: Path) -> str:
    path = out / FOLDERS[7] / "val_ids.parquet"
    if not path.is_file():
        return ""
    ids = sorted(pd.read_parquet(path, columns=["image_id"])["image_id"])
    return hashlib.sha256("\n".join(ids).encode()).hexdigest()
