"""The winners' necks against their formulas, and that each but the one with a hidden layer is one matrix at the end."""

import numpy as np
import pytest
import torch
from torch import Tensor

from guie.model.neck import Neck as NeckModule
from guie.recipe import Neck

SHAPES = {
    "first": Neck(dim=6),
    "third": Neck(dim=6, dropouts=tuple(i / 100 for i in range(1, 21)), is_branched=True),
    "fourth": Neck(dim=6, dropouts=(0.1, 0.2, 0.3, 0.4, 0.5), has_bias=False),
    "fifth": Neck(dim=6, has_norm=True),
    "two layers": Neck(dim=6, hidden_dim=9),
}


def neck_of(name: str) -> NeckModule:
    torch.manual_seed(0)
    return NeckModule(10, SHAPES[name])


def features(n: int = 50) -> Tensor:
    return torch.randn(n, 10, generator=torch.Generator().manual_seed(1)) * 3 + 1


@pytest.mark.parametrize("name", ["first", "third", "fourth", "fifth"])
def test_neck_is_one_matrix_at_the_end(name: str):
    neck = neck_of(name)
    for _ in range(20):
        neck.train()(features())
    neck.eval()
    with torch.no_grad():
        shift = neck(torch.zeros(1, 10))
        matrix = neck(torch.eye(10)) - shift
        torch.testing.assert_close(neck(features()), features() @ matrix + shift, rtol=1e-4, atol=1e-4)
    assert neck(features()).shape == (50, 6)
    assert (shift.abs().max() == 0) == (name == "fourth")


@pytest.mark.parametrize("name", list(SHAPES))
def test_folded_neck_is_one_layer_and_computes_the_same(name: str):
    neck = neck_of(name)
    for _ in range(20):
        neck.train()(features())
    neck.eval()
    folded = neck.folded()
    expected = neck.double()(features().double())  # folding is exact but for the last rounding to float32
    torch.testing.assert_close(folded.double()(features().double()), expected, rtol=1e-6, atol=1e-6)
    if name == "two layers":
        assert folded is neck
        return
    assert type(folded) is torch.nn.Linear and folded.weight.shape == (6, 10)
    assert (folded.bias is None) == (name == "fourth")
    assert not folded.training and not any(p.requires_grad for p in folded.parameters())


@pytest.mark.parametrize("name", ["first", "fourth"])
def test_folding_one_layer_keeps_its_bits(name: str):
    neck = neck_of(name).eval()
    assert torch.equal(neck.folded()(features()), neck(features()))


def test_neck_of_unit_features_sees_directions_alone():
    """Also once it is folded, after dropout's scale was learned with training mode."""
    torch.manual_seed(0)
    neck = NeckModule(10, Neck(dim=6, has_unit_input=True)).eval()
    unit = features() / features().norm(dim=1, keepdim=True)
    expected = unit @ neck.linear.weight.T + neck.linear.bias
    for module in (neck, neck.folded()):
        torch.testing.assert_close(module(features()), expected, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(module(features() * 7), expected, rtol=1e-5, atol=1e-6)
    assert [type(part).__name__ for part in neck.folded()] == ["UnitLength", "Linear"]
    assert neck.state_dict().keys() == NeckModule(10, Neck(dim=6)).state_dict().keys()


def test_branches_are_averaged():
    neck = neck_of("third").eval()
    layers = [(b.weight.detach().numpy(), b.bias.detach().numpy()) for b in neck.branches]
    assert len(layers) == 20
    expected = np.mean([features().numpy() @ w.T + b for w, b in layers], axis=0)
    np.testing.assert_allclose(neck(features()).detach().numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("name", ["first", "third", "fourth", "two layers"])
def test_dropout_takes_features_and_not_embedding_dimensions(name: str):
    """With equal weights all six outputs are one number, whatever features are dropped; outputs that were dropped would
    be zeros among them."""
    neck = neck_of(name).train()
    for parameter in neck.parameters():
        torch.nn.init.ones_(parameter) if parameter.ndim == 2 else torch.nn.init.zeros_(parameter)
    outputs = neck(torch.ones(200, 10)).detach()
    assert (outputs == outputs[:, :1]).all() and (outputs > 0).all() and len(outputs[:, 0].unique()) > 5
    if name == "first":  # rate .2: each of the features that stay counts 1 / .8
        n_kept = (outputs[:, 0] * 0.8).round()
        torch.testing.assert_close(outputs[:, 0], n_kept / 0.8)
        assert 7.5 < float(n_kept.mean()) < 8.5


def test_samples_of_dropout_share_a_layer_and_differ_in_what_they_drop():
    neck = neck_of("fourth")
    assert [name for name, _ in neck.named_parameters()] == ["linear.weight"]
    ones = torch.ones(1, 10)
    torch.nn.init.eye_(neck.linear.weight)
    seen = torch.cat([neck.train()(ones) for _ in range(4000)]).detach()
    variance = np.mean([r / (1 - r) for r in (0.1, 0.2, 0.3, 0.4, 0.5)]) / 5  # of a mean of five scaled coins
    assert float(seen.mean()) == pytest.approx(1, abs=0.02) and float(seen.var()) == pytest.approx(variance, rel=0.05)


def test_norm_has_no_weights_and_uses_what_training_saw():
    neck = neck_of("fifth")
    assert [name for name, _ in neck.named_parameters()] == ["linear.weight", "linear.bias"]
    for _ in range(200):
        neck.train()(features(500))
    neck.eval()
    x = features(500)
    expected = torch.nn.functional.linear((x - x.mean(0)) / x.var(0).sqrt(), neck.linear.weight, neck.linear.bias)
    torch.testing.assert_close(neck(x), expected, rtol=1e-3, atol=1e-3)


def test_norm_adds_its_epsilon():
    neck = NeckModule(10, Neck(dim=6, has_norm=True, norm_eps=0.5)).eval()
    expected = torch.nn.functional.linear(
        features() / (1 + 0.5) ** 0.5, neck.linear.weight, neck.linear.bias
    )  # a fresh norm's variance is 1, its mean 0
    torch.testing.assert_close(neck(features()), expected)
    torch.testing.assert_close(neck.folded()(features()), expected, rtol=1e-5, atol=1e-5)


def test_two_layers():
    neck = neck_of("two layers").eval()
    first, _, last = neck.linear
    expected = torch.nn.functional.gelu(features() @ first.weight.T + first.bias) @ last.weight.T + last.bias
    torch.testing.assert_close(neck(features()), expected)
