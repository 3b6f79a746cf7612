"""Door 00 --kaggle: kagglehub itself against a server on this machine, and the links that it leaves."""

import importlib.util
import io
import json
import os
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from guie.data.catalogue import KaggleCopy, known_sets
from guie.data.fetch import fetch
from guie.data.kaggle_copy import fetch_from_kaggle, folder_of, link_copy
from guie.data.sources import products10k
from guie.run import PROJECT

needs_kagglehub = pytest.mark.skipif(
    importlib.util.find_spec("kagglehub") is None, reason="kagglehub is not installed: pip install 'kagglehub>=1'"
)
PRODUCTS = {"train.csv": "name,class,group\n0.jpg,7,1\n1.jpg,8,1\n", "train/0.jpg": "a", "train/1.jpg": "b"}


def _zip(files: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed:
        for name, text in files.items():
            packed.writestr(name, text)
    return buffer.getvalue()


@dataclass
class Kaggle:
    """What the server holds.

    Attributes:
        bodies: What it sends, by the handle; `owner/name` or a competition's name.
        status: Of the answer to each download.
        asked: (service and method, the request, the Authorization header).
    """

    bodies: dict[str, bytes] = field(default_factory=dict)
    status: int = 200
    asked: list[tuple[str, dict[str, object], str | None]] = field(default_factory=list)


@pytest.fixture
def kaggle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kaggle]:
    """A server that kagglehub takes for Kaggle: its LOCALHOST environment, reached through a proxy on a free port."""
    world = Kaggle()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}")
            method = self.path.rsplit("/v1/", 1)[-1]
            world.asked.append((method, request, self.headers.get("Authorization")))
            handle = request.get("competitionName") or f"{request.get('ownerSlug')}/{request.get('datasetSlug')}"
            if method.endswith("GetDataset"):
                self._send(200, json.dumps({"currentVersionNumber": 3}).encode(), "application/json")
            elif world.status != 200:
                self._send(world.status, b"{}", "application/octet-stream")
            else:
                self._send(200, world.bodies[str(handle)], "application/zip")

        def _send(self, status: int, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    settings = {
        "KAGGLE_API_ENVIRONMENT": "LOCALHOST",
        "HTTP_PROXY": address,
        "http_proxy": address,
        "NO_PROXY": "",
        "no_proxy": "",
        "HOME": str(tmp_path / "home"),
        "KAGGLE_CONFIG_DIR": str(tmp_path / "home"),
        "KAGGLE_API_TOKEN": "a-token",
        "KAGGLEHUB_CACHE": str(tmp_path / "cache"),
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    yield world
    server.shutdown()


@needs_kagglehub
def test_competition_is_downloaded_once_and_read_as_any_other_set(kaggle: Kaggle, tmp_path: Path) -> None:
    kaggle.bodies["products-10k"] = _zip(PRODUCTS)
    fetch_from_kaggle("products10k", tmp_path / "data")
    table = products10k.build(tmp_path / "data/products10k")
    assert list(zip(table["path"], table["source_label"], strict=True)) == [("train/0.jpg", "7"), ("train/1.jpg", "8")]
    assert (tmp_path / "data/products10k/train/1.jpg").read_text() == "b"
    method, request, authorization = kaggle.asked[0]
    assert method.endswith("DownloadDataFiles") and request["competitionName"] == "products-10k"
    assert authorization == "Bearer a-token"
    assert not (tmp_path / "data/.kagglehub").exists(), "KAGGLEHUB_CACHE goes before the data root"


@needs_kagglehub
def test_data_set_is_kept_in_kagglehubs_cache_and_not_sent_twice(kaggle: Kaggle, tmp_path: Path) -> None:
    copy = known_sets()["met"].kaggle
    assert copy is not None
    kaggle.bodies[copy.handle] = _zip({"ground_truth/MET_database.json": "[]", "MET/MET/5/0.jpg": "m", "x/y.pkl": ""})
    folder = fetch_from_kaggle("met", tmp_path / "data")
    assert folder == tmp_path / "cache/datasets" / copy.handle / "versions/3"
    assert (tmp_path / "data/met/images/MET/5/0.jpg").read_text() == "m"
    n_sent = sum(method.endswith("DownloadDataset") for method, _, _ in kaggle.asked)
    assert fetch_from_kaggle("met", tmp_path / "data") == folder
    assert n_sent == 1 == sum(method.endswith("DownloadDataset") for method, _, _ in kaggle.asked)


@needs_kagglehub
def test_cache_lies_in_the_data_root_unless_named(
    kaggle: Kaggle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAGGLEHUB_CACHE", "")
    monkeypatch.delenv("KAGGLEHUB_CACHE")
    kaggle.bodies["products-10k"] = _zip(PRODUCTS)
    folder = fetch_from_kaggle("products10k", tmp_path / "data")
    assert folder == tmp_path / "data/.kagglehub/competitions/products-10k"


@needs_kagglehub
@pytest.mark.parametrize(
    ("status", "kind", "message"),
    [
        (
            403,
            "products10k",
            r"Kaggle answers 403, no permission: make a token .*accept the rules at .*products-10k/rules",
        ),
        (401, "met", r"the-met-dataset\"\): Kaggle answers 401, no permission: make a token at [^;]*$"),
        (404, "met", "there is no such copy any more"),
        (503, "met", "Kaggle answers 503; the same command tries again"),
    ],
)
def test_what_kaggle_refuses_is_told_with_the_remedy(
    kaggle: Kaggle, tmp_path: Path, status: int, kind: str, message: str
) -> None:
    kaggle.status = status
    with pytest.raises((ValueError, OSError), match=message) as caught:
        fetch_from_kaggle(kind, tmp_path / "data")
    assert "\n" not in str(caught.value) and not (tmp_path / "data" / known_sets()[kind].folder).exists()


@needs_kagglehub
def test_competition_without_an_account_asks_for_one(
    kaggle: Kaggle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KAGGLE_API_TOKEN")
    with pytest.raises(ValueError, match=r"needs an account at Kaggle: make a token .* KAGGLE_API_TOKEN=TOKEN"):
        fetch_from_kaggle("shopee", tmp_path)
    assert kaggle.asked == []


@needs_kagglehub
def test_no_connection_is_one_line(kaggle: Kaggle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with pytest.raises(OSError, match=r'^kagglehub.dataset_download\("dsch[^"]*"\): no connection to Kaggle; the same'):
        fetch_from_kaggle("met", tmp_path)


@pytest.mark.skipif(importlib.util.find_spec("kagglehub") is not None, reason="kagglehub is installed here")
def test_missing_kagglehub_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"pip install 'kagglehub>=1', then make a token at https://www.kaggle.com"):
        fetch_from_kaggle("shopee", tmp_path)


def test_set_without_a_copy_and_unknown_set_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no copy of AliProducts on Kaggle is known.*fetches clothing, .*shopee"):
        fetch_from_kaggle("aliproducts", tmp_path)
    with pytest.raises(ValueError, match="no set 'shopeee'; did you mean 'shopee'"):
        fetch_from_kaggle("shopeee", tmp_path)


def test_folder_of_another_origin_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "shopee").mkdir()
    (tmp_path / "shopee/mine.txt").write_text("kept")
    with pytest.raises(ValueError, match="shopee exists already, and is not a copy from Kaggle; move it away"):
        fetch_from_kaggle("shopee", tmp_path)
    assert (tmp_path / "shopee/mine.txt").read_text() == "kept"


def _tree(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize("depth", ["", "one/", "one/two/"])
def test_set_is_found_below_the_top_of_the_download(tmp_path: Path, depth: str) -> None:
    copy = KaggleCopy("someone/set", (("train.csv", "train.csv"), ("train", "train")), "")
    made = _tree(tmp_path / "download", {"a/x.txt": "", **{depth + name: text for name, text in PRODUCTS.items()}})
    assert folder_of(copy, made) == tmp_path / "download" / depth


def test_download_of_another_layout_is_told_with_what_it_holds(tmp_path: Path) -> None:
    copy = KaggleCopy("someone/set", (("train.csv", "train.csv"), ("train", "train")), "")
    made = _tree(tmp_path / "download", {"train.zip": "", "deep/er/than/that/train.csv": ""})
    with pytest.raises(ValueError, match=r"has no folder with train.csv, train; it holds deep, train.zip. Arrange it"):
        folder_of(copy, made)


def test_links_have_the_readers_names_and_unfold_doubled_folders(tmp_path: Path) -> None:
    files = {
        "train/train/0.jpg": "a",
        "pictures/0.jpg": "b",
        "list.csv": "c",
        "test/test/0.jpg": "",
        "test/also.txt": "",
    }
    folder = _tree(tmp_path / "download", files)
    copy = KaggleCopy("contest", (("images", "pictures"), ("list.csv", "list.csv")), "")
    for _ in range(2):  # the second time in place of the first
        link_copy(copy, folder, tmp_path / "data/set")
    place = tmp_path / "data/set"
    assert (place / "train/0.jpg").read_text() == "a" and (place / "images/0.jpg").read_text() == "b"
    assert (place / "test/also.txt").is_file() and not (place / "pictures").exists()
    assert (place / ".kaggle").read_text() == f'kagglehub.competition_download("contest")\n{folder}\n'
    assert os.listdir(tmp_path / "data") == ["set"] and (folder / "pictures/0.jpg").is_file()


@pytest.mark.parametrize("name", ["train_label_to_category.csv", "ground_truth/x.json", ".fetched/list-train.csv.done"])
def test_what_somebody_added_to_the_links_is_not_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("guie.data.kaggle_copy._download", lambda _: pytest.fail("it is told before the download"))
    folder = _tree(tmp_path / "download", PRODUCTS)
    copy = known_sets()["products10k"].kaggle
    place = tmp_path / "data/products10k"
    assert copy is not None
    link_copy(copy, folder, place)
    _tree(place, {name: "by hand"})
    added = name.split("/")[0]
    with pytest.raises(ValueError, match=rf"products10k also holds {added}, .*; move it away"):
        fetch_from_kaggle("products10k", tmp_path / "data")
    with pytest.raises(ValueError, match="also holds"):
        link_copy(copy, folder, place)
    assert (place / name).read_text() == "by hand" and (place / "train/0.jpg").read_text() == "a"


def test_link_to_a_folder_of_links_is_not_emptied(tmp_path: Path) -> None:
    folder = _tree(tmp_path / "download", PRODUCTS)
    copy = KaggleCopy("contest", (("train.csv", "train.csv"),), "")
    link_copy(copy, folder, tmp_path / "elsewhere")
    (tmp_path / "set").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="set exists already, and is not a copy from Kaggle"):
        link_copy(copy, folder, tmp_path / "set")
    assert (tmp_path / "elsewhere/train/0.jpg").read_text() == "a"


def test_open_files_are_not_fetched_into_kagglehubs_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """500 tars of 1 GB would be unpacked through the link train/, and Kaggle's train.csv be marked as the open one."""
    monkeypatch.setattr("guie.data.fetch._fetch_files", lambda *_: pytest.fail("something is fetched"))
    folder = _tree(tmp_path / "cache", {"train.csv": "id,landmark_id\n", "train/0/0/0/000.jpg": "a"})
    copy = known_sets()["gldv2"].kaggle
    assert copy is not None
    link_copy(copy, folder, tmp_path / "data/gldv2")
    with pytest.raises(
        ValueError, match=rf"gldv2 holds links to the copy from Kaggle in {folder}, .*; remove"
    ) as caught:
        fetch("gldv2", tmp_path / "data")
    assert "\n" not in str(caught.value) and sorted(os.listdir(folder)) == ["train", "train.csv"]
    assert sorted(os.listdir(tmp_path / "data/gldv2")) == [".kaggle", "train", "train.csv"]


def test_readme_and_door_name_every_handle_and_where_it_was_seen() -> None:
    rows = (PROJECT / "data_prep/README.md").read_text(encoding="utf-8").splitlines()
    copies = {kind: known.kaggle for kind, known in known_sets().items() if known.kaggle}
    assert len(copies) >= 10
    for kind, copy in copies.items():
        assert copy.seen and f"| `{kind}` | `{copy.handle}` | {copy.seen} |" in rows, (kind, copy)
