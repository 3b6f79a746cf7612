"""`python -m guie.evaluate` as its user sees it."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from guie.evaluate.__main__ import main
from guie.evaluate.protocols import PROTOCOLS


def write(folder: Path, name: str, noise: float, seed: int = 0) -> tuple[str, str]:
    """Embeddings and ids of 30 classes of 6, half of each class queries."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(30), 6)
    np.save(
        folder / f"{name}.npy",
        (np.random.default_rng(9).normal(size=(30, 8))[labels] + noise * rng.normal(size=(180, 8))).astype(np.float32),
    )
    ids = pd.DataFrame(
        {"image_id": [f"{i}" for i in range(180)], "class_id": labels, "domain": np.where(labels % 2, "toys", "art")}
    )
    ids.assign(split=np.where(np.arange(180) % 2, "query", "index")).to_csv(folder / f"{name}.csv", index=False)
    return str(folder / f"{name}.npy"), str(folder / f"{name}.csv")


def test_domain_of_a_single_class_has_no_interval_and_the_command_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, ids = write(tmp_path, "a", 0.7)
    assert main([file, "--ids", ids]) == 0
    assert "single class" not in capsys.readouterr().out
    table = pd.read_csv(ids)
    table.assign(domain=np.where(table["class_id"] == 4, "toys", "art")).to_csv(ids, index=False)
    assert main([file, "--ids", ids, "--out", str(tmp_path / "scores.csv")]) == 0
    assert "no interval: a domain has a single class" in capsys.readouterr().out
    assert pd.read_csv(tmp_path / "scores.csv")[["mp5_low", "mp5_high"]].isna().all(axis=None)


def test_ladder_of_two_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (before, ids), (after, _) = write(tmp_path, "before", 1.5), write(tmp_path, "after", 0.7)
    out = tmp_path / "deep/scores.csv"
    assert main([before, after, "--ids", ids, "--full", "--geometry", "--out", str(out)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 4 and printed[0].startswith(
        "| row | n_queries | mp5 | mp5_low | mp5_high | p_vs_previous | r1 |"
    )
    table = pd.read_csv(out)
    assert table["row"].tolist() == ["before", "after"] and table["n_queries"].tolist() == [180, 180]
    assert (
        table["mp5"][1] > table["mp5"][0] and table["p_vs_previous"][1] < 0.01 and np.isnan(table["p_vs_previous"][0])
    )
    assert table[["mp5_art", "mp5_toys"]].mean(axis=1).to_numpy() == pytest.approx(table["mp5"].to_numpy())
    for name in (
        "map_at_r",
        "full_map_with_self",
        "density",
        "spectral_decay",
        "alignment",
        "uniformity",
        "nmi",
        "ami",
    ):
        assert table[name].notna().all(), name
    assert f"{table['mp5'][1]:.3f}" in printed[3]


def test_seeds_have_a_mean_and_a_spread(tmp_path: Path) -> None:
    files = [write(tmp_path, f"seed{i}", 1.0, seed=i) for i in range(3)]
    out = tmp_path / "scores.csv"
    assert main([f for f, _ in files] + ["--ids"] + [ids for _, ids in files] + ["--out", str(out)]) == 0
    table = pd.read_csv(out)
    assert table["row"].tolist() == ["seed0", "seed1", "seed2", "mean"]
    assert table["mp5"][3] == pytest.approx(table["mp5"][:3].mean()) and table["mp5_std"][3] == pytest.approx(
        table["mp5"][:3].std(ddof=1)
    )
    assert table["p_vs_previous"].isna().all()


def test_models_of_several_folds_are_better_together(tmp_path: Path) -> None:
    files = [write(tmp_path, f"fold{i}", 1.5, seed=i)[0] for i in range(4)]
    out = tmp_path / "scores.csv"
    assert (
        main([*files, "--ids", str(tmp_path / "fold0.csv"), "--combine", "--protocol", "k_fold", "--out", str(out)])
        == 0
    )
    table = pd.read_csv(out).set_index("row")
    assert table.index.tolist() == ["fold0", "fold1", "fold2", "fold3", "separated (mean)", "concatenated"]
    assert table["mp5"]["concatenated"] > table["mp5"]["separated (mean)"] + 2 * table["mp5_std"]["separated (mean)"]


@pytest.mark.parametrize("protocol", ["per_domain", "query_index", "uned"])
def test_every_protocol_has_a_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], protocol: str) -> None:
    embeddings, ids = write(tmp_path, "mine", 1.0)
    assert main([embeddings, "--ids", ids, "--protocol", protocol]) == 0
    assert capsys.readouterr().out.count("| mine |") == 1


def test_solution_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    embeddings, ids = write(tmp_path, "mine", 1.0)
    lines = [
        f"{q},{' '.join(str(i) for i in range(q // 6 * 6, q // 6 * 6 + 6, 2))},{('Public', 'Private')[q % 4 == 1]}"
        for q in range(1, 180, 2)
    ]
    (tmp_path / "solution.csv").write_text("id,images,Usage\n" + "\n".join(lines))
    out = tmp_path / "scores.csv"
    options = [
        "--protocol",
        "solution",
        "--solution",
        str(tmp_path / "solution.csv"),
        "--distance",
        "euclidean",
        "--out",
        str(out),
    ]
    assert main([embeddings, "--ids", ids, *options]) == 0
    (row,) = pd.read_csv(out).to_dict("records")
    assert row["n_queries"] == 90
    n_private = sum(line.endswith("Private") for line in lines)
    assert row["mp5"] == pytest.approx((row["host_private"] * n_private + row["host_public"] * (90 - n_private)) / 90)
    # lists that follow the classes: the same as by class, without the mean of domains
    by_class = tmp_path / "by_class.csv"
    assert (
        main([embeddings, "--ids", ids, "--protocol", "query_index", "--distance", "euclidean", "--out", str(by_class)])
        == 0
    )
    assert row["mp5"] == pytest.approx(pd.read_csv(by_class)[["mp5_art", "mp5_toys"]].iloc[0].mean())
    assert "| host_private |" in capsys.readouterr().out


def test_shift_writes_the_splits_beside_the_curve(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    embeddings, ids = write(tmp_path, "mine", 0.8)
    features, _ = write(tmp_path, "frozen", 0.1)
    out = tmp_path / "curve.csv"
    assert main([embeddings, "--ids", ids, "--shift", "4", "--features", features, "--out", str(out)]) == 0
    curve, splits = pd.read_csv(out), pd.read_csv(tmp_path / "curve.splits.csv")
    assert len(curve) == splits["split"].nunique() >= 3
    assert (np.diff(curve["frechet"]) > 0).all()
    assert "mp5_control" in capsys.readouterr().out.splitlines()[0]


def test_shards_in_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    embeddings, ids = write(tmp_path, "mine", 1.0)
    (tmp_path / "mine").mkdir()
    for i, part in enumerate(np.array_split(np.load(embeddings), 12)):
        np.save(tmp_path / f"mine/{i}.npy", part)  # 2 comes before 10
    main([embeddings, "--ids", ids])
    main([str(tmp_path / "mine"), "--ids", ids])
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 6 and printed[:3] == printed[3:]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--ids", "{ids}", "{ids}"], "2 files of ids for 1"),
        (["--ids", "{ids}", "--protocol", "solution"], "go together"),
        (["--ids", "nowhere.csv"], "nowhere.csv"),
        (["--ids", "{ids}", "--shift", "3", "--features", "{short}"], "features has 5 rows and the ids 180"),
        (["--ids", "{ids}", "--shift", "3", "--full"], "leave --protocol"),
        (["--ids", "{ids}", "--shift", "0"], "30 classes cannot make 0 splits"),
        (["--ids", "{ids}", "--features", "{short}"], "--features changes nothing here: it is for --shift"),
        (["--ids", "{ids}", "--combine"], "--combine changes nothing here: it is for several files"),
        (["--ids", "{fewer}"], "mine.npy has 180 rows and {fewer} 179; row i of one must be row i of the other"),
        (["--ids", "{latin}"], "save the table again as CSV in UTF-8"),
        (["--ids", "{low}"], "the domain low would get the column mp5_low, which is taken"),
    ],
)
def test_errors_are_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    embeddings, ids = write(tmp_path, "mine", 1.0)
    np.save(tmp_path / "short.npy", np.ones((5, 8)))
    pd.read_csv(ids).replace({"domain": {"toys": "low"}}).to_csv(tmp_path / "low.csv", index=False)
    pd.read_csv(ids).head(179).to_csv(tmp_path / "fewer.csv", index=False)
    (tmp_path / "latin.csv").write_text("image_id,class_id\n1,caf\xe9\n", encoding="latin-1")
    names = {path.stem: path for path in tmp_path.iterdir()} | {"ids": ids}
    assert main([embeddings, *(option.format(**names) for option in options)]) == 2
    error = capsys.readouterr().err.strip()
    assert message.format(**names) in error and "\n" not in error


def test_help_shows_the_examples() -> None:
    done = subprocess.run([sys.executable, "-m", "guie.evaluate", "--help"], capture_output=True, text=True, check=True)
    assert done.stdout.count("  guie evaluate ") >= 6
    assert all(re.search(rf"^  {name}  +\S", done.stdout, re.MULTILINE) for name in (*PROTOCOLS, "solution"))
