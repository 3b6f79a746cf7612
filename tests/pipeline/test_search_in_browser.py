"""The search page in a real browser, served and as one file: mouse, keyboard, drop, paste, a phone's width, dark and
light, no requests elsewhere."""

from __future__ import annotations

import base64
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvicorn
from chromium import CHROMIUM, Browser
from exported_model import draw, export_grid, grid_by_hand
from PIL import Image

from guie.own.photos import read_photos
from guie.search.embedder import Embedder, load_given
from guie.search.live import LiveIndex
from guie.search.offline import write_page
from guie.search.port import listen
from guie.search.server import application
from guie.search.store import Index
from guie.search.update import update

pytestmark = pytest.mark.slow
N_PHOTOS = 150
PWNED = "<img src=x onerror=window.pwned=1>.png"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine; to try the search page: apt-get install chromium")
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Coloured blocks in three folders; one name is meant to become HTML."""
    folder = tmp_path_factory.mktemp("shop") / "photos"
    for i in range(N_PHOTOS - 1):
        draw(folder / f"{('hats', 'shoes', 'shoes/boots')[i % 3]}/{i:03d}.png", i, (8, 8))
    draw(folder / PWNED, 999, (8, 8))
    for path in folder.rglob("*.png"):
        os.utime(path, (time.time() - 1000, time.time() - 1000))
    return folder


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Embedder:
    return load_given(str(export_grid(tmp_path_factory.mktemp("model") / "saved_model.pt")), "cpu")


@pytest.fixture(scope="module")
def index(photos: Path, embedder: Embedder) -> Index:
    return update(photos.parent / "index", read_photos(photos), photos, embedder)[0]


@pytest.fixture(scope="module")
def address(index: Index, embedder: Embedder) -> Iterator[str]:
    with listen(0) as listening:
        server = uvicorn.Server(
            uvicorn.Config(application(LiveIndex(index, embedder)), log_config=None, lifespan="off", ws="none")
        )
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def one_file(index: Index, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "page.html"
    write_page(path, index, 100, 12, print)
    return path


def by_hand(photos: Path, asked: np.ndarray, but: str = "") -> list[str]:
    """The paths of all photos, the most alike first."""
    cosines = {}
    for path in photos.rglob("*.png"):
        pixels = np.asarray(Image.open(path).convert("RGB"))
        cosines[path.relative_to(photos).as_posix()] = float(grid_by_hand(asked) @ grid_by_hand(pixels))
    return sorted((name for name in cosines if name != but), key=lambda name: -cosines[name])


def wait(browser: Browser, condition: str) -> None:
    """Until a JavaScript condition holds; at most ten seconds."""
    script = f"""new Promise((done, fail) => {{
      const ends = performance.now() + 10000;
      const look = () => {{
        if ({condition}) done(true);
        else if (performance.now() > ends) fail(new Error("never: " + document.body.innerText.slice(0, 300)));
        else requestAnimationFrame(look);
      }};
      look(); }})"""
    assert browser.run(script)


WIDTHS = """Promise.all([...document.querySelectorAll('.card img')].slice(0, {})
  .map(i => i.decode().then(() => i.naturalWidth)))"""
SHOWN = "[...document.querySelectorAll('.card')].map(c => c.title)"
SETTLED = "document.getElementById('status').textContent && document.getElementById('status').textContent !== '…'"


def opened(browser: Browser, page: Path | str, **window: Any) -> list[str]:
    """Opens the page anew and returns the paths of the grid."""
    browser.open("about:blank")
    browser.open(page, **window)
    wait(browser, SETTLED)
    found: list[str] = browser.run(SHOWN)
    return found


def settled(browser: Browser, words: str) -> list[str]:
    wait(browser, f"document.getElementById('status').textContent.includes({words!r})")
    found: list[str] = browser.run(SHOWN)
    return found


def own_complaints(browser: Browser) -> list[str]:
    return [text for text in browser.complaints() if "ERR_ABORTED" not in text]  # a picture that is no longer wanted


def test_grid_click_and_back(browser: Browser, address: str, photos: Path):
    first = opened(browser, address)
    everything = sorted(path.relative_to(photos).as_posix() for path in photos.rglob("*.png"))
    assert first == everything[:60]
    browser.run("document.getElementById('more').click()")
    wait(browser, "document.querySelectorAll('.card').length === 120")
    assert browser.run(SHOWN) == everything[:120]
    assert browser.run("document.activeElement.title") == everything[60]
    browser.run(f"document.querySelector('.card[title=\"{everything[3]}\"]').click()")
    near = settled(browser, "the 24 photos most alike")
    asked = np.asarray(Image.open(photos / everything[3]).convert("RGB"))
    assert near == by_hand(photos, asked, everything[3])[:24]
    scores = browser.run("[...document.querySelectorAll('.card .score')].map(s => Number(s.textContent))")
    assert scores == sorted(scores, reverse=True) and len(scores) == 24
    assert browser.run("document.getElementById('query-name').textContent") == everything[3].rpartition("/")[2]
    browser.run("history.back()")
    assert settled(browser, f"{N_PHOTOS} photos") == everything[:60]
    assert browser.run("document.getElementById('query').hidden")
    assert browser.run(WIDTHS.format(6)) == [8] * 6
    assert browser.run("window.pwned === undefined")
    assert own_complaints(browser) == []
    assert all(url.startswith((address, "data:", "blob:")) for url in browser.requests())


HELD = """(() => {
  const ask = window.fetch;
  window.held = [];
  window.fetch = async (address, options) => {
    const answer = await ask(address, { ...options, signal: undefined });
    if (address.includes("start=60")) await new Promise((go) => window.held.push(go));
    if (!address.includes("start=60") || !window.replaced) return answer;
    return new Response(JSON.stringify({ ...await answer.json(), generation: "another" }));
  }; })()"""
TURNS = "new Promise((done) => setTimeout(done, 100))"


def test_a_late_part_of_the_grid_is_not_mixed_into_another(browser: Browser, address: str):
    first = opened(browser, address)
    browser.run(HELD)
    browser.run("document.getElementById('more').click()")
    wait(browser, "window.held.length === 1")
    browser.run("document.querySelectorAll('.card')[3].click()")
    near = settled(browser, "the 24 photos most alike")
    browser.run("window.held[0]()")
    browser.run(TURNS)
    assert browser.run(SHOWN) == near
    browser.run("history.back()")
    assert settled(browser, f"{N_PHOTOS} photos") == first
    browser.run("document.getElementById('more').click(); document.getElementById('more').click()")
    wait(browser, "window.held.length === 3")
    browser.run("window.held[1](); window.held[2]()")
    wait(browser, "document.querySelectorAll('.card').length >= 120")
    browser.run(TURNS)
    assert len(set(browser.run(SHOWN))) == len(browser.run(SHOWN)) == 120


def test_more_of_an_index_that_was_replaced_begins_anew(browser: Browser, address: str):
    first = opened(browser, address)
    browser.run(HELD)
    browser.run("window.replaced = true; document.getElementById('more').click()")
    wait(browser, "window.held.length === 1")
    browser.run("window.held[0]()")
    browser.run(TURNS)
    assert settled(browser, f"{N_PHOTOS} photos") == first


def test_keyboard_alone(browser: Browser, address: str):
    first = opened(browser, address)
    browser.press("ArrowDown", 40)  # the first key enters the grid
    assert browser.run("document.activeElement.title") == first[0]
    browser.press("ArrowRight", 39)
    assert browser.run("document.activeElement.title") == first[1]
    n_columns = browser.run("getComputedStyle(document.getElementById('grid')).gridTemplateColumns.split(' ').length")
    browser.press("ArrowDown", 40)
    assert browser.run("document.activeElement.title") == first[1 + n_columns]
    browser.press("ArrowUp", 38)
    browser.press("ArrowLeft", 37)
    browser.press("ArrowLeft", 37)  # nothing lies there
    assert browser.run("document.activeElement.title") == first[0]
    assert browser.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    browser.press(" ", 32)
    assert browser.run("document.getElementById('large').open")
    browser.press("Escape", 27)
    wait(browser, "!document.getElementById('large').open")
    browser.press("Enter", 13)
    near = settled(browser, "most alike")
    assert browser.run("document.activeElement.title") == near[0]  # the keyboard stays in the grid
    browser.press("Enter", 13)
    wait(browser, f"document.querySelector('.card').title !== {near[0]!r}")
    browser.press("Escape", 27)
    assert settled(browser, f"{N_PHOTOS} photos") == first
    assert own_complaints(browser) == []


def test_folder_filters_both_and_stands_in_the_address(browser: Browser, address: str):
    opened(browser, address)
    folders = browser.run("[...document.querySelectorAll('#folder option')].map(o => o.textContent)")
    assert folders == ["all", "hats (50)", "shoes (99)", "shoes/boots (49)"]
    browser.run("document.getElementById('folder').value = 'shoes/boots'")
    browser.run("document.getElementById('folder').dispatchEvent(new Event('change'))")
    boots = settled(browser, "49 photos in shoes/boots")
    assert len(boots) == 49 and all(path.startswith("shoes/boots/") for path in boots)
    browser.run("document.querySelector('.card').click()")
    near = settled(browser, "most alike in shoes/boots")
    assert all(path.startswith("shoes/boots/") for path in near)
    here = browser.run("location.href")
    assert opened(browser, here) == near  # the address says it all
    assert browser.run("document.getElementById('folder').value") == "shoes/boots"


def give(browser: Browser, kind: str, name: str, content: bytes, type_: str = "image/png") -> None:
    """Drops or pastes a file, as the browser's own events do."""
    encoded = base64.b64encode(content).decode()
    browser.run(
        f"""(() => {{
      const bytes = Uint8Array.from(atob({encoded!r}), c => c.charCodeAt(0));
      const data = new DataTransfer();
      data.items.add(new File([bytes], {name!r}, {{ type: {type_!r} }}));
      document.dispatchEvent({kind!r} === "drop"
        ? new DragEvent("drop", {{ dataTransfer: data, bubbles: true, cancelable: true }})
        : new ClipboardEvent("paste", {{ clipboardData: data, bubbles: true }}));
    }})()"""
    )


@pytest.mark.parametrize("kind", ["drop", "paste"])
def test_dropped_and_pasted_photos(browser: Browser, address: str, photos: Path, tmp_path: Path, kind: str):
    opened(browser, address)
    asked = draw(tmp_path / "new.png", 5000, (8, 8))
    give(browser, kind, "new.png", (tmp_path / "new.png").read_bytes())
    assert settled(browser, "the 24 photos most alike") == by_hand(photos, asked)[:24]
    assert browser.run("document.getElementById('query-name').textContent") == "new.png"
    assert browser.run("document.getElementById('query-image').decode().then(() => true)")
    known = photos / "hats/000.png"
    give(browser, kind, "copy.png", known.read_bytes())
    wait(browser, "document.getElementById('query-facts').textContent.includes('hats/000.png')")
    assert "hats/000.png" not in browser.run(SHOWN)
    give(browser, kind, "notes.txt", b"no image", "text/plain")
    wait(browser, "!document.getElementById('problem').hidden")
    said = browser.run("document.getElementById('problem').textContent")
    assert said.startswith("notes.txt: unreadable header") and browser.run(SHOWN) == []
    browser.press("Escape", 27)
    assert len(settled(browser, f"{N_PHOTOS} photos")) == 60
    assert browser.run("document.getElementById('problem').hidden")


def test_chosen_file(browser: Browser, address: str, photos: Path, tmp_path: Path):
    opened(browser, address)
    asked = draw(tmp_path / "chosen.png", 6000, (8, 8))
    root = browser.send("DOM.getDocument")["root"]["nodeId"]
    node = browser.send("DOM.querySelector", nodeId=root, selector="#file")["nodeId"]
    browser.send("DOM.setFileInputFiles", nodeId=node, files=[str(tmp_path / "chosen.png")])
    assert settled(browser, "most alike") == by_hand(photos, asked)[:24]
    assert own_complaints(browser) == []


FAINT = """(() => {
  const light = c => {
    const [r, g, b] = c.match(/[\\d.]+/g).slice(0, 3).map(x => x / 255)
      .map(x => x <= .03928 ? x / 12.92 : ((x + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const ground = e => {
    while (e && !/^rgb\\(/.test(getComputedStyle(e).backgroundColor)) e = e.parentElement;
    return e ? getComputedStyle(e).backgroundColor : "rgb(255, 255, 255)";
  };
  return [...document.querySelectorAll("p, h1, h2, label, select, button, .card span")].map(e => {
    const a = light(getComputedStyle(e).color), b = light(ground(e));
    return [(Math.max(a, b) + .05) / (Math.min(a, b) + .05), e.className + e.textContent.slice(0, 20)];
  }).filter(([ratio]) => ratio < 4.5); })()"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "is_phone"), [(1280, False), (390, True), (320, True)])
@pytest.mark.parametrize("kind", ["served", "one file"])
def test_page_fits_and_texts_stand_out(
    browser: Browser, address: str, one_file: Path, kind: str, width: int, is_phone: bool, scheme: str
):
    opened(browser, address if kind == "served" else one_file, width=width, scheme=scheme, is_phone=is_phone)
    browser.run("document.querySelector('.card').click()")
    wait(browser, "!document.getElementById('query').hidden")
    assert browser.run("document.documentElement.scrollWidth") <= width
    assert browser.run(FAINT) == []
    heights = """[...document.querySelectorAll('.button, select')].filter(b => b.offsetParent)
      .map(b => b.getBoundingClientRect().height)"""
    assert min(browser.run(heights)) >= 44  # a thumb's width
    assert own_complaints(browser) == []


def test_one_file_needs_no_server(browser: Browser, one_file: Path, photos: Path, index: Index):
    everything = index.table["path"].tolist()
    chosen = [everything[round(i * (N_PHOTOS - 1) / 99)] for i in range(100)]
    assert opened(browser, one_file) == chosen[:60]
    browser.run("document.querySelectorAll('.card')[7].click()")
    asked = np.asarray(Image.open(photos / chosen[7]).convert("RGB"))
    assert settled(browser, "the 12 photos most alike") == by_hand(photos, asked, chosen[7])[:12]
    assert browser.run(WIDTHS.format(99)) == [8] * 12
    assert browser.run("[...document.querySelectorAll('.card[aria-disabled]')].every(c => !c.disabled)")
    browser.press("Escape", 27)
    settled(browser, "100 photos")
    assert browser.run("document.getElementById('ask')") is None
    assert own_complaints(browser) == []
    assert all(url.startswith(("file:", "data:")) for url in browser.requests())
    assert browser.run("window.pwned === undefined")


def test_server_that_has_ended_is_told(browser: Browser, index: Index, embedder: Embedder):
    with listen(0) as listening:
        server = uvicorn.Server(
            uvicorn.Config(application(LiveIndex(index, embedder)), log_config=None, lifespan="off", ws="none")
        )
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        opened(browser, f"http://127.0.0.1:{listening.getsockname()[1]}/")
        server.should_exit = True
        thread.join()
    browser.run("document.querySelector('.card').click()")
    wait(browser, "!document.getElementById('problem').hidden")
    assert "Is guie search --serve still running?" in browser.run("document.getElementById('problem').textContent")
