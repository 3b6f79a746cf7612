"""What the field claims about training image retrieval, each claim measured by one comparison; claims.md has the table.

A claim is a declarative row (claims_training.py, claims_data.py, claims_embedding.py, claims_methods.py,
claims_tricks.py, claims_shift.py): who says it, the two sides that are compared here, and what is expected. The rule of
the verdicts is in claims_types.py. A finished (claim, seed) is a line of claims/FAMILY.csv and is skipped, so the
script may be broken off and started again; a line of another set-up of the claim stays in the file and does not count.
Several may run at once with different --seeds. Rows of one claim are of one kind of device.

Run: python tests/benchmarks/claims.py --list
     python tests/benchmarks/claims.py --data-root ../shared/data                   all that is left
     python tests/benchmarks/claims.py --data-root ../shared/data --claim flip      one claim
     python tests/benchmarks/claims.py --family layers --device cuda --seeds 0      on a card
     python tests/benchmarks/claims.py --claim flip --again                         measure it anew; changes no file
     python tests/benchmarks/claims.py --table-only                                 claims.md and charts
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from claims_constructed import CONSTRUCTED
from claims_data import DATA
from claims_embedding import DIMENSION, GEOMETRY
from claims_methods import FAMILIES, OBJECTIVES
from claims_page import TITLES, found_of, verdict_of, write_page
from claims_shift import SHIFT
from claims_statistics import STATISTICS, NotMeasuredError
from claims_training import LAYERS, SAMPLING
from claims_tricks import TRICKS
from claims_types import SEEDS, Claim, digest
from claims_work import SCRIPTS, Bench, class_error, n_freedom
from objectives_parts import Files, NotReadyError
from objectives_results import Results, alone_in, code_commit, is_card, processor
from objectives_settings import settings_of
from objectives_training import CannotTrainError

from guie.errors import run_to_the_end
from guie.launch import choose_device
from guie.run import PROJECT

HERE = Path(__file__).resolve().parent
CLAIMS: tuple[Claim, ...] = (
    *LAYERS,
    *SAMPLING,
    *DATA,
    *DIMENSION,
    *OBJECTIVES,
    *GEOMETRY,
    *FAMILIES,
    *TRICKS,
    *SHIFT,
)
MEASURES = {**STATISTICS, **CONSTRUCTED}
VALUES = ("base", "other", "value", "error", "n_freedom", "base_cpu_s", "other_cpu_s")


def main() -> None:
    """Measures what is left, and writes the page."""
    arguments = parser().parse_args()
    wanted = [claim for claim in CLAIMS if not arguments.claim or claim.name in arguments.claim]
    wanted = [claim for claim in wanted if not arguments.family or claim.family in arguments.family]
    if arguments.list:
        for claim in wanted:
            print(f"{claim.family:<11} {claim.name:<32} {claim.says}")
        return
    device = arguments.device if arguments.device == "cpu" else choose_device(arguments.device)
    if arguments.again:
        with tempfile.TemporaryDirectory() as folder:
            bench = Bench(arguments.data_root, arguments.out.resolve(), Path(folder, "arms"), Files(HERE), device)
            failed = measure(wanted, bench, Path(folder), arguments.seeds)
            tell(wanted, rows_in(Path(folder), wanted))
    else:
        failed = []
        if not arguments.table_only:
            out = arguments.out.resolve()
            bench = Bench(arguments.data_root, out, out / "claims", Files(HERE), device)
            failed = measure(wanted, bench, HERE / "claims", arguments.seeds)
            tell(wanted, rows_in(HERE / "claims", wanted))
        with alone_in(HERE):  # the last of several processes writes the page of all rows
            print("wrote " + ", ".join(write_page(HERE, CLAIMS, rows_in(HERE / "claims", CLAIMS))))
    if failed:
        raise SystemExit(f"error: no row of {', '.join(failed)}: see above")


def parser() -> argparse.ArgumentParser:
    """The options."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--claim", nargs="+", choices=[claim.name for claim in CLAIMS], metavar="NAME", help="these alone")
    p.add_argument("--family", nargs="+", choices=list(TITLES), help="the claims of these families alone")
    p.add_argument("--list", action="store_true", help="print the claims and end")
    p.add_argument("--data-root", type=Path, default=PROJECT.parent / "shared/data", help="of minibench's data sets")
    p.add_argument("--out", type=Path, default=PROJECT / "artifacts/objectives", help="packed images and features")
    p.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    p.add_argument("--device", choices=("auto", "cpu", "cuda"), default="cpu", help="of networks; a card takes bf16")
    p.add_argument(
        "--again",
        action="store_true",
        help="measure anew what is asked for, print it, change no file; a statistic is computed from the same rows",
    )
    p.add_argument("--table-only", action="store_true", help="write the page of what is there and end")
    return p


def file_of(folder: Path, family: str) -> Results:
    """The CSV file of a family."""
    return Results(folder / f"{family}.csv", ("claim", "seed", "setup"), VALUES)


def setup_of(claim: Claim) -> str:
    """A digest of what decides a claim's values, with the settings among which a search chose."""
    searched = tuple(tuple(settings_of(arm.objective).items()) for arm in claim.arms if arm.objective)
    return digest(claim.base, claim.other, claim.metric, claim.statistic, searched)


def rows_in(folder: Path, claims: Sequence[Claim]) -> pd.DataFrame:
    """The rows of some claims, of their set-ups as they are now."""
    tables = [file_of(folder, family).read() for family in TITLES]
    rows = pd.concat([table for table in tables if len(table)] or tables[:1], ignore_index=True)
    setups = {claim.name: setup_of(claim) for claim in claims}
    return rows[rows["setup"] == rows["claim"].map(setups)]


def measure(claims: Sequence[Claim], bench: Bench, folder: Path, seeds: Sequence[int]) -> list[str]:
    """Makes all rows that `folder` lacks, seed by seed, because the images of a seed stay in memory.

    Returns:
        The names of claims that an error kept from a row.
    """
    marks = {"commit": code_commit(*SCRIPTS), "processor": processor(bench.device)}
    jobs = [(claim, seed) for seed in seeds for claim in claims if seed in claim.seeds]
    jobs = [(claim, seed) for claim, seed in jobs if not _is_there(folder, claim, seed)]
    for claim in dict.fromkeys(claim for claim, _ in jobs):
        if _is_of_another_device(folder, claim, marks["processor"]):
            print(f"{claim.name}: its rows are of another kind of device; left out with --device {bench.device}")
            jobs = [job for job in jobs if job[0] is not claim]
    failed: list[str] = []
    for i, (claim, seed) in enumerate(jobs):
        if _is_there(folder, claim, seed):  # another process was faster
            continue
        began = time.time()
        try:
            row = measured(bench, claim, seed)
        except CannotTrainError as error:
            row = {"problem": " ".join(str(error).split())}
        except (NotMeasuredError, NotReadyError) as error:
            print(f"{i + 1} of {len(jobs)}: {claim.name}, seed {seed}: not yet: {error}", flush=True)
            continue
        except ValueError as error:  # one row that is wrong does not end all others
            print(f"error: {claim.name}, seed {seed}: {error}", file=sys.stderr, flush=True)
            failed.append(claim.name)
            continue
        key = {"claim": claim.name, "seed": seed, "setup": setup_of(claim)}
        file_of(folder, claim.family).add({**key, **row, "row_s": round(time.time() - began, 2), **marks})
        print(f"{i + 1} of {len(jobs)}: {claim.name}, seed {seed}: {row.get('problem') or row['value']}", flush=True)
    return list(dict.fromkeys(failed))


def _is_there(folder: Path, claim: Claim, seed: int) -> bool:
    return len(file_of(folder, claim.family).find(claim=claim.name, seed=seed, setup=setup_of(claim))) > 0


def _is_of_another_device(folder: Path, claim: Claim, processor: str) -> bool:
    """Whether a claim has rows of a card and this is none, or the other way round: they are not compared."""
    rows = file_of(folder, claim.family).find(claim=claim.name, setup=setup_of(claim))
    return any(is_card(of_row) != is_card(processor) for of_row in rows["processor"])


def measured(bench: Bench, claim: Claim, seed: int) -> dict[str, float]:
    """Both sides, the value with its standard error and its degrees of freedom, and the CPU seconds of each side."""
    if claim.statistic:
        found = MEASURES[claim.statistic](bench.files, seed)
        return {"value": round(found.value, 6), "error": round(found.error, 6), "n_freedom": found.n_freedom}
    base, other = (bench.asked(arm, seed) for arm in claim.arms)
    sides = {"base": base.value(claim.metric), "other": other.value(claim.metric)}
    value, error = sides["other"] - sides["base"], class_error(base, other, claim.metric)
    return {
        **{name: round(number, 6) for name, number in {**sides, "value": value, "error": error}.items()},
        "n_freedom": n_freedom(base, claim.metric),
        "base_cpu_s": round(base.cpu_s, 2),
        "other_cpu_s": round(other.cpu_s, 2),
    }


def tell(claims: Sequence[Claim], rows: pd.DataFrame) -> None:
    """Prints a line for each claim that has two seeds; a verdict where it has all."""
    for claim in claims:
        if found := found_of(claim, rows):
            verdict = verdict_of(claim, found)
            print(f"{claim.name}: {found.mean:+.4f} ± {found.half:.4f}, expected {claim.expected}: {verdict}")


if __name__ == "__main__":
    sys.exit(run_to_the_end(main, "claims.py"))
