"""Where results of photos go: one rule for look, search and train."""

import json
import re
from pathlib import Path

import pytest

from guie.own.place import NOTES, place_of
from guie.search.store import default_place


def make(root: Path) -> Path:
    root.mkdir(parents=True)
    return root


@pytest.mark.parametrize(("folder", "name"), [("my photos", "my_photos"), ("Schuhe & Hüte", "Schuhe_H_te"), ("…", "_")])
def test_name_can_be_that_of_a_run(tmp_path: Path, folder: str, name: str):
    assert place_of(make(tmp_path / folder), tmp_path / "out") == tmp_path / "out" / name


def test_list_that_is_gone_keeps_its_place(tmp_path: Path):
    listed = tmp_path / "my.list.csv"
    listed.touch()
    place = place_of(listed, tmp_path / "out")
    listed.unlink()
    assert place_of(listed, tmp_path / "out") == place


def test_list_goes_by_its_own_name(tmp_path: Path):
    (tmp_path / "shop.csv").write_text("path,label\n")
    assert place_of(tmp_path / "shop.csv", tmp_path / "out") == tmp_path / "out/shop"


@pytest.mark.parametrize("note", NOTES)
def test_second_folder_of_a_name_has_a_place_of_its_own_whichever_command_came_first(tmp_path: Path, note: str):
    out = tmp_path / "out"
    first, second = make(tmp_path / "a/photos"), make(tmp_path / "b/photos")
    place = place_of(first, out)
    (place / note).parent.mkdir(parents=True)
    (place / note).write_text(json.dumps({"photos": str(first)}))
    other = place_of(second, out)
    assert place_of(first, out) == place == out / "photos" and re.fullmatch(r"photos-[0-9a-f]{6}", other.name)
    (other / note).parent.mkdir(parents=True)
    (other / note).write_text(json.dumps({"photos": str(second)}))
    assert place_of(second, out) == other, "the second start goes on there"
    assert default_place(second, out) == other / "search"


def test_links_to_a_folder_are_that_folder(tmp_path: Path):
    root = make(tmp_path / "disk/photos")
    for parent in ("a", "b"):
        make(tmp_path / parent)
        (tmp_path / parent / "photos").symlink_to(root)
    place = place_of(tmp_path / "a/photos", tmp_path / "out")
    (place / "search").mkdir(parents=True)
    (place / "search/index.json").write_text(json.dumps({"photos": str(tmp_path / "a/photos")}))
    assert place_of(tmp_path / "b/photos", tmp_path / "out") == place_of(root, tmp_path / "out") == place


def test_index_of_an_earlier_version_goes_on_under_its_old_name(tmp_path: Path):
    out, root, other = tmp_path / "out", make(tmp_path / "a/my photos"), make(tmp_path / "b/my photos")
    old = make(out / "my photos/search")
    (old / "index.json").write_text(json.dumps({"photos": str(root)}))
    assert default_place(root, out) == old and default_place(other, out) == out / "my_photos/search"
    (make(out / "my_photos/search") / "index.json").write_text(json.dumps({"photos": str(root)}))
    assert default_place(root, out) == out / "my_photos/search", "one that was made since then is the newer one"


def test_run_of_a_recipe_is_left_alone(tmp_path: Path):
    make(tmp_path / "out/demo")
    (tmp_path / "out/demo/recipe.json").write_text("{}")
    assert re.fullmatch(r"demo-[0-9a-f]{6}", place_of(make(tmp_path / "demo"), tmp_path / "out").name)


def test_damaged_notes_are_none(tmp_path: Path):
    for i, text in enumerate(("", "[]", '{"photos": 3}', "\udcff")):
        note = tmp_path / f"out{i}/photos/look/look.json"
        note.parent.mkdir(parents=True)
        note.write_bytes(text.encode("utf-8", "surrogatepass"))
        root = tmp_path / "photos"
        root.mkdir(exist_ok=True)
        assert place_of(root, tmp_path / f"out{i}").name == "photos"
