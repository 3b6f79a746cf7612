from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from own_photos import COLOURS, draw, labelled

from guie.own.photos import read_photos
from guie.own.small import make_small
from guie.own.suspects import neighbours_of, pairs_of, suspicious_labels, twins_of


def clusters(sizes: dict[str, int], spread: float = 0.05, seed: int = 0) -> tuple[np.ndarray, pd.Series]:
    """Points around one random direction for each label."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(len(sizes), 16))
    labels = [label for label, n in sizes.items() for _ in range(n)]
    numbers = [i for i, n in enumerate(sizes.values()) for _ in range(n)]
    return centres[numbers] + spread * rng.normal(size=(len(labels), 16)), pd.Series(labels)


def paths_of(labels: pd.Series) -> pd.Series:
    return pd.Series([f"{i:03d}.jpg" for i in range(len(labels))])


def test_planted_wrong_labels_come_first_and_nothing_else_is_doubted():
    points, truth = clusters({"a": 12, "b": 5, "c": 3, "d": 1})
    labels = truth.copy()
    labels[2] = "b"
    labels[14] = "a"
    near, _ = neighbours_of(points)
    table = suspicious_labels(labels, paths_of(labels), near)
    assert dict(zip(table["path"], table["suggested"], strict=True)) == {"002.jpg": "a", "014.jpg": "b"}
    assert set(table["label"]) == {"a", "b"}
    assert suspicious_labels(truth, paths_of(truth), near).empty


def test_shares_and_strength_by_hand():
    # Photo 0 has the label x, which two others have: its two nearest vote. Both say y. Photos 1 to 5 are right.
    labels = pd.Series(["x", "x", "x", "y", "y", "y"])
    near = np.array([[3, 4, 1], [2, 0, 3], [1, 0, 3], [4, 5, 0], [3, 5, 0], [3, 4, 0]])
    (row,) = suspicious_labels(labels, paths_of(labels), near).itertuples(index=False)
    # most votes for y: photos 0, 3, 4, 5, of which three have it: .75 is enough. (1 - 0) * 2 / (2 + 2) = .5
    assert tuple(row) == ("000.jpg", "x", "y", 0.0, 1.0, 0.5)


def test_votes_that_are_mostly_wrong_are_not_trusted():
    # z gets most votes of photos 0, 1, 2 and 4, of which one has it; y those of 3 and 5, of which half have it.
    labels = pd.Series(["x", "x", "z", "z", "y", "y"])
    near = np.array([[2], [3], [3], [5], [3], [4]])
    assert suspicious_labels(labels, paths_of(labels), near)["path"].tolist() == ["003.jpg"]


def test_photos_without_a_label_or_alone_with_it_are_not_judged():
    labels = pd.Series(["", "", "one", "x", "x", "x", "y", "y", "y"])
    near = np.array([[3, 4]] * 3 + [[4, 6]] + [[3, 5]] * 2 + [[7, 8]] * 3)
    assert suspicious_labels(labels, paths_of(labels), near).empty
    nobody = pd.Series([""] * 9)
    assert suspicious_labels(nobody, paths_of(nobody), near).empty


def test_votes_agree_with_a_loop():
    points, labels = clusters({"a": 9, "b": 7, "c": 2, "d": 1}, spread=1.2, seed=3)
    labels[4] = ""
    near, cosines = neighbours_of(points, k=6)
    unit = points / np.linalg.norm(points, axis=1, keepdims=True)
    similar = unit @ unit.T
    np.fill_diagonal(similar, -np.inf)
    assert (near == np.argsort(-similar, axis=1)[:, :6]).all()
    np.testing.assert_allclose(cosines, np.sort(similar, axis=1)[:, ::-1][:, :6], atol=1e-6)
    winner, shares = {}, {}
    for i, label in enumerate(labels):
        n = min(6, (labels == label).sum() - 1) if label else 0
        votes = [labels[j] for j in near[i, :n]]
        counts = dict.fromkeys(votes, 0.0)
        for r, one in enumerate(votes, 1):
            counts[one] += 1 / r / sum(1 / q for q in range(1, n + 1))
        if counts:
            winner[i] = min(counts, key=lambda one: (-counts[one], one != label, one))
            shares[i] = (counts.get(label, 0.0), counts[winner[i]])
    trusted = {
        one for one in set(winner.values()) - {""}
        if np.mean([labels[i] == one for i in winner if winner[i] == one]) >= 0.5
    }  # fmt: skip
    expected = {f"{i:03d}.jpg": shares[i] for i in winner if winner[i] != labels[i] and winner[i] in trusted}
    table = suspicious_labels(labels, paths_of(labels), near)
    got = {row.path: (row.own_share, row.suggested_share) for row in table.itertuples()}
    assert expected and got.keys() == expected.keys()
    for path, both in got.items():
        assert both == pytest.approx(expected[path])
    assert table["strength"].is_monotonic_decreasing


def test_twins_within_and_across_labels(tmp_path: Path):
    root = labelled(tmp_path / "photos", size=(320, 240))
    (root / "red/copy.jpg").write_bytes((root / "red/0.jpg").read_bytes())
    (root / "green/wrong.jpg").write_bytes((root / "blue/1.jpg").read_bytes())
    (root / "loose.jpg").write_bytes((root / "blue/2.jpg").read_bytes())
    draw(root / "red/alone.jpg", COLOURS["red"], 12345, (320, 240))
    twins = twins_of(make_small(read_photos(root), tmp_path / "cache"))
    got = {(row.path, row.twin): (row.how, bool(row.has_two_labels)) for row in twins.itertuples()}
    two = ("same file", True)
    one = ("same file", False)
    assert got == {
        ("blue/1.jpg", "green/wrong.jpg"): two,
        ("green/wrong.jpg", "blue/1.jpg"): two,
        ("blue/2.jpg", "loose.jpg"): one,  # a photo without a label contradicts nothing
        ("loose.jpg", "blue/2.jpg"): one,
        ("red/0.jpg", "red/copy.jpg"): one,
        ("red/copy.jpg", "red/0.jpg"): one,
    }
    assert twins["has_two_labels"].tolist() == [True, True, False, False, False, False]
    assert pairs_of(twins)["path"].tolist() == ["blue/1.jpg", "blue/2.jpg", "red/0.jpg"]
