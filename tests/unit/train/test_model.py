"""What of a model trains, in which mode, and which of its buffers a checkpoint must hold."""

import pytest
import torch
from changing import changed
from small_model import COUNTS, DIM, LABELS, N_CLASSES, NECK, small_model

from guie.model.backbone import Backbone
from guie.recipe import ArcFace, ClassMargin, Optim, Stage
from guie.train.model import build_model
from guie.train.objectives.base import Objective

STAGE = Stage("s", trains="all", optim=Optim(n_epochs=1, batch_size=8, lr=0.1), neck=NECK)
PARTS = {
    "objective": {"objective"},
    "neck": {"neck"},
    "head": {"neck", "objective"},
    "backbone": {"backbone"},
    "all": {"backbone", "neck", "objective"},
}


@pytest.mark.parametrize("trains", PARTS)
def test_parts_that_train_are_open_whole_and_the_others_closed(trains: str) -> None:
    model = small_model(changed(STAGE, trains="all"))
    model.open(changed(STAGE, trains=trains))
    assert set(model.trained()) == {
        name for name, _ in model.named_parameters() if name.partition(".")[0] in PARTS[trains]
    }


@pytest.mark.parametrize("trains", PARTS)
def test_modes_follow_what_trains(trains: str) -> None:
    """The neck's dropout is on in every stage; a frozen norm and a frozen backbone are as when they are used."""
    stage = changed(STAGE, trains=trains)
    model = small_model(stage).eval()
    model.set_mode(stage)
    assert model.backbone.training == model.backbone.network.training == ("backbone" in PARTS[trains])
    assert model.neck.norm.training == ("neck" in PARTS[trains])
    assert model.neck.dropouts[0].training and model.objective.training


class Remembering(Objective):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("memory", torch.zeros(3))
        self.register_buffer("scratch", torch.zeros(3), persistent=False)


def test_buffers_that_training_changes_are_the_necks_and_the_objectives() -> None:
    model = small_model(STAGE)
    model.backbone.register_buffer("statistics", torch.zeros(2))
    model.objective = Remembering()
    norm = {f"neck.norm.{name}" for name in ("running_mean", "running_var", "num_batches_tracked")}
    assert set(model.changing_buffers()) == {*norm, "objective.memory"}
    model.changing_buffers()["objective.memory"] += 1  # the buffer itself
    assert model.objective.memory.tolist() == [1, 1, 1]


def test_fresh_parts_follow_from_the_seed_alone() -> None:
    objective = ArcFace(margin_rad=ClassMargin(0.1, 0.5))
    backbone = Backbone(torch.nn.Linear(4, 8), 8)
    before = torch.random.get_rng_state()
    a, b, c = (build_model(backbone, changed(STAGE, objective=objective), COUNTS, LABELS, seed) for seed in (3, 3, 4))
    assert torch.equal(torch.random.get_rng_state(), before)  # nobody else's numbers are used up
    for name in ("neck.linear.weight", "objective.centers"):
        assert torch.equal(a.state_dict()[name], b.state_dict()[name])
        assert not torch.equal(a.state_dict()[name], c.state_dict()[name])
    assert a.objective.class_margins.shape == (N_CLASSES,) and a.objective.class_margins.argmax() == COUNTS.argmin()
    assert a.objective.centers.shape == (N_CLASSES, DIM)
