"""Shards weights, gradients and optimizer moments over the processes (FSDP2), for backbones too large to train on one
card."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor


def shard(backbone: nn.Module, blocks: list[nn.Module], device: torch.device) -> None:
    """Spreads a backbone over all processes, in place.

    Each of its blocks is gathered when it computes; what lies outside the blocks is gathered together.

    Source: Zhao et al., PyTorch FSDP, VLDB 2023, arXiv 2304.11277.
    """
    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    for parameter in backbone.parameters():
        parameter.data = parameter.data.contiguous()  # channels last is refused
    for module in (*blocks, backbone):
        fully_shard(module, mesh=mesh)


def is_sharded(module: nn.Module) -> bool:
    """Whether a module's weights are spread over the processes."""
    return isinstance(module, FSDPModule)


def set_gradient_sync(module: nn.Module, is_on: bool) -> None:
    """Whether the next backward pass moves the gradients of a sharded module between processes, or only adds them
    up."""
    assert isinstance(module, FSDPModule)
    module.set_requires_gradient_sync(is_on)


def full_tensor(tensor: Tensor) -> Tensor:
    """The whole of a sharded tensor; all processes must call it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def of_process_0(value: float, accelerator: Accelerator) -> float:
    """Process 0's value on every process, so that decisions based on it agree; all processes must call it."""
    if accelerator.num_processes == 1:
        return value
    return float(broadcast(torch.tensor([value], dtype=torch.float64, device=accelerator.device)))


def is_so_for_all(is_so: bool, accelerator: Accelerator) -> bool:
    """Whether a condition is true in every process; all processes must call it."""
    if accelerator.num_processes == 1:
        return is_so
    return int(accelerator.reduce(torch.tensor(int(is_so), device=accelerator.device))) == accelerator.num_processes


@contextlib.contextmanager
def ends_everywhere(accelerator: Accelerator) -> Iterator[None]:
    """A block that all processes run. If it fails in one process, the others raise an error after it, too, instead of
    waiting for ever.

    Inside the block no collective may follow the line that fails, unless it is in such a block itself.

    Raises:
        ValueError: another process failed. The one that failed raises its own error.
    """
    failure: Exception | None = None
    try:
        yield
    except Exception as error:
        failure = error
    is_whole = is_so_for_all(failure is None, accelerator)
    if failure is not None:
        raise failure
    if not is_whole:
        raise ValueError("another process of this run has stopped; its own output says why")


def own_part(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def like(target: Tensor, value: Tensor) -> Tensor:
    """A whole tensor, on the device and spread as `target` is."""
    value = value.to(target.device)
    if not isinstance(target, DTensor):
        return value
    return distribute_tensor(value, target.device_mesh, target.placements)


def optimizer_state(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The optimizer's whole state on the CPU; all processes must call it, and only process 0 gets the state."""
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    return get_optimizer_state_dict(model, optimizer, options=options)


def set_optimizer_state(model: nn.Module, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Loads the state that `optimizer_state` returned into a sharded optimizer; every process passes the whole
    state."""
    set_optimizer_state_dict(model, optimizer, state, options=StateDictOptions(full_state_dict=True))
