"""A real stage and its tracker: all of metrics.csv is sent, a killed stage goes on in the same run, and no bit of the
result depends on it."""
# ruff: noqa: F811  (fixtures are imported)

import csv
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from changing import changed
from small_world import WORLD
from test_trainer import HEAD, mine, out, trained  # noqa: F401  (fixtures)
from torch import Tensor
from tracker_server import Server, server  # noqa: F401  (server is a fixture)

from guie.data.packed import PackedImages
from guie.files import load_weights
from guie.recipe import Stages
from guie.run import Run
from guie.train.stage import train_row


class Killed(BaseException):
    """The process ends here."""


def tracked(out: Path, kill_at: int = 0) -> dict[str, Tensor]:
    """The weights of HEAD with a tracker; killed after so many checkpoints, where that is not 0."""
    n_seen = 0

    def notice(moment: str) -> None:
        nonlocal n_seen
        n_seen += moment == "checkpoint"
        if kill_at and n_seen == kill_at:
            raise Killed

    run = Run(changed(WORLD, stages=Stages(head=(HEAD,))), out, out, device="cpu", tracker="wandb")
    accelerator = Accelerator(cpu=True)
    train_row(run, HEAD, PackedImages(run.folder(3)), accelerator, notice=notice, checkpoint_every_s=-1.0)
    return load_weights(run.stage_folder(HEAD.name) / "final.safetensors")


def test_killed_stage_has_one_run_with_all_of_metrics_csv_and_the_same_weights(
    out: Path,
    mine: None,
    server: Server,
) -> None:
    plain = {name: tensor.clone() for name, tensor in trained(out, HEAD).items()}
    outputs = sorted(path.name for path in (out / "04_head" / HEAD.name).iterdir())
    for path in (out / "04_head" / HEAD.name).iterdir():
        path.unlink()
    server.runs.clear()
    with pytest.raises(Killed):
        tracked(out, kill_at=1)
    server.kill_its_process()
    server.is_up = False  # an epoch ends while the server is away
    with pytest.raises(Killed):
        tracked(out, kill_at=3)
    server.kill_its_process()
    server.is_up = True
    weights = tracked(out)
    assert all(torch.equal(weights[name], plain[name]) for name in plain)
    assert sorted(path.name for path in (out / "04_head" / HEAD.name).iterdir()) == outputs
    with (out / "04_head" / HEAD.name / "metrics.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    (sent,) = server.runs.values()
    assert len(rows) == HEAD.optim.n_epochs and [step for step, _ in sent] == sorted(step or 0 for step, _ in sent)
    for row in rows:
        of_step = {name: value for step, values in sent if step == int(row["step"]) for name, value in values.items()}
        assert {name: float(cell) for name, cell in row.items() if cell and name != "step"} == {
            name: value for name, value in of_step.items() if not name.startswith("result_")
        }
    assert of_step["result_mp5"] == of_step["val_mp5"]
