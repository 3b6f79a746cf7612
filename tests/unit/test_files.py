"""Files are whole or absent: after a kill, on a full disk, and when someone else's file is opened."""

import errno
import hashlib
import json
import multiprocessing
import os
import pickle
import platform
import stat
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from guie.data.image import read_image
from guie.data.manifest import write_table
from guie.evaluate.embedding_files import open_embeddings
from guie.evaluate.id_tables import read_ids
from guie.export.submission import save_module, write_zip
from guie.files import (
    checked_digest_of_file,
    digest_of_file,
    digest_of_tensors,
    load_state,
    load_weights,
    save_json,
    save_state,
    save_weights,
    staged,
    sweep,
    whole_file,
)
from guie.own.photos import read_photos


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 2 MB."""
    folder = tmp_path / "small_disk"
    folder.mkdir()
    if (
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True, check=False
        ).returncode
        != 0
    ):
        pytest.skip("a small disk can only be mounted by root")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)  # the caught error may still hold a file open


def write_numpy(path: Path, value: np.ndarray) -> None:
    with whole_file(path) as temporary, temporary.open("wb") as handle:
        np.save(handle, value)


def test_whole_file_appears_only_when_the_block_ends(tmp_path: Path):
    path = tmp_path / "new" / "a.txt"
    with whole_file(path) as temporary:
        temporary.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"
    assert os.listdir(path.parent) == ["a.txt"]


def test_whole_file_error_keeps_the_old_file_and_leaves_nothing_else(tmp_path: Path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(KeyError), whole_file(path) as temporary:
        temporary.write_text("half")
        raise KeyError("stop")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_kill_in_the_middle_of_a_save_keeps_the_old_state_and_the_next_save_sweeps(tmp_path: Path):
    path = tmp_path / "last.pt"
    save_state(path, {"epoch": 1})
    process = multiprocessing.get_context("fork").Process(
        target=save_state, args=(path, {"epoch": 2, "big": torch.zeros(50_000_000)})
    )
    process.start()
    half: list[Path] = []
    deadline = time.monotonic() + 60
    while not (half and half[0].stat().st_size > 1000):
        half = list(tmp_path.glob(f".last.pt.*-{process.pid}.tmp/last.pt"))
        assert time.monotonic() < deadline and process.is_alive()
    process.kill()
    process.join()
    assert load_state(path) == {"epoch": 1}
    assert half[0].exists()
    save_state(path, {"epoch": 3})
    assert load_state(path) == {"epoch": 3}
    assert os.listdir(tmp_path) == ["last.pt"]


def scratch_of(host: str, pid: int, path: Path) -> Path:
    """What a process of that machine writes before it becomes `path`."""
    half = path.with_name(f".{path.name}.{hashlib.sha256(host.encode()).hexdigest()[:8]}-{pid}.tmp") / path.name
    half.parent.mkdir()
    half.write_text("half")
    return half


@pytest.mark.parametrize("is_locked", [False, True])
def test_sweep_leaves_what_somebody_may_still_write_unless_the_run_is_locked(tmp_path: Path, is_locked: bool):
    dead = multiprocessing.get_context("fork").Process(target=int)
    dead.start()
    dead.join()
    here = platform.node()
    (tmp_path / "s1").mkdir()
    of_dead = scratch_of(here, dead.pid, tmp_path / "s1" / "a.json")
    others = [scratch_of(here, os.getppid(), tmp_path / "a.json"), scratch_of("another", dead.pid, tmp_path / "a.json")]
    save_json(tmp_path / "a.json", 1)
    assert of_dead.exists() and all(other.exists() for other in others)
    sweep(tmp_path, is_locked)
    assert not of_dead.parent.exists()
    assert [other.parent.exists() for other in others] == [not is_locked] * 2
    assert json.loads((tmp_path / "a.json").read_text()) == 1


WRITERS: dict[str, Callable[[Path], Any]] = {
    "a.json": lambda path: save_json(path, 1),
    "last.pt": lambda path: save_state(path, {"w": torch.ones(3)}),
    "final.safetensors": lambda path: save_weights(path, {"w": torch.ones(3)}),
    "a.npy": lambda path: write_numpy(path, np.ones(3)),
    "saved_model.pt": lambda path: save_module(torch.jit.script(torch.nn.Linear(2, 2)), path),
    "submission.zip": lambda path: write_zip(Path(__file__), path),
    "train.parquet": lambda path: write_table(path, pd.DataFrame({"a": [1]})),
    "private": lambda path: write_as_a_library_that_makes_private_files(path),
}


def write_as_a_library_that_makes_private_files(path: Path) -> None:
    with whole_file(path) as temporary:
        descriptor, name = tempfile.mkstemp(dir=temporary.parent)
        os.close(descriptor)
        Path(name).rename(temporary)


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o002])
@pytest.mark.parametrize("name", list(WRITERS))
def test_files_have_the_permissions_that_the_umask_asks_for(tmp_path: Path, name: str, umask: int):
    before = os.umask(umask)
    try:
        WRITERS[name](tmp_path / name)
    finally:
        os.umask(before)
    assert os.listdir(tmp_path) == [name]
    assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o666 & ~umask


def test_damaged_byte_of_a_state_is_told_and_not_read(tmp_path: Path):
    path = tmp_path / "last.pt"
    save_state(path, {"w": torch.full((1000,), 7.0)})
    data = bytearray(path.read_bytes())
    place = data.index(struct.pack("<f", 7.0) * 100)
    data[place : place + 400] = bytes(400)
    path.write_bytes(data)
    assert torch.load(path)["w"].min() == 0, "torch itself does not notice"
    with pytest.raises(
        ValueError,
        match=r"last.pt cannot be read as a training state .*another checksum.*; delete it to start the stage anew",
    ):
        load_state(path)


@pytest.mark.parametrize(
    "write",
    [
        lambda path: save_state(path, {"a": torch.ones(2_000_000)}),
        lambda path: save_weights(path, {"a": torch.ones(2_000_000)}),
        lambda path: save_json(path, "x" * 4_000_000),
        lambda path: write_numpy(path, np.ones(1_000_000)),
    ],
    ids=["state", "weights", "json", "numpy"],
)
def test_full_disk_is_told_in_one_line_and_keeps_the_old_file(small_disk: Path, write: Callable[[Path], Any]):
    path = small_disk / "a"
    path.write_text("old")
    with pytest.raises(
        OSError, match=f"the disk is full at {small_disk}; free some space, or choose another place with --out"
    ) as caught:
        write(path)
    assert caught.value.errno == errno.ENOSPC
    assert path.read_text() == "old"
    assert os.listdir(small_disk) == ["a"]


def test_full_disk_errno_is_told_without_a_small_disk(tmp_path: Path):
    with pytest.raises(OSError, match=r"the disk is full"), whole_file(tmp_path / "a"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("error", [OSError(errno.EACCES, "no"), RuntimeError("shapes differ"), ValueError("x")])
def test_other_errors_are_not_called_a_full_disk(tmp_path: Path, error: Exception):
    with pytest.raises(type(error)) as caught, whole_file(tmp_path / "a"):
        raise error
    assert caught.value is error


def test_state_comes_back_equal(tmp_path: Path):
    state = {
        "weights": {"w": torch.randn(3, 4)},
        "epoch": 3,
        "name": "s1",
        "random": torch.get_rng_state(),
        "losses": [0.5, 0.25],
    }
    save_state(tmp_path / "last.pt", state)
    loaded = load_state(tmp_path / "last.pt")
    assert loaded.keys() == state.keys()
    assert torch.equal(loaded["weights"]["w"], state["weights"]["w"]) and torch.equal(loaded["random"], state["random"])
    assert (loaded["epoch"], loaded["name"], loaded["losses"]) == (3, "s1", [0.5, 0.25])


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_truncated_state_is_refused_with_the_remedy(tmp_path: Path, share: float):
    path = tmp_path / "last.pt"
    save_state(path, {"w": torch.randn(1000)})
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(
        ValueError, match=r"last.pt cannot be read as a training state .*; delete it to start the stage anew"
    ):
        load_state(path)


class Evil:
    """Unpickling it would make a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def test_pickle_in_a_state_is_refused_and_not_run(tmp_path: Path):
    path = tmp_path / "last.pt"
    torch.save({"epoch": Evil(tmp_path / "ran")}, path)
    with pytest.raises(ValueError, match=r"cannot be read as a training state"):
        load_state(path)
    assert not (tmp_path / "ran").exists()


def test_state_that_is_no_dict_is_refused(tmp_path: Path):
    torch.save([1, 2], tmp_path / "last.pt")
    with pytest.raises(ValueError, match=r"holds a list, not a training state"):
        load_state(tmp_path / "last.pt")


def test_weights_come_back_equal_also_from_views(tmp_path: Path):
    base = torch.randn(4, 6, requires_grad=True)
    weights = {
        "a": base,
        "a.transposed": base.t(),
        "half": torch.ones(2, dtype=torch.float16),
        "none": torch.zeros(0, 3),
        "scalar": torch.tensor(3),
    }
    save_weights(tmp_path / "w.safetensors", weights)
    loaded = load_weights(tmp_path / "w.safetensors")
    assert loaded.keys() == weights.keys()
    for name, tensor in weights.items():
        assert loaded[name].dtype == tensor.dtype and torch.equal(loaded[name], tensor.detach()), name


def test_weights_missing_file(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"w.safetensors do not exist"):
        load_weights(tmp_path / "w.safetensors")


def test_weights_pickle_is_refused_and_not_run(tmp_path: Path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(pickle.dumps(Evil(tmp_path / "ran")))
    with pytest.raises(ValueError, match=r"not a whole safetensors file .* Pickled weights are read as"):
        load_weights(path)
    assert not (tmp_path / "ran").exists()


def test_weights_truncated_are_refused(tmp_path: Path):
    path = tmp_path / "w.safetensors"
    save_weights(path, {"w": torch.randn(1000)})
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"not a whole safetensors file"):
        load_weights(path)


def test_weights_that_sha256sums_lists_are_checked(tmp_path: Path):
    path, sums = tmp_path / "w.safetensors", tmp_path / "SHA256SUMS"
    save_weights(path, {"w": torch.randn(1000)})
    unlisted = checked_digest_of_file(path)
    listing = subprocess.run(["sha256sum", path.name], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    sums.write_text("0" * 64 + "  other.safetensors\n" + listing)
    assert checked_digest_of_file(path) == unlisted == digest_of_file(path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1  # safetensors itself would not notice
    path.write_bytes(content)
    load_weights(path)
    with pytest.raises(
        ValueError, match=rf"has the SHA-256 .* lists {unlisted}.*: it is damaged or another file; fetch it again"
    ):
        checked_digest_of_file(path)


def test_json_is_readable(tmp_path: Path):
    save_json(tmp_path / "a.json", {"b": [1, 2.5], "a": "é"})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"b": [1, 2.5], "a": "é"}


def test_digest_of_file_is_the_sha256(tmp_path: Path):
    data = bytes(range(256)) * 10_000  # more than one block
    (tmp_path / "a").write_bytes(data)
    assert digest_of_file(tmp_path / "a") == hashlib.sha256(data).hexdigest()[:16]


def test_digest_of_tensors_sees_names_shapes_types_and_values_but_not_order():
    w = torch.arange(6, dtype=torch.float32)
    same = digest_of_tensors({"a": w, "b": w + 1})
    assert digest_of_tensors({"b": w + 1, "a": w}) == same
    others = [
        {"a": w, "c": w + 1},
        {"a": w.reshape(2, 3), "b": w + 1},
        {"a": w.int(), "b": w + 1},
        {"a": w, "b": w + 2},
        {"a": w},
    ]
    assert same not in [digest_of_tensors(other) for other in others]


def test_digest_of_tensors_reads_views_scalars_and_empty_tensors():
    base = torch.arange(6, dtype=torch.float32).reshape(2, 3)
    assert digest_of_tensors({"a": base.t()}) == digest_of_tensors({"a": base.t().contiguous()})
    assert digest_of_tensors({"a": torch.tensor(1.0), "b": torch.zeros(0)}) != digest_of_tensors(
        {"a": torch.tensor(2.0), "b": torch.zeros(0)}
    )
    assert digest_of_tensors({"a": torch.ones(3, dtype=torch.bfloat16)}) != digest_of_tensors(
        {"a": torch.zeros(3, dtype=torch.bfloat16)}
    )


def test_files_that_belong_together_on_a_full_disk(small_disk: Path):
    """The earlier ones stay, and nothing is left of the new ones."""
    for size in (1000, 500):
        with staged(small_disk, "last", "--to") as scratch:
            (scratch / "last").write_bytes(bytes(size))
            (scratch / "other").write_bytes(bytes(size))
    with (
        pytest.raises(OSError, match=r"the disk is full at .*small_disk; free some space, .* with --to"),
        staged(small_disk, "last", "--to") as scratch,
    ):
        (scratch / "last").write_bytes(bytes(10))
        (scratch / "other").write_bytes(bytes(3 << 20))
    assert {path.name: path.stat().st_size for path in small_disk.iterdir()} == {"last": 500, "other": 500}


READERS: dict[str, Callable[[Path], object]] = {
    "a photo": read_image,
    "a list": read_photos,
    "embeddings": open_embeddings,
    "ids": read_ids,
}


@pytest.mark.parametrize("what", READERS)
def test_a_named_pipe_is_refused_and_not_waited_for(tmp_path: Path, what: str):
    pipe = tmp_path / ("pipe.npy" if what == "embeddings" else "pipe.csv")
    os.mkfifo(pipe)
    is_over = threading.Event()

    def end_readers() -> None:
        while not is_over.is_set():
            pipe.open("wb").close()

    writer = threading.Thread(target=end_readers, daemon=True)  # else a reader would wait for ever
    writer.start()
    with pytest.raises(
        ValueError, match="a named pipe" if what == "a photo" else r"\.\w+ is a named pipe; name a file"
    ):
        READERS[what](pipe)
    is_over.set()
    while writer.is_alive():
        os.close(os.open(pipe, os.O_RDONLY | os.O_NONBLOCK))  # lets the writer end
        writer.join(0.01)


def test_a_pipe_of_the_shell_is_read(tmp_path: Path):
    ids = "image_id,class_id\na,1\nb,2\n"
    for folder in ("/dev/fd", "/proc/self/fd"):
        reader, writer = os.pipe()
        with open(writer, "w") as file:
            file.write(ids)
        assert read_ids(Path(f"{folder}/{reader}"))["image_id"].tolist() == ["a", "b"]
        os.close(reader)
