"""The command `guie report`: the report of a finished run, or of several."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Sequence
from pathlib import Path

from guie.errors import run_to_the_end
from guie.examples import ExamplesFirst
from guie.run import FOLDERS, set_up_logging
from guie.saved import saved_run

MAX_NAME = 200  # bytes of the names of the runs: a file system takes 255 for a name
EXAMPLES = """
guie report artifacts/demo
guie report artifacts/mine --compare artifacts/other artifacts/third
"""
DESCRIPTION = """\
Writes the report of a finished run anew, with the settings that the run itself
holds: no recipe, no --set. It trains and scores nothing. With --compare it
writes a page of its own beside the report, which stays as it is: scores, costs
and settings of the runs, and a paired test of every two runs that were asked
the same queries.
"""


def parser() -> argparse.ArgumentParser:
    """The options."""
    p = ExamplesFirst(EXAMPLES, prog="guie report", usage="guie report RUN [options]", description=DESCRIPTION)
    p.add_argument("run", type=Path, metavar="RUN", help="the folder of a finished run")
    p.add_argument("--compare", type=Path, nargs="+", default=[], metavar="RUN", help="other finished runs")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `guie report` and returns the exit status; see `guie.errors`."""
    arguments = parser().parse_args(argv)
    return run_to_the_end(lambda: _report(arguments), "guie report", arguments.run)


def _report(arguments: argparse.Namespace) -> None:
    from guie.report.page import write_report  # pandas and the charts: not for --help

    set_up_logging(None)
    run = saved_run(arguments.run)
    folder = run.out / FOLDERS[9]
    others = tuple(path.resolve() for path in arguments.compare)
    if others:
        folder = folder / page_name(others)
    else:
        (folder / "done.json").unlink(missing_ok=True)  # door 09 did not make what will be there
    write_report(run, others, folder)


def page_name(runs: Sequence[Path]) -> str:
    """The folder's name for the page that compares other runs with this one: their names, and a digest of their paths.

    Without the digest, the pages of two runs of one name (artifacts/demo and seed1/demo) would replace each other.

    Args:
        runs: Folders, absolute.
    """
    names = "_and_".join(path.name for path in runs).encode(errors="surrogateescape")[:MAX_NAME].decode(errors="ignore")
    where = hashlib.sha256("\0".join(map(str, runs)).encode(errors="surrogateescape")).hexdigest()
    return f"compared_with_{names}_{where[:8]}"
