"""The stages of a recipe: what trains, on what, how fast, with which margin."""

from __future__ import annotations

from dataclasses import dataclass, field

from guie.model_settings import Model

AUGMENT_HIGH = {
    "flip": 1.0, "shift": 0.5, "scale": 0.9, "rotate_deg": 180.0, "brightness": 1.0, "color": 1.0, "cutout": 1.0, "jpeg": 1.0,
    "randaugment": 14, "randaugment_strength": 1.0, "affine": 1.0, "cutout_low": 1.0, "cutout_high": 1.0, "jpeg_low": 100, "jpeg_high": 100,
}  # fmt: skip


@dataclass(frozen=True)
class EpochMargin:
    """A margin that grows with the epoch: min(start + epoch * step, max). Source: 2nd place of GUIE, arXiv 2210.08735."""

    start_rad: float = 0.1
    step_rad: float = 0.1
    max_rad: float = 0.5


@dataclass(frozen=True)
class ClassFrequencyMargin:
    """A margin by class: rare classes get a large one, in proportion to n ** power for n training rows, scaled to low_rad..high_rad.

    Source: 4th and 6th place of GUIE, after the Google Landmark winners (power -1/4, .05 to .5). Off while high_rad is 0.
    """

    low_rad: float = 0.0
    high_rad: float = 0.0
    power: float = -0.25


@dataclass(frozen=True)
class NeckShape:
    """What the neck is made of, beside its width and its dropout.

    Attributes:
        has_norm: Batch norm without weights of its own comes first (5th and 6th place).
        norm_eps: What that adds to the variance (5th place: 1e-6).
        has_size: The packed image's H/W, H/224 and W/224 stand beside the feature (5th place: worth .003); the stage's backbone is frozen.
        hidden_dim: Width of a layer between, with a GELU; 0 is none.
        dropouts: Rates of several dropouts whose outputs are averaged (4th: .1 to .5); empty is the stage's `dropout` alone.
        is_branched: Each of them has linear layers of its own (3rd: twenty).
        has_bias: Of the last layer.
    """

    has_norm: bool = False
    norm_eps: float = 1e-5
    has_size: bool = False
    hidden_dim: int = 0
    dropouts: tuple[float, ...] = ()
    is_branched: bool = False
    has_bias: bool = True


@dataclass(frozen=True)
class Augment:
    """Random changes to a training image (albumentations).

    Attributes:
        flip: Probability of a horizontal flip.
        shift: Largest shift, as a share of the side.
        scale: Largest change of scale, as a share.
        rotate_deg: Largest rotation.
        affine: Probability of shift, scale and rotation together (1st and 6th place: .7).
        brightness: Largest change of brightness and contrast, as a share.
        color: Strength of hue and saturation changes, 0..1.
        cutout: Probability of one erased rectangle.
        cutout_low: Its shortest side, as a share of the image's (1st place: .4; 2nd: .1).
        cutout_high: Its longest side (1st place: .4; 2nd: .2).
        has_black_fill: The border that shift, scale and rotation leave, and the erased rectangle, are black (1st and 6th place), not a reflection and
            grey.
        jpeg: Probability of JPEG recompression.
        jpeg_low: Lowest quality of that (1st and 6th place: 99).
        jpeg_high: Highest quality.
        randaugment: Operations per image, drawn one after the other from fourteen, thirteen changes and nothing, as in RandAugment (Cubuk et al.,
            CVPRW 2020, arXiv 1909.13719); 0 is off.
        randaugment_strength: Of these, 0..1; each is as strong as drawn up to this share of the paper's level 10.
    """

    flip: float = 0.5
    shift: float = 0.0
    scale: float = 0.0
    rotate_deg: float = 0.0
    affine: float = 1.0
    brightness: float = 0.0
    color: float = 0.0
    cutout: float = 0.0
    cutout_low: float = 0.2
    cutout_high: float = 0.4
    has_black_fill: bool = False
    jpeg: float = 0.0
    jpeg_low: int = 60
    jpeg_high: int = 95
    randaugment: int = 0
    randaugment_strength: float = 0.3


@dataclass(frozen=True)
class Stage:
    """One row of the training schedule.

    Attributes:
        name: Also the folder of its results.
        phase: The door that runs it: head (04), backbone (05), highres (06). Phases never go backwards.
        trains: classifier, neck, head (neck + classifier), backbone, or all; `soup` trains nothing and averages the weights of `soup`.
        image_px: Side of the square the image is squashed to.
        n_epochs: Passes over the (re-weighted) training rows.
        batch_size: Global batch over all processes.
        lr: Peak learning rate.
        starts_from: The stage whose weights it starts from; empty is the row before; `pretrained` the backbone as loaded.
        model: A backbone of its own, other than the recipe's, for a stage that starts from `pretrained`; it must take the same mean and std.
        soup: The stages whose weights a stage with trains="soup" averages (4th place; Wortsman et al., ICML 2022).
        is_greedy: The soup begins with the ingredient that scores best on validation and takes in each other that does not lower its score; its
            own validation score is then too good.
        fresh: Parts that start anew: `neck`, `classifier`. Everything else is loaded strictly.
        embedding_dim: Output width of the neck.
        dropout: Before the neck's linear layer.
        sources: The data sets it trains on; empty is all. Its classifier has the classes of these alone, so it is fresh where they change (1st
            place: Products-10K alone after all).
        classifier: arcface, cosface or softmax (normalised, without a margin).
        n_sub_centers: Centres of each class, of which the nearest counts (sub-centre ArcFace).
        has_mean_centers: A fresh classifier starts from the means of its classes' embeddings, with a frozen backbone, instead of at random.
        neck: What the neck is made of.
        margin: By epoch; in radians, for cosface in cosine.
        class_margin: By class, in place of it, where its high_rad is not 0.
        scale: Of the cosines, s.
        label_smoothing: Of the cross entropy.
        optimizer: adamw, adam or sgd.
        momentum: Of sgd.
        sam_rho: Sharpness-aware minimisation: each step's gradient is taken so far up the slope; 0 is off (5th place: .05).
        weight_decay: Of the optimizer; of matrices alone, unless has_full_decay.
        has_full_decay: Biases and norms are decayed, too, as by torch's optimizers where nobody sets groups (1st, 2nd and 5th place).
        schedule: one_cycle, cosine, step, exponential or constant.
        drops: Epochs, counted from 0, from which the step schedule's learning rate is a tenth of what it was before.
        epoch_decay: The exponential schedule multiplies the learning rate, after the warm-up, by this in each epoch (3rd place: .93 in each tenth).
        end_share: The cosine schedule ends at this share of lr (5th place: 1e-4).
        warmup_share: Share of the steps in which the learning rate climbs.
        backbone_lr_factor: With trains="all": the backbone's learning rate is lr times this.
        open_blocks: Of a transformer, only the last so many blocks and what follows them train; 0 is all (6th place: 17 of 32).
        layer_decay: The learning rate of each block is so many times that of the block after it; 1 is off.
        block_edges: Blocks before the first of these have the learning rate times the first of `block_factors`, and so on; those from the
            last edge on have the whole (4th place: 10, 20, 26).
        block_factors: See there (4th place: .125, .25, .5).
        n_accumulate: A batch is computed in so many parts, which need less memory; the gradient is that of the whole.
        has_grad_checkpoints: Each block's inner values are computed again for the gradient instead of kept: one more forward pass, and
            memory that does not grow with the depth.
        has_sharded_weights: Weights, gradients and the optimizer's moments are spread over the processes (FSDP), for a backbone that trains on
            cards too small for it.
        clip_norm: Largest norm of the gradient; 0 is off.
        ema_decay: Of an average of the weights that becomes the stage's result; 0 is off.
        sample_power: An image of a class with n images is drawn with weight n ** sample_power (0 as they are, -1 all classes
            alike).
        images_per_class: Batches are of so many images of each of batch_size / images_per_class different classes; 0 draws images singly.
        n_cached_views: Augmented views cached of each image when the backbone is frozen, beside the plain one and, if
            `augment.flip` is not 0, the mirrored one.
        augment: Random changes to training images.
        validate_every: Epochs between validations by retrieval; 0 is at the stage's end only.
        keeps_best: The stage's result is its best epoch by validation mP@5, among those that validate_every picks and the last (5th place), not
            the last; its own validation score is then too good.
        patch_stride: Pixels from one patch of a transformer to the next; 0 is the patch's side, less makes patches overlap (1st place: 12
            of 14).
    """

    name: str
    phase: str
    trains: str
    image_px: int
    n_epochs: int
    batch_size: int
    lr: float
    starts_from: str = ""
    fresh: tuple[str, ...] = ()
    embedding_dim: int = 64
    dropout: float = 0.2
    model: Model | None = None
    soup: tuple[str, ...] = ()
    is_greedy: bool = False
    sources: tuple[str, ...] = ()
    classifier: str = "arcface"
    n_sub_centers: int = 1
    has_mean_centers: bool = False
    neck: NeckShape = field(default_factory=NeckShape)
    margin: EpochMargin = field(default_factory=EpochMargin)
    class_margin: ClassFrequencyMargin = field(default_factory=ClassFrequencyMargin)
    scale: float = 30.0
    label_smoothing: float = 0.0
    optimizer: str = "adamw"
    momentum: float = 0.9
    sam_rho: float = 0.0
    weight_decay: float = 1e-4
    has_full_decay: bool = False
    schedule: str = "one_cycle"
    drops: tuple[int, ...] = ()
    epoch_decay: float = 1.0
    end_share: float = 0.0
    warmup_share: float = 0.1
    backbone_lr_factor: float = 1e-3
    open_blocks: int = 0
    layer_decay: float = 1.0
    block_edges: tuple[int, ...] = ()
    block_factors: tuple[float, ...] = ()
    n_accumulate: int = 1
    has_grad_checkpoints: bool = False
    has_sharded_weights: bool = False
    clip_norm: float = 0.0
    ema_decay: float = 0.0
    sample_power: float = -0.5
    images_per_class: int = 0
    n_cached_views: int = 0
    augment: Augment = field(default_factory=Augment)
    validate_every: int = 0
    keeps_best: bool = False
    patch_stride: int = 0

    @property
    def is_backbone_frozen(self) -> bool:
        """Whether this stage can train on cached features."""
        return self.trains in ("classifier", "neck", "head")
