"""The adversary: its sign for each part, against numbers computed by hand and by finite differences."""

import pytest
import torch
from torch import Tensor, nn

from guie.train.objectives.reversal import Decorrelation, reverse_gradient


def by_hand() -> tuple[Decorrelation, Tensor, Tensor]:
    """Target (1, 0), source (.6, .8), and an adversary that copies the source: facts/objectives.md, 6.9."""
    adversary = Decorrelation(2, 2, 2).double()
    linear = nn.Linear(2, 2, bias=False).double()
    with torch.no_grad():
        linear.weight.copy_(torch.eye(2))
    adversary.regressor = nn.Sequential(linear)
    target, source = (torch.tensor([row], dtype=torch.float64, requires_grad=True) for row in ([1.0, 0.0], [0.6, 0.8]))
    return adversary, target, source


def test_value_and_reversed_gradient_are_those_computed_by_hand():
    adversary, target, source = by_hand()
    loss = adversary(target, source)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(-0.18)
    assert source.grad is not None and source.grad[0].tolist() == pytest.approx([0.384, -0.288])


def test_a_step_of_the_adversary_raises_the_similarity_and_one_of_the_source_lowers_it():
    adversary, target, source = by_hand()
    adversary(target, source).backward()
    weight = adversary.regressor[0].weight
    assert source.grad is not None
    with torch.no_grad():
        lowered = -float(adversary(target, source - 0.1 * source.grad))
        weight -= 0.1 * weight.grad
        raised = -float(adversary(target, source))
    assert raised == pytest.approx(0.203309, abs=1e-6)
    assert lowered == pytest.approx(0.157335, abs=1e-6)


def slope(adversary: Decorrelation, target: Tensor, source: Tensor, of: Tensor) -> Tensor:
    """The gradient of the loss by finite differences."""
    found = torch.zeros_like(of)
    with torch.no_grad():
        for i in range(of.numel()):
            ends = []
            for step in (1e-6, -1e-6):
                of.view(-1)[i] += step
                ends.append(float(adversary(target, source)))
                of.view(-1)[i] -= step
            found.view(-1)[i] = (ends[0] - ends[1]) / 2e-6
    return found


def test_only_the_embeddings_gradients_change_their_sign():
    torch.manual_seed(0)
    adversary = Decorrelation(3, 4, 5).double()
    target = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    source = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    adversary(target, source).backward()
    for embedding in (target, source):
        assert embedding.grad is not None
        assert torch.allclose(embedding.grad, -slope(adversary, target, source, embedding), atol=1e-8)
    for weight in adversary.parameters():
        assert torch.allclose(weight.grad, slope(adversary, target, source, weight), atol=1e-8)


def test_similarity_is_a_mean_over_rows_and_numbers():
    torch.manual_seed(1)
    adversary = Decorrelation(3, 4, 5).double()
    target, source = torch.randn(6, 4, dtype=torch.float64), torch.randn(6, 3, dtype=torch.float64)
    total = 0.0
    for t, s in zip(target, source, strict=True):
        first, second = adversary.regressor[0], adversary.regressor[2]
        u = second.weight @ (first.weight @ s + first.bias).clamp(min=0) + second.bias
        for k in range(4):
            total += float((t[k] / t.norm() * u[k] / u.norm()).detach() ** 2)
    assert float(adversary(target, source).detach()) == pytest.approx(-total / 24)


def test_rows_of_zeros_have_finite_gradients():
    adversary = Decorrelation(2, 2, 3)
    with torch.no_grad():
        adversary.regressor[2].weight.zero_()
        adversary.regressor[2].bias.zero_()
    rows = torch.zeros(3, 2, requires_grad=True)
    adversary(rows, rows).backward()
    assert rows.grad is not None and rows.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in adversary.parameters())


def test_reversal_keeps_the_numbers():
    values = torch.randn(3, 2, requires_grad=True)
    (2 * reverse_gradient(values)).sum().backward()
    assert torch.equal(reverse_gradient(values), values)
    assert values.grad is not None and (values.grad == -2).all()
