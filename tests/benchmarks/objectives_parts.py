"""The parts of objectives.py: which rows there are, in which file each stands, and how it is made."""

from __future__ import annotations

import argparse
import copy
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from objectives_results import COSTS, SCORES, Results
from objectives_settings import (
    HEAD_PX,
    MOST_USED,
    OBJECTIVES,
    PUBLISHED,
    RECIPE,
    VIT_PX,
    VIT_RECIPE,
    head_stage,
    settings_of,
    whole_stage,
)
from objectives_training import (
    N_FOLDS,
    CannotTrainError,
    World,
    all_scores,
    embedded,
    fold_of,
    mean,
    retrieval,
    trained,
    val_features,
    with_seed,
    world_of,
)

from guie.embed.ensemble import rows_of

PARTS = ("published", "search", "tuned", "vit", "costs")
VIT_SEEDS = (0, 1, 2)
Row = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """The work behind one row, or behind the rows of one training.

    Attributes:
        part: Of `PARTS`.
        key: What tells its rows from the others of its file.
        work: Makes the rows; it may read the files.
    """

    part: str
    key: Row
    work: Callable[[Files], list[Row]]

    def told(self, rows: list[Row]) -> str:
        """A line for the terminal."""
        where = ", ".join(f"{name} {value}" for name, value in self.key.items() if name not in ("part", "objective"))
        row = rows[-1]
        if row.get("problem"):
            found = row["problem"]
        else:
            found = f"mP@5 {row['mp5']:.3f}" if "mp5" in row else f"{row['epoch_s']:.1f} s an epoch"
        return f"{self.part}, {self.key['objective']}, {where}: {found}"


class NotReadyError(ValueError):
    """A job needs rows that other jobs make."""


class Files:
    """The four CSV files.

    Attributes:
        main: Rows of `published` and `tuned`.
        search: A row for each setting and fold.
        vit: A row for the head alone and one for all weights.
        costs: A row for each case.
    """

    def __init__(self, folder: Path) -> None:
        """Files in a folder."""
        self.main = Results(folder / "objectives.csv", ("part", "seed", "objective"), ("setting", *SCORES, *COSTS))
        self.search = Results(folder / "objectives_search.csv", ("seed", "objective", "setting", "fold"), ("mp5",))
        self.vit = Results(folder / "objectives_vit.csv", ("seed", "objective", "trains"), (*SCORES, *COSTS))
        self.costs = Results(
            folder / "objectives_costs.csv", ("objective", "batch", "n_parts"), (*COSTS, "epoch_wall_s", "n_steps")
        )

    def of(self, part: str) -> Results:
        """The file of a part."""
        return {"search": self.search, "vit": self.vit, "costs": self.costs}.get(part, self.main)

    def missing(self, jobs: Sequence[Job]) -> list[Job]:
        """The jobs whose rows are not there."""
        tables = {part: self.of(part).read() for part in {job.part for job in jobs}}
        names = {job.part: list(job.key) for job in jobs}
        done = {part: set(tables[part][own].itertuples(index=False, name=None)) for part, own in names.items()}
        return [job for job in jobs if tuple(job.key.values()) not in done[job.part]]

    def chosen(self, seed: int, name: str) -> str:
        """The setting with the best mean mP@5 of a seed's folds; of equal ones the first of `settings_of`.

        Raises:
            NotReadyError: the search is not finished.
            CannotTrainError: none of the settings could be trained.
        """
        rows = self.search.find(seed=seed, objective=name)
        tried = settings_of(name)
        wanted = {(setting, fold) for setting in tried for fold in range(N_FOLDS)}
        if missing := wanted - set(zip(rows["setting"], rows["fold"], strict=True)):
            raise NotReadyError(
                f"the search of {name}, seed {seed}, lacks {len(missing)} of {len(wanted)} rows; run --parts search "
                "first, with the same --seeds and --only"
            )
        means = rows.groupby("setting")["mp5"].apply(lambda of: of.mean(skipna=False)).dropna()
        if means.empty:
            raise CannotTrainError(f"the search of {name}, seed {seed}, has no setting that could be trained")
        return max((setting for setting in tried if setting in means), key=means.__getitem__)


class Worlds:
    """The images and features of each seed, made when they are first asked for."""

    def __init__(self, data_root: Path, out: Path) -> None:
        """Data sets are in `data_root`, packed images go to `out`."""
        self.data_root = data_root
        self.out = out
        self._known: dict[tuple[str, int], World] = {}

    def head(self, seed: int) -> World:
        """minibench's MobileNetV2; seed 0's features serve all seeds, and those of one other seed are kept."""
        if ("head", seed) not in self._known:
            first = self.head(0) if seed else None
            self._known = {key: world for key, world in self._known.items() if key[1] == 0}
            self._known["head", seed] = world_of(with_seed(RECIPE, seed), HEAD_PX, self.data_root, self.out, first)
        return self._known["head", seed]

    def vit(self, seed: int, has_features: bool = True) -> World:
        """The project's ViT on the split of seed 0; `seed` is that of the training."""
        if ("vit", 0) not in self._known:
            self._known["vit", 0] = world_of(VIT_RECIPE, VIT_PX, self.data_root, self.out, has_features=has_features)
        world = self._known["vit", 0]
        return replace(world, run=replace(world.run, recipe=with_seed(VIT_RECIPE, seed)))

    def scratch(self, *names: str) -> Path:
        """A folder for checkpoints and curves."""
        return self.out.joinpath("trained", *names)


def jobs_of(arguments: argparse.Namespace) -> list[Job]:
    """All rows of the parts, seeds and objectives that are asked for, in the order in which they are made: a seed's
    search stands before its tuned rows."""
    worlds = Worlds(arguments.data_root, arguments.out)
    jobs = []
    if "published" in arguments.parts:
        jobs += [_main("published", seed, name, worlds) for seed in arguments.seeds for name in arguments.only]
    for seed in arguments.seeds:
        if "search" in arguments.parts:
            jobs += [job for name in arguments.only for job in _search_jobs(seed, name, worlds)]
        if "tuned" in arguments.parts:
            jobs += [_main("tuned", seed, name, worlds) for name in arguments.only]
    if "vit" in arguments.parts:
        jobs += [
            Job("vit", {"seed": seed, "objective": name}, partial(_vit, worlds, seed, name))
            for seed in arguments.seeds
            if seed in VIT_SEEDS
            for name in MOST_USED
            if name in arguments.only
        ]
    if "costs" in arguments.parts:
        jobs += [
            Job("costs", dict(case), partial(_cost, worlds, case))
            for case in CASES
            if case["objective"] in arguments.only
        ]
    return jobs


def _main(part: str, seed: int, name: str, worlds: Worlds) -> Job:
    work = {"published": _published, "tuned": _tuned}[part]
    return Job(part, {"part": part, "seed": seed, "objective": name}, partial(work, worlds, seed, name))


def _search_jobs(seed: int, name: str, worlds: Worlds) -> list[Job]:
    return [
        Job(
            "search",
            {"seed": seed, "objective": name, "setting": setting, "fold": fold},
            partial(_searched, worlds, seed, name, setting, fold),
        )
        for setting in settings_of(name)
        for fold in range(N_FOLDS)
    ]


def _published(worlds: Worlds, seed: int, name: str, files: Files) -> list[Row]:
    return [_scored_row(worlds, seed, name, PUBLISHED)]


def _tuned(worlds: Worlds, seed: int, name: str, files: Files) -> list[Row]:
    """The row of the chosen setting. Where that is the published one, training it again would give the same row."""
    setting = files.chosen(seed, name)
    done = files.main.find(part="published", seed=seed, objective=name)
    if setting == PUBLISHED and len(done):
        return [{"setting": setting, **{column: done[column].iloc[0] for column in (*SCORES, *COSTS)}}]
    return [_scored_row(worlds, seed, name, setting)]


def _scored_row(worlds: Worlds, seed: int, name: str, setting: str) -> Row:
    """A head trained on all training classes, and scored on the unseen ones."""
    world = worlds.head(seed)
    objective, lr = settings_of(name)[setting]
    found = trained(world, world.packed, head_stage(name, objective, lr), worlds.scratch(f"seed{seed}", name, setting))
    rows = rows_of(world.packed, "val")
    embeddings = embedded(found.model, world.features["plain"][rows])
    costs = {"epoch_s": round(found.epoch_s, 4), "memory_mb": round(found.memory_mb, 1)}
    return {"setting": setting, **all_scores(embeddings, world.packed.index.iloc[rows]), **costs}


def _searched(worlds: Worlds, seed: int, name: str, setting: str, fold: int, files: Files) -> list[Row]:
    """A head trained on one half of the training classes, and scored on the other."""
    world = worlds.head(seed)
    packed = fold_of(world.packed, fold)
    objective, lr = settings_of(name)[setting]
    found = trained(world, packed, head_stage(name, objective, lr), worlds.scratch(f"seed{seed}", f"{name}_fold{fold}"))
    rows = rows_of(packed, "val")
    embeddings = embedded(found.model, world.features["plain"][rows])
    return [{"mp5": round(mean(retrieval(embeddings, packed.index.iloc[rows]), "mp5"), 6)}]


def _vit(worlds: Worlds, seed: int, name: str, files: Files) -> list[Row]:
    """The head on the ViT's cached features, and then all weights."""
    world = worlds.vit(seed)
    packed = world.packed
    rows = rows_of(packed, "val")
    val = packed.index.iloc[rows]
    whole = whole_stage(name, OBJECTIVES[name])
    head = head_stage(whole.start.of, OBJECTIVES[name], image_px=VIT_PX)
    found = trained(world, packed, head, worlds.scratch("vit", f"seed{seed}", head.name))
    made = []
    for stage in (head, whole):
        if stage is whole:
            found.model.backbone = copy.deepcopy(found.model.backbone)  # the world's stays as it was pretrained
            found = trained(world, packed, whole, worlds.scratch("vit", f"seed{seed}", name), found.model)
        features = world.features["plain"][rows] if stage is head else val_features(world, packed, found.model, VIT_PX)
        costs = {"epoch_s": round(found.epoch_s, 4), "memory_mb": round(found.memory_mb, 1)}
        made.append({"trains": stage.trains, **all_scores(embedded(found.model, features), val), **costs})
    return made


# What is measured on a moving backbone: the margin loss alone, and three methods that are the margin loss with work
# beside it; a batch of 1,024 in parts, of a loss that compares all images and of one that is additive.
CASES: tuple[Row, ...] = (
    *({"objective": name, "batch": 128, "n_parts": 1} for name in ("MarginLoss", "Pads", "Diva", "DivideConquer")),
    *({"objective": "Contrastive", "batch": 1024, "n_parts": n} for n in (1, 4, 16)),
    *({"objective": "ArcFace", "batch": 1024, "n_parts": n} for n in (1, 16)),
)


def _cost(worlds: Worlds, case: Row, files: Files) -> list[Row]:
    """Measures a case in a process of its own, which has touched nothing else."""
    worlds.vit(0, has_features=False)  # packs the images
    script = Path(__file__).with_name("objectives_costs.py")
    options = ["--data-root", str(worlds.data_root), "--out", str(worlds.out), "--case", json.dumps(case)]
    command = [sys.executable, str(script), *options]
    told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    found: Row = json.loads(told.strip().splitlines()[-1])
    return [found]
