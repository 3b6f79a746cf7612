"""Labels that the neighbours contradict, and photos that are there twice."""

from __future__ import annotations

import numpy as np
import pandas as pd

from guie.data.duplicates import find_duplicates
from guie.embed.search import l2_normalised, search, vectors
from guie.own.small import SmallPhotos
from guie.settings.data import Data

K = 10  # neighbours that vote on a label
# Measured on Fruits-360 with 36 of 735 labels changed at random: 30 of them are found among 128 photos, 16 of them
# among the first 18; with .3 all 36 among 177, with .7 24 among 73. On clothes, where the shipped ViT reaches an mP@5 of .15,
# .5 leaves 23 of 306 photos; without it there would be 226.
TRUSTED = 0.5
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


def pairs_of(twins: pd.DataFrame) -> pd.DataFrame:
    """The rows of `twins_of` without those that name a pair a second time."""
    pairs = [tuple(sorted(pair)) for pair in zip(twins["path"], twins["twin"], strict=True)]
    return twins[~pd.Series(pairs, index=twins.index, dtype=object).duplicated()]


def suspicious_labels(labels: pd.Series, paths: pd.Series, neighbours: np.ndarray) -> pd.DataFrame:
    """Photos whose neighbours have another label, by k-NN in which no photo votes on itself (leave-one-out).

    The nearest neighbours of a photo vote: as many as its label has other photos, at most K. A photo is suspicious if
    another label gets more votes than its own, and if votes for that other label can be trusted: of all photos that
    get most votes for it, at least `TRUSTED` have it. A weak network, whose votes are mostly wrong, thus finds little.

    Args:
        labels: Of all photos, '' for none.
        paths: Of all photos.
        neighbours: int64 [n, k], from `neighbours_of`.

    Returns:
        path, label, suggested (the other label), the shares of votes for both, and strength, by which they are sorted:
        (votes for the other - votes for its own) / (votes + 2), so that few votes are weak.
    """
    own = labels.to_numpy(dtype=object)
    sizes = labels[labels != ""].value_counts()
    n_votes = np.minimum(labels.map(sizes).fillna(1).to_numpy(np.int64) - 1, neighbours.shape[1])
    photo, rank = np.nonzero(np.arange(neighbours.shape[1]) < n_votes[:, None])
    votes = pd.DataFrame({"photo": photo, "voted": own[neighbours[photo, rank]]})
    share = votes.groupby(["photo", "voted"]).size().rename("share").reset_index()
    share["share"] /= n_votes[share["photo"]]
    share["is_own"] = share["voted"].to_numpy() == own[share["photo"]]
    order = ["share", "is_own", "voted"]  # of equal shares the own label wins
    most = share.sort_values(order, ascending=[False, False, True]).drop_duplicates("photo").set_index("photo")
    trust = most[most["voted"] != ""].groupby("voted")["is_own"].mean()
    most["own_share"] = share[share["is_own"]].set_index("photo")["share"]
    most = most[~most["is_own"] & (most["voted"].map(trust) >= TRUSTED)].fillna({"own_share": 0.0})
    rows = most.index.to_numpy(np.int64)
    table = pd.DataFrame(
        {
            "path": paths.to_numpy(dtype=object)[rows],
            "label": own[rows],
            "suggested": most["voted"].to_numpy(),
            "own_share": most["own_share"].to_numpy(np.float64),
            "suggested_share": most["share"].to_numpy(np.float64),
            "strength": (most["share"] - most["own_share"]).to_numpy(np.float64) * n_votes[rows] / (n_votes[rows] + 2),
        },
        columns=list(SUSPECT_COLUMNS),
    )
    return table.sort_values(["strength", "path"], ascending=[False, True], ignore_index=True)
