"""A finished result of other settings is replaced only where the user asks for that."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from door_bench import Bench, contents, made_bench

from guie import versions
from guie.options import command, parser
from guie.recipe import load_recipe

EPOCHS = "stages.s1.optim.n_epochs=2"
KILLED = """
import os, signal, sys
from guie.door import open_door
def work(run):
    (run.folder({number}) / "result.txt").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
sys.exit(open_door({number}, "A door.", work, {options!r}))
"""


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    yield from made_bench(tmp_path, monkeypatch)


def open_and_die(bench: Bench, number: int, *more: str) -> int:
    code = KILLED.format(number=number, options=bench.options(*more))
    return subprocess.run([sys.executable, "-c", code], check=False, stdout=subprocess.DEVNULL).returncode


def error(bench: Bench, capsys: pytest.CaptureFixture[str], number: int, *more: str) -> str:
    capsys.readouterr()
    assert bench.open(number, *more) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ") and told.count("\n") == 1
    return told


def test_refusal_names_the_first_difference_and_both_ways_on(bench: Bench, capsys: pytest.CaptureFixture[str]):
    bench.open_all()
    lr = "stages.s1.optim.lr=0.5"
    told = error(bench, capsys, 4, "--set", lr, "--set", EPOCHS)
    assert told == (
        f"error: {bench.out(4)} is finished with stages.s1.optim.n_epochs 1, not 2 (and 1 more); --name NAME makes "
        "another run beside it, --replace makes it anew\n"
    )
    told = error(bench, capsys, 1, "--set", "seed=3")
    assert f"{bench.out(1)} is finished with seed 0, not 3, and 04_head was made from it; --name" in told
    told = error(bench, capsys, 4, "--set", "stages.s1.objective=CosFace")
    assert "stages.s1.objective.kind ArcFace, not CosFace (and " in told
    told = error(bench, capsys, 7, "--set", "embed.settings.last.whiten=0.5")
    assert "embed.settings.last.whiten 0.0, not 0.5; --name" in told


@pytest.mark.parametrize("number", [2, 4, 5])
def test_door_behind_the_one_that_differs_refuses_alike(bench: Bench, capsys: pytest.CaptureFixture[str], number: int):
    """The command that opens the earlier door would be refused."""
    for done in (1, 2, 3, 4):
        bench.open(done)
    told = error(bench, capsys, number, "--set", "seed=2")
    assert f"{bench.out(1)} is finished with seed 0, not 2, and 04_head was made from it; --name NAME makes" in told
    assert bench.calls == [1, 2, 3, 4]
    assert "run it again: python data_prep/01" in error(bench, capsys, number, "--set", "seed=2", "--replace")


def test_door_of_other_settings_that_comes_first_is_named(bench: Bench, capsys: pytest.CaptureFixture[str]):
    for number in (1, 2, 3):
        bench.open(number)
    assert "run it again: python data_prep/01" in error(bench, capsys, 4, "--set", "seed=2")


def test_edited_recipe_is_another_setting_as_well(bench: Bench, capsys: pytest.CaptureFixture[str]):
    bench.open_all()
    before = contents(bench.folder / "out")
    bench.recipe.write_text(bench.recipe.read_text().replace('(Member("s3", 96),)', '(Member("s3", 112),)'))
    assert "embed.settings.last.members.0.image_px 96, not 112" in error(bench, capsys, 7)
    assert contents(bench.folder / "out") == before
    assert bench.open_all("--replace") == [7, 8, 9], "door 08 reads the settings, too"


def test_images_may_be_listed_and_packed_again_until_something_is_trained(bench: Bench):
    for number in (1, 2, 3):
        bench.open(number)
    bench.calls.clear()
    for number in (1, 2, 3):
        assert bench.open(number, "--set", "seed=3", "--set", "data.jpeg_quality=70") == 0
    assert bench.calls == [1, 2, 3]
    assert bench.open(4, "--set", "seed=3", "--set", "data.jpeg_quality=70") == 0
    assert bench.open(3, "--set", "seed=3", "--set", "data.jpeg_quality=71") == 2


def test_run_that_has_not_finished_a_door_may_change_it(bench: Bench):
    """The remedies of errors name fields of the door that failed; they work without another word."""
    for number in (1, 2, 3, 4):
        bench.open(number)
    assert bench.open(5, "--set", "stages.s2.optim.n_epochs=2") == 0


def test_name_makes_another_run_and_leaves_the_first(bench: Bench, capsys: pytest.CaptureFixture[str]):
    bench.open_all()
    before = contents(bench.folder / "out")
    assert bench.open_all("--name", "longer", "--set", EPOCHS) == [4, 7, 8, 9], "the others are made alike"
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("next: python")]
    assert len(told) == 16 and all(" --name longer" in line for line in told[8:])
    now = contents(bench.folder / "out")
    assert {path: now[path] for path in before} == before
    made = bench.folder / "out/longer"
    assert json.loads((made / "recipe.json").read_text())["recipe"]["name"] == "longer"
    assert bench.open_all() == bench.open_all("--name", "longer", "--set", EPOCHS) == []


LARGE = "x" * (1 << 20)


def test_what_is_taken_over_is_whole_and_of_its_own(bench: Bench):
    for number in (1, 2, 3):
        bench.open(number, output=LARGE if number == 3 else "same")
    longer = bench.folder / "out/longer"
    bench.calls.clear()
    for number in (1, 2, 3):
        assert bench.open(number, "--name", "longer", "--verify") == 0
    assert bench.calls == []
    files = [run / "03_packed/result.txt" for run in (bench.folder / "out/mine", longer)]
    assert files[0].samefile(files[1]) and files[0].stat().st_nlink == 2, "large files take no room"
    assert not (longer / "02_balanced/result.txt").samefile(bench.out(2) / "result.txt")
    assert json.loads((longer / "recipe.json").read_text())["recipe"]["name"] == "longer"
    bench.open(3, "--force", output="another")  # in the first run
    bench.open(2, "--name", "longer", "--force", output="third")
    assert files[1].read_text() == LARGE and (bench.out(2) / "result.txt").read_text() == "same"
    assert bench.open(2) == bench.open(3) == 0


def test_first_run_need_not_be_read_again_after_links(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    for number in (1, 2, 3):
        bench.open(number, output=LARGE)
    assert bench.open(1, "--name", "longer") == 0
    monkeypatch.setattr("guie.done.digest_of_file", lambda path: pytest.fail(f"{path} is read"))
    assert bench.open(1) == bench.open(1, "--name", "longer") == 0


def test_own_work_and_damaged_files_are_not_mixed(bench: Bench):
    bench.open(1)
    longer = bench.folder / "out/longer/01_manifests"
    longer.mkdir(parents=True)
    (longer / "last.pt").write_text("begun")
    bench.calls.clear()
    assert bench.open(1, "--name", "longer", output="own") == 0 and bench.calls == [1]
    assert (longer / "result.txt").read_text() == "own"
    (bench.out(1) / "result.txt").write_text("rot!")
    assert bench.open(1, "--name", "third", output="own") == 0 and bench.calls == [1, 1]


def test_killed_taking_over_begins_again(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    """Killed after the first file: the next start takes over the whole."""
    bench.open(1)
    (bench.out(1) / "more.txt").write_text("more")
    bench.open(1, "--force")
    code = (
        "import os, signal; import guie.branch as branch; from guie.door import open_door\n"
        "usual = branch.mark_again\n"
        "branch.mark_again = lambda *given: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"open_door(1, 'A door.', lambda run: {{}}, {bench.options('--name', 'longer')!r})\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    longer = bench.folder / "out/longer/01_manifests"
    assert (longer / "result.txt").read_text() == "same" and not (longer / "done.json").exists()
    bench.calls.clear()
    assert bench.open(1, "--name", "longer") == 0 and bench.calls == []


def test_name_that_cannot_be_a_folder_is_told(bench: Bench, capsys: pytest.CaptureFixture[str]):
    assert "name is '../up'" in error(bench, capsys, 1, "--name", "../up")


def test_commands_that_doors_print_keep_name_and_replace():
    given = parser(None).parse_args(["--name", "a", "--set", "seed=1", "--replace"])
    assert command(4, given) == "python src/04_train_head.py --recipe demo --name a --set seed=1 --replace"
    assert vars(parser(None).parse_args(command(4, given).split()[2:])) == vars(given)


def test_killed_replacement_gives_up_its_own_door_and_no_other(bench: Bench, capsys: pytest.CaptureFixture[str]):
    bench.open_all()
    before = contents(bench.folder / "out")
    assert open_and_die(bench, 4, "--set", EPOCHS) == 2, "refused before its work"
    assert contents(bench.folder / "out") == before
    assert open_and_die(bench, 4, "--set", EPOCHS, "--replace") == -signal.SIGKILL
    left = contents(bench.folder / "out")
    others = [path for path in before if f"{os.sep}04_head{os.sep}" not in path and not path.endswith("recipe.json")]
    assert {path: left[path] for path in others} == {path: before[path] for path in others}
    assert not (bench.out(4) / "done.json").exists()
    # The same command goes on without asking again: the door is not finished. The later ones still are.
    assert bench.open(4, "--set", EPOCHS) == 0
    bench.calls.clear()
    assert bench.open(7, "--set", "embed.settings.last.whiten=0.5") == 2 and bench.calls == []
    told = error(bench, capsys, 7, "--set", EPOCHS, "--set", "embed.settings.last.whiten=0.5")
    assert "embed.settings.last.whiten 0.0, not 0.5" in told or "made from an older" in told


def test_images_of_a_finished_stage_stay_where_its_door_has_not_finished(
    bench: Bench, capsys: pytest.CaptureFixture[str]
):
    for number in (1, 2, 3):
        bench.open(number)
    mark_stage(bench)
    packed = contents(bench.out(3))
    told = error(bench, capsys, 3, "--set", "data.jpeg_quality=70")
    assert f"{bench.out(3)} is finished with data.jpeg_quality " in told and ", and 04_head/s1 was made from it" in told
    assert "04_head/s1 was made from it" in error(bench, capsys, 1, "--set", "data.max_bad_share=0.5")
    assert contents(bench.out(3)) == packed
    assert bench.open(3, "--set", "data.jpeg_quality=70", "--replace") == 0


def test_finished_stage_of_an_unfinished_door_is_kept(bench: Bench, capsys: pytest.CaptureFixture[str]):
    for number in (1, 2, 3):
        bench.open(number)
    stage = mark_stage(bench)
    told = error(bench, capsys, 4, "--set", EPOCHS)
    assert f"{stage} is finished with stages.s1.optim.n_epochs 1, not 2; --name" in told
    assert bench.open(4) == 0
    (bench.out(4) / "done.json").unlink()
    assert bench.open(4, "--set", EPOCHS, "--replace") == 0


def mark_stage(bench: Bench) -> Path:
    """The folder of the first stage, with the mark that it has when it has finished."""
    recipe = load_recipe(str(bench.recipe))
    stage = bench.out(4) / "s1"
    stage.mkdir(parents=True)
    read = ("model", "data.limits", "data.foreign_domain", "embed.precision", "embed.storage", "seed", "stages.s1")
    digest = recipe.digest(*read, augmentation=versions.AUGMENTATION, extraction=versions.EXTRACTION)
    mark = {"settings": digest, "read": recipe.values_of(read) | {versions.CODE: versions.OF_WEIGHTS}, "seconds": 1.0}
    (stage / "done.json").write_text(json.dumps(mark | {"inputs": {}, "outputs": {}, "metrics": {}}))
    return stage


def test_mark_of_an_older_version_is_kept_too(bench: Bench, capsys: pytest.CaptureFixture[str]):
    bench.open_all()
    path = bench.out(5) / "done.json"
    mark = json.loads(path.read_text())
    del mark["read"]
    path.write_text(json.dumps(mark))
    told = error(bench, capsys, 5, "--set", "stages.s2.optim.n_epochs=2")
    assert f"{bench.out(5)} is finished with other settings" in told and "--replace" in told
