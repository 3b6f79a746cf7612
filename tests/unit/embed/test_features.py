"""Features that training, validation and door 07 share: one precision, one file a request, gone when forgotten."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from changing import changed
from small_world import WORLD, copied

from guie.data.packed import PackedImages
from guie.embed.ensemble import load_backbone, rows_of
from guie.embed.features import Encoder, FeatureStore
from guie.evaluate.ladder import score_ladder
from guie.recipe import Member, Setting, Stage, Stages, Validation
from guie.run import Run
from guie.train.stage import train_row

HEAD = changed(WORLD.stage("s1_head"), optim__n_epochs=1)  # on plain, mirrored and one augmented view
LADDER = (
    Setting("off the shelf", (Member("pretrained", 64, output="feature"),)),
    Setting("PCA", (Member("s1_head", 64), Member("pretrained", 64, output="feature")), pca_dim=8),
    Setting("head", (Member("s1_head", 64),)),
)


@pytest.fixture(scope="module")
def out(packed_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose images are packed."""
    return copied(packed_world, tmp_path_factory.mktemp("features"))


@pytest.fixture(autouse=True)
def clean(out: Path) -> Iterator[None]:
    yield
    for folder in ("cache", "04_head", "07_embeddings"):
        shutil.rmtree(out / folder, ignore_errors=True)


def run_of(out: Path, precision: str, stage: Stage = HEAD) -> Run:
    recipe = changed(WORLD, stages=Stages(head=(stage,)), embed__settings=LADDER, embed__precision=precision)
    return Run(recipe.validate(), out, out)


def store_of(run: Run) -> FeatureStore:
    return FeatureStore(run, PackedImages(run.folder(3)), Accelerator(cpu=True))


def encoder_of(run: Run) -> Encoder:
    return Encoder.of(load_backbone(run, "pretrained", 64), run.recipe.model, 64)


def train(run: Run) -> None:
    train_row(run, run.recipe.stages.head[0], PackedImages(run.folder(3)), Accelerator(cpu=True))


def cached(run: Run) -> dict[str, tuple[int, bytes]]:
    """When each file of features was made, and its bytes."""
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in run.cache.glob("*.npy")}


def is_bfloat16(features: np.ndarray) -> bool:
    """Whether no number has more bits than a bfloat16, as what a network gives in that precision."""
    given = torch.from_numpy(np.array(features))
    return torch.equal(given, given.bfloat16().float())


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_training_validation_and_door_07_share_files_of_the_precision_that_is_asked_for(
    out: Path, precision: str
) -> None:
    run = run_of(out, precision)
    train(run)
    made = cached(run)
    sizes = sorted(len(np.load(run.cache / name)) for name in made)
    n_val, n_train = (len(rows_of(PackedImages(run.folder(3)), split)) for split in ("val", "train"))
    assert sizes == sorted([n_val, n_train, n_train, n_train])  # validation's plain view, training's three
    assert all(is_bfloat16(np.load(run.cache / name)) == (precision == "bfloat16") for name in made)
    score_ladder(run)
    assert cached(run) == made
    (store, encoder), rows = (store_of(run), encoder_of(run)), rows_of(PackedImages(run.folder(3)), "val")
    assert is_bfloat16(store.get(encoder, "plain", rows)) == (precision == "bfloat16")
    assert cached(run) == made


def test_precisions_have_files_of_their_own_and_auto_is_float32_on_a_cpu(out: Path) -> None:
    features = {}
    for n_files, precision in enumerate(("float32", "bfloat16"), 1):
        run = run_of(out, precision)
        rows = rows_of(PackedImages(run.folder(3)), "val")
        features[precision] = np.array(store_of(run).get(encoder_of(run), "plain", rows))
        assert len(cached(run)) == n_files
    run = run_of(out, "auto")
    np.testing.assert_array_equal(store_of(run).get(encoder_of(run), "plain", rows), features["float32"])
    assert len(cached(run)) == 2
    exact, half = features["float32"], features["bfloat16"]
    cosines = (exact * half).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(half, axis=1)
    assert cosines.min() > 0.97 and not np.array_equal(exact, half)


def test_forgotten_features_are_gone_and_no_others(out: Path) -> None:
    run = run_of(out, "float32")
    store, encoder, rows = store_of(run), encoder_of(run), rows_of(PackedImages(run.folder(3)), "val")
    plain = np.array(store.get(encoder, "plain", rows))
    one = {path.name for path in run.cache.iterdir()}
    store.get(encoder, "flip", rows)
    both = {path.name for path in run.cache.iterdir()}
    assert len(one) == 2 and len(both) == 4  # each with its seal
    store.forget(encoder, "plain", rows)
    assert {path.name for path in run.cache.iterdir()} == both - one
    np.testing.assert_array_equal(store.get(encoder, "plain", rows), plain)
    assert {path.name for path in run.cache.iterdir()} == both


def test_features_of_a_backbone_that_trains_on_are_not_kept(out: Path) -> None:
    """Validated after each of three epochs; door 07 can ask for those of the last alone."""
    stage = changed(HEAD, trains="all", optim__n_epochs=3, validation=Validation(every_epochs=1))
    run = run_of(out, "float32", stage)
    train(run)
    assert len(cached(run)) == 1
    encoder = Encoder.of(load_backbone(run, "s1_head", 64), run.recipe.model, 64)
    made = cached(run)
    store_of(run).get(encoder, "plain", rows_of(PackedImages(run.folder(3)), "val"))
    assert cached(run) == made
