"""The notebooks in a real Jupyter kernel, on folders like Kaggle's: attached things that are only read, no network,
guie from its wheel alone."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import pytest
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager
from nbclient import NotebookClient

from guie.machine import n_cores
from guie.run import DOORS, FOLDERS, PROJECT

pytestmark = pytest.mark.slow
NOTEBOOKS = sorted((PROJECT / "notebooks").glob("*.ipynb"))
LOOKS = [path.stem for path in NOTEBOOKS if path.stem.startswith("look_at_")]
# Every socket that leads out of the machine fails, in the kernel and in every Python that it starts.
NO_NETWORK = """
import sys
def forbid(event, arguments):
    if event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"):
        raise OSError(101, "Network is unreachable")
    is_inet = event in ("socket.connect", "socket.sendto") and isinstance(arguments[1], tuple)
    if is_inet and arguments[1][0] not in ("127.0.0.1", "::1"):
        raise OSError(101, "Network is unreachable")
sys.addaudithook(forbid)
"""


class Kaggle:
    """A machine like Kaggle's: `input` is attached, `working` is kept, and its Python has every package but guie."""

    def __init__(self, folder: Path) -> None:
        self.input, self.working, self.folder = folder / "input", folder / "working", folder
        self.input.mkdir()
        self.working.mkdir()
        self.python = folder / "venv/bin/python"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True)
        (self.packages,) = (folder / "venv/lib").glob("python3*/site-packages")
        here = Path(pytest.__file__).parents[1]
        for path in here.iterdir():
            if not path.name.startswith(("guie", "__editable__", "_distutils", "distutils")) and path.suffix != ".pth":
                (self.packages / path.name).symlink_to(path)
        (self.packages / "sitecustomize.py").write_text(NO_NETWORK)
        spec = {
            "argv": [str(self.python), "-m", "ipykernel_launcher", "-f", "{connection_file}"],
            "display_name": "Kaggle",
            "language": "python",
        }
        (folder / "kernels/kaggle").mkdir(parents=True)
        (folder / "kernels/kaggle/kernel.json").write_text(json.dumps(spec))

    def attach(self, source: Path, place: str) -> Path:
        """Puts a copy of a folder among what is attached; nothing in it can be written to."""
        shutil.copytree(source, self.input / place)
        for path in sorted((self.input / place).rglob("*"), reverse=True):
            path.chmod(0o555 if path.is_dir() else 0o444)
        return self.input / place

    def run(self, name: str, variables: Mapping[str, str] | None = None) -> str:
        """Runs a notebook from top to bottom; returns all that its cells printed and showed, pictures as their kind."""
        before = {path: path.lstat().st_mtime_ns for path in self.input.rglob("*")}
        notebook = nbformat.read(PROJECT / f"notebooks/{name}.ipynb", as_version=4)
        specs = KernelSpecManager(kernel_dirs=[str(self.folder / "kernels")])
        environment = {
            "PATH": f"{self.python.parent}:/usr/bin:/bin",
            "HOME": str(self.folder),
            "MPLCONFIGDIR": str(self.folder),
        }
        environment["OMP_NUM_THREADS"] = os.environ.get(
            "OMP_NUM_THREADS", str(n_cores())
        )  # as the run that it goes on with
        environment |= {"GUIE_INPUT": str(self.input), "GUIE_WORKING": str(self.working), **(variables or {})}
        with tempfile.TemporaryDirectory(prefix="guie") as sockets:  # of the kernel; their paths must be short
            manager = KernelManager(
                kernel_name="kaggle", transport="ipc", ip=f"{sockets}/kernel", kernel_spec_manager=specs
            )
            try:
                NotebookClient(
                    notebook, km=manager, timeout=400, resources={"metadata": {"path": str(self.working)}}
                ).execute(env=environment)
            finally:  # the client ends only kernels that it has made itself
                manager.shutdown_kernel(now=True)
        assert {path: path.lstat().st_mtime_ns for path in self.input.rglob("*")} == before
        return "\n".join(as_text(output) for cell in notebook.cells for output in cell.get("outputs", []))


def as_text(output: Mapping[str, Any]) -> str:
    data = output.get("data", {})
    pictures = [kind for kind in data if kind.startswith("image/")]
    return "".join(
        [
            output.get("text", ""),
            *(f"<{kind}>" for kind in pictures),
            data.get("text/html", "") or data.get("text/plain", ""),
        ]
    )


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The kit for an image that lacks guie and nothing else."""
    folder = tmp_path_factory.mktemp("kit")
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "list", "--format=freeze"], capture_output=True, text=True, check=True
    ).stdout
    (folder / "image.txt").write_text(listed)
    command = [
        sys.executable,
        str(PROJECT / "notebooks/build_kit.py"),
        "--out",
        str(folder / "guie_kit"),
        "--image",
        str(folder / "image.txt"),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("guie_kit: 1 wheels"), done.stdout + done.stderr
    return folder / "guie_kit"


@pytest.fixture
def machine(tmp_path: Path, kit: Path) -> Kaggle:
    machine = Kaggle(tmp_path)
    machine.attach(kit, "datasets/me/guie-kit")
    return machine


def test_notebooks_are_stored_without_outputs_and_hold_no_logic() -> None:
    assert [path.name for path in NOTEBOOKS] == [
        "look_at_data.ipynb", "look_at_neighbours.ipynb", "look_at_training.ipynb", "reproduce_on_kaggle.ipynb",
        "submit.ipynb",
    ]  # fmt: skip
    for path in NOTEBOOKS:
        cells = nbformat.read(path, as_version=4).cells
        nbformat.validate(nbformat.read(path, as_version=4))
        code = [cell for cell in cells if cell.cell_type == "code"]
        assert len(code) >= 4 and cells[0].cell_type == "markdown"
        assert all(cell.outputs == [] and cell.execution_count is None for cell in code), path
        assert all(len(cell.source.splitlines()) <= 32 for cell in code), path


def test_kaggle_imitated_has_no_guie_and_no_network(machine: Kaggle) -> None:
    code = (
        "import importlib.util as u, socket; assert u.find_spec('torch') and not u.find_spec('guie'); "
        "socket.create_connection(('192.0.2.1', 80), 1)"
    )
    done = subprocess.run(
        [str(machine.python), "-c", code], capture_output=True, text=True, env={"HOME": str(machine.folder)}
    )
    assert "Network is unreachable" in done.stderr and "Error: [Errno 101]" in done.stderr.splitlines()[-1], done.stderr


def test_reproduce_stops_in_time_and_the_next_version_goes_on_to_a_checked_submission(
    machine: Kaggle, house: tuple[Path, list[str]]
) -> None:
    run = machine.attach(house[0], "notebooks/me/first-version/artifacts/tiny")
    for number in (8, 9):  # the first version was cut off before these
        (run / FOLDERS[number]).parent.chmod(0o755)
        for path in [run / FOLDERS[number], *(run / FOLDERS[number]).rglob("*")]:
            path.chmod(0o755)
        shutil.rmtree(run / FOLDERS[number])
    said = machine.run("reproduce_on_kaggle", {"GUIE_HOURS": str(5 / 3600)})
    assert "7 of 9 doors done" in said and "none: the CPU" in said
    assert "08_export_torchscript.py  recipe" in said and "door 01" not in said
    assert "Time is up at door 0" in said and "<image/png>" not in said
    kept = machine.working / "artifacts/tiny"
    assert (kept / FOLDERS[7] / "done.json").is_file() and not (kept / FOLDERS[8] / "done.json").exists()
    assert not (machine.working / "submission.zip").exists()

    second = machine.folder / "second"
    second.mkdir()
    machine.working = machine.working.rename(second / "version")
    machine.attach(machine.working, "notebooks/me/second-version")
    machine.working = second / "working"
    machine.working.mkdir()
    said = machine.run("reproduce_on_kaggle")
    final = pd.read_csv(machine.working / "artifacts/tiny" / FOLDERS[7] / "scores.csv").iloc[-1]
    assert f"{final['mp5']:.3f}" in said and final["setting"] in said
    assert re.search(r"parity +100% \|█+\| (\d+)/\1 ", said)  # a bar of door 08
    assert "<image/png>" in said and "<image/jpeg>" in said
    assert "The submission is sound." in said and "submission.zip" in said.splitlines()[-1]
    assert said.count("ok    ") == 1 + 1 + 10 + 2 + 1 + 1  # zip, load, images, time and memory, parity, second
    assert (machine.working / "submission.zip").read_bytes() == (
        machine.working / "artifacts/tiny" / FOLDERS[8] / "submission.zip"
    ).read_bytes()
    marks = [
        json.loads((machine.working / "artifacts/tiny" / FOLDERS[number] / "done.json").read_text()) for number in DOORS
    ]
    first = json.loads((house[0] / FOLDERS[8] / "done.json").read_text())
    assert marks[7]["outputs"]["submission.zip"] and marks[7]["inputs"] == first["inputs"]


@pytest.mark.full
def test_submit_exports_an_attached_run_without_training(machine: Kaggle, house: tuple[Path, list[str]]) -> None:
    machine.attach(house[0], "first-version/artifacts/tiny")
    said = machine.run("submit")
    run = machine.working / "artifacts/tiny"
    assert sorted(path.name for path in run.iterdir() if path.is_dir() and not path.is_symlink()) == [FOLDERS[8]]
    assert "door 08" in said and "door 07  " not in said
    assert "The submission is sound." in said and "drawn by this project" in said
    assert (machine.working / "submission.zip").stat().st_size > 100_000


@pytest.mark.parametrize(
    ("name", "n_pictures"), [("look_at_data", 3), ("look_at_training", 2), ("look_at_neighbours", 4)]
)
def test_notebook_that_looks_shows_what_the_doors_left(
    house: tuple[Path, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, n_pictures: int
) -> None:
    machine = Kaggle(tmp_path)
    (machine.packages / "guie").symlink_to(PROJECT / "src/guie")
    said = machine.run(name, {"GUIE_RUN": str(house[0])})
    assert said.count("<image/") >= n_pictures
    assert "<image/png>" in said and "<table" in said
    assert name in LOOKS


def test_notebook_of_training_shows_stages_whose_objective_is_a_sum(
    house: tuple[Path, list[str]], tmp_path: Path
) -> None:
    """Their margin stands in a column with the term's name before it."""
    run = shutil.copytree(house[0], tmp_path / "run")
    for curve in run.glob("0*/*/metrics.csv"):
        curve.write_text(curve.read_text().replace("margin_rad", "arcface_margin_rad", 1))
    machine = Kaggle(tmp_path)
    (machine.packages / "guie").symlink_to(PROJECT / "src/guie")
    assert machine.run("look_at_training", {"GUIE_RUN": str(run)}).count("<image/png>") >= 2
