"""What every door does around its one call."""

import contextlib
import hashlib
import json
import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from door_bench import RECIPE, Bench, contents, made_bench
from opening import holder

from guie import done as done_module
from guie import door as door_module
from guie import launch as launch_module
from guie.dependencies import INPUTS, READS, VERSIONS, reads
from guie.door import open_door
from guie.options import as_data, command, next_command, parser
from guie.recipe import load_recipe
from guie.run import DOORS, FOLDERS, PROJECT, Run


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    yield from made_bench(tmp_path, monkeypatch)


def test_sequence_runs_once_and_is_skipped_the_second_time(bench: Bench):
    assert bench.open_all() == list(range(1, 10))
    assert bench.open_all() == []


@pytest.mark.parametrize(
    ("change", "first"),
    [
        ("data.val_class_share=0.4", 2),
        ("data.jpeg_quality=90", 3),
        ("model.name=resnet34", 4),
        ("stages.s1.optim.n_epochs=2", 4),
        ("stages.s2.optim.n_epochs=2", 5),
        ("stages.s3.optim.n_epochs=2", 6),
        ("embed.settings.last.whiten=0.5", 7),
        ("export.n_parity_images=3", 8),
        ("seed=1", 1),
    ],
)
def test_changed_setting_reruns_from_the_first_door_that_reads_it_if_asked(bench: Bench, change: str, first: int):
    bench.open_all()
    before = contents(bench.folder)
    bench.calls.clear()
    for number in DOORS:
        assert bench.open(number, "--set", change) == (2 if number >= first else 0)
    assert bench.calls == [] and contents(bench.folder) == before, "a finished run is as it was"
    assert bench.open_all("--set", change, "--replace")[0] == first


def test_setting_that_changes_no_output_does_not_rerun_what_follows(bench: Bench):
    bench.open_all()
    # Door 03 writes the same bytes as before: those that read 03 have nothing new. The report shows the whole recipe.
    assert bench.open_all("--set", "data.jpeg_quality=90", "--replace") == [3, 9]


def test_setting_that_only_costs_time_reruns_the_report_only(bench: Bench):
    bench.open_all()
    assert bench.open_all("--set", "embed.batch_size=7") == [9]


def test_changed_output_reruns_the_doors_that_read_it(bench: Bench):
    bench.open_all()
    bench.open(5, "--force", output="new")
    assert bench.open_all() == [number for number in DOORS if 5 in INPUTS[number]] == [6, 7, 8, 9]


def test_changed_raw_data_reruns_the_doors_that_read_images(bench: Bench):
    bench.open_all()
    (bench.folder / "data/toys/b.jpg").write_bytes(b"b")
    assert bench.open_all() == [1, 3]


def test_door_between_that_was_not_run_again_is_named(bench: Bench, capsys: pytest.CaptureFixture[str]):
    bench.open_all()
    bench.open(2, "--force", output="new")  # 03 still rests on what 02 wrote before
    assert bench.open(4) == 2
    assert f"made from an older 02_balanced; run it again: python {DOORS[3]}" in capsys.readouterr().err


def test_lost_output_reruns_its_door(bench: Bench):
    bench.open_all()
    (bench.out(3) / "result.txt").unlink()
    assert bench.open_all() == [3]


DAMAGES: dict[str, Callable[[Path], object]] = {
    "emptied": lambda path: path.write_bytes(b""),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:2]),
    "zeroed": lambda path: path.write_bytes(bytes(4)),
    "edited": lambda path: path.write_text("sane"),
    "lost": Path.unlink,
}


@pytest.mark.parametrize("damage", list(DAMAGES))
def test_every_door_makes_its_damaged_output_again_and_no_other_door_has_work(
    bench: Bench, capsys: pytest.CaptureFixture[str], damage: str
):
    bench.open_all()
    for number in DOORS:
        path = bench.out(number) / "result.txt"
        DAMAGES[damage](path)
        capsys.readouterr()
        assert bench.open_all() == [number]
        told = [line for line in capsys.readouterr().out.splitlines() if str(path) in line]
        assert len(told) == 1 and told[0].endswith("; it is made again")
        assert path.read_text() == "same"
    assert bench.open_all() == []


# One damage is tried in every input of every door, the others in the last of each: what is damaged and where it lies
# are found apart from each other.
PLACES = [("zeroed", True), *((damage, False) for damage in DAMAGES if damage != "zeroed")]
MORE = [pytest.param(damage, True, marks=pytest.mark.full) for damage in DAMAGES if damage != "zeroed"]


@pytest.mark.parametrize(("damage", "is_everywhere"), [*PLACES, *MORE])
def test_damaged_input_is_named_with_the_command_that_makes_it_again(
    bench: Bench, capsys: pytest.CaptureFixture[str], damage: str, is_everywhere: bool
):
    bench.open_all()
    for number in DOORS:
        for upstream in INPUTS[number] if is_everywhere else INPUTS[number][-1:]:
            path = bench.out(upstream) / "result.txt"
            DAMAGES[damage](path)
            bench.calls.clear()
            assert bench.open(number) == 0 and bench.calls == [], "a finished door does not need it"
            capsys.readouterr()
            assert bench.open(number, "--force") == 2
            told = capsys.readouterr().err
            assert (
                told.startswith(f"error: {path} ")
                and f"make it again: python {DOORS[upstream]} --recipe" in told
                and told.count("\n") == 1
            )
            assert bench.calls == [] and (bench.out(number) / "done.json").exists(), "it has not begun"
            assert bench.open_all() == [upstream]


def test_damage_that_times_do_not_show_is_found_by_verify(bench: Bench, capsys: pytest.CaptureFixture[str]):
    bench.open_all()
    path = bench.out(3) / "result.txt"
    path.write_bytes(b"rot!")
    mark = json.loads((bench.out(3) / "done.json").read_text())
    mark["files"]["result.txt"] = done_module.state_of(path)  # as if the disk had done it
    (bench.out(3) / "done.json").write_text(json.dumps(mark))
    assert bench.open_all() == []
    assert bench.open(4, "--force", "--verify") == 2
    assert f"{path} has other bytes than were written; make it again: python {DOORS[3]}" in capsys.readouterr().err
    assert bench.open_all("--verify") == [3]


def test_result_of_other_code_is_told_in_one_line_and_kept(
    bench: Bench, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    bench.open_all()
    monkeypatch.setattr(done_module, "code_digest", lambda: "another")
    monkeypatch.setattr(done_module, "commit", lambda: "new")
    capsys.readouterr()
    assert bench.open(5) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "05_backbone was made by: commit unknown (this is new); --force makes it again"
    assert lines[2].startswith("already done") and len(lines) == 4
    assert bench.open_all() == []


def test_another_device_redoes_the_embeddings_and_is_told_of_the_training(
    bench: Bench, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    bench.open_all("--device", "cuda")
    assert bench.open_all("--device", "cuda") == bench.open_all("--device", "auto") == []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert bench.open_all("--device", "auto") == [], "whoever asks for nothing keeps what is there"
    capsys.readouterr()
    assert bench.open_all("--device", "cpu") == [7]
    told = capsys.readouterr().out
    assert [f"{FOLDERS[n]} was made by: --device cuda; --force makes it again" in told for n in range(1, 9)] == [
        False
    ] * 3 + [True] * 3 + [False] * 2
    assert bench.open_all("--device", "cpu") == bench.open_all("--device", "auto") == []


@pytest.mark.parametrize(("number", "name"), [(n, name) for n, names in VERSIONS.items() for name in names])
def test_raised_version_of_the_code_makes_what_it_wrote_again_if_asked(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int, name: str
):
    bench.open_all()
    was = VERSIONS[number][name]
    monkeypatch.setitem(VERSIONS, number, VERSIONS[number] | {name: 99})
    assert bench.open(number) == 2
    assert f"is finished with version of the code.{name} {was}, not 99" in capsys.readouterr().err
    assert bench.open_all("--replace") == [number]


def test_raw_data_behind_links_reruns_the_doors_that_read_images(bench: Bench):
    (bench.folder / "elsewhere").mkdir()
    (bench.folder / "elsewhere/1.jpg").write_bytes(b"1")
    (bench.folder / "data/toys/linked").symlink_to(bench.folder / "elsewhere")
    bench.open_all()
    (bench.folder / "elsewhere/1.jpg").write_bytes(b"2")
    assert bench.open_all() == [1, 3]


@pytest.mark.parametrize("number", [2, 5, 8])
def test_second_start_is_told_and_touches_nothing(bench: Bench, capsys: pytest.CaptureFixture[str], number: int):
    for earlier in range(1, number):
        bench.open(earlier)
    other = bench.out(number) / ".result.txt.01234567-1.tmp"
    with holder(bench.out(number).parent) as process:
        other.mkdir(parents=True)
        capsys.readouterr()
        bench.calls.clear()
        assert bench.open(number) == 2
        told = capsys.readouterr().err
        assert (
            told.startswith(f"error: {bench.folder / 'out/mine'} is in use by process {process.pid} on ")
            and told.count("\n") == 1
        )
        assert bench.calls == [] and other.exists()
        assert bench.open(1) == 0 and bench.calls == [], "what is done can be asked for"
    assert bench.open(number) == 0 and bench.calls == [number]
    assert not other.exists(), "what the killed process left is swept"
    assert list(json.loads((bench.out(number) / "done.json").read_text())["outputs"]) == ["result.txt"]


def test_start_that_another_one_overtook_does_not_do_the_work_again(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    usual = door_module.locked

    @contextlib.contextmanager
    def after_another_start(out: Path) -> Iterator[bool]:
        monkeypatch.setattr(door_module, "locked", usual)
        assert bench.open(1) == 0
        with usual(out) as is_locked:
            yield is_locked

    monkeypatch.setattr(door_module, "locked", after_another_start)
    assert bench.open(1) == 0 and bench.calls == [1]


def test_cache_loses_what_dead_processes_left_and_keeps_what_others_may_write(bench: Bench):
    dead = subprocess.Popen(["true"])
    dead.wait()
    cache = bench.out(1).parent / "cache"
    here = hashlib.sha256(platform.node().encode()).hexdigest()[:8]
    for writer in (f"{here}-{dead.pid}", f"{here}-{os.getppid()}", f"01234567-{dead.pid}"):
        (cache / f".a.npy.{writer}.tmp").mkdir(parents=True)
    assert bench.open(1) == 0
    assert sorted(path.name for path in cache.iterdir()) == sorted(
        [f".a.npy.{here}-{os.getppid()}.tmp", f".a.npy.01234567-{dead.pid}.tmp"]
    )


def test_of_several_processes_only_the_first_locks(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with holder(bench.out(1).parent):
        assert bench.open(1) == 0 and bench.calls == [1]


def test_two_recipes_on_one_data_root_do_not_touch_each_other(bench: Bench, tmp_path: Path):
    bench.open_all()
    other = bench.folder / "other.py"
    other.write_text(RECIPE.replace('"mine"', '"other"'))
    with holder(bench.folder / "out/mine"):
        before = {path: path.read_bytes() for path in bench.folder.rglob("*") if path.is_file()}
        assert bench.open_all("--recipe", str(other)) == list(DOORS)
        after = {
            path: path.read_bytes()
            for path in bench.folder.rglob("*")
            if path.is_file() and "out/other" not in str(path)
        }
    assert after.keys() == before.keys()
    assert {path for path in before if after[path] != before[path]} <= {bench.out(1).parent / ".lock"}
    assert bench.open_all() == bench.open_all("--recipe", str(other)) == []


AS_ANOTHER = """
import os, sys
from guie.door import open_door
if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
sys.exit(max(open_door(number, "A door.", lambda run: {{}}, {options!r}) for number in {numbers!r}))
"""


def open_as_another(bench: Bench, numbers: list[int], *more: str) -> subprocess.CompletedProcess[str]:
    code = AS_ANOTHER.format(numbers=numbers, options=bench.options(*more))
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_finished_run_of_another_user_is_done_and_an_unfinished_one_is_told(bench: Bench):
    bench.open_all()
    for parent in bench.folder.parents[:4]:  # of pytest, for its user alone
        if parent.name.startswith(("pytest-", "popen-")):
            parent.chmod(0o755)
    folders = [path for path in [bench.folder, *bench.folder.rglob("*")] if path.is_dir()]
    files = [path for path in bench.folder.rglob("*") if path.is_file()]
    try:
        for path in files:
            path.chmod(0o444)
        for path in folders:
            path.chmod(0o555)
        done = open_as_another(bench, list(DOORS))
        assert done.returncode == 0 and done.stdout.count("already done") == 9 and not done.stderr, done
        refused = open_as_another(bench, [1], "--force")
        assert refused.returncode == 2 and refused.stderr.count("\n") == 1, refused
        assert (
            f"error: {bench.out(1).parent} cannot be written to (Permission denied); choose another place with --out"
            in refused.stderr
        )
    finally:
        for path in folders:
            path.chmod(0o755)
    assert bench.open_all() == []


def test_force_clears_and_does_it_again(bench: Bench):
    bench.open(1)
    (bench.out(1) / "left_over.txt").touch()
    bench.open(1, "--force")
    assert bench.calls == [1, 1]
    assert not (bench.out(1) / "left_over.txt").exists()


def test_unforced_rerun_keeps_what_is_there_to_resume_from(bench: Bench):
    bench.open(1)
    (bench.out(1) / "last.pt").touch()
    bench.open(1, "--set", "seed=1")
    assert (bench.out(1) / "last.pt").exists()


def test_failed_work_leaves_the_door_unfinished(bench: Bench, capsys: pytest.CaptureFixture[str]):
    bench.open(1)

    def work(run: Run) -> dict[str, Any]:
        raise ValueError("toys holds no images; look at data.sources.toys.folder")

    assert open_door(1, "A door.", work, bench.options("--force")) == 2
    assert capsys.readouterr().err == "error: toys holds no images; look at data.sources.toys.folder\n"
    assert not (bench.out(1) / "done.json").exists()
    assert "Traceback" in (bench.out(1) / "log.txt").read_text()
    assert bench.open(2) == 2


def test_error_that_nobody_foresaw_is_one_line_with_its_place_and_the_traceback_in_the_log(
    bench: Bench, capsys: pytest.CaptureFixture[str]
):
    def work(run: Run) -> dict[str, Any]:
        return {"n": {}["absent"]}

    assert open_door(1, "A door.", work, bench.options()) == 1
    log = bench.out(1) / "log.txt"
    told = capsys.readouterr().err
    assert re.fullmatch(
        r"error: door 01 stopped at work \(tests/unit/test_door.py:\d+\): KeyError: 'absent'; the traceback is in "
        rf"{re.escape(str(log))}\n",
        told,
    )
    assert "Traceback (most recent call last)" in log.read_text() and "KeyError: 'absent'" in log.read_text()
    assert not (bench.out(1) / "done.json").exists()


def test_traceback_of_a_user_error_on_request(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GUIE_TRACEBACK", "1")
    with pytest.raises(ValueError, match="not finished"):
        bench.open(2)


def test_interruption_tells_how_to_go_on(bench: Bench, capsys: pytest.CaptureFixture[str]):
    def work(run: Run) -> dict[str, Any]:
        raise KeyboardInterrupt

    assert open_door(1, "A door.", work, bench.options("--set", "seed=1")) == 130
    told = capsys.readouterr().err
    assert (
        told.startswith("interrupted; to go on: python data_prep/01_build_manifests.py --recipe ")
        and "--set seed=1" in told
    )


def test_missing_door_before_is_named_by_its_command(bench: Bench, capsys: pytest.CaptureFixture[str]):
    assert bench.open(3, "--set", "seed=4") == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert (
        f"{bench.out(2)} is not finished; first run: python data_prep/02_merge_and_balance.py --recipe {bench.recipe} "
        "--set seed=4" in told
    )
    assert f"--out {bench.folder / 'out'}" in told
    assert bench.calls == []


def test_door_before_with_other_settings_is_named_by_its_command(bench: Bench, capsys: pytest.CaptureFixture[str]):
    bench.open(1)
    assert bench.open(2, "--set", "seed=4") == 2
    assert (
        "was made with other settings of the recipe; run it again: python data_prep/01_build_manifests.py"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        (("--set", "sed=1"), "no field 'sed'; did you mean 'seed'?"),
        (("--set", "stages.s1.optim.n_epochs=0"), "stages.s1.optim.n_epochs is 0, must be 1 to"),
        (("--recipe", "tinny"), "no recipe 'tinny'"),
        (("--recipe", "nowhere.py"), "recipe file nowhere.py does not exist"),
        (("--device", "gpu"), "--device 'gpu' is no device; use cpu, cuda, cuda:N or auto"),
    ],
)
def test_user_error_is_one_line_and_status_2(
    bench: Bench, capsys: pytest.CaptureFixture[str], more: tuple[str, ...], complaint: str
):
    assert bench.open(1, *more) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ") and complaint in told and told.count("\n") == 1
    assert bench.calls == []


def test_device_cuda_without_one_is_a_user_error(
    bench: Bench, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert [bench.open(number) for number in (1, 2, 3)] == [0, 0, 0]
    assert bench.open(4, "--device", "cuda:1") == 2
    assert "sees no CUDA device here; use --device cpu" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("is_available", "use_cpu", "expected"),
    [(True, "", "cuda"), (False, "", "cpu"), (True, "true", "cpu"), (True, "false", "cuda")],
)
def test_device_auto_takes_the_accelerator_if_there_is_one(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, is_available: bool, use_cpu: str, expected: str
):
    monkeypatch.setenv("ACCELERATE_USE_CPU", use_cpu)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: is_available)
    seen: list[str] = []

    def work(run: Run) -> dict[str, Any]:
        seen.append(run.device)
        return {}

    assert [bench.open(number) for number in (1, 2, 3)] == [0, 0, 0]
    open_door(4, "A door.", work, bench.options("--device", "auto"))
    assert seen == [expected]


def test_threads_are_no_more_than_a_containers_quota_pays(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(launch_module, "n_cores", lambda: 3)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    seen: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", seen.append)
    assert [bench.open(number) for number in (1, 2, 3, 4)] == [0] * 4
    monkeypatch.setenv("OMP_NUM_THREADS", "5")  # the user's word
    assert bench.open(4, "--force") == 0
    assert seen == [3]


@pytest.mark.parametrize(("rank", "writes"), [("0", True), ("1", False)])
@pytest.mark.parametrize("launcher", ["{}", "PMI_{}", "OMPI_COMM_WORLD_{}"])
def test_of_several_processes_the_first_keeps_the_folder(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, launcher: str, rank: str, writes: bool
):
    monkeypatch.setenv(launcher.format("RANK"), rank)
    monkeypatch.setenv("WORLD_SIZE" if launcher == "{}" else launcher.format("SIZE"), "2")
    assert bench.open(1) == 0
    assert (bench.folder / "out/mine/01_manifests/done.json").is_file() == writes


@pytest.mark.parametrize(
    "variables", [{"RANK": "1"}, {"RANK": "3", "WORLD_SIZE": "1"}, {"PMI_RANK": "2", "WORLD_SIZE": "0"}]
)
def test_rank_of_no_launcher_loses_no_work(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variables: dict[str, str]
):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert bench.open(1) == 0
    assert (bench.out(1) / "done.json").is_file() and "next: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "value"), [("RANK", "first"), ("OMPI_COMM_WORLD_RANK", "-1"), ("WORLD_SIZE", "two"), ("PMI_SIZE", "")]
)
def test_rank_that_is_no_number_is_told(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, value: str
):
    monkeypatch.setenv(name, value)
    if name.endswith("RANK"):
        monkeypatch.setenv("WORLD_SIZE", "2")
    assert bench.open(1) == 2 and bench.calls == []
    assert capsys.readouterr().err == f"error: the environment has {name}={value!r}, not a whole number; unset it\n"


def test_launcher_that_started_one_process_for_several_is_told(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "True")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    assert bench.open(1) == 0
    assert "started one" in "".join(capsys.readouterr())
    monkeypatch.setenv("PMI_SIZE", "2")
    assert bench.open(1) == 0
    assert "started one" not in "".join(capsys.readouterr())


def test_data_root_of_a_recipe_that_draws_its_images_is_refused(bench: Bench, capsys: pytest.CaptureFixture[str]):
    given = ["--data-root", str(bench.folder / "data"), "--out", str(bench.folder / "out"), "--recipe"]
    assert open_door(1, "A door.", lambda run: {}, [*given, "tiny"]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"error: --data-root {bench.folder / 'data'}: recipe tiny draws its own images")
    assert told.count("\n") == 1 and not (bench.folder / "out/tiny").exists()
    assert open_door(1, "A door.", lambda run: {}, [*given, str(bench.recipe)]) == 0
    assert open_door(1, "A door.", lambda run: {}, [*given[2:], "tiny"]) == 0, "nobody gave one"
    # Door 04 looks there for weights, whatever draws the images.
    assert open_door(4, "A door.", lambda run: {}, [*given, "tiny"]) == 2
    assert "03_packed is not finished" in capsys.readouterr().err


def test_help_shows_the_docstring_and_the_options(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as caught:
        open_door(1, "Door 01: reads\nand writes.", lambda run: {}, ["--help"])
    assert caught.value.code == 0
    told = capsys.readouterr().out
    assert "Door 01: reads\nand writes." in told
    assert all(option in told for option in ("--recipe", "--set", "--data-root", "--out", "--device", "--force"))


def test_last_line_is_the_next_command_with_the_same_options(bench: Bench, capsys: pytest.CaptureFixture[str]):
    bench.open(1, "--set", "seed=1", "--set", "model.weights=my file.safetensors")
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("next: python data_prep/02_merge_and_balance.py ")
    words = shlex.split(last.removeprefix("next: "))
    assert vars(parser(None).parse_args(words[2:])) == vars(
        parser(None).parse_args(bench.options("--set", "seed=1", "--set", "model.weights=my file.safetensors"))
    )


def test_next_command_leaves_out_defaults_and_force(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("GUIE_OUT", raising=False)
    monkeypatch.delenv("GUIE_DATA", raising=False)
    arguments = parser(None).parse_args(["--force"])
    assert next_command(3, arguments) == "python src/04_train_head.py --recipe demo"
    assert next_command(9, arguments) == "nothing; this was the last door"


@pytest.mark.parametrize("number", list(DOORS))
def test_command_opens_a_door_that_exists(number: int):
    assert shlex.split(command(number, parser(None).parse_args([])))[:2] == ["python", DOORS[number]]
    assert (PROJECT / DOORS[number]).is_file()


def test_run_is_seeded_by_the_recipe(bench: Bench):
    drawn: list[float] = []

    def work(run: Run) -> dict[str, Any]:
        drawn.append(float(torch.rand(())))
        return {}

    for seed in ("1", "1", "2"):
        assert [bench.open(number, "--set", f"seed={seed}", "--replace") for number in (1, 2, 3)] == [0, 0, 0]
        open_door(4, "A door.", work, bench.options("--force", "--set", f"seed={seed}"))
    assert drawn[0] == drawn[1] != drawn[2]


def test_mark_and_recipe_are_saved(bench: Bench):
    bench.open(1, "--set", "seed=3")
    mark = json.loads((bench.out(1) / "done.json").read_text())
    assert (mark["step"], mark["seed"], mark["device"], mark["metrics"], list(mark["outputs"])) == (
        "door 01",
        3,
        "cpu",
        {"n": 1},
        ["result.txt"],
    )
    saved = json.loads((bench.out(1).parent / "recipe.json").read_text())
    assert saved["recipe"] == json.loads(load_recipe(str(bench.recipe), ["seed=3"]).to_json())
    places = {"data_root": str(bench.folder / "data"), "out": str(bench.folder / "out")}
    given = {"recipe": str(bench.recipe), "set": ["seed=3"], **places, "device": "cpu", "scheduler": ""}
    switches = {"force": False, "replace": False, "verify": False}
    assert saved["arguments"] == given | switches | {"tracker": "tensorboard"}


def test_arguments_are_saved_as_they_were_given():
    words = ["--set", "model.weights=a 'b' \"c\"", "--licence", "commercial", "--compare", "an old run", "-", "--force"]
    saved = json.loads(json.dumps(as_data(parser(None, 9).parse_args(words))))
    assert saved["set"] == ["model.weights=a 'b' \"c\"", "data.licence=commercial"]
    assert (saved["compare"], saved["force"], saved["verify"]) == (["an old run", "-"], True, False)


def test_other_processes_leave_the_folder_to_the_first(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert bench.open(1) == 0
    assert bench.calls == [1]
    assert not (bench.out(1) / "done.json").exists() and not (bench.out(1) / "log.txt").exists()
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("number", list(DOORS))
def test_read_fields_exist(bench: Bench, number: int):
    recipe = load_recipe(str(bench.recipe))
    assert set(READS) == set(INPUTS) == set(DOORS)
    for path in reads(recipe, number):
        assert len(recipe.digest(path)) == 16
    assert all(before < number for before in INPUTS[number])


# --- trackers -------------------------------------------------------------------------------------------------


@pytest.fixture
def without_wandb(monkeypatch: pytest.MonkeyPatch) -> None:
    found = launch_module.importlib.util.find_spec
    monkeypatch.setattr(
        launch_module.importlib.util, "find_spec", lambda name: None if name == "wandb" else found(name)
    )


@pytest.mark.parametrize("number", [1, 5])
def test_tracker_that_is_not_installed_is_told_before_the_door_begins(
    bench: Bench, without_wandb: None, number: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench.open(number, "--tracker", "wandb") == 2
    assert capsys.readouterr().err == "error: --tracker wandb needs the package wandb; run: pip install wandb\n"
    assert bench.calls == [] and not (bench.folder / "out").exists()
    assert bench.open(number, "--tracker", "wnadb") == 2
    assert "error: --tracker 'wnadb' is no tracker; use tensorboard, wandb, mlflow\n" in capsys.readouterr().err


def test_tracker_reaches_the_run_and_the_next_command_and_makes_no_door_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.open_all()
    monkeypatch.setattr(launch_module.importlib.util, "find_spec", lambda name: object())
    assert bench.open_all("--tracker", "mlflow") == []
    assert "python src/05_train_backbone.py --recipe" in (out := capsys.readouterr().out) and "--tracker mlflow" in out
    seen: list[str] = []

    def work(run: Run) -> dict[str, Any]:
        seen.append(run.tracker)
        return {}

    assert open_door(4, "A door.", work, bench.options("--tracker", "mlflow", "--force")) == 0
    assert seen == ["mlflow"]
