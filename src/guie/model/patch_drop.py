"""Makes a transformer leave out patches while it trains: timm's patch dropout, where the network's library has its own.

At each step each image leaves out another random set of patches; class and register tokens stay. A step then costs
little more than the share of the tokens that is kept.

Source: Li et al., Scaling language-image pre-training via masking (FLIP), CVPR 2023, arXiv 2212.00794.
"""

from __future__ import annotations

from typing import Any

from timm.layers import PatchDropout, PatchDropoutWithIndices
from timm.models.eva import Eva
from timm.models.naflexvit import NaFlexVit
from timm.models.vision_transformer import VisionTransformer


def drop_patches(network: Any, share: float) -> None:
    """Leaves out a share of the patches in training mode, in place. In eval mode all are seen.

    Of n patches max(1, int(n * (1 - share))) are kept, drawn by torch's generators.

    Args:
        network: A timm network, or the image tower of an open_clip model.
        share: Share of the patches to leave out, 0 to less than 1.

    Raises:
        ValueError: the network has no tokens that could be left out.
    """
    network = getattr(network, "trunk", network)  # open_clip's wrapper of a timm network
    is_training = network.training
    if isinstance(network, VisionTransformer):
        network.patch_drop = PatchDropout(share, num_prefix_tokens=network.num_prefix_tokens).train(is_training)
    elif isinstance(network, Eva | NaFlexVit):  # their rotary embedding needs the places of the kept patches
        dropping = PatchDropoutWithIndices(share, num_prefix_tokens=network.num_prefix_tokens)
        network.patch_drop = dropping.train(is_training)
    elif type(network).__module__ == "open_clip.transformer" and hasattr(network, "patch_dropout"):
        network.patch_dropout = PatchDropout(share).train(is_training)  # open_clip's own draws on the CPU
    else:
        raise ValueError(
            f"a {type(network).__name__} cannot leave out patches (plain vision transformers, EVA and NaFlexVit can); "
            "set patch_drop to 0"
        )
