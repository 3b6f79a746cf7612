"""A trial of two projections: which photos tell, what photos without a label do, and when one is worse."""

from collections import Counter

import numpy as np
import pytest

from guie.embed.projection import Projection
from guie.evaluate.kept import Kept
from guie.evaluate.pairs import Paired
from guie.evaluate.trial import Trial, held_out, run_trial


def named(labels: list[str]) -> list[str]:
    return [f"{i}.jpg" for i in range(len(labels))]


def test_half_of_the_photos_in_whole_labels() -> None:
    labels = [f"l{i // 5}" for i in range(200)]
    is_out, is_by_label = held_out(named(labels), labels, 65)
    assert is_by_label and is_out.sum() == 100
    assert all(len(set(is_out[np.array(labels) == label])) == 1 for label in set(labels))
    shuffled = np.random.default_rng(0).permutation(200)
    again, _ = held_out([named(labels)[i] for i in shuffled], [labels[i] for i in shuffled], 65)
    assert (again == is_out[shuffled]).all()  # it follows from the names, not from their order


@pytest.mark.parametrize(
    "labels",
    [
        [f"only{i}" for i in range(200)],  # every label has one photo: none can be asked about
        ["a"] + ["b"] * 500 + ["c"] * 500,  # no half in whole labels has two that can be asked about
        ["large"] * 2000 + [f"l{i // 5}" for i in range(45)],  # a trial on 45 photos would tell nothing
        [""] * 200,
    ],
    ids=["one photo each", "two large ones", "one large one", "none"],
)
def test_photos_are_dealt_one_by_one_where_labels_cannot_be(labels: list[str]) -> None:
    is_out, is_by_label = held_out(named(labels), labels, 65)
    assert not is_by_label and abs(is_out.mean() - 0.5) < 0.01


def test_photos_without_a_label_stand_for_themselves() -> None:
    labels = [""] * 300 + [f"l{i // 5}" for i in range(100)]
    is_out, is_by_label = held_out(named(labels), labels, 65)
    assert is_by_label and 0.35 < is_out[:300].mean() < 0.65


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_scores_are_a_loops_and_photos_without_a_label_are_only_found() -> None:
    rng = np.random.default_rng(4)
    labels = [f"l{i // 4}" for i in range(120)] + [""] * 80
    rows = unit(rng.normal(size=(200, 12)) + 2 * np.repeat(rng.normal(size=(50, 12)), 4, axis=0))
    before = Projection(np.zeros(12), rng.normal(size=(6, 12)), True)
    seen: list[int] = []

    def fit(given: np.ndarray) -> Projection:
        seen.append(len(given))
        return Projection(np.zeros(12), np.eye(12)[:6], True)

    trial = run_trial(rows, named(labels), labels, before, fit)
    is_out, is_by_label = held_out(named(labels), labels, 7)
    assert is_by_label and seen == [int((~is_out).sum())] and trial.labels is not None
    own, asked = [labels[i] for i in np.flatnonzero(is_out)], rows[is_out]
    for projection, expected in ((before, trial.labels.before), (fit(asked), trial.labels.after)):
        embeddings, scores = projection(asked).astype(np.float64), []
        for i, label in enumerate(own):
            relevant = sum(other == label for other in own) - 1
            if not label or not relevant:
                continue
            cosines = embeddings @ embeddings[i]
            cosines[i] = -np.inf
            nearest = np.argsort(-cosines)[: min(5, relevant)]
            scores.append(sum(own[j] == label for j in nearest) / min(5, relevant))
        assert np.isclose(np.mean(scores), expected, atol=1e-6)
    assert trial.labels.n_classes == len({label for label, n in Counter(own).items() if label and n > 1})


def trial_of(
    neighbours: tuple[float, float], mp5: tuple[float, float, float, float] | None, spectrum: float = 0.5
) -> Trial:
    before, after = Kept(0.5, neighbours[0]), Kept(spectrum, neighbours[1])
    return Trial(100, 100, mp5 is not None, before, after, None if mp5 is None else Paired(*mp5, 0.5, 9), 1.0)


@pytest.mark.parametrize(
    ("neighbours", "mp5", "spectrum", "is_worse"),
    [
        ((0.5, 0.6), None, 0.4, False),
        ((0.5, 0.5), None, 0.6, True),
        ((0.6, 0.5), None, 0.6, True),
        ((0.5, 0.6), (0.5, 0.4, -0.2, 0.02), 0.5, False),  # the loss may be luck, and more neighbours are kept
        ((0.5, 0.6), (0.5, 0.4, -0.2, -0.01), 0.6, True),  # it is not
        ((0.6, 0.5), (0.4, 0.5, 0.01, 0.2), 0.4, False),  # a gain that is not luck
        ((0.6, 0.5), (0.4, 0.5, -0.01, 0.2), 0.4, True),  # a gain that may be, and all else is less
        ((0.6, 0.5), (0.4, 0.5, -0.01, 0.2), 0.6, False),  # fewer neighbours, but more of the spectrum
        ((0.6, 0.5), (0.5, 0.5, -0.1, 0.1), 0.6, True),
        ((0.6, 0.5), (0.4, 0.5, float("nan"), float("nan")), 0.6, False),
        ((0.6, 0.5), (0.4, 0.5, float("nan"), float("nan")), 0.5, True),
    ],
)
def test_when_it_is_worse(
    neighbours: tuple[float, float], mp5: tuple[float, float, float, float] | None, spectrum: float, is_worse: bool
) -> None:
    trial = trial_of(neighbours, mp5, spectrum)
    assert trial.is_worse == is_worse
    assert trial.as_data()["is_worse"] == is_worse
