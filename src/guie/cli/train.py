"""The command `guie train`: an embedding for a person's own photos."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace

from guie.errors import run_to_the_end
from guie.examples import ExamplesFirst, given_path
from guie.launch import check_device_is_here, check_tracker
from guie.machine import check_names
from guie.own.linked import Origin
from guie.own.look import check_apart, weights_folders
from guie.own.photos import Photos, pairs, print_problems, read_photos
from guie.own.place import place_of
from guie.own.recipes import Wish
from guie.own.towers import shipped_weights, tower
from guie.own.training import train
from guie.own.verdict import verdict
from guie.recipe import Recipe, Stage
from guie.run import default_out
from guie.settings.fields import check_range, range_of
from guie.settings.names import check_name
from guie.shown import counted, folded, with_scores

EXAMPLES = """
guie train my_photos              classes are the folders: shoes/a.jpg
guie train my_photos --backbone   the network trains, too: better, and slower
"""
DESCRIPTION = """\
Trains an embedding for your own photos, tells whether that helped, and exports
the better model. First it trains on half of the classes and is scored on the
other half; then it trains on all. With fewer than 60 classes, or too few
photos, no class is held back, but some photos of each. Photos that cannot be
read are left out and named. By default only the head trains, on two cores.

Leaves in artifacts/NAME: 08_export/saved_model.pt, 09_report/index.html, and
recipe.py. You may edit that and run it by the command that stands in it, with
--name NAME (beside this run) or --replace (in its place). A finished run of
other settings, of another folder or list, or of another --label-from is never
replaced unless --force says so. Photos that were added, changed or removed are
no other setting: a line tells of them, and what depends on them is made again.
"""


def parser() -> argparse.ArgumentParser:
    """The options."""
    p = ExamplesFirst(EXAMPLES, prog="guie train", usage="guie train FOLDER|CSV [options]", description=DESCRIPTION)
    p.add_argument(
        "photos",
        type=given_path,
        metavar="FOLDER|CSV",
        help="a folder with a folder for each class, or a CSV: path,label",
    )
    p.add_argument(
        "--label-from", default="", metavar="REGEX", help="labels from file names: one group, e.g. '([a-z0-9]+)_'"
    )
    p.add_argument("--backbone", action="store_true", help="train the network, too, not only the head")
    p.add_argument(
        "--tower",
        default="",
        metavar="TOWER",
        help="a pretrained network, as guie look --towers names one (default: the shipped ViT)",
    )
    p.add_argument(
        "--px", type=int, help=f"side of the square the network sees (default: {Wish.image_px}, or --tower's)"
    )
    p.add_argument("--name", help="of the run (default: the folder's)")
    p.add_argument("--out", type=given_path, default=default_out(), help="where the run goes (default: artifacts/)")
    p.add_argument("--seed", type=int, default=0, help="decides which classes are held back (default: 0)")
    p.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, or auto (default)")
    p.add_argument(
        "--tracker", default="tensorboard", metavar="NAME", help="of the curves: tensorboard (default), wandb or mlflow"
    )
    p.add_argument("--force", action="store_true", help="begin anew, also in place of a finished run")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `guie train` and returns the exit status; see `guie.errors`."""
    arguments = parser().parse_args(argv)
    return run_to_the_end(lambda: _train(arguments), "guie train", arguments.out, "to go on: the same command")


def _train(arguments: argparse.Namespace) -> None:
    check_tracker(arguments.tracker)
    check_device_is_here(arguments.device)
    _check_values(arguments)
    name = arguments.name or place_of(arguments.photos, arguments.out).name
    check_apart(arguments.out / name, arguments.photos)
    photos = read_photos(arguments.photos, arguments.label_from)
    wish = _with_tower(Wish(name, has_backbone=arguments.backbone, seed=arguments.seed), arguments.tower, photos)
    if arguments.px is not None:
        wish = replace(wish, image_px=arguments.px)
    print(f"{counted(len(photos.table), 'image file')} in {arguments.photos}")
    print_problems(pairs(photos.problems), "not taken")
    origin = Origin(arguments.photos, arguments.label_from)
    options = ["--device", arguments.device, "--tracker", arguments.tracker]
    result = train(photos, wish, arguments.out.resolve(), options, arguments.force, origin)
    print(f"\n{with_scores(folded(verdict(result.found, result.is_unseen)))}")
    print(f"Exported: {result.exported}, {result.model}")
    print(f"Report:   {result.run / '09_report/index.html'}")


def _check_values(arguments: argparse.Namespace) -> None:
    """Raises ValueError for a value that no recipe or run can have; the message names its option."""
    if arguments.name is not None:
        check_name("--name", arguments.name)
    check_names(out=arguments.out.resolve())
    for kind, field, option, value in (
        (Stage, "image_px", "--px", arguments.px),
        (Recipe, "seed", "--seed", arguments.seed),
    ):
        check_range(option, value, *range_of(kind, field))


def _with_tower(wish: Wish, text: str, photos: Photos) -> Wish:
    """The wish with the network that --tower names, at the size that it sees; unchanged where the option is absent.

    Raises:
        ValueError: there is no such network.
    """
    if not text:
        return wish
    try:
        found = tower(text, weights_folders(photos.root))
    except ValueError as error:
        raise ValueError(str(error).replace("--towers", "--tower", 1)) from error
    if found.weights in (None, shipped_weights()):
        return replace(wish, tower=found.model, image_px=found.image_px)
    weights = str(found.weights)
    own = weights if found.model.own_normalisation_of else ""
    return replace(wish, tower=replace(found.model, weights=weights, own_normalisation_of=own), image_px=found.image_px)
