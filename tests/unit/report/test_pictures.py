"""Pictures: which queries are shown, that right and wrong can be told without colour, and bars as long as their values."""

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pandas as pd
from fake_run import make_fake_run
from PIL import Image

from guie.report.gallery import THUMB_PX, Neighbour, Query, thumbnail
from guie.report.page import write_report
from guie.report.pictures import BAR_W, GAP, LEFT, MAX_ROWS, RIGHT, WRONG, ladder_picture, ladder_svg, neighbours_picture

CELL = THUMB_PX + 8
GREY = thumbnail(np.full((60, 90, 3), 128, np.uint8))


def _query(domain: str, number: int, picked: str = "random", right: tuple[bool, ...] = (True, False, True)) -> Query:
    near = tuple(Neighbour(f"n{i}", "x", 0.5, is_right, i < 2, GREY) for i, is_right in enumerate(right))
    return Query(f"q{number}", "x", domain, picked, 0.5, None, right[0], near, GREY)


def _rgb(colour: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(colour[1:]))


def test_two_random_queries_of_each_domain_are_shown():
    queries = [_query(domain, n, picked) for domain in ("a", "b", "c") for picked in ("best", "worst", "random") for n in range(4)]
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
    marks = [np.asarray(picture.crop((left + CELL - 20, GAP + CELL - 20, left + CELL - 4, GAP + CELL - 4)).convert("L")) > 200 for left in lefts]
    assert (marks[0] == marks[2]).all() and (marks[0] != marks[1]).sum() > 10
    assert marks[1][5, 5] and marks[1][11, 5] and marks[1][5, 11]  # a cross


def test_bars_are_as_long_as_their_values_and_texts_are_escaped():
    table = pd.DataFrame({"setting": ["a < b & c", "last"], "dim": [64, 64], "mp5": [0.25, 0.75]})
    root = ET.fromstring(ladder_svg(table))
    space = "{http://www.w3.org/2000/svg}"
    widths = [float(bar.get("width", "")) for bar in root.iter(f"{space}rect") if bar.get("x")]
    assert widths == [0.25 * BAR_W, 0.75 * BAR_W]
    assert [text.text for text in root.iter(f"{space}text")] == ["a < b & c", "0.250", "last", "0.750"]
    pixels = np.asarray(ladder_picture(table)).astype(int)
    blue = (pixels[..., 2] - pixels[..., 0] > 60).sum(axis=1)
    assert sorted(set(blue[blue > 300].tolist())) == [0.75 * 2 * BAR_W + 1] and 0.25 * 2 * BAR_W + 1 in blue


def test_report_leaves_pictures_beside_the_page(tmp_path: Path):
    run = make_fake_run(tmp_path)
    write_report(run)
    folder = run.out / "09_report"
    assert {path.name for path in folder.iterdir()} >= {"index.html", "ladder.svg", "ladder.png", "neighbours.jpg"}
    with Image.open(folder / "neighbours.jpg") as picture:
        assert picture.width < 1000 and (folder / "neighbours.jpg").stat().st_size < 300_000
    assert not re.search(r"neighbours\.jpg|ladder\.", (folder / "index.html").read_text(encoding="utf-8")), "the page stays one file"
