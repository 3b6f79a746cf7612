"""Any loss of pytorch-metric-learning by its name, and the traps that are guarded."""

import inspect
from typing import Any

import pytest
import torch
from circle_points import F4, batch_of, random_points
from pytorch_metric_learning import losses
from torch import Tensor

from guie.override import override_field
from guie.settings.fields import check
from guie.settings.objective import BatchHard, Library, Memory
from guie.settings.objectives.library import LOSSES, OF_CLASSES, OF_PAIRS, REFUSED
from guie.settings.optim import Optim
from guie.settings.stage import Stage
from guie.train.objectives.base import Look
from guie.train.objectives.pairs import PairObjective

NEEDED: dict[str, tuple[tuple[str, Any], ...]] = {"RankedListLoss": (("Tn", 0.5), ("margin", 0.4))}
BASES = {"BaseLossWrapper", "BaseMetricLossFunction", "GenericPairLoss", "EmbeddingRegularizerMixin"}
LOOK: Look = None  # type: ignore[assignment]


def objective_of(settings: Library, n_classes: int = 6, dim: int = 4) -> PairObjective:
    return PairObjective(settings, n_classes, dim, 1000).double()


def named(name: str, **more: Any) -> Library:
    return Library(loss=name, options=NEEDED.get(name, ()), **more)


def sorted_points() -> tuple[Tensor, Tensor]:
    """Six classes of four rows, in order."""
    embeddings, _ = random_points(24, 4, 6)
    return embeddings, torch.arange(6).repeat_interleave(4)


def oracle_of(objective: PairObjective, name: str) -> torch.nn.Module:
    """The library's own module with the objective's weights."""
    kind = getattr(losses, name)
    given = dict(NEEDED.get(name, ()))
    if name in OF_CLASSES:
        given |= {"num_classes": 6, "embedding_size": 4}
    oracle = kind(**given).double()
    oracle.load_state_dict(objective.loss.inner.state_dict())
    return oracle


def test_every_loss_of_the_library_is_taken_or_refused() -> None:
    theirs = {name for name, value in vars(losses).items() if inspect.isclass(value) and not name.endswith("Mixin")}
    assert theirs - BASES == {*LOSSES, *REFUSED}
    assert len(set(LOSSES)) == len(LOSSES) == 29


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_is_the_librarys(name: str) -> None:
    """Loss and gradient, of rows that stand by class and of rows that do not."""
    embeddings, labels = sorted_points()
    check(named(name), "objective")
    objective = objective_of(named(name))
    theirs = embeddings.clone().requires_grad_()
    expected = oracle_of(objective, name)(theirs, labels).sum()
    expected.backward()
    assert float(theirs.grad.abs().max()) > 0
    mixed = torch.randperm(24, generator=torch.Generator().manual_seed(3))
    for order in (torch.arange(24), *([mixed] if name != "NPairsLoss" else [])):  # which takes each class' first pair
        ours = embeddings.clone()[order].requires_grad_()
        loss = objective(batch_of(ours, labels[order]))["loss"]
        loss.backward()
        assert float(loss) == pytest.approx(float(expected), rel=1e-6)
        torch.testing.assert_close(ours.grad, theirs.grad[order], rtol=1e-6, atol=1e-9)
    objective.after_step(batch_of(embeddings, labels), LOOK)
    assert 0 <= objective.curves(0).get("active_share", 0.5) <= 1


def test_options_are_given_to_the_class() -> None:
    loss = objective_of(Library(options=(("margin", 0.2), ("smooth_loss", True))), 2, 2)
    expected = losses.TripletMarginLoss(margin=0.2, smooth_loss=True)(*F4)
    assert float(loss(batch_of(*F4))["loss"]) == pytest.approx(float(expected))
    centers = objective_of(Library(loss="SoftTripleLoss", options=(("centers_per_class", 3),)))
    assert [tuple(p.shape) for p in centers.parameters()] == [(4, 18)]
    beta = objective_of(Library(loss="MarginLoss", options=(("learn_beta", True),)))
    assert [tuple(p.shape) for p in beta.parameters()] == [(1,)] and beta.curves(0) == {"beta_distance": 1.2}
    swapped = objective_of(Library(options=(("swap", True),)), 2, 2)
    assert float(swapped(batch_of(*F4))["loss"]) == pytest.approx(float(losses.TripletMarginLoss(swap=True)(*F4)))


WRONG = [
    (
        {"loss": "TripletMargin"},
        r"objective.loss is 'TripletMargin', which is no loss; did you mean 'TripletMarginLoss'\?",
    ),
    ({"loss": "InstanceLoss"}, "objective.loss is 'InstanceLoss', which is refused: it compares an image with"),
    ({"loss": "CrossBatchMemory"}, "which is refused: set the field memory instead"),
    ({"options": (("margin", 0.1), ("margin", 0.2))}, "objective.options: 'margin' stands twice"),
    ({"options": (("margin", float("nan")),)}, "objective.options: margin is nan, must be -1000000000000.0 to"),
    (
        {"loss": "FastAPLoss", "miner": BatchHard()},
        "objective.miner is set, but FastAPLoss takes none; set objective.mi",
    ),
    ({"options": (("swap", True),), "memory": Memory()}, "memory is set, but TripletMarginLoss with swap takes none"),
    ({"loss": "LiftedStructureLoss", "memory": Memory()}, "memory is set, but LiftedStructureLoss takes none"),
    ({"options": ("margin", 0.2)}, r"objective.options.0 is 'margin' \(str\), must be a pair of a name and a value"),
    (
        {"options": 0.2},
        r"objective.options is 0.2 \(float\), must be a tuple of pairs of a name and a value: write \(\(",
    ),
    ({"options": (("margin",),)}, r"objective.options.0 is \('margin',\) \(tuple\), must be a pair"),
    ({"options": ((1, 2),)}, r"objective.options.0.0 is 1 \(int\), must be a text"),
    (
        {"options": (("margin", None),)},
        r"objective.options.0.1 is None \(NoneType\), must be a whole number or a number",
    ),
]


@pytest.mark.parametrize(("fields", "told"), WRONG)
def test_wrong_settings_are_refused_with_the_remedy(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        check(Library(**fields), "objective")


BUILT_WRONG = [
    (Library(options=(("margn", 0.2),)), r"Library: TripletMarginLoss has no option 'margn'; did you mean 'margin'\?"),
    (Library(loss="MarginLoss", options=(("num_classes", 3),)), "MarginLoss has no option 'num_classes'; known: beta,"),
    (Library(loss="NPairsLoss", options=(("margin", 3),)), "NPairsLoss has no option 'margin'; it has none"),
    (Library(loss="RankedListLoss"), "RankedListLoss needs the options Tn, margin, which have no defaults"),
    (
        Library(loss="PNPLoss", options=(("variant", "X"),)),
        r"PNPLoss refuses its options \{'variant': 'X'\}: variant=X",
    ),
    (Library(loss="ArcFaceLoss", options=(("margin", "x"),)), r"ArcFaceLoss refuses its options \{'margin': 'x'\}"),
]


@pytest.mark.parametrize(("settings", "told"), BUILT_WRONG)
def test_wrong_options_are_refused_when_the_loss_is_made(settings: Library, told: str) -> None:
    check(settings, "objective")
    with pytest.raises(ValueError, match=told):
        objective_of(settings)


def test_options_are_set_from_the_command_line() -> None:
    stage = Stage("s", trains="head", optim=Optim(n_epochs=1, batch_size=4, lr=0.1), objective=Library())
    text = "objective.options=margin=0.2, num_bins=10,swap=true,variant=Dq,low=1e-3"
    changed = override_field(stage, text)
    options = (("margin", 0.2), ("num_bins", 10), ("swap", True), ("variant", "Dq"), ("low", 1e-3))
    assert changed.objective == Library(options=options)
    assert [type(value) for _, value in changed.objective.options] == [float, int, bool, str, float]
    assert override_field(changed, "objective.options=").objective == Library()
    with pytest.raises(
        ValueError, match=r"--set objective.options=margin: takes name=value, several separated by commas"
    ):
        override_field(stage, "objective.options=margin")


def test_losses_of_classes_do_not_need_positives() -> None:
    assert not Library(loss="CosFaceLoss").needs_positives and Library().needs_positives


def test_state_shape_tells_weights_apart() -> None:
    shapes = {
        Library().state_shape(),
        Library(loss="SoftTripleLoss").state_shape(),
        Library(loss="SoftTripleLoss", options=(("centers_per_class", 4),)).state_shape(),
        Library(loss="MarginLoss", options=(("learn_beta", True),)).state_shape(),
    }
    assert len(shapes) == 4
    assert Library(options=(("margin", 0.3),)).state_shape() == Library().state_shape()


@pytest.mark.parametrize("name", ["ArcFaceLoss", "SphereFaceLoss", "SubCenterArcFaceLoss", "TupletMarginLoss"])
def test_angles_of_equal_vectors_have_finite_gradients(name: str) -> None:
    """float32: cosines of exactly +-1, where the slope of the angle is infinite."""
    embeddings = torch.randn(4, 8, generator=torch.Generator().manual_seed(0)).repeat(3, 1).requires_grad_()
    labels = torch.arange(4).repeat(3)
    objective = PairObjective(Library(loss=name), 4, 8, 100)
    for parameter in objective.parameters():
        n = parameter.shape[1] // 4
        parameter.data = (-embeddings.detach()[:4] if n == 1 else embeddings.detach()[:4]).repeat_interleave(n, 0).T
    loss = objective(batch_of(embeddings, labels))["loss"]
    loss.backward()
    assert bool(loss.isfinite()) and bool(embeddings.grad.isfinite().all())
    assert all(bool(parameter.grad.isfinite().all()) for parameter in objective.parameters())


@pytest.mark.parametrize("name", OF_PAIRS)
def test_losses_of_pairs_take_a_memory(name: str) -> None:
    """The batch's rows are anchors, the memory's are compared with them as if they were in the batch."""
    embeddings, labels = sorted_points()
    order = torch.randperm(24, generator=torch.Generator().manual_seed(1))
    live, kept = order[:10], order[10:]
    objective = objective_of(named(name, memory=Memory(size=14)))
    objective.after_step(batch_of(embeddings[kept], labels[kept]), LOOK)
    rows = embeddings[live].clone().requires_grad_()
    found = objective(batch_of(rows, labels[live]))["loss"]
    both = torch.cat([rows, embeddings[kept]])
    labels_of_both = torch.cat([labels[live], labels[kept]])
    is_same = labels[live][:, None] == labels_of_both
    positive = is_same & ~torch.eye(10, 24, dtype=torch.bool)
    if objective.loss.takes_triplets:
        chosen = (positive[:, :, None] & ~is_same[:, None]).nonzero(as_tuple=True)
    else:
        chosen = (*positive.nonzero(as_tuple=True), *(~is_same).nonzero(as_tuple=True))
    expected = getattr(losses, name)().double()(rows, labels[live], chosen, both, labels_of_both)
    assert float(found) == pytest.approx(float(expected), rel=1e-9)
    found.backward()
    assert bool(rows.grad.isfinite().all())


def test_miner_chooses_for_the_library() -> None:
    embeddings, labels = sorted_points()
    objective = objective_of(Library(miner=BatchHard(), options=(("margin", 0.5),)))
    objective.after_step(batch_of(embeddings, labels), LOOK)
    unit = torch.nn.functional.normalize(embeddings)
    d = (unit[:, None] - unit).norm(dim=2)
    costs = []
    for i in range(24):
        hardest = max(float(d[i, j]) for j in range(24) if labels[j] == labels[i])
        nearest = min(float(d[i, j]) for j in range(24) if labels[j] != labels[i])
        costs.append(max(0.0, hardest - nearest + 0.5))
    violated = [cost for cost in costs if cost > 0]
    assert float(objective(batch_of(embeddings, labels))["loss"]) == pytest.approx(sum(violated) / len(violated))
    assert objective.curves(0)["active_share"] == pytest.approx(len(violated) / 24, abs=1e-6)


def test_histogram_loss_is_a_loop() -> None:
    """The library indexes with lists of lists, which torch means to read differently some day."""
    embeddings, labels = sorted_points()
    unit = torch.nn.functional.normalize(embeddings)
    cosines = (unit @ unit.T).tolist()
    shares = {True: [0.0] * 101, False: [0.0] * 101}  # of positive and of negative pairs at each of 101 nodes
    for i in range(24):
        for j in range(i):
            node = (cosines[i][j] + 1) / 0.02
            below = int(node)
            shares[bool(labels[i] == labels[j])][below] += below + 1 - node
            shares[bool(labels[i] == labels[j])][below + 1] += node - below
    positive, negative = ([share / sum(own) for share in own] for own in (shares[True], shares[False]))
    expected = sum(negative[k] * sum(positive[: k + 1]) for k in range(101))
    found = objective_of(Library(loss="HistogramLoss"))(batch_of(embeddings, labels))["loss"]
    assert found.item() == pytest.approx(expected, rel=1e-6)


def test_histogram_loss_bears_equal_rows() -> None:
    """Whose cosine of 1 has no bin in the library."""
    embeddings = torch.randn(4, 6, generator=torch.Generator().manual_seed(0)).repeat(2, 1).requires_grad_()
    loss = objective_of(Library(loss="HistogramLoss"))(batch_of(embeddings, torch.arange(8) % 4))["loss"]
    loss.backward()
    assert loss.isfinite() and embeddings.grad is not None and embeddings.grad.isfinite().all()
