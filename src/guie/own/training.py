"""`guie train`: photos in, a scored and an exported model out, by the numbered doors."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from guie.dependencies import PHASES
from guie.evaluate.pairs import Paired, paired, precisions
from guie.files import whole_file
from guie.own.photos import Photos
from guie.own.recipe_text import recipe_text
from guie.own.recipes import DIM, PHOTOS, REDUCED, TRAINED, Wish, exported_recipe, scored_recipe
from guie.own.verdict import FEWEST
from guie.recipe import Recipe, load_recipe
from guie.run import DOORS, FOLDERS, PROJECT

SCORED = "unseen"  # name and folder of the run that is only scored
ALL = "all"  # the link to the person's own folder
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
log = logging.getLogger(__name__)


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
        return self.run / FOLDERS[8] / "saved_model.pt"


def train(photos: Photos, wish: Wish, out: Path, options: Sequence[str] = (), is_forced: bool = False) -> Trained:
    """Scores a training on classes that it does not see, trains on all classes, and exports the better model.

    With fewer than `2 * FEWEST` classes of two photos or more, none is held back: the one training is scored on photos
    that are held back of each class.

    Args:
        photos: Photos with labels; those without are left out.
        wish: What a person chose.
        out: The run is the folder `out / wish.name`.
        options: Further options of every door, such as --device.
        is_forced: Begin anew, and replace a finished run of other settings.

    Raises:
        ValueError: too few labelled photos or classes; or a run of this name has other settings or other photos.
        ValueError: a door failed; it has said why.
    """
    check_enough(photos)
    run = out / wish.name
    n_classes = int((photos.table[photos.table["label"] != ""]["label"].value_counts() >= 2).sum())
    if not is_forced:
        _check_same(run, photos, exported_recipe(wish, TRAINED))
    link_photos(photos, run)
    options = [*options, "--data-root", str(run)]
    if n_classes >= 2 * FEWEST:
        print(f"1 of 2: how good is the training? Half of the {n_classes:,} classes are held back.")
        return _trained_twice(run, wish, options, is_forced)
    print(f"With {n_classes:,} classes of two photos or more, none is held back, but some photos of each.")
    return _trained_once(run, wish, options, is_forced)


def _trained_twice(run: Path, wish: Wish, options: Sequence[str], is_forced: bool) -> Trained:
    """Scores a training on half of the classes, then trains on all."""
    scored = replace(scored_recipe(wish, by_class=True), name=SCORED)
    _write_recipe(run / f"{SCORED}.py", scored, "Half of the classes held back: how good is the training?")
    open_doors(SCORING, run / f"{SCORED}.py", run, options, is_forced)
    found = _compared(run / SCORED / FOLDERS[7])
    final = exported_recipe(wish, TRAINED if found.difference > 0 else REDUCED)
    _write_recipe(run / "recipe.py", final, "Trained on all classes, and exported.")
    print("2 of 2: the model of all classes.")
    open_doors(tuple(DOORS), run / "recipe.py", run.parent, options, is_forced)
    return Trained(run, found, True, final.embed.final.name)


def _trained_once(run: Path, wish: Wish, options: Sequence[str], is_forced: bool) -> Trained:
    """Trains on all classes, and scores on photos that were held back of each."""
    final = exported_recipe(wish, TRAINED)
    if not is_forced and (run / "recipe.py").is_file() and _is_kept(run, exported_recipe(wish, REDUCED)):
        final = exported_recipe(wish, REDUCED)  # an earlier start found that training did not help
    _write_recipe(run / "recipe.py", final, "Trained on all classes; some photos of each are held back.")
    open_doors(SCORING, run / "recipe.py", run.parent, options, is_forced)
    found = _compared(run / FOLDERS[7])
    if found.difference <= 0:
        final = exported_recipe(wish, REDUCED)
        _write_recipe(run / "recipe.py", final, "Trained on all classes; some photos of each are held back.")
    open_doors(tuple(DOORS), run / "recipe.py", run.parent, options, is_forced=False)
    return Trained(run, found, False, final.embed.final.name)


def _is_kept(run: Path, recipe: Recipe) -> bool:
    return load_recipe(str(run / "recipe.py")) == recipe


def _compared(folder: Path) -> Paired:
    return paired(precisions(folder, REDUCED), precisions(folder, TRAINED))


def check_enough(photos: Photos) -> None:
    """Raises ValueError for photos that nothing can be trained on; the message says what works without training."""
    labelled = photos.table[photos.table["label"] != ""]
    instead = f"guie look {photos.root} and guie search {photos.root} need no training"
    if labelled.empty:
        raise ValueError(
            f"no photo in {photos.root} has a label: training needs a folder for each class, a CSV (path,label), or "
            f"--label-from; {instead}"
        )
    n_pairs = int((labelled["label"].value_counts() >= 4).sum())
    if labelled["label"].nunique() < 2 or n_pairs < 1 or len(labelled) < FEWEST_PHOTOS:
        raise ValueError(
            f"{photos.root} has {len(labelled):,} labelled photos of {labelled['label'].nunique():,} classes, "
            f"{n_pairs:,} of them with four photos or more; training needs {FEWEST_PHOTOS} photos, two classes, and "
            f"one class of four; {instead}"
        )


def link_photos(photos: Photos, run: Path) -> None:
    """Writes `photos/images.csv` into the run, with a link to the person's folder, which stays as it is.

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
    labelled = photos.table[photos.table["label"] != ""]
    table = labelled.assign(path=f"{ALL}/" + labelled["path"])[["path", "label"]]
    text = table.to_csv(index=False)
    if not (folder / "images.csv").is_file() or (folder / "images.csv").read_text(encoding="utf-8") != text:
        with whole_file(folder / "images.csv") as temporary:
            temporary.write_text(text, encoding="utf-8")


def open_doors(numbers: Sequence[int], recipe: Path, out: Path, options: Sequence[str], is_forced: bool) -> None:
    """Opens doors one after the other. Progress bars are shown; what else they say is in their log.txt.

    Raises:
        ValueError: a door failed; its last line, which is shown, says why.
    """
    words = ["--recipe", str(recipe), "--out", str(out), *options, *(["--force"] if is_forced else [])]
    stages = load_recipe(str(recipe)).stages
    for number in numbers:
        started = time.time()
        command = [sys.executable, str(PROJECT / DOORS[number]), *words]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, errors="replace", check=False)
        if done.returncode:
            raise ValueError(f"door {number:02d} ended with status {done.returncode}; the line above says why")
        has_worked = "already done" not in done.stdout and (number not in PHASES or stages.of_phase(PHASES[number]))
        if has_worked:
            print(f"  {DOES[number]:<34} {time.time() - started:6.1f} s", flush=True)


def _write_recipe(path: Path, recipe: Recipe, purpose: str) -> None:
    """Writes a recipe that can be edited and run again; an equal file stays as it is."""
    again = f"./run.sh --recipe {path} --data-root {path.parent} --out {path.parent.parent}"
    text = recipe_text(recipe, f"{recipe.name}: made by guie train. {purpose}\n\nRun: {again}\n")
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        with whole_file(path) as temporary:
            temporary.write_text(text, encoding="utf-8")


def _check_same(run: Path, photos: Photos, final: Recipe) -> None:
    """Raises ValueError where a finished run of this name was made with other settings or of another folder."""
    link = run / PHOTOS / ALL
    if link.is_symlink() and link.readlink() != photos.root.resolve():
        raise ValueError(f"the run {run} is of {link.readlink()}; give this one another --name, or --force")
    if not (run / FOLDERS[8] / "done.json").is_file():
        return
    before = load_recipe(str(run / "recipe.py"))
    same = replace(before, embed=final.embed)  # which setting is exported follows from the scores
    if same != final:
        raise ValueError(f"the finished run {run} has other settings; give this one another --name, or --force")
