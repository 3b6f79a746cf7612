"""Records in a run of `guie train` which photos it is made of (a list and a link), and checks that a later start has
the same photos and settings."""

from __future__ import annotations

import csv
import json
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guie.data.names import ODD, safe_name
from guie.data.sources.csv_list import ESCAPED, LIST
from guie.dependencies import input_digests
from guie.done import read_done
from guie.files import save_json, whole_file
from guie.kept import difference, has_results, made_otherwise
from guie.own.photos import Photos
from guie.own.place import PHOTOS, TRAINED_ON
from guie.recipe import Recipe, load_recipe
from guie.run import FOLDERS, Run

ALL = "all"  # the link to the person's own folder
LINKED = f"{PHOTOS}/{ALL}/"  # how the paths of manifests begin
SCORED = "unseen"  # name and folder of the run that is only scored
RECIPE_FILE = "recipe.py"  # of the run that is exported
REMEDY = "give this one another --name"


@dataclass(frozen=True)
class Origin:
    """Where photos and their labels come from.

    Attributes:
        path: The folder or the list.
        label_from: The regular expression of --label-from; '' where labels are folders or stand in the list.
    """

    path: Path
    label_from: str = ""

    @property
    def shown(self) -> dict[str, str]:
        """As it is kept in the run."""
        return {"photos": safe_name(str(self.path.resolve())), "label_from": self.label_from}


def link_photos(photos: Photos, run: Path, origin: Origin) -> None:
    """Writes `photos/images.csv` into the run, with a link to the person's folder, which stays as it is.

    A name on disk need not be text that a CSV can hold. If there is such a name or label, paths and labels are written
    as in manifests, which the column `escaped` says.

    Raises:
        OSError: the run's folder cannot be written to.
    """
    folder = run / PHOTOS
    folder.mkdir(parents=True, exist_ok=True)
    link = folder / ALL
    if link.is_symlink() and link.readlink() != photos.root.resolve():
        link.unlink()
    if not link.is_symlink():
        link.symlink_to(photos.root.resolve(), target_is_directory=True)
    if noted_source(run) != origin.shown:
        save_json(folder / TRAINED_ON, origin.shown)
    labelled = photos.table[photos.table["label"] != ""]
    table = labelled.assign(path=f"{ALL}/" + labelled["path"])[["path", "label"]]
    if any(ODD.search(text) for name in ("path", "label") for text in table[name]):
        table[ESCAPED] = "yes"
    text = table.to_csv(index=False)
    if not (folder / LIST).is_file() or (folder / LIST).read_text(encoding="utf-8") != text:
        with whole_file(folder / LIST) as temporary:
            temporary.write_text(text, encoding="utf-8")


def listed(run: Path) -> dict[str, str]:
    """The label of each photo in the list that a run holds, by path; nothing where it holds none."""
    file = run / PHOTOS / LIST
    if not file.is_file():
        return {}
    with file.open(newline="", encoding="utf-8") as rows:
        return {row.get("path", ""): row.get("label", "") for row in csv.DictReader(rows)}


def changed_photos(before: Mapping[str, str], run: Path, out: Path, recipe: Recipe) -> str:
    """How the photos differ from those that door 01 has read, as a sentence; '' where they do not, or it has not.

    Args:
        before: What `listed` gave before the list was written again.
        run: The run's folder, which holds the list.
        out: The folder of the doors that read it.
        recipe: Theirs.
    """
    mark = read_done(out / FOLDERS[1])
    if mark is None or mark["inputs"].get("raw") == input_digests(Run(recipe, run, out), 1, Namespace())["raw"]:
        return ""
    now = listed(run)
    counts = {
        "new": len(now.keys() - before.keys()),
        "gone": len(before.keys() - now.keys()),
        "with another label": sum(before[path] != now[path] for path in before.keys() & now.keys()),
    }
    told = ", ".join(f"{n:,} {what}" for what, n in counts.items() if n)
    what = f" ({told})" if told else ""
    return f"The photos changed since door 01 read them{what}: what depends on them is made again."


def check_ours(run: Path) -> None:
    """Raises ValueError if another recipe works in the folder of this run: its results would be replaced."""
    if (run / "recipe.json").is_file() and not (run / PHOTOS / ALL).is_symlink():
        raise ValueError(f"{run} holds the run of another recipe, which guie train would replace; {REMEDY}")


def check_same(run: Path, photos: Photos, origin: Origin, recipes: Mapping[str, Sequence[Recipe]]) -> None:
    """Raises ValueError if a run of this name is of another folder or list, or takes labels otherwise, or if something
    finished has other settings. Photos that were added, changed or removed are none of these.

    What made the results counts, and not only the files of recipes that lie there: ./run.sh takes --set.

    Args:
        run: The run's folder.
        photos: What shall be trained on.
        origin: Where they and their labels come from.
        recipes: Those that may have made what is there, by their files in the run, such as `RECIPE_FILE`. Which of the
            settings is exported follows from the scores.
    """
    link, noted = run / PHOTOS / ALL, noted_source(run)
    if link.is_symlink() and link.readlink() != photos.root.resolve():
        raise ValueError(f"the run {run} is of {link.readlink()}; {REMEDY}, or --force")
    if noted is not None and noted != origin.shown:
        labels = noted.get("label_from")
        of = f"{noted.get('photos')}{f' with --label-from {labels!r}' if labels else ''}"
        now = f"{origin.shown['photos']}{f' with --label-from {origin.label_from!r}' if origin.label_from else ''}"
        raise ValueError(f"the run {run} is of {of}, not of {now}; {REMEDY}, or --force")
    for name, own in recipes.items():
        folder = run if name == RECIPE_FILE else run / SCORED
        found = made_otherwise(folder, own) or _edited(run / name, own) if has_results(folder) else ""
        if found:
            raise ValueError(f"the run {run} has results of other settings, {found}; {REMEDY}, or --force")


def _edited(file: Path, recipes: Sequence[Recipe]) -> str:
    """How a recipe's file differs from the first of some recipes; '' where it is one of them, or absent."""
    if not file.is_file():
        return ""
    found = load_recipe(str(file))
    return "" if found in recipes else f"{file.name}: {difference(_values(found), _values(recipes[0]))}"


def _values(recipe: Recipe) -> dict[str, Any]:
    """The fields that a person may change, by the paths that --set takes."""
    rows = (f"stages.{row.name}" for row in recipe.stages)
    return recipe.values_of(("data", "model", *rows, "embed", "export", "seed", "name"))


def noted_source(run: Path) -> dict[str, str] | None:
    """What a run keeps of its origin; None where it keeps nothing that can be read."""
    try:
        found = json.loads((run / PHOTOS / TRAINED_ON).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
