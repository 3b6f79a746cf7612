"""The rows of tests/mutants.py still name lines and tests that are there, and the script tells the killed from the
survivors."""

import re
import subprocess
import sys
from pathlib import Path

import mutants
import pytest
from mutants import Mutant

ROWS = mutants.read_rows()


def test_every_text_stands_in_its_file_once_and_its_fault_is_python() -> None:
    assert len(ROWS) >= 60
    assert len({(row.file, row.old, row.new) for row in ROWS}) == len(ROWS)
    for row in ROWS:
        assert row.broken(mutants.PROJECT) != (mutants.PROJECT / row.file).read_text(encoding="utf-8"), row


def test_every_row_names_tests_that_are_there() -> None:
    assert [test for row in ROWS for test in row.absent_tests(mutants.PROJECT)] == []


def test_rows_cover_every_room() -> None:
    rooms = {Path(row.file).parts[2] for row in ROWS}
    assert rooms >= {"data", "model", "train", "embed", "evaluate", "export", "recipes"}


@pytest.mark.parametrize(
    ("old", "new", "tests", "told"),
    [
        ("a = 3", "a = 4", "unit/test_a.py::test_a", "stands 0 times in src/a.py"),
        ("= 1", "= 4", "unit/test_a.py::test_a", "stands 2 times in src/a.py"),
        ("a = 1", "a = (", "unit/test_a.py::test_a", "the fault is no Python"),
        ("a = 1", "a = 4", "unit/test_a.py::test_b", "no test tests/unit/test_a.py::test_b"),
        ("a = 1", "a = 4", "unit/test_b.py", "no test tests/unit/test_b.py"),
    ],
)
def test_row_that_cannot_be_tried_is_told(tmp_path: Path, old: str, new: str, tests: str, told: str) -> None:
    small_tree(tmp_path)
    assert (
        list(mutants.problems([Mutant("src/a.py", "a = 1", "a = 4", ("unit/test_a.py::test_a[x]",))], tmp_path)) == []
    )
    (problem,) = mutants.problems([Mutant("src/a.py", old, new, (tests,))], tmp_path)
    assert told in problem


def test_rows_are_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.txt"
    path.write_text(
        "# rows\na.py\n- x = [\n-     1]\n+ x = 2\n? a.py\n? b.py::c\n\n- y\n+\n? a.py\n\n\n# below\nb.py\n\n- z\n+ "
        "w\n? a.py\n"
    )
    rows = [
        Mutant("a.py", "x = [\n    1]", "x = 2", ("a.py", "b.py::c")),
        Mutant("a.py", "y", "", ("a.py",)),
        Mutant("b.py", "z", "w", ("a.py",)),
    ]
    assert mutants.read_rows(path) == rows
    for wrong in ("a.py\n- x\n+ y\n", "a.py\n- x\n? a.py\n", "a.py\n- x\n+ y\n? a.py\nb.py\n"):
        path.write_text(wrong)
        with pytest.raises(ValueError, match="must be lines of"):
            mutants.read_rows(path)


def test_list_ends_quietly_on_a_closed_pipe() -> None:
    command = [sys.executable, mutants.__file__, "--list"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()  # as `head` does, here before the first line is written
        assert process.stderr.read() == ""
    assert process.returncode == 0


def small_tree(folder: Path) -> None:
    """One file with two lines, of which a test looks at the first."""
    for name, text in {
        "src/a.py": "a = 1\nb = 1\n",
        "tests/unit/test_a.py": "import a\n\n\ndef test_a() -> None:\n    assert a.a == 1\n",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


@pytest.mark.slow  # starts pytest four times
def test_script_tells_the_killed_from_the_survivors_and_leaves_the_tree_alone(tmp_path: Path) -> None:
    small_tree(tmp_path)
    script = tmp_path / "tests/mutants.py"
    text, n = re.subn(
        r"(?ms)^LIBRARIES = .*?\)", 'LIBRARIES = ("pytest",)', Path(mutants.__file__).read_text(encoding="utf-8")
    )
    assert n == 1
    script.write_text(text)
    test = "? unit/test_a.py::test_a\n"
    script.with_suffix(".txt").write_text(f"src/a.py\n- a = 1\n+ a = 2\n{test}\n# a remark\n- b = 1\n+ b = 2\n{test}")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.py")}

    def called(*words: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, str(script), *words], capture_output=True, text=True, check=False, timeout=120
        )
        return done.returncode, done.stdout + done.stderr

    status, said = called()
    assert status == 1 and re.search(
        r"killed +[\d.]+ s  src/a.py: a = 1  ->  a = 2   by unit/test_a.py::test_a\n", said
    ), said
    assert said.endswith("survivor: src/a.py: b = 1  ->  b = 2\n          unnoticed by unit/test_a.py::test_a\n"), said
    status, said = called("--only", "a = 2", "--jobs", "2")
    assert status == 0 and "1 of 1 killed" in said, said
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.py")} == before
    (tmp_path / "tests/unit/test_a.py").write_text("def test_a() -> None:\n    assert False\n")
    status, said = called()
    assert status == 2 and "must pass before anything is broken" in said, said
    (tmp_path / "src/a.py").write_text("a = 3\nb = 1\n")
    assert (
        called()
        == called("--check")
        == (
            2,
            "error: src/a.py: a = 1  ->  a = 2: the text stands 0 times in src/a.py; mend the row in "
            "tests/mutants.txt\n",
        )
    )
