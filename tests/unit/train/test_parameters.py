"""Which parameters train and how fast, on timm's and open_clip's own names; clipping and the ascent of SAM by hand."""

import copy
from collections.abc import Callable

import open_clip
import pytest
import timm
import torch
from changing import changed
from torch import nn

from guie.model.backbone import Backbone
from guie.recipe import (
    Adam,
    AdamW,
    ArcFace,
    BlockFactors,
    CosFace,
    KoLeo,
    LayerDecay,
    Optim,
    Sgd,
    Softmax,
    SphereFace,
    SphereFaceR,
    Stage,
    Steps,
    Sum,
    SupCon,
)
from guie.train.model import Model, build_model
from guie.train.parameters import (
    block_of,
    clip,
    freeze_early_blocks,
    gradient_norm,
    load_moments,
    lr_factor,
    make_optimizer,
    n_blocks_of,
    sam_ascent,
)
from guie.train.schedule import lr_at

STAGE = Stage("s", trains="backbone", image_px=32, optim=Optim(n_epochs=10, batch_size=8, lr=1e-3))


@pytest.fixture(scope="module")
def towers() -> dict[str, nn.Module]:
    vision = {"image_size": 32, "layers": 4, "width": 32, "head_width": 16, "patch_size": 16}
    clip = open_clip.model.CLIP(
        16, vision, {"context_length": 8, "vocab_size": 50, "width": 16, "heads": 1, "layers": 1}
    )
    vit = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=4, num_classes=0)
    return {"timm": vit, "open_clip": clip.visual, "cnn": timm.create_model("test_convnext", num_classes=0)}


def model_of(tower: nn.Module) -> Model:
    return build_model(Backbone(tower, 16), STAGE, torch.ones(5), torch.arange(5), 0)


@pytest.mark.parametrize(("name", "before", "after"), [("timm", 3, 2), ("open_clip", 5, 3)])
def test_every_parameter_has_its_block(towers: dict[str, nn.Module], name: str, before: int, after: int):
    model = model_of(towers[name])
    n = n_blocks_of(model)
    assert n == 4
    blocks = [block_of(key, n) for key, _ in model.backbone.named_parameters()]
    sizes = [blocks.count(i) for i in range(-1, 5)]
    assert len(set(sizes[1:5])) == 1 and sizes[1] == 12, "twelve tensors a block"
    assert sizes[0] >= before and sizes[5] == after, [key for key, _ in model.backbone.named_parameters()]
    assert n_blocks_of(model_of(towers["cnn"])) == 0


@pytest.mark.parametrize("name", ["timm", "open_clip"])
def test_only_the_last_blocks_are_open(towers: dict[str, nn.Module], name: str):
    model = model_of(towers[name])
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    freeze_early_blocks(model, changed(STAGE, optim__open_blocks=1))
    is_open = {block_of(key, 4) for key, parameter in model.backbone.named_parameters() if parameter.requires_grad}
    assert is_open == {3, 4}
    with pytest.raises(ValueError, match=r"stages\.s\.optim\.open_blocks is 5; the backbone has 4 blocks"):
        freeze_early_blocks(model, changed(STAGE, optim__open_blocks=5))
    with pytest.raises(ValueError, match=r"is no transformer of numbered blocks"):
        freeze_early_blocks(model_of(towers["cnn"]), changed(STAGE, optim__open_blocks=1))


def test_learning_rates_by_block_are_the_fourth_places():
    """facts: blocks below 10 have 1.25e-6, below 20 2.5e-6, below 26 5e-6, below 32 1e-5; the head its own."""
    blocks = BlockFactors(edges=(10, 20, 26), factors=(0.125, 0.25, 0.5))
    stage = changed(STAGE, trains="all", optim__lr=3e-4, optim__backbone_lr_factor=1e-5 / 3e-4, optim__blocks=blocks)
    names = {
        i: f"backbone.network.visual.transformer.resblocks.{i}.mlp.c_fc.weight" for i in (0, 9, 10, 19, 20, 25, 26, 31)
    }
    rates = [3e-4 * lr_factor(name, 32, stage, {}) for name in names.values()]
    assert rates == pytest.approx([1.25e-6, 1.25e-6, 2.5e-6, 2.5e-6, 5e-6, 5e-6, 1e-5, 1e-5])
    assert lr_factor("neck.linear.weight", 32, stage, {}) == 1.0


def test_objective_has_the_rates_that_it_asks_for():
    """Factors of blocks and of the backbone are not the objective's."""
    stage = changed(STAGE, trains="all", optim__backbone_lr_factor=0.5, optim__blocks=LayerDecay(0.5))
    rates = {"proxies": 100.0, "threshold.": 0.1}
    names = (
        "objective.proxies",
        "objective.threshold.value",
        "objective.blocks.0.weight",
        "neck.linear.weight",
        "backbone.network.norm.weight",
    )
    assert [lr_factor(name, 4, stage, rates) for name in names] == [100.0, 0.1, 1.0, 1.0, 0.5]


def test_optimizer_learns_the_rates_of_the_objective(towers: dict[str, nn.Module]):
    model = model_of(towers["cnn"]).requires_grad_()
    model.objective.rates = lambda: {"centers": 7.0}  # type: ignore[method-assign]
    optimizer = make_optimizer(model, changed(STAGE, trains="all", optim__backbone_lr_factor=0.25))
    factors = {id(p): group["lr_factor"] for group in optimizer.param_groups for p in group["params"]}
    assert factors[id(model.objective.centers)] == 7.0
    assert {factors[id(p)] for p in model.neck.parameters()} == {1.0}
    assert {factors[id(p)] for p in model.backbone.parameters()} == {0.25}


@pytest.mark.parametrize("kind", [ArcFace, CosFace, Softmax, SphereFace, SphereFaceR])
def test_centres_of_a_classifier_learn_at_their_own_rate(towers: dict[str, nn.Module], kind: type):
    """Alone and as a term of a sum: one step of SGD without decay moves the centres by 40 times the gradient."""
    for objective in (kind(center_lr_factor=40.0), Sum(terms=(KoLeo(weight=0.1), kind(center_lr_factor=40.0)))):
        stage = changed(STAGE, objective=objective, optim__method=Sgd(momentum=0.0), optim__lr=0.01)
        stage = changed(stage, optim__weight_decay=0.0)
        model = build_model(Backbone(towers["cnn"], 16), stage, torch.ones(5), torch.arange(5), 0).requires_grad_()
        name = next(name for name, _ in model.named_parameters() if name.endswith("centers"))
        centers = model.get_parameter(name)
        before, gradient = centers.detach().clone(), torch.randn_like(centers)
        optimizer = make_optimizer(model, stage)
        for group in optimizer.param_groups:
            group["lr"] = stage.optim.lr * group["lr_factor"]  # as the schedule does
        centers.grad = gradient
        optimizer.step()
        torch.testing.assert_close(before - centers.detach(), 0.01 * 40 * gradient)


def test_what_the_objective_names_is_not_decayed(towers: dict[str, nn.Module]):
    """Nor with `has_full_decay`; the other parameters of the objective are."""
    model = model_of(towers["cnn"]).requires_grad_()
    model.objective.others = nn.Parameter(torch.ones(2, 2))
    model.objective.centers_of_others = nn.Parameter(torch.ones(2, 2))
    cases = ((), False), (("centers",), False), (("centers",), True), (("centers", "others"), True)
    for named, has_full_decay in cases:
        model.objective.undecayed = lambda named=named: named  # type: ignore[method-assign]
        stage = changed(STAGE, trains="all", optim__weight_decay=0.25, optim__has_full_decay=has_full_decay)
        groups = make_optimizer(model, stage).param_groups
        decays = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
        for name, parameter in model.named_parameters():
            part, _, rest = name.partition(".")
            is_named = part == "objective" and any(rest.startswith(prefix) for prefix in named)
            is_decayed = not is_named and (has_full_decay or parameter.ndim > 1)
            assert decays[id(parameter)] == (0.25 if is_decayed else 0.0), name


def test_layer_decay_falls_towards_the_first_block():
    stage = changed(STAGE, optim__blocks=LayerDecay(0.5))
    names = ["pos_embed", "blocks.0.attn.qkv.weight", "blocks.3.attn.qkv.weight", "norm.weight"]
    assert [lr_factor(f"backbone.network.{name}", 4, stage, {}) for name in names] == [0.5**5, 0.5**4, 0.5, 1.0]


def test_optimizers_get_every_open_parameter_once(towers: dict[str, nn.Module]):
    model = model_of(towers["timm"])
    for method, expected in (
        (AdamW(), torch.optim.AdamW),
        (Adam(), torch.optim.Adam),
        (Sgd(momentum=0.7), torch.optim.SGD),
    ):
        optimizer = make_optimizer(model, changed(STAGE, optim__method=method, optim__blocks=LayerDecay(0.9)))
        assert type(optimizer) is expected
        assert expected is not torch.optim.SGD or {group["momentum"] for group in optimizer.param_groups} == {0.7}
        listed = [id(p) for group in optimizer.param_groups for p in group["params"]]
        assert sorted(listed) == sorted(id(p) for p in model.parameters() if p.requires_grad)
        assert all(
            group["weight_decay"] == 0 for group in optimizer.param_groups for p in group["params"] if p.ndim < 2
        )


@pytest.mark.parametrize("method", [AdamW(), Sgd(momentum=0.0)])
def test_full_decay_is_that_of_an_optimizer_without_groups(towers: dict[str, nn.Module], method: AdamW | Sgd):
    mine = model_of(copy.deepcopy(towers["timm"])).requires_grad_()  # a test before may have frozen blocks
    plain, before = copy.deepcopy(mine), copy.deepcopy(mine).state_dict()
    stage = changed(STAGE, optim__lr=0.1, optim__method=method, optim__weight_decay=0.3, optim__has_full_decay=True)
    kind = torch.optim.AdamW if isinstance(method, AdamW) else torch.optim.SGD
    steps = make_optimizer(mine, stage), kind(plain.parameters(), lr=0.1, weight_decay=0.3)
    for model, step in zip((mine, plain), steps, strict=True):
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        step.step()
    for name, tensor in plain.named_parameters():
        torch.testing.assert_close(dict(mine.named_parameters())[name], tensor)
        torch.testing.assert_close(tensor.detach(), before[name] * 0.97)  # 1 - .1 x .3, vectors too


METHODS = (AdamW(), Adam(), Sgd(momentum=0.8))
STEPS = changed(STAGE, optim__lr=1e-2, optim__weight_decay=0.1, optim__has_full_decay=True)


def by_loop(method: AdamW | Adam | Sgd, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """torch's optimizer that updates one tensor after the other with plain tensor operations; settings of `STEPS`."""
    kind = {AdamW: torch.optim.AdamW, Adam: torch.optim.Adam, Sgd: torch.optim.SGD}[type(method)]
    more = {"momentum": method.momentum} if isinstance(method, Sgd) else {}
    return kind(parameters, lr=1e-2, weight_decay=0.1, foreach=False, fused=False, **more)


def steps_from(optimizer: torch.optim.Optimizer, gradients: list[list[torch.Tensor | None]]) -> None:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for step in gradients:
        for parameter, gradient in zip(parameters, step, strict=True):
            parameter.grad = None if gradient is None else gradient.clone(memory_format=torch.preserve_format)
        optimizer.step()


def columns_first(images: torch.Tensor) -> torch.Tensor:
    """The same numbers, neither contiguous nor channels last."""
    return images.transpose(2, 3).contiguous().transpose(2, 3)


def convolutions(layout: torch.memory_format) -> nn.Module:
    """Weights of three layouts in memory: that of the convolutions, contiguous vectors, a transposed matrix."""
    backbone = nn.Sequential(nn.Conv2d(3, 5, 3), nn.Conv2d(5, 2, 1, bias=False)).to(memory_format=layout)
    backbone.turned = nn.Parameter(torch.randn(3, 4).T)
    return backbone


def check_equal(plain: list[nn.Parameter], trained: list[nn.Parameter]) -> None:
    for expected, parameter in zip(plain, trained, strict=True):
        torch.testing.assert_close(parameter, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("of_weight", (torch.contiguous_format, torch.channels_last))
@pytest.mark.parametrize("of_others", (torch.Tensor.contiguous, columns_first), ids=("contiguous", "columns_first"))
def test_steps_are_a_loops_whatever_the_layout_in_memory(
    method: AdamW | Adam | Sgd,
    of_weight: torch.memory_format,
    of_others: Callable[[torch.Tensor], torch.Tensor],
) -> None:
    """torch's fused kernels on a CPU compare no strides. Half-way the moments come from a checkpoint that another
    optimizer wrote, with tensors of another layout, as the gradients have it."""
    random = torch.Generator().manual_seed(3)
    model = model_of(convolutions(of_weight))
    trained = list(model.trained().values())
    plain = [nn.Parameter(parameter.detach().contiguous()) for parameter in trained]
    gradients = [[torch.randn(parameter.shape, generator=random) for parameter in plain] for _ in range(4)]
    odd = [[of_others(g) if g.ndim == 4 else g for g in step] for step in gradients]
    loop, stage = by_loop(method, plain), changed(STEPS, optim__method=method)
    steps_from(loop, gradients[:2])
    steps_from(make_optimizer(model, stage), odd[:2])
    written = copy.deepcopy(loop.state_dict())
    for moments in written["state"].values():
        for name, value in moments.items():
            if isinstance(value, torch.Tensor) and value.ndim == 4:
                moments[name] = of_others(value)
    resumed = make_optimizer(model, stage)
    written["param_groups"] = copy.deepcopy(resumed.state_dict()["param_groups"])
    for group in written["param_groups"]:
        group["fused"] = None  # as a card's checkpoint has it
    load_moments(resumed, written)
    is_fused = None if isinstance(method, Sgd) else True
    assert all(group["fused"] is is_fused for group in resumed.param_groups)
    steps_from(loop, gradients[2:])
    steps_from(resumed, odd[2:])
    check_equal(plain, trained)


@pytest.mark.parametrize("method", METHODS)
def test_weights_whose_gradients_come_late_or_never_take_the_steps_of_a_loop(method: AdamW | Adam | Sgd) -> None:
    """As class centres in a stage whose first batches have no labels; they share a group with other weights."""
    random = torch.Generator().manual_seed(4)
    model = model_of(convolutions(torch.channels_last))
    trained = list(model.trained().values())
    plain = [nn.Parameter(parameter.detach().contiguous()) for parameter in trained]
    gradients = [
        [None if i in missing else torch.randn(parameter.shape, generator=random) for i, parameter in enumerate(plain)]
        for missing in ({0, 1}, {1, 2}, {1}, {0, 1, 2, 3})
    ]
    steps_from(by_loop(method, plain), gradients)
    steps_from(make_optimizer(model, changed(STEPS, optim__method=method)), gradients)
    check_equal(plain, trained)


@pytest.mark.parametrize("method", METHODS)
def test_steps_of_a_weight_with_gaps_in_memory_leave_the_gaps_alone(method: AdamW | Adam | Sgd) -> None:
    whole = torch.arange(20.0).reshape(4, 5)
    backbone = nn.Sequential(nn.Linear(3, 2))
    backbone.part = nn.Parameter(whole[:, :3])
    model = model_of(backbone)
    trained = list(model.trained().values())
    plain = [nn.Parameter(parameter.detach().contiguous()) for parameter in trained]
    gradients = [[torch.ones(parameter.shape) for parameter in plain]] * 2
    steps_from(by_loop(method, plain), gradients)
    optimizer = make_optimizer(model, changed(STEPS, optim__method=method))
    steps_from(optimizer, gradients)
    check_equal(plain, trained)
    assert whole[:, 3:].tolist() == torch.arange(20.0).reshape(4, 5)[:, 3:].tolist()
    stored = optimizer.state_dict()
    for group in stored["param_groups"]:
        group["fused"] = True  # as a fused one's checkpoint has it
    load_moments(optimizer, stored)
    assert not any(group["fused"] for group in optimizer.param_groups)


def test_step_schedule_drops_at_its_epochs():
    optim = Optim(
        n_epochs=6, batch_size=8, lr=0.02, schedule=Steps(drops=(2, 4), warmup_share=0.0)
    )  # the first place's
    assert [lr_at(optim, step, 60) for step in (0, 19, 20, 39, 40, 59)] == pytest.approx(
        [0.02, 0.02, 0.002, 0.002, 0.0002, 0.0002]
    )


def test_gradients_are_clipped_to_one_length_together():
    a, b, still = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1, 1)), nn.Parameter(torch.zeros(3))
    a.grad, b.grad = torch.tensor([0.0, 3.0]), torch.tensor([[4.0]])
    assert float(gradient_norm([a, still, b])) == 5.0
    clip([a, still, b], 10.0)
    assert a.grad.tolist() == [0.0, 3.0] and b.grad.tolist() == [[4.0]] and still.grad is None
    clip([a, still, b], 2.5)
    assert a.grad.tolist() == pytest.approx([0.0, 1.5]) and float(b.grad) == pytest.approx(2.0)


def test_climb_is_rho_long_along_the_gradient_and_is_taken_back():
    a, b = nn.Parameter(torch.tensor([3.0, 0.0])), nn.Parameter(torch.tensor([[0.0]]))
    a.grad, b.grad = torch.tensor([0.0, 3.0]), torch.tensor([[4.0]])
    with sam_ascent([a, b], 0.5):
        assert a.tolist() == pytest.approx([3.0, 0.3]) and float(b.detach()) == pytest.approx(0.4)  # 3-4-5, half a step
    assert a.tolist() == [3.0, 0.0] and float(b.detach()) == 0.0


def test_sharpness_aware_step_is_the_papers():
    """One step on x^4 at 1 with rho .5: the gradient is taken at 1.5."""
    x = nn.Parameter(torch.tensor([1.0]))
    optimizer = torch.optim.SGD([x], lr=0.1)
    (x**4).sum().backward()
    with sam_ascent([x], 0.5):
        optimizer.zero_grad()
        (x**4).sum().backward()
    optimizer.step()
    assert float(x.detach()) == pytest.approx(1 - 0.1 * 4 * 1.5**3)


def test_no_ascent_where_the_gradient_is_not_finite():
    """As fp16's scale makes it before it finds its place: w + inf would spoil what the second forward pass keeps."""
    weight = nn.Parameter(torch.tensor([3.0, 1.0]))
    weight.grad = torch.tensor([torch.inf, 0.0])
    with sam_ascent([weight], 0.5):
        assert weight.tolist() == [3.0, 1.0]
    assert weight.tolist() == [3.0, 1.0]


def test_nothing_to_train_is_told():
    stage = changed(STAGE, trains="objective", objective=SupCon())
    model = build_model(Backbone(nn.Linear(4, 8), 8), stage, torch.ones(5), torch.arange(5), 0)
    model.open(stage)
    with pytest.raises(ValueError, match=r"trains is 'objective', but SupCon has no weights to train; take trains="):
        make_optimizer(model, stage)
