import numpy as np
import pandas as pd
import pytest
from sklearn.decomposition import PCA

from guie.own.features import Features
from guie.own.scores import ranked, reduced, row_of, score, why_no_score, without_twins
from guie.own.towers import Refused, tower

SHIPPED = tower("shipped")


def ids_of(class_ids: list[int]) -> pd.DataFrame:
    return pd.DataFrame(
        {"image_id": [f"{i:03d}" for i in range(len(class_ids))], "class_id": class_ids, "domain": "photos"}
    )


def features(values: np.ndarray) -> Features:
    return Features(values.astype(np.float32), 1.0, 10)


def noisy(ids: pd.DataFrame, noise: float, seed: int = 0, dim: int = 8) -> np.ndarray:
    rng = np.random.default_rng(seed)
    classes = ids["class_id"].to_numpy()
    centres = rng.normal(size=(max(classes) + 2, dim))
    return centres[classes] + noise * rng.normal(size=(len(classes), dim))


def test_score_agrees_with_a_loop():
    ids = ids_of([0, 0, 0, 1, 1, 2, 3, 3, 3, 3, 3, 3, 3, -1, -1])
    values = noisy(ids, 1.0)
    unit = values / np.linalg.norm(values, axis=1, keepdims=True)
    precisions, firsts = [], []
    for i, label in enumerate(ids["class_id"]):
        others = [j for j in np.argsort(-(unit @ unit[i])) if j != i]
        n = sum(ids["class_id"][j] == label for j in others)
        if label < 0 or not n:
            continue  # no label, or alone with it: no query
        m = min(5, n)
        precisions.append(sum(ids["class_id"][j] == label for j in others[:m]) / m)
        firsts.append(ids["class_id"][others[0]] == label)
    got = score(values, ids)
    assert (got.mp5, got.r1) == pytest.approx((np.mean(precisions), np.mean(firsts)))
    assert got.low < got.mp5 < got.high


def test_reduced_is_the_pca_of_sklearn_on_unit_vectors():
    values = np.random.default_rng(0).normal(size=(80, 70)) + 1
    unit = values / np.linalg.norm(values, axis=1, keepdims=True)
    expected = PCA(64, svd_solver="full").fit_transform(unit)
    got = reduced(values)
    assert got is not None and got.shape == (80, 64)
    np.testing.assert_allclose(got @ got.T, expected @ expected.T, atol=1e-4)
    assert reduced(values[:64]) is None and reduced(values[:, :63]) is None


@pytest.mark.parametrize(
    ("class_ids", "told"),
    [
        ([-1, -1], "no labels"),
        ([0, 1, 2, -1], "no label has two photos"),
        ([0, 0, 0], "all photos have one label"),
        ([0, 0, -1], ""),
        ([0, 0, 1], ""),
    ],
)
def test_why_there_is_no_score(class_ids: list[int], told: str):
    why = why_no_score(ids_of(class_ids))
    assert why.startswith("there are " if told == "no labels" else told) if told else why == ""


def test_the_best_is_marked_and_what_is_as_good_is_called_luck():
    ids = ids_of([k for k in range(40) for _ in range(5)])
    rows = [
        row_of(SHIPPED, features(noisy(ids, 3.0)), ids),
        Refused("timm:nothing", "not here"),
        row_of(SHIPPED, features(noisy(ids, 0.6)), ids),
        row_of(SHIPPED, features(noisy(ids, 0.6, seed=1)), ids),
    ]
    compared = ranked(rows)
    assert compared[1] is rows[1]
    assert [getattr(row, "is_best", None) for row in compared].count(True) == 1
    best = max((0, 2, 3), key=lambda i: rows[i].full.mp5)
    assert compared[best].is_best and compared[best].p is None
    assert compared[0].p < 0.001 and not compared[0].is_luck
    other = 5 - best
    assert compared[other].is_luck == (compared[other].p >= 0.05)


def test_equal_rows_are_luck_and_the_first_is_the_best():
    ids = ids_of([k for k in range(10) for _ in range(3)])
    row = row_of(SHIPPED, features(noisy(ids, 1.0)), ids)
    first, second = ranked([row, row])
    assert first.is_best and not second.is_best and second.p == 1.0 and second.is_luck


def test_without_labels_a_row_has_no_score_and_nothing_is_ranked():
    ids = ids_of([-1] * 6)
    row = row_of(SHIPPED, features(np.eye(6)), ids)
    assert row.full is None and row.reduced is None
    assert ranked([row]) == [row]


def test_second_copies_leave_the_score():
    ids = ids_of([0, 0, 0, 1, 1, 1])
    values = np.array([[1, 0], [1, 0], [0, 1], [0, 1], [0, 1.0], [1, 0.1]])
    row = row_of(SHIPPED, features(values), ids)
    twins = pd.DataFrame({"path": ["000", "001"], "twin": ["001", "000"]})
    kept = without_twins(row, ids, twins)
    assert kept is not None and row.full is not None
    assert kept.mp5 == pytest.approx(score(values[[0, 2, 3, 4, 5]], ids_of([0, 0, 1, 1, 1])).mp5)
    assert kept.mp5 != row.full.mp5
    assert without_twins(row, ids, twins.head(0)) is None
