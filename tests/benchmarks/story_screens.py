"""Screenshots for the README: the page of guie look and the page of guie search, on a desktop and a phone.

Run, with Chromium on the path, some minutes:
     python tests/benchmarks/story_screens.py --out /tmp/screens --model artifacts/clothing/08_export/saved_model.pt
Writes look_desktop.webp, look_phone.webp, search_desktop.webp and search_phone.webp beside itself (--to).
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from pathlib import Path

from PIL import Image
from story import address_of
from story_photos import make_photos
from story_watch import check_places, watched

from guie.run import PROJECT

sys.path.insert(0, str(PROJECT / "tests"))
from chromium import CHROMIUM, Browser

DESKTOP, PHONE = (1200, 800), (390, 800)  # pixels of the window
WAIT_S = 60.0
QUALITY = 72
SEEN = "i.src && i.getBoundingClientRect().height && i.getBoundingClientRect().top < innerHeight"
LOADED = f"[...document.images].filter(i => {SEEN}).every(i => i.complete && i.naturalWidth)"


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", type=Path, required=True, help="folder for photos and results; kept")
    p.add_argument("--model", type=Path, required=True, help="saved_model.pt of a run, for the search")
    p.add_argument("--towers", default="shipped", help="of guie look (default: %(default)s)")
    p.add_argument("--source", type=Path, default=PROJECT.parent / "shared/data/clothing", help="the clothing data set")
    p.add_argument("--n-photos", type=int, default=300)
    p.add_argument("--seed", type=int, default=0, help="of the photo that is searched with (default: %(default)s)")
    p.add_argument("--to", type=Path, default=Path(__file__).parent, help="of the pictures (default: %(default)s)")
    arguments = p.parse_args()
    if CHROMIUM is None:
        p.error("no Chromium on the path; apt-get install chromium")
    out = arguments.out.resolve()
    check_places(out, arguments.to / "look_desktop.webp")
    photos = out / "my_photos"
    make_photos(arguments.source, photos, arguments.n_photos)
    guie = [sys.executable, "-m", "guie"]
    look = [*guie, "look", str(photos), "--towers", arguments.towers]
    environment = os.environ | {"GUIE_OUT": str(out / "artifacts")}
    with watched(look, out / "look.log", out, environment):
        pass
    serve = [*guie, "search", str(photos), "--serve", "--port", "0", "--model", str(arguments.model.resolve())]
    with watched(serve, out / "serve.log", out, environment) as server:
        browser = Browser(out / "profile")
        take_look(browser, out / "artifacts/my_photos/look/index.html", arguments.to)
        take_search(browser, address_of(server), arguments.to, arguments.seed)
        browser.close()
        server.stop()
        server.status = 0


def take_look(browser: Browser, page: Path, to: Path) -> None:
    """The head of the page."""
    for name, (width, height), scheme in (("desktop", DESKTOP, "light"), ("phone", PHONE, "dark")):
        browser.open(page, width, height, scheme, is_phone=name == "phone")
        save(browser, to / f"look_{name}.webp", width, height)


def take_search(browser: Browser, address: str, to: Path, seed: int) -> None:
    """The neighbours of one photo, chosen at random."""
    for name, (width, height), scheme in (("desktop", DESKTOP, "dark"), ("phone", PHONE, "light")):
        browser.open(address, width, height, scheme, is_phone=name == "phone")
        until(browser, "document.querySelectorAll('.card').length > 20")
        cards = browser.run("document.querySelectorAll('.card').length")
        browser.run(f"document.querySelectorAll('.card')[{random.Random(seed).randrange(cards)}].click()")
        until(browser, "document.getElementById('status').textContent.includes('most alike')")
        browser.run("window.scrollTo(0, 0)")
        save(browser, to / f"search_{name}.webp", width, height)


def save(browser: Browser, path: Path, width: int, height: int) -> None:
    """What the window shows, as WebP.

    Raises:
        SystemExit: the page has errors.
    """
    until(browser, LOADED)
    time.sleep(1.0)  # lazy images within the window are asked for after the layout
    until(browser, LOADED)
    if complaints := browser.complaints():
        raise SystemExit(f"error: the page has errors: {complaints[:2]}")
    scratch = path.with_suffix(".png")
    browser.screenshot(scratch, x=0, y=0, width=width, height=height)
    with Image.open(scratch) as image:
        image.convert("RGB").save(path, quality=QUALITY, method=6)
    scratch.unlink()
    print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


def until(browser: Browser, condition: str) -> None:
    """Waits until a JavaScript expression is true.

    Raises:
        SystemExit: it is not within a minute.
    """
    ends = time.monotonic() + WAIT_S
    while not browser.run(condition):
        if time.monotonic() > ends:
            raise SystemExit(f"error: after {WAIT_S:.0f} s it is not so that {condition}")
        time.sleep(0.05)


if __name__ == "__main__":
    main()
