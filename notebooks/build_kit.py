"""Packs what a Kaggle notebook needs without the internet: wheels, the doors and the default backbone.
The folder is uploaded as a data set.

Writes  <out>/wheels/*.whl   guie, and the packages of requirements.txt at the versions of
                             constraints.txt for Kaggle's Python
        <out>/guie_kit.txt   their list, with hashes, for
                             pip install --no-index --no-deps --find-links wheels -r guie_kit.txt
        <out>/project/       doors, submission/check_submission.py, weights/, LICENSE, NOTICE
Run     python notebooks/build_kit.py --out guie_kit --image kaggle_image.txt
        kaggle_image.txt is the output of `pip list --format=freeze` in a Kaggle notebook. Packages that
        it has in a suitable version are left out, such as torch with its CUDA libraries. Without --image
        everything is packed. After a kill the same command continues; wheels with the right hash are kept.
Last line: guie_kit: 6 wheels, 6 MB
"""

import argparse
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from tqdm import tqdm

PROJECT = Path(__file__).resolve().parents[1]
PYTHON = "3.11"  # of Kaggle's image
# Wheels for glibc 2.28 (2018) or older. pip takes each tag literally, so all are listed.
PLATFORMS = [
    *(f"manylinux_2_{n}_x86_64" for n in range(28, 4, -1)),
    "manylinux2014_x86_64",
    "manylinux2010_x86_64",
    "manylinux1_x86_64",
]
CARRIED = (
    "LICENSE",
    "NOTICE",
    "data_prep/0[1-9]_*.py",
    "src/0[4-9]_*.py",
    "submission/check_submission.py",
    "weights/SHA256SUMS",
    "weights/README.md",
    *(
        f"weights/*{ending}"
        for ending in (".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".pth.tar", ".pt.tar", ".th", ".pkl")
    ),
)
LIST = "guie_kit.txt"


class KitError(Exception):
    """An error message in one line: what went wrong, and what to do."""


@dataclass(frozen=True)
class Wheel:
    """A package that pip would install.

    Attributes:
        name: Its name, as pip normalises it.
        version: The version that pip chose.
        sha256: SHA-256 of its file; empty if the index does not give it.
        requires: The packages that it requires.
    """

    name: str
    version: str
    sha256: str
    requires: tuple[Requirement, ...]


def main() -> int:
    """Reads the command line and builds the kit.

    Returns:
        The exit status: 0; 1 after an unforeseen error; 2 after an error that the user can resolve; 130 after an
        interruption.
    """
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", type=Path, default=Path("guie_kit"), help="folder to write (default: %(default)s)")
    p.add_argument(
        "--image",
        type=Path,
        help="output of `pip list --format=freeze` in the image; without it every package is packed",
    )
    arguments = p.parse_args()
    try:
        print(build(arguments.out, in_image(arguments.image.read_text(encoding="utf-8")) if arguments.image else {}))
    except (KitError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except Exception as error:  # nobody foresaw it
        if os.environ.get("GUIE_TRACEBACK"):
            raise
        print(
            f"error: the kit stopped: {type(error).__name__}: {' '.join(str(error).split())}; GUIE_TRACEBACK=1 shows "
            "the traceback",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command goes on", file=sys.stderr)
        return 130
    return 0


def build(out: Path, image: dict[str, str]) -> str:
    """Makes or completes the kit.

    Args:
        out: The kit's folder.
        image: Versions of the image's packages, by name.

    Returns:
        A line for the terminal: number and size of the wheels.

    Raises:
        KitError: the index cannot be reached, a package is not available, or this is not Kaggle's Python on Linux.
    """
    if (platform.system(), platform.machine(), ".".join(platform.python_version_tuple()[:2])) != (
        "Linux",
        "x86_64",
        PYTHON,
    ):
        raise KitError(
            f"pip chooses packages for the Python that runs it; run this with Python {PYTHON} on Linux, x86_64, as "
            "Kaggle does"
        )
    wheels = out / "wheels"
    wheels.mkdir(parents=True, exist_ok=True)
    wanted = [
        Requirement(line)
        for line in (PROJECT / "requirements.txt").read_text().splitlines()
        if line and line[0] not in "#-"
    ]
    kept = [fetched(wheel, wheels) for wheel in tqdm(missing(wanted, image), desc="wheels", unit="wheel", disable=None)]
    kept.append(pack_guie(wheels))
    for path in wheels.iterdir():
        if path not in kept:
            path.unlink()  # of an earlier version
    (out / LIST).write_text(
        "".join(f"{pinned(path)} --hash=sha256:{digest(path)}\n" for path in sorted(kept)), encoding="utf-8"
    )
    carry(out / "project")
    return f"{out.name}: {len(kept)} wheels, {sum(path.stat().st_size for path in wheels.iterdir()) / 1e6:.0f} MB"


def in_image(freeze: str) -> dict[str, str]:
    """Versions by normalised name, from the output of `pip list --format=freeze`. Lines without `==` are ignored."""
    pairs = (line.split("==", 1) for line in freeze.splitlines() if "==" in line and not line.startswith("#"))
    return {canonicalize_name(name.strip()): version.strip() for name, version in pairs}


def missing(wanted: list[Requirement], image: dict[str, str]) -> list[Wheel]:
    """The wheels to pack: `wanted` and all their requirements, except those that the image meets already."""
    if all(is_met(requirement, image) for requirement in wanted):
        return []
    resolved = {wheel.name: wheel for wheel in resolve(wanted)}
    packed: dict[str, Wheel] = {}
    seen: set[str] = set()
    waiting = [(requirement, "") for requirement in wanted]
    while waiting:
        requirement, extra = waiting.pop()
        name = canonicalize_name(requirement.name)
        if (requirement.marker and not requirement.marker.evaluate({"extra": extra})) or (
            name not in packed and is_met(requirement, image)
        ):
            continue
        packed[name] = resolved[name]
        for e in ("", *requirement.extras):
            if f"{name}[{e}]" not in seen:
                seen.add(f"{name}[{e}]")
                waiting += [(inner, e) for inner in resolved[name].requires]
    return sorted(packed.values(), key=lambda wheel: wheel.name)


def is_met(requirement: Requirement, image: dict[str, str]) -> bool:
    """Whether the image has the package in a version that the requirement allows."""
    version = image.get(canonicalize_name(requirement.name))
    return version is not None and requirement.specifier.contains(version, prereleases=True)


def resolve(wanted: list[Requirement]) -> list[Wheel]:
    """The wheels that pip would install into an empty environment under constraints.txt."""
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report.json"
        options = [
            "--dry-run",
            "--ignore-installed",
            "--target",
            scratch,
            "--report",
            str(report),
            "-c",
            str(PROJECT / "constraints.txt"),
        ]
        pip("install", *options, *target(), *map(str, wanted))
        return [_wheel(entry) for entry in json.loads(report.read_text(encoding="utf-8"))["install"]]


def _wheel(entry: dict[str, Any]) -> Wheel:
    metadata, archive = entry["metadata"], entry["download_info"].get("archive_info", {})
    requires = tuple(Requirement(text) for text in metadata.get("requires_dist", []))
    return Wheel(
        canonicalize_name(metadata["name"]), metadata["version"], archive.get("hashes", {}).get("sha256", ""), requires
    )


def fetched(wheel: Wheel, folder: Path) -> Path:
    """The wheel's file in `folder`; downloaded unless it is there with the right hash.

    Raises:
        KitError: the download has another hash than the index lists.
    """
    for path in found(wheel, folder):
        if digest(path) == wheel.sha256:
            return path
        path.unlink()
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        pip("download", "--no-deps", "--dest", scratch, *target(), f"{wheel.name}=={wheel.version}")
        (path,) = found(wheel, Path(scratch))
        if wheel.sha256 and digest(path) != wheel.sha256:
            raise KitError(
                f"{path.name} has the SHA-256 {digest(path)[:16]}..., the index lists {wheel.sha256[:16]}...; start "
                "again, or use another index"
            )
        return path.rename(folder / path.name)


def found(wheel: Wheel, folder: Path) -> list[Path]:
    """The files in `folder` of this name and version."""
    return [path for path in sorted(folder.glob("*.whl")) if pinned(path) == f"{wheel.name}=={wheel.version}"]


def pinned(path: Path) -> str:
    """`name==version` of a wheel's file name."""
    name, version = path.name.split("-")[:2]
    return f"{canonicalize_name(name)}=={version}"


def pack_guie(folder: Path) -> Path:
    """Builds the wheel of guie from a copy, so that nothing is left in the project."""
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / "source"
        shutil.copytree(PROJECT / "src/guie", source / "src/guie", ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("pyproject.toml", "README.md"):
            shutil.copy(PROJECT / name, source)
        pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", scratch, str(source))
        (path,) = Path(scratch).glob("guie-*.whl")
        return Path(shutil.copy(path, folder))


def carry(folder: Path) -> None:
    """Copies the files that are in no wheel: doors, checker and weights."""
    shutil.rmtree(folder, ignore_errors=True)
    for path in carried():
        target_path = folder / path.relative_to(PROJECT)
        target_path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target_path)


def carried() -> Iterator[Path]:
    """The files that match `CARRIED`."""
    for pattern in CARRIED:
        yield from sorted(PROJECT.glob(pattern))


def target() -> Iterable[str]:
    """pip's options for wheels that fit Kaggle's Python."""
    return [
        "--only-binary",
        ":all:",
        "--python-version",
        PYTHON,
        "--implementation",
        "cp",
        *(word for tag in PLATFORMS for word in ("--platform", tag)),
    ]


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def pip(*arguments: str) -> None:
    """Runs pip.

    Raises:
        KitError: it failed; the message says so if the network was the reason.
    """
    command = [
        sys.executable,
        "-m",
        "pip",
        *arguments,
        "--no-input",
        "--disable-pip-version-check",
        "--quiet",
        "--retries",
        "3",
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == 0:
        return
    said = done.stdout + done.stderr
    if re.search(
        r"NewConnectionError|NameResolution|name resolution|Connection "
        r"(refused|reset|aborted)|ConnectTimeout|ProxyError|unreachable|Read timed out",
        said,
    ):
        raise KitError(
            "the package index cannot be reached; check the network (HTTPS_PROXY and PIP_INDEX_URL, if you need them) "
            "and start again"
        )
    lines = [line for line in said.splitlines() if line.startswith("ERROR")] or said.splitlines() or ["no reason given"]
    raise KitError(f"pip {arguments[0]}: {lines[0].removeprefix('ERROR: ')}")


if __name__ == "__main__":
    sys.exit(main())
