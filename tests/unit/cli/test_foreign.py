"""guie foreign on three small domains, against scores computed here with loops, scikit-learn and numpy; and what it
does where a fold cannot be."""

import json
import logging
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import foreign_world
import numpy as np
import pandas as pd
import pytest
import torch
from changing import changed
from foreign_world import DOMAINS, LAST, N_CLASSES, N_IMAGES, PCA, draw, foreign, world_recipe, write_recipe
from PIL import Image
from safetensors.numpy import load_file
from scipy import stats
from sklearn import decomposition
from small_run import picture

from guie.cli import folds
from guie.cli.fold_checks import OWN_DOMAINS, unlabelled_in_all
from guie.cli.folds import run_name
from guie.cli.foreign_results import read_against
from guie.cli.main import main
from guie.data.packed import GIVEN, NEVER, PackedImages
from guie.embed.ensemble import load_backbone, load_neck
from guie.embed.fitted import Embedded
from guie.embed.pca import moments_of
from guie.embed.views import normalise, to_square
from guie.evaluate.foreign import Stacked, _refitted, asked_features, check_domains, to_be_asked
from guie.evaluate.foreign_recipe import head_only
from guie.recipe import FitImages, Member, Retain, Setting, Source, Stages, load_recipe
from guie.run import PROJECT, Run

REFITTED = f"{PCA}, refitted"


class World:
    """The images, the recipe, and what the command has left for two seeds."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch):
        self.data, self.out = draw(folder / "data"), folder / "out"
        self.file = write_recipe(folder, world_recipe())
        self.words = ["--data-root", self.data, "--out", self.out]
        assert foreign(monkeypatch, self.file, *self.words, "--seeds", "3", "4", "--refit") == 0
        self.folder = self.out / "world/foreign"
        self.queries = pd.read_parquet(self.folder / "queries.parquet")

    def run(self, seed: int, domain: str) -> Run:
        recipe = load_recipe(str(self.file), [f"seed={seed}", f"data.foreign_domain={domain}"])
        return Run(recipe, self.data, self.folder / run_name(seed, domain))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    with pytest.MonkeyPatch.context() as patch:
        return World(tmp_path_factory.mktemp("world"), patch)


def train_and_val(world: World, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What door 02 has chosen, before any domain was left out."""
    folder = world.folder / f"seed{seed}/02_balanced"
    train, val = (pd.read_parquet(folder / f"{name}.parquet") for name in ("train", "val"))
    assert len(train) == len(val) == len(DOMAINS) * N_CLASSES * N_IMAGES / 2
    return train, val


def pixels(world: World, rows: pd.DataFrame) -> torch.Tensor:
    """The images as the backbone sees them, from the packed files."""
    images = PackedImages(world.folder / "seed3/03_packed")
    place = {name: i for i, name in enumerate(images.index["image_id"])}
    whole = (torch.from_numpy(images.read(place[name])).permute(2, 0, 1)[None] for name in rows["image_id"])
    model = world_recipe().model
    return normalise(torch.cat([to_square(image, 32) for image in whole]), model.mean, model.std)


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def precisions(vectors: np.ndarray, labels: list[str]) -> list[float]:
    """The contest's precision of each image by loops: all others are the index."""
    found = []
    for i, query in enumerate(vectors):
        order = sorted((j for j in range(len(vectors)) if j != i), key=lambda j: -float(query @ vectors[j]))
        m = min(5, labels.count(labels[i]) - 1)
        found.append(sum(labels[j] == labels[i] for j in order[:m]) / m)
    return found


def answers(world: World, seed: int, left_out: str, row: str) -> pd.DataFrame:
    own = world.queries
    own = own[(own["seed"] == seed) & (own["left_out"] == left_out) & (own["row"] == row)]
    return own.set_index("image_id")


def test_every_fold_asks_all_validation_images_and_says_which_were_never_seen(world: World):
    for seed in (3, 4):
        _, val = train_and_val(world, seed)
        for left_out in DOMAINS:
            for row in (PCA, REFITTED, LAST):
                own = answers(world, seed, left_out, row)
                assert sorted(own.index) == sorted(val["image_id"])
                assert set(own.loc[own["is_never"], "domain"]) == {left_out}
                assert set(own.loc[~own["is_never"], "domain"]) == set(DOMAINS) - {left_out}
    labels = [set(train_and_val(world, seed)[1]["source_label"]) for seed in (3, 4)]
    assert labels[0] != labels[1]  # another seed asks about other classes


@pytest.fixture(scope="module")
def features(world: World) -> dict[str, np.ndarray]:
    """The pretrained backbone's features of all images of seed 3, float64, by image."""
    rows = pd.concat(train_and_val(world, 3))
    backbone = load_backbone(world.run(3, "hats"), "pretrained", 32).eval()
    with torch.no_grad():
        found = backbone(pixels(world, rows)).double().numpy()
    return dict(zip(rows["image_id"], unit(found), strict=True))


def test_pca_is_fitted_without_the_domain_and_refitted_with_its_other_classes(
    world: World, features: dict[str, np.ndarray]
):
    train, val = train_and_val(world, 3)
    for left_out in DOMAINS:
        seen, given = (np.stack([features[name] for name in train["image_id"][is_meant]]) for is_meant in
                       (train["domain"] != left_out, train["domain"] == left_out))  # fmt: skip
        asked = np.stack([features[name] for name in val["image_id"]])
        labels = (val["source"] + "/" + val["source_label"]).tolist()
        projected = decomposition.PCA(8).fit(seen).transform(asked)
        expected = dict(zip(val["image_id"], precisions(unit(projected), labels), strict=True))
        found = answers(world, 3, left_out, PCA)["precision"]
        assert (np.abs(found - pd.Series(expected)[found.index]) < 1e-9).mean() > 0.97  # but where two are as near
        mean = (seen.mean(axis=0) + 3 * given.mean(axis=0)) / 4
        apart = seen.mean(axis=0) - given.mean(axis=0)
        covariance = (np.cov(seen.T) + 3 * np.cov(given.T)) / 4 + np.outer(apart, apart) * 3 / 16
        axes = np.linalg.svd(covariance)[0][:, :8]
        refitted = dict(zip(val["image_id"], precisions(unit((asked - mean) @ axes), labels), strict=True))
        found = answers(world, 3, left_out, REFITTED)["precision"]
        assert (np.abs(found - pd.Series(refitted)[found.index]) < 1e-9).mean() > 0.97
        assert expected != refitted


def test_last_row_is_that_of_the_weights_that_the_fold_trained(world: World):
    _, val = train_and_val(world, 3)
    run = world.run(3, "maps")
    backbone, neck = load_backbone(run, "s1_head", 32).eval(), load_neck(run, "s1_head")
    images = pixels(world, val)
    with torch.no_grad():
        vectors = neck((backbone(images) + backbone(images.flip(-1))) / 2).numpy()
    labels = (val["source"] + "/" + val["source_label"]).tolist()
    expected = pd.Series(dict(zip(val["image_id"], precisions(unit(vectors), labels), strict=True)))
    found = answers(world, 3, "maps", LAST)["precision"]
    assert (np.abs(found - expected[found.index]) < 1e-9).mean() > 0.97


def weights(run: Run) -> dict[str, np.ndarray]:
    return load_file(run.out / "04_head/s1_head/final.safetensors")


def test_what_is_asked_keeps_a_log(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    own = answers(world, 3, "hats", LAST)
    never = own.loc[own["is_never"], "precision"].mean()
    written = (world.folder / "seed3_without_hats/never_seen/log.txt").read_text()
    assert f"INFO guie.cli.folds: asked: mP@5 {never:.3f} never seen" in written
    with pytest.raises(MemoryError), folds._logged(tmp_path):
        logging.getLogger("guie.embed").info("an extraction begins")
        logging.getLogger("guie.embed").warning("no memory is left")
        raise MemoryError("of the machine")
    kept = (tmp_path / "log.txt").read_text()
    assert "an extraction begins" in kept and "Traceback" in kept and "MemoryError: of the machine" in kept
    told = capsys.readouterr().out
    assert "no memory is left" in told and "an extraction begins" not in told and "Traceback" not in told


def test_fold_is_trained_as_if_the_domain_were_not_on_the_disk(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The doors' own training of a recipe that knows two of the three data sets."""
    others = [domain for domain in DOMAINS if domain != "hats"]
    file = write_recipe(tmp_path, replace(world_recipe(others), name="two"))
    words = ["--data-root", str(draw(tmp_path / "data", others)), "--device", "cpu"]
    foreign_world.open_here((1, 2, 3, 4), file, tmp_path, words, is_forced=False)
    mine, plain = weights(world.run(3, "hats")), load_file(tmp_path / "two/04_head/s1_head/final.safetensors")
    assert mine.keys() == plain.keys()
    n_classes = [array.shape[0] for name, array in mine.items() if name.startswith("objective")]
    assert max(n_classes) == len(others) * N_CLASSES // 2
    for name, array in mine.items():
        np.testing.assert_allclose(array, plain[name], atol=2e-5, err_msg=name)
    marks = [json.loads(path.read_text())["metrics"] for path in (
        world.run(3, "hats").out / "04_head/done.json", tmp_path / "two/04_head/done.json")]  # fmt: skip
    assert marks[0]["mp5"] == marks[1]["mp5"]  # the validation of the stage has the same images, too


def test_what_the_domain_shows_changes_no_bit_of_the_training(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    data = draw(tmp_path / "poisoned", noise="hats")
    words = [world.file, "--data-root", data, "--out", tmp_path / "out", "--domains", "hats"]
    assert foreign(monkeypatch, *words) == 0
    other = Run(world.run(3, "hats").recipe, data, tmp_path / "out/world/foreign" / run_name(3, "hats"))
    mine, poisoned = weights(world.run(3, "hats")), weights(other)
    assert all(array.tobytes() == poisoned[name].tobytes() for name, array in mine.items())
    images = [PackedImages(run.folder(3)) for run in (world.run(3, "hats"), other)]
    pairs = [{of.index["image_id"][i]: of.read_bytes(i) for i in range(len(of))} for of in images]
    changed = {name.split("/")[0] for name, file in pairs[0].items() if file != pairs[1][name]}
    assert changed == {"hats"}  # the poison was there


def test_summary_and_scores_are_means_of_the_queries(world: World):
    """By loops over folds, seeds and domains; Student's interval by scipy."""
    scores = pd.read_csv(world.folder / "foreign.csv")
    assert len(scores) == 2 * 3 * 3 * 3
    summary = pd.read_csv(world.folder / "summary.csv", keep_default_na=False, na_values={"mean": ""})
    for row in (PCA, REFITTED, LAST):
        never, seen = [], []
        for seed in (3, 4):
            for domain in DOMAINS:
                of_domain = {}
                for left_out in DOMAINS:
                    own = answers(world, seed, left_out, row)
                    values = own.loc[own["domain"] == domain, "precision"]
                    of_domain[left_out] = values.mean()
                    line = scores[(scores["seed"] == seed) & (scores["left_out"] == left_out)
                                  & (scores["domain"] == domain) & (scores["row"] == row)]  # fmt: skip
                    assert line["mp5"].item() == pytest.approx(values.mean(), abs=1e-6)
                    assert line["side"].item() == ("never seen" if left_out == domain else "seen")
                    assert line["n_classes"].item() == N_CLASSES // 2
                never.append(of_domain.pop(domain))
                seen.append(np.mean(list(of_domain.values())))
        own = summary[(summary["row"] == row) & (summary["domain"] == "")].set_index("side")
        assert own["mean"].astype(float).to_dict() == pytest.approx(
            {"seen": np.mean(seen), "never seen": np.mean(never), "difference": np.mean(never) - np.mean(seen)}
        )
        of_domains = [np.mean([side[:3], side[3:]], axis=0) for side in (never, seen)]  # the means over the seeds
        test = stats.ttest_rel(*of_domains).confidence_interval(0.95)
        line = own.loc["difference"]
        assert (float(line["fold_low"]), float(line["fold_high"])) == pytest.approx((test.low, test.high), abs=1e-9)
        assert int(line["n_pairs"]) == 6
        assert float(line["class_low"]) <= float(line["mean"]) <= float(line["class_high"])
    gained = pd.read_csv(world.folder / "refits.csv").set_index("side")
    means = {row: summary[(summary["row"] == row) & (summary["domain"] == "")].set_index("side")["mean"].astype(float)
             for row in (PCA, REFITTED)}  # fmt: skip
    for side in ("seen", "never seen"):
        assert gained.loc[side, "mean"] == pytest.approx(means[REFITTED][side] - means[PCA][side], abs=1e-9)
    assert (world.folder / "foreign.svg").read_text().startswith("<svg")


def test_finished_folds_are_not_made_again_and_images_are_packed_once(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    before = {path: path.stat().st_mtime_ns for path in world.folder.glob("seed*/*/done.json")}
    table = (world.folder / "foreign.csv").read_bytes()
    left = world.folder / "seed3_without_hats/cache/features.npy"  # as a kill after the answers leaves it
    left.parent.mkdir()
    left.write_bytes(b"gigabytes")
    assert len(before) == 2 * (3 + 3 * 7)  # the images of two seeds; six folds of six doors and their answers
    assert foreign(monkeypatch, world.file, *world.words, "--seeds", "3", "4", "--refit") == 0
    told = capsys.readouterr().out
    assert "6 of 6 folds are finished already" in told and "fold 1 of" not in told
    assert {path: path.stat().st_mtime_ns for path in world.folder.glob("seed*/*/done.json")} == before
    assert (world.folder / "foreign.csv").read_bytes() == table
    packed = [json.loads((world.folder / name / "03_packed/done.json").read_text()) for name in
              ("seed3", "seed3_without_cups", "seed3_without_maps")]  # fmt: skip
    assert packed[0]["outputs"] == packed[1]["outputs"] == packed[2]["outputs"]
    assert not [*world.folder.glob("seed*/cache")]


def test_changed_image_makes_its_folds_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Of the fold that is finished, too: its own copy of the packed images is older than those of its seed."""
    data = draw(tmp_path / "data")
    words = [write_recipe(tmp_path, world_recipe()), "--data-root", data, "--out", tmp_path, "--domains", "hats"]
    assert foreign(monkeypatch, *words) == 0
    fold = tmp_path / "world/foreign/seed3_without_hats"
    before = load_file(fold / "04_head/s1_head/final.safetensors")
    train = pd.read_parquet(tmp_path / "world/foreign/seed3/02_balanced/train.parquet")
    changed = train["path"][train["domain"] == "maps"].iloc[0]
    Image.fromarray(picture(999, 0)).save(data / changed)
    assert foreign(monkeypatch, *words) == 0
    after = load_file(fold / "04_head/s1_head/final.safetensors")
    assert any(not np.array_equal(array, after[name]) for name, array in before.items())
    packed = [PackedImages(tmp_path / "world/foreign" / name / "03_packed") for name in ("seed3", fold.name)]
    place = packed[0].index["image_id"].tolist().index(train["image_id"][train["path"] == changed].iloc[0])
    assert packed[0].read_bytes(place) == packed[1].read_bytes(place)


def test_interrupted_command_goes_on_with_the_same_result(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """In the second fold, between its training and its answers."""
    words = [world.file, "--data-root", world.data, "--out", tmp_path, "--refit", "--domains", "cups", "hats"]
    real, asked = folds._ask, []

    def interrupted(*given: object) -> None:
        asked.append(given)
        if len(asked) == 2:
            raise KeyboardInterrupt
        real(*given)

    with monkeypatch.context() as patch:
        patch.setattr(folds, "_ask", interrupted)
        assert foreign(patch, *words) == 130
    assert "interrupted; the same command goes on" in capsys.readouterr().err
    first = tmp_path / "world/foreign/seed3_without_cups"
    second = tmp_path / "world/foreign/seed3_without_hats"
    assert (second / "06_highres/done.json").exists() and not (second / "never_seen/done.json").exists()
    before = (first / "never_seen/done.json").stat().st_mtime_ns, (second / "04_head/done.json").stat().st_mtime_ns
    assert foreign(monkeypatch, *words) == 0
    assert "1 of 2 folds are finished already" in capsys.readouterr().out
    after = (first / "never_seen/done.json").stat().st_mtime_ns, (second / "04_head/done.json").stat().st_mtime_ns
    assert before == after
    mine = pd.read_csv(tmp_path / "world/foreign/foreign.csv")
    whole = pd.read_csv(world.folder / "foreign.csv")
    whole = whole[(whole["seed"] == 3) & (whole["left_out"] != "maps")]
    pd.testing.assert_frame_equal(mine, whole.reset_index(drop=True))


def test_other_recipe_is_compared_on_the_same_queries(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """The gain by loops; and images are taken over from the first one's."""
    more = ["--set", "stages.s1_head.optim.n_epochs=1", "--name", "short", "--against", world.out / "world"]
    assert foreign(monkeypatch, world.file, *world.words, *more) == 0
    told = capsys.readouterr().out
    assert "mP@5 gained over world on the same queries" in told and "last row" in told
    assert max(map(len, told.splitlines())) <= 80 + len(str(world.out))
    packed = [(world.out / name / "foreign/seed3/03_packed/done.json").read_text() for name in ("short", "world")]
    assert json.loads(packed[0])["seconds"] == json.loads(packed[1])["seconds"]  # taken over, mark and all
    found = pd.read_csv(world.out / "short/foreign/compared.csv")
    mine = pd.read_parquet(world.out / "short/foreign/queries.parquet")
    gains = []
    for domain in DOMAINS:
        new = mine[(mine["left_out"] == domain) & (mine["domain"] == domain) & (mine["row"] == LAST)]
        old = answers(world, 3, domain, LAST)
        gains.append(new["precision"].mean() - old.loc[old["domain"] == domain, "precision"].mean())
    line = found[(found["row"] == "last row") & (found["side"] == "never seen")].iloc[0]
    assert (line["mean"], line["n_pairs"], line["against"]) == (pytest.approx(np.mean(gains)), 3, "world")
    interval = stats.ttest_1samp(gains, 0).confidence_interval(0.95)
    assert (line["fold_low"], line["fold_high"]) == pytest.approx((interval.low, interval.high), abs=1e-9)
    unchanged = found[(found["row"] == PCA)]
    assert (unchanged["mean"] == 0).all() and len(unchanged) == 2  # the PCA is no matter of the epochs


def refusal(capsys: pytest.CaptureFixture[str], status: int) -> str:
    told = capsys.readouterr().err
    assert status == 2 and told.startswith("error: ") and told.count("\n") == 1
    return told


def test_folds_of_other_settings_are_not_replaced_unasked(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    before = (world.run(3, "cups").out / "04_head/done.json").read_bytes()
    lr = ("--set", "stages.s1_head.optim.lr=0.5")
    told = refusal(capsys, foreign(monkeypatch, world.file, *world.words, *lr))
    assert "stages.s1_head.optim.lr 0.01, not 0.5" in told and "--name" in told and "--replace" in told
    assert (world.run(3, "cups").out / "04_head/done.json").read_bytes() == before
    assert "lr=0.01" in (world.folder / "recipe.py").read_text()  # the doors' file, too


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        (("--domains", "hat"), "--domains names 'hat', of which there is no source; there are cups, hats, maps"),
        (("--seeds", "3", "-1"), "--seeds -1: a seed is 0 or more"),
        (("--against", "nowhere"), "--against nowhere: no foreign/queries.parquet there"),
        (("--set", "data.val_by=image"), "--set data.val_by=class"),
        (("--set", "data.foreign_domain=hats"), "name the domains with --domains"),
        (("--set", f"embed.settings.{PCA}.pca_dim=0", "--refit"), "no setting of recipe world ends in a PCA"),
        (
            ("--set", f"embed.settings.{PCA}.pca_dim=16", "--refit", "1"),
            "domain cups, seed 3: a refit needs 17 images of its other classes, there are 16",
        ),
        (("--set", "data.val_class_share=0.1"), "domain cups, seed 3: 1 class of two or more images"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    more: tuple[str, ...], complaint: str,
):  # fmt: skip
    words = [world.file, "--data-root", world.data, "--out", tmp_path]
    assert complaint in refusal(capsys, foreign(monkeypatch, *words, *more))
    assert not [*tmp_path.glob("*/*/*/04_head")]


@pytest.mark.parametrize("more", [("--domains", "hat"), ("--seeds", "-1"), ("--recipe", "tiny")])
def test_option_that_cannot_be_is_told_before_an_image_is_read(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    more: tuple[str, ...],
):  # fmt: skip
    file, rest = (more[1], ()) if more[0] == "--recipe" else (world.file, more)
    told = refusal(capsys, foreign(monkeypatch, file, "--data-root", world.data, "--out", tmp_path, *rest))
    assert file != "tiny" or told.startswith(f"error: --data-root {world.data}: recipe tiny draws its own images")
    assert not [*tmp_path.glob("*/*/seed*")]


def test_kinds_whose_images_have_domains_of_their_own_are_known():
    sources = PROJECT / "src/guie/data/sources"
    listing = {path.stem for path in sources.glob("[a-z]*.py") if re.search(r"\bdomain\b", path.read_text())}
    assert set(OWN_DOMAINS) <= listing
    assert listing - set(OWN_DOMAINS) <= {"gldv2_index"}  # in the name of its licence


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ("sources", "stages.s1_head: no training image is left after balancing in maps"),
        ("generic", "stages.s1_head.retain.generic names maps, of which no image is left"),
        ("pca_neck", "has_pca_neck needs more training images than the 40 of neck.dim; there are 32"),
        ("fit_on", f"embed.settings.{PCA} is fitted on maps alone"),
        ("pca_dim", f"embed.settings.{PCA}.pca_dim is 33, which needs more than 33 training images; the pack has 32"),
    ],
)
def test_fold_that_a_door_would_refuse_is_told_before_any_training(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    change: str, complaint: str,
):  # fmt: skip
    """The recipe itself is sound: only without the domain too little is left of what it names."""
    recipe = world_recipe()
    stage, (first, last) = recipe.stages.head[0], recipe.embed.settings
    changes: dict[str, dict[str, Any]] = {
        "sources": {"stages__head": (replace(stage, sources=("maps",)),)},
        "generic": {
            "stages__head": (replace(stage, trains="all", retain=Retain(features_weight=1.0, generic=("maps",))),)
        },
        "pca_neck": {"stages__head": (changed(stage, neck__dim=40, start__has_pca_neck=True),), "embed__dim": 40},
        "fit_on": {"embed__settings": (replace(first, fit_on=(FitImages(("maps",)),)), last)},
        "pca_dim": {"embed__settings": (replace(first, pca_dim=33), last)},
    }
    file = write_recipe(tmp_path, changed(recipe, **changes[change]).validate())
    told = refusal(capsys, foreign(monkeypatch, file, "--data-root", world.data, "--out", tmp_path))
    assert complaint in told and "seed 3, without " in told and "(data.foreign_domain leaves '" in told
    assert told.rstrip().endswith(" out of --domains")
    assert not [*tmp_path.glob("world/foreign/seed*/04_head")]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"seeds": 5}, "world and other have no fold in common: seed 3 without cups, "),
        ({"data__val_class_share": 0.75}, r"world and other are asked other queries (24 of 72 are of one alone)"),
    ],
)
def test_run_that_does_not_compare_is_told_before_any_training(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    change: dict[str, float], complaint: str,
):  # fmt: skip
    seed = str(change.pop("seeds", 3))
    file = write_recipe(tmp_path, changed(world_recipe(), name="other", **change))
    words = ["--data-root", world.data, "--out", tmp_path, "--seeds", seed, "--against", world.out / "world"]
    assert complaint in refusal(capsys, foreign(monkeypatch, file, *words))
    assert not [*tmp_path.glob("other/foreign/seed*/04_head")]


def test_what_will_be_asked_is_what_was_asked(world: World):
    """Of all folds of the world: a check before the training agrees with the comparison after it."""
    for seed in (3, 4):
        found = to_be_asked(PackedImages(world.folder / f"seed{seed}/03_packed").index).set_index("image_id")
        for domain in DOMAINS:
            own = answers(world, seed, domain, LAST)
            assert found.loc[own.index, "class"].equals(own["class"]) and len(found) == len(own)
            assert found.loc[own.index, "is_query"].equals(own["precision"].notna().rename("is_query"))


def test_what_will_be_asked_by_hand():
    """A class of one image asks nothing, though its image is searched; training images are none of it."""
    rows = [
        ("a1", "s", "x", "hats", "val", 1),
        ("a2", "s", "x", "hats", "val", 1),
        ("b1", "t", "x", "maps", "val", 2),
        ("c1", "s", "z", "hats", "train", 3),
        ("c2", "s", "z", "hats", "train", 3),
    ]
    index = pd.DataFrame(rows, columns=["image_id", "source", "source_label", "domain", "split", "class_id"])
    assert to_be_asked(index).to_dict("list") == {
        "image_id": ["a1", "a2", "b1"],
        "class": ["s/x", "s/x", "t/x"],
        "domain": ["hats", "hats", "maps"],
        "is_query": [True, True, False],
    }


def test_remedy_for_absent_folds_says_how_they_are_made(tmp_path: Path):
    """With or without --head-only, as the folds that they are compared with; and which folds are there."""
    (tmp_path / "run/foreign").mkdir(parents=True)
    (tmp_path / "run/foreign/queries.parquet").touch()
    head, whole = (tmp_path / "mine" / name for name in ("foreign_head", "foreign"))
    with pytest.raises(FileNotFoundError) as error:
        read_against(tmp_path / "run", head)
    told = str(error.value)
    assert "no foreign_head/queries.parquet there; first finish guie foreign with --head-only for that run" in told
    assert told.endswith(f", or name {tmp_path / 'run/foreign'} to compare with those folds")
    with pytest.raises(FileNotFoundError, match=r"first finish guie foreign without --head-only for that run$"):
        read_against(tmp_path / "none", whole)


def test_against_itself_is_refused(world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    told = refusal(capsys, foreign(monkeypatch, world.file, *world.words, "--against", world.out / "world"))
    assert "is this run itself" in told


INDEX = pd.DataFrame(
    [("a", split, i, n) for i, (split, n) in enumerate([("train", 2), ("train", 1), ("val", 2), ("val", 3)])]
    + [("b", split, 10 + i, n) for i, (split, n) in enumerate([("train", 5), ("val", 2), ("val", 1), ("val", 2)])],
    columns=["domain", "split", "class_id", "n"],
)


# A domain that can be trained on, and whose validation classes have an image each.
SINGLE = pd.DataFrame(
    [("b", "train", 10, 5), ("b", "train", 11, 5), ("b", "val", 12, 1), ("b", "val", 13, 1)], columns=INDEX.columns
)


def index_of(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.loc[rows.index.repeat(rows["n"])].reset_index(drop=True)


@pytest.mark.parametrize(
    ("rows", "chosen", "complaint"),
    [
        (INDEX[INDEX["domain"] == "a"], [], "are of one domain (a)"),
        (INDEX, ["c"], "--domains names 'c', of which there is no image; there are a, b"),
        (
            INDEX[INDEX["class_id"] != 3],
            [],
            "domain a, seed 7: 1 class of two or more images can be asked about",
        ),
        (INDEX, ["a"], "domain a, seed 7: the others have 1 classes to train on, 2 are needed"),
        (
            pd.concat([INDEX[INDEX["domain"] == "a"], SINGLE], ignore_index=True),
            ["a"],
            "domain a, seed 7: the others have no class of two or more images to validate the training with",
        ),
    ],
)
def test_domains_that_cannot_be_left_out(rows: pd.DataFrame, chosen: list[str], complaint: str):
    with pytest.raises(ValueError) as error:
        check_domains(index_of(rows), chosen, 0, 7)
    assert complaint in str(error.value)


def test_domain_that_only_distracts_is_not_left_out_unasked():
    distractors = pd.DataFrame([("c", "val", 50 + i, 1) for i in range(4)], columns=INDEX.columns)
    more = pd.DataFrame([("b", "train", 20, 3)], columns=INDEX.columns)
    index = index_of(pd.concat([INDEX, more, distractors], ignore_index=True))
    assert check_domains(index, [], 0, 7) == ["a", "b"]
    with pytest.raises(ValueError, match="domain c, seed 7: 0 class"):
        check_domains(index, ["c"], 0, 7)
    with pytest.raises(ValueError, match="a refit needs 2 images of its other classes, there are 1"):
        one = INDEX[(INDEX["domain"] == "b") | (INDEX["split"] == "val") | (INDEX["class_id"] == 1)]
        check_domains(index_of(pd.concat([one, more])), ["a"], 2, 7)


def test_refit_counts_the_images_that_it_will_be_given():
    """Of the foreign domain three training images; its forty without labels are hidden from a refit."""
    more = pd.DataFrame([("b", "train", 20, 3), ("a", "unlabelled", -1, 40)], columns=INDEX.columns)
    index = index_of(pd.concat([INDEX, more], ignore_index=True))
    assert check_domains(index, ["a"], 3, 7) == ["a"]
    with pytest.raises(ValueError, match=r"needs 4 images of its other classes, there are 3 .* below 1 needs 2"):
        check_domains(index, ["a"], 4, 7)


def test_refit_that_counts_alone_needs_more_images_than_dimensions():
    rng = np.random.default_rng(0)
    rows = {"given": rng.normal(size=(8, 12)).astype(np.float32), "val": rng.normal(size=(5, 12)).astype(np.float32)}
    setting = Setting("s", (Member("pretrained", 32, output="feature"),), pca_dim=8)
    embedded = Embedded({}, moments=moments_of(rng.normal(size=(40, 12))))

    def refitted(share: float) -> np.ndarray:
        return _refitted(cast(Run, None), setting, lambda member, view, split: rows[split], embedded, share)

    assert refitted(0.99).shape == (5, 8)
    with pytest.raises(ValueError, match="PCA to 8 dimensions needs more than 8 images"):
        refitted(1.0)


def test_pack_without_a_domain(world: World):
    whole = PackedImages(world.folder / "seed3/03_packed")
    without = PackedImages(world.folder / "seed3/03_packed", "hats")
    assert without.index["image_id"].equals(whole.index["image_id"])
    renamed = {("hats", "train"): GIVEN, ("hats", "val"): NEVER}
    expected = [renamed.get(pair, pair[1]) for pair in zip(whole.index["domain"], whole.index["split"], strict=True)]
    assert without.index["split"].tolist() == expected
    with pytest.raises(ValueError, match="of which there is no image; did you mean 'hats'"):
        PackedImages(world.folder / "seed3/03_packed", "hat")


def test_stacked_rows_are_those_of_its_parts():
    parts = [np.arange(6.0).reshape(3, 2), np.arange(8.0).reshape(4, 2) + 100]
    stacked, whole = Stacked(parts), np.concatenate(parts)
    assert len(stacked) == 7
    for first in range(8):
        for last in range(first, 9):
            assert np.array_equal(stacked[first:last], whole[first:last])
    assert np.array_equal(stacked[:], whole)
    seen = []
    features = asked_features(lambda member, view, split: seen.append(split) or parts[split == NEVER])
    assert np.array_equal(features(Member("s1", 32), "plain", "val")[:], whole) and seen == ["val", NEVER]
    assert np.array_equal(features(Member("s1", 32), "plain", "train"), parts[0])


def test_head_only_keeps_what_the_first_phase_can_answer():
    minibench = head_only(load_recipe("minibench"))
    assert [row.name for row in minibench.stages] == ["s1_head_224"]
    names = [row.name for row in minibench.embed.settings]
    assert names == ["off the shelf, 1280-d", "off the shelf, PCA-64", "head-only 64-d"]
    recipe = world_recipe()
    with pytest.raises(ValueError, match=r"has no stage in stages\.head"):
        head_only(replace(recipe, stages=Stages(backbone=recipe.stages.head)))


def test_unlabelled_images_that_every_fold_sees_are_told():
    """Of six sources without labels: five in use, of which two have a domain that is never left out."""
    recipe = world_recipe()
    names = ("in_stage", "generic", "in_fit", "unused", "of_hats", "of_all")
    domains = ("any", "hats", "photos", "any", "hats", "maps")
    more = tuple(Source(name, "unlabelled", name, domain) for name, domain in zip(names, domains, strict=True))
    stage = replace(recipe.stages.head[0], sources=("cups", "in_stage", "of_all"), retain=Retain(generic=("generic",)))
    fit = (FitImages(), FitImages(("in_fit", "of_hats")))
    recipe = replace(
        recipe,
        data=replace(recipe.data, sources=(*recipe.data.sources, *more)),
        stages=Stages(head=(stage,)),
        embed=replace(recipe.embed, fit_on=fit),
    )
    assert unlabelled_in_all(recipe) == ["in_stage", "in_fit"]
    assert unlabelled_in_all(world_recipe()) == []


def test_names_of_folds_are_folders_and_differ():
    names = [run_name(0, domain) for domain in ("toys", "toys & games", "toys_&_games", "")]
    assert names[0] == "seed0_without_toys" and names[3] == "seed0" and len(set(names)) == 4
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") for name in names)


KILLED = """
import os, signal, sys
import pytest
from foreign_world import foreign
from guie.cli import folds
real, asked = folds._ask, []
def killed(*given):
    asked.append(given)
    if len(asked) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    real(*given)
folds._ask = killed
foreign(pytest.MonkeyPatch(), *sys.argv[1:])
"""


@pytest.mark.full
def test_killed_command_goes_on(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A real process, killed when the second fold is trained; and the doors of the last fold in processes of theirs."""
    words = [world.file, "--data-root", world.data, "--out", tmp_path, "--refit", "--domains", "cups", "hats"]
    paths = os.pathsep.join([str(PROJECT / "tests"), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-c", KILLED, *map(str, words)]
    died = subprocess.run(command, env=os.environ | {"PYTHONPATH": paths}, check=False)
    assert died.returncode == -signal.SIGKILL
    marks = [tmp_path / f"world/foreign/seed3_without_{name}/never_seen/done.json" for name in ("cups", "hats")]
    assert [mark.exists() for mark in marks] == [True, False]
    before = marks[0].stat().st_mtime_ns
    assert main(["foreign", *map(str, words), "--device", "cpu"]) == 0
    assert marks[0].stat().st_mtime_ns == before and marks[1].exists()
    mine, whole = pd.read_csv(tmp_path / "world/foreign/foreign.csv"), pd.read_csv(world.folder / "foreign.csv")
    whole = whole[(whole["seed"] == 3) & (whole["left_out"] != "maps")]
    pd.testing.assert_frame_equal(mine, whole.reset_index(drop=True))


def test_refit_of_settings_that_head_only_leaves_out_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["foreign", "tiny", "--head-only", "--refit", "--out", str(tmp_path)]) == 2
    told = capsys.readouterr().err
    assert "--refit: with --head-only no setting of recipe tiny is left that ends in a PCA" in told
