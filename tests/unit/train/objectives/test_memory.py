"""The memory against a Python list, and the published sum over a batch and a memory against a loop over all pairs."""

import logging
import math

import pytest
import torch
import torch.nn.functional as F
from hand_batch import NO_LOOK, batch_of, drawn
from metric_fixtures import F4
from torch import Tensor

from guie.settings.objective import Contrastive, Library, Memory, ThresholdConsistentMargin
from guie.train.objectives.memory import MemoryBank
from guie.train.objectives.pairs import PairObjective
from guie.train.objectives.regularisers import ConsistentMarginTerm


def held(bank: MemoryBank, step: int = 0) -> list[tuple[list[float], int]]:
    """What it knows, in no order."""
    embeddings, labels = bank.known(step)
    return sorted(zip(embeddings.tolist(), labels.tolist(), strict=True))


def test_ring_wraps_as_published() -> None:
    """facts/objectives.md 5.1: size 4, batches of 3: after the first the slot is 3, not full; after the second 2,
    full."""
    bank = MemoryBank(Memory(4), 2, "Contrastive")
    assert held(bank) == [] and bank.curves() == {"memory_fill": 0.0}
    bank.add(batch_of(torch.tensor([[0.0, 0], [1, 1], [2, 2]]), torch.tensor([0, 1, 2])))
    assert (int(bank.position), int(bank.count), bank.curves()) == (3, 3, {"memory_fill": 0.75})
    bank.add(batch_of(torch.tensor([[3.0, 3], [4, 4], [5, 5]]), torch.tensor([3, 4, 5])))
    assert (int(bank.position), int(bank.count), bank.curves()) == (2, 4, {"memory_fill": 1.0})
    assert held(bank) == [([float(i)] * 2, i) for i in (2, 3, 4, 5)]


@pytest.mark.parametrize("size", [1, 5, 16, 17, 1000])
def test_it_holds_the_last_rows_of_many_batches(size: int) -> None:
    """Batches of 1 to 17 rows, some larger than the memory, against a list."""
    bank, everything = MemoryBank(Memory(size), 3, "Contrastive"), []
    for step in range(60):
        embeddings, labels = drawn(1 + step * 7 % 17, 3, 9, step)
        batch = batch_of(embeddings.float().requires_grad_(), labels, step)
        bank.add(batch)
        everything += zip(batch.embeddings.tolist(), labels.tolist(), strict=True)
        last = everything[-size:]
        assert held(bank) == sorted(last)
        assert not bank.known(step)[0].requires_grad and bank.curves()["memory_fill"] == round(len(last) / size, 6)


def test_nothing_is_known_before_the_first_step_that_counts() -> None:
    bank = MemoryBank(Memory(8, start_step=3), 2, "Contrastive")
    for step in range(5):
        assert len(bank.known(step)[0]) == (min(8, 2 * step) if step >= 3 else 0)
        bank.add(batch_of(torch.ones(2, 2), torch.tensor([0, 1]), step))


def irt_sum(embeddings: Tensor, labels: Tensor, known: Tensor, known_labels: Tensor, threshold: float) -> Tensor:
    """The contrastive sum of IRT with a memory: over the pairs of the batch, and of the batch with the memory."""
    unit, others = F.normalize(embeddings), F.normalize(torch.cat([embeddings, known]))
    cosines, is_same = unit @ others.T, labels[:, None] == torch.cat([labels, known_labels])
    costs = torch.where(is_same, 1 - cosines, F.relu(cosines - threshold))
    return costs.fill_diagonal_(0.0).sum() / len(labels)


def irt_loop(embeddings: list[list[float]], labels: list[int], before: list[tuple[list[float], int]]) -> float:
    """The same, pair by pair, in Python's floats."""
    total = 0.0
    for i, (x, label) in enumerate(zip(embeddings, labels, strict=True)):
        others = [(y, other) for j, (y, other) in enumerate(zip(embeddings, labels, strict=True)) if j != i] + before
        for y, other in others:
            cosine = sum(a * b for a, b in zip(x, y, strict=True)) / math.hypot(*x) / math.hypot(*y)
            total += 1 - cosine if other == label else max(0.0, cosine - 0.5)
    return total / len(labels)


def test_published_sum_of_one_anchor() -> None:
    """facts/objectives.md 5.1: x1 of F4 against x0, x2, x3."""
    (x, labels), bank = F4, MemoryBank(Memory(3), 2, "Contrastive").double()
    bank.add(batch_of(x[[0, 2, 3]], labels[[0, 2, 3]]))
    total = irt_sum(x[1:2], labels[1:2], *bank.known(0), 0.5)
    assert float(total) == pytest.approx(0.866025, abs=1e-6)
    assert float(irt_sum(x, labels, x[:0], labels[:0], 0.5)) == pytest.approx(0.933013, abs=1e-6)  # without a memory


def test_published_sum_over_a_stage_equals_a_loop() -> None:
    """Forty batches of twelve, a memory of fifty: each batch meets the fifty rows before it."""
    bank, before = MemoryBank(Memory(50, start_step=2), 4, "Contrastive").double(), []
    for step in range(40):
        embeddings, labels = drawn(12, 4, 5, step)
        total = irt_sum(embeddings, labels, *bank.known(step), 0.5)
        expected = irt_loop(embeddings.tolist(), labels.tolist(), before[-50:] if step >= 2 else [])
        assert float(total) == pytest.approx(expected, rel=1e-12)
        bank.add(batch_of(embeddings, labels, step))
        before += zip(embeddings.tolist(), labels.tolist(), strict=True)


def margin_loop(embeddings: list[list[float]], labels: list[int], before: list[tuple[list[float], int]]) -> float:
    """The threshold-consistent margin over a batch and what came before it."""
    low, high = [], []
    for i, (x, label) in enumerate(zip(embeddings, labels, strict=True)):
        others = [(y, other) for j, (y, other) in enumerate(zip(embeddings, labels, strict=True)) if j != i] + before
        for y, other in others:
            cosine = sum(a * b for a, b in zip(x, y, strict=True)) / math.hypot(*x) / math.hypot(*y)
            low += [0.9 - cosine] if other == label and cosine <= 0.9 else []
            high += [cosine - 0.5] if other != label and cosine >= 0.5 else []
    return sum(low) / max(1, len(low)) + sum(high) / max(1, len(high))


def test_an_objective_with_a_memory_equals_a_loop() -> None:
    objective = ConsistentMarginTerm(ThresholdConsistentMargin(memory=Memory(30, start_step=3)), 4, 1000).double()
    before: list[tuple[list[float], int]] = []
    for step in range(12):
        embeddings, labels = drawn(8, 4, 3, step)
        batch = batch_of(embeddings, labels, step)
        expected = margin_loop(embeddings.tolist(), labels.tolist(), before[-30:] if step >= 3 else [])
        assert float(sum(objective(batch).values())) == pytest.approx(expected, rel=1e-12)
        objective.after_step(batch, NO_LOOK)
        before += zip(embeddings.tolist(), labels.tolist(), strict=True)
    assert objective.curves(0)["memory_fill"] == 1.0


def test_the_memory_gets_no_gradient_and_pulls_on_the_batch() -> None:
    objective = ConsistentMarginTerm(ThresholdConsistentMargin(memory=Memory(4)), 2, 1000).double()
    x, labels = F4
    objective.after_step(batch_of(x, labels), NO_LOOK)
    row = x[1:2].clone().requires_grad_()  # alone in its batch: all its pairs are with the memory
    sum(objective(batch_of(row, labels[1:2], 1)).values()).backward()
    assert row.grad.norm() > 0.1
    assert not any(tensor.requires_grad for tensor in objective.memory.buffers())


def test_memory_holds_no_more_than_the_training_images(caplog: pytest.LogCaptureFixture) -> None:
    """Every kind with a memory: a warning with both numbers, and a fill that stays below 1."""
    with caplog.at_level(logging.WARNING, "guie"):
        assert len(MemoryBank(Memory(20), 2, "Contrastive", 20).labels) == 20 and caplog.text == ""
        objectives = (
            PairObjective(Contrastive(memory=Memory(40)), 3, 2, 20),
            PairObjective(Library(memory=Memory(40)), 3, 2, 20),
            ConsistentMarginTerm(ThresholdConsistentMargin(memory=Memory(40)), 2, 20),
        )
    told = "{}: memory.size is 40, and there are 20 training images: it holds 20 embeddings"
    kinds = ("Contrastive", "Library", "ThresholdConsistentMargin")
    assert [record.getMessage() for record in caplog.records] == [told.format(kind) for kind in kinds]
    for objective in objectives:
        for step in range(9):
            objective.begin_epoch(step, NO_LOOK)
            objective.after_step(batch_of(*drawn(6, 2, 3, step), step=step), NO_LOOK)
        assert len(objective.memory.known(9)[0]) == 20 and objective.curves(0)["memory_fill"] == 0.5
