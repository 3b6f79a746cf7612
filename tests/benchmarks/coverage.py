"""Measures how often the 95 % interval of mP@5 contains the true mean. The scores are simulated, so their true mean is
known; the numbers of classes and images are those of minibench and demo, and smaller ones.

A class's chance of a hit is drawn from a beta distribution about its domain's score, so that the images of a class
stand or fall together; each query then hits at m = min(images - 1, 5) ranks with that chance. The truth is the mean
over domains of those scores. Old: percentiles of the bootstrap means (until November 2026). New: bootstrap-t. Student:
the t distribution with Satterthwaite's degrees of freedom, for comparison.

Run     python tests/benchmarks/coverage.py     (half an hour on one core; --n 200 takes three minutes)
Writes  coverage.md and coverage.csv beside itself.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from pathlib import Path

import numpy as np
import pandas as pd
from pages import paragraph
from scipy import stats

from guie.evaluate.intervals import N_RESAMPLES, class_interval, class_sums

HERE = Path(__file__).resolve().parent
# a + b of the beta distribution: a quarter of the classes of a domain at .57 lies below .33, a quarter above .82
SPREAD = 2.0
# validation images of each class of minibench, seed 0 (door 02), and the score of each domain in its last row
GROCERY = [21, 21, 23, 24, 25, 25, 26, 26, 28, 28, 29, 30, 30, 30, 30, 31, 31, 31, 33, 33, 34]
GROCERY += [34, 37, 37, 38, 39, 40, 41, 42, 44, 45, 47, 48, 50, 50, 51, 51, 51, 51, 62, 70]
Shape = list[tuple[list[int], float]]  # of each domain: images of each class, expected score
SHAPES: dict[str, Shape] = {
    "minibench: 9, 431, 25 and 41 classes": [
        ([43] + [50] * 8, 0.572),
        ([4] * 431, 0.562),
        ([15] * 25, 0.874),
        (GROCERY, 0.912),
    ],
    "demo: 4 domains of 40 classes of 8": [([8] * 40, score) for score in (0.736, 0.696, 0.804, 0.728)],
    "4 domains of 10 classes of 10": [([10] * 10, score) for score in (0.57, 0.56, 0.87, 0.91)],
    "4 domains of 5 classes of 10": [([10] * 5, score) for score in (0.57, 0.56, 0.87, 0.91)],
    "4 domains of 3 classes of 10": [([10] * 3, score) for score in (0.57, 0.56, 0.87, 0.91)],
    "1 domain of 40 classes of 8": [([8] * 40, 0.8)],
    "1 domain of 20 classes of 8": [([8] * 20, 0.8)],
    "1 domain of 10 classes of 8": [([8] * 10, 0.8)],
    "1 domain of 5 classes of 20": [([20] * 5, 0.8)],
    "2 domains, 3 of 13 classes hold 300 of 320 queries": [([2] * 10 + [100] * 3, 0.7), ([5] * 20, 0.7)],
}


def simulated(shape: Shape, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision, class and domain of each query."""
    values, classes, domains = [], [], []
    for domain, (sizes, score) in enumerate(shape):
        chance = np.repeat(rng.beta(SPREAD * score, SPREAD * (1 - score), size=len(sizes)), sizes)
        m = np.repeat(np.minimum(np.array(sizes) - 1, 5), sizes)
        values.append(rng.binomial(m, chance) / m)
        classes.append(np.repeat(np.arange(len(sizes)), sizes))
        domains.append(np.full(len(m), domain))
    return np.concatenate(values), np.concatenate(classes), np.concatenate(domains)


def percentiles(values: np.ndarray, classes: np.ndarray, domains: np.ndarray) -> tuple[float, float]:
    """The old interval."""
    sums, rng = class_sums(values, classes, domains), np.random.default_rng(0)
    means = np.zeros(N_RESAMPLES)
    for domain in np.unique(sums.domain):
        total, n = sums.total[sums.domain == domain], sums.n_queries[sums.domain == domain]
        drawn = rng.integers(len(n), size=(N_RESAMPLES, len(n)))
        means += total[drawn].sum(axis=1) / n[drawn].sum(axis=1) / len(np.unique(sums.domain))
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def student(values: np.ndarray, classes: np.ndarray, domains: np.ndarray) -> tuple[float, float]:
    """By the t distribution."""
    sums = class_sums(values, classes, domains)
    ratios, variances, freedom = [], [], []
    for domain in np.unique(sums.domain):
        total, n = sums.total[sums.domain == domain], sums.n_queries[sums.domain == domain]
        ratios.append(total.sum() / n.sum())
        variances.append(((total - ratios[-1] * n) ** 2).sum() * len(n) / (len(n) - 1) / n.sum() ** 2)
        freedom.append(len(n) - 1)
    mean, variance = np.mean(ratios), np.sum(variances)
    half = (
        0.0
        if not variance
        else stats.t.ppf(0.975, variance**2 / np.sum(np.square(variances) / freedom)) * np.sqrt(variance) / len(ratios)
    )
    return float(max(mean - half, 0)), float(min(mean + half, 1))


METHODS = {"old": percentiles, "new": class_interval, "student": student}
VERDICT = (
    "The new interval holds the truth about as often as it should; with three classes a domain it is wide and holds it "
    "more often. It fails where a few classes hold nearly all queries of a domain: the few that were seen do not tell "
    "how far others would fall. With one class a domain there is none."
)


def measured(shape: Shape, n: int, seed: int) -> dict[str, float]:
    """Coverage of each method, its own 95 % interval (Wilson), and the mean width."""
    truth = float(np.mean([score for _, score in shape]))
    rng = np.random.default_rng(seed)
    ends = {name: np.empty((n, 2)) for name in METHODS}
    for i in range(n):
        queries = simulated(shape, rng)
        for name, method in METHODS.items():
            ends[name][i] = method(*queries)
    row: dict[str, float] = {"n_simulated": n}
    for name, found in ends.items():
        held = int(((found[:, 0] <= truth) & (truth <= found[:, 1])).sum())
        between = stats.binomtest(held, n).proportion_ci(method="wilson")
        row |= {
            name: held / n,
            f"{name}_low": between.low,
            f"{name}_high": between.high,
            f"{name}_width": float(np.diff(found, axis=1).mean()),
        }
    return row


def seconds_at_scale() -> str:
    """Of one interval of 200,000 queries."""
    rng, times = np.random.default_rng(0), []
    for n_classes in (2_000, 20_000, 200_000):
        classes = np.repeat(np.arange(n_classes), 200_000 // n_classes)
        start = time.process_time()
        class_interval(rng.random(200_000), classes, classes % 4)
        times.append(f"{time.process_time() - start:.2f} s with {n_classes:,} classes")
    return ", ".join(times)


def main() -> None:
    """Simulates, and writes both files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=2000, help="simulations of each shape (default: %(default)s)")
    arguments = parser.parse_args()
    table = pd.DataFrame(
        [{"shape": name, **measured(shape, arguments.n, i)} for i, (name, shape) in enumerate(SHAPES.items())]
    )
    table.round(4).to_csv(HERE / "coverage.csv", index=False)
    lines = [
        "| shape | old: percentiles | new: bootstrap-t | Student's t | mean width, old → new |",
        "|---|---|---|---|---|",
    ]
    for row in table.to_dict("records"):
        cells = [
            f"{100 * row[name]:.1f} ({100 * row[f'{name}_low']:.1f} to {100 * row[f'{name}_high']:.1f})"
            for name in METHODS
        ]
        lines.append(
            f"| {row['shape']} | {cells[0]} | **{cells[1]}** | {cells[2]} | {row['old_width']:.3f} → "
            f"{row['new_width']:.3f} |"
        )
    how = f"""
    `python tests/benchmarks/coverage.py --n {arguments.n}`, {os.cpu_count()} cores ({platform.machine()}),
    numpy {np.__version__}; {arguments.n} simulations of each shape, {N_RESAMPLES} draws each. In brackets the 95 %
    interval (Wilson) of the measured coverage. How scores are simulated: the head of [coverage.py](coverage.py).
    """
    markdown = "\n".join(lines)
    text = f"""# Coverage of the 95 % interval of mP@5

{paragraph(how)}

{markdown}

{paragraph(f"CPU time of one interval of 200,000 queries: {seconds_at_scale()}.")}

{paragraph(VERDICT)}
"""
    (HERE / "coverage.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
