"""story.md: the table of the shop's story, made of the rows of story.csv alone."""

from __future__ import annotations

from typing import NamedTuple

from pages import paragraph
from story_watch import Rows

PHOTOS = "my_photos"
ENOUGH_COSINE = 0.9999


class Step(NamedTuple):
    """A step of the story.

    Attributes:
        command: What a user types.
        what: What it gives.
        aim_s: Seconds that issue 16 allows; None where it names none.
    """

    command: str
    what: str
    aim_s: float | None = None


STEPS = {
    "install": Step("./run.sh guie --version", "the first start: packages into `.venv`"),
    "look": Step(f"./run.sh look {PHOTOS}", "a score, a gallery, duplicates, files that cannot be read", 120.0),
    "train": Step(f"./run.sh train {PHOTOS}", "trains, compares, exports the better model, writes a report", 300.0),
    "query": Step(f"./run.sh search {PHOTOS} --query photo.jpg", "indexes all photos, prints the nearest"),
    "again": Step(f"./run.sh search {PHOTOS} --query photo.jpg", "the same again: nothing is embedded but the query"),
    "html": Step(f"./run.sh search {PHOTOS} --html page.html", "one page that needs no server"),
    "serve": Step(f"./run.sh search {PHOTOS} --serve", "until the page has answered a dropped photo"),
    "export": Step(f"./run.sh export RUN --to my_model --photos {PHOTOS}", "TorchScript, ONNX, hub folder, parquet"),
    "torch": Step("the README's lines for PyTorch", "load the model and embed a photo"),
    "onnxruntime": Step("the README's lines for onnxruntime", "the same vector"),
    "sentence-transformers": Step("the README's lines for sentence-transformers", "the same vector"),
}


def page(rows: Rows, n: int, n_folders: int, is_fresh: bool) -> str:
    """The page.

    Args:
        rows: The measurements of all steps.
        n: How many photos of the data set there were.
        n_folders: In how many folders.
        is_fresh: Whether ./run.sh ran the commands.
    """
    how = "by `./run.sh`" if is_fresh else "by `python -m guie` in place of `./run.sh`"
    told = f"""
    {n} clothing photos (CC0) lie in {n_folders} nested folders: a quarter of them has a telephone's 12 megapixels and
    lies on its side, some are PNG, WebP or HEIC or have no ending, names have spaces, umlauts and per cent signs. There
    are copies, one of them under another label, a cut-out on nothing, three files that cannot be read, folders with one
    photo, and files that are no photos (`tests/benchmarks/story_photos.py`). Each step is one command, {how}.
    """
    columns = """
    Seconds are of the whole command, from Enter to the prompt. Memory is the largest sum over all its processes, a
    shared page counted once. Load is the load average at its end; well above 2 on two cores means that other work ran.
    """
    made = f"`python tests/benchmarks/story.py`, commit {rows['train']['commit']}, {rows['train']['machine']}."
    same = f"""
    The vectors of torch, onnxruntime and sentence-transformers for one photo were compared: their cosines are above
    {ENOUGH_COSINE}.
    """
    said = [f"* **{step}**: {rows[step]['note']}" for step in STEPS if rows[step]["note"]]
    blocks = ["# The shop's story", paragraph(made), paragraph(told), table(rows), paragraph(columns)]
    blocks += ["What the commands said:", "\n".join(map(wrapped, said)), paragraph(same)]
    return "\n\n".join(blocks) + "\n"


def table(rows: Rows) -> str:
    """A row for each step; ✓ or ✗ behind an aim."""
    lines = ["| command | what it gives | s | aim, s | CPU s | peak GB | load |", "|---|---|---|---|---|---|---|"]
    for name, step in STEPS.items():
        seconds = rows.number(name)
        aim = "" if step.aim_s is None else f"{step.aim_s:.0f} {'✓' if seconds < step.aim_s else '✗'}"
        command = f"`{step.command}`" if step.command.startswith("./") else step.command
        numbers = f"{rows.number(name, 'cpu_s'):.1f} | {rows.number(name, 'peak_gb'):.2f} | {rows[name]['load']}"
        lines.append(f"| {command} | {step.what} | {seconds:.1f} | {aim} | {numbers} |")
    return "\n".join(lines)


def wrapped(item: str) -> str:
    """A list item broken at the page's width."""
    return "* " + paragraph(item.removeprefix("* ")).replace("\n", "\n  ")
