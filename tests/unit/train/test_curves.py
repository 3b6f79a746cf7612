"""TensorBoard reads what a stage wrote and shows each epoch once; metrics.csv has the objective's columns."""

from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from guie.train.curves import Curves, write_metrics

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
    again.finish({"mp5": 0.75, "r1": 0.875, "mp5_toys": 0.5})
    assert read(tmp_path / "s1", "loss") == [(10, 3.0), (20, 2.0), (30, 1.0)]
    assert read(tmp_path / "s1", "val_mp5") == [
        (10, pytest.approx(0.5)),
        (20, pytest.approx(0.5)),
        (30, pytest.approx(0.5)),
    ]
    assert (read(tmp_path / "s1", "result_mp5"), read(tmp_path / "s1", "result_r1")) == ([(30, 0.75)], [(30, 0.875)])


def test_other_processes_write_nothing(tmp_path: Path):
    curves = Curves(tmp_path / "s1", ROWS, is_main=False)
    curves.add(ROWS[0])
    curves.finish({"mp5": 0.75, "r1": 0.875})
    assert not (tmp_path / "s1").exists()


def test_columns_of_the_objective_stand_behind_the_loss_and_are_empty_where_an_epoch_has_none(tmp_path: Path):
    path = tmp_path / "metrics.csv"
    write_metrics(
        path,
        [{"epoch": 0, "step": 4, "loss": 2.5, "lr": 0.1}, {"epoch": 1, "loss": 2.0, "threshold": 0.25, "val_r1": 1.0}],
    )
    assert path.read_text().splitlines() == [
        "epoch,step,loss,threshold,lr,images_per_s,seconds,val_mp5,val_r1",
        "0,4,2.5,,0.1,,,,",
        "1,,2.0,0.25,,,,,1.0",
    ]
