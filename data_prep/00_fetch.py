"""Door 00: fetches a public data set, or lists those that are known.

Without a name it lists each set with its size, licence, page and folder. With
a name it downloads the set if that is openly hosted: it continues after a
broken connection, checks the checksums and unpacks. With --kaggle it downloads
the set's copy on Kaggle, by kagglehub and with an account there. Otherwise it
says what to do.

Run     python data_prep/00_fetch.py
        python data_prep/00_fetch.py gldv2 --only 'images_00?.tar'
        python data_prep/00_fetch.py products10k --kaggle
Writes  <data root>/<folder>/, with marks of the finished files in .fetched/
"""

import argparse
import os
import sys
from pathlib import Path

from guie.errors import run_to_the_end
from guie.examples import ExamplesFirst, parted
from guie.run import set_up_logging


def main() -> int:
    """Exit status 0; 2 after an error told in one line; 130 when interrupted."""
    examples, rest = parted(__doc__)
    p = ExamplesFirst(examples, description=rest)
    p.add_argument("kind", nargs="?", help="the set, by its name in the list")
    p.add_argument(
        "--data-root",
        type=Path,
        default=Path(os.environ.get("GUIE_DATA", "data")),
        help="folder of the raw data sets (default: GUIE_DATA or ./data)",
    )
    p.add_argument(
        "--only",
        default="*",
        metavar="PATTERN",
        help="only files whose name matches, e.g. 'images_00?.tar' (default: all)",
    )
    p.add_argument("--jobs", type=int, default=4, help="number of parallel downloads (default: %(default)s)")
    p.add_argument(
        "--kaggle",
        action="store_true",
        help="fetch the set's copy on Kaggle (pip install 'kagglehub>=1', and an account), and link it",
    )
    p.add_argument("--keep", action="store_true", help="keep the archives after unpacking")
    arguments = p.parse_args()
    set_up_logging(None)
    return run_to_the_end(lambda: fetch_or_list(arguments), "door 00", arguments.data_root, "the same command goes on")


def fetch_or_list(arguments: argparse.Namespace) -> None:
    """Fetches the set that was named, or lists those that are known.

    Raises:
        ValueError: the options contradict each other, or the set cannot be fetched so.
    """
    from guie.data.catalogue import known_sets
    from guie.data.fetch import by_hand, fetch
    from guie.data.kaggle_copy import fetch_from_kaggle

    if arguments.kaggle and (not arguments.kind or arguments.only != "*"):
        raise ValueError("--kaggle fetches the whole copy of one set: name the set, and leave --only out")
    if arguments.kaggle:
        folder = fetch_from_kaggle(arguments.kind, arguments.data_root)
        print(f"The set's folder holds links into {folder}. {in_a_recipe(arguments.kind)}")
        return
    if arguments.kind:
        n = fetch(arguments.kind, arguments.data_root, arguments.only, arguments.jobs, arguments.keep)
        print(f"{n} files fetched. {in_a_recipe(arguments.kind)}")
        return
    for kind, known in known_sets().items():
        print(f"{kind}: {known.title}{f', {known.size}' if known.size else ''}\n  licence: {known.licence}")
        command = f"python data_prep/00_fetch.py {kind}"
        if known.files:
            print(f"  {known.page}\n  {command}  (into {arguments.data_root / known.folder})")
        else:
            print(f"  {by_hand(known, arguments.data_root)}")
        if known.kaggle:
            print(f"  {command} --kaggle  ({known.kaggle.call})")
        print()


def in_a_recipe(kind: str) -> str:
    """How a recipe names the set."""
    from guie.data.catalogue import known_sets

    return f"A recipe names the set as Source(NAME, {kind!r}, {known_sets()[kind].folder!r}, DOMAIN)"


if __name__ == "__main__":
    sys.exit(main())
