"""Every field of a recipe is in the digest of a door, and whatever a door reads is in its own."""

import functools
import re
import runpy
import sys
import typing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from opening import SMALL
from PIL import Image
from trees import Leaf, another, classes, every_kind, inner, leaves, put, renamed, sample, walk

from guie import door as door_module
from guie import recipe as recipe_module
from guie.data import packing
from guie.dependencies import READS, VERSIONS, reads, settings_digest
from guie.recipe import DrawnWorld, Recipe, Stages, load_recipe
from guie.run import DOORS, PROJECT, set_up_logging
from guie.settings.objective import ObjectiveSettings
from guie.settings.objectives.kind import Kind
from guie.synthetic import world as drawn
from guie.synthetic.world import draw_world
from guie.train import stage as train_stage
from guie.versions import DRAWING

# Fields that no digest before the report's needs to hold.
COSTS_ONLY = {"embed.batch_size": "how many images a forward pass takes"}

EVERY_KIND = every_kind()


def test_walk_reaches_every_class_of_settings():
    found = leaves(EVERY_KIND)
    assert len({leaf.path for leaf in found}) == len(found) > 400
    exported = {value for value in vars(recipe_module).values() if isinstance(value, type) and is_dataclass(value)}
    assert exported == set(classes()) and sum(not issubclass(kind, Kind) for kind in exported) == 45
    held = {leaf.owner for leaf in found} | {type(leaf.value) for leaf in found if is_dataclass(leaf.value)}
    others = {Stages, *typing.get_args(ObjectiveSettings)}  # whose rows are reached by their names; of several kinds
    assert exported - held <= others
    walked = {leaf.key for leaf in walk(EVERY_KIND)}
    assert walked == {(kind.__name__, item.name) for kind in exported & held for item in fields(kind)}


def by_section(found: Iterable[Any]) -> dict[str, list[Any]]:
    """Leaves, or pairs of a leaf and a value, by the section or the stage that they lie in. Thousands of tests of a few
    milliseconds each would cost more than what they try."""
    sections: dict[str, list[Any]] = {}
    for item in found:
        path = item.path if isinstance(item, Leaf) else item[0].path
        sections.setdefault(".".join(path.split(".")[:2]), []).append(item)
    return sections


LEAVES = by_section(leaves(EVERY_KIND))


@pytest.mark.parametrize("section", LEAVES)
def test_changed_field_changes_the_digest_of_a_door_before_the_report(section: str):
    unlike = [leaf.path for leaf in LEAVES[section] if is_held(section, leaf) != (leaf.path not in COSTS_ONLY)]
    assert unlike == []


def is_held(section: str, leaf: Leaf) -> bool:
    """Whether another value of the field changes the digest of a door before the report; that of the report must."""
    new = another(leaf)
    assert new != leaf.value or type(new) is not type(leaf.value)
    if re.fullmatch(r"stages\.\w+\.name", leaf.path):
        changed = renamed(around(section), leaf.value, new)  # what refers to the row follows it
    else:
        changed = put(around(section), leaf.path, new)
    assert own_digest(section, 9) != settings_digest(changed, 9), f"{leaf.path}: the report shows the whole recipe"
    return any(holders(section, changed))


@functools.cache
def around(section: str) -> Recipe:
    """The recipe with every kind, but with one stage of an objective of its own at most, that of the section.

    Digests of fifty stages take long.
    """
    kept = (section.removeprefix("stages."), "s3", "s4", "s5")
    stages = EVERY_KIND.stages
    return replace(
        EVERY_KIND, stages=replace(stages, backbone=tuple(row for row in stages.backbone if row.name in kept))
    )


@functools.cache
def own_digest(section: str, number: int) -> str:
    return settings_digest(around(section), number)


def holders(section: str, changed: Recipe) -> Iterator[int]:
    """The doors before the report whose digest another recipe changes."""
    return (number for number in range(1, 9) if own_digest(section, number) != settings_digest(changed, number))


def choices() -> list[tuple[Leaf, Any]]:
    """Every field that takes several kinds, with each of the others that it may hold."""
    found = [leaf for leaf in leaves(EVERY_KIND) if leaf.is_choice]
    others = [(leaf, sample(kind)) for leaf in found for kind in leaf.kinds]
    return [(leaf, other) for leaf, other in others if type(other) is not type(leaf.value)]


CHOICES = by_section(choices())


@pytest.mark.parametrize("section", CHOICES)
def test_every_other_kind_changes_the_digest_of_a_door(section: str):
    """The fields that two kinds share stay as they are: AdamW and Adam have none, OneCycle and Constant the same."""
    for leaf, other in CHOICES[section]:
        if is_dataclass(other) and is_dataclass(leaf.value):
            shared = {item.name for item in fields(leaf.value)} & {item.name for item in fields(other)}
            other = replace(other, **{name: getattr(leaf.value, name) for name in shared})
        changed = put(around(section), leaf.path, other)
        assert any(holders(section, changed)), (leaf.path, other)
        assert own_digest(section, 9) != settings_digest(changed, 9), (leaf.path, other)


def test_choices_are_all_of_them():
    kinds = {(*leaf.key, type(other).__name__) for leaf, other in choices()}
    assert {name for _, name, _ in kinds} == {
        *("objective", "margin_rad", "margin_cosine", "sampling", "miner", "memory"),
        *("method", "schedule", "blocks", "model", "drawn", "left_out"),
    }
    assert {("Stage", "objective", kind) for kind in ("ArcFace", "CosFace", "Softmax")} <= kinds
    assert {("Optim", "method", kind) for kind in ("AdamW", "Adam", "Sgd")} <= kinds
    schedules = ("OneCycle", "Cosine", "Steps", "Exponential", "Constant")
    assert {("Optim", "schedule", kind) for kind in schedules} <= kinds
    assert {("Optim", "blocks", kind) for kind in ("LayerDecay", "BlockFactors", "NoneType")} <= kinds
    assert {("ArcFace", "margin_rad", kind) for kind in ("float", "GrowingMargin", "ClassMargin")} <= kinds


def test_place_of_a_row_is_in_the_digest_of_a_door():
    """The phase, which is no field: the same rows in the same order, the last of the backbone's among the highres."""
    recipe = around("")
    stages = recipe.stages
    *kept, moved = stages.backbone
    other = replace(stages, backbone=tuple(kept), highres=(moved, *stages.highres))
    assert list(other) == list(stages)
    changed = replace(recipe, stages=other)
    assert list(holders("", changed)) == [5, 6]
    assert own_digest("", 9) != settings_digest(changed, 9)


@pytest.mark.parametrize(("number", "name"), [(n, name) for n in VERSIONS for name in VERSIONS[n]])
def test_version_of_the_code_is_in_the_digest(monkeypatch: pytest.MonkeyPatch, number: int, name: str):
    before = settings_digest(EVERY_KIND, number)
    monkeypatch.setitem(VERSIONS, number, VERSIONS[number] | {name: VERSIONS[number][name] + 1})
    assert settings_digest(EVERY_KIND, number) != before


# What is drawn for seed 5: mean red, green and blue of 4 x 4 fields, in hex, of three instances. One level of
# tolerance: another CPU may round otherwise.
DRAWN = {
    (2, "landmarks"): (
        "50587a57607d505879596183766e6f6b63616e6565776e705f6463524c454b56436567615b63665f5f5b536056586363",
        "8695b48e94aa8894ac8693b38699ad757a8d7b859a939ebc57675d6b6a83716e837077836f737c61616c6363706d737b",
        "c1b6c6c1b6c6c0b5c5b6aec0dacedec7bfc8c6c3cad7ccdc939a9188848a799277c2c2b7717d5a8f868578825d7c8f5f",
    ),
    (2, "products"): (
        "697877687283697a7c6d7e745c626d5954705a576d787e5659656550445951535f646a4a606b5f5951507e5293656469",
        "f5e4edfeebf9feebfafeecf8cec6bab39cd29371bcf3e1f4b6b59b636cb05748a1d5bbd8d3cfc4a7989cc19badf0d5e1",
        "fffffffffffffffffffffffffffffdc6d7f4b5ccf0dae4f8a5bad1637cfa3a68f79cb0f6e8e2f1bfc5eba8aed9d0d0ed",
    ),
    (2, "artworks"): (
        "646682696d89696d896b6e8a8885916469786d707c6f697a5a7560625e6a4e5d7b6f61748a87948884928884918c8795",
        "9b7780ae7579b2706b977075a68568c49186ca97749371687a65757d547972446c6448685c497e4032463c324137303c",
        "78564bc07454a26552534f46986f5bc6905ea786695149457c6463716758638b6a766165755f6b6b3f6d774f76745f66",
    ),
    (2, "toys"): (
        "edecfcdbd9f3eeebfeeeebfead9acf8c7b81c7c5e2e7e3f9c6bfd699917fada5c4e1ddf5ede9fee9e5fbedeafdeeebfe",
        "29493226462f20402931513c2d4424374f2d3854263c54304b552152592781774b4959244a54204d59216d6349395626",
        "697851687456697158697754697851655b5b6f5167697754687653685b51714b50676f526976545d425a58395a56534d",
    ),
}


@pytest.mark.parametrize("domain", ["landmarks", "products", "artworks", "toys"])
def test_drawn_pixels_change_only_with_the_version(tmp_path: Path, domain: str):
    draw_world(tmp_path, DrawnWorld(n_instances=3, n_views=1, image_px=64, domains=(domain,)), seed=5)
    seen = [fields_of(tmp_path / drawn._place(domain, instance, 0, 1, 5)) for instance in range(3)]
    remedy = (
        "the drawn world is another: raise guie.versions.DRAWING and write here "
        f"{[bytes(image.tolist()).hex() for image in seen]}"
    )
    expected = [np.frombuffer(bytes.fromhex(text), np.uint8) for text in DRAWN.get((DRAWING, domain), ())]
    assert len(expected) == len(seen), remedy
    assert all(np.abs(a - b.astype(int)).max() <= 1 for a, b in zip(seen, expected, strict=True)), remedy


def fields_of(path: Path) -> np.ndarray:
    """int64 [48], 0..255."""
    with Image.open(path) as image:
        return np.asarray(image.resize((4, 4), Image.Resampling.BOX)).ravel().astype(np.int64)


# --- what each door reads, recorded while it works
# -------------------------------------------------------------------------

# Reads that decide nothing: a check that refuses, the choice of a door's own stages.
REFUSES = dict.fromkeys(
    (4, 5, 6), ("embed.settings.*.pca_dim", "embed.settings.*.name", "embed.settings.*.fit_on", "embed.fit_on")
)
CHOOSES = ("stages.*.name", "name", "embed.batch_size")


@dataclass
class Recorder:
    """The paths of all fields of one recipe that are read while it is on: of a copy of a part, what was read to make
    it."""

    recipe: Recipe
    seen: set[str] = field(default_factory=set)
    n_paused: int = 0
    is_on: bool = False

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        places = {id(self.recipe): ""}
        for path, row in ((f"stages.{row.name}", row) for row in self.recipe.stages):
            places[id(row)] = f"{path}."
        for leaf in walk(self.recipe):
            places |= {id(part): f"{path}." for path, part in inner(leaf.value, leaf.path)}
        # A field that takes several kinds is read by asking for its kind alone; of a section its own fields are.
        told = {leaf.path for leaf in leaves(self.recipe)} | {"model"}

        def read(part: Any, name: str) -> Any:
            if self.is_on and not self.n_paused and (path := places.get(id(part), "?") + name) in told:
                self.seen.add(path)
            return object.__getattribute__(part, name)

        for kind in {type(part) for part in parts_of(self.recipe)} - {Stages}:
            monkeypatch.setattr(kind, "__getattribute__", read, raising=False)
        for name in (
            "digest",
            "row",
            "stage",
            "parent",
            "ancestors",
            "behind",
            "to_json",
        ):  # digests, and look-ups by name
            monkeypatch.setattr(Recipe, name, self.paused(getattr(Recipe, name)))
        monkeypatch.setattr(
            Recipe, "models", property(self.paused(Recipe.models.fget))
        )  # whose weights' digests are an input of doors 04 to 08

    def paused(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def quiet(*given: Any, **words: Any) -> Any:
            self.n_paused += 1
            try:
                return function(*given, **words)
            finally:
                self.n_paused -= 1

        return quiet


def without_sharing(node: Any) -> Any:
    """A copy in which no two fields hold the same object."""
    if isinstance(node, tuple):
        return tuple(without_sharing(item) for item in node)
    return (
        replace(node, **{item.name: without_sharing(getattr(node, item.name)) for item in fields(node)})
        if is_dataclass(node)
        else node
    )


def parts_of(node: Any) -> Iterator[Any]:
    yield node
    for item in fields(node):
        value = getattr(node, item.name)
        for part in value if isinstance(value, tuple) else (value,):
            if is_dataclass(part):
                yield from parts_of(part)


def matches(path: str, patterns: tuple[str, ...]) -> bool:
    """Whether `path` is one of the patterns, lies below one, or holds one; `*` stands for one name, which may hold
    dots."""
    for pattern in patterns:
        head, star, tail = pattern.partition("*")
        if star:
            if path.startswith(head) and path.endswith(tail):
                return True
        elif path == pattern or path.startswith(f"{pattern}."):
            return True
    return False


@pytest.mark.slow
def test_whatever_a_door_reads_is_in_its_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    small = (*SMALL, "data.drawn.n_views=6", "data.drawn.image_px=64")
    recipe = without_sharing(
        load_recipe("tiny", [*small, *(f"stages.{row.name}.optim.n_epochs=1" for row in load_recipe("tiny").stages)])
    )
    recorder = Recorder(recipe)
    monkeypatch.setattr(door_module, "load_recipe", lambda *_: recipe)
    monkeypatch.setattr(door_module, "keep_freed_memory", lambda: True)  # it cannot be undone
    monkeypatch.setattr(
        packing, "process_pool", lambda n, scheduler: ThreadPoolExecutor(1)
    )  # in this process, where reads are recorded
    imported = door_module._imported

    def watched(work: Any) -> Callable[..., Any]:
        function = imported(work)

        def watch(*given: Any, **words: Any) -> Any:
            recorder.is_on = True
            try:
                return function(*given, **words)
            finally:
                recorder.is_on = False

        return watch

    monkeypatch.setattr(door_module, "_imported", watched)
    recorder.install(monkeypatch)
    monkeypatch.setattr(
        train_stage, "check_models", recorder.paused(train_stage.check_models)
    )  # it tries all stages' and members' sizes, and refuses
    unread: dict[int, list[str]] = {}
    for number in range(1, 9):
        recorder.seen = set()
        monkeypatch.setattr(sys, "argv", ["door", "--recipe", "tiny", "--out", str(tmp_path), "--device", "cpu"])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(PROJECT / DOORS[number]), run_name="__main__")
        assert ended.value.code == 0
        held = reads(recipe, number)
        allowed = (*CHOOSES, *REFUSES.get(number, ()))
        assert recorder.seen
        not_held = sorted(path for path in recorder.seen if not matches(path, held) and not matches(path, allowed))
        assert not not_held, f"door {number:02d} reads {not_held}, which are not in guie.dependencies.READS"
        unread[number] = [
            entry
            for entry in READS[number]
            if not any(path == entry or path.startswith(f"{entry}.") for path in recorder.seen)
        ]
    set_up_logging(None)
    assert {number: entries for number, entries in unread.items() if entries} == {}, (
        "a field that no door reads makes it run again for nothing"
    )
