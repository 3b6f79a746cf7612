"""Writes the curves of a stage: metrics.csv has a row for each epoch; curve.csv has a row for each twentieth of the
stage, so that a stage of one epoch has a curve, too. The rows of metrics.csv also go to a tracker, by default
TensorBoard: tensorboard --logdir artifacts/<recipe>/tensorboard."""

from __future__ import annotations

import csv
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from accelerate.tracking import GeneralTracker

from guie.errors import is_of_the_machine
from guie.files import whole_file
from guie.train.trackers import Note, TrackedStage

POINT_COLUMNS = ("step", "loss", "lr")
COLUMNS = ("epoch", "step", "loss", "lr", "images_per_s", "seconds", "val_mp5", "val_r1")
MAX_FAILURES = 2  # in a row; then the tracker is left alone until the stage ends
log = logging.getLogger(__name__)


class Curves:
    """The rows of metrics.csv for a tracker, an epoch each.

    A tracker that fails never stops the training: its rows wait, and are sent with the next one, at the stage's end, or
    by the start that goes on with the stage.

    Attributes:
        waiting: Rows that the tracker does not have yet.
    """

    def __init__(self, place: TrackedStage | None) -> None:
        """Opens nothing yet.

        Args:
            place: Of the stage in its tracker; None in processes that send nothing.
        """
        self.place = place
        self.tracker: GeneralTracker | None = None
        self.note = Note("")
        self.waiting: list[dict[str, Any]] = []
        self.last: Mapping[str, Any] = {}
        self.n_failures = 0
        self.why = ""

    def begin(self, history: Sequence[Mapping[str, Any]], key: str, is_resumed: bool) -> None:
        """Opens the tracker's run, the same one as before if the stage goes on, and sends the rows that it lacks.

        Args:
            history: The rows so far.
            key: What the stage is trained from.
            is_resumed: Whether the stage goes on from a checkpoint.
        """
        if self.place is None:
            return
        self.note = self.place.noted(key, is_resumed)
        self.note.sent = self.note.step
        self.waiting = [dict(row) for row in history if row["step"] > self.note.step]
        self.last = dict(history[-1]) if history else {}
        self._send()

    def add(self, row: Mapping[str, Any]) -> None:
        """Sends all numbers of the row, at its step."""
        self.last = dict(row)  # a copy: the stage adds its scores to the row itself
        if self.place is not None and row["step"] > self.note.step:
            self.waiting.append(dict(row))
            self._send()

    def finish(self, scores: Mapping[str, float], last_row: Mapping[str, Any]) -> None:
        """Sends the scores of the stage's result at its last step, and closes the run.

        Args:
            scores: mp5 and r1 of the result.
            last_row: The last row of metrics.csv, which may have got them, too.
        """
        if self.place is None:
            return
        added = {name: value for name, value in last_row.items() if name not in self.last}
        result = {"result_mp5": scores["mp5"], "result_r1": scores["r1"]}
        self.waiting.append({"step": self.last.get("step", 0), **added, **result})
        self.n_failures = 0  # one more try
        self._send()
        if self.tracker is not None:
            self._tried(self.tracker.finish)
        if self.waiting:
            text = "stage %s: %d rows were not sent to %s (%s); metrics.csv has them"
            log.warning(text, self.place.stage.name, len(self.waiting), self.place.kind, self.why)

    def _send(self) -> None:
        if self.n_failures < MAX_FAILURES:
            self.n_failures = 0 if self._tried(self._send_waiting) else self.n_failures + 1

    def _send_waiting(self) -> None:
        """Sends the rows that wait, in their order; one that cannot be sent goes on waiting."""
        assert self.place is not None
        if self.tracker is None:
            self.tracker = self.place.start(self.note)
        while self.waiting:
            row = self.waiting[0]
            numbers = {name: float(value) for name, value in row.items() if name != "step" and value != ""}
            self.tracker.log(numbers, step=row["step"])
            del self.waiting[0]
            if row["step"] > self.note.sent:
                self.note.step = self.note.sent if self.place.holds_last_row else row["step"]
                self.note.sent = row["step"]
                self.place.write(self.note)

    def _tried(self, call: Any) -> bool:
        """Calls it and returns whether it succeeded; the first failure of a stage is told.

        Raises:
            Exception: the memory or the disk is full, which is not the tracker's fault.
        """
        assert self.place is not None
        try:
            call()
        except Exception as error:  # whatever a tracker or the network raises
            if is_of_the_machine(error):
                raise
            if not self.why:
                text = "stage %s: %s does not take the curves (%s); training goes on, and they are sent later"
                log.warning(text, self.place.stage.name, self.place.kind, _first_line(error))
            self.why = _first_line(error)
            return False
        return True


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


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
