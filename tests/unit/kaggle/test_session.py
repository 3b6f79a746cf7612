"""A session of a notebook: what it takes, prints and refuses; its doors, which end in time; the submission."""

import time
from dataclasses import replace
from pathlib import Path

import pytest
from kaggle_folders import fake_project, make_run

from guie.kaggle import Session, begin, hand_in, open_doors
from guie.kaggle import session as session_module
from guie.kaggle import weights as weights_module
from guie.kaggle.choice import LARGE
from guie.kaggle.session import TOO_SLOW, command
from guie.run import DOORS, FOLDERS

T4 = 14.6


@pytest.fixture
def session(tmp_path: Path) -> Session:
    (tmp_path / "working/artifacts").mkdir(parents=True)
    return Session(
        fake_project(tmp_path / "project"),
        "tiny",
        ("seed=3",),
        tmp_path / "working/artifacts",
        tmp_path / "data",
        time.time() + 300,
    )


# --- begin ----------------------------------------------------------------------------------------------------


def test_session_without_anything_attached_is_the_demo(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(session_module, "cards", lambda: ())
    session = begin(tmp_path / "input", tmp_path / "working", hours=2)
    assert (session.recipe, session.sets, session.n_processes) == ("demo", (), 1)
    assert session.run == tmp_path / "working/artifacts/demo"
    assert session.ends_at == pytest.approx(time.time() + 7200, abs=60)
    out = capsys.readouterr().out
    assert "because    there is no GPU" in out and "in 2 h" in out


def test_session_takes_the_attached_run_with_its_changed_fields(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(session_module, "cards", lambda: (T4, T4))
    make_run(tmp_path / "input/v1/artifacts/tiny", (1, 2, 3, 4))
    (tmp_path / "input/kit/hf/hub").mkdir(parents=True)
    session = begin(tmp_path / "input", tmp_path / "working")
    assert (session.recipe, session.sets, session.n_processes) == ("tiny", ("seed=3",), 2)
    assert (session.run / FOLDERS[4] / "done.json").is_file()
    assert session.environment == {"HF_HOME": str(tmp_path / "input/kit/hf"), "HF_HUB_OFFLINE": "1"}


def test_run_of_an_older_version_goes_on_once_its_recipe_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(session_module, "cards", lambda: ())
    run = make_run(tmp_path / "input/v1/artifacts/tiny", (1, 2, 3, 4), sets=())
    (run / "recipe.json").write_text('{"command": "src/04_train_head.py --recipe tiny", "recipe": {}}')
    with pytest.raises(ValueError, match="Set RECIPE = 'tiny' in the first cell"):
        begin(tmp_path / "input", tmp_path / "working")
    session = begin(tmp_path / "input", tmp_path / "working", "tiny")
    assert (session.run / FOLDERS[4] / "done.json").is_file()


def test_recipe_whose_data_is_not_attached_is_refused_until_its_images_are_packed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(session_module, "cards", lambda: (T4,))
    (tmp_path / "input/gldv2").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="kaggle_t4 reads products10k"):
        begin(tmp_path / "input", tmp_path / "working", LARGE)
    make_run(tmp_path / "input/v1/artifacts/kaggle_t4", (1, 2, 3), recipe=LARGE, sets=())
    monkeypatch.setattr(weights_module, "is_online", lambda: True)
    assert begin(tmp_path / "input", tmp_path / "working", LARGE).recipe == LARGE


def test_export_without_a_finished_run_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "cards", lambda: ())
    make_run(tmp_path / "input/v1/artifacts/tiny", (1, 2, 3, 4))
    with pytest.raises(FileNotFoundError, match="no run of tiny with door 07 done"):
        begin(tmp_path / "input", tmp_path / "working", only_export=True)


def test_attached_run_of_other_settings_is_refused_before_it_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The doors would refuse it, with options that a notebook does not have."""
    monkeypatch.setattr(session_module, "cards", lambda: ())
    make_run(tmp_path / "input/v1/artifacts/tiny", (1, 2, 3, 4))
    with pytest.raises(ValueError, match=r"is finished with seed 3, not 0.*; set NAME in the first cell") as caught:
        begin(tmp_path / "input", tmp_path / "working", "tiny")
    assert "--" not in str(caught.value) and not (tmp_path / "working").exists()
    session = begin(tmp_path / "input", tmp_path / "working", "tiny", name="again")
    assert session.sets == ("name=again",) and session.run == tmp_path / "working/artifacts/again"
    assert not session.run.exists() and command(session, 4)[4:6] == ["--set", "name=again"]

    make_run(tmp_path / "input/v2/artifacts/again", (1, 2), sets=("name=again",))
    for recipe in ("tiny", ""):
        later = begin(tmp_path / "input", tmp_path / f"later {recipe}", recipe, name="again")
        assert later.sets == ("name=again",) and (later.run / FOLDERS[2]).is_dir()


def test_stage_of_other_settings_in_a_door_that_is_not_finished_is_refused_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "cards", lambda: ())
    make_run(tmp_path / "input/v1/artifacts/tiny", (), ("04_head/s1_head",), sets=("stages.s1_head.optim.lr=1e-5",))
    with pytest.raises(ValueError, match=r"s1_head is finished with .*lr 1e-05, not 0.003; set NAME"):
        begin(tmp_path / "input", tmp_path / "working", "tiny")


def test_misspelt_recipe_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no recipe 'tyni'"):
        begin(tmp_path / "input", tmp_path / "working", "tyni")


# --- doors ----------------------------------------------------------------------------------------------------


def test_doors_open_in_turn_with_the_sessions_options(session: Session, capsys: pytest.CaptureFixture[str]) -> None:
    assert open_doors(replace(session, environment={"HF_HOME": "/kit/hf"})) is True
    assert (session.out.parent / "opened").read_text() == "123456789"
    assert [line for line in capsys.readouterr().out.splitlines() if line] == [f"door {n} True /kit/hf" for n in DOORS]
    words = command(session, 5)
    places = ["--data-root", str(session.data_root), "--out", str(session.out)]
    assert words[1:] == [str(session.project / DOORS[5]), "--recipe", "tiny", "--set", "seed=3", *places]


def test_doors_that_draw_their_images_are_given_no_data_root(session: Session) -> None:
    """They refuse one. Door 04 looks there for weights, whatever draws the images."""
    assert [number for number in DOORS if "--data-root" not in command(session, number)] == [1, 2, 3]
    real = replace(session, recipe="minibench", sets=())
    assert all("--data-root" in command(real, number) for number in DOORS)


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


def test_doors_end_in_time_and_say_how_to_go_on(
    session: Session,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("WAIT_2", "60")
    began = time.time()
    assert open_doors(replace(session, ends_at=began + 3)) is False
    assert 2.5 < time.time() - began < 20
    assert (session.out.parent / "opened").read_text() == "12"
    assert "Time is up at door 02" in capsys.readouterr().out


def test_sound_submission_is_put_where_kaggle_looks(
    session: Session,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (session.run / FOLDERS[8]).mkdir(parents=True)
    (session.run / FOLDERS[8] / "submission.zip").write_bytes(b"zip")
    monkeypatch.setenv("FAIL_CHECK", "1")
    with pytest.raises(RuntimeError, match="not sound"):
        hand_in(session)
    assert not (session.out.parent / "submission.zip").exists()
    assert hand_in(replace(session, ends_at=time.time())) is None
    monkeypatch.setenv("FAIL_CHECK", str(TOO_SLOW))
    assert hand_in(session) == session.out.parent / "submission.zip", "never lost because this machine is slow"
    assert "over the time limit at this machine's speed" in capsys.readouterr().out
    (session.out.parent / "submission.zip").unlink()
    monkeypatch.setenv("FAIL_CHECK", "0")
    assert hand_in(session) == session.out.parent / "submission.zip"
    assert (session.out.parent / "submission.zip").read_bytes() == b"zip"
    told = capsys.readouterr().out
    assert f"--expected {session.run / FOLDERS[8] / 'parity'} --min-cosine 0.999" in told and "limit" not in told
