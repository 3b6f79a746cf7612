"""The templates: hostile texts stay texts wherever they appear, and all files of the page are used and installed."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import jinja2
import numpy as np
import pandas as pd
import pytest
from fake_run import fake_recipe
from html_page import Page

from guie.evaluate.intervals import NO_INTERVAL
from guie.recipe import Embed, Setting, Stages
from guie.report import geometry
from guie.report.album import Picture
from guie.report.charts_map import Point
from guie.report.collect import CURVE_COLUMNS, DataSummary, Facts, Scores, StageCurves, Step
from guie.report.embedding import Embedding, Map
from guie.report.frame import SCRIPTS, STYLES
from guie.report.gallery import Answer, Gallery, Neighbour, Query
from guie.report.markup import asset, filled
from guie.report.page import Report, render
from guie.report.palette import LIGHT
from guie.report.pictures import standalone
from guie.report.runs import Compared
from guie.report.svg import element, placed, svg

PROJECT = Path(__file__).parents[3]
TEMPLATES = PROJECT / "src/guie/report/templates"
HOSTILE = (
    "</script><script>window.pwned=1</script>",
    '"><img src=x onerror="window.pwned=2">',
    "' onmouseover='window.pwned=3' x='",
    "</title></style></textarea></svg><b class=hot>",
    "--><!--<![CDATA[",
    "&lt;already&gt; &amp; {{ 7 * 7 }} {% endraw %} {# #}",
    "Crème 🫖 \u2028 \u202e 日本語",
)

Write = Callable[[str], str]


def plain(field: str) -> str:
    """A harmless text for a field."""
    return f"text of {field}"


def facts(write: Write) -> Facts:
    """A run in which each text comes from `write`."""
    recipe = fake_recipe()
    first = replace(recipe.stages.head[0], name=write("stage 0"))
    second = replace(recipe.stages.backbone[0], name=write("stage 1"))
    names = {name: write(name) for name in ("name", "library", "weights")}
    model = replace(recipe.model, **names, mean=None, std=None)
    settings = tuple(Setting(write(f"setting {i}"), ()) for i in range(2))
    recipe = replace(
        recipe,
        name=write("recipe"),
        model=model,
        stages=Stages(head=(first,), backbone=(second,)),
        embed=Embed(settings),
    )
    rows = [
        {
            "setting": setting.name,
            "members": write("members"),
            "views": write("views"),
            "projection": write("projection"),
            "chosen_on": write("chosen on"),
            "dim": 64,
            "n_queries": 2000,
            "n_index": 2000,
            "mp5": 0.5 + 0.1 * i,
            "r1": 0.75,
            "p_vs_previous": np.nan,
            f"mp5_{write('domain')}": 0.5,
        }
        for i, setting in enumerate(settings)
    ]
    scores = Scores(pd.DataFrame(rows), (write("domain"),), 1, 0.9)
    curves = pd.DataFrame({column: [0.5, 0.25] for column in CURVE_COLUMNS})
    trained = (StageCurves(first.name, write("phase"), curves), StageCurves(second.name, write("phase"), None))
    mark = {
        "seconds": 3.0,
        "device": write("device"),
        "seed": write("seed"),
        "commit": write("commit of a door"),
        "versions": {write("package"): write("version")},
        "metrics": {write("metric"): write("value"), "list": [write("item")]},
    }
    steps = (Step(write("door"), 1, False, mark), Step(write("unfinished"), 2, False, None))
    return Facts(recipe, write("commit"), scores, trained, data(write), steps)


def data(write: Write) -> DataSummary:
    counts = {"n_classes": 2, "n_images": 9, "n_rows": 9}
    group = {"domain": write("domain"), "source": write("source"), "split": "train", **counts}
    problem = {column: write(column) for column in ("step", "source", "path", "reason")}
    twins = {column: write(column) for column in ("image_id", "twin", "split", "twin_split")}
    return DataSummary(
        pd.DataFrame([group]),
        {write("size"): 2},
        {write("source"): np.array([6, 3])},
        pd.DataFrame([problem]),
        pd.DataFrame([{**twins, "is_same_file": True, "outcome": "two labels"}]),
    )


def gallery(write: Write) -> Gallery:
    """Two settings' answers to a query; the first one's thumbnail is on the page only as JSON."""
    hidden = Neighbour(write("near"), write("label"), 0.5, False, True, write("hidden thumbnail"))
    shown = replace(hidden, jpeg=write("shown thumbnail"))
    answers = (Answer(write("setting 0"), 0.5, False, (hidden,)), Answer(write("setting 1"), 0.5, False, (shown,)))
    query = Query(write("query"), write("label"), write("domain"), "worst", answers, write("query's thumbnail"))
    mixup = {column: write(column) for column in ("domain", "label", "taken_for")}
    mixups = pd.DataFrame([{**mixup, "n": 3, "query_id": "a", "image_id": "b"}])
    own = {name: write(f"{name} of a class") for name in ("label", "domain", "taken_for")}
    numbers = {"n_images": 4, "mp5": 0.5, "mp5_first": 0.25, "n_wrong": 2}
    first = {**own, **numbers, "example": "a", "wrong_image": "b"}
    classes = pd.DataFrame([first, {**first, "domain": "another", "wrong_image": "", "n_wrong": 0}])
    pictures = {
        name: Picture(name, write(f"label of {name}"), write(f"file of {name}"), write(f"jpeg of {name}"))
        for name in ("a", "b")
    }
    return Gallery((query,), mixups, classes, pictures, (write("first setting"), write("setting 1")))


def report(write: Write) -> Report:
    own = facts(write)
    spectrum = geometry.Spectrum(np.array([0.75, 0.25]), 1.5)
    counts = np.ones(geometry.N_BINS, np.int64)
    drawn = Map((Point(0.5, 0.5, 0, 7, write("point")),), (write("domain"),), write("sheet"), 1, 1)
    embedding = Embedding(spectrum, None, geometry.Similarities(counts, counts, counts), drawn)
    # The first two runs differ in the seed alone, the third one in another field.
    recipes = [{"name": write("name"), "seed": i, write("field"): i // 2} for i in range(3)]
    runs = tuple(
        Compared(write(f"run {i}"), recipe, own.scores, 3.0, 1.0, "", Path("nowhere"))
        for i, recipe in enumerate(recipes)
    )
    return Report(own, gallery(write), embedding, runs)


def skeleton(page: Page) -> list[tuple[str, list[str]]]:
    """The elements of a page with the names of their attributes."""
    return [(tag, sorted(attributes)) for tag, attributes in page.elements]


@pytest.fixture(scope="module")
def harmless() -> Page:
    return Page(render(report(plain)))


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_in_any_field_is_shown_and_changes_no_element(text: str, harmless: Page) -> None:
    fields = set()

    def write(field: str) -> str:
        fields.add(field)
        return text + field

    page = Page(render(report(write)))
    assert page.open == []
    assert skeleton(page) == skeleton(harmless)
    assert len(page.all("script")) == 2
    seen = "\n".join([*page.texts, *(value or "" for _, attributes in page.elements for value in attributes.values())])
    assert len(fields) > 40
    missing = {field for field in fields if text + field not in seen}
    assert missing <= {"hidden thumbnail", "item", "jpeg of a", "jpeg of b"}  # they are JSON on the page


@pytest.mark.parametrize("text", HOSTILE)
def test_json_in_the_page_holds_the_hostile_text_and_ends_no_script(text: str) -> None:
    html = render(report(lambda field: text + field))
    found = re.search(r'<script type="application/json" id="thumbnails">(.*?)</script>', html, re.DOTALL)
    assert found is not None
    hidden = ("hidden thumbnail", "jpeg of a", "jpeg of b")
    assert list(json.loads(found[1]).values()) == [f"{text}{name}" for name in hidden]
    assert not re.search(r"[<>&']", found[1])
    assert html.count("<script") == html.count("</script>") == 2


def test_hostile_text_in_a_chart_is_a_text_of_its_svg_file() -> None:
    for text in HOSTILE:
        chart = svg(10, 10, text, element("text", text, class_=text), placed(svg(5, 5, text), 1, 1))
        page = Page(standalone(chart))
        assert [tag for tag, _ in page.elements] == ["svg", "style", "rect", "text", "svg"]
        assert text in page.texts
        assert [attributes.get("aria-label") for attributes in page.all("svg")] == [text, text]
        assert page.all("text")[0]["class"] == text


def test_svg_element_escapes_texts_and_keeps_elements() -> None:
    inner = element("line", x1=1.25, x2=3, class_="grid")
    assert inner == '<line x1="1.2" x2="3" class="grid"/>'
    assert element("g", "<b>", inner, text_anchor='"') == f'<g text-anchor="&#34;">&lt;b&gt;{inner}</g>'


def test_page_without_interval_says_why_and_a_missing_value_is_an_error() -> None:
    own = report(plain)
    table = own.facts.scores.table.assign(mp5_low=np.nan, mp5_high=np.nan)
    scores = replace(own.facts.scores, table=table)
    assert NO_INTERVAL[1:] in render(replace(own, facts=replace(own.facts, scores=scores)))
    with pytest.raises(jinja2.UndefinedError, match="chart"):
        filled("domains.html", domains=["a"], keys=[], rows=[])


def test_style_sheet_and_script_are_on_the_page_as_they_are() -> None:
    html = render(report(plain))
    for name, end in (*((name, "</style") for name in STYLES), *((name, "</script") for name in SCRIPTS)):
        text = (TEMPLATES / name).read_text(encoding="utf-8")
        assert end not in text and text in html and asset(name) == text


def test_style_sheet_uses_only_colours_that_the_palette_has() -> None:
    css = "".join(asset(name) for name in STYLES)
    used = set(re.findall(r"var\(--([\w-]+)\)", css))
    assert len(used) > 10
    assert used <= set(LIGHT) | {"fade-left", "fade-right"}  # widths of the faded edges


def test_style_sheet_knows_only_classes_that_the_page_has_or_the_script_sets() -> None:
    css = re.sub(r"/\*.*?\*/|\{[^{}]*\}", " ", "".join(asset(name) for name in STYLES), flags=re.DOTALL)
    paths = [*TEMPLATES.glob("*.html"), *TEMPLATES.glob("*.js"), *TEMPLATES.parent.glob("*.py")]
    others = "".join(path.read_text(encoding="utf-8") for path in paths)
    names = set(re.findall(r"\.([a-z][\w-]*)", css))
    assert len(names) > 30
    assert [name for name in names if not re.search(rf"\b{name}\b", others)] == []


def test_every_file_of_the_page_is_installed() -> None:
    settings = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = settings["tool"]["setuptools"]["package-data"]["guie"]
    installed = {path for pattern in patterns for path in (PROJECT / "src/guie").glob(pattern)}
    own = {path for path in TEMPLATES.iterdir() if path.is_file()}
    assert {path.suffix for path in own} == {".html", ".css", ".js"} and len(own) > 10
    assert own <= installed
    assert {path.name for path in own} == {path.name for path in (files("guie.report") / "templates").iterdir()}
