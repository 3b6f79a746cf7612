"""Recipes: loading, `--set`, and the schema, which is re-exported here so that a recipe file has one import.

A recipe is a tree of frozen dataclasses, in the order data, model, stages, embed, export. It is written as a Python
file in `guie/recipes/` (or anywhere: `--recipe path/to/mine.py`) that defines one name, `RECIPE`. Its docstring states
the source, the machine, the hours and the score to expect.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import importlib.util
import re
import traceback
import types
import typing
from collections.abc import Iterator
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

from guie.override import override_field
from guie.settings.augment import Augment as Augment
from guie.settings.data import RESERVED_DOMAINS as RESERVED_DOMAINS
from guie.settings.data import Data as Data
from guie.settings.data import DrawnWorld as DrawnWorld
from guie.settings.data import Limit as Limit
from guie.settings.data import Source as Source
from guie.settings.embed import VIEWS as VIEWS
from guie.settings.embed import Embed as Embed
from guie.settings.embed import Export as Export
from guie.settings.embed import Member as Member
from guie.settings.embed import PostProcess as PostProcess
from guie.settings.embed import Setting as Setting
from guie.settings.embed import Views as Views
from guie.settings.fields import nearest
from guie.settings.fit import FitImages as FitImages
from guie.settings.fit import FitWords as FitWords
from guie.settings.mixed import Interpolate as Interpolate
from guie.settings.mixed import Soup as Soup
from guie.settings.model import PRETRAINED_TAG as PRETRAINED_TAG
from guie.settings.model import Model as Model
from guie.settings.moved import GONE, KINDS, new_path
from guie.settings.names import PRETRAINED as PRETRAINED
from guie.settings.neck import Neck as Neck
from guie.settings.objective import *  # noqa: F403 (its __all__ names the kinds)
from guie.settings.optim import Adam as Adam
from guie.settings.optim import AdamW as AdamW
from guie.settings.optim import BlockFactors as BlockFactors
from guie.settings.optim import Constant as Constant
from guie.settings.optim import Cosine as Cosine
from guie.settings.optim import Exponential as Exponential
from guie.settings.optim import LayerDecay as LayerDecay
from guie.settings.optim import OneCycle as OneCycle
from guie.settings.optim import Optim as Optim
from guie.settings.optim import Sgd as Sgd
from guie.settings.optim import Steps as Steps
from guie.settings.recipe import Recipe as Recipe
from guie.settings.retain import Retain as Retain
from guie.settings.sampling import Fold as Fold
from guie.settings.sampling import PerClass as PerClass
from guie.settings.sampling import Weighted as Weighted
from guie.settings.stage import HEAD as HEAD
from guie.settings.stage import PHASES as PHASES
from guie.settings.stage import Cost as Cost
from guie.settings.stage import Part as Part
from guie.settings.stage import Row as Row
from guie.settings.stage import Stage as Stage
from guie.settings.stage import Stages as Stages
from guie.settings.stage import Start as Start
from guie.settings.stage import Validation as Validation


def load_recipe(name_or_path: str, overrides: typing.Sequence[str] = ()) -> Recipe:
    """Loads a recipe and applies overrides.

    Args:
        name_or_path: A name in `guie/recipes/`, or the path of a Python file that defines `RECIPE`.
        overrides: `field.path=value` texts; a path names stages and settings by their own names.

    Raises:
        ValueError: the recipe or a field does not exist (the message gives the nearest name), or a value has the wrong
            type or is out of range.
        FileNotFoundError: the path does not exist.
    """
    if name_or_path.endswith(".py"):
        module = _module_from_file(Path(name_or_path))
    else:
        known = sorted(p.stem for p in (Path(__file__).parent / "recipes").glob("[a-z]*.py"))
        if name_or_path not in known:
            hint = nearest(name_or_path, known)
            stop = "" if hint.endswith("?") else "."
            raise ValueError(
                f"no recipe {name_or_path!r}; {hint}{stop} Or give the path of a .py file that defines RECIPE"
            )
        with _errors_of_recipe(Path(__file__).parent / "recipes" / f"{name_or_path}.py"):
            module = importlib.import_module(f"guie.recipes.{name_or_path}")
    recipe = getattr(module, "RECIPE", None)
    if not isinstance(recipe, Recipe):
        raise ValueError(f"{name_or_path} defines no RECIPE of type guie.recipe.Recipe")
    for override in overrides:
        recipe = override_field(recipe, override)
    return recipe.validate()


def _module_from_file(path: Path) -> types.ModuleType:
    if not path.is_file():
        raise FileNotFoundError(f"recipe file {path} does not exist")
    spec = importlib.util.spec_from_file_location(f"recipe_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with _errors_of_recipe(path):
        spec.loader.exec_module(module)
    return module


@contextlib.contextmanager
def _errors_of_recipe(file: Path) -> Iterator[None]:
    """Turns any error of a recipe's file into a ValueError of one line.

    Its message gives the file, the line in it, what is wrong, and the nearest name.
    """
    try:
        yield
    except Exception as error:  # a misspelt field is a TypeError, a forgotten bracket a SyntaxError
        frames = [
            frame
            for frame in traceback.extract_tb(error.__traceback__)
            if Path(frame.filename).resolve() == file.resolve()
        ]
        at = f", line {frames[-1].lineno}," if frames else ""
        raise ValueError(f"recipe file {file}{at} cannot be read: {_meaning(error)}") from error


def _meaning(error: Exception) -> str:
    """What is wrong in a recipe's file, such as a field that does not exist, a missing field, or an unknown name."""
    text, kinds = str(error), {kind.__name__: kind for kind in _kinds()}
    if found := re.match(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'", text):
        kind, name = found.groups()
        if kind in kinds:
            path = new_path(kinds[kind], name)
            hint = GONE.get(name) or (
                f"it is {path} now" if path else nearest(name, [f.name for f in dataclasses.fields(kinds[kind])])
            )
            return f"{kind} has no field {name!r}; {hint}"
    if found := re.match(
        r"(\w+)\.__init__\(\) missing \d+ required (?:positional|keyword-only) arguments?: (.+)", text
    ):
        return f"{found[1]} lacks {found[2]}"
    if found := re.match(r"(\w+)\.__init__\(\) takes (?:from \d+ to )?(\d+) positional arguments? but (\d+) ", text):
        return (
            f"{found[1]} takes {int(found[2]) - 1} values without a name, and {int(found[3]) - 1} are given; name them"
        )
    if isinstance(error, NameError | ImportError | AttributeError) and (
        found := re.search(r"(?:name|attribute) '(\w+)'", text)
    ):
        return f"{text}; {f'it is {KINDS[found[1]]} now' if found[1] in KINDS else nearest(found[1], list(kinds))}"
    return f"{type(error).__name__}: {text}"


def _kinds() -> list[type[Any]]:
    """The settings classes."""
    return [value for value in globals().values() if isinstance(value, type) and is_dataclass(value)]
