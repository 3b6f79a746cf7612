"""Which parameters train, how fast each, and the climb of sharpness-aware minimisation."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from guie.model.embedder import Embedder
from guie.model.patch_drop import drop_patches
from guie.model.pooling import enable_gradient_checkpointing
from guie.settings.optim import Adam, BlockFactors, LayerDecay, Optim, Sgd
from guie.settings.stage import Stage
from guie.train.model import Model
from guie.train.sharding import full_tensor

BLOCK = re.compile(
    r"(?:[A-Za-z_]+\.)*(?:res)?blocks\.(\d+)\."
)  # timm's blocks.3., open_clip's transformer.resblocks.3.; not stages.0.blocks.3.
BEFORE_BLOCKS = (
    "patch_embed",
    "conv1",
    "cls_token",
    "class_embedding",
    "pos_embed",
    "positional_embedding",
    "ln_pre",
    "norm_pre",
    "reg_token",
)


def block_of(name: str, n_blocks: int) -> int:
    """The transformer block that a backbone's parameter belongs to: -1 for what comes before the first, n_blocks for
    what comes after the last."""
    found = BLOCK.match(name)
    if found:
        return int(found[1])
    return -1 if any(part in name for part in BEFORE_BLOCKS) else n_blocks


def blocks_of(model: Embedder) -> list[nn.Module]:
    """The blocks of a transformer, from the first to the last; none where the backbone is none."""
    return [
        module
        for name, module in model.backbone.network.named_modules()
        if (found := BLOCK.match(f"{name}.")) and found[0] == f"{name}."
    ]


def n_blocks_of(model: Embedder) -> int:
    """Blocks of a transformer; 0 where the backbone is none."""
    return 1 + max(
        (int(found[1]) for name, _ in model.backbone.named_parameters() if (found := BLOCK.match(name))), default=-1
    )


def open_parts(model: Model, stage: Stage) -> None:
    """Prepares a model for a stage: what its backbone recomputes and leaves out, and which parameters train.

    Raises:
        ValueError: the backbone has no gradient checkpointing, no patches to leave out, or not so many blocks.
    """
    if stage.cost.has_grad_checkpoints:
        enable_gradient_checkpointing(model.backbone.network)
    if stage.cost.patch_drop:
        drop_patches(model.backbone.network, stage.cost.patch_drop)
    model.open(stage)
    freeze_early_blocks(model, stage)


def freeze_early_blocks(model: Embedder, stage: Stage) -> None:
    """Freezes the blocks before the last `open_blocks`, and all that comes before them.

    Raises:
        ValueError: the backbone has not so many blocks.
    """
    n_open = stage.optim.open_blocks
    if not n_open:
        return
    n = n_blocks_of(model)
    if n_open > n:
        text = f"has {n} blocks" if n else "is no transformer of numbered blocks"
        raise ValueError(f"stages.{stage.name}.optim.open_blocks is {n_open}; the backbone {text}")
    for name, parameter in model.backbone.named_parameters():
        if block_of(name, n) < n - n_open:
            parameter.requires_grad_(False)


def lr_factor(name: str, n_blocks: int, stage: Stage, rates: Mapping[str, float]) -> float:
    """Factor of the stage's learning rate for a parameter of the model; `rates` are its objective's
    (`Objective.rates`).

    With trains="all" the backbone's is lr * backbone_lr_factor (2nd and 6th place: head 1e-4, backbone 1e-7); within it
    the blocks follow `optim.blocks`.
    """
    part, _, rest = name.partition(".")
    if part == "objective":
        return next((rate for prefix, rate in rates.items() if rest.startswith(prefix)), 1.0)
    if part == "neck":
        return 1.0
    factor = stage.optim.backbone_lr_factor if stage.trains == "all" else 1.0
    block = block_of(name, n_blocks)
    match stage.optim.blocks:
        case BlockFactors(edges=edges, factors=factors):
            return factor * next((share for edge, share in zip(edges, factors, strict=True) if block < edge), 1.0)
        case LayerDecay(factor=decay):
            return factor * decay ** (n_blocks - block if n_blocks else 0)
    return factor


def make_optimizer(model: Model, stage: Stage) -> torch.optim.Optimizer:
    """The stage's optimizer over the parameters that train.

    Vectors (biases, norms) are not decayed, unless `has_full_decay`; nor is what the objective names. Sharded and whole
    tensors are in groups of their own: torch's optimizers update a group's tensors together. If all are whole and on a
    CPU, torch's fused kernels of Adam and AdamW update them, which read each tensor once
    (tests/benchmarks/training.md, "The optimizer's step").

    Raises:
        ValueError: the stage trains only its objective, and that has no weights to train.
    """
    if not model.trained():
        kind = type(stage.objective).__name__
        raise ValueError(
            f"stages.{stage.name}.trains is {stage.trains!r}, but {kind} has no weights to train; take trains='head'"
        )
    optim, n_blocks = stage.optim, n_blocks_of(model)
    undecayed = tuple(f"objective.{prefix}" for prefix in model.objective.undecayed())
    groups: dict[tuple[float, float, bool], list[nn.Parameter]] = {}
    for name, parameter in model.trained().items():
        is_decayed = (parameter.ndim > 1 or optim.has_full_decay) and not name.startswith(undecayed)
        decay = optim.weight_decay if is_decayed else 0.0
        key = (lr_factor(name, n_blocks, stage, model.objective.rates()), decay, isinstance(parameter, DTensor))
        groups.setdefault(key, []).append(parameter)
    listed = [
        {"params": params, "lr_factor": factor, "weight_decay": decay} for (factor, decay, _), params in groups.items()
    ]
    return _optimizer(listed, optim, all(_fits_fused(parameter) for parameter in model.trained().values()))


def _optimizer(groups: list[dict[str, Any]], optim: Optim, fits_fused: bool) -> torch.optim.Optimizer:
    """torch's optimizer for `optim.method`; Adam and AdamW are fused where that fits."""
    match optim.method:
        case Sgd(momentum=momentum):  # torch's fused one fails where a weight gets its first gradient after others
            return torch.optim.SGD(groups, lr=optim.lr, momentum=momentum)
        case Adam():
            adam: type[torch.optim.Adam] = torch.optim.Adam
        case _:
            adam = torch.optim.AdamW
    if not fits_fused:
        return adam(groups, lr=optim.lr)
    optimizer = adam(groups, lr=optim.lr, fused=True)
    optimizer.register_step_pre_hook(_align_gradients)
    return optimizer


def load_moments(optimizer: torch.optim.Optimizer, stored: dict[str, Any]) -> None:
    """Loads an optimizer's state dict, which may come from another kind of device. Each group keeps its own `fused`;
    the moments get the strides of their parameters.

    Args:
        optimizer: Of `make_optimizer`, perhaps in accelerate's wrapper, over parameters that are not sharded.
        stored: The state dict in a checkpoint.
    """
    pairs = zip(stored["param_groups"], optimizer.param_groups, strict=True)
    groups = [saved | {"fused": group["fused"]} for saved, group in pairs]
    optimizer.load_state_dict(stored | {"param_groups": groups})
    for parameter, moments in optimizer.state.items():
        for name, value in moments.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                moments[name] = _laid_out_as(parameter, value)


def _fits_fused(parameter: nn.Parameter) -> bool:
    """Whether torch's fused CPU kernels may update a parameter: on a CPU, not sharded, and without gaps in memory,
    which they would overwrite."""
    is_whole = parameter.device.type == "cpu" and not isinstance(parameter, DTensor)
    return is_whole and torch.empty_like(parameter, device="meta").stride() == parameter.stride()


def _align_gradients(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
    """Before a fused step on a CPU: each gradient gets the strides of its parameter.

    The kernel reads parameter, gradient and moments as flat arrays and ignores their strides (torch 2.14). With a
    contiguous gradient of a channels-last weight, each number would be updated with another number's gradient. Autograd
    gives a gradient its parameter's strides; other code may not.
    """
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.grad is not None:
                parameter.grad = _laid_out_as(parameter, parameter.grad)


def _laid_out_as(parameter: Tensor, value: Tensor) -> Tensor:
    """The same numbers with the strides of `parameter`: `value` itself, if it has them."""
    same_strides = value.stride() == parameter.stride()
    return value if same_strides else torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def gradient_norm(parameters: Sequence[nn.Parameter]) -> Tensor:
    """The norm of all gradients together, whole ones where they are sharded."""
    return torch.stack([full_tensor(p.grad.norm()) for p in parameters if p.grad is not None]).norm()


@torch.no_grad()
def clip(parameters: Sequence[nn.Parameter], largest: float) -> None:
    """Scales all gradients so that their norm together is at most `largest`."""
    factor = (largest / (gradient_norm(parameters) + 1e-6)).clamp(max=1.0)
    for parameter in parameters:
        if parameter.grad is not None:
            parameter.grad.mul_(float(factor))


@contextlib.contextmanager
def sam_ascent(parameters: Sequence[nn.Parameter], rho: float) -> Iterator[None]:
    """The parameters at w + rho g / |g| while the block runs.

    Source: Foret et al., Sharpness-aware minimization, ICLR 2021, equation 2.
    """
    norm = float(gradient_norm(parameters))
    if not math.isfinite(
        norm
    ):  # fp16's scale is too large: this step is skipped, and nothing may be computed at w + inf
        yield
        return
    moved = [(p, p.detach().clone()) for p in parameters if p.grad is not None]
    with torch.no_grad():
        for parameter, _ in moved:
            assert parameter.grad is not None
            parameter.add_(parameter.grad, alpha=rho / (norm + 1e-12))
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, before in moved:
                parameter.copy_(before)
