"""PADS: bins and weights by hand, the losses of the plane's fixtures, the turns of its policy."""

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from metric_fixtures import F4, G5
from torch import Tensor

from guie.settings.fields import check
from guie.settings.objective import Pads
from guie.train.objectives import pads
from guie.train.objectives.base import Batch
from guie.train.objectives.draws import Triplets
from guie.train.objectives.held_out import measure
from guie.train.objectives.pads import PadsObjective, draw_triplets

LABELS = torch.arange(60) % 3  # of the training images
DIM = 5


def objective_of(settings: Pads, labels: Tensor = LABELS, seed: int = 0) -> PadsObjective:
    torch.manual_seed(seed)
    return PadsObjective(settings, int(labels.max()) + 1, labels).double()


def batch_of(embeddings: Tensor, labels: Tensor, step: int = 0) -> Batch:
    rows = torch.arange(len(labels))
    return Batch(embeddings, embeddings, labels, rows, rows * 0, 0, step)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Sight:
    """A model that sharpens: at its n-th look the classes lie n times as far apart. Notes what it is asked."""

    def __init__(self, gains: list[float], labels: Tensor = LABELS) -> None:
        self.labels: np.ndarray = labels.numpy()
        self.gains = gains
        self.asked: list[np.ndarray] = []

    def embeddings(self, items: np.ndarray) -> Tensor:
        gain = self.gains[len(self.asked)]
        self.asked.append(items)
        centres = torch.eye(3, DIM)
        noise = torch.randn(len(self.labels), DIM, generator=torch.Generator().manual_seed(1))
        return (gain * centres[torch.from_numpy(self.labels)] + noise)[torch.from_numpy(items)]


def every_triplet(distances: Tensor, labels: Tensor, *_: Any) -> Triplets:
    """All triplets of a batch instead of drawn ones."""
    n, own = len(labels), labels.tolist()
    found = [
        (a, p, k)
        for a in range(n) for p in range(n) for k in range(n)
        if a != p and own[a] == own[p] != own[k]
    ]  # fmt: skip
    return Triplets(*torch.tensor(found).T)


@pytest.mark.parametrize("distance_and_bin", [(0.05, 0), (0.12, 0), (0.5, 8), (1.39, 28), (1.9, 28)])
def test_bins_of_distances(distance_and_bin: tuple[float, int]) -> None:
    objective = objective_of(Pads())
    distance, number = distance_and_bin
    assert int(torch.bucketize(torch.tensor(distance), objective.edges)) == number
    assert len(objective.edges) == 28 and Pads().bin_width == pytest.approx(0.044828, abs=1e-6)


def test_bins_that_start_with_weight() -> None:
    """Nine of 29, as in the released code, which has them one bin lower than it means to."""
    weights = objective_of(Pads()).log_weights.softmax(dim=0)
    assert (weights > 0.1).nonzero()[:, 0].tolist() == list(range(4, 13))
    assert weights[4:13].tolist() == pytest.approx([1 / 9] * 9)
    assert weights[:4].tolist() == pytest.approx([1e-15 / 9] * 4)


@pytest.mark.parametrize(("values", "mean"), [((F4, 0.2, 1.2), 0.570263), ((G5, 0.2, 1.2), 0.621088)])
def test_margin_base_of_all_triplets(
    monkeypatch: pytest.MonkeyPatch, values: tuple[tuple[Tensor, Tensor], float, float], mean: float
) -> None:
    monkeypatch.setattr(pads, "draw_triplets", every_triplet)
    (embeddings, labels), margin, beta = values
    objective = objective_of(Pads(margin_distance=margin, beta_distance=beta))
    assert float(objective(batch_of(3 * embeddings, labels))["loss"]) == pytest.approx(mean, abs=1e-6)


@pytest.mark.parametrize(("has_class_beta", "slopes"), [(False, [-1 / 3]), (True, [1 / 6, -1 / 2, 0.0])])
def test_gradient_of_the_boundary(monkeypatch: pytest.MonkeyPatch, has_class_beta: bool, slopes: list[float]) -> None:
    monkeypatch.setattr(pads, "draw_triplets", every_triplet)
    objective = objective_of(Pads(beta_distance=1.2, has_class_beta=has_class_beta))
    objective(batch_of(*F4))["loss"].backward()
    assert objective.beta is not None and objective.beta.grad is not None
    assert objective.beta.grad.tolist() == pytest.approx(slopes, abs=1e-9)


@pytest.mark.parametrize(("fixture", "mean"), [(F4, 0.659646), (G5, 0.401598)])
def test_triplet_base_of_all_triplets(
    monkeypatch: pytest.MonkeyPatch, fixture: tuple[Tensor, Tensor], mean: float
) -> None:
    monkeypatch.setattr(pads, "draw_triplets", every_triplet)
    objective = objective_of(Pads(base="triplet"))
    assert float(objective(batch_of(*fixture))["loss"]) == pytest.approx(mean, abs=1e-6)
    assert objective.beta is None and not objective.rates() and not objective.undecayed()


def test_gradient_is_that_of_finite_differences_with_the_draws_fixed() -> None:
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    for settings in (Pads(has_class_beta=True), Pads(base="triplet", margin_distance=1.0)):
        objective = objective_of(settings)

        def loss(embeddings: Tensor, objective: PadsObjective = objective) -> Tensor:
            return objective(batch_of(embeddings, labels))["loss"]

        assert torch.autograd.gradcheck(loss, drawn(6, DIM).requires_grad_())


def test_negatives_are_drawn_with_the_weights_of_their_bins() -> None:
    """Candidates of one anchor in three bins; those of one bin share its weight evenly."""
    labels = torch.tensor([0, 0, 1, 1, 1, 1])
    distances = torch.tensor([[0.0, 0.3, 0.5, 0.5, 0.7, 1.9]]).repeat(6, 1)
    edges = torch.tensor([0.2, 0.4, 0.6])
    log_weights = torch.tensor([1e-15, 0.2, 0.3, 0.5], dtype=torch.float64).log()
    for has_own_class, chances in ((True, [0, 0.2, 0.3, 0.3, 0.5, 0.5]), (False, [0, 0, 0.3, 0.3, 0.5, 0.5])):
        generator = torch.Generator().manual_seed(0)
        counts = torch.zeros(6)
        for _ in range(2000):
            drawn = draw_triplets(distances, labels, log_weights, edges, has_own_class, generator)
            assert drawn.anchors[0] == 0 and drawn.positives[0] == 1
            counts[drawn.negatives[0]] += 1
        expected = [chance / sum(chances) for chance in chances]
        assert (counts / 2000).tolist() == pytest.approx(expected, abs=0.04)


def test_positive_is_another_row_of_the_class_and_all_are_drawn() -> None:
    labels = torch.tensor([0, 0, 0, 1, 2, 2])
    seen = set()
    edges, generator = torch.tensor([0.2, 0.4, 0.6]), torch.Generator().manual_seed(0)
    for _ in range(60):
        drawn = draw_triplets(torch.ones(6, 6), labels, torch.zeros(4), edges, True, generator)
        assert drawn.anchors.tolist() == [0, 1, 2, 4, 5]  # the fourth has no positive
        seen |= set(zip(drawn.anchors.tolist(), drawn.positives.tolist(), strict=True))
    assert seen == {(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1), (4, 5), (5, 4)}


def test_weights_fifty_powers_of_ten_apart_are_still_drawn() -> None:
    log_weights = torch.tensor([math.log(1e25), math.log(1e-25)], dtype=torch.float64)
    far = torch.full((4, 4), 1.0)
    labels, edges, generator = torch.tensor([0, 0, 1, 1]), torch.tensor([0.5]), torch.Generator().manual_seed(0)
    assert draw_triplets(far, labels, log_weights, edges, False, generator).anchors.tolist() == [0, 1, 2, 3]
    near = far.clone()
    near[0, 2] = 0.1
    for _ in range(50):
        assert draw_triplets(near, labels, log_weights, edges, False, generator).negatives[0] == 2


@pytest.mark.parametrize("base", ["margin", "triplet"])
@pytest.mark.parametrize("labels", [[0, 1, 2], [0, 0, 0]])
def test_nothing_to_compare_is_an_attached_zero(base: Any, labels: list[int]) -> None:
    """Without positives, and without negatives."""
    objective = objective_of(Pads(base=base, has_self_regularisation=False))
    embeddings = drawn(3, DIM).requires_grad_()
    batch = batch_of(embeddings, torch.tensor(labels))
    loss = objective(batch)["loss"]
    loss.backward()
    assert float(loss) == 0 and embeddings.grad is not None and not embeddings.grad.any()
    objective.after_step(batch.detached(), Sight([1.0]))
    assert all(math.isfinite(value) for value in objective.curves(0).values())


def test_equal_rows_have_finite_gradients() -> None:
    """An anchor may be its own negative, at distance 0."""
    rows = drawn(6, DIM)
    rows[1], rows[3], rows[5] = rows[0], rows[2], -rows[4]
    objective = objective_of(Pads(start_low_distance=0.0, start_high_distance=2.0)).float()
    for seed in range(20):
        embeddings = rows.float().requires_grad_()
        objective(batch_of(embeddings, torch.tensor([0, 0, 1, 1, 2, 2]), seed))["loss"].backward()
        assert embeddings.grad is not None and embeddings.grad.isfinite().all()


def test_held_out_images_are_left_out_of_the_batches_and_alone_are_measured() -> None:
    objective, look = objective_of(Pads(every_steps=1, held_out_share=0.2)), Sight([1.0])
    groups = objective.groups()
    assert groups is not None and sorted(set(groups.tolist())) == [-1, 0]
    held = np.flatnonzero(groups < 0)
    assert len(held) == 12 and np.bincount(LABELS.numpy()[held]).tolist() == [4, 4, 4]
    objective.after_step(batch_of(drawn(6, DIM), LABELS[:6]), look)
    assert look.asked[0].tolist() == held.tolist()


def test_policy_has_its_turn_every_few_steps() -> None:
    objective, look = objective_of(Pads(every_steps=3)), Sight([1.0] * 9)
    turns = []
    for step in range(9):
        objective.after_step(batch_of(drawn(6, DIM), LABELS[:6], step), look)
        turns.append((len(look.asked), int(objective.n_turns), int(objective.policy.n_updates)))
    assert turns == [(0, 0, 0)] * 2 + [(1, 1, 0)] * 3 + [(2, 2, 1)] * 3 + [(3, 3, 2)]
    assert objective.curves(0)["policy_turns"] == 3


def test_actions_multiply_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    objective = objective_of(Pads(n_bins=3, every_steps=1, start_low_distance=0.0, start_high_distance=2.0))
    objective.log_weights.copy_(torch.tensor([0.5, 0.3, 0.2]).log())
    monkeypatch.setattr(objective.policy, "draw", lambda state: torch.tensor([2, 1, 0]))
    look = Sight([1.0] * 301)
    monkeypatch.setattr(pads, "measure", lambda embeddings, labels: torch.zeros(7))  # which takes its time
    objective.after_step(batch_of(drawn(6, DIM), LABELS[:6]), look)
    assert objective.log_weights.softmax(dim=0).tolist() == pytest.approx((0.576037, 0.276498, 0.147465), abs=1e-6)
    for _ in range(300):
        objective._turn(look)
    assert objective.log_weights.exp().tolist() == pytest.approx([1e25, 0.3, 1e-25], rel=1e-5)  # bounded


def test_reward_is_the_sign_of_the_change_and_the_state_is_the_last_one(monkeypatch: pytest.MonkeyPatch) -> None:
    objective, look = objective_of(Pads(every_steps=1)), Sight([0.5, 5.0, 0.5, 0.5])
    seen: list[tuple[Tensor, ...]] = []
    monkeypatch.setattr(objective.policy, "learn", lambda *given: seen.append(tuple(t.clone() for t in given)))
    states, actions = [], []
    for step in range(4):
        objective.after_step(batch_of(drawn(6, DIM), LABELS[:6], step), look)
        states.append(objective.state.clone())
        actions.append(objective.actions.clone())
    assert [float(given[2]) for given in seen] == [1.0, -1.0, 0.0]
    for turn, (state, action, _, metric, next_state) in enumerate(seen):
        assert torch.equal(state, states[turn]) and torch.equal(action, actions[turn])
        assert torch.equal(next_state, states[turn + 1])
        newest = objective.history[turn - 3]
        assert float(metric) == pytest.approx(float(newest[0] + newest[4]) / 2)


def test_policy_sees_198_numbers() -> None:
    objective, look = objective_of(Pads(every_steps=1)), Sight([0.5, 1.0, 2.0])
    for step in range(3):
        objective.after_step(batch_of(drawn(6, DIM), LABELS[:6], step), look)
    history = objective.history
    assert len(objective.state) == 198 and torch.equal(history[0], history[-3])  # the first one fills what was before
    assert torch.equal(objective.state[:140], history[-20:].flatten())
    for i, n in enumerate((2, 8, 16, 32)):
        assert torch.allclose(objective.state[140 + 7 * i : 147 + 7 * i], history[-n:].mean(dim=0))
    assert float(objective.state[168:197].sum()) == pytest.approx(1.0)
    assert float(objective.state[197]) == pytest.approx(2 / 102)


def test_boundary_learns_at_its_own_rate_without_decay() -> None:
    objective = objective_of(Pads(beta_lr_factor=70.0))
    assert objective.rates() == {"beta": 70.0} and objective.undecayed() == ("beta",)
    assert [name for name, _ in objective.named_parameters()] == ["beta"]


def test_settings_that_cannot_be_are_refused() -> None:
    check(Pads(), "objective")
    with pytest.raises(ValueError, match=r"^objective.low_distance is 1.4, must be 0.0 to 1.399$"):
        check(Pads(low_distance=1.4), "objective")
    with pytest.raises(ValueError, match=r"^objective.start_low_distance is 0.8, must be 0.0 to 0.7$"):
        check(Pads(start_low_distance=0.8), "objective")
    with pytest.raises(ValueError, match=r"^objective: no bin has its middle between start_low_distance 0.3"):
        check(Pads(n_bins=2, start_high_distance=0.31), "objective")
    assert Pads().state_shape() != Pads(base="triplet").state_shape() != Pads(has_class_beta=True).state_shape()


@pytest.mark.parametrize("base", ["margin", "triplet"])
@pytest.mark.parametrize("method", ["reinforce", "ppo"])
def test_training_orders_images_by_class(base: Any, method: Any) -> None:
    """The loss itself need not fall: as classes part, more of the drawn negatives are of the anchor's own class."""
    labels = torch.arange(300) % 3
    features = torch.cat([torch.eye(3)[labels] + 0.1 * drawn(300, 3), drawn(300, 10, seed=1)], dim=1)
    torch.manual_seed(0)
    neck = torch.nn.Linear(13, DIM).double()
    objective = objective_of(Pads(base=base, method=method, every_steps=5, max_held_out=60), labels)
    look = SimpleNamespace(labels=labels.numpy(), embeddings=lambda items: neck(features[items]).detach())
    held = objective.is_held_out
    before = measure(neck(features[held]).detach(), labels[held])
    optimizer = torch.optim.Adam([*neck.parameters(), *objective.parameters()], lr=0.01)
    trained = (~held).nonzero()[:, 0]
    for step in range(100):
        rows = trained[torch.randperm(len(trained), generator=torch.Generator().manual_seed(step))[:40]]
        batch = batch_of(neck(features[rows]), labels[rows], step)
        torch.manual_seed(step)
        optimizer.zero_grad()
        objective(batch)["loss"].backward()
        optimizer.step()
        objective.after_step(batch.detached(), look)
    after = measure(neck(features[held]).detach(), labels[held])
    assert before[0] < 0.6 and after[0] > 0.9
    assert objective.curves(0)["policy_turns"] == 20
