"""Mutation tests: breaks lines of the source one at a time and runs the nearest tests. A broken line that no test
notices is a survivor.

Coverage says which lines ran. This says which lines have a test that depends on them. Each row of `mutants.txt` is a
fault that gives a wrong result without an error, such as a learning rate without its factor or a mean over images in
place of domains.

The tree is copied to a temporary directory and broken there; the checkout is never changed. Before that, every text
must be in its file exactly once, and the nearest tests must pass on the unbroken code.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import queue
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
ROWS = Path(__file__).with_suffix(".txt")
LIMIT_S = 300  # a row whose tests run longer counts as killed
PROCESSES = multiprocessing.get_context("forkserver")
LIBRARIES = (
    "torch",
    "timm",
    "pandas",
    "scipy.sparse",
    "albumentations",
    "faiss",
    "accelerate",
    "pytest",
    "PIL.Image",
)  # imported once for all rows
NOT_COPIED = (
    ".git",
    ".venv",
    "artifacts",
    "data",
    ".pytest_cache",
    ".mypy_cache",
    ".ruff_cache",
)  # only at the top: src/guie/data is copied
LINKED = ("weights",)  # linked, because it may be gigabytes and is never broken
EXAMPLES = """
examples:
  python tests/mutants.py                      all rows, about a quarter of an hour on two idle cores
  python tests/mutants.py --only evaluate      the rows whose file, texts or tests contain this word
  python tests/mutants.py --list               what would be broken, and which tests should notice it
  python tests/mutants.py --check              only checks that every text is in its file once, in a second

The rows stand in tests/mutants.txt, which reads like a diff:
  src/guie/embed/views.py                                 the file, for all rows below it
  - pixels.flip(3)                                        a text that is in the file exactly once
  + pixels.flip(2)                                        the fault that replaces it
  ? unit/embed/test_views.py::test_flip_mirrors           the nearest tests below tests/, one per line
                                                          an empty line after each row; # begins a comment

A survivor needs a test whose right value has another source: a number worked out by hand, a plain loop, a library.
If a text has left its file, correct the row: copy the new text from the source and keep it short.
A new row should be a fault that gives a wrong result without an error.

exit status: 0 all killed, 1 survivors, 2 a row is wrong or its tests fail without it
"""


@dataclass(frozen=True)
class Mutant:
    """One row.

    Attributes:
        file: Path below the project.
        old: Text that is in the file once.
        new: The fault that replaces it.
        tests: Tests to run, below `tests/`.
    """

    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def __str__(self) -> str:
        """The row in one line."""
        return (
            f"{self.file.removeprefix('src/guie/')}: {' '.join(self.old.split())}  ->  "
            f"{' '.join(self.new.split()) or 'nothing'}"
        )

    def broken(self, project: Path) -> str:
        """The file's text with the fault in it.

        Raises:
            ValueError: the text is not in the file exactly once, or the fault is not valid Python.
        """
        path = project / self.file
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        if text.count(self.old) != 1:
            raise ValueError(
                f"{self}: the text stands {text.count(self.old)} times in {self.file}; mend the row in "
                "tests/mutants.txt"
            )
        result = text.replace(self.old, self.new)
        try:
            compile(result, self.file, "exec")
        except SyntaxError as error:
            raise ValueError(f"{self}: the fault is no Python ({error}); mend the row in tests/mutants.txt") from error
        return result

    def absent_tests(self, project: Path) -> list[str]:
        """Those of `tests` whose file or function does not exist."""
        absent = []
        for test in self.tests:
            name, _, function = test.partition("[")[0].partition("::")
            path = project / "tests" / name
            if not path.is_file() or (function and f"def {function}(" not in path.read_text(encoding="utf-8")):
                absent.append(test)
        return absent


def read_rows(path: Path = ROWS) -> list[Mutant]:
    """Reads the rows of a file like `mutants.txt`. An empty line separates rows, and a line of its own names the file
    of the rows below it.

    Raises:
        ValueError: a row lacks text, fault or test, or has a line that is none of them.
    """
    rows: list[Mutant] = []
    file = ""
    for block in path.read_text(encoding="utf-8").split("\n\n"):
        lines = [line for line in block.splitlines() if line and not line.startswith("#")]
        while lines and lines[0][:2] != "- ":
            file = lines.pop(0)
        old, new, tests = ([line[2:] for line in lines if line[:1] == kind] for kind in "-+?")
        if lines and not (old and new and tests and len(old) + len(new) + len(tests) == len(lines)):
            raise ValueError(
                f"{path.name}: the row {' '.join(lines)!r} must be lines of '- ', '+ ' and '? ', with an empty line "
                "before the next row"
            )
        if lines:
            rows.append(Mutant(file, "\n".join(old), "\n".join(new), tuple(tests)))
    return rows


def problems(rows: Sequence[Mutant], project: Path = PROJECT) -> Iterator[str]:
    """Yields why rows cannot be tried, one line each."""
    for row in rows:
        try:
            row.broken(project)
        except ValueError as error:
            yield str(error)
        for test in row.absent_tests(project):
            yield f"{row}: there is no test tests/{test}; mend the row in tests/mutants.txt"


def main() -> int:
    """Reads the command line, checks the rows and tries them; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", default="", metavar="TEXT", help="only rows whose file, texts or tests contain this text"
    )
    parser.add_argument("--list", action="store_true", help="print the rows and stop")
    parser.add_argument("--check", action="store_true", help="check that every text is in its file once, and stop")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="rows tried at the same time (default 1)")
    options = parser.parse_args()
    try:
        rows = [row for row in read_rows() if options.only in " ".join((row.file, row.old, row.new, *row.tests))]
        wrong = list(problems(rows)) if rows else [f"no row contains {options.only!r}; --list prints all"]
    except ValueError as error:
        rows, wrong = [], [str(error)]
    if options.list and rows:
        print_rows(rows)
        return 0
    print(*(f"error: {line}" for line in wrong), sep="\n", end="\n" if wrong else "", file=sys.stderr)
    if wrong or options.check:
        return 2 if wrong else 0
    return try_all(rows, max(1, min(options.jobs, len(rows))))


def print_rows(rows: Sequence[Mutant]) -> None:
    """Prints rows and their tests; ends quietly when a reader such as `head` closes the pipe."""
    try:
        for row in rows:
            print(row, *(f"    tests/{test}" for test in row.tests), sep="\n")
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes stdout once more at its end


def try_all(rows: list[Mutant], n_jobs: int) -> int:
    """Tries rows in `n_jobs` copies of the tree; returns the exit status."""
    started = time.monotonic()
    os.environ |= {
        "NO_ALBUMENTATIONS_UPDATE": "1",
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
    }  # read when the libraries are imported
    PROCESSES.set_forkserver_preload([*LIBRARIES])
    with tempfile.TemporaryDirectory(prefix="guie_mutants_") as folder:
        copies: queue.Queue[Path] = queue.Queue()
        for number in range(n_jobs):
            copies.put(copied(Path(folder) / str(number)))
        tests = sorted({test for row in rows for test in row.tests})
        print(f"{len(rows)} rows; first their {len(tests)} nearest tests on the unbroken code", flush=True)
        passed, output = run_tests(Path(folder) / "0" / "guie", tests, 10 * LIMIT_S)
        if not passed:
            print(f"{output}\nerror: these tests must pass before anything is broken", file=sys.stderr)
            return 2

        def tried(row: Mutant) -> bool:
            copy = copies.get()
            began = time.monotonic()
            try:
                has_survived, output = in_copy(copy, row)
            finally:
                copies.put(copy)
            found = re.search(r"^(?:FAILED|ERROR) tests/(\S+)", output, re.MULTILINE)
            print(
                f"{'SURVIVED' if has_survived else 'killed':8} {time.monotonic() - began:5.1f} s  "
                f"{row}{f'   by {found[1]}' if found else ''}",
                flush=True,
            )
            return has_survived

        with ThreadPoolExecutor(n_jobs) as pool:
            survivors = [row for row, has_survived in zip(rows, pool.map(tried, rows), strict=True) if has_survived]
    print(f"\n{len(rows) - len(survivors)} of {len(rows)} killed in {time.monotonic() - started:.0f} s")
    for row in survivors:
        print(f"survivor: {row}\n          unnoticed by {', '.join(row.tests)}")
    return 1 if survivors else 0


def copied(folder: Path) -> Path:
    """Copies the tree into `folder`, beside a link to the shared images if the checkout has them."""
    copy = folder / "guie"
    copy.mkdir(parents=True)
    for path in PROJECT.iterdir():
        if path.name in LINKED:
            (copy / path.name).symlink_to(path)
        elif path.is_dir() and path.name not in NOT_COPIED:
            shutil.copytree(path, copy / path.name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        elif path.is_file() and path.name not in NOT_COPIED:  # .git is a file in a worktree
            shutil.copy2(path, copy)
    shared = PROJECT.parent / "shared"
    if shared.is_dir():
        (folder / "shared").symlink_to(shared)
    return copy


def in_copy(copy: Path, row: Mutant) -> tuple[bool, str]:
    """Breaks a row in a copy, runs its tests and restores the file. Returns whether they passed, and the output of
    pytest."""
    path = copy / row.file
    whole = path.read_text(encoding="utf-8")
    path.write_text(row.broken(copy), encoding="utf-8")
    try:
        return run_tests(copy, row.tests)
    finally:
        path.write_text(whole, encoding="utf-8")


def run_tests(copy: Path, tests: Sequence[str], limit_s: float = LIMIT_S) -> tuple[bool, str]:
    """Runs tests in a copy, in a process that has already imported the libraries.

    Returns:
        Whether all passed, and the end of pytest's output.

    Raises:
        RuntimeError: pytest found no test, or was called wrongly.
    """
    log = copy.parent / "pytest.txt"
    process = PROCESSES.Process(target=_pytest, args=(copy, tests, log))
    process.start()
    process.join(limit_s)
    if process.is_alive():
        process.kill()
        process.join()
        return False, f"no end after {limit_s} s"
    output = log.read_text(encoding="utf-8", errors="replace")[-4000:]
    if process.exitcode in (4, 5):  # pytest's: a wrong call, no test
        raise RuntimeError(f"pytest cannot run {' '.join(tests)}: {output}")
    return process.exitcode == 0, output


def _pytest(copy: Path, tests: Sequence[str], log: Path) -> None:
    """Runs in the process of `run_tests`. It writes no byte code, because Python's check by size and second of change
    could miss a broken line."""
    with log.open("w") as handle:
        for stream in (1, 2):
            os.dup2(handle.fileno(), stream)
    os.chdir(copy)
    os.environ |= {"PYTHONPATH": str(copy / "src"), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(copy / "src"))
    import pytest

    sys.exit(pytest.main(["-x", "-q", "-p", "no:cacheprovider", "--tb=short", *(f"tests/{test}" for test in tests)]))


if __name__ == "__main__":
    sys.exit(main())
