"""A tracker for tests, by accelerate's rules, whose server lies in this process and can go away."""

from __future__ import annotations

from typing import Any

import pytest
from accelerate.tracking import GeneralTracker

from guie.train.trackers import Note, TrackedStage


class Server:
    """Stands for the server of a tracker: which runs it has, and whether it can be reached."""

    def __init__(self) -> None:
        self.runs: dict[str, list[tuple[int | None, dict[str, float]]]] = {}
        self.is_up = True
        self.n_starts = 0
        self.settings: dict[str, dict[str, Any]] = {}
        self.n_settings_fail = 0  # so many next times, only the settings are not taken
        self.active = ""  # a process may have one run open, as in mlflow

    def kill_its_process(self) -> None:
        """The process that has a run open ends without closing it."""
        self.active = ""

    def check(self) -> None:
        if not self.is_up:
            raise ConnectionError("no route to the server\nand a second line")


class ServedTracker(GeneralTracker):
    """A tracker by accelerate's rules, whose runs lie in a `Server`.

    As in W&B, the row of a step is held back until one of a later step comes, or the run is closed: rows of one step
    are joined, what a killed process holds is lost, and a row of a step that is there already is dropped.
    """

    name = "served"
    requires_logging_directory = False

    def __init__(self, server: Server, run_id: str) -> None:
        super().__init__()
        self.server = server
        self.run_id = run_id
        self.held: tuple[int | None, dict[str, float]] | None = None

    @property
    def tracker(self) -> Any:
        return self.server

    def start(self) -> None:
        self.server.n_starts += 1
        self.server.check()
        if self.server.active:
            raise RuntimeError(f"Run {self.server.active} is already active")
        self.server.runs.setdefault(self.run_id, [])
        self.server.active = self.run_id

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        self.server.check()
        if self.server.n_settings_fail:
            self.server.n_settings_fail -= 1
            raise ConnectionError("a hiccup")
        assert all(isinstance(value, str | int | float | bool) for value in values.values())
        self.server.settings[self.run_id] = values

    def log(self, values: dict[str, float], step: int | None = None, **kwargs: Any) -> None:
        self.server.check()
        assert all(type(value) is float for value in values.values())
        there = self.server.runs[self.run_id]
        if there and (step or 0) <= (there[-1][0] or 0):
            return
        if self.held is not None and self.held[0] == step:
            self.held = (step, self.held[1] | values)
            return
        self._commit()
        self.held = (step, values)

    def finish(self) -> None:
        self._commit()
        if self.server.active == self.run_id:
            self.server.active = ""

    def _commit(self) -> None:
        if self.held is not None:
            self.server.runs[self.run_id].append(self.held)
        self.held = None


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    """Every stage's tracker leads to this server."""
    world = Server()

    def made(self: TrackedStage, note: Note) -> GeneralTracker:
        note.id = note.id or f"run{len(world.runs)}"
        return ServedTracker(world, note.id)

    monkeypatch.setattr(TrackedStage, "_made", made)
    return world
