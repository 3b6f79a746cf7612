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
from guie.shown import cut

log = logging.getLogger(__name__)
NESTED = (16, 32, 64, 128)
MOST_BYTES = 2 << 30  # of the validation images' outputs at full width, which are searched in memory
FULL = "all, without PCA"
FLOAT = "float32"  # the code of embeddings as they are; other codes stand under their names


def precisions_by_width(
    setting: Setting,
    val: Combined,
    exported: np.ndarray,
    own: np.ndarray,
    moments: Moments | None,
    class_ids: np.ndarray,
) -> dict[int, tuple[str, np.ndarray]]:
    """Each query's precision with fewer and more numbers of one projection.

    A PCA is nested: its first 16 numbers are the PCA to 16. Post-processing belongs to the setting's own width alone.

    Args:
        setting: The setting.
        val: What it combines, of the validation images.
        exported: The setting's embeddings of the same images, float32 [n, dim].
        own: Their precisions, float64 [n].
        moments: Those of what its PCA is fitted on; None leaves the setting's own width alone.
        class_ids: int64 [n].

    Returns:
        For each width, ascending: `FLOAT`, or `FULL` for all numbers of a setting with a PCA; and float64 [n].
    """
    dim, width = exported.shape[1], val.shape[1]
    found = {dim: (FLOAT, own)}
    if moments is None or setting.post != PostProcess():
        return found
    dims = [each for each in NESTED if each < min(width, moments.n) and each != dim]
    if dims:
        pca = pca_of(moments, max(dims), setting.whiten)
        projected = np.concatenate([pca.transform(block) for block in blocks(val)])
        found |= {each: (FLOAT, retrieve(projected[:, :each], class_ids).precision) for each in dims}
    if width > dim and 4 * width * len(val) <= MOST_BYTES:
        found[width] = (FULL, retrieve(val.whole(), class_ids).precision)
    elif width > dim:
        log.info(
            "%s: %d numbers of %d images are too many to search at full width", cut(setting.name, 30), width, len(val)
        )
    return dict(sorted(found.items()))


def width_scores(by_width: dict[int, tuple[str, np.ndarray]], width: int, domains: np.ndarray) -> dict[str, float]:
    """The columns of scores.csv that tell the host's metric of other widths; NaN where a setting has no such width.

    Args:
        by_width: See `precisions_by_width`.
        width: Numbers of an image before any PCA, whose score is `dim_all`.
        domains: Domain of each query, [n].

    Returns:
        `dim_16`, `dim_32`, `dim_64`, `dim_128` and `dim_all`.
    """
    scores = {dim: round(mean_of_domains(own, domains)[0], 6) for dim, (_, own) in by_width.items()}
    columns = {f"dim_{dim}": scores.get(dim, np.nan) for dim in NESTED}
    return columns | {"dim_all": scores.get(width, np.nan)}


def dimension_table(by_width: dict[int, tuple[str, np.ndarray]], embedded: Embedded, ids: pd.DataFrame) -> pd.DataFrame:
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
    full = by_width[own][1]
    rows = []
    for dim, (code, precision) in by_width.items():
        low, high = class_interval(precision, class_ids, domains)
        row: dict[str, Any] = {"dim": dim, "code": code, "n_bytes": 4 * dim}
        row |= {"mp5": mean_of_domains(precision, domains)[0], "mp5_low": low, "mp5_high": high}
        row["loss"] = mean_of_domains(full - precision, domains)[0]
        row["p"] = np.nan if dim == own else paired_p(full, precision, class_ids, domains)
        rows.append(row | {"is_exported": dim == own})
    codes = code_loss(exported, ids, fit_codes(embedded.by_split["train"])).iloc[1:]  # the first is float32
    whole = pd.concat([pd.DataFrame(rows), codes.assign(dim=own, is_exported=False)], ignore_index=True)
    return whole[list(rows[0])].round(6)
