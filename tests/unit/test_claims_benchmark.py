"""What claims.py rests on: its rule of verdicts, its standard errors, the changes of training images; and that each
claim is a comparison that can be trained."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from guie.recipe import Embed, Member, Setting, Stages
from guie.run import PROJECT

BENCHMARKS = PROJECT / "tests/benchmarks"


@pytest.fixture(autouse=True)
def _scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def claim_of(**values: Any) -> Any:
    from claims_types import Arm, Claim

    return Claim("name", "tricks", "says", "source", "setup", Arm(), Arm(code="int8"), **values)


@pytest.mark.parametrize(
    ("expected", "low", "high", "verdict"),
    [
        ("more", 0.001, 0.004, "reproduced"),
        ("more", -0.02, 0.004, "contradicted"),  # a gain of .005 is excluded
        ("more", -0.02, 0.006, "undecided"),
        ("more", -0.02, -0.01, "contradicted"),
        ("less", -0.03, -0.01, "reproduced"),
        ("less", -0.004, 0.02, "contradicted"),
        ("less", -0.006, 0.02, "undecided"),
        ("no more", -0.02, 0.004, "reproduced"),
        ("no more", 0.001, 0.02, "contradicted"),
        ("no more", -0.02, 0.006, "undecided"),
        ("no more", 0.001, 0.004, "contradicted"),  # as "more" is reproduced
        ("no less", -0.004, 0.02, "reproduced"),
        ("no less", -0.004, -0.001, "reproduced"),  # a loss, and none that matters
        ("no less", -0.02, -0.001, "undecided"),
        ("no less", -0.02, -0.006, "contradicted"),
        ("no less", -0.006, 0.02, "undecided"),
        ("alike", -0.004, 0.004, "reproduced"),
        ("alike", -0.004, 0.006, "undecided"),
        ("alike", 0.006, 0.02, "contradicted"),
        ("alike", -0.02, -0.006, "contradicted"),
    ],
)
def test_verdict_follows_the_rule(expected: Any, low: float, high: float, verdict: str) -> None:
    from claims_types import Found

    found = Found((low + high) / 2, (high - low) / 2, 5)
    assert found.verdict(claim_of(expected=expected)) == verdict
    # the same about a value that is compared with .9
    shifted = Found(found.mean + 0.9, found.half, 5)
    assert shifted.verdict(claim_of(expected=expected, than=0.9)) == verdict


def test_interval_counts_seeds_and_classes():
    """Three seeds, worked out by hand: variance .0001, squared errors .0004; t(2) = 4.3027, t(10) = 2.2281."""
    from claims_types import Found

    values = [0.01, 0.02, 0.03]
    alone = Found.of(values, [np.nan] * 3, 100, 0.5)
    assert alone.mean == pytest.approx(0.02)
    assert alone.half == pytest.approx(4.3027 * np.sqrt(0.0001 / 3), rel=1e-4)
    steady = Found.of([0.02] * 3, [0.02] * 3, 10, 0.5)
    assert steady.half == pytest.approx(2.2281 * np.sqrt(0.5 * 0.0004), rel=1e-4)  # however many seeds
    both = Found.of(values, [0.02] * 3, 10, 1.0)
    # (1/30000 + 4/10000)^2 / ((1/30000)^2 / 2 + (4/10000)^2 / 10) = 11.345 degrees of freedom, t = 2.1928
    assert both.half == pytest.approx(2.1928 * np.sqrt(0.0001 / 3 + 0.0004), rel=1e-3)
    assert Found.of([0.02] * 3, [0.0] * 3, 10, 1.0).half == 0
    with pytest.raises(ValueError, match="two seeds"):
        Found.of([0.1], [0.1], 10, 1.0)


def test_interval_has_the_truth_as_often_as_it_says():
    """600 studies of five seeds, each of which asks about half of 60 classes: 95 % of the intervals have the truth."""
    from claims_types import Found

    rng = np.random.default_rng(0)
    n_true = 0
    for _ in range(600):
        by_class = rng.normal(0.01, 0.05, 60)
        halves = [by_class[rng.permutation(60)[:30]] + rng.normal(0, 0.003) for _ in range(5)]
        values, errors = [half.mean() for half in halves], [half.std(ddof=1) / np.sqrt(30) for half in halves]
        found = Found.of(values, errors, 29, 0.5)
        n_true += abs(found.mean - 0.01) < found.half
    assert 0.92 < n_true / 600 < 0.98  # with all of the squared error over the seeds' number it is .87


def test_standard_error_is_that_of_resampled_classes():
    """Against a bootstrap over classes: each domain's classes are drawn with replacement, 4,000 times."""
    from claims_work import Asked, class_error

    rng = np.random.default_rng(0)
    sizes = rng.integers(2, 9, 60)
    class_id = np.repeat(np.arange(60), sizes)
    domain = np.where(class_id < 40, "a", "b")
    shift = rng.normal(0, 0.2, 60)[class_id]
    base = rng.random(len(class_id))
    tables = [pd.DataFrame({"class_id": class_id, "domain": domain, "mp5": values}) for values in (base, base + shift)]
    sides = [Asked(table, {}, 0.0) for table in tables]
    sums = pd.Series(shift).groupby(class_id).sum().to_numpy()
    draws = []
    for _ in range(4000):
        means = []
        for first, last in ((0, 40), (40, 60)):
            drawn = rng.integers(first, last, last - first)
            means.append(sums[drawn].sum() / sizes[drawn].sum())
        draws.append(np.mean(means))
    assert class_error(*sides, "mp5") == pytest.approx(np.std(draws), rel=0.08)
    assert np.isnan(class_error(*sides, "density"))
    of_b = class_error(*sides, "mp5@b")
    assert of_b != class_error(*sides, "mp5")
    assert sides[1].value("mp5@b") == pytest.approx(tables[1][domain == "b"]["mp5"].mean())


def test_wrong_labels_are_wrong_and_as_many_as_asked_for():
    from claims_images import wrong_labels

    rng = np.random.default_rng(1)
    names = np.array([3, 7, 8, 20])
    classes = np.repeat(names, 50)
    centers = np.array([[1.0, 0.0, 0.0], [0.9, 0.1, 0.0], [0.0, 1.0, 0.0], [0.0, 0.9, 0.3]])
    features = centers[np.searchsorted(names, classes)] + rng.normal(0, 0.01, (200, 3))
    random = wrong_labels(classes, features, 0.3, False, np.random.default_rng(2))
    assert (random != classes).sum() == 60 and set(random) <= set(names)
    assert len({(a, b) for a, b in zip(classes, random, strict=True) if a != b}) == 12  # every pair occurs
    confused = wrong_labels(classes, features, 0.3, True, np.random.default_rng(2))
    pairs = {(int(a), int(b)) for a, b in zip(classes, confused, strict=True) if a != b}
    assert pairs == {(3, 7), (7, 3), (8, 20), (20, 8)}  # the nearest means


def world_of_classes() -> Any:
    """Two domains of ten classes with six training images each, and as many validation classes."""
    class_id = np.repeat(np.arange(40), 6)
    index = pd.DataFrame(
        {
            "class_id": class_id,
            "domain": np.where(class_id % 2 == 0, "a", "b"),
            "split": np.where(class_id < 20, "train", "val"),
        }
    )
    features = np.random.default_rng(0).normal(size=(len(index), 8)).astype(np.float32)
    return SimpleNamespace(packed=SimpleNamespace(index=index), features={"plain": features})


def test_fewer_classes_images_and_domains_leave_the_queries_alone():
    from claims_images import UNSEEN, changed_images
    from claims_types import Images

    world = world_of_classes()
    before = world.packed.index.copy()
    fewer = (Images(class_share=0.5), Images(image_share=0.5), Images(domains=("a",)))
    for images in (*fewer, Images(wrong_share=0.5)):
        index = changed_images(world, images, seed=3).index
        is_val = before["split"] == "val"
        assert index[is_val].equals(before[is_val])
        assert set(index["split"]) <= {"train", "val", UNSEEN}
        again = changed_images(world, images, seed=3).index
        assert index.equals(again) and not index.equals(before)
    assert world.packed.index.equals(before)
    train = changed_images(world, Images(class_share=0.5), 0).index.query("split == 'train'")
    assert train.groupby("domain")["class_id"].nunique().tolist() == [5, 5] and len(train) == 60
    train = changed_images(world, Images(image_share=0.5), 0).index.query("split == 'train'")
    assert (train["class_id"].value_counts() == 3).all() and train["class_id"].nunique() == 20
    train = changed_images(world, Images(domains=("a",)), 0).index.query("split == 'train'")
    assert set(train["domain"]) == {"a"} and len(train) == 60
    changed = changed_images(world, Images(wrong_share=0.25), 0).index
    assert (changed["class_id"] != before["class_id"]).sum() == 30
    world.packed.index = before.drop(index=[0, 1, 6])  # the first class has four training images, the second five
    train = changed_images(world, Images(min_images=5), 0).index.query("split == 'train'")
    assert sorted(train["class_id"].unique()) == list(range(1, 20)) and (train["class_id"] == 1).sum() == 5
    assert not (changed_images(world, Images(min_images=7), 0).index["split"] == "train").any()


def test_digest_ignores_defaults_and_nothing_else():
    from claims_types import Arm, Projected, digest

    assert digest(Arm(projected=Projected(64))) == digest(Arm(projected=Projected(64, whiten=0.0)))
    found = {digest(Arm()), digest(Arm(code="bits")), digest(Arm(projected=Projected(64))), digest(Arm(), Arm())}
    assert len(found) == 4


def arms_of(claim: Any) -> list[Any]:
    """Both sides, and what stands beside them."""
    sides = [side for side in (claim.base, claim.other) if side is not None]
    return [*sides, *(other for side in sides for other in side.joined)]


def test_every_claim_can_be_measured():
    from claims import CLAIMS, MEASURES, setup_of
    from claims_page import TITLES
    from objectives_settings import OBJECTIVES, RECIPE

    assert len(CLAIMS) >= 40
    assert len({claim.name for claim in CLAIMS}) == len(CLAIMS)
    assert {claim.family for claim in CLAIMS} == set(TITLES)
    for claim in CLAIMS:
        assert claim.says.endswith(".") and claim.source and claim.setup, claim.name
        assert bool(claim.statistic) == (claim.base is None) == (claim.other is None), claim.name
        assert claim.statistic in MEASURES or not claim.statistic, claim.name
        assert claim.base != claim.other or claim.statistic, claim.name
        assert len(claim.seeds) >= 5
        for arm in arms_of(claim):
            assert arm.objective in OBJECTIVES or not arm.objective, claim.name
            if arm.stages:
                last = Setting(
                    "last",
                    (Member(arm.stages[-1].name, arm.stages[-1].image_px),),
                    pca_dim=64 * (arm.stages[-1].neck.dim != 64),
                )
                model = arm.model or RECIPE.model
                replace(RECIPE, model=model, stages=Stages(head=arm.stages), embed=Embed((last,))).validate()
        if claim.name.startswith(("few_per_class", "two_per_class")):
            assert all(arm.images.min_images >= arm.stages[0].sampling.images_per_class for arm in claim.arms), (
                claim.name
            )
    opposite = {"flip", "flip_not", "sub_centers", "sub_centers_not", "fewer_classes", "fewer_classes_64d"}
    setups = [setup_of(claim) for claim in CLAIMS if claim.name not in opposite]
    assert len(set(setups)) == len(setups)  # but for those that two sources tell otherwise


def test_rows_of_another_setup_do_not_count(tmp_path: Any) -> None:
    from claims import file_of, rows_in, setup_of

    claim = claim_of()
    values = {"claim": claim.name, "seed": 0, "value": 0.1, "error": 0.1, "base_cpu_s": 1.0}
    file_of(tmp_path, "tricks").add({**values, "setup": "another"}, {**values, "setup": setup_of(claim), "value": 0.2})
    assert rows_in(tmp_path, [claim])["value"].tolist() == [0.2]


def test_a_row_that_another_process_wrote_is_not_written_twice(tmp_path: Any) -> None:
    from claims import file_of

    setup = "3495063500"  # a digest that could be a number
    for value in (0.1, 0.2):
        file_of(tmp_path, "tricks").add({"claim": "flip", "seed": 3, "setup": setup, "value": value})
    file_of(tmp_path, "tricks").add({"claim": "flip", "seed": 4, "setup": setup, "value": 0.3})
    assert file_of(tmp_path, "tricks").find(setup=setup)["value"].tolist() == [0.1, 0.3]


def test_rows_of_a_card_and_of_a_cpu_are_not_mixed(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    from claims import file_of, measure, setup_of

    claim, made = claim_of(), []
    values = {"claim": claim.name, "setup": setup_of(claim), "value": 0.1, "processor": "NVIDIA H200, Xeon, bf16"}
    file_of(tmp_path, "tricks").add({**values, "seed": 0})

    class Bench:
        device = "cpu"

        def asked(self, arm: Any, seed: int) -> Any:
            made.append(seed)
            raise ValueError("made")

    assert measure([claim], Bench(), tmp_path, [0, 1]) == [] and not made
    assert f"{claim.name}: its rows are of another kind of device" in capsys.readouterr().out
    assert measure([claim], Bench(), tmp_path / "empty", [0, 1]) == [claim.name] and made == [0, 1]


def test_methods_have_the_time_that_objectives_csv_says() -> None:
    """A base loss trains for so many more epochs as its method's epochs are longer."""
    from claims_methods import FAMILIES

    rows = pd.read_csv(BENCHMARKS / "objectives.csv").query("part == 'published'")
    seconds = rows.groupby("objective")["epoch_s"].median()
    for claim in FAMILIES:
        base, other = claim.base.objective, claim.other.objective
        assert claim.base.time == pytest.approx(seconds[other] / seconds[base], abs=0.08), claim.name


def test_fewer_images_are_trained_on_for_as_many_steps() -> None:
    """Half of the images, and so twice the epochs, by whole batches; as the trainer is given them."""
    import claims_work
    from claims_data import ARC, HALF_CLASSES
    from claims_types import Arm

    arm = Arm((replace(ARC.stages[0], optim=replace(ARC.stages[0].optim, batch_size=16)),))

    world = world_of_classes()
    world.run = SimpleNamespace(recipe=None)
    given: list[tuple[int, int]] = []

    def noted(_: Any, packed: Any, stages: Any, __: Any) -> Any:
        given.append((stages[0].optim.n_epochs, int((packed.index["split"] == "train").sum())))
        raise InterruptedError

    bench = claims_work.Bench(BENCHMARKS, BENCHMARKS, BENCHMARKS, SimpleNamespace())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench, "_world", lambda *_: world)
        patch.setattr(claims_work, "_in_turn", noted)
        for side in (arm, replace(arm, images=HALF_CLASSES)):
            with pytest.raises(InterruptedError):
                bench._network(side, 0, BENCHMARKS)
    assert given == [(20, 120), (47, 60)]  # 20 epochs of 7 batches of 16, and 47 of 3: 140 and 141 steps


def test_two_metrics_that_order_alike_are_not_apart() -> None:
    """Two metrics see the same quality, one of them through much noise: the arithmetic mean of how each agrees with
    itself would put them .06 apart. A metric that orders by something else is apart."""
    from claims_statistics import disagreement

    rng = np.random.default_rng(0)
    quality, other = rng.normal(size=(2, 20_000))
    columns = {}
    for seed in range(5):
        for name, seen, noise in (("good", quality, 0.3), ("noisy", quality, 1.2), ("another", other, 0.3)):
            columns[f"{name} {seed}"] = seen + rng.normal(0, noise, len(seen))
    rows = pd.DataFrame(columns)
    assert disagreement(rows, "good", "noisy", 2) == pytest.approx(0.0, abs=0.015)
    assert disagreement(rows, "good", "another", 2) < -0.8


def test_correlation_has_the_error_of_fishers_transformation() -> None:
    """The bootstrap's standard error of a rank correlation beside (1 - r^2) sqrt((1 + r^2 / 2) / (n - 3))."""
    from claims_statistics import _spearman, resampled

    rng = np.random.default_rng(1)
    x = rng.normal(size=200)
    table = pd.DataFrame({"x": x, "y": x + rng.normal(size=200)})
    found = resampled(table, lambda rows: _spearman(rows["x"], rows["y"]))
    by_hand = (1 - found.value**2) * np.sqrt((1 + found.value**2 / 2) / 197)
    assert found.error == pytest.approx(by_hand, rel=0.2)


def test_statistic_asks_for_all_rows(tmp_path: Any) -> None:
    from claims_statistics import STATISTICS, NotMeasuredError
    from objectives_parts import Files

    files = Files(tmp_path)
    with pytest.raises(NotMeasuredError, match="rows of part tuned and seed 0"):
        STATISTICS["mP@5 and rho"](files, 0)
    files.main.add(
        {**dict.fromkeys(files.main.key, ""), "part": "tuned", "seed": 0, "objective": "ArcFace", "mp5": 0.5}
    )
    with pytest.raises(NotMeasuredError, match="lacks"):
        STATISTICS["quartiles apart"](files, 0)


def test_built_embeddings_hide_from_a_metric_what_map_at_r_sees() -> None:
    """MAP@R of scattered pairs by hand: the first of seven is right and hardly any other, so about a seventh."""
    from claims_constructed import CONSTRUCTED, compact, in_pairs, scores, touching

    rng = np.random.default_rng(0)
    assert scores(compact(rng)) == pytest.approx({"r1": 1.0, "map_at_r": 1.0, "nmi": 1.0})
    found = scores(in_pairs(rng))
    assert found["r1"] == 1.0 and 1 / 7 <= found["map_at_r"] < 0.3 and found["nmi"] < 0.8
    found = scores(touching(rng))
    assert found["nmi"] == pytest.approx(1.0) and found["map_at_r"] < 0.9
    for statistic in CONSTRUCTED.values():
        values = [statistic(None, seed).value for seed in range(5)]
        assert max(values) < -0.1


def test_classes_of_a_far_rung_are_farther_away_and_no_class_is_on_both_sides() -> None:
    """A world whose classes lie on a line: after all swaps one side is one half of the line."""
    from claims_types import Arm
    from claims_work import UNSEEN, Bench

    world = world_of_classes()
    world.run = SimpleNamespace(recipe=SimpleNamespace(seed=0))
    place = world.packed.index["class_id"].to_numpy().astype(np.float32)
    noise = np.random.default_rng(0).normal(0, 0.1, (len(place), 3))
    world.features["plain"] = np.concatenate([place[:, None], noise], axis=1)
    bench = Bench(BENCHMARKS, BENCHMARKS, BENCHMARKS, SimpleNamespace())
    before = world.packed.index.copy()
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("claims_work.replace", lambda world, packed: SimpleNamespace(packed=packed))
        patch.setattr(bench, "_of_seed", lambda *_: world)
        for rung in ("start", "swap", "remove"):
            found[rung] = bench._world(Arm(rung=rung), 0).packed.index
    assert world.packed.index.equals(before)
    for rung, index in found.items():
        for domain, own in index.groupby("domain"):
            sides = {split: set(part["class_id"]) for split, part in own.groupby("split")}
            assert not sides["train"] & sides["val"], (rung, domain)
            assert len(sides["train"]) == len(sides["val"]) == (5 if rung == "remove" else 10)
            ordered = sorted((min(sides[split]), max(sides[split])) for split in ("train", "val"))
            assert (ordered[0][1] < ordered[1][0]) == (rung != "start"), (rung, domain)
    assert UNSEEN in set(found["remove"]["split"]) and UNSEEN not in set(found["swap"]["split"])


def test_page_tells_a_claim_that_could_not_be_trained(tmp_path: Any) -> None:
    from claims import CLAIMS, file_of, rows_in, setup_of
    from claims_page import write_page

    flip, scale, soup = (next(claim for claim in CLAIMS if claim.name == name) for name in ("flip", "scale_30", "soup"))
    for seed in range(5):
        key = {"claim": flip.name, "seed": seed, "setup": setup_of(flip), "commit": "c", "processor": "p"}
        values = {"base": 0.5, "other": 0.51, "value": 0.01, "error": 0.001, "n_freedom": 100}
        file_of(tmp_path / "claims", "tricks").add({**key, **values, "base_cpu_s": 60.0, "other_cpu_s": 60.0})
    key = {"claim": scale.name, "seed": 0, "setup": setup_of(scale), "commit": "c", "processor": "p"}
    file_of(tmp_path / "claims", "tricks").add({**key, "problem": "the loss is not finite"})
    claims = [flip, scale, soup]
    write_page(tmp_path, claims, rows_in(tmp_path / "claims", claims))
    page = (tmp_path / "claims.md").read_text(encoding="utf-8")
    assert "Could not be trained: `scale_30`: the loss is not finite" in page
    assert "Not measured yet: `soup`." in page
    assert "| +.010 ± .001 | more, .002 | **reproduced** | 5 | 10.0 |" in page
    assert "p; code c; 10 CPU minutes" in page
