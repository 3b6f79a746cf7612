import re
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


def test_every_command_answers_help_with_an_example_and_fits_eighty_columns(capsys: pytest.CaptureFixture[str]):
    for name in COMMANDS:
        with pytest.raises(SystemExit) as end:
            main([name, "--help"])
        assert end.value.code == 0
        assert f"guie {name}" in capsys.readouterr().out.replace(f"guie.{name}", f"guie {name}")


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
