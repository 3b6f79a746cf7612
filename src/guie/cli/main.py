"""The command `guie`: its help, its version, and the table of commands with the module that runs each."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import NamedTuple

import guie
from guie.address_space import check_address_space
from guie.errors import run_to_the_end, tell_error

EXAMPLES = """  guie look my_photos             what is in a folder, and a first score
  guie search my_photos --serve   a page that finds the most alike"""


class Command(NamedTuple):
    """A word after `guie`.

    Attributes:
        module: Has `main(argv: Sequence[str] | None) -> int`, which parses its own options and returns the exit status.
        purpose: One line of `guie --help`, at most 60 characters.
        libraries: Those that are tried first where there is little address space, beside the module's own: most of what
            it imports later.
    """

    module: str
    purpose: str
    libraries: tuple[str, ...] = ("cv2", "faiss", "pandas", "scipy.linalg", "timm")


COMMANDS: dict[str, Command] = {
    "look": Command("guie.own.look", "what is in a folder of photos, and a first score"),
    "train": Command("guie.cli.train", "train an embedding for your own photos, and export it"),
    "search": Command("guie.search.command", "find the photos most alike to a photo"),
    "export": Command("guie.cli.export", "a trained model as files for other programs"),
    "refit": Command("guie.cli.refit", "fit a model's projection to your own photos, unlabelled"),
    "foreign": Command("guie.cli.foreign", "how good a recipe is on a domain never seen"),
    "evaluate": Command("guie.evaluate.__main__", "score embeddings of any model, with intervals", ()),
    "report": Command("guie.cli.report", "the report of a finished run, or of several"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `guie COMMAND ...`.

    Args:
        argv: The words after `guie`; None takes those of this process.

    Returns:
        The exit status: 0, or 2 where there is no such command, or its libraries do not start.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    word = words[0] if words else "--help"
    if word in ("-h", "--help"):
        print(help_text())
        return 0
    if word == "--version":
        print(f"guie {guie.__version__}")
        return 0
    if word not in COMMANDS:
        tell_error(f"guie has no command {word!r}; it has {', '.join(COMMANDS)}. guie --help")
        return 2
    command, name = COMMANDS[word], f"guie {word}"
    if not {"-h", "--help"} & set(words):
        status = run_to_the_end(lambda: check_address_space([command.module, *command.libraries], name), name)
        if status:
            return status
    module = importlib.import_module(command.module)  # imported here, so that --help needs no torch
    return int(module.main(words[1:]))


def help_text() -> str:
    """What `guie --help` prints."""
    commands = "\n".join(f"  {name:<10} {command.purpose}" for name, command in COMMANDS.items())
    return (
        f"{EXAMPLES}\n\nguie COMMAND [options]\n\n{commands}\n\n"
        "guie COMMAND --help explains a command, with an example. guie --version\n"
        "prints the version. The nine numbered doors of the contest's pipeline are\n"
        "scripts of their own: ./run.sh --help."
    )
