"""Door 01: what is listed against what is there."""

import sys
import types
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from data_recipe import recipe_around
from PIL import Image

from guie.data.build import build_manifests, builder, list_source, split_problems
from guie.data.manifest import COLUMNS, check_manifest, read_manifest, write_manifest
from guie.recipe import Data, DrawnWorld, Source
from guie.run import Run

SOURCES = (Source("things", "class_folders", "sets/things", "toys"), Source("shop", "products10k", "shop", "packaged"))


def _run(root: Path, sources: tuple[Source, ...] = SOURCES, **data: object) -> Run:
    return Run(recipe_around(Data(sources, **data)), root / "raw", root / "out")


def _image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (9, 9, 9)).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("b/2.jpg", "a/1.jpg", "a/0.png"):
        _image(tmp_path / "raw/sets/things" / name)
    for name in ("0.jpg", "1.jpg", "10.jpg"):
        _image(tmp_path / "raw/shop/train" / name)
    (tmp_path / "raw/shop/train.csv").write_text("name,class,group\n10.jpg,007,0\n0.jpg,1,0\n1.jpg,1,0\n")
    return tmp_path


def test_build_manifests_writes_one_checked_table_a_source(root: Path) -> None:
    run = _run(root)
    assert build_manifests(run) == {"n_images": 6, "n_classes": 4, "n_problems": 0}
    shop = read_manifest(run.out / "01_manifests/shop.parquet")
    assert tuple(shop.columns) == COLUMNS
    assert list(shop.itertuples(index=False, name=None)) == [
        ("shop/train/0.jpg", "shop/train/0.jpg", "shop", "1", "packaged", "train", "shop/0"),
        ("shop/train/1.jpg", "shop/train/1.jpg", "shop", "1", "packaged", "train", "shop/0"),
        ("shop/train/10.jpg", "shop/train/10.jpg", "shop", "007", "packaged", "train", "shop/0"),
    ]
    things = read_manifest(run.out / "01_manifests/things.parquet")
    assert things["image_id"].tolist() == ["things/a/0.png", "things/a/1.jpg", "things/b/2.jpg"]
    assert things["path"].tolist() == ["sets/things/a/0.png", "sets/things/a/1.jpg", "sets/things/b/2.jpg"]
    assert set(things["domain"]) == {"toys"}
    assert len(pd.read_parquet(run.out / "01_manifests/problems.parquet")) == 0


def test_build_manifests_sets_bad_images_aside_with_the_reason(root: Path) -> None:
    (root / "raw/shop/train/0.jpg").unlink()
    (root / "raw/shop/train/1.jpg").write_bytes(b"")
    (root / "raw/sets/things/a/1.jpg").write_bytes(b"<html>")
    run = _run(root, max_bad_share=0.7)
    assert build_manifests(run) == {"n_images": 3, "n_classes": 3, "n_problems": 3}
    problems = pd.read_parquet(run.out / "01_manifests/problems.parquet")
    assert list(problems.itertuples(index=False, name=None)) == [
        ("things", "sets/things/a/1.jpg", "unreadable header: no image, or of an unknown kind"),
        ("shop", "shop/train/0.jpg", "missing"),
        ("shop", "shop/train/1.jpg", "zero bytes"),
    ]


def test_build_manifests_with_too_many_bad_images_stops_with_count_examples_and_remedy(root: Path) -> None:
    (root / "raw/shop/train").rename(root / "raw/shop/images")
    message = (
        r"3 of 3 images \(100.0%\) of 'shop' are bad, data.max_bad_share allows 5.0%. The first: shop/train/0.jpg "
        r"\(missing\); .*--data-root"
    )
    with pytest.raises(ValueError, match=message):
        build_manifests(_run(root))
    assert len(pd.read_parquet(root / "out/01_manifests/problems.parquet")) == 3


def test_build_manifests_bad_share_exactly_at_the_limit_goes_on(root: Path) -> None:
    (root / "raw/shop/train/0.jpg").unlink()
    assert build_manifests(_run(root, max_bad_share=1 / 3))["n_problems"] == 1
    with pytest.raises(ValueError, match="1 of 3"):
        build_manifests(_run(root, max_bad_share=0.33))


def test_build_manifests_removes_what_a_former_recipe_left(root: Path) -> None:
    build_manifests(_run(root))
    build_manifests(_run(root, SOURCES[:1]))
    assert sorted(path.name for path in (root / "out/01_manifests").iterdir()) == ["problems.parquet", "things.parquet"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "product10k"}, "no kind of source 'product10k'; did you mean 'products10k'.*class_folders, clothing"),
        ({"name": "problems"}, "'problems' is taken"),
        ({"folder": "/shop"}, "relative to --data-root"),
    ],
)
def test_build_manifests_with_a_source_that_cannot_be(root: Path, change: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_manifests(_run(root, (replace(SOURCES[1], **change),)))


def test_build_manifests_draws_the_world_first(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def draw_world(folder: Path, world: DrawnWorld, seed: int) -> None:
        assert (world, seed) == (DrawnWorld(n_views=3), 0)
        _image(folder / "sets/things/a/1.jpg")

    module = types.ModuleType("guie.synthetic.world")
    module.draw_world = draw_world
    monkeypatch.setitem(sys.modules, "guie.synthetic.world", module)
    run = _run(root, SOURCES[:1], drawn=DrawnWorld(n_views=3))
    assert build_manifests(run)["n_images"] == 1
    assert (run.out / "drawn/sets/things/a/1.jpg").is_file()


def test_list_source_does_not_depend_on_the_order_of_the_list(root: Path) -> None:
    expected = list_source(SOURCES[1], builder("products10k"), root / "raw")
    for seed in range(3):
        shuffled = list_source(
            SOURCES[1],
            lambda folder, seed=seed: builder("products10k")(folder).sample(frac=1, random_state=seed),
            root / "raw",
        )
        pd.testing.assert_frame_equal(shuffled, expected)


def test_images_listed_twice(root: Path) -> None:
    (root / "raw/shop/train.csv").write_text(
        "name,class,group\n0.jpg,1,0\n0.jpg,1,0\n1.jpg,1,0\n1.jpg,2,0\n10.jpg,2,0\n"
    )
    good, problems = split_problems(list_source(SOURCES[1], builder("products10k"), root / "raw"), root / "raw")
    assert good["path"].tolist() == ["shop/train/0.jpg", "shop/train/10.jpg"], (
        "alike twice is once; with two labels it is neither"
    )
    assert problems["path"].tolist() == ["shop/train/1.jpg"] * 2
    assert problems["reason"].str.contains("more than once").all()


def test_list_source_of_an_empty_list(root: Path) -> None:
    (root / "raw/shop/train.csv").write_text("name,class,group\n")
    with pytest.raises(ValueError, match=r"source 'shop' lists no image in .*raw/shop"):
        build_manifests(_run(root))


def _manifest(**changes: object) -> pd.DataFrame:
    row = {
        "image_id": "s/1",
        "path": "s/1.jpg",
        "source": "s",
        "source_label": "a",
        "domain": "d",
        "split": "",
        "group": "",
    }
    return pd.DataFrame([row | {"image_id": "s/0"}, row | changes])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_id": "s/0"}, "'s/0' stands twice"),
        ({"source_label": 7}, "source_label of row 1 is 7, must be a text"),
        ({"source_label": None}, "source_label of row 1"),
        ({"domain": ""}, "domain of row 1 is ''"),
        ({"path": "/abs/1.jpg"}, "is absolute"),
        ({"split": "valid"}, "split 'valid'"),
    ],
)
def test_write_manifest_with_rows_that_cannot_be(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        write_manifest(tmp_path / "m.parquet", _manifest(**changes))
    assert not list(tmp_path.iterdir())


def test_manifest_checks_on_read(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"m.parquet does not exist; run the door"):
        read_manifest(tmp_path / "m.parquet")
    _manifest().drop(columns="domain").to_parquet(tmp_path / "m.parquet")
    with pytest.raises(ValueError, match=r"m.parquet lacks the columns domain; it has image_id, path"):
        read_manifest(tmp_path / "m.parquet")
    assert len(check_manifest(_manifest(image_id="s/0"), "here", is_unique=False)) == 2
