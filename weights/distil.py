"""Distillation: a small transformer learns the features of a convolutional network, without labels.

So the project has a pretrained ViT of its own.

Teacher and student see the same crops of each image, for many epochs ("consistent and patient": Beyer et al., Knowledge
distillation: a good teacher is patient and consistent, 2022). Each image has only a few crops, so that the teacher runs
once (`teacher.py`). The target is the teacher's feature, reduced to the student's width by PCA with partial whitening,
which is fitted on the same images. The student's own feature learns the target's direction. There is no layer in
between, so nothing is discarded afterwards, and cosines mean the same as for the teacher.

In most steps more than half of the student's tokens are left out (Li et al., Scaling language-image pre-training via
masking, 2023), which doubles the images per second. Each remaining token also learns the direction of the teacher's map
at its place, through a linear layer that is discarded afterwards.
"""

from __future__ import annotations

import copy
import csv
import hashlib
import json
import logging
import math
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import timm
import torch
import torch.nn.functional as F
from teacher import MEAN_STD, Distillation, ImagePool, crop_at, normalised, teacher_targets
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from tqdm import tqdm

from guie.embed.retrieval import retrieve, summarise
from guie.files import load_state, save_json, save_state, save_weights, whole_file

CHECKPOINT_S = 60.0
log = logging.getLogger(__name__)


def distil(
    packs: list[Path], probe: Path | None, teacher_weights: Path, out: Path, settings: Distillation
) -> dict[str, Tensor]:
    """Trains the student, or continues a killed run.

    Args:
        packs: `03_packed` folders; their training images are used.
        probe: A `03_packed` folder whose validation images are searched every 200 steps, or None.
        teacher_weights: File of weights for timm's `mobilenetv2_100` with `pad_type="same"`.
        out: Folder for `settings.json`, `pca.npz`, `targets_<crop>.npy`, `metrics.csv` and `last.pt`.
        settings: See `Distillation`.

    Returns:
        The student's weights, float32, under timm's names.

    Raises:
        ValueError: `out` holds the work of other settings, or the loss is not finite.
    """
    out.mkdir(parents=True, exist_ok=True)
    pool = ImagePool(packs, "train", settings.teacher_px)
    work = asdict(settings) | {"n_images": len(pool)}
    if (out / "settings.json").is_file() and json.loads((out / "settings.json").read_text()) != work:
        raise ValueError(
            f"{out} was made with other settings or images; choose another --out, or delete it to start anew"
        )
    save_json(out / "settings.json", work)
    log.info("%d training images, %d steps of %d", len(pool), settings.n_steps, settings.batch_size)
    student = make_student(settings)
    targets = teacher_targets(teacher_weights, pool, settings, student.num_features, out)
    return _Training(student, targets, pool, probe, out, settings).run()


def make_student(settings: Distillation) -> VisionTransformer:
    """The student with random weights from the seed. It takes any side that its patches divide; timm resamples its
    position embedding."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        student = timm.create_model(settings.arch, num_classes=0, dynamic_img_size=True)
    assert isinstance(student, VisionTransformer)
    return student


def student_tokens(student: VisionTransformer, pixels: Tensor, kept: Tensor) -> Tensor:
    """The output tokens of a student that sees only some patches.

    Args:
        student: The student.
        pixels: Normalised pixels, float32 [n, 3, px, px].
        kept: Numbers of the patches that it sees, int64 [n, k].

    Returns:
        float32 [n, 1 + k, dim], class token first.
    """
    tokens = student._pos_embed(student.patch_embed(pixels))
    patches = tokens[:, 1:].gather(1, kept[:, :, None].expand(-1, -1, tokens.shape[2]))
    return student.norm(student.blocks(student.norm_pre(torch.cat([tokens[:, :1], patches], dim=1))))


def lr_at(settings: Distillation, step: int) -> float:
    """The learning rate of a step: a linear warm-up, then a cosine to a hundredth of the largest."""
    n_warm = max(1, round(settings.warmup_share * settings.n_steps))
    if step < n_warm:
        return settings.lr * (step + 1) / n_warm
    progress = (step - n_warm) / max(1, settings.n_steps - n_warm)
    return settings.lr * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))


def batch_at(pool: ImagePool, targets: list[np.ndarray], settings: Distillation, step: int) -> tuple[Tensor, Tensor]:
    """The crops of a step and the teacher's targets for them; a pure function of the seed and the step.

    Each epoch takes all images in a new order and the next crop of each. Half of the crops are mirrored.

    Returns:
        uint8 [batch_size, student_px, student_px, 3] and float32 [batch_size, 1 + places, dim].
    """
    rng = np.random.default_rng((settings.seed, step, 1))
    crops = np.empty((settings.batch_size, settings.student_px, settings.student_px, 3), np.uint8)
    seen = np.empty((settings.batch_size, *targets[0].shape[1:]), np.float32)
    side = math.isqrt(seen.shape[1] - 1)
    for slot, (epoch, i) in enumerate(_order(len(pool), settings, step)):
        crop = epoch % settings.n_crops
        crops[slot], seen[slot] = crop_at(pool, settings, i, crop, settings.student_px), targets[crop][i]
        if rng.random() < 0.5:
            crops[slot] = crops[slot, :, ::-1]
            seen[slot, 1:] = seen[slot, 1:].reshape(side, side, -1)[:, ::-1].reshape(side * side, -1)
    return torch.from_numpy(crops), torch.from_numpy(seen)


def jittered(crops: Tensor, settings: Distillation, step: int) -> Tensor:
    """Changes brightness, contrast and saturation of crops, uint8 [n, px, px, 3], by up to `settings.jitter`.

    Returns:
        Normalised pixels, float32 [n, 3, px, px], channels last in memory.
    """
    n, px, _, _ = crops.shape
    random = torch.rand(3, n, 1, 1, generator=torch.Generator().manual_seed(settings.seed * 1_000_003 + step))
    brightness, contrast, saturation = 1 + settings.jitter * (2 * random - 1)
    pixels = crops.view(n, px * px, 3).float().div_(255.0)
    # Together the changes are one affine map of a pixel's colour. Saturation mixes the colour with its grey, contrast
    # scales its distance from the image's mean.
    matrix = contrast * brightness * (saturation * torch.eye(3) + (1 - saturation) / 3)
    shift = (1 - contrast) * brightness * pixels.mean(dim=(1, 2), keepdim=True)
    pixels = torch.baddbmm(shift, pixels, matrix).clamp_(0.0, 1.0).sub_(MEAN_STD).div_(MEAN_STD)
    return pixels.view(n, px, px, 3).permute(0, 3, 1, 2)  # channels last in memory


class _Training:
    """The student's training; it continues from the last checkpoint."""

    def __init__(
        self,
        student: VisionTransformer,
        targets: list[np.ndarray],
        pool: ImagePool,
        probe: Path | None,
        out: Path,
        settings: Distillation,
    ) -> None:
        self.student, self.targets, self.pool, self.out, self.settings = student, targets, pool, out, settings
        self.ema = copy.deepcopy(student).requires_grad_(False)
        self.places = nn.Linear(student.embed_dim, student.embed_dim, bias=False)
        nn.init.eye_(self.places.weight)
        # Only matrices are decayed; the class token and the position embedding are [1, ...].
        decayed = [self.places.weight, *(p for p in student.parameters() if p.ndim > 1 and p.shape[0] != 1)]
        others = [p for p in student.parameters() if not (p.ndim > 1 and p.shape[0] != 1)]
        self.optimizer = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}],
            lr=settings.lr,
        )
        self.probe_pool = ImagePool([probe], "val", settings.student_px) if probe else None
        side = settings.student_px // student.patch_embed.patch_size[0]
        self.grid = (side, side)
        self.step, self.seconds, self.losses = 0, 0.0, [0.0, 0.0]
        self._resume()

    def run(self) -> dict[str, Tensor]:
        n_steps, saved, began = self.settings.n_steps, time.time(), time.time()
        with tqdm(total=n_steps, initial=self.step, unit="step", desc="distilling", disable=None) as bar:
            for crops, seen in self._batches():
                loss = self._train_step(crops, seen)
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
        state = {"step": self.step, "seconds": seconds, "losses": self.losses}
        weights = {
            "student": self.student.state_dict(),
            "ema": self.ema.state_dict(),
            "places": self.places.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        save_state(self.out / "last.pt", state | weights)

    def _resume(self) -> None:
        path = self.out / "last.pt"
        if not path.is_file():
            return
        state = load_state(path)
        self.student.load_state_dict(state["student"])
        self.ema.load_state_dict(state["ema"])
        self.places.load_state_dict(state["places"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds, self.losses = state["step"], state["seconds"], list(state["losses"])
        log.info("goes on at step %d of %d", self.step, self.settings.n_steps)

    def _batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of the remaining steps. A thread prepares the next one while the student learns from this one."""
        with ThreadPoolExecutor(1) as thread:
            waiting = thread.submit(batch_at, self.pool, self.targets, self.settings, self.step)
            for step in range(self.step, self.settings.n_steps):
                batch = waiting.result()
                if step + 1 < self.settings.n_steps:
                    waiting = thread.submit(batch_at, self.pool, self.targets, self.settings, step + 1)
                yield batch

    def _train_step(self, crops: Tensor, seen: Tensor) -> float:
        """Learns from one batch of `batch_at`.

        Returns:
            The loss of the features only: 1 - the mean cosine of student and teacher.

        Raises:
            ValueError: the loss is not finite.
        """
        settings = self.settings
        self.student.train()
        is_whole = self.step >= (1 - settings.whole_share) * settings.n_steps
        kept = self._kept(len(crops), 0.0 if is_whole else settings.token_drop)
        tokens = student_tokens(self.student, jittered(crops, settings, self.step), kept)
        loss = 1 - F.cosine_similarity(tokens[:, 0], seen[:, 0], dim=1).mean()
        value = float(loss.detach())
        if settings.dense:
            loss = loss + settings.dense * self._loss_of_places(tokens[:, 1:], seen[:, 1:], kept)
        if not math.isfinite(float(loss.detach())):
            raise ValueError(f"the loss is {value} at step {self.step}; lower the learning rate")
        self._update(loss)
        return value

    def _loss_of_places(self, tokens: Tensor, seen: Tensor, kept: Tensor) -> Tensor:
        """1 - the mean cosine between the student's patch tokens and the teacher's map at their places.

        Args:
            tokens: Tokens of the patches that were kept, float32 [n, k, dim].
            seen: The teacher's square map, row by row, float32 [n, places, dim].
            kept: The patches' numbers, int64 [n, k].
        """
        side = math.isqrt(seen.shape[1])
        maps = seen.transpose(1, 2).unflatten(2, (side, side))
        places = F.interpolate(maps, self.grid, mode="bilinear").flatten(2).transpose(1, 2)
        there = places.gather(1, kept[:, :, None].expand(-1, -1, places.shape[2]))
        return 1 - F.cosine_similarity(self.places(tokens), there, dim=2).mean()

    def _update(self, loss: Tensor) -> None:
        """Takes an optimizer step, then updates the moving average of the weights."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr_at(self.settings, self.step)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_([*self.student.parameters(), self.places.weight], 1.0)
        self.optimizer.step()
        decay = min(self.settings.ema_decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.ema.parameters()), list(self.student.parameters()), 1 - decay)

    def _kept(self, n: int, drop: float) -> Tensor:
        """The numbers of the patches that each image keeps at this step, int64 [n, k], ascending.

        Args:
            n: Images.
            drop: Share of patches that are left out.
        """
        random = torch.rand(
            n,
            self.grid[0] * self.grid[1],
            generator=torch.Generator().manual_seed(self.settings.seed * 1_000_003 + self.step),
        )
        n_kept = max(1, round((1 - drop) * random.shape[1]))
        return random.argsort(dim=1)[:, :n_kept].sort(dim=1).values

    def _log(self) -> None:
        """Appends a row to metrics.csv: step, mean loss since the last row, learning rate, seconds so far, and the
        probe's mP@5."""
        row: dict[str, Any] = {
            "step": self.step,
            "loss": round(self.losses[0] / max(1, self.losses[1]), 5),
            "lr": lr_at(self.settings, self.step - 1),
        }
        row["seconds"] = round(self.seconds, 1)
        if self.probe_pool is not None:
            scores = summarise(
                retrieve(
                    embed_pool(self.ema, self.probe_pool, self.settings.student_px), np.array(self.probe_pool.class_ids)
                ),
                np.array(self.probe_pool.domains),
            )
            row["probe_mp5"] = round(scores["mp5"], 4)
        log.info(
            "step %d: %s", self.step, "  ".join(f"{name} {value:.4g}" for name, value in row.items() if name != "step")
        )
        self.losses = [0.0, 0.0]
        path = self.out / "metrics.csv"
        rows = (
            [r for r in csv.DictReader(path.read_text().splitlines()) if int(r["step"]) < self.step]
            if path.is_file()
            else []
        )
        with whole_file(path) as temporary, temporary.open("w", newline="") as handle:
            writer = csv.DictWriter(handle, list(row))
            writer.writeheader()
            writer.writerows([*rows, row])


def save_student(path: Path, weights: dict[str, Tensor]) -> None:
    """Writes the weights in half precision, and the file's line into `SHA256SUMS` beside it, in sha256sum's format."""
    save_weights(path, {name: tensor.half() for name, tensor in weights.items()})
    sums = path.with_name("SHA256SUMS")
    lines = [line for line in sums.read_text().splitlines() if line.split()[-1] != path.name] if sums.is_file() else []
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    with whole_file(sums) as temporary:
        temporary.write_text("".join(f"{line}\n" for line in sorted([*lines, f"{digest}  {path.name}"])))


def embed_pool(network: nn.Module, pool: ImagePool, px: int) -> np.ndarray:
    """L2-normalised features, float32 [n_images, dim], of the whole images, squashed to squares of px."""
    network.eval()
    parts = []
    with torch.inference_mode():
        for start in range(0, len(pool), 128):
            squares = np.stack(
                [
                    cv2.resize(image, (px, px), interpolation=cv2.INTER_AREA)
                    for image in pool.images[start : start + 128]
                ]
            )
            parts.append(F.normalize(network(normalised(torch.from_numpy(squares))), dim=1))
    return torch.cat(parts).numpy()


def _order(n: int, settings: Distillation, step: int) -> Iterator[tuple[int, int]]:
    """The images of a step, as (epoch, image): a slice of an endless sequence of shuffled epochs."""
    first = step * settings.batch_size
    orders: dict[int, np.ndarray] = {}
    for place in range(first, first + settings.batch_size):
        epoch = place // n
        if epoch not in orders:
            orders[epoch] = np.random.default_rng((settings.seed, epoch + 2**31, 0)).permutation(n)
        yield epoch, int(orders[epoch][place % n])
