"""Groups of near-twins: which sources name them, and that validation by class never parts one, against loops by
hand."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from guie.data.balance import balanced_rows, set_apart, split_classes
from guie.data.build import builder, list_source
from guie.data.manifest import COLUMNS, read_manifest
from guie.data.split import groups_of
from guie.recipe import Data, DrawnWorld, Source, load_recipe
from guie.synthetic.world import draw_world

Key = tuple[str, str]


def manifest(images: list[tuple[str, str, str, str]]) -> pd.DataFrame:
    """One row an image: source, label, domain, group."""
    cells = [
        (f"{s}/{label}/{i}", f"{s}/{label}/{i}.jpg", s, label, domain, "", group)
        for i, (s, label, domain, group) in enumerate(images)
    ]
    return pd.DataFrame(cells, columns=list(COLUMNS))


def families(rows: pd.DataFrame) -> list[set[Key]]:
    """The groups by hand: families that have a name in common are joined until none has."""
    found: list[tuple[set[Key], set[str]]] = []
    for row in rows.itertuples():
        classes, names = {(row.source, row.source_label)}, {name for name in row.group.split("\n") if name}
        rest = []
        for other_classes, other_names in found:
            if classes & other_classes or names & other_names:
                classes, names = classes | other_classes, names | other_names
            else:
                rest.append((other_classes, other_names))
        found = [*rest, (classes, names)]
    return [classes for classes, _ in found]


def sides(rows: pd.DataFrame, seed: int = 0, **values: object) -> dict[Key, str]:
    data = Data((Source("a", "class_folders", "a", "x"), Source("b", "class_folders", "b", "y")), **values)
    rows = set_apart(rows, data, seed)
    return {(row.source, row.source_label): row.split for row in split_classes(rows, data, seed).itertuples()}


def random_world(seed: int) -> pd.DataFrame:
    """Two sources in two domains; classes of 1 to 4 images; most have a group, some groups span both sources, some
    images name two."""
    rng = np.random.default_rng(seed)
    images = []
    for source, domain in (("a", "x"), ("b", "y")):
        for label in range(60):
            group = ["", f"{source}/{label // 3}", f"{source}/{label // 7}", f"shared:{label // 2}"][rng.integers(4)]
            for _ in range(rng.integers(1, 5)):
                more = f"\n{source}/x{label // 2}" if rng.random() < 0.05 else ""
                images.append((source, f"{label:02d}", domain, (group + more).strip("\n")))
    return manifest(images).sample(frac=1, random_state=seed)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("share", [0.5, 0.3, 0.2])
def test_no_group_is_on_both_sides(seed: int, share: float):
    rows = random_world(seed)
    split = sides(rows, seed, val_class_share=share, min_per_class=1)
    sizes = Counter(zip(rows["source"], rows["source_label"], strict=True))
    groups = families(rows)
    assert max(map(len, groups)) > 3 and any(len({s for s, _ in group}) == 2 for group in groups)
    for group in groups:
        seen = {split[key] for key in group}
        assert not {"train", "val"} <= seen, group
    assert all(sizes[key] >= 2 for key, side in split.items() if side == "val")
    assert all(split[key] in ("train", "left out") for key in sizes if sizes[key] == 1)


@pytest.mark.parametrize("seed", range(8))
def test_share_is_met_as_closely_as_groups_of_three_allow(seed: int):
    rows = manifest([("a", f"{label:02d}", "x", f"a/{label // 3}") for label in range(80) for _ in range(2)])
    for share, most in (
        (0.5, 1),
        (0.25, 2),
        (0.1, 2),
    ):  # ten disjoint folds of 8 out of 26 groups of 3 and one of 2: some have two, some three
        chosen = [key for key, side in sides(rows, seed, val_class_share=share).items() if side == "val"]
        assert abs(len(chosen) - share * 80) <= most


@pytest.mark.parametrize("seed", range(4))
def test_share_is_met_exactly_where_lone_classes_fill_up(seed: int):
    """Groups of 2 to 12 as in Products-10K, and as many classes without one."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(30), rng.integers(2, 13, 30))
    rows = manifest(
        [
            ("a", f"{label:03d}", "x", f"a/{groups[label]}" if label < len(groups) else "")
            for label in range(2 * len(groups))
            for _ in range(2)
        ]
    )
    for share in (0.5, 0.2, 0.05):
        n = sum(side == "val" for side in sides(rows, seed, val_class_share=share).values())
        assert n == int(share * 2 * len(groups) + 0.5)


@pytest.mark.parametrize("share", [0.5, 0.3, 0.25, 0.2])
def test_folds_are_disjoint_and_of_one_size(share: float):
    rows = random_world(3)
    sizes = Counter(zip(rows["source"], rows["source_label"], strict=True))
    n = {source: sum(size >= 2 and key[0] == source for key, size in sizes.items()) for source in "ab"}
    folds = []
    for fold in range(int(1 / share + 1e-9)):
        split = sides(rows, 5, val_class_share=share, val_fold=fold)
        folds.append({key for key, side in split.items() if side == "val"})
        for source in "ab":
            assert abs(sum(key[0] == source for key in folds[-1]) - share * n[source]) <= 4
    assert sum(map(len, folds)) == len(set.union(*folds))
    if share in (0.5, 0.25, 0.2):
        assert set.union(*folds) == {key for key, size in sizes.items() if size >= 2}


def test_folds_of_lone_classes_are_disjoint_whatever_their_number():
    for n in (10, 11, 13, 17, 24, 38):
        rows = manifest([("a", f"{label:02d}", "x", "") for label in range(n) for _ in range(2)])
        folds = [
            {key for key, side in sides(rows, val_class_share=0.2, val_fold=fold).items() if side == "val"}
            for fold in range(5)
        ]
        assert sum(map(len, folds)) == len(set.union(*folds)) == n and {len(fold) for fold in folds} <= {
            n // 5,
            -(-n // 5),
        }


def test_split_depends_on_seed_and_names_alone():
    rows = random_world(1)
    assert sides(rows, 0) == sides(rows.sample(frac=1, random_state=9), 0) != sides(rows, 1)


def test_group_far_larger_than_a_fold_stays_in_training():
    rows = manifest(
        [("a", f"{label:02d}", "x", "a/big" if label < 40 else "") for label in range(60) for _ in range(2)]
    )
    for seed in range(5):
        split = sides(rows, seed, val_class_share=0.2)
        assert {split["a", f"{label:02d}"] for label in range(40)} == {"train"} and list(split.values()).count(
            "val"
        ) == 12


def test_domain_of_two_groups_has_one_on_each_side():
    rows = manifest(
        [("a", f"{label:02d}", "x", "a/big" if label < 9 else "a/small") for label in range(12) for _ in range(2)]
    )
    for seed in range(5):
        for share in (0.9, 0.5, 0.01):
            split = sides(rows, seed, val_class_share=share)
            assert {split["a", f"{label:02d}"] for label in range(9)} ^ {
                split["a", f"{label:02d}"] for label in range(9, 12)
            } == {"train", "val"}


def test_domain_that_is_one_group_is_trained_on(caplog: pytest.LogCaptureFixture):
    rows = manifest(
        [("a", f"{label}", "x", "a/all") for label in range(4) for _ in range(2)]
        + [("b", f"{label}", "y", "") for label in range(4) for _ in "ab"]
    )
    split = sides(rows)
    assert {side for (source, _), side in split.items() if source == "a"} == {"train"}
    assert "domain x has one class or group of classes" in caplog.text


def test_distractors_are_in_no_group():
    rows = manifest(
        [("a", f"{label}", "x", f"shared:{label}") for label in range(8) for _ in "ab"]
        + [("b", f"{label}", "y", f"shared:{label}") for label in range(8)]
    )
    split = sides(rows, distractors=("b",))
    assert Counter(side for (source, _), side in split.items() if source == "a") == {"train": 4, "val": 4}
    assert {side for (source, _), side in split.items() if source == "b"} == {"val"}


def test_validation_by_image_ignores_groups():
    rows = random_world(2)
    assert sides(rows, val_by="image") == sides(rows.assign(group=""), val_by="image")


def test_without_groups_the_classes_of_the_first_fold_are_those_of_the_lowest_hashes():
    """As the recipes without groups were split before there were any."""
    import hashlib

    rows = manifest([("a", f"{label:02d}", "x", "") for label in range(21) for _ in "ab"])
    by_hash = sorted(range(21), key=lambda label: hashlib.sha256(f"7\0class\0a\0{label:02d}".encode()).digest()[:8])
    assert {int(label) for (_, label), side in sides(rows, 7, val_class_share=0.4).items() if side == "val"} == set(
        by_hash[:8]
    )


def test_groups_join_through_a_chain_of_names():
    rows = manifest(
        [
            ("a", "0", "x", "p"),
            ("a", "1", "x", "p\nq"),
            ("a", "2", "x", ""),
            ("b", "0", "y", "q"),
            ("b", "1", "y", "r"),
            ("b", "1", "y", ""),
        ]
    )
    a0, a1, a2, b0, b1 = groups_of(rows)
    assert a0 == a1 == b0 and len({a0, a2, b1}) == 3


def listed(root: Path, name: str, kind: str, folder: str) -> dict[str, set[str]]:
    """label: names of groups, of a source."""
    rows = list_source(Source(name, kind, folder, "d"), builder(kind), root)
    return {
        label: {name for text in part["group"] for name in text.split("\n") if name}
        for label, part in rows.groupby("source_label")
    }


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def test_products10k_groups_are_the_sources_own(tmp_path: Path):
    write(tmp_path / "p/train.csv", "name,class,group\n0.jpg,1,5\n1.jpg,2,5\n2.jpg,3,6\n")
    write(tmp_path / "p/test_kaggletest.csv", "name,class,Usage\n0.jpg,3,Public\n")
    (tmp_path / "p/test").mkdir()
    assert listed(tmp_path, "one", "products10k", "p") == {"1": {"one/5"}, "2": {"one/5"}, "3": {"one/6"}}


def test_shopee_label_groups_that_share_a_picture_are_one_group(tmp_path: Path):
    write(
        tmp_path / "s/train.csv",
        "posting_id,image,image_phash,title,label_group\np1,a.jpg,9f,x,1\np2,b.jpg,9f,x,2\np3,c.jpg,77,x,3\n",
    )
    assert listed(tmp_path, "s", "shopee", "s") == {"1": {"s/9f"}, "2": {"s/9f"}, "3": {"s/77"}}


def test_gpr1200_shares_its_places_offers_and_species_with_the_sets_it_took_them_from(tmp_path: Path):
    names = (
        "0_00a1b2c3d4e5f607.jpg",
        "1_ffa1b2c3d4e5f607.jpg",
        "250_0f0f.jpg",
        "450_0f0f.jpg",
        "800_111085122871_0.JPG.jpg",
        "999_1_2.jpg",
        "1199_0f0f.jpg",
    )
    for name in names:
        write(tmp_path / "gpr/images" / name, "x")
    write(
        tmp_path / "gpr/GPR1200_categoryNumber_to_text.json",
        json.dumps({"0": "Lake Louise", "1": "Børsen", "800": "sofa"}),
    )
    write(tmp_path / "gld/train.csv", "id,landmark_id\n00a1b2c3d4e5f607,7\n1111111111111111,8\n2222222222222222,9\n")
    write(
        tmp_path / "gld/train_label_to_category.csv",
        "landmark_id,category\n8,http://commons.wikimedia.org/wiki/Category:B%C3%B8rsen\n",
    )
    write(tmp_path / "gld/index_image_to_landmark.csv", "id,landmark_id\nffa1b2c3d4e5f607,70\n3333333333333333,71\n")
    write(
        tmp_path / "gld/index_label_to_category.csv",
        "landmark_id,category\n71,http://commons.wikimedia.org/wiki/Category:Lake_Louise\n",
    )
    write(
        tmp_path / "sop/Ebay_train.txt",
        "image_id class_id super_class_id path\n1 5 1 sofa_final/111085122871_3.JPG\n2 6 1 sofa_final/2_0.JPG\n",
    )
    write(tmp_path / "sop/Ebay_test.txt", "image_id class_id super_class_id path\n3 7 1 sofa_final/1_0.JPG\n")
    entries = {
        "images": [{"id": 1, "file_name": "train_val2018/Aves/3/0f0f.jpg"}],
        "annotations": [{"image_id": 1, "category_id": 3}],
    }
    write(tmp_path / "inat/train2018.json", json.dumps(entries))
    gpr = listed(tmp_path, "gpr", "gpr1200", "gpr")
    gld, index = listed(tmp_path, "gld", "gldv2", "gld"), listed(tmp_path, "index", "gldv2_index", "gld")
    sop, inat = listed(tmp_path, "sop", "sop", "sop"), listed(tmp_path, "inat", "inat2018", "inat")
    joined = {
        (a, s, b)
        for a in gpr
        for s, other in (("gld", gld), ("index", index), ("sop", sop), ("inat", inat))
        for b in other
        if gpr[a] & other[b]
    }
    assert joined == {
        ("0", "gld", "7"),  # the same image
        ("0", "index", "71"),  # the same place
        ("1", "gld", "8"),
        ("1", "index", "70"),
        ("800", "sop", "5"),  # the same offer
        ("999", "sop", "7"),
        ("250", "inat", "3"),
    }
    assert not gpr["450"] and not gpr["1199"]


def test_list_of_groups_beside_any_set(tmp_path: Path):
    for label in ("cherry 1", "cherry 2", "plum"):
        write(tmp_path / "fruit" / label / "0.jpg", "x")
    write(tmp_path / "fruit/groups.csv", "label,group\ncherry 1,cherries\ncherry 2,cherries\nplum,\n")
    assert listed(tmp_path, "f", "class_folders", "fruit") == {
        "cherry 1": {"f/cherries"},
        "cherry 2": {"f/cherries"},
        "plum": set(),
    }
    write(tmp_path / "fruit/groups.csv", "label,group\ncherry 9,cherries\n")
    with pytest.raises(ValueError, match=r"groups.csv names the label 'cherry 9', which no image has"):
        listed(tmp_path, "f", "class_folders", "fruit")


def test_csv_list_takes_groups_from_its_own_column(tmp_path: Path):
    write(tmp_path / "mine/images.csv", "path,label,group\na.jpg,1,shoes\nb.jpg,2,shoes\nc.jpg,3,\n")
    assert listed(tmp_path, "m", "csv_list", "mine") == {"1": {"m/shoes"}, "2": {"m/shoes"}, "3": set()}


def test_every_name_of_several_counts_within_its_source_unless_it_is_shared(tmp_path: Path):
    write(
        tmp_path / "mine/images.csv", 'path,label,group\na.jpg,1,"shoes\nboots"\nb.jpg,2,"shared:x\nshoes"\nc.jpg,3,\n'
    )
    assert listed(tmp_path, "m", "csv_list", "mine") == {
        "1": {"m/shoes", "m/boots"},
        "2": {"shared:x", "m/shoes"},
        "3": set(),
    }
    write(tmp_path / "mine/groups.csv", "label,group\n3,shared:x\n3,hats\n")
    assert listed(tmp_path, "m", "csv_list", "mine")["3"] == {"shared:x", "m/hats"}


def test_places_without_a_category_are_no_group(tmp_path: Path):
    write(tmp_path / "gld/train.csv", "id,landmark_id\n1111,8\n2222,9\n")
    write(tmp_path / "gld/train_label_to_category.csv", "landmark_id,category\n8,\n9,\n")
    write(tmp_path / "gpr/images/0_3333.jpg", "x")
    write(tmp_path / "gpr/GPR1200_categoryNumber_to_text.json", json.dumps({"0": None}))
    assert listed(tmp_path, "gld", "gldv2", "gld") == {"8": {"shared:gldv2/1111"}, "9": {"shared:gldv2/2222"}}
    assert listed(tmp_path, "gpr", "gpr1200", "gpr") == {"0": {"shared:gldv2/3333"}}


def test_no_triple_of_the_drawn_world_is_parted(tmp_path: Path):
    """The drawn twins are what a third of the validation classes had in training before there were groups."""
    world = DrawnWorld(n_instances=30, n_views=2, image_px=32)
    draw_world(tmp_path, world, 3)
    sources = load_recipe("demo").data.sources
    rows = pd.concat([list_source(source, builder(source.kind), tmp_path) for source in sources], ignore_index=True)
    data = Data(sources)
    train, val = balanced_rows(rows, split_classes(rows, data, 3), data, 3)
    for source in sources:
        labels = sorted(
            set(rows["source_label"][rows["source"] == source.name]), key=lambda label: int(label.split()[-1])
        )  # rise with the instance
        side = {
            label: name
            for name, part in (("train", train), ("val", val))
            for label in part["source_label"][part["source"] == source.name]
        }
        triples = [{side[label] for label in labels[i : i + 3]} for i in range(0, 30, 3)]
        assert all(len(triple) == 1 for triple in triples) and set.union(*triples) == {"train", "val"}


def test_manifest_from_before_groups_is_refused(tmp_path: Path):
    manifest([("a", "0", "x", "")]).drop(columns="group").to_parquet(tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="lacks the columns group"):
        read_manifest(tmp_path / "a.parquet")
