"""Equal rows against comparisons in plain Python, and sums that are called exact against fractions."""

from fractions import Fraction

import numpy as np
import pytest

from guie.embed import ties
from guie.embed.ties import NO_DIGIT, distinct, first_copies, is_exact, last_digit


@pytest.fixture(params=["digests", "colliding digests"])
def rows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """Few different rows, zeros of both signs among them; once with a digest that is the same for all."""
    if request.param == "colliding digests":
        monkeypatch.setattr(ties, "_digests", lambda rows: np.zeros(len(rows), dtype=np.uint64))
    return np.random.default_rng(0).integers(-1, 2, size=(90, 3)).astype(np.float32) * np.float32(-0.5)


def test_distinct_rows_are_numbered_as_they_first_occur(rows: np.ndarray) -> None:
    first, number = distinct(rows)
    seen: list[tuple[float, ...]] = []
    for i, row in enumerate(map(tuple, rows.tolist())):
        if row not in seen:
            assert first[len(seen)] == i
            seen.append(row)
        assert number[i] == seen.index(row)
    assert len(first) == len(seen)


def test_first_copies(rows: np.ndarray) -> None:
    listed = [tuple(row) for row in rows.tolist()]
    assert first_copies(rows, 2).tolist() == [i for i in range(90) if listed[:i].count(listed[i]) < 2]
    assert first_copies(np.eye(3, dtype=np.float32), 1).tolist() == [0, 1, 2]


def test_digests_tell_rows_apart_that_differ_in_signs_or_order_only() -> None:
    codes = np.array([[1 - 2 * (i >> j & 1) for j in range(14)] for i in range(2**14)], dtype=np.float32)
    assert len(np.unique(ties._digests(codes))) == 2**14
    assert len(np.unique(ties._digests(np.array([[1, 2], [2, 1]], dtype=np.float32)))) == 2


def test_last_digit_by_hand() -> None:
    rows = np.array([[1, 0.5], [0, 0], [3, 8], [0.1, 1], [96, -64]], dtype=np.float32)
    # 0.1 is 13421773 / 2 ** 27 in float32, an odd number of units
    assert last_digit(rows).tolist() == [-1, NO_DIGIT, 0, -27, 5]


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_sums_that_are_called_exact_are_those_of_fractions(distance: str) -> None:
    rng = np.random.default_rng(1)
    n_exact = 0
    for digits in (1, 8, 16, 20, 22, 23, 24, 25, 26, 27, 28):
        a, b = (
            np.round(rng.normal(size=9) * 2.0**digits).astype(np.float32) * np.float32(2.0**-digits) for _ in range(2)
        )
        lengths = float(np.linalg.norm(a.astype(float))), float(np.linalg.norm(b.astype(float)))
        scale = lengths[0] * lengths[1] if distance == "cosine" else sum(lengths) ** 2
        if is_exact(last_digit(a[None]), int(last_digit(b[None])[0]), np.array([scale]), distance)[0]:
            n_exact += 1
            x, y = a.astype(float), b.astype(float)
            fractions = [(Fraction(float(p)), Fraction(float(q))) for p, q in zip(a, b, strict=True)]
            if distance == "cosine":
                assert Fraction(float(x @ y)) == Fraction(float(y[::-1] @ x[::-1])) == sum(p * q for p, q in fractions)
            else:
                assert Fraction(float(2 * (x @ y) - (x**2).sum() - (y**2).sum())) == -sum(
                    (p - q) ** 2 for p, q in fractions
                )
    assert 5 <= n_exact <= 9
    dense = rng.normal(size=(1, 64)).astype(np.float32)
    assert not is_exact(last_digit(dense), int(last_digit(dense)[0]), np.array([64.0]), distance)[0]
