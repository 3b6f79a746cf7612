"""What the Kaggle notebooks rest on: what is attached, which recipe, earlier runs, doors that end in time."""

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from guie import kaggle
from guie.kaggle import (
    LARGE,
    Session,
    attached,
    begin,
    choose_recipe,
    command,
    copy_run,
    data_folders,
    earlier_run,
    find_project,
    hand_in,
    link_data,
    link_run,
    open_doors,
    options_of,
)
from guie.recipe import load_recipe
from guie.run import DOORS, FOLDERS, PROJECT

T4 = 14.6
MARK = {"settings": "", "inputs": {}, "outputs": {}, "metrics": {}, "seconds": 1.0}
SETS = {"gldv2": Path("/data/gldv2"), "products10k": Path("/data/products10k")}


def make_run(folder: Path, doors: tuple[int, ...], stages: tuple[str, ...] = (), words: str = "--recipe tiny --set seed=3") -> Path:
    """A run's folder with marks, as doors leave it."""
    folder.mkdir(parents=True)
    (folder / "recipe.json").write_text(json.dumps({"command": f"/some where/src/04.py {words}".replace("/some where", "'/some where'")}))
    for place in [*(FOLDERS[number] for number in doors), *stages]:
        (folder / place).mkdir(parents=True)
        (folder / place / "done.json").write_text(json.dumps(MARK))
    return folder


def fake_project(folder: Path) -> Path:
    """Doors that say their number and options, note that they were open, and end as FAIL_<number> says or wait for WAIT_<number> seconds."""
    code = """
import os, pathlib, sys, time
n = int(pathlib.Path(sys.argv[0]).name[:2])
print("door", n, "TQDM_MININTERVAL" in os.environ, os.environ.get("HF_HOME", ""), flush=True)
with open("opened", "a") as file: file.write(str(n))
try:
    time.sleep(float(os.environ.get(f"WAIT_{n}", "0")))
except KeyboardInterrupt:
    sys.exit(130)
sys.exit(int(os.environ.get(f"FAIL_{n}", "0")))
"""
    for name in DOORS.values():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(code)
    (folder / "submission").mkdir()
    (folder / "submission/check_submission.py").write_text("import os, sys; print('checked', *sys.argv[1:]); sys.exit(int(os.environ.get('FAIL_CHECK', '0')))")
    return folder


@pytest.fixture
def session(tmp_path: Path) -> Session:
    (tmp_path / "working/artifacts").mkdir(parents=True)
    return Session(fake_project(tmp_path / "project"), "tiny", ("seed=3",), tmp_path / "working/artifacts", tmp_path / "data", time.time() + 300)


# --- which recipe -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("card_gb", "folders", "can_have_weights", "name", "why"),
    [
        ((), SETS, True, "demo", "no GPU"),
        ((T4, T4), SETS, True, "kaggle_t4", "2 cards of 14.6 GB"),
        ((79.2,), SETS, True, "kaggle_t4", "1 card of 79.2 GB"),
        ((T4, 8.0), SETS, True, "demo", "smallest has 8.0"),
        ((T4, T4), {"gldv2": Path("/data/gldv2")}, True, "demo", "products10k is not attached"),
        ((T4, T4), {}, True, "demo", "gldv2, products10k is not attached"),
        ((T4, T4), SETS, False, "demo", "backbone"),
    ],
)
def test_recipe_is_the_large_one_only_with_cards_data_and_weights(
    card_gb: tuple[float, ...], folders: dict[str, Path], can_have_weights: bool, name: str, why: str
) -> None:
    chosen, reason = choose_recipe(card_gb, folders, can_have_weights)
    assert chosen == name and why in reason
    load_recipe(chosen)


def test_cards_are_those_that_torch_sees() -> None:
    import torch

    found = kaggle.cards()
    assert len(found) == torch.cuda.device_count() and all(0.5 < gb < 1000 for gb in found)


# --- what is attached ---------------------------------------------------------------------------------------------------------------


def test_data_sets_are_found_by_name_but_for_case_and_punctuation(tmp_path: Path) -> None:
    for name in ("products-10k", "datasets/someone/GLDv2"):
        (tmp_path / name / "train").mkdir(parents=True)
    found = data_folders(load_recipe(LARGE), tmp_path, {})
    assert found == {"gldv2": tmp_path / "datasets/someone/GLDv2", "products10k": tmp_path / "products-10k"}


def test_data_set_that_is_given_goes_before_one_that_is_found(tmp_path: Path) -> None:
    for name in ("products10k", "landmark-recognition-2021"):
        (tmp_path / name).mkdir()
    found = data_folders(load_recipe(LARGE), tmp_path, {"gldv2": str(tmp_path / "landmark-recognition-2021")})
    assert found == {"gldv2": tmp_path / "landmark-recognition-2021", "products10k": tmp_path / "products10k"}
    assert "gldv2" not in data_folders(load_recipe(LARGE), tmp_path, {"gldv2": str(tmp_path / "nowhere")})


def test_folder_within_a_data_set_must_be_there(tmp_path: Path) -> None:
    recipe = load_recipe("minibench")
    nested = next(source.folder for source in recipe.data.sources if "/" in source.folder)
    (tmp_path / nested.split("/")[0]).mkdir()
    assert nested.split("/")[0] not in data_folders(recipe, tmp_path, {})
    (tmp_path / nested).mkdir(parents=True)
    assert data_folders(recipe, tmp_path, {})[nested.split("/")[0]] == tmp_path / nested.split("/")[0]


def test_links_show_data_sets_and_weights_under_the_recipes_names(tmp_path: Path) -> None:
    (tmp_path / "in/Landmarks").mkdir(parents=True)
    (tmp_path / "in/Landmarks/train.csv").write_text("id")
    (tmp_path / "in/w.safetensors").write_text("weights")
    root = link_data({"gldv2": tmp_path / "in/Landmarks"}, [tmp_path / "in/w.safetensors"])
    assert (root / "gldv2/train.csv").read_text() == "id" and (root / "w.safetensors").read_text() == "weights"


def test_search_looks_three_folders_deep_and_no_deeper(tmp_path: Path) -> None:
    for place in ("a", "datasets/me/b", "x/y/z/too_deep"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "mark").touch()
    assert attached(tmp_path, "mark") == [tmp_path / "a/mark", tmp_path / "datasets/me/b/mark"]
    assert attached(tmp_path / "absent", "mark") == []


def test_doors_come_from_the_kit_else_from_the_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_project(tmp_path) == PROJECT
    kit = fake_project(tmp_path / "guie-kit/project")
    assert find_project(tmp_path) == kit
    monkeypatch.setattr(kaggle, "PROJECT", tmp_path / "site-packages")
    with pytest.raises(FileNotFoundError, match=r"build_kit\.py"):
        find_project(tmp_path / "guie-kit")


# --- an earlier version's run -------------------------------------------------------------------------------------------------------


def test_attached_run_is_the_one_that_got_furthest(tmp_path: Path) -> None:
    assert earlier_run(tmp_path) is None
    make_run(tmp_path / "v1/artifacts/tiny", (1, 2, 3), ("04_head/s1_head",))
    best = make_run(tmp_path / "notebooks/me/v2/artifacts/tiny", (1, 2, 3), ("04_head/s1_head", "05_backbone/s2_backbone"))
    demo = make_run(tmp_path / "v3/artifacts/demo", (1, 2, 3, 4, 5, 6, 7))
    assert (earlier_run(tmp_path), earlier_run(tmp_path, "tiny"), earlier_run(tmp_path, "minibench")) == (demo, best, None)


def test_of_equal_runs_the_newest_is_taken(tmp_path: Path) -> None:
    old, new = (make_run(tmp_path / name / "artifacts/tiny", (1,)) for name in ("b", "a"))
    os.utime(old, (1e9, 1e9))
    assert earlier_run(tmp_path) == new
    os.utime(new, (9e8, 9e8))
    assert earlier_run(tmp_path) == old


def test_options_are_those_that_the_run_was_started_with(tmp_path: Path) -> None:
    epochs = "stages.s1_head.optim.n_epochs=2"
    words = f"--recipe tiny --set seed=3 --licence commercial --out '/kaggle/my out' --set '{epochs}'"
    run = make_run(tmp_path / "run", (1,), words=words)
    assert options_of(run) == ("tiny", ("seed=3", "data.licence=commercial", epochs))


def test_copy_of_a_read_only_run_is_whole_and_can_be_written_to(tmp_path: Path) -> None:
    earlier = make_run(tmp_path / "in/tiny", (1, 2), ("04_head/s1_head",))
    (earlier / "02_balanced/.hidden").write_text("x")
    (earlier / "04_head/s1_head/last.pt").write_bytes(os.urandom(100_000))
    for path in sorted(earlier.rglob("*"), reverse=True):
        path.chmod(0o555 if path.is_dir() else 0o444)
    run = tmp_path / "out/tiny"
    (tmp_path / "out/.tiny.copying/stale").mkdir(parents=True)  # of a copy that was killed
    copy_run(earlier, run)
    names = sorted(str(path.relative_to(earlier)) for path in earlier.rglob("*"))
    assert names == sorted(str(path.relative_to(run)) for path in run.rglob("*")) and len(names) >= 8
    assert all((run / name).read_bytes() == (earlier / name).read_bytes() for name in names if (earlier / name).is_file())
    assert all(path.stat().st_mode & 0o200 for path in run.rglob("*"))
    assert all((run / name).stat().st_mtime_ns == (earlier / name).stat().st_mtime_ns for name in names if (earlier / name).is_file())
    assert [path.name for path in run.parent.iterdir()] == ["tiny"]


def test_run_in_the_working_folder_is_not_overwritten(tmp_path: Path) -> None:
    earlier, run = make_run(tmp_path / "in/tiny", (1, 2)), make_run(tmp_path / "out/tiny", (1, 2, 3))
    copy_run(earlier, run)
    assert (run / FOLDERS[3] / "done.json").is_file()


def test_linked_run_lends_all_but_export_and_report(tmp_path: Path) -> None:
    earlier = make_run(tmp_path / "in/tiny", (1, 2, 3, 7, 8, 9))
    link_run(earlier, tmp_path / "out/tiny")
    link_run(earlier, tmp_path / "out/tiny")
    links = {path.name for path in (tmp_path / "out/tiny").iterdir() if path.is_symlink()}
    assert links == {FOLDERS[number] for number in (1, 2, 3, 7)}
    assert not (tmp_path / "out/tiny/recipe.json").is_symlink()


# --- the session --------------------------------------------------------------------------------------------------------------------


def test_session_without_anything_attached_is_the_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(kaggle, "cards", lambda: ())
    session = begin(tmp_path / "input", tmp_path / "working", hours=2)
    assert (session.recipe, session.sets, session.n_processes) == ("demo", (), 1)
    assert session.run == tmp_path / "working/artifacts/demo"
    assert session.ends_at == pytest.approx(time.time() + 7200, abs=60)
    out = capsys.readouterr().out
    assert "because    there is no GPU" in out and "in 2 h" in out


def test_session_takes_the_attached_run_with_its_changed_fields(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kaggle, "cards", lambda: (T4, T4))
    make_run(tmp_path / "input/v1/artifacts/tiny", (1, 2, 3, 4))
    (tmp_path / "input/kit/hf/hub").mkdir(parents=True)
    session = begin(tmp_path / "input", tmp_path / "working")
    assert (session.recipe, session.sets, session.n_processes) == ("tiny", ("seed=3",), 2)
    assert (session.run / FOLDERS[4] / "done.json").is_file()
    assert session.environment == {"HF_HOME": str(tmp_path / "input/kit/hf"), "HF_HUB_OFFLINE": "1"}


def test_recipe_whose_data_is_not_attached_is_refused_until_its_images_are_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kaggle, "cards", lambda: (T4,))
    (tmp_path / "input/gldv2").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="kaggle_t4 reads products10k"):
        begin(tmp_path / "input", tmp_path / "working", LARGE)
    make_run(tmp_path / "input/v1/artifacts/kaggle_t4", (1, 2, 3), words=f"--recipe {LARGE}")
    assert begin(tmp_path / "input", tmp_path / "working", LARGE).recipe == LARGE


def test_export_without_a_finished_run_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kaggle, "cards", lambda: ())
    make_run(tmp_path / "input/v1/artifacts/tiny", (1, 2, 3, 4))
    with pytest.raises(FileNotFoundError, match="no run of tiny with door 07 done"):
        begin(tmp_path / "input", tmp_path / "working", only_export=True)


def test_misspelt_recipe_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no recipe 'tyni'"):
        begin(tmp_path / "input", tmp_path / "working", "tyni")


# --- doors --------------------------------------------------------------------------------------------------------------------------


def test_doors_open_in_turn_with_the_sessions_options(session: Session, capsys: pytest.CaptureFixture[str]) -> None:
    assert open_doors(replace(session, environment={"HF_HOME": "/kit/hf"})) is True
    assert (session.out.parent / "opened").read_text() == "123456789"
    assert [line for line in capsys.readouterr().out.splitlines() if line] == [f"door {n} True /kit/hf" for n in DOORS]
    words = command(session, 5)
    assert words[1:] == [
        str(session.project / DOORS[5]), "--recipe", "tiny", "--set", "seed=3", "--data-root", str(session.data_root), "--out", str(session.out),
    ]  # fmt: skip


def test_training_doors_use_all_cards_and_the_others_one_process(session: Session) -> None:
    two = replace(session, n_processes=2)
    launched = [number for number in DOORS if "accelerate.commands.launch" in command(two, number)]
    assert launched == [4, 5, 6]
    assert command(two, 4)[command(two, 4).index("--num_processes") + 1] == "2"


def test_packed_run_does_not_need_its_raw_images_again(session: Session) -> None:
    make_run(session.run, (1, 2, 3))
    assert open_doors(session)
    assert (session.out.parent / "opened").read_text() == "456789"


def test_failed_door_stops_the_notebook(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAIL_4", "2")
    with pytest.raises(RuntimeError, match="door 04 ended with status 2"):
        open_doors(session)
    assert (session.out.parent / "opened").read_text() == "1234"


def test_doors_end_in_time_and_say_how_to_go_on(session: Session, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("WAIT_2", "60")
    began = time.time()
    assert open_doors(replace(session, ends_at=began + 3)) is False
    assert 2.5 < time.time() - began < 20
    assert (session.out.parent / "opened").read_text() == "12"
    assert "Time is up at door 02" in capsys.readouterr().out


def test_sound_submission_is_put_where_kaggle_looks(session: Session, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (session.run / FOLDERS[8]).mkdir(parents=True)
    (session.run / FOLDERS[8] / "submission.zip").write_bytes(b"zip")
    monkeypatch.setenv("FAIL_CHECK", "1")
    with pytest.raises(RuntimeError, match="not sound"):
        hand_in(session)
    assert not (session.out.parent / "submission.zip").exists()
    assert hand_in(replace(session, ends_at=time.time())) is None
    monkeypatch.setenv("FAIL_CHECK", "0")
    assert hand_in(session) == session.out.parent / "submission.zip"
    assert (session.out.parent / "submission.zip").read_bytes() == b"zip"
    assert f"--expected {session.run / FOLDERS[8] / 'parity'} --min-cosine 0.999" in capsys.readouterr().out
