"""What fewer and more numbers than the exported embedding has would score, and what its codes cost."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pandas as pd

from guie.embed.codes import fit_codes
from guie.embed.ensemble import Combined
from guie.embed.fitted import Embedded
from guie.embed.pca import blocks, moments_of, pca_of
from guie.embed.retrieval import mean_of_domains, retrieve
from guie.evaluate.code_loss import code_loss
from guie.evaluate.intervals import class_interval, paired_p
from guie.settings.embed import Setting

log = logging.getLogger(__name__)
NESTED = (16, 32, 64, 128)
MOST_BYTES = 2 << 30  # of the validation images' outputs at full width, which are searched in memory
FULL = "all, without PCA"
FLOAT = "float32"  # the code of embeddings as they are; other codes stand under their names


def dimension_table(
    setting: Setting, train: Combined, val: Combined, embedded: Embedded, ids: pd.DataFrame
) -> pd.DataFrame:
    """The host's metric of the first numbers of one projection, of all numbers without one, and of codes.

    A PCA is nested: its first 16 numbers are the PCA to 16. A setting without a PCA is exported as it is; the smaller
    widths are then those of a PCA that is fitted on its training embeddings.

    Args:
        setting: The exported one, without post-processing.
        train: What it combines, of the training images.
        val: The same of the validation images.
        embedded: Its final embeddings of both.
        ids: class_id and domain of the validation images.

    Returns:
        A row for each width, ascending, then for each code of the exported embedding: dim, code, n_bytes of an image,
        mp5 with its 95 % interval mp5_low and mp5_high (NaN where a domain has a single class), loss (the exported
        embedding's mp5 minus this; negative is better), p of the paired test against it (NaN for itself), is_exported.
    """
    exported = embedded.by_split["val"]
    class_ids, domains = ids["class_id"].to_numpy(), ids["domain"].to_numpy()
    full = retrieve(exported, class_ids).precision
    rows = []
    for dim, (code, vectors) in sorted(_widths(setting, train, val, embedded).items()):
        is_exported = vectors is exported
        precision = full if is_exported else retrieve(vectors, class_ids).precision
        low, high = class_interval(precision, class_ids, domains)
        row: dict[str, Any] = {"dim": dim, "code": code, "n_bytes": 4 * dim}
        row |= {"mp5": mean_of_domains(precision, domains)[0], "mp5_low": low, "mp5_high": high}
        row["loss"] = mean_of_domains(full - precision, domains)[0]
        row["p"] = np.nan if is_exported else paired_p(full, precision, class_ids, domains)
        rows.append(row | {"is_exported": is_exported})
    codes = code_loss(exported, ids, fit_codes(embedded.by_split["train"])).iloc[1:]  # the first is float32
    whole = pd.concat([pd.DataFrame(rows), codes.assign(dim=exported.shape[1], is_exported=False)], ignore_index=True)
    return whole[list(rows[0])].round(6)


def _widths(setting: Setting, train: Combined, val: Combined, embedded: Embedded) -> dict[int, tuple[str, np.ndarray]]:
    """The validation images' embeddings by their width, with how they are called."""
    exported, width = embedded.by_split["val"], val.shape[1]
    own = exported.shape[1]
    moments = embedded.moments or moments_of([train])
    dims = [dim for dim in NESTED if dim < min(width, moments.n) and dim != own]
    found = {own: (FLOAT, exported)}
    if dims:
        pca = pca_of(moments, max(dims), setting.whiten)
        projected = np.concatenate([pca.transform(block) for block in blocks(val)])
        found |= {dim: (FLOAT, projected[:, :dim]) for dim in dims}
    if width > own and 4 * width * len(val) <= MOST_BYTES:
        found[width] = (FULL, val.whole())
    elif width > own:
        log.info("dimensions: %d numbers of %d images are too many to search at full width", width, len(val))
    return found
