"""The report: what it reads, which queries it picks, its charts, and that it is one safe, whole page."""

from __future__ import annotations

import base64
import io
import json
import math
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fake_run import DOMAINS, EVIL, FINAL, FIRST, make_fake_run
from html_page import Page
from PIL import Image

import guie.report.gallery as report_gallery
from guie.embed.verdict import Verdict, save_verdict
from guie.report import markup, sections_gallery
from guie.report.choice import query_scores
from guie.report.collect import collect, read_data, read_scores, read_stages, read_steps
from guie.report.embedding import read_embedding
from guie.report.gallery import MAX_SETTINGS, NO_MIXUPS, Gallery, Query, read_gallery
from guie.report.page import Report, ladder_text, read_report, render, write_report
from guie.run import FOLDERS, Run


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_fake_run(tmp_path_factory.mktemp("fake"))


@pytest.fixture
def run(finished: Run, tmp_path: Path) -> Run:
    """A copy that a test may damage."""
    shutil.copytree(finished.out, tmp_path / "run")
    return Run(finished.recipe, finished.data_root, tmp_path / "run")


@pytest.fixture(scope="module")
def gallery(finished: Run) -> Gallery:
    return read_gallery(finished)


@pytest.fixture(scope="module")
def html(finished: Run) -> str:
    return render(read_report(finished))


def facts_only(run: Run) -> Page:
    """The page without what takes longest: gallery and embedding."""
    page = Page(render(Report(collect(run), Gallery((), NO_MIXUPS), None, ())))
    assert page.open == []
    return page


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
        expected[query.image_id] = host_precision(
            relevant, near[near["query_id"] == query.image_id].sort_values("rank")["image_id"].tolist()
        )
    assert len(expected) > 50
    assert scores.to_dict() == pytest.approx(expected)


def test_page_is_whole_and_fetches_nothing(html: str) -> None:
    page = Page(html)
    assert page.open == []
    addresses = [
        value or ""
        for _, attributes in page.elements
        for name, value in attributes.items()
        if name in ("src", "href", "action", "data", "srcset", "poster")
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


def test_every_table_and_the_map_show_names_as_on_disk(run: Run) -> None:
    """A folder `50%20off` is `50%2520off` in manifests."""
    index = pd.read_parquet(run.out / FOLDERS[3] / "index.parquet")
    index["source_label"] += " 50%2520off"
    index.to_parquet(run.out / FOLDERS[3] / "index.parquet")
    for number, column in ((1, "path"), (3, "path")):
        problems = pd.read_parquet(run.out / FOLDERS[number] / "problems.parquet")
        problems[column] += " 50%2520off"
        problems.to_parquet(run.out / FOLDERS[number] / "problems.parquet")
    html = render(read_report(run))
    assert "%2520" not in html
    classes = html[html.index('id="classes"') :]
    every, mixed = classes.split("most frequent mix-ups")[:2]
    for table in (every, mixed.split("</table>")[0]):
        assert len(re.findall(r'<th scope="row">[^<]* 50%20off</th>', table)) > 4
        assert len(re.findall(r"<td>[^<]* 50%20off</td>", table)) > 4
    assert all(" 50%20off" in point.label for point in read_embedding(run).map.points)
    assert html.count(".jpg 50%20off") == 2


def test_page_shows_the_scores(html: str, finished: Run) -> None:
    page = Page(html)
    table = pd.read_csv(finished.out / FOLDERS[7] / "scores.csv")
    for row in table.to_dict("records"):
        assert row["setting"] in page.texts
        for value in (
            row["mp5"],
            row["r1"],
            *(row[f"{metric}_{domain}"] for metric in ("mp5", "r1") for domain in DOMAINS),
        ):
            assert f"{value:.3f}" in page.texts
    assert page.texts.count("0.708") >= 3  # large, in the chart, in the table
    assert not any("interval of mP@5" in text for text in page.texts) and "p, to the row above" not in page.texts
    assert "fake & <bench> · seed 3 · a3ad602f0e+" in page.texts
    assert any("90.0%" in text for text in page.texts)
    assert "mP@5 0.630 · R@1 0.710" in page.texts  # s4_backbone_288 was validated once: a text, no chart of one point


def test_gallery_marks_agree_with_the_neighbours(finished: Run, gallery: Gallery, html: str) -> None:
    page, queries = Page(html), gallery.queries
    folder = finished.out / FOLDERS[7]
    near = pd.read_parquet(folder / "neighbours.parquet")
    scores = {
        setting: query_scores(rows, pd.read_parquet(folder / "val_ids.parquet"))
        for setting, rows in near.groupby("setting")
    }
    near = near.set_index(["setting", "query_id", "rank"]).sort_index()
    n_right = 0
    for query in queries:
        assert [answer.setting for answer in query.answers] == [FIRST, FINAL]
        assert query.final is query.answers[1]
        for answer in query.answers:
            assert len(answer.neighbours) == 5
            assert answer.is_right == near.loc[(answer.setting, query.image_id, 1), "is_correct"]
            assert answer.score == scores[answer.setting][query.image_id]
            for rank, neighbour in enumerate(answer.neighbours, start=1):
                row = near.loc[(answer.setting, query.image_id, rank)]
                assert (neighbour.image_id, neighbour.is_correct) == (row["image_id"], row["is_correct"])
                n_right += neighbour.is_correct
    assert {query.domain for query in queries} == set(DOMAINS)
    assert len(page.all("li", "card")) == len(queries) >= 40
    assert len(page.all("figure", "right")) == n_right
    assert len(page.all("figure", "right")) + len(page.all("figure", "wrong")) == 2 * 5 * len(queries)
    assert sum(text.startswith("✓ 0") for text in page.texts) == n_right
    assert [card["data-verdict"] for card in page.all("li", "card")] == [
        "right" if query.final.is_right else "wrong" for query in queries
    ]
    hidden = [answer["data-setting"] for answer in page.all("div", "answer") if "hidden" in answer]
    assert hidden == ["s0"] * len(queries)  # without the script the exported setting is shown


def test_gallery_shows_some_of_many_settings_and_as_many_queries_as_there_is_room_for(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = run.out / FOLDERS[7] / "neighbours.parquet"
    near = pd.read_parquet(path)
    first = near[near["setting"] == FIRST]
    pd.concat(
        [first, *(first.assign(setting=f"row {i}") for i in range(1, 14)), near[near["setting"] == FINAL]]
    ).to_parquet(path)
    queries = read_gallery(run).queries
    shown = [answer.setting for answer in queries[0].answers]
    assert len(shown) == MAX_SETTINGS and (shown[0], shown[-1]) == (FIRST, FINAL)
    assert shown == sorted(shown, key=[FIRST, *(f"row {i}" for i in range(14)), FINAL].index)

    def pictures(queries: tuple[Query, ...]) -> int:
        return len(
            {near.image_id for query in queries for answer in query.answers for near in answer.neighbours}
            | {query.image_id for query in queries}
        )

    monkeypatch.setattr(report_gallery, "MAX_PICTURES", pictures(queries) // 2)
    fewer = read_gallery(run).queries
    assert 0 < len(fewer) < len(queries) and pictures(fewer) <= pictures(queries) // 2


def test_each_hidden_thumbnail_is_on_the_page_once(gallery: Gallery) -> None:
    text = sections_gallery.gallery(gallery)
    page = Page(text)
    images = [attributes for tag, attributes in page.elements if tag == "img"]
    for i, jpeg in enumerate(
        dict.fromkeys(
            jpeg for q in gallery.queries for jpeg in (q.jpeg, *(n.jpeg for a in q.answers for n in a.neighbours))
        )
    ):
        seen = sum(attributes.get("src", "").endswith(jpeg) for attributes in images)
        expected = sum([q.jpeg, *(n.jpeg for n in q.final.neighbours)].count(jpeg) for q in gallery.queries)
        assert seen == expected and text.count(jpeg) == max(1, expected)
        assert [a for a in images if a["data-picture"] == str(i)]


def test_gallery_shows_the_packed_image_of_each_id(finished: Run, gallery: Gallery) -> None:
    index = pd.read_parquet(finished.out / FOLDERS[3] / "index.parquet").set_index("image_id")
    tar = (finished.out / FOLDERS[3] / "shard_00000.tar").read_bytes()
    for query in gallery.queries[::7]:
        row = index.loc[query.image_id]
        with (
            Image.open(io.BytesIO(tar[row["offset"] : row["offset"] + row["size"]])) as packed,
            Image.open(io.BytesIO(base64.b64decode(query.jpeg))) as shown,
        ):
            assert query.label == row["source_label"]
            np.testing.assert_allclose(
                np.asarray(packed.resize(shown.size)).mean((0, 1)), np.asarray(shown).mean((0, 1)), atol=3
            )


def test_report_writes_the_same_bytes_again_and_returns_the_exported_scores(run: Run, html: str) -> None:
    metrics = write_report(run)
    assert (run.out / "09_report" / "index.html").read_text(encoding="utf-8") == html
    assert metrics["mp5"] == pytest.approx(0.708)
    assert metrics["r1"] == pytest.approx(0.8)
    assert metrics["megabytes"] == pytest.approx((run.out / "09_report" / "index.html").stat().st_size / 1e6, abs=1e-3)


@pytest.mark.parametrize(
    ("gone", "says"),
    [
        ("01_manifests", "1 file could not be used"),
        ("02_balanced", "02_balanced/classes.parquet is absent."),
        ("04_head", "no curves: metrics.csv is absent"),
        ("05_backbone/s2_backbone/metrics.csv", "no curves: metrics.csv is absent"),
        ("06_highres/s3_head_wide/done.json", "not finished"),
        ("08_export", "not finished"),
        ("03_packed/duplicates.parquet", "nobody looked for duplicates"),
    ],
)
def test_page_when_an_optional_artefact_is_absent(run: Run, gone: str, says: str) -> None:
    remove(run.out / gone)
    assert any(says in text for text in facts_only(run).texts), says


def test_embedding_when_its_artefacts_are_absent(run: Run) -> None:
    remove(run.out / "07_embeddings/pca.npz")
    remove(run.out / "03_packed/shard_00000.tar")
    found = read_embedding(run)
    assert found is not None
    assert found.pca_shares is None and found.map.sheet == ""
    page = Page(render(Report(collect(run), Gallery((), NO_MIXUPS), found, ())))
    assert (
        page.open == []
        and page.all("div", "map")
        and page.all("div", "tile") == [{"class": "tile", "style": "width:72px;height:72px"}]
    )
    remove(run.out / "07_embeddings/val_embeddings.npy")
    assert read_embedding(run) is None
    assert any("val_embeddings.npy or val_ids.parquet is absent" in text for text in facts_only(run).texts)


@pytest.mark.parametrize(
    "gone",
    ["03_packed", "03_packed/shard_00000.tar", "07_embeddings/neighbours.parquet", "07_embeddings/val_ids.parquet"],
)
def test_gallery_when_its_artefacts_are_absent(run: Run, gone: str) -> None:
    remove(run.out / gone)
    assert read_gallery(run).queries == ()


def test_report_when_there_are_scores_and_nothing_else(run: Run) -> None:
    for path in run.out.glob("0*/*"):
        if path.name != "scores.csv":
            remove(path)
    assert write_report(run)["n_queries_shown"] == 0
    page = Page((run.out / "09_report" / "index.html").read_text(encoding="utf-8"))
    assert page.open == []
    for says in (
        "0.708",
        "No gallery",
        "no curves: metrics.csv is absent",
        "02_balanced/classes.parquet is absent.",
        "not finished",
        "val_embeddings.npy or",
    ):
        assert any(says in text for text in page.texts), says


def test_report_when_a_stage_has_no_validation_and_a_broken_loss(run: Run) -> None:
    path = run.out / "04_head" / "s1_head" / "metrics.csv"
    table = pd.read_csv(path)
    table.assign(loss=math.inf, val_mp5=math.nan, val_r1=math.nan).drop(columns="images_per_s").to_csv(
        path, index=False
    )
    assert (
        facts_only(run).texts.count("not measured in this stage") == 3
    )  # loss and validation of s1_head, validation of s3_head_wide
    curves = read_stages(run)[0].metrics
    assert curves is not None
    assert curves["loss"].isna().all()


def test_report_when_only_the_exported_setting_is_scored(run: Run) -> None:
    path = run.out / FOLDERS[7] / "scores.csv"
    pd.read_csv(path).tail(1).to_csv(path, index=False)
    near = pd.read_parquet(run.out / FOLDERS[7] / "neighbours.parquet")
    near[near["setting"] == FINAL].to_parquet(run.out / FOLDERS[7] / "neighbours.parquet")
    gallery = read_gallery(run)
    assert gallery.queries
    assert all(len(query.answers) == 1 for query in gallery.queries)
    page = Page(render(Report(collect(run), gallery, None, ())))
    assert FIRST not in page.texts
    assert page.all("select") == []  # nothing to choose from


def test_missing_scores_name_the_command_of_door_07(run: Run) -> None:
    (run.out / FOLDERS[7] / "scores.csv").unlink()
    with pytest.raises(ValueError, match=r"scores\.csv does not exist.*python src/07_ensemble_and_pca\.py --force"):
        write_report(run)
    assert not (run.out / "09_report" / "index.html").exists()


@pytest.mark.parametrize(
    ("text", "says"),
    [("", "is empty"), ("setting,mp5\na,0.5\n", "lacks the columns"), ("\n\n", "is empty")],
    ids=["empty", "columns", "blank lines"],
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
    assert {source: sizes.tolist() for source, sizes in summary.sizes_by_source.items()} == {
        f"source_{i}": [6] * 4 for i in range(4)
    }
    assert summary.duplicates is not None and summary.duplicates["outcome"].tolist() == ["left training", "two labels"]
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
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (59.94, "59.9 s"),
        (61, "1 min 01 s"),
        (3599.7, "1 h 00 min"),
        (3720, "1 h 02 min"),
        (None, "–"),
        (math.nan, "–"),
    ],
)
def test_seconds_text(seconds: float | None, text: str) -> None:
    assert markup.seconds_text(seconds) == text


def test_intervals_are_no_domain_and_are_drawn(run: Run) -> None:
    path = run.out / FOLDERS[7] / "scores.csv"
    table = pd.read_csv(path)
    table.assign(
        mp5_low=table["mp5"] - 0.0125, mp5_high=table["mp5"] + 0.015, p_vs_previous=[math.nan, 0.0004, 0.2, 0.03, 0.06]
    ).to_csv(path, index=False)
    scores = read_scores(run)
    assert scores.domains == DOMAINS
    assert scores.interval(4) == pytest.approx((0.6955, 0.723))
    page = facts_only(run)
    for says in ("interval of mP@5", "p, to the row above", "0.696 to 0.723", "<.001", "≈ 0.200", "0.030", "≈ 0.060"):
        assert any(says in text for text in page.texts), says
    assert len(page.all("line", "whisker")) == 3 * len(table)


def test_row_that_was_chosen_on_validation_is_marked(run: Run) -> None:
    path = run.out / FOLDERS[7] / "scores.csv"
    table = pd.read_csv(path)
    assert not any("† " in text for text in facts_only(run).texts) and "†" not in ladder_text(read_scores(run))
    table.assign(chosen_on=["", "", "", "", "validation (the setting)"], p_vs_previous=0.5).to_csv(path, index=False)
    texts = facts_only(run).texts
    assert sum("† chosen on validation (the setting)" in text for text in texts) == 1
    assert any("chosen by its score on these very images" in text for text in texts)
    assert any("of unseen classes; † too good, since something was chosen by it" in text for text in texts)
    *_, exported, meaning = ladder_text(read_scores(run)).splitlines()
    assert exported.startswith("> ") and exported.endswith("†") and meaning.startswith("  † something was chosen")
    assert any("holds for other classes of the same kind, with these weights" in text for text in texts)
    assert any("It says nothing about other training runs" in text for text in texts)


def test_interval_that_is_known_for_some_rows_only(run: Run) -> None:
    path = run.out / FOLDERS[7] / "scores.csv"
    pd.read_csv(path).assign(mp5_low=[math.nan, 0.5, 0.6, 0.6, 0.7], mp5_high=[0.6, math.nan, 0.7, 0.7, 0.72]).to_csv(
        path, index=False
    )
    assert [read_scores(run).interval(i) for i in range(5)] == [None, None, (0.6, 0.7), (0.6, 0.7), (0.7, 0.72)]
    assert len(facts_only(run).all("line", "whisker")) == 3 * 3


def test_steps_know_how_many_images_a_second(run: Run) -> None:
    marks = {
        1: {"n_images": 50},
        2: {"n_train_images": 30, "n_val_images": 12},
        3: {"n_images": 42},
        8: {"seconds_per_image": 0.25},
    }
    for number, metrics in marks.items():
        path = run.out / FOLDERS[number] / "done.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"metrics": metrics, "seconds": 2.0}))
    steps = {step.name: step for step in read_steps(run, read_stages(run))}
    n_val = len(pd.read_parquet(run.out / FOLDERS[7] / "val_ids.parquet"))
    expected = {
        "01_manifests": 25,
        "02_balanced": 21,
        "03_packed": 21,
        "08_export": 4,
        "07_embeddings": n_val / 95,
        "s2_backbone": 22.5,
        "04_head": None,
    }
    assert {name: steps[name].images_per_s for name in expected} == pytest.approx(expected)


def test_page_counts_duplicates_and_names_them(html: str, finished: Run) -> None:
    page = Page(html)
    duplicates = pd.read_parquet(finished.out / FOLDERS[3] / "duplicates.parquet")
    assert "2 pictures are there twice" in page.texts
    assert set(duplicates["image_id"]) | set(duplicates["twin"]) <= set(page.texts)


def test_ladder_without_intervals_says_why(run: Run) -> None:
    path = run.out / FOLDERS[7] / "scores.csv"
    table = pd.read_csv(path).drop(columns=["mp5_low", "mp5_high"], errors="ignore")
    table.to_csv(path, index=False)
    assert not any("single class" in text for text in facts_only(run).texts)
    table.assign(mp5_low=math.nan, mp5_high=math.nan).to_csv(path, index=False)
    page = facts_only(run)
    assert any("No interval: a domain has a single class" in text for text in page.texts)
    assert not any("nan" in text.lower().split() for text in page.texts)


def test_ladder_at_other_widths(run: Run) -> None:
    """Each row's own width stands in bold; a run of an older door 07 has no such table."""
    html = render(Report(collect(run), Gallery((), NO_MIXUPS), None, ()))
    rows = re.search(r'aria-label="The ladder at other widths">.*?<tbody>(.*?)</tbody>', html, re.DOTALL)[1]
    first, head = (re.findall(r"<td[^>]*>(.*?)</td>", row) for row in rows.split("</tr>")[:2])
    assert first == ["0.498", "0.558", "<b>0.588</b>", "0.598", "0.608"]  # off the shelf, PCA-64
    assert head == ["–", "–", "<b>0.618</b>", "–", "<b>0.618</b>"]  # 64 numbers are all that a head has
    path = run.out / FOLDERS[7] / "scores.csv"
    table = pd.read_csv(path)
    table.drop(columns=[name for name in table if name.startswith("dim_")]).to_csv(path, index=False)
    assert "At other widths" not in facts_only(run).texts


def test_head_says_which_classes_were_asked_and_what_guie_train_found(run: Run) -> None:
    page = facts_only(run)
    assert any("of unseen classes" in text for text in page.texts)
    assert any("on classes that training never saw" in text for text in page.texts)
    recipe = replace(run.recipe, data=replace(run.recipe.data, val_by="image"))
    seen = Run(recipe, run.data_root, run.out)
    assert read_report(seen).verdict is None
    save_verdict(run.out, Verdict("Training helped: a <b>.", 0.6, 40, True, recipe.digest()))
    html = render(Report(collect(seen), Gallery((), NO_MIXUPS), None, (), read_report(seen).verdict))
    texts = Page(html).texts
    assert not any("unseen" in text or "never saw" in text for text in texts)
    assert any("held back, of classes that were trained on" in text for text in texts)
    assert html.index("Training helped: a &lt;b&gt;.") < html.index('class="hero"')


@pytest.mark.parametrize(
    ("n_classes", "is_unseen", "shown", "says"),
    [
        (40, True, "0.600", "mP@5 on 40 classes that a first training did not see"),
        (40, False, "0.600", "of held-back images of trained classes"),
        (12, True, "–", "no mP@5: 12 classes are too few to tell"),
    ],
)
def test_head_has_one_score_where_guie_train_decided_by_one(
    finished: Run, n_classes: int, is_unseen: bool, shown: str, says: str
) -> None:
    """The ladder of the exported run scores 0.708: it must not stand in the head beside the 0.600 of the verdict."""
    recipe = replace(finished.recipe, data=replace(finished.recipe.data, val_by="image"))
    run = Run(recipe, finished.data_root, finished.out)
    verdict = Verdict("Training helped.", 0.6, n_classes, is_unseen, recipe.digest())
    html = render(Report(collect(run), Gallery((), NO_MIXUPS), None, (), verdict))
    hero = Page(html[html.index('<div class="hero">') : html.index("</header>")])
    head = [text for text in hero.texts if text.strip()]
    assert head[0] == shown and any(says in text for text in head)
    assert not any("0.708" in text or "against" in text for text in head)
    assert any("R@1" in text for text in head) == (not is_unseen)  # R@1 of the same queries, or none
    explains = any("The score in the head is of a first training" in text for text in Page(html).texts)
    assert explains == is_unseen


def test_head_says_so_where_the_better_model_is_not_trained(finished: Run) -> None:
    data = replace(finished.recipe.data, val_by="image")
    rows = finished.recipe.embed.settings
    for order, says in ((rows, "this model was then trained on all"), (rows[::-1], "this model is not trained")):
        recipe = replace(finished.recipe, data=data, embed=replace(finished.recipe.embed, settings=order))
        run = Run(recipe, finished.data_root, finished.out)
        verdict = Verdict("Training did harm.", 0.6, 40, True, recipe.digest())
        html = render(Report(collect(run), Gallery((), NO_MIXUPS), None, (), verdict))
        hero = Page(html[html.index('<div class="hero">') : html.index("</header>")])
        assert any(text.strip().endswith(says) for text in hero.texts)


def test_page_of_one_domain_does_not_speak_of_domains(tmp_path: Path) -> None:
    one = make_fake_run(tmp_path, n_images=3, domains=("shoes",), n_classes=24)
    write_report(one)
    folder = one.out / "09_report"
    html = (folder / "index.html").read_text(encoding="utf-8")
    page = Page(html)
    assert page.open == [] and not (folder / "domains.svg").exists()
    html = re.sub(r"(?s)<(script|style).*?</\1>", "", html)
    data = html[html.index('<section id="data"') : html.index('<section id="cost"')]  # its table has a column for it
    settings = html[html.index('<section id="settings"') :]  # the recipe in JSON
    rest = html.replace(data, "").replace(settings, "")
    assert not re.search(r"(?i)\bdomains?\b", re.sub(r"<[^>]*>", " ", rest))
    assert 'id="domains"' not in html and 'data-key="domain"' not in html
    picked = [card["data-picked"] for card in page.all("li", "card")]
    assert picked.count("random") == 24 and len(picked) > 24
    assert "mean over domains" not in (folder / "ladder.svg").read_text(encoding="utf-8")
