"""The shop's story: from 300 messy photos to a model in other programs, each step one command of a user, timed.

Makes the photos (story_photos.py), then runs the README's commands on them in a checkout, and the README's own lines
for onnxruntime and sentence-transformers. Each measured step is a row of OUT/story.csv. A step that has one of the same
commit and machine is skipped, so the script may be broken off and started again; a step that was broken off begins
anew. When all steps are there it writes story.md and story.csv (--page).

Run, in a fresh clone, about ten minutes and 7 GB (the packages are installed by its ./run.sh):
     git clone . /tmp/fresh
     python tests/benchmarks/story.py --checkout /tmp/fresh --out /tmp/story
Run, about three minutes, without installing anything:
     python tests/benchmarks/story.py --python .venv/bin/python --n-photos 140 --out /tmp/a --page /tmp/a/story.md
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import sys
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from story_page import ENOUGH_COSINE, PHOTOS, STEPS, page
from story_photos import make_photos
from story_watch import Rows, Watched, check_places, watched

from guie.run import PROJECT

RUN_OUT = "artifacts"
ANSWER_S = 300.0  # the page must answer by then
ENDED_BY_CTRL_C = (0, 130, -2)
FEWEST_PHOTOS = 140
LIBRARIES = {
    "torch": "torch.jit.load",
    "onnxruntime": "onnxruntime.InferenceSession",
    "sentence-transformers": "SentenceTransformer(",
}


@dataclass(frozen=True)
class Story:
    """Where everything is.

    Attributes:
        out: Folder of photos, results and logs.
        checkout: The project whose commands are run.
        python: Runs `python -m guie` in place of ./run.sh; None runs ./run.sh.
        users_python: Has onnxruntime and sentence-transformers.
        rows: The measurements.
    """

    out: Path
    checkout: Path
    python: Path | None
    users_python: Path
    rows: Rows

    @property
    def photos(self) -> Path:
        return self.out / PHOTOS

    @property
    def query(self) -> Path:
        """A photo of a telephone, the first by name."""
        return min(self.photos.glob("Adults/*/IMG_*.JPG"))

    @property
    def run(self) -> Path:
        return self.out / RUN_OUT / PHOTOS

    @property
    def model(self) -> Path:
        return self.out / "my_model"

    @property
    def environment(self) -> dict[str, str]:
        place = {"GUIE_OUT": str(self.out / RUN_OUT)}
        if self.python is not None:
            place["PYTHONPATH"] = str(self.checkout / "src")
        return os.environ | place

    def command(self, *words: object) -> list[str]:
        """The words of a command of guie."""
        start = ["./run.sh"] if self.python is None else [str(self.python), "-m", "guie"]
        return [*start, *map(str, words)]


def main() -> None:
    arguments = options()
    way = "run.sh" if arguments.python is None else "python -m guie"
    out = arguments.out.resolve()
    rows = Rows(out / "story.csv", f"{arguments.n_photos} photos, {way}", arguments.checkout)
    python = None if arguments.python is None else arguments.python.absolute()  # not resolved: a venv is a link
    story = Story(out, arguments.checkout.resolve(), python, arguments.users_python.absolute(), rows)
    check_places(out, arguments.page)
    n_folders = make_photos(arguments.source, story.photos, arguments.n_photos)
    for step, work in WORK.items():
        if step not in rows:
            print(f"{step}: {STEPS[step].command}", flush=True)
            work(story, step)
            print(f"  {rows.number(step):.1f} s, {rows.number(step, 'peak_gb'):.2f} GB", flush=True)
    check_vectors(out)
    arguments.page.write_text(page(rows, arguments.n_photos, n_folders, arguments.python is None), encoding="utf-8")
    rows.save(arguments.page.with_suffix(".csv"))
    print(f"written: {arguments.page}, {arguments.page.with_suffix('.csv')}")


def options() -> argparse.Namespace:
    """What the command line asks for."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", type=Path, required=True, help="folder for photos, results and logs; kept")
    p.add_argument("--checkout", type=Path, default=PROJECT, help="the project whose ./run.sh runs (default: this one)")
    p.add_argument("--python", type=Path, help="run PYTHON -m guie of the checkout in place of its ./run.sh")
    users = "has onnxruntime and sentence-transformers (default: the one that runs this script)"
    p.add_argument("--users-python", type=Path, default=Path(sys.executable), help=users)
    p.add_argument("--source", type=Path, default=PROJECT.parent / "shared/data/clothing", help="the clothing data set")
    p.add_argument("--n-photos", type=int, default=300, help="of the data set (default: %(default)s, at least 140)")
    p.add_argument("--page", type=Path, default=Path(__file__).with_suffix(".md"), help="default: %(default)s")
    arguments = p.parse_args()
    if arguments.n_photos < FEWEST_PHOTOS:
        p.error(f"--n-photos is {arguments.n_photos}, must be {FEWEST_PHOTOS} or more: guie train needs 128")
    return arguments


def measured(story: Story, step: str, *words: object, last: str = "") -> str:
    """Runs a command of guie to its end and adds its row; the note is the last line that holds `last`."""
    with watched(story.command(*words), story.out / f"{step}.log", story.checkout, story.environment) as run:
        pass
    lines = [line.strip() for line in run.text.splitlines() if line.strip()]
    found = [line for line in lines if last and last in line]
    note = found[-1].replace(str(story.out), "").strip() if found else ""
    story.rows.add(step, run.cost, note=note)
    return run.text


def install(story: Story, step: str) -> None:
    """The first start of a clone; in a checkout that has its packages it only asks for the version."""
    had = (story.checkout / ".venv").is_dir()
    with watched(story.command("--version" if story.python else "guie", *([] if story.python else ["--version"])),
                 story.out / f"{step}.log", story.checkout, story.environment) as run:  # fmt: skip
        pass
    story.rows.add(step, run.cost, note="packages were there" if had or story.python else "packages installed")


def look(story: Story, step: str) -> None:
    shutil.rmtree(story.run / "look", ignore_errors=True)
    measured(story, step, "look", story.photos, last="shipped ViT")


def train(story: Story, step: str) -> None:
    for path in story.run.glob("*"):
        if path.name not in ("look", "search"):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    measured(story, step, "train", story.photos, last="mP@5")


def query(story: Story, step: str) -> None:
    shutil.rmtree(story.run / "search", ignore_errors=True)
    again(story, step)


def again(story: Story, step: str) -> None:
    text = measured(story, step, "search", story.photos, "--query", story.query, "--with-itself", last="embedded")
    if "1.000" not in text:
        raise SystemExit(f"error: {story.query} does not find itself at cosine 1; see {story.out / step}.log")


def html(story: Story, step: str) -> None:
    page_file = story.out / "page.html"
    measured(story, step, "search", story.photos, "--html", page_file, last="page")
    if page_file.stat().st_size < 10_000:
        raise SystemExit(f"error: {page_file} holds {page_file.stat().st_size} bytes; it should hold photos")


def serve(story: Story, step: str) -> None:
    """From the start of the command until the page has answered a photo that is sent as the page sends one."""
    log = story.out / f"{step}.log"
    words = story.command("search", story.photos, "--serve", "--port", 0)
    with watched(words, log, story.checkout, story.environment) as run:
        address = address_of(run)
        started = run.elapsed
        near = dropped(address, story.query.read_bytes())
        answered = run.elapsed
        run.stop()
        if run.status not in ENDED_BY_CTRL_C:
            raise SystemExit(f"error: the server ended with status {run.status}; see {log}")
        run.status = 0
    if str(story.query.relative_to(story.photos)) not in [photo["path"] for photo in near["own"]]:
        raise SystemExit(f"error: the page did not recognise {story.query}; see {log}")
    later = f"{len(near['photos'])} neighbours of a dropped photo {answered - started:.2f} s later"
    cost = run.cost._replace(seconds=answered)
    story.rows.add(step, cost, note=f"the address is printed after {started:.1f} s; {later}")


def address_of(run: Watched) -> str:
    """The address of the page, when the server has printed it.

    Raises:
        SystemExit: it ended, or took too long.
    """
    while not (found := re.search(r"http://127\.0\.0\.1:\d+/", run.text)):
        if not run.is_running() or run.elapsed > ANSWER_S:
            run.stop()
            raise SystemExit(f"error: the page did not start; see {run.log}")
        time.sleep(0.05)
    return found[0]


def dropped(address: str, photo: bytes) -> dict[str, Any]:
    """Opens the page and sends a photo as its script does; the answer."""
    with urllib.request.urlopen(address, timeout=ANSWER_S) as answer:
        if b"<html" not in answer.read():
            raise SystemExit(f"error: {address} answers no page")
    request = urllib.request.Request(f"{address}api/near", photo, {"content-type": "application/octet-stream"})
    with urllib.request.urlopen(request, timeout=ANSWER_S) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def export(story: Story, step: str) -> None:
    shutil.rmtree(story.model, ignore_errors=True)
    measured(story, step, "export", story.run, "--to", story.model, "--photos", story.photos, last="embeddings.parquet")


def use(story: Story, step: str) -> None:
    """Runs the README's lines in a folder that holds what they name."""
    folder = story.out
    for name in ("photo.jpg", "another.jpg"):
        shutil.copy(story.query, folder / name)
    lines = snippet(story.checkout / "README.md", LIBRARIES[step])
    told = "\nimport json; print(json.dumps([float(x) for x in embedding]))\n"
    script = folder / f"use_{step.replace('-', '_')}.py"
    script.write_text(lines + told, encoding="utf-8")
    environment = {name: value for name, value in story.environment.items() if name != "PYTHONPATH"}
    with watched([str(story.users_python), script.name], folder / f"{step}.log", folder, environment) as run:
        pass
    vector = json.loads(run.text.strip().splitlines()[-1])
    (folder / f"vector_{step}.json").write_text(json.dumps(vector), encoding="utf-8")
    story.rows.add(step, run.cost, note=f"{len(vector)} numbers")


def snippet(readme: Path, word: str) -> str:
    """The README's Python block that holds a word.

    Raises:
        SystemExit: there is none, or there are two.
    """
    blocks = re.findall(r"^```python\n(.*?)^```$", readme.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    found = [block for block in blocks if word in block]
    if len(found) != 1:
        raise SystemExit(f"error: {readme} has {len(found)} Python blocks with {word}, must have one")
    return found[0]


def check_vectors(out: Path) -> None:
    """Compares what the libraries gave for the same photo.

    Raises:
        SystemExit: two of them differ.
    """
    vectors = {name: np.array(json.loads((out / f"vector_{name}.json").read_text())) for name in LIBRARIES}
    first = vectors["torch"]
    for name, vector in vectors.items():
        cosine = float(vector @ first / np.linalg.norm(vector) / np.linalg.norm(first))
        if cosine < ENOUGH_COSINE:
            raise SystemExit(f"error: {name} gives another vector than torch for one photo: cosine {cosine:.5f}")


WORK: dict[str, Callable[[Story, str], None]] = {
    "install": install,
    "look": look,
    "train": train,
    "query": query,
    "again": again,
    "html": html,
    "serve": serve,
    "export": export,
    **dict.fromkeys(LIBRARIES, use),
}


if __name__ == "__main__":
    main()
