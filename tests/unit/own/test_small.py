import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from own_photos import COLOURS, draw, labelled
from PIL import Image

from guie.own import small as module
from guie.own.photos import read_photos
from guie.own.small import SmallPhotos, make_small


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return labelled(tmp_path / "photos")


@pytest.fixture
def packed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are decoded from now on, in the order of the shards."""
    names: list[str] = []
    pack_all = module.pack_all

    def noting(shards: list, *rest: object, **words: object) -> Iterator:
        names.extend(name for shard in shards for name in shard.image_ids)
        return pack_all(shards, *rest, **words)

    monkeypatch.setattr(module, "pack_all", noting)
    return names


def made(root: Path, px: int = 32) -> SmallPhotos:
    return make_small(read_photos(root), root.parent / "cache", px)


def check(small: SmallPhotos, root: Path) -> None:
    """Row i of the table is row i of the images: compared with the photo itself, resized by PIL."""
    for i, row in enumerate(small.table.itertuples()):
        with Image.open(root / row.path) as photo:
            assert (row.original_width, row.original_height) == photo.size
            pixels = small.images.read(i)
            expected = np.asarray(photo.convert("RGB").resize(pixels.shape[1::-1], Image.Resampling.BICUBIC)).astype(
                int
            )
        assert np.abs(pixels - expected).mean() < 4
        assert row.label == (row.path.split("/")[0] if "/" in row.path else "")


def test_photos_are_decoded_once_and_new_or_changed_ones_later(root: Path, packed: list[str]):
    first = made(root)
    assert sorted(packed) == first.table["path"].tolist() and len(packed) == 12
    check(first, root)
    packed.clear()
    again = made(root)
    assert packed == []
    pd.testing.assert_frame_equal(again.table, first.table)

    (root / "red/0.jpg").unlink()
    draw(root / "blue/1.jpg", COLOURS["blue"], 999)  # another content under the old name
    draw(root / "a new.jpg", COLOURS["green"], 998)
    third = made(root)
    assert sorted(packed) == ["a new.jpg", "blue/1.jpg"]
    assert third.table["path"].tolist() == sorted(p.relative_to(root).as_posix() for p in root.rglob("*.jpg"))
    check(third, root)
    assert third.table["class_id"].tolist() == [-1, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2]


def test_a_touched_file_is_read_again_and_no_stale_shard_stays(root: Path, packed: list[str]):
    made(root)
    os.utime(root / "red/0.jpg", (1, 1))
    packed.clear()
    made(root)
    assert packed == ["red/0.jpg"]
    for path in root.rglob("*.jpg"):
        os.utime(path, (2, 2))
    made(root)
    cache = root.parent / "cache"
    index = pd.read_parquet(cache / "index.parquet")
    assert {path.name for path in cache.glob("*.tar")} == set(index["shard"])
    assert {path.stem[1:] for path in cache.glob(".*.parquet")} == {Path(name).stem for name in index["shard"]}


def test_what_cannot_be_read_is_told_and_tried_again(root: Path, packed: list[str]):
    whole = (root / "red/0.jpg").read_bytes()
    (root / "red/0.jpg").write_bytes(whole[:400])
    (root / "red/empty.png").touch()
    small = made(root)
    reasons = dict(small.problems.itertuples(index=False, name=None))
    assert set(reasons) == {"red/0.jpg", "red/empty.png"}
    assert reasons["red/empty.png"] == "cannot be decoded: zero bytes" or "zero bytes" in reasons["red/empty.png"]
    assert "red/0.jpg" not in small.table["path"].tolist() and len(small.table) == 11
    packed.clear()
    made(root)
    assert sorted(packed) == ["red/0.jpg", "red/empty.png"]
    stat = (root / "red/0.jpg").stat()
    (root / "red/0.jpg").write_bytes(whole)
    os.utime(root / "red/0.jpg", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert len(made(root).table) == 12


def test_an_interrupted_reading_goes_on_where_it_stopped(
    root: Path, packed: list[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "MAX_IMAGES", 3)
    write, n_written = module.write_table, []

    def interrupted(path: Path, frame: pd.DataFrame) -> None:
        if len(n_written) == 2:
            raise KeyboardInterrupt
        n_written.append(len(frame))
        write(path, frame)

    monkeypatch.setattr(module, "write_table", interrupted)
    with pytest.raises(KeyboardInterrupt):
        made(root)
    monkeypatch.setattr(module, "write_table", write)
    packed.clear()
    small = made(root)
    assert len(packed) == 12 - sum(n_written) == 6
    check(small, root)


def test_a_damaged_shard_is_made_again(root: Path, packed: list[str]):
    made(root)
    shard = next((root.parent / "cache").glob("*.tar"))
    shard.write_bytes(shard.read_bytes()[:-600])
    packed.clear()
    small = made(root)
    assert packed
    check(small, root)


def test_no_readable_photo_is_an_error_with_the_reasons(tmp_path: Path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a.jpg").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"none of 1 photos can be read. The first: a\.jpg: unreadable header"):
        made(tmp_path / "photos")


KILLED = """
import sys, time
from pathlib import Path
from guie.data import shards
from guie.own import small
from guie.own.photos import read_photos
quick = shards.small_image
def small_image(*arguments):
    time.sleep(0.05)
    return quick(*arguments)
shards.small_image = small_image
small.MAX_IMAGES = 2
small.make_small(read_photos(Path(sys.argv[1])), Path(sys.argv[2]), 32)
"""


@pytest.mark.slow
def test_a_killed_reading_goes_on_with_the_shards_that_are_finished(root: Path, packed: list[str]):
    cache = root.parent / "cache"
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(root), str(cache)])
    ends = time.monotonic() + 60
    while len(list(cache.glob(".*.parquet"))) < 2:
        assert time.monotonic() < ends and process.poll() is None
        time.sleep(0.005)
    process.kill()
    process.wait()
    finished = pd.concat([pd.read_parquet(path) for path in cache.glob(".*.parquet")])["path"]
    assert 4 <= len(finished) < 12
    small = made(root)
    assert sorted([*packed, *finished]) == small.table["path"].tolist() and len(small.table) == 12
    check(small, root)
