"""The policy of PADS: its losses by hand, its optimizer against torch's Adam, and that it learns."""

import math
from typing import Literal

import pytest
import torch
from torch import Tensor

from guie.train.objectives.policy import Policy, policy_loss

N_INPUTS, N_BINS = 5, 4


def policy_of(method: Literal["reinforce", "ppo"] = "reinforce", seed: int = 0) -> Policy:
    torch.manual_seed(seed)
    return Policy(N_INPUTS, N_BINS, method, 0.01).double()


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_reinforce_of_equal_actions() -> None:
    log_probs = torch.zeros(29, 3, dtype=torch.float64).log_softmax(dim=1)
    actions = torch.arange(29) % 3
    loss = policy_loss(log_probs, log_probs, actions, torch.tensor(1.0), "reinforce")
    assert float(loss) == pytest.approx(math.log(3), abs=1e-9) == pytest.approx(1.098612, abs=1e-6)


@pytest.mark.parametrize("advantage", [0.7, -0.7])
def test_ppo_is_that_of_a_loop(advantage: float) -> None:
    new, old = drawn(N_BINS, 3).log_softmax(dim=1), drawn(N_BINS, 3, seed=1).log_softmax(dim=1)
    actions = torch.tensor([2, 0, 1, 1])
    terms = []
    for i, action in enumerate(actions.tolist()):
        ratio = math.exp(float(new[i, action]) - float(old[i, action]))
        terms.append(min(ratio * advantage, min(max(ratio, 0.8), 1.2) * advantage))
    assert any(term / advantage == pytest.approx(edge) for term in terms for edge in (0.8, 1.2))  # the clip takes part
    loss = policy_loss(new, old, actions, torch.tensor(advantage, dtype=torch.float64), "ppo")
    assert float(loss) == pytest.approx(-sum(terms) / N_BINS, abs=1e-12)


def test_answer_is_that_of_layers() -> None:
    policy, state = policy_of(), drawn(N_INPUTS)
    layers = [torch.nn.Linear(N_INPUTS, 128), torch.nn.Linear(128, 128), torch.nn.Linear(128, 3 * N_BINS + 1)]
    network = torch.nn.Sequential(layers[0], torch.nn.ReLU(), layers[1], torch.nn.ReLU(), layers[2]).double()
    torch.nn.utils.vector_to_parameters(policy.weights, network.parameters())
    out = network(state)
    log_probs, value = policy.answer(policy.weights, state)
    assert torch.allclose(log_probs, out[:12].view(4, 3).log_softmax(dim=1)) and torch.allclose(value, out[12])


@pytest.mark.parametrize("method", ["reinforce", "ppo"])
def test_learns_as_torchs_adam_does(method: Literal["reinforce", "ppo"]) -> None:
    """The whole update, written out with autograd and torch's optimizer; the old policy is copied at 5 and 10."""
    policy = policy_of(method)
    weights = policy.weights.clone().requires_grad_()
    old = weights.detach().clone()
    optimizer = torch.optim.Adam([weights], lr=0.01)
    for turn in range(1, 13):
        state, next_state = drawn(N_INPUTS, seed=turn), drawn(N_INPUTS, seed=turn + 1)
        actions = torch.randint(0, 3, (N_BINS,), generator=torch.Generator().manual_seed(turn))
        reward, metric = torch.tensor([1.0, 0.0, -1.0])[turn % 3], torch.tensor(0.5 + 0.01 * turn)
        with torch.no_grad():  # as after_step is
            policy.learn(state, actions, reward, metric, next_state)
        log_probs, value = policy.answer(weights, state)
        advantage = (reward + 0.99 * policy.answer(weights, next_state)[1] - value).detach()
        old_log_probs = policy.answer(old, state)[0]
        loss = policy_loss(log_probs, old_log_probs, actions, advantage, method) + 0.5 * (value - metric).square()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if turn % 5 == 0:
            old = weights.detach().clone()
        assert torch.allclose(policy.weights, weights.detach(), atol=1e-12)
        assert torch.allclose(policy.old_weights, old, atol=1e-12)
    assert int(policy.n_updates) == 12 and not policy.weights.requires_grad


@pytest.mark.parametrize("method", ["reinforce", "ppo"])
def test_learns_the_action_that_is_rewarded(method: Literal["reinforce", "ppo"]) -> None:
    """The reward is 1 where the first bin grows, and -1 otherwise."""
    policy, state = policy_of(method), drawn(N_INPUTS)
    before = float(policy.answer(policy.weights, state)[0][0, 2].exp())
    torch.manual_seed(1)
    for _ in range(60):
        actions = policy.draw(state)
        reward = torch.tensor(1.0 if actions[0] == 2 else -1.0)
        policy.learn(state, actions, reward, torch.tensor(0.5), state)
    assert before < 0.5 and float(policy.answer(policy.weights, state)[0][0, 2].exp()) > 0.9


def test_actions_are_drawn_with_their_probabilities() -> None:
    policy, state = policy_of(), 3 * drawn(N_INPUTS)
    torch.manual_seed(2)
    draws = torch.stack([policy.draw(state) for _ in range(3000)])
    shares = torch.stack([(draws == action).double().mean(dim=0) for action in range(3)], dim=1)
    assert torch.allclose(shares, policy.answer(policy.weights, state)[0].exp(), atol=0.04)


def test_its_weights_are_buffers() -> None:
    policy = policy_of()
    assert not list(policy.parameters())
    assert {name for name, _ in policy.named_buffers()} == {"weights", "old_weights", "moments", "squares", "n_updates"}
