"""Finds duplicates: exact ones by the bytes of the file, near ones by a perceptual hash and coarse colours.

The hash is pHash (Zauner, Implementation and benchmarking of perceptual image hash functions, 2010). The grey picture
is resized to 32 x 32. Each of its lowest 8 x 8 cosine frequencies gives one bit: whether it is above their median. The
library imagehash does the same with another resize; area averages take a tenth of the time. The hash does not see
colour: a red and a green heart have the same hash. So the mean colours of 4 x 4 tiles must agree, too.

Pairs of hashes that differ in a few bits are all found by sorting (Manku, Jain and Sarma, Detecting near-duplicates for
web crawling, 2007). A hash is cut into six words. Two hashes that differ in at most four bits have at least two equal
words. They become neighbours when the hashes are sorted by these two words; there are fifteen choices of two. Pairs are
compared in blocks, and only the best twin of each picture is kept, so memory does not grow with the number of pairs.
faiss' multi-index hashing finds the same pairs; tests/benchmarks/data_prep.py measures both.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from guie.shown import progress

MAX_BITS = 4  # six words find all pairs that differ in at most this many bits
N_WORDS = 6
HASH_PX, HASH_SIDE, COLOUR_SIDE = 32, 8, 4
# Of 255. A JPEG of quality 30 or of half the size differs by less than 4, a picture brightened by a tenth by 12.
MAX_COLOUR_RMS = 10.0
MAX_TWINS = 100  # pictures of one hash that others are compared with: there may be thousands of blank ones
BLOCK = 1 << 17  # pairs compared at a time
# A twin is stored as one uint64: its row from bit 0, the number of differing bits from bit 40, its rank from bit 48.
BITS_AT, RANK_AT, NO_TWIN = 40, 48, np.uint64(2**64 - 1)
DUPLICATE_COLUMNS = (
    "image_id",
    "twin",
    "split",
    "twin_split",
    "class_id",
    "twin_class_id",
    "n_bits",
    "is_same_file",
    "outcome",
)
LEFT_TRAINING = "left training"
LEFT_UNLABELLED = "left the unlabelled"  # see `guie.data.unlabelled`, which alone gives this outcome
OUTCOMES = (LEFT_TRAINING, "two labels", "same label", LEFT_UNLABELLED)  # the first three by rank
log = logging.getLogger(__name__)


def content_hash(file: bytes) -> str:
    """128 bits of BLAKE2b over a file's bytes, as 32 hexadecimal digits."""
    return hashlib.blake2b(file, digest_size=16).hexdigest()


def perceptual_hash(pixels: np.ndarray) -> int:
    """The pHash of a picture, uint8 [h, w, 3]: 0 to 2**64 - 1. Pictures that look alike differ in few bits."""
    grey = cv2.resize(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), (HASH_PX, HASH_PX), interpolation=cv2.INTER_AREA)
    low = np.asarray(cv2.dct(grey.astype(np.float64)), np.float64)[:HASH_SIDE, :HASH_SIDE]
    low[0] *= 2**0.5  # imagehash's transform is not normalised, OpenCV's is
    low[:, 0] *= 2**0.5
    return int.from_bytes(np.packbits(low > np.median(low)).tobytes(), "big")


def colours(pixels: np.ndarray) -> bytes:
    """The mean colours of 4 x 4 tiles of a picture, uint8 [h, w, 3], computed from every few pixels: 48 bytes."""
    step = max(1, min(pixels.shape[:2]) // (8 * COLOUR_SIDE))
    return cv2.resize(
        np.ascontiguousarray(pixels[::step, ::step]), (COLOUR_SIDE, COLOUR_SIDE), interpolation=cv2.INTER_AREA
    ).tobytes()


def near_pairs(hashes: np.ndarray, n_bits: int) -> tuple[np.ndarray, np.ndarray]:
    """All pairs of hashes that differ in at most `n_bits` bits.

    Args:
        hashes: uint64 [n], all different.
        n_bits: 0 to `MAX_BITS`.

    Returns:
        The positions of each pair, int64 [m, 2], sorted, the smaller position first; and the number of bits in which
        they differ, int64 [m].

    Raises:
        ValueError: `n_bits` is out of its range.
    """
    if not 0 <= n_bits <= MAX_BITS:
        raise ValueError(f"n_bits is {n_bits}; must be 0 to {MAX_BITS}")
    pairs = np.concatenate([np.empty((0, 2), np.int64), *_near_blocks(hashes, n_bits)])
    pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    return pairs, np.bitwise_count(hashes[pairs[:, 0]] ^ hashes[pairs[:, 1]]).astype(np.int64)


def _near_blocks(hashes: np.ndarray, n_bits: int) -> Iterator[np.ndarray]:
    """The pairs of `near_pairs`, each once, in no order, about `BLOCK` at a time."""
    edges = np.linspace(0, 64, N_WORDS + 1).astype(int)
    words = [np.uint64(2 ** int(high) - 2 ** int(low)) for low, high in itertools.pairwise(edges)]
    choices = list(itertools.combinations(range(N_WORDS), 2))
    waiting: list[np.ndarray] = []
    for first, second in progress(choices, desc="comparing hashes", leave=False, delay=2):
        earlier = [words[k] for k in range(second) if k != first]
        for left, right in _equal_pairs(hashes & (words[first] | words[second])):
            pairs = _new_pairs(hashes, left, right, n_bits, earlier)
            if len(pairs):
                waiting.append(pairs)
            if sum(map(len, waiting)) >= BLOCK or len(waiting) >= BLOCK >> 8:
                yield np.concatenate(waiting)
                waiting = []
    if waiting:
        yield np.concatenate(waiting)


def _equal_pairs(keys: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """All pairs of equal keys: first neighbours in sorted order, then those two positions apart, and so on.

    Args:
        keys: uint64 [n].

    Yields:
        The two positions of each pair, int64 [m] each.
    """
    order = np.argsort(keys)
    keys = keys[order]
    there = np.arange(len(keys) - 1)
    step = 1
    while len(there := there[there + step < len(keys)]) and len(there := there[keys[there] == keys[there + step]]):
        yield order[there], order[there + step]
        step += 1


def _new_pairs(
    hashes: np.ndarray,
    left: np.ndarray,
    right: np.ndarray,
    n_bits: int,
    earlier: list[np.uint64],
) -> np.ndarray:
    """The pairs (left, right) that differ in at most `n_bits` bits and were not found before.

    A pair with more than two equal words is found by several sorts. It is kept at the first of them, where none of the
    `earlier` words is equal.

    Returns:
        int64 [m, 2], the smaller position first.
    """
    difference = hashes[left] ^ hashes[right]
    is_new = np.bitwise_count(difference) <= n_bits
    for word in earlier:
        is_new &= (difference & word) != 0
    return np.stack([np.minimum(left, right), np.maximum(left, right)], axis=1)[is_new]


def find_duplicates(rows: pd.DataFrame, n_bits: int) -> pd.DataFrame:
    """Finds pictures that are in `rows` more than once, and says what happens to them.

    A training picture that is also in validation leaves training. All others stay. One picture with two labels is
    reported, for the user to judge.

    Args:
        rows: image_id, split ("train" or "val"), class_id, content (see `content_hash`), phash and colours of all
            pictures, each once.
        n_bits: Hashes of the same picture differ in at most this many bits; -1 compares the files' bytes only.

    Returns:
        One row for each picture that has a twin, sorted by image_id; columns as in `DUPLICATE_COLUMNS`. The outcome is
        "left training", "two labels" (within training or within validation) or "same label". Of several twins the one
        with the first of these outcomes is named; if they have the same outcome, the nearest.
    """
    rows = rows[["image_id", "split", "class_id", "content", "phash", "colours"]].sort_values(
        "image_id", ignore_index=True
    )
    keys = rows["phash"].to_numpy(np.uint64) if n_bits >= 0 else pd.factorize(rows["content"])[0].astype(np.uint64)
    hashes, group = np.unique(keys, return_inverse=True)
    search = _Search(rows, group, is_near=n_bits >= 0)
    same = np.flatnonzero(np.bincount(group) > 1)
    search.compare(same, same)
    if n_bits > 0:
        for pairs in _near_blocks(hashes, n_bits):
            search.compare(pairs[:, 0], pairs[:, 1])
            search.compare(pairs[:, 1], pairs[:, 0])
    return search.found()


class _Search:
    """The best twin of each picture so far. Memory grows with the number of pictures, not of pairs.

    A twin is stored as one number, the smaller the better: its rank (the position of its outcome in `OUTCOMES`), the
    number of differing bits, its row.
    """

    def __init__(self, rows: pd.DataFrame, group: np.ndarray, is_near: bool) -> None:
        """Sorts the rows by the group of their hash."""
        self.rows, self.is_near = rows, is_near
        self.hashes, self.class_ids = rows["phash"].to_numpy(np.uint64), rows["class_id"].to_numpy()
        self.tiles = np.frombuffer(b"".join(rows["colours"]), np.uint8).reshape(len(rows), -1) if is_near else None
        self.is_val = (rows["split"] == "val").to_numpy()
        self.members = np.argsort(group, kind="stable")
        self.sizes = np.bincount(group)
        self.starts = np.cumsum(self.sizes) - self.sizes
        splits = pd.DataFrame({"group": group, "is_val": self.is_val})
        is_some = (splits.groupby(["group", "is_val"]).cumcount() < MAX_TWINS).to_numpy()
        if not is_some.all():
            text = "%d pictures share their hash with more than %d others and are compared with the first of them only"
            log.warning(text, (~is_some).sum(), MAX_TWINS)
        self.some = self.members[is_some[self.members]]
        self.n_some = np.bincount(group[is_some], minlength=len(self.sizes))
        self.some_starts = np.cumsum(self.n_some) - self.n_some
        self.best = np.full(len(rows), NO_TWIN)

    def compare(self, groups: np.ndarray, near: np.ndarray) -> None:
        """Compares all pictures of each group with up to `MAX_TWINS` pictures per split of the group at the same
        position of `near`."""
        ends = np.cumsum(self.sizes[groups] * self.n_some[near])
        for first in range(0, int(ends[-1]) if len(ends) else 0, BLOCK):
            pair = np.arange(first, min(first + BLOCK, int(ends[-1])))
            edge = np.searchsorted(ends, pair, side="right")
            g, h = groups[edge], near[edge]
            place, twin_place = np.divmod(pair - (ends[edge] - self.sizes[g] * self.n_some[h]), self.n_some[h])
            self._compare_pictures(self.members[self.starts[g] + place], self.some[self.some_starts[h] + twin_place])

    def _compare_pictures(self, left: np.ndarray, right: np.ndarray) -> None:
        is_leak = ~self.is_val[left] & self.is_val[right]
        rank = np.where(is_leak, 0, np.where(self.class_ids[left] != self.class_ids[right], 1, 2)).astype(np.uint64)
        bits = np.bitwise_count(self.hashes[left] ^ self.hashes[right]).astype(np.uint64)
        value = (rank << np.uint64(RANK_AT)) | (bits << np.uint64(BITS_AT)) | right.astype(np.uint64)
        is_better = (left != right) & (is_leak | (self.is_val[left] == self.is_val[right])) & (value < self.best[left])
        left, right, value = left[is_better], right[is_better], value[is_better]
        if self.tiles is not None and len(left):
            difference = self.tiles[left].astype(np.int32) - self.tiles[right]
            is_alike = np.sqrt((difference**2).mean(axis=1)) <= MAX_COLOUR_RMS
            left, value = left[is_alike], value[is_alike]
        np.minimum.at(self.best, left, value)

    def found(self) -> pd.DataFrame:
        """The rows of `find_duplicates`."""
        left = np.flatnonzero(self.best != NO_TWIN)
        value = self.best[left]
        right = (value & np.uint64(2**BITS_AT - 1)).astype(np.int64)
        outcomes = np.array(OUTCOMES, dtype=object)
        columns = {"image_id": "twin", "split": "twin_split", "class_id": "twin_class_id"}
        table = {name: self.rows[name].to_numpy()[left] for name in columns}
        table |= {twin: self.rows[name].to_numpy()[right] for name, twin in columns.items()}
        table["n_bits"] = (value >> np.uint64(BITS_AT) & np.uint64(0xFF)).astype(np.int64)
        table["is_same_file"] = self.rows["content"].to_numpy()[left] == self.rows["content"].to_numpy()[right]
        table["outcome"] = outcomes[(value >> np.uint64(RANK_AT)).astype(np.int64)]
        return pd.DataFrame(table, columns=list(DUPLICATE_COLUMNS))


def tell_duplicates(duplicates: pd.DataFrame, path: Path) -> None:
    """Logs what `find_duplicates` found and the file that holds it, with an example of two labels for one picture."""
    if duplicates.empty:
        return
    counts = duplicates["outcome"].value_counts()
    text = ", ".join(f"{counts[outcome]:,} {outcome}" for outcome in OUTCOMES if outcome in counts)
    log.info("%d images have a twin (%s): %s", len(duplicates), text, path)
    for row in duplicates[duplicates["outcome"] == "two labels"].head(1).itertuples():
        log.info("two labels for one picture, for example: %s and %s", row.image_id, row.twin)
