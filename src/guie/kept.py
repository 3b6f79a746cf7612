"""A finished result is not replaced by one of other settings, unless the user asks for that.

The rule, for people: src/README.md, "Another --set".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from guie import versions
from guie.dependencies import PHASES, read_values, settings_digest
from guie.done import read_done
from guie.run import FOLDERS, PHASE_FOLDERS, Run
from guie.settings.names import OF_WEIGHTS, read_by_row
from guie.settings.recipe import Recipe

RESULTS = range(4, 9)  # the doors whose results cost more than time to read images: training, scores, the export
NONE = "none"  # for a field that only one of two settings has


def check_kept(run: Run, number: int) -> None:
    """Refuses to let door `number` replace what was finished with other settings.

    Doors 01 to 03 are free as long as no later door or stage has finished. Door 09 only shows what is there, and is
    always free.

    Args:
        run: The run that the door belongs to.
        number: The door that is about to begin.

    Raises:
        ValueError: a finished result would be replaced; the message names what differs and both ways to go on.
    """
    if number > max(RESULTS):
        return
    folder = run.out / FOLDERS[number]
    mark = read_done(folder)
    if mark is None:
        _check_stages(run, number)
        return
    if mark["settings"] == settings_digest(run.recipe, number):
        return
    resting = [folder for n in RESULTS if n >= number for folder in _finished(run.out, n)]
    if resting:
        rests = "" if number in RESULTS else f", and {resting[0].relative_to(run.out)} was made from it"
        raise ValueError(_refusal(folder, mark, read_values(run.recipe, number), rests))


def check_earlier_kept(run: Run, number: int) -> None:
    """The same for each door before door `number`. Otherwise its error would name a command that is refused.

    Raises:
        ValueError: see `check_kept`.
    """
    for earlier in range(1, number):
        check_kept(run, earlier)


def _check_stages(run: Run, number: int) -> None:
    """The same for each finished stage of a door that has not finished.

    Raises:
        ValueError: see `check_kept`.
    """
    if number not in PHASES:
        return
    for row in run.recipe.stages.of_phase(PHASES[number]):
        folder = run.out / PHASE_FOLDERS[PHASES[number]] / row.name
        mark = read_done(folder)
        if mark is not None and mark["settings"] != _row_digest(run.recipe, row.name):
            raise ValueError(_refusal(folder, mark, _row_values(run.recipe, row.name)))


def has_results(out: Path) -> bool:
    """Whether a run holds a finished door or stage that has cost more than time to read images."""
    return any(_finished(out, number) for number in RESULTS)


def _finished(out: Path, number: int) -> list[Path]:
    """The folder of a door that has finished; of one that has not, those of its finished stages."""
    if read_done(out / FOLDERS[number]) is not None:
        return [out / FOLDERS[number]]
    stages = out.glob(f"{PHASE_FOLDERS[PHASES[number]]}/*") if number in PHASES else ()
    return sorted(folder for folder in stages if read_done(folder) is not None)


def made_otherwise(out: Path, recipes: Sequence[Recipe]) -> str:
    """Finds results in a run that were made by none of the given recipes, and how their settings differ from the
    first's.

    The marks of doors and stages decide, whatever files of recipes lie beside them.

    Args:
        out: The run's folder.
        recipes: One or more.

    Returns:
        The folder and the difference, for people; '' where there is none, or where nothing has finished that cost more
        than time to read images.
    """
    if not has_results(out):
        return ""
    for number in range(1, max(RESULTS) + 1):
        for folder in _finished(out, number):
            mark = read_done(folder)
            assert mark is not None
            is_stage = folder.name != FOLDERS[number]
            values = [_row_values(own, folder.name) if is_stage else read_values(own, number) for own in recipes]
            digests = [_row_digest(own, folder.name) if is_stage else settings_digest(own, number) for own in recipes]
            if mark["settings"] not in digests:
                return f"{folder.relative_to(out)}: {_difference(mark, values[0])}"
    return ""


def _row_digest(recipe: Recipe, name: str) -> str:
    """What a stage's mark holds if this recipe made it; '' where the recipe has no such stage."""
    return recipe.digest(*read_by_row(name), **versions.OF_WEIGHTS) if _has_row(recipe, name) else ""


def _row_values(recipe: Recipe, name: str) -> dict[str, Any]:
    """What `_row_digest` hashes, by name."""
    read = read_by_row(name) if _has_row(recipe, name) else OF_WEIGHTS
    return recipe.values_of(read) | {versions.CODE: versions.OF_WEIGHTS}


def _has_row(recipe: Recipe, name: str) -> bool:
    return any(row.name == name for row in recipe.stages)


def _refusal(folder: Path, mark: dict[str, Any], now: dict[str, Any], rests: str = "") -> str:
    what = _difference(mark, now)
    return f"{folder} is finished with {what}{rests}; --name NAME makes another run beside it, --replace makes it anew"


def _difference(mark: dict[str, Any], now: dict[str, Any]) -> str:
    """What differs between the settings that a mark notes and those of now."""
    old = "other settings (an older version of guie made it, and did not note them)"
    return difference(mark["read"], now) if mark.get("read") else old


def difference(old: dict[str, Any], new: dict[str, Any]) -> str:
    """What differs between settings as JSON has them: the path and the two values of the first, and how many more."""
    before, after = dict(_leaves(old)), dict(_leaves(new))
    changes = [
        f"{path} {before.get(path, NONE)}, not {after.get(path, NONE)}"
        for path in dict.fromkeys((*before, *after))
        if before.get(path, NONE) != after.get(path, NONE)
    ]
    if not changes:
        return "settings in another order"
    return changes[0] + (f" (and {len(changes) - 1} more)" if len(changes) > 1 else "")


def _leaves(node: Any, at: str = "") -> Iterator[tuple[str, str]]:
    """Path and text of each single value; rows of a list go by their names, or by their numbers."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _leaves(value, f"{at}.{key}" if at else key)
    elif isinstance(node, list) and node and all(isinstance(item, dict) for item in node):
        for i, item in enumerate(node):
            yield from _leaves(item, f"{at}.{item.get('name', i)}")
    else:
        yield at, str(node)
