"""Weights stored in half precision inside an exported file; every product is computed in float32 still."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

STORAGES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class _Widened(nn.Module):
    """A stored tensor as it is used."""

    def forward(self, stored: Tensor) -> Tensor:
        """float32 of half."""
        return stored.float()


def store(module: nn.Module, storage: str) -> nn.Module:
    """Stores all matrices of a module as `storage` (fp32, bf16 or fp16), in place; returns the module.

    Each is widened where it is used, one at a time. Vectors (biases, norms) stay as they are: they weigh nothing.

    Raises:
        ValueError: a weight too large for fp16.
    """
    dtype = STORAGES[storage]
    if dtype == torch.float32:
        return module
    for part in list(module.modules()):
        for name, parameter in list(part.named_parameters(recurse=False)):
            if parameter.dim() < 2:
                continue
            stored = parameter.detach().to(dtype)
            if not torch.isfinite(stored).all():
                raise ValueError(
                    f"a weight of {parameter.detach().abs().max():.3g} is too large for fp16; set export.storage to "
                    "bf16"
                )
            setattr(part, name, nn.Parameter(stored, requires_grad=False))
            parametrize.register_parametrization(
                part, name, _Widened(), unsafe=True
            )  # unsafe: the type changes, as it should
    return module
