"""ProxyGML against the published example and a loop over rows, proxies and classes."""

import logging
import math

import pytest
import torch
import torch.nn.functional as F
from hand_batch import batch_of, drawn
from torch import Tensor

from guie.settings.objective import ProxyGml
from guie.train.objectives.proxy_gml import ProxyGmlLoss, spread_labels


def test_published_example() -> None:
    """facts/objectives.md 3.4: proxies of classes 0, 0, 1, 1 and a row of class 0."""
    similarities, labels = torch.tensor([[0.9, 0.2, 0.5, -0.1]], dtype=torch.float64), torch.tensor([0])
    three, two = (spread_labels(similarities, labels, 2, k) for k in (3, 2))
    assert three.tolist() == [pytest.approx([1.1, 0.5])]
    assert float(F.cross_entropy(three, labels)) == pytest.approx(0.437488, abs=1e-6)
    assert two.tolist() == [[pytest.approx(1.1), -math.inf]] and float(F.cross_entropy(two, labels)) == 0.0


def test_joined_proxy_of_cosine_zero_keeps_its_class() -> None:
    """The class is left out by what is joined, not by a sum that happens to be 0."""
    found = spread_labels(torch.tensor([[0.5, 0.5, 0.0, -0.2]]), torch.tensor([0]), 2, 3)
    assert found.tolist() == [[1.0, 0.0]]
    found = spread_labels(torch.tensor([[-0.9, -0.8, 0.0, -0.2]]), torch.tensor([0]), 2, 3)  # own ones come first
    assert found.tolist() == [[pytest.approx(-1.7), 0.0]]


def loop(objective: ProxyGmlLoss, x: Tensor, labels: Tensor, n_classes: int) -> dict[str, float]:
    """Both terms, in Python's floats."""
    n_each, k = objective.settings.n_proxies, objective.n_joined
    proxies = [F.normalize(p, dim=0) for p in objective.proxies.detach().double()]
    owners = [i // n_each for i in range(len(proxies))]

    def cross_entropy(logits: dict[int, float], label: int) -> float:
        return math.log(sum(math.exp(value) for value in logits.values())) - logits[label]

    rows = 0.0
    for row, label in zip(x, labels.tolist(), strict=True):
        cosines = [float(F.normalize(row, dim=0) @ p) for p in proxies]
        ranked = sorted(range(len(proxies)), key=lambda i: (owners[i] != label, -cosines[i]))[:k]
        logits = {c: sum(cosines[i] for i in ranked if owners[i] == c) for c in {owners[i] for i in ranked}}
        rows += cross_entropy(logits, label) / len(labels)
    of_proxies, both = 0.0, list(zip(proxies, owners, strict=True))
    for p, owner in both:
        logits = {c: sum(float(p @ q) for q, o in both if o == c) for c in range(n_classes)}
        of_proxies += cross_entropy(logits, owner) / len(proxies)
    return {"rows": rows, "proxies": objective.settings.proxy_weight * of_proxies}


@pytest.mark.parametrize(
    ("settings", "n_classes", "n_joined"),
    [(ProxyGml(n_proxies=3, neighbor_share=0.3), 7, 7), (ProxyGml(n_proxies=1, neighbor_share=0.5), 6, 3),
     (ProxyGml(n_proxies=4, neighbor_share=1.0), 3, 12), (ProxyGml(n_proxies=4), 3, 8)],
)  # fmt: skip
def test_both_terms_equal_a_loop(settings: ProxyGml, n_classes: int, n_joined: int) -> None:
    objective = ProxyGmlLoss(settings, n_classes, 5).double()
    assert objective.n_joined == n_joined
    x, labels = drawn(20, 5, n_classes)
    found = {name: float(term.detach()) for name, term in objective(batch_of(x, labels)).items()}
    assert found == pytest.approx(loop(objective, x, labels, n_classes), rel=1e-9)


def test_gradients_are_those_of_finite_differences() -> None:
    """Which proxies are joined is constant for the gradient; the own class' cosines are not."""
    objective, (x, labels) = ProxyGmlLoss(ProxyGml(n_proxies=2), 3, 4).double(), drawn(6, 4, 3)

    def loss(embeddings: Tensor, _: Tensor) -> Tensor:
        return sum(objective(batch_of(embeddings, labels)).values())

    assert torch.autograd.gradcheck(loss, (x.requires_grad_(), objective.proxies))


def test_rows_on_their_proxies_stay_finite() -> None:
    objective = ProxyGmlLoss(ProxyGml(n_proxies=2), 3, 4)
    with torch.no_grad():
        objective.proxies[1] = objective.proxies[0]  # two of a class coincide
    x = objective.proxies.detach().clone().requires_grad_()
    sum(objective(batch_of(x, torch.arange(6) // 2)).values()).backward()
    assert torch.isfinite(x.grad).all() and torch.isfinite(objective.proxies.grad).all()


def test_second_term_is_left_out_without_a_weight() -> None:
    objective = ProxyGmlLoss(ProxyGml(n_proxies=2, proxy_weight=0.0), 3, 4)
    x, labels = drawn(5, 4, 3)
    assert list(objective.double()(batch_of(x, labels))) == ["rows"]
    assert objective.rates() == {"proxies": 300.0} and objective.undecayed() == ("proxies",)


def test_too_few_neighbours_are_told_and_too_few_classes_refused(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "guie"):
        ProxyGmlLoss(ProxyGml(), 100, 4)  # 60 of 1,200, as for CUB
        assert caplog.text == ""
        assert ProxyGmlLoss(ProxyGml(), 12, 4).n_joined == 24
    assert "neighbor_share 0.05 of 144 proxies is 8" in caplog.text and "joined to 24" in caplog.text
    with pytest.raises(ValueError, match=r"^ProxyGml tells classes apart, and the stage has 1 class"):
        ProxyGmlLoss(ProxyGml(), 1, 4)
