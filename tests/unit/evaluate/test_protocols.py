"""Who asks whom: every protocol against loops, the host's traps, and tables that nobody should have to debug."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from guie.evaluate.id_tables import read_solution
from guie.evaluate.protocols import (
    Task,
    class_folds,
    concatenated,
    k_fold,
    merged,
    nearest_ids,
    per_domain,
    query_index,
    score_predictions,
    scored,
    solution_task,
    spread,
    summary,
    uned,
)

Solution = dict[str, tuple[str, frozenset[str]]]


def world(n: int = 120, seed: int = 0) -> tuple[np.ndarray, pd.DataFrame]:
    """Two domains whose class numbers coincide; a few images of no class."""
    rng = np.random.default_rng(seed)
    class_id = rng.integers(8, size=n)
    class_id[::20] = -1
    ids = pd.DataFrame(
        {
            "image_id": [f"i{i:03}" for i in range(n)],
            "class_id": class_id,
            "domain": np.where(np.arange(n) % 3, "toys", "art"),
        }
    )
    return rng.normal(size=(n, 5)).astype(np.float32), ids.assign(split=np.where(np.arange(n) % 4, "index", "query"))


def loops(
    embeddings: np.ndarray, ids: pd.DataFrame, queries: list[int], index: list[int], is_same: object
) -> dict[str, float]:
    """The host's precision of each query by Euclidean distance of unit vectors, in plain loops."""
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    found = {}
    for q in queries:
        others = sorted((float(((unit[q].astype(float) - unit[i]) ** 2).sum()), i) for i in index if i != q)
        relevant = [i for i in index if i != q and is_same(q, i)]  # type: ignore[operator]
        m = min(5, len(relevant))
        found[ids["image_id"][q]] = sum(i in relevant for _, i in others[:m]) / m if m else np.nan
    return found


def assert_equals_loops(tasks: list[Task], expected: dict[str, float]) -> None:
    embeddings, ids = world()
    table = scored(embeddings, ids, tasks)
    assert len(table) == len(expected)
    assert dict(zip(table["image_id"], table["mp5"], strict=True)) == pytest.approx(expected, nan_ok=True)


def test_merged_index() -> None:
    embeddings, ids = world()
    everyone, c = list(range(120)), ids["class_id"]
    assert_equals_loops(merged(ids), loops(embeddings, ids, everyone, everyone, lambda a, b: c[a] == c[b] >= 0))


def test_index_of_each_domain() -> None:
    embeddings, ids = world()
    c = ids["class_id"]
    expected = {}
    for domain in ("art", "toys"):
        rows = [i for i in range(120) if ids["domain"][i] == domain]
        expected |= loops(embeddings, ids, rows, rows, lambda a, b: c[a] == c[b] >= 0)
    assert [task.name for task in per_domain(ids)] == ["art", "toys"]
    assert_equals_loops(per_domain(ids), expected)


def test_uned_needs_class_and_domain() -> None:
    embeddings, ids = world()
    c, d, everyone = ids["class_id"], ids["domain"], list(range(120))

    def is_same(a: int, b: int) -> bool:
        return bool(c[a] == c[b] >= 0 and d[a] == d[b])

    assert_equals_loops(uned(ids.drop(columns="split")), loops(embeddings, ids, everyone, everyone, is_same))
    queries, index = ([i for i in everyone if ids["split"][i] == split] for split in ("query", "index"))
    assert_equals_loops(uned(ids), loops(embeddings, ids, queries, index, is_same))
    assert scored(embeddings, ids, uned(ids))["mp5"].mean() < scored(embeddings, ids, query_index(ids))["mp5"].mean()


def test_query_and_index_files() -> None:
    embeddings, ids = world()
    c = ids["class_id"]
    queries, index = ([i for i in range(120) if ids["split"][i] == split] for split in ("query", "index"))
    assert_equals_loops(query_index(ids), loops(embeddings, ids, queries, index, lambda a, b: c[a] == c[b] >= 0))
    with pytest.raises(ValueError, match="column split"):
        query_index(ids.drop(columns="split"))
    with pytest.raises(ValueError, match="images of both"):
        query_index(ids.assign(split="index"))


def test_folds_are_disjoint_by_class_and_of_every_domain() -> None:
    embeddings, ids = world()
    ids["class_id"] = np.where(ids["class_id"] < 0, -1, 2 * ids["class_id"] + (ids["domain"] == "art"))
    fold = class_folds(ids, 4)
    known = ids["class_id"] >= 0
    assert (fold[~known] == -1).all() and set(fold[known]) == {0, 1, 2, 3}
    assert (ids[known].assign(fold=fold[known]).groupby("class_id")["fold"].nunique() == 1).all()
    assert (ids[known].assign(fold=fold[known]).groupby(["fold", "domain"])["class_id"].nunique() == 2).all()
    tasks = k_fold(ids, 4)
    assert len(tasks) == 4
    assert sum(len(task.queries) for task in tasks) == int(known.sum()) + 4 * int((~known).sum())
    assert scored(embeddings, ids, tasks)["mp5"].notna().sum() > 90
    with pytest.raises(ValueError, match="cannot be dealt"):
        k_fold(ids, 17)


SOLUTION = "id,images,Usage\nq1,a b,Public\nq2,a c d e f g,Private\nq3,c,Public\n"


def solution(tmp_path: Path, text: str = SOLUTION) -> Solution:
    path = tmp_path / "solution.csv"
    path.write_text(text)
    return read_solution(path)


@pytest.mark.parametrize(
    ("predictions", "expected"),
    [
        (
            {"q1": ["a", "x", "x", "x", "b"], "q2": ["a", "c", "d", "e", "f"], "q3": ["c"]},
            (1 / 2 + 1 + 1) / 3,
        ),  # q1 has two: rank 5 is not looked at
        ({"q2": ["x", "c", "d", "e", "f"]}, (4 / 5) / 3),  # q1 and q3 are not predicted, and count
        ({"q2": ["a", "a", "a", "c", "d", "e"]}, (3 / 5) / 3),  # a repeated id takes its place and earns nothing
        ({"q3": ["x", "c"]}, 0.0),
        ({}, 0.0),
    ],
)
def test_host_score_by_hand(tmp_path: Path, predictions: dict[str, list[str]], expected: float) -> None:
    assert score_predictions(predictions, solution(tmp_path)) == pytest.approx(expected)


def test_host_score_of_one_usage_and_of_unknown_queries(tmp_path: Path) -> None:
    truth = solution(tmp_path)
    predictions = {"q1": ["b", "a"], "q2": ["x"], "q3": ["x"]}
    assert score_predictions(predictions, truth, "Public") == pytest.approx(1 / 2)
    assert score_predictions(predictions, truth, "Private") == 0.0
    with pytest.raises(ValueError, match="'q9'"):
        score_predictions({"q9": ["a"]}, truth)
    with pytest.raises(ValueError, match="no query of usage 'public'"):
        score_predictions(predictions, truth, "public")


def test_embeddings_scored_by_a_solution_equal_their_lists_scored_by_the_host() -> None:
    rng = np.random.default_rng(1)
    n_queries, n_index = 30, 200
    names = [f"q{i}" for i in range(n_queries)] + [f"x{i}" for i in range(n_index)]
    ids = pd.DataFrame(
        {"image_id": names, "class_id": -1, "domain": "all", "split": ["query"] * n_queries + ["index"] * n_index}
    )
    embeddings = 3 * rng.normal(size=(230, 2))
    # lists that no labelling could make: what two queries share differs from query to query
    truth: Solution = {
        f"q{i}": (("Public", "Private")[i % 2], frozenset(f"x{j}" for j in rng.choice(n_index, 1 + i, replace=False)))
        for i in range(n_queries)
    }
    for usage in ("", "Public", "Private"):
        for distance in ("cosine", "euclidean"):
            task = solution_task(ids, truth, usage)
            table = scored(embeddings, ids, [task], distance)
            assert (table["n_relevant"] == [len(truth[query][1]) for query in table["image_id"]]).all()
            nearest = nearest_ids(embeddings, ids, task, distance)
            assert table["mp5"].mean() == pytest.approx(score_predictions(nearest, truth, usage)), (usage, distance)
    assert (
        scored(embeddings, ids, [task], "cosine")["mp5"].tolist()
        != scored(embeddings, ids, [task], "euclidean")["mp5"].tolist()
    )
    with pytest.raises(ValueError, match="1 images of the solution"):
        solution_task(ids[ids["image_id"] != "x7"], {"q1": ("Public", frozenset(["x7"]))})


def test_shards_give_what_one_array_gives() -> None:
    embeddings, ids = world()
    for tasks in (merged(ids), query_index(ids)):
        for is_full in (False, True):
            pd.testing.assert_frame_equal(
                scored(embeddings, ids, tasks, is_full=is_full),
                scored([embeddings[:50], embeddings[50:51], embeddings[51:]], ids, tasks, is_full=is_full),
            )


def test_summary_is_the_mean_of_domains_with_its_interval() -> None:
    embeddings, ids = world()
    better, other = (
        scored(e, ids, merged(ids)) for e in (embeddings + 1.0 * np.eye(8)[ids["class_id"], :5], embeddings)
    )
    row = summary(better, other)
    by_domain = better.groupby("domain")["map_at_r"].mean()
    assert row["map_at_r"] == pytest.approx(by_domain.mean())
    assert row["n_queries"] == 114
    assert row["mp5_low"] < row["mp5"] < row["mp5_high"]
    assert 0 < row["p_vs_previous"] < 0.2
    assert np.isnan(summary(other)["p_vs_previous"])


def test_spread_over_seeds() -> None:
    row = spread([{"mp5": 0.5}, {"mp5": 0.6}, {"mp5": 0.7}])
    assert row == pytest.approx({"mp5": 0.6, "mp5_std": 0.1})
    assert np.isnan(spread([{"mp5": 0.5}])["mp5_std"])


def test_concatenated_models_have_the_mean_of_their_cosines() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(20, 3)), rng.normal(size=(20, 7))
    ours = concatenated([a, b])
    unit = [m / np.linalg.norm(m, axis=1, keepdims=True) for m in (a, b)]
    np.testing.assert_allclose(ours @ ours.T, (unit[0] @ unit[0].T + unit[1] @ unit[1].T) / 2, atol=1e-6)


def test_what_cannot_be_scored_is_refused() -> None:
    embeddings, ids = world()
    with pytest.raises(ValueError, match="119 embeddings and 120 ids"):
        scored(embeddings[1:], ids, merged(ids))
    with pytest.raises(ValueError, match="relevant"):
        summary(scored(embeddings[:2], ids[:2].assign(class_id=[0, 1]), merged(ids[:2].assign(class_id=[0, 1]))))
