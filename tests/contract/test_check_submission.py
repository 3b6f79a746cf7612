"""The independent checker: a sound submission passes; every hostile one gets its own clear line and its remedy."""

import importlib.util
import itertools
import json
import os
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from opening import forked
from PIL import Image
from torch import Tensor, nn

from guie.embed.ensemble import Tower
from guie.export.submission import write_zip
from guie.export.torchscript import build_submission, quiet_jit
from guie.kaggle.session import TOO_SLOW

CHECKER = Path(__file__).resolve().parents[2] / "submission" / "check_submission.py"


def _load_checker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_submission", CHECKER)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


checker = _load_checker()


class Sound(nn.Module):
    """Mean colours of a 4 x 4 grid, with one more number for the brightness at the end: 48 + 16."""

    def forward(self, images: Tensor) -> Tensor:
        square = (
            F.interpolate(images.float(), size=[4, 4], mode="bilinear", antialias=True, align_corners=False) / 255.0
        )
        return torch.cat([square.flatten(1), square.mean(1).flatten(1)], dim=1)


class Wide(Sound):
    def forward(self, images: Tensor) -> Tensor:
        return torch.cat([self.grid(images), self.grid(images)], dim=1)

    def grid(self, images: Tensor) -> Tensor:
        square = (
            F.interpolate(images.float(), size=[4, 4], mode="bilinear", antialias=True, align_corners=False) / 255.0
        )
        return torch.cat([square.flatten(1), square.mean(1).flatten(1)], dim=1)


class Flat(Wide):
    def forward(self, images: Tensor) -> Tensor:
        return self.grid(images)[0]


class Double(Wide):
    def forward(self, images: Tensor) -> Tensor:
        return self.grid(images).double()


class Half(Wide):
    def forward(self, images: Tensor) -> Tensor:
        return self.grid(images).half()


class NotANumber(Wide):
    """Divides by the length, which is 0 for a black image."""

    def forward(self, images: Tensor) -> Tensor:
        embedding = self.grid(images)
        return embedding / embedding.norm(p=2.0, dim=1, keepdim=True)


class Pair(Wide):
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return self.grid(images), images


class FullSize(Wide):
    """Meets the image at its own size: nothing smaller than its kernel passes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 64, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.conv(images.float()).mean((2, 3))


class WantsFloat(Wide):
    def forward(self, images: Tensor) -> Tensor:
        assert images.dtype == torch.float32, "floats only"
        return self.grid(images)


class Random(Wide):
    def forward(self, images: Tensor) -> Tensor:
        embedding = self.grid(images)
        return embedding + 0.01 * torch.rand_like(embedding)


class Blind(Wide):
    def forward(self, images: Tensor) -> Tensor:
        return torch.ones(1, 64)


class Counting(Wide):
    """Drifts with every call, by too little for two calls in a row to show."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("n_calls", torch.zeros(1))

    def forward(self, images: Tensor) -> Tensor:
        self.n_calls += 1
        return self.grid(images) + 2e-5 * self.n_calls


def save_script(module: nn.Module, path: Path) -> Path:
    with quiet_jit():
        torch.jit.save(torch.jit.script(module.eval()), str(path))
    return path


def zipped(tmp_path: Path, module: nn.Module) -> Path:
    write_zip(save_script(module, tmp_path / "saved_model.pt"), tmp_path / "submission.zip")
    return tmp_path / "submission.zip"


def run_checker(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The outer process is forked; it starts the inner ones itself. test_whole_house.py starts it as a user does."""
    return forked([CHECKER, *arguments])


def write_expected(folder: Path, embed: Callable[[Tensor], Tensor], n: int = 3) -> Path:
    folder.mkdir()
    embeddings = []
    for i in range(n):
        image = np.random.default_rng(i).integers(0, 256, (11 + i, 30, 3), dtype=np.uint8)
        Image.fromarray(image).save(folder / f"{i}.png")
        with torch.no_grad():
            embeddings.append(embed(torch.from_numpy(image).permute(2, 0, 1)[None])[0].numpy())
    np.savez(folder / "expected.npz", names=np.array([f"{i}.png" for i in range(n)]), embeddings=np.stack(embeddings))
    return folder


def test_probe_of_a_sound_module_agrees_with_eager(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    embeddings, _ = checker.probe(
        save_script(Sound(), tmp_path / "saved_model.pt"), write_expected(tmp_path / "parity", Sound()), 0.999
    )
    assert (
        list(embeddings) == [f"{height}x{width}" for height, width in checker.SIZES] + ["black 64x64"]
        and (1, 1) in checker.SIZES
    )
    image = torch.from_numpy(np.array(checker.probe_images()["300x1200"])).permute(2, 0, 1)[None]
    np.testing.assert_allclose(embeddings["300x1200"], Sound()(image)[0].numpy(), atol=1e-6)
    shown = capsys.readouterr().out
    assert shown.count("ok    ") == len(shown.splitlines()) == 1 + 10 + 2 + 1
    assert "205,000 take" in shown and "GB at the peak" in shown and "3 images, smallest cosine" in shown


@pytest.mark.parametrize(
    ("module", "what", "remedy"),
    [
        (Wide(), r"returns shape \[1, 128\] on 1x1", "64 numbers alone, and more score 0.0"),
        (Flat(), r"returns shape \[64\] on 1x1", r"return \[1, 64\]"),
        (Double(), "returns float64 on 1x1", r"\.float\(\)"),
        (Half(), "returns float16 on 1x1", r"\.float\(\)"),
        (NotANumber(), "64 of 64 numbers are not finite on black 64x64", "1e-12"),
        (Pair(), "returns a tuple on 1x1", "return one tensor"),
        (FullSize(), "raises on 1x1: .*Kernel size can't be greater than actual input", "resize inside the graph"),
        (WantsFloat(), "raises on 1x1: .*floats only", "script"),
        (Random(), "two calls on 1x1 differ by 0.0", r"call \.eval\(\) before tracing"),
        (Blind(), "all images get the same embedding", "ignores its input"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_hostile_module_gets_its_line(tmp_path: Path, module: nn.Module, what: str, remedy: str) -> None:
    path = save_script(module, tmp_path / "saved_model.pt")
    with pytest.raises(checker.BreachError, match=f"FAIL  .*{what}.*\nFIX   .*{remedy}") as caught:
        checker.probe(path, None, 0.999)
    assert len(str(caught.value).splitlines()) == 2


def test_drift_over_calls_shows_between_the_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def in_this_process(model: Path, results: Path, options: list[object], timeout: float) -> object:
        return checker.probe(model, None, 0.999, "--backwards" in options)

    monkeypatch.setattr(checker, "_run_process", in_this_process)
    with pytest.raises(checker.BreachError, match=r"two processes disagree on .*\nFIX   the module changes its state"):
        checker.check(zipped(tmp_path, Counting()), None, 0.999, 60.0)
    checker.check(zipped(tmp_path, Sound()), None, 0.999, 60.0)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def make_state_dict(path: Path) -> None:
    torch.save(Sound().state_dict(), path)


def make_eager(path: Path) -> None:
    torch.save({"weights": torch.zeros(3)}, path)


def make_text(path: Path) -> None:
    path.write_text("weights go here")


def make_empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("spoil", [truncate, make_state_dict, make_eager, make_text, make_empty])
def test_file_that_is_no_whole_module(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    path = save_script(Sound(), tmp_path / "saved_model.pt")
    spoil(path)
    with pytest.raises(
        checker.BreachError,
        match=r"FAIL  torch.jit.load cannot read saved_model.pt: .+\nFIX   write it by torch.jit.save",
    ) as caught:
        checker.load(path)
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (["model.pt"], "holds 'model.pt', it must hold exactly saved_model.pt at its root"),
        (["submission/saved_model.pt"], "holds 'submission/saved_model.pt'"),
        (["submission/", "submission/saved_model.pt"], "holds 'submission/', 'submission/saved_model.pt'"),
        (["saved_model.pt", "card.json"], "holds 'saved_model.pt', 'card.json'"),
        (["saved_model.pt", "__MACOSX/._saved_model.pt"], "holds .*'__MACOSX/"),
        (["../saved_model.pt"], r"holds '\.\./saved_model.pt'"),
        ([], "holds nothing"),
        ([f"{i}.bin" for i in range(9)], "holds .*'4.bin' and 4 more"),
    ],
)
def test_zip_that_holds_something_else(tmp_path: Path, names: list[str], shown: str) -> None:
    path = tmp_path / "submission.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    with pytest.raises(
        checker.BreachError, match=f"FAIL  the zip {shown}.*\nFIX   .*zip -j submission.zip saved_model.pt"
    ):
        checker.unpack(path, tmp_path)


def test_zip_that_is_damaged(tmp_path: Path) -> None:
    path = zipped(tmp_path, Sound())
    whole = path.read_bytes()
    # the end of the zip is gone, and that of the .pt inside, itself a zip, is found
    cut = r"holds 'saved_model/data.pkl'"
    for spoiled, what in (
        (whole[:-30], cut),
        (whole[: len(whole) // 2], "is not a whole"),
        (b"text", "is not a whole"),
        (b"", "is not a whole"),
    ):
        path.write_bytes(spoiled)
        with pytest.raises(checker.BreachError, match=what):
            checker.unpack(path, tmp_path)
    middle = len(whole) // 2
    path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    with pytest.raises(checker.BreachError, match=r"is not a whole zip file \(Bad CRC-32"):
        checker.unpack(path, tmp_path)
    with pytest.raises(checker.BreachError, match=r"nowhere.zip is not a file\nFIX   give the path"):
        checker.unpack(tmp_path / "nowhere.zip", tmp_path)


def test_zip_with_a_password(tmp_path: Path) -> None:
    path = zipped(tmp_path, Sound())
    data = bytearray(path.read_bytes())
    data[6] |= 1  # the encryption bit of the local header and of the directory
    data[data.rindex(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(checker.BreachError, match=r"cannot be unpacked \(.*encrypted.*\n.*without a password"):
        checker.unpack(path, tmp_path)


def test_embeddings_that_are_not_the_expected_ones(tmp_path: Path) -> None:
    path = save_script(Sound(), tmp_path / "saved_model.pt")
    other = write_expected(tmp_path / "other", lambda images: Sound()(images).flip(1) - 0.5)
    with pytest.raises(
        checker.BreachError,
        match=r"0.png: cosine -?0\.\d+ to the expected embedding, below 0.999\nFIX   .*run the export again",
    ):
        checker.compare(checker.load(path), other, 0.999)


def test_expected_folder_that_is_not_whole(tmp_path: Path) -> None:
    with pytest.raises(
        checker.BreachError, match=r"expected.npz cannot be read .*\nFIX   give the export's parity/ folder"
    ):
        checker.read_expected(tmp_path)
    folder = write_expected(tmp_path / "parity", Sound())
    (folder / "1.png").unlink()
    with pytest.raises(checker.BreachError, match=r"parity lacks '1.png'"):
        checker.read_expected(folder)
    (folder / "1.png").write_bytes(b"no image")
    with pytest.raises(checker.BreachError, match=r"1.png is not a whole image"):
        checker.compare(Sound().eval(), folder, 0.999)
    np.savez(folder / "expected.npz", names=np.array(["0.png"]), embeddings=np.zeros((2, 64)))
    with pytest.raises(checker.BreachError, match=r"1 names and embeddings of shape \[2, 64\]"):
        checker.read_expected(folder)
    np.savez(folder / "expected.npz", names=np.array(["0.png", None], dtype=object), embeddings=np.zeros((2, 64)))
    with pytest.raises(checker.BreachError, match=r"cannot be read \(.*pickle"):
        checker.read_expected(folder)


@pytest.mark.parametrize(
    ("script", "what"),
    [
        ("kill -9 $$", "ended with status -9"),
        ("exit 1", "ended with status 1"),
        ("exec sleep 30", r"had not ended after 1 s"),
    ],
)
def test_process_that_dies_or_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, what: str) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    monkeypatch.setattr(checker.sys, "executable", str(python))
    with pytest.raises(checker.BreachError, match=what):
        checker._run_process(tmp_path / "saved_model.pt", tmp_path / "out.npz", [], 1.0)


@pytest.mark.slow
def test_network_is_forbidden_in_the_inner_process() -> None:
    code = (
        f"import importlib.util as u; s = u.spec_from_file_location('c', {str(CHECKER)!r}); c = u.module_from_spec(s); "
        "s.loader.exec_module(c)\n"
        "import socket; c._forbid_network()\n"
        "for use in (socket.socket, lambda: socket.getaddrinfo('example.com', 80)):\n"
        "    try: use()\n"
        "    except PermissionError as error: print(error)\n"
    )
    done = forked(["-c", code])
    assert done.stdout.count("the scorer has no network") == 2, done.stderr


class Talking(Sound):
    """Prints at every call, as a debugging line left in a forward does."""

    def forward(self, images: Tensor) -> Tensor:
        print("ok    the module's own words", images.size(2))
        square = (
            F.interpolate(images.float(), size=[4, 4], mode="bilinear", antialias=True, align_corners=False) / 255.0
        )
        return torch.cat([square.flatten(1), square.mean(1).flatten(1)], dim=1)


@pytest.mark.slow
def test_a_modules_own_prints_stay_out_of_the_table(tmp_path: Path) -> None:
    folder = a_folder(tmp_path / "data", LAYOUT)
    done = run_checker(zipped(tmp_path, Talking()), "--score", folder)
    assert done.returncode == 0 and done.stderr == "", done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert (
        sum(line.startswith("ok    ") for line in lines) == 1 + 1 + 10 + 2 + 1 + 1
    )  # the table of a silent module, and the score
    shown = [line for line in lines if "the module's own words" in line]
    assert len(shown) == 2 and all(
        line.startswith("look  printed meanwhile") for line in shown
    )  # of the checks, and of the score
    assert "The submission is sound." in lines and "0.5833   2 queries" in done.stdout


def test_what_a_dying_process_said_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho to stdout\necho terminate called >&2\nexit 7\n")
    python.chmod(0o755)
    monkeypatch.setattr(checker.sys, "executable", str(python))
    with pytest.raises(checker.BreachError, match="ended with status 7"):
        checker._run_process(tmp_path / "saved_model.pt", tmp_path / "out.npz", [], 9.0)
    told = capsys.readouterr()
    assert told.err.split() == ["to", "stdout", "terminate", "called"] and told.out == ""


class Slow(Sound):
    """Takes a second or two an image."""

    def forward(self, images: Tensor) -> Tensor:
        square = (
            F.interpolate(images.float(), size=[4, 4], mode="bilinear", antialias=True, align_corners=False) / 255.0
        )
        x = torch.zeros(1200, 1200)
        for _ in range(40):
            x = torch.matmul(x, x)
        return torch.cat([square.flatten(1), square.mean(1).flatten(1)], dim=1) + x[0, 0]


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_scratch_and_inner_process_go_when_it_is_ended(number: signal.Signals, status: int, tmp_path: Path) -> None:
    path, scratch = zipped(tmp_path, Slow()), tmp_path / "scratch"
    scratch.mkdir()
    environment = os.environ | {"TMPDIR": str(scratch)}
    with subprocess.Popen(
        [sys.executable, str(CHECKER), str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        assert process.stdout is not None and process.stdout.readline().startswith("ok    zip")
        assert process.stdout.readline().startswith("ok    torch.jit.load")  # the inner process is at work
        (folder,) = scratch.iterdir()
        inner = [p for p in Path("/proc").glob("[0-9]*") if str(folder).encode() in read_if_there(p / "cmdline")]
        assert len(inner) == 1 and (folder / "saved_model.pt").is_file()
        process.send_signal(number)
        _, told = process.communicate(timeout=60)
    assert process.returncode == status and told == ""
    assert list(scratch.iterdir()) == []
    assert not inner[0].exists() or str(folder).encode() not in read_if_there(inner[0] / "cmdline")


def read_if_there(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_checker_imports_nothing_of_ours() -> None:
    lines = CHECKER.read_text().splitlines()
    imported = {line.split()[1].split(".")[0] for line in lines if line.strip().startswith(("import ", "from "))}
    assert len(imported) > 10
    assert imported - set(sys.stdlib_module_names) == {"torch", "PIL", "numpy"}


@pytest.mark.slow
@pytest.mark.full
def test_command_passes_an_export_and_its_parity_images(tmp_path: Path) -> None:
    """Of a real run: tests/pipeline/test_whole_house.py, the submission is sound."""
    backbone = nn.Sequential(
        nn.Conv2d(3, 8, 5, 2), nn.GELU(), nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(72, 40)
    ).eval()
    towers = [Tower(backbone, 32, ("plain", "flip"), 1.0), Tower(backbone, 48, ("plain",), 1.0)]
    module = build_submission(towers, (0.5,) * 3, (0.5,) * 3, (torch.zeros(80), torch.randn(64, 80)))
    with quiet_jit():
        torch.jit.save(module, str(tmp_path / "saved_model.pt"))
    write_zip(tmp_path / "saved_model.pt", tmp_path / "submission.zip")
    done = run_checker(tmp_path / "submission.zip", "--expected", write_expected(tmp_path / "parity", module))
    assert done.returncode == 0 and done.stderr == "", done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "The submission is sound."
    assert done.stdout.count("ok    ") == 1 + 1 + 10 + 2 + 1 + 1


@pytest.fixture
def one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The inner processes are calls with their own command line."""

    def call(model: Path, options: list[object], printed: Path, timeout: float, is_shown: bool = True) -> None:
        status = checker.main([str(model), "--table", str(os.dup(1)), *map(str, options)])
        checker.TABLE.pop().close()
        if status:
            raise SystemExit(1)

    monkeypatch.setattr(checker, "_run_inner", call)
    monkeypatch.setattr(checker, "_forbid_network", lambda: None)


@pytest.mark.usefixtures("one_process")
def test_module_over_the_time_limit_is_told_last_and_has_a_status_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """9 hours are 0.158 s an image: a clock that gives every second call 0.2 s more stands for a slow module."""
    clock = itertools.count()
    monkeypatch.setattr(checker.time, "perf_counter", lambda: 0.2 * next(clock))
    words = [str(zipped(tmp_path, Sound())), "--expected", str(write_expected(tmp_path / "parity", Sound()))]
    assert checker.main(words) == checker.TOO_SLOW == TOO_SLOW
    *table, what, remedy = capfd.readouterr().out.splitlines()
    # 0.2 * 205,000 s
    expected = "205,000 test images take 11.4 hours at this machine's speed; the limit is 9. All other checks passed"
    assert what == f"FAIL  {expected}"
    assert remedy.startswith("FIX   a smaller network") and "--limit-hours" in remedy
    assert any(line.startswith("slow  time ") for line in table) and not any("sound" in line for line in table)
    assert any(line.startswith("ok    second process") for line in table), "all other checks come before"
    assert checker.main([*words, "--limit-hours", "12"]) == 0, "where the user says so, it is no problem"
    assert capfd.readouterr().out.endswith("The submission is sound.\n")


@pytest.mark.usefixtures("one_process")
@pytest.mark.parametrize("module", [Blind(), Counting()], ids=["blind", "counting"])
def test_slow_module_with_another_fault_is_refused_for_that_one(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], module: nn.Module
) -> None:
    try:
        status = checker.main([str(zipped(tmp_path, module)), "--limit-hours", "0"])
    except SystemExit as ended:  # the inner process has told it
        status = ended.code
    told = capfd.readouterr().out
    assert status == 1 and told.count("FAIL  ") == 1 and "hours at this machine's speed" not in told


@pytest.mark.slow
@pytest.mark.full
def test_command_that_finds_it_too_slow_fails(tmp_path: Path) -> None:
    done = run_checker(zipped(tmp_path, Sound()), "--limit-hours", "1e-9")
    assert done.returncode == TOO_SLOW and "sound" not in done.stdout
    assert [line[:4] for line in done.stdout.splitlines()[-2:]] == ["FAIL", "FIX "]


@pytest.mark.slow
def test_command_fails_with_one_line_and_status_1(tmp_path: Path) -> None:
    done = run_checker(zipped(tmp_path, NotANumber()))
    assert done.returncode == 1 and done.stderr == ""
    assert [line[:4] for line in done.stdout.splitlines()[-2:]] == [
        "FAIL",
        "FIX ",
    ] and "The submission is sound" not in done.stdout


def a_folder(root: Path, layout: dict[str, list[int]]) -> Path:
    """Grey images: `query/red: [10, 20]` makes two files red_10.png and red_20.png of those brightnesses."""
    for folder, values in layout.items():
        (root / folder).mkdir(parents=True)
        for value in values:
            Image.new("RGB", (8, 8), (value,) * 3).save(root / folder / f"{folder.replace('/', '_')}_{value}.png")
    return root


def sound_model(tmp_path: Path) -> Path:
    return save_script(Sound(), tmp_path / "saved_model.pt")


# The nearest by brightness: 10 finds 11 (a), 14 (b), 30 (a), ...; 100 finds 101 (b), 90 (b), 130 (c), ...
LAYOUT = {
    "query/a": [10],
    "query/b": [100],
    "query/lonely": [5],
    "index/a": [11, 30],
    "index/b": [14, 90, 101],
    "index/c": [130, 200],
}


def test_score_of_class_folders_is_the_hosts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checker.score(sound_model(tmp_path), a_folder(tmp_path / "data", LAYOUT))
    told = capsys.readouterr().out
    # a: 11 is right, 14 is not, and only two ranks count: 1/2. b: 101 and 90 are right, the third, 130, is not: 2/3
    assert "mP@5                   0.5833   2 queries, 7 index images" in told and "1 of 3 have no class folder" in told


def test_score_takes_equal_names_in_folders_of_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = a_folder(tmp_path / "data", LAYOUT)
    for path in sorted(folder.rglob("*.png")):
        path.rename(
            path.with_name(path.stem.split("_")[-1].zfill(3)[-2:] + ".png")
        )  # 11 of a and 01 of b, but 30 twice: in c as 130
    assert (folder / "index/a/30.png").is_file() and (folder / "index/c/30.png").is_file()
    checker.score(sound_model(tmp_path), folder)
    assert "mP@5                   0.5833   2 queries, 7 index images" in capsys.readouterr().out


def test_score_by_the_hosts_solution_file_and_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = a_folder(tmp_path / "data", LAYOUT)
    (folder / "solution.csv").write_text(
        "id,images,Usage\nquery_a_10,index_b_14 "
        "index_a_11,Public\nquery_b_100,index_c_200,Private\nquery_lonely_5,index_a_11,Private\n"
    )
    checker.score(sound_model(tmp_path), folder)
    told = capsys.readouterr().out
    assert "mP@5 Public            1.0000   1 queries" in told and "mP@5 Private           0.5000   2 queries" in told


@pytest.mark.parametrize(
    ("solution", "what"),
    [
        ("id,images,Usage\n", "no query"),
        ("id,images,Usage\nquery_a_10,,Public\n", "without a relevant"),
        ("id,images,Usage\nabsent,index_a_11,Public\n", "'absent'"),
        ("id,images,Usage\nquery_a_10,index_a_11 unknown,Public\n", "'unknown'"),
    ],
)
def test_score_refuses_a_solution_that_does_not_fit(solution: str, what: str, tmp_path: Path) -> None:
    folder = a_folder(tmp_path / "data", LAYOUT)
    (folder / "solution.csv").write_text(solution)
    with pytest.raises(checker.BreachError, match=what):
        checker.score(sound_model(tmp_path), folder)


def test_score_refuses_a_folder_without_images(tmp_path: Path) -> None:
    with pytest.raises(checker.BreachError, match="holds no image"):
        checker.score(sound_model(tmp_path), a_folder(tmp_path / "data", {"query/a": [1], "index/a": []}))


def test_nearest_equals_a_loop() -> None:
    rng = np.random.default_rng(0)
    queries, index = ({f"{kind}{i}": rng.normal(0, i + 1, 64) for i in range(n)} for kind, n in (("q", 300), ("i", 40)))
    index["i40"] = index["i7"]
    found = checker.nearest(queries, index)
    for name, vector in queries.items():
        expected = sorted(
            index, key=lambda other: (round(float(((vector - index[other]) ** 2).sum()), 6), int(other[1:]))
        )[:5]
        assert found[name] == expected


def test_card_gains_the_version_it_was_loaded_in(tmp_path: Path) -> None:
    card = tmp_path / "card.json"
    card.write_text('{"recipe": "mine", "loaded_in": ["1.11.0"]}')
    for _ in range(2):
        checker.sign(card)
    assert json.loads(card.read_text()) == {"recipe": "mine", "loaded_in": ["1.11.0", torch.__version__]}
    with pytest.raises(checker.BreachError, match="cannot be read"):
        checker.sign(tmp_path / "absent.json")
