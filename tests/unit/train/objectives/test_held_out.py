"""Which training images are held out, and how they are scored: against scikit-learn and written-out loops."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import normalized_mutual_info_score
from torch import Tensor

from guie.train.objectives.held_out import METRICS, choose_held_out, measure, mutual_information


def chosen(labels: Tensor, share: float, largest: int, seed: int = 0) -> Tensor:
    torch.manual_seed(seed)
    return choose_held_out(labels, share, largest)


def test_a_share_of_each_class_is_held_out() -> None:
    labels = torch.arange(600) % 3
    is_held_out = chosen(labels, 0.1, 500)
    assert torch.bincount(labels[is_held_out]).tolist() == [20, 20, 20]
    assert torch.equal(is_held_out, chosen(labels, 0.1, 500))
    assert not torch.equal(is_held_out, chosen(labels, 0.1, 500, seed=1))


def test_held_out_images_are_never_alone_and_leave_two_to_train() -> None:
    counts = torch.tensor([1, 2, 3, 4, 5, 9, 40])
    labels = torch.repeat_interleave(torch.arange(7), counts)
    for share in (0.01, 0.1, 0.5, 0.9):
        for seed in range(20):
            held = torch.bincount(labels[chosen(labels, share, 500, seed)], minlength=7)
            assert not held[:3].any() and (held > 0).sum() >= 2
            assert all(n == 0 or 2 <= n <= count - 2 for n, count in zip(held.tolist(), counts.tolist(), strict=True))
            assert held.sum() <= max(4, int(share * 64))


def test_classes_are_drawn_where_all_would_be_too_many() -> None:
    labels = torch.arange(10_000) % 1000
    is_held_out = chosen(labels, 0.2, 100)
    held = torch.bincount(labels[is_held_out], minlength=1000)
    assert held.sum() == 100 and (held > 0).sum() == 50 and (held[:500] > 0).sum() not in (0, 50)


def test_too_few_classes_with_four_images_are_refused() -> None:
    with pytest.raises(ValueError, match=r"two classes of 4 images or more, and the training images have 1 such"):
        choose_held_out(torch.tensor([0, 0, 0, 0, 0, 1, 1, 1, 2]), 0.1, 500)


def cloud(n_classes: int, n_each: int, spread: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n_classes * n_each) % n_classes
    centres = torch.randn(n_classes, 5, generator=generator)
    return centres[labels] + spread * torch.randn(len(labels), 5, generator=generator), labels


def lloyd(rows: np.ndarray, centres: np.ndarray) -> list[int]:
    """The nearest centre of each row, when centres no longer move."""
    while True:
        found = [int(np.argmin([np.linalg.norm(row - centre) for centre in centres])) for row in rows]
        moved = np.stack([rows[np.array(found) == k].mean(axis=0) for k in range(len(centres))])
        if np.allclose(moved, centres, atol=1e-12):
            return found
        centres = moved


@pytest.mark.parametrize("spread", [0.01, 0.7, 3.0])
def test_scores_are_those_of_loops(spread: float) -> None:
    embeddings, labels = cloud(6, 5, spread)
    scores = dict(zip(METRICS, measure(embeddings, labels * 7 + 2).tolist(), strict=True))
    unit = embeddings.double().numpy()
    unit = unit / np.linalg.norm(unit, axis=1, keepdims=True)
    for k in (1, 2, 4, 8):
        hits = 0
        for i, row in enumerate(unit):
            apart = np.linalg.norm(unit - row, axis=1)
            apart[i] = np.inf
            hits += any(labels[j] == labels[i] for j in np.argsort(apart)[:k])
        assert scores[f"recall_at_{k}"] == pytest.approx(hits / len(unit))
    within = [math.dist(unit[i], unit[j]) for i in range(30) for j in range(30) if i != j and labels[i] == labels[j]]
    means = [unit[labels.numpy() == c].mean(axis=0) for c in range(6)]
    between = [math.dist(one, other) for i, one in enumerate(means) for j, other in enumerate(means) if i != j]
    assert scores["intra_distance"] == pytest.approx(np.mean(within))
    assert scores["inter_distance"] == pytest.approx(np.mean(between))
    clusters = lloyd(unit, unit[:6])  # from the first image of each class
    assert scores["nmi"] == pytest.approx(normalized_mutual_info_score(labels, clusters), abs=1e-9)


def test_tight_classes_have_perfect_scores_and_more_neighbours_than_images_are_no_error() -> None:
    embeddings, labels = cloud(2, 2, 1e-3)
    assert measure(embeddings, labels)[:5].tolist() == pytest.approx([1.0] * 5)


def test_mutual_information_is_scikit_learns() -> None:
    generator = torch.Generator().manual_seed(1)
    for n_one, n_other in ((2, 3), (7, 7), (1, 4), (5, 1)):
        one, other = (torch.randint(0, n, (50,), generator=generator) for n in (n_one, n_other))
        expected = normalized_mutual_info_score(one, other)
        assert float(mutual_information(one, other)) == pytest.approx(expected, abs=1e-12)
    assert float(mutual_information(torch.zeros(4, dtype=torch.int64), torch.zeros(4, dtype=torch.int64))) == 1.0


def test_classes_with_equal_first_images_are_scored() -> None:
    embeddings, labels = cloud(4, 4, 0.1)
    embeddings[1] = embeddings[0]
    assert measure(embeddings, labels).isfinite().all()
