"""Another row as a teacher: its embeddings by hand, and a stage that takes their cosines."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
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
from guie.recipe import KeepCosines, Model, Recipe, Stages, Start
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
TUNED = changed(HEAD, name="tuned", trains="all", image_px=32, optim__n_epochs=2, optim__lr=0.3)
TAUGHT = changed(
    HEAD,
    name="taught",
    image_px=32,
    start=Start(of="tuned", fresh=FRESH),
    objective=KeepCosines(weight=100.0, of="pretrained"),
    optim__n_epochs=1,
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


def pixels(packed: PackedImages, row: int, px: int) -> torch.Tensor:
    """float [1, 3, px, px], -1 to 1."""
    image = torch.from_numpy(packed.read(row, px).copy()).permute(2, 0, 1)[None].float()
    return F.interpolate(image, (px, px), mode="bicubic", antialias=True).clamp(0, 255) / 127.5 - 1


def test_teachers_embeddings_are_those_of_its_own_pixels_and_neck(run: Run) -> None:
    """48 px and 24 numbers, whatever the student has."""
    packed = PackedImages(run.folder(3))
    rows = TrainSet(run.recipe, STUDENT, packed).rows[::5]
    found = taught_by(STUDENT, FeatureStore(run, packed, Accelerator(cpu=True)), rows)
    assert list(found) == ["teacher"] and found["teacher"].shape == (len(rows), 24)
    weights = load_weights(run.stage_folder("teacher") / "final.safetensors")
    backbone = build_backbone(run.recipe.model, 48, None, run.recipe.seed).eval()
    for row, embedding in zip(rows, found["teacher"], strict=True):
        image = pixels(packed, int(row), 48)
        with torch.no_grad():
            feature = backbone(image)[0]
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


@pytest.mark.parametrize("tower", [None, replace(WORLD.model, name="test_efficientnet")], ids=["recipe's", "the row's"])
def test_pretrained_teaches_a_stage_after_a_tuned_one_with_its_features_before_any_training(
    run: Run, tower: Model | None
) -> None:
    """They are those of a library's network with the recipe's weights, not those of the backbone that was tuned; if
    the tuned row names another backbone, those of that one."""
    tuned_row = changed(TUNED, start__model=tower)
    recipe = changed(run.recipe, stages=Stages(head=(tuned_row, TAUGHT)))
    own = replace(run, recipe=recipe)
    packed = PackedImages(own.folder(3))
    for row in recipe.stages:
        train_row(own, row, packed, Accelerator(cpu=True))
    rows = TrainSet(recipe, TAUGHT, packed).rows[::7]
    (found,) = taught_by(TAUGHT, FeatureStore(own, packed, Accelerator(cpu=True)), rows).values()
    backbone = build_backbone(tower or recipe.model, 32, None, recipe.seed).eval()
    images = torch.cat([pixels(packed, int(row), 32) for row in rows])
    tuned = load_weights(own.stage_folder("tuned") / "final.safetensors")
    moved = build_backbone(tower or recipe.model, 32, None, recipe.seed).eval()
    moved.load_state_dict({name.removeprefix("backbone."): t for name, t in tuned.items() if "backbone." in name})
    with torch.no_grad():
        wanted, after = (of(images) for of in (backbone, moved))
    near, far = (F.cosine_similarity(torch.from_numpy(found[:]), of) for of in (wanted, after))
    assert near.min() > 0.98 > 0.9 > far.max() and near.mean() > 0.997, "of the same pixels, but for the resizing"
    assert inputs_of(own, TAUGHT)["teachers"].startswith("pretrained ")


OTHER = Model("timm", "test_vit", mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))
BESIDE = replace(OTHER, name="test_efficientnet", mean=(0.6, 0.5, 0.4), std=(0.3, 0.3, 0.2))
MODELS = {
    "beside the recipe's": (replace(WORLD.model, beside=(OTHER,)), None),
    "another": (WORLD.model, OTHER),
    "another with one beside it": (WORLD.model, replace(OTHER, beside=(BESIDE,))),
}


def features_by_hand(images: torch.Tensor, model: Model, weights: dict[str, torch.Tensor]) -> torch.Tensor:
    """The L2-normalised features of the library's networks, one after the other, float32 [n, sum of the widths]. Each
    network gets pixels normalised as it expects. `images` are -1 to 1; `weights` are the stage's frozen backbone's."""
    found = []
    for i, each in enumerate(model.each):
        start = f"backbone.network.backbones.{i}.network." if model.beside else "backbone.network."
        size = {"img_size": 32} if each.name == "test_vit" else {}
        network = timm.create_model(each.name, num_classes=0, **size).eval()
        network.load_state_dict({n.removeprefix(start): t for n, t in weights.items() if n.startswith(start)})
        assert each.mean is not None and each.std is not None
        mean, std = (torch.tensor(numbers).view(1, 3, 1, 1) for numbers in (each.mean, each.std))
        with torch.no_grad():
            found.append(F.normalize(network(((images + 1) / 2 - mean) / std)))
    return torch.cat(found, dim=1)


@pytest.mark.parametrize("which", MODELS)
def test_pretrained_teaches_with_the_towers_of_the_stage(run: Run, which: str) -> None:
    """With all that stand side by side, and those that the stage itself names. Where none was trained before, the
    stage ends as without a teacher, whose features are then the same."""
    model, own_model = MODELS[which]
    start = Start(of="pretrained", fresh=FRESH, model=own_model)
    taught = changed(TAUGHT, start=start, augment__flip=0.0, cost__n_cached_augmentations=0)  # plain views alone
    ends = []
    for stage in (taught, changed(taught, objective__of=""), changed(taught, optim__lr=1e-12)):
        recipe = changed(run.recipe, model=model, stages=Stages(head=(stage,)))
        own, packed = replace(run, recipe=recipe), PackedImages(run.folder(3))
        train_row(own, stage, packed, Accelerator(cpu=True))
        weights = load_weights(own.stage_folder(stage.name) / "final.safetensors")
        ends.append({name: tensor.clone() for name, tensor in weights.items()})
    rows = TrainSet(recipe, taught, packed).rows[::7]
    (found,) = taught_by(taught, FeatureStore(own, packed, Accelerator(cpu=True)), rows).values()
    images = torch.cat([pixels(packed, int(row), 32) for row in rows])
    wanted = features_by_hand(images, own_model or model, ends[0])
    assert found.shape == wanted.shape
    near = F.cosine_similarity(torch.from_numpy(np.array(found[:])), wanted)
    assert near.min() > 0.98 and near.mean() > 0.997, "of the same pixels, but for the resizing"
    one, other, begun = (end["neck.linear.weight"] for end in ends)
    assert (one - other).norm() < 1e-2 * (one - begun).norm(), "the teacher is kept in two bytes a number"


def test_teacher_must_come_before_the_stage_or_be_the_pretrained_backbone() -> None:
    late = changed(TAUGHT, objective__of="no_such_row")
    with pytest.raises(ValueError, match=r"taught by 'no_such_row', .*known: pretrained, tuned"):
        changed(WORLD, stages=Stages(head=(TUNED, late))).validate()
