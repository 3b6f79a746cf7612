"""One member of every family of image towers that people take, small enough to build in a test."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import open_clip
import pytest
import timm
import torch
from open_clip import factory
from open_clip.model import resize_pos_embed
from timm.models.vitamin import VitCfg, VitConvCfg
from torch import Tensor, nn

Pair = tuple[tuple[float, float, float], tuple[float, float, float]]
HALF: Pair = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
IMAGENET: Pair = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CLIP: Pair = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
RAW: Pair = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
VIT = {"depth": 2, "embed_dim": 48, "num_heads": 3}
PE = {**VIT, "attn_pool_num_heads": 3}
CONVNEXT = {"depths": (1, 1, 1, 1), "dims": (8, 16, 24, 32)}
FASTVIT = {"layers": (1, 1, 1, 1), "embed_dims": (32, 64, 128, 128)}
VITAMIN = {
    **VIT,
    "depth": 1,
    "embed_cfg": VitCfg((8, 16, 48), (1, 1, 1), 8, VitConvCfg(norm_layer="layernorm2d", norm_eps=1e-6), "1d"),
}
OWN = {"layers": 2, "width": 64, "head_width": 16}  # open_clip's own vision transformer
TEXT = {"context_length": 4, "vocab_size": 8, "width": 16, "heads": 1, "layers": 1}


@dataclass(frozen=True)
class Family:
    """A member of a family.

    Attributes:
        of: The family.
        library: `timm` or `open_clip`.
        name: The smallest published member that the library builds.
        tag: Of its weights.
        pixels: Mean and std, as the family's authors state them.
        patch_px: Side of a patch; 0 where patches cannot overlap.
        small: What is changed for a network of the same class that builds in milliseconds: arguments of timm's
            builder, or of open_clip's `vision_cfg` for its own transformer.
        px: Sides of two input squares.
        is_large: It has more than 300 million parameters, so that only the small one is built.
    """

    of: str
    library: Literal["timm", "open_clip"]
    name: str
    tag: str
    pixels: Pair
    patch_px: int
    small: Mapping[str, Any] = field(default_factory=dict)
    px: tuple[int, int] = (64, 96)
    is_large: bool = False

    def __str__(self) -> str:
        return f"{self.library}-{self.name}"


Timm = partial(Family, library="timm")
OpenClip = partial(Family, library="open_clip")
FOURTEEN = (70, 98)
FAMILIES = (
    Timm("SigLIP 2", name="vit_base_patch32_siglip_256", tag="v2_webli", pixels=HALF, patch_px=32, small=VIT),
    Timm("SigLIP 2", name="naflexvit_base_patch16_siglip", tag="v2_webli", pixels=HALF, patch_px=16, small=VIT),
    OpenClip("SigLIP 2", name="ViT-B-32-SigLIP2-256", tag="webli", pixels=HALF, patch_px=32, small=VIT),
    Timm("PE-core", name="vit_pe_core_tiny_patch16_384", tag="fb", pixels=HALF, patch_px=16, small=PE),
    OpenClip("PE-core", name="PE-Core-T-16-384", tag="meta", pixels=HALF, patch_px=16, small=PE),
    Timm("TIPSv2", name="vit_base_patch14_reg1_tipsv2", tag="webli", pixels=RAW, patch_px=14, small=VIT, px=FOURTEEN),
    Timm(
        "DINOv2", name="vit_small_patch14_dinov2", tag="lvd142m", pixels=IMAGENET, patch_px=14, small=VIT, px=FOURTEEN
    ),
    Timm(
        "DINOv2 with registers",
        name="vit_small_patch14_reg4_dinov2",
        tag="lvd142m",
        pixels=IMAGENET,
        patch_px=14,
        small=VIT,
        px=FOURTEEN,
    ),
    Timm("DINOv3", name="vit_small_patch16_dinov3", tag="lvd1689m", pixels=IMAGENET, patch_px=16, small=VIT),
    Timm("DINOv3", name="convnext_tiny", tag="dinov3_lvd1689m", pixels=IMAGENET, patch_px=0, small=CONVNEXT),
    Timm(
        "AIMv2",
        name="aimv2_large_patch14_224",
        tag="apple_pt",
        pixels=CLIP,
        patch_px=14,
        small=VIT,
        is_large=True,
        px=FOURTEEN,
    ),
    Timm("C-RADIO v3", name="vit_base_patch16_radio_v3", tag="c_radio", pixels=CLIP, patch_px=16, small=VIT),
    Timm("C-RADIO v3", name="naflexvit_base_patch16_radio_v3", tag="c_radio", pixels=CLIP, patch_px=16, small=VIT),
    Timm(
        "C-RADIO v4",
        name="vit_so400m_patch16_radio_v4",
        tag="c_radio",
        pixels=CLIP,
        patch_px=16,
        small=VIT,
        is_large=True,
    ),
    Timm(
        "C-RADIO v4",
        name="naflexvit_so400m_patch16_radio_v4",
        tag="c_radio",
        pixels=CLIP,
        patch_px=16,
        small=VIT,
        is_large=True,
    ),
    Timm("EVA-02 CLIP", name="eva02_base_patch16_clip_224", tag="merged2b", pixels=CLIP, patch_px=16, small=VIT),
    OpenClip("EVA-02 CLIP", name="EVA02-B-16", tag="merged2b_s8b_b131k", pixels=CLIP, patch_px=16, small=VIT),
    Timm(
        "EVA-02 CLIP E",
        name="eva02_enormous_patch14_clip_224",
        tag="laion2b_plus",
        pixels=CLIP,
        patch_px=14,
        small=VIT,
        is_large=True,
        px=FOURTEEN,
    ),
    OpenClip(
        "EVA-02 CLIP E",
        name="EVA02-E-14-plus",
        tag="laion2b_s9b_b144k",
        pixels=CLIP,
        patch_px=14,
        small=VIT,
        is_large=True,
    ),
    Timm("CLIP (LAION)", name="vit_base_patch32_clip_224", tag="laion2b", pixels=CLIP, patch_px=32, small=VIT),
    OpenClip("CLIP (LAION)", name="ViT-B-32", tag="laion2b_s34b_b79k", pixels=CLIP, patch_px=32, small=OWN),
    Timm("DFN", name="vit_base_patch16_clip_224", tag="dfn2b", pixels=CLIP, patch_px=16, small=VIT),
    OpenClip("DFN", name="ViT-B-16-quickgelu", tag="dfn2b", pixels=CLIP, patch_px=16, small=OWN),
    Timm("MobileCLIP2", name="fastvit_mci0", tag="apple_mclip2_dfndr2b", pixels=RAW, patch_px=0, small=FASTVIT),
    Timm(
        "MobileCLIP2", name="vit_base_mci_224", tag="apple_mclip2_dfndr2b", pixels=RAW, patch_px=0, small={"depth": 1}
    ),
    OpenClip("MobileCLIP2", name="MobileCLIP2-S0", tag="dfndr2b", pixels=RAW, patch_px=0, small=FASTVIT),
    OpenClip("MobileCLIP2", name="MobileCLIP2-B", tag="dfndr2b", pixels=RAW, patch_px=0, small={"depth": 1}),
    Timm(
        "MetaCLIP 2",
        name="vit_huge_patch14_clip_quickgelu_224",
        tag="metaclip2_worldwide",
        pixels=CLIP,
        patch_px=14,
        small=VIT,
        is_large=True,
        px=FOURTEEN,
    ),
    OpenClip(
        "MetaCLIP 2",
        name="ViT-H-14-worldwide-quickgelu",
        tag="metaclip2_worldwide",
        pixels=CLIP,
        patch_px=14,
        small=OWN,
        is_large=True,
        px=FOURTEEN,
    ),
    Timm("EUPE", name="vit_tiny_patch16_dinov3_qkvb", tag="eupe_lvd1689m", pixels=IMAGENET, patch_px=16, small=VIT),
    Timm("EUPE", name="convnext_tiny", tag="eupe_lvd1689m", pixels=IMAGENET, patch_px=0, small=CONVNEXT),
    Timm("ViTamin", name="vitamin_small_224", tag="datacomp1b_clip", pixels=CLIP, patch_px=0, small=VITAMIN),
    OpenClip("ViTamin", name="ViTamin-S", tag="datacomp1b", pixels=CLIP, patch_px=0, small=VITAMIN),
    OpenClip(
        "CLIPA",
        name="ViT-L-14-CLIPA",
        tag="datacomp1b",
        pixels=IMAGENET,
        patch_px=14,
        small=OWN,
        is_large=True,
        px=FOURTEEN,
    ),
    # timm's numbers; the authors take .5 for all but ImageNet-1k (microsoft/unilm, beit3/datasets.py)
    Timm("BEiT-3", name="beit3_base_patch16_224", tag="pt", pixels=IMAGENET, patch_px=16, small=VIT),
)


def reduce(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets both libraries build the family's class at the reduced depth and width, under the published name."""
    create = timm.create_model
    if family.library == "timm" or "timm_model_name" in factory._MODEL_CONFIGS[family.name]["vision_cfg"]:
        monkeypatch.setattr(timm, "create_model", lambda name, **options: create(name, **{**options, **family.small}))
    if family.library == "open_clip":
        config = copy.deepcopy(factory._MODEL_CONFIGS[family.name])
        if "timm_model_name" not in config["vision_cfg"]:
            config["vision_cfg"] |= family.small
        monkeypatch.setitem(factory._MODEL_CONFIGS, family.name, config | {"text_cfg": TEXT})


def stir(network: nn.Module) -> None:
    """Draws all weights anew, so that each shows in the feature: libraries let norms, layer scales and position
    embeddings start as zero, one or almost nothing."""
    for name, parameter in network.named_parameters():
        with torch.no_grad():
            if name.endswith("bias"):
                parameter.uniform_(-0.2, 0.2)
            elif parameter.ndim == 1:
                parameter.uniform_(0.5, 1.5)
            elif "pos" in name or "token" in name:
                parameter.normal_(std=0.5)
            else:
                parameter.normal_(std=parameter[0].numel() ** -0.5)


class Theirs:
    """The family's member as its library runs it."""

    def __init__(self, family: Family) -> None:
        """Builds it with random weights, at its own resolution."""
        self.family = family
        self.is_timm = family.library == "timm"
        if self.is_timm:
            self.network: Any = timm.create_model(family.name, num_classes=0).eval()
        else:
            self.network = open_clip.create_model(family.name).eval()

    @property
    def tower(self) -> Any:
        """The image tower, whose tensors have the names of ours."""
        return self.network if self.is_timm else self.network.visual

    def at(self, px: int | tuple[int, int]) -> Theirs:
        """The same weights at another resolution, to which the library itself brings them."""
        other = copy.copy(self)
        trunk = self.tower if self.is_timm else getattr(self.tower, "trunk", None)
        if trunk is None:
            other.network = open_clip.create_model(self.family.name, force_image_size=px).eval()
            weights = self.network.state_dict()
            resize_pos_embed(weights, other.network)
            other.network.load_state_dict(weights)
            return other
        other.network = copy.deepcopy(self.network)
        trunk = other.tower if self.is_timm else other.tower.trunk
        if hasattr(trunk, "set_input_size") and not hasattr(trunk, "embeds"):  # NaFlexVit takes any size as it is
            trunk.set_input_size(img_size=px)
        return other

    def __call__(self, images: Tensor) -> Tensor:
        """Features of uint8 [n, 3, px, px], normalised by the numbers of the library's configuration."""
        family = self.family
        if self.is_timm:
            known = timm.get_pretrained_cfg(f"{family.name}.{family.tag}")
            mean, std = known.mean, known.std
        else:
            settings = open_clip.get_pretrained_cfg(family.name, family.tag)
            mean, std = settings["mean"], settings["std"]
        pixels = (images / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
        with torch.no_grad():
            features: Tensor = self.network(pixels) if self.is_timm else self.network.encode_image(pixels)
        return features


def side_by_side(pixels: Tensor, patch_px: int, stride: int) -> Tensor:
    """The image whose patches, cut without overlap, are the overlapping patches of `pixels`."""
    side = (pixels.shape[-1] - patch_px) // stride + 1
    rows = [
        torch.cat([pixels[:, :, r * stride :, c * stride :][:, :, :patch_px, :patch_px] for c in range(side)], dim=3)
        for r in range(side)
    ]
    return torch.cat(rows, dim=2)
