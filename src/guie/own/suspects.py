"""Labels that the neighbours contradict, and photos that are there twice."""

from __future__ import annotations

import numpy as np
import pandas as pd

from guie.data.duplicates import find_duplicates
from guie.embed.search import l2_normalised, search, vectors
from guie.own.small import SmallPhotos
from guie.settings.data import Data

K = 10  # neighbours that vote on a label
# Measured on Fruits-360 with 36 of 735 labels changed at random (three draws): 29 to 32 of them are among the 95 to 109
# photos that are listed, and 16 among the first 18. With .3: 33 or 34 among 121 to 129. With .7: 24 to 28 among 59 to
# 67. On clothes, where the shipped ViT reaches an mP@5 of .15, .5 leaves 0 to 17 of 306 photos, 0 leaves 240.
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

    The nearest neighbours of a photo vote: as many as its label has other photos, at most K. The r-th nearest has the
    weight 1 / r, so that a small label is not outvoted by photos that are far away. A photo is suspicious if another
    label gets more votes than its own, and if votes for that other label can be trusted: of all photos that get most
    votes for it, at least `TRUSTED` have it. A weak network, whose votes are mostly wrong, thus finds little.

    Args:
        labels: Of all photos, '' for none.
        paths: Of all photos.
        neighbours: int64 [n, k], from `neighbours_of`.

    Returns:
        path, label, suggested (the other label), the shares of votes for both, and strength, by which they are sorted:
        the difference of the shares, times n / (n + 2) for n votes, so that few votes are weak.
    """
    own = labels.to_numpy(dtype=object)
    sizes = labels[labels != ""].value_counts()
    n_votes = np.minimum(labels.map(sizes).fillna(1).to_numpy(np.int64) - 1, neighbours.shape[1])
    most = _most_votes(own, n_votes, neighbours)
    trust = most[most["voted"] != ""].groupby("voted")["is_own"].mean()
    most = most[~most["is_own"] & (most["voted"].map(trust) >= TRUSTED)]
    rows = most.index.to_numpy(np.int64)
    share, own_share = (most[name].to_numpy(np.float64) for name in ("share", "own_share"))
    table = pd.DataFrame(
        {
            "path": paths.to_numpy(dtype=object)[rows],
            "label": own[rows],
            "suggested": most["voted"].to_numpy(),
            "own_share": own_share,
            "suggested_share": share,
            "strength": (share - own_share) * n_votes[rows] / (n_votes[rows] + 2),
        },
        columns=list(SUSPECT_COLUMNS),
    )
    return table.sort_values(["strength", "path"], ascending=[False, True], ignore_index=True)


def _most_votes(own: np.ndarray, n_votes: np.ndarray, neighbours: np.ndarray) -> pd.DataFrame:
    """The label with most votes of each photo that is judged.

    Args:
        own: object [n], the label of each photo.
        n_votes: int64 [n], how many neighbours vote on each photo.
        neighbours: int64 [n, k].

    Returns:
        By the photo's row: voted (the label), share (of the votes, 0..1), is_own (whether it is the photo's own) and
        own_share (the share of its own).
    """
    photo, rank = np.nonzero(np.arange(neighbours.shape[1]) < n_votes[:, None])
    votes = pd.DataFrame({"photo": photo, "voted": own[neighbours[photo, rank]], "share": 1 / (1 + rank)})
    votes["share"] /= votes.groupby("photo")["share"].transform("sum")
    share = votes.groupby(["photo", "voted"])["share"].sum().reset_index()
    share["is_own"] = share["voted"].to_numpy() == own[share["photo"]]
    order = ["share", "is_own", "voted"]  # of equal shares the own label wins
    most = share.sort_values(order, ascending=[False, False, True]).drop_duplicates("photo").set_index("photo")
    most["own_share"] = share[share["is_own"]].set_index("photo")["share"]
    return most.fillna({"own_share": 0.0})
