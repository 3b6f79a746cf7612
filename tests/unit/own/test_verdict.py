import pytest

from guie.evaluate.pairs import Paired
from guie.own.verdict import verdict

NAN = float("nan")
BETTER = 'mP@5 0.600 of "trained" against 0.500 of "off the shelf, PCA-64" on'
WORSE = 'mP@5 0.500 of "trained" against 0.600 of "off the shelf, PCA-64" on'
UNSEEN = "classes that training did not see"
SEEN = "classes whose other photos it was trained on"


@pytest.mark.parametrize(
    ("found", "is_unseen", "sentence"),
    [
        (
            Paired(0.5, 0.6, 0.05, 0.15, 0.0004, 40),
            True,
            f"Training helped: {BETTER} 40 {UNSEEN}, +0.100 (95 % interval +0.050 to +0.150, p < 0.001).",
        ),
        (
            Paired(0.5, 0.6, -0.05, 0.25, 0.21, 40),
            True,
            f"No difference that can be told from luck: {BETTER} 40 {UNSEEN}, +0.100 (95 % interval -0.050 to +0.250, "
            "p = 0.210).",
        ),
        (
            Paired(0.6, 0.5, -0.15, -0.05, 0.01, 30),
            False,
            f"Training did harm: {WORSE} 30 {SEEN}, -0.100 (95 % interval -0.150 to -0.050, p = 0.010).",
        ),
        (
            Paired(0.5, 0.6, 0.05, 0.15, 0.01, 29),
            False,
            f"{BETTER} 29 {SEEN}: +0.100 (95 % interval +0.050 to +0.150, p = 0.010). Fewer than 30 classes are too "
            "few to tell.",
        ),
        (
            Paired(0.5, 0.6, NAN, NAN, 1.0, 1),
            False,
            f"{BETTER} 1 {SEEN}: +0.100. That is too few classes to tell.",
        ),
        (
            Paired(0.6, 0.5, -1.0, 0.009, 0.498, 4),
            False,
            f"{WORSE} 4 {SEEN}: -0.100 (too few classes for an interval, p = 0.498). Fewer than 30 classes are too few "
            "to tell.",
        ),
        (
            Paired(0.5, 0.6, -0.01, 1.0, 1.0, 4),
            False,
            f"{BETTER} 4 {SEEN}: +0.100 (too few classes for an interval, p = 1.000). Fewer than 30 classes are too "
            "few to tell.",
        ),
        (
            Paired(0.5, 0.6, -0.01, 1.0, 0.2, 30),
            False,
            f"No difference that can be told from luck: {BETTER} 30 {SEEN}, +0.100 (no interval, p = 0.200).",
        ),
    ],
)
def test_sentence(found: Paired, is_unseen: bool, sentence: str):
    assert verdict(found, is_unseen) == sentence
