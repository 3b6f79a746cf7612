"""Listed triplets against loops over all, how often each is drawn, and the memory that they take."""

import os
import resource
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from hand_batch import NO_LOOK, batch_of
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from guie.settings.objective import (
    DistanceWeighted,
    Library,
    MarginLoss,
    Memory,
    MultiSimilarityMiner,
    SemiHard,
    Triplet,
)
from guie.train.objectives.pairs import PairObjective
from guie.train.objectives.triplet_lists import list_triplets, list_within, places_of

Rows = tuple[int, int, int]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def masks(n: int, m: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Positive and negative pairs, some rows without either."""
    kinds = torch.rand(n, m, generator=generator(seed))
    positive, negative = kinds < 0.2, kinds > 0.6
    positive[1], negative[2] = False, False
    return positive, negative


def as_list(found: tuple[Tensor, ...]) -> list[Rows]:
    return [(a, p, n) for a, p, n in zip(*(rows.tolist() for rows in found), strict=True)]


def every(positive: Tensor, negative: Tensor) -> list[Rows]:
    n, m = positive.shape
    return [(a, p, k) for a in range(n) for p in range(m) for k in range(m) if positive[a, p] and negative[a, k]]


def test_all_triplets_are_listed_in_their_order() -> None:
    for seed in range(5):
        positive, negative = masks(7, 23, seed)
        assert as_list(list_triplets(positive, negative, 10**6, generator())) == every(positive, negative)


def test_none_are_listed_without_pairs() -> None:
    pairs, none = torch.ones(3, 4, dtype=torch.bool), torch.zeros(3, 4, dtype=torch.bool)
    for positive, negative in ((pairs, none), (none, pairs), (none, none)):
        assert as_list(list_triplets(positive, negative, 5, generator())) == []
        assert as_list(list_within(torch.ones(3, 4), positive, negative, 0.5, 5, generator())) == []


def test_no_anchor_has_more_than_the_bound_and_those_below_it_keep_all() -> None:
    positive, negative = masks(12, 40)
    whole = every(positive, negative)
    totals = Counter(a for a, _, _ in whole)
    bound = sorted(totals.values())[5]  # some anchors have more, some have less
    found = as_list(list_triplets(positive, negative, bound, generator()))
    assert found == sorted(set(found)) and set(found) <= set(whole)
    assert Counter(a for a, _, _ in found) == {a: min(n, bound) for a, n in totals.items()}
    assert found == as_list(list_triplets(positive, negative, bound, generator()))
    assert found != as_list(list_triplets(positive, negative, bound, generator(1)))


@pytest.mark.parametrize("bound", [5, 8, 11])
def test_each_triplet_is_drawn_as_often_as_the_others(bound: int) -> None:
    """Three positives and four negatives of one anchor, 12 triplets: also where the bound is just below them."""
    positive, negative = torch.zeros(1, 7, dtype=torch.bool), torch.zeros(1, 7, dtype=torch.bool)
    positive[0, [0, 2, 5]] = True
    negative[0, [1, 3, 4, 6]] = True
    counts: Counter[Rows] = Counter()
    own = generator()
    for _ in range(3000):
        counts.update(as_list(list_triplets(positive, negative, bound, own)))
    assert len(counts) == 12
    assert [n / 3000 for n in counts.values()] == pytest.approx([bound / 12] * 12, abs=0.03)


@pytest.mark.parametrize("most", [10**6, 4])
def test_negatives_within_a_width_are_those_of_a_loop(most: int) -> None:
    for seed in range(5):
        positive, negative = masks(8, 19, seed)
        distances = 2 * torch.rand(8, 19, generator=generator(seed + 50), dtype=torch.float64)
        expected = [
            (a, p, n)
            for a, p, n in every(positive, negative)
            if distances[a, p] < distances[a, n] <= distances[a, p] + 0.4
        ]
        found = as_list(list_within(distances, positive, negative, 0.4, most, generator()))
        if most > 100:
            assert sorted(found) == expected
        else:
            totals = Counter(a for a, _, _ in expected)
            assert len(set(found)) == len(found) and set(found) <= set(expected)
            assert Counter(a for a, _, _ in found) == {a: min(n, most) for a, n in totals.items()}


def test_negative_as_far_as_the_positive_is_not_farther() -> None:
    distances = torch.tensor([[0.5, 0.5, 0.75, 1.0, 1.25]])
    positive = torch.tensor([[True, False, False, False, False]])
    assert as_list(list_within(distances, positive, ~positive, 0.5, 9, generator())) == [(0, 0, 2), (0, 0, 3)]


def test_places_count_the_pairs_of_each_anchor() -> None:
    assert places_of(torch.tensor([0, 0, 2, 2, 2, 5]), 7).tolist() == [0, 1, 0, 1, 2, 0]


class Largest(TorchDispatchMode):
    """Notes the bytes of the largest tensor that is made."""

    n_bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else (made,):
            if isinstance(tensor, Tensor):
                self.n_bytes = max(self.n_bytes, tensor.untyped_storage().nbytes())
        return made


def train_beside_a_memory(settings: Any, n: int, n_known: int, n_classes: int) -> None:
    """One step of a batch, whose objective has a full memory."""
    n_all, own = n + n_known, generator()
    labels = torch.randint(n_classes, (n_all,), generator=own)
    embeddings = torch.randn(n_classes, 64, generator=own)[labels] + torch.randn(n_all, 64, generator=own)
    objective = PairObjective(settings, n_classes, 64, n_all)
    objective.memory.add(batch_of(embeddings, labels))
    live = embeddings[:n].clone().requires_grad_()
    loss = objective(batch_of(live, labels[:n], 1))["loss"]
    loss.backward()
    objective.after_step(batch_of(live.detach(), labels[:n], 1), NO_LOOK)
    assert loss.item() > 0 and bool(live.grad.isfinite().all()) and 0 < objective.curves(0)["active_share"] <= 1


def beside(memory: Memory) -> list[Any]:
    """Settings that take triplets in every way."""
    return [
        Triplet(memory=memory),
        Triplet(memory=memory, miner=SemiHard()),
        MarginLoss(memory=memory, miner=DistanceWeighted()),
        MarginLoss(memory=memory, miner=MultiSimilarityMiner()),
        Library(memory=memory),
    ]


@pytest.mark.parametrize("settings", beside(Memory(size=2000)), ids=repr)
def test_no_tensor_of_a_loss_beside_a_memory_is_large(settings: Any) -> None:
    """A list of all 1e7 triplets has 90 MB, a matrix of pairs by others 50, one of rows by others a half."""
    with Largest() as largest:
        train_beside_a_memory(settings, 32, 2000, 10)
    assert 5e5 < largest.n_bytes < 3e6


def tell_memory() -> None:
    """Run in a process of its own: kilobytes that the same takes at the size of a stage."""
    torch.set_num_threads(1)
    for settings in beside(Memory(size=10_000)):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        train_beside_a_memory(settings, 256, 10_000, 100)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)


@pytest.mark.full
def test_losses_of_triplets_beside_a_memory_take_little_memory() -> None:
    """100 classes, a batch of 256 and a memory of 10,000: 2.6e8 triplets, 6 GB as three lists of numbers alone."""
    code = "import test_triplet_lists; test_triplet_lists.tell_memory()"
    paths = os.pathsep.join(sys.path)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parent, env={**os.environ, "PYTHONPATH": paths},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    kilobytes = [int(line) for line in done.stdout.splitlines()]
    assert len(kilobytes) == 5 and max(kilobytes) < 400_000, done.stdout
