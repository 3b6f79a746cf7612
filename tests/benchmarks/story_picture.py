"""The picture at the head of the README: random real photos, their nearest off the shelf and after training.

The run is of `guie train` on the whole clothing data set (CC0), whose categories are the classes. The queries are
photos that were held back, drawn at random. Both sides answer the same queries, with the same photos, in 64 numbers.

Run, some minutes on two cores:
     python tests/benchmarks/story_picture.py --list /tmp/clothing.csv
     ./run.sh train /tmp/clothing.csv --tower mobilenetv2_100_imagenet.safetensors
     python tests/benchmarks/story_picture.py artifacts/clothing
Writes tests/benchmarks/before_after.webp (--out), and prints both scores. The README's scores of the shipped network
are what the second command prints without --tower.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
import pandas as pd
from neighbours_picture import GREEN, GREY, INK, PAPER, RED, STEP, TILE, mark, put
from PIL import Image, ImageDraw, ImageFont

from guie.data.packed import PackedImages
from guie.own.recipes import REDUCED, TRAINED
from guie.run import FOLDERS, PROJECT

N_QUERIES, N_SHOWN = 6, 5
HEAD, GAP, EDGE = 44, 40, 12  # pixels: the line of titles, between the blocks, at the rim
WIDTH = 1120  # of the finished picture
SIDES = {REDUCED: "off the shelf", TRAINED: "after training"}


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("run", type=Path, nargs="?", help="the folder of the finished run")
    p.add_argument("--list", type=Path, metavar="CSV", help="write the list of the data set's photos, and stop")
    p.add_argument("--source", type=Path, default=PROJECT.parent / "shared/data/clothing", help="the clothing data set")
    p.add_argument("--out", type=Path, default=PROJECT / "tests/benchmarks/before_after.webp")
    p.add_argument("--seed", type=int, default=0, help="of the choice of queries (default: %(default)s)")
    arguments = p.parse_args()
    if arguments.list:
        write_list(arguments.source, arguments.list)
    elif arguments.run:
        draw_picture(arguments.run, arguments.out, arguments.seed)
    else:
        p.error("name the folder of a run, or --list CSV")


def draw_picture(run: Path, out: Path, seed: int) -> None:
    """Writes the picture, and prints the scores of both settings."""
    table = neighbours(run)
    queries = np.random.default_rng(seed).choice(table["query_id"].unique(), N_QUERIES, replace=False)
    scores = pd.read_csv(run / FOLDERS[7] / "scores.csv").set_index("setting")
    titles = ["a photo"]
    titles += [f"its five nearest, {side}: mP@5 {scores.loc[name, 'mp5']:.3f}" for name, side in SIDES.items()]
    sheet = picture(table, list(queries), PackedImages(run / FOLDERS[3]), titles)
    height = round(sheet.height * WIDTH / sheet.width)
    sheet.resize((WIDTH, height), Image.Resampling.LANCZOS).save(out, quality=80, method=6)
    for setting in SIDES:
        is_shown = table["query_id"].isin(queries) & (table["setting"] == setting)
        shown = table.loc[is_shown, "is_correct"]
        told = f"mP@5 {scores.loc[setting, 'mp5']:.3f} of {scores.loc[setting, 'n_queries']} queries"
        print(f"{setting}: {told}; {shown.sum()} of the {len(shown)} in the picture are right")


def write_list(source: Path, out: Path) -> None:
    """A CSV with the columns path,label of the data set."""
    with (source / "images.csv").open(newline="", encoding="utf-8") as file:
        rows = [(f"{source / 'images' / row['image']}.jpg", row["label"]) for row in csv.DictReader(file)]
    with out.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([("path", "label"), *rows])


def neighbours(run: Path) -> pd.DataFrame:
    """setting, query_id, rank, is_correct, and the rows of query and neighbour in the pack, of both settings.

    Raises:
        SystemExit: the run has not both.
    """
    folder = run / FOLDERS[7]
    table = pd.read_parquet(folder / "neighbours.parquet")
    ids = pd.read_parquet(folder / "val_ids.parquet").set_index("image_id")
    if not {REDUCED, TRAINED} <= set(table["setting"]):
        raise SystemExit(f"error: {run} is no run of guie train: it has the settings {sorted(set(table['setting']))}")
    table = table[table["setting"].isin([REDUCED, TRAINED]) & (table["rank"] <= N_SHOWN)]
    table = table.assign(query_row=table["query_id"].map(ids["pack_row"]), row=table["image_id"].map(ids["pack_row"]))
    return table.sort_values(["query_id", "setting", "rank"])


def picture(table: pd.DataFrame, queries: list[str], images: PackedImages, titles: list[str]) -> Image.Image:
    """A row for each query: the query, its nearest by one setting, and by the other."""
    starts = (EDGE, EDGE + STEP + GAP, EDGE + STEP + 2 * GAP + N_SHOWN * STEP)
    size = (starts[-1] + N_SHOWN * STEP + EDGE - (STEP - TILE), HEAD + len(queries) * STEP + EDGE - (STEP - TILE))
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    for left, title in zip(starts, titles, strict=True):
        draw.text((left, 10), title, INK, ImageFont.load_default(22))
    for i, query in enumerate(queries):
        top = HEAD + i * STEP
        rows = table[table["query_id"] == query]
        put(sheet, images.read(int(rows["query_row"].iloc[0])), starts[0], top, GREY)
        for start, setting in zip(starts[1:], SIDES, strict=True):
            found = rows[rows["setting"] == setting][["row", "is_correct"]]
            put_answers(sheet, list(found.itertuples(index=False)), images, (start, top))
    return sheet


def put_answers(
    sheet: Image.Image, found: list[tuple[int, bool]], images: PackedImages, corner: tuple[int, int]
) -> None:
    """Neighbours side by side, in green frames with a tick where they are right, in red ones with a cross where not."""
    left, top = corner
    for row, is_correct in found:
        colour = GREEN if is_correct else RED
        put(sheet, images.read(int(row)), left, top, colour)
        mark(ImageDraw.Draw(sheet), left + TILE - 12, top + TILE - 12, colour, bool(is_correct))
        left += STEP


if __name__ == "__main__":
    main()
