"""A finished result is not replaced by one of other settings, unless the user asks for that.

The rule, for people: src/README.md, "Another --set".
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from guie import versions
from guie.dependencies import PHASES, read_values, settings_digest
from guie.done import read_done
from guie.run import FOLDERS, PHASE_FOLDERS, Run
from guie.settings.names import read_by_row

RESULTS = range(4, 9)  # the doors whose results cost more than time to read images: training, scores, the export
NONE = "none"  # for a field that only one of two settings has


def check_kept(run: Run, number: int) -> None:
    """Refuses to let door `number` replace what was finished with other settings.

    Doors 01 to 03 are free as long as no later door has finished. Door 09 only shows what is there, and is always free.

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
    resting = [FOLDERS[n] for n in RESULTS if n >= number and read_done(run.out / FOLDERS[n]) is not None]
    if resting:
        rests = "" if number in RESULTS else f", and {resting[0]} was made from it"
        raise ValueError(_refusal(folder, mark, read_values(run.recipe, number), rests))


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
        read = read_by_row(row.name)
        if mark is not None and mark["settings"] != run.recipe.digest(*read, **versions.OF_WEIGHTS):
            values = run.recipe.values_of(read) | {versions.CODE: versions.OF_WEIGHTS}
            raise ValueError(_refusal(folder, mark, values))


def has_results(out: Path) -> bool:
    """Whether a run holds a finished door or stage that has cost more than time to read images."""
    stages = [folder for name in PHASE_FOLDERS.values() for folder in out.glob(f"{name}/*")]
    return any(read_done(folder) is not None for folder in (*(out / FOLDERS[n] for n in RESULTS), *stages))


def _refusal(folder: Path, mark: dict[str, Any], now: dict[str, Any], rests: str = "") -> str:
    old = "other settings (an older version of guie made it, and did not note them)"
    what = difference(mark["read"], now) if mark.get("read") else old
    return f"{folder} is finished with {what}{rests}; --name NAME makes another run beside it, --replace makes it anew"


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
