"""Door 02: class-disjoint validation, dense ids, and balancing, against counts by hand."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from data_recipe import recipe_around

from guie.data.balance import (
    BALANCED_COLUMNS,
    CLASS_COLUMNS,
    SEEN,
    allowed_sources,
    balanced_rows,
    ledger,
    merge_and_balance,
    set_apart,
    split_classes,
)
from guie.data.manifest import COLUMNS, read_manifest, write_manifest
from guie.recipe import Data, Limit, Source
from guie.run import Run

SOURCES = (
    Source("s2", "class_folders", "b", "beta"),
    Source("s1", "class_folders", "a", "alpha"),
    Source("s3", "class_folders", "c", "beta"),
)


def _rows(counts: dict[tuple[str, str], int], domains: dict[str, str] | None = None) -> pd.DataFrame:
    """A manifest with so many images of each (source, label)."""
    domains = domains or {}
    cells = [
        (f"{s}/{label}/{i}", f"{s}/{label}/{i}.jpg", s, label, domains.get(s, "d"), "", "")
        for (s, label), n in counts.items()
        for i in range(n)
    ]
    return pd.DataFrame(cells, columns=list(COLUMNS))


def _data(**values: object) -> Data:
    return Data(SOURCES, **values)


def _world() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    counts = {(s, f"{label:03d}"): int(rng.integers(1, 40)) for s in ("s1", "s2", "s3") for label in range(30)}
    return _rows(counts, {"s1": "alpha", "s2": "beta", "s3": "beta"})


def test_split_classes_sets_the_share_of_each_domain_aside() -> None:
    rows = _world()
    for share in (0.1, 0.5, 0.9):
        classes = split_classes(rows, _data(val_class_share=share), seed=0)
        assert len(classes) == 90
        for domain, sources in (("alpha", ["s1"]), ("beta", ["s2", "s3"])):
            sizes = Counter(
                rows[rows["source"].isin(sources)][["source", "source_label"]].itertuples(index=False, name=None)
            )
            n_eligible = sum(n >= 2 for n in sizes.values())
            chosen = classes[(classes["domain"] == domain) & (classes["split"] == "val")]
            assert abs(len(chosen) - share * n_eligible) <= 0.5
            assert (chosen["n_images"] >= 2).all()


def test_split_classes_never_share_a_class_between_training_and_validation() -> None:
    rows, data = _world(), _data(fill_per_class=20)
    train, val = balanced_rows(rows, split_classes(rows, data, 3), data, 3)
    keys = [set(zip(part["source"], part["source_label"], strict=True)) for part in (train, val)]
    assert keys[0] and keys[1] and not keys[0] & keys[1]
    assert not set(train["class_id"]) & set(val["class_id"])
    assert set(train["split"]) == {"train"} and set(val["split"]) == {"val"}


def test_class_ids_are_dense_in_the_order_of_source_and_label_training_first() -> None:
    classes = split_classes(_world(), _data(min_per_class=5), seed=0)
    start = 0
    for split in ("train", "val"):
        part = classes[classes["split"] == split]
        names = list(zip(part["source"], part["source_label"], strict=True))
        assert names == sorted(names)
        assert part["class_id"].tolist() == list(range(start, start + len(part)))
        start += len(part)
    assert set(classes[classes["split"] == "left out"]["class_id"]) == {-1}


def test_seed_changes_the_validation_classes_and_nothing_else_does() -> None:
    def chosen(rows: pd.DataFrame, seed: int) -> set[tuple[str, str]]:
        val = split_classes(rows, _data(), seed).query("split == 'val'")
        return set(zip(val["source"], val["source_label"], strict=True))

    rows = _world()
    assert chosen(rows, 0) == chosen(rows, 0) != chosen(rows, 1)
    assert {key for key in chosen(rows, 0) if key[0] == "s1"} == chosen(rows[rows["source"] == "s1"], 0), (
        "another domain does not change this one's choice"
    )


def test_balance_does_not_depend_on_the_order_of_the_rows() -> None:
    rows, data = _world(), _data(max_per_class=12, fill_per_class=10, min_per_class=3)
    expected_classes = split_classes(rows, data, 5)
    expected = balanced_rows(rows, expected_classes, data, 5)
    for order in range(3):
        shuffled = rows.sample(frac=1, random_state=order)
        classes = split_classes(shuffled, data, 5)
        pd.testing.assert_frame_equal(classes, expected_classes)
        for part, wanted in zip(balanced_rows(shuffled, classes, data, 5), expected, strict=True):
            pd.testing.assert_frame_equal(part, wanted)


@pytest.mark.parametrize(
    ("n_images", "n_rows", "repeats"),  # with min 3, max 8, fill 5
    [
        (2, 0, []),
        (3, 5, [2, 2, 1]),
        (4, 5, [2, 1, 1, 1]),
        (5, 5, [1] * 5),
        (7, 7, [1] * 7),
        (8, 8, [1] * 8),
        (30, 8, [1] * 8),
    ],
)
def test_min_max_and_fill_by_hand(n_images: int, n_rows: int, repeats: list[int]) -> None:
    rows, data = _rows({("s", "x"): n_images}), _data(min_per_class=3, max_per_class=8, fill_per_class=5)
    classes = pd.DataFrame(
        {"source": ["s"], "source_label": ["x"], "split": ["train" if n_images >= 3 else "left out"], "class_id": [0]}
    )
    train, val = balanced_rows(rows, classes, data, seed=1)
    assert len(train) == n_rows and len(val) == 0
    assert sorted(Counter(train["image_id"]).values(), reverse=True) == repeats


def test_class_of_exactly_the_least_number_of_images_is_trained_on() -> None:
    rows = _rows({("s", f"c{i}"): n for i, n in enumerate([2, 3, 4] * 6)})
    classes = split_classes(rows, _data(min_per_class=3), seed=0)
    sizes = {split: set(group["n_images"]) for split, group in classes.groupby("split")}
    assert sizes["train"] == {3, 4} and sizes["left out"] == {2}


def test_min_max_and_fill_leave_validation_alone() -> None:
    rows = _rows({("s", f"c{i}"): n for i, n in enumerate([2, 2, 2, 50, 50, 50])})
    data = _data(min_per_class=3, max_per_class=10, fill_per_class=10)
    classes = split_classes(rows, data, seed=0)
    train, val = balanced_rows(rows, classes, data, seed=0)
    sizes = dict(zip(classes["class_id"], classes["n_images"], strict=True))
    assert Counter(val["class_id"]) == {i: n for i, n in sizes.items() if i in set(val["class_id"])}
    assert {2, 50} <= set(Counter(val["class_id"]).values()) or len(set(Counter(val["class_id"]).values())) == 1
    assert set(Counter(train["class_id"]).values()) == {10}


def test_max_per_class_keeps_other_images_with_another_seed() -> None:
    rows = _rows({("s", "x"): 100})
    classes = pd.DataFrame({"source": ["s"], "source_label": ["x"], "split": ["train"], "class_id": [0]})
    kept = [set(balanced_rows(rows, classes, _data(max_per_class=10), seed)[0]["image_id"]) for seed in (0, 0, 1)]
    assert len(kept[0]) == 10 and kept[0] == kept[1] != kept[2]


@pytest.mark.parametrize(
    ("counts", "values", "message"),
    [
        ({("s", "x"): 9}, {}, "no class is left for val"),
        ({("s", "x"): 2, ("s", "y"): 2}, {"min_per_class": 3}, "no class is left for train.*lower data.min_per_class"),
    ],
)
def test_split_classes_with_nothing_left(
    counts: dict[tuple[str, str], int], values: dict[str, int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        split_classes(_rows(counts), _data(**values), seed=0)


def test_split_classes_of_a_domain_with_one_class_trains_on_it() -> None:
    rows = _rows({("s1", "x"): 5, ("s1", "lone"): 1, ("s2", "a"): 5, ("s2", "b"): 5}, {"s1": "alpha", "s2": "beta"})
    classes = split_classes(rows, _data(), seed=0).set_index("source_label")["split"]
    assert classes["x"] == "train" and classes["lone"] == "left out"
    assert sorted(classes[["a", "b"]]) == ["train", "val"]


def test_two_sources_with_the_same_label_are_two_classes() -> None:
    classes = split_classes(_rows({(s, label): 4 for s in ("s1", "s2") for label in ("0", "1")}), _data(), seed=0)
    assert len(classes) == 4 and classes["class_id"].tolist() == [0, 1, 2, 3]


def test_merge_and_balance_writes_tables_that_agree(tmp_path: Path) -> None:
    data = _data(min_per_class=4, max_per_class=20, fill_per_class=10)
    run = Run(recipe_around(data), tmp_path, tmp_path / "out")
    rows = _world()
    for source in SOURCES:
        write_manifest(run.folder(1) / f"{source.name}.parquet", rows[rows["source"] == source.name])
    metrics = merge_and_balance(run)
    folder = run.out / "02_balanced"
    train = read_manifest(folder / "train.parquet", BALANCED_COLUMNS, is_unique=False)
    val = read_manifest(folder / "val.parquet", BALANCED_COLUMNS)
    classes, report = pd.read_parquet(folder / "classes.parquet"), json.loads((folder / "report.json").read_text())
    assert tuple(classes.columns) == CLASS_COLUMNS and classes["class_id"].tolist() == list(range(len(classes)))
    assert str(train["class_id"].dtype) == str(val["class_id"].dtype) == "int64"
    rows_of = Counter([*train["class_id"], *val["class_id"]])
    images_of = Counter(zip(rows["source"], rows["source_label"], strict=True))
    for line in classes.itertuples():
        assert line.n_rows == rows_of[line.class_id] and line.n_images == images_of[line.source, line.source_label]
    n_left_out = 90 - len(classes)
    assert (
        n_left_out
        == report["total"]["left_out"]["classes"]
        == sum(report["sources"][s.name]["left_out"]["classes"] for s in SOURCES)
        > 0
    )
    assert (
        report["total"]["train"]["rows"]
        == len(train)
        == metrics["n_train_rows"]
        == sum(d["train"]["rows"] for d in report["domains"].values())
    )
    assert report["total"]["train"]["kept_images"] == train["image_id"].nunique()
    assert report["total"]["val"]["rows"] == len(val) == metrics["n_val_images"]
    assert sum(report["total"][split]["images"] for split in ("train", "val", "left_out")) == len(rows)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    merge_and_balance(run)
    assert before == {path.name: path.read_bytes() for path in folder.iterdir()}


def test_distractors_are_searched_and_neither_trained_on_nor_queried() -> None:
    rows, data = _world(), _data(distractors=("s3",))
    rows = set_apart(rows, data, 0)
    classes = split_classes(rows, data, 0)
    train, val = balanced_rows(rows, classes, data, 0)
    apart = val[val["source"] == "s3"]
    assert "s3" not in set(train["source"]) and len(apart) == (rows["source"] == "s3").sum() > 100
    assert apart["class_id"].is_unique, "no other image is relevant to a distractor, so it is never a query"
    assert not set(apart["class_id"]) & set(val[val["source"] != "s3"]["class_id"])


def test_validation_by_image_is_of_classes_that_training_sees() -> None:
    counts = {("s", "two"): 2, ("s", "three"): 3, ("s", "four"): 4, ("s", "ten"): 10, ("s", "forty"): 40}
    data = _data(val_by="image", val_class_share=0.2)
    rows = set_apart(_rows(counts), data, 0)
    classes = split_classes(rows, data, 0)
    train, val = balanced_rows(rows, classes, data, 0)
    assert Counter(train["source_label"]) == {"two": 2, "three": 3, "four": 2, "ten": 8, "forty": 32}
    assert Counter(val["source_label"]) == {f"{SEEN}four": 2, f"{SEEN}ten": 2, f"{SEEN}forty": 8}
    assert not set(train["image_id"]) & set(val["image_id"]) and len(train) + len(val) == 59


@pytest.mark.parametrize("val_by", ["class", "image"])
def test_folds_are_disjoint_and_cover_everything(val_by: str) -> None:
    rows = _rows({(s, f"{n:02d}"): 10 for s in ("s1", "s2") for n in range(20)}, {"s1": "alpha", "s2": "beta"})
    seen: Counter[str] = Counter()
    for fold in range(5):
        data = _data(val_by=val_by, val_class_share=0.2, val_fold=fold)
        apart = set_apart(rows, data, 0)
        _, val = balanced_rows(apart, split_classes(apart, data, 0), data, 0)
        assert Counter(val["domain"]) == {"alpha": 40, "beta": 40}
        seen.update(val["image_id"])
    assert seen == dict.fromkeys(rows["image_id"], 1)


def test_limit_takes_so_many_classes_of_one_source_by_seed() -> None:
    rows, data = _world(), _data(limits=(Limit("s1", n_classes=4),), min_per_class=3)
    chosen = []
    for seed in (0, 0, 1):
        classes = split_classes(rows, data, seed)
        unlimited = split_classes(rows, _data(min_per_class=3), seed)
        chosen.append(set(classes[(classes["source"] == "s1") & (classes["split"] == "train")]["source_label"]))
        assert len(chosen[-1]) == 4 and chosen[-1] <= set(unlimited[unlimited["split"] == "train"]["source_label"])
        for other in (classes, unlimited):  # neither validation nor the other sources are touched
            other.drop(other[(other["source"] == "s1") & (other["split"] != "val")].index, inplace=True)
        assert (
            classes.drop(columns="class_id").to_numpy().tolist()
            == unlimited.drop(columns="class_id").to_numpy().tolist()
        )
    assert chosen[0] == chosen[1] != chosen[2]


def test_limit_takes_images_from_all_classes_in_turn() -> None:
    rows = _rows({("s1", "a"): 30, ("s1", "b"): 3, ("s1", "c"): 10, ("s2", "d"): 9})
    classes = pd.DataFrame(
        {"source": ["s1"] * 3 + ["s2"], "source_label": list("abcd"), "split": ["train"] * 4, "class_id": range(4)}
    )
    train, _ = balanced_rows(rows, classes, _data(limits=(Limit("s1", n_images=14),)), 0)
    assert Counter(train["source_label"]) == {
        "a": 6,
        "b": 3,
        "c": 5,
        "d": 9,
    }  # rounds of 3, 3, 3, 2, 2 and the first of the sixth


def test_limit_that_would_empty_classes_is_refused() -> None:
    rows = _rows({("s1", "a"): 30, ("s1", "b"): 3})
    classes = pd.DataFrame(
        {"source": ["s1"] * 2, "source_label": list("ab"), "split": ["train"] * 2, "class_id": range(2)}
    )
    with pytest.raises(
        ValueError,
        match=(
            r"data.limits.s1.n_images is 3, too few for 2 training classes of at least 2 images; set its n_classes, "
            r"too"
        ),
    ):
        balanced_rows(rows, classes, _data(limits=(Limit("s1", n_images=3),)), 0)


def test_licence_commercial_keeps_what_is_known_to_allow_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sources = (
        Source("a", "gldv2", "gldv2", "x"),
        Source("b", "shopee", "shopee", "x"),
        Source("c", "class_folders", "c", "x"),
        Source("d", "class_folders", "d", "x", "CC0", is_commercial=True),
    )
    with caplog.at_level("INFO", logger="guie"):
        kept = allowed_sources(Data(sources, licence="commercial"))
    assert [source.name for source in kept] == ["a", "d"] and allowed_sources(Data(sources)) == list(sources)
    assert "left out: b (the contest's rules)" in caplog.text and "left out: c (not known)" in caplog.text
    with pytest.raises(ValueError, match="no source's licence is known to allow commercial use"):
        allowed_sources(Data(sources[1:3], licence="commercial"))


def test_ledger_counts_training_images_by_licence() -> None:
    data = Data(
        (
            Source("s1", "sop", "a", "x"),
            Source("s2", "class_folders", "b", "x", "MIT", is_commercial=True),
            Source("s3", "hm", "c", "x"),
        )
    )
    rows = _rows({("s1", "a"): 3, ("s1", "b"): 2, ("s2", "c"): 4}).assign(class_id=[0] * 3 + [1] * 2 + [2] * 4)
    lines = ledger(data, pd.concat([rows, rows.iloc[:2]]))
    assert [
        (line["source"], line["licence"], line["is_commercial"], line["n_images"], line["n_classes"]) for line in lines
    ] == [
        ("s1", "see the LICENSE in its archive", False, 5, 2),
        ("s2", "MIT", True, 4, 1),
    ]
    assert lines[0]["page"].startswith("https://cvgl.stanford.edu")


def test_limit_may_ask_more_images_of_its_classes_than_the_others() -> None:
    rows = _rows({(source, f"{n}-{i}"): n for source in "ab" for n in (3, 9) for i in range(6)})
    classes = split_classes(rows, _data(limits=(Limit("a", min_per_class=9),)), 0)
    train = classes[classes["split"] == "train"]
    assert set(train.loc[train["source"] == "a", "n_images"]) == {9}
    assert set(train.loc[train["source"] == "b", "n_images"]) == {3, 9}
