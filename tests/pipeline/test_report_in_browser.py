"""The report in a real browser: no errors, no requests, filters, comparison and map by mouse and keyboard, a phone's
width, dark and light, its first paint."""

from __future__ import annotations

import base64
import io
import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from chromium import CHROMIUM, Browser
from fake_run import FINAL, FIRST, make_fake_run
from PIL import Image

from guie.data.packed import PackedImages
from guie.report.choice import query_scores
from guie.report.page import write_report
from guie.run import FOLDERS, save_recipe

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine; to look at the report: apt-get install chromium")
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = make_fake_run(tmp_path_factory.mktemp("run") / "this")
    save_recipe(run.out, run.recipe, "door", {})
    other = run.out.parent / "other"
    shutil.copytree(run.out, other)
    write_report(run, [other])
    return run.out / "09_report" / "index.html"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a run of one domain, with 30 validation classes."""
    run = make_fake_run(tmp_path_factory.mktemp("shop"), n_images=4, domains=("shop",), n_classes=60)
    write_report(run)
    return run.out / "09_report" / "index.html"


ALL = "#gallery?picked=&beside=&shown=96"  # every query, with the exported setting's answer alone


def open_at(browser: Browser, page: Path, fragment: str, **words: Any) -> None:
    """Opens the page anew at a fragment; from the page itself, a browser would only go there."""
    browser.open("about:blank")
    browser.open(page.as_uri() + fragment, **words)


def show_all(browser: Browser) -> None:
    """Presses "more" until no card is left."""
    more = "document.querySelector('.cards + .more')"
    browser.run(f"(() => {{ while (!{more}.hidden) {more}.click(); }})()")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "is_phone"), [(1280, False), (390, True), (320, True)])
def test_page_fits_and_has_no_errors(browser: Browser, page: Path, width: int, is_phone: bool, scheme: str) -> None:
    browser.open(page, width=width, scheme=scheme, is_phone=is_phone)
    assert browser.complaints() == []
    assert all(url.startswith(("file:", "data:")) for url in browser.requests())
    assert browser.run("document.documentElement.scrollWidth") <= width  # nothing makes the whole page scroll sideways
    assert browser.run("window.pwned === undefined")
    assert browser.run(
        "Array.from(document.querySelectorAll('img[src]')).every(image => image.complete && image.naturalWidth > 0)"
    )
    ground = browser.run("getComputedStyle(document.body).backgroundColor")
    assert (sum(int(v) for v in ground[4:-1].split(",")) > 384) == (scheme == "light")


def test_texts_stand_out_from_their_ground(browser: Browser, page: Path) -> None:
    contrast = """(() => {
      const linear = x => { x /= 255; return x <= .03928 ? x / 12.92 : ((x + .055) / 1.055) ** 2.4; };
      const light = c => { const v = c.match(/[\\d.]+/g).slice(0, 3).map(linear);
        return .2126 * v[0] + .7152 * v[1] + .0722 * v[2]; };
      const own = e => getComputedStyle(e).backgroundColor;
      const ground = e => { while (e && !/^rgb\\(/.test(own(e))) e = e.parentElement;
        return e ? own(e) : "rgb(255, 255, 255)"; };
      const bad = [];
      const texts = "p, h1, h2, h3, th, td, a, summary, button, select, label, .sign, .name, .head span, .head b, " +
        ".legend li";
      for (const e of document.querySelectorAll(texts)) {
        if (e.closest(".idle") || e.closest(".skip")) continue;
        const a = light(getComputedStyle(e).color), b = light(ground(e));
        const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
        const told = e.tagName + "." + e.className + " " + ratio.toFixed(2) + " " + e.textContent.slice(0, 30);
        if (ratio < 4.5) bad.push(told);
      }
      return bad; })()"""
    for scheme in ("light", "dark"):
        browser.open(page, scheme=scheme)
        assert browser.run(contrast) == []


def shown(browser: Browser) -> dict[str, int]:
    """Cards that can be seen, by domain and verdict."""
    found = browser.run(
        "Array.from(document.querySelectorAll('.card')).filter(c => c.offsetParent).map(c => c.dataset.domain + ' ' + "
        "c.dataset.verdict)"
    )
    return {key: found.count(key) for key in sorted(set(found))}


def test_filters_show_what_they_name(browser: Browser, page: Path) -> None:
    open_at(browser, page, ALL)
    assert browser.run("document.querySelector('.cards + .more').hidden")
    everything = shown(browser)
    assert sum(everything.values()) == browser.run("document.querySelectorAll('.card').length") > 40
    browser.run("document.querySelector('button[data-value=d1]').click()")
    show_all(browser)
    assert shown(browser) == {key: n for key, n in everything.items() if key.startswith("d1 ")}
    browser.run("document.querySelector('button[data-value=wrong]').click()")
    assert shown(browser) == {key: n for key, n in everything.items() if key == "d1 wrong"}
    assert browser.run("document.getElementById('count').textContent").startswith(f"{everything['d1 wrong']} of ")
    assert (
        browser.run(
            "Array.from(document.querySelectorAll('button[aria-pressed=true]')).map(b => b.dataset.value).join()"
        )
        == "d1,,wrong,"
    )  # domain, picked as, right or wrong, change
    browser.run("document.querySelectorAll('button[data-value=\"\"]').forEach(b => b.click())")
    show_all(browser)
    assert shown(browser) == everything
    assert browser.complaints() == []


def test_filters_work_by_keyboard_and_focus_is_seen(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.press("Tab", 9)
    assert browser.run("document.activeElement.className") == "skip"  # the first stop leads past the navigation
    for _ in range(80):
        browser.press("Tab", 9)
        if browser.run("document.activeElement.dataset.value") == "right":
            break
    assert browser.run("document.activeElement.dataset.value") == "right"
    assert browser.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    browser.press("Enter", 13)
    assert all(key.endswith(" right") for key in shown(browser))
    assert shown(browser)


def test_page_without_scripts_shows_every_query(browser: Browser, page: Path) -> None:
    browser.send("Emulation.setScriptExecutionDisabled", value=True)
    browser.open(page)
    browser.send("Emulation.setScriptExecutionDisabled", value=False)
    assert sum(shown(browser).values()) == browser.run("document.querySelectorAll('.card').length") > 40
    assert browser.run("getComputedStyle(document.querySelector('.filters')).display") == "none"


def test_first_paint_comes_within_a_second(browser: Browser, page: Path) -> None:
    paints = []
    for _ in range(3):
        browser.open(page)
        paints.append(browser.run("performance.getEntriesByName('first-contentful-paint')[0]?.startTime"))
    assert min(paint for paint in paints if paint is not None) < 1000


def choose(browser: Browser, select: str, value: str) -> None:
    """As if the reader chose an option."""
    script = (
        f"const s = document.getElementById('{select}'); s.value = '{value}'; s.dispatchEvent(new Event('change', "
        f"{{ bubbles: true }}));"
    )
    browser.run(f"(() => {{ {script} }})()")


ANSWERS = """Array.from(document.querySelectorAll('.card')).filter(c => c.offsetParent).map(
  c => [c.querySelector('.query img').title,
  Array.from(c.querySelectorAll('.answer')).filter(a => a.offsetParent).map(a => {
    const box = a.getBoundingClientRect();
    return [a.querySelector('.of span').textContent, a.querySelector('.of b').textContent, box.left, box.top]; })])"""


def test_two_settings_stand_side_by_side_and_only_changes_can_be_shown(browser: Browser, page: Path) -> None:
    folder = page.parents[1] / FOLDERS[7]
    near, ids = pd.read_parquet(folder / "neighbours.parquet"), pd.read_parquet(folder / "val_ids.parquet")
    scores = {name: query_scores(near[near["setting"] == name], ids) for name in (FIRST, FINAL)}
    open_at(browser, page, ALL)
    everything = browser.run(ANSWERS)
    assert len(everything) > 40 and all([answer[0] for answer in answers] == [FINAL] for _, answers in everything)
    choose(browser, "beside", "s0")
    assert browser.run(
        "Promise.all(Array.from(document.querySelectorAll('.answer:not([hidden]) img')).map("
        "i => i.decode().then(() => i.naturalWidth))).then(widths => widths.length > 200 && Math.min(...widths) > 0)"
    )
    beside = browser.run(ANSWERS)
    assert [image for image, _ in beside] == [image for image, _ in everything]
    for image, answers in beside:
        first, second = sorted(answers, key=lambda answer: answer[2])  # by their left edges
        assert (first[0], second[0]) == (FINAL, FIRST)
        assert [first[1], second[1]] == [f"mP@5 {scores[name][image]:.3f}" for name in (FINAL, FIRST)]
        assert first[3] == second[3] and first[2] < second[2]
    browser.run("document.querySelector('button[data-value=worse]').click()")
    show_all(browser)
    worse = {image for image, _ in browser.run(ANSWERS)}
    assert worse == {image for image, _ in beside if scores[FIRST][image] < scores[FINAL][image]} != set()
    choose(browser, "beside", "")
    show_all(browser)
    assert browser.run(ANSWERS) == everything  # and the filter that no longer makes sense is off
    assert browser.run("getComputedStyle(document.getElementById('change')).display") == "none"
    choose(browser, "left", "s0")
    assert {answer[0] for _, answers in browser.run(ANSWERS) for answer in answers} == {FIRST}
    right = {
        image
        for image, verdict in browser.run(
            "Array.from(document.querySelectorAll('.card')).map(c => [c.querySelector('.query img').title, "
            "c.dataset.verdict])"
        )
        if verdict == "right"
    }
    nearest = near[(near["setting"] == FIRST) & (near["rank"] == 1)].set_index("query_id")["is_correct"]
    assert right == {image for image, _ in everything if nearest[image]}
    assert browser.complaints() == []


def test_two_settings_stand_below_each_other_on_a_phone(browser: Browser, page: Path) -> None:
    browser.open(page, width=390, is_phone=True)
    assert len(browser.run(ANSWERS)) == 12
    for _, answers in browser.run(ANSWERS):
        first, second = sorted(answers, key=lambda answer: answer[3])
        assert (first[0], second[0]) == (FINAL, FIRST) and first[2] == second[2]
    assert browser.run("document.documentElement.scrollWidth") <= 390


CARDS = "Array.from(document.querySelectorAll('#queries .card')).filter(c => c.offsetParent)"
TEXTS = f"""{CARDS}.map(c => [c.querySelector('.query img').title,
  Array.from(c.querySelectorAll('.answer')).filter(a => a.offsetParent).sort(
  (a, b) => a.style.order - b.style.order).map(a => a.querySelector('.of').textContent)])"""
NAMES = f"{CARDS}.map(c => c.querySelector('.query img').title)"
DIALOG = """(() => { const d = document.getElementById('large'), i = d.querySelector('img');
  return d.open ? { file: document.getElementById('large-file').textContent, src: i.src,
    what: document.getElementById('large-what').textContent, width: i.getBoundingClientRect().width } : null; })()"""


def test_gallery_opens_on_random_queries_beside_the_first_row_and_shows_twelve_then_more(
    browser: Browser, shop: Path
) -> None:
    browser.open(shop)
    first = browser.run(f"{CARDS}.map(c => c.dataset.picked)")
    assert first == ["random"] * 12
    sides = [[answer[0] for answer in sorted(answers, key=lambda a: a[2])] for _, answers in browser.run(ANSWERS)]
    assert sides == [[FINAL, FIRST]] * 12
    assert browser.run("document.getElementById('count').textContent").startswith("12 of 24 queries shown; ")
    assert browser.run("location.hash") == ""  # nothing differs from the first view
    before = browser.run(NAMES)
    browser.run("document.querySelector('.cards + .more').focus()")
    browser.press("Enter", 13)
    after = browser.run(NAMES)
    assert after[:12] == before and len(after) == len(set(after)) == 24
    assert browser.run("document.activeElement.querySelector('.query img').title") == after[12]
    assert browser.run("document.querySelector('.cards + .more').hidden")
    assert browser.run(
        "Promise.all(Array.from(document.querySelectorAll('.card:not([hidden]) .answer:not([hidden]) img')).map("
        "i => i.decode().then(() => i.naturalWidth))).then(widths => widths.length)"
    ) == (24 * 10)
    assert browser.complaints() == []


def test_address_holds_the_filters_and_opens_the_same_view(browser: Browser, page: Path) -> None:
    browser.open(page)
    start = browser.run(TEXTS)
    browser.run("document.querySelector('button[data-value=d1]').click()")  # a name with quotes and signs
    browser.run("document.querySelector('button[data-key=picked][data-value=\"\"]').click()")
    choose(browser, "left", "s0")
    choose(browser, "beside", "s1")
    browser.run("document.querySelector('button[data-value=better]').click()")
    view = browser.run(TEXTS)
    fragment = browser.run("location.hash")
    assert view not in ([], start) and fragment.startswith("#gallery?")
    for _ in range(2):  # a new window, and one that has the page
        open_at(browser, page, fragment)
        assert browser.run(TEXTS) == view and browser.run("location.hash") == fragment
        assert abs(browser.run("document.getElementById('gallery').getBoundingClientRect().top")) < 120
    browser.run("location.hash = '#gallery?verdict=wrong'")
    browser.run("new Promise(done => setTimeout(done, 50))")
    wrong = browser.run(f"{CARDS}.map(c => c.dataset.picked + ' ' + c.dataset.verdict)")
    assert set(wrong) == {"random wrong"}
    browser.run("location.hash = '#gallery?domain=moved&left=gone&picked=none&shown=x'")
    browser.run("new Promise(done => setTimeout(done, 50))")
    assert browser.run(TEXTS) == start  # what this page does not have is as at first
    assert browser.complaints() == []


def test_enter_on_a_card_enlarges_it_arrows_go_on_escape_closes_and_the_focus_returns(
    browser: Browser, shop: Path
) -> None:
    ids = pd.read_parquet(shop.parents[1] / FOLDERS[3] / "index.parquet").set_index("image_id")["path"]
    browser.open(shop)
    query = browser.run(NAMES)[1]
    browser.run(f"{CARDS}[1].focus()")
    browser.press("Enter", 13)
    seen = browser.run(DIALOG)
    assert seen["file"] == ids[query].removeprefix("folder_0/") and seen["what"].startswith("query: ")
    assert seen["width"] > 300 and seen["src"].startswith("data:image/jpeg")
    browser.press("ArrowRight", 39)
    near = browser.run(DIALOG)
    assert near["what"].startswith("neighbour 1, ") and near["src"] != seen["src"]
    browser.press("ArrowLeft", 37)
    browser.press("ArrowLeft", 37)
    assert browser.run(DIALOG)["what"].startswith("neighbour 5, ")  # of the second answer: the last of the card
    browser.press("Escape", 27)
    assert browser.run(DIALOG) is None
    assert browser.run(f"document.activeElement === {CARDS}[1]")
    browser.press("ArrowRight", 39)
    browser.press("ArrowRight", 39)  # to the query, and to its nearest image
    assert browser.run("document.activeElement.tagName") == "IMG"
    browser.press("Enter", 13)
    assert browser.run(DIALOG) == near
    assert browser.run("document.activeElement.textContent") == "close"
    browser.press("Enter", 13)
    assert browser.run(DIALOG) is None
    assert browser.run("document.activeElement.closest('.answer') !== null")
    assert browser.complaints() == []


def test_click_on_a_picture_or_card_enlarges_it(browser: Browser, shop: Path) -> None:
    browser.open(shop)
    browser.run("document.getElementById('queries').scrollIntoView({ behavior: 'instant' })")

    def click(script: str) -> None:
        x, y = browser.run(
            f"(() => {{ const b = {script}.getBoundingClientRect(); return [b.left + b.width / 2, b.top + 8]; }})()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            browser.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    picture = f"{CARDS}[0].querySelectorAll('.answer:not([hidden]) img')[2]"
    click(picture)
    seen = browser.run(DIALOG)
    assert seen["src"] == browser.run(f"{picture}.src") and seen["file"] == browser.run(f"{picture}.dataset.file")
    browser.send("Input.dispatchMouseEvent", type="mousePressed", x=5, y=5, button="left", clickCount=1)
    browser.send("Input.dispatchMouseEvent", type="mouseReleased", x=5, y=5, button="left", clickCount=1)
    assert browser.run(DIALOG) is None  # beside the picture
    assert browser.run(f"document.activeElement === {picture}")
    click(f"{CARDS}[0].querySelector('.head')")
    assert browser.run(DIALOG)["what"].startswith("query: ")
    browser.press("Escape", 27)
    browser.run("document.querySelector('#classes tbody img').scrollIntoView({ behavior: 'instant', block: 'center' })")
    click("document.querySelector('#classes tbody img')")
    assert browser.run(DIALOG)["file"] == browser.run("document.querySelector('#classes tbody img').dataset.file")
    browser.press("Escape", 27)
    assert browser.run("document.activeElement === document.querySelector('#classes tbody img')")
    assert browser.complaints() == []


def test_picture_opened_as_soon_as_another_is_closed_stays(browser: Browser, shop: Path) -> None:
    """A browser tells a dialog's closing a moment later, when the next picture is open already."""
    browser.open(shop)
    seen = browser.run(
        f"""(async () => {{
          const [first, second] = {CARDS};
          first.querySelector('.query img').click();
          document.getElementById('large').close();
          second.querySelector('.query img').click();
          await new Promise(done => setTimeout(done, 100));
          return [{DIALOG}, second.querySelector('.query img').src]; }})()"""
    )
    assert seen[0]["src"] == seen[1] and seen[0]["width"] > 0
    browser.press("Escape", 27)
    assert browser.complaints() == []


ROWS = """Array.from(document.querySelectorAll('#classes .sortable tbody tr')).filter(r => r.offsetParent).map(
  r => Array.from(r.cells).map(c => c.textContent.trim()))"""


def test_table_by_class_shows_twenty_then_more_and_sorts(browser: Browser, shop: Path) -> None:
    table = pd.read_csv(shop.with_name("classes.csv"), keep_default_na=False)
    browser.open(shop)
    rows = browser.run(ROWS)
    assert [row[0] for row in rows] == table["label"].tolist()[:20]
    assert [row[2] for row in rows] == [f"{score:.3f}" for score in table["mp5"][:20]]
    pictures = "Array.from(document.querySelectorAll('#classes .sortable tr')).filter(r => r.offsetParent).flatMap("
    assert browser.run(f"{pictures}r => Array.from(r.querySelectorAll('img'))).every(i => i.src.startsWith('data:'))")
    browser.run("document.querySelector('#classes .more').click()")
    assert len(browser.run(ROWS)) == len(table) == 30
    change = (table["mp5"] - table["mp5_first"]).round(3)
    head = "Array.from(document.querySelectorAll('#classes .sortable th button')).find(b => b.textContent === '{}')"
    for name, column, is_falling in (("change", change, True), ("class", table["label"], False)):
        browser.run(f"{head.format(name)}.click()")
        found = [row[4 if name == "change" else 0] for row in browser.run(ROWS)]
        assert [float(text) if is_falling else text for text in found] == sorted(column, reverse=is_falling)
        assert browser.run(f"{head.format(name)}.parentNode.getAttribute('aria-sort')") is not None
    browser.run(f"{head.format('change')}.click()")
    browser.run(f"{head.format('change')}.click()")  # the other way round: what training made worse
    assert [float(row[4]) for row in browser.run(ROWS)] == sorted(change)
    assert browser.complaints() == []


def test_phone_shows_where_there_is_more_beside(browser: Browser, page: Path) -> None:
    browser.open(page, width=390, is_phone=True)
    wait = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
    browser.run(wait)
    box = "document.querySelector('{}')"
    for name in ("nav ul", "#cost .scroll"):
        own = box.format(name)
        assert browser.run(f"{own}.scrollWidth > {own}.clientWidth")
        assert browser.run(f"{own}.className").split()[-1] == "more-right"
        assert "gradient" in browser.run(f"getComputedStyle({own}).maskImage")
        browser.run(f"{own}.scrollLeft = 9999")
        browser.run(wait)
        assert browser.run(f"{own}.classList.contains('more-left')")
        assert not browser.run(f"{own}.classList.contains('more-right')")
    assert browser.run("getComputedStyle(document.querySelector('nav'), '::after').content") == "none"
    browser.open(page)
    browser.run(wait)
    assert browser.run("getComputedStyle(document.querySelector('nav ul')).maskImage") == "none"


def test_page_of_one_domain_colours_the_map_by_class(browser: Browser, shop: Path) -> None:
    browser.open(shop)
    assert browser.run("document.querySelector('#domains')") is None
    text = browser.run("document.body.innerText.replace(/Data\\n[^]*/, '')")  # up to the table of the data
    assert "mean over" not in text and "domain" not in text.lower()
    legend = browser.run("Array.from(document.querySelectorAll('#embedding h3 ~ .legend li')).map(l => l.textContent)")
    assert len(legend) == 9 and legend[-1] == "other classes"
    colours = browser.run(
        "Object.entries(Object.groupBy(Array.from(document.querySelectorAll('#map [data-i]')), "
        "m => getComputedStyle(m).fill)).map(([fill, marks]) => [marks.length, new Set(marks.map("
        "m => m.dataset.c)).size])"
    )
    assert len(colours) == 9 and sorted(n for _, n in colours) == [1] * 8 + [22]
    assert browser.complaints() == []


TIP = """(() => { const tip = document.getElementById('tip'), at = document.querySelector('#map .at');
  const box = tip.querySelector('.tile').getBoundingClientRect();
  return tip.hidden ? null : { i: Number(at.dataset.i), text: tip.querySelector('span').textContent,
    tile: [box.left, box.top, box.width, box.height],
    x: at.getBBox().x, same: document.querySelectorAll('#map .same').length }; })()"""
POINT = """(() => {{ const box = document.querySelector('#map [data-i="{}"]').getBoundingClientRect();
  return [box.left + box.width / 2, box.top + box.height / 2]; }})()"""


def test_map_shows_the_image_that_is_pointed_at(browser: Browser, page: Path) -> None:
    ids = pd.read_parquet(page.parents[1] / FOLDERS[7] / "val_ids.parquet")
    images = PackedImages(page.parents[1] / FOLDERS[3])
    browser.open(page)
    browser.run("document.getElementById('map').scrollIntoView({ behavior: 'instant', block: 'center' })")
    for i in (0, 31, len(ids) - 1):
        x, y = browser.run(POINT.format(i))
        browser.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        tip = browser.run(TIP)
        assert tip["i"] == i or tip["same"]  # one that lies on top of it may be nearer
        row = ids.iloc[tip["i"]]
        label = images.index["source_label"].iloc[row["pack_row"]]
        assert tip["text"] == f"{label} · {row['domain']}"
        assert tip["same"] == (ids["class_id"] == row["class_id"]).sum()
        with Image.open(io.BytesIO(base64.b64decode(browser.send("Page.captureScreenshot")["data"]))) as shot:
            left, top, width, height = tip["tile"]
            seen = shot.convert("RGB").crop(
                (round(left), round(top + height / 8), round(left + width), round(top + height * 7 / 8))
            )  # images are 4 : 3
        expected = Image.fromarray(images.read(int(row["pack_row"]))).resize(seen.size)
        assert np.abs(np.asarray(seen).astype(float) - np.asarray(expected)).mean() < 14
    browser.send("Input.dispatchMouseEvent", type="mouseMoved", x=2, y=2)
    assert browser.run(TIP) is None
    assert browser.run("document.querySelectorAll('#map .faint').length") == 0
    assert browser.complaints() == []


def test_map_is_walked_by_arrow_keys(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.run("document.getElementById('map').focus()")
    browser.press("ArrowLeft", 37)
    tips = [browser.run(TIP)]
    for _ in range(4):
        browser.press("ArrowRight", 39)
        tips.append(browser.run(TIP))
    assert all(before["x"] < after["x"] for before, after in itertools.pairwise(tips))
    browser.press("Escape", 27)
    assert browser.run(TIP) is None
    assert browser.run("getComputedStyle(document.getElementById('map')).outlineStyle") == "solid"


@pytest.mark.parametrize("name", ["ladder", "similarities", "training", "map"])
def test_png_looks_as_the_browser_paints_the_svg(browser: Browser, page: Path, name: str, tmp_path: Path) -> None:
    with Image.open(page.with_name(f"{name}.png")) as png:
        ours = png.convert("RGB")
    text = page.with_name(f"{name}.svg").read_text(encoding="utf-8")
    width, height = (float(text.split(f'{side}="', 1)[1].split('"', 1)[0]) for side in ("width", "height"))
    browser.open(page.with_name(f"{name}.svg"), width=round(width), height=round(height))
    browser.screenshot(tmp_path / "shot.png", x=0, y=0, width=width, height=height, scale=round(ours.width / width))
    with Image.open(tmp_path / "shot.png") as shot:
        theirs = shot.convert("RGB")
    assert theirs.size == ours.size
    size = (round(width / 6), round(height / 6))  # where letters and edges blur, marks and colours stay
    ours_small, theirs_small = (
        np.asarray(picture.resize(size, Image.Resampling.BOX)).astype(float) for picture in (ours, theirs)
    )
    assert theirs_small.std() > 5
    assert np.abs(ours_small - theirs_small).mean() < 2.5
    likeness, of_another = (
        np.corrcoef(picture.ravel(), theirs_small.ravel())[0, 1] for picture in (ours_small, ours_small[:, ::-1])
    )
    assert likeness > 0.85 > 0.7 > of_another
