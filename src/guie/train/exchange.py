"""Exchanges tensors between the processes of a training step: sums of gradients, and copies of process 0's tensors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import Tensor, nn

from guie.train.model import Model

BUCKET = 1 << 24  # numbers of a gradient that travel together: 64 MB


@torch.no_grad()
def share_head(model: Model, accelerator: Accelerator) -> None:
    """Gives all processes the weights and buffers of process 0's head, in place."""
    share((t for module in model.head for t in (*module.parameters(), *module.buffers())), accelerator)


@torch.no_grad()
def share(tensors: Iterable[Tensor], accelerator: Accelerator) -> None:
    """Copies process 0's tensors to all processes, in place; all processes must call it."""
    if accelerator.num_processes == 1:
        return
    for tensor in tensors:
        tensor.copy_(broadcast(tensor.detach().clone()))


def share_gradient_of_head(model: Model, accelerator: Accelerator) -> None:
    """Copies process 0's gradient of the head to all processes. Without this the copies of the head would drift apart,
    because some CUDA kernels add in random order."""
    for gradients in _buckets(parameter for module in model.head for parameter in module.parameters()):
        _copy_back(broadcast(_flat(gradients)), gradients)


def sum_gradients(parameters: Iterable[nn.Parameter], accelerator: Accelerator) -> None:
    """Replaces each gradient by its sum over the processes, in place."""
    if accelerator.num_processes == 1:
        return
    for gradients in _buckets(parameters):
        _copy_back(accelerator.reduce(_flat(gradients), reduction="sum"), gradients)


def _buckets(parameters: Iterable[nn.Parameter]) -> Iterator[list[Tensor]]:
    """The gradients that there are, in lists of at most `BUCKET` numbers (or one tensor)."""
    bucket: list[Tensor] = []
    for parameter in parameters:
        if parameter.grad is None:
            continue
        if bucket and sum(tensor.numel() for tensor in bucket) + parameter.numel() > BUCKET:
            yield bucket
            bucket = []
        bucket.append(parameter.grad)
    if bucket:
        yield bucket


def _flat(tensors: list[Tensor]) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors])


def _copy_back(flat: Tensor, tensors: list[Tensor]) -> None:
    for tensor, values in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(values.view_as(tensor))
