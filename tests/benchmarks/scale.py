"""guie on 20,000 images and on a million rows, and what follows for 100 million and a billion images.

Each measurement runs in a process of its own and is a row of OUT/scale.csv. Parts that have a row of the same commit
and machine are skipped, so the script may be broken off and started again; a part that was broken off begins anew. When
all are there it writes scale.md and scale.csv (--page); the arithmetic is in scale_page.py.

Run, about an hour on two cores, 8 GB of disk:
     python tests/benchmarks/scale.py --out /tmp/scale
Run, some minutes:
     python tests/benchmarks/scale.py --small --out /tmp/small --page /tmp/small/scale.md
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from story_watch import Cost, Rows, check_places, watched

from guie.run import PROJECT

HERE = Path(__file__).resolve().parent
N_VIEWS = 20
IMAGE_PX = 96  # drawn images are small, so that drawing 20,000 takes minutes


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes:
        n_images: Drawn images.
        n_queries: Photos that are searched with.
        n_rows: Random rows of the index, of features for PCA, and of a list of packed images.
        n_pairs: Rows of which each is compared with each, as in guie look.
        millions: Rows of doors 01 and 02, and hashes.
    """

    n_images: int = 20_000
    n_queries: int = 1_000
    n_rows: int = 1_000_000
    n_pairs: int = 50_000
    millions: tuple[float, ...] = (0.5, 2.5, 5.5)


SMALL = Sizes(n_images=200, n_queries=20, n_rows=50_000, n_pairs=2_000, millions=(0.05, 0.1, 0.2))


@dataclass(frozen=True)
class Place:
    """Where the parts work, how much they do, and where they note it."""

    out: Path
    sizes: Sizes
    rows: Rows
    photos: Path  # for the bytes of a packed photo

    @property
    def drawn(self) -> Path:
        return self.out / "drawn"

    @property
    def results(self) -> Path:
        return self.out / "artifacts" / self.drawn.name

    @property
    def index(self) -> Path:
        return self.out / "rows"


def main() -> None:
    arguments = options()
    if arguments.inside:
        import scale_parts

        part, n = arguments.inside
        print(json.dumps(scale_parts.PARTS[part](int(n), arguments.out)))
        return
    sizes = SMALL if arguments.small else Sizes()
    out = arguments.out.resolve()
    check_places(out, arguments.page)
    rows = Rows(out / "scale.csv", f"{sizes.n_images} images, {sizes.n_rows} rows")
    parts = parts_of(Place(out, sizes, rows, arguments.photos.resolve()))
    if arguments.only and arguments.only not in parts:
        raise SystemExit(f"error: --only {arguments.only}: the parts are {', '.join(parts)}")
    for name in [arguments.only] if arguments.only else parts:
        if name not in rows:
            print(f"{name} ...", flush=True)
            parts[name](name)
            print(f"  {rows.number(name):.1f} s, {rows.number(name, 'peak_gb'):.2f} GB", flush=True)
    if not arguments.only:
        from scale_page import page

        arguments.page.write_text(page(rows, sizes.millions), encoding="utf-8")
        rows.save(arguments.page.with_suffix(".csv"))
        print(f"written: {arguments.page}, {arguments.page.with_suffix('.csv')}")


def options() -> argparse.Namespace:
    """What the command line asks for."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", type=Path, required=True, help="folder for images, results and logs; kept")
    p.add_argument("--small", action="store_true", help="200 images and 50,000 rows, to try the script")
    p.add_argument("--only", help="measure this part alone, and write no page")
    photos = PROJECT.parent / "shared/data/clothing/images"
    p.add_argument("--photos", type=Path, default=photos, help="whose packed size is measured (default: %(default)s)")
    p.add_argument("--page", type=Path, default=Path(__file__).with_suffix(".md"), help="default: %(default)s")
    p.add_argument("--inside", nargs=2, metavar=("PART", "N"), help=argparse.SUPPRESS)
    return p.parse_args()


def parts_of(place: Place) -> dict[str, Callable[[str], None]]:
    """What measures each part, by name, in the order in which they need each other."""
    sizes = place.sizes
    return {
        "look": partial(look, place),
        "train": partial(train, place),
        "index": partial(index, place),
        "queries": partial(queries, place),
        **{f"rows {name}": partial(rows_part, place, name) for name in ("nothing", "write", "open", "one", "many")},
        **{f"pack {name}": partial(packing, place, name) for name in ("12.0", "0.19")},
        "bytes of packed": partial(inside, place, "packed_bytes", 0),
        "list of packed, a tenth": partial(inside, place, "packed_list", sizes.n_rows // 10),
        "list of packed": partial(inside, place, "packed_list", sizes.n_rows),
        "pca": partial(inside, place, "pca", sizes.n_rows),
        "pairs": partial(inside, place, "pairs", sizes.n_pairs),
        **{f"duplicates {m}": partial(of_data_prep, place, "hashing", m) for m in sizes.millions},
        **{f"merge {m}": partial(of_data_prep, place, "merging", m) for m in sizes.millions},
    }


def guie(place: Place, step: str, *words: object) -> tuple[Cost, str]:
    """What a command of guie took, and what it printed."""
    environment = os.environ | {"GUIE_OUT": str(place.out / "artifacts")}
    command = [sys.executable, "-m", "guie", *map(str, words)]
    with watched(command, place.out / f"{step}.log", place.out, environment) as run:
        pass
    return run.cost, run.text


def draw(place: Place) -> None:
    """Draws the images, once; half of them are artworks, half toys, in folders that are their classes."""
    from guie.settings.data import DrawnWorld
    from guie.synthetic.world import draw_world

    n = place.sizes.n_images // (2 * N_VIEWS)
    world = DrawnWorld(n_instances=n, n_views=N_VIEWS, image_px=IMAGE_PX, domains=("artworks", "toys"))
    draw_world(place.drawn, world, seed=0)


def look(place: Place, step: str) -> None:
    draw(place)
    shutil.rmtree(place.results / "look", ignore_errors=True)
    cost, _ = guie(place, step, "look", place.drawn)
    place.rows.add(step, cost, place.sizes.n_images, size_of(place.results / "look"))


def train(place: Place, step: str) -> None:
    draw(place)
    for path in place.results.glob("*"):
        if path.name not in ("look", "search"):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    cost, text = guie(place, step, "train", place.drawn)
    told = [" ".join(line.split()) for line in text.splitlines() if "mP@5" in line or "trains the head" in line]
    place.rows.add(step, cost, place.sizes.n_images, note="; ".join(told))


def index(place: Place, step: str) -> None:
    draw(place)
    shutil.rmtree(place.results / "search", ignore_errors=True)
    cost, text = guie(place, step, "search", place.drawn)
    told = [line.strip() for line in text.splitlines() if "embedded" in line]
    place.rows.add(step, cost, place.sizes.n_images, size_of(place.results / "search"), told[0])


def queries(place: Place, step: str) -> None:
    """Photos of the folder, chosen at random, each read and embedded, then searched; the index is not updated."""
    photos = sorted(str(path) for path in place.drawn.rglob("*.jpg"))
    chosen = random.Random(0).sample(photos, place.sizes.n_queries)
    cost, text = guie(place, step, "search", place.drawn, "--no-update", "--csv", "--query", *chosen)
    answers = text.partition("query,rank,path,label,cosine\n")[2]  # after what the command says of its index
    n_answers = len(list(csv.reader(answers.splitlines())))
    if n_answers != 10 * len(chosen):
        raise SystemExit(f"error: {len(chosen)} queries have {n_answers} answers; see {place.out / step}.log")
    place.rows.add(step, cost, len(chosen))


def rows_part(place: Place, name: str, step: str) -> None:
    """Random rows in the index of guie search, by search.py."""
    if name == "write":
        shutil.rmtree(place.index, ignore_errors=True)
        place.index.mkdir(parents=True)
    options = ["--folder", place.index, "--n-rows", place.sizes.n_rows, "--n-queries", place.sizes.n_queries]
    found = json.loads(last_line(HERE / "search.py", "--measure", name, *options, "--photos", ""))
    n = place.sizes.n_queries if name == "many" else place.sizes.n_rows
    n_bytes = size_of(place.index) if name == "write" else 0
    place.rows.add(step, Cost(found["s"], found["cpu_s"], found["gb"]), n, n_bytes)


def packing(place: Place, megapixels: str, step: str) -> None:
    """Photographs made small by one core, by data_prep.py: the row is of one image."""
    cells = last_line(HERE / "data_prep.py", "--part", f"packing:{megapixels}").split("|")
    seconds = 1 / float(cells[3])
    place.rows.add(step, Cost(seconds, seconds, 0.0), 1)


def of_data_prep(place: Place, part: str, millions: float, step: str) -> None:
    """Door 02, or the search for near-duplicates, by data_prep.py."""
    cells = [cell.strip() for cell in last_line(HERE / "data_prep.py", "--part", f"{part}:{millions}").split("|")]
    seconds, gib = (cells[3], cells[4]) if part == "merging" else (cells[2], cells[3])
    place.rows.add(step, Cost(float(seconds), float(seconds), float(gib) * 2**30 / 1e9), round(millions * 1e6))


def inside(place: Place, part: str, n: int, step: str) -> None:
    """A part of scale_parts.py, in a process of its own."""
    folder = place.photos if part == "packed_bytes" else place.out
    found = json.loads(last_line(Path(__file__), "--inside", part, n, "--out", folder))
    place.rows.add(step, Cost(found["s"], found["cpu_s"], found["gb"]), found["n"], found["n_bytes"])


def last_line(script: Path, *words: object) -> str:
    """The last line that a script prints.

    Raises:
        SystemExit: it failed; it has said why.
    """
    done = subprocess.run([sys.executable, str(script), *map(str, words)], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(
            f"error: {script.name} {' '.join(map(str, words[:2]))} ended with {done.returncode}, see above"
        )
    return done.stdout.strip().splitlines()[-1]


def size_of(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    main()
