"""Which parameters train, how fast each, and the climb of sharpness-aware minimisation."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import torch
from torch import nn

from guie.model.embedder import Embedder
from guie.settings.optim import Adam, BlockFactors, LayerDecay, Sgd
from guie.settings.stage import Stage
from guie.train.sharding import whole

BLOCK = re.compile(r"(?:[A-Za-z_]+\.)*(?:res)?blocks\.(\d+)\.")  # timm's blocks.3., open_clip's transformer.resblocks.3.; not stages.0.blocks.3.
BEFORE_BLOCKS = ("patch_embed", "conv1", "cls_token", "class_embedding", "pos_embed", "positional_embedding", "ln_pre", "norm_pre", "reg_token")


def block_of(name: str, n_blocks: int) -> int:
    """The transformer block that a backbone's parameter belongs to: -1 for what comes before the first, n_blocks for what comes after the last."""
    found = BLOCK.match(name)
    if found:
        return int(found[1])
    return -1 if any(part in name for part in BEFORE_BLOCKS) else n_blocks


def blocks_of(embedder: Embedder) -> list[nn.Module]:
    """The blocks of a transformer, from the first to the last; none where the backbone is none."""
    return [module for name, module in embedder.backbone.network.named_modules() if (found := BLOCK.match(f"{name}.")) and found[0] == f"{name}."]


def n_blocks_of(embedder: Embedder) -> int:
    """Blocks of a transformer; 0 where the backbone is none."""
    return 1 + max((int(found[1]) for name, _ in embedder.backbone.named_parameters() if (found := BLOCK.match(name))), default=-1)


def close_blocks(embedder: Embedder, stage: Stage) -> None:
    """Freezes the blocks before the last `open_blocks`, and all that comes before them.

    Raises:
        ValueError: the backbone has not so many blocks.
    """
    n_open = stage.optim.open_blocks
    if not n_open:
        return
    n = n_blocks_of(embedder)
    if n_open > n:
        text = f"has {n} blocks" if n else "is no transformer of numbered blocks"
        raise ValueError(f"stages.{stage.name}.optim.open_blocks is {n_open}; the backbone {text}")
    for name, parameter in embedder.backbone.named_parameters():
        if block_of(name, n) < n - n_open:
            parameter.requires_grad_(False)


def lr_factor(name: str, n_blocks: int, stage: Stage) -> float:
    """How many times the stage's learning rate a parameter of the embedder learns with.

    With trains="all" the backbone's is lr * backbone_lr_factor (2nd and 6th place: head 1e-4, backbone 1e-7); within it the blocks follow
    `optim.blocks`.
    """
    if not name.startswith("backbone."):
        return 1.0
    factor = stage.optim.backbone_lr_factor if stage.trains == "all" else 1.0
    block = block_of(name, n_blocks)
    match stage.optim.blocks:
        case BlockFactors(edges=edges, factors=factors):
            return factor * next((share for edge, share in zip(edges, factors, strict=True) if block < edge), 1.0)
        case LayerDecay(factor=decay):
            return factor * decay ** (n_blocks - block if n_blocks else 0)
    return factor


def make_optimizer(embedder: Embedder, stage: Stage) -> torch.optim.Optimizer:
    """The stage's optimizer over the parameters that train; vectors (biases, norms) are not decayed, unless the stage has_full_decay."""
    optim = stage.optim
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    n_blocks = n_blocks_of(embedder)
    for name, parameter in embedder.named_parameters():
        if parameter.requires_grad:
            key = (lr_factor(name, n_blocks, stage), optim.weight_decay if parameter.ndim > 1 or optim.has_full_decay else 0.0)
            groups.setdefault(key, []).append(parameter)
    listed = [{"params": params, "lr_factor": factor, "weight_decay": decay} for (factor, decay), params in groups.items()]
    match optim.method:
        case Sgd(momentum=momentum):
            return torch.optim.SGD(listed, lr=optim.lr, momentum=momentum)
        case Adam():
            return torch.optim.Adam(listed, lr=optim.lr)
    return torch.optim.AdamW(listed, lr=optim.lr)


@contextlib.contextmanager
def climbed(parameters: list[nn.Parameter], rho: float) -> Iterator[None]:
    """The parameters, moved by a step of length rho up their gradient, while the block runs.

    Source: Foret et al., Sharpness-aware minimization, ICLR 2021, equation 2.
    """
    moved = [(p, p.detach().clone()) for p in parameters if p.grad is not None]
    with torch.no_grad():
        norm = torch.stack([whole(p.grad.norm()) for p, _ in moved if p.grad is not None]).norm()
        for parameter, _ in moved:
            assert parameter.grad is not None
            parameter.add_(parameter.grad, alpha=rho / (float(norm) + 1e-12))
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, before in moved:
                parameter.copy_(before)
