"""Weights, gradients and moments spread over the processes (FSDP2), for towers that one card cannot hold while they train."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_optimizer_state_dict, set_optimizer_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from guie.model.embedder import Embedder


def shard(embedder: Embedder, blocks: list[nn.Module], device: torch.device) -> None:
    """Spreads the embedder over all processes, in place: each of its blocks is gathered when it computes, the rest is held together.

    Source: Zhao et al., PyTorch FSDP, VLDB 2023, arXiv 2304.11277.
    """
    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    for parameter in embedder.parameters():
        parameter.data = parameter.data.contiguous()  # channels last is refused
    for module in (*blocks, embedder):
        fully_shard(module, mesh=mesh)


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor of which each process holds a part; all processes must ask."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def own_part(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def like(target: Tensor, value: Tensor) -> Tensor:
    """A whole tensor, on the device and spread as `target` is."""
    value = value.to(target.device)
    return distribute_tensor(value, target.device_mesh, target.placements) if isinstance(target, DTensor) else value


def optimizer_state(embedder: Embedder, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The optimizer's whole state on the CPU; all processes must ask, the first one gets it."""
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    return get_optimizer_state_dict(embedder, optimizer, options=options)


def set_optimizer_state(embedder: Embedder, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Spreads what `optimizer_state` gave; every process brings the whole."""
    set_optimizer_state_dict(embedder, optimizer, state, options=StateDictOptions(full_state_dict=True))
