"""The page's server: neighbours, uploads of any kind, other web sites, tricks with paths, an index replaced."""

import contextlib
import html
import http.client
import io
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exported_model import draw, export_grid, grid_by_hand
from PIL import Image
from starlette.testclient import TestClient

from guie.own.photos import read_photos
from guie.search import live as live_module
from guie.search import server as server_module
from guie.search.embedder import Embedder, load_given
from guie.search.live import LiveIndex
from guie.search.server import application
from guie.search.store import HEADER, Index
from guie.search.update import update

NAMES = ["a/0.png", "a/1.png", "a/b/2.png", "c/3.png", "<b>&.png"]
BYTES = {"content-type": "application/octet-stream"}


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Embedder:
    return load_given(str(export_grid(tmp_path_factory.mktemp("model") / "saved_model.pt")), "cpu")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for seed, name in enumerate(NAMES):
        draw(tmp_path / "photos" / name, seed)
    (tmp_path / "secret.png").write_bytes((tmp_path / "photos/a/0.png").read_bytes())
    return tmp_path / "photos"


def build(photos: Path, embedder: Embedder) -> Index:
    return update(photos.parent / "index", read_photos(photos), photos, embedder)[0]


@pytest.fixture
def client(photos: Path, embedder: Embedder) -> Iterator[TestClient]:
    with TestClient(application(LiveIndex(build(photos, embedder), embedder)), base_url="http://127.0.0.1:8765") as c:
        yield c


def pixels_of(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


def ids(client: TestClient) -> dict[str, str]:
    return {photo["path"]: photo["id"] for photo in client.get("/api/photos").json()["photos"]}


def by_hand(photos: Path, asked: np.ndarray, but: str = "") -> list[tuple[str, float]]:
    cosines = [
        (name, float(grid_by_hand(asked) @ grid_by_hand(pixels_of(photos / name)))) for name in NAMES if name != but
    ]
    return sorted(cosines, key=lambda pair: -pair[1])


def check_found(answer: dict[str, Any], expected: list[tuple[str, float]]) -> None:
    assert [photo["path"] for photo in answer["photos"]] == [name for name, _ in expected]
    assert [photo["cosine"] for photo in answer["photos"]] == pytest.approx([c for _, c in expected], abs=1e-5)


def test_neighbours_of_a_photo_and_of_an_upload(client: TestClient, photos: Path):
    answer = client.get("/api/near", params={"id": ids(client)["a/0.png"]}).json()
    assert answer["query"]["path"] == "a/0.png"
    check_found(answer, by_hand(photos, pixels_of(photos / "a/0.png"), "a/0.png"))
    upload = draw(photos.parent / "upload.png", 50)
    answer = client.post("/api/near?k=3", content=(photos.parent / "upload.png").read_bytes(), headers=BYTES).json()
    assert answer["own"] == []
    check_found(answer, by_hand(photos, upload)[:3])
    copy = client.post("/api/near", content=(photos / "c/3.png").read_bytes(), headers=BYTES).json()
    assert [photo["path"] for photo in copy["own"]] == ["c/3.png"]
    check_found(copy, by_hand(photos, pixels_of(photos / "c/3.png"), "c/3.png"))


def test_folders_filter_the_grid_and_the_neighbours(client: TestClient):
    assert client.get("/api/index").json()["folders"] == [["a", 3], ["a/b", 1], ["c", 1]]
    listed = client.get("/api/photos", params={"folder": "a", "start": 1, "n": 1}).json()
    assert ([photo["path"] for photo in listed["photos"]], listed["total"]) == (["a/1.png"], 3)
    near = client.get("/api/near", params={"id": ids(client)["c/3.png"], "folder": "a"}).json()
    assert {photo["path"] for photo in near["photos"]} == {"a/0.png", "a/1.png", "a/b/2.png"}
    assert client.get("/api/photos", params={"folder": "../"}).json() | {"generation": ""} == {
        "photos": [], "total": 0, "generation": "",
    }  # fmt: skip


def test_pictures_are_small_jpegs_of_the_photo(photos: Path, embedder: Embedder):
    blocks = np.random.default_rng(3).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    big = Image.fromarray(np.kron(blocks, np.ones((50, 50, 1), np.uint8)))
    big.save(photos / "big.png")
    with TestClient(application(LiveIndex(build(photos, embedder), embedder)), base_url="http://localhost") as client:
        for kind, size in (("thumb", (256, 192)), ("photo", (600, 450))):
            answer = client.get(f"/{kind}/{ids(client)['big.png']}")
            assert answer.headers["content-type"] == "image/jpeg"
            with Image.open(io.BytesIO(answer.content)) as image:
                assert image.size == size
                expected = np.asarray(big.resize(size), dtype=float)
                assert np.abs(np.asarray(image) - expected).mean() < 6


@pytest.mark.parametrize(
    "path",
    [
        "/thumb/..%2f..%2fsecret.png",
        "/thumb/../../secret.png",
        "/thumb/%2e%2e/secret.png",
        "/thumb//etc/passwd",
        "/photo/%2fetc%2fpasswd",
        "/thumb/a/0.png",
        "/thumb/a%2f0.png",
        "/thumb/0000000000000000",
        "/thumb/-1",
        "/thumb/99999999999999999999999999",
        "/thumb/%00",
        "/api/near?id=../../secret.png",
        "/page.html",
        "/..%2fpage.css",
    ],
)
def test_paths_of_requests_are_never_opened(client: TestClient, path: str, monkeypatch: pytest.MonkeyPatch):
    def opened(*_: object) -> bytes:
        raise AssertionError("a file was opened")

    monkeypatch.setattr("guie.search.thumbnails.read_file", opened)
    answer = client.get(path)
    assert answer.status_code == 404
    assert b"root:" not in answer.content


def test_photo_that_was_replaced_by_a_link_is_not_shown(client: TestClient, photos: Path):
    draw(photos.parent / "outside.png", 60)
    known = ids(client)
    (photos / "a/1.png").unlink()
    (photos / "a/1.png").symlink_to(photos.parent / "outside.png")
    (photos / "c/3.png").unlink()
    for name, told in (("a/1.png", "changed since it was indexed"), ("c/3.png", "missing")):
        answer = client.get(f"/thumb/{known[name]}")
        assert (answer.status_code, answer.json()["error"]) == (404, f"this photo: {told}")
        assert client.get("/api/near", params={"id": known[name]}).status_code == 200  # the index still knows it


def bomb() -> bytes:
    """A PNG that says 30,000 x 30,000 pixels, 900 MB, in some bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    header = (30_000).to_bytes(4, "big") * 2 + bytes([8, 0, 0, 0, 0])
    data = zlib.compress(bytes(1 << 20))  # the first rows; whoever decodes has reserved all by then
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def odd_exif() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(buffer, "JPEG")
    jpeg = buffer.getvalue()
    exif = b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\x01\x12\0\x03\0\0\0\x01\0\x63\0\0" * 3
    return jpeg[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + jpeg[2:]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "no image in its body"),
        (b"just text", "unreadable header: no image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "unreadable header"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "unreadable header"),
        (b"\x89PNG\r\n\x1a\n" + bytes(30), "cannot be decoded|unreadable header"),
        (None, "too large"),
    ],
)
def test_bad_uploads_are_told_in_one_line(client: TestClient, content: bytes | None, told: str):
    answer = client.post("/api/near", content=bomb() if content is None else content, headers=BYTES)
    assert answer.status_code == 422
    assert re.search(told, answer.json()["error"]) and "\n" not in answer.json()["error"]


def test_odd_exif_is_no_reason_to_refuse(client: TestClient):
    assert client.post("/api/near", content=odd_exif(), headers=BYTES).status_code == 200


def test_upload_of_a_hundred_megabytes_is_refused_before_it_is_read(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
):
    n_sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal n_sent
        while n_sent < 100 << 20:
            n_sent += 1 << 20
            yield bytes(1 << 20)

    headers = BYTES | {"content-length": str(100 << 20)}
    assert client.post("/api/near", content=b"x", headers=headers).status_code == 413
    monkeypatch.setattr(server_module, "MAX_UPLOAD", 3 << 20)
    answer = client.post("/api/near", content=endless(), headers=BYTES)  # chunked: no length is stated
    assert (answer.status_code, answer.json()["error"]) == (413, "the image has more than 3 MB; make it smaller")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"host": "localhost:8765"}, 200),
        ({"host": "evil.example"}, 400),
        ({"host": "evil.example:8765"}, 400),
        ({"host": "127.0.0.1.evil.example"}, 400),
        ({"host": "127.0.0.1@evil.example"}, 400),
        ({"host": ""}, 400),
        ({"origin": "http://127.0.0.1:8765"}, 200),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "http://127.0.0.1:9999"}, 403),
        ({"origin": "null"}, 403),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"}, 403),
        ({"sec-fetch-site": "same-site", "sec-fetch-mode": "cors", "sec-fetch-dest": "empty"}, 403),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"}, 403),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}, 200),
        ({"sec-fetch-site": "same-origin"}, 200),
    ],
)
def test_other_web_sites_are_refused(client: TestClient, headers: dict[str, str], status: int):
    for path in ("/", "/api/index"):
        answer = client.get(path, headers=headers)
        assert answer.status_code == status
        assert not [name for name in answer.headers if name.startswith("access-control-")]
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_forms_and_foreign_scripts_cannot_upload(client: TestClient):
    for kind in ("text/plain", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded", ""):
        assert client.post("/api/near", content=b"x", headers={"content-type": kind}).status_code == 415
    preflight = {"origin": "http://evil.example", "access-control-request-method": "POST"}
    assert client.options("/api/near", headers=preflight).status_code == 403
    assert client.options("/api/near").status_code == 405


@pytest.mark.parametrize("query", ["k=0", "k=201", "k=x", "k=1e3", "k=" + "9" * 50, "k=٣", "k=-1"])
def test_numbers_out_of_range_are_told(client: TestClient, query: str):
    answer = client.post(f"/api/near?{query}", content=b"x", headers=BYTES)
    assert answer.status_code == 400 and answer.json()["error"].startswith("k is ")


def test_names_of_files_are_text_on_the_page(photos: Path, embedder: Embedder):
    """The page's title is the only name that the server writes into HTML; the rest is JSON."""
    odd = photos.rename(photos.with_name("<script>alert(1)</script>"[:8] + "&\"'"))
    with TestClient(application(LiveIndex(build(odd, embedder), embedder)), base_url="http://localhost") as client:
        text = client.get("/").text
        assert html.escape(odd.name, quote=False) in text.replace("&#34;", '"').replace("&#39;", "'")
        assert odd.name not in text
        assert "<b>&.png" in [photo["path"] for photo in client.get("/api/photos").json()["photos"]]


def test_error_that_nobody_foresaw_is_one_line(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def fails(*_: object, **__: object) -> None:
        raise KeyError("odd")

    monkeypatch.setattr(server_module, "query_of", fails)
    answer = client.post("/api/near", content=b"x", headers=BYTES)
    assert answer.status_code == 500
    assert "KeyError" in answer.json()["error"] and "\n" not in answer.json()["error"]
    assert "POST /api/near" in caplog.text


def test_replaced_index_is_opened_again(
    photos: Path, embedder: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    now = [0.0]
    index = build(photos, embedder)
    live = LiveIndex(index, embedder, clock=lambda: now[0])
    with TestClient(application(live), base_url="http://127.0.0.1") as client:
        before = client.get("/api/index").json()
        kept = ids(client)
        draw(photos / "a/new.png", 70)
        (photos / "c/3.png").unlink()
        build(photos, embedder)
        assert client.get("/api/photos").json()["total"] == 5  # it looks twice a second, not at every request
        now[0] += 1
        after = client.get("/api/index").json()
        assert after["generation"] != before["generation"] and after["folders"] == [["a", 4], ["a/b", 1]]
        assert ids(client)["a/1.png"] == kept["a/1.png"]  # a photo keeps its id
        assert client.get(f"/thumb/{kept['c/3.png']}").status_code == 404
        now[0] += 1
        (index.place / HEADER).write_text("{")
        broken = client.get("/api/index").json()
        assert broken["problem"].startswith("the index on the disk cannot be opened") and len(ids(client)) == 5
        now[0] += 1
        other = load_given(str(export_grid(tmp_path / "other.pt", gain=-1.0, pack_px=16)), "cpu")
        build(photos, other)
        assert client.get("/api/index").json()["problem"] == ""
        assert live.shown().embedder.model.key == other.model.key
        check = client.post("/api/near?k=1", content=(photos / "a/new.png").read_bytes(), headers=BYTES).json()
        assert [photo["path"] for photo in check["own"]] == ["a/new.png"]


def test_index_is_replaced_while_requests_go_on(photos: Path, embedder: Embedder, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(live_module, "LOOK_S", 0.0)
    live = LiveIndex(build(photos, embedder), embedder)
    content = (photos / "a/0.png").read_bytes()
    with TestClient(application(live), base_url="http://127.0.0.1") as client, ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(client.post, "/api/near", content=content, headers=BYTES) for _ in range(60)]
        for seed in range(5):
            draw(photos / f"new{seed}.png", 100 + seed)
            build(photos, embedder)
        for future in asked:
            answer = future.result()
            assert answer.status_code == 200
            paths = [photo["path"] for photo in answer.json()["photos"]]
            assert 4 <= len(paths) == len(set(paths)) <= 9 and "a/0.png" not in paths


@pytest.fixture
def served(photos: Path, embedder: Embedder) -> Iterator[tuple[subprocess.Popen[str], int, list[str], dict[str, str]]]:
    """The command in a process of its own: process, port, command and environment."""
    command = [sys.executable, "-m", "guie", "search", str(photos), "--model", embedder.model.name, "--serve"]
    environment = os.environ | {"GUIE_OUT": str(photos.parent / "out"), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [*command, "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    try:
        assert process.stdout is not None
        line = next(line for line in process.stdout if line.startswith("page: "))
        yield process, int(line.split(":")[3].partition("/")[0]), command, environment
    finally:
        process.kill()
        process.communicate()


def test_real_server_answers_two_hundred_at_once_and_ends_with_ctrl_c(
    served: tuple[subprocess.Popen[str], int, list[str], dict[str, str]], photos: Path
):
    process, port, command, environment = served
    upload = (photos / "a/0.png").read_bytes()

    def ask(i: int) -> tuple[int, int]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        if i % 2:
            connection.request("POST", "/api/near", upload, BYTES)
        else:
            connection.request("GET", "/api/photos")
        answer = connection.getresponse()
        n = len(json.loads(answer.read())["photos"])
        connection.close()
        return answer.status, n

    with ThreadPoolExecutor(200) as pool:
        answers = list(pool.map(ask, range(200)))
    assert answers == [(200, 5), (200, 4)] * 100
    with socket.create_connection(("127.0.0.1", port)) as raw:  # a client that says half a request and hangs up
        raw.sendall(
            b"POST /api/near HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/png\r\nContent-Length: 99\r\n\r\nx"
        )
    assert ask(1) == (200, 4)
    in_use = subprocess.run(
        [*command, "--port", str(port)], capture_output=True, text=True, env=environment, check=False
    )
    assert in_use.returncode == 2
    assert in_use.stderr == (
        f"error: port {port}: Address already in use; choose another one with --port, or a free one with --port 0\n"
    )
    process.send_signal(signal.SIGINT)
    rest, errors = process.communicate(timeout=30)
    assert (process.returncode, errors, rest) == (0, "", "the page is closed\n")


def test_server_says_that_it_has_ended_where_a_background_shell_had_it_ignore_ctrl_c(photos: Path, embedder: Embedder):
    """`command &` in a shell without job control starts processes that ignore SIGINT: it then raises nothing."""
    command = [sys.executable, "-m", "guie", "search", str(photos), "--model", embedder.model.name, "--serve"]
    process = subprocess.Popen(
        ["sh", "-c", f"{shlex.join([*command, '--port', '0'])} & pid=$!; echo $pid; wait $pid"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"GUIE_OUT": str(photos.parent / "out"), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    try:
        line = next(line for line in process.stdout if line.startswith("page: "))
        connection = http.client.HTTPConnection("127.0.0.1", int(line.split(":")[3].partition("/")[0]), timeout=60)
        connection.request("GET", "/api/photos")  # once it answers, the server takes signals
        assert connection.getresponse().status == 200
        connection.close()
        os.kill(pid, signal.SIGINT)
        rest, errors = process.communicate(timeout=30)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert (process.returncode, errors, rest) == (0, "", "the page is closed\n")


def test_uploads_wait_for_each_other(client: TestClient, photos: Path, monkeypatch: pytest.MonkeyPatch):
    """At most N_SEARCHES are computed at a time, however many are asked."""
    running, most = [0], [0]
    real = server_module.query_of

    def slow(*arguments: Any, **words: Any) -> Any:
        running[0] += 1
        most[0] = max(most[0], running[0])
        time.sleep(0.02)
        running[0] -= 1
        return real(*arguments, **words)

    monkeypatch.setattr(server_module, "query_of", slow)
    content = (photos / "a/0.png").read_bytes()
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: client.post("/api/near", content=content, headers=BYTES), range(12)))
    assert {answer.status_code for answer in answers} == {200}
    assert 1 <= most[0] <= server_module.N_SEARCHES


def test_an_index_that_fails_for_a_passing_reason_is_opened_later(
    photos: Path, embedder: Embedder, monkeypatch: pytest.MonkeyPatch
):
    now = [0.0]
    live = LiveIndex(build(photos, embedder), embedder, clock=lambda: now[0])
    draw(photos / "new.png", 90)
    build(photos, embedder)
    tried = []

    def fails(place: Path) -> Index:
        tried.append(now[0])
        raise RuntimeError("out of\nmemory")

    with monkeypatch.context() as patch:
        patch.setattr(live_module, "open_index", fails)
        for now[0] in (1.0, 2.0, 3.0, 5.5, 6.5, 7.5):
            assert len(live.shown().index) == 5
    assert tried == [1.0, 6.5]  # not at every request
    assert live.problem == "the index on the disk cannot be opened: out of memory"
    now[0] = 12.0  # nothing has changed on the disk
    assert len(live.shown().index) == 6 and live.problem == ""
