"""The picture in the README: random queries of each domain, their five nearest by the last setting, and which are
right.

Prints, of all wrong neighbours that the metric counts and of those in the picture, how many show a near-twin or sibling
of the query: the drawn world gives every third thing the form of the one before (src/guie/synthetic/scene.py).

Run: python tests/benchmarks/neighbours_picture.py artifacts/demo
Writes tests/benchmarks/demo_neighbours.jpg (--out)
"""

import argparse
import re
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFont

from guie.data.packed import PackedImages
from guie.run import FOLDERS, PROJECT

TILE, FRAME, STEP, LEFT, GAP = (
    120,
    4,
    128,
    96,
    16,
)  # pixels: a tile with its frame, from tile to tile, the labels' column, behind the query
PAPER, INK, GREY, GREEN, RED = (247, 248, 250), (20, 24, 31), (138, 147, 166), (27, 122, 58), (198, 40, 48)
N_SHOWN, N_EACH = 5, 2
LABEL_STEP = 37  # of the drawn world: an instance's label is its number times this, and a little more


def main() -> None:
    """Draws the picture of a finished run of a recipe that draws its own images, and prints the shares."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("run", type=Path, help="the folder of a finished run, such as artifacts/demo")
    p.add_argument("--out", type=Path, default=PROJECT / "tests/benchmarks/demo_neighbours.jpg")
    p.add_argument("--seed", type=int, default=0, help="of the choice of queries (default: %(default)s)")
    arguments = p.parse_args()
    images = PackedImages(arguments.run / FOLDERS[3])
    table = read_neighbours(arguments.run, images)
    queries = chosen(table, arguments.seed)
    picture(table, queries, images).save(arguments.out, quality=88)
    counted = table[table["rank"] <= table["n_relevant"].clip(upper=N_SHOWN)]
    print(f"setting: {table['setting'].iloc[0]}")
    print(f"of the wrong among the first min(5, n) neighbours: {told(counted)}")
    print(f"of the wrong among all five: {told(table)}")
    print(f"of the wrong in the picture: {told(table[table['query_id'].isin(queries)])}")


def read_neighbours(run: Path, images: PackedImages) -> pd.DataFrame:
    """The five nearest of every query by the last setting, with each side's class, domain and kin, and how many images
    are relevant to the query."""
    folder = run / FOLDERS[7]
    table, ids = (
        pd.read_parquet(folder / "neighbours.parquet"),
        pd.read_parquet(folder / "val_ids.parquet").set_index("image_id"),
    )
    table = table[(table["setting"] == table["setting"].iloc[-1]) & (table["rank"] <= N_SHOWN)]
    labels = ids["pack_row"].map(images.index["source_label"])
    ids = ids.assign(kin=[kin_of(str(domain), str(label)) for domain, label in zip(ids["domain"], labels, strict=True)])
    ids["n_relevant"] = ids.groupby("class_id")["class_id"].transform("size") - 1
    found = ids[["kin", "pack_row"]].rename(columns={"kin": "kin_found", "pack_row": "pack_row_found"})
    table = table.join(ids, on="query_id").join(found, on="image_id")
    return table[table["n_relevant"] > 0].sort_values(["domain", "query_id", "rank"])


def kin_of(domain: str, label: str) -> str:
    """What instances of one form have in common: the domain, and the number of the first of them."""
    found = re.search(r"(\d+)$", label)
    if not found:
        raise SystemExit(
            f"the label {label!r} is none of the drawn world's; give a run of a recipe that draws its images, such as "
            "demo"
        )
    instance = int(found[1]) // LABEL_STEP
    return f"{domain} {instance - (instance % 3 == 2)}"


def told(table: pd.DataFrame) -> str:
    """The share of wrong neighbours that are kin, in words."""
    wrong = table[~table["is_correct"].astype(bool)]
    n_kin = int((wrong["kin"] == wrong["kin_found"]).sum())
    return f"{n_kin} of {len(wrong)} ({100 * n_kin / max(1, len(wrong)):.0f} %) are near-twins or siblings of the query"


def chosen(table: pd.DataFrame, seed: int) -> list[str]:
    """Two queries of each domain, at random."""
    rng = np.random.default_rng(seed)
    return [
        str(q)
        for _, group in table.groupby("domain", sort=True)
        for q in rng.choice(group["query_id"].unique(), N_EACH, replace=False)
    ]


def picture(table: pd.DataFrame, queries: list[str], images: PackedImages) -> Image.Image:
    """A row a query: its domain, the query, and its nearest, in green frames where they are right and red where not."""
    sheet = Image.new("RGB", (LEFT + TILE + 2 * GAP - 8 + N_SHOWN * STEP, 8 + len(queries) * STEP), PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    for i, query in enumerate(queries):
        rows, top = table[table["query_id"] == query], 8 + i * STEP
        if i % N_EACH == 0:
            draw.text((8, top + TILE // 2 - 8), str(rows["domain"].iloc[0]), INK, font)
        put(sheet, images.read(int(rows["pack_row"].iloc[0])), LEFT, top, GREY)
        for j, row in enumerate(rows.itertuples()):
            left, colour = LEFT + TILE + GAP + 8 + j * STEP, GREEN if row.is_correct else RED
            put(sheet, images.read(int(row.pack_row_found)), left, top, colour)
            mark(draw, left + TILE - 12, top + TILE - 12, colour, bool(row.is_correct))
    return sheet


def put(sheet: Image.Image, pixels: np.ndarray, left: int, top: int, colour: tuple[int, int, int]) -> None:
    """An image in its own aspect, in a frame."""
    sheet.paste(Image.new("RGB", (TILE, TILE), colour), (left, top))
    sheet.paste(Image.new("RGB", (TILE - 2 * FRAME,) * 2, PAPER), (left + FRAME, top + FRAME))
    image = Image.fromarray(pixels)
    image.thumbnail((TILE - 2 * FRAME,) * 2, Image.Resampling.LANCZOS)
    sheet.paste(image, (left + (TILE - image.width) // 2, top + (TILE - image.height) // 2))


def mark(draw: ImageDraw.ImageDraw, x: int, y: int, colour: tuple[int, int, int], is_right: bool) -> None:
    """A tick or a cross, so that colour is not all that tells."""
    draw.ellipse((x - 9, y - 9, x + 9, y + 9), colour, PAPER)
    strokes = (
        [[(x - 4, y), (x - 1, y + 3), (x + 4, y - 4)]]
        if is_right
        else [[(x - 3, y - 3), (x + 3, y + 3)], [(x - 3, y + 3), (x + 3, y - 3)]]
    )
    for stroke in strokes:
        draw.line(stroke, (255, 255, 255), 2)


if __name__ == "__main__":
    main()
