"""Other widths and codes on the page and in the terminal, and sources without labels among the data."""

import re
import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest
from fake_run import make_fake_run

from guie.report.collect import read_data, read_dimensions
from guie.report.sections_data import data
from guie.report.sections_dimensions import dimensions_text
from guie.report.sections_embedding import embedding
from guie.run import FOLDERS, PROJECT, Run


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_fake_run(tmp_path_factory.mktemp("fake"))


def test_terminal_marks_the_exported_width_and_tells_changes(finished: Run) -> None:
    table = read_dimensions(finished.out)
    assert table is not None
    lines = dimensions_text(table).splitlines()
    assert [re.split(r"\s{2,}", line[2:].strip()) for line in lines] == [
        ["numbers", "bytes", "mP@5", "change"],
        ["16", "64", "0.601", "-0.107"],
        ["16, int8", "16", "0.600", "-0.108"],
        ["64, exported", "256", "0.708", "–"],
        ["64, int8", "64", "0.708", "0.000"],
        ["64, binary", "8", "0.655", "-0.053"],
        ["64, binary, 100 re-ranked by int8", "72", "0.708", "0.000"],
        ["128", "512", "0.715", "+0.007"],
        ["2,560, without PCA", "10,240", "0.742", "+0.034"],
        ["2,560, without PCA, binary", "320", "0.735", "+0.027"],
    ]
    assert [i for i, line in enumerate(lines) if line.startswith(">")] == [3]
    assert max(map(len, lines)) <= 80


def test_run_of_older_code_has_no_such_table_and_a_damaged_one_is_told(finished: Run, tmp_path: Path) -> None:
    shutil.copytree(finished.out / FOLDERS[7], tmp_path / FOLDERS[7])
    path = tmp_path / FOLDERS[7] / "dimensions.csv"
    path.write_text("dim,code\n16,float32\n")
    with pytest.raises(ValueError, match=r"lacks the columns \['n_bytes', .*07_ensemble_and_pca.py --force"):
        read_dimensions(tmp_path)
    path.unlink()
    assert read_dimensions(tmp_path) is None
    assert "absent" in embedding(None, None)


def test_images_without_labels_are_counted_among_the_data(finished: Run, tmp_path: Path) -> None:
    assert read_data(finished).unlabelled == {} and "Without labels" not in data(read_data(finished))
    for number in (2, 3):
        shutil.copytree(finished.out / FOLDERS[number], tmp_path / FOLDERS[number])
    path = tmp_path / FOLDERS[3] / "index.parquet"
    index = pd.read_parquet(path)
    own = index.iloc[:7].assign(split="unlabelled", source="my <photos>", class_id=-1)
    pd.concat([index, own]).to_parquet(path, index=False)
    found = read_data(Run(finished.recipe, tmp_path, tmp_path))
    assert found.unlabelled == {"my <photos>": 7}
    assert "Without labels: 7 images of my &lt;photos&gt;." in data(found)


def test_benchmark_page_has_means_over_the_seeds(finished: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(PROJECT / "tests/benchmarks"))
    import seeds

    table = read_dimensions(finished.out)
    assert table is not None
    other = table.assign(mp5=table["mp5"] + 0.02, loss=table["loss"] * 3)
    text = seeds.dimensions(pd.concat([table.assign(seed=0), other.assign(seed=1)]))
    assert text.splitlines() == [
        "| numbers | float32 | int8 | binary | binary, 100 re-ranked by int8 |",
        "|---|---|---|---|---|",
        "| 16 | .611 ± .014 | .610 ± .014 |  |  |",
        "| 64, exported | **.718 ± .014** | .718 ± .014 | .665 ± .014 | .718 ± .014 |",
        "| 128 | .725 ± .014 |  |  |  |",
        "| 2,560, without PCA | .752 ± .014 |  | .745 ± .014 |  |",
    ]
    scores = pd.read_csv(finished.out / FOLDERS[7] / "scores.csv")
    other = scores.assign(**{name: scores[name] + 0.02 for name in scores if name.startswith("dim_")})
    lines = seeds.widths(pd.concat([scores.assign(seed=0), other.assign(seed=1)])).splitlines()[3:]
    assert lines[0] == "| mP@5 at | 16 numbers | 32 numbers | 64 numbers | 128 numbers | all numbers |"
    assert lines[2] == "| off the shelf, PCA-64 | .508 | .568 | **.598** | .608 | .618 |"
    assert lines[3] == "| head only |  |  | **.628** |  | **.628** |"
    assert seeds.widths(scores.drop(columns=[name for name in scores if name.startswith("dim_")])) == ""
    sys.modules.pop("seeds", None)
