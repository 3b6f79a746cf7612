"""All that a recipe may say, and nothing else.

A recipe is a tree of frozen dataclasses, in the order data, model, stages, embed, export. It is written as a Python file in
`guie/recipes/` (or anywhere: `--recipe path/to/mine.py`) that defines one name, `RECIPE`. Its docstring states the source, the
machine, the hours and the score to expect.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib
import importlib.util
import itertools
import json
import re
import traceback
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass, field, is_dataclass, replace
from pathlib import Path
from typing import Any

from guie.data_settings import RESERVED_DOMAINS as RESERVED_DOMAINS
from guie.data_settings import Data as Data  # recipes import all from here
from guie.data_settings import DrawnWorld as DrawnWorld
from guie.data_settings import Limit as Limit
from guie.data_settings import Source as Source
from guie.fieldtypes import check_types
from guie.model_settings import PRETRAINED_TAG as PRETRAINED_TAG
from guie.model_settings import Model as Model
from guie.override import nearest, override_field
from guie.stage_settings import AUGMENT_HIGH as AUGMENT_HIGH
from guie.stage_settings import Augment as Augment
from guie.stage_settings import ClassFrequencyMargin as ClassFrequencyMargin
from guie.stage_settings import EpochMargin as EpochMargin
from guie.stage_settings import NeckShape as NeckShape
from guie.stage_settings import Stage as Stage

PRETRAINED = "pretrained"  # the name of the stage that trained nothing: the backbone as it was loaded
VIEWS = ("plain", "flip", "crop", "pad", "aspect", "aspect_pad")


@dataclass(frozen=True)
class Member:
    """One member of an ensemble.

    Attributes:
        stage: The stage whose weights it uses; `pretrained` is the backbone as loaded.
        image_px: Side of the square it sees.
        views: Views averaged: plain (squashed), flip (that, mirrored), crop (the central nine tenths), pad (in its own aspect, on grey); and, as the
            5th place chose them, aspect (crop if the image is square, else plain) with aspect_pad (crop if square, else nine tenths padded).
        output: `embedding` (the neck's output) or `feature` (the backbone's).
        weight: Its share in the concatenation.
        patch_stride: Pixels from one patch of a transformer to the next; 0 is the patch's side, less makes patches overlap.
    """

    stage: str
    image_px: int
    views: tuple[str, ...] = ("plain",)
    output: str = "embedding"
    weight: float = 1.0
    patch_stride: int = 0


@dataclass(frozen=True)
class PostProcess:
    """What is done to a setting's finished embeddings at search time, without labels. None of it can be exported, so the last setting has none.

    Attributes:
        n_expanded: Query expansion: a query becomes the weighted mean of itself and this many nearest; 0 none.
        n_augmented: Database augmentation: so does each image of the index; 0 none.
        alpha: Weights of both are cosine ** alpha; 0 is the plain average.
        rerank_k1: k-reciprocal re-ranking among this many neighbours; 0 none.
        rerank_k2: Neighbourhoods are averaged over this many images.
        rerank_weight: Share of the plain distance in the re-ranked one.
        length_mix: 0: unit vectors; 1: embeddings of their own length; between, a mixture. Searched by Euclidean distance.
    """

    n_expanded: int = 0
    n_augmented: int = 0
    alpha: float = 3.0
    rerank_k1: int = 0
    rerank_k2: int = 6
    rerank_weight: float = 0.3
    length_mix: float = 0.0


@dataclass(frozen=True)
class Setting:
    """One row of the score table: members, combined, and what is done to them.

    Attributes:
        name: The row's name in `scores.csv`.
        members: Their L2-normalised, weighted outputs are combined.
        pca_dim: PCA to this many dimensions, fitted on training images; 0 keeps the combination.
        whiten: Exponent of whitening: component i is divided by std_i ** whiten (0 none, 1 full).
        combine: `concatenate`, or `mean` of outputs of one width.
        power: Before PCA each number x becomes sign(x) |x| ** power; 1 leaves it.
        post: What is done at search time.
        is_chosen_on_validation: One of its values was picked by looking at validation scores, so that its own score is too good; `scores.csv`, report
            and tables mark it. What follows from the stages (keeps_best, greedy soups) is marked without it.
    """

    name: str
    members: tuple[Member, ...]
    pca_dim: int = 0
    whiten: float = 0.0
    combine: str = "concatenate"
    power: float = 1.0
    post: PostProcess = field(default_factory=PostProcess)
    is_chosen_on_validation: bool = False


@dataclass(frozen=True)
class Embed:
    """The ladder of settings that door 07 scores; the last one is exported.

    Attributes:
        settings: The ladder.
        batch_size: Of feature extraction.
        precision: In which door 07's backbones compute: auto (half on a card, float32 on a CPU), float32, or bfloat16, for transformers on a CPU with AMX.
    """

    settings: tuple[Setting, ...]
    batch_size: int = 32
    precision: str = "auto"

    @property
    def final(self) -> Setting:
        """The setting that is exported."""
        return self.settings[-1]


@dataclass(frozen=True)
class Export:
    """What door 08 writes.

    Attributes:
        n_parity_images: Images whose embeddings travel with the export, so that anyone can check it.
        min_parity_cosine: Smallest cosine between an exported and a stored embedding.
        storage: Of the weights in the file, fp32, bf16 or fp16; products are computed in fp32 whatever they are stored as.
        has_unit_length: Embeddings leave the file with length one; otherwise as the projection, or the neck, gives them.
        has_program: The same model for `torch.export` too, as `saved_model.pt2`.
    """

    n_parity_images: int = 24
    min_parity_cosine: float = 0.999
    storage: str = "fp32"
    has_unit_length: bool = True
    has_program: bool = False


@dataclass(frozen=True)
class Recipe:
    """A whole run, from raw data to the submission."""

    name: str
    data: Data
    model: Model
    stages: tuple[Stage, ...]
    embed: Embed
    export: Export = field(default_factory=Export)
    seed: int = 0

    def stage(self, name: str) -> Stage:
        """The stage called `name`; ValueError, with the nearest name, if there is none."""
        for stage in self.stages:
            if stage.name == name:
                return stage
        raise ValueError(f"no stage {name!r}; {nearest(name, [s.name for s in self.stages])}")

    def parent(self, stage: Stage) -> str:
        """The name of the stage whose weights `stage` starts from."""
        if stage.starts_from or stage.soup:
            return stage.starts_from or stage.soup[0]
        index = self.stages.index(stage)
        return self.stages[index - 1].name if index else PRETRAINED

    def ancestors(self, name: str) -> list[str]:
        """The stages from which the weights of stage `name` come, the nearest first."""
        found = [self.parent(self.stage(name))]
        while found[-1] != PRETRAINED:
            found.append(self.parent(self.stage(found[-1])))
        return found[:-1]

    def model_of(self, name: str) -> Model:
        """The backbone of a stage: that of the first stage on the way back to the pretrained one that has its own, else the recipe's."""
        while name != PRETRAINED:
            stage = self.stage(name)
            if stage.model:
                return stage.model
            name = self.parent(stage)
        return self.model

    def chosen_on_validation(self, setting: Setting) -> tuple[str, ...]:
        """What of a setting was chosen by validation scores: `the setting`, `STAGE: best epoch`, `STAGE: greedy soup`; stages in the recipe's order."""
        behind: set[str] = set()
        waiting = [member.stage for member in setting.members]
        while waiting:
            name = waiting.pop()
            if name != PRETRAINED and name not in behind:
                behind.add(name)
                stage = self.stage(name)
                waiting += [self.parent(stage), *stage.soup]
        reasons = ["the setting"] if setting.is_chosen_on_validation else []
        for stage in self.stages:
            if stage.name in behind and (stage.keeps_best or stage.is_greedy):
                reasons.append(f"{stage.name}: {'greedy soup' if stage.is_greedy else 'best epoch'}")
        return tuple(reasons)

    @property
    def models(self) -> tuple[Model, ...]:
        """All backbones, the recipe's first."""
        return tuple(dict.fromkeys([self.model, *(stage.model for stage in self.stages if stage.model)]))

    def validate(self) -> Recipe:
        """Returns itself. Raises ValueError with field, value and range at the first thing that cannot be."""
        from guie.rules import check  # here, because the rules are written in terms of this module's classes

        check(self)
        return self

    def digest(self, *reads: str, **versions: int) -> str:
        """SHA-256 of the named fields (`data.sources`, `seed`, ...), or of the whole recipe without any, and of versions of code."""
        values = {path: self._value(path) for path in reads} if reads else _plain(self)
        values |= {"versions": versions} if versions else {}
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]

    def _value(self, path: str) -> Any:
        """The field at `path`; a stage comes with its parent's name, which may follow from its place alone."""
        value = _plain(_follow(self, path))
        section, _, name = path.partition(".")
        return {**value, "parent": self.parent(self.stage(name))} if section == "stages" and name and "." not in name else value

    def to_json(self) -> str:
        """The recipe as indented JSON."""
        return json.dumps(_plain(self), indent=2)

    def tiny(self) -> Recipe:
        """A copy that keeps the structure (phases, stages, members, views) but runs in seconds on the drawn world.

        Its backbones are timm's smallest: transformers where the recipe has them, or overlaps patches, or opens blocks.
        """
        tiny = load_recipe("tiny")
        names = itertools.cycle(_tiny_networks(self, tiny.model.name))
        networks = {model: replace(tiny.model, name=next(names)) for model in self.models}
        stages = tuple(_tiny_stage(stage, networks, [source.name for source in tiny.data.sources]) for stage in self.stages)
        members = {row.name: tuple(replace(m, image_px=_shrink_px(m.image_px)) for m in row.members) for row in self.embed.settings}
        settings = tuple(replace(row, members=members[row.name]) for row in self.embed.settings)
        embed = replace(self.embed, settings=settings)
        return replace(self, name=f"{self.name}_tiny", data=tiny.data, model=networks[self.model], stages=stages, embed=embed).validate()


def load_recipe(name_or_path: str, overrides: typing.Sequence[str] = ()) -> Recipe:
    """Loads a recipe and applies overrides.

    Args:
        name_or_path: A name in `guie/recipes/`, or the path of a Python file that defines `RECIPE`.
        overrides: `field.path=value` texts; stages and settings are reached by name.

    Raises:
        ValueError: unknown recipe, unknown field (with the nearest name), a value of the wrong type or out of range.
        FileNotFoundError: a path that does not exist.
    """
    if name_or_path.endswith(".py"):
        module = _module_from_file(Path(name_or_path))
    else:
        known = sorted(p.stem for p in (Path(__file__).parent / "recipes").glob("[a-z]*.py"))
        if name_or_path not in known:
            raise ValueError(f"no recipe {name_or_path!r}; {nearest(name_or_path, known)}. Or give the path of a .py file that defines RECIPE")
        with _told_as_recipe(Path(__file__).parent / "recipes" / f"{name_or_path}.py"):
            module = importlib.import_module(f"guie.recipes.{name_or_path}")
    recipe = getattr(module, "RECIPE", None)
    if not isinstance(recipe, Recipe):
        raise ValueError(f"{name_or_path} defines no RECIPE of type guie.recipe.Recipe")
    check_types(recipe)
    for override in overrides:
        recipe = override_field(recipe, override)
    return recipe.validate()


def _module_from_file(path: Path) -> types.ModuleType:
    if not path.is_file():
        raise FileNotFoundError(f"recipe file {path} does not exist")
    spec = importlib.util.spec_from_file_location(f"recipe_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with _told_as_recipe(path):
        spec.loader.exec_module(module)
    return module


@contextlib.contextmanager
def _told_as_recipe(file: Path) -> Iterator[None]:
    """Whatever a recipe's file may raise becomes one line: the file, the line in it, what is wrong, and the nearest name."""
    try:
        yield
    except Exception as error:  # a misspelt field is a TypeError, a forgotten bracket a SyntaxError
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).resolve() == file.resolve()]
        at = f", line {frames[-1].lineno}," if frames else ""
        raise ValueError(f"recipe file {file}{at} cannot be read: {_meaning(error)}") from error


def _meaning(error: Exception) -> str:
    """What is wrong in a recipe's file: a field that does not exist or was forgotten, a name that is none."""
    text, kinds = str(error), {kind.__name__: kind for kind in _kinds()}
    if found := re.match(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'", text):
        kind, name = found.groups()
        if kind in kinds:
            return f"{kind} has no field {name!r}; {nearest(name, [f.name for f in dataclasses.fields(kinds[kind])])}"
    if found := re.match(r"(\w+)\.__init__\(\) missing \d+ required positional arguments?: (.+)", text):
        return f"{found[1]} lacks {found[2]}"
    if found := re.match(r"(\w+)\.__init__\(\) takes from \d+ to (\d+) positional arguments but (\d+) were given", text):
        return f"{found[1]} has {int(found[2]) - 1} fields, and {int(found[3]) - 1} values are given; name them"
    if isinstance(error, NameError | ImportError | AttributeError) and (found := re.search(r"(?:name|attribute) '(\w+)'", text)):
        return f"{text}; {nearest(found[1], list(kinds))}"
    return f"{type(error).__name__}: {text}"


def _kinds() -> list[type[Any]]:
    """The classes of which recipes are made."""
    return [value for value in globals().values() if isinstance(value, type) and is_dataclass(value)]


def _follow(node: Any, path: str) -> Any:
    for key in path.split("."):
        node = next(item for item in node if item.name == key) if isinstance(node, tuple) else getattr(node, key)
    return node


def _plain(value: Any) -> Any:
    return dataclasses.asdict(value) if is_dataclass(value) and not isinstance(value, type) else json.loads(json.dumps(value, default=dataclasses.asdict))


def _tiny_networks(recipe: Recipe, convolutions: str) -> tuple[str, ...]:
    """timm's names, one for each of the recipe's backbones."""
    has_blocks = any(s.patch_stride or s.open_blocks or s.block_edges for s in recipe.stages)
    is_transformer = has_blocks or "vit" in recipe.model.name.lower()
    return ("test_vit", "test_vit2", "test_vit3") if is_transformer else (convolutions, "test_resnet", "test_efficientnet")


def _tiny_stage(stage: Stage, networks: dict[Model, Model], sources: list[str]) -> Stage:
    """The stage with small images, batches and epochs, on sources of the drawn world."""
    own = tuple(name for name in stage.sources if name in sources) or tuple(sources[1:2] if stage.sources else ())
    batch_size = min(stage.batch_size, 16)
    return replace(
        stage,
        image_px=_shrink_px(stage.image_px),
        n_epochs=min(stage.n_epochs, 2),
        batch_size=batch_size,
        n_cached_views=min(stage.n_cached_views, 1),
        n_accumulate=min(stage.n_accumulate, 2 if batch_size % 2 == 0 else 1),
        images_per_class=max((n for n in range(1, min(stage.images_per_class, 4) + 1) if batch_size % n == 0), default=0),
        open_blocks=min(stage.open_blocks, 3),
        sources=own,
        model=networks[stage.model] if stage.model else None,
    )


def _shrink_px(px: int) -> int:
    """A side of 64 for the smallest usual resolutions, 96 for those above 256; two resolutions stay two."""
    return 64 if px <= 256 else 96
