"""The numbers that the conclusions of objectives.md rest on, one a line."""

from __future__ import annotations

from itertools import pairwise

import pandas as pd
from objectives_parts import Files
from objectives_settings import PUBLISHED
from objectives_tables import difference, is_within_noise, ranked, with_interval
from scipy import stats

COLLAPSED = 0.1  # an objective so far below the median would rule all correlations; it is named and left out


def facts(files: Files) -> str:
    """All of them; a part without rows has none."""
    main = files.main.read()
    lines: list[str] = []
    for part in (PUBLISHED, "tuned"):
        rows = main[(main["part"] == part) & main["mp5"].notna()]
        if len(rows):
            lines += [f"== {part}", *_of_part(rows)]
    lines += _of_tuning(main)
    lines += _of_vit(files.vit.read(), main)
    return "\n".join(lines)


def _of_part(rows: pd.DataFrame) -> list[str]:
    """Order, luck, what goes together with the score."""
    names = ranked(rows)
    means = rows.groupby("objective")[["mp5", "r1", "map_at_r", "spectral_decay", "density", "nmi"]].mean()
    costs = rows.groupby("objective")[["epoch_s", "memory_mb"]].median()
    lines = [
        f"{i + 1}. {name}: mP@5 {with_interval(rows[rows['objective'] == name]['mp5'])}"
        for i, name in enumerate(names[:5])
    ]
    equal = [name for name in names[1:] if is_within_noise(difference(rows, name, names[0]))]
    lines.append(f"within noise of {names[0]} (paired by seed): {len(equal)} of {len(names) - 1}: {', '.join(equal)}")
    first = rows.loc[rows.groupby("seed")["mp5"].idxmax()]
    lines.append("best of each seed: " + ", ".join(f"{row.seed} {row.objective}" for row in first.itertuples()))
    usual = means[means["mp5"] > means["mp5"].median() - COLLAPSED]
    lines.append(
        f"far below the median, left out of what follows: {', '.join(sorted(set(names) - set(usual.index))) or 'none'}"
    )
    by_seed = rows[rows["objective"].isin(usual.index)].groupby("objective")["mp5"].std(ddof=1)
    lines.append(
        f"spread of the objectives' means {usual['mp5'].std(ddof=1):.4f} (from {usual['mp5'].min():.3f} to "
        f"{usual['mp5'].max():.3f}); mean spread over the seeds of one objective {by_seed.mean():.4f}"
    )
    spread = (rows["mp5_high"] - rows["mp5_low"]).mean() / 2
    lines.append(f"half the interval for other classes, mean of all rows: {spread:.3f}")
    for column in ("spectral_decay", "density", "nmi", "map_at_r", "mp5"):
        found = stats.spearmanr(usual["r1"], usual[column])
        luck = f"{found.statistic:+.2f} (p {found.pvalue:.3f})"
        lines.append(f"rank correlation of R@1 with {column} over {len(usual)} objectives: {luck}")
    joined = usual.join(costs)
    found = stats.spearmanr(joined["mp5"], joined["epoch_s"])
    lines.append(f"rank correlation of mP@5 with CPU seconds an epoch: {found.statistic:+.2f} (p {found.pvalue:.3f})")
    dear = costs["epoch_s"].sort_values()
    ends = [f"{dear.index[i]} {dear.iloc[i]:.2f}" for i in (0, -1)]
    lines.append(f"CPU seconds an epoch: {ends[0]}, median {dear.median():.2f}, {ends[1]}")
    ranks = rows.pivot(index="objective", columns="seed", values="mp5").loc[usual.index].dropna()
    agree = [stats.spearmanr(ranks[a], ranks[b]).statistic for a, b in pairwise(ranks.columns)]
    if agree:
        lines.append(f"rank correlation of mP@5 between one seed and the next: {min(agree):+.2f} to {max(agree):+.2f}")
    return lines


def _of_tuning(main: pd.DataFrame) -> list[str]:
    """What the search gains, with the seeds paired."""
    by_part = {
        part: main[main["part"] == part].set_index(["objective", "seed"])["mp5"] for part in (PUBLISHED, "tuned")
    }
    gains = (by_part["tuned"] - by_part[PUBLISHED]).dropna()
    if gains.empty:
        return []
    means = gains.groupby("objective").mean().sort_values(ascending=False)
    lines = ["== what the search gains, tuned less published"]
    lines.append(f"mean over {len(means)} objectives {means.mean():+.4f}, median {means.median():+.4f}")
    lines.append("most: " + ", ".join(f"{name} {value:+.3f}" for name, value in means.head(5).items()))
    lines.append("least: " + ", ".join(f"{name} {value:+.3f}" for name, value in means.tail(3).items()))
    sure = [
        name for name in means.index if not is_within_noise(gains[name]) and len(gains[name]) > 1 and means[name] > 0
    ]
    lines.append(f"a gain whose interval is above 0: {len(sure)}: {', '.join(sure)}")
    pair = [by_part[part].groupby("objective").mean().loc[means.index] for part in by_part]
    lines.append(f"rank correlation of both orders: {stats.spearmanr(*pair).statistic:+.2f}")
    settings = main[main["part"] == "tuned"]["setting"]
    kinds = settings.where(
        settings == PUBLISHED, settings.str.startswith("lr=").map({True: "learning rate", False: "number"})
    )
    lines.append("chosen: " + ", ".join(f"{kind} {n}" for kind, n in kinds.value_counts().items()))
    return lines


def _of_vit(vit: pd.DataFrame, main: pd.DataFrame) -> list[str]:
    """What training all weights changes."""
    if vit.empty:
        return []
    head, whole = (vit[vit["trains"] == trains] for trains in ("head", "all"))
    means = [of.groupby("objective")["mp5"].mean() for of in (head, whole)]
    lines = ["== the ViT, all weights"]
    names = ranked(whole)
    lines += [f"{name}: head {means[0][name]:.3f}, all {means[1][name]:.3f}" for name in names]
    equal = [name for name in names[1:] if is_within_noise(difference(whole, name, names[0]))]
    lines.append(f"within noise of {names[0]}: {len(equal)} of {len(names) - 1}: {', '.join(equal)}")
    lines.append(f"rank correlation of head and all: {stats.spearmanr(*(of[names] for of in means)).statistic:+.2f}")
    frozen = main[main["part"] == PUBLISHED].groupby("objective")["mp5"].mean()
    if set(names) <= set(frozen.index):
        found = stats.spearmanr(frozen[names], means[1][names])
        lines.append(
            f"rank correlation with part published, MobileNetV2's head: {found.statistic:+.2f} (p {found.pvalue:.2f})"
        )
    return lines
