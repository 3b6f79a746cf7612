"""The rule of the number: door NN writes folder NN_* and holds no logic."""

import ast
import importlib
import inspect
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from guie.dependencies import INPUTS, READS
from guie.options import parser
from guie.run import DOORS, FOLDERS, PHASE_FOLDERS

PROJECT = Path(__file__).resolve().parents[2]


def test_nine_doors_and_no_other_numbered_file():
    found = sorted(
        path.relative_to(PROJECT).as_posix()
        for folder in ("data_prep", "src")
        for path in (PROJECT / folder).rglob("[0-9]*.py")
    )
    assert found == ["data_prep/00_fetch.py", *DOORS.values()]  # which fetches and belongs to no recipe
    assert len(DOORS) == 9


def test_numbers_agree_everywhere():
    assert list(DOORS) == list(FOLDERS) == sorted(READS) == sorted(INPUTS) == list(range(1, 10))
    for number in DOORS:
        assert Path(DOORS[number]).name[:3] == FOLDERS[number][:3] == f"{number:02d}_"
    assert [PHASE_FOLDERS[phase] for phase in ("head", "backbone", "highres")] == [FOLDERS[4], FOLDERS[5], FOLDERS[6]]


@pytest.mark.parametrize("number", list(DOORS))
def test_door_is_a_docstring_and_one_call_with_its_own_number(number: int):
    path = PROJECT / DOORS[number]
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= 40
    tree = ast.parse(text)
    doc, *middle, last = tree.body
    assert isinstance(doc, ast.Expr) and ast.get_docstring(tree)
    assert all(isinstance(node, ast.Import | ast.ImportFrom) for node in middle)
    assert isinstance(last, ast.If) and ast.unparse(last.test) == "__name__ == '__main__'" and len(last.body) == 1
    assert ast.unparse(last.body[0]).startswith(f"sys.exit(open_door({number}, __doc__, ")
    (call,) = (node for node in ast.walk(last) if isinstance(node, ast.Call) and ast.unparse(node.func) == "open_door")
    module, function = ast.literal_eval(call.args[2]).split(":")
    words = {word.arg: ast.literal_eval(word.value) for word in call.keywords}
    inspect.signature(getattr(importlib.import_module(module), function)).bind("the run", **words)


def test_finished_doors_and_help_import_nothing_slow():
    code = "import sys, guie.door; sys.exit(' '.join({'torch', 'pandas', 'timm', 'cv2', 'sklearn'} & set(sys.modules)))"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False).stderr.strip() == ""
    )


@pytest.mark.parametrize("number", list(DOORS))
def test_help_teaches(number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(sys, "argv", [DOORS[number], "--help"])
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as caught:
        runpy.run_path(str(PROJECT / DOORS[number]), run_name="__main__")
    assert caught.value.code == 0
    told = capsys.readouterr().out
    assert f"Door {number:02d}: " in told
    lines = {line.split()[0]: line for line in told.splitlines() if line.strip()}
    assert "Reads" in lines and FOLDERS[number] in lines["Writes"]
    examples = told.partition("\n\n")[0].splitlines()
    assert 1 <= len(examples) <= 2 and max(map(len, told.splitlines())) <= 80
    for example in examples:
        assert example.startswith(f"  python {DOORS[number]} --recipe ")
        parser(None, number).parse_args(example.split()[2:])
    options = ("--recipe", "--set", "--name", "--data-root", "--out", "--device", "--force", "--replace")
    assert all(option in told for option in options)
    assert ("--compare" in told) == (number == 9)
    following = f"next: python {DOORS[number + 1]}" if number < 9 else "next: nothing; this was the last door"
    assert following in told
