"""`guie train`: photos in, a scored and an exported model out, by the numbered doors."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from guie.dependencies import PHASES
from guie.embed.verdict import Verdict, save_verdict
from guie.evaluate.pairs import Paired, paired, precisions
from guie.files import whole_file
from guie.own.linked import (
    LINKED,
    RECIPE_FILE,
    SCORED,
    Origin,
    changed_photos,
    check_ours,
    check_same,
    link_photos,
    listed,
)
from guie.own.look import check_apart
from guie.own.photos import Photos, pairs, print_problems
from guie.own.recipe_text import recipe_text
from guie.own.recipes import DIM, REDUCED, TRAINED, Wish, exported_recipe, scored_recipe
from guie.own.verdict import FEWEST, verdict
from guie.recipe import Recipe, load_recipe
from guie.run import DOORS, FOLDERS, MODEL_NAME, PROJECT
from guie.shown import folded

FEWEST_PHOTOS = 2 * DIM  # PCA needs more photos than dimensions, after some were set aside for validation
SCORING = (1, 2, 3, 4, 5, 6, 7)
DOES = {
    1: "lists the photos",
    2: "sets photos aside for the score",
    3: "reads and packs them",
    4: "trains the head",
    5: "trains the backbone",
    6: "trains at a higher resolution",
    7: "scores",
    8: "exports and checks the model",
    9: "writes the report",
}


@dataclass(frozen=True)
class Trained:
    """What `train` leaves.

    Attributes:
        run: The run's folder.
        found: How the trained setting compares with the tower as it is, reduced to the same width.
        is_unseen: Whether that was asked about classes that training did not see.
        exported: The name of the exported setting.
    """

    run: Path
    found: Paired
    is_unseen: bool
    exported: str

    @property
    def model(self) -> Path:
        """The exported file."""
        return self.run / FOLDERS[8] / MODEL_NAME


def train(
    photos: Photos,
    wish: Wish,
    out: Path,
    options: Sequence[str] = (),
    is_forced: bool = False,
    origin: Origin | None = None,
) -> Trained:
    """Scores a training on classes that it does not see, trains on all classes, and exports the better model.

    With too few classes or photos to hold half of the classes back (`can_hold_back`), none is: the one training is
    scored on photos that are held back of each class.

    Args:
        photos: Photos with labels; those without are left out.
        wish: What a person chose.
        out: The run is the folder `out / wish.name`.
        options: Further options of every door, such as --device.
        is_forced: Begin anew, and replace a finished run of other settings or of another folder or list.
        origin: Where the photos and their labels come from; None is their root and its folders.

    Raises:
        ValueError: too few labelled photos or classes; a run of this name has other settings, is of another folder or
            list, or is another recipe's; or it would lie among the photos.
        ValueError: a door failed; it has said why.
    """
    run = out / wish.name
    origin = origin or Origin(photos.root)
    check_enough(photos, origin.path)
    check_apart(run, origin.path)
    check_ours(run)
    if not is_forced:
        check_same(run, photos, origin, _recipes(wish))
    before = listed(run)
    link_photos(photos, run, origin)
    if not is_forced:
        _tell_changed(before, run, wish)
    options = [*options, "--data-root", str(run)]
    sizes = class_sizes(photos)
    if can_hold_back(sizes):
        print(f"1 of 2: how good is the training? Half of the {len(sizes):,} classes are held back.")
        return _trained_twice(run, wish, options, is_forced)
    counts = f"{len(sizes):,} classes and {sizes.sum():,} image files"
    print(folded(f"With {counts}, no class is held back, but some photos of each."))
    return _trained_once(run, wish, options, is_forced)


def _tell_changed(before: Mapping[str, str], run: Path, wish: Wish) -> None:
    """Prints that the photos are no longer those that the run was made of; `before` is what it listed."""
    for name, (recipe, *_) in _recipes(wish).items():
        out = run if name == RECIPE_FILE else run / SCORED
        if told := changed_photos(before, run, out, recipe):
            print(folded(told))
            return


def _recipes(wish: Wish) -> dict[str, list[Recipe]]:
    """The recipes that this may work by, by their files in the run."""
    exported = [exported_recipe(wish, best) for best in (TRAINED, REDUCED)]
    return {f"{SCORED}.py": [_held_back(wish)], RECIPE_FILE: exported}


def _held_back(wish: Wish) -> Recipe:
    """The recipe that is scored on half of the classes."""
    return replace(scored_recipe(wish, by_class=True), name=SCORED)


def class_sizes(photos: Photos) -> pd.Series:
    """Photos of each class, the largest first."""
    return photos.table[photos.table["label"] != ""]["label"].value_counts()


def can_hold_back(sizes: pd.Series) -> bool:
    """Whether half of the classes can be held back, whichever they are.

    `2 * FEWEST` classes must have two photos or more, so that the score is of `FEWEST`. The half that is trained on
    needs more than `DIM` photos for the PCA, even if all large classes are in the other half.

    Args:
        sizes: Photos of each class, the largest first.
    """
    return bool((sizes >= 2).sum() >= 2 * FEWEST and sizes.iloc[(len(sizes) + 1) // 2 :].sum() > DIM)


def _trained_twice(run: Path, wish: Wish, options: Sequence[str], is_forced: bool) -> Trained:
    """Scores a training on half of the classes, then trains on all."""
    _write_recipe(run / f"{SCORED}.py", _held_back(wish), "Half of the classes held back: how good is the training?")
    open_doors(SCORING, run / f"{SCORED}.py", run, options, is_forced)
    _tell_left_out(run / SCORED)
    found = _compared(run / SCORED / FOLDERS[7])
    final = _better(wish, found)
    _write_recipe(run / RECIPE_FILE, final, "Trained on all classes, and exported.")
    _keep_verdict(run, found, final, is_unseen=True)
    print("2 of 2: the model of all classes.")
    open_doors(tuple(DOORS), run / RECIPE_FILE, run.parent, options, is_forced)
    return Trained(run, found, True, final.embed.final.name)


def _trained_once(run: Path, wish: Wish, options: Sequence[str], is_forced: bool) -> Trained:
    """Trains on all classes, and scores on photos that were held back of each."""
    purpose = "Trained on all classes; some photos of each are held back."
    start = exported_recipe(wish, TRAINED)
    if not is_forced and (run / RECIPE_FILE).is_file() and _is_kept(run, exported_recipe(wish, REDUCED)):
        start = exported_recipe(wish, REDUCED)  # an earlier start found that training did not help
    _write_recipe(run / RECIPE_FILE, start, purpose)
    open_doors(SCORING, run / RECIPE_FILE, run.parent, options, is_forced)
    _tell_left_out(run)
    found = _compared(run / FOLDERS[7])
    final = _better(wish, found)
    _write_recipe(run / RECIPE_FILE, final, purpose)
    _keep_verdict(run, found, final, is_unseen=False)
    does = DOES | {7: "scores again, for the export"}  # where another setting is exported now
    open_doors(tuple(DOORS), run / RECIPE_FILE, run.parent, options, is_forced=False, does=does)
    return Trained(run, found, False, final.embed.final.name)


def _is_kept(run: Path, recipe: Recipe) -> bool:
    return load_recipe(str(run / RECIPE_FILE)) == recipe


def _compared(folder: Path) -> Paired:
    return paired(precisions(folder, REDUCED), precisions(folder, TRAINED))


def _better(wish: Wish, found: Paired) -> Recipe:
    """The recipe that exports the better of the two settings, by the scores of this start."""
    return exported_recipe(wish, TRAINED if found.difference > 0 else REDUCED)


def _keep_verdict(run: Path, found: Paired, final: Recipe, is_unseen: bool) -> None:
    """Writes what was found into the run, where report and model card read it."""
    mp5 = found.after if final.embed.final.name == TRAINED else found.before
    save_verdict(run, Verdict(verdict(found, is_unseen), mp5, found.n_classes, is_unseen, final.digest()))


def _tell_left_out(run: Path) -> None:
    """Prints how many photos could not be read, with the names of the first."""
    paths = [run / FOLDERS[number] / "problems.parquet" for number in (1, 3)]
    found = [pair for path in paths if path.is_file() for pair in pairs(pd.read_parquet(path))]
    print_problems([(path.removeprefix(LINKED), reason) for path, reason in found], "left out")


def check_enough(photos: Photos, source: Path) -> None:
    """Raises ValueError for photos that nothing can be trained on; the message says what works without training.

    Args:
        photos: With their labels.
        source: The folder or list that they were read from.
    """
    labelled = photos.table[photos.table["label"] != ""]
    name = shlex.quote(str(source))
    instead = f"guie look {name} and guie search {name} need no training"
    if labelled.empty:
        raise ValueError(
            f"no photo in {source} has a label: training needs a folder for each class, a CSV (path,label), or "
            f"--label-from; {instead}"
        )
    n_pairs = int((labelled["label"].value_counts() >= 4).sum())
    if labelled["label"].nunique() < 2 or n_pairs < 1 or len(labelled) < FEWEST_PHOTOS:
        raise ValueError(
            f"{source} has {len(labelled):,} labelled photos of {labelled['label'].nunique():,} classes, "
            f"{n_pairs:,} of them with four photos or more; training needs {FEWEST_PHOTOS} photos, two classes, and "
            f"one class of four; {instead}"
        )


def open_doors(
    numbers: Sequence[int],
    recipe: Path,
    out: Path,
    options: Sequence[str],
    is_forced: bool,
    does: Mapping[int, str] = DOES,
) -> None:
    """Opens doors one after the other, and prints what each does (`does`). Progress bars are shown; what else they say
    is in their log.txt.

    Raises:
        ValueError: a door failed; its last line, which is shown, says why.
    """
    # What may be replaced has been checked (`check_same`). The setting that is exported may change between two starts.
    how = "--force" if is_forced else "--replace"
    words = ["--recipe", str(recipe), "--out", str(out), *options, how]
    stages = load_recipe(str(recipe)).stages
    for number in numbers:
        started = time.time()
        command = [sys.executable, str(PROJECT / DOORS[number]), *words]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, errors="replace", check=False)
        if done.returncode:
            raise ValueError(f"door {number:02d} ended with status {done.returncode}; the line above says why")
        has_worked = "already done" not in done.stdout and (number not in PHASES or stages.of_phase(PHASES[number]))
        if has_worked:
            print(f"  {does[number]:<34} {time.time() - started:6.1f} s", flush=True)


def _write_recipe(path: Path, recipe: Recipe, purpose: str) -> None:
    """Writes a recipe that can be edited and run again; an equal file stays as it is."""
    words = ["./run.sh", "--recipe", path, "--data-root", path.parent, "--out", path.parent.parent]
    again = shlex.join(map(str, words))
    how = "To run it after an edit, add --name NAME (beside this run) or --replace (in its place)."
    text = recipe_text(recipe, f"{recipe.name}: made by guie train. {purpose}\n\n{how}\n\nRun: {again}\n")
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        with whole_file(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
