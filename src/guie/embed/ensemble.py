"""Members, their views and their combination: all steps of a setting before its PCA."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from guie.data.packed import PackedImages
from guie.embed.features import Encoder, FeatureStore
from guie.embed.halves import Halves
from guie.embed.joined import Joined
from guie.embed.pca import blocks
from guie.embed.postprocess import power_normalised
from guie.embed.search import l2_normalised
from guie.embed.sizes import Sized, sizes_of, split_sizes
from guie.embed.views import frame_of
from guie.files import digest_of_tensors, load_weights, save_json
from guie.model.backbone import Backbone, build_side_by_side, parts_of
from guie.model.neck import Neck, n_sizes
from guie.model.normalisation import mean_std
from guie.model.patches import set_resolution
from guie.model.side_by_side import Renormalised
from guie.run import Run
from guie.settings.embed import Member, Setting
from guie.settings.model import Model
from guie.settings.names import PRETRAINED

log = logging.getLogger(__name__)
Features = Callable[
    [Member, str, str], np.ndarray | Halves | Joined | Sized
]  # (member, view, split) -> float32 [n_images, feature_dim], read by rows


@dataclass(frozen=True)
class Tower:
    """One member as the export needs it.

    Attributes:
        module: Maps pixels, float32 [n, 3, px, px], to the output, float32 [n, dim]. The pixels are normalised by the
            mean and std of the recipe's backbone.
        image_px: Side of the square it sees.
        views: Views whose outputs are averaged.
        weight: Factor of its normalised output in the concatenation.
        size_matrix: float32 [dim, 3], for a neck that takes the image's size: size_matrix @ `size_inputs` is added to
            the output. None for other necks.
    """

    module: nn.Module
    image_px: int
    views: tuple[str, ...]
    weight: float
    size_matrix: Tensor | None = None


def load_backbone(run: Run, stage: str, image_px: int, patch_stride: int = 0, model: Model | None = None) -> Backbone:
    """Returns the backbone of a stage, changed to another image size and patch stride.

    A trained stage stores all weights of its backbone, so the files that it started from are no longer needed.

    Args:
        run: The run whose weights are read.
        stage: A finished stage, or `pretrained` for the backbone without training.
        image_px: Side of the square that it will see.
        patch_stride: Pixels from one patch of a transformer to the next; 0 is the patch's side.
        model: Which backbone to build; None takes the one of the stage (`Recipe.model_of`).
    """
    model = model or run.recipe.model_of(stage)
    if stage == PRETRAINED:
        paths = {each: run.weights_path(each.weights_file) for each in model.each if each.weights_file}
        backbone = build_side_by_side(model, image_px, paths, run.recipe.seed, patch_stride)
        for each, part in zip(model.each, parts_of(backbone), strict=True):
            if each.weights_tag:
                note_pretrained(run, each, part)
        return backbone
    # first at the stage's own image size, so that the position embedding loads strictly; then it is changed
    trained = run.recipe.stage(stage)
    backbone = build_side_by_side(
        model, trained.image_px, None, run.recipe.seed, trained.patch_stride, has_tag_weights=False
    )
    backbone.load_state_dict(stage_weights(run, stage, "backbone"), strict=True)
    set_resolution(backbone.network, image_px, patch_stride)
    return backbone


def note_pretrained(run: Run, model: Model, backbone: Backbone) -> None:
    """Records the digest of the weights that the library loaded for a tag, in the run's `pretrained.json`. A library
    may change the weights behind a tag.

    Raises:
        ValueError: the run began with other weights of the same tag.
    """
    path, name = run.out / "pretrained.json", f"{model.library} {model.name} {model.weights}"
    # without position embeddings, which are interpolated to the image size by torch
    digest = digest_of_tensors({name: tensor for name, tensor in backbone.state_dict().items() if "pos" not in name})
    known: dict[str, str] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if known.get(name, digest) != digest:
        raise ValueError(
            f"{name}: the library gives weights with digest {digest}, but this run began with {known[name]}; choose "
            "another place with --out"
        )
    if name not in known:
        log.info("weights %s: digest %s", name, digest)
        save_json(path, known | {name: digest})


def stage_weights(run: Run, stage: str, part: str = "") -> dict[str, Tensor]:
    """The weights of a finished stage or soup.

    Args:
        run: The run whose weights are read.
        stage: Name of the stage or soup.
        part: `backbone`, `neck` or `objective`: only these weights, without the part's name in the keys. "" reads all.
    """
    return load_weights(run.stage_folder(stage) / "final.safetensors", f"{part}." if part else "")


def load_neck(run: Run, stage: str) -> nn.Module:
    """Returns the trained neck of `stage` in eval mode; a linear neck is folded into one `nn.Linear`
    (`Neck.folded`)."""
    weights = stage_weights(run, stage, "neck")
    first = next(
        name
        for name in ("linear.weight", "linear.0.weight", "branches.0.weight", "branches.0.0.weight")
        if name in weights
    )
    shape = run.recipe.stage(stage).neck
    neck = Neck(weights[first].shape[1] - n_sizes(shape), shape)
    neck.load_state_dict(weights, strict=True)
    return neck.folded()


def load_tower(run: Run, member: Member) -> Tower:
    """Loads one member in eval mode, ready to be traced."""
    layers: list[nn.Module] = [load_backbone(run, member.stage, member.image_px, member.patch_stride)]
    of_recipe, of_member = mean_std(run.recipe.model), mean_std(run.recipe.model_of(member.stage))
    if of_member != of_recipe:
        layers.insert(0, Renormalised(of_recipe, of_member))
    of_sizes = None
    if member.output == "embedding":
        neck = load_neck(run, member.stage)
        if n_sizes(run.recipe.stage(member.stage).neck):
            assert isinstance(neck, nn.Linear)  # the settings allow the image's size only for linear necks
            neck, of_sizes = split_sizes(neck)
        layers.append(neck)
    module = layers[0] if len(layers) == 1 else nn.Sequential(*layers)
    return Tower(module.eval(), member.image_px, member.views, member.weight, of_sizes)


class MemberFeatures:
    """Cached backbone features of members. The last backbone is kept loaded, for members that share it."""

    def __init__(self, store: FeatureStore) -> None:
        """Features of the images of `store`."""
        self.store, self.run = store, store.run
        self._loaded: tuple[tuple[str, int, int], Encoder] | None = None

    def __call__(self, member: Member, view: str, split: str) -> np.ndarray | Halves | Joined | Sized:
        """Features of a split, float32 [n_images, feature_dim], memory-mapped. If the member's neck takes the image's
        size, three more columns hold it."""
        packed = self.store.packed
        rows = rows_of(packed, split)
        others = [other for other in member.views if other != view and frame_of(other) == frame_of(view)]
        features = self.store.get(self._encoder(member), view, rows, other_views=others)
        has_sizes = member.output == "embedding" and n_sizes(self.run.recipe.stage(member.stage).neck)
        return Sized(features, sizes_of(packed, rows)) if has_sizes else features

    def _encoder(self, member: Member) -> Encoder:
        what = (member.stage, member.image_px, member.patch_stride)
        if self._loaded is None or self._loaded[0] != what:
            backbone = load_backbone(self.run, *what).to(self.store.accelerator.device)
            self._loaded = (what, Encoder.of(backbone, self.run.recipe.model_of(member.stage), *what[1:]))
        return self._loaded[1]


def rows_of(packed: PackedImages, split: str) -> np.ndarray:
    """int64 row numbers of the pack's images of `split`."""
    return np.flatnonzero(packed.index["split"].to_numpy() == split)


def joined(outputs: Sequence[np.ndarray], setting: Setting) -> np.ndarray:
    """Combines the members' weighted outputs, float32 [n, d] each, as a setting says: float32 [n, dim], before its
    PCA."""
    whole = l2_normalised(np.mean(outputs, axis=0) if setting.combine == "mean" else np.concatenate(outputs, axis=1))
    return whole if setting.power == 1.0 else power_normalised(whole, setting.power)


class Combined:
    """The combined outputs of a setting's members before the PCA, float32 [n_images, dim].

    Each member's output is averaged over its views, L2-normalised and multiplied by the member's weight. The outputs
    are concatenated or averaged, then L2-normalised. With `power != 1` the result is power-normalised as well. Rows are
    computed when they are read, because features on the disk may be larger than memory.
    """

    def __init__(self, run: Run, setting: Setting, features: Features, split: str) -> None:
        """Takes the features of `split`; those that are not in the cache are extracted now."""
        self.setting = setting
        self._views = [[features(member, view, split) for view in member.views] for member in setting.members]
        self._necks = [
            load_neck(run, member.stage) if member.output == "embedding" else None for member in setting.members
        ]
        self.shape = (len(self._views[0][0]), self[:1].shape[1])

    def __len__(self) -> int:
        """The number of images."""
        return self.shape[0]

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        """float32 [n_rows, dim] of a slice, or of row numbers, int64 [n_rows]."""
        outputs = [self._output(i, rows) * member.weight for i, member in enumerate(self.setting.members)]
        return joined(outputs, self.setting)

    def whole(self) -> np.ndarray:
        """All rows, float32 [n_images, dim]."""
        return np.concatenate([*blocks(self)])

    def _output(self, i: int, rows: slice | np.ndarray) -> np.ndarray:
        """The L2-normalised output of member i."""
        views, neck, total = self._views[i], self._necks[i], torch.zeros(())
        for view in views:
            output = torch.from_numpy(np.array(view[rows]))
            with torch.no_grad():
                total = total + (output if neck is None else neck(output))
        return l2_normalised((total / len(views)).numpy())
