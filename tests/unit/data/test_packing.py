"""Door 03: shards, offsets, and runs that are killed."""

import io
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from data_recipe import recipe_around
from PIL import Image

from guie.data import packing, shards
from guie.data.build import split_problems
from guie.data.manifest import BALANCED_COLUMNS, write_manifest
from guie.data.packed import INDEX_COLUMNS, PackedImages
from guie.data.packing import pack_images, unique_rows
from guie.data.shards import plan_shards
from guie.recipe import Data, Source
from guie.run import Run

N_IMAGES = 23


def _run(root: Path, **data: object) -> Run:
    values = {"pack_px": 32, "max_bad_share": 0.2} | data
    recipe = recipe_around(Data((Source("s", "class_folders", "s", "d"),), **values))
    return Run(recipe, root / "raw", root / "out")


def _picture(width: int, height: int, seed: int) -> Image.Image:
    small = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Raw images of odd sizes, and what door 02 would write for them: three classes of training, the last one for
    validation."""
    rows = []
    for i in range(N_IMAGES):
        path = tmp_path / f"raw/s/{i % 4}/{i:02d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        _picture(20 + 7 * i, 150 - 5 * i, i).save(path, quality=90)
        rows.append(
            (
                f"s/{i % 4}/{i:02d}",
                str(path.relative_to(tmp_path / "raw")),
                "s",
                str(i % 4),
                "d",
                "val" if i % 4 == 3 else "train",
                i % 4,
            )
        )
    table = pd.DataFrame(rows, columns=list(BALANCED_COLUMNS))
    train = table[table["split"] == "train"]
    folder = _run(tmp_path).folder(2)
    write_manifest(
        folder / "train.parquet", pd.concat([train, train.iloc[:2], train.iloc[:1]]), BALANCED_COLUMNS, is_unique=False
    )
    write_manifest(folder / "val.parquet", table[table["split"] == "val"], BALANCED_COLUMNS)
    return tmp_path


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "MAX_IMAGES", 5)


def _visible(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}


def test_pack_images_bytes_by_offset_equal_what_tarfile_extracts(root: Path, small_shards: None) -> None:
    run = _run(root)
    metrics = pack_images(run)
    assert {key: metrics[key] for key in ("n_images", "n_problems", "n_shards")} == {
        "n_images": N_IMAGES,
        "n_problems": 0,
        "n_shards": 5,
    }
    packed = PackedImages(run.out / "03_packed")
    assert tuple(packed.index.columns) == INDEX_COLUMNS and len(packed) == N_IMAGES
    members = {}
    for path in (run.out / "03_packed").glob("*.tar"):
        with tarfile.open(path) as tar:
            members |= {(path.name, member.name): (tar.extractfile(member).read(), member.mtime) for member in tar}
    assert len(members) == N_IMAGES
    for i, row in packed.index.iterrows():
        data, mtime = members[row["shard"], row["image_id"] + ".jpg"]
        assert packed.read_bytes(i) == data and len(data) == row["size"] and mtime == 0
        with Image.open(io.BytesIO(data)) as image:
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (row["width"], row["height"]))
            np.testing.assert_array_equal(packed.read(i), np.asarray(image))


def test_pack_images_index_is_sorted_and_counts_repeats(root: Path) -> None:
    pack_images(_run(root))
    index = PackedImages(root / "out/03_packed").index
    keys = list(zip(index["split"], index["class_id"], index["image_id"], strict=True))
    assert keys == sorted(keys) and len(set(keys)) == N_IMAGES
    assert {row.image_id: row.repeats for row in index.itertuples() if row.repeats > 1} == {"s/0/00": 3, "s/1/01": 2}
    assert set(index[index["split"] == "val"]["repeats"]) == {1}


def test_pack_images_sizes_and_pixels(root: Path) -> None:
    pack_images(_run(root))
    packed = PackedImages(root / "out/03_packed")
    for i, row in packed.index.iterrows():
        number = int(row["image_id"][-2:])
        original = (20 + 7 * number, 150 - 5 * number)
        assert (row["original_width"], row["original_height"]) == original
        scale = min(1.0, 32 / min(original))
        assert abs(row["width"] - original[0] * scale) <= 1 and abs(row["height"] - original[1] * scale) <= 1
        assert min(row["width"], row["height"]) == min(32, *original)
        wanted = np.asarray(
            _picture(*original, number).resize((row["width"], row["height"]), Image.Resampling.LANCZOS), dtype=float
        )
        assert np.abs(packed.read(i) - wanted).mean() < 6


def test_images_of_twice_the_size_that_is_needed_are_decoded_at_half(root: Path) -> None:
    pack_images(_run(root))
    packed = PackedImages(root / "out/03_packed")
    row = int(packed.index["width"].argmax())
    whole = packed.read(row).astype(float)
    height, width = whole.shape[:2]
    small = packed.read(row, min(height, width) // 2)
    assert small.shape == (-(-height // 2), -(-width // 2), 3)
    wanted = cv2.resize(whole, (small.shape[1], small.shape[0]), interpolation=cv2.INTER_AREA)
    assert np.abs(small - wanted).mean() < 4
    assert packed.read(row, min(height, width) // 2 + 1).shape == whole.shape


def test_pack_images_reads_upright_and_plain(root: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (90, 60), (200, 0, 0)).save(root / "raw/s/0/00.jpg", exif=exif)
    Image.new("RGBA", (10, 10), (0, 0, 0, 0)).save(root / "raw/s/1/01.jpg", "PNG")
    pack_images(_run(root))
    packed = PackedImages(root / "out/03_packed")
    rows = packed.index.set_index("image_id")
    assert tuple(rows.loc["s/0/00", ["width", "height", "original_width", "original_height"]]) == (32, 48, 60, 90)
    assert (packed.read(list(rows.index).index("s/1/01")) == 255).all()
    with Image.open(io.BytesIO(packed.read_bytes(0))) as image:
        assert not image.getexif()


def test_small_upright_jpeg_keeps_its_code_and_others_are_encoded(
    root: Path, small_shards: None, caplog: pytest.LogCaptureFixture
) -> None:
    turned = Image.Exif()
    turned[0x0112] = 3
    _picture(30, 24, 1).save(root / "raw/s/0/00.jpg", quality=40, comment=b"not of the pixels")
    _picture(30, 24, 2).save(root / "raw/s/1/01.jpg", quality=40, exif=turned)
    _picture(24, 33, 3).save(root / "raw/s/2/02.jpg", quality=40)  # its shorter side is small enough
    _picture(33, 33, 4).save(root / "raw/s/0/04.jpg", quality=40)  # no side is
    raw = {path.stem: path.read_bytes() for path in (root / "raw").rglob("*.jpg")}
    caplog.set_level("INFO")
    for _ in range(2):  # the second time from the shards' tables
        metrics = pack_images(_run(root))
        packed = PackedImages(root / "out/03_packed")
        found = {name[-2:]: packed.read_bytes(i) for i, name in enumerate(packed.index["image_id"])}
        assert metrics["n_copied"] == 2
        assert [name for name in raw if found[name] == raw[name]] == ["02"]
        assert found["00"] == raw["00"].replace(b"\xff\xfe\x00\x13not of the pixels", b"")
        for name in ("01", "04"):
            assert Image.open(io.BytesIO(found[name])).quantization != Image.open(io.BytesIO(raw[name])).quantization
    assert "copied" in caplog.text


def test_square_pack_keeps_the_code_of_squares_alone(root: Path) -> None:
    _picture(32, 32, 1).save(root / "raw/s/0/00.jpg", quality=40)
    _picture(30, 30, 2).save(root / "raw/s/1/01.jpg", quality=40)
    assert pack_images(_run(root, pack_square=True))["n_copied"] == 1
    assert PackedImages(root / "out/03_packed").read_bytes(0) == (root / "raw/s/0/00.jpg").read_bytes()


def test_pack_images_with_images_that_cannot_be_decoded(root: Path) -> None:
    whole = (root / "raw/s/2/02.jpg").read_bytes()
    (root / "raw/s/2/02.jpg").write_bytes(whole[: len(whole) // 2])
    (root / "raw/s/3/07.jpg").unlink()
    run = _run(root)
    assert pack_images(run)["n_problems"] == 2
    problems = pd.read_parquet(run.out / "03_packed/problems.parquet")
    assert problems[["image_id", "path"]].to_numpy().tolist() == [["s/2/02", "s/2/02.jpg"], ["s/3/07", "s/3/07.jpg"]]
    assert "truncated" in problems["reason"][0] and problems["reason"][1] == "missing"
    assert not set(PackedImages(run.out / "03_packed").index["image_id"]) & {"s/2/02", "s/3/07"}
    with pytest.raises(
        ValueError,
        match=(
            r"2 of 23 images \(8.7%\) of 's' are bad, data.max_bad_share allows 5.0%. The first: s/2/02.jpg "
            r"\(.*truncated"
        ),
    ):
        pack_images(_run(root, max_bad_share=0.05))


def test_pack_images_again_keeps_finished_shards(
    root: Path, small_shards: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = _run(root)
    pack_images(run)
    folder = run.out / "03_packed"
    before = _visible(folder)
    os.utime(root / "raw/s/0/00.jpg", (1, 1))  # touched: the first shard is packed again
    tar = folder / "shard_00003.tar"
    tar.write_bytes(tar.read_bytes()[:-1])  # damaged: so is the fourth
    packed_again = []
    pack_all = packing.pack_all
    monkeypatch.setattr(
        packing,
        "pack_all",
        lambda shards, *rest: packed_again.extend(s.path.name for s in shards) or pack_all(shards, *rest),
    )
    pack_images(run)
    assert packed_again == ["shard_00000.tar", "shard_00003.tar"]
    assert _visible(folder) == before


def test_loose_files_hold_the_same_bytes_and_are_kept_when_nothing_changes(
    root: Path, small_shards: None, monkeypatch: pytest.MonkeyPatch
):
    pack_images(_run(root))
    tars = PackedImages(root / "out/03_packed")
    expected = [tars.read_bytes(i) for i in range(len(tars))]
    run = _run(root, pack_loose=True)
    metrics = pack_images(run)
    loose = PackedImages(root / "out/03_packed")
    assert [loose.read_bytes(i) for i in range(len(loose))] == expected and metrics["n_shards"] == 5
    assert (
        not list((root / "out/03_packed").glob("*.tar"))
        and len(list((root / "out/03_packed").glob("shard_*/*.jpg"))) == N_IMAGES
    )
    monkeypatch.setattr(shards, "small_image", None)  # nothing is packed again
    pack_images(run)
    (root / "out/03_packed/shard_00002/0001.jpg").unlink()
    with pytest.raises(TypeError):
        pack_images(run)


def other_bytes(path: Path) -> None:
    """As many zeros, and the old times."""
    times = path.stat()
    path.write_bytes(bytes(times.st_size))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.mark.parametrize("is_loose", [False, True])
def test_zeroed_shard_of_an_unfinished_door_is_packed_again_and_a_copied_one_kept(
    root: Path, small_shards: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, is_loose: bool
):
    run = _run(root, pack_loose=is_loose)
    pack_images(run)
    folder = run.out / "03_packed"
    expected = {path: path.read_bytes() for path in folder.rglob("shard_*/*.jpg" if is_loose else "shard_*.tar")}
    victim = folder / "shard_00001/0002.jpg" if is_loose else folder / "shard_00001.tar"
    other_bytes(victim)
    (folder / ".shard_00003.parquet").write_bytes(b"PAR1")  # its table: what is in the shard is not known any more
    packed_again = []
    pack_all = packing.pack_all
    monkeypatch.setattr(
        packing,
        "pack_all",
        lambda shards, *rest: packed_again.extend(s.path.stem for s in shards) or pack_all(shards, *rest),
    )
    pack_images(run)
    assert packed_again == ["shard_00001", "shard_00003"]
    assert {path: path.read_bytes() for path in expected} == expected
    assert (
        f"{folder / 'shard_00001'}{'' if is_loose else '.tar'} has other bytes than were written; it is packed again"
        in caplog.messages
    )
    packed_again.clear()
    for path in expected:
        path.touch()
    pack_images(run)
    assert packed_again == []


def test_squares_are_squashed(root: Path):
    pack_images(_run(root, pack_square=True))
    images = PackedImages(root / "out/03_packed")
    assert (images.index[["width", "height"]] == 32).all(axis=None)
    i = images.index["image_id"].tolist().index("s/2/02")
    raw = Image.open(root / "raw" / images.index["path"][i])
    assert (images.index["original_width"][i], images.index["original_height"][i]) == raw.size != (32, 32)
    expected = np.asarray(raw.convert("RGB").resize((32, 32), Image.Resampling.BICUBIC), int)
    assert np.abs(images.read(i).astype(int) - expected).mean() < 3


def test_training_image_that_is_in_validation_leaves_the_index(root: Path):
    run = _run(root)
    path = root / "raw/s/0/00.jpg"
    Image.open(root / "raw/s/3/03.jpg").save(path, quality=70)  # the same picture as a training image, compressed again
    metrics = pack_images(run)
    index, twins = PackedImages(run.out / "03_packed").index, pd.read_parquet(run.out / "03_packed/duplicates.parquet")
    assert (metrics["n_images"], metrics["n_duplicates"], metrics["n_leaks"]) == (N_IMAGES - 1, 1, 1)
    assert "s/0/00" not in set(index["image_id"]) and "s/3/03" in set(index["image_id"])
    assert twins[["image_id", "twin", "outcome"]].to_numpy().tolist() == [["s/0/00", "s/3/03", "left training"]]


def test_pack_images_with_other_settings_or_rows_leaves_nothing_stale(root: Path, small_shards: None) -> None:
    run = _run(root)
    pack_images(run)
    val = run.folder(2) / "val.parquet"
    write_manifest(val, pd.read_parquet(val).iloc[:1], BALANCED_COLUMNS)
    changed = _run(root, pack_px=16)
    pack_images(changed)
    index = PackedImages(run.out / "03_packed").index
    assert len(index) == 19 and index[["width", "height"]].min(axis=1).max() == 16
    names = sorted(path.name for path in (run.out / "03_packed").iterdir())
    numbers = range(4)
    assert names == sorted(
        [f".shard_{n:05d}.parquet" for n in numbers]
        + [f"shard_{n:05d}.tar" for n in numbers]
        + ["duplicates.parquet", "index.parquet", "problems.parquet"]
    )


def test_plan_shards_by_count_and_by_size(root: Path) -> None:
    rows = unique_rows(*(pd.read_parquet(root / f"out/02_balanced/{split}.parquet") for split in ("train", "val")))
    many = pd.concat([rows] * 100, ignore_index=True)
    assert [len(s.images) for s in plan_shards(many, root, root, _run(root).recipe.data)] == [1000, 1000, 300]
    data = _run(root, pack_px=320, shard_mb=10).recipe.data
    sizes = {len(s.images) for s in plan_shards(many, root, root, data)[:-1]}
    assert sizes == {73}  # 10 MB / (320 * 320 * 4 / 3) bytes


def test_packed_images_pickled_and_damaged(root: Path) -> None:
    run = _run(root)
    pack_images(run)
    packed = PackedImages(run.out / "03_packed")
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(packed)).read(4), packed.read(4))
    (run.out / "03_packed/shard_00000.tar").write_bytes(b"")
    with pytest.raises(ValueError, match=r"shard_00000.tar is damaged at image 4 .*run door 03 again"):
        packed.read(4)
    with pytest.raises(FileNotFoundError):
        PackedImages(run.out)


def test_pack_images_when_a_worker_is_killed_says_what_to_do(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "small_image", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(OSError, match="was killed, perhaps for lack of memory; start again, finished shards are kept"):
        pack_images(_run(root))


KILLED = """
import os, sys, time
from pathlib import Path
sys.path[:0] = {here!r}
import test_packing as t
t.shards.MAX_IMAGES = 5
os.cpu_count = lambda: 1
slow = t.shards.small_image
def small_image(*arguments):
    time.sleep(0.03)
    return slow(*arguments)
t.shards.small_image = small_image
t.pack_images(t._run(Path({root!r})))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="counts processes in /proc")
def test_pack_images_killed_and_resumed_equals_uninterrupted(root: Path, small_shards: None) -> None:
    folder = root / "out/03_packed"
    code = KILLED.format(here=[str(path) for path in Path(__file__).parents[:3:2]], root=str(root))
    process = subprocess.Popen([sys.executable, "-c", code])
    deadline = time.time() + 60
    while len(list(folder.glob(".shard_*.parquet"))) < 2:
        assert time.time() < deadline and process.poll() is None
        time.sleep(0.005)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert children, "the packing process is there"
    process.send_signal(signal.SIGKILL)
    process.wait()
    while any(Path(f"/proc/{child}").exists() for child in children):
        assert time.time() < deadline, "the packing process outlives its parent"
        time.sleep(0.01)
    kept = {path.name: path.stat().st_mtime_ns for path in folder.glob("shard_*.tar")}
    assert 2 <= len(kept) < 5 and not (folder / "index.parquet").exists()
    run = _run(root)
    pack_images(run)
    resumed = _visible(folder)
    finished = [name for name in kept if (folder / name).stat().st_mtime_ns == kept[name]]
    assert len(finished) >= 2, "finished shards are not packed again"
    assert not list(folder.glob(".*.tmp"))
    for path in folder.iterdir():
        path.unlink()
    pack_images(run)
    assert _visible(folder) == resumed


@pytest.mark.slow
def test_cluster_that_loses_a_worker_loses_and_doubles_nothing(root: Path, monkeypatch: pytest.MonkeyPatch):
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr(shards, "MAX_IMAGES", 1)
    for i, path in enumerate(sorted((root / "raw").rglob("*.jpg"))):
        _picture(3000, 2000 + i, i).save(path)  # large ones, so that there is a middle to be killed in
    alone = replace(_run(root), out=root / "alone")
    shutil.copytree(root / "out/02_balanced", alone.folder(2), dirs_exist_ok=True)
    pack_images(alone)
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        pids = client.run(os.getpid)
        folder = root / "out/03_packed"

        def kill() -> None:
            while len(list(folder.glob("shard_*.tar"))) < 4:
                time.sleep(0.01)
            os.kill(next(iter(pids.values())), signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        run = replace(_run(root), scheduler=cluster.scheduler_address)
        pack_images(run)
        killer.join(timeout=30)
        assert client.run(os.getpid) != pids, "a worker was killed, and another has its place"
        listed = pd.read_parquet(root / "out/02_balanced/val.parquet")
        (root / "raw" / listed["path"].iloc[1]).unlink()
        good, problems = split_problems(listed, root / "raw", cluster.scheduler_address)
        assert len(good) == len(listed) - 1 and problems["reason"].tolist() == ["missing"]
    for name in ("index.parquet", "problems.parquet", "duplicates.parquet"):
        pd.testing.assert_frame_equal(pd.read_parquet(folder / name), pd.read_parquet(root / "alone/03_packed" / name))
    assert len(pd.read_parquet(folder / "index.parquet")) == N_IMAGES == len(list(folder.glob("shard_*.tar")))
    for path in folder.glob("shard_*.tar"):
        assert path.read_bytes() == (root / "alone/03_packed" / path.name).read_bytes()


def test_scheduler_that_does_not_answer_is_told(root: Path, monkeypatch: pytest.MonkeyPatch):
    distributed = pytest.importorskip("distributed")
    client = distributed.Client
    monkeypatch.setattr(distributed, "Client", lambda address, **words: client(address, **(words | {"timeout": "1s"})))
    with pytest.raises(
        ValueError,
        match=r"no dask.distributed scheduler answers at 'tcp://127.0.0.1:9' .*start one with 'dask scheduler'",
    ):
        pack_images(replace(_run(root), scheduler="tcp://127.0.0.1:9"))
