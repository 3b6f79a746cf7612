"""The scripts that time the shop's story and carry measured rates to a billion images: what they count, and how."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from guie.own.photos import read_photos
from guie.own.small import make_small
from guie.run import PROJECT


@pytest.fixture(autouse=True)
def _scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(PROJECT / "tests/benchmarks"))


# The child starts a process that holds 300 MB for half a second, then ends with the status that it is given.
HOLDS = "import subprocess, sys; subprocess.run([sys.executable, '-c', {!r}]); sys.exit({})"
GRANDCHILD = """import time
held = b'x' * 300_000_000
time.sleep(.7)
ends = time.process_time() + .2
while time.process_time() < ends: pass"""


def test_memory_and_processor_time_of_a_process_below_the_command_count(tmp_path: Path):
    from story_watch import watched

    command = [sys.executable, "-c", HOLDS.format(GRANDCHILD, 0)]
    with watched(command, tmp_path / "log", tmp_path) as run:
        pass
    assert 0.3 < run.peak_gb < 0.45
    assert run.seconds > 0.9 and run.cpu_s > 0.2


def test_a_command_that_fails_is_told_with_its_last_line(tmp_path: Path):
    from story_watch import watched

    command = [sys.executable, "-c", "print('first'); print('no such folder'); raise SystemExit(2)"]
    with (
        pytest.raises(SystemExit, match=r"ended with status 2; .*first / no such folder"),
        watched(command, tmp_path / "log", tmp_path),
    ):
        pass


def test_rows_are_taken_up_by_their_settings_and_others_stay(tmp_path: Path):
    from story_watch import Cost, Rows

    path = tmp_path / "rows.csv"
    Rows(path, "300 photos").add("look", Cost(60.0, 90.0, 1.0), 300)
    small = Rows(path, "140 photos")
    assert "look" not in small
    small.add("look", Cost(30.0, 40.0, 1.0), 140)
    again = Rows(path, "300 photos")
    assert "look" in again and again.number("look") == 60.0 and again.number("look", "n") == 300
    again.save(tmp_path / "page.csv")
    with (tmp_path / "page.csv").open(newline="") as file:
        assert [row["settings"] for row in csv.DictReader(file)] == ["300 photos"]


def test_rows_of_another_commit_or_machine_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import story_watch
    from story_watch import Cost, Rows

    path, checkout = tmp_path / "rows.csv", tmp_path / "checkout"
    git = ["git", "-C", str(checkout), "-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-q", "--allow-empty"]
    subprocess.run(["git", "init", "-q", str(checkout)], check=True)
    subprocess.run([*git, "-m", "first"], check=True)
    first = Rows(path, "x", checkout)
    first.add("look", Cost(60.0, 90.0, 1.0))
    head = subprocess.run(["git", "-C", str(checkout), "rev-parse", "HEAD"], capture_output=True, text=True).stdout
    assert head.startswith(first["look"]["commit"]) and len(first["look"]["commit"]) == 10
    assert "look" in Rows(path, "x", checkout)
    assert "look" not in Rows(path, "x"), "the commit is that of what runs, not of the script"
    subprocess.run([*git, "-m", "second"], check=True)
    first.add("train", Cost(1.0, 1.0, 1.0))
    assert first["train"]["commit"] == first["look"]["commit"]
    second = Rows(path, "x", checkout)
    assert "look" not in second
    second.add("look", Cost(30.0, 40.0, 1.0))
    monkeypatch.setattr(story_watch, "machine", lambda: "another one")
    assert "look" not in Rows(path, "x", checkout)
    with path.open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 3


def shop(folder: Path, n: int) -> Path:
    """A data set in the layout of the clothing set: `n` grey pictures of three labels, one of them for children too."""
    (folder / "images").mkdir(parents=True)
    with (folder / "images.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("image", "sender_id", "label", "kids"))
        for i in range(n):
            Image.new("RGB", (30, 40), (9 * i, 80, 90)).save(folder / f"images/{i}.jpg")
            table.writerow((i, 1, ("Shirt", "Hat", "Skirt")[i % 3], i == 0))
    return folder


def test_the_shop_has_every_photo_once_and_the_mess_beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import story_photos
    from story_photos import make_photos

    monkeypatch.setattr(story_photos, "PHONE_PX", (302, 403))  # twelve megapixels each would take seconds
    n_folders = make_photos(shop(tmp_path / "set", 24), tmp_path / "photos", 24)
    photos = read_photos(tmp_path / "photos")
    assert n_folders == 6  # the root, Adults with a Thumbs.db, three of Adults, one of Kids
    small = make_small(photos, tmp_path / "small")
    # 24 photos, 5 copies or others (same file, other label, smaller, to sort, cut-out), 1 HEIC; 3 that cannot be read
    assert len(small.table) == 24 + 5 + 1
    broken = small.problems.set_index("path")["reason"]
    assert sum(name.endswith(("broken upload.jpg", "empty.jpg", "page not found.jpg")) for name in broken.index) == 3
    turned = [p for p in (tmp_path / "photos").rglob("*.JPG") if Image.open(p).getexif().get(274) == 6]
    assert turned and all(Image.open(path).size == (403, 302) for path in turned)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "photos").rglob("*")}
    make_photos(tmp_path / "set", tmp_path / "photos", 24)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "photos").rglob("*")} == before


@pytest.mark.parametrize("library", ["torch", "onnxruntime", "sentence-transformers"])
def test_the_readme_has_one_block_for_each_library(library: str):
    import story

    block = story.snippet(PROJECT / "README.md", story.LIBRARIES[library])
    compile(block, "block", "exec")
    assert "embedding" in block and "photo.jpg" in block


def test_vectors_that_differ_are_refused(tmp_path: Path):
    import story

    for name in story.LIBRARIES:
        (tmp_path / f"vector_{name}.json").write_text("[1, 0, 0]")
    story.check_vectors(tmp_path)
    (tmp_path / "vector_onnxruntime.json").write_text("[1, 0.1, 0]")
    with pytest.raises(SystemExit, match=r"onnxruntime gives another vector than torch for one photo: cosine 0\.99504"):
        story.check_vectors(tmp_path)


def test_laws_by_hand(tmp_path: Path):
    import scale_page
    from story_watch import Cost, Rows

    assert scale_page.Law(0.5).n_in(10) == 20
    law = scale_page.Law(linear=1.0, square=2.0)
    assert law.seconds(3) == 21 and law.n_in(21) == pytest.approx(3)
    rows = Rows(tmp_path / "rows.csv", "x")
    for n in (10, 20, 40):
        rows.add(f"part {n}", Cost(3 * n + 0.5 * n**2, 0, 1 + n * 200 / 1e9), n)
    parts = [f"part {n}" for n in (10, 20, 40)]
    fitted = scale_page.law_of(rows, parts)
    assert (fitted.linear, fitted.square) == (pytest.approx(3, rel=1e-3), pytest.approx(0.5, rel=1e-3))


def test_memory_for_each_image_is_the_slope(tmp_path: Path):
    import scale_page
    from story_watch import Cost, Rows

    rows = Rows(tmp_path / "rows.csv", "x")
    for n in (1_000_000, 3_000_000):
        rows.add(f"part {n}", Cost(1, 1, 0.7 + 400 * n / 1e9), n)
    assert scale_page.slope(rows, ["part 1000000", "part 3000000"]) == pytest.approx(400)


@pytest.mark.parametrize(
    ("seconds", "told"), [(0.5, "0.5 s"), (90, "90 s"), (7200, "2 hours"), (86_400 * 3, "3 days"), (1e9, "31.7 years")]
)
def test_durations(seconds: float, told: str):
    import scale_page

    assert scale_page.duration(seconds) == told


def test_cells_of_other_pages_are_those_that_are_meant():
    import scale_page

    assert scale_page.cell("full_size.md", r"\| infer \| 224 ", 4) == "2"  # the batch
    with pytest.raises(SystemExit, match=r"cards\.md has no row that starts with \\\| nothing"):
        scale_page.cell("cards.md", r"\| nothing", 1)
