"""Batches come whole and in order, whatever memory and shared memory there is."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from guie.embed import loading
from guie.embed.loading import PROCESS_BYTES, n_workers

SCRIPT = """
import sys, torch
from torch.utils.data import Dataset
from guie.embed import loading
from guie.run import set_up_logging

class Numbers(Dataset):
    def __getitem__(self, i):
        return torch.full((250_000,), float(i))  # 1 MB

set_up_logging(None)
loading.n_cores = lambda: 4
plan = [[3 * i, 3 * i + 1, 3 * i + 2] for i in range(5)]
batches = list(loading.load_batches(Numbers(), plan, 3_000_000))
print([sorted(set(batch.flatten().tolist())) for batch in batches], {tuple(batch.shape) for batch in batches})
"""
EXPECTED = "[[0.0, 1.0, 2.0], [3.0, 4.0, 5.0], [6.0, 7.0, 8.0], [9.0, 10.0, 11.0], [12.0, 13.0, 14.0]] {(3, 250000)}"


def loaded(tmp_path: Path, shared_mb: int) -> list[str]:
    """What the script says where /dev/shm has so many MB."""
    (tmp_path / "load.py").write_text(SCRIPT)
    mount = f"mount -t tmpfs -o size={shared_mb}m tmpfs /dev/shm && exec {sys.executable} {tmp_path / 'load.py'}"
    if os.getuid() or subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("only root may mount a small /dev/shm of its own")
    done = subprocess.run(["unshare", "-m", "sh", "-c", mount], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


def test_small_shared_memory_is_gone_round_and_told_in_one_line(tmp_path: Path) -> None:
    told, batches = loaded(tmp_path, 2)
    assert batches == EXPECTED
    assert told.startswith("/dev/shm has 2 MB free, 2 loader processes need 18: batches go through a pipe instead")


def test_enough_shared_memory_is_used_without_a_word(tmp_path: Path) -> None:
    assert loaded(tmp_path, 64) == [EXPECTED]


@pytest.mark.parametrize(
    ("cores", "limit", "batch_bytes", "expected"),
    [
        (64, None, 0, 8),
        (8, None, 0, 4),
        (1, None, 0, 1),
        (64, 2 * 3 * PROCESS_BYTES, 0, 3),
        (64, 1 << 20, 0, 1),
        (64, 8 * PROCESS_BYTES, PROCESS_BYTES, 1),
    ],
)
def test_loader_processes_fit_into_the_memory(
    monkeypatch: pytest.MonkeyPatch, cores: int, limit: int | None, batch_bytes: int, expected: int
) -> None:
    monkeypatch.setattr(loading, "n_cores", lambda: cores)
    monkeypatch.setattr(loading, "memory_limit", lambda: limit)
    assert n_workers(batch_bytes, prefetch=2) == expected
