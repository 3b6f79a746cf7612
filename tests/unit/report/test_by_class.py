"""The table by class, beside a loop; the pictures' room on the page, also with 20,000 queries."""

import base64
import io
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fake_run import FINAL, FIRST, make_fake_run
from PIL import Image

from guie.report import album as report_album
from guie.report.album import MAX_CHARS, SIDES, Album, files
from guie.report.by_class import by_class
from guie.report.choice import MAX_QUERIES, mistakes, mix_ups
from guie.report.gallery import read_gallery
from guie.report.page import write_report
from guie.run import FOLDERS, Run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_fake_run(tmp_path_factory.mktemp("fake"), n_images=4, n_classes=10)


def tables(run: Run) -> tuple[dict[str, pd.DataFrame], pd.DataFrame, pd.Series]:
    folder = run.out / FOLDERS[7]
    near, ids = pd.read_parquet(folder / "neighbours.parquet"), pd.read_parquet(folder / "val_ids.parquet")
    index = pd.read_parquet(run.out / FOLDERS[3] / "index.parquet")
    labels = ids.set_index("image_id")["pack_row"].map(index["source_label"])
    return {name: near[near["setting"] == name] for name in (FIRST, FINAL)}, ids, labels


def precision(near: pd.DataFrame, query: str, class_of: dict[str, int], m: int) -> float:
    returned = near[near["query_id"] == query].sort_values("rank")["image_id"].tolist()[:m]
    return sum(class_of[image] == class_of[query] for image in returned) / m


def test_classes_equal_a_loop_over_their_queries(run: Run) -> None:
    by_setting, ids, labels = tables(run)
    class_of = dict(zip(ids["image_id"], ids["class_id"], strict=True))
    found = by_class(by_setting, ids.sample(frac=1.0, random_state=0), labels)
    assert len(found) == ids["class_id"].nunique() == 20
    assert found["mp5"].is_monotonic_increasing  # the worst first
    n_mixed = 0
    for class_id, row in found.iterrows():
        members = ids.loc[ids["class_id"] == class_id, "image_id"].tolist()
        m = min(5, len(members) - 1)
        expected = [np.mean([precision(near, q, class_of, m) for q in members]) for near in by_setting.values()]
        assert (row["mp5_first"], row["mp5"]) == pytest.approx(tuple(expected))
        assert row["n_images"] == len(members) and {labels[image] for image in members} == {row["label"]}
        counts: dict[int, int] = {}
        for q in members:
            near = by_setting[FINAL][by_setting[FINAL]["query_id"] == q].sort_values("rank")
            for image in near["image_id"].tolist()[:m]:
                if class_of[image] != class_id:
                    counts[class_of[image]] = counts.get(class_of[image], 0) + 1
        assert row["n_wrong"] == max(counts.values(), default=0)
        if counts:
            n_mixed += 1
            assert counts[class_of[row["wrong_image"]]] == row["n_wrong"]
            assert labels[row["wrong_image"]] == row["taken_for"]
            near = by_setting[FINAL][by_setting[FINAL]["query_id"] == row["example"]]
            assert row["wrong_image"] in near.loc[near["rank"] <= m, "image_id"].tolist()
        assert class_of[row["example"]] == class_id
    assert n_mixed > 5


def test_class_without_a_mistake_or_with_one_image() -> None:
    ids = pd.DataFrame({"image_id": list("abx"), "class_id": [4, 4, 7], "domain": ["d"] * 3})
    labels = pd.Series(["cat", "cat", "fox"], index=list("abx"))
    rows = [("a", 1, "b", True), ("a", 2, "x", False), ("b", 1, "a", True), ("x", 1, "a", False)]
    near = pd.DataFrame(rows, columns=["query_id", "rank", "image_id", "is_correct"])
    found = by_class({"only": near}, ids, labels)
    assert found.index.tolist() == [4]  # the fox is alone: it is no query
    row = found.loc[4]
    assert (row["mp5"], row["taken_for"], row["wrong_image"], row["n_wrong"], row["example"]) == (1, "", "", 0, "a")
    assert np.isnan(row["mp5_first"])


def test_csv_beside_the_page_has_every_class_and_the_page_the_worst(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("guie.report.sections_gallery.MAX_CLASSES", 7)
    monkeypatch.setattr("guie.report.gallery.MAX_CLASSES", 7)
    write_report(run, (), tmp_path)
    table = pd.read_csv(tmp_path / "classes.csv", keep_default_na=False)
    by_setting, ids, labels = tables(run)
    assert table["class_id"].tolist() == by_class(by_setting, ids, labels).index.tolist()
    html = (tmp_path / "index.html").read_text(encoding="utf-8")
    section = html[html.index('<section id="classes"') : html.index('<section id="data"')]
    assert "The 7 worst of 20 classes; classes.csv" in section
    assert section[: section.index("<details")].count('<th scope="row">') == 7


def noise(side: int, seed: int) -> np.ndarray:
    """The picture that JPEG can shorten least."""
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)


class Packed:
    """Stands for packed images: what it reads is noise."""

    def __init__(self, n: int) -> None:
        self.index = pd.DataFrame({"source_label": ["a"] * n, "path": [f"{i}.jpg" for i in range(n)]})

    def read(self, i: int, least_px: int = 0) -> np.ndarray:
        return noise(max(64, least_px), i)


def sides(album: Album, ids: list[str]) -> set[int]:
    found = set()
    for name in ids:
        with Image.open(io.BytesIO(base64.b64decode(album.picture(name).jpeg))) as image:
            found.add(max(image.size))
    return found


@pytest.mark.parametrize(("n", "n_times"), [(20, 1), (20, 6), (40, 40)])
def test_pictures_are_as_large_as_the_page_has_room_for(n: int, n_times: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_album, "MAX_CHARS", 2_000_000)
    ids = pd.DataFrame({"image_id": [f"i{k}" for k in range(n)], "pack_row": range(n)})
    names = ids["image_id"].tolist()
    album = Album(Packed(n), ids, dict.fromkeys(names, n_times))  # type: ignore[arg-type]
    (side,) = sides(album, names)
    assert sum(len(album.picture(name).jpeg) * n_times for name in names) <= 2_000_000 or side == SIDES[-1]
    larger = [one for one in SIDES if one > side]
    if larger:  # with the next larger side they did not fit
        some = [len(report_album.thumbnail(noise(larger[-1], k), larger[-1])) for k in range(n)]
        assert sum(some) * n_times > 2_000_000


def test_smallest_pictures_of_the_fullest_page_fit() -> None:
    """A bound for the whole page: all different pictures, and those that cards repeat, of noise."""
    most = len(report_album.thumbnail(noise(SIDES[-1], 0), SIDES[-1]))
    assert most * (1056 + 6 * MAX_QUERIES) < 1.15 * MAX_CHARS


def test_files_are_named_without_the_folders_that_all_have() -> None:
    paths = pd.Series(["photos/all/a/1.jpg", "photos/all/b/2.jpg"])
    assert files(paths) == ["a/1.jpg", "b/2.jpg"]
    assert files(pd.Series(["x/1.jpg", "y/1.jpg"])) == ["x/1.jpg", "y/1.jpg"]
    assert files(pd.Series(["photos/all/a/1.jpg"] * 2)) == ["1.jpg"] * 2
    assert files(pd.Series([], dtype=str)) == []


def test_twenty_thousand_queries_take_seconds_and_show_as_many_cards_as_four_thousand() -> None:
    n = 20_000
    rng = np.random.default_rng(0)
    ids = pd.DataFrame({"image_id": [f"i{k:05d}" for k in range(n)], "class_id": np.arange(n) // 4, "domain": "d"})
    other = rng.integers(0, n, (n, 5))
    other[:, 0] = np.arange(n) ^ 1  # of the same class
    query = np.repeat(np.arange(n), 5)
    names = ids["image_id"].to_numpy()
    near = pd.DataFrame(
        {"query_id": names[query], "rank": np.tile(np.arange(1, 6), n), "image_id": names[other.ravel()]}
    )
    near = near.assign(similarity=0.5, is_correct=(query // 4) == (other.ravel() // 4))
    labels = pd.Series((ids["class_id"]).astype(str).to_numpy(), index=names)
    started = time.process_time()
    found = by_class({"first": near, "final": near}, ids, labels)
    mixed = mix_ups(near, ids, labels)
    assert len(mistakes(near)) == 0
    assert time.process_time() - started < 20
    assert len(found) == n // 4 and len(mixed) == 15
    assert found["mp5"].between(1 / 3 - 1e-9, 1).all() and (found["mp5"] == found["mp5_first"]).all()


def test_pictures_of_the_tables_are_those_of_their_images(run: Run) -> None:
    gallery = read_gallery(run)
    index = pd.read_parquet(run.out / FOLDERS[3] / "index.parquet").set_index("image_id")
    shown = {*gallery.classes["example"], *gallery.classes["wrong_image"], *gallery.mixups["image_id"]} - {""}
    assert shown <= set(gallery.pictures)
    tar = (run.out / FOLDERS[3] / "shard_00000.tar").read_bytes()
    for name in sorted(shown)[::5]:
        own, row = gallery.pictures[name], index.loc[name]
        assert (own.label, own.file) == (row["source_label"], row["path"])
        with (
            Image.open(io.BytesIO(tar[row["offset"] : row["offset"] + row["size"]])) as packed,
            Image.open(io.BytesIO(base64.b64decode(own.jpeg))) as picture,
        ):
            assert picture.size == packed.size  # 200 px: smaller than the page has room for
            assert np.abs(np.asarray(packed).astype(float) - np.asarray(picture)).mean() < 6
