"""Weights stored in half precision inside an exported file. All products are still computed in float32."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

STORAGES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class _Widened(nn.Module):
    """Converts a stored tensor to float32 when it is used."""

    def forward(self, stored: Tensor) -> Tensor:
        """float32 tensor of the same shape."""
        return stored.float()


def store(module: nn.Module, storage: str) -> nn.Module:
    """Stores all matrices of a module as `storage` (fp32, bf16 or fp16), in place; returns the module.

    Each matrix is converted to float32 when it is used, one at a time. Vectors (biases, norms) stay in float32, because
    they take little space.

    Raises:
        ValueError: a weight is too large for fp16.
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
            # unsafe, because the parametrization changes the dtype
            parametrize.register_parametrization(part, name, _Widened(), unsafe=True)
    return module
