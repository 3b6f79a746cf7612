"""Doors whose work only counts its calls, on a recipe of three stages."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from guie import done as done_module
from guie import door as door_module
from guie.door import open_door
from guie.run import DOORS, FOLDERS, Run, set_up_logging

RECIPE = """
from guie.recipe import *
ONCE = Optim(n_epochs=1, batch_size=8, lr=0.01)
RECIPE = Recipe(
    "mine",
    Data((Source("toys", "class_folders", "toys", "toys"),)),
    Model("timm", "resnet18"),
    Stages(
        head=(Stage("s1", trains="head", image_px=64, start=Start(fresh=HEAD), optim=ONCE),),
        backbone=(Stage("s2", trains="backbone", image_px=64, optim=ONCE),),
        highres=(Stage("s3", trains="backbone", image_px=96, optim=ONCE),),
    ),
    Embed((Setting("first", (Member("s1", 64),)), Setting("last", (Member("s3", 96),)))),
)
"""


class Bench:
    """A recipe file, a data root and an output folder, and doors whose work only counts its calls."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.recipe = folder / "mine.py"
        self.recipe.write_text(RECIPE)
        (folder / "data/toys").mkdir(parents=True)
        (folder / "data/toys/a.jpg").write_bytes(b"a")
        self.calls: list[int] = []

    def options(self, *more: str) -> list[str]:
        return [
            "--recipe",
            str(self.recipe),
            "--data-root",
            str(self.folder / "data"),
            "--out",
            str(self.folder / "out"),
            "--device",
            "cpu",
            *more,
        ]

    def open(self, number: int, *more: str, output: str = "same") -> int:
        def work(run: Run) -> dict[str, Any]:
            self.calls.append(number)
            (run.folder(number) / "result.txt").write_text(output)
            return {"n": 1}

        return open_door(number, "A door.", work, self.options(*more))

    def open_all(self, *more: str) -> list[int]:
        """Opens all nine; which of them did their work."""
        self.calls.clear()
        assert [self.open(number, *more) for number in DOORS] == [0] * 9
        return list(self.calls)

    def out(self, number: int) -> Path:
        return self.folder / "out/mine" / FOLDERS[number]


def contents(folder: Path) -> dict[str, bytes]:
    """All files of a run but for logs, which may grow."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in ("log.txt", ".lock"))
    return {str(path): path.read_bytes() for path in files}


def made_bench(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """A bench, and the environment that its doors need; of a fixture."""
    for name in ("GUIE_OUT", "GUIE_DATA", "GUIE_TRACEBACK", "RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(
        door_module, "keep_freed_memory", lambda: True
    )  # it cannot be undone, and the tests share one process
    monkeypatch.setattr(done_module, "commit", lambda: "unknown")  # git takes longer than the doors of these tests
    yield Bench(folder)
    set_up_logging(None)
