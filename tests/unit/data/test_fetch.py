"""Door 00 against a server that drops connections, sends wrong bytes, forgets ranges, and offers archives that lead
elsewhere."""

import hashlib
import io
import re
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import requests

from guie.data import fetch as module
from guie.data.catalogue import DataSet, Download, known_sets
from guie.data.fetch import Resuming, fetch, fetch_file, unpack

BODY = np.random.default_rng(0).bytes(3_000_000)


@dataclass
class Site:
    """What the server does.

    Attributes:
        files: Path -> body.
        drops: Path -> so many bytes after which each answer is cut off; one entry is used up by each answer.
        wrong: Paths whose next answer has a byte changed.
        no_range: The server sends whole files only.
        tags: Path -> ETag.
        asked: (path, Range header) of all requests.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    drops: dict[str, list[int]] = field(default_factory=dict)
    wrong: set[str] = field(default_factory=set)
    no_range: bool = False
    tags: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    world = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            world.asked.append((self.path, asked))
            body = world.files.get(self.path)
            if body is None:
                self.send_error(404)
                return
            if self.path in world.wrong:
                world.wrong.remove(self.path)
                body = bytes([body[0] ^ 1]) + body[1:]
            start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and not world.no_range else 0
            if start and self.headers.get("If-Range", world.tags.get(self.path)) != world.tags.get(self.path):
                start = 0
            if start >= len(body):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(body)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
            if self.path in world.tags:
                self.send_header("ETag", world.tags[self.path])
            self.send_header("Content-Length", str(len(body) - start))
            self.end_headers()
            cuts = world.drops.get(self.path)
            self.wfile.write(body[start : start + cuts.pop(0)] if cuts else body[start:])

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    world.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(module.time, "sleep", lambda _: None)
    yield world
    server.shutdown()


def _md5(body: bytes) -> str:
    return hashlib.md5(body).hexdigest()


def _tar(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, body in members.items():
            info = tarfile.TarInfo(name.replace("__", "/"))
            info.size = len(body)
            tar.addfile(info, io.BytesIO(body))
    return buffer.getvalue()


def test_broken_download_goes_on_where_it_was(site: Site, tmp_path: Path):
    site.files["/a.bin"], site.drops["/a.bin"] = BODY, [1_000_000, 500_000, 0, 700_000]
    fetch_file(Download(f"{site.url}/a.bin", md5=_md5(BODY)), tmp_path)
    assert (tmp_path / "a.bin").read_bytes() == BODY
    starts = [int((asked or "bytes=0-").removeprefix("bytes=").rstrip("-")) for _, asked in site.asked]
    assert starts[0] == 0 and starts == sorted(starts) and len(starts) == 5
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["a.bin"], "nothing is left beside it"


def test_killed_run_goes_on_with_the_part_it_left(site: Site, tmp_path: Path):
    site.files["/a.bin"] = BODY
    (tmp_path / "a.bin.part").write_bytes(BODY[:2_500_000])
    fetch_file(Download(f"{site.url}/a.bin", md5=_md5(BODY)), tmp_path)
    assert site.asked == [("/a.bin", "bytes=2500000-")] and (tmp_path / "a.bin").read_bytes() == BODY


def test_part_that_is_whole_is_not_fetched_again(site: Site, tmp_path: Path):
    site.files["/a.bin"] = BODY
    (tmp_path / "a.bin.part").write_bytes(BODY)
    fetch_file(Download(f"{site.url}/a.bin", md5=_md5(BODY)), tmp_path)
    assert (tmp_path / "a.bin").read_bytes() == BODY


def test_part_longer_than_the_file_is_thrown_away(site: Site, tmp_path: Path):
    site.files["/a.bin"] = BODY[:1000]
    (tmp_path / "a.bin.part").write_bytes(BODY)
    fetch_file(Download(f"{site.url}/a.bin"), tmp_path)
    assert (tmp_path / "a.bin").read_bytes() == BODY[:1000]


def test_server_without_ranges_sends_it_whole(site: Site, tmp_path: Path):
    site.files["/a.bin"], site.drops["/a.bin"], site.no_range = BODY, [1_000_000], True
    fetch_file(Download(f"{site.url}/a.bin", md5=_md5(BODY)), tmp_path)
    assert (tmp_path / "a.bin").read_bytes() == BODY and len(site.asked) == 2


def test_parts_of_two_versions_are_not_joined(site: Site, tmp_path: Path):
    site.files["/a.bin"], site.drops["/a.bin"], site.tags["/a.bin"] = BODY, [1_000_000] + [0] * module.N_TRIES, '"one"'
    with pytest.raises(requests.RequestException):
        Resuming(tmp_path / "a.bin.part")(f"{site.url}/a.bin", tmp_path / "a.bin", None)
    site.files["/a.bin"], site.drops, site.tags["/a.bin"] = BODY[::-1], {}, '"two"'
    Resuming(tmp_path / "a.bin.part")(f"{site.url}/a.bin", tmp_path / "a.bin", None)
    assert (tmp_path / "a.bin").read_bytes() == BODY[::-1]


def test_wrong_bytes_are_fetched_once_more_then_refused(site: Site, tmp_path: Path):
    site.files["/a.bin"], site.wrong = BODY, {"/a.bin"}
    fetch_file(Download(f"{site.url}/a.bin", md5=_md5(BODY)), tmp_path)
    assert (tmp_path / "a.bin").read_bytes() == BODY and len(site.asked) == 2
    with pytest.raises(OSError, match=r"(?s)MD5 hash of downloaded file.*does not match"):
        fetch_file(Download(f"{site.url}/a.bin", "other", md5="0" * 32), tmp_path)
    assert not (tmp_path / "other/a.bin").exists()


def test_checksum_is_read_from_its_own_file(site: Site, tmp_path: Path):
    site.files |= {"/a.bin": BODY, "/md5.txt": f"{_md5(BODY)}  a.bin\n".encode(), "/bad.txt": b"<html>"}
    fetch_file(Download(f"{site.url}/a.bin", md5=f"{site.url}/md5.txt"), tmp_path)
    assert (tmp_path / "a.bin").read_bytes() == BODY
    with pytest.raises(OSError, match="begins with '<html>', expected a checksum of 32 hexadecimal digits"):
        fetch_file(Download(f"{site.url}/a.bin", md5=f"{site.url}/bad.txt"), tmp_path)


def test_missing_file_and_dead_server_are_told_in_one_line(site: Site, tmp_path: Path):
    with pytest.raises(OSError, match=r"/no.bin: the server answers 404"):
        fetch_file(Download(f"{site.url}/no.bin"), tmp_path)
    with pytest.raises(OSError, match=r"^no connection to 127.0.0.1:9, or it was broken off 5 times$"):
        fetch_file(Download("http://127.0.0.1:9/a.bin"), tmp_path)


@pytest.fixture
def world_set(site: Site, monkeypatch: pytest.MonkeyPatch) -> DataSet:
    """A set of a list and three tars, one of which the server cannot send yet."""
    site.files["/train.csv"] = b"id,landmark_id\n"
    for n in range(2):
        site.files[f"/images_00{n}.tar"] = _tar(**{f"a__b__c__abc{n}.jpg": bytes([n])})
    tars = tuple(Download(f"{site.url}/images_00{n}.tar", "train") for n in range(3))
    made = DataSet("World", "http://page", "MIT", True, "world", files=(Download(f"{site.url}/train.csv"), *tars))
    monkeypatch.setattr(
        module,
        "known_sets",
        lambda: {"world": made, "closed": DataSet("Closed", "http://door", "?", False, "closed", how="ask")},
    )
    return made


def test_fetch_goes_on_after_a_failure(site: Site, world_set: DataSet, tmp_path: Path):
    with pytest.raises(
        OSError,
        match=r"1 of 4 files could not be fetched; the same command tries them again. The first: images_002.tar: .*404",
    ):
        fetch("world", tmp_path)
    assert (tmp_path / "world/train.csv").is_file()
    assert sorted(path.name for path in (tmp_path / "world/train").rglob("*.jpg")) == ["abc0.jpg", "abc1.jpg"]
    assert not list((tmp_path / "world").rglob("*.tar")), "unpacked archives are removed"
    site.files["/images_002.tar"] = _tar(x__y__z__xyz2=b"2")
    site.asked.clear()
    assert fetch("world", tmp_path) == 1
    assert site.asked == [("/images_002.tar", None)]
    assert fetch("world", tmp_path) == 0


def test_fetch_without_a_connection_ends_soon(
    world_set: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    files = tuple(Download(f"http://127.0.0.1:9/images_{n:03}.tar", "train") for n in range(30))
    made = replace(world_set, files=files)
    monkeypatch.setattr(module, "known_sets", lambda: {"world": made})
    monkeypatch.setattr(module, "N_TRIES", 2)
    told = r"^no connection to 127.0.0.1:9, or .*; what is fetched is kept, and the same command goes on$"
    with pytest.raises(OSError, match=told):
        fetch("world", tmp_path)
    assert len(caplog.messages) <= 3


def test_fetch_goes_on_after_an_outage(site: Site, world_set: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Six files have no connection, after one that was fetched; the last is fetched again."""
    site.files |= {"/first.bin": BODY, "/last.bin": BODY}
    gone = [Download(f"http://127.0.0.1:9/{n}.bin", "train") for n in range(6)]
    files = (Download(f"{site.url}/first.bin", "train"), *gone, Download(f"{site.url}/last.bin", "train"))
    monkeypatch.setattr(module, "known_sets", lambda: {"world": replace(world_set, files=files)})
    monkeypatch.setattr(module, "N_TRIES", 2)
    with pytest.raises(OSError, match="6 of 8 files could not be fetched; the same command tries them again"):
        fetch("world", tmp_path, n_jobs=1)
    assert len(list(tmp_path.rglob("last.bin"))) == 1


def test_fetch_only_some(site: Site, world_set: DataSet, tmp_path: Path):
    assert fetch("world", tmp_path, only="images_00[01].tar", n_jobs=1, is_kept=True) == 2
    assert len(list((tmp_path / "world").rglob("*.tar"))) == 2
    with pytest.raises(ValueError, match=r"no file of world is called 'x\*'; there are train.csv to images_002.tar"):
        fetch("world", tmp_path, only="x*")


def test_fetch_says_what_to_do_by_hand(world_set: DataSet, tmp_path: Path):
    with pytest.raises(
        ValueError, match=r"(?s)Closed is not openly hosted. http://door\n  ask\n  Put it into .*/closed"
    ):
        fetch("closed", tmp_path)
    with pytest.raises(ValueError, match="no set 'wrld'; did you mean 'world'"):
        fetch("wrld", tmp_path)


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/tmp/evil_of_guie"])
@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_archive_that_leads_out_is_not_unpacked(name: str, kind: str, tmp_path: Path):
    archive = tmp_path / f"x.{kind}"
    if kind == "tar":
        archive.write_bytes(_tar(**{"good": b"1", name.replace("/", "__"): b"2"}))
    else:
        with zipfile.ZipFile(archive, "w") as packed:
            packed.writestr("good", b"1")
            packed.writestr(name, b"2")
    with pytest.raises(ValueError, match=f"is not unpacked: it holds '{name}', which leads out of the folder"):
        unpack(archive, tmp_path / "deep/place")
    assert not list((tmp_path / "deep/place").iterdir()) and not Path("/tmp/evil_of_guie").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deep", archive.name]


def test_link_that_leads_out_is_not_unpacked(tmp_path: Path):
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("good"))
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "../../etc"
        tar.addfile(link)
    with pytest.raises(ValueError, match="is not unpacked"):
        unpack(tmp_path / "x.tar", tmp_path / "place")
    assert not list((tmp_path / "place").iterdir())


@pytest.mark.parametrize("name", ["x.tar", "x.tar.gz", "x.zip"])
def test_damaged_archive(name: str, tmp_path: Path):
    (tmp_path / name).write_bytes(b"no archive at all" * 100)
    with pytest.raises(ValueError, match=r"is damaged: .*; delete it and fetch it again"):
        unpack(tmp_path / name, tmp_path / "place")


def test_door_lists_every_set_with_licence_page_and_folder():
    text = subprocess.run(
        [sys.executable, "data_prep/00_fetch.py", "--data-root", "D"], capture_output=True, text=True, check=True
    ).stdout
    sets = known_sets()
    assert len(sets) >= 20
    for kind, known in sets.items():
        assert known.page in text and known.licence in text and f"D/{known.folder}" in text
        assert f"\n{kind}: {known.title}" in "\n" + text
        assert bool(known.files) != bool(known.how), kind


def test_door_tells_errors_in_one_line():
    done = subprocess.run(
        [sys.executable, "data_prep/00_fetch.py", "glvd2"], capture_output=True, text=True, check=False
    )
    assert (
        done.returncode == 2
        and done.stderr.startswith("error: no set 'glvd2'; did you mean 'gldv2'?")
        and "Traceback" not in done.stderr
    )


def test_readme_has_a_row_for_every_set():
    rows = [
        line
        for line in Path("data_prep/README.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("| ") and line.count("|") == 7
    ]
    assert len(rows) >= 24
    for kind, known in known_sets().items():
        (row,) = (line for line in rows if line.split("|")[2].strip() == f"`{kind}`")
        assert f"`{known.folder}" in row.split("|")[3], kind
        for _, images, classes in known.whole:
            numbers = re.findall(r"\d[\d,]*", row.split("|")[5])
            total = sum(int(number.replace(",", "")) for number in numbers)
            assert f"{images:,}" in numbers or images == total, (kind, images)
            assert not classes or f"{classes:,}" in numbers, (kind, classes)
