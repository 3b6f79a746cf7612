"""Every set, broken in every way that people meet: a listed problem or one clear line, never a bare traceback, never
silence."""

import io
import json
import os
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image

from guie.data.build import builder, list_source, split_problems
from guie.data.shards import pack_shard, plan_shards
from guie.recipe import Data, Source

JPG = "<image>"
PAIRS = (
    "2\nimage_pair_name_1 image_pair_name_2 item_id evaluation_status\nimg/a/1.jpg img/a/2.jpg i1 train\nimg/b/1.jpg "
    "img/b/2.jpg i2 test\n"
)
SHOP = "2\nimage_name item_id evaluation_status\nimg/a/1.jpg i1 train\nimg/b/1.jpg i2 query\n"
SOP = "image_id class_id super_class_id path\n"
INAT = json.dumps(
    {"images": [{"id": 1, "file_name": "t/a/1/x.jpg"}], "annotations": [{"image_id": 1, "category_id": 4}]}
)
TREES: dict[str, dict[str, str]] = {
    "gldv2": {
        "train.csv": "id,url,landmark_id\nabc1,u,7\nabd2,u,7\n",
        "train/a/b/c/abc1.jpg": JPG, "train/a/b/d/abd2.jpg": JPG,
    },
    "gldv2_index": {
        "index_image_to_landmark.csv": "id,landmark_id\nabc1,7\nabd2,7\n",
        "index/a/b/c/abc1.jpg": JPG, "index/a/b/d/abd2.jpg": JPG,
    },
    "products10k": {"train.csv": "name,class,group\n1.jpg,3,0\n2.jpg,4,0\n", "train/1.jpg": JPG, "train/2.jpg": JPG},
    "shopee": {
        "train.csv": "posting_id,image,image_phash,title,label_group\np,1.jpg,9,t,3\nq,2.jpg,9,t,3\n",
        "train_images/1.jpg": JPG, "train_images/2.jpg": JPG,
    },
    "hm": {
        "articles.csv": "article_id,product_code\n0108775015,0108775\n0108775016,0108775\n",
        "images/010/0108775015.jpg": JPG, "images/010/0108775016.jpg": JPG,
    },
    "met": {
        "ground_truth/MET_database.json": json.dumps([{"id": i, "path": f"MET/{i}/0.jpg"} for i in (3, 4)]),
        "ground_truth/testset.json": json.dumps([{"path": "test_met/a.jpg", "MET_id": 3}]),
        "ground_truth/valset.json": json.dumps([{"path": "test_other/b.jpg"}]),
        "images/MET/3/0.jpg": JPG, "images/MET/4/0.jpg": JPG,
        "images/test_met/a.jpg": JPG, "images/test_other/b.jpg": JPG,
    },
    "aliproducts": {"train_val.part1/7/a.jpg": JPG, "val/7/b.jpg": JPG},
    "gpr1200": {"images/0_a.jpg": JPG, "images/1_b.jpg": JPG},
    "deepfashion_c2s": {
        "Eval/list_eval_partition.txt": PAIRS,
        "img/a/1.jpg": JPG, "img/a/2.jpg": JPG, "img/b/1.jpg": JPG, "img/b/2.jpg": JPG,
    },
    "deepfashion_c2s_kaggle": {
        "deepfashion_train.json": json.dumps({"g": {"i": ["a/1.jpg", "a/2.jpg"]}}),
        "a/1.jpg": JPG, "a/2.jpg": JPG,
    },
    "inshop": {"Eval/list_eval_partition.txt": SHOP, "img/a/1.jpg": JPG, "img/b/1.jpg": JPG},
    "sop": {
        "Ebay_train.txt": f"{SOP}1 1 1 c_final/1.JPG\n", "Ebay_test.txt": f"{SOP}2 2 1 c_final/2.JPG\n",
        "c_final/1.JPG": JPG, "c_final/2.JPG": JPG,
    },
    "food101": {
        "meta/train.txt": "pie/1\n", "meta/test.txt": "pie/2\n",
        "images/pie/1.jpg": JPG, "images/pie/2.jpg": JPG,
    },
    "rp2k": {"all/train/可乐/1.jpg": JPG, "all/test/#U53ef#U4e50/2.jpg": JPG},
    "cars196": {"cars_annos.mat": "", "car_ims/000001.jpg": JPG, "car_ims/000002.jpg": JPG},
    "inat2018": {
        "train2018.json": INAT, "val2018.json": INAT.replace("x.jpg", "y.jpg"),
        "t/a/1/x.jpg": JPG, "t/a/1/y.jpg": JPG,
    },
    "fashion200k": {"women/dresses/casual/11/a.jpg": JPG, "women/dresses/casual/12/b.jpg": JPG},
    "lookalike130k": {"train.csv": "label,image_name\n3,1.jpg\n4,2.jpg\n", "toys/1.jpg": JPG, "cars/2.jpg": JPG},
    "uned": {
        "info_files/sop/train.json": json.dumps([
            {"path": "sop/1.jpg", "class_id": 1}, {"path": "sop/2.jpg", "class_id": [2, 3]},
        ]),
        "images/sop/1.jpg": JPG, "images/sop/2.jpg": JPG,
    },
    "csv_list": {
        "images.csv": "path,label,domain,split\na/1.jpg,x,toys,train\na/2.jpg,y,,\n",
        "a/1.jpg": JPG, "a/2.jpg": JPG,
    },
    "class_folders": {"x/1.jpg": JPG, "y/2.jpg": JPG},
    "unlabelled": {"1.jpg": JPG, "y/2.jpg": JPG},
    "grocery_store": {
        "classes.csv": "Class Name (str),Class ID (int),Coarse\nApple,0,f\n",
        "train.txt": "train/1.jpg, 0, 0\n", "val.txt": "val/2.jpg, 0, 0\n",
        "train/1.jpg": JPG, "val/2.jpg": JPG,
    },
    "clothing": {
        "images.csv": "image,sender_id,label,kids\n1,4,Hat,False\n2,4,Dress,False\n",
        "images/1.jpg": JPG, "images/2.jpg": JPG,
    },
}  # fmt: skip
BY_FOLDER = (
    "aliproducts",
    "class_folders",
    "unlabelled",
    "fashion200k",
    "gpr1200",
    "rp2k",
    "hm",
)  # no list says that an image is missing; H&M's lists articles


@lru_cache
def jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


def png_header(width: int, height: int) -> bytes:
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))


def grow(root: Path, kind: str) -> None:
    for name, content in TREES[kind].items():
        path = root / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg() if content == JPG else content.encode())
    if kind == "cars196":
        row = np.dtype([(f, object) for f in ("relative_im_path", "x1", "y1", "x2", "y2", "class", "test")])
        rows = np.array([(f"car_ims/{n:06d}.jpg", 1, 2, 3, 4, n, 0) for n in (1, 2)], dtype=row)
        scipy.io.savemat(root / "set/cars_annos.mat", {"annotations": rows})


def be_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def be_loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def add_lines(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b'one,"two\nthree four five six seven eight nine\n')


LIST_DAMAGES: dict[str, Callable[[Path], object]] = {
    "missing": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "noise": lambda path: path.write_bytes(np.random.default_rng(1).bytes(300)),
    "utf-16": lambda path: path.write_bytes("naïve,größe\n1,2\n".encode("utf-16")),
    "latin-1": lambda path: path.write_bytes(path.read_bytes() + "é,ü é ü\n".encode("latin-1")),
    "zero bytes inside": lambda path: path.write_bytes(path.read_bytes()[:-5] + bytes(20)),
    "cut in half": lambda path: path.write_bytes(path.read_bytes()[: len(path.read_bytes()) // 2]),
    "other columns": lambda path: path.write_bytes(b"x,y,z\n1,2,3\n"),
    "lines too many": add_lines,
    "a folder": be_folder,
    "a link to itself": be_loop,
    "json of another kind": lambda path: path.write_bytes(b'{"a": [1, "b", null]}'),
    "only a header": lambda path: path.write_bytes(path.read_bytes().split(b"\n")[0] + b"\n"),
}
IMAGE_DAMAGES: dict[str, Callable[[Path], object]] = {
    "missing": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "noise": lambda path: path.write_bytes(np.random.default_rng(2).bytes(900)),
    "html": lambda path: path.write_bytes(b"<!DOCTYPE html><title>429 Too Many Requests</title>"),
    "a folder": be_folder,
    "a link to itself": be_loop,
    "a link to nothing": lambda path: (path.unlink(), path.symlink_to("/nowhere/at/all.jpg")),
    "a device": lambda path: (path.unlink(), path.symlink_to("/dev/null")),
    "a bomb": lambda path: path.write_bytes(png_header(60_000, 60_000)),
    "postscript": lambda path: path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
}
DECODE_DAMAGES: dict[str, Callable[[Path], object]] = {
    "truncated": lambda path: path.write_bytes(jpeg()[:500]),
    "cut after the header": lambda path: path.write_bytes(png_header(40, 30)),
    "a wrong checksum": lambda path: path.write_bytes(png_header(40, 30)[:-1] + b"\0" + b"\0\0\0\0IEND"),
}


def cases(damages: dict[str, Callable[[Path], object]], is_image: bool) -> Iterator[object]:
    """One case for each list of each set, or for the first image of each set, and each damage."""
    for kind, tree in TREES.items():
        files = [name for name, content in tree.items() if (content == JPG) == is_image]
        for name in files[:1] if is_image else files:
            for damage in damages:
                yield pytest.param(kind, name, damage, id=f"{kind}-{Path(name).name}-{damage}")


def outcome(root: Path, kind: str) -> str:
    """ "error" with one clear line, "problems" that are listed, or "fine"."""
    try:
        rows = list_source(
            Source("s", kind, "set/info_files/sop" if kind == "uned" else "set", "things"), builder(kind), root
        )
    except (ValueError, FileNotFoundError) as error:
        assert type(error) in (ValueError, FileNotFoundError), f"a bare {type(error).__name__}: {error}"
        assert re.search(r"set|source 's'", str(error)) and 20 < len(str(error)) < 600, str(error)
        return "error"
    _, problems = split_problems(rows, root)
    assert all(10 < len(reason) < 200 or reason in ("missing", "zero bytes") for reason in problems["reason"]), (
        problems["reason"].tolist()
    )
    return "problems" if len(problems) else "fine"


def test_trees_are_sound_and_of_every_kind(tmp_path: Path):
    from guie.data import sources

    kinds = {path.stem for path in Path(sources.__path__[0]).glob("[a-z]*.py")}
    assert set(TREES) == kinds
    for kind in TREES:
        grow(tmp_path / kind, kind)
        assert outcome(tmp_path / kind, kind) == "fine", kind


N_CASES = len(list(cases(LIST_DAMAGES, False))) + len(list(cases(IMAGE_DAMAGES, True))) + len(DECODE_DAMAGES)


def test_there_are_more_than_two_hundred():
    assert N_CASES > 400


@pytest.mark.parametrize(("kind", "name", "damage"), cases(LIST_DAMAGES, False))
def test_broken_list(kind: str, name: str, damage: str, tmp_path: Path):
    grow(tmp_path, kind)
    LIST_DAMAGES[damage](tmp_path / "set" / name)
    found = outcome(tmp_path, kind)
    if damage in ("noise", "utf-16", "latin-1", "zero bytes inside", "a folder", "a link to itself"):
        assert found != "fine", "silence"


@pytest.mark.parametrize(("kind", "name", "damage"), cases(IMAGE_DAMAGES, True))
def test_broken_image(kind: str, name: str, damage: str, tmp_path: Path):
    grow(tmp_path, kind)
    IMAGE_DAMAGES[damage](tmp_path / "set" / name)
    found = outcome(tmp_path, kind)
    if damage != "missing" or kind not in BY_FOLDER:
        assert found in ("problems", "error"), "silence"


@pytest.mark.parametrize("damage", DECODE_DAMAGES)
def test_broken_pixels_are_found_when_packed(damage: str, tmp_path: Path):
    grow(tmp_path, "class_folders")
    DECODE_DAMAGES[damage](tmp_path / "set/x/1.jpg")
    rows = list_source(Source("s", "class_folders", "set", "things"), builder("class_folders"), tmp_path)
    data = Data((Source("s", "class_folders", "set", "things"),))
    (shard,) = plan_shards(rows, tmp_path, tmp_path, data)
    places = pack_shard(shard)
    assert re.match("cannot be decoded: .|unreadable header", places[0][-1]) and places[1][-1] == "", places


def test_folder_that_holds_itself_is_walked_once(tmp_path: Path):
    grow(tmp_path, "class_folders")
    (tmp_path / "set/x/again").symlink_to(tmp_path / "set", target_is_directory=True)
    assert outcome(tmp_path, "class_folders") == "fine"


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_folder_without_permission_is_told(tmp_path: Path):
    grow(tmp_path, "class_folders")
    (tmp_path / "set/x").chmod(0)
    try:
        with pytest.raises(OSError, match="set/x"):
            list_source(Source("s", "class_folders", "set", "things"), builder("class_folders"), tmp_path)
    finally:
        (tmp_path / "set/x").chmod(0o755)
