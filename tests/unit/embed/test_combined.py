"""Combinations of members, row by row against a loop, and how much of the features is read at once."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy.special import ndtr

from guie.embed import pca
from guie.embed.ensemble import Combined, load_backbone, load_neck
from guie.embed.fitted import embed
from guie.recipe import Member, Setting, load_recipe
from guie.run import Run

N = {"train": 90, "val": 50}
WIDTH = {96: 12, 64: 7}
MEMBERS = (
    Member("pretrained", 96, ("plain", "flip"), weight=0.5, output="feature"),
    Member("pretrained", 64, output="feature"),
)


class Read:
    """Features on a disk: notes how many rows are read at once."""

    def __init__(self, rows: np.ndarray) -> None:
        self.rows, self.most = rows, 0

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, wanted: slice) -> np.ndarray:
        self.most = max(self.most, len(self.rows[wanted]))
        return self.rows[wanted]


@pytest.fixture
def files() -> dict[tuple[int, str, str], Read]:
    rng = np.random.default_rng(0)
    return {
        (px, view, split): Read(rng.normal(size=(N[split], WIDTH[px])).astype(np.float32))
        for px in WIDTH
        for view in ("plain", "flip")
        for split in N
    }


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(load_recipe("tiny"), tmp_path, tmp_path)


def reader(files: dict[tuple[int, str, str], Read]) -> Any:
    return lambda member, view, split: files[member.image_px, view, split]


def by_hand(files: dict[tuple[int, str, str], Read], split: str, i: int) -> np.ndarray:
    first = (files[96, "plain", split].rows[i].astype(float) + files[96, "flip", split].rows[i]) / 2
    second = files[64, "plain", split].rows[i].astype(float)
    joined = np.concatenate([0.5 * first / np.linalg.norm(first), second / np.linalg.norm(second)])
    return joined / np.linalg.norm(joined)


def test_rows_are_those_of_a_loop(run: Run, files: dict[tuple[int, str, str], Read]) -> None:
    combined = Combined(run, Setting("both", MEMBERS), reader(files), "val")
    assert combined.shape == (50, 19) and len(combined) == 50
    expected = np.stack([by_hand(files, "val", i) for i in range(50)])
    np.testing.assert_allclose(combined[:], expected, atol=1e-6)
    np.testing.assert_allclose(combined[13:17], expected[13:17], atol=1e-6)


def test_views_of_a_member_go_through_its_neck_without_dropout(
    run: Run, files: dict[tuple[int, str, str], Read]
) -> None:
    rng = np.random.default_rng(5)
    matrix, shift = rng.normal(size=(64, WIDTH[96])).astype(np.float32), rng.normal(size=64).astype(np.float32)
    weights = {"neck.linear.weight": torch.from_numpy(matrix), "neck.linear.bias": torch.from_numpy(shift)}
    save_file(weights, run.stage_folder("s1_head") / "final.safetensors")
    assert run.recipe.stage("s1_head").neck.dropouts == (0.2,)
    outputs = [files[96, view, "val"].rows.astype(float) @ matrix.T.astype(float) + shift for view in ("plain", "flip")]
    mean = (outputs[0] + outputs[1]) / 2
    combined = Combined(run, Setting("views", (Member("s1_head", 96, ("plain", "flip")),)), reader(files), "val")
    np.testing.assert_allclose(combined[:], mean / np.linalg.norm(mean, axis=1, keepdims=True), atol=1e-5)


def test_neck_with_a_hidden_layer_is_read_without_dropout(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    shapes = {"linear.0.weight": (9, 12), "linear.0.bias": (9,), "linear.2.weight": (64, 9), "linear.2.bias": (64,)}
    weights = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    rows = ("s1_head", "s2_backbone")  # the second goes on with the neck of the first
    changes = [f"stages.{row}.neck.{field}" for row in rows for field in ("hidden_dim=9", "dropouts=0.5")]
    run = Run(load_recipe("tiny", changes), tmp_path, tmp_path)
    save_file(
        {f"neck.{name}": torch.from_numpy(tensor) for name, tensor in weights.items()},
        run.stage_folder("s1_head") / "final.safetensors",
    )
    features = rng.normal(size=(7, 12)).astype(np.float32)
    hidden = features.astype(float) @ weights["linear.0.weight"].T + weights["linear.0.bias"]
    hidden *= ndtr(hidden)  # GELU is x times the normal distribution's share below x
    with torch.no_grad():
        got = load_neck(run, "s1_head")(torch.from_numpy(features))
    np.testing.assert_allclose(got, hidden @ weights["linear.2.weight"].T + weights["linear.2.bias"], atol=1e-4)


def test_backbone_of_a_stage_is_what_the_stage_left(run: Run) -> None:
    """And not the pretrained one, whose features are as wide and as plausible."""
    fresh = load_backbone(run, "pretrained", 64)
    left = {
        f"backbone.{name}": tensor + 0.25 if tensor.is_floating_point() else tensor
        for name, tensor in fresh.state_dict().items()
    }
    save_file(
        {name: tensor.contiguous() for name, tensor in left.items()},
        run.stage_folder("s2_backbone") / "final.safetensors",
    )
    loaded = load_backbone(run, "s2_backbone", 80).state_dict()
    assert len(loaded) > 20
    for name, tensor in loaded.items():
        torch.testing.assert_close(tensor, left[f"backbone.{name}"], rtol=0, atol=0)


def test_projection_reads_a_block_at_a_time_and_is_fitted_on_training_images(
    run: Run, files: dict[tuple[int, str, str], Read], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pca.blocks, "__defaults__", (16,))
    monkeypatch.setattr(pca.moments_of, "__defaults__", (1, 16))
    found = embed(run, Setting("both", MEMBERS, pca_dim=4), reader(files))
    embeddings, fitted = found.by_split, found.pca
    assert fitted is not None and max(file.most for file in files.values()) == 16
    train = np.stack([by_hand(files, "train", i) for i in range(90)])
    _, _, axes = np.linalg.svd(train - train.mean(0), full_matrices=False)
    for split in ("train", "val"):
        rows = np.stack([by_hand(files, split, i) for i in range(N[split])])
        expected = (rows - train.mean(0)) @ axes[:4].T
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
        signs = np.sign((expected * embeddings[split]).sum(0))
        np.testing.assert_allclose(embeddings[split] * signs, expected, atol=1e-5)


def test_pca_sees_training_images_only(run: Run, files: dict[tuple[int, str, str], Read]) -> None:
    """Mean and directions are those of the 90 training images, by NumPy; the validation images lie elsewhere and spread
    in other directions."""
    for (_, _, split), read in files.items():
        read.rows[:, 0] += 4.0 * (split == "val")
        read.rows[:, 1 + (split == "val")] *= 5.0
    given = embed(run, Setting("both", MEMBERS, pca_dim=3), reader(files))
    found, fitted = given.by_split, given.pca
    assert fitted is not None and set(found) == {"train", "val"}
    rows = {split: np.stack([by_hand(files, split, i) for i in range(N[split])]) for split in N}
    expected = {split: np.linalg.eigh(np.cov(part.T))[1][:, ::-1][:, :3].T for split, part in rows.items()}
    np.testing.assert_allclose(fitted.mean_, rows["train"].mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(np.abs((fitted.components_ * expected["train"]).sum(axis=1)), 1.0, atol=1e-5)
    assert (
        np.abs(rows["val"].mean(axis=0) - fitted.mean_).max() > 0.1
    )  # what a PCA of validation images, or of both, would have
    assert np.abs(np.concatenate([rows["train"], rows["val"]]).mean(axis=0) - fitted.mean_).max() > 0.05
