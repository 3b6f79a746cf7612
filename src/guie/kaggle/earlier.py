"""The run of an earlier version of the notebook: which one it is, how it was started, how it gets here."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

from tqdm import tqdm  # not tqdm.auto: its bar for notebooks needs ipywidgets

from guie.done import read_done
from guie.kaggle.inputs import attached
from guie.kept import check_kept, has_results
from guie.run import DOORS, FOLDERS, Run
from guie.settings.recipe import Recipe

RUNS = "artifacts"


def is_finished(run: Path, number: int) -> bool:
    """Whether door `number` has written its done-mark."""
    return read_done(run / FOLDERS[number]) is not None


def earlier_run(input_root: Path, name: str = "") -> Path | None:
    """The attached run in which the most doors and stages are done; the newest of several; None without any.

    Args:
        input_root: Where to look.
        name: Of the run's recipe; '' takes the run of any recipe.
    """
    runs = [path.parent for path in attached(input_root, f"{RUNS}/{name or '*'}/recipe.json")]
    return max(runs, key=lambda run: (_n_done(run), run.stat().st_mtime), default=None)


def _n_done(run: Path) -> int:
    """Number of doors and training stages with a done-mark."""
    return len([*run.glob("0?_*/done.json"), *run.glob("0[456]_*/*/done.json")])


def options_of(run: Path) -> tuple[str, tuple[str, ...]]:
    """The recipe and the changed fields that a run was started with.

    Raises:
        ValueError: `recipe.json` does not hold them; the message says what to do.
    """
    path = run / "recipe.json"
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        arguments = saved["arguments"]
        return str(arguments["recipe"]), tuple(str(text) for text in arguments["set"])
    except (ValueError, KeyError, TypeError):  # no JSON, no such entry, or of another type
        raise ValueError(
            f"{path} has no `arguments`: it is damaged, or an older version of guie wrote it. "
            f"Set RECIPE = {run.name!r} in the first cell. If its `command` has --set, give instead the path of "
            "a recipe file with those values"
        ) from None


def is_started_with(run: Path, recipe: str) -> bool:
    """Whether a run notes that it was started with this recipe, by name or path."""
    try:
        return options_of(run)[0] == recipe
    except ValueError:
        return False


def check_settings(recipe: Recipe, run: Path | None) -> None:
    """Checks that everything a run has finished was made with these settings; otherwise a door would refuse to go on.

    Args:
        recipe: As the session would start it.
        run: The run's folder; nothing in it is changed. None if there is no run.

    Raises:
        ValueError: something finished was made with others; the message says what differs, and what to do.
    """
    if run is None:
        return
    for number in DOORS:
        try:
            check_kept(Run(recipe, run, run), number)
        except ValueError as error:
            what, _, _ = str(error).partition("; --name")
            raise ValueError(
                f"{what}; set NAME in the first cell to make another run beside it, give RECIPE, SETS and WEIGHTS as "
                "they were, or detach that output"
            ) from None


def keeps_weights(recipe: Recipe, run: Path | None) -> bool:
    """Whether a run holds results that were made from the very weights that the recipe names, so that they must not be
    replaced by a file that is found."""
    try:
        check_settings(recipe, run)
    except ValueError:
        return False
    return run is not None and has_results(run)


def copy_run(earlier: Path, run: Path) -> None:
    """Copies a run into the working folder, whole or not at all; the copies are writable.

    Nothing is done where the run is there already.
    """
    if run.exists():
        return
    files = [path for path in sorted(earlier.rglob("*")) if path.is_file()]
    n_bytes = sum(path.stat().st_size for path in files)
    copying = run.with_name(f".{run.name}.copying")
    shutil.rmtree(copying, ignore_errors=True)
    with tqdm(total=n_bytes, desc="copying the earlier run", unit="B", unit_scale=True, file=sys.stdout) as bar:
        for path in files:
            target = copying / path.relative_to(earlier)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
            # Doors 01 and 03 compare the times of their images.
            os.utime(target, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
            bar.update(target.stat().st_size)
    copying.rename(run)


def link_run(earlier: Path, run: Path) -> None:
    """Links what door 08 reads of a run into the working folder; doors 08 and 09 write their folders there."""
    run.mkdir(parents=True, exist_ok=True)
    for path in sorted(earlier.iterdir()):
        if path.name in (FOLDERS[8], FOLDERS[9]) or (run / path.name).exists():
            continue
        if path.is_dir():
            (run / path.name).symlink_to(path.absolute())
        else:
            shutil.copyfile(path, run / path.name)  # not linked: recipe.json is written again
