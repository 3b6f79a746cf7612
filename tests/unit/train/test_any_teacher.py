"""Towers of timm and of open_clip as teachers of another network: against the libraries' own networks and a loop over
pairs; killed within an epoch; on images without labels."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import open_clip
import pytest
import timm
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from changing import changed
from small_world import WORLD
from test_trainer import HEAD, out  # noqa: F401  (out is a fixture)
from torch import Tensor, nn

from guie.data.packed import PackedImages
from guie.files import load_weights
from guie.recipe import HEAD as FRESH
from guie.recipe import (
    ArcFace,
    Augment,
    Contrastive,
    KeepCosines,
    KoLeo,
    Mic,
    Model,
    PerClass,
    Recipe,
    Retain,
    Stages,
    Start,
    Sum,
    Weighted,
)
from guie.run import Run
from guie.train.stage import train_row
from guie.train.train_set import TrainSet

TOWERS = {
    "timm": Model("timm", "test_vit2", mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4)),
    "open_clip": Model("open_clip", "ViT-S-32-alt", mean=(0.3, 0.3, 0.4), std=(0.3, 0.2, 0.2)),
}
PX, STUDENT_PX, LR, WEIGHT = 64, 32, 0.02, 40.0
TEACHERS = {
    library: changed(
        HEAD,
        name=f"{library}_teacher",
        image_px=PX,
        start=Start(of="pretrained", model=model, fresh=FRESH, has_pca_neck=True),
        neck__dim=12,
        neck__has_unit_input=True,
        optim__n_epochs=1,
    )
    for library, model in TOWERS.items()
}
STUDENTS = {
    library: changed(
        HEAD,
        name=f"{library}_student",
        image_px=STUDENT_PX,
        start=Start(of="pretrained", fresh=FRESH),
        neck__dim=7,
        objective=KeepCosines(weight=WEIGHT, of=f"{library}_teacher"),
        optim__lr=LR,
        optim__n_epochs=1,
        sampling=Weighted(power=0.0),
        augment=Augment(flip=0.0),
        cost__n_cached_augmentations=0,
    )
    for library in TOWERS
}
RECIPE: Recipe = changed(WORLD, stages=Stages(head=(*TEACHERS.values(), *STUDENTS.values())))


@pytest.fixture(scope="module")
def run(out: Path) -> Iterator[Run]:  # noqa: F811
    """Both teachers and both students are trained."""
    made = Run(RECIPE, out, out, device="cpu")
    for row in RECIPE.stages:
        train_row(made, row, PackedImages(made.folder(3)), Accelerator(cpu=True))
    yield made
    for file in out.glob("04_head/*/*"):
        file.unlink()


def weights_of(run: Run, name: str) -> dict[str, Tensor]:
    return load_weights(run.stage_folder(name) / "final.safetensors")


def squares(packed: PackedImages, rows: np.ndarray, px: int, model: Model) -> Tensor:
    """Normalised pixels, float32 [n, 3, px, px]."""
    assert model.mean is not None and model.std is not None
    images = [torch.from_numpy(packed.read(int(row))).permute(2, 0, 1)[None].float() for row in rows]
    small = [F.interpolate(image, (px, px), mode="bicubic", antialias=True).clamp(0, 255) for image in images]
    mean, std = (torch.tensor(numbers).view(1, 3, 1, 1) for numbers in (model.mean, model.std))
    return (torch.cat(small) / 255 - mean) / std


def of_library(library: str, weights: dict[str, Tensor]) -> nn.Module:
    """The teacher's network as its library builds it, with the weights that the stage left."""
    network: nn.Module
    if library == "timm":
        network = timm.create_model("test_vit2", num_classes=0, img_size=PX)
    else:
        network = open_clip.create_model("ViT-S-32-alt", force_image_size=PX).visual
    own = {key.removeprefix("backbone.network."): value for key, value in weights.items() if key.startswith("backbone")}
    network.load_state_dict(own)
    return network.eval()


def cosines_by_pair(vectors: Tensor) -> dict[tuple[int, int], Tensor]:
    """Of each pair of rows, by the definition."""
    pairs = [(i, j) for i in range(len(vectors)) for j in range(len(vectors)) if i != j]
    return {(i, j): vectors[i] @ vectors[j] / (vectors[i].norm() * vectors[j].norm()) for i, j in pairs}


@torch.no_grad()
def embeddings_by_hand(run: Run, packed: PackedImages, rows: np.ndarray, library: str) -> Tensor:
    """The teacher's, float32 [n, 12]."""
    weights = weights_of(run, f"{library}_teacher")
    feature = of_library(library, weights)(squares(packed, rows, PX, TOWERS[library]))
    unit = feature / feature.norm(dim=1, keepdim=True)
    return unit @ weights["neck.linear.weight"].T + weights["neck.linear.bias"]


@pytest.mark.parametrize("library", TOWERS)
def test_student_is_that_of_a_loop_over_pairs(run: Run, library: str) -> None:
    packed = PackedImages(run.folder(3))
    stage = STUDENTS[library]
    train_set = TrainSet(RECIPE, stage, packed)
    taught = embeddings_by_hand(run, packed, train_set.rows, library)
    backbone = timm.create_model("test_convnext", num_classes=0).eval()
    final = weights_of(run, stage.name)
    backbone.load_state_dict({k.removeprefix("backbone.network."): v for k, v in final.items() if "backbone" in k})
    assert RECIPE.model.name == "test_convnext"
    with torch.no_grad():
        features = backbone(squares(packed, train_set.rows, STUDENT_PX, RECIPE.model))
    before = run_without_steps(run, stage.name)
    weight, bias = (before[f"neck.linear.{name}"].clone().requires_grad_() for name in ("weight", "bias"))
    for epoch in range(stage.optim.n_epochs):
        for items in train_set.step_items(epoch):
            own = cosines_by_pair(features[items] @ weight.T + bias)
            known = cosines_by_pair(taught[items])
            loss = WEIGHT * sum((own[pair] - known[pair]) ** 2 for pair in own) / len(own)
            gradients = torch.autograd.grad(loss, (weight, bias))
            with torch.no_grad():
                for tensor, gradient in zip((weight, bias), gradients, strict=True):
                    tensor -= LR * gradient
    moved = (before["neck.linear.weight"] - final["neck.linear.weight"]).norm()
    apart = (weight.detach() - final["neck.linear.weight"]).norm()
    assert moved > 0.1 and apart < 1e-3 * moved, (moved, apart)
    assert (bias.detach() - final["neck.linear.bias"]).norm() < 1e-3 * moved


def run_without_steps(run: Run, name: str) -> dict[str, Tensor]:
    """The weights with which a stage begins: those of the same stage with a learning rate that moves nothing."""
    stage = changed(RECIPE.stage(name), name=name, optim__lr=1e-12, optim__n_epochs=1)
    still = Run(changed(RECIPE, stages=Stages(head=(*TEACHERS.values(), stage))), run.out, run.out, device="cpu")
    folder = still.stage_folder(name)
    kept = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    train_row(still, stage, PackedImages(run.folder(3)), Accelerator(cpu=True))
    found = {key: value.clone() for key, value in load_weights(folder / "final.safetensors").items()}
    for path, data in kept.items():
        path.write_bytes(data)
    return found


def test_student_that_is_killed_within_an_epoch_ends_with_the_same_bits(run: Run) -> None:
    expected = weights_of(run, "open_clip_student")
    folder = run.stage_folder("open_clip_student")
    for path in folder.iterdir():
        path.unlink()
    stage, packed, n_seen = STUDENTS["open_clip"], PackedImages(run.folder(3)), 0

    def stop(moment: str) -> None:
        nonlocal n_seen
        n_seen += moment == "checkpoint"
        if n_seen == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_row(run, stage, packed, Accelerator(cpu=True), notice=stop, checkpoint_every_s=-1.0)
    assert (folder / "last.pt").is_file() and not (folder / "final.safetensors").exists()
    train_row(run, stage, packed, Accelerator(cpu=True))
    found = weights_of(run, "open_clip_student")
    assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in found)


def without_labels(packed: PackedImages) -> np.ndarray:
    """Makes every third training image of the first source one of a source `photos` without labels; their rows."""
    index = packed.index
    rows = np.flatnonzero((index["split"] == "train") & (index["source"] == RECIPE.data.sources[0].name))[::3]
    index.loc[rows, ["split", "class_id", "source"]] = ["unlabelled", -1, "photos"]
    return rows


def test_stage_trains_on_images_without_labels_where_it_names_them(run: Run) -> None:
    packed = PackedImages(run.folder(3))
    all_rows = TrainSet(RECIPE, STUDENTS["timm"], packed).rows
    photos, others = without_labels(packed), [source.name for source in RECIPE.data.sources]
    named = changed(STUDENTS["timm"], sources=("photos", *others))
    unnamed = TrainSet(RECIPE, STUDENTS["timm"], packed)
    both = TrainSet(RECIPE, named, packed)
    assert len(photos) > 3 and set(unnamed.rows) == set(all_rows) - set(photos)
    assert set(both.rows) == set(all_rows)
    own = TrainSet(RECIPE, changed(STUDENTS["timm"], sources=(others[1],)), packed)
    assert len(own.rows) and not set(own.rows) & set(photos)
    drawn = both.rows[both.step_items(0).ravel()]
    assert set(drawn) & set(photos)


def test_term_of_cosines_trains_on_images_without_labels_beside_class_centres(run: Run) -> None:
    """The centres are those of the labelled classes; the folder's images are among those that it trains on."""
    packed = PackedImages(run.folder(3))
    photos, others = without_labels(packed), [source.name for source in RECIPE.data.sources]
    assert len(photos)
    stage = changed(
        STUDENTS["timm"],
        objective=Sum(terms=(ArcFace(), KeepCosines(weight=WEIGHT))),
        start=Start(of="pretrained", fresh=FRESH, has_mean_centers=True),
    )
    ends = []
    for name, sources in (("labelled", others), ("with_photos", (*others, "photos"))):
        own = changed(stage, name=name, sources=tuple(sources))
        train_set = TrainSet(RECIPE, own, packed)
        is_photo = np.isin(train_set.rows, photos)
        assert (train_set.labels[is_photo] >= train_set.n_classes).all() and is_photo.any() == (name == "with_photos")
        assert (train_set.labels[~is_photo] < train_set.n_classes).all()
        made = replace(run, recipe=changed(RECIPE, stages=Stages(head=(own,))))
        train_row(made, own, packed, Accelerator(cpu=True))
        ends.append(weights_of(made, name))
    assert {name: tensor.shape for name, tensor in ends[0].items()} == {n: t.shape for n, t in ends[1].items()}


def test_teacher_and_student_that_see_only_images_without_labels(run: Run) -> None:
    """The student's cosines between these images come nearer to the teacher's; the unlabelled photos are the
    only source of both stages."""
    packed = PackedImages(run.folder(3))
    photos = without_labels(packed)
    teacher = changed(TEACHERS["timm"], name="unlabelled_teacher", objective=KeepCosines(), sources=("photos",))
    teacher = changed(teacher, sampling=Weighted(power=0.0), optim__batch_size=4, neck__dim=8)
    start = changed(
        STUDENTS["timm"],
        name="unlabelled_student",
        objective=KeepCosines(weight=WEIGHT, of=teacher.name),
        sources=("photos",),
        optim__batch_size=4,
    )
    distances = []
    for n_epochs in (1, 40):
        student = changed(start, optim__n_epochs=n_epochs, optim__lr=0.02 if n_epochs > 1 else 1e-9)
        made = replace(run, recipe=changed(RECIPE, stages=Stages(head=(teacher, student))))
        assert set(TrainSet(made.recipe, student, packed).rows) == set(photos)
        for row in (teacher, student):
            train_row(made, row, packed, Accelerator(cpu=True))
        weights, taught = weights_of(made, student.name), weights_of(made, teacher.name)
        backbone = timm.create_model("test_convnext", num_classes=0).eval()
        backbone.load_state_dict(
            {k.removeprefix("backbone.network."): v for k, v in weights.items() if "backbone" in k}
        )
        with torch.no_grad():
            feature = of_library("timm", taught)(squares(packed, photos, PX, TOWERS["timm"]))
            wanted = F.normalize(feature) @ taught["neck.linear.weight"].T + taught["neck.linear.bias"]
            own = backbone(squares(packed, photos, STUDENT_PX, RECIPE.model))
            got = own @ weights["neck.linear.weight"].T + weights["neck.linear.bias"]
        known, found = cosines_by_pair(wanted), cosines_by_pair(got)
        distances.append(float(sum((known[pair] - found[pair]) ** 2 for pair in known) / len(known)))
    assert distances[1] < 0.5 * distances[0]


def with_photos(**fields: object) -> Recipe:
    """The recipe `tiny` with a teacher and a student at its end, and a source without labels."""
    rows = (*WORLD.stages.highres, TEACHERS["timm"], changed(STUDENTS["timm"], **fields))
    recipe: Recipe = changed(WORLD, stages__highres=rows)
    photos = changed(RECIPE.data.sources[0], name="photos", kind="unlabelled", folder="photos")
    return changed(recipe, data__sources=(*RECIPE.data.sources, photos))


def test_stage_that_needs_labels_refuses_images_without() -> None:
    own = ("photos", RECIPE.data.sources[0].name)
    with_photos(sources=own, objective=KeepCosines(of="timm_teacher")).validate()
    with_photos(sources=own, objective=Sum(terms=(KeepCosines(of="timm_teacher"), KoLeo()))).validate()
    generic = Retain(features_weight=1.0, generic=("photos",))
    with_photos(sources=own, trains="backbone", objective=Contrastive(), retain=generic).validate()
    words = "stages.timm_student.sources names 'photos'. Its images have no labels, and "
    with_photos(sources=own, objective=Sum(terms=(KeepCosines(of="timm_teacher"), Contrastive()))).validate()
    with pytest.raises(ValueError, match=f"{words}Sum needs the labels of all images"):
        with_photos(sources=own, objective=Sum(terms=(KeepCosines(of="timm_teacher"), Mic()))).validate()
    with pytest.raises(ValueError, match="terms that need labels see no image: each data set has no labels"):
        both = Sum(terms=(KeepCosines(of="timm_teacher"), ArcFace()))
        with_photos(sources=("photos",), objective=both).validate()
    with pytest.raises(ValueError, match=f"{words}trains='objective' trains class centres"):
        with_photos(sources=own, objective=both, trains="objective", start=Start(of="timm_teacher")).validate()
    for objective in (Contrastive(), Sum(terms=(ArcFace(), Contrastive()))):
        with pytest.raises(ValueError, match=f"{words}{type(objective).__name__} needs labels; KeepCosines needs none"):
            with_photos(sources=own, objective=objective).validate()
    remedy = r"they would count as one class; take sampling=Weighted\(power=0.0\)"
    seen = {"objective": KeepCosines(of="timm_teacher")}
    hidden = {"trains": "backbone", "objective": Contrastive(), "retain": generic}
    for sampling in (PerClass(images_per_class=2), PerClass(images_per_class=2, power=0.0), Weighted()):
        for fields in (seen, hidden):
            with pytest.raises(ValueError, match=f"{words}{type(sampling).__name__} with power .*{remedy}"):
                with_photos(sources=own, sampling=sampling, **fields).validate()
