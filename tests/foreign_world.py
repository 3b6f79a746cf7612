"""Three small data sets of a domain each, a recipe over them, and `guie foreign` in this process."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_run import picture

from guie.cli import folds
from guie.cli.main import main
from guie.door import open_door
from guie.own.recipe_text import recipe_text
from guie.recipe import HEAD, Data, Embed, Member, Model, Neck, Optim, Recipe, Setting, Source, Stage, Stages, Start

DOMAINS = ("cups", "hats", "maps")
N_CLASSES, N_IMAGES = 8, 4  # of each domain; half of the classes are for validation
WORKS = {
    1: "guie.data.build:build_manifests",
    2: "guie.data.balance:merge_and_balance",
    3: "guie.data.packing:pack_images",
    4: "guie.train.stage:train_phase",
    5: "guie.train.stage:train_phase",
    6: "guie.train.stage:train_phase",
}
PHASES = {4: "head", 5: "backbone", 6: "highres"}
PCA, LAST = "off the shelf, PCA-8", "head"


def draw(root: Path, domains: Sequence[str] = DOMAINS, noise: str = "") -> Path:
    """Images below `root`, a folder for each class; those of the domain `noise` are others, of the same names."""
    for number, domain in enumerate(DOMAINS):
        for label in range(N_CLASSES if domain in domains else 0):
            folder = root / domain / f"class{label}"
            folder.mkdir(parents=True)
            for i in range(N_IMAGES):
                pixels = picture(100 * number + label, i)
                if domain == noise:
                    pixels = np.random.default_rng([label, i]).integers(0, 256, pixels.shape, dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
    return root


def world_recipe(domains: Sequence[str] = DOMAINS) -> Recipe:
    """One stage on cached features; the ladder has a PCA, which can be fitted anew."""
    stage = Stage(
        "s1_head",
        trains="head",
        image_px=32,
        start=Start(fresh=HEAD),
        optim=Optim(n_epochs=3, batch_size=8, lr=1e-2),
        neck=Neck(dim=64),
    )
    off_the_shelf = (Member("pretrained", 32, output="feature"),)
    settings = (Setting(PCA, off_the_shelf, pca_dim=8), Setting(LAST, (Member("s1_head", 32, ("plain", "flip")),)))
    model = Model("timm", "test_resnet", mean=(0.48, 0.45, 0.4), std=(0.26, 0.25, 0.27))
    sources = tuple(Source(domain, "class_folders", domain, domain) for domain in domains)
    data = Data(sources, pack_px=40, duplicate_bits=-1)
    return Recipe("world", data, model, Stages(head=(stage,)), Embed(settings), seed=3).validate()


def write_recipe(folder: Path, recipe: Recipe) -> Path:
    """The recipe as a file for the command."""
    path = folder / f"{recipe.name}.py"
    path.write_text(recipe_text(recipe, "A recipe of a test."))
    return path


def open_here(numbers: Sequence[int], recipe: Path, out: Path, options: Sequence[str], is_forced: bool) -> None:
    """Opens doors in this process, which saves the imports of each; what they print is not shown."""
    for number in numbers:
        words = {"phase": PHASES[number]} if number in PHASES else {}
        argv = ["--recipe", str(recipe), "--out", str(out), *options, "--replace"]
        with contextlib.redirect_stdout(io.StringIO()):
            assert open_door(number, "A door.", WORKS[number], argv, **words) == 0


def foreign(monkeypatch: pytest.MonkeyPatch, *words: str | Path) -> int:
    """`guie foreign` with these words, its doors in this process."""
    monkeypatch.setattr(folds, "open_doors", open_here)
    return main(["foreign", *map(str, words), "--device", "cpu"])
