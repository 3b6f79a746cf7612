"""Means over the steps of an epoch, and cosines of a batch's pairs, against loops."""

import math

import pytest
import torch
from hand_batch import drawn
from metric_fixtures import G5

from guie.train.objectives.step_means import StepMeans, pair_cosines


def test_means_are_of_the_steps_that_have_a_number() -> None:
    means = StepMeans(("a", "b", "never"))
    assert means.values() == {}
    for values in ({"a": 1.0, "b": torch.tensor(5.0)}, {"a": 2.5}, {"b": float("nan"), "a": 4.0, "other": 9.0}):
        means.add(values)
    assert means.values() == {"a": 2.5, "b": 5.0}
    means.reset()
    assert means.values() == {}
    means.add({"never": 1 / 3})
    assert means.values() == {"never": 0.333333}


def test_means_go_on_from_their_buffers() -> None:
    one, other = StepMeans(("a",)), StepMeans(("a",))
    one.add({"a": 1.0})
    other.load_state_dict(one.state_dict())
    for means in (one, other):
        means.add({"a": 0.25})
    assert one.values() == other.values() == {"a": 0.625}


def test_pair_cosines_equal_a_loop() -> None:
    for x, labels in (G5, drawn(25, 4, 4)):
        same, different = [], []
        for i in range(len(x)):
            for j in range(len(x)):
                if i != j:
                    a, b = x[i].tolist(), x[j].tolist()
                    cosine = sum(p * q for p, q in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b)
                    (same if labels[i] == labels[j] else different).append(cosine)
        found = pair_cosines(x, labels)
        assert found["positive_cosine"] == pytest.approx(sum(same) / len(same), abs=1e-6)
        assert found["negative_cosine"] == pytest.approx(sum(different) / len(different), abs=1e-6)


def test_pair_cosines_are_no_number_without_a_pair() -> None:
    found = pair_cosines(torch.eye(3), torch.arange(3))
    assert math.isnan(found["positive_cosine"]) and found["negative_cosine"] == 0.0
    found = pair_cosines(torch.eye(3), torch.zeros(3, dtype=torch.int64))
    assert math.isnan(found["negative_cosine"]) and found["positive_cosine"] == 0.0
