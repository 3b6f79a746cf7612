"""Scores of domains seen and never seen, by hand and by loops; Student's interval by scipy."""

import numpy as np
import pandas as pd
import pytest
from foreign_queries import invented
from scipy import stats

from guie.evaluate.foreign_table import (
    by_domain,
    compared,
    estimate,
    fold_scores,
    last_row,
    of_others,
    refits,
    sides,
    student_interval,
    summary,
)
from guie.evaluate.foreign_text import gain_texts
from guie.evaluate.intervals import class_interval

# seed, left out, image, class, domain, precision: two domains, a class each of two images; one image asks nothing.
BY_HAND = pd.DataFrame(
    [
        (0, "a", "a1", "a/x", "a", 0.2),
        (0, "a", "a2", "a/x", "a", 0.4),
        (0, "a", "b1", "b/y", "b", 0.8),
        (0, "a", "b2", "b/y", "b", 1.0),
        (0, "a", "b3", "b/z", "b", np.nan),
        (0, "b", "a1", "a/x", "a", 0.6),
        (0, "b", "a2", "a/x", "a", 0.6),
        (0, "b", "b1", "b/y", "b", 0.5),
        (0, "b", "b2", "b/y", "b", 0.9),
        (0, "b", "b3", "b/z", "b", np.nan),
    ],
    columns=["seed", "left_out", "image_id", "class", "domain", "precision"],
)
BY_HAND = BY_HAND.assign(row="last", dim=64, recall_at_1=0.5, is_never=BY_HAND["left_out"] == BY_HAND["domain"])


def test_sides_by_hand():
    found = sides(BY_HAND).set_index("image_id")
    assert found["seen"].to_dict() == pytest.approx({"a1": 0.6, "a2": 0.6, "b1": 0.8, "b2": 1.0})
    assert found["never seen"].to_dict() == pytest.approx({"a1": 0.2, "a2": 0.4, "b1": 0.5, "b2": 0.9})


def test_summary_by_hand():
    """never: (.3 + .7) / 2; seen: (.6 + .9) / 2; the differences of the two domains are -.3 and -.2."""
    found = summary(BY_HAND).set_index("side")
    assert found["mean"].to_dict() == pytest.approx({"seen": 0.75, "never seen": 0.5, "difference": -0.25})
    interval = stats.ttest_1samp([-0.3, -0.2], 0).confidence_interval(0.95)
    line = found.loc["difference"]
    assert (line["fold_low"], line["fold_high"]) == pytest.approx((interval.low, interval.high))
    assert (line["n_pairs"], line["n_classes"]) == (2, 2) and np.isnan(line["class_low"])  # one class a domain
    of_b = by_domain(BY_HAND, "last").query("domain == 'b'").set_index("side")
    assert of_b["mean"].to_dict() == pytest.approx({"seen": 0.9, "never seen": 0.7, "difference": -0.2})
    assert of_b["fold_low"].isna().all()  # of one pair


def test_one_fold_alone_has_no_difference():
    found = summary(BY_HAND[BY_HAND["left_out"] == "a"])
    assert dict(zip(found["side"], found["mean"], strict=True)) == pytest.approx({"seen": 0.9, "never seen": 0.3})


def test_both_sides_are_of_the_domains_that_were_left_out():
    """With two of three domains left out, the third is easy, and would lift the seen side alone."""
    queries = invented(("a", "b", "c"), rows=("last",))
    queries.loc[queries["domain"] == "c", "precision"] = 1.0
    queries = queries[queries["left_out"] != "c"]
    means = queries.groupby(["domain", "is_never"])["precision"].mean()
    found = summary(queries).set_index("side")["mean"]
    assert found["seen"] == pytest.approx((means["a", False] + means["b", False]) / 2)
    assert found["never seen"] == pytest.approx((means["a", True] + means["b", True]) / 2)
    assert found["difference"] == pytest.approx(found["never seen"] - found["seen"])
    assert by_domain(queries, "last").query("domain == 'c'")["side"].tolist() == ["seen"]


def test_scores_of_folds_by_hand():
    found = fold_scores(BY_HAND).set_index(["left_out", "domain"])
    assert found["mp5"].to_dict() == pytest.approx({("a", "a"): 0.3, ("a", "b"): 0.9, ("b", "a"): 0.6, ("b", "b"): 0.7})
    assert found["n_queries"].tolist() == [2, 2, 2, 2] and (found["r1"] == 0.5).all()
    assert found["side"].tolist() == ["never seen", "seen", "seen", "never seen"]


def test_seeds_are_averaged_and_a_class_is_one_unit_of_its_interval():
    """Another seed that asks the same of the same classes changes neither a mean nor the interval by classes."""
    one = invented(("a", "b", "c"), seeds=(0,), rows=("last",))
    two = pd.concat([one, one.assign(seed=1, image_id=one["image_id"] + "again")], ignore_index=True)
    before, after = (summary(table).set_index("side") for table in (one, two))
    for name in ("mean", "class_low", "class_high", "n_classes"):
        assert after[name].to_dict() == pytest.approx(before[name].to_dict(), abs=1e-12)
    assert after["n_pairs"].tolist() == [6, 6, 6] and before["n_pairs"].tolist() == [3, 3, 3]
    own = sides(one)
    low, high = class_interval(own["seen"].to_numpy(), own["class"].to_numpy(str), own["domain"].to_numpy(str))
    assert before.loc["seen", ["class_low", "class_high"]].tolist() == pytest.approx([low, high])


def test_gain_is_found_on_both_sides_and_only_of_shared_folds():
    domains = ("a", "b", "c")
    before, after = (
        invented(domains),
        invented(domains, seeds=(0, 1), rows=("new", "off the shelf, PCA-64, refitted"), gain=0.03),
    )
    after = after[after["left_out"] != "c"]
    found = compared(before, after, ("old", "new"))
    assert found["row"].tolist() == ["last row"] * 2 + ["off the shelf, PCA-64, refitted"] * 2
    same = found[found["row"] == "off the shelf, PCA-64, refitted"].set_index("side")
    assert same["mean"].to_dict() == pytest.approx({"seen": 0.03, "never seen": 0.03})
    assert same["n_pairs"].to_dict() == {"seen": 6, "never seen": 4}  # c is seen in both folds, and never left out
    assert (same["after"] - same["before"]).tolist() == pytest.approx([0.03, 0.03])


def test_what_cannot_be_compared_is_told():
    before = invented(("a", "b"))
    with pytest.raises(ValueError, match=r"old and new have no fold in common: seed 0 without a, .*; seed 5 without a"):
        compared(before, invented(("a", "b"), seeds=(5,)), ("old", "new"))
    fewer = before[before["image_id"] != "a/0/0"]
    with pytest.raises(ValueError, match=r"old and new are asked other queries \(1 of 144 are of one alone\)"):
        compared(before, fewer, ("old", "new"))


def test_student_interval_is_scipys():
    values = np.random.default_rng(0).normal(size=7)
    interval = stats.t.interval(0.95, 6, values.mean(), stats.sem(values))
    assert student_interval(values) == pytest.approx(interval)
    assert all(np.isnan(student_interval(values[:1])))
    assert estimate(pd.Series([np.nan]), BY_HAND.iloc[:1]) is None


def test_exported_row_is_none_that_was_fitted_to_the_foreign_domain():
    before = invented(("a", "b"), rows=("head", "PCA"))
    after = invented(("a", "b"), rows=("head", "PCA", "PCA, refitted"), gain=0.01)
    assert (last_row(before), last_row(after)) == ("PCA", "PCA")
    found = compared(before, after, ("old", "new"))
    assert found["row"].tolist() == ["last row"] * 2 + ["head"] * 2 + ["PCA"] * 2
    assert found["mean"].tolist() == pytest.approx([0.01] * 6)


def test_interval_over_domains_takes_the_seeds_of_a_domain_as_one():
    """Twenty seeds that say the same of three domains are three observations; of one domain, twenty of its own."""
    queries = invented(("a", "b", "c"), seeds=range(20), rows=("last",))
    both = sides(queries)
    change = (both["never seen"] - both["seen"]).groupby([both["domain"], both["seed"]]).mean()
    means = [change[domain].mean() for domain in "abc"]
    line = summary(queries).set_index("side").loc["difference"]
    expected = stats.t.interval(0.95, 2, np.mean(means), stats.sem(means))
    assert (line["fold_low"], line["fold_high"]) == pytest.approx(expected)
    assert (line["mean"], line["n_domains"], line["n_pairs"]) == (pytest.approx(np.mean(means)), 3, 60)
    own = by_domain(queries, "last").query("domain == 'b' and side == 'difference'").iloc[0]
    expected = stats.t.interval(0.95, 19, change["b"].mean(), stats.sem(change["b"]))
    assert (own["fold_low"], own["fold_high"]) == pytest.approx(expected) and own["n_domains"] == 1


def test_column_of_intervals_says_what_they_are_over():
    heads = [of_others(pd.DataFrame({"n_domains": ns})) for ns in ((3, 3), (1, 1), (2, 1))]
    assert heads == ["other domains", "other seeds", "other domains or seeds"]


def test_gain_of_a_refit_is_that_of_its_own_row():
    plain = invented(("a", "b"), rows=("head", "PCA"))
    refitted = plain[plain["row"] == "PCA"].assign(row="PCA, refitted", precision=lambda own: own["precision"] + 0.04)
    refitted.loc[~refitted["is_never"], "precision"] -= 0.05
    found = refits(pd.concat([plain, refitted], ignore_index=True)).set_index("side")
    assert found["row"].tolist() == ["PCA", "PCA"]
    assert found["mean"].to_dict() == pytest.approx({"seen": -0.01, "never seen": 0.04})
    assert refits(plain).empty


def test_gain_and_its_intervals_as_text():
    ends = {"class_low": -0.0104, "class_high": 0.05, "fold_low": float("nan"), "fold_high": float("nan")}
    assert gain_texts({"mean": 0.0234, **ends}) == ["+0.023", "-0.010 to +0.050", "–"]
    assert gain_texts(pd.Series({"mean": -0.5, **ends, "fold_low": -1.0, "fold_high": 0.25}))[2] == "-1.000 to +0.250"
