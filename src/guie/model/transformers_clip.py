"""Renames the weights of CLIP's image tower from the names of Hugging Face's transformers to those of open_clip.

Source: the parameters of `transformers.CLIPVisionModelWithProjection` and of `open_clip.transformer.VisionTransformer`.
Both compute the same: `tests/unit/model/test_transformers_clip.py` compares their features.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

TOWER = "vision_model."
PROJECTION = "visual_projection.weight"
LAYERS = f"{TOWER}encoder.layers."
# Tensors of the tower outside its layers: transformers' name and open_clip's name.
OUTER = {
    "embeddings.class_embedding": "class_embedding",
    "embeddings.patch_embedding.weight": "conv1.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "pre_layrnorm.weight": "ln_pre.weight",  # transformers spells it so
    "pre_layrnorm.bias": "ln_pre.bias",
    "post_layernorm.weight": "ln_post.weight",
    "post_layernorm.bias": "ln_post.bias",
}
# Modules of a layer whose weight and bias are renamed.
INNER = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "self_attn.out_proj": "attn.out_proj",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}
JOINED = ("q_proj", "k_proj", "v_proj")  # one matrix in open_clip, in this order


def _prefix(names: Mapping[str, Tensor]) -> str | None:
    """The prefix before `vision_model.`; None if the names are not those of transformers."""
    first = f"{LAYERS}0.self_attn.q_proj.weight"
    return next((name.removesuffix(first) for name in names if name.endswith(first)), None)


def as_open_clip(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The image tower's tensors under open_clip's names. The text tower and `logit_scale` are left out.

    Args:
        weights: A state dict of `CLIPModel`, `CLIPVisionModelWithProjection` or `CLIPVisionModel`. The last one has no
            projection, and open_clip's `proj` is then missing.

    Returns:
        The tensors; {} if the names are not those of transformers. Unknown names in the tower are kept as they are, so
        that loading reports them.
    """
    prefix = _prefix(weights)
    if prefix is None:
        return {}
    inside = {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}
    found: dict[str, Tensor] = {}
    for name, tensor in inside.items():
        if name == PROJECTION:
            found["proj"] = tensor.T.contiguous()
        elif name.startswith(LAYERS):
            _put_of_layer(found, inside, name)
        elif name.startswith(TOWER) and not name.endswith("position_ids"):
            inner = name.removeprefix(TOWER)
            found[OUTER.get(inner, name)] = tensor
    return found


def _put_of_layer(found: dict[str, Tensor], inside: Mapping[str, Tensor], name: str) -> None:
    """Puts a layer's tensor into `found`. Queries, keys and values are joined when the tensor of the queries comes."""
    number, _, inner = name.removeprefix(LAYERS).partition(".")
    module, _, kind = inner.rpartition(".")
    start = f"transformer.resblocks.{number}."
    if module in INNER:
        found[f"{start}{INNER[module]}.{kind}"] = inside[name]
        return
    parts = [f"{LAYERS}{number}.self_attn.{part}.{kind}" for part in JOINED]
    if name in parts and all(part in inside for part in parts):
        if name == parts[0]:
            found[f"{start}attn.in_proj_{kind}"] = torch.cat([inside[part] for part in parts])
        return
    found[name] = inside[name]
