"""The command `guie refit`: fits the projection of an exported model to a user's photos, without labels or training."""

from __future__ import annotations

import argparse
import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from guie.data.names import safe_name
from guie.errors import run_to_the_end
from guie.examples import ExamplesFirst
from guie.files import digest_of_file, save_json, staged
from guie.launch import check_device
from guie.machine import check_names, check_writable
from guie.options import REFIT_SHARE, share
from guie.own.look import check_apart
from guie.own.photos import Photos, pairs, print_problems, read_photos
from guie.run import FOLDERS, MODEL_NAME, commit, set_up_logging

if TYPE_CHECKING:  # at run time only where there is work: --help answers without torch
    from guie.embed.pca import Moments
    from guie.embed.projection import Projection
    from guie.evaluate.trial import Trial
    from guie.export.refit import Refittable
    from guie.export.take_away import Exported

EXAMPLES = """
guie refit artifacts/demo my_photos --to my_refit
guie refit saved_model.pt my_photos --to my_refit
"""
DESCRIPTION = """\
Fits the last step of a trained model, the projection to its embedding, to your
own photos. No labels and no training: the networks stay as they are, and the
photos go through them once. It helps where your photos show other things than
the model was trained on. It needs 130 photos for an embedding of 64 numbers
(twice as many photos as numbers, and two); some hundreds are better. The model
must end in a PCA, as ensembles do: the head of guie train is fitted to your
photos by training.

First a trial projection is fitted to half of the photos and measured on the
other half: spectrum is the share of the variance among the photos that the
embedding keeps; neighbours is the share of each photo's five nearest by all
numbers that are among its five nearest by the embedding, both about the mean
that the projection takes away. If photos have labels, whole labels are left out
of the trial, and mP@5 is printed, too. Then the projection is fitted to all
photos. A refit is fitted anew: the photos of an earlier one no longer count. If
it is of the same folder, the trial compares with the run that it was made of.

Writes saved_model.pt, checked, and refit.json; guie search my_photos --model
my_refit --serve shows what it finds. If the trial is no better than what it is
compared with, nothing is written, unless you say --anyway."""
FEW = 400  # photos


def parser() -> argparse.ArgumentParser:
    """The options."""
    usage = "guie refit RUN|FILE FOLDER|CSV --to FOLDER [options]"
    p = ExamplesFirst(EXAMPLES, prog="guie refit", usage=usage, description=DESCRIPTION)
    p.add_argument("model", type=Path, metavar="RUN|FILE", help="a run, such as artifacts/demo, or a saved_model.pt")
    p.add_argument(
        "photos",
        type=Path,
        metavar="FOLDER|CSV",
        help="your photos, with or without labels; a CSV needs the column path",
    )
    p.add_argument("--to", type=Path, required=True, metavar="FOLDER", help="where to write")
    p.add_argument(
        "--share", type=share, default=REFIT_SHARE, metavar="S",
        help="weight of your photos in the fit; the rest is the weight of the data that the model was fitted on "
        f"(default {REFIT_SHARE:g}). The larger it is, the more is gained on photos like yours, and the more is lost "
        "elsewhere: --share .5 loses little. Of a file without its run the "
        "photos count alone, and the result is not whitened",
    )  # fmt: skip
    p.add_argument("--label-from", default="", metavar="REGEX", help="searched in paths; its group is the label")
    p.add_argument("--anyway", action="store_true", help="write it even if the trial is worse")
    p.add_argument("--device", default="auto", help="cpu, cuda, or auto (default)")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status. An error is reported in one line, see `guie.errors`."""
    arguments = parser().parse_args(argv)
    return run_to_the_end(lambda: refit(arguments), "guie refit", arguments.to, "the same command goes on")


def refit(arguments: argparse.Namespace) -> None:
    """Fits a trial projection, prints how it compares, and writes the refitted model.

    Raises:
        ValueError: options that do not go together, too few photos, or a trial that is no better.
        FileNotFoundError: the model or the photos do not exist.
    """
    from guie.evaluate.trial import run_trial
    from guie.export.refit import open_model
    from guie.export.take_away import read_exported
    from guie.launch import choose_device

    set_up_logging(None)
    check_device(arguments.device)
    folder = arguments.to.resolve()
    check_names(to=folder)
    check_apart(folder, arguments.photos, "--to")
    exported = read_exported(arguments.model)
    _check_place(folder, exported, arguments.photos)
    check_writable(folder, "--to")
    model = open_model(exported.path, choose_device(arguments.device))
    has_seen = _photos_of(exported) == safe_name(str(arguments.photos.resolve()))
    fit = _fit_of(exported, model, arguments.share, has_seen)
    photos = read_photos(arguments.photos, arguments.label_from, needs_labels=False)
    names, joined = _joined(model, photos, folder)
    labels = dict(zip(photos.table["path"], photos.table["label"], strict=True))
    trial = run_trial(
        joined, names, [labels[name] for name in names], fit.compared, lambda rows: fit.projection(model, rows)
    )
    _tell_of_before(exported, has_seen)
    _tell(trial, len(joined), fit, loses_whitening=model.is_whitened and not fit.whiten)
    if trial.is_worse and not arguments.anyway:
        raise ValueError(
            "the projection fitted to these photos is no better on the half that it did not see: keep the model as it "
            "is, add photos, or say --anyway (what was computed of the photos is kept for that)"
        )
    print(f"done: {_written(exported, model, joined, fit, trial, folder, arguments.photos)}")


def _check_place(folder: Path, exported: Exported, photos: Path) -> None:
    """Raises ValueError where results would replace something else: the model itself, a run, or another refit."""
    from guie.export.take_away import REFIT, read_refit

    if exported.run is not None and folder.is_relative_to(exported.run.out):
        raise ValueError(f"--to {folder} is inside the run {exported.run.out}; choose a folder outside of it")
    file, note = folder / MODEL_NAME, folder / REFIT
    if not file.exists():
        return
    if file == exported.path:
        raise ValueError(f"--to {folder} holds the model itself, which stays as it is; choose another folder")
    made = read_refit(note) if note.is_file() else {}
    if (made.get("digest_of_model"), made.get("photos")) != (exported.digest, safe_name(str(photos.resolve()))):
        what = f"a refit of {made['model']} to {made.get('photos')}" if made else f"a {MODEL_NAME} that is no refit"
        raise ValueError(f"--to {folder} holds {what}; choose another folder, or move that away")


@dataclass(frozen=True)
class Fit:
    """How a projection is fitted to photos.

    Attributes:
        before: Of what the model was fitted on; None where it is not known.
        share: Of the photos in the mixture.
        whiten: See `guie.embed.pca.PCA`.
        compared: What the trial compares with: the model's own projection, or that of its run if the model was
            refitted to these photos already.
    """

    before: Moments | None
    share: float
    whiten: float
    compared: Projection

    def projection(self, model: Refittable, joined: np.ndarray) -> Projection:
        """The projection for photos whose joined outputs, float32 [n, D], are given."""
        from guie.embed.pca import mixed, moments_of, pca_of

        own = moments_of(joined)
        both = own if self.before is None else mixed([(own, self.share), (self.before, 1 - self.share)])
        return model.projection.of(pca_of(both, model.projection.dim, self.whiten))


def _photos_of(exported: Exported) -> str | None:
    """The folder or list that a refit was made of; None of another model."""
    from guie.export.take_away import REFIT, read_refit

    return read_refit(exported.path.parent / REFIT)["photos"] if exported.n_refitted else None


def _fit_of(exported: Exported, model: Refittable, share: float, has_seen: bool) -> Fit:
    """With what the run's door 07 left; of a file without its run the photos count alone, without whitening.

    Args:
        exported: The model.
        model: The same, opened.
        share: Weight of the photos.
        has_seen: Whether the model is a refit to the same photos.

    Raises:
        ValueError: the file was exported before door 07 fitted another projection, or is a refit of a run that was made
            anew since.
    """
    from guie.embed.pca import MOMENTS, PCA, Moments

    run = exported.run
    if run is None:
        return Fit(None, 1.0, 0.0, model.projection)
    folder, whiten = run.out / FOLDERS[7], run.recipe.embed.final.whiten
    own, exports = exported.path, model
    if exported.n_refitted:
        own = run.out / FOLDERS[8] / MODEL_NAME
        exports = _run_of_refit(model, own)
    fitted, matrix = PCA.load(folder / "pca.npz").matrix, exports.projection.matrix
    if fitted.shape != matrix.shape or not np.allclose(fitted, matrix, atol=1e-4):
        raise ValueError(
            f"{own} has another projection than {folder / 'pca.npz'}: door 07 ran again since; run door 08 again"
        )
    if exports.projection.dim != model.projection.dim:
        raise ValueError(
            f"{model.path} has {model.projection.dim} numbers, and its run exports {exports.projection.dim} since: "
            "name the run itself"
        )
    path = folder / MOMENTS
    moments = Moments.load(path) if path.is_file() else None
    compared = exports.projection if has_seen else model.projection
    return Fit(moments, 1.0 if moments is None else share, whiten, compared)


def _run_of_refit(refitted: Refittable, own: Path) -> Refittable:
    """Opens the saved model of the run that a refit started from. Both must have the same networks: the run left the
    moments of the outputs of its networks.

    Args:
        refitted: The refit's saved_model.pt.
        own: The run's.

    Raises:
        ValueError: the run has been trained or exported anew since, or its file is gone.
    """
    from guie.export.refit import has_equal_networks, open_model
    from guie.export.take_away import odd_images

    if own.is_file():
        opened = open_model(own, refitted.device)
        if has_equal_networks(refitted, opened, list(odd_images().values())):
            return opened
    raise ValueError(
        f"{refitted.path} has other networks than its run, whose {own} was made anew since or is gone: name the run "
        f"itself, or a copy of the refit's {MODEL_NAME} in a folder without refit.json, of which the photos count alone"
    )


def _written(
    exported: Exported,
    model: Refittable,
    joined: np.ndarray,
    fit: Fit,
    trial: Trial,
    folder: Path,
    photos: Path,
) -> Path:
    """Writes the model with the projection of all photos and refit.json, both or neither; returns the model's path."""
    from guie.export.parts import PARTS
    from guie.export.refit import save_refitted
    from guie.export.take_away import REFIT, odd_images

    done = {
        "model": str(exported.path),
        "digest_of_model": exported.digest,
        "photos": safe_name(str(photos.resolve())),
        "run": None if exported.run is None else str(exported.run.out),
        "n_photos": len(joined),
        "share": fit.share,
        "whiten": fit.whiten,
        "trial": trial.as_data(),
        "commit": commit(),
    }
    with staged(folder, REFIT, "--to") as scratch:
        path = scratch / MODEL_NAME
        difference = save_refitted(model, fit.projection(model, joined), list(odd_images().values()), path)
        save_json(scratch / REFIT, done | {"digest": digest_of_file(path), "largest_difference": difference})
    shutil.rmtree(folder / PARTS, ignore_errors=True)  # only an interrupted start needs them
    return folder / MODEL_NAME


def _joined(model: Refittable, photos: Photos, folder: Path) -> tuple[list[str], np.ndarray]:
    """The paths of the photos that can be read, and what the networks give of them, float32 [n, D] of length one.

    Raises:
        ValueError: too few can be read.
    """
    from guie.embed.search import l2_normalised
    from guie.export.parts import PARTS, Photo, computed

    rows = [Photo(path, label, photos.file(path)) for path, label in photos.table.itertuples(index=False)]
    needed = 2 * (model.projection.dim + 1)
    few = f"but a refit with its trial needs {needed}; some hundreds are better"
    if len(rows) < needed:
        raise ValueError(f"the number of photos is {len(rows)}, {few}")
    digest = hashlib.sha256(f"joined {digest_of_file(model.path)}".encode()).hexdigest()
    parts = computed(model.opened, model.width, digest, rows, folder / PARTS)
    reasons = [reason for part in parts for reason in part.reasons]
    problems = [(row.path, reason) for row, reason in zip(rows, reasons, strict=True) if reason]
    print_problems([*pairs(photos.problems), *problems], "not taken")
    joined = l2_normalised(np.concatenate([part.readable for part in parts]))
    if len(joined) < needed:
        raise ValueError(f"the number of photos that can be read is {len(joined)}, {few}")
    return [row.path for row, reason in zip(rows, reasons, strict=True) if not reason], joined


def _tell_of_before(exported: Exported, has_seen: bool) -> None:
    """Says what `before` in the table is, where it may have been fitted on these photos."""
    from guie.settings.fit import TRAINING

    run = exported.run
    if has_seen and run is not None:
        print("before: the run's own projection, as the refit has seen these photos")
    elif exported.n_refitted:
        print("before: a refit; if it was fitted to these photos, its numbers are too good")
    elif run is not None and run.recipe.embed.fit_on_of(run.recipe.embed.final) != TRAINING:
        print("before: fitted on what fit_on names; if these photos are among it, its numbers")
        print("are too good")


def _tell(trial: Trial, n_photos: int, fit: Fit, loses_whitening: bool) -> None:
    """Prints the trial as a table."""
    print(f"{n_photos} photos; {trial.n_fitted} fit the trial, {trial.n_held_out} tell")
    if fit.before is None:
        print("what the model was fitted on is not known here: the photos count alone")
        if loses_whitening:
            print("the model is whitened, but its file does not hold the exponent: the refit is not")
            print("whitened. If you have the run, name it instead of the file to keep the whitening")
    else:
        print(f"of what is fitted on, the photos are {fit.share:.0%}")
    if n_photos < FEW:
        print(f"{n_photos} photos are few: with some hundreds the gain is surer")
    print(f"{'':<18}{'before':>8}{'after':>8}{'all numbers':>13}")
    for name in ("spectrum", "neighbours"):
        old, new = (getattr(own, name) for own in (trial.before, trial.after))
        print(f"{name + ' kept':<18}{_score(old):>8}{_score(new):>8}{_score(1.0):>13}")
    if (own := trial.labels) is not None:
        print(f"{'mP@5':<18}{_score(own.before):>8}{_score(own.after):>8}{_score(trial.full_width):>13}")
        if np.isfinite(own.low):
            between = f"95 % interval {own.low:+.3f} to {own.high:+.3f}, p = {own.p:.3f}"
            print(f"mP@5 {own.difference:+.3f} ({between}, {own.n_classes} unseen labels)")


def _score(value: float) -> str:
    return f"{value:.3f}".lstrip("0") if 0 <= value < 1 else f"{value:.3f}"
