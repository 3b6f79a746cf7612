"""Replaces operators that PyTorch 1.11, the contest's scorer, does not have: fused attention, GELU with an argument,
RMS norm, and the current `pad`.

A graph with the current `aten::gelu` is saved in file format 10, and 1.11 reads at most format 9. `write_out` replaces
modules of a network. `PlainCalls` replaces functions that a forward calls while it is traced.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import timm.layers
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


class WrittenOutAttention(nn.Module):
    """An `nn.MultiheadAttention` as matrix products and a softmax, with the same weights."""

    def __init__(self, attention: nn.MultiheadAttention) -> None:
        """Takes over the weights of `attention`.

        Raises:
            ValueError: it has separate widths or added bias tokens for keys and values.
        """
        super().__init__()
        if attention.in_proj_weight is None or attention.bias_k is not None or attention.add_zero_attn:
            raise ValueError(
                "this nn.MultiheadAttention has separate widths or added tokens for keys and values, and cannot be "
                "written out"
            )
        self.in_proj_weight, self.in_proj_bias = attention.in_proj_weight, attention.in_proj_bias
        self.out_proj = attention.out_proj
        self.n_heads, self.is_batch_first = attention.num_heads, attention.batch_first

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, **_: Any
    ) -> tuple[Tensor, None]:
        """As nn.MultiheadAttention.forward, with None in place of the attention weights.

        `attn_mask`, float [n_query, n_key], is added to the products.
        """
        biases = [None] * 3 if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        parts = []
        for tokens, weight, bias in zip((query, key, value), self.in_proj_weight.chunk(3), biases, strict=True):
            projected = F.linear(tokens, weight, bias)
            projected = projected if self.is_batch_first else projected.transpose(0, 1)
            parts.append(projected.reshape(projected.shape[0], projected.shape[1], self.n_heads, -1).transpose(1, 2))
        q, k, v = parts  # [n, heads, tokens, d]
        products = torch.matmul(q / math.sqrt(q.shape[-1]), k.transpose(-2, -1))
        if attn_mask is not None:
            products = products + attn_mask
        mixed = torch.matmul(products.softmax(dim=-1), v).transpose(1, 2).flatten(2)
        return self.out_proj(mixed if self.is_batch_first else mixed.transpose(0, 1)), None


class WrittenOutGELU(nn.Module):
    """GELU by the error function, or its approximation with a hyperbolic tangent.

    Source: Hendrycks and Gimpel, arXiv 1606.08415.
    """

    def __init__(self, approximate: str = "none") -> None:
        """`approximate` is none or tanh, as in nn.GELU."""
        super().__init__()
        self.is_tanh = approximate == "tanh"

    def forward(self, x: Tensor) -> Tensor:
        """Element by element."""
        return gelu(x, "tanh" if self.is_tanh else "none")


def gelu(x: Tensor, approximate: str = "none") -> Tensor:
    """As F.gelu, with operators of 1.11."""
    if approximate == "tanh":
        return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))
    return 0.5 * x * (1 + torch.erf(x * math.sqrt(0.5)))


def pad(x: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
    """As F.pad, with operators of 1.11. It has one operator for each mode."""
    sizes = [int(n) for n in pad]
    if mode == "constant":
        return torch.constant_pad_nd(x, sizes, value or 0.0)
    n_sides = len(sizes) // 2
    name = {"reflect": f"reflection_pad{n_sides}d", "replicate": f"replication_pad{n_sides}d"}.get(mode)
    return getattr(torch.ops.aten, name)(x, sizes) if name else F.pad(x, sizes, mode, value)


def rms_norm(
    x: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None, eps: float | None = None
) -> Tensor:
    """As F.rms_norm, with operators of 1.11 (AIMv2).

    Source: Zhang and Sennrich, arXiv 1910.07467.
    """
    dims = tuple(range(-len(normalized_shape), 0))
    eps = torch.finfo(x.dtype).eps if eps is None else eps
    normalised = x * torch.rsqrt(x.pow(2).mean(dims, keepdim=True) + eps)
    return normalised if weight is None else normalised * weight


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """As F.scaled_dot_product_attention without dropout, with operators of 1.11.

    `attn_mask` is bool, or is added to the products. Calls with dropout or grouped queries go to
    F.scaled_dot_product_attention itself.
    """
    if dropout_p or enable_gqa:
        return F.scaled_dot_product_attention(
            query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
        )
    products = torch.matmul(query * (scale or 1 / math.sqrt(query.shape[-1])), key.transpose(-2, -1))
    if is_causal:
        attn_mask = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool, device=query.device).tril()
    if attn_mask is not None:
        products = (
            products.masked_fill(~attn_mask, -math.inf) if attn_mask.dtype == torch.bool else products + attn_mask
        )
    return torch.matmul(products.softmax(dim=-1), value)


PLAIN: dict[Callable[..., Any], Callable[..., Tensor]] = {
    F.gelu: gelu,
    F.pad: pad,
    F.rms_norm: rms_norm,
    F.scaled_dot_product_attention: attention,
}


class PlainCalls(TorchFunctionMode):
    """A context that replaces the functions in `PLAIN`: each key by its value."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Calls the replacement of `func`, or `func` itself if there is none."""
        return PLAIN.get(func, func)(*args, **(kwargs or {}))


def write_out(module: nn.Module) -> nn.Module:
    """Replaces every fused attention and GELU module of a timm or open_clip network, in place; returns the module."""
    for child in list(module.modules()):
        if hasattr(child, "fused_attn"):
            setattr(child, "fused_attn", False)  # noqa: B010 (makes timm write it out; nn.Module's types do not know the attribute)
        for name, part in list(child.named_children()):
            plain = _plain(part)
            if plain is not None:
                setattr(child, name, plain.train(part.training))
    return module


def _plain(part: nn.Module) -> nn.Module | None:
    """The replacement of `part`; None if it can stay."""
    if isinstance(part, nn.MultiheadAttention):
        return WrittenOutAttention(part)
    if isinstance(part, timm.layers.GELUTanh):
        return WrittenOutGELU("tanh")
    return (
        WrittenOutGELU(getattr(part, "approximate", "none")) if isinstance(part, (nn.GELU, timm.layers.GELU)) else None
    )
