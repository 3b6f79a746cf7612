"""Schedules against torch's own, and orders that depend on nothing but the seed."""

import numpy as np
import pytest
import torch
from changing import changed

from guie.recipe import Cosine, Exponential, OneCycle, Optim
from guie.seeds import seed_of
from guie.train.schedule import class_batches, epoch_order, lr_at, n_steps_of, sample_weights, turns

SHA = "4193ced42b8ad9a0dd8fbd78f3b7bc03a7660ebe0fefda5602f00d20b49feffb"  # printf '0/s1/2' | sha256sum
OPTIM = Optim(n_epochs=20, batch_size=64, lr=0.01)


def test_one_cycle_equals_torch() -> None:
    n = 100
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.01)
    oracle = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 0.01, total_steps=n + 1, pct_start=0.3, cycle_momentum=False
    )
    theirs = []
    for _ in range(n):
        optimizer.step()
        oracle.step()
        theirs.append(optimizer.param_groups[0]["lr"])
    ours = [lr_at(changed(OPTIM, schedule=OneCycle(warmup_share=0.3)), i, n) for i in range(n)]
    assert (
        np.abs(np.array(ours) - np.array(theirs)).max() < 3e-4
    )  # torch ends its warm-up one step of the hundred earlier
    assert max(ours) == pytest.approx(0.01) and ours[-1] == pytest.approx(0.0, abs=1e-6)


def test_cosine_climbs_on_a_line_and_ends_at_nothing() -> None:
    rates = [lr_at(changed(OPTIM, schedule=Cosine(warmup_share=0.3)), i, 100) for i in range(100)]
    assert rates[:30] == pytest.approx([0.01 * (i + 1) / 30 for i in range(30)])
    assert rates[64] == pytest.approx(0.005) and rates[-1] == pytest.approx(0.0, abs=1e-12)


def test_cosine_ends_at_its_share() -> None:
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.01)
    oracle = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 100, eta_min=0.0005)
    theirs = []
    for _ in range(100):
        optimizer.step()
        oracle.step()
        theirs.append(optimizer.param_groups[0]["lr"])
    optim = changed(OPTIM, schedule=Cosine(warmup_share=0.0, end_share=0.05))
    assert [lr_at(optim, i, 100) for i in range(100)] == pytest.approx(theirs, rel=1e-6)


def test_exponential_is_the_third_places() -> None:
    # twenty epochs of ten steps: a ramp of a hundred steps to .01, then .93 of itself at each
    optim = changed(OPTIM, schedule=Exponential(epoch_decay=0.93**10, warmup_share=0.5), n_epochs=20)
    rates = [lr_at(optim, step, 200) for step in range(200)]
    expected, rate = [0.01 * (step + 1) / 100 for step in range(100)], 0.01
    for _ in range(100):
        expected.append(rate)
        rate *= 0.93
    assert rates == pytest.approx(expected)


def test_images_of_a_source_are_drawn_as_often_as_its_limit_says() -> None:
    factors = np.array([3.0, 3.0, 1.0, 1.0])
    order = epoch_order(np.arange(4), ONES[:4], 40000, 0.0, factors, 0)
    assert np.bincount(order) / 40000 == pytest.approx(factors / 8, abs=0.01)


def test_sample_weights_by_hand() -> None:
    labels, repeats = np.array([0, 0, 0, 0, 1]), np.array([1, 1, 1, 1, 4])
    assert sample_weights(labels, repeats, 0.0) == pytest.approx(np.array([1, 1, 1, 1, 4]) / 8)
    assert sample_weights(labels, np.ones(5, int), -1.0) == pytest.approx([1 / 8] * 4 + [1 / 2])
    assert sample_weights(labels, np.ones(5, int), -0.5) == pytest.approx(np.array([0.5] * 4 + [1.0]) / 3)


ONES = np.ones(50, dtype=int)


def test_order_is_a_pure_function_of_the_seed() -> None:
    a, b, c = (epoch_order(np.arange(50), ONES, 40, -0.5, ONES, 0, "s1", epoch) for epoch in (3, 3, 4))
    assert (a == b).all() and not (a == c).all()


def test_natural_order_shows_every_row_before_any_comes_again() -> None:
    order = epoch_order(np.arange(10), ONES[:10], 25, 0.0, ONES[:10], 1)
    assert sorted(order[:10]) == sorted(order[10:20]) == list(range(10))


def test_natural_order_repeats_what_the_balanced_list_repeats() -> None:
    order = epoch_order(np.array([0, 1, 1]), np.array([4, 1, 1]), 12, 0.0, ONES[:3], 1)
    assert np.bincount(order[:6]).tolist() == np.bincount(order[6:]).tolist() == [4, 1, 1]


def test_drawn_order_follows_the_weights() -> None:
    labels, repeats = np.array([0, 0, 0, 1]), np.array([1, 1, 1, 3])
    order = epoch_order(labels, repeats, 30000, -0.5, np.ones(len(labels)), 0)
    assert np.bincount(order) / 30000 == pytest.approx(sample_weights(labels, repeats, -0.5), abs=0.01)


def test_class_batches_of_too_few_classes_are_refused() -> None:
    with pytest.raises(ValueError, match="a batch needs 3 classes, and there are 2"):
        class_batches(np.array([0, 0, 3, 3]), np.ones(4), 1, 6, 2, "seed")


def test_class_batches_hold_so_many_different_images_of_different_classes() -> None:
    labels = np.repeat(np.arange(30), 1 + np.arange(30) % 7)  # one to seven images each, in random places
    labels = np.random.default_rng(0).permutation(labels)
    batches = class_batches(labels, np.ones(len(labels)), 50, 32, 4, "seed")
    assert batches.shape == (50, 32)
    for batch in batches:
        groups = batch.reshape(8, 4)
        classes = [set(labels[group]) for group in groups]
        assert all(len(c) == 1 for c in classes) and len(set.union(*classes)) == 8
        for group, (label,) in zip(groups, classes, strict=True):
            n = int((labels == label).sum())
            _, times = np.unique(group, return_counts=True)
            assert len(times) == min(n, 4) and times.max() - times.min() <= 1
    assert (batches == class_batches(labels, np.ones(len(labels)), 50, 32, 4, "seed")).all()
    assert (batches != class_batches(labels, np.ones(len(labels)), 50, 32, 4, "other")).any()


def test_class_batches_draw_classes_by_their_weights() -> None:
    labels = np.repeat([0, 1, 2], [2, 2, 2])
    batches = class_batches(labels, np.array([1, 1, 2, 2, 3, 3.0]), 20000, 4, 2, 0)
    first = labels[batches[:, 0]]
    # The first class by its weight; the second by what is left: P(0 at all) = 1/6 + 2/6 * 1/4 + 3/6 * 1/3 = 5/12.
    assert np.bincount(first) / len(first) == pytest.approx([1 / 6, 2 / 6, 3 / 6], abs=0.01)
    assert (labels[batches] == 0).any(1).mean() == pytest.approx(5 / 12, abs=0.01)


def test_steps_are_whole_batches_and_at_least_one() -> None:
    assert [n_steps_of(64, n) for n in (10, 64, 127, 128)] == [1, 1, 1, 2]


def test_seeds_are_the_same_on_every_machine() -> None:
    assert seed_of(0, "s1", 2) == int.from_bytes(bytes.fromhex(SHA[:8]), "little") >> 1
    assert seed_of(0, "s1", 2) != seed_of(0, "s12") and 0 <= seed_of("x") < 2**31


def test_groups_take_turns_and_no_group_comes_twice_before_all_have_come() -> None:
    groups = np.array([4, -1, 0, 0, 7, 7, 7, -3, 4])
    for n_steps in (1, 2, 3, 7, 30):
        turn = turns(groups, n_steps, 0, "s1", 5)
        assert len(turn) == n_steps and set(turn) <= {0, 4, 7}
        for start in range(0, n_steps, 3):
            round_of_all = turn[start : start + 3].tolist()
            assert len(set(round_of_all)) == len(round_of_all)
        counts = [int((turn == group).sum()) for group in (0, 4, 7)]
        assert max(counts) - min(counts) <= 1


def test_order_of_the_turns_is_that_of_the_epoch() -> None:
    groups = np.arange(40)
    a, b, c = (turns(groups, 40, 0, "s1", epoch).tolist() for epoch in (3, 3, 4))
    assert a == b and a != c and sorted(a) == sorted(c) == list(range(40))


@pytest.mark.parametrize(("per_class", "n_views"), [(4, 1), (2, 2), (1, 4), (3, 3)])
def test_each_image_stands_so_many_times_in_a_row(per_class: int, n_views: int) -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(9), 4))
    batch_size = 3 * per_class * n_views
    batches = class_batches(labels, np.ones(36), 40, batch_size, per_class, "seed", n_views=n_views)
    assert batches.shape == (40, batch_size)
    for batch in batches.tolist():
        classes = []
        for start in range(0, batch_size, per_class * n_views):
            rows = batch[start : start + per_class * n_views]
            images = rows[::n_views]
            assert rows == [image for image in images for _ in range(n_views)]
            assert len(set(images)) == per_class  # each class has four images
            (label,) = {int(labels[image]) for image in images}
            classes.append(label)
        assert len(set(classes)) == 3


def test_views_change_no_draw() -> None:
    labels = np.repeat(np.arange(9), 4)
    once = class_batches(labels, np.ones(36), 5, 6, 2, "seed")
    thrice = class_batches(labels, np.ones(36), 5, 18, 2, "seed", n_views=3)
    assert (thrice[:, ::3] == once).all()
