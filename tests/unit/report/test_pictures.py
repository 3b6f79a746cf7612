"""Pictures: which queries are shown, that right and wrong can be told without colour, and bars as long as their
values."""

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from fake_run import make_fake_run
from PIL import Image

from guie.report import charts, charts_bars
from guie.report.album import THUMB_PX, thumbnail
from guie.report.charts_joined import grid, keyed
from guie.report.gallery import Answer, Neighbour, Query
from guie.report.page import write_report
from guie.report.palette import LIGHT
from guie.report.pictures import GAP, LEFT, MAX_ROWS, RIGHT, WRONG, neighbours_picture, raster, standalone
from guie.report.svg import view_box

CELL = THUMB_PX + 8
SCALE = 3  # of a chart of 380 units
GREY = thumbnail(np.full((60, 90, 3), 128, np.uint8))


def _query(domain: str, number: int, picked: str = "random", right: tuple[bool, ...] = (True, False, True)) -> Query:
    near = tuple(Neighbour(f"n{i}", "x", 0.5, is_right, i < 2, GREY) for i, is_right in enumerate(right))
    return Query(f"q{number}", "x", domain, picked, (Answer("last", 0.5, right[0], near),), GREY)


def _rgb(colour: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(colour[1:]))


def test_two_random_queries_of_each_domain_are_shown():
    queries = [
        _query(domain, n, picked)
        for domain in ("a", "b", "c")
        for picked in ("best", "worst", "random")
        for n in range(4)
    ]
    picture = neighbours_picture(queries)
    assert picture is not None and picture.height == GAP + 6 * (CELL + GAP)
    many = neighbours_picture([_query(f"d{n}", n) for n in range(50)])
    assert many is not None and many.height == GAP + MAX_ROWS * (CELL + GAP)
    assert neighbours_picture([_query("a", 0, "best")]) is None


def test_right_and_wrong_differ_in_frame_and_in_mark():
    picture = neighbours_picture([_query("a", 0)])
    assert picture is not None
    lefts = [LEFT + 2 * GAP + (rank + 1) * (CELL + GAP) for rank in range(3)]
    frames = [picture.getpixel((left + 1, GAP + 1)) for left in lefts]
    assert frames == [_rgb(RIGHT), _rgb(WRONG), _rgb(RIGHT)]
    marks = [
        np.asarray(picture.crop((left + CELL - 20, GAP + CELL - 20, left + CELL - 4, GAP + CELL - 4)).convert("L"))
        > 200
        for left in lefts
    ]
    assert (marks[0] == marks[2]).all() and (marks[0] != marks[1]).sum() > 10
    assert marks[1][5, 5] and marks[1][11, 5] and marks[1][5, 11]  # a cross


def test_raster_paints_bars_as_long_as_their_values():
    rows = [charts_bars.BarRow("", "", (charts_bars.Bar(value, "final", ""),)) for value in (0.25, 1.0)]
    chart = charts_bars.bar_chart("t", rows, "x")
    pixels = np.asarray(raster(chart)).astype(int)
    assert pixels.shape[:2] == tuple(int(SCALE * side) for side in reversed(view_box(chart)))
    is_bar = (np.abs(pixels - _rgb(LIGHT["accent"])).sum(axis=2) < 12).sum(axis=1)
    lengths = {int(n) for n in is_bar if n > 40}
    whole = SCALE * (charts_bars.BAR_W - charts_bars.BAR_LEFT - charts_bars.BAR_RIGHT)
    assert max(lengths) == pytest.approx(whole, abs=3) and any(n == pytest.approx(whole / 4, abs=3) for n in lengths)


def test_raster_dashes_lines_by_their_length():
    chart = '<svg viewBox="0 0 380 20"><polyline class="two" points="10,10 90,10 350,10"/></svg>'
    pixels = np.asarray(raster(chart)).astype(int)[10 * SCALE]
    is_line = np.abs(pixels - _rgb(LIGHT["second"])).sum(axis=1) < 60
    turns = np.flatnonzero(np.diff(is_line.astype(int)))
    lengths = np.diff(turns)[:-1]
    assert len(lengths) > 60 and turns[0] == 10 * SCALE - 1
    assert np.median(lengths[::2]) == pytest.approx(6 * SCALE, abs=2) and np.median(lengths[1::2]) == pytest.approx(
        3 * SCALE, abs=2
    )


def test_standalone_file_is_whole_and_knows_every_style():
    rows = [
        charts_bars.BarRow(
            "a < b & c", "64-d", (charts_bars.Bar(0.5, "k3", "<tip>", (0.4, 0.6)),), charts_bars.Bar(0.7, "mark", "")
        )
    ]
    chart = keyed(
        charts_bars.bar_chart('a "title"', rows, "x"),
        "t & u",
        [("mark", "R@1"), ("line-k2", "a line"), ("map-2", "a triangle"), ("one", "x")],
    )
    root = ET.fromstring(standalone(chart))
    space = "{http://www.w3.org/2000/svg}"
    assert {"a < b & c", "t & u", "a triangle"} <= {text.text for text in root.iter(f"{space}text")}
    styles = {name for element in root.iter() for name in element.get("class", "").split()}
    rules = root.find(f"{space}style").text
    assert len(styles) > 6
    assert all(f"svg .{name}{{" in rules for name in styles)
    assert "var(" not in rules
    raster(chart)


def test_standalone_file_is_named_for_screen_readers():
    chart = charts.line_chart('a "t" & b', [charts.Line("y", "one", [0, 1], [0.0, 1.0])], "x")
    named = {title: ET.fromstring(standalone(keyed(chart, title, []))) for title in ("", "own < title")}
    assert {title: root.get("aria-label") for title, root in named.items()} == {
        "": 'a "t" & b', "own < title": "own < title"}  # fmt: skip
    assert (
        ET.fromstring(grid([[chart, ""], [chart, chart]], [["a", "none"], ["b", "c"]])).get("aria-label") == "a; b; c"
    )


def test_grid_places_charts_in_rows_and_columns():
    chart = charts.line_chart("t", [charts.Line("y", "one", [0, 1], [0.0, 1.0])], "x")
    width, height = view_box(chart)
    svg = ET.fromstring(grid([[chart, ""], [chart, chart]], [["a", ""], ["b", "c"]]))
    places = [(float(inner.get("x")), float(inner.get("y"))) for inner in svg.findall("svg")]
    assert places == [(0, 20), (0, height + 40), (width, height + 40)]
    assert [text.text for text in svg.findall("text") if text.text] == ["a", "b", "c"]


def test_report_leaves_pictures_beside_the_page(tmp_path: Path):
    run = make_fake_run(tmp_path)
    write_report(run)
    folder = run.out / "09_report"
    names = {
        "ladder",
        "domains",
        "training",
        "spectrum",
        "energy",
        "similarities",
        "map",
        "class_sizes",
        "images_per_class",
    }
    assert {path.name for path in folder.iterdir()} == {
        "index.html",
        "neighbours.jpg",
        "classes.csv",
        *(f"{name}.{kind}" for name in names for kind in ("svg", "png")),
    }
    for name in names:
        root = ET.parse(folder / f"{name}.svg").getroot()
        with Image.open(folder / f"{name}.png") as picture:
            width, height = float(root.get("width")), float(root.get("height"))
            assert (
                picture.width >= 1140
                and picture.width % width == 0
                and picture.height == pytest.approx(height * picture.width / width, abs=1)
            )
            assert len(set(picture.convert("RGB").resize((300, 300)).getdata())) > 20  # not blank
    with Image.open(folder / "neighbours.jpg") as picture:
        assert picture.width < 1000 and (folder / "neighbours.jpg").stat().st_size < 300_000
    assert not re.search(r"neighbours\.jpg|ladder\.", (folder / "index.html").read_text(encoding="utf-8")), (
        "the page stays one file"
    )
