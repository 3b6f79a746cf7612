"""The index of `guie search`: a million random rows written, opened and asked; real photos indexed.

Each measurement runs in a process of its own.

Run     python tests/benchmarks/search.py > tests/benchmarks/search.md
            (about five minutes, 1 GB of disk in the temporary folder)
        python tests/benchmarks/search.py --n-rows 20000 --photos ""
            (seconds)
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from objectives_results import processor

from guie.machine import n_cores, peak_memory
from guie.run import PROJECT

DIM, PER_FOLDER, K = 64, 100, 10


def main() -> None:
    """Prints two tables in Markdown; with --measure, one measurement as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n-rows", type=int, default=1_000_000)
    parser.add_argument("--n-queries", type=int, default=1_000)
    parser.add_argument("--photos", default=str(PROJECT.parent / "shared/data/clothing"), help="'' leaves them out")
    parser.add_argument("--measure", choices=MEASURES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(MEASURES[arguments.measure](arguments)))
        return
    import faiss
    import torch

    words = " ".join(["python tests/benchmarks/search.py", *sys.argv[1:]])
    print(f"# The index of guie search\n\n`{words}`, {n_cores()} cores of {processor()},\ntorch {torch.__version__}, "
          f"faiss {faiss.__version__}. Memory is the peak of the process, with the pages of mapped shards, which the\n"
          "system takes back when it needs them.\n")  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        arguments.folder = Path(folder)
        print_rows(arguments)
        if arguments.photos:
            print_photos(arguments)


def print_rows(arguments: argparse.Namespace) -> None:
    """The index of random rows."""
    print(f"## {arguments.n_rows:,} random rows, {DIM}-d, the {K} nearest\n")
    print("| | s | CPU s | peak GB |\n|---|---|---|---|")
    for name, label in (
        ("write", "table and shards written"),
        ("nothing", "the process before it opens anything"),
        ("open", "opened"),
        ("one", "opened, and one query"),
        ("again", "one query of an index that is open (median of 20)"),
        ("near", "one query among the photos of a folder (median of 20)"),
        ("many", f"{arguments.n_queries:,} queries at once"),
    ):
        found = measured(name, arguments)
        times = f"{found['s']:.3f} | {found['cpu_s']:.3f}" if name != "nothing" else "– | –"
        print(f"| {label} | {times} | {found['gb']:.2f} |", flush=True)
    print()


def print_photos(arguments: argparse.Namespace) -> None:
    """Real photos, by the shipped ViT."""
    print("## Real photos, the shipped ViT at 224 px\n")
    print("| | photos | s | photos/s | CPU s | peak GB |\n|---|---|---|---|---|---|")
    for label in ("first start", "nothing has changed"):
        found = measured("photos", arguments)
        rate = f"{found['n_embedded'] / found['update_s']:.1f}" if found["n_embedded"] else ""
        costs = f"{found['s']:.1f} | {rate} | {found['cpu_s']:.1f} | {found['gb']:.2f}"
        print(f"| {label} | {found['n_photos']} | {costs} |", flush=True)


def measured(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """One measurement in a process of its own."""
    command = [
        *(sys.executable, __file__, "--measure", name, "--folder", str(arguments.folder)),
        *("--n-rows", str(arguments.n_rows), "--n-queries", str(arguments.n_queries), "--photos", arguments.photos),
    ]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=os.environ)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def timed(work: Callable[[], object], n: int = 1) -> dict[str, float]:
    """Seconds and CPU seconds of the work (the median of n), and the process' peak memory in GB."""
    seconds, cpu = [], []
    for _ in range(n):
        began, used = time.perf_counter(), cpu_seconds()
        work()
        seconds.append(time.perf_counter() - began)
        cpu.append(cpu_seconds() - used)
    return {"s": float(np.median(seconds)), "cpu_s": float(np.median(cpu)), "gb": peak_memory() / 1e9}


def cpu_seconds() -> float:
    """Of all threads of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def unit(n: int, seed: int) -> np.ndarray:
    """float32 [n, DIM], random directions."""
    rows = np.random.default_rng(seed).standard_normal((n, DIM), dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def write(arguments: argparse.Namespace) -> dict[str, float]:
    """Writes an index as an update does, of photos that are not there."""
    from guie.embed.search import Vectors
    from guie.search import writing
    from guie.search.embedder import EXPORTED, ModelFile
    from guie.search.store import Header

    n = arguments.n_rows
    names = [f"folder_{i // PER_FOLDER:06d}/photo_{i:08d}.jpg" for i in range(n)]
    digests = [f"{i:032x}" for i in range(n)]
    table = pd.DataFrame({"path": names, "label": "", "size": 1, "mtime_ns": 1, "digest": digests, "row": np.arange(n)})
    model = ModelFile(EXPORTED, "random", "", 0, dim=DIM)
    header = Header("/photos", "", "/photos", model, "", (), "2026-01-01T00:00:00+00:00")
    problems = pd.DataFrame({"path": ["x"], "reason": ["y"]})
    pool = Vectors((unit(n, 0),))
    arguments.folder.joinpath("index").mkdir()
    return timed(lambda: writing.write_generation(arguments.folder / "index", header, table, problems, pool))


def ask(arguments: argparse.Namespace) -> dict[str, float]:
    """Opens the index, and asks it as --measure says."""
    from guie.search.store import open_index

    place = arguments.folder / "index"
    queries = unit(arguments.n_queries, 1)
    nobody = np.empty(0, dtype=np.int64)

    def nearest(index: Any, n: int, rows: range | None = None) -> None:
        found = index.nearest(queries[:n], K, [nobody] * n, rows)
        assert all(len(near) == K for near in found)

    if arguments.measure == "nothing":
        return timed(lambda: None)
    if arguments.measure == "open":
        return timed(lambda: open_index(place))
    if arguments.measure == "one":
        return timed(lambda: nearest(open_index(place), 1))
    index = open_index(place)
    if arguments.measure == "many":
        return timed(lambda: nearest(index, arguments.n_queries))
    rows = index.rows_of(f"folder_{arguments.n_rows // PER_FOLDER // 2:06d}/") if arguments.measure == "near" else None
    nearest(index, 1, rows)
    return timed(lambda: nearest(index, 1, rows), n=20)


def photos(arguments: argparse.Namespace) -> dict[str, float]:
    """Indexes real photos, from loading the model on."""
    from guie.own.photos import read_photos
    from guie.search.embedder import load_given
    from guie.search.update import Changes, update

    folder = Path(arguments.photos)
    done: list[Changes] = []

    def work() -> None:
        embedder = load_given("shipped", "cpu")
        done.append(update(arguments.folder / "photos", read_photos(folder), folder, embedder)[1])

    found = timed(work)
    return found | {
        "n_photos": done[0].n_photos,
        "n_embedded": done[0].n_embedded,
        "update_s": done[0].seconds,
    }


MEASURES: dict[str, Callable[[argparse.Namespace], dict[str, float]]] = {
    "write": write,
    **dict.fromkeys(("nothing", "open", "one", "again", "near", "many"), ask),
    "photos": photos,
}

if __name__ == "__main__":
    main()
