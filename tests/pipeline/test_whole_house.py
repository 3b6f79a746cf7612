"""All nine doors on the drawn world, as a user runs them: step NN of this test is door NN."""

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from accelerate import Accelerator
from opening import SMALL, open_door

from guie.data.packed import PackedImages
from guie.embed.ensemble import Combined, MemberFeatures
from guie.embed.features import FeatureStore
from guie.recipe import load_recipe
from guie.run import DOORS, FOLDERS, PROJECT, Run

pytestmark = pytest.mark.slow


def test_every_door_marks_its_folder_and_names_the_next(house: tuple[Path, list[str]]) -> None:
    run, outputs = house
    for number, output in zip(DOORS, outputs, strict=True):
        mark = json.loads((run / FOLDERS[number] / "done.json").read_text())
        assert mark["outputs"] and mark["seconds"] > 0 and mark["peak_memory_gb"] > 0
        assert (DOORS[number + 1] if number < 9 else "last door") in output.splitlines()[-1]


def test_second_start_does_nothing(house: tuple[Path, list[str]]) -> None:
    run, _ = house
    before = {p: p.stat().st_mtime_ns for p in run.rglob("*") if p.is_file() and p.name != "log.txt"}
    for number in DOORS:
        assert "already done" in open_door(number, run.parent)
    assert {p: p.stat().st_mtime_ns for p in run.rglob("*") if p.is_file() and p.name != "log.txt"} == before


def test_no_class_is_on_both_sides(house: tuple[Path, list[str]]) -> None:
    run, _ = house
    index = pd.read_parquet(run / "03_packed/index.parquet")
    train, val = (
        set(zip(rows["source"], rows["source_label"], strict=True))
        for _, rows in sorted(index.groupby("split"), key=lambda x: x[0])
    )
    assert train and val and not train & val
    assert set(index["domain"]) == {"landmarks", "packaged", "toys"}


def test_scores_agree_with_a_loop_over_the_stored_embeddings(house: tuple[Path, list[str]]) -> None:
    run, _ = house
    embeddings = np.load(run / "07_embeddings/val_embeddings.npy").astype(np.float64)
    ids = pd.read_parquet(run / "07_embeddings/val_ids.parquet")
    assert embeddings.shape == (len(ids), 64)
    final = pd.read_csv(run / "07_embeddings/scores.csv").iloc[-1]
    assert mean_precision(embeddings, ids) == pytest.approx(final["mp5"], abs=2e-3)  # ties of float32
    assert final["dim"] == 64 and final["n_queries"] == len(ids)


def mean_precision(vectors: np.ndarray, ids: pd.DataFrame) -> float:
    """The host's metric by a loop, of unit vectors: the mean over the domains."""
    classes, by_domain = ids["class_id"].to_numpy(), {}
    for q in range(len(ids)):
        order = [i for i in np.argsort(-(vectors @ vectors[q]), kind="stable") if i != q]
        m = min(5, int((classes == classes[q]).sum()) - 1)
        by_domain.setdefault(ids["domain"].iloc[q], []).append(sum(classes[i] == classes[q] for i in order[:m]) / m)
    return float(np.mean([np.mean(values) for values in by_domain.values()]))


def test_widths_of_the_ladder_agree_with_its_rows(house: tuple[Path, list[str]]) -> None:
    """A row's own width has its score; the others of the last row are those of dimensions.csv, and those of the first
    numbers of the embeddings on the disk."""
    folder = house[0] / "07_embeddings"
    scores, table = (
        pd.read_csv(folder / "scores.csv"),
        pd.read_csv(folder / "dimensions.csv").set_index(["dim", "code"]),
    )
    reduced = scores["projection"].str.match(r"(mean )?pca64[^ ]*$")
    assert reduced.any() and not reduced.all()
    np.testing.assert_allclose(scores["dim_64"][reduced], scores["mp5"][reduced], atol=1e-6)
    assert scores["dim_16"][~reduced].isna().all() and scores["dim_16"][reduced].between(0.01, 1).all()
    final = scores.iloc[-1]
    for dim in (16, 32, 64):
        assert final[f"dim_{dim}"] == pytest.approx(table.loc[(dim, "float32"), "mp5"], abs=1e-6)
    embeddings, ids = np.load(folder / "val_embeddings.npy"), pd.read_parquet(folder / "val_ids.parquet")
    for dim in (16, 32):
        first = embeddings[:, :dim].astype(np.float64)
        found = mean_precision(first / np.linalg.norm(first, axis=1, keepdims=True), ids)
        assert final[f"dim_{dim}"] == pytest.approx(found, abs=2e-3)
    is_full = table.index.get_level_values("code") == "all, without PCA"
    assert final["dim_all"] == pytest.approx(table["mp5"][is_full].item(), abs=1e-6)


def test_pca_saw_training_images_only(house: tuple[Path, list[str]]) -> None:
    """Its mean and directions are those of the training features, by NumPy, and not those of the validation features or
    of both."""
    out, _ = house
    run, packed = Run(load_recipe("tiny", SMALL), out.parent, out), PackedImages(out / FOLDERS[3])
    features = MemberFeatures(FeatureStore(run, packed, Accelerator(cpu=True)))
    rows = {
        split: Combined(run, run.recipe.embed.final, features, split).whole().astype(np.float64)
        for split in ("train", "val")
    }
    rows["both"] = np.concatenate([rows["train"], rows["val"]])
    assert len(rows["train"]) == (packed.index["split"] == "train").sum() > 64
    with np.load(out / "07_embeddings/pca.npz") as pca:
        mean, components = pca["mean"], pca["components"]
    np.testing.assert_allclose(components @ components.T, np.eye(64), atol=1e-9)
    variance = {split: np.cov(part.T) for split, part in rows.items()}
    kept = {split: float(np.trace(components[:8] @ matrix @ components[:8].T)) for split, matrix in variance.items()}
    best = {split: float(np.linalg.eigvalsh(matrix)[-8:].sum()) for split, matrix in variance.items()}
    np.testing.assert_allclose(mean, rows["train"].mean(axis=0), atol=1e-6)
    assert kept["train"] == pytest.approx(best["train"], rel=1e-6)
    for split in ("val", "both"):
        assert np.abs(mean - rows[split].mean(axis=0)).max() > 1e-4
        assert kept[split] < best[split] * (1 - 1e-5)


@pytest.mark.full
def test_submission_is_sound_to_a_checker_that_knows_nothing_of_us(house: tuple[Path, list[str]]) -> None:
    """By default test_notebooks.py counts the lines of the same command, on a machine that has only the wheel."""
    run, _ = house
    checker = [
        sys.executable,
        "-P",
        str(PROJECT / "submission/check_submission.py"),
        str(run / "08_export/submission.zip"),
    ]
    done = subprocess.run(
        [*checker, "--expected", str(run / "08_export/parity")], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0 and done.stderr == "", done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "The submission is sound."
    assert done.stdout.count("ok    ") == 1 + 1 + 10 + 2 + 1 + 1  # zip, load, images, time and memory, parity, second


def test_files_have_the_permissions_of_the_umask_and_nothing_half_written_is_left(
    house: tuple[Path, list[str]],
) -> None:
    run, _ = house
    probe = run.parent / "probe"
    probe.touch()
    wanted = stat.S_IMODE(probe.stat().st_mode)
    probe.unlink()
    files = [path for path in run.rglob("*") if path.is_file()]
    assert len(files) > 100
    assert {
        str(path): oct(stat.S_IMODE(path.stat().st_mode))
        for path in files
        if stat.S_IMODE(path.stat().st_mode) != wanted
    } == {}
    assert [path for path in run.rglob("*") if path.name.endswith(".tmp") or ".part" in path.name] == []


def zeroed(path: Path) -> None:
    """Keeps size and times."""
    times = path.stat()
    path.write_bytes(path.read_bytes()[: times.st_size // 2] + bytes(times.st_size - times.st_size // 2))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def swapped_with_validation(path: Path) -> None:
    other = path.with_name(path.name.replace("train", "val"))
    one, two = path.read_bytes(), other.read_bytes()
    path.write_bytes(two)
    other.write_bytes(one)


def other_classes(path: Path) -> None:
    table = pd.read_parquet(path)
    table.assign(class_id=table["class_id"].to_numpy()[::-1]).to_parquet(path, index=False)


def better_scores(path: Path) -> None:
    path.write_text(path.read_text().replace("0.", "0.9"))


DAMAGES = {
    1: [("toys.parquet", emptied)],
    2: [("train.parquet", swapped_with_validation), ("classes.parquet", cut)],
    3: [("shard_00000.tar", zeroed), ("index.parquet", other_classes)],
    4: [("s1_head/final.safetensors", zeroed)],
    5: [("s2_backbone/final.safetensors", cut), ("s3_head_again/done.json", emptied)],
    6: [("s5_highres_backbone/final.safetensors", emptied)],
    7: [("val_embeddings.npy", zeroed), ("pca.npz", cut), ("scores.csv", better_scores)],
    8: [("submission.zip", zeroed), ("saved_model.pt", cut), ("parity/expected.npz", emptied)],
    9: [("index.html", zeroed)],
}


@pytest.mark.full
def test_every_damage_is_named_and_the_doors_in_their_order_heal_it(
    house: tuple[Path, list[str]], tmp_path: Path
) -> None:
    run = tmp_path / "tiny"
    shutil.copytree(house[0], run)
    for number in DOORS:  # copied: the bytes are compared once
        assert "already done" in open_door(number, tmp_path, is_forked=True)
    places = [run / FOLDERS[number] / name for number, damages in DAMAGES.items() for name, _ in damages]
    places += [run / FOLDERS[2] / "val.parquet"]
    expected = {
        path: path.read_bytes()
        for path in places
        if path.name not in ("done.json", "scores.csv", "index.html", "submission.zip")
    }
    for number, damages in DAMAGES.items():
        for name, damage in damages:
            damage(run / FOLDERS[number] / name)
    cached = {path: path.read_bytes() for path in (run / "cache").glob("*.npy")}
    for path in cached:
        zeroed(path)
    for upstream, door in ((3, 4), (3, 5), (3, 7)):
        command = [
            sys.executable,
            str(PROJECT / DOORS[door]),
            "--recipe",
            "tiny",
            "--out",
            str(tmp_path),
            "--device",
            "cpu",
            "--force",
        ]
        refused = subprocess.run(
            [*command, *(word for text in SMALL for word in ("--set", text))],
            capture_output=True,
            text=True,
            check=False,
        )
        assert refused.returncode == 2 and refused.stderr.count("\n") == 1
        assert (
            f"{run / FOLDERS[upstream]}/" in refused.stderr
            and f"make it again: python {DOORS[upstream]}" in refused.stderr
        )
    for number in DOORS:
        output = open_door(number, tmp_path, is_forked=True)
        assert "already done: " not in output and ("it is made again" in output or number > 7), (
            number,
            output,
        )  # 08 and 09 follow scores.csv's commit
    assert {path: path.read_bytes() == data for path, data in expected.items()} == dict.fromkeys(expected, True)
    assert sum(path.read_bytes() == data for path, data in cached.items()) >= 6  # those that were asked for
    scores = [pd.read_csv(folder / "07_embeddings/scores.csv").drop(columns="commit") for folder in (house[0], run)]
    pd.testing.assert_frame_equal(*scores)
    for number in DOORS:
        assert "already done" in open_door(number, tmp_path, "--verify", is_forked=True)


def test_changed_setting_reruns_only_what_rests_on_it(house: tuple[Path, list[str]]) -> None:
    run, _ = house
    changed = (*SMALL, "embed.settings.head-only.whiten=0.5")
    for number in DOORS:
        output = open_door(number, run.parent, "--replace", sets=changed, is_forked=True)
        assert ("already done" in output) == (number < 7), (number, output)
