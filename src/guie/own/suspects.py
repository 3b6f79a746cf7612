"""Labels that the neighbours contradict, and photos that are there twice."""

from __future__ import annotations

import numpy as np
import pandas as pd

from guie.data.duplicates import find_duplicates
from guie.embed.search import l2_normalised, search, vectors
from guie.own.small import SmallPhotos
from guie.settings.data import Data

K = 10  # neighbours that vote on a label
N_BITS: int = Data(sources=()).duplicate_bits
TWIN_COLUMNS = ("path", "label", "twin", "twin_label", "how", "has_two_labels")
SUSPECT_COLUMNS = ("path", "label", "suggested", "own_share", "suggested_share", "strength")


def neighbours_of(features: np.ndarray, k: int = K) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest other photos of each photo by cosine: rows, int64 [n, k], -1 where there are fewer; and cosines,
    float32 [n, k]."""
    unit = l2_normalised(features)
    return search(unit, vectors(unit), min(k, max(1, len(unit) - 1)), own_rows=np.arange(len(unit)))


def twins_of(small: SmallPhotos) -> pd.DataFrame:
    """A row for each photo that is there twice, with its nearest twin; a twin of another label comes first.

    Returns:
        path, label, twin, twin_label, how (`same file` or `looks alike`) and has_two_labels; those with two labels
        first, then by path.
    """
    table = small.table
    found = find_duplicates(table.assign(image_id=table["path"], split="val"), N_BITS)
    labels = table.set_index("path")["label"]
    own = found["image_id"].map(labels)
    other = found["twin"].map(labels)
    twins = pd.DataFrame(
        {
            "path": found["image_id"],
            "label": own,
            "twin": found["twin"],
            "twin_label": other,
            "how": np.where(found["is_same_file"], "same file", "looks alike"),
            "has_two_labels": (own != other) & (own != "") & (other != ""),
        },
        columns=list(TWIN_COLUMNS),
    )
    return twins.sort_values(["has_two_labels", "path"], ascending=[False, True], ignore_index=True)


def suspicious_labels(labels: pd.Series, paths: pd.Series, neighbours: np.ndarray) -> pd.DataFrame:
    """Photos whose neighbours have another label, by k-NN in which no photo votes on itself (leave-one-out).

    The neighbours of a photo vote: the nearest ones, as many as its label has other photos, at most K. A photo is
    suspicious if another label has more votes than its own, and at least the share that photos of that other label have
    on average for themselves. So a label whose photos look alike needs a large share, and a mixed one a small share.

    Args:
        labels: Of all photos, '' for none.
        paths: Of all photos.
        neighbours: int64 [n, k], from `neighbours_of`.

    Returns:
        path, label, suggested (the other label), the shares of votes for both, and strength, by which they are sorted:
        (votes for the other - votes for its own) / (votes + 2), so that few votes are weak.

    Source: the thresholds are those of Northcutt, Jiang and Chuang, Confident Learning, JAIR 2021, equation 2.
    """
    own = labels.to_numpy(dtype=object)
    sizes = labels[labels != ""].value_counts()
    n_votes = np.minimum(labels.map(sizes).fillna(1).to_numpy(np.int64) - 1, neighbours.shape[1])
    photo, rank = np.nonzero(np.arange(neighbours.shape[1]) < n_votes[:, None])
    votes = pd.DataFrame({"photo": photo, "voted": own[neighbours[photo, rank]]})
    share = votes.groupby(["photo", "voted"]).size().rename("share").reset_index()
    share["share"] /= n_votes[share["photo"]]
    is_own = share["voted"].to_numpy() == own[share["photo"]]
    own_share = pd.Series(0.0, index=np.flatnonzero(n_votes > 0))
    own_share.update(share[is_own].set_index("photo")["share"])
    needed = own_share.groupby(own[own_share.index]).mean()
    others = share[~is_own & (share["share"] >= share["voted"].map(needed).fillna(np.inf))]
    best = others.sort_values(["share", "voted"], ascending=[False, True]).drop_duplicates("photo").set_index("photo")
    best = best.assign(own_share=own_share)
    best = best[best["share"] > best["own_share"]]
    rows = best.index.to_numpy()
    table = pd.DataFrame(
        {
            "path": paths.to_numpy(dtype=object)[rows],
            "label": own[rows],
            "suggested": best["voted"].to_numpy(),
            "own_share": best["own_share"].to_numpy(),
            "suggested_share": best["share"].to_numpy(),
            "strength": (best["share"] - best["own_share"]).to_numpy() * n_votes[rows] / (n_votes[rows] + 2),
        },
        columns=list(SUSPECT_COLUMNS),
    )
    return table.sort_values(["strength", "path"], ascending=[False, True], ignore_index=True)
