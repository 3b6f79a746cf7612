import os
import re
from pathlib import Path

import pytest
from PIL import Image

from guie.data.sources import passed_over
from guie.own.photos import Photos, read_photos


def photo(path: Path, colour: str = "red") -> Path:
    """A small JPEG, with the folders above it; its content does not matter here."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), colour).save(path, "JPEG")
    return path


def rows(photos: Photos) -> list[tuple[str, str]]:
    return list(photos.table.itertuples(index=False, name=None))


def reasons(photos: Photos) -> dict[str, str]:
    return dict(photos.problems.itertuples(index=False, name=None))


def test_a_label_is_the_folder_of_the_file_however_deep(tmp_path: Path):
    for name in ("shoes/boots/b.jpg", "shoes/boots/a.jpg", "shoes/c.JPG", "hats/d.jpeg", "loose.jpg"):
        photo(tmp_path / name)
    photos = read_photos(tmp_path)
    assert photos.kind == "folders"
    assert rows(photos) == [
        ("hats/d.jpeg", "hats"),
        ("loose.jpg", ""),
        ("shoes/boots/a.jpg", "shoes/boots"),
        ("shoes/boots/b.jpg", "shoes/boots"),
        ("shoes/c.JPG", "shoes"),
    ]
    assert photos.problems.empty
    assert photos.file("shoes/c.JPG").is_file()


def test_a_flat_folder_has_no_labels(tmp_path: Path):
    photo(tmp_path / "a.jpg")
    photo(tmp_path / "b.jpg")
    photos = read_photos(tmp_path)
    assert photos.kind == "flat"
    assert rows(photos) == [("a.jpg", ""), ("b.jpg", "")]


def test_one_class_and_singletons_are_listed_like_others(tmp_path: Path):
    photo(tmp_path / "only/a.jpg")
    assert rows(read_photos(tmp_path)) == [("only/a.jpg", "only")]
    photo(tmp_path / "single/a.jpg")
    assert read_photos(tmp_path).table["label"].tolist() == ["only", "single"]


def test_what_is_not_taken_stands_in_problems_by_name(tmp_path: Path):
    photo(tmp_path / "a/real.jpg")
    (tmp_path / "a/notes.txt").write_text("x")
    (tmp_path / "a/noise").write_bytes(bytes(range(256)))
    photo(tmp_path / "a/.hidden.jpg")
    photo(tmp_path / ".cache/b.jpg")
    photo(tmp_path / "__MACOSX/c.jpg")
    (tmp_path / "a/folder.jpg").mkdir()
    (tmp_path / "a/broken.jpg").symlink_to("nowhere.jpg")
    os.mkfifo(tmp_path / "a/pipe.jpg")
    passed_over["of another caller"] = 3
    photos = read_photos(tmp_path)
    assert rows(photos) == [("a/real.jpg", "a")]
    assert reasons(photos) == {
        ".cache/": "hidden folder",
        "__MACOSX/": "hidden folder",
        "a/.hidden.jpg": "hidden file",
        "a/broken.jpg": "link that leads nowhere",
        "a/noise": "not an image",
        "a/notes.txt": "not an image",
        "a/pipe.jpg": "not a regular file",
    }
    assert photos.problems["path"].is_monotonic_increasing
    assert not passed_over  # else the next source of door 01 would be told of these files


def test_an_image_without_an_ending_and_an_unread_kind_are_photos(tmp_path: Path):
    photo(tmp_path / "a/scan")
    (tmp_path / "a/phone.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(40))
    assert read_photos(tmp_path).table["path"].tolist() == ["a/phone.heic", "a/scan"]  # whoever decodes them tells


def test_links_to_files_are_read_and_links_to_folders_are_told(tmp_path: Path):
    other = photo(tmp_path / "elsewhere/x.jpg")
    photo(tmp_path / "mine/a/y.jpg")
    (tmp_path / "mine/a/x.jpg").symlink_to(other)
    (tmp_path / "mine/b").symlink_to(other.parent)
    (tmp_path / "mine/circle").symlink_to(tmp_path / "mine")
    photos = read_photos(tmp_path / "mine")
    assert photos.table["path"].tolist() == ["a/x.jpg", "a/y.jpg"]
    assert [name for name, reason in reasons(photos).items() if reason.startswith("link to a folder")] == [
        "b/",
        "circle/",
    ]


def test_the_folder_itself_may_be_a_link(tmp_path: Path):
    photo(tmp_path / "real/a/x.jpg")
    (tmp_path / "link").symlink_to("real")
    assert rows(read_photos(tmp_path / "link")) == [("a/x.jpg", "a")]


def test_names_that_are_not_utf8_lead_back_to_their_files(tmp_path: Path):
    odd = os.path.join(os.fsencode(tmp_path), b"caf\xe9", b"100%41\nx.jpg")
    os.makedirs(os.path.dirname(odd))
    with open(odd, "wb") as handle:
        Image.new("RGB", (4, 4)).save(handle, "JPEG")
    photos = read_photos(tmp_path)
    assert rows(photos) == [("caf%E9/100%2541%0Ax.jpg", "caf%E9")]
    assert os.fsencode(photos.file("caf%E9/100%2541%0Ax.jpg")) == odd


def test_a_folder_that_may_not_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    photo(tmp_path / "open/a.jpg")
    photo(tmp_path / "shut/b.jpg")
    scandir = os.scandir

    def shut(path: str) -> object:  # root reads everything, so the refusal is made here
        if Path(path).name == "shut":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", shut)
    photos = read_photos(tmp_path)
    assert rows(photos) == [("open/a.jpg", "open")]
    assert reasons(photos) == {"shut/": "folder cannot be read: Permission denied"}


def test_a_folder_without_photos_says_what_it_holds(tmp_path: Path):
    with pytest.raises(ValueError, match="holds no photo"):
        read_photos(tmp_path)
    (tmp_path / "list.txt").write_text("x")
    with pytest.raises(ValueError, match=r"Not taken: 1, the first: list\.txt: not an image"):
        read_photos(tmp_path)
    with pytest.raises(FileNotFoundError, match="does not exist; name a folder"):
        read_photos(tmp_path / "none")


# CSV


def test_a_list_takes_relative_and_absolute_paths(tmp_path: Path):
    photo(tmp_path / "img/a.jpg")
    absolute = photo(tmp_path / "img/b.jpg")
    listed = tmp_path / "list.csv"
    listed.write_text(f"label,path,price\nred,img/a.jpg,1\nNA,{absolute},2\n")
    photos = read_photos(listed)
    assert photos.kind == "table"
    assert rows(photos) == [("img/a.jpg", "red"), ("img/b.jpg", "NA")]
    assert photos.root == tmp_path


def test_paths_outside_the_folder_of_the_list_are_relative_to_the_common_folder(tmp_path: Path):
    photo(tmp_path / "img/a.jpg")
    (tmp_path / "lists").mkdir()
    listed = tmp_path / "lists/list.csv"
    listed.write_text("path,label\n../img/a.jpg,red\n")
    photos = read_photos(listed)
    assert (photos.root, rows(photos)) == (tmp_path, [("img/a.jpg", "red")])
    assert photos.file("img/a.jpg").is_file()


def test_rows_of_a_list_that_lead_nowhere_are_told(tmp_path: Path):
    photo(tmp_path / "a.jpg")
    (tmp_path / "folder").mkdir()
    listed = tmp_path / "list.csv"
    listed.write_text(
        "path,label\na.jpg,x\na.jpg,x\n./a.jpg,y\ngone.jpg,x\nfolder,x\nhttps://shop/b.jpg,x\n,x\n", encoding="utf-8"
    )
    photos = read_photos(listed)
    assert rows(photos) == [("a.jpg", "x")]
    assert reasons(photos) == {
        "./a.jpg": "listed twice, as 'x' and as 'y'; the first counts",
        "a.jpg": "listed twice",
        "folder": "folder",
        "gone.jpg": "missing",
        "https://shop/b.jpg": "web address; fetch the file first",
        "row 8": "no path in this row",
    }


def test_a_list_may_begin_with_a_byte_order_mark(tmp_path: Path):
    photo(tmp_path / "a.jpg")
    (tmp_path / "list.csv").write_text("path,label\r\na.jpg,x\r\n", encoding="utf-8-sig")
    assert rows(read_photos(tmp_path / "list.csv")) == [("a.jpg", "x")]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("path;label\na.jpg;x\n", "separated by semicolons ('path;label'); save it with commas"),
        ("path\tlabel\na.jpg\tx\n", "separated by tabs"),
        ("file,class\na.jpg,x\n", "expected the columns path, label, found file, class"),
        ("path,label\n", "holds no photo"),
        ("path,label\ngone.jpg,x\n", "Not taken: 1, the first: gone.jpg: missing"),
        ("path,label\na.jpg,x,\nb.jpg,y,\n", "a row has more fields than the header; put texts that hold a comma in"),
        ("path,label\na.jpg,x\nb.jpg,y,z\n", "comma-separated values: Expected 2 fields in line 3, saw 3"),
        ("path,label\ncaf\xe9.jpg,x\n", "is not in UTF-8 (invalid continuation byte); save it as UTF-8"),
    ],
)
def test_a_list_that_cannot_be_used_says_why(tmp_path: Path, text: str, told: str):
    (tmp_path / "list.csv").write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match=re.escape(told)):
        read_photos(tmp_path / "list.csv")


def test_a_single_photo_is_no_list(tmp_path: Path):
    with pytest.raises(ValueError, match="is one photo; name its folder"):
        read_photos(photo(tmp_path / "a.jpg"))


# --label-from


def test_labels_come_from_file_names(tmp_path: Path):
    for name in ("x/sku12_front.jpg", "y/sku12_back.jpg", "y/sku7_front.jpg", "y/other.jpg"):
        photo(tmp_path / name)
    photos = read_photos(tmp_path, label_from=r"(sku\d+)_")
    assert photos.kind == "pattern"
    assert rows(photos) == [
        ("x/sku12_front.jpg", "sku12"),
        ("y/other.jpg", ""),
        ("y/sku12_back.jpg", "sku12"),
        ("y/sku7_front.jpg", "sku7"),
    ]


def test_a_list_needs_no_labels_where_a_pattern_gives_them(tmp_path: Path):
    photo(tmp_path / "a_1.jpg")
    (tmp_path / "list.csv").write_text("path\na_1.jpg\n")
    assert rows(read_photos(tmp_path / "list.csv", label_from="([a-z]+)_")) == [("a_1.jpg", "a")]


@pytest.mark.parametrize(
    ("pattern", "told"),
    [
        ("([a-z", "is not a regular expression"),
        ("[a-z]+", "has 0 groups, must have one"),
        ("(a)(b)", "has 2 groups, must have one"),
        ("(zebra)", "matches none of 1 paths, such as 'a.jpg'"),
    ],
)
def test_a_pattern_that_cannot_be_used_says_why(tmp_path: Path, pattern: str, told: str):
    photo(tmp_path / "a.jpg")
    with pytest.raises(ValueError, match=re.escape(told)):
        read_photos(tmp_path, label_from=pattern)
