"""Opens a stage's run in a tracker, through accelerate: TensorBoard, Weights & Biases or MLflow.

A tracker changes no result, so it is in no digest. What it needs to go on with the same run lies in `trackers/` of the
run's folder, outside the doors' folders: it holds random names.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate.tracking import GeneralTracker, MLflowTracker, TensorBoardTracker, WandBTracker

from guie.files import save_json
from guie.settings.plain import plain
from guie.settings.stage import Stage

PROJECT_NAME = "guie"  # of W&B; the experiment of MLflow
WAIT_S = 20.0  # at most, for a server to answer; W&B would wait for ever when a run ends
# mlflow would try seven times, with two minutes each, while the training waits.
MLFLOW_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}


@dataclass
class Note:
    """What is remembered of a stage's run in a tracker.

    Attributes:
        key: What the stage is trained from, as in its checkpoint. A stage that begins anew begins a new run.
        id: The tracker's own name for the run; '' before it is opened.
        step: The last step whose row the tracker has for good; -1 before the first.
        sent: The last step whose row it was sent.
        has_settings: Whether the tracker has the stage's settings.
    """

    key: str
    id: str = ""
    step: int = -1
    sent: int = -1
    has_settings: bool = False


@dataclass(frozen=True)
class TrackedStage:
    """A stage's place in a tracker.

    Attributes:
        kind: One of `guie.launch.TRACKERS`.
        out: The run's folder.
        recipe: The run's name.
        stage: The stage's settings, which the tracker shows.
    """

    kind: str
    out: Path
    recipe: str
    stage: Stage

    @property
    def holds_last_row(self) -> bool:
        """Whether the tracker keeps a row back until one of a later step comes, so that a kill may lose it.

        So does `wandb.Run.log` with a step: rows of one step are joined. A row that it has already is dropped there.
        """
        return self.kind == "wandb"

    @property
    def note_path(self) -> Path:
        """Where the note lies."""
        return self.out / "trackers" / f"{self.kind}_{self.stage.name}.json"

    def noted(self, key: str, is_resumed: bool) -> Note:
        """The note of an earlier start that this one goes on from; else a fresh one.

        TensorBoard's folder is written anew by each start, from the rows that the checkpoint holds.
        """
        if self.kind == "tensorboard":
            return Note(key)
        try:
            note = Note(**json.loads(self.note_path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return Note(key)
        return note if note.key == key and (is_resumed or max(note.step, note.sent) < 0) else Note(key)

    def write(self, note: Note) -> None:
        """Keeps the note, whole or not at all."""
        if self.kind != "tensorboard":
            self.note_path.parent.mkdir(parents=True, exist_ok=True)
            save_json(self.note_path, vars(note))

    def start(self, note: Note) -> GeneralTracker:
        """Opens the stage's run in the tracker, or the one that the note names, and completes the note.

        On a failure no run stays open, so that it can be tried again.

        Raises:
            Exception: whatever the tracker raises, for instance where its server cannot be reached.
        """
        tracker = self._made(note)
        try:
            tracker.start()
            if isinstance(tracker, MLflowTracker):
                note.id = tracker.active_run.info.run_id
            self.write(note)
            if not note.has_settings and self.kind != "tensorboard":
                tracker.store_init_configuration(dict(_flat(plain(self.stage))))
                note.has_settings = True
                self.write(note)
        except Exception:
            _abandon(tracker)
            raise
        return tracker

    def _made(self, note: Note) -> GeneralTracker:
        """accelerate's tracker, not started."""
        name = f"{self.recipe}/{self.stage.name}"
        if self.kind == "mlflow":
            for variable, value in MLFLOW_PATIENCE.items():
                os.environ.setdefault(variable, value)
            return MLflowTracker(PROJECT_NAME, run_id=note.id or None, run_name=name)
        if self.kind == "wandb":
            import wandb

            note.id = note.id or uuid.uuid4().hex[:12]
            self.out.mkdir(parents=True, exist_ok=True)
            waits = wandb.Settings(console="off", init_timeout=WAIT_S, login_timeout=WAIT_S, finish_timeout=2 * WAIT_S)
            place = {"dir": os.environ.get("WANDB_DIR", str(self.out)), "group": self.recipe, "name": name}
            project = os.environ.get("WANDB_PROJECT", PROJECT_NAME)
            return WandBTracker(project, id=note.id, resume="allow", settings=waits, **place)
        logging.getLogger("tensorboard").setLevel(logging.ERROR)
        shutil.rmtree(self.out / "tensorboard" / self.stage.name, ignore_errors=True)
        return TensorBoardTracker(self.stage.name, self.out / "tensorboard")


def _abandon(tracker: GeneralTracker) -> None:
    """Closes what a failed start left open: the next one would find the run's name in use, or the run active."""
    if isinstance(tracker, WandBTracker):
        import wandb

        wandb.teardown()
        return
    with contextlib.suppress(Exception):  # whatever the tracker raises; the failure of the start is told
        tracker.finish()


def _flat(values: Mapping[str, Any], at: str = "") -> Iterator[tuple[str, str | int | float | bool]]:
    """Each setting by its path, as trackers show them; lists and None as text."""
    for name, value in values.items():
        path = f"{at}.{name}" if at else name
        if isinstance(value, Mapping):
            yield from _flat(value, path)
        else:
            yield path, value if isinstance(value, str | int | float | bool) else json.dumps(value)
