"""The ladder that door 07 scores, and what door 08 writes."""

from __future__ import annotations

import typing
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from guie.settings.fields import check_unique, within
from guie.settings.fit import TRAINING, FitImages, FitOn, FitWords, check_sources
from guie.settings.names import PRETRAINED

View = Literal["plain", "flip", "crop", "pad", "aspect", "aspect_pad"]
Views = tuple[View, ...]
CONTEST_DIM = 64  # numbers of an embedding that the contest takes; of more it scores none
VIEWS: tuple[str, ...] = typing.get_args(View)


@dataclass(frozen=True)
class Member:
    """One member of an ensemble.

    Attributes:
        stage: The stage whose weights it uses; `pretrained` is the backbone as loaded.
        image_px: Side of the square it sees.
        views: Views averaged: plain (squashed), flip (that, mirrored), crop (the central nine tenths), pad (in its own
            aspect, on grey); and, as the 5th place chose them, aspect (crop if the image is square, else plain)
            together with aspect_pad (crop if square, else the central nine tenths, padded).
        output: `embedding` (the neck's output) or `feature` (the backbone's).
        weight: Its share in the concatenation.
        patch_stride: Pixels from one patch of a transformer to the next; 0 is the patch's side, less makes patches
            overlap.
    """

    stage: str
    image_px: int = within(low=8, high=4096)
    views: Views = ("plain",)
    output: Literal["embedding", "feature"] = "embedding"
    weight: float = within(1.0, low=0.0, high=1e3)
    patch_stride: int = within(0, low=0, high=4096)

    def check(self, at: str) -> None:
        """Raises ValueError without a view, and for the embedding of a backbone that has no neck."""
        if not self.views:
            raise ValueError(f"{at}: a member's views are empty; the image as it is is ('plain',)")
        if self.stage == PRETRAINED and self.output != "feature":
            raise ValueError(f"{at}: the pretrained backbone has no neck; its output is 'feature'")


@dataclass(frozen=True)
class PostProcess:
    """What is done to a setting's finished embeddings at search time, without labels. None of it can be exported, so
    the last setting has none.

    Attributes:
        n_expanded: Query expansion: a query becomes the weighted mean of itself and this many nearest; 0 none.
        n_augmented: Database augmentation: so does each image of the index; 0 none.
        alpha: Weights of both are cosine ** alpha; 0 is the plain average.
        rerank_k1: k-reciprocal re-ranking among this many neighbours; 0 none.
        rerank_k2: Neighbourhoods are averaged over this many images.
        rerank_weight: Share of the plain distance in the re-ranked one.
        length_mix: 0: unit vectors; 1: embeddings of their own length; between, a mixture. Searched by Euclidean
            distance.
    """

    n_expanded: int = within(0, low=0, high=1000)
    n_augmented: int = within(0, low=0, high=1000)
    alpha: float = within(3.0, low=0.0, high=100.0)
    rerank_k1: int = within(0, low=0, high=1000)
    rerank_k2: int = within(6, low=1, high=1000)
    rerank_weight: float = within(0.3, low=0.0, high=1.0)
    length_mix: float = within(0.0, low=0.0, high=1.0)

    def check(self, at: str) -> None:
        """Raises ValueError for methods that exclude each other."""
        if sum((bool(self.n_expanded or self.n_augmented), bool(self.rerank_k1), bool(self.length_mix))) > 1:
            raise ValueError(
                f"{at}: expansion with augmentation, re-ranking and length_mix exclude each other; make a setting of "
                "each"
            )


@dataclass(frozen=True)
class Setting:
    """One row of the score table: members, combined, and what is done to them.

    Attributes:
        name: The row's name in `scores.csv`.
        members: Their L2-normalised, weighted outputs are combined.
        pca_dim: PCA to this many dimensions, fitted on training images unless fit_on says otherwise; 0 keeps the
            combination.
        whiten: Exponent of whitening: component i is divided by std_i ** whiten (0 none, 1 full).
        combine: `concatenate`, or `mean` of outputs of one width.
        power: Before PCA each number x becomes sign(x) |x| ** power; 1 leaves it.
        post: What is done at search time.
        is_chosen_on_validation: One of its values was picked by looking at validation scores, so that its own score is
            too good; `scores.csv`, report and tables mark it. What follows from the stages (keeps_best, greedy soups)
            is marked without it.
        fit_on: What this row's PCA is fitted on; empty is as embed.fit_on.
    """

    name: str
    members: tuple[Member, ...]
    pca_dim: int = within(0, low=0, high=10**5)
    whiten: float = within(0.0, low=0.0, high=1.0)
    combine: Literal["concatenate", "mean"] = "concatenate"
    power: float = within(1.0, low=0.01, high=1.0)
    post: PostProcess = PostProcess()
    is_chosen_on_validation: bool = False
    fit_on: tuple[FitImages | FitWords, ...] = ()

    @property
    def is_trained(self) -> bool:
        """Whether a member has the weights of a stage; the others are backbones as loaded."""
        return any(member.stage != PRETRAINED for member in self.members)

    def check(self, at: str) -> None:
        """Raises ValueError without a member, and where lengths are mixed or something is fitted without PCA."""
        if not self.members:
            raise ValueError(f"{at}.members is empty")
        if self.post.length_mix and not self.pca_dim:
            raise ValueError(
                f"{at}.post.length_mix is {self.post.length_mix}, which needs pca_dim: members are combined with "
                "length one"
            )
        if self.fit_on and not self.pca_dim:
            raise ValueError(f"{at}.fit_on says what a PCA is fitted on, and this row has none; set pca_dim")


@dataclass(frozen=True)
class Embed:
    """The ladder of settings that door 07 scores; the last one is exported.

    Attributes:
        settings: The ladder.
        batch_size: Of feature extraction.
        precision: In which backbones compute cached features: auto (half on a card, float32 on a CPU), float32, or
            bfloat16, for transformers on a CPU with AMX.
        storage: Of cached features on the disk; bfloat16 halves the bytes and rounds to 3 significant digits.
        fit_on: What the PCA of each row is fitted on, each entry with a weight; empty is the training images, each
            counted once. `tests/benchmarks/universal.md` has what the images of a new domain gain there.
        dim: Numbers of the exported embedding, which the last setting must give. The contest takes 64 and no others;
            more keep more of a domain that no training image shows. 0: nothing is exported, and the last setting may be
            any.
    """

    settings: tuple[Setting, ...]
    batch_size: int = within(32, low=1, high=10**6)
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    storage: Literal["float32", "bfloat16"] = "float32"
    fit_on: tuple[FitImages | FitWords, ...] = ()
    dim: int = within(CONTEST_DIM, low=0, high=10**5)

    def fit_on_of(self, setting: Setting) -> FitOn:
        """What the PCA of a row is fitted on."""
        return setting.fit_on or self.fit_on or TRAINING

    def check(self, at: str) -> None:
        """Raises ValueError without a setting, or where two have one name."""
        if not self.settings:
            raise ValueError(f"{at}.settings is empty; the last one is what door 08 exports")
        check_unique(f"{at}.settings", [row.name for row in self.settings])

    def check_fit_on(self, setting: Setting, names: Sequence[str]) -> None:
        """Raises ValueError where a row's PCA is fitted on a source that is none of `names`, or on one twice."""
        if setting.fit_on or self.fit_on:
            at = f"embed.settings.{setting.name}.fit_on" if setting.fit_on else "embed.fit_on"
            check_sources(at, self.fit_on_of(setting), names)

    def check_final(self, widths: Sequence[int]) -> None:
        """Raises ValueError where the last setting is to be exported and cannot be.

        Args:
            widths: Numbers of its members' outputs; 0 where the backbone tells.
        """
        final, dim = self.final, self.dim
        if not dim:
            return
        is_one = len(widths) == 1 or final.combine == "mean"
        width = final.pca_dim or (widths[0] if is_one else 0)
        if final.post != PostProcess():
            raise ValueError(
                f"embed.settings.{final.name}.post: the last setting is exported, and a file that sees one image at a "
                "time can neither expand, augment nor re-rank, nor does it mix lengths; let a setting without post "
                "stand last"
            )
        if width != dim:
            why = " (the contest's limit)" if dim == CONTEST_DIM else ""
            other = f", or embed.dim to {width}" if width else ""
            other += ", which is not for the contest" if width not in (0, CONTEST_DIM) else ""
            raise ValueError(
                f"embed.settings.{final.name} is exported and must give {dim} numbers{why}; set its pca_dim to "
                f"{dim}{other}"
            )

    @property
    def final(self) -> Setting:
        """The setting that is exported."""
        return self.settings[-1]


@dataclass(frozen=True)
class Export:
    """What door 08 writes.

    Attributes:
        n_parity_images: Images whose embeddings travel with the export, so that anyone can check it.
        min_parity_cosine: Smallest cosine between an exported and a stored embedding.
        storage: Of the weights in the file, fp32, bf16 or fp16; products are computed in fp32 whatever they are stored
            as.
        has_unit_length: Embeddings leave the file with length one; otherwise as the projection, or the neck, gives
            them.
        has_program: The same model for `torch.export` too, as `saved_model.pt2`.
    """

    n_parity_images: int = within(24, low=1, high=10**6)
    min_parity_cosine: float = within(0.999, low=0.0, high=1.0)
    storage: Literal["fp32", "bf16", "fp16"] = "fp32"
    has_unit_length: bool = True
    has_program: bool = False
