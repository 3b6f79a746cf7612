"""Runs all doors of a recipe for several seeds, one after the other, and gathers scores, times and memory.

Writes beside itself: <recipe>_scores.csv (the rows of every seed's scores.csv) and <recipe>.md (tables). Finished doors are
skipped, so it may be broken off and started again.

Run: python tests/benchmarks/seeds.py --recipe minibench --data-root ../shared/data --out artifacts/seeds   (35 minutes a seed)
     python tests/benchmarks/seeds.py --recipe demo                                                         (9 minutes a seed)
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pandas as pd

from guie.recipe import load_recipe
from guie.run import DOORS, PROJECT

HERE = Path(__file__).resolve().parent


def run_seed(seed: int, arguments: argparse.Namespace) -> None:
    """Opens the nine doors with this seed."""
    out = arguments.out / f"seed{seed}"
    for door in DOORS.values():
        options = ["--recipe", arguments.recipe, "--data-root", str(arguments.data_root), "--set", f"seed={seed}", "--out", str(out)]
        subprocess.run([sys.executable, str(PROJECT / door), *options], check=True)


def spread(values: pd.Series, digits: int = 3) -> str:
    """`.641 ± .003`: mean and sample standard deviation; of one seed its value."""
    if len(values) == 1:
        return f"{values.iloc[0]:.{digits}f}".removeprefix("0")
    mean, std = f"{values.mean():.{digits}f}", f"{values.std(ddof=1):.{digits}f}"
    return f"{mean.removeprefix('0')} ± {std.removeprefix('0')}"


def ladder(scores: pd.DataFrame) -> str:
    """The markdown table of README: a row a setting, mean and spread over the seeds."""
    domains = [c.removeprefix("mp5_") for c in scores.columns if c.startswith("mp5_") and c not in ("mp5_low", "mp5_high")]
    lines = ["| | dim | mP@5 | R@1 | " + " | ".join(f"mP@5 {d}" for d in domains) + " |", "|" + "---|" * (4 + len(domains))]
    for setting in scores["setting"].unique():
        rows = scores[scores["setting"] == setting]
        cells = [spread(rows[c]) for c in ("mp5", "r1", *(f"mp5_{d}" for d in domains))]
        if len(rows) == 1 and "mp5_low" in rows:
            cells[0] += f" ({spread(rows['mp5_low'])} to {spread(rows['mp5_high'])})"
        lines.append(f"| {setting} | {int(rows['dim'].iloc[0])} | **{cells[0]}** | {cells[1]} | " + " | ".join(cells[2:]) + " |")
    return "\n".join(lines)


def costs(runs: list[Path]) -> str:
    """A markdown table: minutes of each door and seed, and the largest memory."""
    marks = [{p.parent.name: json.loads(p.read_text()) for p in sorted(run.glob("0*/done.json"))} for run in runs]
    lines = ["| door | " + " | ".join(f"seed {i}, s" for i in range(len(runs))) + " | peak memory, GB |", "|" + "---|" * (2 + len(runs))]
    for door in marks[0]:
        peak = max(m[door]["peak_memory_gb"] for m in marks)
        lines.append(f"| {door} | " + " | ".join(f"{m[door]['seconds']:.0f}" for m in marks) + f" | {peak:.2f} |")
    total = [sum(mark["seconds"] for mark in m.values()) for m in marks]
    lines.append("| all | " + " | ".join(f"{t:.0f} ({t / 60:.1f} min)" for t in total) + " | |")
    return "\n".join(lines)


def main() -> None:
    """Runs what is not done and writes the two files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="minibench")
    parser.add_argument("--data-root", type=Path, default=PROJECT.parent / "shared/data")
    parser.add_argument("--out", type=Path, default=PROJECT / "artifacts/seeds")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--gather-only", action="store_true", help="run nothing; write the tables of the runs that are there")
    arguments = parser.parse_args()
    if not arguments.gather_only:
        for seed in arguments.seeds:
            run_seed(seed, arguments)
    runs = [arguments.out / f"seed{seed}" / load_recipe(arguments.recipe).name for seed in arguments.seeds]
    name = Path(arguments.recipe).stem
    scores = pd.concat([pd.read_csv(run / "07_embeddings/scores.csv") for run in runs])
    scores.to_csv(HERE / f"{name}_scores.csv", index=False)
    versions = json.loads((runs[0] / "07_embeddings/done.json").read_text())["versions"]
    command = f"python tests/benchmarks/seeds.py --recipe {arguments.recipe} --seeds {' '.join(map(str, arguments.seeds))}"
    text = f"""# Recipe {name}, seeds {", ".join(map(str, arguments.seeds))}

`{command}`, {os.cpu_count()} cores ({platform.machine()}), no GPU, torch {versions["torch"]}.
{"Mean and sample standard deviation over the seeds" if len(runs) > 1 else "In brackets the 95 % interval, from classes drawn again"}; \
a seed decides which classes are unseen, too.

{ladder(scores)}

Seconds and largest resident memory of each door:

{costs(runs)}
"""
    (HERE / f"{name}.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
