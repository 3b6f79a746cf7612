"""Exact search and retrieval metrics beside bare faiss and pytorch-metric-learning.

Each measurement runs in a process of its own.

Run     python tests/benchmarks/evaluate.py > tests/benchmarks/evaluate.md
            (about 15 minutes, 6 GB of disk in the temporary folder)
        python tests/benchmarks/evaluate.py --n-index 20000 --n-sharded 200000
            (a minute)
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pages import paragraph

DIM, N_SHARDS = 64, 20
CLASSES = (1_000, 5_000, 20_000)


def main() -> None:
    """Prints three tables in Markdown; with --measure, one measurement as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n-queries", type=int, default=5_000)
    parser.add_argument("--n-index", type=int, default=200_000)
    parser.add_argument("--n-sharded", type=int, default=10_000_000)
    parser.add_argument("--measure", choices=MEASURES, help=argparse.SUPPRESS)
    parser.add_argument("--n-classes", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(MEASURES[arguments.measure](arguments)))
        return
    import faiss
    import torch

    words = " ".join(["python tests/benchmarks/evaluate.py", *sys.argv[1:]])
    told = f"""
    `{words}`, {os.cpu_count()} cores, no GPU, torch {torch.__version__}, faiss {faiss.__version__}. Extra memory is the
    peak above that of the embeddings (for shards: above nothing), without pages of mapped files, which the system takes
    back when it needs them.
    """
    print(f"# Exact search and metrics, {DIM}-d\n\n{paragraph(told)}\n")
    print_search(arguments)
    print_metrics(arguments)
    print_shards(arguments)


def print_search(arguments: argparse.Namespace) -> None:
    """Ours against bare faiss."""
    print(f"## The five nearest of {arguments.n_queries:,} queries among {arguments.n_index:,}\n")
    print("Best of five, taken in turn. Ours adds the rule for ties: exact similarities, the lower row first.\n")
    print("| | s | extra GiB | share of equal neighbours |\n|---|---|---|---|")
    found = measured("search", arguments)
    print(f"| faiss IndexFlatIP | {found['faiss_s']:.2f} | {found['faiss_gib']:.2f} | |")
    print(f"| ours | {found['ours_s']:.2f} | {found['ours_gib']:.2f} | {found['equal']:.5f} |")
    print(
        f"| ratio | {found['ours_s'] / found['faiss_s']:.2f} | {found['ours_gib'] / found['faiss_gib']:.2f} | |\n",
        flush=True,
    )


def print_metrics(arguments: argparse.Namespace) -> None:
    """Ours against AccuracyCalculator."""
    print(f"## P@1, R-Precision and MAP@R of {arguments.n_queries:,} queries among {arguments.n_index:,}\n")
    print('PML: AccuracyCalculator(k="max_bin_count"), which knows no other k that gives MAP@R.\n')
    print(
        "| classes | PML: s | ours: s | ratio | PML: extra GiB | ours: extra GiB | ratio | largest difference of the "
        "three |\n|---|---|---|---|---|---|---|---|"
    )
    for n_classes in CLASSES:
        theirs, ours = (measured(name, arguments, n_classes) for name in ("pml", "ours"))
        differ = max(abs(a - b) for a, b in zip(theirs["scores"], ours["scores"], strict=True))
        seconds, memory = (
            f"{theirs['s']:.2f} | {ours['s']:.2f} | {theirs['s'] / ours['s']:.1f}",
            f"{theirs['gib']:.2f} | {ours['gib']:.2f}",
        )
        print(
            f"| {n_classes:,} | {seconds} | {memory} | {theirs['gib'] / ours['gib']:.1f} | {differ:.0e} |", flush=True
        )
    print()


def print_shards(arguments: argparse.Namespace) -> None:
    """Ours from shards on disk, in both precisions, against faiss with everything in memory."""
    gib = arguments.n_sharded * DIM * 4 / 2**30
    print(
        f"## The five nearest of {arguments.n_queries:,} queries among {arguments.n_sharded:,}, in {N_SHARDS} shards "
        "on disk\n"
    )
    print("faiss takes all vectors into memory first, which is told apart; ours reads the shards while it searches.\n")
    print("| | loading, s | search, s | extra GiB | share of neighbours equal to faiss' |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        for kind in ("float32", "float16"):
            folder = Path(name) / kind
            write_shards(folder, arguments.n_sharded, kind)
        whole = measured("whole", arguments, folder=Path(name) / "float32")
        print(
            f"| faiss IndexFlatIP, float32, all {gib:.1f} GiB in memory | {whole['load_s']:.1f} | {whole['s']:.1f} | "
            f"{whole['gib']:.2f} | |",
            flush=True,
        )
        for kind in ("float32", "float16"):
            found = measured("shards", arguments, folder=Path(name) / kind)
            equal = np.mean(np.array(found["rows"]) == np.array(whole["rows"]))
            print(
                f"| ours, {kind} shards | in the search | {found['s']:.1f} | {found['gib']:.2f} | {equal:.5f} |",
                flush=True,
            )
    print(
        "\nfloat16 rounds the embeddings, so that some neighbours are others; each search is exact for what is in its "
        "files."
    )


def measured(
    name: str, arguments: argparse.Namespace, n_classes: int = 0, folder: Path | None = None
) -> dict[str, Any]:
    """One measurement in a process of its own."""
    options = [
        "--measure",
        name,
        "--n-queries",
        arguments.n_queries,
        "--n-index",
        arguments.n_index,
        "--n-classes",
        n_classes,
    ]
    options += ["--folder", folder] if folder else []
    done = subprocess.run([sys.executable, __file__, *map(str, options)], check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


def unit(n: int, seed: int, labels: np.ndarray | None = None) -> np.ndarray:
    """float32 [n, DIM] unit vectors; of one class they lie together."""
    from guie.embed.search import l2_normalised

    values = np.random.default_rng(seed).standard_normal((n, DIM), dtype=np.float32)
    if labels is not None:
        values += (
            0.8 * np.random.default_rng(99).standard_normal((int(labels.max()) + 1, DIM), dtype=np.float32)[labels]
        )
    return l2_normalised(values)


def write_shards(folder: Path, n: int, kind: str) -> None:
    """Shards of the same vectors, in either precision."""
    folder.mkdir()
    for i, size in enumerate(np.diff(np.linspace(0, n, N_SHARDS + 1).astype(int))):
        np.save(folder / f"{i:03}.npy", unit(int(size), 100 + i).astype(kind))


def measure_search(arguments: argparse.Namespace) -> dict[str, Any]:
    """Both in one process, in turn, so that they meet the same machine."""
    import faiss

    from guie.embed.search import search, vectors

    queries, index = unit(arguments.n_queries, 0), unit(arguments.n_index, 1)

    def bare() -> np.ndarray:
        flat = faiss.IndexFlatIP(DIM)
        flat.add(index)
        return flat.search(queries, 5)[1]

    def ours() -> np.ndarray:
        return search(queries, vectors(index), 5)[0]

    timed(bare)  # the first start of the threads is nobody's
    both = [(timed(bare), timed(ours)) for _ in range(5)]
    theirs, mine = (min((pair[i] for pair in both), key=lambda run: run[1]) for i in (0, 1))
    memory = [max(pair[i][2] for pair in both) for i in (0, 1)]
    equal = float((theirs[0] == mine[0]).mean())
    return {"faiss_s": theirs[1], "ours_s": mine[1], "faiss_gib": memory[0], "ours_gib": memory[1], "equal": equal}


def measure_metrics(arguments: argparse.Namespace) -> dict[str, Any]:
    """Precision at 1, R-precision and MAP@R of one library."""
    rng = np.random.default_rng(2)
    asked, labels = (rng.integers(arguments.n_classes, size=n) for n in (arguments.n_queries, arguments.n_index))
    queries, index = unit(arguments.n_queries, 0, asked), unit(arguments.n_index, 1, labels)
    if arguments.measure == "pml":
        import torch
        from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator

        names = ("precision_at_1", "r_precision", "mean_average_precision_at_r")
        calculator = AccuracyCalculator(include=names, k="max_bin_count", device=torch.device("cpu"))
        tensors = [torch.from_numpy(array) for array in (queries, asked, index, labels)]
        scores, seconds, gib = timed(lambda: calculator.get_accuracy(*tensors))
        return {"s": seconds, "gib": gib, "scores": [float(scores[name]) for name in names]}
    from guie.embed.search import vectors
    from guie.evaluate.metrics import map_at_r, r_precision, recall_at
    from guie.evaluate.ranks import ByLabel, ranks_within

    def ours() -> list[float]:
        ranks = ranks_within(queries, vectors(index), ByLabel(asked, labels), 1, is_quiet=True)
        return [float(np.nanmean(values)) for values in (recall_at(ranks, 1), r_precision(ranks), map_at_r(ranks))]

    found, seconds, gib = timed(ours)
    return {"s": seconds, "gib": gib, "scores": found}


def measure_shards(arguments: argparse.Namespace) -> dict[str, Any]:
    """Our search of a folder."""
    from guie.embed.search import search, vectors
    from guie.evaluate.embedding_files import open_embeddings

    queries = unit(arguments.n_queries, 0)
    rows, seconds, gib = timed(lambda: search(queries, vectors(open_embeddings(arguments.folder)), 5)[0])
    return {"s": seconds, "gib": gib, "rows": rows.tolist()}


def measure_whole(arguments: argparse.Namespace) -> dict[str, Any]:
    """Bare faiss on the same folder: loading and searching, each timed."""
    import faiss

    queries, flat = unit(arguments.n_queries, 0), faiss.IndexFlatIP(DIM)

    def load() -> None:
        for path in sorted(arguments.folder.glob("*.npy")):
            flat.add(np.load(path))

    _, load_s, load_gib = timed(load)
    rows, seconds, gib = timed(lambda: flat.search(queries, 5)[1])
    return {"load_s": load_s, "s": seconds, "gib": load_gib + gib, "rows": rows.tolist()}


def timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """What it returns, its seconds, and the peak of its own memory (Linux: RssAnon, looked at every 5 ms) in GiB."""
    stop, before = threading.Event(), own_memory()
    peak = [before]

    def watch() -> None:
        while not stop.wait(0.005):
            peak[0] = max(peak[0], own_memory())

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.perf_counter()
    result = work()
    seconds = time.perf_counter() - began
    stop.set()
    watcher.join()
    return result, seconds, peak[0] - before


def own_memory() -> float:
    """GiB of this process that no file backs."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) / 2**20


MEASURES: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "search": measure_search,
    "pml": measure_metrics,
    "ours": measure_metrics,
    "shards": measure_shards,
    "whole": measure_whole,
}


if __name__ == "__main__":
    main()
