"""The index against a loop by hand, whatever happened to the folder and to the process before."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from exported_model import draw, export_grid, grid_by_hand
from PIL import Image

from guie.own.photos import read_photos
from guie.search import writing
from guie.search.embedder import Embedder, load_given
from guie.search.pending import Pending
from guie.search.store import HEADER, PENDING, Index, open_index
from guie.search.update import Changes, update

OLD = time.time() - 1000


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Embedder:
    return load_given(str(export_grid(tmp_path_factory.mktemp("model") / "saved_model.pt")), "cpu")


def age(path: Path, seconds: float = 1000.0) -> None:
    """Sets the file's time to long ago, as a camera's."""
    os.utime(path, (time.time() - seconds, time.time() - seconds))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Seven photos in nested folders, of several sizes."""
    at = tmp_path / "photos"
    sizes = [(16, 16), (24, 16), (16, 24), (8, 8), (16, 16), (24, 16), (16, 16)]
    names = ["a/0.png", "a/1.png", "a/b/2.png", "a-b/3.png", "c/4.png", "5.png", "c/6 ü.png"]
    for seed, (name, size) in enumerate(zip(names, sizes, strict=True)):
        draw(at / name, seed, size)
        age(at / name)
    return at


def indexed(folder: Path, place: Path, embedder: Embedder, verify: bool = False) -> tuple[Index, Changes]:
    return update(place, read_photos(folder), folder, embedder, verify=verify)


def counts(changes: Changes) -> tuple[int, ...]:
    """Photos, new, changed, removed, embedded, resumed."""
    return (
        changes.n_photos,
        changes.n_new,
        changes.n_changed,
        changes.n_removed,
        changes.n_embedded,
        changes.n_resumed,
    )


def rows_by_hand(folder: Path) -> dict[str, np.ndarray]:
    """The embedding of every PNG, by an independent loop."""
    return {
        path.relative_to(folder).as_posix(): grid_by_hand(np.asarray(Image.open(path).convert("RGB")))
        for path in folder.rglob("*.png")
    }


def check_is_right(index: Index, folder: Path) -> None:
    """Every photo of the folder stands in the index once, with its embedding, in the order of the paths."""
    expected = rows_by_hand(folder)
    assert index.table["path"].tolist() == sorted(expected)
    found = np.concatenate(index.shards)
    assert np.abs(found - [expected[path] for path in sorted(expected)]).max() < 1e-5


def files_of(place: Path) -> dict[str, bytes]:
    """What a generation holds, without its number."""
    header = json.loads((place / HEADER).read_text())
    return {path.name: path.read_bytes() for path in (place / header["generation"]).iterdir()}


def test_every_photo_has_its_embedding_and_its_neighbours(folder: Path, tmp_path: Path, embedder: Embedder):
    index, changes = indexed(folder, tmp_path / "index", embedder)
    assert counts(changes) == (7, 7, 0, 0, 7, 0)
    check_is_right(index, folder)
    by_hand = rows_by_hand(folder)
    paths = sorted(by_hand)
    for row, path in enumerate(paths):
        cosines = {other: float(by_hand[path] @ by_hand[other]) for other in paths if other != path}
        (near,) = index.nearest(np.concatenate(index.shards)[[row]], 3, [np.array([row])])
        assert [paths[i] for i, _ in near] == sorted(cosines, key=lambda other: -cosines[other])[:3]
        assert [cosine for _, cosine in near] == pytest.approx(sorted(cosines.values(), reverse=True)[:3], abs=1e-5)


def test_second_update_reads_nothing_and_writes_nothing(folder: Path, tmp_path: Path, embedder: Embedder):
    place = tmp_path / "index"
    indexed(folder, place, embedder)
    before = (place / HEADER).stat().st_mtime_ns
    unread = folder / "a/0.png"
    status = unread.stat()
    unread.write_bytes(bytes(status.st_size))  # other bytes, same size and time: what it cannot see without reading
    os.utime(unread, ns=(status.st_atime_ns, status.st_mtime_ns))
    _, changes = indexed(folder, place, embedder)
    assert counts(changes) == (7, 0, 0, 0, 0, 0)
    assert (place / HEADER).stat().st_mtime_ns == before
    index, changes = indexed(folder, place, embedder, verify=True)  # --verify reads
    assert (changes.n_photos, changes.n_removed) == (6, 1)
    assert index.problems["path"].tolist() == ["a/0.png"]


def test_new_changed_removed_moved_touched(folder: Path, tmp_path: Path, embedder: Embedder):
    place = tmp_path / "index"
    indexed(folder, place, embedder)
    draw(folder / "new.png", 50)
    draw(folder / "a/1.png", 51, (24, 16))
    (folder / "5.png").unlink()
    (folder / "c/4.png").rename(folder / "moved.png")
    (folder / "a/0.png").touch()
    index, changes = indexed(folder, place, embedder)
    # moved.png is new, c/4.png and 5.png are gone; of the three others only two have new bytes
    assert counts(changes) == (7, 2, 1, 2, 2, 0)
    check_is_right(index, folder)
    fresh, _ = indexed(folder, tmp_path / "fresh", embedder)
    assert index.table.drop(columns="mtime_ns").equals(fresh.table.drop(columns="mtime_ns"))
    assert np.allclose(np.concatenate(index.shards), np.concatenate(fresh.shards), atol=1e-6)
    assert [path.name for path in place.glob("g*")] == [index.header.generation]  # earlier generations are removed


def test_change_within_the_resolution_of_the_time_is_seen(folder: Path, tmp_path: Path, embedder: Embedder):
    place = tmp_path / "index"
    draw(folder / "just_now.png", 60)
    status = (folder / "just_now.png").stat()
    indexed(folder, place, embedder)
    first = Image.open(folder / "just_now.png")
    assert first.size == (16, 16)
    flat = np.full((16, 16, 3), 7, np.uint8)
    Image.fromarray(flat).save(folder / "just_now.png")
    content = (folder / "just_now.png").read_bytes()
    (folder / "just_now.png").write_bytes(content + bytes(status.st_size - len(content)))  # PNG ignores the tail
    os.utime(folder / "just_now.png", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert (folder / "just_now.png").stat().st_size == status.st_size
    index, changes = indexed(folder, place, embedder)
    assert changes.n_changed == 1
    check_is_right(index, folder)


def test_broken_photos_are_listed_by_name_and_reason(folder: Path, tmp_path: Path, embedder: Embedder):
    (folder / "zero.jpg").write_bytes(b"")
    (folder / "text.png").write_text("no image")
    whole = (folder / "a/1.png").read_bytes()
    (folder / "half.png").write_bytes(whole[: len(whole) // 2])
    index, changes = indexed(folder, tmp_path / "index", embedder)
    assert changes.n_photos == 7
    reasons = dict(index.problems[["path", "reason"]].itertuples(index=False, name=None))
    assert reasons["zero.jpg"] == "zero bytes"
    assert reasons["text.png"].startswith("unreadable header") and reasons["half.png"].startswith("cannot be decoded")
    draw(folder / "text.png", 70)
    index, changes = indexed(folder, tmp_path / "index", embedder)
    assert (changes.n_new, changes.n_embedded, len(index.problems)) == (1, 1, 2)


def test_photo_without_a_direction_is_no_neighbour(folder: Path, tmp_path: Path, embedder: Embedder):
    Image.new("RGB", (16, 16), (100, 100, 100)).save(folder / "zero.png")  # the model gives zeros
    index, _ = indexed(folder, tmp_path / "index", embedder)
    assert "zero.png" not in index.table["path"].tolist()
    assert "no direction" in dict(index.problems.itertuples(index=False, name=None))["zero.png"]


def test_nothing_that_can_be_read_is_one_error(tmp_path: Path, embedder: Embedder):
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match=r"no photo of .* can be read; a\.jpg: zero bytes"):
        indexed(folder, tmp_path / "index", embedder)
    assert not (tmp_path / "index" / HEADER).exists()


def test_other_model_makes_it_anew_and_says_so(folder: Path, tmp_path: Path, embedder: Embedder):
    place = tmp_path / "index"
    indexed(folder, place, embedder)
    other = load_given(str(export_grid(tmp_path / "other.pt", gain=-1.0)), "cpu")
    index, changes = indexed(folder, place, other)
    assert "made by another model" in changes.anew and str(tmp_path / "other.pt") in changes.anew
    assert changes.n_embedded == 7
    assert np.concatenate(index.shards)[0] == pytest.approx(-rows_by_hand(folder)["5.png"], abs=1e-5)


@pytest.mark.parametrize("name", [HEADER, "g0001/00000.npy", "g0001/photos.parquet"])
@pytest.mark.parametrize("content", [b"{", None])
def test_damaged_index_is_made_anew(folder: Path, tmp_path: Path, embedder: Embedder, name: str, content: bytes | None):
    place = tmp_path / "index"
    indexed(folder, place, embedder)
    if content is None:
        (place / name).unlink()
    else:
        (place / name).write_bytes(content)
    with pytest.raises((ValueError, FileNotFoundError), match=r"(holds no index|anew).*guie search FOLDER$"):
        open_index(place)
    index, changes = indexed(folder, place, embedder)
    if (name, content) != (HEADER, None):  # without a header there was no index
        assert changes.anew.startswith("the index could not be read")
    assert changes.n_embedded == 7
    check_is_right(index, folder)


def test_index_of_other_photos_is_not_replaced(folder: Path, tmp_path: Path, embedder: Embedder):
    indexed(folder, tmp_path / "index", embedder)
    draw(tmp_path / "others/x.png", 0)
    with pytest.raises(ValueError, match=r"holds the index of .*photos; choose another place with --index"):
        indexed(tmp_path / "others", tmp_path / "index", embedder)


def test_shards_change_nothing(folder: Path, tmp_path: Path, embedder: Embedder, monkeypatch: pytest.MonkeyPatch):
    whole, _ = indexed(folder, tmp_path / "whole", embedder)
    monkeypatch.setattr(writing, "SHARD_ROWS", 3)
    parts, _ = indexed(folder, tmp_path / "parts", embedder)
    assert parts.header.shards == (3, 3, 1)
    asking = np.concatenate(whole.shards)
    nobody = [np.empty(0, np.int64)] * 7
    for rows in (None, range(2, 6), range(3, 6), range(0, 2), range(6, 7), range(4, 4)):
        assert parts.nearest(asking, 4, nobody, rows) == whole.nearest(asking, 4, nobody, rows)
    draw(folder / "b/new.png", 80)
    grown, _ = indexed(folder, tmp_path / "parts", embedder)
    check_is_right(grown, folder)


def test_folder_filter_takes_the_folder_and_those_below(folder: Path, tmp_path: Path, embedder: Embedder):
    draw(folder / "a0/7.png", 7)  # "a0" sorts right after "a/...", "a-b" right before
    draw(folder / "a.png", 8)
    index, _ = indexed(folder, tmp_path / "index", embedder)
    paths = index.table["path"]
    assert index.folders == {"a": 3, "a-b": 1, "a/b": 1, "a0": 1, "c": 2}
    for name, n in index.folders.items():
        rows = index.rows_of(f"{name}/")
        assert len(rows) == n
        assert [paths[row] for row in rows] == [path for path in paths if path.startswith(f"{name}/")]
    assert [paths[row] for row in index.rows_of("a/1.png")] == ["a/1.png"]
    assert not index.rows_of("a/1") and not index.rows_of("z/") and len(index.rows_of("")) == 9


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from guie.own.photos import read_photos
from guie.search import embedder as embedders, pending, update, writing
embedders.BATCH = 2
place, folder = Path({place!r}), Path({folder!r})
def die(*_): os.kill(os.getpid(), signal.SIGKILL)
moment = {moment!r}
if moment == "embedded":
    add = pending.Pending.add
    def dying(self, rows, embeddings):
        if self.all()[0].shape[0] >= 4: die()
        add(self, rows, embeddings)
    pending.Pending.add = dying
if moment == "half a line":
    def dying(self, rows, embeddings):
        (self.folder / "embeddings.f32").write_bytes(embeddings.tobytes() + bytes(13))
        (self.folder / "rows.jsonl").write_text('["a/0.png", 1')
        die()
    pending.Pending.add = dying
if moment == "shards":
    writing.write_table = die
if moment == "before the header":
    writing.save_json = die
if moment == "after the header":
    pending.Pending.remove = die
update.update(place, read_photos(folder), folder, embedders.load_given({model!r}, "cpu"))
"""


@pytest.mark.parametrize("moment", ["embedded", "half a line", "shards", "before the header", "after the header"])
def test_killed_update_goes_on(
    folder: Path, tmp_path: Path, embedder: Embedder, moment: str, monkeypatch: pytest.MonkeyPatch
):
    place = tmp_path / "index"
    if moment != "embedded":  # over an older index, which must stay whole
        moved = (folder / "a/0.png").rename(tmp_path / "aside.png")
        indexed(folder, place, embedder)
        moved.rename(folder / "a/0.png")
    code = KILLED.format(
        tests=str(Path(__file__).parents[2]), place=str(place), folder=str(folder), moment=moment,
        model=embedder.model.name,
    )  # fmt: skip
    pid = os.fork()
    if pid == 0:  # a process of its own, without the seconds of a new interpreter
        try:
            exec(compile(code, "killed", "exec"), {})
        finally:
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    if moment in ("half a line", "shards", "before the header"):
        assert len(open_index(place)) == 6
    n_pending = len(Pending(place / PENDING, embedder.model.key, embedder.model.dim).table)
    assert n_pending == {"embedded": 4, "half a line": 0}.get(moment, 1)
    index, changes = indexed(folder, place, embedder)
    assert changes.n_embedded == (7 if moment == "embedded" else 1) - n_pending
    check_is_right(index, folder)
    assert not (place / PENDING).exists()
    assert sorted(path.name for path in place.iterdir()) == [".guie-search", ".lock", index.header.generation, HEADER]


def test_second_indexer_is_refused(folder: Path, tmp_path: Path, embedder: Embedder):
    place = tmp_path / "index"
    code = (
        "import sys, pathlib; from guie.done import locked\n"
        "with locked(pathlib.Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(place)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        with pytest.raises(ValueError, match=rf"is in use by process {holder.pid} .*another place with --index"):
            indexed(folder, place, embedder)
    _, changes = indexed(folder, place, embedder)
    assert changes.n_photos == 7


def test_labels_follow_the_list(folder: Path, tmp_path: Path, embedder: Embedder):
    listed = tmp_path / "list.csv"
    listed.write_text("path,label\nphotos/a/0.png,red\nphotos/5.png,blue\n")
    place = tmp_path / "index"
    index, _ = update(place, read_photos(listed), listed, embedder)
    assert index.table[["path", "label"]].to_numpy().tolist() == [["photos/5.png", "blue"], ["photos/a/0.png", "red"]]
    listed.write_text("path,label\nphotos/a/0.png,green\nphotos/5.png,blue\n")
    index, changes = update(place, read_photos(listed), listed, embedder)
    assert (changes.n_embedded, index.table["label"].tolist()) == (0, ["blue", "green"])
    assert index.file(1) == folder / "a/0.png"


def test_names_with_odd_bytes_are_found_again(tmp_path: Path, embedder: Embedder):
    folder = tmp_path / "photos"
    draw(folder / "plain.png", 0)
    odd = os.fsencode(folder) + b"/caf\xe9 %41\n.png"
    os.rename(folder / "plain.png", odd)
    index, _ = indexed(folder, tmp_path / "index", embedder)
    assert index.file(0).exists() and len(index.rows_of(index.table["path"][0])) == 1
    assert isinstance(pd.read_parquet(tmp_path / "index" / index.header.generation / "photos.parquet"), pd.DataFrame)


def test_a_folder_with_other_files_is_not_touched(folder: Path, tmp_path: Path, embedder: Embedder):
    shop = tmp_path / "shop"
    contents = {
        "pending/a.png": b"1",
        "g1/b.png": b"2",
        "g0001/00000.npy": b"3",
        "deep/.draft.tmp": b"4",
        "index.json": b'{"name": "a web site"}',
    }
    for name, content in contents.items():
        (shop / name).parent.mkdir(parents=True, exist_ok=True)
        (shop / name).write_bytes(content)
    with pytest.raises(ValueError, match=r"shop holds other files, such as deep, and is no index; .*--index.*--out$"):
        indexed(folder, shop, embedder)
    assert {str(path.relative_to(shop)): path.read_bytes() for path in shop.rglob("*") if path.is_file()} == contents


def test_files_that_a_user_puts_into_an_index_stay(folder: Path, tmp_path: Path, embedder: Embedder):
    place = tmp_path / "index"
    first, _ = indexed(folder, place, embedder)
    others = ["pending/a.png", "g1/b.png", "g7000/notes.txt", "deep/.draft.tmp", ".mine.tmp"]
    for name in others:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(b"x")
    for killed in (".g0009.tmp/00000.npy", "g0008/00000.npy"):  # what updates that were killed leave
        (place / killed).parent.mkdir()
        (place / killed).write_bytes(b"x")
    draw(folder / "new.png", 50)
    index, _ = indexed(folder, place, embedder)
    assert all((place / name).read_bytes() == b"x" for name in others)
    left = {path.name for path in place.iterdir()} - {Path(name).parts[0] for name in others}
    assert left == {".guie-search", ".lock", HEADER, index.header.generation}
    assert index.header.generation != first.header.generation
