"""PADS: negatives are drawn by their distance, with weights that a policy adapts to scores on held-out images."""

from __future__ import annotations

import logging
import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from guie.settings.objectives.pads import Pads
from guie.train.objectives.base import Batch, Look, Objective
from guie.train.objectives.distances import row_distances, unit_distances
from guie.train.objectives.draws import Triplets, draw, draw_equally, generator_of, mates, triplet_of_each
from guie.train.objectives.held_out import METRICS, choose_held_out, measure
from guie.train.objectives.policy import MULTIPLIERS, Policy
from guie.train.objectives.step_means import StepMeans, pair_cosines

log = logging.getLogger(__name__)
N_REMEMBERED = 20  # measurements that the policy sees as they are
WINDOWS = (2, 8, 16, 32)  # and those over whose last it sees means
LARGEST_LOG = math.log(1e25)  # of a bin's weight
UNUSED_LOG = math.log(1e-15)  # of a bin's weight at the start
HALF_WAY = 100  # turns after which the policy's clock shows one half


def draw_triplets(
    distances: Tensor,
    labels: Tensor,
    log_weights: Tensor,
    edges: Tensor,
    has_own_class: bool,
    generator: torch.Generator,
) -> Triplets:
    """A positive and a negative for each row.

    The positive is any other row of the class. The negative is drawn in proportion to its bin's weight.

    Args:
        distances: float [n, n].
        labels: int64 [n].
        log_weights: float64 [n_bins]; weights may lie 50 powers of ten apart.
        edges: float [n_bins - 1], inner edges of the bins.
        has_own_class: An anchor and the rows of its class may be negatives, too.
        generator: On their device.
    """
    is_other = labels[:, None] != labels
    may_be_negative = torch.ones_like(is_other) if has_own_class else is_other
    positives = draw_equally(mates(labels), generator)
    of_bin = log_weights[torch.bucketize(distances, edges)]
    return triplet_of_each(positives, draw(of_bin, may_be_negative, generator))


class PadsObjective(Objective):
    """See `Pads`.

    Attributes:
        beta: float [1], or [n_classes]: the boundary between positives and negatives; none with the triplet base.
        policy: Adapts the bins' weights.
        means: Of the steps of an epoch.
        is_held_out: bool [n_items].
        log_weights: float64 [n_bins], not normalised.
        history: float [32, 7], the last measurements, the newest last.
        state: What the policy saw at its last turn; `actions` is what it did then.
        n_turns: int64, a scalar.
    """

    beta: nn.Parameter | None
    is_held_out: Tensor
    edges: Tensor
    log_weights: Tensor
    history: Tensor
    state: Tensor
    actions: Tensor
    n_turns: Tensor

    def __init__(self, settings: Pads, n_classes: int, labels: Tensor) -> None:
        """Draws the images that are held out, and a fresh policy.

        Args:
            settings: Of the loss, the bins and the policy.
            n_classes: Classes of the training set.
            labels: int64 [n_items], the class of each training image.
        """
        super().__init__()
        self.settings = settings
        n_betas = n_classes if settings.has_class_beta else 1
        has_beta = settings.base == "margin"
        self.beta = nn.Parameter(torch.full((n_betas,), settings.beta_distance)) if has_beta else None
        n_bins = settings.n_bins
        n_inputs = (N_REMEMBERED + len(WINDOWS)) * len(METRICS) + n_bins + 1
        self.policy = Policy(n_inputs, n_bins, settings.method, settings.policy_lr)
        self.means = StepMeans(
            ("active_share", "positive_cosine", "negative_cosine", "drawn_distance", "held_out_r1", "held_out_nmi")
        )
        self.register_buffer("is_held_out", choose_held_out(labels, settings.held_out_share, settings.max_held_out))
        inner = settings.low_distance + settings.bin_width * torch.arange(1, n_bins, dtype=torch.float64)
        self.register_buffer("edges", inner, persistent=False)
        start = [0.0 if settings.starts_with(i) else UNUSED_LOG for i in range(n_bins)]
        self.register_buffer("log_weights", torch.tensor(start, dtype=torch.float64))
        self.register_buffer("history", torch.zeros(WINDOWS[-1], len(METRICS)))
        self.register_buffer("state", torch.zeros(n_inputs))
        self.register_buffer("actions", torch.zeros(n_bins, dtype=torch.int64))
        self.register_buffer("n_turns", torch.zeros((), dtype=torch.int64))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """See `Objective`. The mean of the terms that are not zero."""
        terms, _ = self._terms(batch)
        return {"loss": terms.sum() / (terms > 0).sum().clamp_min(1)}

    def _terms(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Terms of drawn triplets, float [n_triplets] or [2 * n_triplets], and the distances of their negatives."""
        s = self.settings
        unit = F.normalize(batch.embeddings)
        apart = unit_distances(unit.detach(), unit.detach())
        edges, generator = self.edges.to(apart.dtype), generator_of(batch, "Pads")
        drawn = draw_triplets(apart, batch.labels, self.log_weights, edges, s.has_self_regularisation, generator)
        near = row_distances(unit[drawn.anchors], unit[drawn.positives])
        far = row_distances(unit[drawn.anchors], unit[drawn.negatives])
        if self.beta is None:
            return (near - far + s.margin_distance).relu(), far.detach()
        beta = self.beta[batch.labels[drawn.anchors]] if s.has_class_beta else self.beta
        terms = torch.cat([near - beta + s.margin_distance, beta - far + s.margin_distance]).relu()
        return terms, far.detach()

    @torch.no_grad()
    def after_step(self, batch: Batch, look: Look) -> None:
        """Counts the step, and gives the policy its turn where it is due."""
        if batch.is_counted:
            terms, far = self._terms(batch)
            counted = {"active_share": (terms > 0).double().mean(), "drawn_distance": far.mean()}
            self.means.add({**counted, **pair_cosines(batch.embeddings, batch.labels)})
        if self.is_shared_after(batch.step):
            self._turn(look)

    def _turn(self, look: Look) -> None:
        """Measures the model, rewards the actions of the last turn, and takes new ones."""
        items = self.is_held_out.nonzero()[:, 0].cpu().numpy()
        embeddings = look.embeddings(items)
        scores = measure(embeddings, torch.from_numpy(look.labels[items]).to(embeddings.device)).to(self.history)
        before = self._goal()
        is_first = int(self.n_turns) == 0
        rest = scores.expand(len(self.history) - 1, -1) if is_first else self.history[1:].clone()
        self.history.copy_(torch.cat([rest, scores[None]]))
        state = self._seen()
        if not is_first:
            reward = (self._goal() - before).sign()
            self.policy.learn(self.state, self.actions, reward, self._goal(), state)
        self.actions.copy_(self.policy.draw(state))
        self.state.copy_(state)
        steps = torch.tensor(MULTIPLIERS, dtype=self.log_weights.dtype, device=self.log_weights.device).log()
        self.log_weights.add_(steps[self.actions]).clamp_(-LARGEST_LOG, LARGEST_LOG)
        self.n_turns += 1
        self.means.add({"held_out_r1": scores[0], "held_out_nmi": scores[METRICS.index("nmi")]})

    def _goal(self) -> Tensor:
        """What the policy raises: the mean of recall@1 and NMI at the last measurement."""
        newest = self.history[-1]
        return (newest[0] + newest[METRICS.index("nmi")]) / 2

    def _seen(self) -> Tensor:
        """What the policy sees: measurements, their means, the bins' weights, and a clock from 0 to 1."""
        means = [self.history[-n:].mean(dim=0) for n in WINDOWS]
        weights = self.log_weights.softmax(dim=0).to(self.history)
        clock = (self.n_turns / (self.n_turns + HALF_WAY)).to(self.history)
        return torch.cat([self.history[-N_REMEMBERED:].flatten(), *means, weights, clock[None]])

    @torch.no_grad()
    def begin_epoch(self, epoch: int, look: Look) -> None:
        """Says how many images are held out, and begins the epoch's means."""
        if epoch == 0:
            log.info("PADS holds out %d of %d training images", int(self.is_held_out.sum()), len(self.is_held_out))
        self.means.reset()

    def groups(self) -> np.ndarray | None:
        """See `Objective`; the held-out images are left out."""
        groups: np.ndarray = -self.is_held_out.long().cpu().numpy()
        return groups

    def rates(self) -> dict[str, float]:
        """See `Objective`."""
        return {"beta": self.settings.beta_lr_factor} if self.beta is not None else {}

    def undecayed(self) -> tuple[str, ...]:
        """See `Objective`."""
        return ("beta",) if self.beta is not None else ()

    def is_shared_after(self, step: int) -> bool:
        """See `Objective`: after a turn of the policy, whose reward is a sign of a difference of scores."""
        return (step + 1) % self.settings.every_steps == 0

    def curves(self, epoch: int) -> dict[str, float]:
        """The means, the turns of the policy in the stage, what it draws, and the mean boundary.

        `policy_distance` is the mean distance at which it draws if all distances are at hand, `policy_entropy` the
        entropy of its bins as a share of that of equal weights.
        """
        chances = self.log_weights.softmax(dim=0)
        middles = torch.tensor([self.settings.middle(i) for i in range(len(chances))]).to(chances)
        entropy = torch.special.entr(chances).sum() / math.log(len(chances))
        found = {
            **self.means.values(),
            "policy_turns": int(self.n_turns),
            "policy_distance": round(float(chances @ middles), 6),
            "policy_entropy": round(float(entropy), 6),
        }
        return found if self.beta is None else {**found, "beta_distance": round(float(self.beta.detach().mean()), 6)}
