"""Which pairs and triplets the miners take, against values worked out by hand and pytorch-metric-learning."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from circle_points import G5, batch_of, random_points
from pytorch_metric_learning import miners as library
from torch import Tensor

from guie.settings.fields import check
from guie.settings.objective import BatchHard, DistanceWeighted, EasyPositive, MultiSimilarityMiner, SemiHard
from guie.train.objectives.compared import Chosen, Compared, compare
from guie.train.objectives.distances import log_inverse_density
from guie.train.objectives.miners import mine

ALL = (BatchHard(), DistanceWeighted(), EasyPositive(), MultiSimilarityMiner(), SemiHard())


def numbers_of(miner: Any, compared: Compared, most: int = 10**6, seed: int = 0) -> Chosen:
    return mine(miner, compared, most, torch.Generator().manual_seed(seed))


def mined(miner: Any, embeddings: Tensor, labels: Tensor) -> tuple[list[tuple[int, ...]], ...]:
    """Sorted triplets; or positive and negative pairs."""
    numbers = numbers_of(miner, compare(batch_of(embeddings, labels)))
    groups = (numbers,) if len(numbers) == 3 else (numbers[:2], numbers[2:])
    return tuple(sorted(zip(*(column.tolist() for column in group), strict=True)) for group in groups)


# facts/objectives.md, sections 0 and 2.
BY_HAND = [
    (BatchHard(), [(0, 4, 2), (1, 4, 2), (2, 3, 1), (3, 2, 4), (4, 1, 3)]),
    (SemiHard(margin_distance=0.5), [(0, 4, 2), (0, 4, 3), (1, 0, 2), (2, 3, 1), (3, 2, 4), (4, 0, 2)]),
    (EasyPositive(), [(0, 1, 2), (1, 0, 2), (2, 3, 1), (3, 2, 4), (4, 0, 2)]),
    (EasyPositive(negatives="hard"), [(0, 1, 2), (1, 0, 2), (2, 3, 1), (3, 2, 4), (4, 0, 3)]),
]


@pytest.mark.parametrize(("miner", "expected"), BY_HAND, ids=repr)
def test_triplets_worked_out_by_hand(miner: Any, expected: list[tuple[int, ...]]) -> None:
    assert mined(miner, *G5) == (expected,)


def test_pairs_of_multi_similarity_worked_out_by_hand() -> None:
    positive, negative = mined(MultiSimilarityMiner(), *G5)
    assert positive == [(1, 4), (4, 0), (4, 1)]
    assert negative == [(1, 2), (1, 3), (4, 2), (4, 3)]


ORACLES = [
    (BatchHard(), library.BatchHardMiner()),
    (SemiHard(margin_distance=0.3), library.TripletMarginMiner(0.3, "semihard")),
    (EasyPositive(), library.BatchEasyHardMiner("easy", "semihard")),
    (EasyPositive(negatives="hard"), library.BatchEasyHardMiner("easy", "hard")),
    (MultiSimilarityMiner(epsilon_cosine=0.2), library.MultiSimilarityMiner(0.2)),
]


@pytest.mark.parametrize(("miner", "oracle"), ORACLES, ids=repr)
@pytest.mark.parametrize("seed", range(4))
def test_miners_are_the_librarys(miner: Any, oracle: Any, seed: int) -> None:
    embeddings, labels = random_points(24, 4, 9, seed)
    theirs = oracle(embeddings, labels)
    if len(theirs) == 4 and not isinstance(miner, MultiSimilarityMiner):  # (a, p, a, n)
        theirs = (theirs[0], theirs[1], theirs[3])
    groups = (theirs,) if len(theirs) == 3 else (theirs[:2], theirs[2:])
    expected = tuple(sorted(zip(*(column.tolist() for column in group), strict=True)) for group in groups)
    assert mined(miner, embeddings, labels) == expected and len(expected[0]) > 3


# --- drawn by distance
# ---------------------------------------------------------------------------------------------------------------------


def shares(distances: list[float], dim: int) -> list[float]:
    weights = log_inverse_density(torch.tensor(distances, dtype=torch.float64), dim, 0.5, 2.0).exp()
    weights[torch.tensor(distances) >= 1.4] = 0
    return (weights / weights.sum()).tolist()


def test_weights_by_distance() -> None:
    """facts/objectives.md, section 2."""
    near, far = log_inverse_density(torch.tensor([1.0, math.sqrt(2)], dtype=torch.float64), 3, 0.5, 2.0).exp().tolist()
    assert [near / (near + far), far / (near + far)] == pytest.approx([0.585786, 0.414214], abs=1e-6)
    assert shares([0.3, 1.0, 1.5], 3) == pytest.approx([2 / 3, 1 / 3, 0])
    four = log_inverse_density(torch.tensor([1.0, math.sqrt(2)], dtype=torch.float64), 4, 0.5, 2.0).exp().tolist()
    assert four == pytest.approx([1.154701, 0.707107], abs=1e-6)
    found = log_inverse_density(torch.tensor([0.5, 1.0, 1.4], dtype=torch.float64), 64, 0.5, 2.0)
    assert found.tolist() == pytest.approx([44.9436, 8.7743, -0.3243], abs=1e-4)


def test_negatives_are_drawn_as_often_as_their_weights_say() -> None:
    """Each positive pair draws once a call; row 0 has negatives at distances 0.3, 1 and 1.5 in three dimensions."""
    cosines = [1 - d * d / 2 for d in (0.9, 0.3, 1.0, 1.5)]
    embeddings = torch.tensor(
        [[1.0, 0.0, 0.0], *([c, math.sqrt(1 - c * c), 0.0] for c in cosines)], dtype=torch.float64
    )
    compared = compare(batch_of(embeddings, torch.tensor([0, 0, 1, 2, 3])))
    drawn = torch.zeros(5)
    generator = torch.Generator().manual_seed(0)
    for _ in range(4000):
        anchors, positives, negatives = mine(DistanceWeighted(), compared, 1, generator)
        assert anchors.tolist() == [0, 1] and positives.tolist() == [1, 0]
        drawn[negatives[0]] += 1
    assert (drawn / 4000).tolist() == pytest.approx([0, 0, 2 / 3, 1 / 3, 0], abs=0.03)


def test_row_whose_negatives_are_far_has_them_beside_rows_whose_are_near() -> None:
    """In 512 dimensions weights at distances .5 and 1.3 differ by e^300: with one maximum for all rows, as the library
    has it, the rows of class 2 lose their negatives."""
    embeddings = torch.zeros(6, 512)
    embeddings[0, 0] = embeddings[1, 0] = embeddings[2, 0] = embeddings[3, 0] = embeddings[4, 1] = embeddings[5, 1] = (
        1.0
    )
    embeddings[1, 2] = embeddings[2, 3] = embeddings[3, 4] = 0.3
    embeddings[4, 0] = embeddings[5, 0] = 0.15
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    anchors, _, _ = numbers_of(DistanceWeighted(), compare(batch_of(embeddings, labels)))
    assert anchors.tolist() == [0, 1, 2, 3, 4, 5]
    theirs, _, _ = library.DistanceWeightedMiner()(embeddings, labels)
    assert set(theirs.tolist()) == {0, 1, 2, 3}


def test_a_seed_repeats_the_draws() -> None:
    embeddings, labels = random_points(40, 8, 6)
    compared = compare(batch_of(embeddings, labels))
    draws = []
    for seed in (5, 5, 6):
        draws.append(numbers_of(DistanceWeighted(max_distance=2.0), compared, seed=seed)[2])
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])


# --- all of them
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("miner", ALL, ids=repr)
def test_what_is_mined_is_what_it_is_called(miner: Any) -> None:
    embeddings, labels = random_points(30, 6, 8, seed=3)
    numbers = numbers_of(miner, compare(batch_of(embeddings.requires_grad_(), labels)))
    second = numbers[-2] if len(numbers) == 4 else numbers[0]
    assert bool((labels[numbers[0]] == labels[numbers[1]]).all()) and not bool((numbers[0] == numbers[1]).any())
    assert bool((labels[second] != labels[numbers[-1]]).all()) and len(numbers[0]) > 0


@pytest.mark.parametrize("miner", ALL, ids=repr)
@pytest.mark.parametrize("labels", [[0, 1, 2, 3], [0, 0, 0, 0]], ids=["no positives", "no negatives"])
def test_without_pairs_nothing_is_mined(miner: Any, labels: list[int]) -> None:
    embeddings = F.normalize(torch.randn(4, 3, generator=torch.Generator().manual_seed(0)))
    found = mined(miner, embeddings, torch.tensor(labels))
    assert all(group == [] for group in found)


def test_cutoff_beyond_the_largest_distance_is_refused() -> None:
    with pytest.raises(ValueError, match=r"objective.miner.cutoff_distance is 1.5, must be 0.0 to 1.4"):
        check(DistanceWeighted(cutoff_distance=1.5), "objective.miner")
