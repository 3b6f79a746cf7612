"""An unlabelled folder through doors 01 to 03: it is packed, and no class, no stage and no score sees it."""

import json
import logging
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from data_recipe import recipe_around

from guie.data.balance import merge_and_balance
from guie.data.build import build_manifests
from guie.data.packed import PackedImages
from guie.data.packing import pack_images
from guie.data.sources.unlabelled import build
from guie.embed.fitted import places_of
from guie.evaluate.foreign import check_domains
from guie.recipe import HEAD, Data, Limit, Optim, Source, Stage, Start
from guie.run import Run
from guie.train.train_set import TrainSet

LABELLED = Source("things", "class_folders", "things", "toys", licence="CC0", is_commercial=True)
MINE = Source("mine", "unlabelled", "mine", "any", licence="CC0", is_commercial=True)


def picture(seed: int) -> np.ndarray:
    small = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    return cv2.resize(small, (60, 48), interpolation=cv2.INTER_CUBIC)


def write(path: Path, seed: int, quality: int = 95) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), picture(seed), [cv2.IMWRITE_JPEG_QUALITY, quality])


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight classes of four images, and a folder of ten: at three depths, beside files that are no images."""
    root = tmp_path_factory.mktemp("raw")
    for number in range(32):
        write(root / f"things/{number // 4}/{number}.jpg", number)
    for number, place in enumerate(("", "", "", "a/", "a/", "a/", "a/b/", "a/b/", "c d/", "c d/")):
        write(root / f"mine/{place}{number}.jpg", 100 + number)
    (root / "mine/notes.txt").write_text("no image")
    write(root / "mine/.hidden/1.jpg", 200)
    (root / "mine/a/b/up").symlink_to(root / "mine", target_is_directory=True)
    return root


def doors(raw: Path, out: Path, *sources: Source, **words: object) -> Run:
    """The first three doors."""
    run = Run(recipe_around(Data(sources, pack_px=32, **words)), raw, out)  # type: ignore[arg-type]
    for work in (build_manifests, merge_and_balance, pack_images):
        work(run)
    return run


@pytest.fixture(scope="module")
def both(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Run]:
    """A run without the folder and one with it; it holds a copy of a validation and of a training image."""
    without = doors(raw, tmp_path_factory.mktemp("without"), LABELLED)
    index = PackedImages(without.folder(3)).index
    for split in ("train", "val"):
        path = index["path"][index["split"] == split].iloc[0]
        write(raw / f"mine/copy_of_{split}.jpg", int(Path(path).stem), quality=60)
    return without, doors(raw, tmp_path_factory.mktemp("with"), LABELLED, MINE)


def test_all_images_below_the_folder_are_listed_once(raw: Path) -> None:
    found = build(raw / "mine")
    expected = {path.relative_to(raw / "mine").as_posix() for path in (raw / "mine").rglob("*.jpg")} - {".hidden/1.jpg"}
    assert Counter(found["path"]) == dict.fromkeys(expected, 1) and len(expected) >= 10
    with pytest.raises(ValueError, match="things/0/none"):
        (raw / "things/0/none").mkdir()
        build(raw / "things/0/none")


def test_labelled_images_are_those_of_a_run_without_the_folder(both: tuple[Run, Run]) -> None:
    without, run = both
    for name in ("train.parquet", "val.parquet", "classes.parquet", "report.json"):
        assert (without.folder(2) / name).read_bytes() == (run.folder(2) / name).read_bytes(), name
    tables = [PackedImages(of.folder(3)).index for of in both]
    labelled = tables[1][tables[1]["split"] != "unlabelled"].reset_index(drop=True)
    columns = ["image_id", "split", "class_id", "source_label", "repeats", "size", "width"]
    pd.testing.assert_frame_equal(labelled[columns], tables[0][columns])


def test_copy_of_a_query_is_left_out_and_one_of_a_training_image_stays(both: tuple[Run, Run]) -> None:
    _, run = both
    index = PackedImages(run.folder(3)).index
    own = index[index["split"] == "unlabelled"]
    assert len(own) == 11 and set(own["class_id"]) == {-1} and set(own["source"]) == {"mine"}
    assert "mine/copy_of_val.jpg" not in set(own["image_id"]) and "mine/copy_of_train.jpg" in set(own["image_id"])
    table = pd.read_parquet(run.folder(3) / "duplicates.parquet")
    assert table[["image_id", "split", "twin_split", "outcome"]].to_numpy().tolist() == [
        ["mine/copy_of_val.jpg", "unlabelled", "val", "left the unlabelled"]
    ]


def test_no_stage_draws_an_unlabelled_image(both: tuple[Run, Run]) -> None:
    packed = PackedImages(both[1].folder(3))
    stage = both[1].recipe.stages.head[0]
    assert isinstance(stage, Stage)
    train = TrainSet(both[1].recipe, stage, packed)
    assert set(packed.index["split"].iloc[train.rows]) == {"train"} and train.n_classes == 4


def test_licences_name_the_folder_and_the_log_its_images(
    raw: Path, both: tuple[Run, Run], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "guie"):
        logging.getLogger("guie").propagate = True
        run = doors(raw, tmp_path, LABELLED, MINE)
    assert (
        "mine: 12 images without labels; no score asks about them, and only stages that name them train on them"
        in caplog.messages
    )
    rows = {row["source"]: row for row in json.loads((run.folder(2) / "licences.json").read_text())}
    assert (rows["mine"]["n_images"], rows["mine"]["n_classes"], rows["mine"]["licence"]) == (12, 0, "CC0")
    merge_and_balance(Run(recipe_around(Data((LABELLED,))), raw, tmp_path))
    assert not (run.folder(2) / "unlabelled.parquet").exists()


def test_images_without_labels_of_a_foreign_domain_are_neither_seen_nor_given(
    both: tuple[Run, Run], tmp_path: Path
) -> None:
    """The folder names the domain of half of the classes, which is foreign; or a domain of its own, which cannot be."""
    index = PackedImages(both[1].folder(3)).index
    index.loc[index["class_id"] % 2 == 1, "domain"] = "any"
    index.to_parquet(tmp_path / "index.parquet")
    packed = PackedImages(tmp_path, "any")
    before, after = index["split"].to_numpy(), packed.index["split"].to_numpy()
    named = {"train": "given", "val": "never", "unlabelled": "hidden"}
    is_foreign = (index["domain"] == "any").to_numpy()
    assert after.tolist() == [named[x] if own else x for x, own in zip(before, is_foreign, strict=True)]
    assert set(after) == {"train", "val", *named.values()}
    assert places_of(PackedImages(tmp_path), ["mine"]).keys() == {"unlabelled"} and not places_of(packed, ["mine"])
    with pytest.raises(ValueError, match="foreign_domain is 'any', of which there is no image; known: toys"):
        PackedImages(both[1].folder(3), "any")


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (lambda: Data((MINE,)), "are all of the kind 'unlabelled'"),
        (lambda: Data((LABELLED, MINE), limits=(Limit("mine"),)), "data.limits names 'mine', whose images have no"),
        (lambda: Data((LABELLED, MINE), distractors=("mine",)), "data.distractors names 'mine', whose images have no"),
    ],
)
def test_labels_are_not_asked_of_it(data: object, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        recipe_around(data())  # type: ignore[operator]


def test_stage_that_needs_labels_cannot_name_it() -> None:
    recipe = recipe_around(Data((LABELLED, MINE)))
    optim = Optim(n_epochs=1, batch_size=4, lr=1e-3)
    stage = Stage("s1", trains="head", start=Start(fresh=HEAD), optim=optim, sources=("mine",))
    with pytest.raises(ValueError, match=r"stages.s1.sources names 'mine'. Its images have no labels, and ArcFace"):
        type(recipe)("t", recipe.data, recipe.model, type(recipe.stages)(head=(stage,)), recipe.embed).validate()


def test_no_domain_is_left_out_for_them(both: tuple[Run, Run]) -> None:
    """guie foreign counts classes by domain; the folder's images are of none, though they name the same domain."""
    index = PackedImages(both[1].folder(3)).index
    labelled = index[index["split"] != "unlabelled"]
    others = labelled.assign(domain="food", class_id=labelled["class_id"] + 100)
    own = pd.concat([labelled, others, index[index["split"] == "unlabelled"].assign(domain="photos")])
    assert check_domains(own, [], 2, 0) == ["food", "toys"]
    alone = pd.concat([labelled, index[index["split"] == "unlabelled"].assign(domain="photos")])
    with pytest.raises(ValueError, match="are of one domain"):
        check_domains(alone, [], 0, 0)
