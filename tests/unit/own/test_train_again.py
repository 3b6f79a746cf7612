"""What `guie train` does around its doors: names of photos, other photos under one name, the setting that is exported.

The doors themselves are replaced, but for door 01's functions."""

import argparse
import json
import os
import shlex
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from own_photos import draw

import guie.cli.train as cli
from guie import versions
from guie.cli.main import main
from guie.data.build import builder, list_source, split_problems
from guie.data.names import name_on_disk
from guie.data.sources.csv_list import LIST
from guie.dependencies import input_digests, read_values, settings_digest
from guie.done import _status
from guie.embed.verdict import read_verdict
from guie.evaluate.pairs import Paired
from guie.own import training
from guie.own.linked import Origin, link_photos, listed
from guie.own.photos import Photos, read_photos
from guie.own.place import PHOTOS
from guie.own.recipes import REDUCED, TRAINED, Wish, exported_recipe
from guie.own.training import can_hold_back, train
from guie.recipe import Recipe, load_recipe
from guie.run import FOLDERS, Run
from guie.settings.names import read_by_row

BLUE = (40, 60, 200)
MANY = {f"c{i:02}": 4 for i in range(64)}
FEW = {"a": 100, "b": 100}


def photos(root: Path, counts: dict[str, int]) -> Photos:
    root.mkdir(parents=True, exist_ok=True)
    rows = [(f"{label}/{i}.jpg", label) for label, n in counts.items() for i in range(n)]
    table = pd.DataFrame(rows, columns=["path", "label"]).sort_values("path", ignore_index=True)
    return Photos(root, table, pd.DataFrame(columns=["path", "reason"]), "folders")


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """No door opens; the returned function sets by how much the trained setting is better."""
    monkeypatch.setattr(training, "open_doors", lambda *arguments, **options: None)

    def set_to(difference: float) -> None:
        found = Paired(0.5, 0.5 + difference, difference - 0.01, difference + 0.01, 0.001, 32)
        monkeypatch.setattr(training, "_compared", lambda folder: found)

    return set_to


def test_odd_names_reach_the_manifest_as_their_own_files(tmp_path: Path):
    """A byte that is not UTF-8, and a name that looks like its escaped form, are two files with labels of their own."""
    root = tmp_path / "mine"
    names = {"a%41b/red%20shoe.jpg": 1, "plain/caf\udce9.jpg": 2, "other/caf%E9.jpg": 3, "plain/a.jpg": 4}
    for name, seed in names.items():
        draw(root / os.fsencode(name).decode("utf-8", "surrogateescape"), BLUE, seed)
    link_photos(read_photos(root), tmp_path / "run", Origin(root))
    source = exported_recipe(Wish("mine"), TRAINED).data.sources[0]
    good, problems = split_problems(list_source(source, builder(source.kind), tmp_path / "run"), tmp_path / "run")
    assert problems.empty
    files = {name_on_disk(path).removeprefix("photos/all/"): name_on_disk(label) for path, label in
             zip(good["path"], good["source_label"], strict=True)}  # fmt: skip
    assert files == {name: name.split("/")[0] for name in names}


def run_of_list(tmp_path: Path) -> tuple[Run, Path]:
    """A run on one listed photo, whose root holds other files."""
    photo = draw(tmp_path / "disk/photos/a.jpg", BLUE, 1)
    (tmp_path / "disk/list.csv").write_text("path,label\nphotos/a.jpg,x\n")
    link_photos(read_photos(tmp_path / "disk/list.csv"), tmp_path / "run", Origin(tmp_path / "disk/list.csv"))
    recipe = exported_recipe(Wish("mine"), TRAINED)
    return Run(recipe, tmp_path / "run", tmp_path / "run"), photo


def test_of_a_list_only_listed_files_count(tmp_path: Path):
    run, photo = run_of_list(tmp_path)

    def raw() -> str:
        return input_digests(run, 1, argparse.Namespace())["raw"]

    first = raw()
    (tmp_path / "disk/log.txt").write_text("another process writes here")
    draw(tmp_path / "disk/photos/unlisted.jpg", BLUE, 2)
    assert raw() == first
    draw(photo, BLUE, 3)
    second = raw()
    photo.unlink()
    third = raw()
    (tmp_path / "run/photos/groups.csv").write_text("label,group\nx,g\n")
    assert len({first, second, third, raw()}) == 4


def test_file_that_vanishes_while_a_folder_is_read_has_no_state(tmp_path: Path):
    (tmp_path / "gone").touch()
    (tmp_path / "leads nowhere").symlink_to(tmp_path / "none")
    with os.scandir(tmp_path) as found:
        entries = {entry.name: entry for entry in found}
    (tmp_path / "gone").unlink()
    assert _status(entries["gone"]) is None
    assert _status(entries["leads nowhere"]) is not None


@pytest.mark.parametrize(("counts", "is_unseen"), [(MANY, True), (FEW, False)])
def test_exported_setting_follows_the_scores_of_each_start(
    tmp_path: Path, scored: Callable[[float], None], counts: dict[str, int], is_unseen: bool
):
    run = tmp_path / "out/mine"
    for difference, expected in ((-0.1, REDUCED), (0.1, TRAINED), (0.0, REDUCED), (0.2, TRAINED)):
        scored(difference)
        result = train(photos(tmp_path / "mine", counts), Wish("mine"), tmp_path / "out")
        recipe = load_recipe(str(run / "recipe.py"))
        assert (result.exported, recipe.embed.final.name, result.is_unseen) == (expected, expected, is_unseen)
        verdict = read_verdict(run, recipe)
        assert verdict is not None and (verdict.n_classes, verdict.is_unseen) == (32, is_unseen)
        assert verdict.mp5 == pytest.approx(max(0.5, 0.5 + difference))
        assert f"{difference:+.3f}" in verdict.sentence
        assert read_verdict(run, replace(recipe, seed=5)) is None  # an edited recipe is another run


@pytest.mark.parametrize("is_forced", [False, True])
def test_run_of_another_recipe_is_not_replaced(tmp_path: Path, scored: Callable[[float], None], is_forced: bool):
    scored(0.1)
    (tmp_path / "out/demo").mkdir(parents=True)
    (tmp_path / "out/demo/recipe.json").write_text("{}")
    with pytest.raises(ValueError, match=r"holds the run of another recipe.*--name"):
        train(photos(tmp_path / "demo", FEW), Wish("demo"), tmp_path / "out", is_forced=is_forced)
    assert not (tmp_path / "out/demo/photos").exists()


def test_other_labels_and_other_lists_under_one_name_are_refused(tmp_path: Path, scored: Callable[[float], None]):
    scored(0.1)
    mine = photos(tmp_path / "mine", FEW)
    first = Origin(tmp_path / "mine/a.csv")
    train(mine, Wish("mine"), tmp_path / "out", origin=first)
    train(mine, Wish("mine"), tmp_path / "out", origin=first)
    for other, said in (
        (replace(first, label_from="(x)"), r"is of .*a\.csv, not of .*a\.csv with --label-from '\(x\)'; .*--name"),
        (Origin(tmp_path / "mine/b.csv"), r"is of .*a\.csv, not of .*b\.csv; .*--name"),
    ):
        with pytest.raises(ValueError, match=said):
            train(mine, Wish("mine"), tmp_path / "out", origin=other)
    train(mine, Wish("mine"), tmp_path / "out", origin=Origin(tmp_path / "mine/b.csv"), is_forced=True)
    with pytest.raises(ValueError, match=r"is of .*b\.csv"):
        train(mine, Wish("mine"), tmp_path / "out", origin=first)


def mark(folder: Path, number: int, recipe: Recipe, inputs: dict[str, str] | None = None) -> None:
    """Marks a door as finished by this recipe."""
    write_mark(folder / FOLDERS[number], settings_digest(recipe, number), read_values(recipe, number), inputs)


def write_mark(folder: Path, settings: str, read: dict[str, object], inputs: dict[str, str] | None = None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    made = {"settings": settings, "read": read, "seconds": 1.0, "inputs": inputs or {}, "outputs": {}, "metrics": {}}
    (folder / "done.json").write_text(json.dumps(made))


@pytest.mark.parametrize("has_file", [True, False])
@pytest.mark.parametrize("number", [3, 4, 7])
def test_results_of_set_and_replace_are_kept_whatever_recipe_lies_there(
    tmp_path: Path, scored: Callable[[float], None], number: int, has_file: bool
):
    """`./run.sh --recipe recipe.py --set ... --replace` leaves recipe.py as it is."""
    scored(0.1)
    mine, run = photos(tmp_path / "mine", FEW), tmp_path / "out/mine"
    train(mine, Wish("mine"), tmp_path / "out")
    own = load_recipe(str(run / "recipe.py"))
    for door in range(1, 9):
        mark(run, door, own)
    train(mine, Wish("mine"), tmp_path / "out")  # its own results are no others
    scored(-0.1)
    train(mine, Wish("mine"), tmp_path / "out")  # also where the other setting is exported now
    changed = {3: "data.jpeg_quality=70", 4: "seed=1", 7: "embed.storage=bfloat16"}[number]
    mark(run, number, load_recipe(str(run / "recipe.py"), [changed]))
    if not has_file:
        (run / "recipe.py").unlink()
    with pytest.raises(ValueError, match=rf"{FOLDERS[number]}: {changed.partition('=')[0]} .*; .*--name, or --force"):
        train(mine, Wish("mine"), tmp_path / "out")
    train(mine, Wish("mine"), tmp_path / "out", is_forced=True)


def test_results_of_the_held_back_half_and_an_edited_recipe_are_kept(tmp_path: Path, scored: Callable[[float], None]):
    scored(0.1)
    mine, run = photos(tmp_path / "mine", MANY), tmp_path / "out/mine"
    train(mine, Wish("mine"), tmp_path / "out")
    half = load_recipe(str(run / "unseen.py"))
    mark(run / "unseen", 4, half)
    train(mine, Wish("mine"), tmp_path / "out")
    mark(run / "unseen", 4, replace(half, seed=1))
    with pytest.raises(ValueError, match=r"other settings, 04_head: .*seed 1, not 0"):
        train(mine, Wish("mine"), tmp_path / "out")
    mark(run / "unseen", 4, half)
    mark(run, 4, load_recipe(str(run / "recipe.py")))
    edited = (run / "recipe.py").read_text().replace("n_epochs=30", "n_epochs=31")
    (run / "recipe.py").write_text(edited)
    with pytest.raises(ValueError, match=r"recipe.py: stages.s1_head.optim.n_epochs 31, not 30; .*--name, or --force"):
        train(mine, Wish("mine"), tmp_path / "out")
    assert (run / "recipe.py").read_text() == edited


def test_photos_that_changed_are_told_once_something_has_finished(
    tmp_path: Path, scored: Callable[[float], None], capsys: pytest.CaptureFixture[str]
):
    scored(0.1)
    root, run = tmp_path / "mine", tmp_path / "out/mine"

    def told(counts: dict[str, int], is_forced: bool = False) -> str:
        train(photos(root, counts), Wish("mine"), tmp_path / "out", is_forced=is_forced)
        lines = [line for line in capsys.readouterr().out.splitlines() if "changed" in line]
        recipe = load_recipe(str(run / "recipe.py"))
        mark(run, 1, recipe, input_digests(Run(recipe, run, run), 1, argparse.Namespace()))
        return "\n".join(lines)

    assert told(FEW) == told(FEW) == ""
    begin, again = "The photos changed since door 01 read them", "what depends on them is made again."
    assert told(FEW | {"a": 101}) == f"{begin} (1 new): {again}"
    assert told({"a": 98, "b": 102}) == f"{begin} (2 new, 3 gone): {again}"
    draw(root / "a/0.jpg", BLUE, 1)
    assert told({"a": 98, "b": 102}) == f"{begin}: {again}"
    assert told(FEW, is_forced=True) == ""  # all is made again


def test_stage_that_only_the_other_recipe_has_is_kept(tmp_path: Path, scored: Callable[[float], None]):
    """`guie train --backbone` was killed in door 05, and starts again without --backbone."""
    scored(0.1)
    mine = photos(tmp_path / "mine", FEW)
    other = exported_recipe(Wish("mine", has_backbone=True), TRAINED)
    read = read_by_row("s2_backbone")
    settings = other.digest(*read, **versions.OF_WEIGHTS)
    noted = other.values_of(read) | {versions.CODE: versions.OF_WEIGHTS}
    write_mark(tmp_path / "out/mine" / FOLDERS[5] / "s2_backbone", settings, noted)
    with pytest.raises(ValueError, match=r"s2_backbone: stages\.s2_backbone\.\S+ .*, not none .*--name, or --force"):
        train(mine, Wish("mine"), tmp_path / "out")
    train(mine, Wish("mine", has_backbone=True), tmp_path / "out")


def test_run_among_the_photos_is_refused(tmp_path: Path, scored: Callable[[float], None]):
    scored(0.1)
    with pytest.raises(ValueError, match="among the photos"):
        train(photos(tmp_path / "mine", FEW), Wish("mine"), tmp_path)
    assert list((tmp_path / "mine").iterdir()) == []


def test_second_pass_of_door_07_is_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Where the tower as it is wins, the setting that is exported changes after the scores."""
    found = Paired(0.5, 0.4, -0.2, -0.1, 0.001, 32)
    monkeypatch.setattr(training, "_compared", lambda folder: found)
    monkeypatch.setattr(training.subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 0, ""))
    train(photos(tmp_path / "mine", FEW), Wish("mine"), tmp_path / "out")
    told = [line.split("  ")[1] for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    assert told.count("scores") == 1 and told[-3:] == ["scores again, for the export", *told[-2:]]


def test_classes_are_held_back_only_if_any_half_is_enough_for_pca():
    def sizes(*counts: int) -> pd.Series:
        return pd.Series(sorted(counts, reverse=True))

    assert not can_hold_back(sizes(*[2] * 62, 4))  # 31 classes of two may be left
    assert can_hold_back(sizes(*[2] * 66))
    assert not can_hold_back(sizes(*[100] * 59))
    rng = np.random.default_rng(0)
    answers = []
    for _ in range(60):
        counts = rng.integers(1, 6, int(rng.integers(60, 90)))
        answers.append(can_hold_back(sizes(*counts)))
        smallest = min(sum(rng.permutation(counts)[: len(counts) // 2]) for _ in range(200))
        assert smallest > 64 or not answers[-1]
    assert 5 < sum(answers) < 55


def test_photos_that_cannot_be_read_are_counted_and_named(
    tmp_path: Path, scored: Callable[[float], None], capsys: pytest.CaptureFixture[str]
):
    scored(0.1)
    for number, n in ((1, 2), (3, 4)):
        folder = tmp_path / "out/mine" / FOLDERS[number]
        folder.mkdir(parents=True)
        rows = [(f"photos/all/{number}_{i}.jpg", "cut short") for i in range(n)]
        pd.DataFrame(rows, columns=["path", "reason"]).to_parquet(folder / "problems.parquet")
    train(photos(tmp_path / "mine", FEW), Wish("mine"), tmp_path / "out")
    said = capsys.readouterr().out
    assert "With 2 classes and 200 image files, no class is held back" in said  # how many can be read is not known yet
    assert "  6 files left out:" in said
    assert said.count(": cut short") == 3 and "    1_0.jpg: cut short" in said
    assert load_recipe(str(tmp_path / "out/mine/recipe.py")).data.max_bad_share > 0.9


@pytest.mark.parametrize("folder", ["My Photos", "it's \\new \\U", 'three """ quotes'])
def test_command_in_the_recipe_file_can_be_pasted(tmp_path: Path, scored: Callable[[float], None], folder: str):
    scored(0.1)
    out = tmp_path / folder
    train(photos(tmp_path / "mine", FEW), Wish("mine"), out)
    names: dict[str, object] = {}
    text = (out / "mine/recipe.py").read_text(encoding="utf-8")
    exec(text, names)
    command = str(names["__doc__"]).partition("Run: ")[2].strip()
    assert shlex.split(command) == [
        "./run.sh", "--recipe", str(out / "mine/recipe.py"), "--data-root", str(out / "mine"), "--out", str(out),
    ]  # fmt: skip
    assert command in text or '"""' in folder
    assert "after an edit, add --name NAME (beside this run) or --replace" in str(names["__doc__"])
    assert "--name NAME (beside this run) or --replace" in cli.parser().format_help()


def test_tower_and_its_size_reach_the_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    wishes: list[Wish] = []

    def stop(photos: Photos, wish: Wish, *rest: object) -> None:
        wishes.append(wish)
        raise ValueError("far enough")

    monkeypatch.setattr(cli, "train", stop)
    draw(tmp_path / "mine/a/1.jpg", BLUE, 1)
    weights = tmp_path / "weights/resnet18_mine.safetensors"
    weights.parent.mkdir()
    weights.touch()
    for words in (
        [],
        ["--tower", "shipped"],
        ["--tower", f"{weights.name}@64"],
        ["--tower", "shipped@96", "--px", "48"],
    ):
        assert main(["train", str(tmp_path / "mine"), *words]) == 2
    plain, shipped, own, small = wishes
    assert (plain, shipped) == (Wish("mine"), Wish("mine", image_px=224))
    assert (own.tower.name, own.tower.weights, own.image_px) == ("resnet18", str(weights), 64)
    assert small.image_px == 48


def test_unknown_tower_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    draw(tmp_path / "mine/a/1.jpg", BLUE, 1)
    assert main(["train", str(tmp_path / "mine"), "--tower", "nothing"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "--tower 'nothing' is no tower" in error


def test_list_of_another_program_names_no_photos(tmp_path: Path):
    """A user may have put another file in its place."""
    file = tmp_path / PHOTOS / LIST
    file.parent.mkdir()
    file.write_text("file,name\na.jpg,a\n")
    assert listed(tmp_path) == {"": ""}
    file.write_text("path,label\na.jpg,a\n")
    assert listed(tmp_path) == {"a.jpg": "a"}
