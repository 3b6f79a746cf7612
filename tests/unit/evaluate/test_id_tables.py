"""Ids and labels as people write them: which images are of one class is typed beside each table."""

import datetime
import decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from guie.data.manifest import COLUMNS as MANIFEST_COLUMNS
from guie.data.manifest import check_manifest
from guie.evaluate.id_tables import numbered, read_ids, read_solution
from guie.recipe import RESERVED_DOMAINS


def same(labels: np.ndarray) -> list[list[int]]:
    """Rows of each class, in the order in which the classes occur; without those of no class."""
    return [np.flatnonzero(labels == label).tolist() for label in dict.fromkeys(labels.tolist()) if label >= 0]


def from_csv(tmp_path: Path, labels: list[str]) -> np.ndarray:
    lines = [f"i{i},{label}" for i, label in enumerate(labels)]
    (tmp_path / "ids.csv").write_text("image_id,class_id\n" + "\n".join(lines) + "\n", encoding="utf-8")
    return read_ids(tmp_path / "ids.csv")["class_id"].to_numpy()


def from_parquet(tmp_path: Path, labels: object) -> np.ndarray:
    table = pd.DataFrame({"class_id": labels})
    table.insert(0, "image_id", [f"i{i}" for i in range(len(table))])
    table.to_parquet(tmp_path / "ids.parquet", index=False)
    return read_ids(tmp_path / "ids.parquet")["class_id"].to_numpy()


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["1", "-1", "1", "-1"], [[0, 2]]),
        (["1.0", "-1.0", "1.0", "-1.0"], [[0, 2]]),  # pandas writes integers with a gap so
        (["-1", "-1.00", "-2", "-0.5", "-1e3", "-.5", "a", "a"], [[6, 7]]),
        (["", "nan", "NaN", "None", "<NA>", "NaT", " ", "x", "x"], [[7, 8]]),
        (["NA", "null", "NA", "n/a"], [[0, 2], [1], [3]]),  # names: of Namibia, for one
        (["7", "007", "7", "7.0"], [[0, 2], [1], [3]]),
        (["0", "-0", "0"], [[0, 2], [1]]),
        (["True", "False", "True"], [[0, 2], [1]]),
        ([str(2**53), str(2**53 + 1), str(2**53)], [[0, 2], [1]]),
        ([str(2**63), str(2**63 + 1), str(2**64), str(2**63)], [[0, 3], [1], [2]]),
        (["-cup", "-1cup", "cup -1", "-cup"], [[0, 3], [1], [2]]),
        (["Straße", "STRASSE", "Straße"], [[0, 2], [1]]),
    ],
)
def test_labels_of_a_csv_are_compared_as_they_are_written(
    tmp_path: Path, labels: list[str], expected: list[list[int]]
) -> None:
    assert same(from_csv(tmp_path, labels)) == expected


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (np.array([5, -1, 5, -7]), [[0, 2]]),
        (np.array([2**63, 2**63 + 1, 2**64 - 1, 2**63], dtype=np.uint64), [[0, 3], [1], [2]]),
        (np.array([255, 0, 255], dtype=np.uint8), [[0, 2], [1]]),
        (np.array([-128, 127, 127], dtype=np.int8), [[1, 2]]),
        (np.array([1.0, np.nan, 1.0, -1.0, 1.5]), [[0, 2], [4]]),
        (np.array([0.0, -0.0, 2.0**52, 2.0**52 + 1]), [[0, 1], [2], [3]]),
        (np.array([1.0, np.nan, 1.0], dtype=np.float32), [[0, 2]]),
        (pd.array([2**60, None, 2**60 + 1, 2**60, -1], dtype="Int64"), [[0, 3], [2]]),
        (pd.array([2**63 + 1, None, 2**63, 2**63 + 1], dtype="UInt64"), [[0, 3], [2]]),
        (pd.array([1.5, None, 1.5, -2.0], dtype="Float64"), [[0, 2]]),
        (pd.array([True, None, False, True], dtype="boolean"), [[0, 3], [2]]),
        (pd.Categorical(["cup", None, "-1", "cup"]), [[0, 3]]),
        (pd.Categorical([7, -1, None, 7, 9]), [[0, 3], [4]]),
        ([b"cup", b"\xff", b"", b"cup", None], [[0, 3], [1]]),
        (["cup", None, "007", "7", "cup"], [[0, 4], [2], [3]]),
        ([decimal.Decimal("1.50"), decimal.Decimal("-1"), decimal.Decimal("1.50")], [[0, 2]]),
        (
            pd.to_datetime(["2020-01-01", None, "2020-01-01 00:00:00.000001", "2020-01-01"], format="ISO8601"),
            [[0, 3], [2]],
        ),
        ([datetime.date(2020, 1, 1), datetime.date(2020, 1, 2), datetime.date(2020, 1, 1)], [[0, 2], [1]]),
        (pd.to_timedelta(["-1 days", "1 days", "-1 days"]), [[0, 2], [1]]),
        (pd.array(["a", None, "nan", "a"], dtype="string"), [[0, 3]]),
    ],
)
def test_labels_of_a_parquet_file(tmp_path: Path, labels: object, expected: list[list[int]]) -> None:
    assert same(from_parquet(tmp_path, labels)) == expected


def test_integers_below_two_to_the_63_stay_as_they_are(tmp_path: Path) -> None:
    assert from_parquet(tmp_path, [2**60, 2**60 + 1, -9]).tolist() == [2**60, 2**60 + 1, -1]
    assert from_parquet(tmp_path, pd.array([2**62, None, 3], dtype="UInt64")).tolist() == [2**62, -1, 3]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array([2.0**53, 1.0]), "floats of 2\\*\\*53"),
        (["cup", "cup ", "x"], "'cup' and 'cup ' differ by white space alone"),
    ],
)
def test_labels_that_cannot_be_told_apart_are_refused(tmp_path: Path, labels: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_parquet(tmp_path, labels)


def test_complex_labels_are_refused() -> None:
    with pytest.raises(ValueError, match="complex"):
        numbered(pd.Series([1 + 2j, 3j]), "mine")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image_id,label\na,1\n", "class_id"),
        ("image_id;class_id\na;1\n", "the columns 'image_id;class_id', without"),
        ("image_id,class_id\n", "0 rows"),
        ("", "cannot be read as CSV"),
        ("image_id,class_id\na,1\na,2\n", "'a' stands twice"),
        ("image_id,class_id\na,1\n,2\n", "row 2 has no image_id"),
        ("image_id,class_id,domain\na,1,toys\nb,2,\n", "row 2 has no domain"),
        ("image_id,class_id\na,cup, blue\nb,cup\n", "more fields than the header"),
        ("image_id,class_id,split\na,1,query\nb,1,train\n", "train"),
        *[(f"image_id,class_id,domain\na,1,{name}\n", f"mp5_{name}") for name in ("low", "high", "std", "control")],
    ],
)
def test_ids_that_are_none_are_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "ids.csv").write_text(text)
    with pytest.raises(ValueError, match=message) as told:
        read_ids(tmp_path / "ids.csv")
    assert "ids.csv" in str(told.value) and "\n" not in str(told.value)


def test_ids_of_every_ending_are_the_same(tmp_path: Path) -> None:
    table = pd.DataFrame({"image_id": ["007", "b"], "class_id": ["x", "y"]})
    table.to_csv(tmp_path / "a.tsv", sep="\t", index=False)
    table.to_csv(tmp_path / "a.CSV", index=False)
    table.to_parquet(tmp_path / "a.PARQUET")
    table.set_index("image_id").to_parquet(tmp_path / "indexed.parquet")
    for path in tmp_path.iterdir():
        assert read_ids(path)[["image_id", "class_id"]].to_numpy().tolist() == [["007", 0], ["b", 1]], path


def test_files_of_another_encoding_are_told_by_name(tmp_path: Path) -> None:
    (tmp_path / "ids.csv").write_bytes("image_id,class_id\na,Kaffeetasse gro\xdf\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"ids\.csv cannot be read as CSV in UTF-8"):
        read_ids(tmp_path / "ids.csv")
    (tmp_path / "ids.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(ValueError, match=r"ids\.parquet cannot be read as parquet"):
        read_ids(tmp_path / "ids.parquet")
    (tmp_path / "ids.csv").write_text("\ufeffimage_id,class_id\na,1\n", encoding="utf-8")  # Excel begins so
    assert read_ids(tmp_path / "ids.csv")["image_id"].tolist() == ["a"]


@pytest.mark.parametrize("domain", RESERVED_DOMAINS)
def test_domain_of_a_list_that_is_a_column_of_scores_is_refused_by_door_01(domain: str) -> None:
    row = dict.fromkeys(MANIFEST_COLUMNS, "x") | {"split": "", "domain": domain}
    with pytest.raises(ValueError, match=f"mp5_{domain}"):
        check_manifest(pd.DataFrame([row]), "images.csv")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,images\nq1,a\n", "2 columns"),
        ("id,images,Usage\n", "0 rows"),
        ("id,images,Usage\nq1,,Public\n", "no relevant image"),
        ("id,images,Usage\nq1,a,Public\nq1,b,Public\n", "twice"),
        ("id,images,Usage\nq1,a,public\n", "usage of query 'q1' is 'public'"),
        ("id,images,Usage\nq1,a,Public,b\n", "more fields"),
        ("id,images,Usage\nq1,None,Ignored\n", "every query has the usage Ignored"),
    ],
)
def test_solution_that_is_none_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "solution.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_solution(tmp_path / "solution.csv")


def test_ignored_queries_of_gldv2_do_not_count(tmp_path: Path) -> None:
    (tmp_path / "solution.csv").write_text("id,images,Usage\n007,01 1,Private\nq2,None,Ignored\n7,1,Public\n")
    assert read_solution(tmp_path / "solution.csv") == {
        "007": ("Private", frozenset({"01", "1"})),
        "7": ("Public", frozenset({"1"})),
    }
