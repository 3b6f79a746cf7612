"""The headline metric where domains have 2, 5 and 9 queries, worked out by hand, through everything that computes it.

Each domain lies in a plane of its own, so that images of two domains are 90 degrees apart; within a plane the angles
below say what is near.

Domain a, 2 queries of class 1, put into the planes of the others at 60 and at 90 degrees: the nearest of each is of
another class.
    a1: nearest is b5 (48 degrees away), one relevant: 0 of 1.      a2: nearest is c9 (60), 0 of 1.       Mean 0.
Domain b, classes 2 2 3 2 3 at 0, 1, 3, 10, 12 degrees. Class 2 has two relevant images for each query, class 3 has one.
    b1: first two b2, b3: 1 of 2.   b2: b1, b3: 1 of 2.   b3: b2: 0 of 1.   b4: b5, b3: 0 of 2.   b5: b4: 0 of 1.
        Mean 1 / 5.
Domain c, class 4 at 0, 1, 2.1, 3.3, 4.6, 6 and 30 degrees, class 5 at 20 and 21. Five ranks count for class 4, one for
class 5.
    c1 to c6: the other five of the first six: 5 of 5.   c7 and c8 find each other: 1 of 1.
    c9: c8, c7, c6, c5, c4: 3 of 5.                                                                      Mean (6 + 2 + 3
        / 5) / 9 = 43 / 45.
Mean over domains: (0 + 1/5 + 43/45) / 3 = 52 / 135 = .385. The mean over the 16 queries would be (0 + 1 + 8.6) / 16 =
.6.
R@1: a 0; b1 and b2 of five; c all but c9 of nine: (0 + 2/5 + 8/9) / 3 = 58 / 135. By queries it would be 10 / 16.
"""

import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from combined_rows import Rows

from guie.embed.fitted import Embedded
from guie.embed.retrieval import retrieve, summarise
from guie.evaluate import ladder
from guie.evaluate.protocols import merged, scored, summary
from guie.recipe import Embed, Member, Setting
from guie.train import validation

PLACES = [("a", 1, "b", 60), ("a", 1, "c", 90)]
PLACES += [("b", c, "b", angle) for c, angle in zip((2, 2, 3, 2, 3), (0, 1, 3, 10, 12), strict=True)]
PLACES += [
    ("c", c, "c", angle)
    for c, angle in zip((4, 4, 4, 4, 4, 4, 5, 5, 4), (0, 1, 2.1, 3.3, 4.6, 6, 20, 21, 30), strict=True)
]
MP5 = {"mp5": Fraction(52, 135), "mp5_a": Fraction(0), "mp5_b": Fraction(1, 5), "mp5_c": Fraction(43, 45)}
R1 = {"r1": Fraction(58, 135), "r1_a": Fraction(0), "r1_b": Fraction(2, 5), "r1_c": Fraction(8, 9)}


def images() -> tuple[np.ndarray, pd.DataFrame]:
    """Embeddings, float32 [16, 4], in another order than above, so that none follows from the order; and the ids."""
    order = np.random.default_rng(0).permutation(len(PLACES))
    vectors = np.zeros((len(PLACES), 4), dtype=np.float32)
    for i, (_, _, plane, angle) in enumerate(PLACES):
        vectors[i, [0, 1] if plane == "b" else [2, 3]] = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    ids = pd.DataFrame(
        {
            "image_id": [f"i{i}" for i in order],
            "class_id": [PLACES[i][1] for i in order],
            "domain": [PLACES[i][0] for i in order],
        }
    )
    return vectors[order], ids.assign(split="val")


def assert_is_headline(found: dict[str, float], abs_tolerance: float = 1e-9) -> None:
    for name, value in (MP5 | R1).items():
        assert found[name] == pytest.approx(float(value), abs=abs_tolerance), name


def test_of_retrieval() -> None:
    vectors, ids = images()
    assert_is_headline(summarise(retrieve(vectors, ids["class_id"].to_numpy()), ids["domain"].to_numpy()))


def test_of_validation_while_training(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, ids = images()
    train = pd.DataFrame(
        {"image_id": ["t1", "t2"], "class_id": [4, 4], "domain": ["c", "a"], "split": "train"}
    )  # must not be asked, nor found
    packed = SimpleNamespace(index=pd.concat([train, ids], ignore_index=True))
    everyone = np.concatenate([vectors[:2], vectors])

    accelerator = SimpleNamespace(device=torch.device("cpu"))
    store = SimpleNamespace(packed=packed, accelerator=accelerator, get=lambda encoder, view, rows: everyone[rows])
    monkeypatch.setattr(validation, "Encoder", SimpleNamespace(of=lambda *arguments: None))
    monkeypatch.setattr(validation, "sized", lambda features, packed, rows, neck: features)
    run = SimpleNamespace(recipe=SimpleNamespace(model_of=lambda name: None))
    stage = SimpleNamespace(name="s1", image_px=64, patch_stride=0, neck=None, left_out=None)
    model = SimpleNamespace(backbone=None, neck=torch.nn.Identity())
    assert_is_headline(validation.validated(run, stage, model, store, is_kept=True))  # type: ignore[arg-type]


def test_of_door_07(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, ids = images()
    monkeypatch.setattr(ladder, "images_of", lambda run: SimpleNamespace(index=ids))
    monkeypatch.setattr(ladder, "MemberFeatures", lambda *arguments: None)
    monkeypatch.setattr(
        ladder, "embed", lambda run, setting, features: Embedded({"val": vectors}, {"val": Rows(vectors)})
    )
    monkeypatch.setattr(
        ladder, "Combined", lambda run, setting, features, split: Rows(vectors if split == "val" else np.ones((9, 4)))
    )
    recipe = SimpleNamespace(
        embed=Embed(settings=(Setting("only", (Member("pretrained", 64),)),)),
        data=SimpleNamespace(foreign_domain=""),
        seed=0,
        chosen_on_validation=lambda setting: (),
    )
    final = ladder.score_ladder(SimpleNamespace(device="cpu", recipe=recipe, folder=lambda number: tmp_path))  # type: ignore[arg-type]
    (row,) = pd.read_csv(tmp_path / "scores.csv").to_dict("records")
    assert_is_headline(row, 1e-6)
    assert (final["mp5"], final["r1"], row["n_queries"]) == (row["mp5"], row["r1"], 16)


def test_of_protocols() -> None:
    vectors, ids = images()
    row = summary(scored(vectors, ids, merged(ids)))
    assert (row["mp5"], row["r1"]) == pytest.approx((52 / 135, 58 / 135))


def test_of_the_command(tmp_path: Path) -> None:
    vectors, ids = images()
    np.save(tmp_path / "mine.npy", 7 * vectors)
    ids.drop(columns="split").to_csv(tmp_path / "ids.csv", index=False)
    options = [str(tmp_path / "mine.npy"), "--ids", str(tmp_path / "ids.csv"), "--out", str(tmp_path / "scores.csv")]
    done = subprocess.run([sys.executable, "-m", "guie.evaluate", *options], capture_output=True, text=True, check=True)
    (row,) = pd.read_csv(tmp_path / "scores.csv").to_dict("records")
    for name, value in (MP5 | {"r1": R1["r1"]}).items():
        assert row[name] == pytest.approx(float(value)), name
    assert "| mine | 16 | 0.385 |" in done.stdout
