"""Door 00: fetches a public data set, or lists those that are known.

Without a name it lists each set with its size, licence, page and folder. With
a name it downloads the set if that is openly hosted: it continues after a
broken connection, checks the checksums and unpacks. Otherwise it says what to
do.

Run     python data_prep/00_fetch.py
        python data_prep/00_fetch.py gldv2 --only 'images_00?.tar'
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
    p.add_argument("--keep", action="store_true", help="keep the archives after unpacking")
    arguments = p.parse_args()
    set_up_logging(None)
    return run_to_the_end(lambda: fetch_or_list(arguments), "door 00", arguments.data_root, "the same command goes on")


def fetch_or_list(arguments: argparse.Namespace) -> None:
    """Fetches the set that was named, or lists those that are known."""
    from guie.data.catalogue import known_sets
    from guie.data.fetch import by_hand, fetch

    if arguments.kind:
        n = fetch(arguments.kind, arguments.data_root, arguments.only, arguments.jobs, arguments.keep)
        print(
            f"{n} files fetched. A recipe names the set as Source(NAME, {arguments.kind!r}, "
            f"{known_sets()[arguments.kind].folder!r}, DOMAIN)"
        )
        return
    for kind, known in known_sets().items():
        print(f"{kind}: {known.title}{f', {known.size}' if known.size else ''}\n  licence: {known.licence}")
        command = f"python data_prep/00_fetch.py {kind}"
        print(
            f"  {known.page}\n  {command}  (into {arguments.data_root / known.folder})\n"
            if known.files
            else f"  {by_hand(known, arguments.data_root)}\n"
        )


if __name__ == "__main__":
    sys.exit(main())
