"""scale.md: the measured rates of scale.csv, carried to 100 million and a billion images by the arithmetic below."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pages import paragraph
from scale_parts import DIM, WIDTH
from scale_words import CARRIED, HELD, LIMITS, RATES, hand_over, told_measured
from scipy.optimize import nnls
from story_watch import Rows

HERE = Path(__file__).resolve().parent
TARGETS = (100_000_000, 1_000_000_000)
MEMORY_GB = 64.0  # of the machine whose limits are told
DAY_S = 86_400.0
DISK_GB_S = 3.0  # of a fast disk
COMPARED = ("pairs", "twins")  # keys of steps that compare each image with each
N_NEAR = 10  # neighbours that guie look keeps of each photo


@dataclass(frozen=True)
class Law:
    """Seconds for n images: `linear` n + `square` n^2."""

    linear: float
    square: float = 0.0

    def seconds(self, n: float) -> float:
        return self.linear * n + self.square * n**2

    def n_in(self, seconds: float) -> float:
        """How many images take so long."""
        if not self.square:
            return seconds / self.linear
        return (math.sqrt(self.linear**2 + 4 * self.square * seconds) - self.linear) / (2 * self.square)


@dataclass(frozen=True)
class Step:
    """What a step costs.

    Attributes:
        name: For people.
        law: Its time on the measured machine.
        is_shared_out: Whether several machines can share the work as it is.
        memory: Bytes an image that one process holds; 0 where memory does not grow.
        disk: Bytes an image that it leaves.
        source: Where the numbers come from.
    """

    name: str
    law: Law
    is_shared_out: bool
    memory: float
    disk: float
    source: str


def page(rows: Rows, millions: Sequence[float]) -> str:
    """The page. All figures come from the rows, and two from pages beside this script."""
    steps = steps_of(rows, millions)
    anyone = rows["look"]
    blocks = [
        f"# Scale: {int(anyone['n']):,} images and {int(rows['rows write']['n']):,} rows, a billion by arithmetic",
        paragraph(f"`python tests/benchmarks/scale.py --out FOLDER`, commit {anyone['commit']}, {anyone['machine']}; "
                  "no accelerator. [scale.csv](scale.csv) has every row."),
        "## Measured",
        measured(rows),
        paragraph(told_measured(rows)),
        "## Rates",
        rates(steps),
        paragraph(RATES),
        *(part for n in TARGETS for part in (f"## {n:,} images, by arithmetic", carried(steps, n))),
        paragraph(CARRIED.format(gb=4 * DIM, seconds=4 * DIM / DISK_GB_S, disk=DISK_GB_S)),
        "## What breaks first",
        paragraph(LIMITS.format(memory=f"{MEMORY_GB:.0f}")),
        limits(steps),
        "## Where another engine takes over",
        hand_over(),
        "## A card in place of a processor",
        paragraph(cards(steps)),
    ]  # fmt: skip
    return "\n\n".join(block.strip() for block in blocks) + "\n"


def steps_of(rows: Rows, millions: Sequence[float]) -> dict[str, Step]:
    """Each step's law, from its rows."""
    listed = slope(rows, ["list of packed, a tenth", "list of packed"])
    return {
        **steps_of_data(rows, millions),
        "features": Step("features, shipped ViT, small drawn images", linear(rows, "index"), True, listed, 4.0 * WIDTH,
                         "row *index*"),
        "train": Step("guie train, head only, 30 epochs", linear(rows, "train"), False, listed, 4.0 * WIDTH,
                      "row *train*"),
        "pca": Step(f"PCA from {WIDTH} numbers", linear(rows, "pca"), False, 0.0, 0.0, "row *pca*"),
        **steps_of_search(rows, listed),
    }  # fmt: skip


def steps_of_data(rows: Rows, millions: Sequence[float]) -> dict[str, Step]:
    """Doors 01 to 03."""
    n_cores = int(rows["look"]["machine"].split()[0])
    packed = rows.number("bytes of packed", "n_bytes") / rows.number("bytes of packed", "n")
    merges = [f"merge {m}" for m in millions]
    twins = [f"duplicates {m}" for m in millions]
    small = Law(linear(rows, "pack 0.19").linear / n_cores)
    large = Law(linear(rows, "pack 12.0").linear / n_cores)
    where = "`data_prep.py`"
    return {
        "merge": Step("lists merged, balanced, split (door 02)", law_of(rows, merges), False, slope(rows, merges), 0.0,
                      where),
        "pack small": Step("packing, photos of 503 x 377", small, True, 0.0, packed, f"{where}, all cores"),
        "pack large": Step("packing, photos of 12 megapixels", large, True, 0.0, packed, f"{where}, all cores"),
        "twins": Step("near-duplicates", law_of(rows, twins), False, slope(rows, twins), 0.0, where),
    }  # fmt: skip


def steps_of_search(rows: Rows, listed: float) -> dict[str, Step]:
    """guie look and guie search; `listed` is bytes an image of the list of packed images."""
    n_rows = rows.number("rows write", "n")
    looked = 3 * 4 * WIDTH + 12 * N_NEAR + listed  # features as read, joined and normalised; int64 and float32
    pairs = Law(0.0, rows.number("pairs") / rows.number("pairs", "n") ** 2)
    many = Law(rows.number("rows many") / rows.number("rows many", "n") / n_rows)
    disk = rows.number("rows write", "n_bytes") / n_rows
    written = grown(rows, "write")
    opened = grown(rows, "open")
    return {
        "pairs": Step("guie look: each photo asks all others", pairs, False, looked, 0.0, "row *pairs*"),
        "write": Step("index written", linear(rows, "rows write"), False, written, disk, "row *rows write*"),
        "one": Step("one exact query, index just opened", Law(rows.number("rows one") / n_rows), False, opened, 0.0,
                    "row *rows one*"),
        "many": Step("a query among many at once", many, False, opened, 0.0, "row *rows many*"),
    }  # fmt: skip


def linear(rows: Rows, step: str) -> Law:
    """A straight line through the origin and the step's row."""
    return Law(rows.number(step) / rows.number(step, "n"))


def grown(rows: Rows, name: str) -> float:
    """Bytes of memory for each row of the index, beside those of the process."""
    more = rows.number(f"rows {name}", "peak_gb") - rows.number("rows nothing", "peak_gb")
    return max(0.0, more * 1e9 / rows.number("rows write", "n"))


def law_of(rows: Rows, steps: Sequence[str]) -> Law:
    """Least squares of a n + b n^2 with a, b >= 0, of relative errors."""
    n = np.array([rows.number(step, "n") for step in steps])
    seconds = np.array([rows.number(step) for step in steps])
    (a, b), _ = nnls(np.stack([n, n**2], axis=1) / seconds[:, None], np.ones(len(n)))
    return Law(float(a), float(b))


def slope(rows: Rows, steps: Sequence[str]) -> float:
    """Bytes of memory for one more image: the slope of a straight line through the peaks."""
    n = [rows.number(step, "n") for step in steps]
    return max(0.0, float(np.polyfit(n, [rows.number(step, "peak_gb") * 1e9 for step in steps], 1)[0]))


def measured(rows: Rows) -> str:
    """The table of all rows."""
    lines = ["| part | images or rows | s | CPU s | peak GB | disk, MB | load |", "|---|---|---|---|---|---|---|"]
    for step, row in rows.by_step.items():
        disk = int(row["n_bytes"]) / 1e6
        gigabytes = rows.number(step, "peak_gb")
        cells = (
            step,
            f"{int(row['n']):,}",
            figure(rows.number(step)),
            figure(rows.number(step, "cpu_s")),
            f"{gigabytes:.2f}" if gigabytes else "",
            f"{disk:.1f}" if disk else "",
            row["load"],
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def rates(steps: dict[str, Step]) -> str:
    lines = [
        "| step | images/s, for a million | memory, bytes an image | disk, bytes an image | shared out | from |",
        "|---|---|---|---|---|---|",
    ]
    for step in steps.values():
        rate = 1e6 / step.law.seconds(1e6)
        shared = "yes" if step.is_shared_out else "no"
        sizes = f"{step.memory:,.0f} | {step.disk:,.0f}"
        lines.append(f"| {step.name} | {figure(rate)} | {sizes} | {shared} | {step.source} |")
    return "\n".join(lines)


def carried(steps: dict[str, Step], n: int) -> str:
    lines = ["| step | on this machine | machines like this for one day | memory of a process, GB | disk, GB |",
             "|---|---|---|---|---|"]  # fmt: skip
    for step in steps.values():
        seconds = step.law.seconds(n)
        needed = math.ceil(seconds / DAY_S)
        n_machines = f"{needed:,}" if step.is_shared_out or needed == 1 else "not shared out"
        memory = f"{step.memory * n / 1e9:,.1f}" if step.memory else "constant"
        disk = f"{step.disk * n / 1e9:,.0f}" if step.disk else ""
        lines.append(f"| {step.name} | {duration(seconds)} | {n_machines} | {memory} | {disk} |")
    return "\n".join(lines)


def limits(steps: dict[str, Step]) -> str:
    """The limits of time and memory, smallest first."""
    found = []
    for key, step in steps.items():
        if step.memory and key in HELD:
            found.append((MEMORY_GB * 1e9 / step.memory, step.name, f"memory: {HELD[key]}"))
        if not step.is_shared_out and key not in ("one", "many"):
            why = "time: each is compared with each" if key in COMPARED else "time: one process does it"
            found.append((step.law.n_in(DAY_S), step.name, why))
    found.append((steps["one"].law.n_in(1.0), steps["one"].name, "time: over a second, since all rows are read"))
    found.append((steps["many"].law.n_in(0.1), steps["many"].name, "time: over a tenth of a second each"))
    lines = ["| images | step | what ends there |", "|---|---|---|"]
    lines += [f"| {figure(n)} | {name} | {why} |" for n, name, why in sorted(found)]
    return "\n".join(lines)


def cards(steps: dict[str, Step]) -> str:
    """The rates of larger networks, from the pages beside this one."""
    vit_h = float(cell("full_size.md", r"\| infer \| 224 ", 5)) / float(cell("full_size.md", r"\| infer \| 224 ", 4))
    on_card = float(cell("cards.md", r"\| ViT-B/32, features", 2).replace(",", ""))
    billion = TARGETS[-1]
    return f"""
    The shipped ViT is small. ViT-H/14 takes {vit_h:.2f} s an image on this kind of processor
    ([full_size.md](full_size.md)): {duration(vit_h * billion)} for a billion images on one machine, so nobody does that
    there. ViT-B/32 runs at {on_card:,.0f} images/s on one H200, reading photographs of 1,200 px included
    ([cards.md](cards.md)): {duration(billion / on_card)} on one card for a billion images,
    {math.ceil(billion / on_card / DAY_S)} cards for a day. There the decoding limits: {on_card:,.0f} images/s of 12
    megapixels are {on_card * steps["pack large"].law.linear:,.0f} machines like the measured one, so pack once
    (door 03) and extract from small images.
    """


def cell(page_name: str, start: str, column: int) -> str:
    """A cell of a table in a page beside this script.

    Raises:
        SystemExit: the page has no such row.
    """
    text = (HERE / page_name).read_text(encoding="utf-8")
    found = re.search(rf"^{start}.*$", text, re.MULTILINE)
    if not found:
        raise SystemExit(f"error: {page_name} has no row that starts with {start}; scale_page.py reads it")
    return re.sub(r"[^\d.,]", "", found[0].strip("|").split("|")[column])


def figure(value: float) -> str:
    """Two or three digits: 1,200, 35, 3.5, 12 million."""
    for size, word in ((1e12, " trillion"), (1e9, " billion"), (1e6, " million")):
        if value >= size:
            return f"{value / size:.3g}{word}"
    return f"{float(f'{value:.3g}'):,g}" if value >= 1 else f"{value:.2g}"


def duration(seconds: float) -> str:
    """In the largest unit of which there are two."""
    for size, word in ((365.25 * DAY_S, "years"), (DAY_S, "days"), (3600.0, "hours"), (60.0, "minutes")):
        if seconds >= 2 * size:
            return f"{figure(seconds / size)} {word}"
    return f"{figure(seconds)} s"
