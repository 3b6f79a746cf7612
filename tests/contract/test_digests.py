"""Every field of a recipe is in the digest of a door, and whatever a door reads is in its own."""

import functools
import runpy
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from opening import SMALL
from PIL import Image

from guie import door as door_module
from guie import recipe as recipe_module
from guie.data import drawn, packing
from guie.data.drawn import draw_world
from guie.door import READS, VERSIONS, reads, settings_digest
from guie.recipe import Data, DrawnWorld, Embed, Export, Limit, Member, Model, Recipe, Setting, Source, Stage, load_recipe
from guie.run import DOORS, PROJECT, set_up_logging
from guie.train import trainer
from guie.versions import DRAWING

# Fields that no digest before the report's needs to hold.
COSTS_ONLY = {"embed.batch_size": "how many images a forward pass takes"}

MODEL = Model("timm", "resnet18")
EVERY_KIND = Recipe(
    name="all",
    data=Data((Source("a", "class_folders", "a", "x"), Source("b", "class_folders", "b", "y")), DrawnWorld(), limits=(Limit("a"),), distractors=("b",)),
    model=MODEL,
    stages=(
        Stage("s1", "head", "head", 64, 1, 8, 0.01, fresh=("neck", "classifier")),
        Stage("s2", "head", "head", 64, 1, 8, 0.01, fresh=("neck", "classifier"), starts_from="pretrained", model=MODEL, sources=("a",)),
        Stage("s3", "backbone", "backbone", 64, 1, 8, 0.01, drops=(1,), block_edges=(2, 4), block_factors=(0.1, 0.5)),
        Stage("s4", "highres", "soup", 64, 1, 8, 0.01, soup=("s1", "s2")),
    ),
    embed=Embed((Setting("one", (Member("s1", 64), Member("s3", 64))), Setting("two", (Member("s4", 64),), pca_dim=64))),
    export=Export(),
)
WORDS = {"stage": "pretrained", "starts_from": "pretrained", "phase": "backbone"}  # which must name something


def walk(node: Any, path: str, put: Callable[[Any], Any]) -> Iterator[tuple[str, Any, Callable[[Any], Any]]]:
    """Every leaf below `node`: its path, its value, and what makes a whole recipe of another value for it."""
    for item in fields(node):
        value, here = getattr(node, item.name), f"{path}{item.name}"
        put_here = functools.partial(lambda name, new: put(replace(node, **{name: new})), item.name)
        if is_dataclass(value):
            yield here, value, put_here
            yield from walk(value, f"{here}.", put_here)
        elif isinstance(value, tuple) and value and is_dataclass(value[0]):
            yield here, value, put_here
            for i, row in enumerate(value):
                put_row = functools.partial(lambda i, rows, put_rows, new: put_rows((*rows[:i], new, *rows[i + 1 :])), i, value, put_here)
                yield from walk(row, f"{here}.{getattr(row, 'name', i)}.", put_row)
        else:
            yield here, value, put_here


def another(path: str, value: Any) -> Any:
    """A value of the same type that is not `value`."""
    name = path.rpartition(".")[2]
    if name in WORDS and value != WORDS[name]:
        return WORDS[name]
    if is_dataclass(value) or value is None:
        others = {"drawn": None, "model": Model("timm", "resnet34"), "mean": (0.1, 0.2, 0.3), "std": (0.1, 0.2, 0.3)}
        return others.get(name, value) if name != "drawn" or value is not None else DrawnWorld()
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, tuple):
        return value[::-1] if len(set(value)) > 1 else value[1:] if value else {"soup": ("pretrained",), "drops": (3,)}.get(name, ("a",))
    return {"highres": "backbone", "pretrained": "s1"}.get(value, f"{value}_other")


def leaves() -> list[tuple[str, Any, Callable[[Any], Any]]]:
    return [leaf for leaf in walk(EVERY_KIND, "", lambda recipe: recipe) if not (isinstance(leaf[1], tuple) and leaf[1] and is_dataclass(leaf[1][0]))]


def test_walk_reaches_every_class_of_settings():
    paths = [path for path, _, _ in leaves()]
    assert len(paths) == len(set(paths)) > 250
    classes = [value for value in vars(recipe_module).values() if isinstance(value, type) and is_dataclass(value)]
    assert len(classes) >= 16
    for kind in classes:
        some = fields(kind)[-1].name
        assert any(path.rpartition(".")[2] == some for path in paths), (kind, some)


@pytest.mark.parametrize("leaf", leaves(), ids=lambda leaf: leaf[0])
def test_changed_field_changes_the_digest_of_a_door_before_the_report(leaf: tuple[str, Any, Callable[[Any], Any]]):
    path, value, put = leaf
    new = another(path, value)
    if new == value and is_dataclass(value):
        return  # its own fields are tried one by one
    assert new != value, path
    changed = put(new)
    if path.startswith("stages.") and path.endswith(".name"):  # what refers to the stage follows it
        changed = renamed(changed, value, new)
    holders = [number for number in range(1, 9) if settings_digest(EVERY_KIND, number) != settings_digest(changed, number)]
    assert bool(holders) != (path in COSTS_ONLY), (path, holders)
    assert settings_digest(EVERY_KIND, 9) != settings_digest(changed, 9), "the report shows the whole recipe"


def renamed(recipe: Recipe, old: str, new: str) -> Recipe:
    stages = tuple(replace(stage, soup=tuple(new if name == old else name for name in stage.soup)) for stage in recipe.stages)
    rows = tuple(replace(row, members=tuple(replace(m, stage=new if m.stage == old else m.stage) for m in row.members)) for row in recipe.embed.settings)
    return replace(recipe, stages=stages, embed=replace(recipe.embed, settings=rows))


@pytest.mark.parametrize(("number", "name"), [(n, name) for n in VERSIONS for name in VERSIONS[n]])
def test_version_of_the_code_is_in_the_digest(monkeypatch: pytest.MonkeyPatch, number: int, name: str):
    before = settings_digest(EVERY_KIND, number)
    monkeypatch.setitem(VERSIONS, number, VERSIONS[number] | {name: VERSIONS[number][name] + 1})
    assert settings_digest(EVERY_KIND, number) != before


# What is drawn for seed 5: mean red, green and blue of 4 x 4 fields, in hex, of three instances. One level of tolerance: another CPU may round otherwise.
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
    remedy = f"the drawn world is another: raise guie.versions.DRAWING and write here {[bytes(image.tolist()).hex() for image in seen]}"
    expected = [np.frombuffer(bytes.fromhex(text), np.uint8) for text in DRAWN.get((DRAWING, domain), ())]
    assert len(expected) == len(seen), remedy
    assert all(np.abs(a - b.astype(int)).max() <= 1 for a, b in zip(seen, expected, strict=True)), remedy


def fields_of(path: Path) -> np.ndarray:
    """int64 [48], 0..255."""
    with Image.open(path) as image:
        return np.asarray(image.resize((4, 4), Image.Resampling.BOX)).ravel().astype(np.int64)


# --- what each door reads, recorded while it works -------------------------------------------------------------------------

# Reads that decide nothing: a check that refuses, the choice of a door's own stages.
REFUSES = dict.fromkeys((4, 5, 6), ("embed.settings.*.pca_dim", "embed.settings.*.name"))
CHOOSES = ("stages.*.phase", "stages.*.name", "name", "embed.batch_size")


@dataclass
class Recorder:
    """The paths of all fields of one recipe that are read while it is on: of a copy of a part, what was read to make it."""

    recipe: Recipe
    seen: set[str] = field(default_factory=set)
    n_paused: int = 0
    is_on: bool = False

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        places = {id(self.recipe): ""}
        for path, value, _ in walk(self.recipe, "", lambda recipe: recipe):
            if is_dataclass(value):
                places.setdefault(id(value), f"{path}.")
            elif isinstance(value, tuple) and value and is_dataclass(value[0]):
                places.update({id(row): f"{path}.{getattr(row, 'name', i)}." for i, row in enumerate(value)})
        kinds = {type(part) for part in parts_of(self.recipe)}
        names = {kind: {item.name for item in fields(kind)} for kind in kinds}

        def read(part: Any, name: str) -> Any:
            value = object.__getattribute__(part, name)
            if self.is_on and not self.n_paused and name in names[type(part)] and id(part) in places:
                is_container = (is_dataclass(value) or (isinstance(value, tuple) and value and is_dataclass(value[0]))) and name not in ("drawn", "model")
                if not is_container or (name == "model" and type(part) is Recipe):
                    self.seen.add(places[id(part)] + name)
            return value

        for kind in kinds:
            monkeypatch.setattr(kind, "__getattribute__", read, raising=False)
        for name in ("digest", "stage", "parent", "ancestors", "to_json"):  # digests, and look-ups by name
            monkeypatch.setattr(Recipe, name, self.paused(getattr(Recipe, name)))
        monkeypatch.setattr(Recipe, "models", property(self.paused(Recipe.models.fget)))  # whose weights' digests are an input of doors 04 to 08

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
    return replace(node, **{item.name: without_sharing(getattr(node, item.name)) for item in fields(node)}) if is_dataclass(node) else node


def parts_of(node: Any) -> Iterator[Any]:
    yield node
    for item in fields(node):
        value = getattr(node, item.name)
        for part in value if isinstance(value, tuple) else (value,):
            if is_dataclass(part):
                yield from parts_of(part)


def matches(path: str, patterns: tuple[str, ...]) -> bool:
    """Whether `path` is one of the patterns, lies below one, or holds one; `*` stands for one name, which may hold dots."""
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
    recipe = without_sharing(load_recipe("tiny", [*SMALL, *(f"stages.{s.name}.n_epochs=1" for s in load_recipe("tiny").stages)]))
    recorder = Recorder(recipe)
    monkeypatch.setattr(door_module, "load_recipe", lambda *_: recipe)
    monkeypatch.setattr(door_module, "keep_freed_memory", lambda: True)  # it cannot be undone
    monkeypatch.setattr(packing, "process_pool", lambda n, scheduler: ThreadPoolExecutor(1))  # in this process, where reads are recorded
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
    monkeypatch.setattr(trainer, "check_models", recorder.paused(trainer.check_models))  # it tries all stages' and members' sizes, and refuses
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
        assert not not_held, f"door {number:02d} reads {not_held}, which are not in guie.door.READS"
        unread[number] = [entry for entry in READS[number] if not any(path == entry or path.startswith(f"{entry}.") for path in recorder.seen)]
    set_up_logging(None)
    assert {number: entries for number, entries in unread.items() if entries} == {}, "a field that no door reads makes it run again for nothing"
