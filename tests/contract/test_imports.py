"""Who may import whom (house.md, section 3), and what stands where."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
PACKAGE = PROJECT / "src/guie"
FLOOR = {"examples", "shown", "settings", "run", "done", "files", "versions", "machine", "errors", "processes", "seeds"}
MAY_IMPORT = {
    "__init__": set(),
    "settings": set(),
    "override": {"settings"},
    "recipe": {"override", "settings"},
    "files": {"errors", "settings"},
    "seeds": set(),
    "machine": set(),
    "address_space": {"machine"},
    "processes": set(),
    "errors": {"machine", "shown"},
    "run": {"files", "machine", "settings", "shown"},
    "versions": set(),
    "done": {"files", "run"},
    "recipes": {"recipe"},
    "examples": set(),
    "shown": set(),
    "options": {"examples", "run"},
    "launch": {"machine"},
    "dependencies": {"data", "done", "files", "launch", "options", "run", "settings", "versions"},
    "branch": {"done", "files", "run"},
    "kept": {"dependencies", "done", "run", "settings", "versions"},
    "door": {
        "address_space",
        "branch",
        "dependencies",
        "done",
        "errors",
        "files",
        "kept",
        "launch",
        "machine",
        "options",
        "recipe",
        "run",
    },
    "sequence": {"errors", "recipe", "shown"},
    "terminal": set(),
    "kaggle": {"data", "files", "done", "kept", "model", "recipe", "run", "settings", "terminal"},
    "synthetic": FLOOR,
    "data": FLOOR | {"synthetic"},
    "model": FLOOR,
    "embed": FLOOR | {"data", "model"},
    "train": FLOOR | {"data", "model", "embed"},
    "export": FLOOR | {"data", "model", "embed", "saved"},
    "evaluate": FLOOR | {"data", "model", "embed"},
    "report": FLOOR | {"data", "model", "embed", "evaluate"},
    "own": FLOOR | {"data", "model", "embed", "evaluate", "report", "recipe", "dependencies", "kept", "launch"},
    "search": FLOOR | {"data", "embed", "launch", "model", "own"},
    "saved": {"run", "settings"},
    "cli": FLOOR
    | {
        "__init__",
        "address_space",
        "launch",
        "own",
        "saved",
        "data",
        "model",
        "embed",
        "train",
        "export",
        "evaluate",
        "report",
        "recipe",
        "door",
        "branch",
        "dependencies",
        "kept",
        "options",
    },
    "__main__": {"cli"},
}
TOP_LEVEL = {"README.md", "requirements.txt", "notebooks", "src", "data_prep", "weights", "submission", "tests"}
TOP_LEVEL |= {
    "run.sh",
    "test.sh",
    "pyproject.toml",
    "constraints.txt",
    ".ci",
    ".gitignore",
    ".gitattributes",
    ".git-blame-ignore-revs",
    "LICENSE",
    "NOTICE",
}


def tracked() -> list[str]:
    """All files of the project, without those that git ignores."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode != 0:
        pytest.skip("this is no git checkout: which files are ours cannot be told")
    return [name for name in listed.stdout.splitlines() if (PROJECT / name).exists()]


def imported(path: Path) -> Iterator[str]:
    """Full names of all modules that a file imports, at the top or inside functions."""
    package = path.relative_to(PROJECT / "src").parent.parts if PACKAGE in path.parents else ()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = [*package[: len(package) - node.level + 1]] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from ([f"{module}.{alias.name}" for alias in node.names] if module == "guie" else [module])


def name_of(path: Path) -> str:
    """`guie.data.packing` for src/guie/data/packing.py."""
    return ".".join(path.relative_to(PROJECT / "src").with_suffix("").parts)


def room(name: str) -> str:
    """`guie.data.packing` is in room `data`."""
    return [*name.split("."), "__init__"][1]


def test_every_room_imports_only_what_the_table_allows():
    files = sorted(PACKAGE.rglob("*.py"))
    assert len(files) >= 40
    rooms = {room(name_of(path)) for path in files}
    assert rooms == set(MAY_IMPORT)
    n_imports = 0
    for path in files:
        here = room(name_of(path))
        for name in imported(path):
            if name.split(".")[0] == "guie":
                n_imports += 1
                assert room(name) in MAY_IMPORT[here] | {here}, f"{path.relative_to(PROJECT)} imports {name}"
    assert n_imports > 80


def test_objectives_know_nothing_of_the_trainer():
    """They import settings and each other, so that each can be read and tested alone."""
    names = [name for path in (PACKAGE / "train/objectives").glob("*.py") for name in imported(path)]
    own = [name for name in names if name.split(".")[0] == "guie"]
    allowed = ("guie.settings.", "guie.train.objectives.", "guie.seeds")
    assert len(own) > 80 and [name for name in own if not name.startswith(allowed)] == []


def parts_imported(path: Path) -> Iterator[str]:
    """`guie.data.packing` of `from guie.data import packing`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def circle(needs: dict[str, set[str]]) -> list[str]:
    """Modules of which each imports the next and the last the first; empty where there is none."""
    done: set[str] = set()

    def below(name: str, way: list[str]) -> list[str]:
        if name in way:
            return way[way.index(name) :]
        found = next((found for other in sorted(needs[name] - done) if (found := below(other, [*way, name]))), [])
        done.add(name)
        return found

    return next((found for name in sorted(needs) if (found := below(name, []))), [])


def test_circles_are_found():
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c"]
    assert circle({"a": {"a"}}) == ["a"]
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_no_modules_import_each_other():
    """Nor inside a function: recipe and rules did until settings checked themselves."""
    names = {name_of(path).removesuffix(".__init__"): path for path in PACKAGE.rglob("*.py")}
    needs = {name: {*imported(path), *parts_imported(path)} & names.keys() for name, path in names.items()}
    assert "guie.report.geometry" in needs["guie.report.embedding"]  # as a part of guie.report
    assert sum(map(len, needs.values())) > 250
    assert circle(needs) == []


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("import guie.data.packing", ["guie.data.packing"]),
        ("from guie import run", ["guie.run"]),
        ("def f():\n    from guie.train import trainer", ["guie.train"]),
        ("from .. import train", ["guie.train"]),
        ("from ..train.trainer import x", ["guie.train.trainer"]),
        ("from . import packing", ["guie.data"]),
    ],
)
def test_imports_are_seen_however_they_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, expected: list[str]
):
    monkeypatch.setattr(sys.modules[__name__], "PROJECT", tmp_path)
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", tmp_path / "src/guie")
    path = tmp_path / "src/guie/data/new.py"
    path.parent.mkdir(parents=True)
    path.write_text(line)
    assert list(imported(path)) == expected


def test_nobody_imports_a_numbered_file():
    files = [PROJECT / name for name in tracked() if name.endswith((".py", ".ipynb")) and not name.startswith("tests/")]
    assert len(files) >= 50
    loader = re.compile(
        r"(import_module|__import__|spec_from_file_location|run_path|run_module|SourceFileLoader)\([^)]*\b0[1-9]_"
    )
    for path in files:
        assert not loader.search(path.read_text(encoding="utf-8")), path


def test_submission_imports_nothing_of_ours():
    files = sorted((PROJECT / "submission").glob("*.py"))
    assert [path.name for path in files] == ["check_submission.py"]
    allowed = set(sys.stdlib_module_names) | {"torch", "PIL", "numpy"}
    for path in files:
        roots = {name.split(".")[0] for name in imported(path)}
        assert "torch" in roots and roots <= allowed, roots - allowed


def test_import_guie_prints_nothing_and_changes_nothing():
    code = """
import locale, logging, os, random, signal, sys, threading, warnings
def state():
    process = (dict(os.environ), list(sys.path), os.getcwd(), signal.getsignal(signal.SIGINT), threading.active_count())
    root = logging.root
    loggers = (list(root.handlers), root.level, list(root.manager.loggerDict), list(warnings.filters))
    return process, loggers, random.getstate(), locale.setlocale(locale.LC_ALL)
before, modules = state(), set(sys.modules)
import guie
assert state() == before
assert set(sys.modules) - modules == {"guie"}, set(sys.modules) - modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=PROJECT)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_top_level_is_fixed():
    entries = {name.split("/")[0] for name in tracked()}
    assert len(entries) >= 8
    assert entries <= TOP_LEVEL, entries - TOP_LEVEL


def test_no_room_without_a_name():
    files = [Path(name) for name in tracked() if name.endswith(".py")]
    assert len(files) >= 60
    assert [path for path in files if path.stem in ("utils", "common", "misc", "helpers", "util", "helper")] == []


def test_no_module_shadows_the_standard_library():
    files = sorted(PACKAGE.rglob("*.py"))
    assert len(files) >= 40
    assert [path for path in files if path.stem in sys.stdlib_module_names and path.stem != "__init__"] == []


MAX_NODES = 350  # of a function's syntax tree: lines can be packed, nodes cannot


LONGER = {
    # One file on purpose: people copy it to Kaggle, or run it where this package is not installed.
    "submission/check_submission.py": 610,
}


def n_nodes(function: ast.AST) -> int:
    return sum(1 for _ in ast.walk(function))


def test_files_and_functions_stay_short():
    files = [PROJECT / name for name in tracked() if name.endswith(".py") and not name.startswith("tests/")]
    assert len(files) >= 50
    heavy = []
    for path in files:
        text = path.read_text(encoding="utf-8")
        assert text.count("\n") <= LONGER.get(path.relative_to(PROJECT).as_posix(), 400), path
        functions = (n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))
        heavy += [(n_nodes(f), f"{path}:{f.lineno} {f.name}") for f in functions if n_nodes(f) > MAX_NODES]
    assert heavy == []


def test_nodes_count_what_is_done_however_it_is_packed():
    packed = ast.parse("def f(): a, b = g(1), h(2)").body[0]
    wide = ast.parse("def f():\n    a = g(1)\n    b = h(2)").body[0]
    assert n_nodes(wide) == 16 and n_nodes(packed) == 19  # counted by hand: two tuples and a context are no cheaper
