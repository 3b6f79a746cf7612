"""Losses of pairs and triplets against values computed by hand, written-out loops and pytorch-metric-learning."""

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from circle_points import F4, POINTS, batch_of, on_circle, random_points
from pytorch_metric_learning import losses
from pytorch_metric_learning.utils import loss_and_miner_utils
from torch import Tensor

from guie.settings.fields import check
from guie.settings.objective import (
    BatchHard,
    Circle,
    Contrastive,
    DistanceContrastive,
    EasyPositive,
    LiftedStructure,
    MarginLoss,
    Memory,
    MultiSimilarity,
    MultiSimilarityMiner,
    NtXent,
    SemiHard,
    SupCon,
    Triplet,
)
from guie.settings.objectives.pairs import PairSettings
from guie.train.objectives.base import Look
from guie.train.objectives.compared import compare, share_active
from guie.train.objectives.distances import unit_distances
from guie.train.objectives.pairs import PairObjective

# What facts/objectives.md has for its points, most of them from a loop in numpy and the library in float64.
VALUES: list[tuple[str, PairSettings, float]] = [
    ("F4", DistanceContrastive(), 1.689469),
    ("G5", DistanceContrastive(), 1.308168),
    ("F4", Contrastive(), 0.933013),
    ("G5", Contrastive(), 1.529324),
    ("F4", Triplet(mean_over="all"), 0.247367),
    ("F4", Triplet(), 0.659646),
    ("F4", Triplet(is_squared=True), 1.021367),
    ("G5", Triplet(mean_over="all"), 0.156177),
    ("G5", Triplet(), 0.401598),
    ("F4", MarginLoss(), 0.570263),
    ("G5", MarginLoss(), 0.621088),
    ("F4", MarginLoss(beta_weight=0.1), 0.690263),
    ("F4", MarginLoss(beta_weight=0.1, has_class_beta=True), 0.730263),
    ("F4", LiftedStructure(), 2.777994),
    ("G5", LiftedStructure(), 2.524952),
    ("F4", LiftedStructure(is_generalised=True), 1.564916),
    ("G5", LiftedStructure(is_generalised=True), 1.949080),
    ("F4", MultiSimilarity(miner=None), 0.684615),
    ("F4", MultiSimilarity(), 0.433814),
    ("G5", MultiSimilarity(miner=None), 0.881497),
    ("G5", MultiSimilarity(), 0.580218),
    ("F4", NtXent(temperature=0.5), 0.989836),
    ("F5", NtXent(temperature=0.5), 1.445501),
    ("G5", NtXent(temperature=0.5), 1.021409),
    ("F4", SupCon(temperature=0.5), 0.989836),
    ("F5", SupCon(temperature=0.5), 1.661575),
    ("G5", SupCon(temperature=0.5), 1.207110),
]
KINDS: tuple[PairSettings, ...] = (
    Circle(),
    Contrastive(),
    DistanceContrastive(),
    LiftedStructure(),
    LiftedStructure(is_generalised=True),
    MarginLoss(),
    MarginLoss(has_class_beta=True),
    MultiSimilarity(miner=None),
    NtXent(),
    SupCon(),
    Triplet(),
    Triplet(is_squared=True, mean_over="all"),
    Triplet(has_soft_margin=True),
)
every_kind = pytest.mark.parametrize("settings", KINDS, ids=[f"{type(row).__name__}{i}" for i, row in enumerate(KINDS)])
LOOK: Look = None  # type: ignore[assignment]


def objective_of(settings: PairSettings, n_classes: int = 2, dim: int = 2, n_items: int = 10**6) -> PairObjective:
    return PairObjective(settings, n_classes, dim, n_items).double()


def loss_of(settings: PairSettings, embeddings: Tensor, labels: Tensor) -> Tensor:
    objective = objective_of(settings, int(labels.max()) + 2, embeddings.shape[1])
    return objective(batch_of(embeddings, labels))["loss"]


@pytest.mark.parametrize(("points", "settings", "expected"), VALUES)
def test_values_computed_by_hand(points: str, settings: PairSettings, expected: float) -> None:
    embeddings, labels = POINTS[points]
    for length in (1.0, 7.0):
        assert loss_of(settings, length * embeddings, labels).item() == pytest.approx(expected, abs=1e-6)


def test_weight_is_a_factor() -> None:
    assert float(loss_of(Contrastive(weight=0.25), *F4)) == pytest.approx(0.933013 / 4, abs=1e-6)


# --- loops
# ---------------------------------------------------------------------------------------------------------------------


def geometry(embeddings: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and distances by numpy, from the vectors themselves."""
    unit = embeddings.numpy() / np.linalg.norm(embeddings.numpy(), axis=1, keepdims=True)
    return unit @ unit.T, np.sqrt(((unit[:, None] - unit) ** 2).sum(axis=2))


def positives_of(labels: Tensor, i: int) -> list[int]:
    return [j for j in range(len(labels)) if j != i and labels[j] == labels[i]]


def negatives_of(labels: Tensor, i: int) -> list[int]:
    return [j for j in range(len(labels)) if labels[j] != labels[i]]


def triplets_of(labels: Tensor) -> Iterator[tuple[int, int, int]]:
    for a in range(len(labels)):
        yield from ((a, p, n) for p, n in itertools.product(positives_of(labels, a), negatives_of(labels, a)))


def log_sum(values: list[float]) -> float:
    return math.log(sum(map(math.exp, values))) if values else 0.0


def contrastive_loop(embeddings: Tensor, labels: Tensor) -> float:
    s, _ = geometry(embeddings)
    total = 0.0
    for i in range(len(labels)):
        total += sum(1 - s[i, j] for j in positives_of(labels, i))
        total += sum(max(0.0, s[i, j] - 0.5) for j in negatives_of(labels, i))
    return total / len(labels)


def triplet_loop(embeddings: Tensor, labels: Tensor) -> float:
    _, d = geometry(embeddings)
    costs = [max(0.0, d[a, p] - d[a, n] + 0.2) for a, p, n in triplets_of(labels)]
    return sum(costs) / sum(cost > 0 for cost in costs)


def soft_squared_loop(embeddings: Tensor, labels: Tensor) -> float:
    _, d = geometry(embeddings)
    costs = [math.log1p(math.exp(d[a, p] ** 2 - d[a, n] ** 2 + 0.1)) for a, p, n in triplets_of(labels)]
    return sum(costs) / len(costs)


def margin_loop(embeddings: Tensor, labels: Tensor) -> float:
    _, d = geometry(embeddings)
    beta = float(np.float32(1.2))  # parameters begin in float32
    pulls = [max(0.0, d[a, p] - beta + 0.2) for a, p, _ in triplets_of(labels)]
    pushes = [max(0.0, beta - d[a, n] + 0.2) for a, _, n in triplets_of(labels)]
    return (sum(pulls) + sum(pushes)) / (sum(x > 0 for x in pulls) + sum(x > 0 for x in pushes))


def lifted_loop(embeddings: Tensor, labels: Tensor) -> float:
    _, d = geometry(embeddings)
    costs = []
    for i in range(len(labels)):
        for j in positives_of(labels, i):
            pushes = [1 - d[k, n] for k in (i, j) for n in negatives_of(labels, k)]
            costs.append(max(0.0, log_sum(pushes) + d[i, j]) ** 2 / 2)
    return sum(costs) / len(costs)


def circle_loop(embeddings: Tensor, labels: Tensor) -> float:
    s, _ = geometry(embeddings)
    costs = []
    for i in range(len(labels)):
        pulls = [-80 * max(0.0, 1.4 - s[i, j]) * (s[i, j] - 0.6) for j in positives_of(labels, i)]
        pushes = [80 * max(0.0, s[i, j] + 0.4) * (s[i, j] - 0.4) for j in negatives_of(labels, i)]
        if pulls and pushes:
            costs.append(np.logaddexp(0.0, log_sum(pulls) + log_sum(pushes)))
    return sum(costs) / sum(cost > 0 for cost in costs)


def nt_xent_loop(embeddings: Tensor, labels: Tensor) -> float:
    s, _ = geometry(embeddings)
    costs = []
    for i in range(len(labels)):
        for j in positives_of(labels, i):
            rivals = [s[i, n] / 0.3 for n in negatives_of(labels, i)]
            costs.append(log_sum([s[i, j] / 0.3, *rivals]) - s[i, j] / 0.3)
    return sum(costs) / len(costs)


LOOPS = [
    (Contrastive(), contrastive_loop),
    (Triplet(), triplet_loop),
    (Triplet(is_squared=True, has_soft_margin=True, margin_distance=0.1, mean_over="all"), soft_squared_loop),
    (MarginLoss(), margin_loop),
    (LiftedStructure(), lifted_loop),
    (Circle(), circle_loop),
    (NtXent(temperature=0.3), nt_xent_loop),
]


@pytest.mark.parametrize(("settings", "loop"), LOOPS, ids=lambda value: getattr(value, "__name__", ""))
@pytest.mark.parametrize("seed", range(3))
def test_loops(settings: PairSettings, loop: Any, seed: int) -> None:
    """40 rows, more than the 25 from which torch.cdist computes another way; some classes have one image."""
    embeddings, labels = random_points(40, 3, 18, seed)
    assert sorted(torch.bincount(labels).tolist())[1] <= 1
    assert loss_of(settings, embeddings, labels).item() == pytest.approx(loop(embeddings, labels), rel=1e-9)


# --- the library in float64
# ---------------------------------------------------------------------------------------------------------------------

ORACLES = [
    (DistanceContrastive(positive_margin_distance=0.1), losses.ContrastiveLoss(pos_margin=0.1, neg_margin=1)),
    (LiftedStructure(), losses.LiftedStructureLoss()),
    (LiftedStructure(is_generalised=True), losses.GeneralizedLiftedStructureLoss()),
    (MarginLoss(), losses.MarginLoss()),
    (MultiSimilarity(miner=None), losses.MultiSimilarityLoss()),
    (NtXent(temperature=0.2), losses.NTXentLoss(temperature=0.2)),
    (SupCon(), losses.SupConLoss()),
    (Circle(), losses.CircleLoss()),
    (Triplet(), losses.TripletMarginLoss(margin=0.2)),
]


@pytest.mark.parametrize(("settings", "oracle"), ORACLES, ids=lambda value: type(value).__name__)
def test_losses_and_gradients_equal_the_librarys(settings: PairSettings, oracle: torch.nn.Module) -> None:
    embeddings, labels = random_points(24, 5, 6)
    ours, theirs = embeddings.clone().requires_grad_(), embeddings.clone().requires_grad_()
    left, right = loss_of(settings, ours, labels), oracle(theirs, labels)
    left.backward()
    right.backward()
    assert float(left) == pytest.approx(float(right), rel=1e-9)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-6, atol=1e-10)


def test_pairs_and_triplets_are_the_librarys() -> None:
    embeddings, labels = random_points(30, 4, 9)
    compared = compare(batch_of(embeddings, labels))
    for mine, theirs in zip(compared.pairs(), loss_and_miner_utils.get_all_pairs_indices(labels), strict=True):
        assert torch.equal(mine, theirs)
    for mine, theirs in zip(
        compared.triplets(10**6, torch.Generator()), loss_and_miner_utils.get_all_triplets_indices(labels), strict=True
    ):
        assert torch.equal(mine, theirs)


# --- gradients
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [row for row in KINDS if not isinstance(row, Circle)], ids=repr)
def test_gradients_are_those_of_finite_differences(settings: PairSettings) -> None:
    embeddings, labels = random_points(9, 3, 3, seed=4)
    objective = objective_of(settings, 3, 3)
    assert torch.autograd.gradcheck(lambda x: objective(batch_of(x, labels))["loss"], embeddings.requires_grad_())


def test_weights_of_circle_are_constant_for_the_gradient() -> None:
    """Finite differences of the loss in which the weights a_p and a_n stay what they were."""
    embeddings, labels = random_points(8, 3, 3, seed=5)
    embeddings.requires_grad_()
    before, _ = geometry(embeddings.detach())

    def with_fixed_weights(x: Tensor) -> Tensor:
        s = F.normalize(x) @ F.normalize(x).T
        costs = []
        for i in range(len(labels)):
            pulls = [-16 * max(0.0, 1.4 - before[i, j]) * (s[i, j] - 0.6) for j in positives_of(labels, i)]
            pushes = [16 * max(0.0, before[i, j] + 0.4) * (s[i, j] - 0.4) for j in negatives_of(labels, i)]
            if pulls and pushes:
                costs.append(F.softplus(torch.stack(pulls).logsumexp(0) + torch.stack(pushes).logsumexp(0)))
        return torch.stack(costs).mean()

    (expected,) = torch.autograd.grad(with_fixed_weights(embeddings), embeddings)
    (found,) = torch.autograd.grad(loss_of(Circle(scale=16.0), embeddings, labels), embeddings)
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-10)


def test_gradient_of_the_boundary() -> None:
    for is_by_class, expected in ((False, [-1 / 3]), (True, [1 / 6, -1 / 2])):
        objective = objective_of(MarginLoss(has_class_beta=is_by_class))
        objective(batch_of(*F4))["loss"].backward()
        (beta,) = objective.parameters()
        torch.testing.assert_close(beta.grad, torch.tensor(expected, dtype=torch.float64))


def test_boundary_has_a_rate_of_its_own_and_no_decay() -> None:
    objective = objective_of(MarginLoss(beta_lr_factor=7.0))
    ((name, _),) = objective.named_parameters()
    assert objective.rates() == {"loss.": 7.0} and name.startswith("loss.") and objective.undecayed() == ("loss.",)
    assert objective.curves(0) == {"beta_distance": 1.2}


def awkward() -> tuple[Tensor, Tensor]:
    """float32: duplicates of one class and of two, opposite vectors, and a vector of zeros."""
    embeddings = torch.randn(32, 64, generator=torch.Generator().manual_seed(1))
    embeddings[1], embeddings[2], embeddings[5] = embeddings[0], 2 * embeddings[0], embeddings[4]
    embeddings[6], embeddings[7] = -embeddings[0], 0
    return embeddings, torch.tensor([0, 0, 0, 1, 1, 2, 2, 2] * 4)


@every_kind
def test_duplicates_and_opposites_have_finite_gradients(settings: PairSettings) -> None:
    embeddings, labels = awkward()
    embeddings.requires_grad_()
    objective = PairObjective(settings, 3, 64, 100)
    loss = objective(batch_of(embeddings, labels))["loss"]
    loss.backward()
    assert loss.dtype == torch.float32 and bool(loss.isfinite())
    assert bool(embeddings.grad.isfinite().all())


def test_hardest_positives_have_a_gradient_at_a_small_temperature() -> None:
    """The library's is below .001 here: exp(-100) nearly underflows, and it adds a number within the logarithm."""
    embeddings = on_circle(0, 90, 5, 95, dtype=torch.float32).requires_grad_()
    loss_of_ours = PairObjective(NtXent(temperature=0.01), 2, 2, 9)(batch_of(embeddings, F4[1]))["loss"]
    (ours,) = torch.autograd.grad(loss_of_ours, embeddings)
    (theirs,) = torch.autograd.grad(losses.NTXentLoss(temperature=0.01)(embeddings, F4[1]), embeddings)
    assert float(theirs.norm(dim=1).max()) < 1e-3 and float(ours.norm(dim=1).min()) > 1
    assert float(loss_of_ours) == pytest.approx(99.6, abs=3)


# --- where there is nothing
# ---------------------------------------------------------------------------------------------------------------------


@every_kind
@pytest.mark.parametrize("labels", [[0, 1, 2, 3, 4, 5], [0] * 6], ids=["no positives", "no negatives"])
def test_empty_case_is_on_the_graph(settings: PairSettings, labels: list[int]) -> None:
    embeddings, _ = random_points(6, 3, 2)
    embeddings.requires_grad_()
    loss = objective_of(settings, 6, 3)(batch_of(embeddings, torch.tensor(labels)))["loss"]
    loss.backward()
    assert bool(loss.isfinite()) and bool(embeddings.grad.isfinite().all())
    if isinstance(settings, Circle | MarginLoss | NtXent | Triplet) or settings == LiftedStructure():
        assert float(loss) == 0


@pytest.mark.parametrize("kind", [Contrastive, DistanceContrastive, LiftedStructure, NtXent, SupCon, Triplet])
def test_miner_that_finds_nothing_gives_zero_on_the_graph(kind: type[PairSettings]) -> None:
    embeddings = on_circle(0, 1, 180, 181).requires_grad_()
    objective = objective_of(kind(miner=SemiHard(margin_distance=0.1)))
    batch = batch_of(embeddings, F4[1])
    loss = objective(batch)["loss"]
    loss.backward()
    assert float(loss) == 0 and float(embeddings.grad.abs().sum()) == 0
    objective.after_step(batch, LOOK)
    assert objective.curves(0)["active_share"] == 0 and objective.curves(0)["with_positive_share"] == 1


def test_one_pair_of_each_kind_counts() -> None:
    """The library's loss of one pair of each kind is 0."""
    embeddings, labels = F4
    _, d = geometry(embeddings)
    chosen = tuple(torch.tensor([number]) for number in (0, 1, 1, 2))
    loss = objective_of(DistanceContrastive()).loss(compare(batch_of(embeddings, labels)), chosen)
    assert float(loss) == pytest.approx(d[0, 1] + 1 - d[1, 2], rel=1e-9)
    assert float(losses.ContrastiveLoss()(embeddings, labels, chosen)) == 0


def test_what_cannot_be_is_said() -> None:
    with pytest.raises(ValueError, match="Contrastive compares images of different classes, and the stage has 1 class"):
        PairObjective(Contrastive(), 1, 4, 100)
    with pytest.raises(ValueError, match=r"objective.memory is set, but the original lifted .* is_generalised=True"):
        check(LiftedStructure(memory=Memory()), "objective")
    check(LiftedStructure(memory=Memory(), is_generalised=True), "objective")


# --- with a memory
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [row for row in KINDS if row != LiftedStructure()], ids=repr)
def test_memory_is_compared_as_if_it_were_in_the_batch(settings: PairSettings) -> None:
    """The rows of the batch are anchors, alone; the memory gives positives and negatives, without a gradient."""
    embeddings, labels = random_points(30, 4, 5, seed=8)
    objective = objective_of(type(settings)(**{**vars(settings), "memory": Memory(size=20, start_step=1)}), 5, 4)
    objective.after_step(batch_of(embeddings[10:], labels[10:], step=0), LOOK)
    live = embeddings[:10].clone().requires_grad_()
    assert float(objective(batch_of(live, labels[:10], step=0))["loss"]) == pytest.approx(
        float(objective_of(settings, 5, 4)(batch_of(live, labels[:10]))["loss"])
    )
    with_memory = objective(batch_of(live, labels[:10], step=1))["loss"]
    whole = compare(batch_of(torch.cat([live, embeddings[10:]]), labels))
    batch = batch_of(live, labels[:10], step=1)
    found = objective._chosen(batch, compare(batch, objective.memory))
    every = whole.triplets(10**6, torch.Generator()) if objective.loss.takes_triplets else whole.pairs()
    kept = [
        numbers[(every[0] if i < len(every) - 2 or len(every) == 3 else every[2]) < 10]
        for i, numbers in enumerate(every)
    ]
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(found, kept, strict=True))
    with_memory.backward()
    assert bool(live.grad.isfinite().all()) and float(with_memory) > 0


def test_contrastive_sum_of_an_anchor_against_a_memory() -> None:
    """facts/objectives.md, 5.1: x1 against {x0, x2, x3}."""
    embeddings, labels = F4
    objective = objective_of(Contrastive(memory=Memory(size=3)))
    others = [0, 2, 3]
    objective.after_step(batch_of(embeddings[others], labels[others]), LOOK)
    assert float(objective(batch_of(embeddings[1:2], labels[1:2]))["loss"]) == pytest.approx(0.866025, abs=1e-6)


def test_multi_similarity_with_a_memory_is_a_loop() -> None:
    embeddings, labels = random_points(25, 3, 4, seed=9)
    objective = objective_of(MultiSimilarity(miner=None, memory=Memory(size=15)), 4, 3)
    objective.after_step(batch_of(embeddings[10:], labels[10:]), LOOK)
    s, _ = geometry(embeddings)
    total = 0.0
    for i in range(10):
        total += math.log1p(sum(math.exp(-2 * (s[i, j] - 0.5)) for j in positives_of(labels, i))) / 2
        total += math.log1p(sum(math.exp(50 * (s[i, j] - 0.5)) for j in negatives_of(labels, i))) / 50
    found = objective(batch_of(embeddings[:10], labels[:10]))["loss"]
    assert float(found) == pytest.approx(total / 10, rel=1e-9)


@pytest.mark.parametrize("miner", [BatchHard(), EasyPositive(), MultiSimilarityMiner()], ids=repr)
def test_no_row_is_its_own_positive_beside_a_memory(miner: Any) -> None:
    embeddings, labels = random_points(24, 3, 4, seed=10)
    objective = objective_of(Contrastive(miner=miner, memory=Memory(size=12)), 4, 3)
    objective.after_step(batch_of(embeddings[12:], labels[12:]), LOOK)
    batch = batch_of(embeddings[:12], labels[:12])
    anchors, positives, *_ = objective._chosen(batch, compare(batch, objective.memory))
    assert len(anchors) > 5 and not bool((anchors == positives).any()) and int(positives.max()) >= 12


def test_curves_are_means_over_the_steps() -> None:
    objective = objective_of(Triplet(memory=Memory(size=8)))
    embeddings, labels = F4
    for step in range(2):
        objective.after_step(batch_of(embeddings, labels, step), LOOK)
    curves = objective.curves(0)
    _, d = geometry(torch.cat([embeddings, embeddings]))
    double = torch.cat([labels, labels])
    shares = []
    for n_others in (4, 8):
        violations = [
            d[a, p] - d[a, n] + 0.2 > 1e-9
            for a in range(4)
            for p in positives_of(double, a)
            for n in negatives_of(double, a)
            if p < n_others and n < n_others
        ]
        shares.append(sum(violations) / len(violations))
    assert shares[0] == 3 / 8 and curves["active_share"] == pytest.approx(sum(shares) / 2, abs=1e-6)
    assert curves["memory_fill"] == 1.0
    assert curves["positive_cosine"] == pytest.approx(0.25) and curves["with_positive_share"] == 1
    assert curves["negative_cosine"] == pytest.approx((0 - 1 + 0.866025 - 0.5) / 4, abs=1e-6)
    objective.begin_epoch(1, LOOK)
    assert objective.curves(1) == {"memory_fill": 1.0}


def test_share_of_what_is_not_known_is_no_number() -> None:
    assert math.isnan(share_active([]))
    assert share_active([torch.zeros(0)]) == 0
    assert float(share_active([torch.tensor([0.0, 1.0]), torch.tensor([2.0])])) == pytest.approx(2 / 3)


def test_distances_are_exact_where_they_count() -> None:
    embeddings, _ = random_points(40, 8, 2)
    unit = F.normalize(embeddings)
    _, d = geometry(embeddings)
    off = ~torch.eye(40, dtype=torch.bool)
    torch.testing.assert_close(unit_distances(unit, unit)[off], torch.from_numpy(d)[off], rtol=1e-9, atol=1e-12)
    assert float(unit_distances(unit.float(), unit.float()).diagonal().max()) < 1e-3
