"""The drawn world: its layouts, its order-free randomness, and that it is worth learning."""

import csv
import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from guie.recipe import DrawnWorld
from guie.synthetic import world as drawn
from guie.synthetic.scene import DOMAINS, dice_of, draw_image
from guie.synthetic.world import draw_world
from guie.versions import DRAWING

SMALL = DrawnWorld(n_instances=4, n_views=3, image_px=48)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small world; tests that change it work on a copy."""
    folder = tmp_path_factory.mktemp("drawn")
    draw_world(folder, SMALL, seed=5)
    return folder


def test_world_holds_every_image_and_nothing_else(world: Path):
    names = contents(world)
    assert len([name for name in names if name.endswith(".jpg")]) == 4 * 4 * 3
    assert {name for name in names if not name.endswith(".jpg")} == {
        "gldv2/train.csv",
        "products10k/train.csv",
        *(f"{name}/groups.csv" for name in ("gldv2", "artworks", "toys")),
        "world.json",
    }
    assert json.loads(names["world.json"]) == {
        "n_instances": 4,
        "n_views": 3,
        "image_px": 48,
        "domains": ["landmarks", "products", "artworks", "toys"],
        "difficulty": 1.0,
        "seed": 5,
        "version": DRAWING,
        "is_whole": True,
        "n_images": 48,
        "digests": [hashlib.sha256(names[name]).hexdigest()[:8] for name in in_order_of_drawing(names)],
    }


def in_order_of_drawing(names: dict[str, bytes]) -> list[str]:
    """The images by domain, instance and view."""
    shots = [
        (domain, i, v) for domain in ("landmarks", "products", "artworks", "toys") for i in range(4) for v in range(3)
    ]
    return [drawn._place(*shot, 3, 5) for shot in shots]


def test_landmarks_lie_as_in_gldv2(world: Path):
    rows = table(world / "gldv2/train.csv")
    assert list(rows[0]) == ["id", "url", "landmark_id"] and len(rows) == 12
    paths = {f"train/{i[0]}/{i[1]}/{i[2]}/{i}.jpg" for i in (row["id"] for row in rows)}
    assert paths == {str(path.relative_to(world / "gldv2")) for path in (world / "gldv2").rglob("*.jpg")}
    assert all(len(row["id"]) == 16 and int(row["id"], 16) >= 0 for row in rows)
    labels = [row["landmark_id"] for row in rows]
    assert sorted(labels.count(label) for label in set(labels)) == [3, 3, 3, 3]


def test_products_lie_as_in_products10k(world: Path):
    rows = table(world / "products10k/train.csv")
    assert list(rows[0]) == ["name", "class", "group"]
    assert {row["name"] for row in rows} == {path.name for path in (world / "products10k/train").iterdir()}
    labels = [row["class"] for row in rows]
    assert sorted(labels.count(label) for label in set(labels)) == [3, 3, 3, 3]


@pytest.mark.parametrize("domain", ["artworks", "toys"])
def test_others_lie_in_class_folders(world: Path, domain: str):
    assert [len(list(folder.iterdir())) for folder in (world / domain).iterdir() if folder.is_dir()] == [3, 3, 3, 3]


def test_groups_are_three_instances_in_a_row_whatever_the_layout(world: Path):
    landmark_of = {row["url"].split("/")[3]: row["landmark_id"] for row in table(world / "gldv2/train.csv")}
    product_of = {
        str(int(row["name"].removesuffix(".jpg")) // 3): (row["class"], row["group"])
        for row in table(world / "products10k/train.csv")
    }
    assert {row["label"]: row["group"] for row in table(world / "gldv2/groups.csv")} == {
        landmark_of[i]: g for i, g in zip("0123", "0001", strict=True)
    }
    assert [product_of[i][1] for i in "0123"] == list("0001")
    for domain in ("artworks", "toys"):
        rows = table(world / domain / "groups.csv")
        assert [row["group"] for row in rows] == list("0001")  # labels rise with the instance
        assert [row["label"] for row in rows] == sorted(
            path.name for path in (world / domain).iterdir() if path.is_dir()
        )


def test_only_the_domains_that_are_asked_for_are_drawn(world: Path, tmp_path: Path):
    draw_world(tmp_path, replace(SMALL, domains=("toys", "landmarks")), seed=5)
    assert {path.name for path in tmp_path.iterdir()} == {"toys", "gldv2", "world.json"}
    whole = contents(world)
    assert all(whole[name] == data for name, data in contents(tmp_path).items() if name != "world.json")
    with pytest.raises(
        ValueError, match=r"data\.drawn\.domains holds 'cars'; must be of landmarks, products, artworks, toys"
    ):
        draw_world(tmp_path, replace(SMALL, domains=("cars",)), seed=5)


def test_processes_draw_the_same_world(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(drawn, "MIN_FOR_PROCESSES", 1)
    monkeypatch.setattr(drawn, "n_cores", lambda: 3)
    draw_world(tmp_path, SMALL, seed=5)
    assert contents(tmp_path) == contents(world)


@pytest.mark.parametrize("domain", DOMAINS)
def test_no_instance_of_one_seed_is_in_another(domain: str):
    d = DOMAINS[domain]
    worlds = [
        {tuple(part.skin.tobytes() for part in d.make(dice_of(seed, d.number, i))) for i in range(40)}
        for seed in (0, 1, 1001)
    ]
    assert [len(world) for world in worlds] == [40] * 3 and len(set.union(*worlds)) == 120


def test_tables_name_the_instance_that_an_image_shows(world: Path):
    rows = {row["url"]: row for row in table(world / "gldv2/train.csv")}
    image_id = rows["drawn://landmarks/2/1"]["id"]
    on_disk = cv2.imread(str(world / "gldv2/train" / image_id[0] / image_id[1] / image_id[2] / f"{image_id}.jpg"))[
        ..., ::-1
    ]
    again = draw_image("landmarks", 2, 1, 48, 5)
    assert np.abs(on_disk.astype(int) - again).mean() < 12  # JPEG's loss
    assert len({rows[f"drawn://landmarks/2/{view}"]["landmark_id"] for view in range(3)}) == 1


def test_images_are_whole_rgb_jpegs_of_the_stated_size(world: Path):
    paths = sorted(world.rglob("*.jpg"))
    assert len(paths) == 48
    for path in paths:
        with Image.open(path) as image:
            image.load()
            assert (image.format, image.mode, max(image.size)) == ("JPEG", "RGB", 48) and min(image.size) >= 31
            assert np.asarray(image).std() > 8


def test_image_depends_on_seed_domain_instance_and_view_alone():
    keys = [
        (domain, instance, view, 40, seed)
        for domain in DOMAINS
        for instance in (1, 2)
        for view in (0, 1)
        for seed in (0, 1)
    ]
    forward = [draw_image(*key) for key in keys]
    backward = [draw_image(*key) for key in reversed(keys)][::-1]
    for one, other in zip(forward, backward, strict=True):
        np.testing.assert_array_equal(one, other)
    assert len({image.tobytes() for image in forward}) == len(keys)


def test_two_worlds_of_one_seed_are_equal_byte_by_byte_and_of_another_seed_are_not(world: Path, tmp_path: Path):
    draw_world(tmp_path / "a", SMALL, seed=5)
    draw_world(tmp_path / "b", SMALL, seed=6)
    assert contents(tmp_path / "a") == contents(world)
    assert not {data for name, data in contents(tmp_path / "b").items() if name.endswith(".jpg")} & set(
        contents(world).values()
    )


def test_second_call_on_a_whole_world_touches_nothing(world: Path, tmp_path: Path):
    shutil.copytree(world, tmp_path / "w")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "w").rglob("*")}
    draw_world(tmp_path / "w", SMALL, seed=5)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "w").rglob("*")} == before


def test_missing_image_or_table_is_made_again_and_the_rest_left_alone(world: Path, tmp_path: Path):
    folder = tmp_path / "w"
    shutil.copytree(world, folder)
    (folder / "gldv2/train.csv").unlink()
    victim, *others = sorted(folder.rglob("*.jpg"))
    victim.unlink()
    times = [path.stat().st_mtime_ns for path in others]
    draw_world(folder, SMALL, seed=5)
    assert contents(folder) == contents(world)
    assert [path.stat().st_mtime_ns for path in others] == times


@pytest.mark.parametrize("damage", ["emptied", "truncated", "zeroed", "another image", "edited table"])
def test_changed_image_or_table_is_made_again(tmp_path: Path, damage: str):
    world = DrawnWorld(n_instances=2, n_views=2, image_px=48)
    draw_world(tmp_path, world, seed=5)
    expected = contents(tmp_path)
    victim, other = sorted((tmp_path / "toys").rglob("*.jpg"))[:2]
    table, whole = tmp_path / "products10k/train.csv", victim.read_bytes()
    changed = {
        "emptied": b"",
        "truncated": whole[:-30],
        "zeroed": bytes(len(whole)),
        "another image": other.read_bytes(),
    }
    time.sleep(0.02)  # the clock of a file system ticks in up to 10 ms
    if damage == "edited table":
        table.write_bytes(table.read_bytes().replace(b",", b";"))
    else:
        times = victim.stat()
        victim.write_bytes(changed[damage])
        os.utime(victim, ns=(times.st_atime_ns, times.st_mtime_ns))
    draw_world(tmp_path, world, seed=5)
    found = contents(tmp_path)
    assert found == expected


def test_interrupted_drawing_goes_on_where_it_was(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    calls = []

    def dies_at_twenty(*key):
        if len(calls) == 20:
            raise KeyboardInterrupt
        calls.append(key)
        return draw_image(*key)

    monkeypatch.setattr(drawn, "draw_image", dies_at_twenty)
    with pytest.raises(KeyboardInterrupt):
        draw_world(tmp_path, SMALL, seed=5)
    assert json.loads((tmp_path / "world.json").read_text())["is_whole"] is False
    (tmp_path / "products10k" / ".0.jpg.tmp").write_bytes(b"half")
    rest = []
    monkeypatch.setattr(drawn, "draw_image", lambda *key: rest.append(key) or draw_image(*key))
    draw_world(tmp_path, SMALL, seed=5)
    assert len(rest) == 28 and contents(tmp_path) == contents(world)


def test_full_disk_is_told_with_its_place_and_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write = Path.write_bytes
    left = [30_000]  # bytes of the disk

    def fills(path: Path, data: bytes) -> int:
        left[0] -= len(data)
        if left[0] < 0:
            write(path, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # as a write does: without the path
        return write(path, data)

    with (
        monkeypatch.context() as patched,
        pytest.raises(OSError, match=r"the disk is full at /.+; free some space, or choose another place"),
    ):
        patched.setattr(Path, "write_bytes", fills)
        draw_world(tmp_path, SMALL, seed=5)
    assert not list(tmp_path.rglob(".*.tmp")) and 0 < len(list(tmp_path.rglob("*.jpg"))) < 48
    draw_world(tmp_path, SMALL, seed=5)
    assert len(list(tmp_path.rglob("*.jpg"))) == 48


@pytest.mark.parametrize("other", [DrawnWorld(4, 3, 40), DrawnWorld(4, 2, 48), DrawnWorld(3, 3, 48)])
@pytest.mark.parametrize("is_whole", [True, False])
def test_world_of_other_settings_is_removed_first(world: Path, tmp_path: Path, other: DrawnWorld, is_whole: bool):
    folder = tmp_path / "w"
    shutil.copytree(world, folder)
    (folder / "notes.txt").write_text("mine")
    mark = json.loads((folder / "world.json").read_text())
    (folder / "world.json").write_text(json.dumps({**mark, "is_whole": is_whole}))
    draw_world(folder, other, seed=5)
    draw_world(tmp_path / "fresh", other, seed=5)
    assert contents(folder) == {**contents(tmp_path / "fresh"), "notes.txt": b"mine"}


def test_set_that_was_not_drawn_here_is_never_removed(tmp_path: Path):
    (tmp_path / "gldv2").mkdir()
    (tmp_path / "gldv2" / "train.csv").write_text("id,url,landmark_id\n")
    with pytest.raises(FileExistsError, match=r"no world\.json"):
        draw_world(tmp_path, SMALL, seed=5)
    assert contents(tmp_path) == {"gldv2/train.csv": b"id,url,landmark_id\n"}


def test_damaged_mark_is_told(tmp_path: Path):
    (tmp_path / "world.json").write_text('{"n_instances": 4,')
    with pytest.raises(ValueError, match="is damaged"):
        draw_world(tmp_path, SMALL, seed=5)


@pytest.mark.parametrize(
    "bad", [DrawnWorld(n_instances=0), DrawnWorld(n_views=0), DrawnWorld(image_px=8), DrawnWorld(difficulty=1.5)]
)
def test_setting_out_of_range_is_named(tmp_path: Path, bad: DrawnWorld):
    with pytest.raises(ValueError, match=r"data\.drawn\.\w+ is [\d.]+, must be"):
        draw_world(tmp_path, bad, seed=0)


def test_easy_world_is_nearer_and_sharper():
    def detail(difficulty: float) -> float:
        images = [
            draw_image(domain, i, view, 96, 0, difficulty)
            for domain in ("products", "toys")
            for i in range(6)
            for view in range(3)
        ]
        return float(
            np.mean([cv2.Laplacian(cv2.GaussianBlur(image, (0, 0), 1.0), cv2.CV_32F).std() for image in images])
        )

    assert detail(0.0) > 1.2 * detail(1.0)


def test_every_third_instance_is_a_twin_or_a_sibling_of_the_one_before():
    def parts(instance: int) -> list[tuple[str, tuple[float, float, float]]]:
        return [(part.shape, part.half) for part in DOMAINS["toys"].make(dice_of(0, 2, instance))]

    kin = [i for i in range(1, 30) if parts(i) == parts(i - 1)]
    assert kin == [i for i in range(30) if i % 3 == 2]


@pytest.mark.parametrize("domain", DOMAINS)
def test_twin_shares_most_of_its_skin_and_not_all(domain: str):
    d = DOMAINS[domain]
    for instance in (2, 8, 14):
        one, other = (d.make(dice_of(0, d.number, i)) for i in (instance - 1, instance))
        same = [np.array_equal(a.skin, b.skin) for a, b in zip(one, other, strict=True)]
        assert not all(same)
        assert any(same) or domain == "products"  # a carton is one part: its label differs by flavour and accent only


def test_colours_alone_find_some_instances_but_not_most():
    keys = [(domain, instance, view) for domain in DOMAINS for instance in range(8) for view in range(4)]
    images = [draw_image(*key, 64, 0) for key in keys]
    features = np.sqrt([cv2.calcHist([image], [0, 1, 2], None, [6, 6, 6], [0, 256] * 3).ravel() for image in images])
    similarity = features @ features.T / np.outer(np.linalg.norm(features, axis=1), np.linalg.norm(features, axis=1))
    np.fill_diagonal(similarity, -1)
    hits = np.mean([keys[i][:2] == keys[int(j)][:2] for i, j in enumerate(similarity.argmax(1))])
    assert 3 / 127 * 2 < hits < 0.6  # chance is 3 of 127


@pytest.mark.slow
def test_drawing_that_is_killed_ends_in_the_same_world(world: Path, tmp_path: Path):
    code = (
        "from pathlib import Path; from guie.synthetic.world import draw_world, DrawnWorld; "
        f"draw_world(Path({str(tmp_path)!r}), DrawnWorld(4, 3, 48), 5)"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    while len(list(tmp_path.rglob("*.jpg"))) < 10 and process.poll() is None:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert 10 <= len(list(tmp_path.rglob("*.jpg"))) < 48
    draw_world(tmp_path, SMALL, seed=5)
    assert contents(tmp_path) == contents(world)
