"""Parsers whose --help begins with examples: what most people look for there is a line to copy. And a path's type."""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path
from typing import Any

RUN = "Run     "  # begins the examples in the docstring of a door


class ExamplesFirst(argparse.ArgumentParser):
    """A parser whose --help begins with one or two examples, and keeps the lines of its description."""

    def __init__(self, examples: str, **words: Any) -> None:
        """Makes a parser.

        Args:
            examples: One or two command lines.
            **words: Of `argparse.ArgumentParser`.
        """
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **words)
        self.examples = textwrap.indent(textwrap.dedent(examples).strip("\n"), "  ")

    def format_help(self) -> str:
        """The text of --help."""
        return f"{self.examples}\n\n{super().format_help()}"


def given_path(text: str) -> Path:
    """The value of an option that is a path.

    Raises:
        argparse.ArgumentTypeError: it is empty, which `Path` takes for the current folder.
    """
    if not text:
        raise argparse.ArgumentTypeError("is empty, as an unset variable is; . is the current folder")
    return Path(text)


def parted(doc: str) -> tuple[str, str]:
    """The examples of a docstring, and the docstring without them.

    Args:
        doc: Its examples begin with `Run` at the start of a line; further ones are indented alike.
    """
    examples: list[str] = []
    rest: list[str] = []
    is_example = False
    for line in doc.splitlines():
        is_example = line.startswith(RUN) or (is_example and line.startswith(" " * len(RUN)))
        (examples if is_example else rest).append(line)
    return "\n".join(line[len(RUN) :] for line in examples), "\n".join(rest)
