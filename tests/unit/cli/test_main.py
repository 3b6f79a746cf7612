import importlib
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import guie
from guie.cli.main import COMMANDS, help_text, main


def test_help_names_every_command_and_fits_eighty_columns(capsys: pytest.CaptureFixture[str]):
    assert main(["--help"]) == main([]) == 0
    assert capsys.readouterr().out == 2 * (help_text() + "\n")
    assert all(f"\n  {name} " in help_text() for name in COMMANDS)
    assert max(map(len, help_text().splitlines())) <= 80
    examples = help_text().partition("\n\n")[0].splitlines()
    assert 1 <= len(examples) <= 2 and all(line.split()[1] in COMMANDS for line in examples)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_every_command_begins_with_examples_that_it_takes(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as end:
        main([name, "--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    examples = text.partition("\n\n")[0].splitlines()
    assert 1 <= len(examples) <= 2
    for example in examples:
        words = shlex.split(re.split(r" {3,}", example.strip())[0])  # what follows explains it
        assert words[:2] == ["guie", name]
        importlib.import_module(COMMANDS[name].module).parser().parse_args(words[2:])
    assert f"\nusage: guie {name} " in text


def test_run_sh_knows_the_commands():
    script = (Path(__file__).parents[3] / "run.sh").read_text()
    words = re.search(r"^    (guie [a-z |]+)\) # commands of guie$", script, re.MULTILINE)
    assert words is not None
    assert words[1].split(" | ") == ["guie", *COMMANDS]


def test_unknown_command_is_one_line(capsys: pytest.CaptureFixture[str]):
    assert main(["lok"]) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "'lok'" in line and "evaluate" in line


def test_version_of_the_process():
    said = subprocess.run([sys.executable, "-m", "guie", "--version"], capture_output=True, text=True, check=True)
    assert said.stdout == f"guie {guie.__version__}\n"


@pytest.mark.parametrize(("name", "kilobytes"), [("look", 2_000_000), ("search", 4_500_000), ("report", 4_200_000)])
def test_little_address_space_is_one_line(name: str, kilobytes: int, tmp_path: Path):
    """Without a trial `look` ended in a traceback at 4.5 GB, by a signal at 5.5 GB, and waited for ever at 5.25 GB."""
    command = [sys.executable, "-m", "guie", name, str(tmp_path)]
    limited = ["sh", "-c", f'ulimit -v {kilobytes}; exec "$@"', "sh", *command]
    said = subprocess.run(limited, capture_output=True, text=True, timeout=90, check=False)
    assert said.returncode == 2 and said.stdout == ""
    (line,) = said.stderr.splitlines()
    assert line.startswith(f"error: guie {name}: its libraries do not start with so little address space (ulimit -v is")
    assert line.endswith("raise the limit, or lift it with ulimit -v unlimited")


def test_help_tries_no_libraries(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("guie.address_space.address_limit", lambda: 1_000_000)
    monkeypatch.setattr("guie.address_space._failure", lambda command: pytest.fail(f"tried {command}"))
    with pytest.raises(SystemExit) as end:
        main(["look", "--help"])
    assert end.value.code == 0
