"""Another row as a teacher: its embeddings by hand, and a stage that takes their cosines."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from changing import changed
from small_world import WORLD
from test_trainer import HEAD, out  # noqa: F401  (out is a fixture)

from guie.data.packed import PackedImages
from guie.done import outputs_digest
from guie.embed.features import FeatureStore
from guie.files import load_weights
from guie.model.backbone import build_backbone
from guie.recipe import HEAD as FRESH
from guie.recipe import KeepCosines, Recipe, Stages, Start
from guie.run import Run
from guie.train.row_inputs import inputs_of
from guie.train.stage import train_row
from guie.train.teacher import taught_by
from guie.train.train_set import TrainSet

TEACHER = changed(HEAD, name="teacher", image_px=48, neck__dim=24, optim__n_epochs=1)
STUDENT = changed(
    HEAD,
    name="student",
    image_px=32,
    start=Start(of="pretrained", fresh=FRESH),
    neck__dim=16,
    objective=KeepCosines(weight=100.0, of="teacher"),
    optim__n_epochs=6,
    optim__lr=3e-2,
)


@pytest.fixture(scope="module")
def run(out: Path) -> Iterator[Run]:  # noqa: F811
    recipe: Recipe = changed(WORLD, stages=Stages(head=(TEACHER, STUDENT)))
    made = Run(recipe, out, out, device="cpu")
    for row in recipe.stages:
        train_row(made, row, PackedImages(made.folder(3)), Accelerator(cpu=True))
    yield made
    for file in out.glob("04_head/*/*"):
        file.unlink()


def test_teachers_embeddings_are_those_of_its_own_pixels_and_neck(run: Run) -> None:
    """48 px and 24 numbers, whatever the student has."""
    packed = PackedImages(run.folder(3))
    rows = TrainSet(run.recipe, STUDENT, packed).rows[::5]
    found = taught_by(STUDENT, FeatureStore(run, packed, Accelerator(cpu=True)), rows)
    assert list(found) == ["teacher"] and found["teacher"].shape == (len(rows), 24)
    weights = load_weights(run.stage_folder("teacher") / "final.safetensors")
    backbone = build_backbone(run.recipe.model, 48, None, run.recipe.seed).eval()
    for row, embedding in zip(rows, found["teacher"], strict=True):
        image = F.interpolate(
            torch.from_numpy(packed.read(int(row), 48).copy()).permute(2, 0, 1)[None].float(),
            (48, 48),
            mode="bicubic",
            antialias=True,
        )
        with torch.no_grad():
            feature = backbone((image.clamp(0, 255) / 255 - 0.5) / 0.5)[0]
        by_hand = weights["neck.linear.weight"] @ feature + weights["neck.linear.bias"]
        cosine = float(F.cosine_similarity(by_hand, torch.from_numpy(embedding), dim=0))
        assert cosine > 0.999, "of the same pixels, but for the resizing"


def test_student_learns_the_cosines_and_its_mark_knows_the_teacher(run: Run) -> None:
    lines = (run.stage_folder("student") / "metrics.csv").read_text().splitlines()
    loss = [float(line.split(",")[lines[0].split(",").index("cosine_change")]) for line in lines[1:]]
    assert loss[-1] < 0.8 * loss[0]
    assert inputs_of(run, STUDENT)["teachers"] == outputs_digest(run.stage_folder("teacher"))
    assert "teachers" not in inputs_of(run, TEACHER)
    assert np.isfinite(loss).all()
