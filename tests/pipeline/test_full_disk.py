"""A disk that fills up at doors 07 to 09 is one line that names it, whatever library was writing; with room the door is
done."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from opening import SMALL

from guie.run import DOORS, PROJECT

pytestmark = pytest.mark.slow
# Copies the run to a small disk without the door's own folder, leaves some room, opens the door; then frees the room
# and opens it again.
SCRIPT = """
mount -t tmpfs -o size=64m tmpfs {place}
cp -r {run} {place}/ && rm -rf {place}/tiny/{folder}* {place}/tiny/cache
dd if=/dev/zero of={place}/fill bs=1K count=$(( $(df --output=avail -B1K {place} | tail -1) - {free} )) status=none
"$@" > /dev/null; echo "status $?"
ls -A {place}/tiny/{folder}*
rm {place}/fill
"$@" > /dev/null; echo "status $?"
"""


@pytest.fixture(autouse=True)
def root() -> None:
    """Only root may mount a small disk of its own."""
    if os.getuid() or subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("only root may mount a small disk of its own")


MOST = [pytest.param(*room, marks=pytest.mark.full) for room in ((8, 90), (8, 3300), (9, 90))]


@pytest.mark.parametrize(("number", "free_kb"), [(7, 120), (8, 1500), (9, 900), *MOST])
def test_full_disk_is_one_line_and_room_finishes_the_door(
    house: tuple[Path, list[str]], tmp_path: Path, number: int, free_kb: int
) -> None:
    place = tmp_path / "disk"
    place.mkdir()
    command = [sys.executable, str(PROJECT / DOORS[number]), "--recipe", "tiny", "--out", str(place), "--device", "cpu"]
    command += [word for text in SMALL for word in ("--set", text)]
    script = SCRIPT.format(place=place, run=house[0], folder=f"{number:02d}_", free=free_kb)
    done = subprocess.run(
        ["unshare", "-m", "bash", "-c", script, "bash", *command], capture_output=True, text=True, timeout=600
    )
    errors = [line for line in done.stderr.splitlines() if "img/s" not in line and line.strip()]
    assert len(errors) == 1 and errors[0].startswith("error: the disk is full at ") and str(place) in errors[0], (
        done.stderr
    )
    first, *left, last = done.stdout.splitlines()
    assert (first, last) == ("status 2", "status 0")
    assert not [name for name in left if name.startswith(".") or name == "done.json"], left
