"""`guie look` on drawn photos, in process: what it prints, writes and keeps."""

import contextlib
import io
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from html_page import Page
from own_photos import COLOURS, draw, labelled
from PIL import Image

from guie.own import features as features_module
from guie.own import look_text
from guie.own.look import check_apart, main

PX = 32
TOWER = f"shipped@{PX}"


def mixed_up(root: Path) -> Path:
    """Three labels of five photos and everything that people's folders hold besides."""
    labelled(root, n=5, size=(320, 240))
    draw(root / "single/one.jpg", (90, 90, 90), 7, (320, 240))
    draw(root / "red/tiny.jpg", COLOURS["red"], 8, (40, 30))
    (root / "green/0 again.jpg").write_bytes((root / "green/0.jpg").read_bytes())
    (root / "blue/wrong.jpg").write_bytes((root / "red/1.jpg").read_bytes())
    (root / "red/broken & <only>.jpg").write_bytes((root / "red/1.jpg").read_bytes()[:500])
    (root / "notes.txt").write_text("x")
    draw(root / "loose.jpg", COLOURS["green"], 9, (320, 240))
    return root


@pytest.fixture(scope="module")
def looked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """The photos, the folder of results, and what was printed."""
    root = mixed_up(tmp_path_factory.mktemp("look") / "photos")
    out = root.parent / "out"
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(said):
        patch.setenv("COLUMNS", "80")
        assert main([str(root), "--out", str(out), "--towers", f"{TOWER},timm:nothing"]) == 0
    return root, out / "look", said.getvalue()


def test_summary_fits_eighty_columns_and_names_what_is_odd(looked: tuple[Path, Path, str]):
    _, folder, said = looked
    lines = said.splitlines()
    assert max(len(line) for line in lines if str(folder) not in line) <= 80
    flat = " ".join(said.split())
    assert "20 photos of 4 labels (labels are the folders), typically 320 x 240 px" in flat
    assert "1 label with one photo, which cannot be found: single" in flat
    assert "1 photo below 112 px: red/tiny.jpg (40 x 30)" in flat
    assert re.search(
        r"2 files not used: red/broken & <only>.jpg \(cannot be decoded: .*\); notes.txt \(not an image\)", flat
    )
    assert "4 photos there twice, 2 of them with two labels: blue/wrong.jpg and red/1.jpg; green/0 again.jpg" in flat
    assert "- timm:nothing: timm has no network 'nothing'" in flat
    assert "1 photo without a label: found by others, but never a query." in flat
    assert "The score is over 3 labels: too few to be precise." in flat
    assert str(folder / "index.html") in said


def test_the_table_holds_the_numbers_of_scores_csv(looked: tuple[Path, Path, str]):
    _, folder, said = looked
    table = pd.read_csv(folder / "scores.csv")
    assert table["tower"].tolist() == [TOWER, "timm:nothing"]
    row = table.iloc[0]
    line = next(line for line in said.splitlines() if line.startswith("> shipped ViT"))
    assert line.split()[3] == f"{row.mp5:.3f}".lstrip("0") and line.split()[5] == f"{row.r1:.3f}".lstrip("0")
    assert (row.dim, row.licence, row.image_px) == (192, "apache-2.0", PX)
    assert pd.isna(row.mp5_pca64)  # 20 photos are too few for 64 dimensions
    assert table["reason"].iloc[1].startswith("timm has no network")


def test_lists_name_the_files(looked: tuple[Path, Path, str]):
    root, folder, _ = looked
    problems = pd.read_csv(folder / "problems.csv")
    assert problems["path"].tolist() == ["notes.txt", "red/broken & <only>.jpg"]
    twins = pd.read_csv(folder / "duplicates.csv")
    two = twins[twins["has_two_labels"]]
    assert {*two["path"]} == {"blue/wrong.jpg", "red/1.jpg"} and len(twins) == 4
    suspects = pd.read_csv(folder / "suspects.csv")
    assert set(suspects["path"]) <= {path.relative_to(root).as_posix() for path in root.rglob("*.jpg")}
    with Image.open(folder / "duplicates.jpg") as sheet:
        assert sheet.width > sheet.height > 200  # one pair


def test_page_shows_what_was_found_and_holds_hostile_names_as_text(looked: tuple[Path, Path, str]):
    root, folder, _ = looked
    html = (folder / "index.html").read_text(encoding="utf-8")
    assert "red/broken & <only>.jpg" in Page(html).texts
    assert "http" not in re.sub(r'xmlns="[^"]*"', "", html).replace("http-equiv", "")
    assert "<only>" not in html
    assert str(root.parent) not in html  # the page may be sent to others
    for title in ("Photos and their nearest", "Mix-ups", "Labels worth a look", "Photos that are there twice"):
        assert title in html
    assert "single" in html and "timm has no network" in html
    gallery = html[html.index('id="gallery"') : html.index('id="mixups"')]
    assert gallery.count('class="card"') == 18  # queries: photos that are not alone with their label
    assert "single/one" not in "".join(re.findall(r'<div class="head"><b>(.*?)</b>', gallery))


def test_a_second_look_decodes_and_embeds_nothing(
    looked: tuple[Path, Path, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    root, folder, said = looked

    def never(*arguments: object) -> None:
        raise AssertionError("embedded again")

    monkeypatch.setattr(features_module, "_extracted", never)
    page = (folder / "index.html").read_bytes()
    arguments = [str(root), "--out", str(folder.parent), "--towers", f"{TOWER},timm:nothing"]
    assert main(arguments) == 0
    again = capsys.readouterr().out
    assert re.sub(r"\(\d+ s\)", "", again) == re.sub(r"\(\d+ s\)", "", said)
    assert (folder / "index.html").read_bytes() == page  # the same photos give the same page, byte for byte


Look = Callable[..., tuple[int, str, str]]


@pytest.fixture
def look(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Look:
    def run(*words: object) -> tuple[int, str, str]:
        status = main([*map(str, words), "--out", str(tmp_path / "out"), "--towers", TOWER])
        said = capsys.readouterr()
        return status, said.out, said.err

    return run


def test_a_flat_folder_has_a_gallery_and_no_score(tmp_path: Path, look: Look):
    for i in range(6):
        draw(tmp_path / "flat" / f"{i}.jpg", COLOURS["red"], i)
    status, said, _ = look(tmp_path / "flat")
    assert status == 0
    assert "No score: there are no labels." in said and "mP@5" not in said
    html = (tmp_path / "out/look/index.html").read_text()
    assert html.count('class="card"') == 6
    assert "✓" not in html and "✗" not in html and 'id="suspects"' not in html
    assert not (tmp_path / "out/look/suspects.jpg").exists()


def test_networks_without_labels_say_whose_neighbours_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for i in range(3):
        draw(tmp_path / "flat" / f"{i}.jpg", COLOURS["red"], i)
    assert main([str(tmp_path / "flat"), "--out", str(tmp_path / "out"), "--towers", f"{TOWER},shipped@48"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert said.startswith("3 image files in ")
    assert f"what is near to what, by {TOWER}; the other networks are only timed." in said


def test_labels_from_names_and_splits_that_are_told(tmp_path: Path, look: Look):
    for split in ("train", "Test"):
        labelled(tmp_path / "sets" / split, n=2)
    _, said, _ = look(tmp_path / "sets")
    hint = re.search(r"--label-from '(.*?)' joins", " ".join(said.split()))
    assert hint and "look like splits" in said
    status, said, _ = look(tmp_path / "sets", "--label-from", hint[1])
    assert status == 0 and "12 photos of 3 labels (labels are taken from the paths)" in said
    assert "splits" not in said


def test_a_folder_of_a_name_that_is_no_utf8_is_looked_at_and_results_stay_utf8(
    tmp_path: Path, look: Look, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    photos = tmp_path / os.fsdecode(b"caf\xe9 pics")
    labelled(photos, n=2)
    monkeypatch.setattr(sys, "argv", ["guie", "look", str(photos)])  # noted in the lock
    status, said, _ = look(photos)
    assert status == 0 and "6 photos of 3 labels" in said
    assert "caf" in (tmp_path / "out/look/index.html").read_text(encoding="utf-8")
    assert main([str(photos), "--out", str(tmp_path / os.fsdecode(b"out\xe9"))]) == 2
    assert "holds bytes that are not UTF-8, or a control character; choose another place" in capsys.readouterr().err


def test_one_label_gives_no_score(tmp_path: Path, look: Look):
    draw(tmp_path / "all/a/1.jpg", COLOURS["red"], 1)
    draw(tmp_path / "all/a/2.jpg", COLOURS["red"], 2)
    status, said, _ = look(tmp_path / "all")
    assert status == 0 and "all photos have one label" in said


def test_name_that_no_file_system_has_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("GUIE_OUT", str(tmp_path / "out"))
    assert main([str(tmp_path / ("a" * 300))]) != 0  # without --out: the place follows from the name
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and "File name too long" in error


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nowhere"], "does not exist; name a folder of photos"),
        (["photos", "--device", "gpu"], "--device 'gpu' is no device"),
        (["photos", "--label-from", "(("], "is not a regular expression"),
        (["photos/red"], "holds one photo that can be read"),
    ],
)
def test_errors_are_one_line(tmp_path: Path, look: Look, words: list[str], told: str):
    draw(tmp_path / "photos/red/0.jpg", COLOURS["red"], 0)
    status, _, error = look(tmp_path / words[0], *words[1:])
    assert status == 2 and told in error and error.count("\n") == 1


def test_results_are_not_put_among_the_photos(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    labelled(tmp_path / "photos", n=2)
    assert main([str(tmp_path / "photos"), "--out", str(tmp_path / "photos/out")]) == 2
    assert "would lie among the photos" in capsys.readouterr().err
    assert not (tmp_path / "photos/out").exists()


def test_photos_are_not_put_among_the_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    labelled(tmp_path / "look/photos", n=2)
    assert main([str(tmp_path / "look/photos"), "--out", str(tmp_path)]) == 2
    assert "where the results would go; choose another place with --out" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "look").iterdir()] == ["photos"]


def test_no_tower_at_all_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    labelled(tmp_path / "photos", n=2)
    assert main([str(tmp_path / "photos"), "--out", str(tmp_path / "out"), "--towers", "timm:nothing"]) == 2
    assert capsys.readouterr().err.startswith("error: timm:nothing: timm has no network 'nothing'")


def test_a_tower_that_cannot_be_fetched_is_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HF_ENDPOINT", "https://nowhere.invalid")
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    labelled(tmp_path / "photos", n=2)
    tag = "timm:resnet10t.c3_in1k"
    assert main([str(tmp_path / "photos"), "--out", str(tmp_path / "out"), "--towers", f"{TOWER},{tag}"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"- {tag}: model.weights 'pretrained:c3_in1k' of timm's resnet10t could not be fetched" in said
    assert "> shipped ViT" in said


def test_the_last_lines_of_a_long_caption_are_kept():
    from guie.own.sheet import N_LINES, _lines

    lines = _lines("a-very/long/path/" * 8 + "end.jpg")
    assert len(lines) == N_LINES and lines[-1].endswith("end.jpg")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("timm:vit=/home/me/w/x.pth@224, 224 px", "timm:vit=x.pth@224, 224 px"),
        (
            "weights a.pt are in none of: a.pt, /srv/guie/weights/a.pt, ~/w/a.pt",
            "weights a.pt are in none of: a.pt, a.pt, a.pt",
        ),
        ("see https://huggingface.co/a/b, and shoes/boots", "see https://huggingface.co/a/b, and shoes/boots"),
    ],
)
def test_pages_hold_names_without_folders(text: str, shown: str):
    assert look_text.without_folders(text) == shown


def test_shell_that_is_not_utf8_may_look_where_names_are_plain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A run needs UTF-8, since its tables store names. `look` writes pages alone."""
    monkeypatch.setattr(sys, "getfilesystemencoding", lambda: "ascii")
    check_apart(tmp_path / "out", tmp_path / "photos")
    with pytest.raises(ValueError, match=r"^--out .*bytes that are not UTF-8"):
        check_apart(tmp_path / "b\udcff", tmp_path / "photos")
