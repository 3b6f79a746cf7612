"""What fewer and more numbers than an embedding has would score, and what codes of the exported one cost."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pandas as pd

from guie.embed.codes import fit_codes
from guie.embed.ensemble import Combined
from guie.embed.fitted import Embedded
from guie.embed.pca import Moments, blocks, pca_of
from guie.embed.retrieval import mean_of_domains, retrieve
from guie.evaluate.code_loss import code_loss
from guie.evaluate.intervals import class_interval, paired_p
from guie.settings.embed import PostProcess, Setting

log = logging.getLogger(__name__)
NESTED = (16, 32, 64, 128)
MOST_BYTES = 2 << 30  # of the validation images' outputs at full width, which each row with a PCA searches in memory
FULL = "all, without PCA"
FLOAT = "float32"  # the code of embeddings as they are; other codes stand under their names
ByWidth = dict[tuple[int, str], np.ndarray]  # precisions of the queries by width and code


def precisions_by_width(
    whiten: float, combined: Combined, moments: Moments, exported: np.ndarray, class_ids: np.ndarray
) -> ByWidth:
    """Each query's precision by embeddings of several widths, without post-processing.

    A PCA is nested: its first 16 numbers are the PCA to 16.

    Args:
        whiten: The setting's exponent of the whitening.
        combined: What the setting combines, of the validation images, [n, width].
        moments: Of what its PCA is fitted on; of the training images, if it has no PCA.
        exported: The setting's embeddings of the validation images, float32 [n, dim].
        class_ids: int64 [n].

    Returns:
        Precisions, float64 [n], by width and code, the narrow first: `exported` and the widths in `NESTED`, all as
        `FLOAT`, and what is combined as `FULL`, if it is not `exported` itself.
    """
    dim, width = exported.shape[1], combined.shape[1]
    found = {(dim, FLOAT): retrieve(exported, class_ids).precision}
    dims = [each for each in NESTED if each < min(width, moments.n) and each != dim]
    if dims:
        pca = pca_of(moments, max(dims), whiten)
        projected = np.concatenate([pca.transform(block) for block in blocks(combined)])
        found |= {(each, FLOAT): retrieve(projected[:, :each], class_ids).precision for each in dims}
    if width > dim and 4 * width * len(combined) <= MOST_BYTES:
        found[width, FULL] = retrieve(combined.whole(), class_ids).precision
    elif width > dim:
        log.info("%d numbers of %d images are too many to search at full width", width, len(combined))
    return dict(sorted(found.items(), key=lambda item: item[0][0]))


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


def dimension_table(by_width: ByWidth, embedded: Embedded, ids: pd.DataFrame) -> pd.DataFrame:
    """The host's metric of the first numbers of one projection, of all numbers without one, and of codes.

    Args:
        by_width: Precisions of the exported setting, see `precisions_by_width`.
        embedded: Its final embeddings of the training and the validation images.
        ids: class_id and domain of the validation images.

    Returns:
        A row for each width, ascending, then for each code of the exported embedding: dim, code, n_bytes of an image,
        mp5 with its 95 % interval mp5_low and mp5_high (NaN where a domain has a single class), loss (the exported
        embedding's mp5 minus this; negative is better), p of the paired test against it (NaN for itself), is_exported.
    """
    exported = embedded.by_split["val"]
    class_ids, domains = ids["class_id"].to_numpy(), ids["domain"].to_numpy()
    own = exported.shape[1]
    full = by_width[own, FLOAT]
    rows = []
    for (dim, code), precision in by_width.items():
        is_exported = (dim, code) == (own, FLOAT)
        low, high = class_interval(precision, class_ids, domains)
        row: dict[str, Any] = {"dim": dim, "code": code, "n_bytes": 4 * dim}
        row |= {"mp5": mean_of_domains(precision, domains)[0], "mp5_low": low, "mp5_high": high}
        row["loss"] = mean_of_domains(full - precision, domains)[0]
        row["p"] = np.nan if is_exported else paired_p(full, precision, class_ids, domains)
        rows.append(row | {"is_exported": is_exported})
    codes = code_loss(exported, ids, fit_codes(embedded.by_split["train"])).iloc[1:]  # the first is float32
    whole = pd.concat([pd.DataFrame(rows), codes.assign(dim=own, is_exported=False)], ignore_index=True)
    return whole[list(rows[0])].round(6)
