"""The curves of a stage: metrics.csv, a row an epoch; curve.csv, a row for each twentieth of the stage, so that a stage
of one epoch has a curve, too; and the epochs for TensorBoard: tensorboard --logdir artifacts/<recipe>/tensorboard."""

from __future__ import annotations

import csv
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from guie.files import whole_file

POINT_COLUMNS = ("step", "loss", "lr")
COLUMNS = ("epoch", "step", "loss", "lr", "images_per_s", "seconds", "val_mp5", "val_r1")


class Curves:
    """The rows of metrics.csv for TensorBoard, an epoch each. A stage that resumes begins the folder anew with the rows
    that its checkpoint holds."""

    def __init__(self, folder: Path, history: Sequence[dict[str, Any]], is_main: bool) -> None:
        """Curves in `folder`, which lies outside the doors' folders: event files hold times and names of machines."""
        self.writer: SummaryWriter | None = None
        self.last_step = 0
        if not is_main:
            return
        logging.getLogger("tensorboard").setLevel(logging.ERROR)
        shutil.rmtree(folder, ignore_errors=True)
        self.writer = SummaryWriter(str(folder))
        for row in history:
            self.add(row)

    def add(self, row: dict[str, Any]) -> None:
        """All numbers of the row but the epoch, at its step."""
        if self.writer is None:
            return
        self.last_step = row["step"]
        for name, value in row.items():
            if name not in ("epoch", "step"):
                self.writer.add_scalar(name, value, row["step"])
        self.writer.flush()

    def finish(self, scores: dict[str, float]) -> None:
        """The scores of the stage's result, at its last step; nothing is written after this."""
        if self.writer is not None:
            self.add({"step": self.last_step, "result_mp5": scores["mp5"], "result_r1": scores["r1"]})
            self.writer.close()


def write_curves(folder: Path, history: Sequence[dict[str, Any]], points: Sequence[dict[str, float]]) -> None:
    """Writes `metrics.csv` and, where there are points, `curve.csv` into a stage's folder."""
    write_metrics(folder / "metrics.csv", history)
    if points:
        _write_rows(folder / "curve.csv", POINT_COLUMNS, points)
    else:
        (folder / "curve.csv").unlink(missing_ok=True)  # of what was trained under this name before


def write_metrics(path: Path, history: Sequence[dict[str, Any]]) -> None:
    """Writes one row an epoch to `metrics.csv`, whole or not at all; columns are those of all rows, `COLUMNS` in their
    order."""
    found = dict.fromkeys(name for row in history for name in row)
    own = [name for name in found if name not in COLUMNS]  # of the objective: margins, thresholds
    at = COLUMNS.index("loss") + 1
    _write_rows(path, [*COLUMNS[:at], *own, *COLUMNS[at:]], history)


def _write_rows(path: Path, columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> None:
    with whole_file(path) as temporary, temporary.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)
