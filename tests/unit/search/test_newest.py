"""Which run's model the search takes for a folder or a list of photos."""

import json
import os
from pathlib import Path

import pytest

from guie.search.newest import newest_export


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """Two lists of photos in one folder, and a folder of photos below it."""
    (tmp_path / "shop/photos").mkdir(parents=True)
    for name in ("watches.csv", "shoes.csv"):
        (tmp_path / "shop" / name).write_text("path,label\nphotos/a.jpg,x\n")
    return tmp_path / "shop"


def trained(out: Path, linked: Path, source: Path | None, seconds: int) -> Path:
    """A finished run as guie train leaves it; without `source`, as its earlier versions left it."""
    export = out / "08_export" / "saved_model.pt"
    export.parent.mkdir(parents=True)
    export.write_bytes(b"x")
    os.utime(export, (seconds, seconds))
    (export.parent / "done.json").write_text("{}")
    (out / "photos").mkdir()
    (out / "photos/all").symlink_to(linked)
    if source is not None:
        (out / "photos/source.json").write_text(json.dumps({"photos": str(source), "label_from": ""}))
    return export


def test_two_lists_in_one_folder_have_models_of_their_own(shop: Path, tmp_path: Path):
    watches = trained(tmp_path / "out/watches", shop, shop / "watches.csv", 100)
    assert newest_export(shop / "watches.csv", tmp_path / "out") == watches
    assert newest_export(shop / "shoes.csv", tmp_path / "out") is None
    shoes = trained(tmp_path / "out/shoes", shop, shop / "shoes.csv", 200)
    assert newest_export(shop / "watches.csv", tmp_path / "out") == watches  # though the other run is newer
    assert newest_export(shop / "shoes.csv", tmp_path / "out") == shoes
    assert newest_export(shop, tmp_path / "out") is None


def test_a_folder_is_found_with_and_without_a_note(shop: Path, tmp_path: Path):
    earlier = trained(tmp_path / "out/earlier", shop / "photos", None, 100)
    assert newest_export(shop / "photos", tmp_path / "out") == earlier
    assert newest_export(shop / "watches.csv", tmp_path / "out") is None
    later = trained(tmp_path / "out/later", shop / "photos", shop / "photos", 200)
    assert newest_export(shop / "photos", tmp_path / "out") == later
