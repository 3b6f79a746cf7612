"""The same picture twice: exactly, by the bytes of its file, and nearly, by a perceptual hash and its colours.

The hash is pHash (Zauner, Implementation and benchmarking of perceptual image hash functions, 2010): which of the lowest 8 x 8 cosine frequencies
of the grey picture at 32 x 32 are above their median, as the library imagehash has it (but for the way to 32 x 32: area averages, in a tenth of the
time). It is blind to colour (a red and a green heart are one
picture to it), so a pair must also agree in colour, coarsely.

Pairs of hashes within a few bits are found exactly by sorting (Manku, Jain and Sarma, Detecting near-duplicates for web crawling, 2007): of six words
of two hashes that differ in at most four bits two are equal, so the pairs lie side by side in one of fifteen orders. faiss' multi-index
hashing finds the same pairs; tests/benchmarks/data_prep.py measures both.
"""

from __future__ import annotations

import hashlib
import itertools
import logging

import cv2
import numpy as np
import pandas as pd
from tqdm import tqdm

MAX_BITS = 4  # what six words find without a miss
N_WORDS = 6
HASH_PX, HASH_SIDE, COLOUR_SIDE = 32, 8, 4
MAX_COLOUR_RMS = 10.0  # of 255; a JPEG of quality 30 or of half the size stays below 4, one brightened by a tenth is at 12
MAX_TWINS = 100  # of one hash: thousands of blank pictures must not be compared each with each
DUPLICATE_COLUMNS = ("image_id", "twin", "split", "twin_split", "class_id", "twin_class_id", "n_bits", "is_same_file", "outcome")
log = logging.getLogger(__name__)


def content_hash(file: bytes) -> str:
    """128 bits of BLAKE2b over a file's bytes, as 32 hexadecimal digits."""
    return hashlib.blake2b(file, digest_size=16).hexdigest()


def perceptual_hash(pixels: np.ndarray) -> int:
    """The pHash of a picture, uint8 [h, w, 3]: 0 to 2**64 - 1; of pictures that look alike few bits differ."""
    grey = cv2.resize(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), (HASH_PX, HASH_PX), interpolation=cv2.INTER_AREA)
    low = np.asarray(cv2.dct(grey.astype(np.float64)), np.float64)[:HASH_SIDE, :HASH_SIDE]
    low[0] *= 2**0.5  # imagehash's transform is not normalised, OpenCV's is
    low[:, 0] *= 2**0.5
    return int.from_bytes(np.packbits(low > np.median(low)).tobytes(), "big")


def colours(pixels: np.ndarray) -> bytes:
    """The mean colours of 4 x 4 tiles of a picture, uint8 [h, w, 3], looked at every few pixels: 48 bytes."""
    step = max(1, min(pixels.shape[:2]) // (8 * COLOUR_SIDE))
    return cv2.resize(np.ascontiguousarray(pixels[::step, ::step]), (COLOUR_SIDE, COLOUR_SIDE), interpolation=cv2.INTER_AREA).tobytes()


def near_pairs(hashes: np.ndarray, n_bits: int) -> tuple[np.ndarray, np.ndarray]:
    """All pairs of hashes that differ in at most `n_bits` bits.

    Args:
        hashes: uint64 [n], all different.
        n_bits: 0 to `MAX_BITS`.

    Returns:
        int64 [m, 2], the first of a pair being the smaller, sorted; and int64 [m], the number of bits.

    Raises:
        ValueError: more bits than that.
    """
    if not 0 <= n_bits <= MAX_BITS:
        raise ValueError(f"n_bits is {n_bits}; must be 0 to {MAX_BITS}")
    n, found = len(hashes), [np.empty(0, np.int64)]
    edges = np.linspace(0, 64, N_WORDS + 1).astype(int)
    words = [np.uint64(2 ** int(high) - 2 ** int(low)) for low, high in itertools.pairwise(edges)]
    for first, second in tqdm(list(itertools.combinations(words, 2)), desc="comparing hashes", disable=None, leave=False, delay=2):
        keys = hashes & (first | second)
        order = np.argsort(keys)
        keys, there, step = keys[order], np.arange(n - 1), 1
        while len(there := there[there + step < n]) and len(there := there[keys[there] == keys[there + step]]):
            left, right = order[there], order[there + step]
            is_near = np.bitwise_count(hashes[left] ^ hashes[right]) <= n_bits
            left, right = left[is_near], right[is_near]
            found.append(np.minimum(left, right) * n + np.maximum(left, right))
            step += 1
    pairs = np.stack(np.divmod(np.unique(np.concatenate(found)), max(n, 1)), axis=1)
    return pairs, np.bitwise_count(hashes[pairs[:, 0]] ^ hashes[pairs[:, 1]]).astype(np.int64)


def find_duplicates(rows: pd.DataFrame, n_bits: int) -> pd.DataFrame:
    """Pictures that stand in `rows` more than once, and what becomes of them.

    A training picture that is in validation, too, leaves training. All others stay; those with two labels are for the user to judge.

    Args:
        rows: image_id, split ("train" or "val"), class_id, content (see `content_hash`), phash and colours of all pictures, each once.
        n_bits: Hashes that differ in so many bits may be the same picture; -1 looks at the files' bytes alone.

    Returns:
        One row for each picture that has a twin, sorted by image_id; columns as in `DUPLICATE_COLUMNS`. Of several twins the one of most
        consequence is named, then the nearest. The outcome is "left training", "two labels" (within training or within validation) or "same label".
    """
    rows = rows[["image_id", "split", "class_id", "content", "phash", "colours"]].sort_values("image_id", ignore_index=True)
    keys = rows["phash"].to_numpy(np.uint64) if n_bits >= 0 else pd.factorize(rows["content"])[0].astype(np.uint64)
    hashes, group, sizes = np.unique(keys, return_inverse=True, return_counts=True)
    pairs, _ = near_pairs(hashes, max(0, n_bits)) if n_bits > 0 else (np.empty((0, 2), np.int64), None)
    has_neighbour = sizes > 1
    has_neighbour[pairs] = True
    rows, group = rows[has_neighbour[group]].reset_index(drop=True), group[has_neighbour[group]]
    if rows.empty:
        return pd.DataFrame(columns=list(DUPLICATE_COLUMNS))
    alone = np.flatnonzero(has_neighbour)
    edges = np.concatenate([np.stack([alone, alone], axis=1), pairs, pairs[:, ::-1]])
    found = _twins(rows, group, pd.DataFrame({"group": edges[:, 0], "near": edges[:, 1]}), is_near=n_bits >= 0)
    rank = np.select([found["is_leak"], found["class_id"] != found["twin_class_id"]], [0, 1], 2)
    found = found.assign(rank=rank, outcome=np.array(["left training", "two labels", "same label"], dtype=object)[rank])
    found = found.sort_values(["image_id", "rank", "n_bits", "twin"]).drop_duplicates("image_id", ignore_index=True)
    return found[list(DUPLICATE_COLUMNS)]


def _twins(rows: pd.DataFrame, group: np.ndarray, edges: pd.DataFrame, is_near: bool) -> pd.DataFrame:
    """All pairs of pictures whose groups an edge joins and whose colours agree, training pictures first where the other is in validation."""
    tiles = np.frombuffer(b"".join(rows["colours"]), np.uint8).reshape(len(rows), -1).astype(np.int32)
    places = pd.DataFrame({"group": group, "split": rows["split"], "place": np.arange(len(rows))})
    some = places.groupby(["group", "split"], sort=False).head(MAX_TWINS)
    if len(some) < len(places):
        log.warning("%d pictures share their hash with more than %d others and are compared with the first of them only", len(places) - len(some), MAX_TWINS)
    some = some.rename(columns={"group": "near", "split": "twin_split", "place": "twin_place"})
    pairs = places.merge(edges, on="group").merge(some, on="near")
    is_leak = (pairs["split"] == "train") & (pairs["twin_split"] == "val")
    pairs = pairs.assign(is_leak=is_leak)[(pairs["place"] != pairs["twin_place"]) & (is_leak | (pairs["split"] == pairs["twin_split"]))]
    left, right = pairs["place"].to_numpy(), pairs["twin_place"].to_numpy()
    values = rows["phash"].to_numpy(np.uint64)
    pairs["n_bits"] = np.bitwise_count(values[left] ^ values[right]).astype(np.int64)
    for name in ("image_id", "class_id"):
        pairs[name], pairs[f"twin_{name}".replace("twin_image_id", "twin")] = rows[name].to_numpy()[left], rows[name].to_numpy()[right]
    pairs["is_same_file"] = rows["content"].to_numpy()[left] == rows["content"].to_numpy()[right]
    if is_near:
        pairs = pairs[np.sqrt(((tiles[left] - tiles[right]) ** 2).mean(axis=1)) <= MAX_COLOUR_RMS]
    return pairs
