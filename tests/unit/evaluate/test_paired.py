"""Two settings on the same queries, against values worked out by hand."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from guie.evaluate.pairs import paired, precisions

# Class 1: a, b, c. Class 2: d, e. Class 3: f, alone, so no query.
IDS = pd.DataFrame(
    {"image_id": list("abcdef"), "class_id": [1, 1, 1, 2, 2, 3], "domain": ["x", "x", "x", "y", "y", "x"]}
)
CORRECT = {
    "before": {"a": [1, 0, 1], "b": [0, 0, 1], "c": [1, 1, 0], "d": [0, 1], "e": [1, 0], "f": [0, 0]},
    "after": {"a": [1, 1, 0], "b": [1, 0, 0], "c": [1, 1, 0], "d": [1, 0], "e": [1, 0], "f": [0, 0]},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    IDS.to_parquet(tmp_path / "val_ids.parquet")
    rows = [
        {"setting": setting, "query_id": query, "rank": rank, "image_id": "?", "is_correct": bool(hit)}
        for setting, queries in CORRECT.items()
        for query, hits in queries.items()
        for rank, hit in enumerate(hits, 1)
    ]
    pd.DataFrame(rows).sample(frac=1, random_state=0).to_parquet(tmp_path / "neighbours.parquet")
    return tmp_path


def test_precision_counts_as_many_ranks_as_there_are_relevant_images(folder: Path):
    found = precisions(folder, "before")
    assert found["image_id"].tolist() == list("abcdef")
    np.testing.assert_equal(found["precision"].to_numpy(), [0.5, 0.0, 1.0, 0.0, 1.0, np.nan])


def test_difference_is_that_of_the_domains_means(folder: Path):
    found = paired(precisions(folder, "before"), precisions(folder, "after").sample(frac=1, random_state=1))
    assert found.before == pytest.approx((0.5 + 0.5) / 2)  # x: (.5 + 0 + 1) / 3, y: (0 + 1) / 2
    assert found.after == pytest.approx(((1 + 0.5 + 1) / 3 + 1.0) / 2)
    assert found.difference == pytest.approx(found.after - found.before)
    assert found.n_classes == 2
    assert np.isnan(found.low) and np.isnan(found.high)  # one class a domain


def test_other_queries_are_refused(folder: Path):
    first = precisions(folder, "before")
    with pytest.raises(ValueError, match="other queries"):
        paired(first, first.assign(image_id=list("abcdeg")))
    with pytest.raises(ValueError, match="other queries"):
        paired(first, first.assign(class_id=[1, 1, 2, 2, 2, 3]))
    with pytest.raises(ValueError, match="no setting 'later'; it has"):
        precisions(folder, "later")
