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

    def check(self) -> None:
        if not self.is_up:
            raise ConnectionError("no route to the server\nand a second line")


class ServedTracker(GeneralTracker):
    """A tracker by accelerate's rules, whose runs lie in a `Server`."""

    name = "served"
    requires_logging_directory = False

    def __init__(self, server: Server, run_id: str) -> None:
        super().__init__()
        self.server, self.run_id, self.is_open = server, run_id, False

    @property
    def tracker(self) -> Any:
        return self.server

    def start(self) -> None:
        self.server.n_starts += 1
        self.server.check()
        self.server.runs.setdefault(self.run_id, [])
        self.is_open = True

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        assert all(isinstance(value, str | int | float | bool) for value in values.values())

    def log(self, values: dict[str, float], step: int | None = None, **kwargs: Any) -> None:
        self.server.check()
        assert all(type(value) is float for value in values.values())
        self.server.runs[self.run_id].append((step, values))

    def finish(self) -> None:
        self.is_open = False


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    """Every stage's tracker leads to this server."""
    world = Server()

    def made(self: TrackedStage, note: Note) -> GeneralTracker:
        note.id = note.id or f"run{len(world.runs)}"
        return ServedTracker(world, note.id)

    monkeypatch.setattr(TrackedStage, "_made", made)
    return world
