"""What a container or a shell grants, read from files as the kernel writes them."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from guie import machine
from guie.machine import address_limit, cpu_quota, memory_limit, n_cores


def files(root: Path, **texts: str) -> None:
    """Files below `root`, `/` written as `__` and `.` as `_DOT_`."""
    for name, text in texts.items():
        path = root / name.replace("__", "/").replace("_DOT_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def member_of(folder: Path, text: str) -> Path:
    path = folder / "cgroup"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("150000 100000\n", 1.5),
        ("50000 100000\n", 0.5),
        ("max 100000\n", None),
        ("6400000 100000", 64.0),
        ("", None),
        ("rubbish", None),
    ],
)
def test_cpu_quota_of_version_2(tmp_path: Path, text: str, expected: float | None) -> None:
    files(tmp_path, cpu_DOT_max=text)
    assert cpu_quota(tmp_path, member_of(tmp_path, "0::/\n")) == expected


def test_smallest_quota_on_the_way_up_counts(tmp_path: Path) -> None:
    files(
        tmp_path,
        slurm__job__cpu_DOT_max="max 100000",
        slurm__cpu_DOT_max="300000 100000",
        cpu_DOT_max="800000 100000",
        other__cpu_DOT_max="1000 100000",
    )
    assert cpu_quota(tmp_path, member_of(tmp_path, "0::/slurm/job\n")) == 3.0


def test_container_that_is_told_the_hosts_names_reads_its_own_root(tmp_path: Path) -> None:
    files(tmp_path, cpu_DOT_max="250000 100000", memory_DOT_max="1073741824\n")
    group = member_of(tmp_path, "0::/docker/0123abcd\n")
    assert (cpu_quota(tmp_path, group), memory_limit(tmp_path, group)) == (2.5, 2**30)


@pytest.mark.parametrize(("quota", "expected"), [("150000", 1.5), ("-1", None)])
def test_cpu_quota_of_version_1(tmp_path: Path, quota: str, expected: float | None) -> None:
    for folder in ("cpu,cpuacct", "cpu"):  # Debian's mount, and the one without its twin
        root = tmp_path / folder.replace(",", "_")
        (root / folder / "docker/ab").mkdir(parents=True)
        (root / folder / "docker/ab/cpu.cfs_quota_us").write_text(quota + "\n")
        (root / folder / "docker/ab/cpu.cfs_period_us").write_text("100000\n")
        assert (
            cpu_quota(root, member_of(root, "12:devices:/\n4:cpu,cpuacct:/docker/ab\n1:name=systemd:/\n")) == expected
        )


def test_memory_of_both_versions(tmp_path: Path) -> None:
    files(
        tmp_path,
        memory__job__memory_DOT_limit_in_bytes="2000000000\n",
        memory__memory_DOT_limit_in_bytes="9223372036854771712\n",
        memory_DOT_max="max\n",
    )
    assert memory_limit(tmp_path, member_of(tmp_path, "4:memory:/job\n0::/\n")) == 2_000_000_000
    assert memory_limit(tmp_path, member_of(tmp_path, "4:memory:/\n0::/\n")) is None
    assert memory_limit(tmp_path / "nowhere", tmp_path / "none") is None


@pytest.mark.parametrize(("quota", "expected"), [(None, 64), (1.5, 2), (0.2, 1), (1.0, 1), (3.0, 3), (100.0, 64)])
def test_cores_are_no_more_than_the_quota_pays(
    monkeypatch: pytest.MonkeyPatch, quota: float | None, expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)))
    monkeypatch.setattr(machine, "cpu_quota", lambda: quota)
    assert n_cores() == expected


def test_address_limit_is_the_shells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (3 << 30, 4 << 30))
    assert address_limit() == 3 << 30
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert address_limit() is None


def test_peak_memory_is_the_process_own_not_that_of_who_started_it():
    """A process of 800 MB starts one that does nothing: `ru_maxrss` would say 800 MB of it."""
    inner = "from guie.machine import peak_memory; print(peak_memory())"
    outer = (
        f"import subprocess, sys; fat = b'x' * 800_000_000; subprocess.run([sys.executable, '-c', {inner!r}], "
        "check=True)"
    )
    done = subprocess.run([sys.executable, "-c", outer], capture_output=True, text=True, check=True)
    assert 5e6 < int(done.stdout) < 200e6
