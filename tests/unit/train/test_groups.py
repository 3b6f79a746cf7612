"""Batches of one data set, batches of one group, and several views of an image, against counts by hand."""

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
import torch
from changing import changed

from guie.data.packed import PackedImages
from guie.embed.features import Encoder, FeatureStore
from guie.recipe import Augment, PerClass, Recipe, Stage, Weighted, load_recipe
from guie.train.batches import FeatureBatches
from guie.train.train_set import TrainSet

RECIPE: Recipe = load_recipe("tiny")
STAGE: Stage = changed(RECIPE.stage("s1_head"), optim__batch_size=4)
N = 240  # images: two thirds of source x, with classes 0 to 7; the others of y, with classes 8 to 11
SOURCES = np.array(["x", "x", "y"] * (N // 3))
CLASSES = np.where(SOURCES == "y", 8 + np.arange(N) // 3 % 4, np.arange(N) // 3 % 8)


class Pack:
    index = pd.DataFrame(
        {
            "image_id": [str(i) for i in range(N)],
            "source": SOURCES,
            "class_id": CLASSES,
            "split": "train",
            "repeats": 1,
        }
    )


PACK = cast(PackedImages, Pack())
ONE_SOURCE = (Weighted(is_of_one_source=True), PerClass(images_per_class=2, is_of_one_source=True))
one_source = pytest.mark.parametrize("sampling", ONE_SOURCE, ids=["weighted", "per class"])


@one_source
def test_each_batch_is_of_one_data_set_and_the_sets_take_turns(sampling: Weighted | PerClass) -> None:
    train_set = TrainSet(RECIPE, changed(STAGE, sampling=sampling), PACK)
    orders = set()
    for epoch in range(8):
        steps = train_set.step_items(epoch)
        assert steps.shape == (60, 4) and (steps == train_set.step_items(epoch)).all()
        names = [set(SOURCES[batch]) for batch in steps]
        assert all(len(found) == 1 for found in names)
        flat = [found.pop() for found in names]
        assert all(flat[i] != flat[i + 1] for i in range(59)) and flat.count("x") == 30
        orders.add(flat[0])
        if isinstance(sampling, PerClass):
            assert all(sorted(np.unique(CLASSES[batch], return_counts=True)[1]) == [2, 2] for batch in steps)
    assert orders == {"x", "y"}  # which set begins changes with the epoch


def test_batches_of_all_data_sets_mix_them() -> None:
    steps = TrainSet(RECIPE, STAGE, PACK).step_items(0)
    assert any(len(set(SOURCES[batch])) == 2 for batch in steps)


@pytest.mark.parametrize("sampling", [Weighted(), PerClass(images_per_class=2)], ids=["weighted", "per class"])
def test_groups_share_a_batch_and_those_left_out_are_in_none(sampling: Weighted | PerClass) -> None:
    train_set = TrainSet(RECIPE, changed(STAGE, sampling=sampling), PACK)
    groups = np.where(np.arange(N) < 90, 5, np.where(np.arange(N) < 180, 2, -1))
    steps = train_set.step_items(3, groups)
    of_batches = [set(groups[batch]) for batch in steps]
    assert all(len(found) == 1 for found in of_batches) and set.union(*of_batches) == {5, 2}
    flat = [found.pop() for found in of_batches]
    assert flat.count(5) == 30 and all(flat[i] != flat[i + 1] for i in range(59))
    assert (steps != train_set.step_items(4, groups)).any()
    assert not (steps[0] == train_set.step_items(3)[0]).all()


@one_source
def test_groups_and_data_sets_part_batches_together(sampling: Weighted | PerClass) -> None:
    """A group whose images are of two sets becomes two; the parts of all groups take turns."""
    train_set = TrainSet(RECIPE, changed(STAGE, sampling=sampling), PACK)
    groups = np.where(np.arange(N) % 2, 1, 0)
    groups[:30] = -1
    steps = train_set.step_items(0, groups)
    parts = [{(str(SOURCES[i]), int(groups[i])) for i in batch} for batch in steps]
    assert all(len(found) == 1 for found in parts)
    flat = [found.pop() for found in parts]
    assert sorted(set(flat)) == [("x", 0), ("x", 1), ("y", 0), ("y", 1)]
    assert [flat.count(part) for part in sorted(set(flat))] == [15] * 4


def test_groups_that_leave_everything_out_are_told() -> None:
    for sampling in (Weighted(), PerClass(images_per_class=2), *ONE_SOURCE):
        train_set = TrainSet(RECIPE, changed(STAGE, sampling=sampling), PACK)
        with pytest.raises(
            ValueError, match=r"stages.s1_head: no group of the objective has the \d classes of a batch; give"
        ):
            train_set.step_items(0, np.full(N, -1))


def test_group_with_fewer_classes_than_a_batch_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    """A clustering that parts off a few classes must not end a stage that has trained for hours. The other group has
    exactly the classes of a batch, and stays."""
    stage = changed(STAGE, sampling=PerClass(images_per_class=2), optim__batch_size=16)
    steps = TrainSet(RECIPE, stage, PACK).step_items(0, np.where(SOURCES == "y", 1, 0))
    assert len(steps) == 15 and set(SOURCES[steps.ravel()]) == {"x"}
    assert "1 of 2 groups have fewer than the 8 classes of a batch; their 80 images are left out" in caplog.text
    with pytest.raises(ValueError, match=r"no group of the objective has the 8 classes of a batch; give it fewer clu"):
        TrainSet(RECIPE, stage, PACK).step_items(0, np.arange(N) // 3 % 4)


def test_groups_that_data_sets_part_too_finely_have_batches_of_several(caplog: pytest.LogCaptureFixture) -> None:
    """Each group has four classes of x and two of y; a batch needs five."""
    sampling = PerClass(images_per_class=2, is_of_one_source=True)
    groups = np.where(CLASSES < 8, CLASSES // 4, CLASSES % 2)
    stage = changed(STAGE, sampling=changed(sampling, is_of_one_source=False), optim__batch_size=10)
    train_set = TrainSet(RECIPE, stage, PACK)
    train_set.stage = changed(stage, sampling=sampling)
    steps = train_set.step_items(0, groups)
    assert all(len(set(groups[batch])) == 1 for batch in steps)
    assert any(len(set(SOURCES[batch])) == 2 for batch in steps)
    assert (
        "in 2 of 2 groups some batches are of several data sets in this epoch (x, y), because not each" in caplog.text
    )
    assert "has the 5 classes of a batch there" in caplog.text


def test_no_data_set_is_left_out_where_only_some_groups_part_it_too_finely(caplog: pytest.LogCaptureFixture) -> None:
    """Group 0 holds four classes of x and three of y, group 1 four of x and one of y, a quarter of y; a batch needs
    two. So group 1 is not parted, and y's class there still trains."""
    groups = np.where(CLASSES < 8, CLASSES // 4, (CLASSES == 11).astype(int))
    sampling = PerClass(images_per_class=2, is_of_one_source=True)
    train_set = TrainSet(RECIPE, changed(STAGE, sampling=sampling, optim__batch_size=4), PACK)
    batches = [{(str(SOURCES[i]), int(groups[i])) for i in batch} for batch in train_set.step_items(0, groups)]
    assert set.union(*batches) == {("x", 0), ("y", 0), ("x", 1), ("y", 1)}
    assert all(len(found) == 1 for found in batches if ("x", 0) in found or ("y", 0) in found)
    assert any(len(found) == 2 for found in batches)
    assert "in 1 of 2 groups" in caplog.text and "(x, y)" in caplog.text


def test_stray_images_of_a_data_set_do_not_mix_a_group(caplog: pytest.LogCaptureFixture) -> None:
    """As above, but only two images of y, a fortieth, lie in group 1: they are left out, and batches stay of one."""
    groups = np.where(CLASSES < 8, CLASSES // 4, 0)
    stray = np.flatnonzero(CLASSES == 11)[:2]
    groups[stray] = 1
    sampling = PerClass(images_per_class=2, is_of_one_source=True)
    train_set = TrainSet(RECIPE, changed(STAGE, sampling=sampling, optim__batch_size=4), PACK)
    steps = train_set.step_items(0, groups)
    assert all(len(set(SOURCES[batch])) == 1 for batch in steps) and not set(stray) & set(steps.ravel())
    assert "several data sets" not in caplog.text
    assert "1 of 4 groups have fewer than the 2 classes of a batch; their 2 images are left out" in caplog.text


def test_group_of_one_class_is_left_out_even_where_images_are_drawn_one_by_one() -> None:
    """Without a second class it has no negative."""
    steps = TrainSet(RECIPE, changed(STAGE, sampling=Weighted()), PACK).step_items(0, (CLASSES == 3).astype(int))
    assert 3 not in CLASSES[steps.ravel()]


def test_too_few_classes_in_a_data_set_are_told() -> None:
    stage = changed(STAGE, sampling=PerClass(images_per_class=2), optim__batch_size=12)  # six classes, of twelve
    with pytest.raises(ValueError, match=r"needs 6 classes, and the data set y has 4; make the batch smaller"):
        TrainSet(RECIPE, changed(stage, sampling__is_of_one_source=True), PACK)


class Store:
    """Features that tell their image and their view: [100 * image + view]."""

    def __init__(self) -> None:
        self.accelerator = SimpleNamespace(device=torch.device("cpu"))
        self.packed = cast(Any, PACK)
        self.names: list[str] = []

    def get(self, encoder: Any, name: str, rows: np.ndarray, change: Any, others: Any = ()) -> np.ndarray:
        self.names.append(name)
        return (100 * rows + len(self.names) - 1)[:, None].astype(np.float32)


def feature_batches(n_cached: int, views_per_image: int, monkeypatch: pytest.MonkeyPatch) -> FeatureBatches:
    """Plain view, mirrored view, and so many augmented ones."""
    monkeypatch.setattr("guie.train.batches.sizes_of", lambda packed, rows: np.zeros((len(rows), 3), np.float32))
    stage = changed(
        STAGE,
        sampling=PerClass(images_per_class=2, views_per_image=views_per_image),
        optim__batch_size=4 * views_per_image,
        cost__n_cached_augmentations=n_cached,
        augment=Augment(flip=0.5),
    )
    train_set = TrainSet(RECIPE, stage, PACK)
    return FeatureBatches(stage, train_set, cast(FeatureStore, Store()), cast(Encoder, None))


def test_views_of_an_image_in_a_batch_are_different_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    for n_cached, n_views in ((1, 3), (2, 3), (0, 2), (3, 1)):
        batches = feature_batches(n_cached, n_views, monkeypatch)
        seen, n = set(), 0
        for given in batches.epoch(0, 0):
            assert given.inputs[:, 0].tolist() == (100 * given.items + given.views).tolist()
            for items, views in zip(given.items.split(n_views), given.views.split(n_views), strict=True):
                assert len(set(items.tolist())) == 1 and len(set(views.tolist())) == n_views
                seen |= set(views.tolist())
            n += 1
        assert n == batches.train_set.n_steps and seen == set(range(n_cached + 2))


def test_later_steps_of_an_epoch_are_the_same_whether_the_first_were_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    batches = feature_batches(1, 2, monkeypatch)
    groups = np.arange(N) // 3 % 8 // 4  # classes 0 to 3 and 8 to 11 of y, 4 to 7 and 8 to 11
    for words in ((), (groups,)):
        whole = [(given.items.tolist(), given.views.tolist()) for given in batches.epoch(2, 0, *words)]
        rest = [(given.items.tolist(), given.views.tolist()) for given in batches.epoch(2, 7, *words)]
        assert whole[7:] == rest


def test_more_views_than_are_cached_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"views_per_image is 4, and 3 views are cached; raise cost.n_cached_augmen"):
        feature_batches(1, 4, monkeypatch)
