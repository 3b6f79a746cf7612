"""Data preparation at the scale of all the winners' sets together.

Draws up a catalogue of the real size, 5.5 million rows of 350,000 classes in nine sources (no images: lists only), and
measures, each in a process of its own: merging, balancing and splitting it (door 02); finding its near-duplicates among
random hashes, with faiss' multi-index hashing beside it on a sample. Then packing of photographs against the loop that
people write.

Run     python tests/benchmarks/data_prep.py > tests/benchmarks/data_prep.md
Takes   some minutes on two cores
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from guie.data.balance import merge_and_balance
from guie.data.duplicates import MAX_BITS, near_pairs
from guie.data.manifest import write_manifest
from guie.data.shards import as_jpeg, small_image
from guie.machine import n_cores, peak_memory
from guie.recipe import (
    HEAD,
    Data,
    Embed,
    Limit,
    Member,
    Model,
    Optim,
    Recipe,
    Setting,
    Source,
    Stage,
    Stages,
    Start,
)
from guie.run import Run

# Rows and classes: the sizes of data_prep/README.md, the last ones rounded so that the sum is 5.5 million of 350,000
# classes.
SIZES = {
    "gldv2": (4_132_914, 203_094),
    "products10k": (141_931, 9_691),
    "shopee": (32_412, 11_011),
    "met": (397_121, 60_000),
    "c2s": (239_557, 33_881),
    "sop": (120_053, 22_634),
    "rp2k": (188_724, 1_074),
    "inshop": (52_712, 7_982),
    "rest": (194_576, 633),
}
SHARES = (0.5, 1.5, 2.5, 3.5, 4.5, 5.5)  # million rows


def main() -> None:
    """Prints a table in Markdown."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--part", help="one measurement; without it each is started in a process of its own")
    arguments = p.parse_args()
    if arguments.part:
        name, _, size = arguments.part.partition(":")
        globals()[name](float(size))
        return
    total = sum(rows for rows, _ in SIZES.values())
    print(f"# Data preparation\n\n`python tests/benchmarks/data_prep.py`, {n_cores()} cores, no GPU.\n")
    print(
        f"## Doors 01 and 02 without the images: {total:,} rows, {sum(n for _, n in SIZES.values()):,} classes, nine "
        "sources\n"
    )
    print(
        "| million rows | write manifests, s | merge, balance, split (door 02), s | peak memory, GiB "
        "|\n|---|---|---|---|"
    )
    seconds = [float(_measured(f"merging:{share}").split("|")[3]) for share in SHARES]
    plot(SHARES, seconds, Path(__file__).with_suffix(".svg"))
    print("\n![seconds of door 02 by million rows](data_prep.svg)")
    print("\n## Near-duplicates among random 64-bit hashes, at most four bits apart\n")
    print(
        "| million hashes | near_pairs, s | peak memory, GiB | faiss IndexBinaryMultiHash, three bits: s, from 32,768 "
        "queries |\n|---|---|---|---|"
    )
    for share in SHARES:
        _measured(f"hashing:{share}")
    print("\n## Packing to a shorter side of 320 px\n")
    print(
        "| photographs | open, resize, save: images/s a core | ours: images/s a core | ratio | mean difference to an "
        "antialiased reference, of 255 |"
    )
    print("|---|---|---|---|---|")
    for pixels in (12.0, 0.19):
        _measured(f"packing:{pixels}")


def _measured(part: str) -> str:
    line = (
        subprocess.run([sys.executable, __file__, "--part", part], check=True, capture_output=True, text=True)
        .stdout.strip()
        .splitlines()[-1]
    )
    print(line, flush=True)
    return line


def plot(x: Sequence[float], y: Sequence[float], path: Path) -> None:
    """The points, and the straight line through them by least squares."""
    slope, start = np.polyfit(x, y, 1)
    left, bottom, width, height = 60, 260, 420, 220
    right, top = max(x) * 1.05, max(y) * 1.1

    def at(a: float, b: float) -> tuple[float, float]:
        return left + a / right * width, bottom - b / top * height

    parts = [f'<circle cx="{cx:.1f}" cy="{cy:.1f}" r="4" fill="#0969da"/>' for cx, cy in map(at, x, y)]
    (x0, y0), (x1, y1) = at(0, start), at(right, start + slope * right)
    parts.append(f'<line x1="{x0:.1f}" y1="{y0:.1f}" x2="{x1:.1f}" y2="{y1:.1f}" stroke="#8db9e8"/>')
    parts += [f'<path d="M{left} {bottom - height}V{bottom}H{left + width}" fill="none" stroke="#57606a"/>']
    parts += [f'<text x="{at(a, 0)[0]:.1f}" y="{bottom + 18}" text-anchor="middle">{a:g}</text>' for a in x]
    parts += [
        f'<text x="{left - 8}" y="{at(0, b)[1] + 4:.1f}" text-anchor="end">{b}</text>'
        for b in range(0, int(top) + 1, 10)
    ]
    parts.append(
        f'<text x="{left + width / 2}" y="{bottom + 38}" text-anchor="middle">million rows; {slope:.1f} s for '
        "each</text>"
    )
    parts.append(f'<text x="{left}" y="{bottom - height - 10}">seconds of door 02</text>')
    head = (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 500 310" width="500" height="310" '
        'font-family="sans-serif" font-size="12" fill="#24292f">'
    )
    path.write_text(f'{head}<rect width="100%" height="100%" fill="white"/>{"".join(parts)}</svg>\n')


def _gigabytes() -> float:
    return peak_memory() / 2**30


def merging(millions: float) -> None:
    """Door 02 on so many rows, the sources in proportion."""
    sources = tuple(Source(name, "class_folders", name, f"domain{i % 4}") for i, name in enumerate(SIZES))
    data = Data(
        sources,
        min_per_class=3,
        max_per_class=100,
        fill_per_class=20,
        val_class_share=0.1,
        limits=(Limit("rest", n_images=10**6),),
    )
    stage = Stage(
        "s1",
        trains="head",
        image_px=32,
        start=Start(fresh=HEAD),
        optim=Optim(n_epochs=1, batch_size=4, lr=1e-3),
    )
    embed = Embed((Setting("a", (Member("s1", 32),)),))
    recipe = Recipe("scale", data, Model("timm", "x"), Stages(head=(stage,)), embed)
    with tempfile.TemporaryDirectory() as folder:
        run = Run(recipe.validate(), Path(folder), Path(folder) / "out")
        with ProcessPoolExecutor(
            1, mp_context=multiprocessing.get_context("spawn")
        ) as pool:  # its memory is not counted
            seconds = pool.submit(write_catalogue, run, millions).result()
        started = time.time()
        merge_and_balance(run)
        print(f"| {millions} | {seconds:.1f} | {time.time() - started:.1f} | {_gigabytes():.2f} |")


def write_catalogue(run: Run, millions: float) -> float:
    """The manifests of all sources; the seconds that writing took."""
    share, rng, seconds = millions * 1e6 / sum(rows for rows, _ in SIZES.values()), np.random.default_rng(0), 0.0
    for source in run.recipe.data.sources:
        n, n_classes = (max(2, int(value * share)) for value in SIZES[source.name])
        labels = np.sort(
            np.minimum((n_classes * rng.random(n) ** 2).astype(np.int64), n_classes - 1)
        )  # few large classes, many small
        ids = np.char.mod(f"{source.name}/%016x", np.arange(n))
        table = pd.DataFrame({"image_id": ids, "path": np.char.add(ids, ".jpg"), "source_label": labels.astype(str)})
        table = table.assign(source=source.name, domain=source.domain, split="train", group="")
        if source.kind == "gldv2":  # as its reader names them
            table["group"] = np.char.add("shared:", ids)
        started = time.time()
        write_manifest(run.folder(1) / f"{source.name}.parquet", table)
        seconds += time.time() - started
    return seconds


def hashing(millions: float) -> None:
    """`near_pairs` on random hashes, one in a hundred with a neighbour; faiss on a sample of the queries, scaled up."""
    import faiss

    n, rng = int(millions * 1e6), np.random.default_rng(0)
    hashes = rng.integers(0, 2**64, n, dtype=np.uint64)
    chosen = rng.choice(n, n // 100, replace=False)
    hashes[chosen[1:]] = hashes[chosen[:-1]] ^ np.uint64(0b1011)
    hashes = np.unique(hashes)
    started = time.time()
    pairs, bits = near_pairs(hashes, MAX_BITS)
    seconds, memory = time.time() - started, _gigabytes()
    codes = hashes.astype(">u8").view(np.uint8).reshape(-1, 8)
    started = time.time()
    index = faiss.IndexBinaryMultiHash(64, 4, 16)
    index.nflip = 0
    index.add(codes)
    added, n_queries = time.time() - started, 32768
    started = time.time()
    limits, _, found = index.range_search(codes[:n_queries], 4)
    scaled = (time.time() - started) * len(codes) / n_queries
    first = np.repeat(np.arange(n_queries), np.diff(limits.astype(np.int64)))
    theirs = {(int(i), int(j)) for i, j in zip(first, found, strict=True) if i < j}
    ours = {(int(i), int(j)) for (i, j), b in zip(pairs, bits, strict=True) if b <= 3 and i < n_queries}
    assert ours == theirs, "both find the same pairs"
    print(f"| {millions} | {seconds:.1f} | {memory:.2f} | {added + scaled:.0f} |")


def packing(megapixels: float) -> None:
    """One core: PIL's open, resize, save, against ours, on the same photographs."""
    width = round((megapixels * 1e6 * 4 / 3) ** 0.5)
    size, rng = (width, width * 3 // 4), np.random.default_rng(0)
    n = 8 if megapixels > 1 else 200
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for i in range(n):
            coarse = Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)).resize(
                size, Image.Resampling.BICUBIC
            )
            noisy = np.asarray(coarse, np.int16) + rng.normal(0, 6, (size[1], size[0], 3)).astype(np.int16)
            paths.append(Path(folder) / f"{i}.jpg")
            Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(paths[-1], quality=90)

        def loop(path: Path) -> bytes:
            image = Image.open(path).convert("RGB")
            scale = 320 / min(image.size)
            image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
            buffer = io.BytesIO()
            image.save(buffer, "JPEG", quality=95)
            return buffer.getvalue()

        rates = {"loop": 0.0, "ours": 0.0}
        for _ in range(3):  # in turn; the best of three
            for name, function in (("loop", loop), ("ours", lambda path: as_jpeg(small_image(path, 320)[0], 95))):
                started = time.time()
                for path in paths:
                    function(path)
                rates[name] = max(rates[name], n / (time.time() - started))
        differences = []
        for path in paths:
            ours = small_image(path, 320)[0]
            exact = Image.open(path).convert("RGB").resize(ours.shape[1::-1], Image.Resampling.BICUBIC)
            differences.append(np.abs(np.asarray(ours, np.int16) - np.asarray(exact, np.int16)).mean())
    text = f"{megapixels:g} megapixels" if megapixels > 1 else f"{width} x {size[1]}"
    print(
        f"| {text} | {rates['loop']:.1f} | {rates['ours']:.1f} | {rates['ours'] / rates['loop']:.2f} | "
        f"{np.mean(differences):.2f} |"
    )


if __name__ == "__main__":
    main()
