"""Patches that are left out while the backbone trains (`cost.patch_drop`): what a stage then takes, and what it scores.

The images are minibench's, the backbone is the project's ViT-Ti/16 at 144 px (81 patches). All rows start from the same
head-only stage and train the backbone with that head fixed, in steps of 32 images; a row may end with an epoch that
sees all patches. The `higher` rows train on from the row `all` at 192 px (144 patches). Seconds are those of the
fastest epoch's steps, times the epochs, all of one run, so ratios are of the same machine in the same hour. Also a
recipe, which the doors run: what is finished is skipped, so the script may be broken off and started again.

Run, an hour and a half a seed on one core:
     python tests/benchmarks/patch_drop.py --data-root ../shared/data
The steps alone, on one batch in memory, the shares in turn; four minutes:
     python tests/benchmarks/patch_drop.py --bare
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy import stats

from guie.recipe import Cost, Member, Recipe, Setting, Stage, Start
from guie.recipes.demo import RECIPE as DEMO
from guie.recipes.demo import backbone, head
from guie.recipes.minibench import RECIPE as MINIBENCH
from guie.run import PROJECT

HERE = Path(__file__).resolve().parent
Row = tuple[str, float, int, int]
PX, LR, LAST_LR = 144, 4e-4, 1e-4
HIGHER_PX, HIGHER_LR = 192, 2e-4
# Of each row: its name, the share of the patches that is left out, epochs so, then epochs with all patches.
ROWS: tuple[Row, ...] = (
    ("all", 0.0, 4, 0),
    ("half", 0.5, 4, 0),
    ("half_then_all", 0.5, 3, 1),
    ("half_longer_then_all", 0.5, 5, 1),
    ("three_quarters_then_all", 0.75, 3, 1),
    ("three_quarters_longer_then_all", 0.75, 7, 1),
)
# The same of a stage at more pixels, which starts from `all`.
START = "all_at_more_pixels"  # their start
HIGHER_ROWS: tuple[Row, ...] = (("higher", 0.0, 2, 0), ("higher_half", 0.5, 2, 0), ("higher_one_epoch", 0.0, 1, 0))
SHARES = (0.0, 0.25, 0.5, 0.75)
N_ROUNDS, BATCH = 12, 32


def stages_of(name: str, share: float, n_epochs: int, n_whole: int) -> tuple[Stage, ...]:
    """A row's stages: with patches left out, and with all."""
    first = backbone(f"{name}_1" if n_whole else name, PX, n_epochs, LR)
    optim = replace(first.optim, batch_size=BATCH)
    first = replace(first, start=Start(of="s1_head"), cost=Cost(patch_drop=share), optim=optim)
    if not n_whole:
        return (first,)
    optim = replace(optim, n_epochs=n_whole, lr=LAST_LR)
    return first, replace(first, name=name, start=Start(of=first.name), cost=Cost(), optim=optim)


def higher_stage(name: str, share: float, n_epochs: int) -> Stage:
    """A row's stage at more pixels, from the backbone of `all`."""
    stage = backbone(name, HIGHER_PX, n_epochs, HIGHER_LR)
    optim = replace(stage.optim, batch_size=BATCH)
    return replace(stage, start=Start(of="all"), cost=Cost(patch_drop=share), optim=optim)


RECIPE = Recipe(
    name="patch_drop",
    data=replace(MINIBENCH.data, pack_px=200),
    model=DEMO.model,
    stages=replace(
        DEMO.stages,
        head=(head("s1_head", PX),),
        backbone=tuple(stage for row in ROWS for stage in stages_of(*row)),
        highres=tuple(higher_stage(name, share, n_epochs) for name, share, n_epochs, _ in HIGHER_ROWS),
    ),
    embed=replace(
        DEMO.embed,
        settings=(
            Setting("head-only", (Member("s1_head", PX),)),
            *(Setting(name, (Member(name, PX),)) for name, *_ in ROWS),
            Setting(START, (Member("all", HIGHER_PX),)),
            *(Setting(name, (Member(name, HIGHER_PX),)) for name, *_ in HIGHER_ROWS),
        ),
    ),
)


def measured(runs: list[Path]) -> pd.DataFrame:
    """A row for each row and run: seed, row, seconds of its steps (the fastest epoch's, times the epochs), mp5, r1."""
    found = []
    for seed, run in enumerate(runs):
        scores = pd.read_csv(run / "07_embeddings/scores.csv").set_index("setting")
        folders = {name: [run / "05_backbone" / s.name for s in stages_of(name, *rest)] for name, *rest in ROWS}
        folders |= {name: [run / "06_highres" / name] for name, *_ in HIGHER_ROWS}
        for row, of_stages in folders.items():
            seconds = 0.0
            for folder in of_stages:
                epochs = pd.read_csv(folder / "metrics.csv")["seconds"]
                seconds += epochs.min() * len(epochs)  # in the others the machine may have stood still
            columns = {"seed": seed, "row": row, "seconds": round(seconds, 1)}
            found.append(columns | {name: scores.loc[row, name] for name in ("mp5", "r1")})
        row = {"seed": seed, "row": START, "seconds": 0.0}
        found.append(row | {name: scores.loc[START, name] for name in ("mp5", "r1")})
    return pd.DataFrame(found)


def table(found: pd.DataFrame, rows: Sequence[Row]) -> str:
    """The markdown table of some rows: seconds, ratio and scores, and the differences from the first, which trains with
    all patches."""
    first = rows[0][0]
    lines = [
        f"| row | left out | epochs so | epochs with all | steps, s | times as fast | mP@5 | minus `{first}` |",
        "|" + "---|" * 8,
    ]
    whole = found[found["row"] == first].set_index("seed")
    for name, share, n_epochs, n_whole in rows:
        own = found[found["row"] == name].set_index("seed")
        ratio = (whole["seconds"] / own["seconds"]).mean()
        difference = _interval((own["mp5"] - whole["mp5"]).to_numpy()) if name != first else ""
        lines.append(
            f"| `{name}` | {share:g} | {n_epochs} | {n_whole} | {own['seconds'].mean():.0f} | **{ratio:.2f} x** | "
            f"{own['mp5'].mean():.3f} | {difference} |"
        )
    return "\n".join(lines)


def _interval(values: np.ndarray) -> str:
    """Mean and half width of its 95 % interval over the seeds (Student's t); of one seed the value alone."""
    if len(values) == 1:
        return f"{values[0]:+.3f}"
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
    return f"{values.mean():+.3f} ± {half:.3f}"


def bare(image_px: int) -> str:
    """The median step of each share on one batch, forward, backward and optimizer; the shares take turns, so that
    other work on the machine meets all alike."""
    from guie.model.backbone import build_backbone
    from guie.model.patch_drop import drop_patches

    network = build_backbone(DEMO.model, image_px).train()
    pixels = torch.randn(BATCH, 3, image_px, image_px).contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
    seconds: dict[float, list[float]] = {share: [] for share in SHARES}
    for _ in range(N_ROUNDS):
        for share in SHARES:
            drop_patches(network.network, share)
            began = time.perf_counter()
            optimizer.zero_grad()
            network(pixels).square().mean().backward()
            optimizer.step()
            seconds[share].append(time.perf_counter() - began)
    medians = {share: statistics.median(values[2:]) for share, values in seconds.items()}
    lines = [f"| left out at {image_px} px | images/s | times as fast |", "|---|---|---|"]
    for share, median in medians.items():
        lines.append(f"| {share:g} | {BATCH / median:.1f} | **{medians[0.0] / median:.2f} x** |")
    return "\n".join(lines)


def main() -> None:
    """Runs what is not done, and writes patch_drop.csv and patch_drop.md."""
    from pages import paragraph
    from seeds import card, run_seed

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, default=PROJECT.parent / "shared/data")
    parser.add_argument("--out", type=Path, default=PROJECT / "artifacts/patch_drop")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--bare", action="store_true", help="only the steps, on one batch in memory")
    arguments = parser.parse_args()
    if arguments.bare:
        print(bare(PX), bare(HIGHER_PX), sep="\n\n")
        return
    arguments.recipe = str(Path(__file__).resolve())
    for seed in arguments.seeds:
        run_seed(seed, arguments)
    runs = [arguments.out / f"seed{seed}" / RECIPE.name for seed in arguments.seeds]
    found = measured(runs).replace({"seed": dict(enumerate(arguments.seeds))})
    found.to_csv(HERE / "patch_drop.csv", index=False)
    versions = json.loads((runs[0] / "07_embeddings/done.json").read_text())["versions"]
    told = f"""
    `python tests/benchmarks/patch_drop.py --seeds {" ".join(map(str, arguments.seeds))}`: {card()}, torch
    {versions["torch"]}; the project's ViT-Ti/16 at {PX} px on minibench's images, batches of {BATCH}. The head is
    fixed. mP@5 of unseen classes, 64-d; ± is the half of a 95 % interval over the seeds (Student's t).
    """
    tables = f"{table(found, ROWS)}\n\n{table(found, HIGHER_ROWS)}"
    text = f"# Patches left out while training\n\n{paragraph(told)}\n\n{tables}\n"
    (HERE / "patch_drop.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
