"""The options of the doors' command lines, the values that options share, and the commands that the doors suggest."""

from __future__ import annotations

import argparse
import os
import shlex
from pathlib import Path
from typing import Any

from guie.examples import ExamplesFirst, parted
from guie.run import DOORS, default_out

NAMES = "name="  # begins the --set that names a run, which --name is short for


def parser(description: str | None, number: int = 0) -> argparse.ArgumentParser:
    """The parser of the options that all doors share.

    Args:
        description: A docstring, shown by --help: its examples first, see `guie.examples.parted`.
        number: The door; its own options are added. 0 adds none.
    """
    examples, rest = parted(description or "")
    p = ExamplesFirst(examples, usage=f"python {DOORS[number]} [options]" if number else None, description=rest)
    p.add_argument(
        "--recipe",
        default="demo",
        help="a recipe in src/guie/recipes/, or the path of a .py file that defines RECIPE (default: %(default)s)",
    )
    p.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="change one field, e.g. --set stages.s1_head.optim.n_epochs=5; repeatable",
    )
    p.add_argument(
        "--licence",
        dest="set",
        action="append",
        type="data.licence={}".format,
        metavar="{any,commercial}",
        help="short for --set data.licence=VALUE; commercial keeps only data sets known to allow commercial use",
    )
    p.add_argument(
        "--name",
        dest="set",
        action="append",
        type=f"{NAMES}{{}}".format,
        metavar="NAME",
        help="name of the run: its results go to artifacts/NAME (default: the recipe's name)",
    )
    p.add_argument(
        "--data-root",
        type=Path,
        default=Path(os.environ.get("GUIE_DATA", "data")),
        help="folder of the raw data sets (default: GUIE_DATA or ./data)",
    )
    p.add_argument(
        "--out",
        type=Path,
        default=default_out(),
        help="where artifacts/<recipe>/ is written (default: GUIE_OUT or artifacts/)",
    )
    p.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, or auto: the first accelerator, else the CPU")
    p.add_argument(
        "--scheduler",
        default="",
        metavar="ADDRESS",
        help="for doors 01 and 03: check and pack images on the workers of this dask.distributed scheduler",
    )
    p.add_argument(
        "--tracker",
        default="tensorboard",
        metavar="{tensorboard,wandb,mlflow}",
        help="for doors 04 to 06: where the curves of the training go (default: %(default)s)",
    )
    p.add_argument("--force", action="store_true", help="run the door again even if it is done")
    p.add_argument(
        "--replace",
        action="store_true",
        help="put the result in place of a finished one that was made with other settings",
    )
    p.add_argument(
        "--verify",
        action="store_true",
        help="compare the bytes of finished outputs with those that were written, not only sizes and times",
    )
    if number == 9:
        p.add_argument(
            "--compare",
            type=Path,
            nargs="+",
            action="extend",
            default=[],
            metavar="FOLDER",
            help="other finished runs, which the report shows beside this one",
        )
    return p


# Weight of a user's own photos in a refitted projection, unless another is named. On a domain that was never
# seen it gains .016 mP@5 with a tuned network and .017 with one off the shelf, and loses .002 and .012 on others; .5
# gains .013 and .015, and loses .001 and .005 (tests/benchmarks/foreign.md).
REFIT_SHARE = 0.75


def share(text: str) -> float:
    """The value of an option that is a share of something.

    Raises:
        argparse.ArgumentTypeError: it is no number above 0 and at most 1.
    """
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r}: must be a number above 0 and at most 1")
    return value


def command(number: int, arguments: argparse.Namespace) -> str:
    """The command line that opens door `number` with the same options."""
    words = ["python", DOORS[number], "--recipe", arguments.recipe]
    for text in arguments.set:
        words += ["--name", text.removeprefix(NAMES)] if text.startswith(NAMES) else ["--set", text]
    defaults = parser(None).parse_args([])
    for name in ("data_root", "out", "device", "scheduler", "tracker"):
        if getattr(arguments, name) != getattr(defaults, name):
            words += [f"--{name.replace('_', '-')}", str(getattr(arguments, name))]
    if arguments.replace:
        words.append("--replace")
    if number == 9 and getattr(arguments, "compare", []):  # the other doors have no --compare
        words += ["--compare", *map(str, arguments.compare)]
    return shlex.join(words)


def next_command(number: int, arguments: argparse.Namespace) -> str:
    """The command line that opens the next door with the same options; after the last door a sentence that says so."""
    return "nothing; this was the last door" if number == max(DOORS) else command(number + 1, arguments)


def as_data(arguments: argparse.Namespace) -> dict[str, Any]:
    """The options by name, as JSON can store them: paths become strings, and --data-root an absolute one."""

    def plain(value: Any) -> Any:
        if isinstance(value, list):
            return [plain(item) for item in value]
        return str(value) if isinstance(value, Path) else value

    # The run is read again from other directories, where a relative folder would be another one.
    return {name: plain(value) for name, value in vars(arguments).items()} | {
        "data_root": str(arguments.data_root.resolve())
    }
