import pytest

from guie.evaluate.pairs import Paired
from guie.own.verdict import verdict

NAN = float("nan")


@pytest.mark.parametrize(
    ("found", "is_unseen", "sentence"),
    [
        (
            Paired(0.5, 0.6, 0.05, 0.15, 0.0004, 40),
            True,
            "Training helped: mP@5 0.600 against 0.500 off the shelf on 40 classes that training did not see, +0.100 "
            "(95 % interval +0.050 to +0.150, p < .001).",
        ),
        (
            Paired(0.5, 0.6, -0.05, 0.25, 0.21, 40),
            True,
            "No difference that can be told from luck: mP@5 0.600 against 0.500 off the shelf on 40 classes that "
            "training did not see, +0.100 (95 % interval -0.050 to +0.250, p = .210).",
        ),
        (
            Paired(0.6, 0.5, -0.15, -0.05, 0.01, 30),
            False,
            "Training did harm: mP@5 0.500 against 0.600 off the shelf on 30 classes whose other photos it was trained "
            "on, -0.100 (95 % interval -0.150 to -0.050, p = .010).",
        ),
        (
            Paired(0.5, 0.6, 0.05, 0.15, 0.01, 29),
            False,
            "mP@5 0.600 against 0.500 off the shelf on 29 classes whose other photos it was trained on: +0.100 (95 % "
            "interval +0.050 to +0.150, p = .010). Fewer than 30 classes are too few to tell.",
        ),
        (
            Paired(0.5, 0.6, NAN, NAN, 1.0, 1),
            False,
            "mP@5 0.600 against 0.500 off the shelf on 1 classes whose other photos it was trained on: +0.100. That is "
            "too few classes to tell.",
        ),
    ],
)
def test_sentence(found: Paired, is_unseen: bool, sentence: str):
    assert verdict(found, is_unseen) == sentence
