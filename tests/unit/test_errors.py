"""Every error ends in one line: what failed, what to set, where the traceback is."""

import errno
import multiprocessing
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pytest
import safetensors
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from guie.data.image import header_problem, load_image
from guie.errors import explained, first_sentence, memory_remedy, message, run_to_the_end
from guie.files import load_state, load_weights, save_state, save_weights
from guie.model.weights import read_weights
from guie.run import set_up_logging

FULL = "No space left on device"


def raised(work: Callable[[], object]) -> Exception:
    try:
        work()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def line_of(work: Callable[[], object]) -> tuple[str, int]:
    line, status = explained(raised(work), "door 05", "/out")
    assert "\n" not in line and len(line) < 900
    return line, status


def throw(error: Exception) -> Callable[[], None]:
    def work() -> None:
        raise error

    return work


def huge_array() -> object:
    return np.ones((1 << 45,), np.float64)


def huge_tensor() -> object:
    return torch.ones(1 << 46)


def huge_table() -> object:
    return pa.allocate_buffer(1 << 60)


IN_PARTS = "--set stages.s1.cost.n_parts=2"
# What libraries really say, raised by themselves where a CPU can make them, otherwise as they were seen.
MEMORY = {
    "numpy": huge_array,
    "torch": huge_tensor,
    "pyarrow": huge_table,
    "python": throw(MemoryError()),
    "fork": throw(OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))),
    "opencv": throw(
        cv2.error(
            "OpenCV(4.11.0) alloc.cpp:73: error: (-4:Insufficient memory) Failed to allocate 99999 bytes in function "
            "'OutOfMemoryError'"
        )
    ),
    "import": throw(ImportError("libtorch_cpu.so: failed to map segment from shared object")),
    "allocator": throw(RuntimeError("std::bad_alloc")),
}


@pytest.mark.parametrize("name", list(MEMORY))
def test_full_memory_names_what_to_set(name: str) -> None:
    def work() -> None:
        with memory_remedy(IN_PARTS), memory_remedy("--set embed.batch_size=16 (now 32)"):
            MEMORY[name]()

    line, status = line_of(work)
    assert (
        status == 2
        and line.startswith("door 05: the memory is full")
        and "; --set embed.batch_size=16 (now 32) (" in line
    )  # the innermost counts
    assert IN_PARTS not in line


def test_limits_of_container_and_shell_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("guie.errors.memory_limit", lambda: 2_000_000_000)
    monkeypatch.setattr("guie.errors.address_limit", lambda: 3_500_000_000)
    line, _ = line_of(huge_array)
    assert line.startswith(
        "door 05: the memory is full (the container's limit is 2.0 GB, ulimit -v is 3.5 GB); give it more ("
    )


OUT_OF_CARD = (
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 14.7 GiB of which 1.2 GiB is "
    "free.\nSee documentation ..."
)
SHARED = (
    "DataLoader worker (pid 77) is killed by signal: Bus error. It is possible that dataloader's workers are out of "
    "shared memory."
)
KNOWN = [
    (torch.OutOfMemoryError(OUT_OF_CARD), f"the card's memory is full; {IN_PARTS} ("),
    (
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        f"the card's memory is full; {IN_PARTS} (",
    ),
    (
        RuntimeError(SHARED),
        "shared memory is too small (/dev/shm, 64 MB in Docker); start the container with --shm-size=2g",
    ),
    (
        RuntimeError("unable to open shared memory object </torch_7_1> in read-write mode: " + FULL + " (28)"),
        "shared memory is too small",
    ),
    (RuntimeError("unable to write to file </torch_123_456_0>: " + FULL + " (28)"), "shared memory is too small"),
    (
        RuntimeError("DataLoader worker (pid 12) is killed by signal: Killed. "),
        f"was killed, most often for lack of memory; {IN_PARTS}. The same",
    ),
    (RuntimeError("DataLoader worker (pid(s) 1, 2) exited unexpectedly"), "was killed, most often for lack of memory"),
    (
        RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0: " + FULL),
        "at /out: the disk is full; free some space",
    ),
    (RuntimeError("received 0 items of ancdata"), "too many files are open; raise the limit with ulimit -n"),
    (RuntimeError("can't start new thread"), "no more threads or processes may be started"),
    (
        RuntimeError("CUDA error: no kernel image is available for execution on the device"),
        "this torch does not fit the card; --device cpu",
    ),
    (
        RuntimeError("CUDA error: device-side assert triggered\nCUDA kernel errors might be"),
        "the card reported an error; start again, with --device cpu",
    ),
    (
        RuntimeError("[/gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.1.1]:3412"),
        "another process of this run has stopped",
    ),
    (torch._dynamo.exc.Unsupported("Data-dependent branching"), "--set export.has_program=false"),
    (ModuleNotFoundError("No module named 'timm'"), "a package is missing or damaged; pip install -r requirements.txt"),
    (
        ImportError("libGL.so.1: cannot open shared object file: No such file or directory"),
        "pip install opencv-python-headless",
    ),
]


@pytest.mark.parametrize(("error", "meaning"), KNOWN, ids=[str(error)[:40] for error, _ in KNOWN])
def test_known_errors_of_libraries_are_explained(error: Exception, meaning: str) -> None:
    def work() -> None:
        with memory_remedy(IN_PARTS):
            raise error

    line, status = line_of(work)
    assert status == 2 and line.startswith("door 05") and meaning in line and type(error).__name__ in line
    assert line.endswith("GUIE_TRACEBACK=1 shows the traceback")  # there is no log here


@pytest.mark.parametrize(
    ("number", "meaning"),
    [
        (errno.ENOSPC, "the disk is full; free some space, or choose another place with --out"),
        (errno.EDQUOT, "the disk quota is used up"),
        (errno.EACCES, "check its owner and mode, or choose another place with --out"),
        (errno.EROFS, "choose another place with --out"),
        (errno.ENOTDIR, "a file lies where a folder is needed"),
        (errno.EIO, "the disk may be failing"),
        (errno.ESTALE, "mount it again"),
    ],
)
@pytest.mark.parametrize("path", ["/out/x.bin", None])
def test_errors_of_the_system_name_the_path_and_the_remedy(number: int, meaning: str, path: str | None) -> None:
    line, status = line_of(throw(OSError(number, os.strerror(number), path)))
    assert status == 2 and line.startswith(f"{path or '/out'}: {os.strerror(number)}; ") and meaning in line


def test_error_about_two_files_names_the_one_to_be_made(tmp_path: Path) -> None:
    (tmp_path / "made").touch()
    (tmp_path / "wanted").mkdir()
    assert line_of(lambda: (tmp_path / "made").replace(tmp_path / "wanted"))[0].startswith(
        f"{tmp_path / 'wanted'}: Is a directory; a folder lies where"
    )


def test_our_own_words_are_told_as_they_are() -> None:
    assert line_of(throw(ValueError("toys holds no images"))) == ("toys holds no images", 2)
    assert line_of(throw(OSError(errno.ENOSPC, "the disk is full at /here; free some"))) == (
        "the disk is full at /here; free some",
        2,
    )
    assert line_of(throw(FileNotFoundError("weights x are in none of: a, b"))) == ("weights x are in none of: a, b", 2)


class Rows(Dataset[torch.Tensor]):
    """A set whose third image is damaged; and one whose library fails."""

    def __init__(self, is_ours: bool):
        self.is_ours = is_ours

    def __len__(self) -> int:
        return 4

    def __getitem__(self, i: int) -> torch.Tensor:
        if i == 2 and self.is_ours:
            raise ValueError("shard_00001.tar is damaged at image 2; run door 03 again")
        return torch.zeros(2 if i < 2 else np.zeros(3).reshape(5).size)


@pytest.mark.parametrize("is_ours", [True, False])
def test_error_of_a_loader_process_is_its_own_last_line(is_ours: bool) -> None:
    line, status = line_of(lambda: list(DataLoader(Rows(is_ours), num_workers=1)))
    if is_ours:
        assert (line, status) == ("shard_00001.tar is damaged at image 2; run door 03 again", 2)
    else:
        assert status == 1 and re.match(
            r"door 05 stopped at __getitem__ \(tests/unit/test_errors.py:\d+\): ValueError: cannot reshape array of "
            r"size 3",
            line,
        )


def broken() -> None:
    raise ValueError("image 7 is broken")


def dies() -> None:
    os._exit(9)


@pytest.mark.parametrize(
    ("job", "expected"),
    [(broken, "image 7 is broken"), (dies, "door 05: a process that loads or makes images was killed")],
)
def test_error_of_a_pools_process(job: Callable[[], None], expected: str) -> None:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
        line, status = line_of(lambda: pool.submit(job).result())
    assert line.startswith(expected) and status == 2


UNFORESEEN = {
    "numpy": lambda: np.zeros(3) + np.zeros(4),
    "torch": lambda: torch.zeros(2, 3) @ torch.zeros(2, 3),
    "pillow": lambda: Image.new("RGB", (2, 2)).resize((-1, 4)),
    "opencv": lambda: cv2.resize(np.zeros((0, 0, 3), np.uint8), (3, 3)),
    "assert": throw(AssertionError()),
    "type": lambda: len(3),  # type: ignore[arg-type]
    "pyarrow": lambda: pa.array(["a"]).cast(pa.int64()),
}


@pytest.mark.parametrize("name", list(UNFORESEEN))
def test_unforeseen_error_names_its_place(name: str) -> None:
    line, status = line_of(UNFORESEEN[name])
    assert status == 1 and re.match(r"door 05 stopped at \S+ \(tests/unit/test_errors.py:\d+\): \w+", line)


def test_message_of_several_lines_is_one() -> None:
    assert message(ValueError("a\n  b\n\n c")) == "a b c"


def test_interrupted_and_traceback_on_request(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted() -> int:
        raise KeyboardInterrupt

    assert run_to_the_end(interrupted, "x", interrupted="again: this") == 130
    assert capsys.readouterr().err == "interrupted; again: this\n"
    assert run_to_the_end(lambda: None, "x") == 0 and run_to_the_end(lambda: 3, "x") == 3
    monkeypatch.setenv("GUIE_TRACEBACK", "1")
    with pytest.raises(RuntimeError, match="bare"):
        run_to_the_end(throw(RuntimeError("bare")), "x")


def test_warnings_and_remarks_of_libraries_go_to_the_log_alone(tmp_path: Path) -> None:
    code = (
        "import logging, warnings; from pathlib import Path; from guie.run import set_up_logging\n"
        f"set_up_logging(Path({str(tmp_path)!r}))\n"
        "warnings.warn('a warning'); logging.warning('a remark'); logging.getLogger('timm').warning('of timm'); "
        "logging.getLogger('guie.x').warning('ours')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr, done.returncode) == ("ours\n", "", 0)
    logged = (tmp_path / "log.txt").read_text()
    assert all(text in logged for text in ("a warning", "a remark", "of timm", "ours")) and logged.count("ours") == 1


def test_without_a_folder_libraries_speak_as_they_do() -> None:
    code = "import warnings; from guie.run import set_up_logging; set_up_logging(None); warnings.warn('a warning')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "a warning" in done.stderr
    set_up_logging(None)


def dies_of_memory() -> None:
    os.kill(os.getpid(), signal.SIGKILL)  # as the kernel does when memory is short


class Killed(Dataset[torch.Tensor]):
    """Whose process the kernel kills."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, i: int) -> torch.Tensor:
        dies_of_memory()
        return torch.zeros(1)


def test_killed_loader_process_is_told() -> None:
    line, status = line_of(lambda: list(DataLoader(Killed(), num_workers=1)))
    assert status == 2 and line.startswith(
        "door 05: a process that loads or makes images was killed, most often for lack of memory; give it more."
    )


@pytest.mark.skipif(sys.platform != "linux", reason="reads the address space in use from /proc")
def test_error_is_told_where_no_byte_is_left() -> None:
    """Everything that could be allocated is kept, so a message that needs an import or a file would fail, too."""
    script = (
        "import re, resource\n"
        "from pathlib import Path\n"
        "from guie.errors import run_to_the_end\n"
        "kept = []\n"
        "def work():\n"
        "    used = int(re.search(r'VmSize:\\s+(\\d+)', Path('/proc/self/status').read_text())[1]) * 1024\n"
        "    resource.setrlimit(resource.RLIMIT_AS, (used + 20_000_000, -1))\n"
        "    for size in (100_000, 1_000, 50, 1):\n"
        "        try:\n"
        "            while True:\n"
        "                kept.append(bytearray(size))\n"
        "        except MemoryError:\n"
        "            if size == 1:\n"
        "                raise\n"
        "raise SystemExit(run_to_the_end(work, 'door 05'))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2, done.stderr
    assert re.fullmatch(r"error: door 05: the memory is full \(ulimit -v is [\d.]+ GB\); give it more.*\n", done.stderr)


OF_THE_MACHINE = [
    MemoryError(),
    OSError(errno.EMFILE, "Too many open files"),
    OSError(errno.EIO, "Input/output error"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory"),
    ImportError("libtorch_cpu.so: failed to map segment from shared object"),
]


@pytest.mark.parametrize(
    "error", OF_THE_MACHINE, ids=[type(error).__name__ + str(i) for i, error in enumerate(OF_THE_MACHINE)]
)
def test_fault_of_the_machine_is_not_told_as_a_damaged_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    Image.new("RGB", (40, 30)).save(tmp_path / "x.jpg")
    save_state(tmp_path / "x.pt", {"a": torch.zeros(2)})
    save_weights(tmp_path / "x.safetensors", {"a": torch.zeros(2)})

    def fails(*_: object, **__: object) -> None:
        raise error

    for module, name, read, path in (
        (torch, "load", load_state, "x.pt"),
        (torch, "load", read_weights, "x.pt"),
        (safetensors, "safe_open", load_weights, "x.safetensors"),
        (Image, "open", load_image, "x.jpg"),
        (Image, "open", header_problem, "x.jpg"),
    ):
        read(tmp_path / path)  # it is whole
        with monkeypatch.context() as patch, pytest.raises(type(error)) as caught:
            patch.setattr(module, name, fails)
            read(tmp_path / path)
        assert caught.value is error


def test_missing_or_damaged_image_stays_a_problem_of_the_image(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(b"\xff\xd8\xff rubbish")
    assert (
        header_problem(tmp_path / "x.jpg").startswith("unreadable header")
        and header_problem(tmp_path / "none.jpg") == "missing"
    )


def test_long_message_of_a_library_is_not_cut_in_a_word() -> None:
    told = "failed finding central directory. If you are seeing this error, your checkpoint file is\ncorrupted"
    assert first_sentence(RuntimeError(told)) == "failed finding central directory"
    assert first_sentence(RuntimeError("a word " * 9), longest=20) == "a word a word a ..."
    assert first_sentence(KeyError()) == "KeyError"
