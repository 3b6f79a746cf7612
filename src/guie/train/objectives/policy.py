"""The policy of PADS: a small network that adapts the weights of bins, and how it learns from its rewards."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

MULTIPLIERS = (0.8, 1.0, 1.25)  # the actions: what a bin's weight is multiplied by
HIDDEN = 128
DISCOUNT = 0.99
CLIP = 0.2  # of PPO
COPY_EVERY = 5  # turns after which PPO's old policy becomes the present one
BETAS = (0.9, 0.999)  # of Adam
EPSILON = 1e-8


def policy_loss(
    log_probs: Tensor, old_log_probs: Tensor, actions: Tensor, advantage: Tensor, method: Literal["reinforce", "ppo"]
) -> Tensor:
    """What the policy minimises, a scalar: the mean over the bins.

    Args:
        log_probs: float [n_bins, 3], of the actions.
        old_log_probs: float [n_bins, 3], those of the old policy.
        actions: int64 [n_bins], those taken.
        advantage: A scalar without a graph.
        method: reinforce: -A log p (Williams, 1992). ppo: -min(r A, clip(r, .8, 1.2) A) of the ratio r to the old
            policy (Schulman et al., arXiv 1707.06347, equation 7).
    """
    taken = log_probs.gather(1, actions[:, None])[:, 0]
    if method == "reinforce":
        return -(advantage * taken).mean()
    ratio = (taken - old_log_probs.gather(1, actions[:, None])[:, 0]).exp()
    return -torch.minimum(ratio * advantage, ratio.clamp(1 - CLIP, 1 + CLIP) * advantage).mean()


class Policy(nn.Module):
    """Two hidden layers; three logits for each bin, and the value of the state.

    Its weights are no parameters, since it learns from rewards and not from the stage's loss. They, and the moments of
    its Adam, are buffers: a stage that resumes goes on with them.

    Attributes:
        weights: float [n_weights], of all layers, one after the other; `old_weights`, `moments` and `squares` likewise.
        n_updates: int64, a scalar.
    """

    weights: Tensor
    old_weights: Tensor
    moments: Tensor
    squares: Tensor
    n_updates: Tensor

    def __init__(self, n_inputs: int, n_bins: int, method: Literal["reinforce", "ppo"], lr: float) -> None:
        """Layers drawn as torch draws linear layers.

        Args:
            n_inputs: Numbers of a state.
            n_bins: Bins whose weights it adapts.
            method: See `policy_loss`.
            lr: Of Adam.
        """
        super().__init__()
        self.n_bins, self.method, self.lr = n_bins, method, lr
        layers = [
            nn.Linear(n_inputs, HIDDEN),
            nn.Linear(HIDDEN, HIDDEN),
            nn.Linear(HIDDEN, len(MULTIPLIERS) * n_bins + 1),
        ]
        tensors = [tensor.detach() for layer in layers for tensor in (layer.weight, layer.bias)]
        self.shapes = [tensor.shape for tensor in tensors]
        weights = torch.cat([tensor.flatten() for tensor in tensors])
        self.register_buffer("weights", weights)
        self.register_buffer("old_weights", weights.clone())
        self.register_buffer("moments", torch.zeros_like(weights))
        self.register_buffer("squares", torch.zeros_like(weights))
        self.register_buffer("n_updates", torch.zeros((), dtype=torch.int64))

    def answer(self, weights: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """The log probabilities of the actions, float [n_bins, 3], and the value of the state, a scalar.

        Args:
            weights: float [n_weights].
            state: float [n_inputs].
        """
        parts = weights.split([shape.numel() for shape in self.shapes])
        w1, b1, w2, b2, w3, b3 = (part.view(shape) for part, shape in zip(parts, self.shapes, strict=True))
        hidden = (w2 @ (w1 @ state + b1).relu() + b2).relu()
        out = w3 @ hidden + b3
        return out[:-1].view(self.n_bins, len(MULTIPLIERS)).log_softmax(dim=1), out[-1]

    @torch.no_grad()
    def draw(self, state: Tensor) -> Tensor:
        """An action for each bin, int64 [n_bins], drawn with torch's random generator."""
        log_probs, _ = self.answer(self.weights, state)
        return torch.multinomial(log_probs.exp(), 1)[:, 0]

    def learn(self, state: Tensor, actions: Tensor, reward: Tensor, metric: Tensor, next_state: Tensor) -> None:
        """A step of Adam for the actions that led from `state` to `next_state`, where the metric was measured.

        The advantage is r + .99 V(s') - V(s). The value of a state learns the metric that followed it.

        Args:
            state: float [n_inputs].
            actions: int64 [n_bins].
            reward: A scalar: 1, 0 or -1.
            metric: A scalar.
            next_state: float [n_inputs].
        """
        with torch.enable_grad():
            weights = self.weights.detach().clone().requires_grad_()
            log_probs, value = self.answer(weights, state)
            with torch.no_grad():
                old_log_probs, _ = self.answer(self.old_weights, state)
                advantage = reward + DISCOUNT * self.answer(weights, next_state)[1] - value
            loss = policy_loss(log_probs, old_log_probs, actions, advantage, self.method) + (value - metric) ** 2 / 2
            (gradient,) = torch.autograd.grad(loss, weights)
        self._move(gradient)

    @torch.no_grad()
    def _move(self, gradient: Tensor) -> None:
        """Adam (Kingma and Ba, arXiv 1412.6980, algorithm 1); every fifth time the old policy becomes the present
        one."""
        self.n_updates += 1
        t = int(self.n_updates)
        self.moments.lerp_(gradient, 1 - BETAS[0])
        self.squares.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
        root = (self.squares / (1 - BETAS[1] ** t)).sqrt() + EPSILON
        self.weights -= self.lr * self.moments / (1 - BETAS[0] ** t) / root
        if t % COPY_EVERY == 0:
            self.old_weights.copy_(self.weights)
