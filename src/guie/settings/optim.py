"""How a stage's weights move: optimizer, learning rates, schedule."""

from __future__ import annotations

from dataclasses import dataclass

from guie.settings.fields import within


@dataclass(frozen=True)
class OneCycle:
    """Climbs along a cosine from lr / 25 to lr, then falls along a cosine to 0.

    Attributes:
        warmup_share: Share of the stage's steps in which the learning rate climbs.
    """

    warmup_share: float = within(0.1, low=0.0, high=1.0)


@dataclass(frozen=True)
class Cosine:
    """Climbs along a line to lr, then falls along a cosine.

    Attributes:
        warmup_share: Share of the stage's steps in which the learning rate climbs.
        end_share: The learning rate at the end, as a share of lr (5th place: 1e-4).
    """

    warmup_share: float = within(0.1, low=0.0, high=1.0)
    end_share: float = within(0.0, low=0.0, high=1.0)


@dataclass(frozen=True, kw_only=True)
class Steps:
    """Climbs along a line to lr, then drops to a tenth at each of the named epochs.

    Attributes:
        drops: Epochs, counted from 0, from which the learning rate is a tenth of what it was before.
        warmup_share: Share of the stage's steps in which the learning rate climbs.
    """

    drops: tuple[int, ...]
    warmup_share: float = within(0.1, low=0.0, high=1.0)

    def check(self, at: str) -> None:
        """Raises ValueError for epochs that do not rise, or none."""
        if not self.drops or list(self.drops) != sorted(set(self.drops)):
            raise ValueError(f"{at}.drops is {self.drops}: it needs epochs in rising order")


@dataclass(frozen=True, kw_only=True)
class Exponential:
    """Climbs along a line to lr, then falls by one factor in each epoch.

    Attributes:
        epoch_decay: Factor of an epoch (3rd place: .93 in each tenth of one).
        warmup_share: Share of the stage's steps in which the learning rate climbs.
    """

    epoch_decay: float = within(low=1e-6, high=1.0)
    warmup_share: float = within(0.1, low=0.0, high=1.0)


@dataclass(frozen=True)
class Constant:
    """Climbs along a line to lr and stays there.

    Attributes:
        warmup_share: Share of the stage's steps in which the learning rate climbs.
    """

    warmup_share: float = within(0.1, low=0.0, high=1.0)


@dataclass(frozen=True)
class AdamW:
    """Adam with decoupled weight decay. Source: Loshchilov and Hutter, ICLR 2019; torch.optim.AdamW."""


@dataclass(frozen=True)
class Adam:
    """Adam, whose weight decay enters the gradient. Source: Kingma and Ba, ICLR 2015; torch.optim.Adam."""


@dataclass(frozen=True)
class Sgd:
    """Stochastic gradient descent; torch.optim.SGD.

    Attributes:
        momentum: Share of the step before that is kept; 0 is plain gradient descent.
    """

    momentum: float = within(0.9, low=0.0, high=0.9999)


@dataclass(frozen=True)
class LayerDecay:
    """Each transformer block's learning rate is that of the next deeper block times a factor.

    Attributes:
        factor: E.g. .9; the last block has factor, the one before it factor ** 2, and so on; what follows the blocks
            has 1.
    """

    factor: float = within(0.9, low=0.01, high=1.0)


@dataclass(frozen=True, kw_only=True)
class BlockFactors:
    """Learning rates of groups of transformer blocks.

    `edges=(10, 20, 26), factors=(.125, .25, .5)`: blocks 0 to 9 train at lr * .125, 10 to 19 at lr * .25, 20 to 25 at
    lr * .5, the rest at lr (4th place).

    Attributes:
        edges: The first block after each group, rising.
        factors: The groups' shares of the learning rate.
    """

    edges: tuple[int, ...]
    factors: tuple[float, ...] = within(low=0.0, high=1e3)

    def check(self, at: str) -> None:
        """Raises ValueError for edges that do not rise, or another number of factors."""
        if len(self.edges) != len(self.factors) or list(self.edges) != sorted(set(self.edges)) or not self.edges:
            raise ValueError(f"{at}.edges is {self.edges}: it needs rising numbers, and factors one for each")


@dataclass(frozen=True, kw_only=True)
class Optim:
    """How a stage's weights move.

    Attributes:
        n_epochs: Passes over the (re-weighted) training rows.
        batch_size: Images of a step, over all processes.
        lr: Peak learning rate.
        method: The optimizer.
        weight_decay: Of the optimizer; of matrices alone, unless `has_full_decay`. Class centres (ArcFace to
            SphereFaceR) are decayed, too; proxies, learned boundaries, masks and adversaries never are.
        has_full_decay: Biases and norms are decayed, too, as by torch's optimizers without parameter groups (1st, 2nd
            and 5th place).
        schedule: How the learning rate moves during the stage.
        backbone_lr_factor: With trains="all": the backbone's learning rate is lr times this (2nd and 6th place: 1e-3).
        blocks: Learning rates of a transformer's blocks; None: all alike.
        open_blocks: Of a transformer, only the last so many blocks and what follows them train; 0 is all (6th place: 17
            of 32).
        sam_rho: Radius rho of sharpness-aware minimisation: the gradient is evaluated at w + rho g / |g| instead of at
            w. 0 turns it off (5th place: .05).
        clip_norm: Largest norm of the gradient; 0 is off.
        ema_decay: Of an exponential moving average of the weights that becomes the stage's result; 0 is off.
    """

    n_epochs: int = within(low=1, high=10**6)
    batch_size: int = within(low=1, high=10**6)
    lr: float = within(low=1e-12, high=100.0)
    method: AdamW | Adam | Sgd = AdamW()
    weight_decay: float = within(1e-4, low=0.0, high=10.0)
    has_full_decay: bool = False
    schedule: OneCycle | Cosine | Steps | Exponential | Constant = OneCycle()
    backbone_lr_factor: float = within(1e-3, low=0.0, high=1e3)
    blocks: LayerDecay | BlockFactors | None = None
    open_blocks: int = within(0, low=0, high=1000)
    sam_rho: float = within(0.0, low=0.0, high=10.0)
    clip_norm: float = within(0.0, low=0.0, high=1e6)
    ema_decay: float = within(0.0, low=0.0, high=0.999999)
