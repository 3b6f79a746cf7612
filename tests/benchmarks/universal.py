"""Leave one domain out: what a 64-d embedding keeps of a domain that nothing was fitted on, row by row.

The features are minibench's MobileNetV2 at 224 px (1,280 numbers). For each of its four domains in turn, projections
and heads are fitted on the training classes of the three others. Asked are (a) the unseen classes of these three, and
(b) half of the classes of the domain left out. Its other half is what a person's own folder would be: a refit sees
those images without labels. mP@5 is the contest's, with all asked images of (a), or of (b), as the index; (a) is
averaged over its three domains. A seed decides which classes are unseen, which half is asked, and a head's start.

A finished row is skipped, so the script may be broken off and started again.

Run: python tests/benchmarks/universal.py --data-root ../shared/data --out artifacts/objectives --seeds 0 1 2
     python tests/benchmarks/universal.py --table-only
"""

from __future__ import annotations

import argparse
import copy
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from objectives_results import Results, code_commit, processor
from objectives_settings import HEAD_PX, OBJECTIVES, RECIPE, head_stage
from objectives_training import UNSEEN, World, mean, retrieval, trained, with_seed, world_of
from scipy import stats

from guie.embed.pca import mixed, moments_of, pca_of
from guie.embed.search import l2_normalised
from guie.errors import run_to_the_end
from guie.files import whole_file
from guie.recipe import KeepCosines, Stage, Sum
from guie.run import PROJECT

HERE = Path(__file__).resolve().parent
DIM = 64
FILE = Results(HERE / "universal.csv", ("seed", "left_out", "row"), ("dim", "seen", "never"))
REFIT = "refit on its unlabelled half, share "
ROWS = {
    "all 1,280 numbers": "",
    "PCA-64": "",
    "PCA-64 of unit features": "PCA-64",
    "PCA-128 of unit features": "PCA-64 of unit features",
    f"{REFIT}.25": "PCA-64 of unit features",
    f"{REFIT}.5": "PCA-64 of unit features",
    f"{REFIT}.75": "PCA-64 of unit features",
    f"{REFIT}1": "PCA-64 of unit features",
    "ArcFace, random start": "",
    "ArcFace, PCA start": "ArcFace, random start",
    "ArcFace of unit features, random start": "ArcFace, random start",
    "ArcFace of unit features, PCA start": "ArcFace, random start",
    "ArcFace of unit features, PCA start, class means": "ArcFace, random start",
    "the same, KeepCosines(30)": "ArcFace, random start",
    "the same, KeepCosines(100)": "ArcFace, random start",
}  # each with the row that it is compared with


@dataclass(frozen=True)
class Fold:
    """One domain left out.

    Attributes:
        world: Images and features of a seed.
        left_out: The domain.
        fitted: Rows of the pack, int64 [n]: training classes of the other domains.
        seen: Unseen classes of the other domains.
        given: Half of the classes of the domain left out, for a refit.
        asked: The other half.
    """

    world: World
    left_out: str
    fitted: np.ndarray
    seen: np.ndarray
    given: np.ndarray
    asked: np.ndarray

    def features(self, rows: np.ndarray, is_unit: bool = True) -> np.ndarray:
        """float32 [n, 1280] of the plain views."""
        features = self.world.features["plain"][rows]
        return l2_normalised(features) if is_unit else features

    def scores(self, embed: Callable[[np.ndarray], np.ndarray]) -> dict[str, float]:
        """mP@5 of (a) and (b), of embeddings of rows of the pack."""
        index = self.world.packed.index
        found = {
            name: mean(retrieval(embed(rows), index.iloc[rows]), "mp5")
            for name, rows in (("seen", self.seen), ("never", self.asked))
        }
        return {name: round(value, 6) for name, value in found.items()}


def folds(world: World) -> Iterator[Fold]:
    """Each domain left out in turn."""
    index = world.packed.index
    is_train = (index["split"] == "train").to_numpy()
    rng = np.random.default_rng(world.run.recipe.seed)
    for domain in sorted(index["domain"].unique()):
        is_out = (index["domain"] == domain).to_numpy()
        labels = (index["source"] + "/" + index["source_label"].astype(str)).to_numpy()
        classes = rng.permutation(np.unique(labels[is_out]))
        is_given = is_out & np.isin(labels, classes[: len(classes) // 2])
        rows = (is_train & ~is_out, ~is_train & ~is_out, is_given, is_out & ~is_given)
        yield Fold(world, str(domain), *map(np.flatnonzero, rows))


def made(fold: Fold, row: str) -> dict[str, Any]:
    """The scores of a row."""
    if row == "all 1,280 numbers":
        return {"dim": 1280, **fold.scores(fold.features)}
    if row.startswith(("ArcFace", "the same")):
        return {"dim": DIM, **_head(fold, row)}
    is_unit, dim = row != "PCA-64", 128 if row.startswith("PCA-128") else DIM
    moments = moments_of(fold.features(fold.fitted, is_unit))
    if row.startswith(REFIT):
        share = float(row.removeprefix(REFIT))
        moments = mixed([(moments_of(fold.features(fold.given)), share), (moments, 1 - share)])
    pca = pca_of(moments, dim)
    return {"dim": dim, **fold.scores(lambda rows: pca.transform(fold.features(rows, is_unit)))}


def _head(fold: Fold, row: str) -> dict[str, float]:
    """An ArcFace head trained on the cached features of the three domains."""
    packed, split = copy.copy(fold.world.packed), np.full(len(fold.world.packed.index), UNSEEN, dtype=object)
    split[fold.fitted] = "train"
    packed.index = packed.index.assign(split=split)
    objective, kept = OBJECTIVES["ArcFace"], re.search(r"KeepCosines\((\d+)\)", row)
    if kept:
        objective = Sum(terms=(objective, KeepCosines(weight=float(kept[1]))))
    stage: Stage = head_stage("universal", objective)
    has_pca, has_means = "PCA start" in row or bool(kept), "class means" in row or bool(kept)
    stage = replace(
        stage,
        neck=replace(stage.neck, has_unit_input="unit features" in row or bool(kept)),
        start=replace(stage.start, has_pca_neck=has_pca, has_mean_centers=has_means),
    )
    folder = fold.world.run.out / "universal" / fold.left_out / row.replace(" ", "_").replace(",", "")
    model = trained(fold.world, packed, stage, folder).model
    model.neck.eval()

    def embed(rows: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            embeddings: np.ndarray = model.neck(torch.from_numpy(fold.features(rows, False))).numpy()
        return embeddings

    return fold.scores(embed)


def measure(data_root: Path, out: Path, seeds: list[int]) -> None:
    """All rows that are not there yet."""
    marks = {"commit": code_commit(), "processor": processor()}
    first: World | None = None
    for seed in seeds:
        world = world_of(with_seed(RECIPE, seed), HEAD_PX, data_root, out, first)
        first = first or world
        for fold in folds(world):
            for row in ROWS:
                key = {"seed": seed, "left_out": fold.left_out, "row": row}
                if len(FILE.find(**key)):
                    continue
                began = time.time()
                found = made(fold, row)
                FILE.add({**key, **found, "row_s": round(time.time() - began, 2), **marks})
                print(f"seed {seed}, without {fold.left_out}, {row}: {found}", flush=True)


def table() -> str:
    """universal.md."""
    rows = FILE.read()
    seeds = ", ".join(map(str, sorted(rows["seed"].unique())))
    n_seeds, commits = rows["seed"].nunique(), ", ".join(rows["commit"].unique())
    lines = [
        "# A domain that nothing was fitted on",
        "",
        "`python tests/benchmarks/universal.py --data-root ../shared/data --out artifacts/objectives --seeds "
        f"{seeds.replace(',', '')}`,",
        f"code {commits}, {', '.join(rows['processor'].unique())}.",
        "",
        "Each of minibench's four domains is left out in turn; projections and 64-d heads are fitted on the training",
        "classes of the other three, on cached features of a MobileNetV2. **Never seen** asks half of the classes of",
        "the domain left out, **seen** the unseen classes of the others; mP@5, mean of 4 folds and "
        f"{n_seeds} seeds. The",
        f"difference is from the row in brackets, with its 95 % interval over the 4 x {n_seeds} pairs, as if all were",
        "independent (Student's t): it mixes seeds and domains. In parentheses is the interval over the four domains'",
        "means, for other domains. A refit sees the images of the other half of the domain's classes, without labels;",
        "its share is that of these images in what the PCA is fitted on.",
        "",
        "| row | dim | never seen | difference | seen domains | difference |",
        "|---|---|---|---|---|---|",
    ]
    for row, base in ROWS.items():
        own = rows[rows["row"] == row].set_index(["seed", "left_out"])
        cells = [row + (f" [{base}]" if base else ""), f"{int(own['dim'].iloc[0])}"]
        for name in ("never", "seen"):
            cells += [f"{own[name].mean():.3f}".replace("0.", "."), ""]
            if base:
                other = rows[rows["row"] == base].set_index(["seed", "left_out"])
                gains = (own[name] - other[name]).dropna()
                over_domains = _half(gains.groupby("left_out").mean().to_numpy())
                over_pairs = _half(gains.to_numpy())
                cells[-1] = f"{gains.mean():+.3f} ± {over_pairs:.3f} (± {over_domains:.3f})".replace("0.", ".")
        lines.append("| " + " | ".join(cells) + " |")
    folds_text = ", ".join(f"{name} {value:.3f}" for name, value in _by_domain(rows).items()).replace("0.", ".")
    lines += ["", f"Never seen, all 1,280 numbers, by the domain left out: {folds_text}.", ""]
    return "\n".join(lines)


def _by_domain(rows: pd.DataFrame) -> dict[str, float]:
    own = rows[rows["row"] == "all 1,280 numbers"]
    found: dict[str, float] = own.groupby("left_out")["never"].mean().to_dict()
    return found


def _half(values: np.ndarray) -> float:
    """Half of the 95 % interval of a mean (Student's t)."""
    return float(stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))


def arguments_of(description: str | None) -> argparse.Namespace:
    """The command line of this script and of refit_trial.py."""
    p = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--data-root", type=Path, default=PROJECT.parent / "shared/data", help="of minibench's data sets")
    p.add_argument("--out", type=Path, default=PROJECT / "artifacts/objectives", help="packed images and features")
    p.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    p.add_argument("--table-only", action="store_true", help="write the table of what is there and end")
    return p.parse_args()


def main() -> None:
    """Measures what is left, and writes the table."""
    arguments = arguments_of(__doc__)
    if not arguments.table_only:
        measure(arguments.data_root, arguments.out.resolve(), arguments.seeds)
    with whole_file(HERE / "universal.md") as temporary:
        temporary.write_text(table(), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(run_to_the_end(main, "universal.py"))
