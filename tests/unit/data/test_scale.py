"""Many classes, long labels, and two recipes on one data root."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from data_recipe import recipe_around
from PIL import Image

from guie.data.balance import merge_and_balance
from guie.data.build import build_manifests
from guie.data.manifest import COLUMNS, write_manifest
from guie.data.packed import PackedImages
from guie.data.packing import pack_images
from guie.recipe import Data, Source
from guie.run import Run


def run_of(root: Path, out: Path, kind: str = "class_folders", **data: object) -> Run:
    data = {"duplicate_bits": -1, **data}
    return Run(recipe_around(Data((Source("s", kind, "set", "d"),), **data)), root, out)


def photo(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (12, 10, 3), dtype=np.uint8)).save(path)


@pytest.mark.slow
def test_hundred_thousand_classes_of_two_in_threes(tmp_path: Path):
    """Measured: 8 s (5 s without groups) and 370 MB, 18 s for twice as many."""
    n = 100_000
    ids = [f"s/{c}/{i}.jpg" for c in range(n) for i in range(2)]
    columns = {
        "image_id": ids,
        "path": ids,
        "source": "s",
        "source_label": [f"{c:06d}" for c in range(n) for _ in range(2)],
        "domain": "d",
        "split": "",
    }
    rows = pd.DataFrame(columns | {"group": [f"s/{c // 3}" for c in range(n) for _ in range(2)]})[list(COLUMNS)]
    run = run_of(tmp_path, tmp_path / "out")
    write_manifest(run.folder(1) / "s.parquet", rows)
    code = f"""
import sys
sys.path[:0] = {[str(path) for path in Path(__file__).parents[:3:2]]!r}
from pathlib import Path
from test_scale import run_of
from guie.data.balance import merge_and_balance
from guie.machine import peak_memory
run = run_of(Path({str(tmp_path)!r}), Path({str(tmp_path / "out")!r}))
print(merge_and_balance(run)["n_val_classes"], peak_memory())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)
    n_val, peak = map(int, done.stdout.split()[-2:])
    assert abs(n_val - n / 2) <= 1 and peak < 1.5e9
    classes = pd.read_parquet(tmp_path / "out/02_balanced/classes.parquet")
    assert len(classes) == n and classes.groupby(classes["source_label"].astype(int) // 3)["split"].nunique().max() == 1


def test_labels_of_five_thousand_characters(tmp_path: Path):
    labels = [f"{number} {'x' * 5000}" for number in range(6)]
    lines = ["path,label"]
    for number in range(18):
        photo(tmp_path / f"set/{number}.png", number)
        lines.append(f"{number}.png,{labels[number % 6]}")
    (tmp_path / "set/images.csv").write_text("\n".join(lines))
    run = run_of(tmp_path, tmp_path / "out", "csv_list")
    assert build_manifests(run)["n_classes"] == 6
    merge_and_balance(run)
    assert pack_images(run)["n_images"] == 18
    assert set(PackedImages(run.out / "03_packed").index["source_label"]) == set(labels)


def state(root: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in [root, *root.rglob("*")]}


def doors(run: Run) -> None:
    build_manifests(run)
    merge_and_balance(run)
    pack_images(run)


def test_two_recipes_on_one_data_root_leave_it_alone_and_each_other(tmp_path: Path):
    for number in range(40):
        photo(tmp_path / f"data/set/{number % 8}/{number}.png", number)
    before = state(tmp_path / "data")
    runs = [
        run_of(tmp_path / "data", tmp_path / name, val_class_share=share, pack_px=px)
        for name, share, px in (("a", 0.5, 16), ("b", 0.25, 32))
    ]
    for door in (build_manifests, merge_and_balance, pack_images):  # in turn, door by door
        for run in runs:
            door(run)
    assert state(tmp_path / "data") == before
    for run, name in zip(runs, "ab", strict=True):
        alone = run_of(
            tmp_path / "data",
            tmp_path / f"alone {name}",
            val_class_share=run.recipe.data.val_class_share,
            pack_px=run.recipe.data.pack_px,
        )
        doors(alone)
        for table in (
            "01_manifests/s.parquet",
            "02_balanced/train.parquet",
            "02_balanced/val.parquet",
            "03_packed/index.parquet",
        ):
            assert (run.out / table).read_bytes() == (alone.out / table).read_bytes()


@pytest.mark.skipif(os.name != "posix", reason="permissions are those of POSIX")
def test_data_root_that_cannot_be_written_is_enough(tmp_path: Path):
    for number in range(8):
        photo(tmp_path / f"data/set/{number % 4}/{number}.png", number)
    folders = [tmp_path / "data", *(path for path in (tmp_path / "data").rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    try:
        before = state(tmp_path / "data")
        doors(run_of(tmp_path / "data", tmp_path / "out"))
        assert state(tmp_path / "data") == before
    finally:
        for folder in folders:
            folder.chmod(0o755)
