"""Duplicates: the hash against its published formula, the pairs against brute force, the outcome by hand."""

import io
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.fftpack import dct

from guie.data.duplicates import (
    DUPLICATE_COLUMNS,
    MAX_TWINS,
    colours,
    content_hash,
    find_duplicates,
    near_pairs,
    perceptual_hash,
)


def _photo(seed: int, px: int = 96) -> Image.Image:
    """Coloured noise with large shapes, as photographs have."""
    rng = np.random.default_rng(seed)
    small = rng.uniform(0, 255, (6, 6, 3)).astype(np.uint8)
    return Image.fromarray(small).resize((px, px), Image.Resampling.BICUBIC)


def _hash(image: Image.Image) -> int:
    return perceptual_hash(np.asarray(image))


def _row(image_id: str, split: str, class_id: int, image: Image.Image, file: bytes | None = None) -> dict[str, object]:
    content = content_hash(file if file is not None else image.tobytes() + image_id.encode())
    return {
        "image_id": image_id,
        "split": split,
        "class_id": class_id,
        "content": content,
        "phash": _hash(image),
        "colours": colours(np.asarray(image)),
    }


def _found(rows: list[dict[str, object]], n_bits: int = 4) -> dict[str, tuple[str, str]]:
    table = find_duplicates(pd.DataFrame(rows).astype({"phash": np.uint64}), n_bits)
    assert list(table.columns) == list(DUPLICATE_COLUMNS)
    return {row.image_id: (row.twin, row.outcome) for row in table.itertuples()}


def test_perceptual_hash_is_the_published_formula():
    """scipy's plain cosine transform twice, the lowest 8 x 8 above their median, row by row."""
    for seed in range(30):
        image = _photo(seed, 32)  # larger ones are averaged to this first
        grey = np.round(np.asarray(image, dtype=float) @ (0.299, 0.587, 0.114))
        low = dct(dct(grey, axis=0), axis=1)[:8, :8]
        bits = "".join("1" if value > np.median(low) else "0" for value in low.ravel())
        assert _hash(image) == int(bits, 2)


@pytest.mark.parametrize("n_bits", range(5))
def test_near_pairs_are_those_of_brute_force(n_bits: int):
    rng = np.random.default_rng(n_bits)
    seeds = rng.integers(0, 2**64, 60, dtype=np.uint64)
    hashes = set(seeds.tolist())
    for value in seeds.tolist():  # neighbours at 1 to 6 bits
        for n in range(1, 7):
            for bit in rng.choice(64, n, replace=False).tolist():
                value ^= 1 << bit
            hashes.add(value)
    hashes |= {int(value) for value in rng.integers(0, 2**10, 200)}  # crowded words
    values = np.array(sorted(hashes), np.uint64)
    rng.shuffle(values)
    expected = {
        (i, j, d)
        for i, a in enumerate(values.tolist())
        for j, b in enumerate(values.tolist())
        if i < j and (d := (a ^ b).bit_count()) <= n_bits
    }
    pairs, bits = near_pairs(values, n_bits)
    got = [(i, j, d) for (i, j), d in zip(pairs.tolist(), bits.tolist(), strict=True)]
    assert len(got) == len(set(got)) and set(got) == expected
    assert got == sorted(got)
    assert n_bits == 0 or len(expected) > 50


@pytest.mark.parametrize("n", [0, 1, 2])
def test_near_pairs_of_few_hashes(n: int):
    pairs, bits = near_pairs(np.arange(n, dtype=np.uint64), 4)
    assert len(pairs) == len(bits) == (n == 2)


def test_near_pairs_refuses_what_it_could_not_find():
    with pytest.raises(ValueError, match="n_bits is 5; must be 0 to 4"):
        near_pairs(np.arange(3, dtype=np.uint64), 5)


def test_training_picture_in_validation_leaves_training_and_two_labels_are_told():
    a, b, c, d = (_photo(seed) for seed in range(4))
    buffer = io.BytesIO()
    a.save(buffer, "JPEG", quality=60)
    again = Image.open(buffer)
    rows = [
        *(_row("t/a", "train", 0, a), _row("v/a", "val", 5, again)),  # in both: the training picture goes
        *(_row("t/b1", "train", 1, b), _row("t/b2", "train", 2, b.resize((48, 48)))),  # two labels within training
        *(_row("v/c1", "val", 6, c), _row("v/c2", "val", 6, c)),  # same label within validation
        _row("t/d", "train", 3, d),
    ]
    assert _found(rows) == {
        "t/a": ("v/a", "left training"),
        "t/b1": ("t/b2", "two labels"),
        "t/b2": ("t/b1", "two labels"),
        "v/c1": ("v/c2", "same label"),
        "v/c2": ("v/c1", "same label"),
    }
    assert _found(rows[::-1]) == _found(rows)


def test_another_colour_is_another_picture():
    red = np.full((64, 64, 3), 255, np.uint8)
    red[16:48, 20:44] = (200, 30, 30)
    green = red.copy()
    green[16:48, 20:44] = (28, 121, 28)  # as bright
    images = [Image.fromarray(pixels) for pixels in (red, green)]
    assert (_hash(images[0]) ^ _hash(images[1])).bit_count() <= 4
    assert _found([_row(f"t/{n}", "train", n, image) for n, image in enumerate(images)]) == {}


def test_minus_one_bit_compares_bytes_alone():
    image = _photo(0)
    rows = [
        _row("t/1", "train", 0, image, b"one"),
        _row("v/1", "val", 1, image, b"one"),
        _row("t/2", "train", 0, image, b"two"),
    ]
    assert _found(rows, -1) == {"t/1": ("v/1", "left training")}
    assert set(_found(rows, 0)) == {"t/1", "t/2"}


def test_thousands_of_blank_pictures_are_no_trouble(caplog: pytest.LogCaptureFixture):
    blank = Image.new("RGB", (20, 20), "white")
    rows = [_row(f"{split}/{n:04d}", split, n, blank) for split in ("train", "val") for n in range(3000)]
    table = find_duplicates(pd.DataFrame(rows).astype({"phash": np.uint64}), 4)
    assert table["outcome"].value_counts().to_dict() == {"left training": 3000, "two labels": 3000}
    assert f"share their hash with more than {MAX_TWINS} others" in caplog.text


def test_no_duplicates_is_an_empty_table():
    table = find_duplicates(pd.DataFrame([_row(f"t/{n}", "train", n, _photo(n)) for n in range(5)]), 4)
    assert table.empty and list(table.columns) == list(DUPLICATE_COLUMNS)


def _by_hand(rows: pd.DataFrame, n_bits: int) -> dict[str, tuple[str, int, str]]:
    """Every picture beside every other, one by one."""
    rows = rows.sort_values("image_id", ignore_index=True)
    rows["colours"] = [np.frombuffer(each, np.uint8).astype(float) for each in rows["colours"]]
    n_seen: dict[tuple[int, str], int] = {}
    is_some = []  # the first of a hash and a split
    for row in rows.itertuples():
        n_seen[row.phash, row.split] = n_seen.get((row.phash, row.split), 0) + 1
        is_some.append(n_seen[row.phash, row.split] <= MAX_TWINS)
    found = {}
    for a in rows.itertuples():
        candidates = []
        for b in rows[is_some].itertuples():
            bits = (int(a.phash) ^ int(b.phash)).bit_count()
            is_leak = (a.split, b.split) == ("train", "val")
            if a.image_id == b.image_id or bits > n_bits or not (is_leak or a.split == b.split):
                continue
            if np.sqrt(np.mean((a.colours - b.colours) ** 2)) > 10:
                continue
            outcome = "left training" if is_leak else "two labels" if a.class_id != b.class_id else "same label"
            candidates.append((["left training", "two labels", "same label"].index(outcome), bits, b.image_id, outcome))
        if candidates:
            _, bits, twin, outcome = min(candidates)
            found[a.image_id] = (twin, bits, outcome)
    return found


def _crowd(n: int, seed: int, spread: int) -> pd.DataFrame:
    """Pictures whose hashes lie within a few bits of one of three centres, many of them equal."""
    rng = np.random.default_rng(seed)
    hashes = rng.integers(0, 2**63, 3).astype(np.uint64)[rng.integers(0, 3, n)]
    for _ in range(spread):
        hashes ^= np.where(rng.random(n) < 0.5, np.uint64(1) << rng.integers(0, 64, n).astype(np.uint64), np.uint64(0))
    shades = rng.choice([0, 9, 15, 200], n)
    columns = {
        "image_id": [f"s/{i:05d}" for i in rng.permutation(n)],
        "split": rng.choice(["train", "val"], n),
        "class_id": rng.integers(0, 5, n),
    }
    contents = [str(i) for i in rng.integers(0, n, n)]
    return pd.DataFrame(
        columns | {"content": contents, "phash": hashes, "colours": [bytes([int(shade)]) * 48 for shade in shades]}
    )


@pytest.mark.parametrize(
    ("n", "spread", "n_bits"), [(300, 0, 0), (300, 2, 4), (300, 4, 4), (300, 4, 2), (450, 0, 4), (1, 0, 4)]
)
def test_crowds_are_searched_as_by_hand(n: int, spread: int, n_bits: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("guie.data.duplicates.MAX_TWINS", 20)
    monkeypatch.setitem(globals(), "MAX_TWINS", 20)
    rows = _crowd(n, n + spread, spread)
    expected = _by_hand(rows, n_bits)
    for block in (1 << 17, 1000):  # results must not depend on how the work is cut
        monkeypatch.setattr("guie.data.duplicates.BLOCK", block)
        table = find_duplicates(rows, n_bits)
        assert {row.image_id: (row.twin, row.n_bits, row.outcome) for row in table.itertuples()} == expected
        assert table["image_id"].is_monotonic_increasing


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["equal", "cloud"])
def test_crowds_need_little_memory(kind: str):
    """40,000 equal pictures, and 5,000 all of whose 2,000 hashes are neighbours: 3.1 GB and 9.7 GB when all pairs were
    held at once."""
    code = f"""
import numpy as np, pandas as pd
from guie.data.duplicates import find_duplicates
from guie.machine import peak_memory
rng, n = np.random.default_rng(0), {40_000 if kind == "equal" else 5_000}
bits = rng.integers(0, 64, (2, n)).astype(np.uint64)
hashes = np.full(n, 9, np.uint64) if {kind == "equal"} else np.uint64(1) << bits[0] | np.uint64(1) << bits[1]
split, class_id = rng.choice(["train", "val"], n), rng.integers(0, n // 20, n)
ids, contents = [f"s/{{i:06d}}" for i in range(n)], [str(i) for i in range(n)]
rows = pd.DataFrame(dict(image_id=ids, split=split, class_id=class_id, content=contents))
before = peak_memory()
table = find_duplicates(rows.assign(phash=hashes, colours=[bytes(48)] * n), 4)
assert len(table) == n
print(peak_memory() - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 200e6  # 62 MB and 35 MB were measured
