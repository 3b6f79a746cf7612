"""The report in a real browser: no errors, no requests, filters, comparison and map by mouse and keyboard, a phone's
width, dark and light, its first paint."""

from __future__ import annotations

import base64
import io
import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path

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
    browser.open(page)
    everything = shown(browser)
    assert sum(everything.values()) == browser.run("document.querySelectorAll('.card').length") > 40
    browser.run("document.querySelector('button[data-value=d1]').click()")
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
    browser.open(page)
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
    worse = {image for image, _ in browser.run(ANSWERS)}
    assert worse == {image for image, _ in beside if scores[FIRST][image] < scores[FINAL][image]} != set()
    choose(browser, "beside", "")
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
    choose(browser, "beside", "s0")
    for _, answers in browser.run(ANSWERS):
        first, second = sorted(answers, key=lambda answer: answer[3])
        assert (first[0], second[0]) == (FINAL, FIRST) and first[2] == second[2]
    assert browser.run("document.documentElement.scrollWidth") <= 390


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
