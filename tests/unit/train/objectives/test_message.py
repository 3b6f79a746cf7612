"""Message passing against torch's own attention and transformer layer with the same weights."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from guie.settings.objective import MessagePassing
from guie.train.objectives.base import Batch
from guie.train.objectives.message import Attention, MessageObjective, Round

N_CLASSES, DIM = 4, 6
LABELS = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def batch_of(embeddings: Tensor, labels: Tensor = LABELS) -> Batch:
    rows = torch.arange(len(labels))
    return Batch(embeddings, embeddings, labels, rows, rows * 0, 0, 0)


def objective_of(settings: MessagePassing) -> MessageObjective:
    """In float64, with norms whose weights differ from 1."""
    torch.manual_seed(3)
    objective = MessageObjective(settings, N_CLASSES, DIM).double()
    for parameter in objective.parameters():
        if parameter.ndim == 1:
            nn.init.uniform_(parameter, 0.5, 1.5)
    return objective


def attention_of(dim: int, n_heads: int) -> tuple[Attention, nn.MultiheadAttention]:
    """Ours and torch's, with the same weights."""
    torch.manual_seed(1)
    own = Attention(dim, n_heads, 0.0).double()
    torchs = nn.MultiheadAttention(dim, n_heads, batch_first=True).double()
    copy_attention(own, torchs)
    return own, torchs


@torch.no_grad()
def copy_attention(own: Attention, torchs: nn.MultiheadAttention) -> None:
    layers = (own.query, own.key, own.value)
    torchs.in_proj_weight.copy_(torch.cat([layer.weight for layer in layers]))
    torchs.in_proj_bias.copy_(
        torch.cat([own.query.bias, torch.zeros(own.key.out_features, dtype=torch.float64), own.value.bias])
    )
    torchs.out_proj.load_state_dict(own.out.state_dict())


def test_attention_of_two_unit_vectors() -> None:
    own = Attention(2, 1, 0.0).double()
    for layer in (own.query, own.key, own.value, own.out):
        nn.init.eye_(layer.weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    messages = own(torch.eye(2, dtype=torch.float64))
    assert messages.flatten().tolist() == pytest.approx([0.669762, 0.330238, 0.330238, 0.669762], abs=1e-6)


@pytest.mark.parametrize("n_heads", [1, 2, 3, 6])
def test_attention_is_torchs(n_heads: int) -> None:
    own, torchs = attention_of(DIM, n_heads)
    rows = drawn(9, DIM)
    expected, _ = torchs(rows[None], rows[None], rows[None])
    assert torch.allclose(own(rows), expected[0], atol=1e-13)


def layer_of(own: Round, n_heads: int) -> nn.TransformerEncoderLayer:
    """torch's layer with the weights of a round."""
    torchs = nn.TransformerEncoderLayer(DIM, n_heads, 4 * DIM, dropout=0.0, batch_first=True).double()
    copy_attention(own.attention, torchs.self_attn)
    torchs.linear1.load_state_dict(own.perceptron[0].state_dict())
    torchs.linear2.load_state_dict(own.perceptron[2].state_dict())
    torchs.norm1.load_state_dict(own.first_norm.state_dict())
    torchs.norm2.load_state_dict(own.second_norm.state_dict(), strict=False)  # the last has none, and torch's is 1
    return torchs


def smoothed(logits: list[list[float]], labels: list[int], smoothing: float) -> float:
    """Mean cross entropy with label smoothing, in Python's floats."""
    total = 0.0
    for row, label in zip(logits, labels, strict=True):
        spread = math.log(sum(math.exp(z) for z in row))
        targets = [smoothing / len(row) + (1 - smoothing) * (c == label) for c in range(len(row))]
        total += sum(target * (spread - z) for target, z in zip(targets, row, strict=True))
    return total / len(logits)


def test_label_smoothing_of_two_classes() -> None:
    assert smoothed([[1.0, 0.0]], [0], 0.1) == pytest.approx(0.363262, abs=1e-6)
    loss = F.cross_entropy(torch.tensor([[1.0, 0.0]]), torch.tensor([0]), label_smoothing=0.1)
    assert float(loss) == pytest.approx(0.363262, abs=1e-6)


@pytest.mark.parametrize("n_layers", [1, 2])
def test_terms_are_those_of_torchs_transformer(n_layers: int) -> None:
    settings = MessagePassing(n_layers=n_layers, n_heads=3, dropout=0.0, graph_weight=0.7)
    objective = objective_of(settings)
    embeddings = 3 * drawn(8, DIM)
    terms = objective(batch_of(embeddings))
    assert list(terms) == ["trunk", "graph"]
    rows = (embeddings / embeddings.norm(dim=1, keepdim=True))[None]
    for own in objective.rounds:
        assert isinstance(own, Round)
        rows = layer_of(own, 3)(rows)
    norm = nn.BatchNorm1d(DIM).double()
    normed = norm.train()(rows[0]) * objective.scale.detach()
    heads = (embeddings @ objective.trunk_classifier.weight.T, normed @ objective.graph_classifier.weight.T)
    trunk, graph = (smoothed((logits / 0.2).tolist(), LABELS.tolist(), 0.1) for logits in heads)
    assert float(terms["trunk"]) == pytest.approx(trunk, abs=1e-12)
    assert float(terms["graph"]) == pytest.approx(0.7 * graph, abs=1e-12)


def test_order_of_the_batch_changes_nothing() -> None:
    objective, order = objective_of(MessagePassing(dropout=0.0)), torch.tensor([5, 2, 7, 0, 1, 6, 3, 4])
    rows = drawn(8, DIM)
    assert torch.allclose(objective.rounds(rows[order]), objective.rounds(rows)[order], atol=1e-13)
    one, other = objective(batch_of(rows)), objective(batch_of(rows[order], LABELS[order]))
    assert all(float(one[name]) == pytest.approx(float(other[name]), abs=1e-12) for name in one)


def test_graph_compares_images_and_trunk_does_not() -> None:
    objective = objective_of(MessagePassing(dropout=0.0))
    rows = drawn(8, DIM)
    changed = rows.clone()
    changed[7] += 1
    assert (objective.rounds(rows)[0] - objective.rounds(changed)[0]).abs().max() > 1e-4
    embeddings = rows.requires_grad_()
    loss = F.cross_entropy(objective.trunk_classifier(embeddings)[:1], LABELS[:1])
    assert not torch.autograd.grad(loss, embeddings)[0][1:].any()


def test_labels_do_not_enter_the_graph() -> None:
    """The graph's loss of one row depends on the labels of others through nothing but the mean."""
    objective = objective_of(MessagePassing(dropout=0.0, label_smoothing=0.0))
    rows = drawn(8, DIM)
    swapped = LABELS.clone()
    swapped[-1] = 0
    apart = float(objective(batch_of(rows))["graph"] - objective(batch_of(rows, swapped))["graph"])
    normed = F.batch_norm(objective.rounds(F.normalize(rows)), None, None, weight=objective.scale, training=True)
    logits = objective.graph_classifier(normed)[-1] / 0.2
    assert apart == pytest.approx(float(logits[0] - logits[3]) / 8, abs=1e-12)


def test_gradient_is_that_of_finite_differences() -> None:
    objective = objective_of(MessagePassing(n_layers=2, dropout=0.0))
    embeddings = drawn(8, DIM).requires_grad_()
    assert torch.autograd.gradcheck(lambda rows: sum(objective(batch_of(rows)).values()), embeddings)
    for parameter in objective.parameters():  # none is without effect
        gradient = torch.autograd.grad(objective(batch_of(embeddings))["graph"], parameter, allow_unused=True)[0]
        is_of_trunk = parameter is objective.trunk_classifier.weight
        assert (gradient is None) == is_of_trunk and (is_of_trunk or gradient.abs().max() > 1e-8)


def test_dropout_repeats_with_the_seed_and_ends_with_training() -> None:
    objective, batch = objective_of(MessagePassing(dropout=0.5)), batch_of(drawn(8, DIM))
    values = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        values.append(float(objective.train()(batch)["graph"].detach()))
    assert values[0] == values[1] != values[2]
    assert float(objective.eval()(batch)["graph"]) == float(objective.eval()(batch)["graph"])


def test_equal_and_opposite_rows_have_finite_gradients() -> None:
    rows = drawn(8, DIM)
    rows[1:4], rows[4] = rows[0], -rows[0]
    for same in (rows, rows[:1].expand(8, -1).clone()):
        embeddings = same.float().requires_grad_()
        total = sum(objective_of(MessagePassing()).float()(batch_of(embeddings)).values())
        assert isinstance(total, Tensor)
        total.backward()
        assert embeddings.grad is not None and embeddings.grad.isfinite().all()


def test_what_cannot_be_built_or_compared_is_refused() -> None:
    with pytest.raises(ValueError, match=r"n_heads 4, which must divide the neck's dim 6"):
        MessageObjective(MessagePassing(n_heads=4), N_CLASSES, DIM)
    with pytest.raises(ValueError, match=r"have 1 class; take more sources"):
        MessageObjective(MessagePassing(), 1, DIM)


def test_row_without_another_costs_nothing() -> None:
    """Such as the only labelled row of a batch whose other images have no label."""
    embeddings = drawn(1, DIM).requires_grad_()
    terms = objective_of(MessagePassing())(batch_of(embeddings, torch.tensor([0])))
    assert {name: float(term.detach()) for name, term in terms.items()} == {"trunk": 0.0, "graph": 0.0}
    sum(terms.values()).backward()
    assert embeddings.grad is not None and not embeddings.grad.any()
