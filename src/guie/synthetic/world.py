"""A world that the project draws itself, written in the layouts of real data sets.

There are four domains: buildings, packaged products, artworks and toys. Each instance is seen from several sides, near
and far, in changing light and weather, before changing backgrounds, partly hidden, blurred and compressed. Every third
instance is a near-twin or a sibling of the one before, so that the task is not trivial. Each image is a pure function
of (seed, domain, instance, view).
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import logging
import shutil
from collections.abc import Iterator
from concurrent.futures import as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from guie.files import digest_of_file, full_disk_told, save_json, whole_file
from guie.machine import n_cores
from guie.processes import process_pool
from guie.settings.data import GROUPS, DrawnWorld
from guie.shown import progress
from guie.synthetic.scene import DOMAINS, draw_image, generator
from guie.versions import DRAWING

MIN_FOR_PROCESSES = 200  # fewer images are drawn in less time than processes take to start
# The folder of each domain. This module removes them when the settings change.
FOLDERS = {"landmarks": "gldv2", "products": "products10k", "artworks": "artworks", "toys": "toys"}
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Shot:
    """One image to be drawn: where it goes, and what it shows."""

    path: Path
    domain: str
    instance: int
    view: int


def draw_world(folder: Path, world: DrawnWorld, seed: int) -> None:
    """Draws the world into `folder`, unless it is there already.

    Writes `gldv2/train/a/b/c/ID.jpg` with `gldv2/train.csv` (id, url, landmark_id), `products10k/train/N.jpg` with
    `products10k/train.csv` (name, class, group), `artworks/CLASS/N.jpg`, `toys/CLASS/N.jpg`, `groups.csv` (label,
    group) for all but the products, and `world.json`. A group is three instances; the third is a near-twin or a sibling
    of the second. Existing images are kept, so a run after a kill draws only the missing ones. A world of other
    settings is removed and drawn anew. Images whose bytes were changed are drawn anew, too.

    Args:
        folder: Made when missing.
        world: Numbers of instances and views, image size, domains and difficulty.
        seed: Of the world.

    Raises:
        ValueError: a setting is out of its range, or `world.json` is damaged.
        FileExistsError: `folder` holds a set of the same name that was not drawn here.
    """
    _check(world)
    settings = {**asdict(world), "domains": list(world.domains), "seed": seed, "version": DRAWING}
    shots = list(_shots(folder, world, seed))
    missing, tables = _missing(folder, settings, shots), {folder / path: text for path, text in _tables(world, seed)}
    if (
        _is_finished(folder, settings)
        and not missing
        and all(path.is_file() and path.read_bytes() == text for path, text in tables.items())
    ):
        return
    _prepare(folder, settings)
    _draw_all(missing, world, seed)
    for path, text in tables.items():
        with whole_file(path) as temporary:
            temporary.write_bytes(text)
    save_json(
        folder / "world.json",
        {**settings, "is_whole": True, "n_images": len(shots), "digests": [digest_of_file(s.path)[:8] for s in shots]},
    )
    log.info("drew %d of %d images in %s", len(missing), len(shots), folder)


def _code(seed: int, *keys: object) -> str:
    """A hash of these keys: 16 hexadecimal digits."""
    return hashlib.sha256(repr((seed, *keys)).encode()).hexdigest()[:16]


def _label(seed: int, domain: str, instance: int) -> int:
    """A class number with gaps, as real sets have them."""
    return instance * 37 + int(_code(seed, domain, instance), 16) % 37


def _shots(folder: Path, world: DrawnWorld, seed: int) -> Iterator[Shot]:
    for domain in world.domains:
        for instance in range(world.n_instances):
            for view in range(world.n_views):
                yield Shot(folder / _place(domain, instance, view, world.n_views, seed), domain, instance, view)


def _place(domain: str, instance: int, view: int, n_views: int, seed: int) -> str:
    """The path of an image in the layout of the real set that its domain imitates."""
    if domain == "landmarks":
        code = _code(seed, domain, instance, view)
        return f"gldv2/train/{code[0]}/{code[1]}/{code[2]}/{code}.jpg"
    if domain == "products":
        return f"products10k/train/{instance * n_views + view}.jpg"
    return f"{domain}/{_class_name(seed, domain, instance)}/{view}.jpg"


def _class_name(seed: int, domain: str, instance: int) -> str:
    label = _label(seed, domain, instance)
    return str(label) if domain in ("landmarks", "products") else f"{domain[:-1]} {label:04d}"


def _draw_all(shots: list[Shot], world: DrawnWorld, seed: int) -> None:
    """Draws images, on all cores if there are many."""
    with progress(total=len(shots), desc="drawing the world") as bar:
        if len(shots) < MIN_FOR_PROCESSES or n_cores() == 1:
            for shot in shots:
                _draw_shot(shot, world, seed)
                bar.update()
            return
        # In order: the views of an instance share its parts, which are built once.
        chunks = [shots[i : i + 24] for i in range(0, len(shots), 24)]
        with process_pool(n_cores()) as pool:
            for future in as_completed([pool.submit(_draw_shots, chunk, world, seed) for chunk in chunks]):
                bar.update(future.result())


def _draw_shots(shots: list[Shot], world: DrawnWorld, seed: int) -> int:
    for shot in shots:
        _draw_shot(shot, world, seed)
    return len(shots)


def _draw_shot(shot: Shot, world: DrawnWorld, seed: int) -> None:
    quality = int(generator(seed, DOMAINS[shot.domain].number, shot.instance, shot.view, 10).integers(40, 96))
    _write_jpeg(
        shot.path, draw_image(shot.domain, shot.instance, shot.view, world.image_px, seed, world.difficulty), quality
    )


def _tables(world: DrawnWorld, seed: int) -> Iterator[tuple[str, bytes]]:
    """The path and the content of each list file of the sets."""
    for path, rows in _rows(world, seed):
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        yield path, text.getvalue().encode()


def _rows(world: DrawnWorld, seed: int) -> Iterator[tuple[str, list[tuple[Any, ...]]]]:
    """The path and the rows of each list file: those that `guie.data.sources` reads of each layout, and groups for
    layouts without any."""
    pairs = [(instance, view) for instance in range(world.n_instances) for view in range(world.n_views)]
    if "landmarks" in world.domains:
        images = sorted(
            (_code(seed, "landmarks", i, v), f"drawn://landmarks/{i}/{v}", _label(seed, "landmarks", i))
            for i, v in pairs
        )
        yield "gldv2/train.csv", [("id", "url", "landmark_id"), *images]
    if "products" in world.domains:
        yield (
            "products10k/train.csv",
            [
                ("name", "class", "group"),
                *((f"{i * world.n_views + v}.jpg", _label(seed, "products", i), i // 3) for i, v in pairs),
            ],
        )
    for domain in world.domains:
        if domain != "products":
            yield (
                f"{FOLDERS[domain]}/{GROUPS}",
                [("label", "group"), *((_class_name(seed, domain, i), i // 3) for i in range(world.n_instances))],
            )


def _write_jpeg(path: Path, image: np.ndarray, quality: int) -> None:
    """Writes a temporary file and renames it. Unlike `whole_file` it does not call fsync: images that a power cut
    damages are drawn again in seconds."""
    is_encoded, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert is_encoded
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with full_disk_told(path.parent.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(data.tobytes())
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _missing(folder: Path, settings: dict[str, Any], shots: list[Shot]) -> list[Shot]:
    """The images that are not there, or that were changed after the world was finished. Their bytes are compared only
    if the time of the last change is later."""
    if not _agrees(_mark(folder), settings):
        return shots
    if not _is_finished(folder, settings):  # a killed run leaves complete images; a power cut may leave empty ones
        return [shot for shot in shots if not (shot.path.is_file() and shot.path.stat().st_size)]
    finished, digests = (folder / "world.json").stat().st_mtime_ns, _mark(folder)["digests"]
    return [
        shot
        for shot, digest in zip(shots, digests, strict=True)
        if not shot.path.is_file()
        or (shot.path.stat().st_ctime_ns > finished and digest_of_file(shot.path)[:8] != digest)
    ]


def _is_finished(folder: Path, settings: dict[str, Any]) -> bool:
    mark = _mark(folder)
    return mark.get("is_whole") is True and _agrees(mark, settings) and "digests" in mark


def _mark(folder: Path) -> dict[str, Any]:
    path = folder / "world.json"
    try:
        mark = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path} is damaged ({error}); delete the folder {folder}, and the world is drawn anew"
        ) from error
    return mark if isinstance(mark, dict) else {}


def _agrees(mark: dict[str, Any], settings: dict[str, Any]) -> bool:
    return all(mark.get(name) == value for name, value in settings.items())


def _prepare(folder: Path, settings: dict[str, Any]) -> None:
    """Removes a world of other settings and the temporary files of a killed run; records the settings of this world."""
    mark = _mark(folder)
    present = [folder / name for name in FOLDERS.values() if (folder / name).exists()]
    if present and not mark:
        raise FileExistsError(
            f"{present[0]} exists, and no world.json beside it says that it was drawn here; move it away, or choose "
            "another place with --out"
        )
    if not _agrees(mark, settings):
        for path in present:
            shutil.rmtree(path)
    for name in FOLDERS.values():
        for path in (folder / name).rglob(".*.tmp"):
            path.unlink()
    save_json(folder / "world.json", {**settings, "is_whole": False})


def _check(world: DrawnWorld) -> None:
    for name, low, high in (
        ("n_instances", 1, 10**6),
        ("n_views", 1, 10**4),
        ("image_px", 32, 4096),
        ("difficulty", 0, 1),
    ):
        value = getattr(world, name)
        if not low <= value <= high:
            raise ValueError(f"data.drawn.{name} is {value}, must be {low} to {high}")
    for domain in world.domains:
        if domain not in DOMAINS:
            raise ValueError(f"data.drawn.domains holds {domain!r}; must be of {', '.join(DOMAINS)}")
