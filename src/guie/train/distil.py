"""Distillation: a small transformer learns the features of a convolutional network, so that the project has a pretrained ViT of its own.

Teacher and student see the same random crop of each image, for many epochs ("consistent and patient": Beyer et al., Knowledge
distillation: a good teacher is patient and consistent, 2022). The target is the teacher's feature after a PCA to the student's own width,
whitened in part and fitted on the same images; the student's feature itself shall point there, so that nothing is thrown away
afterwards and cosines mean what they meant to the teacher. No label is used.

Most of the training leaves out half of the student's tokens (Li et al., Scaling language-image pre-training via masking, 2023): twice the images
a second.
"""

from __future__ import annotations

import copy
import csv
import hashlib
import logging
import math
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import timm
import torch
import torch.nn.functional as F
from timm.layers import PatchDropout
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from tqdm import tqdm

from guie.checkpoint import load_state, save_state, save_weights, whole_file
from guie.data.packing import PackedImages
from guie.embed.pca import PCA, fit_pca
from guie.embed.retrieval import retrieve, summarise
from guie.model.backbone import Backbone, build_backbone, folded
from guie.recipe import Model

CHECKPOINT_S = 60.0
MEAN_STD = 0.5  # pixels from 0..1 to -1..1, for teacher and student alike
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Distillation:
    """All that decides what the student becomes.

    Attributes:
        arch: Name of the student in timm.
        n_steps: Steps of the whole training; the learning rate's schedule follows from it.
        batch_size: Images a step.
        student_px: Side of the student's images.
        teacher_px: Side of the teacher's, of the same crop.
        lr: Largest learning rate of AdamW, after the warm-up.
        weight_decay: Of matrices; biases, norms and embeddings have none.
        warmup_share: Of the steps.
        token_drop: Share of tokens left out.
        whole_share: Of the steps, at the end, that see all tokens.
        whiten: Of the targets; see `PCA`.
        ema_decay: Of the moving average of the weights, which is what is kept.
        min_crop: Shortest side of a crop, as a share of the image's side.
        jitter: Largest relative change of brightness, contrast and saturation.
        seed: Of weights, order, crops and tokens.
    """

    arch: str = "vit_tiny_patch16_224"
    n_steps: int = 16000
    batch_size: int = 64
    student_px: int = 128
    teacher_px: int = 160
    lr: float = 1e-3
    weight_decay: float = 0.05
    warmup_share: float = 0.05
    token_drop: float = 0.6
    whole_share: float = 0.2
    whiten: float = 0.5
    ema_decay: float = 0.999
    min_crop: float = 0.4
    jitter: float = 0.2
    seed: int = 0


class ImagePool:
    """The images of several packs, decoded into memory once.

    Args:
        packs: `03_packed` folders.
        split: "train" or "val".
        short_px: Shorter side that the images are kept at.
    """

    def __init__(self, packs: list[Path], split: str, short_px: int) -> None:
        """Decodes; shows a bar."""
        self.images: list[np.ndarray] = []
        self.class_ids: list[int] = []
        self.domains: list[str] = []
        for folder in packs:
            packed = PackedImages(folder)
            rows = np.flatnonzero(packed.index["split"].to_numpy() == split)
            for i in tqdm(rows, desc=f"decoding {split} of {folder.parent.name}", unit="image", disable=None, leave=False):
                self.images.append(_shrunk(packed.read(int(i)), short_px))
            self.class_ids += packed.index["class_id"].iloc[rows].tolist()
            self.domains += packed.index["domain"].iloc[rows].tolist()
        if not self.images:
            raise ValueError(f"no {split} images in {', '.join(map(str, packs))}")

    def __len__(self) -> int:
        """Number of images."""
        return len(self.images)


def distil(packs: list[Path], probe: Path | None, teacher_weights: Path, out: Path, settings: Distillation) -> dict[str, Tensor]:
    """Trains the student, or goes on where a killed run was.

    Args:
        packs: `03_packed` folders whose training images teach.
        probe: A `03_packed` folder whose validation images are searched every 200 steps, or None.
        teacher_weights: Of timm's `mobilenetv2_100`, `pad_type="same"`.
        out: Gets `pca.npz`, `metrics.csv` and `last.pt`.
        settings: See there.

    Returns:
        The student's weights, float32, under timm's names.

    Raises:
        ValueError: `out` holds the work of other settings, or the loss is not finite.
    """
    out.mkdir(parents=True, exist_ok=True)
    teacher = folded(build_backbone(Model("timm", "mobilenetv2_100", pad_type="same"), settings.teacher_px, teacher_weights), settings.teacher_px)
    pool = ImagePool(packs, "train", settings.teacher_px)
    log.info("%d training images, %d steps of %d", len(pool), settings.n_steps, settings.batch_size)
    student = make_student(settings)
    pca = _targets(out / "pca.npz", teacher, pool, settings, student.num_features)
    return _Training(student, teacher, pca, pool, probe, out, settings).run()


def make_student(settings: Distillation) -> VisionTransformer:
    """The student with random weights from the seed; takes any side that its patches divide, with the position embedding of its own."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        student = timm.create_model(settings.arch, num_classes=0, dynamic_img_size=True, patch_drop_rate=0.5)  # the rate is set at each step
    assert isinstance(student, VisionTransformer)
    return student


def lr_at(settings: Distillation, step: int) -> float:
    """Linear warm-up, then a cosine to a hundredth."""
    n_warm = max(1, round(settings.warmup_share * settings.n_steps))
    if step < n_warm:
        return settings.lr * (step + 1) / n_warm
    progress = (step - n_warm) / max(1, settings.n_steps - n_warm)
    return settings.lr * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))


def batch_at(pool: ImagePool, settings: Distillation, step: int) -> Tensor:
    """The crops of a step: uint8 [batch_size, teacher_px, teacher_px, 3]; a pure function of the seed and the step.

    Each epoch is a new order of all images. A crop is a box of any aspect, squashed to a square as images are at test time.
    """
    rng = np.random.default_rng((settings.seed, step, 1))
    px, crops = settings.teacher_px, np.empty((settings.batch_size, settings.teacher_px, settings.teacher_px, 3), np.uint8)
    for slot, i in enumerate(_order(len(pool), settings, step)):
        image = pool.images[i]
        height, width = (max(1, round(side * rng.uniform(settings.min_crop, 1.0))) for side in image.shape[:2])
        top, left = (int(rng.integers(0, n - m + 1)) for n, m in zip(image.shape[:2], (height, width), strict=True))
        crop = cv2.resize(image[top : top + height, left : left + width], (px, px), interpolation=cv2.INTER_LINEAR)
        crops[slot] = crop[:, ::-1] if rng.random() < 0.5 else crop
    return torch.from_numpy(crops)


def jittered(crops: Tensor, settings: Distillation, step: int) -> Tensor:
    """Normalised pixels, float32 [n, 3, px, px], of uint8 [n, px, px, 3], with brightness, contrast and saturation changed a little."""
    n, px, _, _ = crops.shape
    random = torch.rand(3, n, 1, 1, generator=torch.Generator().manual_seed(settings.seed * 1_000_003 + step))
    brightness, contrast, saturation = 1 + settings.jitter * (2 * random - 1)
    pixels = crops.view(n, px * px, 3).float().div_(255.0)
    # All three changes are one linear map of a pixel's colour: saturation mixes it with its grey, contrast moves it from the mean.
    matrix = contrast * brightness * (saturation * torch.eye(3) + (1 - saturation) / 3)
    shift = (1 - contrast) * brightness * pixels.mean(dim=(1, 2), keepdim=True)
    pixels = torch.baddbmm(shift, pixels, matrix).clamp_(0.0, 1.0).sub_(MEAN_STD).div_(MEAN_STD)
    return pixels.view(n, px, px, 3).permute(0, 3, 1, 2)  # channels last in memory


class _Training:
    """The student's training, from the last checkpoint on."""

    def __init__(self, student: nn.Module, teacher: Backbone, pca: PCA, pool: ImagePool, probe: Path | None, out: Path, settings: Distillation) -> None:
        self.student, self.teacher, self.pool, self.out, self.settings = student, teacher, pool, out, settings
        self.mean, self.matrix = (torch.from_numpy(np.asarray(a)).float() for a in (pca.mean_, pca.matrix))
        self.ema = copy.deepcopy(student).requires_grad_(False)
        decayed = [p for p in student.parameters() if p.ndim > 1 and p.shape[0] != 1]  # matrices; the tokens and position embedding are [1, ...]
        others = [p for p in student.parameters() if not (p.ndim > 1 and p.shape[0] != 1)]
        self.optimizer = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}], lr=settings.lr
        )
        self.probe_pool = ImagePool([probe], "val", settings.student_px) if probe else None
        self.step, self.seconds, self.losses = 0, 0.0, [0.0, 0.0]
        self._resume()

    def run(self) -> dict[str, Tensor]:
        n_steps, saved, began = self.settings.n_steps, time.time(), time.time()
        with tqdm(total=n_steps, initial=self.step, unit="step", desc="distilling", disable=None) as bar:
            for crops in self._batches():
                loss = self._train_step(crops)
                self.step += 1
                self.losses = [self.losses[0] + loss, self.losses[1] + 1]
                bar.update()
                bar.set_postfix_str(f"loss {self.losses[0] / self.losses[1]:.3f}", refresh=False)
                if self.step % 200 == 0 or self.step == n_steps:
                    self.seconds += time.time() - began
                    began = time.time()
                    self._log()
                if time.time() - saved > CHECKPOINT_S:
                    self.save(self.seconds + time.time() - began)
                    saved = time.time()
        self.save(self.seconds + time.time() - began)
        return {name: tensor.clone() for name, tensor in self.ema.state_dict().items()}

    def save(self, seconds: float) -> None:
        state = {"settings": asdict(self.settings), "n_images": len(self.pool), "step": self.step, "seconds": seconds, "losses": self.losses}
        weights = {"student": self.student.state_dict(), "ema": self.ema.state_dict(), "optimizer": self.optimizer.state_dict()}
        save_state(self.out / "last.pt", state | weights)

    def _resume(self) -> None:
        path = self.out / "last.pt"
        if not path.is_file():
            return
        state = load_state(path)
        if state["settings"] != asdict(self.settings) or state["n_images"] != len(self.pool):
            raise ValueError(f"{path} was made with other settings or images; choose another --out, or delete it to start anew")
        self.student.load_state_dict(state["student"])
        self.ema.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds, self.losses = state["step"], state["seconds"], list(state["losses"])
        log.info("goes on at step %d of %d", self.step, self.settings.n_steps)

    def _batches(self) -> Iterator[Tensor]:
        """The crops of the steps to come, the next one cut while this one is learned."""
        with ThreadPoolExecutor(1) as thread:
            waiting = thread.submit(batch_at, self.pool, self.settings, self.step)
            for step in range(self.step, self.settings.n_steps):
                crops = waiting.result()
                if step + 1 < self.settings.n_steps:
                    waiting = thread.submit(batch_at, self.pool, self.settings, step + 1)
                yield crops

    def _train_step(self, crops: Tensor) -> float:
        settings = self.settings
        pixels = jittered(crops, settings, self.step)
        with torch.inference_mode():
            target = F.normalize((self.teacher(pixels) - self.mean) @ self.matrix.T, dim=1)
            small = F.interpolate(pixels, (settings.student_px, settings.student_px), mode="bilinear", antialias=True)
        self.student.train()
        is_whole = self.step >= (1 - settings.whole_share) * settings.n_steps
        assert isinstance(self.student.patch_drop, PatchDropout)
        self.student.patch_drop.prob = 0.0 if is_whole else settings.token_drop
        torch.manual_seed(settings.seed * 1_000_003 + self.step)  # of the tokens that are dropped
        loss = 1 - F.cosine_similarity(self.student(small.clone()), target.clone(), dim=1).mean()
        value = float(loss.detach())
        if not math.isfinite(value):
            raise ValueError(f"the loss is {value} at step {self.step}; lower the learning rate")
        for group in self.optimizer.param_groups:
            group["lr"] = lr_at(settings, self.step)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.student.parameters(), 1.0)
        self.optimizer.step()
        decay = min(settings.ema_decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.ema.parameters()), list(self.student.parameters()), 1 - decay)
        return value

    def _log(self) -> None:
        """Appends a row to metrics.csv: step, mean loss since the last row, learning rate, seconds so far, the probe's scores."""
        row: dict[str, Any] = {"step": self.step, "loss": round(self.losses[0] / max(1, self.losses[1]), 5), "lr": lr_at(self.settings, self.step - 1)}
        row["seconds"] = round(self.seconds, 1)
        if self.probe_pool is not None:
            scores = summarise(
                retrieve(embed_pool(self.ema, self.probe_pool, self.settings.student_px), np.array(self.probe_pool.class_ids)),
                np.array(self.probe_pool.domains),
            )
            row["probe_mp5"] = round(scores["mp5"], 4)
        log.info("step %d: %s", self.step, "  ".join(f"{name} {value:.4g}" for name, value in row.items() if name != "step"))
        self.losses = [0.0, 0.0]
        path = self.out / "metrics.csv"
        rows = [r for r in csv.DictReader(path.read_text().splitlines()) if int(r["step"]) < self.step] if path.is_file() else []
        with whole_file(path) as temporary, temporary.open("w", newline="") as handle:
            writer = csv.DictWriter(handle, list(row))
            writer.writeheader()
            writer.writerows([*rows, row])


def save_student(path: Path, weights: dict[str, Tensor]) -> None:
    """Writes the weights in half precision and puts the file's line into `SHA256SUMS` beside it, as sha256sum writes it."""
    save_weights(path, {name: tensor.half() for name, tensor in weights.items()})
    sums = path.with_name("SHA256SUMS")
    lines = [line for line in sums.read_text().splitlines() if line.split()[-1] != path.name] if sums.is_file() else []
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    with whole_file(sums) as temporary:
        temporary.write_text("".join(f"{line}\n" for line in sorted([*lines, f"{digest}  {path.name}"])))


def embed_pool(network: nn.Module, pool: ImagePool, px: int) -> np.ndarray:
    """L2-normalised features, float32 [n_images, dim], of the whole images squashed to px."""
    network.eval()
    parts = []
    with torch.inference_mode():
        for start in range(0, len(pool), 128):
            squares = np.stack([cv2.resize(image, (px, px), interpolation=cv2.INTER_AREA) for image in pool.images[start : start + 128]])
            pixels = (torch.from_numpy(squares).permute(0, 3, 1, 2).float() / 255.0 - MEAN_STD) / MEAN_STD
            parts.append(F.normalize(network(pixels.contiguous(memory_format=torch.channels_last)), dim=1))
    return torch.cat(parts).numpy()


def _targets(path: Path, teacher: Backbone, pool: ImagePool, settings: Distillation, dim: int) -> PCA:
    """The projection from the teacher's features to the student's, fitted once on whole images and crops."""
    if path.is_file():
        return PCA.load(path)
    n_batches = max(2, min(100, 2 * len(pool) // settings.batch_size))
    features = []
    with torch.inference_mode():
        for step in tqdm(range(n_batches), desc="fitting the targets", unit="batch", disable=None, leave=False):
            features.append(teacher(jittered(batch_at(pool, settings, settings.n_steps + step), settings, settings.n_steps + step)).numpy())
    pca = fit_pca(np.concatenate(features), dim, settings.whiten)
    pca.save(path)
    return pca


def _order(n: int, settings: Distillation, step: int) -> Iterator[int]:
    """Which images a step sees: a slice of an endless sequence of shuffled epochs."""
    first = step * settings.batch_size
    orders: dict[int, np.ndarray] = {}
    for place in range(first, first + settings.batch_size):
        epoch = place // n
        if epoch not in orders:
            orders[epoch] = np.random.default_rng((settings.seed, epoch + 2**31, 0)).permutation(n)
        yield int(orders[epoch][place % n])


def _shrunk(image: np.ndarray, short_px: int) -> np.ndarray:
    scale = short_px / min(image.shape[:2])
    if scale >= 1:
        return image
    size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)
