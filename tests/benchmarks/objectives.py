"""All objectives under equal conditions, scored on classes that training never saw.

(a) A 64-d head on the cached features of minibench's MobileNetV2 at 224 px, 20 epochs of batches of 128 (32 classes, 4
images each), the same optimizer. `published`: the published numbers. `search`: for every objective five settings (the
published one, two other values of its main number, two other learning rates; objectives_settings.py) on two folds of
the training classes. `tuned`: the setting with the best mean mP@5 of the folds, trained on all training classes. A
seed decides which classes are unseen; each seed has a search of its own, so that no unseen class takes part in it.
(b) `vit`: the ten most used objectives train the project's own ViT through, at 112 px; one split, three seeds.
(c) `costs`: methods with work beside the loss, and a batch in parts; each measured in a process of its own.

A row that is finished is skipped, so the script may be broken off and started again. Several may run at once with
different --seeds or --parts, of the same code and with seed 0's images packed: another
version packs them anew. Tables and charts are written from the CSV files at the end, and by --table-only.

Run: python tests/benchmarks/objectives.py --data-root ../shared/data --plan       what is left, in minutes
     python tests/benchmarks/objectives.py --data-root ../shared/data              all parts
     python tests/benchmarks/objectives.py --parts published --only Triplet --seeds 0
     python tests/benchmarks/objectives.py --table-only                            objectives.md and charts
     python tests/benchmarks/objectives.py --facts                                 numbers that the conclusions rest on
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from objectives_facts import facts
from objectives_page import PAGE, write_all
from objectives_parts import PARTS, Files, Job, jobs_of
from objectives_results import code_commit, processor
from objectives_settings import OBJECTIVES
from objectives_training import CannotTrainError

from guie.errors import run_to_the_end
from guie.run import PROJECT

HERE = Path(__file__).resolve().parent
# Seconds of a row before one is measured, on one core.
ROWS_OF_A_JOB = {"vit": 2}  # the head alone and all weights; one in all other parts
GUESSES = {"published": 6.0, "search": 3.0, "tuned": 6.0, "vit": 130.0, "costs": 120.0}


@dataclass
class Clock:
    """Tells how long what is left will take.

    Attributes:
        files: The rows that are finished.
    """

    files: Files

    def medians(self, part: str) -> tuple[dict[str, float], float]:
        """Seconds of a row of each objective, and of any other objective of the part: medians of finished rows."""
        rows = self.files.of(part).read()
        rows = rows[(rows["part"] == part) if "part" in rows else slice(None)]
        by_objective = rows.groupby("objective")["row_s"].median().to_dict()
        return by_objective, float(rows["row_s"].median()) if len(rows) else GUESSES[part]

    def minutes(self, jobs: Sequence[Job]) -> float:
        """Of all of them."""
        known = {part: self.medians(part) for part in {job.part for job in jobs}}
        rows = [known[job.part][0].get(job.key["objective"], known[job.part][1]) for job in jobs]
        return sum(seconds * ROWS_OF_A_JOB.get(job.part, 1) for job, seconds in zip(jobs, rows, strict=True)) / 60


def main() -> None:
    """Does what is left, and writes the tables."""
    arguments = parser().parse_args()
    files = Files(arguments.results)
    page = PAGE if arguments.results.resolve() == HERE else None  # trials elsewhere leave the project's page alone
    if arguments.facts:
        print(facts(files))
        return
    if arguments.table_only:
        print(write_all(files, arguments.results, page))
        return
    jobs = files.missing(jobs_of(arguments))
    clock = Clock(files)
    for part in arguments.parts:
        own = [job for job in jobs if job.part == part]
        print(f"{part}: {len(own)} rows to do, about {clock.minutes(own):.0f} min", flush=True)
    if not arguments.plan:
        run_all(jobs, files, clock)
        print(write_all(files, arguments.results, page))


def parser() -> argparse.ArgumentParser:
    """The options."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--data-root", type=Path, default=PROJECT.parent / "shared/data", help="of minibench's data sets")
    p.add_argument("--out", type=Path, default=PROJECT / "artifacts/objectives", help="packed images and features")
    p.add_argument("--results", type=Path, default=HERE, help="folder of the CSV files")
    p.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    p.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4], help="the ViT takes those below 3")
    p.add_argument("--only", nargs="+", choices=list(OBJECTIVES), default=list(OBJECTIVES), metavar="OBJECTIVE")
    p.add_argument("--plan", action="store_true", help="print what is left and end")
    p.add_argument("--table-only", action="store_true", help="write the tables and charts of the CSV files and end")
    p.add_argument("--facts", action="store_true", help="print the numbers that the conclusions rest on and end")
    return p


def run_all(jobs: Sequence[Job], files: Files, clock: Clock) -> None:
    """One job after the other; a row of its file each. What fails with its settings becomes a row that says why."""
    marks = {"commit": code_commit(), "processor": processor()}
    for i, job in enumerate(jobs):
        if not files.missing([job]):  # another process was faster
            continue
        began = time.time()
        try:
            rows = job.work(files)
        except CannotTrainError as error:
            rows = [{"problem": " ".join(str(error).split())}]
        taken = time.time() - began
        row_s = round(taken / len(rows), 2)
        files.of(job.part).add(*({**job.key, "row_s": row_s, **row, **marks} for row in rows))
        left = clock.minutes(jobs[i + 1 :])
        print(f"{i + 1} of {len(jobs)}: {job.told(rows)}; {taken:.1f} s, about {left:.0f} min left", flush=True)


if __name__ == "__main__":
    sys.exit(run_to_the_end(main, "objectives.py"))
