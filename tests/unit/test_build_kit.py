"""The kit for Kaggle: what goes into it, from an index made of small wheels; killed and started again, damaged, without
a network."""

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import types
import zipfile
from pathlib import Path

import pytest

from guie.run import DOORS, PROJECT

PACKAGES = {"b": ("2.0", ["c>=1", "d>=1; extra == 'more'"]), "c": ("1.5", []), "d": ("1.0", []), "e": ("3.0", ["b>=1"])}


def load(project: Path) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location("build_kit", project / "notebooks/build_kit.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["build_kit"] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


def write_wheel(folder: Path, name: str, version: str, requires: list[str]) -> Path:
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{name}.py", f"version = {version!r}\n")
        lines = [
            "Metadata-Version: 2.1",
            f"Name: {name}",
            f"Version: {version}",
            "Provides-Extra: more",
            *(f"Requires-Dist: {text}" for text in requires),
        ]
        wheel.writestr(f"{info}/METADATA", "\n".join(lines) + "\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of two requirements beside an index of a few wheels, the only one that pip may use."""
    project, index = tmp_path / "project", tmp_path / "index"
    for name in (
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "NOTICE",
        "notebooks/build_kit.py",
        "submission/check_submission.py",
        "weights/SHA256SUMS",
        *DOORS.values(),
    ):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PROJECT / name, project / name)
    (project / "src/guie").mkdir()
    (project / "src/guie/__init__.py").write_text('__version__ = "0.1.0"\n')
    (project / "requirements.txt").write_text("# direct\nb>=1,<3\ne>=3\n-e .\n")
    (project / "constraints.txt").write_text("c==1.5\n")
    index.mkdir()
    for name, (version, requires) in PACKAGES.items():
        write_wheel(index, name, version, requires)
    write_wheel(index, "c", "1.9", [])
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    return project


def build(project: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "notebooks/build_kit.py", "--out", "kit", *options]
    return subprocess.run(command, cwd=project, capture_output=True, text=True)


def listed(project: Path) -> list[str]:
    return [line.split()[0] for line in (project / "kit/guie_kit.txt").read_text().splitlines()]


needs_kaggles_python = pytest.mark.skipif(
    sys.version_info[:2] != (3, 11), reason="the kit is built by Kaggle's Python, 3.11"
)


@needs_kaggles_python
def test_kit_holds_all_that_is_asked_for_and_can_be_completed_and_installed_from(project: Path) -> None:
    done = build(project)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("kit: 4 wheels")
    assert listed(project) == [
        "b==2.0",
        "c==1.5",
        "e==3.0",
        "guie==0.1.0",
    ]  # c as constraints.txt has it; nobody asks for d
    for line in (project / "kit/guie_kit.txt").read_text().splitlines():
        name, version = line.split()[0].split("==")
        (wheel,) = (project / "kit/wheels").glob(f"{name}-{version}-*.whl")
        assert line.endswith(f"--hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}")
    carried = {
        str(path.relative_to(project / "kit/project"))
        for path in (project / "kit/project").rglob("*")
        if path.is_file()
    }
    assert carried == {*DOORS.values(), "LICENSE", "NOTICE", "submission/check_submission.py", "weights/SHA256SUMS"}
    assert not (project / "build").exists() and not list(project.rglob("*.egg-info"))
    # A second start keeps what is whole.
    before = (project / "kit/guie_kit.txt").read_text().splitlines()[:3]
    b, c, e = (project / "kit/wheels" / f"{name}-py3-none-any.whl" for name in ("b-2.0", "c-1.5", "e-3.0"))
    c.write_bytes(c.read_bytes()[:100])
    e.unlink()
    (project / "kit/wheels/stale-1.0-py3-none-any.whl").touch()
    file = b.stat().st_mtime_ns, b.stat().st_ino
    assert build(project).returncode == 0
    assert (b.stat().st_mtime_ns, b.stat().st_ino) == file
    assert (project / "kit/guie_kit.txt").read_text().splitlines()[:3] == before
    assert len(list((project / "kit/wheels").iterdir())) == 4
    target = [
        "--target",
        str(project / "site"),
        "--no-index",
        "--no-deps",
        "--require-hashes",
        "--find-links",
        "kit/wheels",
        "-r",
        "kit/guie_kit.txt",
    ]
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", *target], cwd=project, check=True)
    assert {path.name for path in (project / "site").iterdir()} >= {"b.py", "c.py", "e.py", "guie"}


@needs_kaggles_python
def test_wheel_of_guie_holds_every_file_of_the_package(project: Path) -> None:
    shutil.rmtree(project / "src/guie")
    shutil.copytree(PROJECT / "src/guie", project / "src/guie", ignore=shutil.ignore_patterns("__pycache__"))
    (project / "image.txt").write_text("b==2.0\ne==3.0\n")
    assert build(project, "--image", "image.txt").returncode == 0
    files = {
        str(path.relative_to(PROJECT / "src"))
        for path in (PROJECT / "src/guie").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    (wheel,) = (project / "kit/wheels").glob("*.whl")
    assert len(files) > 80 and files <= set(zipfile.ZipFile(wheel).namelist())


@needs_kaggles_python
@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("b==2.0\ne==3.0\n", []),
        ("B==2.0+cu126\nc==1.0\n", ["e==3.0"]),  # e asks for b, which is there in that range
        ("b==0.5\nc==1.2\ne==3.0\n", ["b==2.0"]),  # too old, and what it asks for is there
        ("b==3.1\nc==0.1\ne==3.0\n# a comment\nf @ file:///f\n", ["b==2.0", "c==1.5"]),  # too new
    ],
)
def test_what_the_image_has_in_range_is_left_out(project: Path, image: str, expected: list[str]) -> None:
    module = load(project)
    wanted = [module.Requirement("b>=1,<3"), module.Requirement("e>=3")]
    assert [f"{wheel.name}=={wheel.version}" for wheel in module.missing(wanted, module.in_image(image))] == expected


@needs_kaggles_python
def test_package_that_the_index_lacks_is_named(project: Path) -> None:
    (project / "requirements.txt").write_text("nowhere>=1\n")
    done = build(project)
    assert done.returncode == 2 and "nowhere" in done.stderr and "Traceback" not in done.stderr


@needs_kaggles_python
def test_without_a_network_the_error_says_so(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    done = build(project)
    assert done.returncode == 2 and "the package index cannot be reached; check the network" in done.stderr, done.stderr


def test_other_pythons_than_kaggles_are_refused(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = load(project)
    monkeypatch.setattr(module, "PYTHON", "3.9")
    with pytest.raises(module.KitError, match=r"Python 3\.9 on Linux"):
        module.build(project / "kit", {})


def test_hash_that_the_index_does_not_list_is_refused(project: Path) -> None:
    module = load(project)
    (project / "kit").mkdir()
    with pytest.raises(module.KitError, match=r"b-2\.0.* the index lists 0000"):
        module.fetched(module.Wheel("b", "2.0", "0" * 64, ()), project / "kit")


def test_extras_are_followed(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = load(project)
    names = [wheel.name for wheel in module.missing([module.Requirement("e"), module.Requirement("b[more]")], {})]
    assert names == ["b", "c", "d", "e"]
