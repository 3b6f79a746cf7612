"""Members, their views and their concatenation; door 07 scores every setting of the ladder and keeps the last one's embeddings."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from guie.checkpoint import load_weights, whole_file
from guie.data.packing import PackedImages
from guie.embed.extract import FeatureRequest, digest_of_backbone, digest_of_rows, extract
from guie.embed.pca import PCA, fit_pca
from guie.embed.retrieval import Retrieval, l2_normalised, retrieve, summarise
from guie.embed.sizes import WithoutSizes, size_matrix, sized
from guie.model.backbone import Backbone, build_backbone
from guie.model.embedder import part_of
from guie.model.neck import Neck, n_sizes
from guie.model.patches import set_resolution
from guie.recipe import PRETRAINED, Member, Model, Setting
from guie.run import Run, commit, outputs_digest

log = logging.getLogger(__name__)
Features = Callable[[Member, str, str], np.ndarray]  # (member, view, split) -> float32 [n_images, feature_dim]


@dataclass(frozen=True)
class Tower:
    """One member as the export needs it.

    Attributes:
        module: Normalised pixels, float32 [n, 3, px, px] -> output, float32 [n, dim].
        image_px: Side of the square it sees.
        views: Views whose outputs are averaged.
        weight: Factor of its normalised output in the concatenation.
        size_matrix: Of a neck that takes the image's size: what `size_inputs` adds to the output, float32 [dim, 3].
    """

    module: nn.Module
    image_px: int
    views: tuple[str, ...]
    weight: float
    size_matrix: Tensor | None = None


def load_backbone(run: Run, stage: str, image_px: int, patch_stride: int = 0, model: Model | None = None) -> Backbone:
    """The backbone as `stage` left it (`pretrained`: as `model`, or else the recipe, loads it), changed to `image_px` and `patch_stride`."""
    model = model or run.recipe.model_of(stage)
    path = run.weights_path(model.weights_file) if model.weights_file else None
    if stage == PRETRAINED:
        return build_backbone(model, image_px, path, run.recipe.seed, patch_stride)
    # built as the stage saw it, so that its position embedding loads strictly, and only then changed
    trained = run.recipe.stage(stage)
    backbone = build_backbone(model, trained.image_px, path, run.recipe.seed, trained.patch_stride)
    backbone.load_state_dict(part_of(stage_weights(run, stage), "backbone"), strict=True)
    set_resolution(backbone.network, image_px, patch_stride)
    return backbone


def stage_weights(run: Run, stage: str) -> dict[str, Tensor]:
    """All weights that `stage` left: backbone.*, neck.*, classifier.*."""
    return load_weights(run.stage_folder(stage) / "final.safetensors")


def load_neck(run: Run, stage: str) -> Neck:
    """The neck as `stage` left it, in eval mode."""
    weights = part_of(stage_weights(run, stage), "neck")
    first = next(name for name in ("linear.weight", "linear.0.weight", "branches.0.weight", "branches.0.0.weight") if name in weights)
    trained = run.recipe.stage(stage)
    neck = Neck(weights[first].shape[1] - n_sizes(trained.neck), trained)
    neck.load_state_dict(weights, strict=True)
    return neck.eval()


def load_tower(run: Run, member: Member) -> Tower:
    """One member, ready to be traced."""
    backbone = load_backbone(run, member.stage, member.image_px, member.patch_stride).eval()
    if member.output == "feature":
        return Tower(backbone, member.image_px, member.views, member.weight)
    neck = load_neck(run, member.stage)
    if not n_sizes(run.recipe.stage(member.stage).neck):
        return Tower(nn.Sequential(backbone, neck).eval(), member.image_px, member.views, member.weight)
    module = nn.Sequential(backbone, WithoutSizes(), neck).eval()
    return Tower(module, member.image_px, member.views, member.weight, size_matrix(neck, backbone.feature_dim))


class MemberFeatures:
    """Cached backbone features of members, with each backbone loaded once."""

    def __init__(self, run: Run, packed: PackedImages, accelerator: Accelerator) -> None:
        """Features of all images of `packed` on the accelerator's device."""
        self.run, self.packed, self.accelerator = run, packed, accelerator
        self.pack = outputs_digest(run.folder(3))
        self._loaded: tuple[tuple[str, int, int], Backbone, str] | None = None

    def __call__(self, member: Member, view: str, split: str) -> np.ndarray:
        """float32 [n_images_of_split, feature_dim], followed by the images' sizes where the member's neck takes them."""
        backbone, digest = self._backbone(member.stage, member.image_px, member.patch_stride)
        rows = rows_of(self.packed, split)
        request = FeatureRequest(self.pack, digest, self.run.recipe.model_of(member.stage), member.image_px, view, digest_of_rows(rows), member.patch_stride)
        features = extract(self.run.cache, request, backbone, self.packed, rows, self.accelerator, self.run.recipe.embed.batch_size)
        return features if member.output == "feature" else sized(features, self.packed, rows, self.run.recipe.stage(member.stage).neck)

    def _backbone(self, stage: str, image_px: int, patch_stride: int) -> tuple[Backbone, str]:
        what = (stage, image_px, patch_stride)
        if self._loaded is None or self._loaded[0] != what:
            backbone = load_backbone(self.run, stage, image_px, patch_stride).to(self.accelerator.device)
            self._loaded = (what, backbone, digest_of_backbone(backbone))
        return self._loaded[1], self._loaded[2]


def rows_of(packed: PackedImages, split: str) -> np.ndarray:
    """int64 row numbers of the pack's images of `split`."""
    return np.flatnonzero(packed.index["split"].to_numpy() == split)


def member_output(run: Run, member: Member, features: Features, split: str) -> np.ndarray:
    """The member's L2-normalised output, float32 [n_images, dim], averaged over its views before normalising."""
    neck = load_neck(run, member.stage) if member.output == "embedding" else None
    total: Tensor | None = None
    for view in member.views:
        output = torch.from_numpy(np.array(features(member, view, split)))
        if neck is not None:
            with torch.no_grad():
                output = neck(output)
        total = output if total is None else total + output
    assert total is not None
    return l2_normalised((total / len(member.views)).numpy())


def concatenated(run: Run, setting: Setting, features: Features, split: str) -> np.ndarray:
    """The weighted members side by side, L2-normalised, float32 [n_images, sum of dims]."""
    return l2_normalised(np.concatenate([m.weight * member_output(run, m, features, split) for m in setting.members], axis=1))


def embed(run: Run, setting: Setting, features: Features) -> tuple[dict[str, np.ndarray], PCA | None]:
    """Final embeddings of both splits, float32 [n_images, dim], L2-normalised; the PCA is fitted on training images only."""
    val = concatenated(run, setting, features, "val")
    if not setting.pca_dim:
        return {"val": val}, None
    train = concatenated(run, setting, features, "train")
    pca = fit_pca(train, setting.pca_dim, setting.whiten)
    return {"val": l2_normalised(pca.transform(val)), "train": l2_normalised(pca.transform(train))}, pca


def score_ladder(run: Run) -> dict[str, Any]:
    """Door 07: scores every setting on the validation images, and keeps embeddings, PCA and neighbours of the last.

    Returns:
        The final setting's scores.
    """
    accelerator = Accelerator(cpu=run.device == "cpu")
    packed = PackedImages(run.folder(3))
    features = MemberFeatures(run, packed, accelerator)
    val = packed.index.iloc[rows_of(packed, "val")]
    rows: list[dict[str, Any]] = []
    neighbours: list[pd.DataFrame] = []
    settings = run.recipe.embed.settings
    for setting in settings:
        embeddings, pca = embed(run, setting, features)
        found = retrieve(embeddings["val"], val["class_id"].to_numpy())
        rows.append(_score_row(run, setting, embeddings["val"], found, val))
        log.info("%-42s %5d-d   mP@5 %.3f   R@1 %.3f", setting.name, rows[-1]["dim"], rows[-1]["mp5"], rows[-1]["r1"])
        if setting in (settings[0], settings[-1]):
            neighbours.append(_neighbour_table(setting.name, found, val))
    if "train" not in embeddings:
        embeddings["train"] = concatenated(run, settings[-1], features, "train")
    if accelerator.is_main_process:
        _write(run, rows, neighbours, embeddings, pca, packed)
    accelerator.wait_for_everyone()
    return {name: rows[-1][name] for name in ("mp5", "r1")} | {"n_settings": len(rows)}


def _score_row(run: Run, setting: Setting, embeddings: np.ndarray, found: Retrieval, val: pd.DataFrame) -> dict[str, Any]:
    members = " + ".join(f"{m.stage}@{m.image_px}{f'/{m.patch_stride}' if m.patch_stride else ''}:{m.output}" for m in setting.members)
    views = " + ".join("/".join(m.views) for m in setting.members)
    projection = "none" if not setting.pca_dim else f"pca{setting.pca_dim}" + (f"-whiten{setting.whiten:g}" if setting.whiten else "")
    row = {"setting": setting.name, "members": members, "views": views, "projection": projection, "dim": embeddings.shape[1]}
    n_queries = int(np.isfinite(found.precision).sum())
    scores = summarise(found, val["domain"].to_numpy())
    return row | {"n_queries": n_queries, "n_index": len(val)} | {k: round(v, 6) for k, v in scores.items()} | {"seed": run.recipe.seed, "commit": commit()}


def _neighbour_table(setting: str, found: Retrieval, val: pd.DataFrame) -> pd.DataFrame:
    ids = val["image_id"].to_numpy()
    n, k = found.neighbours.shape
    table = pd.DataFrame(
        {
            "setting": setting,
            "query_id": np.repeat(ids, k),
            "rank": np.tile(np.arange(1, k + 1), n),
            "image_id": ids[found.neighbours.ravel()],
            "similarity": found.similarities.ravel(),
            "is_correct": found.is_correct.ravel(),
        }
    )
    return table[found.neighbours.ravel() >= 0]


def _write(
    run: Run, rows: list[dict[str, Any]], neighbours: list[pd.DataFrame], embeddings: dict[str, np.ndarray], pca: PCA | None, packed: PackedImages
) -> None:
    folder = run.folder(7)
    for split, values in embeddings.items():
        with whole_file(folder / f"{split}_embeddings.npy") as temporary, temporary.open("wb") as handle:
            np.save(handle, values)
        numbers = rows_of(packed, split)
        ids = packed.index.iloc[numbers][["image_id", "class_id", "domain"]].assign(pack_row=numbers)
        with whole_file(folder / f"{split}_ids.parquet") as temporary:
            ids.to_parquet(temporary, index=False)
    if pca is not None:
        pca.save(folder / "pca.npz")
    else:
        (folder / "pca.npz").unlink(missing_ok=True)
    with whole_file(folder / "neighbours.parquet") as temporary:
        pd.concat(neighbours).to_parquet(temporary, index=False)
    with whole_file(folder / "scores.csv") as temporary:
        pd.DataFrame(rows).to_csv(temporary, index=False)
