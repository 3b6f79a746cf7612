"""Trains and scores the folds of `guie foreign`. A fold is a run of doors 01 to 06 in a folder of its own; then its
model's retrieval results on the validation images of all domains are written.

A fold differs from the recipe in its seed and in `data.foreign_domain` alone. Doors 01 to 03 do not read
`data.foreign_domain`. So the images are read and packed once per seed, and every fold of that seed reuses them as
`guie.branch` does.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import logging
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from guie.branch import take_over
from guie.data.packed import PackedImages
from guie.dependencies import input_digests, read_values, settings_digest
from guie.done import MARK, is_done, mark_done, outputs_digest, read_done
from guie.launch import choose_device
from guie.options import parser
from guie.own.training import open_doors
from guie.recipe import Recipe
from guie.run import FOLDERS, Run, keep_freed_memory, seed_everything, set_up_logging
from guie.shown import FILE, ONLY

IMAGES = (1, 2, 3)  # the doors that the folds of a seed share
TRAINING = (4, 5, 6)
ANSWERS = "never_seen"  # in a fold's folder, beside those of its doors
REFIT_SHARE = "refit share"  # among what the mark of the answers says that they read
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """What all folds have in common.

    Attributes:
        recipe: The recipe without a foreign domain; its seed is ignored.
        file: The same recipe as a file, for the doors.
        folder: Of all folds.
        origins: Runs whose packed images, or whose folds' packed images, are reused where settings and inputs are the
            same.
        words: Options of every door, such as --device.
        data_root: See `Run`.
        device: cpu, cuda, cuda:1 or auto.
        share: Weight of the left-out domain's other images in the fit of an additional row's PCA; 0 makes no such row.
    """

    recipe: Recipe
    file: Path
    folder: Path
    origins: tuple[Path, ...]
    words: tuple[str, ...]
    data_root: Path
    device: str
    share: float

    def run(self, seed: int, domain: str = "") -> Run:
        """The run of a fold; without a domain, the run that packs the images of a seed."""
        name = run_name(seed, domain)
        own = replace(self.recipe, name=name, seed=seed, data=replace(self.recipe.data, foreign_domain=domain))
        return Run(own, self.data_root, self.folder / name)

    def options(self, run: Run) -> list[str]:
        """The options of the doors that make this run."""
        own = run.recipe
        sets = [f"seed={own.seed}", f"data.foreign_domain={own.data.foreign_domain}"]
        return [*(word for text in sets for word in ("--set", text)), "--name", own.name, *self.words]


@dataclass(frozen=True)
class Fold:
    """One domain left out, with one seed."""

    seed: int
    domain: str

    def __str__(self) -> str:
        """For people."""
        return f"seed {self.seed}, without {self.domain}"


def run_name(seed: int, domain: str = "") -> str:
    """The name of a fold's run, also of its folder; without a domain, the name of the run that packs a seed's
    images."""
    own = re.sub(r"[^A-Za-z0-9_-]", "_", domain)
    if own != domain:  # two domains may differ in such a character alone
        own += f"_{hashlib.sha256(domain.encode()).hexdigest()[:6]}"
    return f"seed{seed}_without_{own}" if domain else f"seed{seed}"


def packed_index(plan: Plan, seed: int) -> pd.DataFrame:
    """The index of a seed's packed images; where it is missing, doors 01 to 03 are run first.

    Raises:
        ValueError: a door failed; it has said why.
    """
    run = plan.run(seed)
    for origin in plan.origins:
        for folder in (origin, origin / plan.folder.name / run.out.name):
            _take_over_images(plan, run, folder)
    open_doors(IMAGES, plan.file, plan.folder, plan.options(run), is_forced=False)
    return PackedImages(run.folder(3)).index


def is_answered(plan: Plan, fold: Fold) -> bool:
    """Whether a fold is finished with the present settings and images."""
    run, images = (plan.run(fold.seed, domain) for domain in (fold.domain, ""))
    if read_done(run.out / ANSWERS) is None or not _has_images_of(run, images):
        return False
    with contextlib.suppress(ValueError):  # an earlier door is to run again
        return is_done(run.out / ANSWERS, answers_digest(run.recipe, plan.share), _inputs(plan, run))
    return False


def answer(plan: Plan, fold: Fold) -> None:
    """Trains a fold without its domain and writes its results on all domains, unless it is finished already.

    Raises:
        ValueError: a door failed; it has said why.
    """
    run, images = (plan.run(fold.seed, domain) for domain in (fold.domain, ""))
    _link_drawn(run, images)
    _take_over_images(plan, run, images.out)
    numbers = TRAINING if _has_images_of(run, images) else (*IMAGES, *TRAINING)
    open_doors(numbers, plan.file, plan.folder, plan.options(run), is_forced=False)
    _ask(plan, run)
    drop_cache(plan, fold)


def drop_cache(plan: Plan, fold: Fold) -> None:
    """Removes gigabytes that a finished fold does not need."""
    shutil.rmtree(plan.run(fold.seed, fold.domain).cache, ignore_errors=True)


def queries_of(plan: Plan, folds: list[Fold]) -> pd.DataFrame:
    """The answers of finished folds, with the columns seed and left_out."""
    from guie.evaluate.foreign import QUERIES

    parts = []
    for fold in folds:
        own = pd.read_parquet(plan.run(fold.seed, fold.domain).out / ANSWERS / QUERIES)
        parts.append(own.assign(seed=fold.seed, left_out=fold.domain))
    return pd.concat(parts, ignore_index=True)


def asked_of(plan: Plan, folds: list[Fold]) -> pd.DataFrame:
    """The queries of folds, known before training, with the columns seed and left_out; see
    `guie.evaluate.foreign.to_be_asked`."""
    from guie.evaluate.foreign import to_be_asked

    of_seed = {fold.seed: to_be_asked(PackedImages(plan.run(fold.seed).folder(3)).index) for fold in folds}
    parts = [of_seed[fold.seed].assign(seed=fold.seed, left_out=fold.domain) for fold in folds]
    return pd.concat(parts, ignore_index=True)


def _has_images_of(run: Run, images: Run) -> bool:
    """Whether a fold's packed images are those that its seed has now."""
    return outputs_digest(run.out / FOLDERS[3]) == outputs_digest(images.out / FOLDERS[3])


def _link_drawn(run: Run, images: Run) -> None:
    """A fold of drawn images reads those that were drawn for its seed."""
    if run.recipe.data.drawn is not None and not run.images_root.exists():
        run.out.mkdir(parents=True, exist_ok=True)
        run.images_root.symlink_to(Path("..") / images.out.name / images.images_root.name)


def _take_over_images(plan: Plan, run: Run, origin: Path) -> None:
    """Gives a run the packed images of another, as far as doors 01 to 03 would make them alike."""
    with contextlib.suppress(ValueError):  # an earlier door is to run again: the doors say so
        for number in IMAGES:
            is_needed = read_done(run.out / FOLDERS[number]) is None
            if not is_needed or not (origin / FOLDERS[number] / MARK).is_file():
                continue  # before what it depends on is asked for: that looks at every raw image
            inputs = input_digests(run, number, _arguments(plan, run))
            take_over(run, origin, number, settings_digest(run.recipe, number), inputs)


def _ask(plan: Plan, run: Run) -> None:
    from guie.evaluate.foreign import ask

    folder = run.out / ANSWERS
    settings, inputs, started = answers_digest(run.recipe, plan.share), _inputs(plan, run), time.time()
    if is_done(folder, settings, inputs):
        return
    folder.mkdir(exist_ok=True)
    (folder / "done.json").unlink(missing_ok=True)
    with _logged(folder):
        run = replace(run, device=choose_device(plan.device))
        seed_everything(run.recipe.seed)
        keep_freed_memory()
        metrics = ask(run, folder, plan.share)
        log.info("asked: mP@5 %.3f never seen, %.3f seen", metrics["never"], metrics["seen"])
    mark_done(run, folder, "answers", settings, inputs, started, metrics, answers_read(run.recipe, plan.share))
    print(f"  {'asks':<34} {time.time() - started:6.1f} s", flush=True)


@contextlib.contextmanager
def _logged(folder: Path) -> Iterator[None]:
    """While the block runs, log lines go to the folder's log.txt; warnings are shown in the terminal, too."""
    set_up_logging(folder)
    root = logging.getLogger("guie")
    for handler in root.handlers:
        if not isinstance(handler, logging.FileHandler):
            handler.setLevel(logging.WARNING)
    try:
        yield
    except Exception:
        root.info("the fold stopped here", exc_info=True, extra={ONLY: FILE})
        raise
    finally:
        set_up_logging(None)
        root.setLevel(logging.WARNING)


def answers_digest(recipe: Recipe, share: float) -> str:
    """A digest of all settings that decide a fold's results."""
    return f"{settings_digest(recipe, 7)} refit {share}"


def answers_read(recipe: Recipe, share: float) -> dict[str, Any]:
    """What `answers_digest` stands for, by name."""
    return read_values(recipe, 7) | {REFIT_SHARE: share}


def _inputs(plan: Plan, run: Run) -> dict[str, str]:
    """What the answers depend on; ValueError where an earlier door has not finished."""
    found = input_digests(run, 7, _arguments(plan, run))
    return {name: value for name, value in found.items() if name != "device"}


def _arguments(plan: Plan, run: Run) -> argparse.Namespace:
    words = ["--recipe", str(plan.file), "--out", str(plan.folder), *plan.options(run)]
    return parser(None).parse_args(words)
