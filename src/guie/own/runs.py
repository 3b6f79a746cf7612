"""A finished run by its folder: the settings that it was made with, as `recipe.json` holds them."""

from __future__ import annotations

import json
from pathlib import Path

from guie.recipe import load_recipe
from guie.run import PROJECT, Run


def open_run(folder: Path) -> Run:
    """The run in a folder, with its own recipe, overrides and data root.

    Args:
        folder: `artifacts/<recipe>`.

    Raises:
        FileNotFoundError: there is no run, or its recipe's file is gone.
        ValueError: `recipe.json` is damaged, or the recipe's file has been changed since.
    """
    path = folder / "recipe.json"
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no run (no recipe.json); name a folder such as artifacts/demo")
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        options, settings = saved["arguments"], saved["recipe"]
        name, sets, data_root = str(options["recipe"]), tuple(map(str, options["set"])), Path(options["data_root"])
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{path} is damaged, or of an older version; open any door of that run again") from None
    if name.endswith(".py") and not Path(name).is_file() and (PROJECT / name).is_file():
        name = str(PROJECT / name)
    recipe = load_recipe(name, sets)
    if json.loads(recipe.to_json()) != settings:
        raise ValueError(
            f"recipe {name} has been changed since {folder} was made; make the run again, or change the recipe back"
        )
    return Run(recipe, data_root.resolve(), folder.resolve())
