"""`guie search` in this process: what it prints, for whom, and how mistakes end."""

import csv
import io
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from exported_model import draw, export_grid, grid_by_hand
from PIL import Image

from guie.cli.main import main as guie
from guie.search.command import main, parser
from guie.search.store import HEADER, default_place, open_index

NAMES = ["a/0.png", "a/1.png", "b/2.png", "b/3.png", "4.png"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_grid(tmp_path_factory.mktemp("model") / "saved_model.pt")


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Five photos, and a place for indexes; the current directory is above both."""
    for seed, name in enumerate(NAMES):
        draw(tmp_path / "photos" / name, seed)
        os.utime(tmp_path / "photos" / name, (time.time() - 1000, time.time() - 1000))
    monkeypatch.setenv("GUIE_OUT", str(tmp_path / "out"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "photos"


@pytest.fixture
def indexed(photos: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    assert main([str(photos), "--model", str(model)]) == 0
    capsys.readouterr()
    return photos


def by_hand(photos: Path, query: Path, but: str = "") -> list[str]:
    """Paths, the most alike first, by an independent loop."""

    def pixels(path: Path) -> np.ndarray:
        return np.asarray(Image.open(path).convert("RGB"))

    asked = grid_by_hand(pixels(query))
    cosines = {name: float(asked @ grid_by_hand(pixels(photos / name))) for name in NAMES if name != but}
    return sorted(cosines, key=lambda name: -cosines[name])


def test_index_is_told_on_stdout(photos: Path, model: Path, capsys: pytest.CaptureFixture[str]):
    (photos / "broken.jpg").write_bytes(b"x")
    (photos / ".hidden").write_bytes(b"x")
    assert guie(["search", str(photos), "--model", str(model)]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    first, counts, told, broken, hidden = said.out.splitlines()
    assert first.startswith(f"index: 5 photos of {photos}, by exported model {model}, in ")
    assert counts.startswith("  5 new; 5 embedded; ")
    assert told == "  2 files not in the index:"
    assert broken.startswith("    broken.jpg: unreadable header") and hidden == "    .hidden: hidden file"
    assert main([str(photos)]) == 0  # the model that was given once stays
    said = capsys.readouterr()
    assert "nothing has changed; 0 embedded" in said.out and str(model) in said.out
    assert said.out.splitlines()[1] == "  the model was given by --model earlier; --model auto chooses anew"


def test_model_auto_goes_back_to_the_own_choice(photos: Path, model: Path, capsys: pytest.CaptureFixture[str]):
    assert main([str(photos), "--model", str(model)]) == 0
    assert "earlier" not in capsys.readouterr().out
    for words in (["--model", "auto"], []):
        assert main([str(photos), *words]) == 0
        said = capsys.readouterr().out
        assert "by the shipped ViT off the shelf" in said and "earlier" not in said


def test_query_of_the_folder_leaves_itself_out_and_says_so(indexed: Path, capsys: pytest.CaptureFixture[str]):
    query = indexed / "a/0.png"
    assert main([str(indexed), "--query", str(query), "-k", "3"]) == 0
    said = capsys.readouterr()
    head, *lines = said.out.splitlines()
    assert head == f"{query}   (itself is in the index and left out; --with-itself shows it)"
    assert [line.split()[2] for line in lines] == by_hand(indexed, query, "a/0.png")[:3]
    assert said.err.startswith("index: 5 photos")  # stdout holds results alone
    assert main([str(indexed), "--query", str(query), "-k", "1", "--with-itself"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == ["1", "1.0000", "a/0.png"]


def test_copy_elsewhere_leaves_itself_out_by_its_bytes(indexed: Path, capsys: pytest.CaptureFixture[str]):
    copy = shutil.copy(indexed / "b/2.png", indexed.parent / "copy.png")
    assert main([str(indexed), "--query", str(copy), "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["queries"]
    assert found["left_out"] == ["b/2.png"]
    assert [near["path"] for near in found["neighbours"]] == by_hand(indexed, indexed / "b/2.png", "b/2.png")


def test_photo_alone_asks_the_index_made_last(
    indexed: Path, model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    draw(tmp_path / "query.png", 77)
    expected = by_hand(indexed, tmp_path / "query.png")
    assert main(["query.png"]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[0] == "query.png"
    assert [line.split()[2] for line in said.out.splitlines()[1:]] == expected
    assert str(indexed) in said.err
    draw(tmp_path / "elsewhere/later/x.png", 5)
    assert main([str(tmp_path / "elsewhere/later"), "--model", str(model)]) == 0
    capsys.readouterr()
    assert main(["query.png"]) == 0
    assert str(tmp_path / "elsewhere/later") in capsys.readouterr().err  # made last
    assert main([str(indexed / "a/0.png")]) == 0
    assert str(indexed) in capsys.readouterr().err  # the folder that holds the photo
    monkeypatch.chdir(indexed.parent / "photos")
    assert main(["../query.png"]) == 0
    assert f"of {indexed}, by" in capsys.readouterr().err  # a folder in the current directory


def test_formats_agree(indexed: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    draw(tmp_path / "q,1.png", 90)
    draw(tmp_path / "q2.png", 91)
    queries = [str(tmp_path / "q,1.png"), str(tmp_path / "q2.png")]
    assert main([str(indexed), *queries, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["index"]["n_photos"], document["index"]["photos"]) == (5, str(indexed))
    assert main([str(indexed), "--query", *queries, "--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [(row["query"], int(row["rank"]), row["path"], row["label"], float(row["cosine"])) for row in rows] == [
        (found["query"], near["rank"], near["path"], near["label"], near["cosine"])
        for found in document["queries"]
        for near in found["neighbours"]
    ]
    assert [row["path"] for row in rows] == [*by_hand(indexed, Path(queries[0])), *by_hand(indexed, Path(queries[1]))]
    assert rows[0]["label"] == rows[0]["path"].rpartition("/")[0]
    assert Path(document["queries"][0]["neighbours"][0]["file"]).is_file()


def test_broken_query_does_not_stop_the_others(indexed: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    draw(tmp_path / "good.png", 90)
    (tmp_path / "text.jpg").write_text("no image")
    asked = [str(tmp_path / "text.jpg"), str(tmp_path / "good.png"), str(tmp_path / "none.jpg")]
    assert main([str(indexed), "--no-update", "--query", *asked, "--json"]) == 2
    said = capsys.readouterr()
    bad, good, gone = json.loads(said.out)["queries"]
    assert "unreadable header" in bad["error"] and gone["error"] == "missing" and len(good["neighbours"]) == 5
    errors = [line for line in said.err.splitlines() if line.startswith("error: ")]
    assert errors == [f"error: the query {asked[0]}: {bad['error']}", f"error: the query {asked[2]}: missing"]


def test_a_folder_of_a_name_that_is_no_utf8_is_searched(
    photos: Path, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    odd = tmp_path / os.fsdecode(b"caf\xe9 pics")
    photos.rename(odd)
    words = [str(odd), "--model", str(model), "--query", str(odd / NAMES[0]), "--html", str(tmp_path / "page.html")]
    monkeypatch.setattr(sys, "argv", ["guie", "search", *words])  # noted in the lock
    assert main(words) == 0
    assert [line.split()[2] for line in capsys.readouterr().out.splitlines() if line.startswith("   1 ")] == by_hand(
        odd, odd / NAMES[0], NAMES[0]
    )[:1]
    assert "caf" in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert main([str(odd), "--index", str(tmp_path / os.fsdecode(b"index\xe9"))]) == 2
    assert "holds bytes that are not UTF-8" in capsys.readouterr().err


def test_html_page_holds_photos_and_neighbours(indexed: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    draw(indexed / "b/3.png", 99)  # changed since it was indexed: it must not be shown in the place of the other
    assert main([str(indexed), "--no-update", "--html", str(tmp_path / "page.html"), "-k", "2", "--n-photos", "3"]) == 0
    said = capsys.readouterr().out
    assert "3 of 5 photos with their 2 most alike" in said
    html = (tmp_path / "page.html").read_text()
    data = json.loads(html.split('id="data">', 1)[1].split("</script>", 1)[0])
    assert data["shown"] == ["0", "2", "4"]
    paths = {photo["id"]: photo["path"] for photo in data["photos"]}
    assert [paths[row] for row in data["shown"]] == ["4.png", "a/1.png", "b/3.png"]
    near = [paths[other] for other, _ in data["near"]["2"]]
    assert len(near) == 2 and near[0] in NAMES and "a/1.png" not in near
    assert data["thumbs"]["4"] == "" and data["thumbs"]["2"] != ""
    assert "1 without a picture" in said
    assert "http://" not in html and 'src="/' not in html  # nothing is fetched
    assert "by exported model saved_model.pt" in html  # without the folder: the page is sent to others


def test_newest_run_of_these_photos_is_taken(
    photos: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    def run(name: str, folder: str, age: float) -> Path:
        export = tmp_path / "out" / name / "08_export" / "saved_model.pt"
        export.parent.mkdir(parents=True)
        shutil.copy(model, export)
        export.with_name("done.json").write_text("{}")
        record = {
            "arguments": {"data_root": str(tmp_path)},
            "recipe": {"data": {"drawn": None, "sources": [{"name": "x", "folder": folder}]}},
        }
        (export.parents[1] / "recipe.json").write_text(json.dumps(record))
        os.utime(export, (time.time() - age, time.time() - age))
        return export

    run("others", "elsewhere", 0)
    run("older", "photos", 500)
    newer = run("newer", "photos", 100)
    assert main([str(photos)]) == 0
    assert f"by exported model {newer}" in capsys.readouterr().out
    trained = run("trained", "photos", 50)  # as guie train leaves it: the run holds a link to the photos
    trained.parents[1].joinpath("recipe.json").unlink()
    trained.parents[1].joinpath("photos").mkdir()
    trained.parents[1].joinpath("photos/all").symlink_to(photos.resolve())
    assert main([str(photos)]) == 0
    assert f"by exported model {trained}" in capsys.readouterr().out
    trained.with_name("done.json").unlink()  # begun again and not finished: not checked
    assert main([str(photos)]) == 0
    assert f"by exported model {newer}" in capsys.readouterr().out
    shutil.rmtree(tmp_path / "out/newer")
    assert main([str(photos), "--model", str(tmp_path / "out/older")]) == 0
    said = capsys.readouterr().out
    assert f"by exported model {tmp_path / 'out/older'}" in said and "0 embedded" in said  # the same bytes, elsewhere


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ([], "name a folder of photos, or a photo to search with"),
        (["none"], "none does not exist"),
        (["empty"], "empty holds no photo"),
        (["photos", "empty"], "photos and empty are two folders"),
        (["photos", "q.png", "-k", "0"], "-k is 0, must be 1 to 10,000"),
        (["photos", "--json"], "name one with --query"),
        (["photos", "q.png", "--json", "--csv"], "choose one"),
        (["photos", "q.png", "--serve"], "drop the photo on the page"),
        (["photos", "--serve", "--port", "70000"], "--port is 70000, must be 0 to 65,535"),
        (["photos", "--serve", "-k", "5"], "-k changes nothing here: it is for --query and --html"),
        (["photos", "--n-photos", "5"], "--n-photos changes nothing here"),
        (["photos", "--port", "80"], "--port changes nothing here"),
        (["photos", "--with-itself"], "--with-itself changes nothing here"),
        (["photos", "--model", "none.pt"], "--model none.pt does not exist"),
        (["photos", "--model", "q.png"], "q.png is no TorchScript file"),
        (["photos", "--model", "empty"], "--model empty has no 08_export/saved_model.pt"),
        (["photos", "--model", "wrong.pt"], "wrong.pt gives [1, 3, 40, 56] for one photo"),
        (["photos", "--model", "failing.pt"], "failing.pt does not run on a photo"),
        (["photos", "--label-from", "("], "is not a regular expression"),
        (["q.png", "--model", "model.pt"], "name the folder of the photos, too"),
        (["q.png"], "there is no index in"),
        (["q.png", "--index", "nowhere"], "nowhere holds no index; make one: guie search FOLDER"),
        (["photos", "--no-update"], "holds no index; make one: guie search FOLDER"),
        (["photos", "--no-update", "--verify"], "leave out --verify"),
        (["photos", "--device", "tpu"], "--device 'tpu' is no device"),
        (["photos", "--model", "model.pt", "--html", "empty"], "empty is a folder; name a file with --html"),
        (["photos", "--model", "model.pt", "--index", "q.png"], "choose another place with --index"),
        (["photos", "--model", "model.pt", "--index", "photos/index"], "would lie among the photos"),
        (["photos", "--model", "model.pt", "--index", "."], "photos lies in ., where the results would go"),
        (["photos", "--html", "photos/p.html"], "p.html would lie among the photos; choose another place with --html"),
        (["gone", "--no-update"], "holds no index; make one: guie search FOLDER"),
        (["gone.jpg", "--no-update"], "gone.jpg does not exist"),
        (["photos", "--index", "i", "--out", "o"], "--index and --out: choose one"),
        (["photos", "--model", "timm:none"], "timm has no network 'none'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistake_is_one_line(
    photos: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], told: str
):
    (tmp_path / "empty").mkdir()
    shutil.copy(model, tmp_path / "model.pt")
    draw(tmp_path / "q.png", 3)
    if "wrong.pt" in options:
        torch.jit.script(torch.nn.Identity()).save(tmp_path / "wrong.pt")
    if "failing.pt" in options:
        torch.jit.script(torch.nn.Linear(3, 4)).save(tmp_path / "failing.pt")
    assert main(options) == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1 and said.err.startswith("error: ")
    assert told in said.err


def test_model_that_is_gone_or_has_changed_is_told(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    own = export_grid(tmp_path / "own.pt")
    assert main([str(photos), "--model", str(own)]) == 0
    export_grid(own, gain=2.0)
    capsys.readouterr()
    assert main([str(photos / "a/0.png")]) == 2
    assert "which has changed since" in capsys.readouterr().err
    own.unlink()
    for what, told in ((photos / "a/0.png", "index again with --model FILE"), (photos, "choose another --model")):
        assert main([str(what)]) == 2  # the index is not thrown away because a disk is not mounted
        assert f"which is gone; {told}" in capsys.readouterr().err
    assert main([str(photos), "--model", "shipped"]) == 0
    assert "is made anew: it was made by another model" in capsys.readouterr().out


def test_unreadable_index_is_one_line(indexed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    place = default_place(indexed, tmp_path / "out")
    draw(tmp_path / "q.png", 3)
    index = open_index(place)

    def says(damage: Callable[[], object], told: str) -> None:
        damage()
        assert main(["q.png", "--index", str(place)]) == 2
        said = capsys.readouterr()
        assert said.err.count("\n") == 1 and told in said.err and said.out == ""

    says(lambda: (place / index.header.generation / "00000.npy").write_bytes(b"x"), "is damaged")
    says(lambda: (place / HEADER).write_text('{"version": 9}'), "another version of guie")


def test_folders_of_one_name_have_indexes_of_their_own(
    indexed: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    draw(tmp_path / "other/photos/x.png", 9)
    for _ in range(2):
        assert main([str(tmp_path / "other/photos"), "--model", str(model)]) == 0
    assert "nothing has changed" in capsys.readouterr().out
    assert main([str(indexed)]) == 0
    assert "nothing has changed" in capsys.readouterr().out
    assert len(list((tmp_path / "out").glob("photos*/search/index.json"))) == 2


def test_out_holds_the_index_in_a_folder_of_its_own(
    photos: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "shop/pending").mkdir(parents=True)
    shutil.copy(photos / "4.png", tmp_path / "shop/pending/own.png")
    assert main([str(photos), "--model", str(model), "--out", "shop"]) == 0
    assert (tmp_path / "shop/search" / HEADER).is_file() and (tmp_path / "shop/pending/own.png").is_file()
    capsys.readouterr()
    assert main([str(photos / "4.png"), "--out", "shop"]) == 0
    assert "index: 5 photos" in capsys.readouterr().err


def test_index_as_it_is_outlives_its_photos(indexed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    shutil.copy(indexed / "4.png", tmp_path / "q.png")
    assert main(["--index", str(tmp_path / "out/photos/search"), "--html", str(indexed / "p.html")]) == 2
    assert "would lie among the photos; choose another place with --html" in capsys.readouterr().err
    shutil.rmtree(indexed)
    assert main([str(indexed), "q.png", "--no-update", "-k", "1"]) == 0
    said = capsys.readouterr()
    assert "index: 5 photos" in said.err and "1.000" not in said.out
    assert main([str(indexed), "q.png"]) == 2
    assert "does not exist" in capsys.readouterr().err


def test_copies_are_counted_in_words(indexed: Path, capsys: pytest.CaptureFixture[str]):
    for copy in (indexed / "a/copy.png", indexed.parent / "q.png"):
        shutil.copy(indexed / "4.png", copy)
    assert main([str(indexed), str(indexed.parent / "q.png")]) == 0
    assert "(itself and 1 copy are in the index and left out" in capsys.readouterr().out


def test_help_names_the_options_and_who_can_open_the_page():
    text = parser().format_help()
    assert all(option in text for option in ("--query", "--serve", "--html", "--index", "--out", "--with-itself"))
    flat = " ".join(text.split())
    assert "other users of this computer can" in flat
    assert "later starts take it, too, until --model auto" in flat
