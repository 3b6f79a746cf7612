"""The teacher's targets for a few crops of each image, computed once; see `distil.py`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from guie.data.packed import PackedImages
from guie.embed.pca import PCA, fit_pca
from guie.files import whole_file
from guie.model.backbone import Backbone, build_backbone, folded
from guie.settings.model import Model

MEAN_STD = 0.5  # mean and std of pixels, for teacher and student: 0..1 becomes -1..1


@dataclass(frozen=True)
class Distillation:
    """The settings of a distillation.

    Attributes:
        arch: Name of the student in timm.
        n_steps: Steps of the whole training; the learning rate's schedule follows from it.
        batch_size: Images a step.
        student_px: Side of the student's images.
        teacher_px: Side of the teacher's images, which are the same crops.
        lr: Largest learning rate of AdamW, after the warm-up.
        weight_decay: Weight decay of matrices; biases, norms and embeddings have none.
        warmup_share: Share of the steps for the warm-up.
        token_drop: Share of tokens left out.
        whole_share: Share of the steps, at the end, in which no token is left out.
        dense: Weight of the patch tokens' loss; the feature's loss has weight 1.
        whiten: Exponent of the targets' whitening; see `PCA`.
        ema_decay: Decay of the moving average of the weights, which is the result.
        n_crops: Crops of each image; each epoch takes the next.
        min_crop: Shortest side of a crop, as a share of the image's side.
        jitter: Largest relative change of brightness, contrast and saturation.
        seed: Seed of weights, order, crops and tokens.
    """

    arch: str = "vit_tiny_patch16_224"
    n_steps: int = 6000
    batch_size: int = 64
    student_px: int = 128
    teacher_px: int = 160
    lr: float = 1e-3
    weight_decay: float = 0.05
    warmup_share: float = 0.05
    token_drop: float = 0.6
    whole_share: float = 0.1
    dense: float = 1.0
    whiten: float = 0.5
    ema_decay: float = 0.999
    n_crops: int = 8
    min_crop: float = 0.4
    jitter: float = 0.2
    seed: int = 0


class ImagePool:
    """The images of several packs, decoded into memory once.

    Args:
        packs: `03_packed` folders.
        split: "train" or "val".
        short_px: Shorter side to which larger images are reduced.

    Raises:
        ValueError: the packs have no images of this split.
    """

    def __init__(self, packs: list[Path], split: str, short_px: int) -> None:
        """Decodes the images, with a progress bar."""
        self.images: list[np.ndarray] = []
        self.class_ids: list[int] = []
        self.domains: list[str] = []
        for folder in packs:
            packed = PackedImages(folder)
            rows = np.flatnonzero(packed.index["split"].to_numpy() == split)
            for i in tqdm(
                rows, desc=f"decoding {split} of {folder.parent.name}", unit="image", disable=None, leave=False
            ):
                self.images.append(_shrunk(packed.read(int(i)), short_px))
            self.class_ids += packed.index["class_id"].iloc[rows].tolist()
            self.domains += packed.index["domain"].iloc[rows].tolist()
        if not self.images:
            raise ValueError(f"no {split} images in {', '.join(map(str, packs))}")

    def __len__(self) -> int:
        """Number of images."""
        return len(self.images)


def teacher_targets(
    teacher_weights: Path, pool: ImagePool, settings: Distillation, dim: int, out: Path
) -> list[np.ndarray]:
    """The teacher's targets for each crop, computed once and read from disk.

    Returns:
        For each crop float16 [n_images, 1 + places, dim]: the projected feature, then the projected places of the last
        map, row by row.
    """
    paths = [out / f"targets_{crop}.npy" for crop in range(settings.n_crops)]
    if not all(path.is_file() for path in paths):
        model = Model("timm", "mobilenetv2_100", pad_type="same")
        teacher = folded(build_backbone(model, settings.teacher_px, teacher_weights), settings.teacher_px)
        pca = _projection(out / "pca.npz", teacher, pool, settings, dim)
        for crop, path in enumerate(paths):
            if path.is_file():
                continue
            seen = _seen_in_crop(teacher, pca, pool, settings, crop)
            with whole_file(path) as temporary, temporary.open("wb") as handle:
                np.save(handle, seen)
    return [np.load(path, mmap_mode="r") for path in paths]


def _seen_in_crop(teacher: Backbone, pca: PCA, pool: ImagePool, settings: Distillation, crop: int) -> np.ndarray:
    """The targets for one crop of every image, float16 [n_images, 1 + places, dim]; see `teacher_targets`."""
    mean, matrix = (torch.from_numpy(np.asarray(a)).float() for a in (pca.mean_, pca.matrix))
    title = f"teaching crop {crop + 1} of {settings.n_crops}"
    parts = []
    for start in tqdm(range(0, len(pool), 64), desc=title, unit="batch", disable=None, leave=False):
        images = range(start, min(start + 64, len(pool)))
        seen = _last_map(teacher, normalised(_crops(pool, settings, images, crop, settings.teacher_px)))
        # The projection is linear, so the mean of the places is the feature, projected.
        tokens = (seen.flatten(2).transpose(1, 2) - mean) @ matrix.T
        parts.append(torch.cat([tokens.mean(dim=1, keepdim=True), tokens], dim=1).half().numpy())
    return np.concatenate(parts)


def crop_at(pool: ImagePool, settings: Distillation, i: int, crop: int, px: int) -> np.ndarray:
    """Crop number `crop` of image `i`, uint8 [px, px, 3]: a box of any aspect, squashed to a square."""
    rng, image = np.random.default_rng((settings.seed, i, crop, 0)), pool.images[i]
    height, width = (max(1, round(side * rng.uniform(settings.min_crop, 1.0))) for side in image.shape[:2])
    top, left = (int(rng.integers(0, n - m + 1)) for n, m in zip(image.shape[:2], (height, width), strict=True))
    return cv2.resize(image[top : top + height, left : left + width], (px, px), interpolation=cv2.INTER_AREA)


def normalised(squares: Tensor) -> Tensor:
    """Normalised pixels, float32 [n, 3, px, px], channels last, of uint8 [n, px, px, 3]."""
    return ((squares.permute(0, 3, 1, 2).float() / 255.0 - MEAN_STD) / MEAN_STD).contiguous(
        memory_format=torch.channels_last
    )


def _projection(path: Path, teacher: Backbone, pool: ImagePool, settings: Distillation, dim: int) -> PCA:
    """The PCA from the teacher's feature to the student's width, fitted once on crops of a sample of the images."""
    if path.is_file():
        return PCA.load(path)
    sample = np.random.default_rng((settings.seed, 2)).permutation(len(pool))[:6400]
    features = []
    for start in tqdm(range(0, len(sample), 64), desc="fitting the targets", unit="batch", disable=None, leave=False):
        images = sample[start : start + 64].tolist()
        features.append(
            _last_map(
                teacher, normalised(_crops(pool, settings, images, start // 64 % settings.n_crops, settings.teacher_px))
            )
            .mean(dim=(2, 3))
            .numpy()
        )
    pca = fit_pca(np.concatenate(features), dim, settings.whiten)
    pca.save(path)
    return pca


def _last_map(teacher: Backbone, pixels: Tensor) -> Tensor:
    """The teacher's last feature map, float32 [n, width, h, w]. Its mean over the places is the teacher's feature."""
    network: Any = teacher.network
    with torch.inference_mode():
        return network.forward_features(pixels)


def _crops(pool: ImagePool, settings: Distillation, images: Iterable[int], crop: int, px: int) -> Tensor:
    return torch.from_numpy(np.stack([crop_at(pool, settings, i, crop, px) for i in images]))


def _shrunk(image: np.ndarray, short_px: int) -> np.ndarray:
    scale = short_px / min(image.shape[:2])
    if scale >= 1:
        return image
    size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)
