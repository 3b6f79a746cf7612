"""The report: what it reads, which queries it picks, its charts, and that it is one safe, whole page."""

from __future__ import annotations

import base64
import io
import math
import re
import shutil
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fake_run import DOMAINS, EVIL, FINAL, FIRST, make_fake_run
from PIL import Image

from guie.report import charts, sections
from guie.report.collect import collect, read_data, read_scores, read_stages
from guie.report.gallery import MAX_QUERIES, N_BEST, N_RANDOM, N_WORST, Query, choose, query_scores, read_gallery, thumbnail
from guie.report.page import ladder_text, render, write_report
from guie.run import FOLDERS, Run

VOID = {"meta", "img"}


class Page(HTMLParser):
    """What a browser would see: the elements with their attributes, the texts, and whether tags close in order."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def all(self, tag: str, style: str = "") -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag and (not style or style in (attributes.get("class") or "").split())]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_fake_run(tmp_path_factory.mktemp("fake"))


@pytest.fixture
def run(finished: Run, tmp_path: Path) -> Run:
    """A copy that a test may damage."""
    shutil.copytree(finished.out, tmp_path / "run")
    return Run(finished.recipe, finished.data_root, tmp_path / "run")


@pytest.fixture(scope="module")
def queries(finished: Run) -> tuple[Query, ...]:
    return read_gallery(finished)


@pytest.fixture(scope="module")
def html(finished: Run, queries: tuple[Query, ...]) -> str:
    return render(collect(finished), queries)


def remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def host_precision(relevant: set[str], returned: list[str]) -> float:
    """The contest's metric, written anew from its description."""
    m = min(len(relevant), 5)
    return sum(image in relevant for image in returned[:m]) / m


def test_query_scores_equal_the_hosts_loop(finished: Run) -> None:
    folder = finished.out / FOLDERS[7]
    near, ids = pd.read_parquet(folder / "neighbours.parquet"), pd.read_parquet(folder / "val_ids.parquet")
    near = near[near["setting"] == FINAL]
    scores = query_scores(near.sample(frac=1.0, random_state=0), ids)
    expected = {}
    for query in ids.itertuples():
        relevant = set(ids.loc[ids["class_id"] == query.class_id, "image_id"]) - {query.image_id}
        expected[query.image_id] = host_precision(relevant, near[near["query_id"] == query.image_id].sort_values("rank")["image_id"].tolist())
    assert len(expected) > 50
    assert scores.to_dict() == pytest.approx(expected)


def test_query_scores_when_the_hit_lies_behind_the_first_m_ranks() -> None:
    ids = pd.DataFrame({"image_id": list("abxyz"), "class_id": [0, 0, 1, 2, 2]})
    near = pd.DataFrame({"query_id": ["a"] * 2 + ["x"] * 2, "rank": [1, 2, 1, 2], "is_correct": [False, True, False, False]})
    assert query_scores(near, ids).to_dict() == {"a": 0.0}  # one relevant image: rank 2 is not looked at; x has none and is no query


def test_choice_of_queries_is_spread_and_independent_of_order() -> None:
    rng = np.random.default_rng(0)
    ids = pd.DataFrame({"image_id": [f"i{k:04d}" for k in range(600)], "class_id": np.arange(600) // 6, "domain": [f"d{k // 200}" for k in range(600)]})
    scores = pd.Series(rng.choice([0.0, 0.2, 0.4, 0.6, 0.8, 1.0], 600), index=ids["image_id"])
    chosen = choose(scores, ids, seed=5)
    again = choose(scores.sample(frac=1.0, random_state=1), ids.sample(frac=1.0, random_state=2), seed=5)
    pd.testing.assert_frame_equal(chosen, again)
    assert not chosen["image_id"].duplicated().any()
    assert not chosen["class_id"].duplicated().any()  # there are enough classes for each query to show another
    for _, group in chosen.groupby("domain"):
        assert group["picked"].value_counts().to_dict() == {"worst": N_WORST, "best": N_BEST, "random": N_RANDOM}
        assert set(group.loc[group["picked"] == "worst", "score"]) == {0.0}
        assert set(group.loc[group["picked"] == "best", "score"]) == {1.0}


def test_choice_of_queries_when_there_are_many_domains() -> None:
    ids = pd.DataFrame({"image_id": [f"i{k:05d}" for k in range(2000)], "class_id": np.arange(2000) // 4, "domain": [f"d{k // 50:02d}" for k in range(2000)]})
    chosen = choose(pd.Series(0.5, index=ids["image_id"]), ids, seed=0)
    assert len(chosen) == MAX_QUERIES
    assert chosen["domain"].nunique() == 40


def test_choice_of_queries_when_a_domain_has_three() -> None:
    ids = pd.DataFrame({"image_id": ["a", "b", "c"], "class_id": [0, 0, 0], "domain": ["d"] * 3})
    chosen = choose(pd.Series([0.0, 0.5, 1.0], index=["a", "b", "c"]), ids, seed=0)
    assert sorted(chosen["image_id"]) == ["a", "b", "c"]


@pytest.mark.parametrize("shape", [(300, 150, 3), (40, 30, 3), (1, 500, 3)])
def test_thumbnail_keeps_shape_and_colour(shape: tuple[int, int, int]) -> None:
    pixels = np.broadcast_to(np.uint8([200, 60, 20]), shape).copy()
    with Image.open(io.BytesIO(base64.b64decode(thumbnail(pixels)))) as image:
        assert image.format == "JPEG"
        assert max(image.size) == min(112, max(shape[:2]))
        assert image.width / image.height == pytest.approx(shape[1] / shape[0], rel=0.02) or min(image.size) == 1
        np.testing.assert_allclose(np.asarray(image).mean((0, 1)), [200, 60, 20], atol=4)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0, 0.71, [0, 0.2, 0.4, 0.6, 0.8]),
        (2.1, 13.4, [0, 2.5, 5, 7.5, 10, 12.5, 15]),
        (0, 1e-3, [0, 2e-4, 4e-4, 6e-4, 8e-4, 1e-3]),
    ],
)
def test_ticks_are_round_and_cover_the_range(low: float, high: float, expected: list[float]) -> None:
    assert charts.ticks(low, high) == pytest.approx(expected)


def test_ticks_cover_any_range() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        low = rng.normal() * 10.0 ** rng.integers(-6, 6)
        high = low + abs(rng.normal()) * 10.0 ** rng.integers(-6, 6)
        marks = charts.ticks(low, high)
        slack = 1e-6 * max(abs(low), abs(high), high - low)
        assert marks[0] <= low + slack
        assert marks[-1] >= high - slack
        assert 3 <= len(marks) <= 8
        assert np.all(np.diff(marks) > 0)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.25, "0.25"),
        (1200, "1200"),
        (7.5e-4, "7.5e-4"),
        (1e-5, "1e-5"),
        (-0.5, "-0.5"),
        (250000, "250000"),
        (99_999, "99999"),
        (1e-17, "0"),
        (12345.6, "1.23e4"),
        (3e9, "3e9"),
    ],
)
def test_number_is_short(value: float, text: str) -> None:
    assert charts.number(value) == text


def test_line_chart_places_points_by_value_and_skips_what_is_no_number() -> None:
    line = charts.Line("loss <b>", "one", [0, 10, 20, 40], [0.0, math.nan, 5.0, 10.0])
    svg = ET.fromstring(charts.line_chart("a & b", [line], "step"))
    at = [tuple(map(float, pair.split(","))) for pair in svg.find("polyline").get("points").split()]
    left, right = charts.LINE_LEFT, charts.LINE_W - charts.LINE_RIGHT
    top, bottom = charts.LINE_TOP, charts.LINE_H - charts.LINE_BOTTOM
    np.testing.assert_allclose(at, [(left, bottom), ((left + right) / 2, (top + bottom) / 2), (right, top)], atol=0.06)
    assert svg.get("aria-label") == "a & b"
    assert [title.text for title in svg.iter("title")] == ["loss <b> 0 at step 0", "loss <b> 5 at step 20", "loss <b> 10 at step 40"]


def test_line_chart_of_a_single_point_and_of_a_constant() -> None:
    for xs, ys in (([7], [0.3]), ([1, 2], [0.5, 0.5]), ([1, 2], [0.0, 0.0])):
        svg = ET.fromstring(charts.line_chart("t", [charts.Line("y", "one", xs, ys)], "epoch"))
        for circle in svg.iter("circle"):
            assert charts.LINE_LEFT <= float(circle.get("cx")) <= charts.LINE_W
            assert 0 <= float(circle.get("cy")) <= charts.LINE_H - charts.LINE_BOTTOM


def test_line_chart_without_a_point_is_an_error() -> None:
    with pytest.raises(ValueError, match="no finite point"):
        charts.line_chart("empty", [charts.Line("y", "one", [1], [math.nan])], "step")


def test_line_chart_of_many_points_is_thinned_but_keeps_the_ends() -> None:
    svg = charts.line_chart("t", [charts.Line("y", "one", list(range(100_000)), [float(i) for i in range(100_000)])], "step")
    titles = [title.text for title in ET.fromstring(svg).iter("title")]
    assert len(titles) <= charts.MAX_POINTS + 1
    assert titles[0].endswith("step 0")
    assert titles[-1].endswith("y 99999 at step 99999")


def test_bar_chart_widths_are_proportional_and_texts_escaped() -> None:
    rows = [charts.BarRow("<a>", "64-d", (charts.Bar(v, "step", "tip & tip"),), charts.Bar(0.8, "mark", "r1")) for v in (0.2, 0.4, math.nan)]
    svg = ET.fromstring(charts.bar_chart("bars", rows, "mP@5"))
    widths = [float(box.get("width")) for box in svg.iter("rect")]
    assert len(widths) == 2
    assert widths[1] == pytest.approx(2 * widths[0], abs=0.2)
    assert [text.text for text in svg.iter("text")].count("not measured") == 1
    assert len(list(svg.iter("polygon"))) == 3


def test_page_is_whole_and_fetches_nothing(html: str) -> None:
    page = Page(html)
    assert page.open == []
    addresses = [
        value or "" for _, attributes in page.elements for name, value in attributes.items() if name in ("src", "href", "action", "data", "srcset", "poster")
    ]
    assert len(addresses) > 50
    assert all(address.startswith(("#", "data:image/jpeg;base64,")) for address in addresses)
    assert "url(" not in html
    assert "@import" not in html
    assert {tag for tag, _ in page.elements}.isdisjoint({"link", "iframe", "object", "embed", "base", "form"})
    assert len(html) < 10e6
    targets = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    assert {address[1:] for address in addresses if address.startswith("#")} <= targets


def test_page_escapes_every_name(html: str) -> None:
    page = Page(html)
    assert len(page.all("script")) == 1
    assert all(not name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert page.all("b", "hot") == []
    for label in EVIL:
        assert label in page.texts
    for domain in DOMAINS:
        assert domain in page.texts
    assert "fake & <bench>" in page.texts


def test_page_shows_the_scores(html: str, finished: Run) -> None:
    page = Page(html)
    table = pd.read_csv(finished.out / FOLDERS[7] / "scores.csv")
    for row in table.to_dict("records"):
        assert row["setting"] in page.texts
        for value in (row["mp5"], row["r1"], *(row[f"{metric}_{domain}"] for metric in ("mp5", "r1") for domain in DOMAINS)):
            assert f"{value:.3f}" in page.texts
    assert page.texts.count("0.708") >= 3  # large, in the chart, in the table
    assert "fake & <bench> · seed 3 · a3ad602f0e+" in page.texts
    assert any("90.0%" in text for text in page.texts)
    assert "mP@5 0.630 · R@1 0.710" in page.texts  # s4_backbone_288 was validated once: a text, no chart of one point


def test_gallery_marks_agree_with_the_neighbours(finished: Run, queries: tuple[Query, ...], html: str) -> None:
    page = Page(html)
    near = pd.read_parquet(finished.out / FOLDERS[7] / "neighbours.parquet")
    near = near[near["setting"] == FINAL].set_index(["query_id", "rank"])
    n_right = 0
    for query in queries:
        assert len(query.neighbours) == 5
        assert query.is_right == near.loc[(query.image_id, 1), "is_correct"]
        for rank, neighbour in enumerate(query.neighbours, start=1):
            row = near.loc[(query.image_id, rank)]
            assert (neighbour.image_id, neighbour.is_correct) == (row["image_id"], row["is_correct"])
            n_right += neighbour.is_correct
    assert {query.domain for query in queries} == set(DOMAINS)
    assert len(page.all("li", "card")) == len(queries) >= 40
    assert len(page.all("figure", "right")) == n_right
    assert len(page.all("figure", "right")) + len(page.all("figure", "wrong")) == 5 * len(queries)
    assert sum(text.startswith("✓ 0") for text in page.texts) == n_right
    assert [card["data-verdict"] for card in page.all("li", "card")] == ["right" if query.is_right else "wrong" for query in queries]


def test_gallery_shows_the_packed_image_of_each_id(finished: Run, queries: tuple[Query, ...]) -> None:
    index = pd.read_parquet(finished.out / FOLDERS[3] / "index.parquet").set_index("image_id")
    tar = (finished.out / FOLDERS[3] / "shard_00000.tar").read_bytes()
    for query in queries[::7]:
        row = index.loc[query.image_id]
        with Image.open(io.BytesIO(tar[row["offset"] : row["offset"] + row["size"]])) as packed, Image.open(io.BytesIO(base64.b64decode(query.jpeg))) as shown:
            assert query.label == row["source_label"]
            np.testing.assert_allclose(np.asarray(packed.resize(shown.size)).mean((0, 1)), np.asarray(shown).mean((0, 1)), atol=3)


def test_report_writes_the_same_bytes_again_and_returns_the_exported_scores(run: Run, html: str) -> None:
    metrics = write_report(run)
    assert (run.out / "09_report" / "index.html").read_text(encoding="utf-8") == html
    assert metrics["mp5"] == pytest.approx(0.708)
    assert metrics["r1"] == pytest.approx(0.8)
    assert metrics["megabytes"] == pytest.approx((run.out / "09_report" / "index.html").stat().st_size / 1e6, abs=1e-3)


@pytest.mark.parametrize(
    ("gone", "says"),
    [
        ("01_manifests", "1 files could not be used"),
        ("02_balanced", "02_balanced/classes.parquet is absent."),
        ("04_head", "no curves: metrics.csv is absent"),
        ("05_backbone/s2_backbone/metrics.csv", "no curves: metrics.csv is absent"),
        ("06_highres/s3_head_wide/done.json", "not finished"),
        ("08_export", "not finished"),
    ],
)
def test_page_when_an_optional_artefact_is_absent(run: Run, gone: str, says: str) -> None:
    remove(run.out / gone)
    page = Page(render(collect(run), ()))
    assert page.open == []
    assert any(says in text for text in page.texts), says


@pytest.mark.parametrize("gone", ["03_packed", "03_packed/shard_00000.tar", "07_embeddings/neighbours.parquet", "07_embeddings/val_ids.parquet"])
def test_gallery_when_its_artefacts_are_absent(run: Run, gone: str) -> None:
    remove(run.out / gone)
    assert read_gallery(run) == ()


def test_report_when_there_are_scores_and_nothing_else(run: Run) -> None:
    for path in run.out.glob("0*/*"):
        if path.name != "scores.csv":
            remove(path)
    assert write_report(run)["n_queries_shown"] == 0
    page = Page((run.out / "09_report" / "index.html").read_text(encoding="utf-8"))
    assert page.open == []
    for says in ("0.708", "No gallery", "no curves: metrics.csv is absent", "02_balanced/classes.parquet is absent.", "not finished"):
        assert any(says in text for text in page.texts), says


def test_report_when_a_stage_has_no_validation_and_a_broken_loss(run: Run) -> None:
    path = run.out / "04_head" / "s1_head" / "metrics.csv"
    table = pd.read_csv(path)
    table.assign(loss=math.inf, val_mp5=math.nan, val_r1=math.nan).drop(columns="images_per_s").to_csv(path, index=False)
    assert render(collect(run), ()).count("not measured in this stage") == 3  # loss and validation of s1_head, validation of s3_head_wide
    curves = read_stages(run)[0].metrics
    assert curves is not None
    assert curves["loss"].isna().all()


def test_report_when_only_the_exported_setting_is_scored(run: Run) -> None:
    path = run.out / FOLDERS[7] / "scores.csv"
    pd.read_csv(path).tail(1).to_csv(path, index=False)
    near = pd.read_parquet(run.out / FOLDERS[7] / "neighbours.parquet")
    near[near["setting"] == FINAL].to_parquet(run.out / FOLDERS[7] / "neighbours.parquet")
    queries = read_gallery(run)
    assert queries
    assert all(query.first_score is None for query in queries)
    assert FIRST not in Page(render(collect(run), queries)).texts


def test_missing_scores_name_the_command_of_door_07(run: Run) -> None:
    (run.out / FOLDERS[7] / "scores.csv").unlink()
    with pytest.raises(ValueError, match=r"scores\.csv does not exist.*python src/07_ensemble_and_pca\.py --force"):
        write_report(run)
    assert not (run.out / "09_report" / "index.html").exists()


@pytest.mark.parametrize(
    ("text", "says"), [("", "is empty"), ("setting,mp5\na,0.5\n", "lacks the columns"), ("\n\n", "is empty")], ids=["empty", "columns", "blank lines"]
)
def test_damaged_scores_name_the_command_of_door_07(run: Run, text: str, says: str) -> None:
    (run.out / FOLDERS[7] / "scores.csv").write_text(text)
    with pytest.raises(ValueError, match=f"{says}.*07_ensemble_and_pca"):
        read_scores(run)


def test_scores_without_the_exported_setting_are_an_error(run: Run) -> None:
    path = run.out / FOLDERS[7] / "scores.csv"
    pd.read_csv(path).head(3).to_csv(path, index=False)
    with pytest.raises(ValueError, match=f"no row for '{FINAL}'"):
        read_scores(run)


def test_data_summary_counts_classes_and_images(finished: Run) -> None:
    summary = read_data(finished)
    index = pd.read_parquet(finished.out / FOLDERS[3] / "index.parquet")
    assert summary.groups is not None
    for row in summary.groups.itertuples():
        own = index[(index["domain"] == row.domain) & (index["split"] == row.split)]
        assert (row.n_classes, row.n_images) == (own["class_id"].nunique(), len(own))
    assert summary.class_sizes == {"5–8": 16}
    assert summary.problems["reason"].tolist() == ["truncated & empty", "no JPEG"]


def test_class_sizes_fall_into_their_ranges(run: Run) -> None:
    path = run.out / FOLDERS[2] / "classes.parquet"
    sizes = [2, 2, 3, 4, 8, 9, 128, 129, 5000]
    classes = pd.read_parquet(path).query("split == 'train'").head(len(sizes)).assign(n_images=sizes)
    classes.to_parquet(path)
    expected = {"2": 2, "3–4": 2, "5–8": 1, "9–16": 1, "17–32": 0, "33–64": 0, "65–128": 1, "≥129": 2}
    assert read_data(run).class_sizes == expected


def test_ladder_text_marks_the_exported_row(finished: Run) -> None:
    lines = ladder_text(read_scores(finished)).splitlines()
    assert len(lines) == 6
    assert [line.startswith(">") for line in lines] == [False] * 5 + [True]
    assert re.fullmatch(r"> ensemble, flip, PCA-64\s+0\.708\s+0\.800\s+64", lines[-1])


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0.0 s"), (59.94, "59.9 s"), (61, "1 min 01 s"), (3599.7, "1 h 00 min"), (3720, "1 h 02 min"), (None, "–"), (math.nan, "–")]
)
def test_seconds_text(seconds: float | None, text: str) -> None:
    assert sections.seconds_text(seconds) == text
