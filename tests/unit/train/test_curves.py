"""TensorBoard reads what a stage wrote and shows each epoch once; metrics.csv has the objective's columns."""

from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from guie.train.curves import Curves, write_curves, write_metrics
from guie.train.state import TrainState

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


@pytest.mark.parametrize(("n_steps", "n_points"), [(1, 1), (7, 7), (20, 20), (127, 20), (1000, 20)])
def test_stage_has_twenty_points_or_one_a_step_and_their_losses_are_means(n_steps: int, n_points: int):
    state = TrainState()
    losses = [100.0 / (1 + i) for i in range(n_steps)]
    for i, loss in enumerate(losses):
        state.note(i + 1, n_steps, loss, lr=0.1 * i)
    assert len(state.points) == n_points and state.points[-1]["step"] == n_steps
    first = 0
    for point in state.points:
        last = int(point["step"])
        assert point["loss"] == pytest.approx(sum(losses[first:last]) / (last - first), abs=1e-6)
        assert point["lr"] == pytest.approx(0.1 * (last - 1))
        assert last - first <= -(-n_steps // 20)
        first = last


def test_points_are_written_beside_the_epochs_and_those_of_another_training_go(tmp_path: Path):
    write_curves(tmp_path, ROWS, [{"step": 5, "loss": 2.0, "lr": 0.5}])
    assert (tmp_path / "curve.csv").read_text().splitlines() == ["step,loss,lr", "5,2.0,0.5"]
    assert len((tmp_path / "metrics.csv").read_text().splitlines()) == 4
    write_curves(tmp_path, ROWS, [])
    assert not (tmp_path / "curve.csv").exists()


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
