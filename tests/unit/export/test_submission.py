"""Door 08's body on an invented run: what it writes, and when it writes no zip."""

import json
import logging
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from guie.embed.ensemble import Tower
from guie.embed.pca import PCA
from guie.embed.views import normalise, to_square
from guie.export import submission
from guie.export.submission import export_submission, write_zip
from guie.files import digest_of_file
from guie.recipe import (
    HEAD,
    Data,
    Embed,
    Export,
    Member,
    Model,
    Neck,
    Optim,
    Recipe,
    Setting,
    Source,
    Stage,
    Stages,
    Start,
)
from guie.run import Run

N_VAL = 9
MEMBERS = (Member("s1_head", 32, ("plain", "flip")), Member("s1_head", 48, ("plain",), weight=0.5))


def network(px: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(px)
        return nn.Sequential(
            nn.Conv2d(3, 8, 5, 2), nn.GELU(), nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(72, 40)
        ).eval()


class Pack:
    """Stands for PackedImages: images of odd sizes, by row."""

    def __init__(self, folder: Path) -> None:
        assert folder.name == "03_packed"

    def read(self, row: int) -> np.ndarray:
        rng = np.random.default_rng(row)
        return rng.integers(0, 256, (20 + 7 * row, 90 - 3 * row, 3), dtype=np.uint8)


def eager_embedding(image: np.ndarray, pca: PCA) -> np.ndarray:
    """What door 07 would store."""
    parts = []
    for member in MEMBERS:
        square = normalise(
            to_square(torch.from_numpy(image).permute(2, 0, 1)[None], member.image_px), (0.5,) * 3, (0.5,) * 3
        )
        with torch.no_grad():
            outputs = [
                network(member.image_px)(square.flip(3) if view == "flip" else square)[0].numpy()
                for view in member.views
            ]
        mean = np.mean(outputs, axis=0)
        parts.append(member.weight * mean / np.linalg.norm(mean))
    joined = np.concatenate(parts)
    projected = pca.transform((joined / np.linalg.norm(joined))[None])[0]
    return projected / np.linalg.norm(projected)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run whose door 07 is done: nine validation images whose pack rows are 2, 4, ... 18."""
    stage = Stage(
        "s1_head",
        trains="head",
        image_px=32,
        start=Start(fresh=HEAD),
        optim=Optim(n_epochs=1, batch_size=8, lr=1e-3),
        neck=Neck(dim=40),
    )
    settings = (Setting("first", (MEMBERS[0],), 64), Setting("final", MEMBERS, 64, whiten=0.5))
    data = Data((Source("drawn", "folders", "drawn", "toys"),))
    export, stages = Export(n_parity_images=4), Stages(head=(stage,))
    recipe = Recipe("invented", data, Model("timm", "test_resnet"), stages, Embed(settings), export, seed=3)
    run = Run(recipe, tmp_path, tmp_path / "project" / "artifacts" / "invented", "cuda:7")
    rng = np.random.default_rng(0)
    pca = PCA(
        rng.normal(0, 0.05, 80),
        np.linalg.qr(rng.normal(0, 1, (80, 64)))[0].T,
        np.linspace(2, 0.1, 64),
        np.full(64, 1 / 64),
        0.5,
    )
    folder = run.folder(7)
    pca.save(folder / "pca.npz")
    rows = 2 * np.arange(1, N_VAL + 1)
    table = pd.DataFrame(
        {"image_id": [f"drawn/{row}" for row in rows], "class_id": 0, "domain": "toys", "pack_row": rows}
    )
    (run.folder(2) / "licences.json").write_text(json.dumps([{"source": "drawn", "licence": "ours"}]))
    table.to_parquet(folder / "val_ids.parquet")
    np.save(
        folder / "val_embeddings.npy",
        np.stack([eager_embedding(Pack(run.folder(3)).read(row), pca) for row in rows]).astype(np.float32),
    )
    pd.DataFrame({"setting": ["first", "final"], "mp5": [0.1, 0.7], "mp5_toys": [None, 0.7]}).to_csv(
        folder / "scores.csv", index=False
    )
    monkeypatch.setattr(submission, "images_of", lambda run: Pack(run.folder(3)))
    monkeypatch.setattr(submission, "PROJECT", tmp_path / "project")
    monkeypatch.setattr(submission, "load_tower", load_tower)
    return run


def load_tower(run: Run, member: Member) -> Tower:
    assert run.device == "cpu"  # whatever the run's device, the graph is built on the CPU
    return Tower(network(member.image_px), member.image_px, member.views, member.weight)


def test_export_agrees_with_door_07_and_writes_everything(run: Run, tmp_path: Path) -> None:
    metrics = export_submission(run)
    folder = run.folder(8)
    assert 0 <= metrics["largest_cosine_distance"] < 1e-6 and metrics["n_parity_images"] == 4
    assert sorted(path.name for path in folder.iterdir()) == ["card.json", "parity", "saved_model.pt", "submission.zip"]
    copied = tmp_path / "project" / "submission" / "invented" / "submission.zip"
    with zipfile.ZipFile(copied) as archive:
        assert archive.namelist() == ["saved_model.pt"] and archive.testzip() is None
        assert archive.read("saved_model.pt") == (folder / "saved_model.pt").read_bytes()
    assert digest_of_file(copied) == digest_of_file(folder / "submission.zip")


def test_program_is_written_beside_it_and_compared_too(run: Run) -> None:
    run = replace(run, recipe=replace(run.recipe, export=Export(n_parity_images=4, has_program=True, storage="bf16")))
    export_submission(run)
    card, program = json.loads((run.folder(8) / "card.json").read_text()), run.folder(8) / "saved_model.pt2"
    assert (
        card["program_parity"]["n_images"] == 4
        and 0.999 < card["program_parity"]["min_cosine"] < 1
        and card["storage"] == "bf16"
    )
    assert [entry["name"] for entry in card["files"]] == ["saved_model.pt", "submission.zip", "saved_model.pt2"]
    image = torch.from_numpy(Pack(run.folder(3)).read(2)).permute(2, 0, 1)[None]
    with torch.no_grad():
        np.testing.assert_allclose(
            torch.export.load(program).module()(image),
            torch.jit.load(run.folder(8) / "saved_model.pt")(image),
            atol=1e-5,
        )


def test_what_the_scorer_cannot_load_is_the_doors_last_word(
    run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(logging.getLogger("guie"), "propagate", True)
    with caplog.at_level("INFO", "guie"):
        monkeypatch.setattr(submission, "unknown_to_1_11", lambda path: ["aten::new", "file format 10"])
        export_submission(run)
        told = [record.getMessage() for record in caplog.records]
        assert (
            told[-2].startswith("WARNING: the contest's scorer cannot load this file.")
            and "aten::new, file format 10" in told[-2]
        )
        caplog.clear()
        monkeypatch.setattr(submission, "unknown_to_1_11", lambda path: [])
        export_submission(run)
    assert "WARNING" not in caplog.text


def test_trial_elsewhere_leaves_the_projects_submission_alone(run: Run, tmp_path: Path) -> None:
    elsewhere = replace(run, out=tmp_path / "trial" / "invented")
    for number in (2, 7):
        shutil.copytree(run.folder(number), elsewhere.folder(number), dirs_exist_ok=True)
    export_submission(elsewhere)
    assert (elsewhere.folder(8) / "submission.zip").is_file() and not (tmp_path / "project" / "submission").exists()


def test_parity_images_are_the_packed_pixels_with_door_07s_embeddings(run: Run) -> None:
    export_submission(run)
    folder = run.folder(8) / "parity"
    with np.load(folder / "expected.npz") as stored:
        names, ids, embeddings = stored["names"].tolist(), stored["image_ids"].tolist(), stored["embeddings"]
    assert names == ["000.png", "001.png", "002.png", "003.png"] and ids == [
        "drawn/2",
        "drawn/8",
        "drawn/12",
        "drawn/18",
    ]
    assert sorted(path.name for path in folder.iterdir()) == [*names, "expected.npz"]
    all_embeddings = np.load(run.folder(7) / "val_embeddings.npy")
    for name, row, embedding in zip(names, (2, 8, 12, 18), embeddings, strict=True):
        np.testing.assert_array_equal(np.array(Image.open(folder / name)), Pack(run.folder(3)).read(row))
        np.testing.assert_array_equal(embedding, all_embeddings[row // 2 - 1])


def test_card_says_where_the_file_is_from(run: Run) -> None:
    export_submission(run)
    card = json.loads((run.folder(8) / "card.json").read_text())
    assert card["recipe"] == "invented" and card["recipe_digest"] == run.recipe.digest() and card["seed"] == 3
    assert card["scores"] == {"setting": "final", "mp5": 0.7, "mp5_toys": 0.7}
    assert card["setting"]["members"][1]["weight"] == 0.5 and card["data"] == [{"source": "drawn", "licence": "ours"}]
    assert [entry["name"] for entry in card["files"]] == ["saved_model.pt", "submission.zip"]
    for entry in card["files"]:
        path = run.folder(8) / entry["name"]
        assert (
            entry["bytes"] == path.stat().st_size
            and entry["sha256"].startswith(digest_of_file(path))
            and len(entry["sha256"]) == 64
        )
    assert card["torch"] == torch.__version__ and card["parity"]["min_cosine"] > 0.999999


def test_export_that_disagrees_leaves_no_zip(run: Run) -> None:
    export_submission(run)
    path = run.folder(7) / "val_embeddings.npy"
    embeddings = np.load(path)
    embeddings[3] = np.roll(embeddings[3], 1)
    np.save(path, embeddings)
    with pytest.raises(
        ValueError, match=r"disagree: cosine -?0\.\d+ on image drawn/8, export.min_parity_cosine is 0.999"
    ):
        export_submission(run)
    assert not (run.folder(8) / "submission.zip").exists() and not (run.folder(8) / "card.json").exists()


def test_stored_embedding_that_is_not_a_number_is_a_disagreement(run: Run) -> None:
    path = run.folder(7) / "val_embeddings.npy"
    embeddings = np.load(path)
    embeddings[0, 5] = np.nan
    np.save(path, embeddings)
    with pytest.raises(ValueError, match="cosine nan on image drawn/2"):
        export_submission(run)


def test_more_parity_images_than_there_are(run: Run) -> None:
    recipe = submission.replace(run.recipe, export=Export(n_parity_images=500))
    assert export_submission(submission.replace(run, recipe=recipe))["n_parity_images"] == N_VAL
    few = submission.replace(run.recipe, export=Export(n_parity_images=1))
    export_submission(submission.replace(run, recipe=few))
    assert len(list((run.folder(8) / "parity").iterdir())) == 2  # none of the nine is left behind
    none = submission.replace(run.recipe, export=Export(n_parity_images=0))
    with pytest.raises(ValueError, match="n_parity_images is 0, must be at least 1"):
        export_submission(submission.replace(run, recipe=none))


def test_recipe_that_exports_nothing_is_told_and_what_is_there_stays(run: Run) -> None:
    nothing = submission.replace(run.recipe, embed=submission.replace(run.recipe.embed, dim=0))
    (run.folder(8) / "saved_model.pt").write_bytes(b"an earlier export")
    with pytest.raises(ValueError, match=r"embed\.dim is 0, so nothing is exported"):
        export_submission(submission.replace(run, recipe=nothing))
    assert (run.folder(8) / "saved_model.pt").read_bytes() == b"an earlier export"


def test_missing_inputs_name_door_07(run: Run) -> None:
    (run.folder(7) / "scores.csv").write_text("setting,mp5\nfirst,0.1\n")
    with pytest.raises(ValueError, match=r"no row 'final'; run door 07 again"):
        export_submission(run)
    (run.folder(7) / "scores.csv").write_text("setting,mp5\nfinal,0.1\n")
    (run.folder(7) / "pca.npz").unlink()
    with pytest.raises(FileNotFoundError, match=r"pca.npz does not exist; door 07 writes it"):
        export_submission(run)


def test_full_disk_is_told_in_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(module: object, path: str) -> None:
        raise RuntimeError("PytorchStreamWriter failed writing file data/3")

    monkeypatch.setattr(torch.jit, "save", fail)
    with pytest.raises(OSError, match=r"could not be written .*is there space"):
        export_submission(run)
    assert [path.name for path in run.folder(8).iterdir()] == []


def test_zip_has_the_same_bytes_for_the_same_model(tmp_path: Path) -> None:
    model = tmp_path / "anything.pt"
    model.write_bytes(b"weights" * 1000)
    write_zip(model, tmp_path / "a.zip")
    model.touch()
    write_zip(model, tmp_path / "b.zip")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_full_disk_ends_in_an_error_and_not_the_process(tmp_path: Path) -> None:
    if os.getuid() or subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("only root may mount a small disk of its own")
    code = f"""
import os, subprocess, torch
from pathlib import Path
from guie.export.submission import save_module
folder = Path({str(tmp_path)!r})
module = torch.jit.script(torch.nn.Linear(1024, 1024))  # 4.2 MB
for options in ("size=2m", "remount,size=40m"):
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)
    try:
        save_module(module, folder / "saved_model.pt")
    except OSError as error:
        print(error)
    print(os.listdir(folder))
"""
    done = subprocess.run(["unshare", "-m", sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told, *listed = done.stdout.splitlines()
    assert told.startswith(f"[Errno 28] the disk is full at {tmp_path}")
    assert listed == ["[]", "['saved_model.pt']"]
