"""guie refit: an exported model whose projection is fitted to a person's own photos. No labels, no training."""

from __future__ import annotations

import argparse
import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from guie.errors import run_to_the_end
from guie.examples import ExamplesFirst
from guie.files import digest_of_file, save_json
from guie.machine import check_names, check_writable
from guie.own.look import check_apart
from guie.own.photos import Photos, pairs, print_problems, read_photos
from guie.run import FOLDERS, MODEL_NAME, commit, set_up_logging

if TYPE_CHECKING:  # at run time only where there is work: --help answers without torch
    from guie.embed.pca import PCA, Moments
    from guie.evaluate.kept import Kept
    from guie.evaluate.pairs import Paired
    from guie.export.refit import Refittable
    from guie.export.take_away import Exported

EXAMPLES = """
guie refit artifacts/demo my_photos --to my_refit
guie refit saved_model.pt my_photos --to my_refit
"""
DESCRIPTION = """\
Fits the last step of a trained model, the projection to 64 numbers, to your
own photos. No labels and no training: the networks stay as they are, and the
photos go through them once. It helps where your photos show other things than
the model was trained on. A hundred photos are few; take some hundreds.

First half of the photos fits a trial, and the other half tells what it keeps:
spectrum, the share of the variance among the photos that 64 numbers hold; and
neighbours, how many of the five nearest by all numbers are among the five
nearest by 64. Where photos have labels, half of the labels are left out of the
trial, and mP@5 is told, too. Then all photos are fitted on.

Writes saved_model.pt, checked, and refit.json; guie search my_photos --model
my_refit --serve shows what it finds. If the trial is worse than the
model as it is, nothing is written, unless you say --anyway."""
FEW = 400  # photos


def parser() -> argparse.ArgumentParser:
    """The options."""
    usage = "guie refit RUN|FILE FOLDER|CSV --to FOLDER [options]"
    p = ExamplesFirst(EXAMPLES, prog="guie refit", usage=usage, description=DESCRIPTION)
    p.add_argument("model", type=Path, metavar="RUN|FILE", help="a run, such as artifacts/demo, or a saved_model.pt")
    p.add_argument("photos", type=Path, metavar="FOLDER|CSV", help="your photos, with or without labels")
    p.add_argument("--to", type=Path, required=True, metavar="FOLDER", help="where to write")
    p.add_argument(
        "--share", type=_share, default=0.5, metavar="S",
        help="of your photos in what is fitted on; the rest is what the model was fitted on (default .5). A file "
        "without its run knows nothing of that: your photos count alone",
    )  # fmt: skip
    p.add_argument("--label-from", default="", metavar="REGEX", help="label, a group in each path")
    p.add_argument("--anyway", action="store_true", help="write it even if the trial is worse")
    p.add_argument("--device", default="auto", help="cpu, cuda, or auto (default)")
    return p


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise argparse.ArgumentTypeError(f"{text!r}: must be a number above 0 and at most 1")
    return share


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status. An error is reported in one line, see `guie.errors`."""
    arguments = parser().parse_args(argv)
    return run_to_the_end(lambda: refit(arguments), "guie refit", arguments.to, "the same command goes on")


def refit(arguments: argparse.Namespace) -> None:
    """Tries, tells and writes.

    Raises:
        ValueError: options that do not go together, too few photos, or a trial that is worse.
        FileNotFoundError: the model or the photos do not exist.
    """
    from guie.export.refit import open_model
    from guie.export.take_away import read_exported
    from guie.launch import choose_device

    set_up_logging(None)
    folder = arguments.to.resolve()
    check_names(to=folder)
    check_apart(folder, arguments.photos, "--to")
    exported = read_exported(arguments.model)
    if exported.run is not None and folder.is_relative_to(exported.run.out):
        raise ValueError(f"--to {arguments.to} is inside the run {exported.run.out}; choose a folder outside of it")
    check_writable(folder, "--to")
    model = open_model(exported.path, choose_device(arguments.device))
    photos = read_photos(arguments.photos, arguments.label_from)
    names, joined = _joined(model, photos, folder)
    fit = _fit_of(exported, arguments.share, len(model.matrix))
    labels = dict(zip(photos.table["path"], photos.table["label"], strict=True))
    trial = _trial(model, joined, [labels[name] for name in names], names, fit)
    _tell(trial, len(joined), fit)
    if trial["is_worse"] and not arguments.anyway:
        raise ValueError(
            "the projection fitted to these photos is no better on the half that it did not see: keep the model as it "
            "is, add photos, or say --anyway"
        )
    print(f"done: {_written(exported, model, joined, fit, trial, folder)}")


@dataclass(frozen=True)
class Fit:
    """How a projection is fitted to photos.

    Attributes:
        before: Of what the model was fitted on; None where it is not known.
        share: Of the photos in the mixture.
        whiten: See `guie.embed.pca.PCA`.
        dim: Numbers of an embedding.
    """

    before: Moments | None
    share: float
    whiten: float
    dim: int

    def pca(self, joined: np.ndarray) -> PCA:
        """The projection for photos whose joined outputs, float32 [n, D], are given."""
        from guie.embed.pca import mixed, moments_of, pca_of

        own = moments_of(joined)
        both = own if self.before is None else mixed([(own, self.share), (self.before, 1 - self.share)])
        return pca_of(both, self.dim, self.whiten)


def _fit_of(exported: Exported, share: float, dim: int) -> Fit:
    """With what the run's door 07 left; a file without its run counts the photos alone."""
    from guie.embed.pca import MOMENTS, Moments

    if exported.run is None:
        return Fit(None, 1.0, 0.0, dim)
    path, whiten = exported.run.out / FOLDERS[7] / MOMENTS, exported.run.recipe.embed.final.whiten
    return Fit(Moments.load(path), share, whiten, dim) if path.is_file() else Fit(None, 1.0, whiten, dim)


def _written(
    exported: Exported, model: Refittable, joined: np.ndarray, fit: Fit, trial: dict[str, Any], folder: Path
) -> Path:
    """Writes the model with the projection of all photos, and refit.json; returns the model's path."""
    from guie.export.parts import PARTS
    from guie.export.refit import save_refitted
    from guie.export.take_away import REFIT, odd_images

    path = folder / MODEL_NAME
    (folder / REFIT).unlink(missing_ok=True)
    difference = save_refitted(model, fit.pca(joined), list(odd_images().values()), path)
    done = {
        "model": str(exported.path),
        "digest_of_model": exported.digest,
        "run": None if exported.run is None else str(exported.run.out),
        "digest": digest_of_file(path),
        "n_photos": len(joined),
        "share": fit.share,
        "whiten": fit.whiten,
        "largest_difference": difference,
        "trial": trial,
        "commit": commit(),
    }
    save_json(folder / REFIT, done)
    shutil.rmtree(folder / PARTS, ignore_errors=True)  # only an interrupted start needs them
    return path


def _joined(model: Refittable, photos: Photos, folder: Path) -> tuple[list[str], np.ndarray]:
    """The paths of the photos that can be read, and what the networks give of them, float32 [n, D] of length one.

    Raises:
        ValueError: too few can be read.
    """
    from guie.embed.search import l2_normalised
    from guie.export.parts import PARTS, Photo, computed

    rows = [Photo(path, label, photos.file(path)) for path, label in photos.table.itertuples(index=False)]
    digest = hashlib.sha256(f"joined {digest_of_file(model.path)}".encode()).hexdigest()
    parts = computed(model.opened, model.width, digest, rows, folder / PARTS)
    reasons = [reason for part in parts for reason in part.reasons]
    problems = [(row.path, reason) for row, reason in zip(rows, reasons, strict=True) if reason]
    print_problems([*pairs(photos.problems), *problems], "not taken")
    joined = l2_normalised(np.concatenate([part.readable for part in parts]))
    needed = 2 * (len(model.matrix) + 1)
    if len(joined) < needed:
        raise ValueError(
            f"{len(joined)} photos can be read, and a trial on half of them needs {needed}; some hundreds are better"
        )
    return [row.path for row, reason in zip(rows, reasons, strict=True) if not reason], joined


def _trial(
    model: Refittable,
    joined: np.ndarray,
    labels: Sequence[str],
    names: Sequence[str],
    fit: Fit,
) -> dict[str, Any]:
    """Fits on half of the photos, and compares both projections on the other half."""
    from guie.evaluate.kept import kept

    is_labelled = len(set(labels)) > 2
    is_held_out = _second_half(labels if is_labelled else names)
    pca = fit.pca(joined[~is_held_out])
    rows = joined[is_held_out]
    found: dict[str, Kept] = {
        "before": kept(rows, model.matrix, model.embeddings(rows)),
        "after": kept(rows, pca.matrix, model.embeddings(rows, pca)),
    }
    compared = _compared(model, rows, [label for label, out in zip(labels, is_held_out, strict=True) if out], pca)
    gained = found["after"].neighbours - found["before"].neighbours
    return {
        "n_fitted": int((~is_held_out).sum()),
        "n_held_out": int(is_held_out.sum()),
        "held_out_by": "label" if is_labelled else "photo",
        **{name: asdict(own) for name, own in found.items()},
        "mp5": compared if is_labelled else None,
        "is_worse": gained <= 0,
    }


def _second_half(names: Sequence[str]) -> np.ndarray:
    """bool [n]: about half of the distinct names, in an order that follows from the names alone."""
    distinct = sorted(set(names), key=lambda name: hashlib.sha256(name.encode(errors="surrogateescape")).digest())
    chosen = set(distinct[: len(distinct) // 2])
    return np.array([name in chosen for name in names])


def _compared(model: Refittable, rows: np.ndarray, labels: Sequence[str], pca: PCA) -> dict[str, float]:
    """mP@5 of the labels with all numbers, before and after; the interval and the test of the difference."""
    import pandas as pd

    from guie.embed.retrieval import retrieve
    from guie.evaluate.pairs import paired

    classes = np.unique(np.array(labels), return_inverse=True)[1]

    def asked(embeddings: np.ndarray) -> pd.DataFrame:
        precision = retrieve(embeddings, classes).precision
        columns = {"image_id": np.arange(len(rows)), "class_id": classes, "domain": "", "precision": precision}
        return pd.DataFrame(columns)

    before = asked(model.embeddings(rows))
    full = paired(before, asked(rows))
    found: Paired = paired(before, asked(model.embeddings(rows, pca)))
    return {"full_width": full.after, **asdict(found)}


def _tell(trial: dict[str, Any], n_photos: int, fit: Fit) -> None:
    """Prints the trial as a table."""
    print(f"{n_photos} photos; {trial['n_fitted']} fit the trial, {trial['n_held_out']} tell")
    if fit.before is None:
        print("what the model was fitted on is not known here: the photos count alone")
    else:
        print(f"of what is fitted on, the photos are {fit.share:.0%}")
    if n_photos < FEW:
        print(f"{n_photos} photos are few: with some hundreds the gain is surer")
    print(f"{'':<18}{'before':>8}{'after':>8}{'all numbers':>13}")
    for name in ("spectrum", "neighbours"):
        old, new = (trial[when][name] for when in ("before", "after"))
        print(f"{name + ' kept':<18}{_score(old):>8}{_score(new):>8}{_score(1.0):>13}")
    if (own := trial["mp5"]) is not None:
        print(f"{'mP@5':<18}{_score(own['before']):>8}{_score(own['after']):>8}{_score(own['full_width']):>13}")
        change = own["after"] - own["before"]
        if np.isfinite(own["low"]):
            between = f"95 % interval {own['low']:+.3f} to {own['high']:+.3f}, p = {own['p']:.3f}"
            print(f"mP@5 {change:+.3f} ({between}, {own['n_classes']} unseen labels)")


def _score(value: float) -> str:
    return f"{value:.3f}".lstrip("0") if 0 <= value < 1 else f"{value:.3f}"
