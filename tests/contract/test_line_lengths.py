"""No line is longer than 120 columns: Python, shell scripts, the report's templates, and pages but for their tables.

ruff holds the same for Python (E501). Here the shell scripts, the templates and the pages are held to it as well.
"""

import importlib.util
import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
WIDTH = 120
FOLDERS = (".ci", "data_prep", "notebooks", "src", "submission", "tests", "weights")
KINDS = {  # the endings of the files, and how many there are at least
    "python": ((".py",), 300),
    "shell": ((".sh", ""), 4),
    "templates": ((".html", ".css", ".js"), 12),
    "pages": ((".md",), 20),
}
PRAGMA = re.compile(r"\s*# (noqa|type: ignore|shellcheck)\b.*$")


def files(*endings: str) -> list[Path]:
    """Files of the project with these endings; without an ending, those that bash or sh runs."""
    found = [path for path in PROJECT.iterdir() if path.is_file() and path.suffix in endings]
    for folder in FOLDERS:
        found += [path for path in (PROJECT / folder).rglob("*") if path.is_file() and path.suffix in endings]
    found = [path for path in found if "__pycache__" not in path.parts and not path.name.endswith(".egg-info")]
    return sorted(path for path in found if path.suffix or path.read_bytes().startswith(b"#!"))


def may_be_long(line: str, is_page: bool) -> bool:
    """A line that cannot be broken: one word, such as an address, or on a page a row of a table or a picture."""
    return len(line.split()) == 1 or (is_page and line.lstrip().startswith(("|", "<img ", "![")))


def too_long(text: str, is_page: bool = False) -> list[str]:
    """The lines of a text that are wider than 120 columns, with their numbers."""
    lines = [line if is_page else PRAGMA.sub("", line) for line in text.splitlines()]
    return [
        f"{number}: {line}"
        for number, line in enumerate(lines, 1)
        if len(line) > WIDTH and not may_be_long(line, is_page)
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_no_line_is_longer_than_120_columns(kind: str) -> None:
    endings, at_least = KINDS[kind]
    found = files(*endings)
    assert len(found) >= at_least
    long = {str(path): too_long(path.read_text(encoding="utf-8"), kind == "pages") for path in found}
    assert {path: lines for path, lines in long.items() if lines} == {}


def test_long_lines_are_found() -> None:
    whole, over = "word " * 24, "word " * 24 + "x"
    assert (len(whole), len(over)) == (120, 121)
    assert too_long(f"{whole}\n{over}\n") == [f"2: {over}"]
    assert too_long(f"{whole[:100]}  # noqa: B010 (the reason is told here)") == []
    assert too_long(f"{over}  # noqa: B010") == [f"1: {over}"]
    assert too_long("x" * 200) == []
    row = f"| {over} |"
    assert too_long(row, is_page=True) == [] and too_long(row) == [f"1: {row}"]
    assert too_long(f"* {over}", is_page=True) == [f"1: * {over}"]


def test_pages_of_benchmarks_are_written_so() -> None:
    """A paragraph keeps its words, and a command its line."""
    spec = importlib.util.spec_from_file_location("pages", PROJECT / "tests/benchmarks/pages.py")
    assert spec is not None and spec.loader is not None
    pages = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pages)
    command = "`python a.py --data-root ../shared/data --seeds 0 1 2`"
    text = f"{'word ' * 19}\n   {command} at half-way {'word ' * 40}"
    written = pages.paragraph(text)
    assert written.split() == text.split() and too_long(written, is_page=True) == []
    assert [line for line in written.splitlines() if command in line] and len(written.splitlines()) == 4
