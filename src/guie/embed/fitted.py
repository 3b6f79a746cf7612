"""Final embeddings of a setting, and what its PCA is fitted on."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from guie.data.packed import GIVEN, HIDDEN, PackedImages, images_of
from guie.data.words import read_words
from guie.embed.ensemble import Combined, Features, rows_of
from guie.embed.pca import PCA, Moments, blocks, mixed, moments_of, pca_of, with_spread
from guie.embed.postprocess import length_mixed
from guie.embed.words import embedded_words
from guie.run import Run
from guie.settings.data import UNLABELLED
from guie.settings.embed import Setting
from guie.settings.fit import TRAINING, FitImages, FitOn, FitWords, described, without
from guie.settings.recipe import Recipe
from guie.shown import cut

log = logging.getLogger(__name__)
FITTED = ("train", UNLABELLED)  # the splits that a PCA may be fitted on
WITHHELD = (GIVEN, HIDDEN)  # the splits of images that data.foreign_domain keeps out of the fit
LEAST_FITTED = 2  # least number of images or words in an entry of fit_on


@dataclass(frozen=True)
class Embedded:
    """The embeddings that a setting gives for all images, and its PCA.

    Attributes:
        by_split: Final embeddings, float32 [n_images, dim], L2-normalised or length-mixed. Without a PCA there is only
            the split `val`.
        combined: What was combined of each of these splits, before the PCA.
        pca: The projection; None without one.
        moments: Moments of the combined outputs that the PCA was fitted on; None without a PCA.
        fit_on: The entries that the PCA was fitted on, without the sources that data.foreign_domain leaves out.
    """

    by_split: dict[str, np.ndarray]
    combined: dict[str, Combined] = field(default_factory=dict)
    pca: PCA | None = None
    moments: Moments | None = None
    fit_on: FitOn = TRAINING


def embed(run: Run, setting: Setting, features: Features) -> Embedded:
    """Final embeddings of a setting. Its PCA never sees a validation image."""
    rows = {"val": Combined(run, setting, features, "val")}
    if not setting.pca_dim:
        return Embedded({"val": rows["val"].whole()}, rows)
    rows["train"] = Combined(run, setting, features, "train")
    moments, fit_on = _Fit(run, setting, features, rows["train"]).moments()
    pca = pca_of(moments, setting.pca_dim, setting.whiten)
    projected = {split: np.concatenate([pca.transform(block) for block in blocks(of)]) for split, of in rows.items()}
    typical = float(np.linalg.norm(projected["train"], axis=1).mean())
    final = {split: length_mixed(vectors, setting.post.length_mix, typical) for split, vectors in projected.items()}
    return Embedded(final, rows, pca, moments, fit_on)


def check_rows(run: Run, packed: PackedImages) -> None:
    """Checks before training that door 07 will have enough images: a PCA needs more images or words than dimensions,
    and each entry of fit_on needs two for its covariance.

    Raises:
        ValueError: there are too few, or a source in fit_on has no images.
        FileNotFoundError: there is no such file of words.
    """
    for row in run.recipe.embed.settings:
        if not row.pca_dim:
            continue
        entries = entries_of(run.recipe, row, packed.index)
        ns = [_n_of(run, packed, row, entry) for entry in entries]
        for entry, n in zip(entries, ns, strict=True):
            if n < LEAST_FITTED and entries != TRAINING:
                raise ValueError(
                    f"embed.settings.{row.name} is fitted on {described(entry)}, but the pack has {n}"
                    f"{run.recipe.data.told_of_foreign}; a covariance needs {LEAST_FITTED}: add images, or take the "
                    "entry out of fit_on"
                )
        if row.pca_dim >= sum(ns):
            raise ValueError(_too_few(row, sum(ns), entries == TRAINING) + run.recipe.data.told_of_foreign)


def withheld_sources(recipe: Recipe, setting: Setting, index: pd.DataFrame) -> list[str]:
    """The sources in a row's fit_on that have no image left to fit on because of data.foreign_domain.

    Args:
        recipe: The recipe of the row.
        setting: The row.
        index: Index of the packed images, with the splits after data.foreign_domain.
    """
    withheld, fitted = (set(index["source"][index["split"].isin(own)]) for own in (WITHHELD, FITTED))
    entries = [entry for entry in recipe.embed.fit_on_of(setting) if isinstance(entry, FitImages)]
    return [name for entry in entries for name in entry.sources if name in withheld - fitted]


def entries_of(recipe: Recipe, setting: Setting, index: pd.DataFrame) -> FitOn:
    """What a row's PCA is fitted on: its fit_on without the sources that data.foreign_domain leaves out. The arguments
    are those of `withheld_sources`.

    Raises:
        ValueError: nothing is left.
    """
    withheld = withheld_sources(recipe, setting, index)
    entries = without(recipe.embed.fit_on_of(setting), withheld)
    if not entries:
        raise ValueError(
            f"embed.settings.{setting.name} is fitted on {', '.join(withheld)} alone{recipe.data.told_of_foreign}; "
            "name another source in fit_on, too"
        )
    return entries


def _n_of(run: Run, packed: PackedImages, row: Setting, entry: FitImages | FitWords) -> int:
    """How many images or words an entry has.

    Raises:
        ValueError: a source has no images, or a file has fewer than two words.
        FileNotFoundError: there is no such file of words.
    """
    if isinstance(entry, FitWords):
        return len(read_words(run, entry.file))
    own = packed.index[packed.index["split"].isin(FITTED)]
    for source in entry.sources:
        if not (own["source"] == source).any():
            raise ValueError(
                f"embed.settings.{row.name} is fitted on {source}, but the pack has no image of it to fit on; take it "
                "out of fit_on, or see what doors 02 and 03 left out (data.licence, data.val_class_share)"
                + run.recipe.data.told_of_foreign
            )
    return sum(len(places) for places in places_of(packed, entry.sources).values())


def _too_few(row: Setting, n: int, is_default: bool) -> str:
    at = f"embed.settings.{row.name}"
    if is_default:
        return (
            f"{at}.pca_dim is {row.pca_dim}, which needs more than {row.pca_dim} training images; the pack has {n}. "
            "Add images, lower data.val_class_share, or set a smaller pca_dim"
        )
    return (
        f"{at}.pca_dim is {row.pca_dim}, which needs more than {row.pca_dim} images and words to fit on; fit_on names "
        f"{n}. Name more, or set a smaller pca_dim"
    )


def places_of(packed: PackedImages, sources: Iterable[str]) -> dict[str, np.ndarray]:
    """Positions of the images that a PCA is fitted on, for some sources.

    Args:
        packed: The images.
        sources: Names of sources. Without names, all training images are used.

    Returns:
        For each of the splits `train` and `unlabelled` that has such images, their positions in the split, int64 [n].
    """
    names = set(sources)
    found = {}
    for split in FITTED if names else ("train",):
        of_split = packed.index["source"].to_numpy(str)[rows_of(packed, split)]
        chosen = np.flatnonzero(np.isin(of_split, list(names))) if names else np.arange(len(of_split))
        if len(chosen):
            found[split] = chosen
    return found


class _Some:
    """Some rows of combined outputs, read a few at a time."""

    def __init__(self, rows: Combined, places: np.ndarray) -> None:
        """`places` is int64 [n], ascending positions."""
        self.rows, self.places = rows, places
        self.shape = (len(places), rows.shape[1])

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, rows: slice) -> np.ndarray:
        return self.rows[self.places[rows]]


class _Fit:
    """What one setting's PCA is fitted on."""

    def __init__(self, run: Run, setting: Setting, features: Features, train: Combined) -> None:
        self.run, self.setting, self.features, self.train = run, setting, features, train

    def moments(self) -> tuple[Moments, FitOn]:
        """Mean and covariance of the images and words, each entry weighted by its share; and the entries themselves.

        Words contribute only to the covariance. Without any images the mean is that of the training images.
        """
        recipe = self.run.recipe
        if recipe.embed.fit_on_of(self.setting) == TRAINING:
            return moments_of([self.train], self.setting.pca_dim), TRAINING
        packed = images_of(self.run)
        entries = entries_of(recipe, self.setting, packed.index)
        images = [(self._of_images(entry, packed), entry.weight) for entry in entries if isinstance(entry, FitImages)]
        words = [(self._of_words(entry), entry.weight) for entry in entries if isinstance(entry, FitWords)]
        self._tell(entries, [moments.n for moments, _ in (*images, *words)])
        if withheld := withheld_sources(recipe, self.setting, packed.index):
            why = recipe.data.told_of_foreign
            log.info("%s: not fitted on %s%s", cut(self.setting.name, 30), ", ".join(withheld), why)
        if not images:
            return with_spread(moments_of([self.train]), 0.0, words), entries
        return with_spread(mixed(images), sum(weight for _, weight in images), words), entries

    def _of_images(self, entry: FitImages, packed: PackedImages) -> Moments:
        if not entry.sources:
            return moments_of([self.train])
        parts = []
        for split, chosen in places_of(packed, entry.sources).items():
            rows = self.train if split == "train" else Combined(self.run, self.setting, self.features, split)
            parts.append(_Some(rows, chosen))
        return moments_of(parts)

    def _of_words(self, entry: FitWords) -> Moments:
        return moments_of([embedded_words(self.run, self.setting, entry)])

    def _tell(self, entries: tuple[FitImages | FitWords, ...], ns: list[int]) -> None:
        ordered = sorted(entries, key=lambda entry: isinstance(entry, FitWords))  # in the order of `ns`
        whole = sum(entry.weight for entry in entries)
        told = [f"{entry.weight / whole:.0%} {n:,} {described(entry)}" for entry, n in zip(ordered, ns, strict=True)]
        log.info("%s: PCA fitted on %s", cut(self.setting.name, 30), ", ".join(told))
