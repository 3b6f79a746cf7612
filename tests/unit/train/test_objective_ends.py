"""An objective's buffers end with its stage: the file of the result, the stages after it; its terms in metrics.csv."""

import csv
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from changing import changed
from hand_batch import NO_LOOK, batch_of
from small_model import DIM, N_CLASSES, NECK, small_model
from small_world import WORLD
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_trainer import HEAD, out, trained  # noqa: F401  (out is a fixture)
from torch import Tensor

from guie.data.packed import PackedImages
from guie.files import load_weights
from guie.recipe import (
    ArcFace,
    KoLeo,
    Memory,
    Optim,
    PerClass,
    ProxyGml,
    Recipe,
    RhoMargin,
    Softmax,
    Stage,
    Stages,
    Start,
    Sum,
    ThresholdConsistentMargin,
)
from guie.run import Run
from guie.train.model import Model, load_parts
from guie.train.stage import train_row

REMEMBERS = ThresholdConsistentMargin(memory=Memory(48))
TERMS = Sum(terms=(ArcFace(margin_rad=0.3), REMEMBERS, KoLeo(weight=0.1)))
SMALL = Stage("small", trains="all", optim=Optim(n_epochs=1, batch_size=8, lr=0.1), neck=NECK, objective=TERMS)


@pytest.fixture(autouse=True)
def clean(out: Path) -> Iterator[None]:  # noqa: F811
    yield
    for file in out.glob("04_head/*/*"):
        file.unlink()


def filled(seed: int = 0) -> Model:
    """A model whose memory holds something."""
    model = small_model(SMALL, seed)
    model.objective.after_step(batch_of(torch.randn(9, DIM), torch.arange(9) % N_CLASSES), NO_LOOK)
    return model


def memory_of(model: Model) -> int:
    return int(model.state_dict()["objective.parts.thresholdconsistentmargin.memory.count"])


def test_result_has_all_weights_and_no_buffer_of_the_objective() -> None:
    model = filled()
    kept = set(model.result())
    assert memory_of(model) == 9 and {name for name, _ in model.named_parameters()} <= kept
    assert {name for name in kept if name.startswith("objective.")} == {"objective.parts.arcface.centers"}
    assert {name for name in model.state_dict() if not name.startswith("objective.")} <= kept  # the neck's statistics


def test_what_is_loaded_are_the_objectives_weights_and_not_its_memory() -> None:
    parent, child = filled(0), filled(1)
    with torch.no_grad():
        child.objective.parts["thresholdconsistentmargin"].memory.count.zero_()
    weights = parent.result()

    def weights_of(part: str) -> dict[str, Tensor]:
        return {name.partition(".")[2]: t for name, t in weights.items() if name.startswith(f"{part}.")}

    load_parts(child, weights_of, (), "child from parent")
    for name in ("objective.parts.arcface.centers", "neck.linear.weight", "neck.norm.running_mean"):
        assert torch.equal(child.state_dict()[name], parent.state_dict()[name])
    assert memory_of(child) == 0 and memory_of(parent) == 9
    with pytest.raises(ValueError, match="its objective does not fit this stage"):
        load_parts(small_model(changed(SMALL, objective=RhoMargin())), weights_of, (), "child from parent")


def rows_of(out: Path, name: str) -> list[dict[str, str]]:  # noqa: F811
    return list(csv.DictReader((out / "04_head" / name / "metrics.csv").read_text().splitlines()))


def test_stage_goes_on_from_one_whose_objective_has_a_memory(out: Path) -> None:  # noqa: F811
    """Its memory begins empty: after one epoch it holds that epoch's images, not the parent's beside them."""
    sampling = PerClass(images_per_class=2)
    parent = changed(HEAD, objective=REMEMBERS, sampling=sampling, optim__n_epochs=3)
    objective = ThresholdConsistentMargin(memory=Memory(1000), positive_weight=0.5)
    child = changed(
        parent, name="child", start=Start(of=parent.name), objective=objective, optim__n_epochs=1,
    )  # fmt: skip
    recipe: Recipe = changed(WORLD, stages=Stages(head=(parent, child)))
    run = Run(recipe, out, out, device="cpu")
    for row in (parent, child):
        train_row(run, row, PackedImages(run.folder(3)), Accelerator(cpu=True))
        found = load_weights(run.stage_folder(row.name) / "final.safetensors")
        assert not any(name.startswith("objective.") for name in found)
    assert [row["memory_fill"] for row in rows_of(out, parent.name)][-1] == "1.0"
    (last,) = rows_of(out, "child")
    assert float(last["memory_fill"]) == int(last["step"]) * HEAD.optim.batch_size / 1000


def test_each_term_of_the_loss_has_a_column_and_they_add_up(out: Path) -> None:  # noqa: F811
    trained(out, changed(HEAD, objective=TERMS, sampling=PerClass(images_per_class=2)))
    rows = rows_of(out, HEAD.name)
    names = [name for name in rows[0] if name.startswith("loss_")]
    assert names == [
        "loss_arcface_loss", "loss_thresholdconsistentmargin_pull", "loss_thresholdconsistentmargin_push",
        "loss_koleo_spread",
    ]  # fmt: skip
    assert list(rows[0]).index("loss") + 1 == list(rows[0]).index(names[0])
    for row in rows:
        assert float(row["loss"]) == pytest.approx(sum(float(row[name]) for name in names), abs=1e-5)
        assert 0 <= float(row["thresholdconsistentmargin_active_share"]) <= 1
        assert float(row["arcface_margin_rad"]) == float(row["arcface_row_margin_rad"]) == 0.3
        assert float(row["koleo_nearest_distance"]) > 0 and -1 <= float(row["arcface_target_cosine"]) <= 1
    events = EventAccumulator(str(out / "tensorboard" / HEAD.name))
    events.Reload()
    assert set(events.Tags()["scalars"]) >= set(rows[0]) - {"epoch", "step", "val_mp5", "val_r1"}


def test_one_term_has_no_column_beside_the_loss(out: Path) -> None:  # noqa: F811
    trained(out, changed(HEAD, objective=Softmax(), optim__n_epochs=1))
    assert not any(name.startswith("loss_") for name in rows_of(out, HEAD.name)[0])


@pytest.mark.parametrize(
    "objective", [RhoMargin(), ProxyGml(), Sum(terms=(ArcFace(margin_rad=0.3), KoLeo(weight=0.1)))]
)
def test_defaults_learn_on_a_frozen_backbone(out: Path, objective: RhoMargin | ProxyGml | Sum) -> None:  # noqa: F811
    optim = changed(WORLD.stage("s1_head").optim, batch_size=16)
    stage = changed(HEAD, objective=objective, sampling=PerClass(images_per_class=2), optim=optim)
    trained(out, stage)
    rows = rows_of(out, HEAD.name)
    assert float(rows[-1]["loss"]) < 0.95 * float(rows[0]["loss"])
