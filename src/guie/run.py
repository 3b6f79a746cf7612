"""One run of a recipe: its folders, its log, its seed."""

from __future__ import annotations

import contextlib
import ctypes
import json
import logging
import os
import platform
import random
import resource
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from guie.files import checked_digest_of_file, save_json
from guie.machine import n_cores, peak_memory
from guie.settings.recipe import Recipe
from guie.shown import FILE, ONLY, TERMINAL, painted, with_scores

# Waiting OpenMP threads sleep instead of spinning. With loader processes or other programs on the same cores, spinning
# costs a quarter to a half of the images/s (tests/benchmarks/cpu.md). OpenMP reads the variable once, when torch loads
# it. So no module that is imported before this line may import torch.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

FOLDERS = {
    1: "01_manifests",
    2: "02_balanced",
    3: "03_packed",
    4: "04_head",
    5: "05_backbone",
    6: "06_highres",
    7: "07_embeddings",
    8: "08_export",
    9: "09_report",
}
DOORS = {
    1: "data_prep/01_build_manifests.py",
    2: "data_prep/02_merge_and_balance.py",
    3: "data_prep/03_pack_images.py",
    4: "src/04_train_head.py",
    5: "src/05_train_backbone.py",
    6: "src/06_finetune_highres.py",
    7: "src/07_ensemble_and_pca.py",
    8: "src/08_export_torchscript.py",
    9: "src/09_report.py",
}
PHASE_FOLDERS = {"head": FOLDERS[4], "backbone": FOLDERS[5], "highres": FOLDERS[6]}
DIMENSIONS = "dimensions.csv"  # of door 07: what the exported embedding scores at other widths and as codes
FOREIGN = "foreign"  # in a run's folder: what guie foreign finds about its recipe
FOREIGN_HEAD = "foreign_head"  # the same with --head-only
FOREIGN_SUMMARY = "summary.csv"  # in either: the scores of domains seen and never seen
FOREIGN_COMPARED = "compared.csv"  # what is gained over another run's folds
FOREIGN_RECIPE = "of_recipe.json"  # the settings that both are of
MODEL_NAME = "saved_model.pt"  # what door 08 exports; the contest asks for this name
PROJECT = Path(__file__).resolve().parents[2]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """Where a recipe reads and writes, and on what device.

    Attributes:
        recipe: What to do.
        data_root: Folder that the sources' folders and the weights are relative to.
        out: Folder of this run, such as `artifacts/<recipe>`.
        device: `cpu`, `cuda`, `cuda:0`, ...
        scheduler: Address of a dask.distributed scheduler whose workers check and pack; '' for the processes of this
            machine.
        verify: Compare the bytes of what earlier starts have made, not only sizes and times.
        tracker: Where the curves of the training go: one of `guie.launch.TRACKERS`. It changes no result.
    """

    recipe: Recipe
    data_root: Path
    out: Path
    device: str = "cpu"
    scheduler: str = ""
    verify: bool = False
    tracker: str = "tensorboard"

    def folder(self, number: int) -> Path:
        """The folder that door `number` writes; made if it is missing."""
        path = self.out / FOLDERS[number]
        path.mkdir(parents=True, exist_ok=True)
        return path

    def stage_folder(self, name: str) -> Path:
        """The folder of the stage called `name`; made if it is missing.

        Raises:
            ValueError: there is no such stage; the message gives the nearest name.
        """
        self.recipe.row(name)
        path = self.out / PHASE_FOLDERS[self.recipe.stages.phase_of(name)] / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    @property
    def cache(self) -> Path:
        """The folder of cached features. Deleting it costs time, but no results."""
        return self.out / "cache"

    @property
    def images_root(self) -> Path:
        """The folder that the manifests' paths are relative to."""
        return self.out / "drawn" if self.recipe.data.drawn else self.data_root

    def weights_path(self, name: str) -> Path:
        """The file of pretrained weights called `name`.

        Args:
            name: An absolute path; or one relative to the data root, to `weights/` beside it, or to the project's
                `weights/`. The first file that exists is taken.

        Raises:
            FileNotFoundError: there is no such file; the message lists the places.
        """
        given = Path(name)
        places = (
            [given]
            if given.is_absolute()
            else [self.data_root / given, self.data_root.parent / "weights" / given, PROJECT / "weights" / given]
        )
        for place in places:
            if place.is_file():
                return place
        raise FileNotFoundError(
            f"weights {name} are in none of: {', '.join(map(str, places))}. Put the file there, or --set "
            "model.weights=PATH"
        )

    def weights_digest(self) -> str:
        """Digests of the files of pretrained weights, with spaces between. '' if the recipe names no file, but random
        weights or a tag of the library.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: `SHA256SUMS` beside the file lists another digest.
        """
        names = [model.weights_file for model in self.recipe.models if model.weights_file]
        return " ".join(checked_digest_of_file(self.weights_path(name)) for name in names)


class _Quiet(logging.Handler):
    """Ignores the log's own OSErrors. A full disk or a closed pipe stops the work itself, which reports it."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's name)
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            super().close()


class _Terminal(_Quiet, logging.StreamHandler[TextIO]):
    """Lines on the terminal."""


class _ForPeople(logging.Formatter):
    """The message alone. Warnings and errors are in colour on a terminal, and so are the scores of a line."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        if record.levelno >= logging.ERROR:
            return painted(text, "error")
        if record.levelno >= logging.WARNING:
            return painted(text, "warning")
        return with_scores(text)


class _LogFile(_Quiet, logging.FileHandler):
    """`log.txt`."""


def set_up_logging(folder: Path | None, is_main: bool = True) -> None:
    """Sends the package's log to the terminal and, given a folder, with tracebacks and commands to `folder/log.txt`.

    Warnings and log records of libraries go to `log.txt` only. Without a folder they are left as they are.

    Args:
        folder: A door's folder, or None.
        is_main: Whether this is the main process. Others show only errors, and write no `log.txt`.
    """
    root, libraries = logging.getLogger("guie"), logging.getLogger()
    for handler in [*root.handlers, *(handler for handler in libraries.handlers if isinstance(handler, _LogFile))]:
        root.removeHandler(handler)
        libraries.removeHandler(handler)
        handler.close()
    root.setLevel(logging.DEBUG)
    root.propagate = False
    terminal = _Terminal(sys.stdout)
    terminal.setLevel(logging.INFO if is_main else logging.ERROR)
    terminal.setFormatter(_ForPeople("%(message)s"))
    terminal.addFilter(lambda record: getattr(record, ONLY, TERMINAL) == TERMINAL)
    root.addHandler(terminal)
    logging.captureWarnings(folder is not None)
    if folder is not None:
        try:
            file = _LogFile(folder / "log.txt" if is_main else os.devnull, encoding="utf-8", errors="backslashreplace")
        except OSError as error:  # a finished run in a read-only folder can still be shown
            root.info("no log is kept: %s: %s", folder / "log.txt", error.strerror)
            file = _LogFile(os.devnull)
        file.addFilter(lambda record: getattr(record, ONLY, FILE) == FILE)
        file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        root.addHandler(file)
        libraries.addHandler(file)


def seed_everything(seed: int) -> None:
    """Seeds Python, numpy and torch."""
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def check_reads_images(recipe: Recipe, data_root: Path) -> None:
    """Raises ValueError for a --data-root that was given with a recipe that reads nothing there."""
    if recipe.data.drawn:
        raise ValueError(
            f"--data-root {data_root}: recipe {recipe.name} draws its own images (its data.drawn is set) and reads "
            "none there; leave it out, or name the --recipe of your images"
        )


def keep_freed_memory() -> bool:
    """Lets glibc keep freed memory instead of giving every large tensor back to the kernel.

    By default each activation above 32 MiB is mapped anew at every step, and the kernel zeroes its pages.
    `tests/benchmarks/cpu.py` measures what is gained.

    Returns:
        Whether the C library took the setting; False without Linux or glibc.
    """
    if platform.system() != "Linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # musl has no mallopt
        return False
    m_trim_threshold, m_top_pad, m_mmap_max = -1, -2, -4  # malloc.h
    return all([mallopt(m_mmap_max, 0), mallopt(m_trim_threshold, 2**31 - 1), mallopt(m_top_pad, 64 << 20)])


def peak_memory_gb() -> float:
    """The largest resident memory of any single process so far, this one or a finished child, in GB.

    They are not added up, since loader processes share most of their memory.
    """
    of_children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (
        1 if platform.system() == "Darwin" else 1024
    )
    return round(max(peak_memory(), of_children) / 1e9, 3)


def commit(checkout: Path | None = None) -> str:
    """A checkout's git commit, by default this project's, with `+` if the tree has changes; `unknown` where there is
    none."""
    git = ["git", "-C", str(checkout or PROJECT)]
    try:
        head, status = (
            subprocess.run([*git, *words], capture_output=True, text=True, check=True).stdout.strip()
            for words in (("rev-parse", "--short=10", "HEAD"), ("status", "--porcelain"))
        )
        return head + ("+" if status else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def save_recipe(out: Path, recipe: Recipe, command: str, arguments: Mapping[str, Any]) -> None:
    """Writes `recipe.json` into the run's folder: how the run was started, the commit, and the recipe with all fields.

    Args:
        out: The run's folder.
        recipe: The recipe, with --set applied.
        command: The command line, for people.
        arguments: The same options by name, for programs.
    """
    started = {"command": command, "arguments": dict(arguments), "commit": commit()}
    save_json(out / "recipe.json", started | {"recipe": json.loads(recipe.to_json())})


def clear(folder: Path) -> None:
    """Removes everything in `folder` but its log."""
    for path in folder.iterdir():
        if path.name != "log.txt":
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def keep_conditions(stage: str, begun: dict[str, Any], device: str) -> None:
    """Sets torch's number of threads to the one that `stage` was begun with.

    On a CPU another number of threads sums in another order, and the last bits differ. If the device is another, or
    there are too few cores, a warning says that the weights will not be bit-equal.

    Args:
        stage: The stage's name.
        begun: Its checkpoint or done-mark, with `threads` and `device` of its first start.
        device: cpu or cuda, of this start.
    """
    import torch

    n = torch.get_num_threads()
    threads = begun.get("threads") or n
    was = begun.get("device", device).partition(":")[0]
    if was != device:
        log.warning(
            "stage %s: was begun on %s and goes on on %s: the weights are not those of an uninterrupted run",
            stage,
            was,
            device,
        )
    elif threads <= n_cores() and threads != n:
        torch.set_num_threads(threads)
        log.info("stage %s: was begun with %d threads, which are kept; this start would take %d", stage, threads, n)
    elif threads != n and device == "cpu":
        log.warning(
            "stage %s: was begun with %d threads and goes on with %d: not bit-equal to an uninterrupted run",
            stage,
            threads,
            n,
        )


def default_out() -> Path:
    """`GUIE_OUT`, or `artifacts/` of the project."""
    return Path(os.environ.get("GUIE_OUT", PROJECT / "artifacts"))
