"""Walks and changes trees of settings for tests, without `guie.settings.fields` and `guie.override`."""

import dataclasses
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass, is_dataclass, replace
from typing import Any

from guie.recipe import (
    HEAD,
    Adam,
    AdamW,
    ArcFace,
    BatchHard,
    BlockFactors,
    ClassMargin,
    Constant,
    CosFace,
    Cosine,
    Data,
    DistanceWeighted,
    DrawnWorld,
    EasyPositive,
    Embed,
    Exponential,
    Export,
    FitImages,
    FitWords,
    Fold,
    GrowingMargin,
    Interpolate,
    LayerDecay,
    Limit,
    Member,
    Memory,
    Model,
    MultiSimilarityMiner,
    ObjectiveSettings,
    OneCycle,
    Optim,
    PerClass,
    Recipe,
    SemiHard,
    Setting,
    Sgd,
    Softmax,
    Soup,
    Source,
    Stage,
    Stages,
    Start,
    Steps,
    Sum,
    ThresholdConsistentMargin,
    Triplet,
)

MINERS = (BatchHard(), DistanceWeighted(), EasyPositive(), MultiSimilarityMiner(), SemiHard())
OTHER_KINDS = [kind for kind in typing.get_args(ObjectiveSettings) if kind not in (ArcFace, CosFace, Softmax)]
PHASES = ("head", "backbone", "highres")
# The fields that name one row.
NAMING = {
    ("Start", "of"),
    ("Member", "stage"),
    ("Interpolate", "of"),
    ("Interpolate", "start"),
    ("KeepCosines", "of"),
}


@dataclass(frozen=True)
class Leaf:
    """A field of a tree: its path, its value, and its type.

    Attributes:
        path: As in `--set`: rows, sources and settings by their names, members by their numbers.
        value: A plain value, a settings object, or a tuple of those.
        hint: The field's type.
        owner: The class that has the field.
    """

    path: str
    value: Any
    hint: Any
    owner: type

    @property
    def key(self) -> tuple[str, str]:
        """The class and the field."""
        return self.owner.__name__, self.path.rpartition(".")[2]

    @property
    def default(self) -> Any:
        """The field's default; MISSING if it has none."""
        return next(field.default for field in dataclasses.fields(self.owner) if field.name == self.key[1])

    @property
    def kinds(self) -> tuple[Any, ...]:
        """The members of a union; otherwise the one type."""
        is_union = typing.get_origin(self.hint) in (typing.Union, types.UnionType)
        return typing.get_args(self.hint) if is_union else (self.hint,)

    @property
    def is_choice(self) -> bool:
        """Whether the field takes several kinds of settings, or settings or none."""
        return len(self.kinds) > 1 and any(is_dataclass(kind) for kind in self.kinds)

    @property
    def is_section(self) -> bool:
        """Whether the value is settings, or a tuple of them, whose own fields are leaves of the tree."""
        return is_dataclass(self.value) or is_rows(self.value)


def is_rows(value: Any) -> bool:
    """Whether the value is a tuple of settings that is not empty."""
    return isinstance(value, tuple) and bool(value) and is_dataclass(value[0])


def walk(node: Any, path: str = "") -> Iterator[Leaf]:
    """Yields every field of a tree, sections before their own fields."""
    hints = typing.get_type_hints(type(node))
    for field in dataclasses.fields(node):
        value, here = getattr(node, field.name), f"{path}.{field.name}".lstrip(".")
        if isinstance(node, Stages):
            here = path  # a row's path is stages.NAME, whatever its phase
        else:
            yield Leaf(here, value, hints[field.name], type(node))
        for own, part in inner(value, here):
            yield from walk(part, own)


def inner(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yields the settings that a field's value contains, with their paths."""
    if is_dataclass(value):
        yield path, value
    elif is_rows(value):
        yield from ((f"{path}.{getattr(item, 'name', i)}", item) for i, item in enumerate(value))


def leaves(node: Any) -> list[Leaf]:
    """The fields whose values are no settings, and those that are a choice of settings."""
    return [leaf for leaf in walk(node) if leaf.is_choice or not leaf.is_section]


def classes() -> list[type]:
    """Every class of settings that a recipe may hold."""
    found: dict[str, type] = {"Interpolate": Interpolate, "Soup": Soup}
    for leaf in walk(every_kind()):
        found |= {kind.__name__: kind for kind in (leaf.owner, *leaf.kinds) if is_dataclass(kind)}
    return list(found.values())


def put(node: Any, path: str, value: Any) -> Any:
    """A copy with another value at a path."""
    key, _, rest = path.partition(".")
    if isinstance(node, Stages):
        key = next(phase for phase in PHASES if any(row.name == key for row in getattr(node, phase)))
        return replace(node, **{key: put(getattr(node, key), path, value)})
    if isinstance(node, tuple):
        i = next(i for i, item in enumerate(node) if key == str(getattr(item, "name", i)))
        return (*node[:i], put(node[i], rest, value) if rest else value, *node[i + 1 :])
    return replace(node, **{key: put(getattr(node, key), rest, value) if rest else value})


def another(leaf: Leaf) -> Any:
    """A valid value for the field that differs from its own."""
    if leaf.key in {("Start", "of"), ("Member", "stage"), ("Interpolate", "start")}:  # these must name a stage
        return "s1" if leaf.value == "pretrained" else "pretrained"
    if leaf.key in {("Interpolate", "of"), ("KeepCosines", "of")}:
        return "s1"
    if leaf.is_choice:
        return next(other for other in map(sample, leaf.kinds) if type(other) is not type(leaf.value))
    kind = next(kind for kind in leaf.kinds if kind is not types.NoneType)
    if typing.get_origin(kind) is tuple:
        return another_tuple(leaf.value, typing.get_args(kind)[0])
    return another_plain(leaf.value, kind)


def sample(kind: Any) -> Any:
    """A valid value of a type."""
    given = {
        types.NoneType: None,
        float: 0.123,
        Model: Model("timm", "resnet34"),
        Fold: Fold(number=1),
        Steps: Steps(drops=(1,)),
        Exponential: Exponential(epoch_decay=0.5),
        BlockFactors: BlockFactors(edges=(1,), factors=(0.5,)),
        Sum: Sum(terms=(ArcFace(), Softmax())),
        ThresholdConsistentMargin: ThresholdConsistentMargin(memory=Memory()),
    }
    return given[kind] if kind in given else kind()


def another_tuple(value: Any, kind: Any) -> tuple[Any, ...]:
    """A valid tuple with items of type `kind` that differs from `value`."""
    if value and len(set(value)) > 1:
        return value[::-1]
    if is_dataclass(kind):
        return (Limit("a"),) if kind is Limit else (sample(kind),)
    if typing.get_origin(kind) is types.UnionType:
        return (sample(typing.get_args(kind)[0]),)
    if typing.get_origin(kind) is tuple:  # options of a loss
        return (*value, ("margin", 0.3))
    if typing.get_origin(kind) is typing.Literal:
        return (next(word for word in typing.get_args(kind) if word not in (value or ())),)
    return (0.1, 0.2, 0.3) if value is None else (*value, another_plain(value[0], kind) if value else kind(3))


def another_plain(value: Any, kind: Any) -> Any:
    """A valid value of a plain type that differs from `value`."""
    if typing.get_origin(kind) is typing.Literal:
        return next(word for word in typing.get_args(kind) if word != value)
    if kind is str:
        return f"{value}_other"
    return not value if kind is bool else value + (1 if kind is int else 0.5)


def renamed(recipe: Recipe, old: str, new: str) -> Recipe:
    """The recipe with another name for a stage or soup, and for the fields that refer to it."""
    for leaf in list(walk(recipe)):
        if leaf.key in NAMING and leaf.value == old:
            recipe = put(recipe, leaf.path, new)
        elif leaf.key == ("Soup", "of"):
            recipe = put(recipe, leaf.path, tuple(new if name == old else name for name in leaf.value))
    return put(recipe, f"stages.{old}.name", new)


def every_kind() -> Recipe:
    """A valid recipe that contains every class of settings."""
    moves = Optim(n_epochs=2, batch_size=8, lr=0.01)
    head = Stage(
        "s1",
        trains="head",
        image_px=64,
        start=Start(fresh=HEAD),
        objective=ArcFace(margin_rad=GrowingMargin()),
        optim=replace(moves, method=Sgd(), schedule=Cosine()),
    )
    own = replace(
        head,
        name="s2",
        start=Start(of="pretrained", fresh=HEAD, model=Model("timm", "resnet18")),
        objective=ArcFace(margin_rad=ClassMargin()),
        optim=replace(moves, method=Adam(), schedule=Steps(drops=(1,))),
        sampling=PerClass(images_per_class=4),
        sources=("a",),
        left_out=Fold(number=1, of=100),
    )
    backbone = replace(
        head,
        name="s3",
        trains="backbone",
        start=Start(of="s1"),
        objective=CosFace(margin_cosine=GrowingMargin()),
        optim=replace(
            moves,
            method=AdamW(),
            schedule=Exponential(epoch_decay=0.9),
            blocks=BlockFactors(edges=(2, 4), factors=(0.1, 0.5)),
        ),
    )
    soft = replace(
        head,
        name="s4",
        trains="all",
        start=Start(of="s1"),
        objective=Softmax(),
        optim=replace(moves, schedule=Constant(), blocks=LayerDecay()),
    )
    others = [
        replace(
            soft,
            name=kind.__name__,
            start=Start(of="s1", fresh=("objective",)),
            objective=sample(kind),
            optim=moves,
            sampling=PerClass(images_per_class=2),
        )
        for kind in OTHER_KINDS
    ]
    mined = [
        replace(others[0], name=f"mined_{type(miner).__name__}", objective=Triplet(miner=miner, memory=Memory()))
        for miner in MINERS
    ]
    plain = replace(soft, name="s5", objective=ArcFace(margin_rad=0.3), optim=replace(moves, schedule=OneCycle()))
    return Recipe(
        name="all",
        data=Data(
            (Source("a", "class_folders", "a", "x"), Source("b", "class_folders", "b", "y")),
            DrawnWorld(),
            limits=(Limit("a"),),
            distractors=("b",),
        ),
        model=Model("timm", "resnet18", mean=(0.5, 0.4, 0.3), std=(0.5, 0.4, 0.3)),
        stages=Stages(
            head=(head, own),
            backbone=(backbone, soft, plain, *others, *mined),
            highres=(Soup("s6", of=("s4", "s5")), Interpolate("s7", of="s6")),
        ),
        embed=Embed(
            (
                Setting("one", (Member("s1", 64), Member("s3", 64))),
                Setting("two", (Member("s6", 64),), pca_dim=64, fit_on=(FitImages(("a",)),)),
            ),
            fit_on=(FitImages(), FitWords()),  # of no row's PCA: words need a tower that embeds them
        ),
        export=Export(),
    )
