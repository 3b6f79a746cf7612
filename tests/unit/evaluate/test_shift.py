"""The Fréchet distance against the textbook's formula, the splits against all splits, the curve against a model that
fails far away."""

from itertools import combinations, pairwise

import numpy as np
import pandas as pd
import pytest
from scipy.linalg import sqrtm

from guie.evaluate.shift import frechet_distance, shift_curve, shift_splits, split_table


@pytest.mark.parametrize(("n_a", "n_b", "dim"), [(200, 150, 6), (40, 300, 20)])
def test_frechet_distance_equals_the_root_of_the_product(n_a: int, n_b: int, dim: int) -> None:
    rng = np.random.default_rng(dim)
    a = rng.normal(size=(n_a, dim)) @ rng.normal(size=(dim, dim))
    b = rng.normal(size=(n_b, dim)) @ rng.normal(size=(dim, dim)) + 0.5
    of_a, of_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = np.real(sqrtm(of_a @ of_b))
    expected = ((a.mean(axis=0) - b.mean(axis=0)) ** 2).sum() + np.trace(of_a + of_b - 2 * root)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-12)


def test_frechet_distance_by_hand() -> None:
    a, b = np.array([[0.0], [2.0]]), np.array([[4.0], [10.0]])  # means 1 and 7, deviations sqrt(2) and sqrt(18)
    assert frechet_distance(a, b) == pytest.approx(36 + (np.sqrt(18) - np.sqrt(2)) ** 2)
    assert frechet_distance(a, a) == pytest.approx(0.0, abs=1e-12)


def test_frechet_distance_of_fewer_images_than_dimensions() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(5, 64)), rng.normal(size=(7, 64)) + 1
    of_a, of_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    overlap = np.sqrt(np.clip(np.real(np.linalg.eigvals(of_a @ of_b)), 0, None)).sum()
    expected = ((a.mean(axis=0) - b.mean(axis=0)) ** 2).sum() + np.trace(of_a) + np.trace(of_b) - 2 * overlap
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-4)
    with pytest.raises(ValueError, match="two features"):
        frechet_distance(a[:1], b)


def on_a_line(n_classes: int = 8, n_images: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """Classes side by side, with numbers that say nothing of the place."""
    labels = np.repeat(np.arange(n_classes), n_images)
    place = np.random.default_rng(7).permutation(n_classes)[labels]
    return np.stack([place.astype(float), np.zeros(len(labels))], axis=1) + 0.05 * np.random.default_rng(0).normal(
        size=(len(labels), 2)
    ), labels


@pytest.mark.parametrize("seed", range(5))
def test_swapping_ends_at_the_hardest_of_all_splits(seed: int) -> None:
    features, labels = on_a_line()
    distances = []
    for test in combinations(range(8), 4):
        is_test = np.isin(labels, test)
        distances.append(frechet_distance(features[~is_test], features[is_test]))
    assert len(distances) == 70
    whole = [split for split in shift_splits(features, labels, n_splits=8, seed=seed) if split.how != "remove"]
    assert whole[-1].frechet == pytest.approx(max(distances))


def test_splits_grow_keep_sides_apart_and_remove_last() -> None:
    rng = np.random.default_rng(0)
    labels = np.append(rng.integers(30, size=900) * 2**40, [-1] * 9)
    features = np.append(
        rng.normal(size=(30, 12))[labels[:900] // 2**40] + rng.normal(size=(900, 12)), np.full((9, 12), 99.0), axis=0
    )
    splits = shift_splits(features, labels, n_splits=7, min_share=0.4)
    assert 5 <= len(splits) <= 7
    assert (np.diff([split.frechet for split in splits]) > 0).all()
    order = [("start", "swap", "remove").index(split.how) for split in splits]
    assert order == sorted(order) and set(order) == {0, 1, 2}
    for split in splits:
        assert not set(split.train) & set(split.test) and -1 not in {*split.train, *split.test}
        assert len(split.train) == len(split.test)
        assert len(split.train) == 15 or split.how == "remove"
        of_train, of_test = (features[np.isin(labels, side)] for side in (split.train, split.test))
        assert split.frechet == pytest.approx(frechet_distance(of_train, of_test))
    assert len(splits[-1].test) == 6
    removed = [split for split in splits if split.how == "remove"]
    assert all(set(b.test) < set(a.test) for a, b in pairwise(removed))
    table = split_table(splits)
    assert len(table) == sum(len(split.train) + len(split.test) for split in splits)
    assert set(table.loc[table["split"] == 0, "class_id"]) == set(labels[labels >= 0])


def test_curve_falls_for_a_model_that_knows_one_region_and_not_for_one_that_knows_all() -> None:
    rng = np.random.default_rng(1)
    labels = np.repeat(np.arange(40), 8)
    centre = rng.normal(size=(40, 16))
    features = centre[labels] + 0.3 * rng.normal(size=(320, 16))
    splits = shift_splits(features, labels, n_splits=6)
    ids = pd.DataFrame({"image_id": [str(i) for i in range(320)], "class_id": labels, "domain": "all"})
    is_far = np.isin(labels, splits[-1].test)
    blind = np.where(is_far[:, None], rng.normal(size=(320, 16)), features)
    fair, falling = (shift_curve(splits, [model] * len(splits), ids, n_controls=2) for model in (features, blind))
    assert list(fair["frechet"]) == [split.frechet for split in splits]
    assert fair["mp5"].min() > 0.95
    assert falling["mp5"].iloc[-1] < 0.3 < falling["mp5"].iloc[0]
    assert falling["mp5_control"].iloc[-1] > 2 * falling["mp5"].iloc[-1]
    assert (falling["mp5_low"] <= falling["mp5"]).all() and (falling["mp5"] <= falling["mp5_high"]).all()
    assert falling["n_test_classes"].tolist() == [len(split.test) for split in splits]
    with pytest.raises(ValueError, match="zip"):
        shift_curve(splits, [features], ids)


def test_too_few_classes_are_refused() -> None:
    with pytest.raises(ValueError, match="3 classes cannot make"):
        shift_splits(np.eye(6), np.array([0, 0, 1, 1, 2, -1]))
