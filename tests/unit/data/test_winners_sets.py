"""The data sets of the winners, each on a small tree of drawn images in exactly its layout, with the traps that its
users fell into."""

import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import scipy.io

from guie.data.build import builder, list_source, split_problems
from guie.recipe import Source
from guie.synthetic.scene import draw_image

Rows = list[tuple[str, str, str]]


@lru_cache
def jpeg(instance: int) -> bytes:
    return cv2.imencode(".jpg", draw_image("toys", instance, 0, 40, 0)[..., ::-1])[1].tobytes()


def images(root: Path, *names: str) -> None:
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(jpeg(number % 3))


def text(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")


def listed(root: Path, kind: str, folder: str = "set") -> Rows:
    """(path, label, split) of all usable images, through door 01's own functions; no image may be a problem."""
    rows = list_source(Source("s", kind, folder, "things"), builder(kind), root)
    good, problems = split_problems(rows, root)
    assert problems.empty, problems.to_string()
    assert good["image_id"].is_unique and (good["domain"] == "things").all()
    return sorted(good[["path", "source_label", "split"]].itertuples(index=False, name=None))


def test_gldv2_index_and_test_have_their_own_landmarks(tmp_path: Path):
    a, b, c, t, u = ("aa0", "ab1", "b02"), "ab1", "b02", "ca1", "cb2"
    index = [f"{x[0]}/{x[1]}/{x[2]}/{x}.jpg" for x in (*a[:1], b, c)]
    images(tmp_path / "set", *(f"index/{name}" for name in index), "test/c/a/1/ca1.jpg", "test/c/b/2/cb2.jpg")
    text(tmp_path / "set/index_image_to_landmark.csv", "id,landmark_id\naa0,7\nab1,7\nb02,12\n")
    text(
        tmp_path / "set/retrieval_solution_v2.1.csv",
        f"id,images,Usage\n{t},b02 ab1,Private\n{u},None,Ignored\ncc3,,Ignored\ncd4,zzz,Public\n",
    )
    assert listed(tmp_path, "gldv2_index") == [
        ("set/index/a/a/0/aa0.jpg", "7", "test"),
        ("set/index/a/b/1/ab1.jpg", "7", "test"),
        ("set/index/b/0/2/b02.jpg", "12", "test"),
        ("set/test/c/a/1/ca1.jpg", "12", "test"),
    ]


def test_shopee_lists_an_image_of_several_postings_once(tmp_path: Path):
    images(tmp_path / "set/train_images", "0a.jpg", "0b.jpg")
    head = "posting_id,image,image_phash,title,label_group\n"
    text(
        tmp_path / "set/train.csv", head + 'p1,0a.jpg,94,"Bag, red",249\np2,0a.jpg,94,Bag,249\np3,0b.jpg,95,Tin,0300\n'
    )
    assert listed(tmp_path, "shopee") == [
        ("set/train_images/0a.jpg", "249", "train"),
        ("set/train_images/0b.jpg", "0300", "train"),
    ]


def test_shopee_image_in_two_groups_is_a_problem(tmp_path: Path):
    images(tmp_path / "set/train_images", "0a.jpg")
    text(
        tmp_path / "set/train.csv", "posting_id,image,image_phash,title,label_group\np1,0a.jpg,9,x,1\np2,0a.jpg,9,x,2\n"
    )
    rows = list_source(Source("s", "shopee", "set", "d"), builder("shopee"), tmp_path)
    good, problems = split_problems(rows, tmp_path)
    assert good.empty and problems["reason"].str.contains("listed more than once, with different labels").tolist() == [
        True,
        True,
    ]


@pytest.mark.parametrize("first", ["0108775015", "108775015"], ids=["as published", "zero lost in a spreadsheet"])
def test_hm_keeps_the_zero_and_passes_over_articles_without_image(tmp_path: Path, first: str):
    images(tmp_path / "set/images", "010/0108775015.jpg", "011/0110065001.jpg")
    text(
        tmp_path / "set/articles.csv",
        f"article_id,product_code,prod_name\n{first},0108775,Strap "
        "top\n0110065001,0110065,OP\n0111565001,0111565,gone\n",
    )
    assert listed(tmp_path, "hm") == [
        ("set/images/010/0108775015.jpg", "0108775", "train"),
        ("set/images/011/0110065001.jpg", "0110065", "train"),
    ]


def met(root: Path, database: str) -> None:
    images(
        root / "set/images",
        "MET/34/0.jpg",
        "MET/34/1.jpg",
        "MET/5/0.jpg",
        "test_met/a.jpg",
        "test_other/b.jpg",
        "test_noart/c.jpg",
    )
    entries = [{"id": 34, "path": "MET/34/0.jpg"}, {"id": 34, "path": "MET/34/1.jpg"}, {"id": 5, "path": "MET/5/0.jpg"}]
    text(root / "set/ground_truth" / database, json.dumps(entries))


@pytest.mark.parametrize("database", ["MET_database.json", "mini_MET_database.json"])
def test_met_distractors_match_nothing(tmp_path: Path, database: str):
    met(tmp_path, database)
    text(
        tmp_path / "set/ground_truth/testset.json",
        json.dumps([{"path": "test_met/a.jpg", "MET_id": 34}, {"path": "test_other/b.jpg"}]),
    )
    text(tmp_path / "set/ground_truth/valset.json", json.dumps([{"path": "test_noart/c.jpg"}]))
    rows = listed(tmp_path, "met")
    assert rows[:3] == [
        ("set/images/MET/34/0.jpg", "34", "train"),
        ("set/images/MET/34/1.jpg", "34", "train"),
        ("set/images/MET/5/0.jpg", "5", "train"),
    ]
    assert rows[3:] == [
        ("set/images/test_met/a.jpg", "34", "test"),
        ("set/images/test_noart/c.jpg", "distractor test_noart/c.jpg", "val"),
        ("set/images/test_other/b.jpg", "distractor test_other/b.jpg", "test"),
    ]


def test_met_prefers_the_full_database(tmp_path: Path):
    met(tmp_path, "MET_database.json")
    text(tmp_path / "set/ground_truth/mini_MET_database.json", "[]")
    assert len(listed(tmp_path, "met")) == 3


def test_aliproducts_merges_a_class_that_lies_in_several_parts(tmp_path: Path):
    images(
        tmp_path / "set",
        "train_val.part1/00042/a.jpg",
        "train_val.part2/00042/b.jpg",
        "train_val.part2/7/c.jpg",
        "val/00042/d.jpg",
    )
    assert listed(tmp_path, "aliproducts") == [
        ("set/train_val.part1/00042/a.jpg", "00042", "train"),
        ("set/train_val.part2/00042/b.jpg", "00042", "train"),
        ("set/train_val.part2/7/c.jpg", "7", "train"),
        ("set/val/00042/d.jpg", "00042", "val"),
    ]


def test_gpr1200_category_is_before_the_first_underscore(tmp_path: Path):
    images(tmp_path / "set/images", "0_a_b.jpg", "1199_x.jpg")
    assert listed(tmp_path, "gpr1200") == [
        ("set/images/0_a_b.jpg", "0", "test"),
        ("set/images/1199_x.jpg", "1199", "test"),
    ]
    images(tmp_path / "set/images", "nounderscore.jpg")
    with pytest.raises(ValueError, match=r"'nounderscore.jpg', expected <category>_<name>.jpg"):
        builder("gpr1200")(tmp_path / "set")


@pytest.mark.parametrize("start", ["Img/", ""])
def test_deepfashion_consumer_to_shop_lists_each_image_of_its_pairs_once(tmp_path: Path, start: str):
    place = "img/CLOTHING/Blouse"
    images(
        tmp_path / "set" / start,
        f"{place}/id_00000001/comsumer_01.jpg",
        f"{place}/id_00000001/shop_01.jpg",
        f"{place}/id_00000002/comsumer_01.jpg",
    )
    images(tmp_path / "set" / start, f"{place}/id_00000002/shop_01.jpg", f"{place}/id_00000001/comsumer_02.jpg")
    pairs = [
        ("00000001/comsumer_01", "00000001/shop_01", "1", "train"),
        ("00000001/comsumer_02", "00000001/shop_01", "1", "train"),
    ]
    pairs += [("00000002/comsumer_01", "00000002/shop_01", "2", "test")]
    lines = [f"{place}/id_{a}.jpg   {place}/id_{b}.jpg id_0000000{i}    {split}" for a, b, i, split in pairs]
    text(
        tmp_path / "set/Eval/list_eval_partition.txt",
        "\n".join(["3", "image_pair_name_1 image_pair_name_2 item_id evaluation_status", *lines]) + "\n",
    )
    names = ["1/comsumer_01", "1/comsumer_02", "1/shop_01", "2/comsumer_01", "2/shop_01"]
    assert listed(tmp_path, "deepfashion_c2s") == [
        (f"set/{start}{place}/id_0000000{name}.jpg", f"id_0000000{name[0]}", "train" if name[0] == "1" else "test")
        for name in names
    ]


def test_deepfashion_on_kaggle_takes_the_folder_as_class(tmp_path: Path):
    paths = ["img/T/id_1/a.jpg", "img/T/id_1/b.jpg", "img/U/id_1/a.jpg"]
    images(tmp_path / "set", *paths)
    text(
        tmp_path / "set/deepfashion_train.json",
        json.dumps({"T": {"id_1": paths[:2]}, "U": {"id_1": paths[2:]}, "again": {"x": paths[:1]}}),
    )
    assert listed(tmp_path, "deepfashion_c2s_kaggle") == [
        (f"set/{path}", path.rsplit("/", 1)[0], "train") for path in paths
    ]


@pytest.mark.parametrize("start", ["Img/", ""])
def test_inshop_queries_and_gallery_are_the_test_part(tmp_path: Path, start: str):
    names = [f"img/WOMEN/Dresses/id_0000000{i}/02_{i}_front.jpg" for i in (1, 2, 3)]
    images(tmp_path / "set" / start, *names)
    lines = [
        f"{name}    id_0000000{i}    {status}"
        for i, (name, status) in enumerate(zip(names, ("train", "query", "gallery"), strict=True), 1)
    ]
    text(
        tmp_path / "set/Eval/list_eval_partition.txt", "\n".join(["3", "image_name item_id evaluation_status", *lines])
    )
    assert [(label, split) for _, label, split in listed(tmp_path, "inshop")] == [
        ("id_00000001", "train"),
        ("id_00000002", "test"),
        ("id_00000003", "test"),
    ]
    text(tmp_path / "set/Eval/list_eval_partition.txt", f"1\nhead\n{names[0]} id_1 querry\n")
    with pytest.raises(ValueError, match="is 'querry', must be one of train, query, gallery"):
        builder("inshop")(tmp_path / "set")


def test_sop_class_ids_are_global(tmp_path: Path):
    images(
        tmp_path / "set", "bicycle_final/111085122871_0.JPG", "bicycle_final/111085122871_1.JPG", "sofa_final/9_0.JPG"
    )
    head = "image_id class_id super_class_id path\n"
    text(
        tmp_path / "set/Ebay_train.txt",
        head + "1 1 1 bicycle_final/111085122871_0.JPG\n2 1 1 bicycle_final/111085122871_1.JPG\n",
    )
    text(tmp_path / "set/Ebay_test.txt", head + "59552 11319 12 sofa_final/9_0.JPG\n")
    assert [(label, split) for _, label, split in listed(tmp_path, "sop")] == [
        ("1", "train"),
        ("1", "train"),
        ("11319", "test"),
    ]


def test_food101_lists_have_no_extension(tmp_path: Path):
    images(tmp_path / "set/images", "apple_pie/1005649.jpg", "waffles/99.jpg")
    text(tmp_path / "set/meta/train.txt", "apple_pie/1005649\n")
    text(tmp_path / "set/meta/test.txt", "waffles/99\n")
    expected = [
        ("set/images/apple_pie/1005649.jpg", "apple_pie", "train"),
        ("set/images/waffles/99.jpg", "waffles", "test"),
    ]
    assert listed(tmp_path, "food101") == expected


@pytest.mark.parametrize("start", ["all/", ""])
def test_rp2k_knows_a_class_by_both_its_names(tmp_path: Path, start: str):
    images(tmp_path / "set" / start, "train/李子园/0.jpg", "test/#U674e#U5b50#U56ed/1.jpg", "train/7-UP/2.jpg")
    assert listed(tmp_path, "rp2k") == sorted(
        [
            (f"set/{start}train/李子园/0.jpg", "李子园", "train"),
            (f"set/{start}test/#U674e#U5b50#U56ed/1.jpg", "李子园", "test"),
            (f"set/{start}train/7-UP/2.jpg", "7-UP", "train"),
        ]
    )


def test_cars196_reads_the_matlab_file(tmp_path: Path):
    images(tmp_path / "set/car_ims", "000001.jpg", "016185.jpg")
    names = ["relative_im_path", "bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "test"]
    entries = np.array(
        [[("car_ims/000001.jpg", 112, 7, 853, 717, 1, 0), ("car_ims/016185.jpg", 48, 24, 441, 202, 196, 1)]],
        [(name, object) for name in names],
    )
    scipy.io.savemat(
        tmp_path / "set/cars_annos.mat", {"annotations": entries, "class_names": np.array(["a", "b"], object)}
    )
    assert listed(tmp_path, "cars196") == [
        ("set/car_ims/000001.jpg", "1", "train"),
        ("set/car_ims/016185.jpg", "196", "test"),
    ]
    for content in (b"not a matlab file", b""):
        (tmp_path / "set/cars_annos.mat").write_bytes(content)
        with pytest.raises(
            ValueError, match=r"cars_annos.mat is not the annotations of Stanford Cars .*; fetch it again"
        ):
            builder("cars196")(tmp_path / "set")


def test_inat2018_follows_its_annotations(tmp_path: Path):
    names = ["train_val2018/Aves/2761/aa.jpg", "train_val2018/Aves/2761/bb.jpg", "train_val2018/Fungi/3/cc.jpg"]
    images(tmp_path / "set", *names)
    lists = {"train": [(10, names[0], 2761), (7, names[2], 3)], "val": [(11, names[1], 2761)]}
    for split, rows in lists.items():
        document = {
            "images": [{"id": i, "file_name": name} for i, name, _ in rows],
            "annotations": [{"image_id": i, "category_id": c} for i, _, c in rows[::-1]],
        }
        text(tmp_path / f"set/{split}2018.json", json.dumps(document))
    assert listed(tmp_path, "inat2018") == [
        (f"set/{names[0]}", "2761", "train"),
        (f"set/{names[1]}", "2761", "val"),
        (f"set/{names[2]}", "3", "train"),
    ]
    text(tmp_path / "set/val2018.json", json.dumps({"images": [], "annotations": [{"image_id": 4, "category_id": 1}]}))
    with pytest.raises(ValueError, match="annotation 0 is of image 4, which `images` does not name"):
        builder("inat2018")(tmp_path / "set")


def test_fashion200k_class_is_the_product(tmp_path: Path):
    names = [
        "women/dresses/casual/51727804/51727804_0.jpeg",
        "women/dresses/casual/51727804/51727804_1.jpeg",
        "women/tops/blouses/9/9_0.jpeg",
    ]
    images(tmp_path / "set", *names)
    assert listed(tmp_path, "fashion200k") == [(f"set/{name}", name.split("/")[3], "") for name in names]


def test_lookalike130k_finds_the_folder_of_an_image(tmp_path: Path):
    images(tmp_path / "set", "artwork/a1.jpg", "cars/c1.jpg")
    text(tmp_path / "set/train.csv", "label,image_name\nartwork,a1.jpg\ncars,c1.jpg\n")
    assert listed(tmp_path, "lookalike130k") == [
        ("set/artwork/a1.jpg", "artwork", "train"),
        ("set/cars/c1.jpg", "cars", "train"),
    ]
    images(tmp_path / "set", "cars/a1.jpg")
    with pytest.raises(ValueError, match=r"a1\.jpg lies in"):
        builder("lookalike130k")(tmp_path / "set")


def uned(root: Path, name: str, splits: dict[str, list[tuple[str, object]]]) -> None:
    for split, rows in splits.items():
        text(
            root / f"set/info_files/{name}/{split}.json",
            json.dumps([{"path": path, "class_id": label} for path, label in rows]),
        )


def test_uned_takes_the_first_class_and_the_first_split(tmp_path: Path):
    images(tmp_path / "set/images", "met/a.jpg", "met/b.jpg", "met/c.jpg", "met/d.jpg")
    splits: dict[str, list[tuple[str, object]]] = {
        "train": [("met/a.jpg", 3)],
        "index": [("met/a.jpg", 3)],
        "small_index": [("met/a.jpg", 3)],
    }
    uned(tmp_path, "met", {**splits, "test": [("met/b.jpg", [3, 9]), ("met/c.jpg", -1), ("met/d.jpg", [])]})
    assert listed(tmp_path, "uned", "set/info_files/met") == [
        ("set/images/met/a.jpg", "3", "train"),
        ("set/images/met/b.jpg", "3", "test"),
        ("set/images/met/c.jpg", "distractor met/c.jpg", "test"),
        ("set/images/met/d.jpg", "distractor met/d.jpg", "test"),
    ]


def test_uned_finds_rp2k_under_its_escaped_names(tmp_path: Path):
    images(tmp_path / "set/images", "rp2k/train/#U674e#U5b50/0.jpg", "rp2k/train/李/1.jpg")
    uned(tmp_path, "rp2k", {"train": [("rp2k/train/李子/0.jpg", 5), ("rp2k/train/李/1.jpg", 6)]})
    assert listed(tmp_path, "uned", "set/info_files/rp2k") == [
        ("set/images/rp2k/train/#U674e#U5b50/0.jpg", "5", "train"),
        ("set/images/rp2k/train/李/1.jpg", "6", "train"),
    ]


def test_csv_list_takes_names_on_disk_and_names_of_manifests(tmp_path: Path):
    images(tmp_path / "set", "a%20b.jpg", "caf\udce9.jpg", "%41.jpg")
    lines = ["path,label", "a%20b.jpg,1", "caf%E9.jpg,2", "%2541.jpg,3%20"]
    text(tmp_path / "set/images.csv", "\n".join(lines) + "\n")
    assert listed(tmp_path, "csv_list") == [
        ("set/%2541.jpg", "3%2520", ""),
        ("set/a%2520b.jpg", "1", ""),
        ("set/caf%E9.jpg", "2", ""),
    ]


def test_csv_list_may_name_domains_and_splits(tmp_path: Path):
    images(tmp_path / "set", "a/1.jpg", "2.jpg")
    text(tmp_path / "set/images.csv", "path,label,domain,split\na/1.jpg,007,shoes,val\n2.jpg,x,,\n")
    rows = list_source(Source("s", "csv_list", "set", "things"), builder("csv_list"), tmp_path)
    assert rows[["image_id", "path", "source_label", "domain", "split"]].to_numpy().tolist() == [
        ["s/2.jpg", "set/2.jpg", "x", "things", ""],
        ["s/a/1.jpg", "set/a/1.jpg", "007", "shoes", "val"],
    ]
    text(tmp_path / "set/images.csv", "path,label\n2.jpg,x\n")
    assert listed(tmp_path, "csv_list") == [("set/2.jpg", "x", "")]
    text(tmp_path / "set/images.csv", "path,label\n../2.jpg,x\n")
    with pytest.raises(ValueError, match=r"lists '../2.jpg'; a path may not hold '..'"):
        listed(tmp_path, "csv_list")


JSON_LISTS = {
    "met": "ground_truth/MET_database.json",
    "deepfashion_c2s_kaggle": "deepfashion_train.json",
    "inat2018": "train2018.json",
    "uned": "train.json",
}
FIELD_LISTS = {
    "sop": "Ebay_train.txt",
    "deepfashion_c2s": "Eval/list_eval_partition.txt",
    "inshop": "Eval/list_eval_partition.txt",
    "food101": "meta/train.txt",
}
TABLES = {
    "shopee": "train.csv",
    "hm": "articles.csv",
    "gldv2_index": "index_image_to_landmark.csv",
    "lookalike130k": "train.csv",
    "csv_list": "images.csv",
}


@pytest.mark.parametrize(("kind", "name"), JSON_LISTS.items())
@pytest.mark.parametrize("content", [b"", b"{", b'"text"', b"\xff\xfe\x00", b"17"])
def test_broken_json_is_told(tmp_path: Path, kind: str, name: str, content: bytes):
    text(tmp_path / name, "")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{Path(name).name}( is not a JSON file| holds a \w+, expected a)"):
        builder(kind)(tmp_path)


@pytest.mark.parametrize(
    ("kind", "name", "content"),
    [
        ("met", JSON_LISTS["met"], [{"id": 1}]),
        ("uned", "train.json", [3]),
        ("inat2018", "train2018.json", {"images": []}),
    ],
)
def test_json_that_lacks_a_key_is_told(tmp_path: Path, kind: str, name: str, content: object):
    text(tmp_path / name, json.dumps(content))
    with pytest.raises(ValueError, match=r"entry 0 is .*, which lacks"):
        builder(kind)(tmp_path)


@pytest.mark.parametrize(("kind", "name"), FIELD_LISTS.items())
def test_broken_line_is_told_with_its_number(tmp_path: Path, kind: str, name: str):
    text(tmp_path / name, "1\nhead\none two three four five six\n")
    with pytest.raises(ValueError, match=r"line \d is '.*', expected '"):
        builder(kind)(tmp_path)
    (tmp_path / name).write_bytes(b"1\nhead\n\xff\xfe\n")
    with pytest.raises(ValueError, match="is not text in UTF-8"):
        builder(kind)(tmp_path)


@pytest.mark.parametrize(("kind", "name"), TABLES.items())
def test_table_without_its_columns_is_told(tmp_path: Path, kind: str, name: str):
    text(tmp_path / name, "filename,category\na.jpg,1\n")
    with pytest.raises(ValueError, match=f"{name} lacks .*: expected the columns"):
        builder(kind)(tmp_path)


@pytest.mark.parametrize(
    "kind", [*JSON_LISTS, *FIELD_LISTS, *TABLES, "aliproducts", "gpr1200", "rp2k", "cars196", "fashion200k"]
)
def test_set_that_is_not_there_is_told(tmp_path: Path, kind: str):
    build: Callable[[Path], pd.DataFrame] = builder(kind)
    with pytest.raises(FileNotFoundError, match="does not exist; put the data set there"):
        build(tmp_path / "absent")
