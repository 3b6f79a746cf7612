"""Runs all doors of a recipe for several seeds, one after the other, and gathers scores, times and memory.

Writes beside itself: <recipe>_scores.csv (the rows of every seed's scores.csv), <recipe>_dimensions.csv (those of
dimensions.csv, with their seeds) and <recipe>.md (tables). Finished doors are skipped, so it may be broken off and
started again.

Run, 50 minutes a seed on one core:
     python tests/benchmarks/seeds.py --recipe minibench --data-root ../shared/data --out artifacts/seeds
Run, 10 minutes a seed on one core:
     python tests/benchmarks/seeds.py --recipe demo
"""

import argparse
import json
import os
import platform
import sys
from pathlib import Path

import pandas as pd
import torch
from doors import open_doors
from pages import paragraph
from scipy import stats

from guie.errors import run_to_the_end
from guie.evaluate.code_loss import FLOAT
from guie.evaluate.dimensions import FULL, own_columns
from guie.recipe import RESERVED_DOMAINS, load_recipe
from guie.run import DOORS, PROJECT

HERE = Path(__file__).resolve().parent
DOUBT = 0.05
NOISE = (
    "≈: the step from the row before may be noise. The 95 % interval of its mean over the seeds (Student's t) contains "
    "0, or with one seed p_vs_previous is .05 or more."
)
CHOSEN = "†: something of this row was chosen by its validation score, so the score is too good."
WIDTHS = (
    "The rows at other widths: the first numbers of a row's PCA, and all numbers before the PCA. A row's own width is "
    "in bold; a row without a PCA has no other."
)
CODES = (
    "The last row at other widths and in fewer bytes: float32 has 4 bytes a number, int8 has 1, binary has a bit. "
    "Binary codes that int8 re-ranks need both. The embedding that is exported is in bold."
)
INTERVAL = (
    "95 %: an interval over classes, for other classes of the same kind with these weights (mean of the ends of the "
    "seeds). ±: standard deviation over other training runs and other splits."
)


def run_seed(seed: int, arguments: argparse.Namespace) -> None:
    """Opens the nine doors with this seed."""
    options = ["--recipe", arguments.recipe, "--set", f"seed={seed}", "--out", str(arguments.out / f"seed{seed}")]
    if not load_recipe(arguments.recipe).data.drawn:
        options += ["--data-root", str(arguments.data_root)]
    open_doors(DOORS, options)


def spread(values: pd.Series, digits: int = 3) -> str:
    """`.641 ± .003`: mean and sample standard deviation; of one seed its value."""
    if len(values) == 1:
        return f"{values.iloc[0]:.{digits}f}".removeprefix("0")
    mean, std = f"{values.mean():.{digits}f}", f"{values.std(ddof=1):.{digits}f}"
    return f"{mean.removeprefix('0')} ± {std.removeprefix('0')}"


def is_within_noise(rows: pd.DataFrame, before: pd.DataFrame | None) -> bool:
    """Whether a row's step from the row before may be luck, see `NOISE`."""
    if before is None:
        return False
    if len(rows) == 1:
        return "p_vs_previous" in rows and bool(rows["p_vs_previous"].iloc[0] >= DOUBT)
    steps = rows.set_index("seed")["mp5"] - before.set_index("seed")["mp5"]
    return bool(abs(steps.mean()) <= stats.t.ppf(1 - DOUBT / 2, len(steps) - 1) * steps.std(ddof=1) / len(steps) ** 0.5)


def ladder(scores: pd.DataFrame) -> str:
    """The markdown table of README: a row a setting, mean and spread over the seeds, marks, and below it what they
    mean."""
    domains = [
        c.removeprefix("mp5_")
        for c in scores.columns
        if c.startswith("mp5_") and c.removeprefix("mp5_") not in RESERVED_DOMAINS
    ]
    has_interval = "mp5_low" in scores
    head = ["", "dim", "mP@5", *(["95 %"] if has_interval else []), "R@1", *(f"mP@5 {d}" for d in domains)]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    before, marks = None, ""
    for setting in scores["setting"].unique():
        rows = scores[scores["setting"] == setting]
        mark = " ≈" if is_within_noise(rows, before) else ""
        mark += " †" if "chosen_on" in rows and rows["chosen_on"].notna().any() else ""
        before, marks = rows, marks + mark
        between = [f"{end(rows['mp5_low'])} to {end(rows['mp5_high'])}"] if has_interval else []
        cells = [
            f"**{spread(rows['mp5'])}**{mark}",
            *between,
            spread(rows["r1"]),
            *(f"{rows[f'mp5_{d}'].mean():.3f}".removeprefix("0") for d in domains),
        ]
        lines.append(f"| {setting} | {int(rows['dim'].iloc[0])} | " + " | ".join(cells) + " |")
    notes = [NOISE if "≈" in marks else "", CHOSEN if "†" in marks else "", INTERVAL if has_interval else ""]
    return "\n".join([*lines, "", *(paragraph(note) for note in notes if note)])


def widths(scores: pd.DataFrame) -> str:
    """A sentence and a markdown table: mP@5 of each row at other widths, mean over the seeds, its own width in bold; ""
    where runs are older than these columns."""
    columns = [name for name in scores.columns if name.startswith("dim_") and scores[name].notna().any()]
    if not columns or scores.groupby("seed")[columns].count().eq(0).all(axis=1).any():
        return ""
    head = ["mP@5 at", *(f"{name.removeprefix('dim_')} numbers" for name in columns)]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for setting, rows in scores.groupby("setting", sort=False):
        is_reduced = rows["projection"].str.contains("pca").any()
        own = own_columns(rows["dim"].iloc[0], is_reduced)
        cells = [f"{rows[name].mean():.3f}".removeprefix("0").replace("nan", "") for name in columns]
        cells = [f"**{cell}**" if name in own else cell for name, cell in zip(columns, cells, strict=True)]
        lines.append(f"| {setting} | " + " | ".join(cells) + " |")
    return "\n".join([paragraph(WIDTHS), "", *lines])


def dimensions(table: pd.DataFrame) -> str:
    """A markdown table: mP@5 of each width and code, mean and spread over the seeds; the exported embedding in bold.

    Args:
        table: Rows of `dimensions.csv` with the column seed.
    """
    names, cells = {}, {}
    for (dim, name), rows in table.groupby(["dim", "code"], sort=False):
        is_full, is_exported = name.startswith(FULL), bool(rows["is_exported"].iloc[0])
        code = (name.removeprefix(FULL).removeprefix(", ") or FLOAT) if is_full else name
        cell = spread(rows["mp5"])
        cells[dim, code] = f"**{cell}**" if is_exported else cell
        if code == FLOAT:
            names[dim] = f"{dim:,}" + (", without PCA" if is_full else ", exported" if is_exported else "")
    codes = list(dict.fromkeys(code for _, code in cells))
    lines = ["| " + " | ".join(["numbers", *codes]) + " |", "|" + "---|" * (1 + len(codes))]
    lines += [
        "| " + " | ".join([name, *(cells.get((dim, code), "") for code in codes)]) + " |" for dim, name in names.items()
    ]
    return "\n".join(lines)


def all_dimensions(runs: list[Path], seeds: list[int]) -> pd.DataFrame | None:
    """The rows of every run's `dimensions.csv`, with their seeds; None where a run is older than that file."""
    files = [run / "07_embeddings/dimensions.csv" for run in runs]
    if not all(file.is_file() for file in files):
        return None
    return pd.concat([pd.read_csv(file).assign(seed=seed) for file, seed in zip(files, seeds, strict=True)])


def end(values: pd.Series) -> str:
    """An end of the intervals, mean over the seeds: `.62`; `?` where a seed has none, as a domain has a single
    class."""
    return "?" if values.isna().any() else f"{values.mean():.2f}".removeprefix("0")


def costs(runs: list[Path]) -> str:
    """A markdown table: minutes of each door and seed, and the largest memory."""
    marks = [{p.parent.name: json.loads(p.read_text()) for p in sorted(run.glob("0*/done.json"))} for run in runs]
    lines = [
        "| door | " + " | ".join(f"seed {i}, s" for i in range(len(runs))) + " | peak memory, GB |",
        "|" + "---|" * (2 + len(runs)),
    ]
    for door in marks[0]:
        peak = max(m[door]["peak_memory_gb"] for m in marks)
        lines.append(f"| {door} | " + " | ".join(f"{m[door]['seconds']:.0f}" for m in marks) + f" | {peak:.2f} |")
    total = [sum(mark["seconds"] for mark in m.values()) for m in marks]
    lines.append("| all | " + " | ".join(f"{t:.0f} ({t / 60:.1f} min)" for t in total) + " | |")
    return "\n".join(lines)


def card() -> str:
    """What doors with `--device auto` compute on beside the CPU."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"


def main() -> None:
    """Runs what is not done and writes the two files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="minibench")
    parser.add_argument("--data-root", type=Path, default=PROJECT.parent / "shared/data")
    parser.add_argument("--out", type=Path, default=PROJECT / "artifacts/seeds")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--table-only", action="store_true", help="print the ladder of <recipe>_scores.csv and end")
    parser.add_argument(
        "--gather-only", action="store_true", help="run nothing; write the tables of the runs that are there"
    )
    arguments = parser.parse_args()
    if arguments.table_only:
        print(ladder(pd.read_csv(HERE / f"{Path(arguments.recipe).stem}_scores.csv")))
        return
    if not arguments.gather_only:
        for seed in arguments.seeds:
            run_seed(seed, arguments)
    runs = [arguments.out / f"seed{seed}" / load_recipe(arguments.recipe).name for seed in arguments.seeds]
    name = Path(arguments.recipe).stem
    scores = pd.concat([pd.read_csv(run / "07_embeddings/scores.csv") for run in runs])
    scores.to_csv(HERE / f"{name}_scores.csv", index=False)
    nested = all_dimensions(runs, arguments.seeds)
    if nested is not None:
        nested.to_csv(HERE / f"{name}_dimensions.csv", index=False)
    versions = json.loads((runs[0] / "07_embeddings/done.json").read_text())["versions"]
    command = (
        f"python tests/benchmarks/seeds.py --recipe {arguments.recipe} --seeds {' '.join(map(str, arguments.seeds))}"
    )
    told = f"""
`{command}`, {os.cpu_count()} cores ({platform.machine()}), {card()}, torch {versions["torch"]}.
{"Mean and sample standard deviation over the seeds" if len(runs) > 1 else "One seed"}. A seed decides which classes are
unseen, too.
"""
    text = f"""# Recipe {name}, seeds {", ".join(map(str, arguments.seeds))}

{paragraph(told)}

{ladder(scores)}

{widths(scores)}
{"" if nested is None else chr(10).join(["", paragraph(CODES), "", dimensions(nested), ""])}
Seconds and largest resident memory of each door:

{costs(runs)}
"""
    (HERE / f"{name}.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    sys.exit(run_to_the_end(main, "seeds.py"))
