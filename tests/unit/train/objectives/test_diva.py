"""DiVA: its contrast against numbers computed by hand and the library, its slices, keys and queue against loops."""

import logging
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from pytorch_metric_learning.losses import NTXentLoss
from torch import Tensor

from guie.settings.objectives.diva import Diva
from guie.train.objectives.base import Batch
from guie.train.objectives.diva import DiverseTasks, density_weights, weighted_contrast
from guie.train.objectives.draws import generator_of
from guie.train.objectives.margin_triplets import (
    class_triplets,
    margin_loss,
    one_class_triplets,
    three_class_triplets,
)

LABELS = torch.arange(40) % 5


class Fixed:
    labels = LABELS.numpy()

    def embeddings(self, items: Any) -> Tensor:
        return torch.randn(40, 12, generator=torch.Generator().manual_seed(7))[torch.from_numpy(items)]


def objective_of(dim: int = 12, **settings: Any) -> DiverseTasks:
    torch.manual_seed(0)
    given = {"queue_size": 16, "regressor_dim": 6, "temperature": 0.5, "decorrelation_weight": 2.0}
    return DiverseTasks(Diva(**given | settings), dim, 5, 40)


def batch_of(items: list[int], dim: int = 12, step: int = 3) -> Batch:
    rows = torch.tensor(items)
    embeddings = torch.randn(len(items), dim, generator=torch.Generator().manual_seed(step), dtype=torch.float64)
    return Batch(embeddings, embeddings, LABELS[rows], rows, torch.zeros_like(rows), 0, step)


def test_contrast_is_that_computed_by_hand():
    cosines, is_own = torch.tensor([[0.2, 0.5]], dtype=torch.float64), torch.zeros(1, 2, dtype=torch.bool)
    weights = density_weights(cosines, is_own, 4).exp()[0]
    assert (weights / weights.sum()).tolist() == pytest.approx([0.411339, 0.588661], abs=1e-6)
    assert float(weights.mean()) == pytest.approx(1)
    loss = weighted_contrast(torch.tensor([0.8], dtype=torch.float64), cosines, is_own, 1.0, 4)
    assert float(loss) == pytest.approx(0.843151, abs=1e-6)


def test_contrast_without_weights_is_the_librarys(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("guie.train.objectives.diva.log_inverse_density", lambda distances, dim: 0 * distances)
    torch.manual_seed(0)
    unit, own_keys, others = (F.normalize(torch.randn(n, 3, dtype=torch.float64)) for n in (4, 4, 6))
    ours = weighted_contrast((unit * own_keys).sum(1), unit @ others.T, torch.zeros(4, 6, dtype=torch.bool), 0.3, 3)
    rows, (a, q) = torch.arange(4), torch.meshgrid(torch.arange(4), torch.arange(6), indexing="ij")
    theirs = NTXentLoss(temperature=0.3)(
        unit, rows, (rows, rows, a.flatten(), q.flatten() + 4), torch.cat([own_keys, others]), torch.arange(10)
    )
    assert float(ours) == pytest.approx(float(theirs), abs=1e-9)


def test_contrast_is_a_loop_in_which_own_keys_do_not_count():
    torch.manual_seed(0)
    unit, own_keys, others = (F.normalize(torch.randn(n, 5, dtype=torch.float64)) for n in (4, 4, 6))
    is_own = torch.rand(4, 6) < 0.3
    is_own[2] = True  # no negative at all: costs nothing
    total = 0.0
    for i in range(4):
        own = math.exp(float(unit[i] @ own_keys[i]) / 0.5)
        found = []
        for q in range(6):
            s = float(unit[i] @ others[q])
            d = min(max(math.sqrt(2 - 2 * s), 0.5), 1.4)
            if not is_own[i, q]:
                found.append((d**-3 * (1 - d * d / 4) ** -1, math.exp(s / 0.5)))
        mean = sum(w for w, _ in found) / max(1, len(found))
        total -= math.log(own / (own + sum(w / mean * e for w, e in found)))
    loss = weighted_contrast((unit * own_keys).sum(1), unit @ others.T, is_own, 0.5, 5)
    assert float(loss) == pytest.approx(total / 4)


def test_gradient_of_the_contrast_takes_the_weights_as_constant():
    torch.manual_seed(0)
    cosines = (torch.rand(3, 4, dtype=torch.float64) - 0.2).requires_grad_()
    own, is_own = torch.rand(3, dtype=torch.float64), torch.zeros(3, 4, dtype=torch.bool)
    is_own[0, 1] = is_own[1] = True
    weighted_contrast(own, cosines, is_own, 0.5, 5).backward()
    weights = density_weights(cosines.detach(), is_own, 5).exp()
    scaled = weights * (cosines.detach() / 0.5).exp()
    expected = scaled / ((own / 0.5).exp()[:, None] + scaled.sum(1, keepdim=True)) / 0.5 / 3
    assert cosines.grad is not None and torch.allclose(cosines.grad, expected)


def test_terms_are_those_of_the_slices():
    objective = objective_of(intra_weight=0.4).double()
    objective.begin_epoch(0, Fixed())
    batch = batch_of([*range(20), 3, 3])
    terms = objective(batch)
    parts = [F.normalize(batch.embeddings[:, i : i + 3]) for i in (0, 3, 6, 9)]
    generator = generator_of(batch, "Diva")
    triplets = [
        class_triplets(parts[0], batch.labels, generator),
        three_class_triplets(parts[1], batch.labels, generator),
        one_class_triplets(batch.labels, batch.items, generator),
    ]
    for task, part, own, weight in zip(
        ("discriminative", "shared", "intra"), parts[:3], triplets, (1, 0.3, 0.4), strict=True
    ):
        assert len(own.anchors) == 22
        expected = weight * float(margin_loss(part, own, 0.2, 1.2)[0])
        assert float(terms[task].detach()) == pytest.approx(expected)
    keys, queue = objective.keys, objective.queue
    is_own = batch.items[:, None] == queue
    contrast = weighted_contrast((parts[3] * keys[batch.items]).sum(1), parts[3] @ keys[queue].T, is_own, 0.5, 3)
    assert float(terms["sample"]) == pytest.approx(0.3 * float(contrast))
    own = [
        objective.adversaries[task](parts[0], part)
        for task, part in zip(("shared", "intra", "sample"), parts[1:], strict=True)
    ]
    assert float(terms["decorrelation"].detach()) == pytest.approx(2 * float(sum(own).detach()))


def test_every_task_of_triplets_has_a_boundary_of_its_own():
    objective = objective_of().double()
    terms = objective(batch_of([*range(20)]))
    for i, task in enumerate(("discriminative", "shared", "intra")):
        (slopes,) = torch.autograd.grad(terms[task], objective.betas, retain_graph=True)
        assert [bool(slope) for slope in slopes] == [j == i for j in range(3)], task


def test_tasks_without_weight_have_no_slice():
    objective = objective_of(shared_weight=0.0, sample_weight=0.0).double()
    assert objective.width == 6 and list(objective.adversaries) == ["intra"]
    assert set(objective(batch_of(list(range(15))).detached())) == {"discriminative", "intra", "decorrelation"}
    assert objective.keys.numel() == objective.queue.numel() == 0


def test_keys_begin_as_plain_embeddings_and_move_with_each_visit():
    objective = objective_of()
    objective.begin_epoch(0, Fixed())
    keys = F.normalize(Fixed().embeddings(torch.arange(40).numpy())[:, 9:]).clone()
    assert torch.allclose(objective.keys, keys)
    expected = keys.double()
    for step, items in enumerate(([1, 2, 2, 5], [2, 6, 1, 7])):
        batch = batch_of(items, step=step)
        small = Batch(batch.features.float(), batch.embeddings.float(), *(getattr(batch, n) for n in (
            "labels", "items", "views", "epoch", "step")))  # fmt: skip
        objective.after_step(small, Fixed())
        for item in set(items):
            rows = [row for row, other in enumerate(items) if other == item]
            mean = torch.stack([F.normalize(batch.embeddings[row, 9:], dim=0) for row in rows]).mean(0)
            expected[item] = F.normalize(0.5 * expected[item] + 0.5 * mean, dim=0)
    assert torch.allclose(objective.keys, expected.float(), atol=1e-6)


def test_queue_holds_the_last_images():
    objective = objective_of(queue_size=6).double()
    objective.begin_epoch(0, Fixed())
    assert len(objective.queue.unique()) == 6
    ring, place = objective.queue.tolist(), 0
    for step, items in enumerate(([1, 2, 2, 5], [9, 3, 8], [30, 31], [10, 11, 12, 13])):
        objective.after_step(batch_of(items, step=step), Fixed())
        for item in sorted(set(items)):
            ring[place % 6] = item
            place += 1
    assert objective.queue.tolist() == ring
    objective.after_step(batch_of(list(range(10))), Fixed())
    assert sorted(objective.queue.tolist()) == [4, 5, 6, 7, 8, 9]


def test_queue_larger_than_the_training_set_is_told(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING):
        objective = objective_of(queue_size=1000)
    assert len(objective.queue) == 40 and objective.curves(0)["queue_fill"] == 0.04
    assert "objective.queue_size is 1000, and there are 40 training images: it holds 40 embeddings" in caplog.text


def test_equal_and_opposite_rows_have_finite_gradients():
    objective = objective_of()
    objective.begin_epoch(0, Fixed())
    rows = torch.randn(1, 12).repeat(8, 1)
    rows[4:] *= -1
    rows.requires_grad_()
    items = torch.arange(8)
    sum(objective(Batch(rows, rows, LABELS[items], items, items, 0, 0)).values()).backward()
    assert rows.grad is not None and rows.grad.isfinite().all()


def test_curves_tell_which_rows_have_triplets():
    objective = objective_of().double()
    objective.begin_epoch(0, Fixed())
    objective.after_step(batch_of([0, 5, 1, 6]), Fixed())  # two images of two classes
    curves = objective.curves(0)
    assert curves["intra_row_share"] == curves["shared_row_share"] == 0
    assert curves["discriminative_beta_distance"] == 1.2 and 0 <= curves["active_share"] <= 1


def test_what_cannot_be_cut_or_learned_is_refused():
    with pytest.raises(ValueError, match=r"neck.dim 10 cannot be cut into 4 slices"):
        objective_of(dim=10)
    with pytest.raises(ValueError, match=r"neck.dim 4 cannot be cut into 4 slices"):
        objective_of(dim=4)
    with pytest.raises(ValueError, match="shared needs three classes, and there are 2"):
        DiverseTasks(Diva(), 16, 2, 40)
    with pytest.raises(ValueError, match="are all 0"):
        Diva(shared_weight=0.0, intra_weight=0.0, sample_weight=0.0).check("s.objective")
