"""A run that earlier commands made, read from its folder: no recipe's name and no --set need be known."""

from __future__ import annotations

import json
from pathlib import Path

from guie.run import Run
from guie.settings.reading import recipe_of

RECIPE_FILE = "recipe.json"


def is_run(folder: Path) -> bool:
    """Whether a folder is that of a run."""
    return (folder / RECIPE_FILE).is_file()


def saved_run(folder: Path, device: str = "cpu") -> Run:
    """The run in a folder, with the recipe and the data root that it was made with.

    Args:
        folder: Such as `artifacts/demo`.
        device: Where to compute now.

    Raises:
        FileNotFoundError: there is no run.
        ValueError: its `recipe.json` is damaged, or another version of the project wrote it.
    """
    path = folder / RECIPE_FILE
    if not path.is_file():
        raise FileNotFoundError(f"{folder} is no run: it has no {RECIPE_FILE}; name a folder such as artifacts/demo")
    remedy = "open any door of that run again, with the options that it was made with"
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        values, root = saved["recipe"], saved.get("arguments", {}).get("data_root", "data")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is damaged ({type(error).__name__}: {error}); {remedy}") from error
    try:
        recipe = recipe_of(values)
    except ValueError as error:
        raise ValueError(f"{path} is of another version of guie: {error}; {remedy}") from error
    return Run(recipe, Path(str(root)).resolve(), folder.resolve(), device)
