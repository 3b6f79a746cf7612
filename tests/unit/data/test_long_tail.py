"""The picture of images per class: its points by hand, and what every source adds."""

import re
import xml.etree.ElementTree as ElementTree

import pandas as pd

from guie.data.long_tail import LEFT, PANEL_H, PANEL_W, TOP, long_tail_svg


def lines_of(svg: str) -> list[list[tuple[float, float]]]:
    return [
        [(float(x), float(y)) for x, y in (p.split(",") for p in path.split())]
        for path in re.findall(r'points="([^"]*)"', svg)
    ]


def test_points_are_the_logarithms_of_rank_and_size():
    classes = pd.DataFrame({"source": "a", "split": "train", "n_images": [1, 100, 10], "n_rows": [10, 10, 10]})
    svg = long_tail_svg(pd.concat([classes, classes.assign(split="val", n_images=1000)]))
    found, rows = lines_of(svg)
    # Largest first, the axis of sizes ends at 100: two decades; that of ranks at 10. Rank 3 is at log10 3 = .4771.
    assert found == [
        (LEFT, TOP),
        (round(LEFT + 0.30103 * PANEL_W, 1), TOP + PANEL_H / 2),
        (round(LEFT + 0.477121 * PANEL_W, 1), TOP + PANEL_H),
    ]
    assert {y for _, y in rows} == {TOP + PANEL_H / 2}
    assert "a: 3 classes, 111 images, 30 rows" in svg


def test_many_classes_and_sources_stay_small_and_are_told_apart():
    parts = [
        pd.DataFrame({"source": f"s<{i}", "split": "train", "n_images": range(2, 20_002), "n_rows": 20})
        for i in range(18)
    ]
    svg = long_tail_svg(pd.concat(parts))
    ElementTree.fromstring(svg)
    assert len(svg) < 150_000
    strokes = re.findall(r'<polyline [^>]*(stroke="[^"]*"[^/]*)/>', svg)
    assert len(strokes) == 36 and len(set(strokes)) == 18
    assert all(line[0][1] > TOP and len(line) <= 120 for line in lines_of(svg))


def test_one_class_of_one_image_is_a_dot():
    svg = long_tail_svg(pd.DataFrame({"source": ["one"], "split": ["train"], "n_images": [1], "n_rows": [1]}))
    assert svg.count("<circle") == 2
