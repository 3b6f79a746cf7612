"""run.sh and test.sh, in a copy of the tree whose Python, pip and doors are stand-ins: what they do, in which order,
and what they say."""

import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from spread import TOGETHER, group_of

from guie.kaggle.session import TOO_SLOW
from guie.options import parser
from guie.run import DOORS

PROJECT = Path(__file__).resolve().parents[2]
SCRIPTS = ("run.sh", "test.sh", ".ci/run", ".ci/setup.sh")

# Stands in for python3: knows its version, makes a .venv that holds itself, and notes what pip is asked for.
FAKE_PYTHON = r"""#!/bin/bash
case "$*" in
    "-c import sys; print"*) [ "${FAKE_VERSION:-3.12}" = 3.9 ] && echo || echo "${FAKE_VERSION:-3.12}" ;;
    "-c import ensurepip, venv") exit "${FAKE_NO_VENV:-0}" ;;
    "-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
    "-m pip install "*)
        echo "$*" >>"$FAKE_LOG"
        echo "Collecting torch"
        echo "  Downloading https://files/torch-2.14.1-cp311.whl (530.6 MB)"
        echo "  Downloading small-1.0.whl (12.3 kB)"
        if [ "${FAKE_PIP:-}" = offline ]; then
            echo "WARNING: Retrying after NewConnectionError"
            echo "ERROR: No matching distribution found for torch"
            exit 1
        fi
        [ "${FAKE_PIP:-}" != conflict ] || { echo "ERROR: Cannot install a and b"; echo "more"; exit 1; }
        echo "Installing collected packages: torch, small"
        mkdir -p "$(dirname "$0")/../lib/python3.12/site-packages/torch"
        if [ "${FAKE_PIP:-}" = full ]; then
            echo "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device"
            exit 1
        fi
        [ "${FAKE_PIP:-}" != killed ] || kill -9 $PPID $$
        ;;
    -c*) ;;
    *) exec REAL "$@" ;;
esac
"""


class Tree:
    """A copy of what the commands need, with a PATH that holds the usual tools but no Python other than the
    stand-in."""

    def __init__(self, folder: Path):
        self.root = folder / "a project"  # the space is on purpose
        self.bin = folder / "bin"
        self.log = folder / "pip.log"
        self.bin.mkdir()
        for name in (*SCRIPTS, "requirements.txt", "constraints.txt", "pyproject.toml"):
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(PROJECT / name, self.root / name)
        for tool in (
            "bash",
            "env",
            "dirname",
            "basename",
            "cut",
            "cat",
            "sed",
            "awk",
            "grep",
            "tail",
            "tee",
            "rm",
            "mkdir",
            "touch",
            "cp",
            "sha256sum",
            "flock",
        ):
            (self.bin / tool).symlink_to(shutil.which(tool) or f"/bin/{tool}")
        self.tool("df", "printf 'head\\ndisk 0 0 %s 0 /\\n' \"${FAKE_FREE_MB:-50000}\"")
        self.tool("python3", FAKE_PYTHON.replace("REAL", sys.executable))

    def tool(self, name: str, text: str) -> None:
        path = self.bin / name
        path.unlink(missing_ok=True)
        path.write_text(text if text.startswith("#!") else f"#!/bin/bash\n{text}\n")
        path.chmod(0o755)

    def bash(self, command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        variables = {"PATH": str(self.bin), "HOME": str(self.root.parent), "FAKE_LOG": str(self.log)}
        variables |= {"PYTHONPATH": str(PROJECT / "src"), **environment}  # guie of this checkout, wherever .venv is
        return subprocess.run(
            ["/bin/bash", "-c", command],
            cwd=self.root,
            env=variables,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def set_up(self, what: str = "run", **environment: str) -> subprocess.CompletedProcess[str]:
        return self.bash(f"set -euo pipefail; source .ci/setup.sh; set_up {what}", **environment)

    def installs(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


@pytest.fixture
def doors(tree: Tree) -> Tree:
    """The tree with nine doors that print their options, a score table, a zip and a checker."""
    for number, name in DOORS.items():
        path = tree.root / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(
            f"import os, sys\nprint('door', {number}, "
            f"*sys.argv[1:])\nsys.exit(int(os.environ.get('FAKE_FAIL_{number}', 0)))\n"
        )
    out = tree.root / "artifacts/demo"
    for folder in ("07_embeddings", "08_export/parity"):
        (out / folder).mkdir(parents=True)
    (out / "08_export/submission.zip").touch()
    (out / "07_embeddings/scores.csv").write_text(
        'setting,members,dim,mp5,r1\noff the shelf,a,1280,0.64149,0.7\n"+ ensemble, PCA","a,b",64,0.7016,0.751\n'
    )
    (tree.root / "submission").mkdir()
    (tree.root / "submission/check_submission.py").write_text(
        "import os, sys\nprint('checked', *sys.argv[1:])\nsys.exit(int(os.environ.get('FAKE_BAD_ZIP', 0)))\n"
    )
    (tree.root / "src/guie/recipes").mkdir(parents=True)
    (tree.root / "src/guie/recipes/tiny.py").write_text('"""tiny: small and quick. More."""\n')
    return tree


def test_scripts_are_executable_and_parse():
    for name in SCRIPTS:
        assert subprocess.run(["bash", "-n", str(PROJECT / name)], check=False).returncode == 0, name
        assert name == ".ci/setup.sh" or (PROJECT / name).stat().st_mode & stat.S_IXUSR, name


def test_scripts_pass_shellcheck():
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed (apt-get install shellcheck)")
    done = subprocess.run(["shellcheck", "-x", *SCRIPTS], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_ci_runs_the_tests(tree: Tree):
    (tree.root / "test.sh").write_text("#!/bin/bash\necho tests\nexit 7\n")
    done = tree.bash("./.ci/run")
    assert (done.returncode, done.stdout) == (7, "tests\n")


def test_requirements_are_ranges_and_their_pins_lie_inside():
    lines = [
        line for line in (PROJECT / "requirements.txt").read_text().splitlines() if line and not line.startswith("#")
    ]
    assert lines[-1] == "-e ." and len(lines) >= 12
    pins = dict(
        line.split("==") for line in (PROJECT / "constraints.txt").read_text().splitlines() if not line.startswith("#")
    )
    pins = {
        name.lower().replace("_", "-"): tuple(int(n) for n in version.split(".")[:3]) for name, version in pins.items()
    }
    for line in lines[:-1]:
        name, bounds = re.fullmatch(r"([\w-]+)(>=.+)", line).groups()  # type: ignore[union-attr]
        pin = pins[name.lower().replace("_", "-")]
        for bound in bounds.split(","):
            operator, version = re.fullmatch(r"(>=|<)([\d.]+)", bound).groups()  # type: ignore[union-attr]
            wanted = tuple(int(n) for n in version.split("."))
            assert (pin >= wanted) if operator == ">=" else (pin < wanted), line
    assert not [name for name in pins if name.startswith(("nvidia", "cuda"))]


# --- setting up
# -----------------------------------------------------------------------------------------------------------------


def test_first_start_installs_and_the_second_does_nothing(tree: Tree):
    first = tree.set_up()
    assert (first.returncode, first.stderr) == (0, "")
    assert first.stdout.splitlines() == [
        "installing the packages into .venv: 3 to 5 minutes and 7 GB, this once",
        "  530.6 MB  torch-2.14.1-cp311.whl",
        "  unpacking, about a minute",
    ]
    assert len(tree.installs()) == 1 and "-c constraints.txt -r requirements.txt" in tree.installs()[0]
    second = tree.set_up()
    assert (second.returncode, second.stdout, second.stderr) == (0, "", "")
    assert len(tree.installs()) == 1


def test_tools_of_the_tests_come_on_top_and_serve_run_as_well(tree: Tree):
    tree.set_up("run")
    assert tree.set_up("test").stdout.startswith("bringing .venv up to date")
    assert tree.installs()[-1].endswith("-r requirements.txt -e .[test]")
    assert tree.set_up("test").stdout == tree.set_up("run").stdout == ""
    assert len(tree.installs()) == 2


@pytest.mark.parametrize("name", ["requirements.txt", "constraints.txt", "pyproject.toml"])
def test_changed_requirements_are_installed(tree: Tree, name: str):
    tree.set_up()
    with (tree.root / name).open("a") as file:
        file.write("# more\n")
    assert tree.set_up().stdout.startswith("bringing .venv up to date")
    assert len(tree.installs()) == 2


def test_moved_project_is_installed_again(tree: Tree):
    tree.set_up()
    tree.root = tree.root.rename(tree.root.with_name("moved"))
    assert tree.set_up().stdout.startswith("bringing .venv up to date")
    assert tree.set_up().stdout == ""


def test_killed_install_begins_anew(tree: Tree):
    assert tree.set_up(FAKE_PIP="killed").returncode != 0
    left = tree.root / ".venv/half_written"
    left.touch()
    assert tree.set_up().returncode == 0
    assert not left.exists()
    assert tree.set_up().stdout == ""


def test_no_network_is_told_in_one_line_and_the_next_start_goes_on(tree: Tree):
    done = tree.set_up(FAKE_PIP="offline")
    assert done.returncode == 1
    assert (
        done.stderr.startswith("error: the packages cannot be fetched; check the network")
        and done.stderr.count("\n") == 1
    )
    assert tree.set_up().returncode == 0
    assert tree.set_up().stdout == ""


def test_update_without_network_keeps_what_is_installed(tree: Tree):
    tree.set_up()
    (tree.root / "constraints.txt").write_text("")
    assert tree.set_up(FAKE_PIP="offline").returncode == 1
    assert (tree.root / ".venv/lib/python3.12/site-packages/torch").is_dir()
    assert tree.set_up().stdout.startswith("bringing .venv up to date")
    assert (tree.root / ".venv/lib/python3.12/site-packages/torch").is_dir()


def test_other_trouble_of_pip_is_told_in_its_words(tree: Tree):
    done = tree.set_up(FAKE_PIP="conflict")
    assert done.returncode == 1
    assert (
        "error: pip cannot install the packages: ERROR: Cannot install a and b. Details: " in done.stderr
        and done.stderr.count("\n") == 1
    )
    details = done.stderr.strip().rpartition("Details: ")[2]
    assert "more" in Path(details).read_text()


def test_disk_too_small_is_told_before_anything_is_made(tree: Tree):
    done = tree.set_up(FAKE_FREE_MB="4000")
    assert done.returncode == 1
    assert re.fullmatch(
        r"error: only 4000 MB are free at .*a project, the packages need 10 GB; free some space and start again\n",
        done.stderr,
    )
    assert not (tree.root / ".venv").exists()


def test_disk_that_fills_up_is_told_and_the_next_start_begins_anew(tree: Tree):
    done = tree.set_up(FAKE_PIP="full")
    assert done.returncode == 1
    assert done.stderr.startswith("error: the disk is full at ") and done.stderr.count("\n") == 1
    assert tree.set_up().stdout.startswith("installing the packages")


def test_small_disk_spares_the_cache_of_pip(tree: Tree):
    tree.set_up(FAKE_FREE_MB="11000")
    assert "--no-cache-dir" in tree.installs()[0]


def test_missing_python_names_the_package_to_install(tree: Tree):
    (tree.bin / "python3").unlink()
    done = tree.set_up()
    assert done.returncode == 1
    assert (
        done.stderr.startswith("error: no Python 3.11 or newer found; run: sudo apt-get install python3 python3-venv")
        and done.stderr.count("\n") == 1
    )
    assert not (tree.root / ".venv").exists()


def test_old_python_counts_as_none(tree: Tree):
    done = tree.set_up(FAKE_VERSION="3.9")
    assert done.returncode == 1 and "no Python 3.11 or newer found" in done.stderr


def test_python_without_venv_names_the_package_to_install(tree: Tree):
    done = tree.set_up(FAKE_NO_VENV="1")
    assert done.returncode == 1
    assert (
        done.stderr
        == "error: Python 3.12 cannot make a virtual environment; run: sudo apt-get install python3.12-venv\n"
    )


def test_newer_python_that_is_switched_off_is_passed_over(tree: Tree):
    tree.tool("python3.13", "echo 'pyenv: python3.13: command not found' >&2; exit 127")
    assert tree.set_up().returncode == 0


def test_venv_without_working_python_is_made_anew(tree: Tree):
    tree.set_up()
    (tree.root / ".venv/bin/python").unlink()
    assert tree.set_up().stdout.startswith("installing the packages")
    assert tree.set_up().stdout == ""


def test_two_starts_at_once_install_once(tree: Tree):
    starts = "set_up run & set_up run & wait"
    done = tree.bash(f"set -euo pipefail; source .ci/setup.sh; {starts}")
    assert done.returncode == 0
    assert len(tree.installs()) == 1


@pytest.mark.slow
def test_real_pip_without_network(tree: Tree):
    (tree.bin / "python3").unlink()
    (tree.bin / "python3").symlink_to(Path(sys.executable).resolve())
    for tool in ("mount", "uname"):
        (tree.bin / tool).symlink_to(shutil.which(tool) or f"/bin/{tool}")
    done = tree.set_up(PIP_INDEX_URL="http://127.0.0.1:9/simple", PIP_CONFIG_FILE="/dev/null")
    assert done.returncode == 1
    assert (
        done.stderr.startswith("error: the packages cannot be fetched; check the network")
        and done.stderr.count("\n") == 1
    )


# --- run.sh
# -----------------------------------------------------------------------------------------------------------------


def test_help_needs_nothing_and_names_options_recipes_and_doors(doors: Tree):
    (doors.bin / "python3").unlink()
    for option in ("--help", "-h"):
        done = doors.bash(f"./run.sh {option}")
        assert (done.returncode, done.stderr) == (0, "")
    options = {option for action in parser(None)._actions for option in action.option_strings} | {
        "--from",
        "--to",
        "--limit-hours",
    }
    assert set(re.findall(r"(?<!\w)--?[a-z][a-z-]*", done.stdout)) >= options
    assert re.search(r"^  tiny +small and quick$", done.stdout, re.MULTILINE)
    assert all(name in done.stdout for name in DOORS.values())
    assert not (doors.root / ".venv").exists()


def test_nine_doors_in_order_then_the_summary(doors: Tree):
    done = doors.bash("./run.sh")
    assert (done.returncode, done.stderr) == (0, "")
    out = doors.root / "artifacts"
    opened = [line for line in done.stdout.splitlines() if line.startswith("door ")]
    assert opened == [f"door {number} --recipe demo --out {out}" for number in range(1, 10)]
    summary = done.stdout.partition("Scores on classes")[2]
    assert re.search(r"^  off the shelf    1280  0\.641  0\.700$", summary, re.MULTILINE)
    assert re.search(r"^  \+ ensemble, PCA    64  0\.702  0\.751$", summary, re.MULTILINE)
    assert f"checked {out}/demo/08_export/submission.zip --expected {out}/demo/08_export/parity" in summary
    assert re.findall(r"\d+\.\d s  (\S.*)", summary) == [*(Path(name).stem for name in DOORS.values()), "in all"]
    assert f"Submission: {out}/demo/08_export/submission.zip" in summary
    assert f"Report:     {out}/demo/09_report/index.html" in summary


def test_options_reach_every_door(doors: Tree):
    words = (
        "--recipe=tiny --data-root 'my data' --set seed=1 --set=model.name=x --device cpu --force --verify --replace "
        "--name mine --tracker=mlflow --out 'my out'"
    )
    done = doors.bash(f"./run.sh --to 7 {words}")
    assert done.returncode == 0, done.stderr
    opened = [line for line in done.stdout.splitlines() if line.startswith("door ")]
    given = (
        "--data-root my data --set seed=1 --set model.name=x --device cpu --force --verify --replace --name mine "
        "--tracker mlflow --recipe tiny --out my out"
    )
    assert opened == [f"door {n} {given}" for n in range(1, 8)]


def test_words_with_spaces_and_quotes_stay_whole(doors: Tree):
    (doors.root / DOORS[9]).write_text("import sys\nprint(sys.argv[1:])\n")
    odd = "an 'odd' \"out\"; $HOME * \\n"
    (doors.root / "artifacts").rename(doors.root / odd)
    weights = f"model.weights={odd}.safetensors"
    done = doors.bash(f"./run.sh --from 9 --set {shlex.quote(weights)} --out={shlex.quote(odd)}")
    assert (done.returncode, done.stderr) == (0, "")
    assert str(["--set", weights, "--recipe", "demo", "--out", odd]) in done.stdout.splitlines()
    assert "  off the shelf    1280  0.641  0.700\n" in done.stdout
    assert f"checked {odd}/demo/08_export/submission.zip --expected {odd}/demo/08_export/parity" in done.stdout


def test_summary_says_of_which_classes_the_scores_are(doors: Tree):
    assert "Scores on classes that training never saw:\n" in doors.bash("./run.sh --from 9").stdout
    said = doors.bash("./run.sh --from 9 --set data.val_by=image").stdout
    assert "Scores on images that were held back, of classes that were trained on:\n" in said
    assert "never saw" not in said


def test_smallest_cosine_of_the_recipe_reaches_the_check(doors: Tree):
    assert doors.bash("./run.sh --from 9").stdout.count("--min-cosine 0.999\n") == 1
    assert doors.bash("./run.sh --from 9 --set export.min_parity_cosine=0.5").stdout.count("--min-cosine 0.5\n") == 1


def test_out_of_the_environment_is_used(doors: Tree):
    done = doors.bash("./run.sh --to 1", GUIE_OUT="/some/where")
    assert "door 1 --recipe demo --out /some/where" in done.stdout


def test_from_and_to_open_a_part(doors: Tree):
    done = doors.bash("./run.sh --from 3 --to 5")
    assert re.findall(r"^door (\d)", done.stdout, re.MULTILINE) == ["3", "4", "5"]
    assert "Submission" not in done.stdout and "Scores" not in done.stdout


def test_failing_door_stops_the_sequence_with_its_status(doors: Tree):
    done = doors.bash("./run.sh", FAKE_FAIL_4="2")
    assert done.returncode == 2
    assert re.findall(r"^door (\d)", done.stdout, re.MULTILINE) == ["1", "2", "3", "4"]
    assert (
        "04_train_head.py stopped with status 2; the error above says what to do. Then the run goes on from here."
        in done.stderr
    )


def test_bad_submission_fails_the_run(doors: Tree):
    done = doors.bash("./run.sh", FAKE_BAD_ZIP="1")
    assert done.returncode == 1
    assert "submission.zip, which the check above refuses" in done.stdout and "Report:     " in done.stdout


def test_submission_that_is_slow_here_is_told_and_no_failure(doors: Tree):
    """The machine that runs this says little of the scorer's."""
    done = doors.bash("./run.sh --limit-hours 30", FAKE_BAD_ZIP=str(TOO_SLOW))
    assert done.returncode == 0 and "--limit-hours 30" in done.stdout
    assert "submission.zip, over the time limit at this machine's speed\n" in done.stdout
    assert "refuses" not in done.stdout and "--limit-hours" not in doors.bash("./run.sh").stdout


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("--limit-hours soon", "--limit-hours is soon, must be a number"),
        ("--recpie tiny", "no option --recpie"),
        ("tiny", "no option tiny"),
        ("--set", "--set needs a value"),
        ("--from 0", "--from is 0, must be 1 to 9"),
        ("--to ten", "--to is ten, must be 1 to 9"),
        ("--from 5 --to 4", "--from 5 is after --to 4"),
    ],
)
def test_wrong_option_is_told_before_anything_is_installed(doors: Tree, words: str, complaint: str):
    done = doors.bash(f"./run.sh {words}")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: {complaint}; ./run.sh --help lists the options\n"
    assert not (doors.root / ".venv").exists()


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("--recipe tinny", "no recipe 'tinny'; did you mean 'tiny'?"),
        ("--set sed=1", "did you mean 'seed'?"),
        ("--recipe no.py", "does not exist"),
        ("--recipe='my \"own\" one.py'", 'my "own" one.py does not exist'),
        ("--set '--help'", "'--help'"),
    ],
)
def test_wrong_recipe_is_told_before_the_first_door(doors: Tree, words: str, complaint: str):
    done = doors.bash(f"./run.sh {words}")
    assert done.returncode == 2 and "door 1" not in done.stdout
    assert done.stderr.startswith("error: ") and complaint in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--images 'my photos' --look", ["look", "my photos"]),
        (
            "--look --towers a,b --images='my photos' --out there",
            ["look", "my photos", "--towers", "a,b", "--out", "there"],
        ),
        ("--images photos --backbone", ["train", "photos", "--backbone"]),
        ("look photos", ["look", "photos"]),
    ],
)
def test_images_are_short_for_commands_of_guie(tree: Tree, words: str, expected: list[str]):
    stub = tree.root / "stub/guie"
    stub.mkdir(parents=True)
    (stub / "__init__.py").touch()
    (stub / "__main__.py").write_text("import sys\nprint(sys.argv[1:])\n")
    done = tree.bash(f"./run.sh {words}", PYTHONPATH=str(stub.parent))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(expected)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("--look", "--look needs --images FOLDER"),
        ("--images", "--images needs a value"),
        ("--images=", "--images needs a value"),
        ("--images a --images=b", "--images stands twice; name one folder"),
    ],
)
def test_images_and_look_without_a_folder_are_told(tree: Tree, words: str, complaint: str):
    done = tree.bash(f"./run.sh {words}")
    assert (done.returncode, done.stderr) == (2, f"error: {complaint}; ./run.sh --help lists the options\n")


def test_runs_from_another_folder_with_paths_relative_to_it(doors: Tree):
    recipe = textwrap.dedent("""
        from guie.recipe import load_recipe
        from dataclasses import replace
        RECIPE = replace(load_recipe("tiny"), name="mine")
    """)
    (doors.root.parent / "mine.py").write_text(recipe)
    done = doors.bash("cd .. && 'a project/run.sh' --recipe mine.py --to 1")
    assert done.returncode == 0, done.stderr
    assert "door 1 --recipe mine.py" in done.stdout


# --- test.sh
# -----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def checks(tree: Tree) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs test.sh with stand-ins for ruff, mypy and pytest."""
    tree.set_up("test")
    for name in ("ruff", "mypy"):
        path = tree.root / f".venv/bin/{name}"
        path.write_text(f'#!/bin/bash\necho "{name} $*"\nexit "${{FAKE_{name.upper()}:-0}}"\n')
        path.chmod(0o755)
    (tree.root / "pytest.py").write_text(
        "import os, sys\nprint('pytest', sys.argv[1:])\nprint('3 passed in "
        "0.1s')\nsys.exit(int(os.environ.get('FAKE_PYTEST', 0)))\n"
    )
    return lambda words="", **environment: tree.bash(f"./test.sh {words}", **environment)


def test_test_sh_runs_ruff_mypy_and_pytest_last(checks: Callable[..., subprocess.CompletedProcess[str]]):
    n = "1"  # the stand-in has neither nproc nor getconf
    spread = ["-n", n, "--dist", "loadscope", "--no-loadscope-reorder"]
    for word, chosen in (("--quick", ["-m", "not full and not slow"]), ("", ["-m", "not full"]), ("--all", [])):
        done = checks(f"{word} tests/unit -k 'a or b'")
        lines = [line for line in done.stdout.splitlines() if not line.startswith("==")]
        given = [*spread, *chosen, "tests/unit", "-k", "a or b"]
        assert lines == ["ruff check", "ruff format --check", "mypy ", f"pytest {given}", "3 passed in 0.1s"]
        assert done.returncode == 0


def test_tests_of_a_file_run_in_one_process(tmp_path: Path):
    """A file's costly fixtures would be made in every process otherwise, and two pools of threads would fight for the
    cores; nothing would say so."""
    (tmp_path / "tests").mkdir()
    for name in ("conftest.py", "spread.py"):
        shutil.copy(PROJECT / "tests" / name, tmp_path / "tests")
    for name in ("test_a.py", "test_b.py"):
        (tmp_path / "tests" / name).write_text(
            "import os, time\nfrom pathlib import Path\nimport pytest\n\n"
            "@pytest.mark.parametrize('i', range(6))\ndef test_it(i):\n    time.sleep(0.1)\n"
            "    assert os.environ['OMP_NUM_THREADS'] == '1'\n"
            "    with Path(__file__).with_suffix('.txt').open('a') as file:\n"
            "        file.write(os.environ['PYTEST_XDIST_WORKER'] + ' ')\n"
        )
    command = ["-m", "pytest", "-n", "2", "--dist", "loadscope", "--no-loadscope-reorder", "-p", "no:cacheprovider"]
    own = ("OMP_NUM_THREADS", "PYTEST_XDIST_WORKER")
    env = {name: value for name, value in os.environ.items() if name not in own}
    done = subprocess.run([sys.executable, *command], cwd=tmp_path, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stdout
    a, b = ((tmp_path / "tests" / name).read_text().split() for name in ("test_a.txt", "test_b.txt"))
    assert len(a) == len(b) == 6 and {*a, *b} == {"gw0", "gw1"} and len(set(a)) == len(set(b)) == 1


def test_files_that_run_together_are_there():
    assert len(TOGETHER) >= 1
    for files in TOGETHER:
        assert all((PROJECT / file).is_file() for file in files)
        assert {group_of(f"{file}::test_x[a::b]") for file in files} == {files[0]}
    assert group_of("tests/unit/test_run.py::test_x") == "tests/unit/test_run.py"


@pytest.mark.parametrize("tool", ["RUFF", "MYPY", "PYTEST"])
def test_test_sh_fails_when_one_of_them_fails_and_still_ends_with_pytest(
    checks: Callable[..., subprocess.CompletedProcess[str]], tool: str
):
    done = checks(**{f"FAKE_{tool}": "1"})
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "3 passed in 0.1s"
    assert ("FAILED before the tests" in done.stdout) == (tool != "PYTEST")


def test_test_sh_help_needs_nothing(tree: Tree):
    (tree.bin / "python3").unlink()
    done = tree.bash("./test.sh --help")
    assert done.returncode == 0 and "--quick" in done.stdout and not (tree.root / ".venv").exists()


def test_commands_do_not_hold_the_lock_while_they_work(doors: Tree):
    (doors.root / DOORS[1]).write_text(
        "import os\nprint('open files', [p for p in os.listdir('/proc/self/fd') if p == '9'])\n"
    )
    assert "open files []" in doors.bash("./run.sh --to 1").stdout
    assert os.path.isdir("/proc/self/fd")
