"""The rows of the training schedule that train, and the phases that hold all rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass
from typing import Literal

from guie.settings.augment import Augment
from guie.settings.fields import check_unique, rows, within
from guie.settings.mixed import Interpolate, Soup
from guie.settings.model import Model
from guie.settings.names import check_row_name
from guie.settings.neck import Neck
from guie.settings.objective import ArcFace, ObjectiveSettings
from guie.settings.optim import Optim
from guie.settings.retain import Retain
from guie.settings.sampling import Fold, PerClass, Weighted

PHASES = ("head", "backbone", "highres")  # of doors 04, 05 and 06
Part = Literal["neck", "objective"]
HEAD: tuple[Part, ...] = ("neck", "objective")  # the parts that are not the backbone


@dataclass(frozen=True, kw_only=True)
class Start:
    """The weights that a stage starts from.

    Attributes:
        of: The row whose weights are loaded; empty is the row before, `pretrained` the backbone as the library or the
            file has it.
        fresh: Parts that start anew. Everything else is loaded strictly.
        model: A backbone other than the recipe's, for a stage that starts from `pretrained`.
        has_mean_centers: Fresh class centres and proxies start as the means of their classes' embeddings instead of at
            random; the backbone is frozen. Where a class has several centres, each starts near that mean with an offset
            of its own.
        has_pca_neck: The fresh neck starts as the PCA of the training images' features instead of at random; the
            backbone is frozen. Class centres that start as means follow it. `tests/benchmarks/universal.md` has what
            this gains on a domain that no training image shows.
    """

    of: str = ""
    fresh: tuple[Part, ...] = ()
    model: Model | None = None
    has_mean_centers: bool = False
    has_pca_neck: bool = False


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What changes a stage's time and memory.

    Attributes:
        n_parts: Parts that a batch's backbone pass is split into, to save memory. The gradient is that of the unsplit
            batch. Without effect where the backbone is frozen.
        has_grad_checkpoints: A block's activations are computed again in the backward pass instead of kept: one more
            forward pass, and memory that does not grow with the depth.
        has_sharded_weights: Weights, gradients and the optimizer's moments are spread over the processes (FSDP2).
        n_cached_augmentations: Augmented views that are cached of each image when the backbone is frozen, beside the
            plain one and, if `augment.flip` is not 0, the mirrored one.
        patch_drop: Share of a transformer's patches that each image leaves out at each training step, drawn anew; all
            are seen wherever features are extracted. .5 about halves a step's time. A last stage with all patches takes
            back what the missing ones cost (FLIP, arXiv 2212.00794).
    """

    n_parts: int = within(1, low=1, high=10**4)
    has_grad_checkpoints: bool = False
    has_sharded_weights: bool = False
    n_cached_augmentations: int = within(0, low=0, high=1000)
    patch_drop: float = within(0.0, low=0.0, high=0.95)


@dataclass(frozen=True, kw_only=True)
class Validation:
    """When a stage is scored by retrieval on validation images.

    Attributes:
        every_epochs: Epochs between validations; 0 is at the stage's end only.
        keeps_best: The result is the epoch with the best validation mP@5 among those that are validated (5th place),
            not the last. Its validation score is then optimistic, because the choice was made by it.
    """

    every_epochs: int = within(0, low=0, high=10**6)
    keeps_best: bool = False


@dataclass(frozen=True)
class Stage:
    """A row that trains.

    Attributes:
        name: Also the folder of its results.
        trains: Which parts move: the objective's own weights (class centres), the neck, head (both of them), the
            backbone, or all.
        image_px: Side of the square that images are resized to.
        objective: What is minimised.
        optim: How the weights move.
        retain: What keeps a moving backbone near its start.
        start: Which weights it starts from.
        neck: The projection to the embedding.
        sampling: How images are drawn.
        augment: Random changes to training images.
        cost: What changes time and memory.
        validation: When it is scored.
        sources: The data sets that it trains on; empty is all that have labels. Its classes are those of these alone.
            Sets without labels train where they are named here, if the sampling needs no labels (`Weighted(power=0.0)`)
            and the objective (`KeepCosines`), or a term of its `Sum`, needs none.
        patch_stride: Pixels from one patch of a transformer to the next; 0 is the patch's side, less makes patches
            overlap (1st place: 12 of 14).
        left_out: Training classes that the stage does not train on. It is validated on them, instead of on the
            validation images, so that an epoch or a setting is chosen without looking at the classes whose scores are
            reported. Source: Musgrave et al., A Metric Learning Reality Check, ECCV 2020, arXiv 2003.08505 (4 folds).
    """

    name: str
    _: KW_ONLY
    trains: Literal["objective", "neck", "head", "backbone", "all"]
    image_px: int = within(224, low=8, high=4096)
    objective: ObjectiveSettings = ArcFace()
    optim: Optim
    retain: Retain = Retain()
    start: Start = Start()
    neck: Neck = Neck()
    sampling: Weighted | PerClass = Weighted()
    augment: Augment = Augment()
    cost: Cost = Cost()
    validation: Validation = Validation()
    sources: tuple[str, ...] = ()
    patch_stride: int = within(0, low=0, high=4096)
    left_out: Fold | None = None

    @property
    def is_backbone_frozen(self) -> bool:
        """Whether the stage can train on cached features."""
        return self.trains not in ("backbone", "all")

    @property
    def is_neck_frozen(self) -> bool:
        """Whether the neck keeps its weights, and its batch norm its statistics."""
        return self.trains in ("objective", "backbone")

    @property
    def batch_classes(self) -> int:
        """Different classes of a batch; 0 where images are drawn one by one."""
        return self.optim.batch_size // self.sampling.rows_per_class if isinstance(self.sampling, PerClass) else 0

    @property
    def chosen_on_validation(self) -> str:
        """Which choice of the weights was made by validation score, in words, or ''."""
        return "best epoch" if self.validation.keeps_best else ""

    @property
    def reads(self) -> tuple[str, ...]:
        """The rows whose weights are read, beside the one that it starts from; `pretrained` is the backbone before any
        training."""
        return self.objective.teachers

    def check(self, at: str) -> None:
        """Raises ValueError for fields that contradict each other."""
        check_row_name(at, self.name)
        batch_size = self.optim.batch_size
        if batch_size % self.cost.n_parts:
            raise ValueError(f"{at}.cost.n_parts is {self.cost.n_parts}, must divide the batch_size {batch_size}")
        if self.neck.has_norm and not self.is_neck_frozen and batch_size < 2:
            raise ValueError(
                f"{at}.neck.has_norm is true, but batch_size {batch_size} gives the batch norm one image at a time, "
                "which has no variance; take a larger batch_size, or has_norm=False"
            )
        if isinstance(self.sampling, PerClass) and batch_size % self.sampling.rows_per_class:
            views = self.sampling.views_per_image
            raise ValueError(
                f"{at}.sampling.images_per_class is {self.sampling.images_per_class}"
                f"{f', with {views} views of each' if views > 1 else ''}, must divide the batch_size {batch_size}"
            )
        for name in ("has_sharded_weights", "patch_drop"):
            if getattr(self.cost, name) and self.is_backbone_frozen:
                raise ValueError(
                    f"{at}.cost.{name} is for stages that train the backbone; this one trains {self.trains!r}"
                )
        if self.validation.keeps_best and (self.optim.ema_decay or not self.validation.every_epochs):
            raise ValueError(
                f"{at}.validation.keeps_best needs every_epochs, the epochs between validations, and no optim.ema_decay"
            )
        if self.neck.has_size and not self.is_backbone_frozen:
            raise ValueError(f"{at}.neck.has_size needs a frozen backbone, whose features are cached")
        self._check_objective(at)
        self._check_retain(at)

    def _check_retain(self, at: str) -> None:
        """Raises ValueError where nothing moves that could be held, or the objective would see generic images."""
        if self.retain != Retain() and self.is_backbone_frozen:
            raise ValueError(f"{at}.retain is for stages that train the backbone; this one trains {self.trains!r}")
        if self.retain.generic and self.objective.needs_all_labels:
            raise ValueError(
                f"{at}.retain.generic: {type(self.objective).__name__} looks at all images between the steps, those of "
                "generic sets included; take an objective that looks only at the images of a batch, or generic=()"
            )
        if self.retain.generic and self.neck.has_norm and not self.is_neck_frozen:
            raise ValueError(
                f"{at}.retain.generic: the batch norm of the neck would take its mean and variance from the generic "
                "images, too; take neck.has_norm=False, trains='backbone', which keeps the neck, or generic=()"
            )

    def _check_objective(self, at: str) -> None:
        """Raises ValueError where the objective does not fit `trains`, the batches that `sampling` draws, or
        `start`."""
        objective, kind = self.objective, type(self.objective).__name__
        if self.trains == "objective" and not objective.has_weights:
            raise ValueError(f"{at}.trains is 'objective', but {kind} has no weights to train; take trains='head'")
        if isinstance(self.sampling, PerClass):
            if objective.needs_positives and self.sampling.rows_per_class < 2:
                raise ValueError(
                    f"{at}.objective is {kind}, which compares images of one class, but sampling.images_per_class is "
                    "1; take 2 or more"
                )
            objective.check_batch(f"{at}.objective", self.batch_classes)
        if (objective.needs_positives or objective.compares_images) and self.optim.batch_size < 2:
            raise ValueError(
                f"{at}.optim.batch_size is 1, but the objective is {kind}, which compares images; take 2 or more"
            )
        may_start_there = objective.has_centers and self.is_backbone_frozen and "objective" in self.start.fresh
        if self.start.has_mean_centers and not may_start_there:
            raise ValueError(
                f"{at}.start.has_mean_centers needs a fresh objective with class centres or proxies, and a frozen "
                "backbone, whose features are cached"
            )
        self._check_pca_neck(at)

    def _check_pca_neck(self, at: str) -> None:
        """Raises ValueError where the neck cannot start as a PCA."""
        neck = self.neck
        if not self.start.has_pca_neck:
            return
        if "neck" not in self.start.fresh or not self.is_backbone_frozen:
            raise ValueError(
                f"{at}.start.has_pca_neck needs a fresh neck and a frozen backbone, whose features are cached"
            )
        if neck.hidden_dim or neck.has_norm or neck.has_size or not neck.has_bias:
            raise ValueError(
                f"{at}.start.has_pca_neck is for a neck of one linear layer with a bias; it excludes hidden_dim, "
                "has_norm and has_size"
            )


Row = Stage | Soup | Interpolate


@dataclass(frozen=True, kw_only=True)
class Stages:
    """The rows of a recipe in the order in which they run; a path reaches each by its name: `stages.NAME.image_px`.

    Attributes:
        head: Rows of door 04.
        backbone: Rows of door 05.
        highres: Rows of door 06.
    """

    head: tuple[Row, ...] = rows()
    backbone: tuple[Row, ...] = rows()
    highres: tuple[Row, ...] = rows()

    def __iter__(self) -> Iterator[Row]:
        """All rows in the order in which they run."""
        return iter((*self.head, *self.backbone, *self.highres))

    @property
    def trained(self) -> tuple[Stage, ...]:
        """The rows that train."""
        return tuple(row for row in self if isinstance(row, Stage))

    def of_phase(self, phase: str) -> tuple[Row, ...]:
        """The rows of `head`, `backbone` or `highres`."""
        found: tuple[Row, ...] = getattr(self, phase)
        return found

    def phase_of(self, name: str) -> str:
        """The phase that holds the row called `name`."""
        return next(phase for phase in PHASES if any(row.name == name for row in self.of_phase(phase)))

    def check(self, at: str) -> None:
        """Raises ValueError without a row, or where two rows have one name."""
        names = [row.name for row in self]
        if not names:
            raise ValueError(f"{at} is empty; a recipe trains at least one stage")
        check_unique(at, names)
