"""A disk that fills up at doors 07 to 09 is one line that names it, whatever library was writing; with room the door is
done."""

from pathlib import Path

import pytest
from opening import door_command
from small_disk import Opening, full_then_free, skip_without_mounts

from guie.run import FOLDERS

pytestmark = pytest.mark.slow
MOST = [pytest.param(*room, marks=pytest.mark.full) for room in ((8, 90), (8, 3300), (9, 90))]


@pytest.mark.parametrize(("number", "free_kb"), [(7, 120), (8, 1500), (9, 900), *MOST])
def test_full_disk_is_one_line_and_room_finishes_the_door(
    house: tuple[Path, list[str]], tmp_path: Path, number: int, free_kb: int
) -> None:
    skip_without_mounts()
    place = tmp_path / "disk"
    place.mkdir()
    before = [path for path in house[0].iterdir() if path.name not in (FOLDERS[number], "cache")]
    opening = Opening(door_command(number, place), place / "tiny" / FOLDERS[number])
    ((full, free),) = full_then_free(place, 64, free_kb, [opening], before)
    errors = [line for line in full.errors if "img/s" not in line]
    assert len(errors) == 1 and errors[0].startswith("error: the disk is full at ") and str(place) in errors[0], errors
    assert (full.status, free.status) == (2, 0)
    assert not [name for name in full.left if name.startswith(".") or name == "done.json"], full.left
