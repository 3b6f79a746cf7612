"""One stage of training, written out step by step in plain torch: what a checkpoint, a rerun and a resumed run rest on.

Nothing of `guie.train`, or of the neck and the objective in `guie.model`, is imported. From guie come only the
augmented pixels of one image and one seed; they have tests of their own. The rules that no docstring of guie states:

* A seed is made of words: the first four bytes of the SHA-256 of the words joined by "/", little-endian, halved
(`seed_of`).
* Fresh neck and objective: torch is seeded with (recipe's seed, stage). First come the neck's layers, branch by
  branch, of two layers the second first; then the centres, normal numbers times `CENTRE_STD`.
* Order of an epoch: numpy's generator of (seed, stage, epoch, "order"), or of (..., "class batches"); see `order_of`.
* Image number n of an epoch is augmented with the seed (seed, stage, epoch, n), where n counts from the epoch's first
step.
* Cached views: plain, flip if the augmentation flips, then the augmented ones. View i is called "view<i>-<seed>", with
the seed
  of (seed, i, the augmentation as a dict, the augmentation's version). Row r of the pack is changed with the seed (that
  name, r).
  The views of an epoch's samples are one draw of `integers(number of views)` by the generator of (seed, stage, epoch,
  "views").
* A step seeds torch with (seed, stage, step of the whole stage, process). The second pass of SAM seeds it again: same
dropout.
* Part i of a batch leaves out patches after torch is seeded with (that seed, "noise", process, i), in both passes: the
  kept ones are the first max(1, int(n * (1 - share))) in the order of n normal numbers.
* Dropout of a neck that does not train is active. Batch norm of such a neck, and of every backbone, is in eval mode.
"""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from guie.data.augment import VERSION, TrainTransform
from guie.recipe import Augment

CENTRE_STD = 0.01
BATCH_NORM = (0.1, 1e-5)  # momentum and eps
ADAM = (0.9, 0.999, 1e-8)
OBJECTIVE = "objective"  # the part that holds the centres, as the tensors of `final.safetensors` call it
TRAINED = {"objective": {OBJECTIVE}, "neck": {"neck"}, "head": {"neck", OBJECTIVE}, "backbone": {"backbone"}}
Weights = dict[str, Tensor]


@dataclass(frozen=True)
class Plan:
    """What one stage does, in this test's own words; `test_replay.recipe_of` makes guie's recipe of it."""

    name: str
    trains: str
    n_epochs: int
    lr: float
    batch_size: int = 8
    image_px: int = 32
    starts_from: str = "pretrained"
    fresh: tuple[str, ...] = ("neck", OBJECTIVE)
    sources: tuple[str, ...] = ()
    objective: str = "arcface"
    n_sub: int = 1
    starts_from_means: bool = False
    dropouts: tuple[float, ...] = (0.0,)
    is_branched: bool = False
    has_norm: bool = False
    has_size: bool = False
    hidden_dim: int = 0
    has_bias: bool = True
    margin: tuple[float, float, float] = (0.1, 0.1, 0.3)  # start, step, max; radians, of cosface cosines
    class_margin: tuple[float, float, float] = (0.0, 0.0, -0.25)  # low, high, power
    scale: float = 16.0
    smoothing: float = 0.0
    optimizer: str = "sgd"
    momentum: float = 0.0
    weight_decay: float = 0.0
    sam_rho: float = 0.0
    schedule: str = "constant"
    warmup_share: float = 0.0
    drops: tuple[int, ...] = ()
    backbone_lr_factor: float = 1.0
    open_blocks: int = 0
    layer_decay: float = 1.0
    block_edges: tuple[int, ...] = ()
    block_factors: tuple[float, ...] = ()
    n_parts: int = 1
    has_grad_checkpoints: bool = False  # changes memory, not the result
    patch_drop: float = 0.0
    clip_norm: float = 0.0
    ema_decay: float = 0.0
    sample_power: float = 0.0
    images_per_class: int = 0
    n_cached_views: int = 0
    augment: Augment = field(default_factory=lambda: Augment(flip=0.0))
    validate_every: int = 0
    keeps_best: bool = False

    @property
    def is_frozen(self) -> bool:
        """Whether the backbone is, so that its features are cached."""
        return self.trains in ("objective", "neck", "head")


@dataclass(frozen=True)
class Outcome:
    """The end of a stage.

    Attributes:
        weights: By their names in `final.safetensors`.
        losses: The mean of each epoch.
        scores: mP@5 of each epoch that was validated.
        kept: The epoch whose weights these are.
    """

    weights: Weights
    losses: list[float]
    scores: dict[int, float]
    kept: int


def seed_of(*words: object) -> int:
    first = hashlib.sha256("/".join(str(word) for word in words).encode()).digest()[:4]
    return int.from_bytes(first, "little") // 2


class Pack:
    """The packed images of a run, found by `03_packed/index.parquet` alone."""

    def __init__(self, folder: Path, weights: dict[str, float]) -> None:
        """`weights` says how many times as often a source's images are drawn."""
        self.folder, self.index, self.weights = folder, pd.read_parquet(folder / "index.parquet"), weights

    def image(self, row: int) -> np.ndarray:
        place = self.index.iloc[row]
        with (self.folder / place["shard"]).open("rb") as file:
            file.seek(place["offset"])
            return np.array(Image.open(io.BytesIO(file.read(place["size"]))))

    def rows(self, split: str, sources: tuple[str, ...] = ()) -> list[int]:
        rows = self.index.itertuples()
        return [row.Index for row in rows if row.split == split and (not sources or row.source in sources)]

    def column(self, name: str, rows: list[int]) -> list:
        return self.index[name].iloc[rows].tolist()


class Samples:
    """The training images of a stage: rows of the pack, labels from 0, repeats in the balanced list, weights of their
    sources."""

    def __init__(self, plan: Plan, seed: int, pack: Pack) -> None:
        self.plan, self.seed, self.rows = plan, seed, pack.rows("train", plan.sources)
        class_ids = pack.column("class_id", self.rows)
        self.labels = [sorted(set(class_ids)).index(class_id) for class_id in class_ids]
        self.repeats = pack.column("repeats", self.rows)
        self.weights = [pack.weights.get(source, 1.0) for source in pack.column("source", self.rows)]
        self.n_classes = len(set(class_ids))
        self.counts = [
            sum(n for n, label in zip(self.repeats, self.labels, strict=True) if label == c)
            for c in range(self.n_classes)
        ]
        self.n_steps = max(1, sum(self.repeats) // plan.batch_size)

    def chances(self) -> list[float]:
        """Of each image: weight of its source, times its repeats, times (rows of its class) ** power, over the sum."""
        power = self.plan.sample_power
        raw = [
            w * n * float(self.counts[c]) ** power
            for w, n, c in zip(self.weights, self.repeats, self.labels, strict=True)
        ]
        return [value / sum(raw) for value in raw]

    def order_of(self, epoch: int) -> np.ndarray:
        """Numbers of images, [n_steps, batch_size].

        All rows alike: the rows of the balanced list, shuffled, as often as needed. Weighted: one draw with
            replacement.
        """
        plan, n = self.plan, self.n_steps * self.plan.batch_size
        words = (self.seed, plan.name, epoch)
        if plan.images_per_class:
            return self._by_class(np.random.default_rng(seed_of(*words, "class batches")))
        rng = np.random.default_rng(seed_of(*words, "order"))
        if plan.sample_power == 0 and len(set(self.weights)) == 1:
            listed = np.array([image for image, times in enumerate(self.repeats) for _ in range(times)])
            order: list[int] = []
            while len(order) < n:
                order += rng.permutation(listed).tolist()
            return np.array(order[:n]).reshape(-1, plan.batch_size)
        return rng.choice(len(self.labels), n, p=self.chances()).reshape(-1, plan.batch_size)

    def _by_class(self, rng: np.random.Generator) -> np.ndarray:
        """Different classes by their chance, then their images.

        As many numbers are drawn at once as a batch has classes, and again until enough classes are different.
        """
        plan, n_classes = self.plan, self.plan.batch_size // self.plan.images_per_class
        raw = np.array(self.chances())
        ends = np.cumsum([raw[[c == label for c in self.labels]].sum() for label in range(self.n_classes)])
        batches = []
        for _ in range(self.n_steps):
            drawn: list[int] = []
            while len(drawn) < n_classes:
                for share in rng.random(n_classes):
                    label = next(c for c in range(self.n_classes) if share * ends[-1] < ends[c])
                    drawn += [label] if label not in drawn else []
            batch: list[int] = []
            for label in drawn[:n_classes]:
                own = [image for image, c in enumerate(self.labels) if c == label]
                whole, rest = divmod(plan.images_per_class, len(own))
                batch += own * whole + rng.permutation(own)[:rest].tolist()
            batches.append(batch)
        return np.array(batches)


def learning_rate(plan: Plan, step: int, n_steps: int) -> float:
    """Of step 0 to n_steps - 1 of the whole stage."""
    n_warm = max(1, round(plan.warmup_share * n_steps)) if plan.warmup_share else 0
    if step < n_warm:
        line = (step + 1) / n_warm
        climb = (1 - math.cos(math.pi * line)) / 2
        return plan.lr * (0.04 + 0.96 * climb) if plan.schedule == "one_cycle" else plan.lr * line
    if plan.schedule == "constant":
        return plan.lr
    if plan.schedule == "step":
        epoch = step // (n_steps // plan.n_epochs)
        return plan.lr / 10 ** len([drop for drop in plan.drops if drop <= epoch])
    fall = (step + 1 - n_warm) / (n_steps - n_warm)
    return plan.lr * (0.5 + 0.5 * math.cos(math.pi * fall))


def margins_of(plan: Plan, samples: Samples, epoch: int) -> Tensor:
    """The margin of each class, float64 [n_classes]."""
    low, high, power = plan.class_margin
    if not high:
        start, step, most = plan.margin
        return torch.full((samples.n_classes,), min(start + epoch * step, most), dtype=torch.float64)
    powers = [n**power for n in samples.counts]
    return torch.tensor(
        [low + (high - low) * (p - min(powers)) / (max(powers) - min(powers)) for p in powers], dtype=torch.float64
    )


def margin_loss(plan: Plan, embeddings: Tensor, centres: Tensor, labels: Tensor, margins: Tensor) -> Tensor:
    """The mean cross entropy, all logits at once, in float64."""
    cosines = F.normalize(embeddings.double()) @ F.normalize(centres.double()).T
    cosines = cosines.view(len(labels), -1, plan.n_sub).amax(dim=2)
    own, margin = cosines.gather(1, labels[:, None])[:, 0], margins[labels]
    if plan.objective == "arcface":
        angle = own.clamp(-1 + 1e-6, 1 - 1e-6).acos()
        shifted = torch.where(angle + margin < math.pi, (angle + margin).cos(), own - margin * margin.sin())
    else:
        shifted = own - margin if plan.objective == "cosface" else own
    logits = plan.scale * cosines.scatter(1, labels[:, None], shifted[:, None])
    return F.cross_entropy(logits, labels, label_smoothing=plan.smoothing)


def fresh_head(plan: Plan, seed: int, feature_dim: int, embedding_dim: int, n_classes: int) -> Weights:
    """Neck and centres as they begin, under their names in `final.safetensors`."""
    width, head = feature_dim + 3 * plan.has_size, Weights()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(seed, plan.name))
        for i in range(len(plan.dropouts) if plan.is_branched else 1):
            at = f"neck.branches.{i}" if plan.is_branched else "neck.linear"
            last = nn.Linear(plan.hidden_dim or width, embedding_dim, bias=plan.has_bias)
            layers = {f"{at}.2": last, f"{at}.0": nn.Linear(width, plan.hidden_dim)} if plan.hidden_dim else {at: last}
            head |= {
                f"{where}.{name}": tensor.detach()
                for where, layer in layers.items()
                for name, tensor in layer.named_parameters()
            }
        head[f"{OBJECTIVE}.centers"] = torch.randn(n_classes * plan.n_sub, embedding_dim) * CENTRE_STD
    if plan.has_norm:
        head |= {"neck.norm.running_mean": torch.zeros(width), "neck.norm.running_var": torch.ones(width)}
        head["neck.norm.num_batches_tracked"] = torch.tensor(0)
    return head


def neck_output(plan: Plan, head: Weights, features: Tensor, is_training: bool) -> Tensor:
    """Embeddings; `is_training` turns dropout on, and with a neck that trains batch norm on the batch."""
    if plan.has_norm:
        is_batch = is_training and "neck" in parts_of(plan)
        head["neck.norm.num_batches_tracked"] += is_batch
        mean, variance = head["neck.norm.running_mean"], head["neck.norm.running_var"]
        features = F.batch_norm(features, mean, variance, None, None, is_batch, *BATCH_NORM)
    outputs = []
    for i, rate in enumerate(plan.dropouts):
        at = f"neck.branches.{i}" if plan.is_branched else "neck.linear"
        inputs = F.dropout(features, rate, is_training)
        if plan.hidden_dim:
            inputs, at = F.gelu(F.linear(inputs, head[f"{at}.0.weight"], head[f"{at}.0.bias"])), f"{at}.2"
        outputs.append(F.linear(inputs, head[f"{at}.weight"], head.get(f"{at}.bias")))
    return torch.stack(outputs).mean(0)


def parts_of(plan: Plan) -> set[str]:
    return TRAINED.get(plan.trains, {"backbone", "neck", OBJECTIVE})


class Replay:
    """The epochs of one stage."""

    def __init__(
        self,
        plan: Plan,
        seed: int,
        pack: Pack,
        network: nn.Module,
        head: Weights,
        pixels: tuple[tuple[float, ...], tuple[float, ...]],
    ) -> None:
        """Starts from `network`, which is changed, and a neck and centres: `fresh_head`, or a parent's.

        `pixels`: mean and std.
        """
        self.plan, self.seed, self.pack, self.network, self.pixels = plan, seed, pack, network.eval(), pixels
        self.samples, self.head = Samples(plan, seed, pack), {name: tensor.clone() for name, tensor in head.items()}
        self.buffers = dict(network.named_buffers())
        if plan.is_frozen:
            self._cache_views()
            if plan.starts_from_means:
                self._start_from_means()
        self.trained = {
            name: tensor.requires_grad_() for name, tensor in self.all_weights().items() if self.factor_of(name)
        }

    def all_weights(self) -> Weights:
        """Every tensor of the stage, itself, by its name in `final.safetensors`."""
        network = {
            f"backbone.network.{name}": tensor for name, tensor in self.network.state_dict(keep_vars=True).items()
        }
        return network | self.head

    def factor_of(self, name: str) -> float:
        """How many times the stage's learning rate a tensor has; 0 for one that does not train."""
        plan, (part, *_) = self.plan, name.split(".")
        if (
            part not in parts_of(plan)
            or ".norm.running" in name
            or "num_batches" in name
            or name.removeprefix("backbone.network.") in self.buffers
        ):
            return 0.0
        if part != "backbone":
            return 1.0
        factor = plan.backbone_lr_factor if plan.trains == "all" else 1.0
        n_blocks = len(getattr(self.network, "blocks", ()))
        if not n_blocks:
            return factor
        place = name.split(".")[2:]
        block = int(place[1]) if place[0] == "blocks" else n_blocks if place[0] == "norm" else -1
        if plan.open_blocks and block < n_blocks - plan.open_blocks:
            return 0.0
        for edge, share in zip(plan.block_edges, plan.block_factors, strict=True):
            if block < edge:
                return factor * share
        return factor * plan.layer_decay ** (n_blocks - block)

    def run(self) -> Outcome:
        plan, n_steps = self.plan, self.samples.n_steps
        averaged = {name: tensor.detach().clone() for name, tensor in self.trained.items()}
        memory: dict[str, Weights] = {name: {} for name in self.trained}
        outcome = Outcome({}, [], {}, plan.n_epochs - 1)
        for epoch in range(plan.n_epochs):
            margins, losses = margins_of(plan, self.samples, epoch), []
            for step, (inputs, labels) in enumerate(self.batches(epoch)):
                t = epoch * n_steps + step
                lr = learning_rate(plan, t, plan.n_epochs * n_steps)
                losses.append(self.step(t, inputs, labels, margins, lr, memory))
                decay = min(plan.ema_decay, (1 + t) / (10 + t))
                averaged = {name: decay * averaged[name] + (1 - decay) * w.detach() for name, w in self.trained.items()}
            is_last = epoch == plan.n_epochs - 1
            if is_last and plan.ema_decay:
                with torch.no_grad():
                    for name, tensor in self.trained.items():
                        tensor.copy_(averaged[name])
            outcome = self.noted(outcome, epoch, sum(losses) / n_steps, is_last)
        return outcome

    def noted(self, before: Outcome, epoch: int, loss: float, is_last: bool) -> Outcome:
        """The outcome after an epoch: with keeps_best the first of those epochs whose score is highest, else the
        last."""
        plan = self.plan
        is_validated = is_last or (plan.validate_every > 0 and (epoch + 1) % plan.validate_every == 0)
        scores = before.scores | ({epoch: self.validation()} if is_validated else {})
        is_best = is_validated and scores[epoch] > max(before.scores.values(), default=-1.0)
        if plan.keeps_best and not is_best:
            return replace(before, losses=[*before.losses, loss], scores=scores)
        weights = {name: tensor.detach().clone() for name, tensor in self.all_weights().items()}
        return Outcome(weights, [*before.losses, loss], scores, epoch)

    def step(
        self, t: int, inputs: Tensor, labels: Tensor, margins: Tensor, lr: float, memory: dict[str, Weights]
    ) -> float:
        """Changes the weights; returns the loss of the batch before that."""
        plan = self.plan
        loss, gradient = self.gradient(t, inputs, labels, margins)
        if plan.sam_rho:
            length = norm_of(gradient)
            before = {name: tensor.detach().clone() for name, tensor in self.trained.items()}
            with torch.no_grad():
                for name, tensor in self.trained.items():
                    tensor += plan.sam_rho * gradient[name] / length
            _, gradient = self.gradient(t, inputs, labels, margins)
            with torch.no_grad():
                for name, tensor in self.trained.items():
                    tensor.copy_(before[name])
        if plan.clip_norm:
            share = min(1.0, plan.clip_norm / norm_of(gradient))
            gradient = {name: share * g for name, g in gradient.items()}
        with torch.no_grad():
            for name, tensor in self.trained.items():
                decay = plan.weight_decay if tensor.ndim > 1 else 0.0
                update(plan, tensor, gradient[name], lr * self.factor_of(name), decay, memory[name], t + 1)
        return loss

    def gradient(self, t: int, inputs: Tensor, labels: Tensor, margins: Tensor) -> tuple[float, Weights]:
        """The loss, and its gradient by each weight that trains, of the unsplit batch: in how many parts the stage
        computes it changes nothing."""
        features = inputs if self.plan.is_frozen else self.network(inputs)
        if self.plan.patch_drop:
            features = self.of_kept_patches(seed_of(self.seed, self.plan.name, t, 0), inputs)
        torch.manual_seed(seed_of(self.seed, self.plan.name, t, 0))
        embeddings = neck_output(self.plan, self.head, features, is_training=True)
        loss = margin_loss(self.plan, embeddings, self.head[f"{OBJECTIVE}.centers"], labels, margins)
        gradients = torch.autograd.grad(loss, list(self.trained.values()))
        return float(loss.detach()), dict(zip(self.trained, gradients, strict=True))

    def of_kept_patches(self, seed: int, inputs: Tensor) -> Tensor:
        """Features of a vision transformer that gets some patches of each image, one image after the other."""
        network, features = self.network, []
        for i, part in enumerate(inputs.chunk(self.plan.n_parts)):
            torch.manual_seed(seed_of(seed, "noise", 0, i))
            tokens = network._pos_embed(network.patch_embed(part))
            prefix, patches = tokens[:, : network.num_prefix_tokens], tokens[:, network.num_prefix_tokens :]
            drawn = torch.randn(patches.shape[:2])
            n_kept = max(1, int(patches.shape[1] * (1 - self.plan.patch_drop)))
            for image, numbers in enumerate(drawn):
                kept = torch.cat([prefix[image], patches[image, numbers.argsort()[:n_kept]]])[None]
                features.append(network.forward_head(network.norm(network.blocks(network.norm_pre(kept)))))
        return torch.cat(features)

    def batches(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        plan, samples, order = self.plan, self.samples, self.samples.order_of(epoch)
        rng = np.random.default_rng(seed_of(self.seed, plan.name, epoch, "views"))
        chosen = rng.integers(len(self.views), size=order.shape) if plan.is_frozen else np.zeros_like(order)
        transform = TrainTransform(plan.augment, plan.image_px)
        for step, images in enumerate(order):
            labels = torch.tensor([samples.labels[i] for i in images])
            if plan.is_frozen:
                yield torch.stack([self.views[view][i] for view, i in zip(chosen[step], images, strict=True)]), labels
                continue
            seeds = [
                seed_of(self.seed, plan.name, epoch, step * plan.batch_size + place) for place in range(plan.batch_size)
            ]
            pixels = [transform(self.pack.image(samples.rows[i]), s) for i, s in zip(images, seeds, strict=True)]
            yield self.normal(torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float()), labels

    def normal(self, pixels: Tensor) -> Tensor:
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in self.pixels)
        return ((pixels / 255 - mean) / std).contiguous(memory_format=torch.channels_last)

    def _cache_views(self) -> None:
        plan, rows = self.plan, self.samples.rows
        self.views = [self.features(rows)]
        if plan.augment.flip:
            self.views.append(self.features(rows, is_mirrored=True))
        transform = TrainTransform(plan.augment, plan.image_px)
        for i in range(plan.n_cached_views):
            name = f"view{i}-{seed_of(self.seed, i, asdict(plan.augment), VERSION)}"
            self.views.append(
                self.features(rows, change=lambda image, row, name=name: transform(image, seed_of(name, row)))
            )

    def features(self, rows: list[int], is_mirrored: bool = False, change=lambda image, row: image) -> Tensor:
        """Of images of the pack, squashed to squares; beside them the packed image's H/W, H/224, W/224 if the neck
        takes them."""
        squares, sizes = [], []
        for row in rows:
            image = self.pack.image(row)
            sizes.append([image.shape[0] / image.shape[1], image.shape[0] / 224, image.shape[1] / 224])
            pixels = torch.from_numpy(change(image, row)).permute(2, 0, 1)[None].float()
            squares.append(
                F.interpolate(pixels, (self.plan.image_px,) * 2, mode="bicubic", antialias=True).clamp(0, 255)
            )
        pixels = self.normal(torch.cat(squares))
        with torch.no_grad():
            features = self.network(pixels.flip(3) if is_mirrored else pixels)
        return torch.cat([features, torch.tensor(sizes)], dim=1) if self.plan.has_size else features

    def _start_from_means(self) -> None:
        """Each class' centre points at the mean of its unit embeddings of the plain view, sub-centres beside it.

        All are as long as those that were drawn are on average.
        """
        units = F.normalize(neck_output(self.plan, self.head, self.views[0], is_training=False))
        drawn = self.head[f"{OBJECTIVE}.centers"]
        length = drawn.norm(dim=1).mean()
        for c in range(self.samples.n_classes):
            mean = F.normalize(
                sum(unit for unit, label in zip(units, self.samples.labels, strict=True) if label == c), dim=0
            )
            for k in range(c * self.plan.n_sub, (c + 1) * self.plan.n_sub):
                beside = 0.1 * F.normalize(drawn[k], dim=0) if self.plan.n_sub > 1 else 0.0
                drawn[k] = F.normalize(mean + beside, dim=0) * length

    def validation(self) -> float:
        """mP@5 of the plain view: every image queries all others; the mean over the domains of their queries' means."""
        rows = self.pack.rows("val")
        with torch.no_grad():
            units = F.normalize(neck_output(self.plan, self.head, self.features(rows), is_training=False).double())
        classes, domains = (self.pack.column(name, rows) for name in ("class_id", "domain"))
        by_domain: dict[str, list[float]] = {}
        for query, class_id in enumerate(classes):
            n_relevant = classes.count(class_id) - 1
            if n_relevant:
                others = [
                    i for i in (units @ units[query]).argsort(descending=True, stable=True).tolist() if i != query
                ]
                hits = [classes[i] == class_id for i in others[: min(n_relevant, 5)]]
                by_domain.setdefault(domains[query], []).append(sum(hits) / len(hits))
        return float(np.mean([np.mean(values) for values in by_domain.values()]))


def norm_of(gradient: Weights) -> float:
    return math.sqrt(sum(float(g.double().square().sum()) for g in gradient.values()))


def update(plan: Plan, weight: Tensor, gradient: Tensor, lr: float, decay: float, memory: Weights, t: int) -> None:
    """Step t, from 1, of SGD, Adam (decay in the gradient) or AdamW (decay of the weight), as their papers have it; in
    float64, with the weight rounded once."""
    rounded, weight, gradient = weight, weight.double(), gradient.double()
    if plan.optimizer == "adamw":
        weight *= 1 - lr * decay
    else:
        gradient = gradient + decay * weight
    if plan.optimizer == "sgd":
        memory["velocity"] = plan.momentum * memory["velocity"] + gradient if t > 1 else gradient
        rounded.copy_(weight - lr * memory["velocity"])
        return
    beta1, beta2, eps = ADAM
    first, second = (memory.get(name, torch.zeros_like(weight)) for name in ("first", "second"))
    memory["first"] = beta1 * first + (1 - beta1) * gradient
    memory["second"] = beta2 * second + (1 - beta2) * gradient**2
    step = lr * (memory["first"] / (1 - beta1**t)) / ((memory["second"] / (1 - beta2**t)).sqrt() + eps)
    rounded.copy_(weight - step)
