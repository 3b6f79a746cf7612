"""`guie look`: what is in a folder of photos, and how well networks off the shelf find photos of the same label in it.

No training. The first look at 1,000 photos takes about a minute on two cores; a second one takes seconds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from guie.errors import run_to_the_end
from guie.examples import ExamplesFirst, given_path
from guie.launch import check_device_is_here
from guie.machine import check_paths
from guie.own.photos import Photos, read_photos
from guie.own.place import LOOK, LOOKED, place_of
from guie.run import PROJECT, default_out
from guie.shown import counted

EXAMPLES = """
guie look my_photos            folders are labels: shoes/a.jpg
guie look my_photos --towers   compare several networks
"""
DESCRIPTION = """\
Labels may also stand in a CSV (path,label), or in file names: with
--label-from '([^/_]+)_[^/]*$', sku12_front.jpg has the label sku12.

Writes a page (index.html) with a score, photos and their nearest, mix-ups,
labels worth a look, duplicates and files that cannot be read; and the same
as CSV lists. Nothing in the folder itself is changed.
"""


def parser() -> argparse.ArgumentParser:
    """The options."""
    p = ExamplesFirst(EXAMPLES, prog="guie look", usage="guie look FOLDER|CSV [options]", description=DESCRIPTION)
    p.add_argument(
        "photos",
        type=given_path,
        metavar="FOLDER|CSV",
        help="photos in folders, one for each label; or a list",
    )
    p.add_argument(
        "--towers",
        nargs="?",
        const="default",
        default="shipped",
        metavar="A,B,...",
        help="networks to compare: shipped, FILE, timm:NAME.TAG, timm:NAME=FILE, open_clip:NAME:TAG, each perhaps "
        "with @PX; without a value: the shipped one, weights found here, and four by tag",
    )
    p.add_argument(
        "--label-from",
        default="",
        metavar="REGEX",
        help="a regular expression with one group, searched in each path: the group is the label",
    )
    p.add_argument(
        "--out",
        type=given_path,
        metavar="DIR",
        help="results go to DIR/look (default: GUIE_OUT or artifacts/, and the name)",
    )
    p.add_argument("--device", default="auto", help="cpu, cuda, cuda:1 or auto (default)")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status. An error is reported in one line, see `guie.errors`."""
    arguments = parser().parse_args(argv)
    out = arguments.out or default_out()
    return run_to_the_end(lambda: look(arguments), "guie look", out, "the same command goes on")


def look(arguments: argparse.Namespace) -> None:
    """Looks, writes the page and the lists into the folder of the results, and prints the summary."""
    began = time.monotonic()
    folder = (arguments.out or place_of(arguments.photos, default_out())) / LOOK
    check_device_is_here(arguments.device)
    photos = read_photos(arguments.photos, arguments.label_from)
    print(f"{counted(len(photos.table), 'image file')} in {arguments.photos}", flush=True)
    from guie.done import locked
    from guie.embed.accelerator import make_accelerator
    from guie.launch import choose_device
    from guie.machine import check_writable
    from guie.own.found import look_at, write_lists
    from guie.own.look_page import write_page
    from guie.own.look_text import lines_of
    from guie.own.towers import towers

    check_apart(folder, arguments.photos)
    wanted = towers(arguments.towers.split(","), weights_folders(photos.root))
    check_writable(folder)
    with locked(folder):
        note(folder, arguments, photos)
        accelerator = make_accelerator(choose_device(arguments.device))
        found = look_at(photos, wanted, folder / "cache", accelerator)
        write_lists(found, folder)
        write_page(found, folder)
    print("\n".join(lines_of(found, folder, time.monotonic() - began)))


def check_apart(folder: Path, photos: Path, option: str = "--out") -> None:
    """Refuses results among the photos, and photos among the results.

    The first would be taken for photos by the next start. The second might be overwritten or removed.

    Args:
        folder: Where the results would go; it need not exist.
        photos: The user's folder or CSV.
        option: What chooses the folder, for the message.

    Raises:
        ValueError: one lies in the other, or the results' place is no UTF-8.
    """
    check_paths(**{option.removeprefix("--"): folder})
    place = folder.resolve()
    source = photos.resolve()
    if photos.is_dir() and place.is_relative_to(source):
        raise ValueError(f"the results in {folder} would lie among the photos; choose another place with {option}")
    if source.is_relative_to(place):
        raise ValueError(f"{photos} lies in {folder}, where the results would go; choose another place with {option}")


def weights_folders(root: Path) -> list[Path]:
    """Where files of weights are looked for: in the project's weights/, and in weights/ beside the photos."""
    return [PROJECT / "weights", root.resolve().parent / "weights"]


def note(folder: Path, arguments: argparse.Namespace, photos: Photos) -> None:
    """Writes which photos a folder of results belongs to."""
    from guie.files import save_json

    save_json(
        folder / LOOKED,
        {
            "photos": _shown(arguments.photos.resolve()),
            "label_from": arguments.label_from,
            "towers": arguments.towers,
            "n_photos": len(photos.table),
        },
    )


def _shown(path: Path) -> str:
    from guie.data.names import safe_name

    return safe_name(str(path))
