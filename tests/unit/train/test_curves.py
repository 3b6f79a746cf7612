"""TensorBoard reads what a stage wrote, and a stage that resumes shows each epoch once."""

from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from guie.train.curves import Curves

ROWS = [{"epoch": i, "step": 10 * (i + 1), "loss": 3.0 - i, "val_mp5": 0.5} for i in range(3)]


def read(folder: Path, name: str) -> list[tuple[int, float]]:
    events = EventAccumulator(str(folder))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(name)]


def test_resumed_stage_shows_every_epoch_once(tmp_path: Path):
    first = Curves(tmp_path / "s1", [], is_main=True)
    first.add(ROWS[0])
    first.add(ROWS[1] | {"loss": 99.0})  # after its last checkpoint, killed
    again = Curves(tmp_path / "s1", ROWS[:1], is_main=True)
    again.add(ROWS[1])
    again.add(ROWS[2])
    again.close()
    assert read(tmp_path / "s1", "loss") == [(10, 3.0), (20, 2.0), (30, 1.0)]
    assert read(tmp_path / "s1", "val_mp5") == [(10, pytest.approx(0.5)), (20, pytest.approx(0.5)), (30, pytest.approx(0.5))]


def test_other_processes_write_nothing(tmp_path: Path):
    curves = Curves(tmp_path / "s1", ROWS, is_main=False)
    curves.add(ROWS[0])
    curves.close()
    assert not (tmp_path / "s1").exists()
