"""PCA to 64-d of features on disk: ours against scikit-learn's IncrementalPCA, each in a process of its own.

Run     python tests/benchmarks/pca.py --rows 1000000 > tests/benchmarks/pca.md
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from pages import paragraph
from tqdm import tqdm

DIM, RANK, BLOCK = 64, 200, 20_000


def main() -> None:
    """Prints a table in Markdown; with a method, one measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument(
        "--their-rows",
        type=int,
        help="fewer for IncrementalPCA, which takes an hour for a million; it is linear in rows (default: all)",
    )
    parser.add_argument("--width", type=int, default=2304)
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path("/tmp"),
        help="where the file of features is made; 4.6 GB for a million rows",
    )
    parser.add_argument("--method", choices=METHODS, help=argparse.SUPPRESS)
    parser.add_argument("--result", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.method:
        measure(arguments)
        return
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        compare(arguments.rows, arguments.their_rows or arguments.rows, arguments.width, Path(folder))


def compare(rows: int, their_rows: int, width: int, folder: Path) -> None:
    """Ours on a quarter, half and all of the rows; both on as many as scikit-learn gets."""
    make_features(folder / "features.npy", rows, width)
    print(f"# PCA to {DIM}-d of {rows:,} x {width:,} float16 on disk\n")
    chosen = f" --their-rows {their_rows}" if their_rows != rows else ""
    told = f"""
    `python tests/benchmarks/pca.py --rows {rows}{chosen}`, {os.cpu_count()} cores, numpy {np.__version__}. Each runs in
    its own process. Memory is the largest that the process itself held (RssAnon; the pages of the file are in the
    kernel's cache). IncrementalPCA is fed by `partial_fit` with its default batch of five times the number of features,
    as float32.
    """
    print(f"{paragraph(told)}\n")
    print("| method | rows | s | us a row | peak memory, GB |\n|---|---|---|---|---|")
    found = {}
    for method, n in (
        *(("ours", n) for n in sorted({rows // 4, rows // 2, rows, their_rows})),
        ("IncrementalPCA", their_rows),
    ):
        result = folder / f"{method}-{n}.npz"
        command = [
            sys.executable,
            __file__,
            "--method",
            method,
            "--rows",
            str(n),
            "--folder",
            str(folder),
            "--result",
            str(result),
        ]
        subprocess.run(command, check=True)
        with np.load(result) as z:
            found[method, n] = dict(z)
        seconds = float(found[method, n]["seconds"])
        print(
            f"| {method} | {n:,} | {seconds:.1f} | {seconds / n * 1e6:.0f} | "
            f"{float(found[method, n]['memory']) / 1e9:.2f} |",
            flush=True,
        )
    ours, theirs = found["ours", their_rows], found["IncrementalPCA", their_rows]
    shared = np.linalg.norm(ours["components"] @ theirs["components"].T) ** 2 / DIM
    ratio, memory = theirs["seconds"] / ours["seconds"], ours["memory"] / theirs["memory"]
    differ = np.abs(ours["variance"] / theirs["variance"] - 1).max()
    told = f"""
    On the same {their_rows:,} rows it is {ratio:.1f} times as fast in {memory:.2f} of the memory. The two subspaces
    share {shared:.4f} of their {DIM} dimensions (1 is all). Ours is exact; IncrementalPCA forgets what it drops. The
    variance that is explained differs by {differ:.1e} at most.
    """
    print(f"\n{paragraph(told)}")


def make_features(path: Path, rows: int, width: int) -> None:
    """A spectrum that falls, noise, and a mean well above the spread, float16; the same for the same arguments."""
    rng = np.random.default_rng(0)
    mix = (
        rng.standard_normal((RANK, width), dtype=np.float32)
        * (np.arange(1, RANK + 1, dtype=np.float32) ** -0.5)[:, None]
    )
    mean = rng.uniform(5, 10, width).astype(np.float32)
    features = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=(rows, width))
    for first in tqdm(range(0, rows, BLOCK), desc="features", unit="block"):
        n = min(BLOCK, rows - first)
        block = rng.standard_normal((n, RANK), dtype=np.float32) @ mix
        block += 0.1 * rng.standard_normal((n, width), dtype=np.float32)
        features[first : first + n] = block + mean
    features.flush()


def ours(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Components and explained variance by `fit_pca`."""
    from guie.embed.pca import fit_pca

    pca = fit_pca(features, DIM)
    return pca.components_, pca.explained_variance_


def incremental(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same by scikit-learn, as its documentation has it for files larger than memory."""
    from sklearn.decomposition import IncrementalPCA

    pca = IncrementalPCA(DIM)
    size = 5 * features.shape[1]
    for first in tqdm(range(0, len(features) - DIM, size), desc="IncrementalPCA", unit="batch"):
        pca.partial_fit(features[first : first + size].astype(np.float32))
    return pca.components_, pca.explained_variance_


METHODS: dict[str, Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]] = {
    "ours": ours,
    "IncrementalPCA": incremental,
}


def measure(arguments: argparse.Namespace) -> None:
    """One method on the first rows; writes seconds, peak memory and what was found."""
    features = np.load(arguments.folder / "features.npy", mmap_mode="r")[: arguments.rows]
    is_over, peak = threading.Event(), [0]

    def watch() -> None:
        while not is_over.wait(0.02):
            peak[0] = max(peak[0], own_memory())

    watcher = threading.Thread(target=watch)
    watcher.start()
    METHODS[arguments.method](features[: 2 * DIM])  # imports, and the threads of the linear algebra
    began = time.time()
    components, variance = METHODS[arguments.method](features)
    seconds = time.time() - began
    is_over.set()
    watcher.join()
    np.savez(arguments.result, seconds=seconds, memory=peak[0], components=components, variance=variance)


def own_memory() -> int:
    """Resident bytes that are this process' own (Linux)."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    main()
