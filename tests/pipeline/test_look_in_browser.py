"""The page of `guie look` in a real browser: no errors, no requests, a phone's width, dark and light."""

from __future__ import annotations

from pathlib import Path

import pytest
from own_photos import COLOURS, draw, labelled
from test_report_in_browser import Browser, browser  # noqa: F401 (a fixture)

from guie.own.look import main

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = labelled(tmp_path_factory.mktemp("look") / "photos with <names>", n=5, size=(320, 240))
    draw(
        root / "red/a name that is as long as those which some cameras and shops give to their files 0123456789.jpg",
        COLOURS["red"],
        8,
    )
    (root / "green/wrong.jpg").write_bytes((root / "blue/1.jpg").read_bytes())
    (root / "blue/notes.txt").write_text("x")
    assert main([str(root), "--out", str(root.parent / "out"), "--towers", "shipped@32,timm:nothing"]) == 0
    return root.parent / "out/look/index.html"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "is_phone"), [(1280, False), (360, True)])
def test_the_page_works_at_any_width_and_scheme(
    browser: Browser,  # noqa: F811
    page: Path,
    width: int,
    is_phone: bool,
    scheme: str,
):
    browser.open(page, width, 800, scheme, is_phone)
    assert browser.complaints() == []
    assert [url for url in browser.requests() if not url.startswith(("data:", "file:"))] == []
    assert browser.run("document.documentElement.scrollWidth") <= width
    ground = browser.run("getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(246, 247, 249)", "dark": "rgb(16, 21, 27)"}[scheme]
    broken = "Array.from(document.images).filter(function (i) { return !i.naturalWidth; }).length"
    assert browser.run("document.images.length") > 50 and browser.run(broken) == 0


def test_the_navigation_reaches_every_section_and_a_click_opens_the_list_of_files(browser: Browser, page: Path):  # noqa: F811
    browser.open(page)
    reached = (
        "Array.from(document.querySelectorAll('nav a')).every(function (a) { return document.querySelector(a.hash); })"
    )
    assert browser.run(reached) and browser.run("document.querySelectorAll('nav a').length") == 6
    assert browser.run("document.querySelector('h1').textContent") == "photos with <names>"
    browser.run("Array.from(document.querySelectorAll('#photos summary')).pop().click()")
    assert "blue/notes.txt" in browser.run("document.querySelector('#photos details[open]').innerText")


def test_cards_come_twelve_at_a_time_and_enter_enlarges_one_with_its_file(browser: Browser, page: Path):  # noqa: F811
    browser.open(page)
    cards = "Array.from(document.querySelectorAll('#gallery .card')).filter(function (c) { return c.offsetParent; })"
    n = browser.run("document.querySelectorAll('#gallery .card').length")
    assert browser.run(f"{cards}.length") == min(12, n)
    browser.run(f"{cards}[0].focus()")
    browser.press("Enter", 13)
    shown = browser.run("document.getElementById('large').open && document.getElementById('large-file').textContent")
    assert shown == browser.run(f"{cards}[0].querySelector('.query img').title")
    browser.press("Escape", 27)
    assert browser.run(f"document.activeElement === {cards}[0]") and browser.complaints() == []
