"""The page "which objective for whom" quotes what was measured: each reference names a row of the benchmark's CSV
files, and each number behind it is worked out here again, without the benchmark's own code."""

import csv
import re
import statistics
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
BENCHMARKS = PROJECT / "tests/benchmarks"
PAGE = PROJECT / "src/guie/recipes/OBJECTIVES.md"
T_95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}  # Student's t with n - 1 degrees of freedom, from a printed table
NOT_MEASURED = "not measured yet"
REFERENCE = re.compile(r"`(published|tuned|vit|costs) (\w+)(?: (\d+) in (\d+))?`: ([^|;\n]+)")
SCORED = re.compile(r"mP@5 (\.\d{3})(?: ± (\.\d{3}))?, (\d+(?:\.\d+)?) s an epoch, (\d+) MB")
COST = re.compile(r"(\d+) s an epoch, (\d+) MB")


def rows_of(name: str, folder: Path, **wanted: str) -> list[dict[str, str]]:
    path = folder / name
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if all(row[key] == value for key, value in wanted.items())]


def rounds_to(text: str, value: float) -> bool:
    decimals = len(text.partition(".")[2])
    return abs(float(text) - value) <= 0.5 * 10**-decimals + 1e-9


def check_page(text: str, folder: Path) -> int:
    """Raises AssertionError at the first reference without a row, or with another number; how many rows are quoted."""
    n_quoted = 0
    for part, name, batch, n_parts, quoted in REFERENCE.findall(text):
        where = f"{part} {name} {batch} {n_parts}: {quoted}"
        if part == "costs":
            rows = rows_of("objectives_costs.csv", folder, objective=name, batch=batch, n_parts=n_parts)
        elif part == "vit":
            rows = rows_of("objectives_vit.csv", folder, objective=name, trains="all")
        else:
            rows = rows_of("objectives.csv", folder, part=part, objective=name)
        rows = [row for row in rows if not row["problem"]]
        if quoted.strip() == NOT_MEASURED:
            assert not rows, f"{where}: the csv has {len(rows)} rows; objectives.py --table-only writes them"
            continue
        n_quoted += 1
        assert rows, f"{where}: the csv has no such row"
        found = (COST if part == "costs" else SCORED).fullmatch(quoted.strip())
        assert found, f"{where}: that is no quote of a row"
        seconds, memory = found.groups()[-2:]
        assert rounds_to(seconds, statistics.median(float(row["epoch_s"]) for row in rows)), where
        assert rounds_to(memory, statistics.median(float(row["memory_mb"]) for row in rows)), where
        if part != "costs":
            values = [float(row["mp5"]) for row in rows]
            assert rounds_to(found[1], statistics.mean(values)), where
            assert bool(found[2]) == (len(values) > 1), where
            if found[2]:
                half = T_95[len(values)] * statistics.stdev(values) / len(values) ** 0.5
                assert abs(float(found[2]) - half) < 0.00051 + half * 1e-4, where
    return n_quoted


def test_page_quotes_what_was_measured():
    text = PAGE.read_text(encoding="utf-8")
    check_page(text, BENCHMARKS)
    assert len(REFERENCE.findall(text)) >= 30


def test_every_reference_is_read():
    """One with a slip in it would be left out by the pattern, and its number never checked."""
    text = PAGE.read_text(encoding="utf-8")
    assert len(re.findall(r"`[^`]+`: ", text)) == len(REFERENCE.findall(text))


def test_page_names_objectives_that_the_benchmark_has(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from objectives_parts import CASES
    from objectives_settings import MOST_USED, OBJECTIVES

    known = {"published": OBJECTIVES, "tuned": OBJECTIVES, "vit": MOST_USED}
    cases = {(case["objective"], str(case["batch"]), str(case["n_parts"])) for case in CASES}
    for part, name, batch, n_parts, _ in REFERENCE.findall(PAGE.read_text(encoding="utf-8")):
        assert (name, batch, n_parts) in cases if part == "costs" else name in known[part], (part, name)


def test_links_lead_to_files_and_the_readme_leads_here():
    text = PAGE.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#\s]+)\)", text) if "://" not in link]
    assert links and [link for link in links if not (PAGE.parent / link).exists()] == []
    assert "(src/guie/recipes/OBJECTIVES.md)" in (PROJECT / "README.md").read_text(encoding="utf-8")


HEAD = "part,seed,objective,setting,mp5,epoch_s,memory_mb,problem\n"
ROWS = HEAD + "published,0,Triplet,published,.61,.5,10,\npublished,1,Triplet,published,.63,.7,12,\n"
ROWS += "published,2,Triplet,published,.65,.6,11,\npublished,2,Bier,published,,,,the loss is nan\n"
COSTS = "objective,batch,n_parts,epoch_s,memory_mb,problem\nTriplet,1024,4,81.4,900.4,\n"
GOOD = (
    "| a | `published Triplet`: mP@5 .630 ± .050, 0.60 s an epoch, 11 MB; "
    "`costs Triplet 1024 in 4`: 81 s an epoch, 900 MB |\n"
    "| b | `published Bier`: not measured yet |\n"
)


def test_check_finds_a_wrong_number(tmp_path: Path):
    """.05 is 4.303 * .02 / sqrt(3), by hand."""
    (tmp_path / "objectives.csv").write_text(ROWS)
    (tmp_path / "objectives_costs.csv").write_text(COSTS)
    assert check_page(GOOD, tmp_path) == 2
    for old, new in (
        (".630", ".631"),
        (".050", ".049"),
        (" ± .050", ""),
        ("0.60", "0.61"),
        ("11 MB", "12 MB"),
        ("81 s", "82 s"),
        ("900 MB", "901 MB"),
        ("1024 in 4", "1024 in 1"),
        ("published Triplet", "tuned Triplet"),
        ("mP@5 .630 ± .050, 0.60 s an epoch, 11 MB", "not measured yet"),
        ("mP@5 .630", "about .630"),
    ):
        assert old in GOOD
        with pytest.raises(AssertionError):
            check_page(GOOD.replace(old, new, 1), tmp_path)
