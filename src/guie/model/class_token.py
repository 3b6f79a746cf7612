"""Computes the last block of a vision transformer for the class token alone, where the feature is that token.

The other tokens give keys and values there and nothing else. Their queries, and what the block does after its
attention, would be thrown away: for 12 blocks about 7 % of the multiplications. The feature and all gradients are the
same but for rounding. With dropout inside the block, which no backbone here has, other numbers would be drawn.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import Attention
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

log = logging.getLogger(__name__)
NEAR = 1e-6  # of what the block adds to the class token, in float64


def keep_class_token(network: Any, pooling: str) -> None:
    """Replaces the last block of a network whose feature is its class token, in place. Its weights keep their names.

    Of timm these are networks of the class VisionTransformer, and of open_clip its own vision transformers, with the
    blocks that are known here. Others stay as they are. So does a block that computes something else on random tokens,
    as one of another version of the library may do.

    Args:
        network: A timm network or the image tower of an open_clip model, in eval mode, prepared by `take_feature`.
        pooling: See `pooled_tokens`.
    """
    trunk = getattr(network, "trunk", network)  # open_clip's wrapper of a timm network
    made: Callable[[Any], nn.Module]
    if type(trunk) is VisionTransformer:
        of_token = pooling == "cls" or (not pooling and trunk.global_pool == "token" and trunk.attn_pool is None)
        blocks, is_known, made, width = trunk.blocks, _is_timm_block(trunk.blocks[-1]), TimmBlock, trunk.embed_dim
    elif (type(trunk).__module__, type(trunk).__name__) == ("open_clip.transformer", "VisionTransformer"):
        of_token = not pooling and trunk.pool_type == "tok" and trunk.attn_pool is None
        blocks, is_known = trunk.transformer.resblocks, _is_open_clip_block(trunk.transformer)
        made, width = OpenClipBlock, len(trunk.class_embedding)
    else:
        return
    if not of_token or not is_known:
        return
    if _is_same(blocks[-1], made, width):
        blocks[-1] = made(blocks[-1]).train(blocks[-1].training)
    else:
        log.warning("the last block of %s is not the one that guie knows: it computes all tokens", type(trunk).__name__)


def _is_same(block: nn.Module, made: Callable[[Any], nn.Module], width: int) -> bool:
    """Whether the replacement of a block adds the same to the class token of random tokens, in float64. Without
    numbers, on the device `meta`, it is taken to."""
    device = next(block.parameters()).device
    if device.type == "meta":
        return True
    trial, generator = copy.deepcopy(block).double(), torch.Generator("cpu").manual_seed(0)
    tokens = torch.randn(2, 5, width, generator=generator, device="cpu", dtype=torch.float64).to(device)
    with torch.no_grad():
        expected = trial(tokens)[:, :1] - tokens[:, :1]
        try:
            got = made(trial)(tokens) - tokens[:, :1]
        except (AttributeError, TypeError, RuntimeError):  # its parts have other names or shapes
            return False
    bound = NEAR * float(expected.abs().nan_to_num(0, 0, 0).max())
    return torch.allclose(got, expected, rtol=0, atol=bound, equal_nan=True)


class TimmBlock(nn.Module):
    """The class token after a `Block` of timm, float [n, 1, d], from all tokens before it, [n, t, d]; the class token
    is the first."""

    def __init__(self, block: Any) -> None:
        """Takes over the parts of `block`."""
        super().__init__()
        self.norm1, self.attn, self.ls1, self.drop_path1 = block.norm1, block.attn, block.ls1, block.drop_path1
        self.norm2, self.mlp, self.ls2, self.drop_path2 = block.norm2, block.mlp, block.ls2, block.drop_path2

    def forward(self, tokens: Tensor) -> Tensor:
        """As `Block.forward`, of the first token."""
        first = tokens[:, :1] + self.drop_path1(self.ls1(self._attention(self.norm1(tokens))))
        return first + self.drop_path2(self.ls2(self.mlp(self.norm2(first))))

    def _attention(self, tokens: Tensor) -> Tensor:
        """As `Attention.forward`, with the query of the first token alone."""
        attn, first = self.attn, tokens[:, :1]
        weight, bias, dim = attn.qkv.weight, attn.qkv.bias, attn.num_heads * attn.head_dim
        query = F.linear(first, weight[:dim], None if bias is None else bias[:dim])
        others = F.linear(tokens, weight[dim:], None if bias is None else bias[dim:])
        query = query.unflatten(2, (attn.num_heads, attn.head_dim)).transpose(1, 2)  # [n, heads, 1, d]
        key, value = others.unflatten(2, (2, attn.num_heads, attn.head_dim)).permute(2, 0, 3, 1, 4).unbind(0)
        rate = attn.attn_drop.p if attn.training else 0.0
        mixed = F.scaled_dot_product_attention(attn.q_norm(query), attn.k_norm(key), value, dropout_p=rate)
        mixed = attn.norm(mixed.transpose(1, 2).flatten(2))
        return attn.proj_drop(attn.proj(mixed))


class OpenClipBlock(nn.Module):
    """The class token after a `ResidualAttentionBlock` of open_clip; see `TimmBlock`."""

    def __init__(self, block: Any) -> None:
        """Takes over the parts of `block`."""
        super().__init__()
        self.ln_1, self.attn, self.ls_1 = block.ln_1, block.attn, block.ls_1
        self.ln_2, self.mlp, self.ls_2 = block.ln_2, block.mlp, block.ls_2

    def forward(self, tokens: Tensor, *_: None, attn_mask: None = None) -> Tensor:
        """As `ResidualAttentionBlock.forward`, of the first token. An image tower has no mask."""
        normed = self.ln_1(tokens)
        first = tokens[:, :1] + self.ls_1(self.attn(normed[:, :1], normed, normed, need_weights=False)[0])
        return first + self.ls_2(self.mlp(self.ln_2(first)))


def _is_timm_block(block: nn.Module) -> bool:
    """Whether `TimmBlock` computes the same."""
    return type(block) is Block and type(block.attn) is Attention and getattr(block.attn, "gate", None) is None


def _is_open_clip_block(transformer: Any) -> bool:
    """Whether `OpenClipBlock` computes the same as a transformer's last block."""
    last = transformer.resblocks[-1]
    return type(last).__name__ == "ResidualAttentionBlock" and bool(transformer.batch_first)
