"""What a step has made: done-marks, damaged files, fingerprints of raw data, the lock."""

import errno
import importlib.metadata
import json
import os
import platform
import re
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from opening import holder

from guie import done as done_module
from guie.done import (
    damages,
    fingerprint,
    is_done,
    locked,
    mark_done,
    other_code,
    outputs_digest,
    read_done,
    remove_damaged,
    renew_states,
)
from guie.files import digest_of_file
from guie.recipe import HEAD, Data, Embed, Member, Model, Optim, Recipe, Setting, Source, Stage, Stages, Start
from guie.run import Run


def a_run(tmp_path: Path) -> Run:
    optim = Optim(n_epochs=1, batch_size=8, lr=0.01)
    recipe = Recipe(
        name="example",
        data=Data((Source("a", "class_folders", "a", "d"),)),
        model=Model("timm", "resnet18"),
        stages=Stages(head=(Stage("s1", trains="head", image_px=64, start=Start(fresh=HEAD), optim=optim),)),
        embed=Embed((Setting("only", (Member("s1", 64),)),)),
        seed=5,
    )
    return Run(recipe.validate(), tmp_path / "data", tmp_path / "out" / "example")


def finish(run: Run, folder: Path, settings: str = "s", inputs: dict[str, str] | None = None) -> dict:
    return mark_done(run, folder, "door 01", settings, inputs or {}, time.time(), {"n": 1})


def test_unfinished_folder_is_not_done(tmp_path: Path):
    folder = a_run(tmp_path).folder(1)
    assert read_done(folder) is None
    assert not is_done(folder, "s", {})


@pytest.mark.parametrize("name", ["files", "marks", "versions"])
def test_mark_whose_later_parts_are_damaged_counts_as_unfinished(tmp_path: Path, name: str):
    mark = {"settings": "s", "inputs": {}, "outputs": {}, "metrics": {}, "seconds": 1.0}
    folder = a_run(tmp_path).folder(1)
    (folder / "done.json").write_text(json.dumps(mark))
    assert is_done(folder, "s", {})
    for value in (None, 3, "text"):
        (folder / "done.json").write_text(json.dumps(mark | {name: value}))
        assert not is_done(folder, "s", {})
    assert outputs_digest(folder) == ""


def test_finished_folder_is_done_for_equal_settings_and_inputs_only(tmp_path: Path):
    run = a_run(tmp_path)
    folder = run.folder(2)
    (folder / "a.txt").write_text("a")
    finish(run, folder, "s", {"01_manifests": "x"})
    assert is_done(folder, "s", {"01_manifests": "x"})
    assert not is_done(folder, "other", {"01_manifests": "x"})
    assert not is_done(folder, "s", {"01_manifests": "y"})
    assert not is_done(folder, "s", {})
    (folder / "a.txt").unlink()
    assert not is_done(folder, "s", {"01_manifests": "x"})


def test_mark_holds_what_a_reader_asks_for(tmp_path: Path):
    run = a_run(tmp_path)
    folder = run.folder(4)
    (folder / "s1").mkdir()
    for name in ("s1/final.safetensors", "s1/last.pt", "s1/done.json", ".hidden.tmp", "log.txt"):
        (folder / name).write_text(name)
    mark = mark_done(run, folder, "door 04", "s", {"03_packed": "x"}, time.time() - 2, {"loss": 0.5})
    assert mark == json.loads((folder / "done.json").read_text()) == read_done(folder)
    assert list(mark["outputs"]) == ["s1/final.safetensors"]  # resume states, marks, logs and half files are no outputs
    assert (mark["step"], mark["seed"], mark["device"], mark["metrics"]) == ("door 04", 5, "cpu", {"loss": 0.5})
    assert 2 <= mark["seconds"] < 10
    assert mark["versions"] == {"python": platform.python_version(), "torch": importlib.metadata.version("torch")}
    assert 0.05 < mark["peak_memory_gb"] < 100


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"settings": "s"}'])
def test_damaged_mark_counts_as_unfinished(tmp_path: Path, text: str):
    folder = a_run(tmp_path).folder(1)
    (folder / "done.json").write_text(text)
    assert read_done(folder) is None
    assert not is_done(folder, "s", {})


def test_outputs_digest_changes_with_an_output_and_not_with_metrics_or_time(tmp_path: Path):
    run = a_run(tmp_path)
    folder = run.folder(1)
    (folder / "a.txt").write_text("a")
    finish(run, folder)
    first = outputs_digest(folder)
    mark_done(run, folder, "door 01", "s", {}, time.time() - 100, {"n": 2})
    assert outputs_digest(folder) == first
    (folder / "a.txt").write_text("b")
    finish(run, folder)
    assert outputs_digest(folder) != first
    (folder / "a.txt").write_text("a")
    (folder / "b.txt").write_text("")
    finish(run, folder)
    assert outputs_digest(folder) != first


def test_fingerprint_sees_added_removed_edited_and_touched_files(tmp_path: Path):
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/one.jpg").write_bytes(b"12")
    (tmp_path / "a/two.jpg").write_bytes(b"12")
    seen = [fingerprint(tmp_path, ["a"])]
    assert fingerprint(tmp_path, ["a"]) == seen[0]
    (tmp_path / "a/three.jpg").write_bytes(b"")
    seen.append(fingerprint(tmp_path, ["a"]))
    (tmp_path / "a/two.jpg").write_bytes(b"123")
    seen.append(fingerprint(tmp_path, ["a"]))
    os.utime(tmp_path / "a/two.jpg", ns=(1, 1))
    seen.append(fingerprint(tmp_path, ["a"]))
    (tmp_path / "a/b/one.jpg").rename(tmp_path / "a/b/uno.jpg")
    seen.append(fingerprint(tmp_path, ["a"]))
    assert len(set(seen)) == len(seen)


def changed_twice(path: Path, root: Path, change: Callable[[Path], object]) -> bool:
    """Whether the fingerprint of `root` is another after the change."""
    before = fingerprint(root, ["a"])
    change(path)
    return fingerprint(root, ["a"]) != before


def rewrite(path: Path) -> None:
    """Other bytes of the same number."""
    path.write_bytes(bytes(reversed(path.read_bytes())))


@pytest.mark.parametrize("what", ["file", "folder", "source", "folder of folders", "link to a link"])
def test_fingerprint_sees_what_lies_behind_links(tmp_path: Path, what: str):
    real, root = tmp_path / "elsewhere", tmp_path / "data"
    (real / "x").mkdir(parents=True)
    root.mkdir()
    (real / "x/1.jpg").write_bytes(b"12")
    if what == "source":
        (root / "a").symlink_to(real)
    else:
        (root / "a").mkdir()
    if what == "file":
        (root / "a/1.jpg").symlink_to(real / "x/1.jpg")
    elif what == "folder":
        (root / "a/x").symlink_to(real / "x")
    elif what == "folder of folders":
        (root / "a/all").symlink_to(real)
    elif what == "link to a link":
        (tmp_path / "between").symlink_to(real / "x/1.jpg")
        (root / "a/1.jpg").symlink_to(tmp_path / "between")
    assert fingerprint(root, ["a"]) == fingerprint(root, ["a"])
    assert changed_twice(real / "x/1.jpg", root, rewrite)
    assert changed_twice(real / "x/1.jpg", root, lambda path: path.write_bytes(b"123"))
    assert changed_twice(real / "x/1.jpg", root, Path.unlink)
    if what not in ("file", "link to a link"):
        assert changed_twice(real / "x/2.jpg", root, Path.touch)


def test_fingerprint_ends_where_links_go_in_circles_and_sees_all_the_same(tmp_path: Path):
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/up").symlink_to(tmp_path / "a")
    (tmp_path / "a/itself").symlink_to("itself")
    (tmp_path / "a/b/1.jpg").touch()
    for i in range(12):  # every folder leads to every other: 12! ways
        (tmp_path / f"a/n{i}").mkdir()
        for k in range(12):
            (tmp_path / f"a/n{i}/to{k}").symlink_to(tmp_path / f"a/n{k}")
    began = time.monotonic()
    assert changed_twice(tmp_path / "a/b/1.jpg", tmp_path, lambda path: path.write_bytes(b"1"))
    assert time.monotonic() - began < 5
    (tmp_path / "a/n3/to4").unlink()
    (tmp_path / "a/n3/to4").symlink_to(tmp_path / "a/b")
    first = fingerprint(tmp_path, ["a"])
    assert changed_twice(tmp_path / "a/new", tmp_path, lambda path: path.symlink_to(tmp_path / "a/b"))
    (tmp_path / "a/new").unlink()
    assert fingerprint(tmp_path, ["a"]) == first


def damage_keeping_times(path: Path, change: Callable[[Path], object]) -> None:
    times = path.stat()
    change(path)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.mark.parametrize("keeps_times", [False, True])
@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda path: path.write_bytes(b""), "has 0 bytes, 6 were written"),
        (lambda path: path.write_bytes(path.read_bytes()[:4]), "has 4 bytes, 6 were written"),
        (lambda path: path.write_bytes(bytes(6)), "has other bytes than were written"),
    ],
    ids=["emptied", "truncated", "zeroed"],
)
def test_damaged_output_is_named_and_the_step_is_not_done(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, change: Callable[[Path], object], what: str, keeps_times: bool
):
    folder = a_finished(tmp_path)
    if keeps_times:
        damage_keeping_times(folder / "s1/a.bin", change)
    else:
        change(folder / "s1/a.bin")
    assert not is_done(folder, "s", {})
    assert caplog.messages == [f"{folder / 's1/a.bin'} {what}; it is made again"]
    remove_damaged(folder)
    assert sorted(path.name for path in folder.rglob("*") if path.is_file()) == ["b.bin", "done.json"]


def a_finished(tmp_path: Path) -> Path:
    run = a_run(tmp_path)
    folder = run.folder(4)
    (folder / "s1").mkdir()
    (folder / "s1/a.bin").write_bytes(b"aaaaaa")
    (folder / "b.bin").write_bytes(b"bbbbbb")
    finish(run, folder)
    assert is_done(folder, "s", {}) and is_done(folder, "s", {}, verify=True)
    return folder


def test_lost_and_swapped_outputs_are_seen(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    folder = a_finished(tmp_path)
    for source, target in (
        ("s1/a.bin", "c"),
        ("b.bin", "s1/a.bin"),
        ("c", "b.bin"),
    ):  # renamed: times and sizes go along
        (folder / source).rename(folder / target)
    assert list(damages(folder, read_done(folder))) == ["b.bin", "s1/a.bin"]
    assert not is_done(folder, "s", {}) and "(and 1 more); it is made again" in caplog.text
    (folder / "b.bin").unlink()
    (folder / "b.bin").mkdir()
    assert damages(folder, read_done(folder))["b.bin"] == "is missing"


def test_copied_and_touched_outputs_are_done_and_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = a_finished(tmp_path)
    copy = tmp_path / "copy/04_head"
    shutil.copytree(folder, copy, copy_function=shutil.copyfile)
    (folder / "b.bin").touch()
    read: list[str] = []
    monkeypatch.setattr(done_module, "digest_of_file", lambda path: read.append(path.name) or digest_of_file(path))
    for place, expected in ((folder, ["b.bin"]), (copy, ["b.bin", "a.bin"])):
        read.clear()
        assert is_done(place, "s", {})
        assert sorted(read) == sorted(expected)
        renew_states(place.parent, place)
        read.clear()
        assert is_done(place, "s", {})
        assert read == [], "their times are known now"


def test_finished_step_reads_no_bytes_unless_it_is_asked_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = a_finished(tmp_path)
    read: list[str] = []
    monkeypatch.setattr(done_module, "digest_of_file", lambda path: read.append(path.name) or "")
    assert is_done(folder, "s", {}) and read == []
    assert not is_done(folder, "s", {}, verify=True) and sorted(read) == ["a.bin", "b.bin"]


def test_mark_of_earlier_code_without_times_is_compared_by_its_bytes(tmp_path: Path):
    folder = a_finished(tmp_path)
    mark = json.loads((folder / "done.json").read_text())
    del mark["files"], mark["code"], mark["marks"]
    (folder / "done.json").write_text(json.dumps(mark))
    assert is_done(folder, "s", {}) and other_code(mark) == ""
    (folder / "b.bin").write_bytes(b"cccccc")
    assert not is_done(folder, "s", {})


@pytest.mark.parametrize("damage", [b"", b"{", b"\xff\xfe", b"[]"])
def test_damaged_mark_of_a_stage_undoes_its_door(tmp_path: Path, damage: bytes):
    run = a_run(tmp_path)
    stage = run.stage_folder("s1")
    (stage / "final.safetensors").write_bytes(b"w")
    finish(run, stage)
    finish(run, run.folder(4))
    assert is_done(run.folder(4), "s", {})
    (stage / "done.json").write_bytes(damage)
    assert not is_done(run.folder(4), "s", {})


def test_card_that_the_checker_has_signed_is_no_damage_and_a_broken_one_is(tmp_path: Path):
    run = a_run(tmp_path)
    folder = run.folder(8)
    (folder / "card.json").write_text('{"loaded_in": ["2.0"]}')
    finish(run, folder)
    sign(folder / "card.json")
    assert is_done(folder, "s", {})
    (folder / "card.json").write_text('{"loaded_in": [')
    assert not is_done(folder, "s", {})


def sign(card: Path) -> None:
    """As submission/check_submission.py --card does."""
    card.write_text(json.dumps({"loaded_in": [*json.loads(card.read_text())["loaded_in"], "1.11"]}))


def test_what_killed_writers_left_is_no_output(tmp_path: Path):
    run = a_run(tmp_path)
    folder = run.folder(8)
    (folder / ".saved_model.pt.01234567-99.tmp").mkdir()
    for name in (".saved_model.pt.01234567-99.tmp/saved_model.pt", ".tmpAbC123", "saved_model.pt"):
        (folder / name).write_text("x")
    assert list(finish(run, folder)["outputs"]) == ["saved_model.pt"]


def test_other_code_and_versions_are_told_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run = a_run(tmp_path)
    mark = finish(run, run.folder(1))
    assert other_code(mark) == ""
    monkeypatch.setattr(done_module, "commit", lambda: "new")
    assert other_code(mark | {"code": "0", "commit": "old"}) == "commit old (this is new)"
    assert other_code(mark | {"versions": mark["versions"] | {"torch": "1.0"}}) == "torch 1.0"


def test_digest_of_the_code_changes_with_a_source_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/a.py").write_text("1")
    monkeypatch.setattr(done_module, "__file__", str(tmp_path / "done.py"))
    seen = []
    for name, text in (("sub/a.py", "1"), ("sub/a.py", "2"), ("b.py", ""), ("README.md", "x")):
        (tmp_path / name).write_text(text)
        seen.append(done_module.code_digest.__wrapped__())
    assert len(set(seen[:3])) == 3 and seen[3] == seen[2]


def test_second_start_is_told_who_is_at_work_until_that_one_ends(tmp_path: Path):
    with holder(tmp_path) as process:
        line = (
            f"{tmp_path} is in use by process {process.pid} on {platform.node()}: 05_train_backbone.py --recipe 'my "
            "recipe'; wait until"
        )
        with pytest.raises(ValueError, match=re.escape(line)), locked(tmp_path):
            pass
    for _ in range(2):  # it was killed; and a block that has ended lets the next one in
        with locked(tmp_path) as is_held:
            assert is_held


def test_forked_child_that_outlives_its_door_holds_no_lock(tmp_path: Path):
    with holder(tmp_path, "import os; child = os.fork(); print(child, flush=True) if child else None") as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        process.kill()
        process.wait()
        try:
            os.kill(child, 0)  # it lives
            with locked(tmp_path) as is_held:
                assert is_held
        finally:
            os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_file_system_without_locks_is_told_and_worked_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, number: int
):
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(done_module.fcntl, "lockf", refuse)
    with locked(tmp_path) as is_held:
        assert not is_held
    assert len(caplog.messages) == 1 and "the file system has no locks" in caplog.messages[0]


def test_fingerprint_takes_names_that_are_no_utf8_and_broken_links(tmp_path: Path):
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.jpg")).touch()
    (tmp_path / "link").symlink_to("nowhere")
    assert len(fingerprint(tmp_path, ["."])) == 16
