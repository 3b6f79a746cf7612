"""Trackers get each epoch once, with all columns of metrics.csv; one that fails stops nothing. metrics.csv has the
objective's columns."""
# ruff: noqa: F811  (fixtures are imported)

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from accelerate import PartialState
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tracker_server import Server, server  # noqa: F401  (server is a fixture)

from guie.recipes.tiny import RECIPE as TINY
from guie.train.curves import Curves, write_curves, write_metrics
from guie.train.state import TrainState
from guie.train.trackers import TrackedStage

ROWS = [{"epoch": i, "step": 10 * (i + 1), "loss": 3.0 - i, "val_mp5": 0.5} for i in range(3)]
STAGE = next(iter(TINY.stages.trained))
SCORES = {"mp5": 0.75, "r1": 0.875, "mp5_toys": 0.5}


@pytest.fixture(autouse=True)
def state() -> None:
    PartialState(cpu=True)  # accelerate's trackers log through it


def place(folder: Path, kind: str = "tensorboard") -> TrackedStage:
    return TrackedStage(kind, folder, "world", STAGE)


def started(at: TrackedStage, history: list[dict[str, Any]], is_resumed: bool = False, key: str = "key") -> Curves:
    curves = Curves(at)
    curves.begin(history, key, is_resumed)
    return curves


def read(folder: Path, name: str) -> list[tuple[int, float]]:
    events = EventAccumulator(str(folder / "tensorboard" / STAGE.name))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(name)]


def test_resumed_stage_shows_every_epoch_once(tmp_path: Path):
    first = started(place(tmp_path), [])
    first.add(ROWS[0])
    first.add(ROWS[1] | {"loss": 99.0})  # after its last checkpoint, killed
    again = started(place(tmp_path), ROWS[:1], is_resumed=True)
    again.add(ROWS[1])
    again.add(ROWS[2])
    again.finish(SCORES, ROWS[2] | {"val_r1": 0.875})
    assert read(tmp_path, "loss") == [(10, 3.0), (20, 2.0), (30, 1.0)]
    assert read(tmp_path, "val_mp5") == [(10, 0.5), (20, 0.5), (30, 0.5)]
    assert read(tmp_path, "epoch") == [(10, 0), (20, 1), (30, 2)] and read(tmp_path, "val_r1") == [(30, 0.875)]
    assert (read(tmp_path, "result_mp5"), read(tmp_path, "result_r1")) == ([(30, 0.75)], [(30, 0.875)])
    assert not (tmp_path / "trackers").exists()


def test_other_processes_send_nothing():
    curves = Curves(None)
    curves.begin(ROWS, "key", is_resumed=True)
    curves.add(ROWS[0])
    curves.finish(SCORES, ROWS[0])
    assert curves.waiting == [] and curves.tracker is None


def steps(server: Server) -> dict[str, list[int | None]]:
    return {name: [step for step, _ in rows] for name, rows in server.runs.items()}


def sent(curves: Curves) -> None:
    """Closes the run as an orderly end of the process does."""
    assert curves.tracker is not None
    curves.tracker.finish()


@pytest.mark.parametrize("is_killed", [True, False])
def test_resumed_stage_goes_on_with_the_same_run(tmp_path: Path, server: Server, is_killed: bool):
    at = place(tmp_path, "wandb")
    first = started(at, [])
    first.add(ROWS[0])
    first.add(ROWS[1])  # after its last checkpoint
    if is_killed:
        assert steps(server) == {"run0": [10]}, "the last row was held back, and is lost"
        server.kill_its_process()
    else:
        sent(first)
    again = started(at, ROWS[:1], is_resumed=True)
    again.add(ROWS[1])
    again.add(ROWS[2])
    again.finish(SCORES, ROWS[2])
    assert steps(server) == {"run0": [10, 20, 30]}
    last = {"epoch": 2.0, "loss": 1.0, "val_mp5": 0.5, "result_mp5": 0.75, "result_r1": 0.875}
    assert server.runs["run0"][-1][1] == last
    assert server.runs["run0"][0][1] == {"epoch": 0.0, "loss": 3.0, "val_mp5": 0.5}


def test_hiccup_at_the_settings_does_not_end_the_tracking(tmp_path: Path, server: Server):
    server.n_settings_fail = 1
    curves = started(place(tmp_path, "wandb"), [])
    assert server.active == "" and curves.waiting == []
    curves.add(ROWS[0])
    curves.finish(SCORES, ROWS[0])
    assert steps(server) == {"run0": [10]} and server.settings["run0"]["image_px"] == STAGE.image_px
    other = TrackedStage("wandb", tmp_path, "world", replace(STAGE, name="next"))
    started(other, []).add(ROWS[0])
    assert list(server.runs) == ["run0", "run1"], "the next stage can open its run"


def test_settings_that_a_killed_start_did_not_send_are_sent_by_the_next(tmp_path: Path, server: Server):
    server.n_settings_fail = 2
    curves = started(place(tmp_path, "wandb"), [])
    curves.add(ROWS[0])  # left alone from here on
    assert server.settings == {} and server.active == ""
    again = started(place(tmp_path, "wandb"), ROWS[:1], is_resumed=True)
    sent(again)
    assert list(server.settings) == ["run0"] and steps(server) == {"run0": [10]}


@pytest.mark.parametrize(("is_resumed", "key"), [(False, "key"), (True, "other settings")])
def test_stage_that_begins_anew_is_another_run(tmp_path: Path, server: Server, is_resumed: bool, key: str):
    for begun in ((False, "key"), (is_resumed, key)):
        curves = started(place(tmp_path, "wandb"), [], *begun)
        curves.add(ROWS[0])
        sent(curves)
    assert steps(server) == {"run0": [10], "run1": [10]}


def test_stage_killed_before_its_first_row_is_not_another_run(tmp_path: Path, server: Server):
    started(place(tmp_path, "wandb"), [])
    server.kill_its_process()
    again = started(place(tmp_path, "wandb"), [])
    again.add(ROWS[0])
    sent(again)
    assert steps(server) == {"run0": [10]}


def test_server_that_comes_back_gets_all_rows(tmp_path: Path, server: Server, caplog: pytest.LogCaptureFixture):
    server.is_up = False
    curves = started(place(tmp_path, "wandb"), [])
    curves.add(ROWS[0])
    server.is_up = True
    curves.add(ROWS[1])
    server.is_up = False
    curves.add(ROWS[2])
    server.is_up = True
    curves.finish(SCORES, ROWS[2])
    assert steps(server) == {"run0": [10, 20, 30]}
    told = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert told == [
        f"stage {STAGE.name}: wandb does not take the curves (no route to the server); training goes on, and they are "
        "sent later"
    ]


def test_server_that_stays_away_is_left_alone_and_the_rows_are_counted(
    tmp_path: Path, server: Server, caplog: pytest.LogCaptureFixture
):
    server.is_up = False
    curves = started(place(tmp_path, "wandb"), [])
    for i in range(20):
        curves.add({"epoch": i, "step": i + 1, "loss": 1.0})
    assert server.n_starts == 2, "the training does not wait for it in each epoch"
    curves.finish(SCORES, {})
    assert server.n_starts == 3 and len(caplog.records) == 2
    assert "21 rows were not sent to wandb (no route to the server); metrics.csv has them" in caplog.text
    server.is_up = True
    again = started(place(tmp_path, "wandb"), [{"epoch": i, "step": i + 1, "loss": 1.0} for i in range(20)], True)
    sent(again)
    assert steps(server) == {"run0": list(range(1, 21))} and again.waiting == []


def test_full_disk_is_not_the_trackers_fault(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch):
    def full() -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(server, "check", full)
    with pytest.raises(OSError, match="No space left"):
        started(place(tmp_path, "wandb"), [])


# --- the real ones, where they are installed ------------------------------------------------------------------


def _two_starts(at: TrackedStage) -> None:
    """A stage that is killed after its first checkpoint and goes on in another process."""
    first = started(at, [])
    first.add(ROWS[0])
    assert first.tracker is not None and first.waiting == []
    first.tracker.finish()  # what the end of a process does
    again = started(at, ROWS[:1], is_resumed=True)
    again.add(ROWS[1])
    again.finish(SCORES, ROWS[1])
    assert again.waiting == []


def test_mlflow_has_one_run_with_each_row_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file://{tmp_path}/mlruns")
    mlflow.set_tracking_uri(f"file://{tmp_path}/mlruns")
    _two_starts(place(tmp_path, "mlflow"))
    client = mlflow.MlflowClient()
    (experiment,) = client.search_experiments(filter_string="name = 'guie'")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.run_name == f"world/{STAGE.name}" and run.data.params["image_px"] == str(STAGE.image_px)
    assert run.data.params["optim.lr"] == str(STAGE.optim.lr)
    history = client.get_metric_history(run.info.run_id, "loss")
    assert sorted((metric.step, metric.value) for metric in history) == [(10, 3.0), (20, 2.0)]
    assert run.data.metrics["result_mp5"] == 0.75 and run.data.metrics["epoch"] == 1


def test_mlflow_that_fails_once_at_the_settings_has_them_and_all_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file://{tmp_path}/mlruns")
    mlflow.set_tracking_uri(f"file://{tmp_path}/mlruns")
    usual, n_calls = mlflow.log_params, 0

    def once_down(*given: Any, **words: Any) -> Any:
        nonlocal n_calls
        n_calls += 1
        if n_calls == 1:
            raise ConnectionError("a hiccup")
        return usual(*given, **words)

    monkeypatch.setattr(mlflow, "log_params", once_down)
    curves = started(place(tmp_path, "mlflow"), [])
    assert mlflow.active_run() is None
    curves.add(ROWS[0])
    curves.finish(SCORES, ROWS[0])
    assert curves.waiting == [] and mlflow.active_run() is None
    client = mlflow.MlflowClient()
    (experiment,) = client.search_experiments(filter_string="name = 'guie'")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.data.params["image_px"] == str(STAGE.image_px) and run.data.metrics["loss"] == 3.0


def test_mlflow_without_its_server_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    mlflow = pytest.importorskip("mlflow")
    mlflow.set_tracking_uri("http://127.0.0.1:9")
    curves = started(place(tmp_path, "mlflow"), [])
    curves.add(ROWS[0])
    curves.finish(SCORES, ROWS[0])
    assert "2 rows were not sent to mlflow" in caplog.text


def test_wandb_offline_goes_on_with_the_same_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("wandb")
    for name, value in {"WANDB_MODE": "offline", "WANDB_SILENT": "true"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("WANDB_DIR", raising=False)
    _two_starts(place(tmp_path, "wandb"))
    names = [path.name for path in (tmp_path / "wandb").glob("offline-run-*")]
    assert len({name.rpartition("-")[2] for name in names}) == 1 and names
    assert {name.rpartition("-")[2] for name in names} == {place(tmp_path, "wandb").noted("key", True).id}


# --- metrics.csv ----------------------------------------------------------------------------------------------


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
