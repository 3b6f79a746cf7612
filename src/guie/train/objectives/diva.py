"""DiVA: four tasks share the embedding, each with a slice of its own."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from guie.settings.objectives.diva import Diva
from guie.train.objectives.base import Batch, Look, Objective
from guie.train.objectives.clusters import of_all
from guie.train.objectives.distances import cosine_distances, log_inverse_density
from guie.train.objectives.draws import Triplets, generator_of
from guie.train.objectives.margin_triplets import (
    class_triplets,
    margin_loss,
    one_class_triplets,
    three_class_triplets,
)
from guie.train.objectives.memory import held_size
from guie.train.objectives.reversal import Decorrelation
from guie.train.objectives.step_means import StepMeans, pair_cosines

MARGIN_TASKS = ("discriminative", "shared", "intra")


def density_weights(cosines: Tensor, is_own: Tensor, dim: int) -> Tensor:
    """log w of each negative, float [n, m]: w is 1/q(d) over its mean in the row; without gradient.

    A row without a negative has -inf alone.

    Args:
        cosines: float [n, m].
        is_own: bool [n, m], which columns are no negatives.
        dim: Numbers of an embedding.
    """
    weights = log_inverse_density(cosine_distances(cosines.detach()), dim).masked_fill(is_own, -torch.inf)
    n_negatives = (~is_own).sum(dim=1, keepdim=True).clamp_min(1)
    means = weights.logsumexp(dim=1, keepdim=True) - n_negatives.to(weights).log()
    return torch.where(is_own, -torch.inf, weights - means)


def weighted_contrast(own: Tensor, cosines: Tensor, is_own: Tensor, temperature: float, dim: int) -> Tensor:
    """The mean of -log(e^(own / t) / (e^(own / t) + sum_q w_q e^(s_q / t))), a scalar (DaNCE).

    Args:
        own: float [n], each row's cosine to its own key.
        cosines: float [n, m], s, to other keys.
        is_own: bool [n, m], which of them are a row's own and do not count.
        temperature: t.
        dim: Numbers of an embedding.
    """
    logits = cosines / temperature
    against = (logits + density_weights(cosines, is_own, dim)).masked_fill(is_own, -torch.inf)
    all_logits = torch.cat([own[:, None] / temperature, against], dim=1)
    return (all_logits.logsumexp(dim=1) - all_logits[:, 0]).mean()


class DiverseTasks(Objective):
    """See `Diva`.

    Attributes:
        betas: float [3], the distance that separates pairs, for discriminative, shared and intra.
        keys: float [n_items, width], the unit key of each training image, of the task sample.
        queue: int64 [queue_size], the images whose keys are contrasted.
        position: int64 [], the place in the queue that is overwritten next.
    """

    keys: Tensor
    queue: Tensor
    position: Tensor

    def __init__(self, settings: Diva, dim: int, n_classes: int, n_items: int) -> None:
        """An adversary for each slice but the first, which it is to be kept apart from.

        Args:
            settings: See `Diva`.
            dim: Numbers of an embedding.
            n_classes: Classes of the training set.
            n_items: Training images.

        Raises:
            ValueError: the embedding cannot be cut into equal slices, or there are too few classes.
        """
        super().__init__()
        self.settings, n = settings, len(settings.tasks)
        if dim % n or dim // n < 2:
            raise ValueError(
                f"Diva: neck.dim {dim} cannot be cut into {n} slices of equal width with at least 2 numbers "
                f"({', '.join(settings.tasks)}); change neck.dim, or give a task weight 0"
            )
        if settings.shared_weight and n_classes < 3:
            raise ValueError(f"Diva: the task shared needs three classes, and there are {n_classes}; set its weight 0")
        self.width = dim // n
        self.betas = nn.Parameter(torch.full((3,), float(settings.beta_distance)))
        self.adversaries = nn.ModuleDict(
            {task: Decorrelation(self.width, self.width, settings.regressor_dim) for task in settings.tasks[1:]}
        )
        has_sample = "sample" in settings.tasks
        n_queued = held_size("Diva: objective.queue_size", settings.queue_size, n_items) if has_sample else 0
        self.register_buffer("keys", torch.zeros(n_items if has_sample else 0, self.width))
        self.register_buffer("queue", torch.arange(n_queued))
        self.register_buffer("position", torch.tensor(0))
        tasks = [task for task in MARGIN_TASKS[1:] if task in settings.tasks]
        names = [f"{task}_{share}" for task in tasks for share in ("active_share", "row_share")]
        self.means = StepMeans(("active_share", *names, "positive_cosine", "negative_cosine"))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """See `Objective`."""
        s, slices = self.settings, self._slices(batch.embeddings)
        weights = {"discriminative": 1.0, "shared": s.shared_weight, "intra": s.intra_weight}
        losses = self._margin_losses(slices, batch)
        terms = {task: weights[task] * loss for task, (loss, _, _) in losses.items()}
        if s.sample_weight:
            terms["sample"] = s.sample_weight * self._contrast(slices["sample"], batch.items)
        found = [adversary(slices["discriminative"], slices[task]) for task, adversary in self.adversaries.items()]
        terms["decorrelation"] = s.decorrelation_weight * torch.stack(found).sum()
        return terms

    def _slices(self, embeddings: Tensor) -> dict[str, Tensor]:
        """Each task's slice at length 1, float [n, width]."""
        parts = embeddings.split(self.width, dim=1)
        return {task: F.normalize(part) for task, part in zip(self.settings.tasks, parts, strict=True)}

    def _margin_losses(self, slices: dict[str, Tensor], batch: Batch) -> dict[str, tuple[Tensor, Tensor, float]]:
        """Of each task that learns from triplets: its margin loss, the share of pairs that have a part in it, and the
        share of rows that are anchors."""
        found = {}
        for task, own in self._triplets(slices, batch).items():
            beta = self.betas[MARGIN_TASKS.index(task)]
            loss, active_share = margin_loss(slices[task], own, self.settings.margin_distance, beta)
            found[task] = (loss, active_share, len(own.anchors) / len(batch.labels))
        return found

    def _triplets(self, slices: dict[str, Tensor], batch: Batch) -> dict[str, Triplets]:
        """Of each task that learns from some."""
        generator = generator_of(batch, "Diva")
        found = {"discriminative": class_triplets(slices["discriminative"], batch.labels, generator)}
        if "shared" in slices:
            found["shared"] = three_class_triplets(slices["shared"], batch.labels, generator)
        if "intra" in slices:
            found["intra"] = one_class_triplets(batch.labels, batch.items, generator)
        return found

    def _contrast(self, unit: Tensor, items: Tensor) -> Tensor:
        own = (unit * self.keys[items]).sum(dim=1)
        is_own = items[:, None] == self.queue
        return weighted_contrast(own, unit @ self.keys[self.queue].T, is_own, self.settings.temperature, self.width)

    @torch.no_grad()
    def after_step(self, batch: Batch, look: Look) -> None:
        """Moves the keys of the batch's images, puts the images into the queue, and counts shares and cosines."""
        if batch.is_counted:
            self._count(batch)
        if "sample" not in self.settings.tasks:
            return
        items, of_row = batch.items.unique(return_inverse=True)
        unit = self._slices(batch.embeddings)["sample"]
        is_of = (torch.arange(len(items), device=items.device)[:, None] == of_row).to(unit)
        means = is_of @ unit / is_of.sum(dim=1, keepdim=True)  # of an image's rows
        moved = self.settings.key_momentum * self.keys[items] + (1 - self.settings.key_momentum) * means
        self.keys[items] = F.normalize(moved)
        size = len(self.queue)
        newest = items[-size:]
        self.queue[(self.position + torch.arange(len(newest), device=items.device)) % size] = newest
        self.position.copy_((self.position + len(newest)) % size)

    def _count(self, batch: Batch) -> None:
        """Counts shares and cosines; those of adversaries and keys are not counted."""
        shares = pair_cosines(batch.embeddings, batch.labels)
        for task, (_, active_share, row_share) in self._margin_losses(self._slices(batch.embeddings), batch).items():
            shares["active_share" if task == "discriminative" else f"{task}_active_share"] = active_share
            shares[f"{task}_row_share"] = row_share
        self.means.add(shares)

    @torch.no_grad()
    def begin_epoch(self, epoch: int, look: Look) -> None:
        """Before the first epoch the keys become the embeddings of the plain images, and the queue random images."""
        self.means.reset()
        if epoch or "sample" not in self.settings.tasks:
            return
        embeddings = torch.from_numpy(of_all(look.embeddings, len(self.keys)))
        self.keys.copy_(self._slices(embeddings)["sample"])
        self.queue.copy_(torch.randperm(len(self.keys))[: len(self.queue)])

    def rates(self) -> dict[str, float]:
        """See `Objective`."""
        return {"betas": self.settings.beta_lr_factor, "adversaries": self.settings.regressor_lr_factor}

    def undecayed(self) -> tuple[str, ...]:
        """See `Objective`; an adversary's length changes nothing."""
        return ("betas", "adversaries")

    def curves(self, epoch: int) -> dict[str, float]:
        """See `Objective`."""
        betas = zip(MARGIN_TASKS, self.betas.tolist(), strict=True)
        own = {f"{task}_beta_distance": round(beta, 6) for task, beta in betas if task in self.settings.tasks}
        if len(self.queue):
            own["queue_fill"] = round(len(self.queue) / self.settings.queue_size, 6)
        return own | self.means.values()
