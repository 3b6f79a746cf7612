"""Which queries are shown and which classes are mixed up, on small tables whose answer is known."""

import base64
import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from guie.report.album import thumbnail
from guie.report.choice import MAX_QUERIES, PICKS, choose, mistakes, mix_ups, picks_of, query_scores


def test_query_scores_when_the_hit_lies_behind_the_first_m_ranks() -> None:
    ids = pd.DataFrame({"image_id": list("abxyz"), "class_id": [0, 0, 1, 2, 2]})
    near = pd.DataFrame(
        {"query_id": ["a"] * 2 + ["x"] * 2, "rank": [1, 2, 1, 2], "is_correct": [False, True, False, False]}
    )
    assert query_scores(near, ids).to_dict() == {
        "a": 0.0
    }  # one relevant image: rank 2 is not looked at; x has none and is no query


def test_choice_of_queries_is_spread_and_independent_of_order() -> None:
    rng = np.random.default_rng(0)
    ids = pd.DataFrame(
        {
            "image_id": [f"i{k:04d}" for k in range(600)],
            "class_id": np.arange(600) // 6,
            "domain": [f"d{k // 200}" for k in range(600)],
        }
    )
    scores = pd.Series(rng.choice([0.0, 0.2, 0.4, 0.6, 0.8, 1.0], 600), index=ids["image_id"])
    surprise = pd.Series(rng.permutation(600) / 600, index=ids["image_id"]).iloc[
        ::2
    ]  # the nearest of every other query is wrong
    chosen = choose(scores, surprise, ids, seed=5)
    again = choose(
        scores.sample(frac=1.0, random_state=1),
        surprise.sample(frac=1.0, random_state=3),
        ids.sample(frac=1.0, random_state=2),
        seed=5,
    )
    pd.testing.assert_frame_equal(chosen, again)
    assert not chosen["image_id"].duplicated().any()
    assert not chosen["class_id"].duplicated().any()  # there are enough classes for each query to show another
    for _, group in chosen.groupby("domain"):
        assert group["picked"].value_counts().to_dict() == PICKS
        assert set(group.loc[group["picked"] == "worst", "score"]) == {0.0}
        assert set(group.loc[group["picked"] == "best", "score"]) == {1.0}
        before = group[group["picked"].isin(["random", "worst"])]
        left = surprise[surprise.index.isin(ids.loc[ids["domain"] == group["domain"].iloc[0], "image_id"])].drop(
            before["image_id"], errors="ignore"
        )
        best_of_class = left.groupby(ids.set_index("image_id")["class_id"]).idxmax()
        used = set(before["class_id"])
        expected = (
            left[[image for label, image in best_of_class.items() if label not in used]]
            .nlargest(PICKS["confused"])
            .index
        )
        assert set(group.loc[group["picked"] == "confused", "image_id"]) == set(expected)


def test_random_queries_do_not_depend_on_what_they_find_and_domains_take_turns() -> None:
    ids = pd.DataFrame(
        {
            "image_id": [f"i{k:03d}" for k in range(300)],
            "class_id": np.arange(300) // 3,
            "domain": [f"d{k // 100}" for k in range(300)],
        }
    )
    found = []
    for i in range(2):
        scores = pd.Series(np.random.default_rng(i).random(300), index=ids["image_id"])
        chosen = choose(scores, 1 - scores, ids, seed=1)
        found.append(chosen[chosen["picked"] == "random"])
    assert found[0]["image_id"].tolist() == found[1]["image_id"].tolist()
    assert found[0]["domain"].tolist() == ["d0", "d1", "d2"] * PICKS["random"]
    assert picks_of(1)["random"] > picks_of(2)["random"] == PICKS["random"]


def test_choice_of_queries_when_there_are_many_domains() -> None:
    ids = pd.DataFrame(
        {
            "image_id": [f"i{k:05d}" for k in range(2000)],
            "class_id": np.arange(2000) // 4,
            "domain": [f"d{k // 50:02d}" for k in range(2000)],
        }
    )
    chosen = choose(pd.Series(0.5, index=ids["image_id"]), pd.Series(dtype=float), ids, seed=0)
    assert len(chosen) == MAX_QUERIES
    assert chosen["domain"].nunique() == 40


def test_choice_of_queries_when_a_domain_has_three() -> None:
    ids = pd.DataFrame({"image_id": ["a", "b", "c"], "class_id": [0, 0, 0], "domain": ["d"] * 3})
    chosen = choose(pd.Series([0.0, 0.5, 1.0], index=["a", "b", "c"]), pd.Series({"a": 0.9}), ids, seed=0)
    assert sorted(chosen["image_id"]) == ["a", "b", "c"]


@pytest.mark.parametrize("shape", [(300, 150, 3), (40, 30, 3), (1, 500, 3)])
def test_thumbnail_keeps_shape_and_colour(shape: tuple[int, int, int]) -> None:
    pixels = np.broadcast_to(np.uint8([200, 60, 20]), shape).copy()
    with Image.open(io.BytesIO(base64.b64decode(thumbnail(pixels)))) as image:
        assert image.format == "JPEG"
        assert max(image.size) == min(112, max(shape[:2]))
        assert image.width / image.height == pytest.approx(shape[1] / shape[0], rel=0.02) or min(image.size) == 1
        np.testing.assert_allclose(np.asarray(image).mean((0, 1)), [200, 60, 20], atol=4)


def test_mistakes_are_the_wrong_nearest_images() -> None:
    near = pd.DataFrame(
        {
            "query_id": list("aabbcc"),
            "rank": [1, 2] * 3,
            "similarity": [0.9, 0.8, 0.7, 0.6, 0.5, 0.4],
            "is_correct": [0, 1, 1, 0, 0, 0],
        }
    )
    assert mistakes(near).to_dict() == {"a": 0.9, "c": 0.5}


def test_mix_ups_count_wrong_neighbours_that_the_metric_counts() -> None:
    ids = pd.DataFrame({"image_id": list("abcxyz"), "class_id": [0, 0, 0, 1, 1, 2], "domain": ["d"] * 6})
    labels = pd.Series(["cat"] * 3 + ["dog"] * 2 + ["fox"], index=list("abcxyz"))
    rows = [("a", 1, "x", False), ("a", 2, "y", False), ("a", 3, "z", False), ("b", 1, "c", True), ("b", 2, "x", False)]
    rows += [("x", 1, "a", False), ("x", 2, "b", False), ("z", 1, "x", False)]
    found = mix_ups(pd.DataFrame(rows, columns=["query_id", "rank", "image_id", "is_correct"]), ids, labels)
    # a and b have two relevant images, x one, z none: a3, x2 and z1 are not looked at
    names = ["domain", "label", "taken_for", "n"]
    assert found[names].to_numpy().tolist() == [["d", "cat", "dog", 3], ["d", "dog", "cat", 1]]
    assert found[["query_id", "image_id"]].to_numpy().tolist() == [["a", "x"], ["x", "a"]]  # of the smallest rank
