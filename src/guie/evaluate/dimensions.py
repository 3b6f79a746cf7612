"""What fewer and more numbers than an embedding has would score, and what codes of each width cost."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from guie.embed.codes import fit_codes
from guie.embed.ensemble import Combined
from guie.embed.fitted import Embedded
from guie.embed.pca import PCA, Moments, blocks, pca_of
from guie.embed.retrieval import mean_of_domains, retrieve
from guie.evaluate.code_loss import FLOAT, code_precisions, compared
from guie.settings.embed import PostProcess, Setting

log = logging.getLogger(__name__)
NESTED = (16, 32, 64, 128)
MOST_BYTES = 2 << 30  # of the validation images' outputs at full width, which each row with a PCA searches in memory
MOST_CODED = 256 << 20  # bytes of the validation images' embeddings at a width whose codes are searched, too
N_FITTED = 20_000  # training images, evenly spaced, that the codes of another width are fitted on
FULL = "all, without PCA"
ByWidth = dict[tuple[int, str], np.ndarray]  # precisions of the queries by width and kind


@dataclass(frozen=True)
class Widths:
    """The widths at which an embedding is scored. A PCA is nested: its first 16 numbers are the PCA to 16.

    Attributes:
        kinds: Each width and its kind, the narrow first: the exported embedding and widths in `NESTED` are `FLOAT`,
            and what is combined is `FULL`, if it is not exported itself.
        dim: The width of the exported embedding.
        pca: To the widest of the others; None where there is none.
    """

    kinds: tuple[tuple[int, str], ...]
    dim: int
    pca: PCA | None

    def embeddings(self, combined: Combined | np.ndarray, exported: np.ndarray) -> Iterator[np.ndarray]:
        """The embeddings of some images, without post-processing: float32 [n, width] for each of `kinds`, in order.

        Args:
            combined: What the setting combines, of these images, [n, width].
            exported: Their final embeddings, float32 [n, dim].
        """
        pca = self.pca
        projected = None if pca is None else np.concatenate([pca.transform(block) for block in blocks(combined)])
        for dim, kind in self.kinds:
            if kind == FULL:
                yield np.concatenate([*blocks(combined)])
            elif dim == self.dim:
                yield exported
            else:
                assert projected is not None
                yield projected[:, :dim]


def widths_of(whiten: float, combined: Combined, moments: Moments, dim: int) -> Widths:
    """The widths at which a setting's embedding is scored.

    Args:
        whiten: The setting's exponent of the whitening.
        combined: What the setting combines, of the validation images, [n, width].
        moments: Of what its PCA is fitted on; of the training images, if it has no PCA.
        dim: The width of its embedding.
    """
    width = combined.shape[1]
    dims = [each for each in NESTED if each < min(width, moments.n) and each != dim]
    kinds = [(each, FLOAT) for each in sorted([*dims, dim])]
    if width > dim and 4 * width * len(combined) <= MOST_BYTES:
        kinds.append((width, FULL))
    elif width > dim:
        log.info("%d numbers of %d images are too many to search at full width", width, len(combined))
    return Widths(tuple(kinds), dim, pca_of(moments, max(dims), whiten) if dims else None)


def precisions_by_width(widths: Widths, combined: Combined, exported: np.ndarray, class_ids: np.ndarray) -> ByWidth:
    """Each query's precision, float64 [n], at each of the widths. For `combined` and `exported` see
    `Widths.embeddings`."""
    found = widths.embeddings(combined, exported)
    return {kind: retrieve(each, class_ids).precision for kind, each in zip(widths.kinds, found, strict=True)}


def width_columns(setting: Setting, dim: int, mp5: float, by_width: ByWidth, domains: np.ndarray) -> dict[str, float]:
    """The columns `dim_16` to `dim_128` and `dim_all` of scores.csv; NaN where the setting has no such width.

    A setting without a PCA, or with post-processing, has its own width alone.

    Args:
        setting: The setting.
        dim: Its width.
        mp5: Its score.
        by_width: See `precisions_by_width`; it is not read for a setting that has its own width alone.
        domains: Domain of each query, [n].
    """
    columns = dict.fromkeys([*(f"dim_{dim}" for dim in NESTED), "dim_all"], np.nan)
    if has_widths(setting):
        for (width, code), precision in by_width.items():
            name = "dim_all" if code == FULL else f"dim_{width}"
            if name in columns:
                columns[name] = round(mean_of_domains(precision, domains)[0], 6)
        return columns
    return columns | {name: mp5 for name in own_columns(dim, bool(setting.pca_dim)) if name in columns}


def own_columns(dim: int, has_pca: bool) -> set[str]:
    """The columns of a row's own width: without a PCA these are all its numbers, too."""
    return {f"dim_{dim}"} if has_pca else {f"dim_{dim}", "dim_all"}


def has_widths(setting: Setting) -> bool:
    """Whether a setting's embedding has prefixes and a full width that scores.csv tells."""
    return bool(setting.pca_dim) and setting.post == PostProcess()


def dimension_table(widths: Widths, by_width: ByWidth, embedded: Embedded, ids: pd.DataFrame) -> pd.DataFrame:
    """The host's metric of the first numbers of one projection, of all numbers without one, and of codes of each.

    Args:
        widths: Those of the exported setting.
        by_width: Its precisions, see `precisions_by_width`.
        embedded: What it combines and exports, of the training and the validation images.
        ids: class_id and domain of the validation images.

    Returns:
        A row for each width, ascending, and each code of it: dim, code, n_bytes of an image, the columns of `compared`,
        against the exported embedding (p is NaN for itself), and is_exported. A code at full width has the name
        `FULL`, a comma and its own. A width of which `MOST_CODED` bytes are too few has no codes, unless it is the
        exported one.
    """
    rows: list[dict[str, Any]] = []
    for (dim, code), (n_bytes, precision) in _coded(widths, by_width, embedded, ids["class_id"].to_numpy()).items():
        row = {"dim": dim, "code": code, "n_bytes": n_bytes}
        row |= compared(precision, by_width[widths.dim, FLOAT], ids)
        is_exported = (dim, code) == (widths.dim, FLOAT)
        rows.append(row | ({"p": np.nan} if is_exported else {}) | {"is_exported": is_exported})
    return pd.DataFrame(rows).round(6)


def _coded(
    widths: Widths, by_width: ByWidth, embedded: Embedded, class_ids: np.ndarray
) -> dict[tuple[int, str], tuple[int, np.ndarray]]:
    """The bytes of an image and the precision of each query, by width and code as dimensions.csv names it."""
    val, train = embedded.combined["val"], embedded.combined["train"]
    fitted_on = np.arange(0, len(train), -(-len(train) // N_FITTED))
    of_val = widths.embeddings(val, embedded.by_split["val"])
    of_train = widths.embeddings(train[fitted_on], embedded.by_split["train"])  # the exported: as door 08
    found = {}
    for (dim, kind), queries, others in zip(widths.kinds, of_val, of_train, strict=True):
        found[dim, kind] = (4 * dim, by_width[dim, kind])
        if dim == widths.dim or queries.nbytes <= MOST_CODED:
            for code, scored in code_precisions(queries, class_ids, fit_codes(others)).items():
                found[dim, f"{FULL}, {code}" if kind == FULL else code] = scored
    return found
