"""What int8 and binary codes cost: the contest's precision with each, beside that of the embeddings themselves."""

from __future__ import annotations

import numpy as np
import pandas as pd

from guie.embed.codes import N_CANDIDATES, Codes, has_bits, nearest_in_two_steps, signs, to_bits
from guie.embed.retrieval import K, host_precision, mean_of_domains, retrieve
from guie.evaluate.intervals import class_interval, paired_p

FLOAT = "float32"  # the code of embeddings as they are
RERANKED = f"binary, {N_CANDIDATES} re-ranked by int8"


def code_loss(embeddings: np.ndarray, ids: pd.DataFrame, codes: Codes) -> pd.DataFrame:
    """mP@5 of float32, int8, binary, and binary candidates ordered by int8; each image queries all others.

    Args:
        embeddings: float [n, dim], of validation images.
        ids: class_id and domain of each image.
        codes: Fitted on other images.

    Returns:
        A row for each code: code, n_bytes of an image, and the columns of `compared`, against float32.
    """
    class_ids = ids["class_id"].to_numpy()
    full = retrieve(embeddings, class_ids).precision
    precisions = {FLOAT: (4 * embeddings.shape[1], full), **code_precisions(embeddings, class_ids, codes)}
    return pd.DataFrame(
        [
            {"code": name, "n_bytes": n_bytes} | compared(precision, full, ids)
            for name, (n_bytes, precision) in precisions.items()
        ]
    )


def code_precisions(embeddings: np.ndarray, class_ids: np.ndarray, codes: Codes) -> dict[str, tuple[int, np.ndarray]]:
    """What an image's code takes and finds. Binary codes are whole bytes: without a multiple of 8 numbers there are
    none.

    Args:
        embeddings: float [n, dim].
        class_ids: int64 [n].
        codes: Fitted on other images.

    Returns:
        By code: bytes of an image, and the precision of each query, float64 [n].
    """
    int8, dim = codes.to_int8(embeddings), embeddings.shape[1]
    precisions = {"int8": (dim, retrieve(codes.from_int8(int8), class_ids).precision)}
    if has_bits(dim):
        bits = to_bits(embeddings)
        precisions["binary"] = (dim // 8, retrieve(signs(bits), class_ids).precision)
        precisions[RERANKED] = (dim + dim // 8, _in_two_steps(bits, int8, class_ids))
    return precisions


def compared(precision: np.ndarray, full: np.ndarray, ids: pd.DataFrame) -> dict[str, float]:
    """The score of one embedding beside another.

    Args:
        precision: Of each query, float64 [n].
        full: Those of what it is compared with.
        ids: class_id and domain of each image.

    Returns:
        mp5 with its 95 % interval mp5_low and mp5_high (NaN where a domain has a single class), loss (mP@5 of `full`
        minus this; negative is better), and p of the paired test. See `guie.evaluate.intervals`.
    """
    class_ids, domains = ids["class_id"].to_numpy(), ids["domain"].to_numpy()
    low, high = class_interval(precision, class_ids, domains)
    return {
        "mp5": mean_of_domains(precision, domains)[0],
        "mp5_low": low,
        "mp5_high": high,
        "loss": mean_of_domains(full - precision, domains)[0],
        "p": paired_p(full, precision, class_ids, domains),
    }


def _in_two_steps(bits: np.ndarray, int8: np.ndarray, class_ids: np.ndarray) -> np.ndarray:
    """The precision of each query whose candidates are found by their bits, float64 [n]; NaN without a relevant
    image."""
    neighbours = nearest_in_two_steps(bits, int8, K)
    _, dense, counts = np.unique(class_ids, return_inverse=True, return_counts=True)
    is_correct = (neighbours >= 0) & (dense[neighbours] == dense[:, None])
    return host_precision(is_correct, counts[dense] - 1)
