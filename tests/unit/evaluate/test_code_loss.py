"""The loss of codes, beside precisions that loops over a few images give."""

import numpy as np
import pandas as pd
import pytest

from guie.embed.codes import Codes, fit_codes
from guie.evaluate.code_loss import code_loss


def precision_of(similarities: np.ndarray, labels: np.ndarray) -> float:
    """The host's mean precision at five, of one domain; equal similarities in the order of the rows."""
    values = []
    for i in range(len(labels)):
        others = sorted((-similarities[i, j], j) for j in range(len(labels)) if j != i)
        m = min(5, sum(labels[j] == labels[i] for j in range(len(labels)) if j != i))
        if m:
            values.append(sum(labels[j] == labels[i] for _, j in others[:m]) / m)
    return sum(values) / len(values)


@pytest.fixture(scope="module")
def given() -> tuple[np.ndarray, pd.DataFrame]:
    rng = np.random.default_rng(3)
    labels = np.repeat(np.arange(10), 4)
    vectors = rng.normal(size=(10, 16))[labels] + rng.normal(scale=1.2, size=(40, 16))
    return vectors.astype(np.float32), pd.DataFrame({"class_id": labels, "domain": "toys"})


def test_every_code_has_the_precision_of_its_own_similarities(given: tuple[np.ndarray, pd.DataFrame]):
    vectors, ids = given
    labels = ids["class_id"].to_numpy()
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    codes = fit_codes(unit)
    table = code_loss(vectors, ids, codes).set_index("code")
    int8 = np.clip(np.rint(unit / codes.scale), -127, 127)
    rounded = int8 / np.linalg.norm(int8, axis=1, keepdims=True)
    bits = np.where(unit > 0, 1, -1)
    expected = {
        "float32": (precision_of(unit.astype(np.float64) @ unit.T, labels), 64),
        "int8": (precision_of(rounded @ rounded.T, labels), 16),
        "binary": (precision_of(bits @ bits.T, labels), 2),
        "binary, 100 re-ranked by int8": (precision_of(int8 @ int8.T, labels), 18),  # all 39 others are candidates
    }
    assert list(table.index) == list(expected)
    for name, (score, n_bytes) in expected.items():
        assert table.loc[name, "mp5"] == pytest.approx(score, abs=1e-9) and table.loc[name, "n_bytes"] == n_bytes
        assert table.loc[name, "loss"] == pytest.approx(expected["float32"][0] - score, abs=1e-9)
        assert table.loc[name, "mp5_low"] <= score <= table.loc[name, "mp5_high"]
    assert table.loc["float32", "p"] == 1.0 and table.loc["binary", "loss"] > 0.05 and table.loc["binary", "p"] < 0.05


def test_coarse_steps_lose(given: tuple[np.ndarray, pd.DataFrame]):
    """With steps of .3 few numbers differ from 0, so int8 has another precision than float32."""
    vectors, ids = given
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    int8 = np.rint(unit / 0.3)
    rounded = int8 / np.linalg.norm(int8, axis=1, keepdims=True)
    table = code_loss(vectors, ids, Codes(0.3)).set_index("code")
    assert table.loc["int8", "mp5"] == pytest.approx(precision_of(rounded @ rounded.T, ids["class_id"].to_numpy()))
    assert table.loc["int8", "loss"] > 0


def test_one_class_has_no_interval(given: tuple[np.ndarray, pd.DataFrame]):
    table = code_loss(given[0], given[1].assign(class_id=0), fit_codes(given[0]))
    assert (table["mp5"] == 1).all() and table["mp5_low"].isna().all()
