"""Recipes: loading, overriding, validating, hashing."""

import json
import re
from collections.abc import Callable
from dataclasses import FrozenInstanceError, asdict, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from trees import MINERS, another, classes, every_kind, is_rows, leaves, put, walk
from trees import OTHER_KINDS as OTHER_OBJECTIVES

from guie.override import override_field
from guie.recipe import (
    HEAD,
    Adam,
    AdamW,
    ArcFace,
    Augment,
    BlockFactors,
    ClassMargin,
    Constant,
    CosFace,
    Cost,
    Data,
    Diva,
    DivideConquer,
    DrawnWorld,
    Embed,
    Export,
    FitImages,
    FitWords,
    GrowingMargin,
    HierarchicalDivide,
    Interpolate,
    KeepCosines,
    KoLeo,
    LayerDecay,
    Limit,
    Member,
    Mic,
    Model,
    Neck,
    OneCycle,
    Optim,
    Pads,
    PerClass,
    PostProcess,
    Recipe,
    Retain,
    Row,
    Setting,
    SharingMatters,
    Softmax,
    Soup,
    Source,
    Stage,
    Stages,
    Start,
    Steps,
    Sum,
    SupCon,
    Validation,
    Weighted,
    load_recipe,
)
from guie.recipes._shrunk import shrunk
from guie.settings.fields import classes_of
from guie.settings.objectives.kind import Kind

Change = Callable[[Recipe], Recipe]

S1 = Stage(
    "s1_head",
    trains="head",
    image_px=64,
    start=Start(fresh=HEAD),
    optim=Optim(n_epochs=3, batch_size=16, lr=1e-2),
)
S2 = Stage("s2_backbone", trains="backbone", image_px=64, optim=Optim(n_epochs=2, batch_size=8, lr=1e-4))
S3 = Stage("s3_highres", trains="all", image_px=96, optim=Optim(n_epochs=1, batch_size=8, lr=1e-4))
RAW = Setting("raw", (Member("pretrained", 64, output="feature"),))
FINAL = Setting("final", (Member("s2_backbone", 64, ("plain", "flip")), Member("s3_highres", 96)), pca_dim=64)


def a_recipe() -> Recipe:
    return Recipe(
        name="example",
        data=Data(
            sources=(
                Source("shoes", "class_folders", "shoes", "apparel"),
                Source("towers", "gldv2", "towers", "landmarks"),
            ),
            drawn=DrawnWorld(),
            limits=(Limit("towers"),),
        ),
        model=Model("timm", "mobilenetv2_050"),
        stages=Stages(head=(S1,), backbone=(S2,), highres=(S3,)),
        embed=Embed(settings=(RAW, FINAL)),
    )


def at(**changes: Any) -> Change:
    """Other values at paths, written with __ for each dot."""

    def change(recipe: Recipe) -> Recipe:
        for path, value in changes.items():
            recipe = put(recipe, path.replace("__", "."), value)
        return recipe

    return change


def s1(**changes: Any) -> Change:
    return at(**{f"stages__s1_head__{path}": value for path, value in changes.items()})


def s2(**changes: Any) -> Change:
    return at(**{f"stages__s2_backbone__{path}": value for path, value in changes.items()})


def s3(**changes: Any) -> Change:
    return at(**{f"stages__s3_highres__{path}": value for path, value in changes.items()})


def data(**changes: Any) -> Change:
    return at(**{f"data__{path}": value for path, value in changes.items()})


def raw(**changes: Any) -> Change:
    return at(**{f"embed__settings__raw__{path}": value for path, value in changes.items()})


def final(**changes: Any) -> Change:
    return at(**{f"embed__settings__final__{path}": value for path, value in changes.items()})


def member(**changes: Any) -> Change:
    return final(**{f"members__0__{path}": value for path, value in changes.items()})


def rows(*backbone: Row, head: tuple[Row, ...] = (S1,)) -> Change:
    """Other rows; the setting that is exported has the last of them alone."""
    name = (*head, *backbone)[-1].name
    only = Embed((Setting("only", (Member(name, 64),), pca_dim=64),))
    return lambda r: replace(r, stages=Stages(head=head, backbone=backbone), embed=only)


def test_example_recipe_is_valid():
    recipe = a_recipe()
    assert recipe.validate() is recipe


def test_recipe_cannot_be_changed_in_place():
    with pytest.raises(FrozenInstanceError):
        a_recipe().seed = 1  # type: ignore[misc]


def test_no_settings_can_be_changed_in_place():
    assert sum(not issubclass(kind, Kind) for kind in classes()) == 45  # kinds of objectives come without a count
    for kind in classes():
        with pytest.raises(FrozenInstanceError):
            kind.__new__(kind).any = 1


def stage(recipe: Recipe, number: int) -> Stage:
    return recipe.stages.trained[number]


@pytest.mark.parametrize(
    ("text", "value_of", "expected"),
    [
        ("seed=7", lambda r: r.seed, 7),
        ("name=mine", lambda r: r.name, "mine"),
        ("data.val_class_share=0.25", lambda r: r.data.val_class_share, 0.25),
        ("data.sources.shoes.folder=a/b=c", lambda r: r.data.sources[0].folder, "a/b=c"),
        ("data.drawn.n_views=3", lambda r: r.data.drawn.n_views, 3),
        ("data.drawn=none", lambda r: r.data.drawn, None),
        ("data.drawn=DrawnWorld", lambda r: r.data.drawn, DrawnWorld()),
        ("model.weights=", lambda r: r.model.weights, ""),
        ("model.mean=0.1, 0.2,0.3", lambda r: r.model.mean, (0.1, 0.2, 0.3)),
        ("model.mean=none", lambda r: r.model.mean, None),
        ("stages.s2_backbone.optim.n_epochs=5", lambda r: stage(r, 1).optim.n_epochs, 5),
        ("stages.s2_backbone.optim.lr=3e-4", lambda r: stage(r, 1).optim.lr, 3e-4),
        ("stages.s2_backbone.optim.has_full_decay=TRUE", lambda r: stage(r, 1).optim.has_full_decay, True),
        ("stages.s2_backbone.start.fresh=objective", lambda r: stage(r, 1).start.fresh, ("objective",)),
        ("stages.s2_backbone.start.fresh=", lambda r: stage(r, 1).start.fresh, ()),
        ("stages.s1_head.neck.dropouts=0.1,0.2", lambda r: stage(r, 0).neck.dropouts, (0.1, 0.2)),
        (
            "stages.s1_head.objective.margin_rad.max=0.4",
            lambda r: stage(r, 0).objective,
            ArcFace(GrowingMargin(max=0.4)),
        ),
        ("stages.s1_head.objective.margin_rad=0.4", lambda r: stage(r, 0).objective, ArcFace(0.4)),
        ("stages.s1_head.objective.margin_rad=ClassMargin", lambda r: stage(r, 0).objective, ArcFace(ClassMargin())),
        ("stages.s1_head.objective=CosFace", lambda r: stage(r, 0).objective, CosFace()),
        ("stages.s1_head.objective=Softmax", lambda r: stage(r, 0).objective, Softmax()),
        ("stages.s1_head.optim.method=Adam", lambda r: stage(r, 0).optim.method, Adam()),
        ("stages.s1_head.optim.schedule=Constant", lambda r: stage(r, 0).optim.schedule, Constant()),
        ("stages.s1_head.optim.blocks=LayerDecay", lambda r: stage(r, 0).optim.blocks, LayerDecay()),
        ("stages.s1_head.optim.blocks=None", lambda r: stage(r, 0).optim.blocks, None),
        ("stages.s1_head.sampling=PerClass", lambda r: stage(r, 0).sampling, PerClass()),
        ("stages.s1_head.augment.flip=0", lambda r: stage(r, 0).augment, Augment(flip=0.0)),
        ("embed.settings.final.whiten=0.5", lambda r: r.embed.final.whiten, 0.5),
        (
            "embed.settings.final.members.1.views=plain,flip",
            lambda r: r.embed.final.members[1].views,
            ("plain", "flip"),
        ),
        ("export.n_parity_images=3", lambda r: r.export, Export(n_parity_images=3)),
        ("embed.settings.raw.post.rerank_k1=20", lambda r: r.embed.settings[0].post, PostProcess(rerank_k1=20)),
        (" seed = 7 ", lambda r: r.seed, 7),
    ],
)
def test_override_converts_by_the_type_of_the_field(text: str, value_of: Callable[[Recipe], Any], expected: Any):
    value = value_of(override_field(a_recipe(), text))
    assert value == expected
    assert type(value) is type(expected)


def test_override_changes_nothing_else():
    before, after = asdict(a_recipe()), asdict(override_field(a_recipe(), "stages.s2_backbone.optim.n_epochs=5"))
    after["stages"]["backbone"][0]["optim"]["n_epochs"] = before["stages"]["backbone"][0]["optim"]["n_epochs"]
    assert after == before


def test_a_kind_that_is_set_has_its_defaults_and_the_rest_stays():
    recipe = put(a_recipe(), "stages.s1_head.objective", ArcFace(0.3, scale=20.0, n_sub_centers=3))
    changed = override_field(recipe, "stages.s1_head.objective=CosFace")
    assert changed == put(recipe, "stages.s1_head.objective", CosFace(GrowingMargin(0.1, 0.1, 0.5), 30.0, 0.0, 1))
    twice = override_field(changed, "stages.s1_head.objective.scale=64")
    assert stage(twice, 0).objective == CosFace(scale=64.0)


def as_text(value: Any) -> str:
    """A field's value as --set takes it."""
    if is_dataclass(value):
        return type(value).__name__
    if isinstance(value, tuple):
        return ",".join("=".join(map(str, item)) if isinstance(item, tuple) else as_text(item) for item in value)
    return str(value)


def test_override_reaches_every_field_of_every_class():
    recipe = every_kind()
    n_reached = 0
    for leaf in leaves(recipe):
        other = another(leaf)
        if is_dataclass(other) and other != as_default(type(other)):
            continue  # a kind with fields that have no default is written in Python
        if leaf.key == ("Model", "beside"):
            continue  # named rows are kept or dropped; new ones are written in Python
        assert override_field(recipe, f"{leaf.path}={as_text(other)}") == put(recipe, leaf.path, other), leaf.path
        n_reached += 1
    assert n_reached > 400


def as_default(kind: type) -> Any:
    try:
        return kind()
    except TypeError:
        return None


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("seed", r"'seed' has no '='"),
        ("sed=1", r"no field 'sed'; did you mean 'seed'\?"),
        ("zzz=1", r"no field 'zzz'; known: name, data, model, stages, embed, export, seed"),
        ("model.nmae=x", r"Model has no field 'nmae'; did you mean 'name'\?"),
        ("stages.s2_backbon.optim.lr=1", r"no 's2_backbon' here; did you mean 's2_backbone'\?"),
        ("stages.head=1", r"no 'head' here; did you mean 's1_head'\?"),
        ("stages.s2_backbone.optim.lrr=1", r"Optim has no field 'lrr'; did you mean 'lr'\?"),
        ("embed.settings.fnal.whiten=1", r"did you mean 'final'\?"),
        ("data.sources.shoe.folder=x", r"did you mean 'shoes'\?"),
        ("stages.s1_head=1", r"names a whole row; name one of its fields: name, trains, image_px, objective,"),
        ("stages=1", r"takes no single value"),
        ("data=1", r"takes no single value"),
        ("stages.s1_head.optim=AdamW", r"takes no single value"),
        ("stages.s1_head.optim=Optim", r"it has no default for n_epochs, batch_size, lr; write a recipe file"),
        ("seed.deeper=1", r"there is no 'deeper', since the part before it is a single value"),
        ("embed.pca_dim=3", r"Embed has no field 'pca_dim'; did you mean 'dim'?"),
        ("seed=1.5", r"seed=1.5: takes a whole number"),
        ("seed=", r"takes a whole number"),
        ("stages.s1_head.optim.lr=fast", r"lr=fast: takes a number"),
        ("stages.s1_head.optim.has_full_decay=1", r"has_full_decay=1: takes true or false"),
        ("model.mean=0.5,0.5", r"takes 3 values"),
        ("model.mean=0.5,0.5,x", r"takes a number"),
        ("stages.s2_backbone.start.fresh.0=neck", r"--set stages.s2_backbone.start.fresh.0"),
        ("model.mean.0=0.4", r"--set model.mean.0"),
        ("data.sources.folder=x", r"no 'folder' here; did you mean 'towers'"),
        ("stages.s1_head.optim.method=lion", r"method=lion: takes a kind; known: AdamW, Adam, Sgd"),
        ("stages.s1_head.objective=arcface", r"objective=arcface: takes a kind; did you mean 'ArcFace'\?"),
        ("stages.s1_head.optim.schedule=OneCycles", r"takes a kind; did you mean 'OneCycle'\?"),
        ("stages.s1_head.objective.margin_rad=x", r"takes a number, or a kind: GrowingMargin, ClassMargin"),
        ("stages.s1_head.optim.schedule=Steps", r"schedule=Steps: it has no default for drops; write a recipe file"),
    ],
)
def test_override_refuses_with_the_remedy(text: str, complaint: str):
    with pytest.raises(ValueError, match=complaint) as caught:
        override_field(a_recipe(), text)
    assert len(str(caught.value)) < 250 and "\n" not in str(caught.value)


IN_A_FILE = ": write it into a recipe file"
# A field of a kind that is not there: which kind has it, and how to come by one.
OTHER_KINDS = [
    ("optim.method.momentum", "AdamW has no field 'momentum'; Sgd has momentum: --set {at}.optim.method=Sgd first"),
    (
        "optim.schedule.end_share",
        "OneCycle has no field 'end_share'; Cosine has end_share: --set {at}.optim.schedule=Cosine first",
    ),
    (
        "objective.margin_cosine",
        "ArcFace has no field 'margin_cosine'; CosFace and others have margin_cosine: "
        "--set {at}.objective=CosFace first",
    ),
    (
        "objective.margin_rad.low",
        "GrowingMargin has no field 'low'; ClassMargin has low: --set {at}.objective.margin_rad=ClassMargin first",
    ),
    (
        "sampling.images_per_class",
        "Weighted has no field 'images_per_class'; PerClass has images_per_class: --set {at}.sampling=PerClass first",
    ),
    (
        "optim.blocks.factor",
        "{at}.optim.blocks is None; LayerDecay has factor: --set {at}.optim.blocks=LayerDecay first",
    ),
    (
        "optim.blocks.edges",
        "{at}.optim.blocks is None; BlockFactors has edges, but no default for edges, factors" + IN_A_FILE,
    ),
    (
        "optim.schedule.drops",
        "OneCycle has no field 'drops'; Steps has drops, but no default for drops" + IN_A_FILE,
    ),
    (
        "start.model.name",
        "{at}.start.model is None; Model has name, but no default for library, name" + IN_A_FILE,
    ),
]


@pytest.mark.parametrize(("path", "told"), OTHER_KINDS, ids=[path for path, _ in OTHER_KINDS])
def test_override_names_the_kind_that_has_a_field(path: str, told: str):
    at = "stages.s1_head"
    with pytest.raises(ValueError) as caught:
        override_field(a_recipe(), f"{at}.{path}=1")
    assert str(caught.value) == f"--set {at}.{path}: {told.format(at=at)}"


def test_what_it_says_to_set_first_helps():
    n_followed = 0
    for path, _ in OTHER_KINDS:
        with pytest.raises(ValueError) as caught:
            override_field(a_recipe(), f"stages.s1_head.{path}=1")
        if found := re.search(r"--set (\S+=\w+) first", str(caught.value)):
            override_field(override_field(a_recipe(), found[1]), f"stages.s1_head.{path}=1")
            n_followed += 1
    assert n_followed == 6


def test_source_called_as_a_field_of_sources_is_reached():
    recipe = put(a_recipe(), "data.sources.shoes.name", "folder")
    assert override_field(recipe, "data.sources.folder.kind=x").data.sources[0].kind == "x"


# All fields of a stage as it was before settings were nested, and where each is now: a path below the stage, or what is
# said of those that are no longer.
PHASE = "the phase follows from the place: Stages(head=(...), backbone=(...), highres=(...))"
OLD_FIELDS = {
    "name": "name",
    "phase": PHASE,
    "trains": "trains",
    "image_px": "image_px",
    "n_epochs": "optim.n_epochs",
    "batch_size": "optim.batch_size",
    "lr": "optim.lr",
    "starts_from": "start.of",
    "fresh": "start.fresh",
    "embedding_dim": "neck.dim",
    "dropout": "neck.dropouts",
    "model": "start.model",
    "soup": "a soup is a separate kind of row: Soup(name, of=(...))",
    "is_greedy": "a soup is a separate kind of row: Soup(name, of=(...), is_greedy=True)",
    "sources": "sources",
    "classifier": "objective",
    "n_sub_centers": "objective.n_sub_centers",
    "has_mean_centers": "start.has_mean_centers",
    "neck": "neck",
    "margin": "objective.margin_rad",
    "class_margin": "objective.margin_rad",
    "scale": "objective.scale",
    "label_smoothing": "objective.label_smoothing",
    "optimizer": "optim.method",
    "momentum": "optim.method.momentum",
    "sam_rho": "optim.sam_rho",
    "weight_decay": "optim.weight_decay",
    "has_full_decay": "optim.has_full_decay",
    "schedule": "optim.schedule",
    "drops": "optim.schedule.drops",
    "epoch_decay": "optim.schedule.epoch_decay",
    "end_share": "optim.schedule.end_share",
    "warmup_share": "optim.schedule.warmup_share",
    "backbone_lr_factor": "optim.backbone_lr_factor",
    "open_blocks": "optim.open_blocks",
    "layer_decay": "optim.blocks.factor",
    "block_edges": "optim.blocks.edges",
    "block_factors": "optim.blocks.factors",
    "n_accumulate": "cost.n_parts",
    "has_grad_checkpoints": "cost.has_grad_checkpoints",
    "has_sharded_weights": "cost.has_sharded_weights",
    "clip_norm": "optim.clip_norm",
    "ema_decay": "optim.ema_decay",
    "sample_power": "sampling.power",
    "images_per_class": "sampling.images_per_class",
    "n_cached_views": "cost.n_cached_augmentations",
    "augment": "augment",
    "validate_every": "validation.every_epochs",
    "keeps_best": "validation.keeps_best",
    "patch_stride": "patch_stride",
}


def test_the_list_of_old_fields_is_whole():
    assert len(OLD_FIELDS) == 50
    in_place = [old for old, new in OLD_FIELDS.items() if old == new]
    assert in_place == ["name", "trains", "image_px", "sources", "neck", "augment", "patch_stride"]


@pytest.mark.parametrize("old", [old for old, new in OLD_FIELDS.items() if old != new])
def test_override_answers_an_old_path_with_the_new_one(old: str):
    path, told = f"stages.s1_head.{old}", OLD_FIELDS[old]
    hint = told if " " in told else f"did you mean stages.s1_head.{told}?"
    with pytest.raises(ValueError) as caught:
        override_field(a_recipe(), f"{path}=1")
    assert str(caught.value) == f"--set {path}: Stage has no field {old!r}; {hint}"


@pytest.mark.parametrize("old", [old for old, new in OLD_FIELDS.items() if " " not in new])
def test_new_path_of_an_old_field_is_one(old: str):
    paths = {leaf.path.split(".", 2)[2] for leaf in walk(every_kind()) if leaf.path.startswith("stages.s")}
    assert OLD_FIELDS[old] in paths


def test_old_names_of_pads_are_answered_with_the_new_ones():
    recipe = put(a_recipe(), "stages.s1_head.objective", Pads())
    for old, new in (("beta_rate", "beta_lr_factor"), ("has_class_betas", "has_class_beta")):
        path = f"stages.s1_head.objective.{old}"
        with pytest.raises(ValueError, match=f"Pads has no field '{old}'; did you mean stages.s1_head.objective.{new}"):
            override_field(recipe, f"{path}=1")


@pytest.mark.parametrize("kind", [Stages, Stage, Soup, Interpolate])
def test_old_fields_that_are_gone_are_gone(kind: type):
    names = {field.name for field in fields(kind)}
    assert names.isdisjoint({"phase", "soup"}) and ("is_greedy" in names) == (kind is Soup)


GREY = (0.5, 0.5, 0.5)
VIT = Model("timm", "test_vit")
NORM = Neck(has_norm=True)
TOWERS_GENERIC = Retain(features_weight=1.0, generic=("towers",))
SINGLE = Optim(n_epochs=1, batch_size=1, lr=0.1)
BROKEN: list[tuple[Change, str]] = [
    (at(embed__precision="int8"), "embed.precision is 'int8', must be one of auto, float32, bfloat16"),
    (raw(combine="sum"), "embed.settings.raw.combine is 'sum', must be one of concatenate, mean"),
    (raw(power=0.0), "embed.settings.raw.power is 0.0, must be 0.01 to 1.0"),
    (
        final(combine="mean", members=(Member("pretrained", 64, output="feature"), FINAL.members[0])),
        "final.combine is 'mean', which needs members of",
    ),
    (final(pca_dim=200), "embed.settings.final.pca_dim is 200, more than the 128 numbers that its members give"),
    (
        final(combine="mean", pca_dim=65),
        "embed.settings.final.pca_dim is 65, more than the 64 numbers that its members",
    ),
    (raw(post=PostProcess(n_expanded=-1)), "raw.post.n_expanded is -1, must be 0 to 1000"),
    (
        raw(post=PostProcess(n_augmented=5, rerank_k1=20)),
        "raw.post: expansion with augmentation, re-ranking and length_mix exclude each other",
    ),
    (raw(post=PostProcess(length_mix=0.5)), "raw.post.length_mix is 0.5, which needs pca_dim"),
    (
        final(post=PostProcess(n_expanded=5)),
        "final.post: the last setting is exported, and a file that sees one image at a time can neither expand",
    ),
    (final(post=PostProcess(rerank_k1=20)), "final.post: the last setting is exported"),
    (final(post=PostProcess(length_mix=0.5)), "final.post: the last setting is exported"),
    (at(name="a/b"), "name is 'a/b', must be of letters"),
    (data(sources=()), "data.sources is empty"),
    (data(sources=(Source("a", "k", "f", "d"), Source("a", "k", "g", "d"))), "data.sources: the name 'a' stands twice"),
    (data(sources=(Source("a/b", "k", "f", "d"),)), "data.sources.name is 'a/b', must be of letters"),
    (data(sources__shoes__domain="high"), "data.sources.shoes.domain is 'high', as the column mp5_high is; name it"),
    (data(limits=(Limit("shows", 3),)), "data.limits names 'shows', which is no source; did you mean 'shoes'?"),
    (data(limits=(Limit("shoes"), Limit("shoes"))), "data.limits: the name 'shoes' stands twice"),
    (data(distractors=("tower",)), "data.distractors names 'tower', which is no source; did you mean 'towers'?"),
    (data(limits=(Limit("shoes", n_images=-1),)), "data.limits.shoes.n_images is -1, must be 0 to"),
    (data(val_by="picture"), "data.val_by is 'picture', must be one of class, image"),
    (data(licence="free"), "data.licence is 'free', must be one of any, commercial"),
    (data(val_class_share=0.2, val_fold=5), "data.val_fold is 5, must be 0 to 4"),
    (data(duplicate_bits=5), "data.duplicate_bits is 5, must be -1 to 4"),
    (data(sources=(Source("", "k", "f", "d"),)), "data.sources.name is '', must be of letters"),
    (data(min_per_class=0), "data.min_per_class is 0"),
    (data(min_per_class=5, max_per_class=4), "data.max_per_class is 4, must be 5 to 1000000000"),
    (data(max_per_class=10**9 + 1), "data.max_per_class is 1000000001, must be 2 to 1000000000"),
    (data(max_per_class=10, fill_per_class=11), "data.fill_per_class is 11, must be 0 to 10"),
    (data(val_class_share=0.0), "data.val_class_share is 0.0"),
    (data(val_class_share=1.0), "data.val_class_share is 1.0"),
    (data(val_class_share=float("nan")), "data.val_class_share is nan"),
    (data(pack_px=8), "data.pack_px is 8, must be 16 to 8192"),
    (data(jpeg_quality=0), "data.jpeg_quality is 0"),
    (data(jpeg_quality=101), "data.jpeg_quality is 101"),
    (data(shard_mb=0), "data.shard_mb is 0"),
    (data(max_bad_share=1.5), "data.max_bad_share is 1.5"),
    (at(model__library="keras"), "model.library is 'keras', must be one of timm, open_clip"),
    (
        at(model__feature="max pooled"),
        "model.feature is 'max pooled', must be one of '', unprojected, cls, mean, max, gem",
    ),
    (at(model__feature="unprojected"), "model.feature is 'unprojected', which open_clip's towers have"),
    (
        at(model__weights="pretrained:"),
        "model.weights is 'pretrained:', without a tag; leave it empty for",
    ),
    (
        at(model__name="resnet18.a1_in1k", model__weights=""),
        "a tag stands in weights, not in the name; set model.name='resnet18' and model.weights='pretrained:a1_in1k',",
    ),
    (
        at(model__name="resnet18.a1_in1k", model__weights="pretrained:a2_in1k"),
        "set model.name='resnet18' and model.weights='pretrained:a2_in1k', or leave weights empty for random ones",
    ),
    (at(model__weights="a.onnx"), "model.weights is 'a.onnx', must be a file (.safetensors, .pt,"),
    (at(model__mean=(0.5, 0.5, 1.5)), "model.mean is 1.5"),
    (at(model__std=(0.5, 0.0, 0.5)), "model.std is 0.0"),
    (lambda r: replace(r, stages=Stages()), "stages is empty"),
    (lambda r: replace(r, stages=Stages(head=(S1, S1))), "stages: the name 's1_head' stands twice"),
    (lambda r: replace(r, stages=Stages(head=(S1,), highres=(S1,))), "stages: the name 's1_head' stands twice"),
    (s1(name="pretrained"), "stages.pretrained: the name 'pretrained' is taken"),
    (s1(name="s1.head"), "stages.name is 's1.head', must be of letters, digits, _ and - only"),
    (rows(S2, Soup("pretrained", of=("s1_head",))), "stages.pretrained: the name 'pretrained' is taken"),
    (rows(S2, Soup("a soup", of=("s1_head",))), "stages.name is 'a soup', must be of letters, digits, _ and - only"),
    (s1(trains="nothing"), "stages.s1_head.trains is 'nothing', must be one of objective, neck, head, backbone, all"),
    (s1(trains="soup"), "stages.s1_head.trains is 'soup', must be one of objective, neck, head, backbone, all"),
    (s1(optim__method="lion"), "stages.s1_head.optim.method is 'lion' (str), must be an AdamW or an Adam or a Sgd"),
    (s1(optim__schedule="steps"), "stages.s1_head.optim.schedule is 'steps' (str), must be a OneCycle or a Cosine or"),
    (
        s1(objective="arcface"),
        "stages.s1_head.objective is 'arcface' (str), must be one of ArcFace, CosFace, Softmax, ",
    ),
    (s1(image_px=4), "stages.s1_head.image_px is 4, must be 8 to 4096"),
    (s1(optim__n_epochs=0), "stages.s1_head.optim.n_epochs is 0"),
    (s1(optim__batch_size=0), "stages.s1_head.optim.batch_size is 0"),
    (s1(optim__lr=0.0), "stages.s1_head.optim.lr is 0.0"),
    (s1(optim__lr=float("inf")), "stages.s1_head.optim.lr is inf"),
    (s1(neck__dim=0), "stages.s1_head.neck.dim is 0"),
    (s1(neck__dropouts=(1.0,)), "stages.s1_head.neck.dropouts is 1.0, must be 0.0 to 0.99"),
    (s1(neck__dropouts=(0.1, -0.1)), "stages.s1_head.neck.dropouts is -0.1, must be 0.0 to 0.99"),
    (s1(neck__dropouts=()), "stages.s1_head.neck.dropouts is empty; without dropout it is (0.0,)"),
    (s1(objective=ArcFace(scale=0.0)), "stages.s1_head.objective.scale is 0.0"),
    (s1(objective=Softmax(label_smoothing=1.0)), "stages.s1_head.objective.label_smoothing is 1.0"),
    (s1(optim__weight_decay=-1.0), "stages.s1_head.optim.weight_decay is -1.0"),
    (s1(optim__schedule=OneCycle(warmup_share=1.5)), "stages.s1_head.optim.schedule.warmup_share is 1.5"),
    (s1(optim__clip_norm=-1.0), "stages.s1_head.optim.clip_norm is -1.0"),
    (s1(optim__ema_decay=1.0), "stages.s1_head.optim.ema_decay is 1.0"),
    (s1(sampling__power=0.5), "stages.s1_head.sampling.power is 0.5"),
    (s1(sampling=PerClass(power=0.5)), "stages.s1_head.sampling.power is 0.5"),
    (s1(cost__n_cached_augmentations=-1), "stages.s1_head.cost.n_cached_augmentations is -1"),
    (s1(validation__every_epochs=-1), "stages.s1_head.validation.every_epochs is -1"),
    (
        s1(objective=ArcFace(GrowingMargin(max=28.6))),
        "stages.s1_head.objective.margin_rad.max is 28.6, must be 0.0 to 1.57",
    ),
    (s1(objective=ArcFace(28.6)), "stages.s1_head.objective.margin_rad is 28.6, must be 0.0 to 1.57"),
    (s1(objective=CosFace(-0.1)), "stages.s1_head.objective.margin_cosine is -0.1, must be 0.0 to 1.57"),
    (
        s1(objective=CosFace(ClassMargin(low=0.6, high=0.5))),
        "stages.s1_head.objective.margin_cosine.low is 0.6, must be 0.0 to 0.5",
    ),
    (
        s1(start__fresh=("neck", "objective", "backbone")),
        "stages.s1_head.start.fresh is 'backbone', must be one of neck, objective",
    ),
    (
        s1(start__fresh=()),
        "stages.s1_head.start.fresh is (); a stage that starts from the pretrained backbone has a fresh",
    ),
    (s1(start__fresh=("neck",)), "stages.s1_head.start.fresh is ('neck',); a stage that starts from the pretrained"),
    (
        s3(start__of="s1_haed"),
        "stages.s3_highres.start.of is 's1_haed', which is no earlier stage; did you mean 's1_head'",
    ),
    (s2(start__of="s3_highres"), "stages.s2_backbone.start.of is 's3_highres', which is no earlier stage"),
    (s2(start__of="s2_backbone"), "stages.s2_backbone.start.of is 's2_backbone', which is no earlier stage"),
    (s2(neck__dim=128), "stages.s2_backbone.neck is another than s1_head's; name start.fresh=('neck', 'objective')"),
    (s2(neck__dim=128, start__fresh=("neck",)), "stages.s2_backbone.neck is another than s1_head's; name start.fresh="),
    (s2(neck__has_bias=False), "stages.s2_backbone.neck is another than s1_head's; name start.fresh="),
    (
        s2(neck=Neck(dropouts=(0.1, 0.2), is_branched=True)),
        "stages.s2_backbone.neck is another than s1_head's; name start.fresh=",
    ),
    (
        rows(
            replace(S2, neck=Neck(dropouts=(0.1, 0.2, 0.3), is_branched=True)),
            head=(replace(S1, neck=Neck(dropouts=(0.1, 0.2), is_branched=True)),),
        ),
        "stages.s2_backbone.neck is another than s1_head's; name start.fresh=",
    ),
    (
        s2(objective=ArcFace(n_sub_centers=3)),
        "stages.s2_backbone.objective has weights of another shape than s1_head's (centers 3, not centers 1); name "
        "start.fresh=('objective',)",
    ),
    (
        s2(sources=("shose",)),
        "stages.s2_backbone.sources names 'shose', which is no source to train on; did you mean 'shoes'",
    ),
    (
        lambda r: s2(sources=("towers",))(data(distractors=("towers",))(r)),
        "stages.s2_backbone.sources names 'towers', which is no source to train on",
    ),
    (
        s2(sources=("shoes",)),
        "stages.s2_backbone.sources are others than s1_head's, and so are the classes; name start.fresh=('objective',)",
    ),
    (s1(retain=Retain(weights_weight=1.0)), "stages.s1_head.retain is for stages that train the backbone; this one"),
    (s2(retain=Retain(generic=("towers",))), "stages.s2_backbone.retain.generic names towers, whose images carry"),
    (
        s2(retain=Retain(features_weight=1.0, generic=("towrs",))),
        "stages.s2_backbone.retain.generic names 'towrs', which is no separate data set; did you mean 'towers'?",
    ),
    (
        s2(sources=("shoes",), retain=Retain(features_weight=1.0, generic=("towers",))),
        "stages.s2_backbone.retain.generic names 'towers', on which the stage does not train: name it in "
        "stages.s2_backbone.sources, too, beside shoes",
    ),
    (
        s2(retain=Retain(features_weight=1.0, generic=("towers", "shoes"))),
        "stages.s2_backbone.retain.generic names all data sets of the stage; the objective needs another",
    ),
    (
        s2(retain=Retain(features_weight=1.0, generic=("towers",))),
        "stages.s2_backbone.sources are others than s1_head's, and so are the classes",
    ),
    (
        s2(
            retain=Retain(features_weight=1.0, generic=("towers",)),
            objective=Sum(terms=(ArcFace(), Mic())),
            start__fresh=("objective",),
            sampling=PerClass(),
        ),
        "stages.s2_backbone.retain.generic: Sum looks at all images between the steps",
    ),
    (
        s2(objective=KeepCosines(of="s1_haed")),
        "stages.s2_backbone.objective is taught by 's1_haed', which is",
    ),
    (
        s2(objective=Sum(terms=(ArcFace(), KeepCosines(of="s2_backbone")))),
        "stages.s2_backbone.objective is taught by 's2_backbone', which is no earlier stage",
    ),
    (rows(Interpolate("at", of="s1_head", shares=())), "stages.at.shares is empty; name the tuned weights' share"),
    (rows(Interpolate("at", of="s1_haed")), "stages.at.of is 's1_haed', which is no earlier stage; did you mean"),
    (rows(Interpolate("at", of="at")), "stages.at.of is 'at', which is no earlier stage"),
    (rows(Interpolate("at", of="pretrained", start="s1_head")), "stages.at.of is 'pretrained', which is no earlier"),
    (rows(Interpolate("at", of="s1_head", start="pretraind")), "did you mean 'pretrained'?"),
    (
        rows(Interpolate("at", of="s1_head", start="s1_head")),
        "stages.at.of and start are both 's1_head'; name the tuned",
    ),
    (rows(Interpolate("pretrained", of="s1_head")), "stages.pretrained: the name 'pretrained' is taken"),
    (
        rows(
            replace(S1, name="large", start=Start(of="pretrained", fresh=HEAD, model=VIT)),
            Interpolate("at", of="s1_head", start="large"),
        ),
        "stages.at.start: large has another backbone than s1_head; name an earlier row of the same one",
    ),
    (rows(Soup("soup", of=())), "stages.soup.of is empty; name the rows whose weights are averaged"),
    (rows(Soup("soup", of=("s1_haed",))), "stages.soup.of names 's1_haed', which is no earlier stage; did you mean"),
    (rows(Soup("soup", of=("soup",))), "stages.soup.of names 'soup', which is no earlier stage"),
    (rows(Soup("soup", of=("s2_backbone",)), S2), "stages.soup.of names 's2_backbone', which is no earlier stage"),
    (
        rows(replace(S2, image_px=96), Soup("soup", of=("s1_head", "s2_backbone"))),
        "stages.soup: s2_backbone.image_px is 96, s1_head has 64; a soup is of alike models",
    ),
    (
        rows(replace(S2, patch_stride=8), Soup("soup", of=("s1_head", "s2_backbone"))),
        "stages.soup: s2_backbone.patch_stride is 8, s1_head has 0; a soup is of alike models",
    ),
    (
        rows(
            replace(S2, sources=("shoes",), start=Start(fresh=("objective",))),
            Soup("soup", of=("s1_head", "s2_backbone")),
        ),
        "stages.soup: s2_backbone's classes are those of shoes, s1_head's of shoes, towers; a soup is of alike models",
    ),
    (
        rows(
            replace(S2, retain=TOWERS_GENERIC, start=Start(fresh=("objective",))),
            Soup("a", of=("s1_head", "s2_backbone")),
        ),
        "stages.a: s2_backbone's classes are those of shoes, s1_head's of shoes, towers; a soup is of alike models",
    ),
    (
        s2(trains="all", neck=NORM, retain=TOWERS_GENERIC),
        "stages.s2_backbone.retain.generic: the batch norm of the neck would take its mean and variance from the",
    ),
    (
        rows(replace(S2, neck=Neck(dim=32), start=Start(fresh=HEAD)), Soup("soup", of=("s1_head", "s2_backbone"))),
        "stages.soup: s2_backbone has another neck or another objective than s1_head; a soup is of alike models",
    ),
    (
        rows(
            replace(S2, objective=ArcFace(n_sub_centers=2), start=Start(fresh=("objective",))),
            Soup("soup", of=("s1_head", "s2_backbone")),
        ),
        "stages.soup: s2_backbone has another neck or another objective than s1_head; a soup is of alike models",
    ),
    (
        rows(
            replace(S1, name="large", start=Start(of="pretrained", fresh=HEAD, model=VIT)),
            Soup("soup", of=("s1_head", "large")),
        ),
        "stages.soup.of: large has another backbone than s1_head; make a soup of each and concatenate them as members",
    ),
    (
        s2(start__model=VIT),
        "stages.s2_backbone.start.model: only a stage that starts from 'pretrained' may name a backbone",
    ),
    (s1(start__model=replace(VIT, library="keras")), "stages.s1_head.start.model.library is 'keras', must be one of"),
    (at(model__mean=(0.4, 0.4, 0.4)), "model.mean is (0.4, 0.4, 0.4) and model.std is None: state both"),
    (at(model__weights="a.pth", model__own_normalisation_of="a.pth"), "model.own_normalisation_of is 'a.pth'"),
    (s2(validation=Validation(keeps_best=True)), "stages.s2_backbone.validation.keeps_best needs every_epochs"),
    (
        s2(validation=Validation(keeps_best=True, every_epochs=1), optim__ema_decay=0.9),
        "s2_backbone.validation.keeps_best needs every_epochs, the epochs between validations, and no optim.ema_decay",
    ),
    (
        s2(sampling=PerClass(images_per_class=3)),
        "stages.s2_backbone.sampling.images_per_class is 3, must divide the batch_size 8",
    ),
    (s2(cost=Cost(n_parts=3)), "stages.s2_backbone.cost.n_parts is 3, must divide the batch_size 8"),
    (
        s1(neck=Neck(has_norm=True), optim__batch_size=1),
        "stages.s1_head.neck.has_norm is true, but batch_size 1 gives the batch norm one image at a time",
    ),
    (
        s1(cost=Cost(has_sharded_weights=True)),
        "stages.s1_head.cost.has_sharded_weights is for stages that train the backbone; this one trains 'head'",
    ),
    (
        s1(cost=Cost(patch_drop=0.5)),
        "stages.s1_head.cost.patch_drop is for stages that train the backbone; this one trains 'head'",
    ),
    (
        s2(neck=Neck(has_size=True)),
        "stages.s2_backbone.neck.has_size needs a frozen backbone, whose features are cached",
    ),
    (s1(neck=Neck(has_size=True, hidden_dim=8)), "stages.s1_head.neck.has_size excludes hidden_dim, which is 8"),
    (
        lambda r: s1(neck=Neck(has_size=True))(data(pack_square=True)(r)),
        "stages.s1_head.neck.has_size needs data.pack_square off, or all images have one size",
    ),
    (
        s2(start__has_mean_centers=True),
        "stages.s2_backbone.start.has_mean_centers needs a fresh objective with class centres or proxies, and a",
    ),
    (
        rows(replace(S1, name="again", start=Start(has_mean_centers=True, fresh=("neck",)))),
        "stages.again.start.has_mean_centers needs a fresh objective with class centres or proxies, and a",
    ),
    (
        s1(trains="objective", objective=Sum(terms=(SupCon(), KoLeo()))),
        "stages.s1_head.trains is 'objective', but Sum has no weights to train; take trains='head'",
    ),
    (
        s2(start__has_pca_neck=True),
        "stages.s2_backbone.start.has_pca_neck needs a fresh neck and a frozen backbone, whose features are cached",
    ),
    (
        s1(start__has_pca_neck=True, neck__has_norm=True),
        "stages.s1_head.start.has_pca_neck is for a neck of one linear layer with a bias; it excludes hidden_dim,",
    ),
    (
        s1(neck=Neck(has_size=True, has_unit_input=True)),
        "stages.s1_head.neck.has_size excludes has_unit_input: the image's size is no part of a direction",
    ),
    (
        s1(objective=SupCon(), sampling=PerClass(images_per_class=1)),
        "stages.s1_head.objective is SupCon, which compares images of one class, but sampling.images_per_class is 1",
    ),
    (
        s1(objective=SupCon(), sampling=Weighted(), optim__batch_size=1),
        "stages.s1_head.optim.batch_size is 1, but the objective is SupCon, which compares images; take 2 or more",
    ),
    (
        s1(objective=Sum(terms=(ArcFace(), SupCon())), sampling=Weighted(), optim__batch_size=1),
        "stages.s1_head.optim.batch_size is 1, but the objective is Sum, which compares images; take 2 or more",
    ),
    (
        s1(objective=Sum(terms=(ArcFace(), KeepCosines())), sampling=Weighted(), optim__batch_size=1),
        "stages.s1_head.optim.batch_size is 1, but the objective is Sum, which compares images; take 2 or more",
    ),
    (
        s1(objective=Sum(terms=(ArcFace(), KoLeo())), sampling=PerClass(images_per_class=1), optim__batch_size=1),
        "stages.s1_head.optim.batch_size is 1, but the objective is Sum, which compares images; take 2 or more",
    ),
    (
        s1(objective=SupCon(), sampling=PerClass(images_per_class=16)),
        "stages.s1_head.objective is SupCon, which needs 2 classes in a batch, and sampling gives 1; take fewer",
    ),
    (
        s1(objective=Sum(terms=(KoLeo(), SharingMatters())), sampling=PerClass(images_per_class=8)),
        "stages.s1_head.objective.terms.1 is SharingMatters, which needs 3 classes in a batch, and sampling gives 2",
    ),
    (
        s1(objective=Diva(), sampling=PerClass(images_per_class=8)),
        "stages.s1_head.objective is Diva, which needs 3 classes in a batch, and sampling gives 2; take fewer",
    ),
    (
        s1(objective=HierarchicalDivide(min_classes=7), sampling=PerClass(images_per_class=2)),
        "stages.s1_head.objective.min_classes is 7, and a batch has 8 classes of one cluster; take 8 or more, or 0",
    ),
    (
        s1(objective=Sum(terms=(Pads(), DivideConquer()))),
        "stages.s1_head.objective.terms: Pads and DivideConquer both decide which images share a batch; take one of",
    ),
    (s1(optim__schedule=Steps(drops=())), "stages.s1_head.optim.schedule.drops is (): it needs epochs in rising order"),
    (
        s1(optim__schedule=Steps(drops=(2, 1))),
        "stages.s1_head.optim.schedule.drops is (2, 1): it needs epochs in rising",
    ),
    (
        s1(optim__schedule=Steps(drops=(1, 1))),
        "stages.s1_head.optim.schedule.drops is (1, 1): it needs epochs in rising",
    ),
    (
        s1(optim__blocks=BlockFactors(edges=(1, 2), factors=(0.5,))),
        "stages.s1_head.optim.blocks.edges is (1, 2): it needs rising numbers, and factors one for each",
    ),
    (
        s1(optim__blocks=BlockFactors(edges=(2, 1), factors=(0.5, 0.6))),
        "stages.s1_head.optim.blocks.edges is (2, 1): it needs rising numbers",
    ),
    (lambda r: replace(r, embed=Embed(settings=())), "embed.settings is empty"),
    (lambda r: replace(r, embed=Embed(settings=(FINAL, FINAL))), "embed.settings: the name 'final' stands twice"),
    (final(members=()), "embed.settings.final.members is empty"),
    (final(pca_dim=-1), "embed.settings.final.pca_dim is -1"),
    (final(pca_dim=32), "embed.settings.final is exported and must give 64 numbers"),
    (final(pca_dim=0), "embed.settings.final is exported and must give 64 numbers"),
    (final(pca_dim=32), "set its pca_dim to 64, or embed.dim to 32, which is not for the contest"),
    (at(embed__dim=128), "embed.settings.final is exported and must give 128 numbers; set its pca_dim to 128"),
    (at(embed__dim=-1), "embed.dim is -1, must be 0 to 100000"),
    (final(whiten=1.5), "embed.settings.final.whiten is 1.5"),
    (member(stage="s2_backbon"), "no stage 's2_backbon'; did you mean 's2_backbone'"),
    (member(stage="s2_backbon", output="feature"), "no stage 's2_backbon'; did you mean 's2_backbone'"),
    (member(stage="pretrained"), "the pretrained backbone has no neck"),
    (member(output="logits"), "embed.settings.final.members.0.output is 'logits', must be one of embedding, feature"),
    (member(weight=-1.0), "embed.settings.final.members.0.weight is -1.0"),
    (member(image_px=4), "embed.settings.final.members.0.image_px is 4"),
    (member(views=("plain", "rotate")), "embed.settings.final.members.0.views is 'rotate', must be one of plain, flip"),
    (member(views=()), "embed.settings.final.members.0: a member's views are empty; the image as it is is ('plain',)"),
    (at(export__storage="int8"), "export.storage is 'int8', must be one of fp32, bf16, fp16"),
    (s1(augment=Augment(cutout_low=0.5)), "augment.cutout_low is 0.5 and cutout_high 0.4"),
    (s1(augment=Augment(jpeg_low=0)), "augment.jpeg_low is 0 and jpeg_high 95; the low one must be at least 1"),
    (s1(augment=Augment(affine=1.5)), "augment.affine is 1.5, must be 0"),
    (s1(neck=Neck(norm_eps=0.0)), "neck.norm_eps is 0.0"),
    (lambda r: replace(r, seed=-1), "seed is -1"),
    (lambda r: replace(r, seed=2**31), "seed is 2147483648"),
]


@pytest.mark.parametrize(("broken", "complaint"), BROKEN, ids=[complaint for _, complaint in BROKEN])
def test_validate_names_field_value_and_range(broken: Change, complaint: str):
    with pytest.raises(ValueError, match=re.escape(complaint)) as caught:
        broken(a_recipe()).validate()
    assert "\n" not in str(caught.value)


# What a flat stage could contradict, and what now cannot be said: each optimizer and schedule has its own fields alone.
@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (OneCycle, "epoch_decay"),
        (OneCycle, "end_share"),
        (OneCycle, "drops"),
        (Constant, "drops"),
        (AdamW, "momentum"),
        (BlockFactors, "factor"),
        (LayerDecay, "edges"),
        (Soup, "n_epochs"),
        (Soup, "trains"),
        (Soup, "start"),
        (Stage, "of"),
        (Stage, "phase"),
    ],
)
def test_what_excluded_each_other_has_no_field_together(kind: type, name: str):
    assert name not in {field.name for field in fields(kind)}


def test_width_of_the_contest_is_not_called_another():
    with pytest.raises(ValueError, match=r"set its pca_dim to 128, or embed\.dim to 64$"):
        at(embed__dim=128)(a_recipe()).validate()


@pytest.mark.parametrize(
    "change",
    [
        "seed=0",
        "seed=2147483647",
        "data.val_class_share=0.99",
        "data.jpeg_quality=100",
        "stages.s1_head.sampling.power=-1",
    ],
)
def test_validate_takes_the_ends_of_a_range(change: str):
    changed = override_field(a_recipe(), change)
    assert changed.validate() is changed


@pytest.mark.parametrize(
    "change",
    [
        s3(neck__dim=128, start__fresh=HEAD),
        s3(neck__dropouts=(0.1, 0.5)),  # of one matrix, averaged
        s3(neck=Neck(has_norm=True), start__fresh=("neck",)),
        s3(sources=("shoes",), start__fresh=("objective",)),
        s3(objective=CosFace(n_sub_centers=3), start__fresh=("objective",)),
        s3(objective=CosFace()),  # the same centres, another loss
        rows(replace(S1, name="s2", neck=NORM, optim=replace(SINGLE, batch_size=2))),
        s1(start__has_mean_centers=True),
        rows(replace(S2, neck=NORM, optim=SINGLE), head=(replace(S1, neck=NORM),)),  # a frozen neck has its statistics
        rows(S2, Soup("soup", of=("s1_head", "s2_backbone"), is_greedy=True)),
        rows(replace(S2, sources=("towers", "shoes")), Soup("soup", of=("s1_head", "s2_backbone"))),  # all, by name
        rows(  # the classes of both are those that the objective sees
            replace(S2, retain=TOWERS_GENERIC),
            Soup("soup", of=("s1_head", "s2_backbone")),
            head=(replace(S1, sources=("shoes",)),),
        ),
        rows(  # a frozen neck has its statistics
            replace(S2, neck=NORM, retain=TOWERS_GENERIC, start=Start(fresh=("objective",))),
            head=(replace(S1, neck=NORM),),
        ),
        rows(S2, Soup("soup", of=("s1_head",)), replace(S2, name="after", start=Start(of="soup"))),
        rows(S2, Soup("soup", of=("s1_head",)), Soup("of_soups", of=("soup", "s2_backbone"))),
        rows(S2, Interpolate("between", of="s2_backbone")),
        s2(retain=Retain(features_weight=1.0, weights_weight=1.0)),
        at(
            stages__s2_backbone__retain=Retain(features_weight=1.0, generic=("towers",)),
            stages__s2_backbone__start__fresh=("objective",),
            stages__s3_highres__start__fresh=("objective",),
        ),
        at(  # the classes of the head are those that the backbone's objective sees
            stages__s1_head__sources=("shoes",),
            stages__s2_backbone__retain=Retain(features_weight=1.0, generic=("towers",)),
            stages__s3_highres__sources=("shoes",),
        ),
        at(
            stages__s2_backbone__objective=KeepCosines(of="s1_head"),
            stages__s2_backbone__start__fresh=("objective",),
            stages__s3_highres__start__fresh=("objective",),
        ),
        rows(S2, Interpolate("between", of="s2_backbone", start="s1_head", shares=(0.0, 1.0))),
        rows(
            replace(S2, image_px=96, start=Start(of="s1_head")),
            Interpolate("between", of="s2_backbone", start="s1_head"),
        ),
        rows(S2, Interpolate("between", of="s2_backbone"), replace(S2, name="after", start=Start(of="between"))),
        at(embed__dim=0, embed__settings__final__pca_dim=0),  # nothing is exported
        at(embed__dim=0, embed__settings__final__post=PostProcess(n_expanded=3)),
    ],
)
def test_validate_takes_what_fits_together(change: Change):
    changed = change(a_recipe())
    assert changed.validate() is changed


def test_rows_run_by_phase_and_in_a_phase_as_they_stand():
    """Phases cannot go backwards: the place says which a row is of, and head comes first however a file is written."""
    more = replace(S2, name="s2b")
    stages = Stages(highres=(S3,), backbone=(S2, more), head=(S1,))
    assert [row.name for row in stages] == ["s1_head", "s2_backbone", "s2b", "s3_highres"]
    assert [stages.phase_of(row.name) for row in stages] == ["head", "backbone", "backbone", "highres"]
    assert [stages.of_phase(phase) for phase in ("head", "backbone", "highres")] == [(S1,), (S2, more), (S3,)]
    assert list(Stages(head=(S1, Soup("soup", of=("s1_head",)))).trained) == [S1]


def test_parent_is_the_row_before_unless_named():
    recipe = a_recipe()
    assert [recipe.parent(row) for row in recipe.stages] == ["pretrained", "s1_head", "s2_backbone"]
    changed = s3(start__of="s1_head")(recipe)
    assert changed.parent(changed.row("s3_highres")) == "s1_head"
    soup = rows(S2, Soup("soup", of=("s1_head", "s2_backbone")), replace(S2, name="after"))(recipe)
    assert [soup.parent(row) for row in soup.stages] == ["pretrained", "s1_head", "s1_head", "soup"]
    assert soup.ancestors("after") == ["soup", "s1_head"]


def test_stage_of_a_soup_is_the_first_that_it_averages():
    soups = rows(S2, Soup("soup", of=("s2_backbone", "s1_head")), Soup("of_soups", of=("soup", "s1_head")))(a_recipe())
    assert soups.stage("of_soups") == soups.stage("soup") == soups.row("s2_backbone") == S2
    assert soups.row("soup") == Soup("soup", of=("s2_backbone", "s1_head"))


def test_backbone_of_a_stage_is_that_of_the_stage_its_weights_come_from():
    """Two ingredients, of which the second has another backbone, and what starts from each: a stage, one on, a soup."""
    large = Model("timm", "test_vit")
    own = replace(S1, name="s2_large", start=Start(of="pretrained", fresh=HEAD, model=large))
    then = replace(S1, name="s3_then", start=Start(of="s2_large"))
    last = replace(S1, name="s4_last", start=Start())  # of the row before
    back = replace(S1, name="s5_back", start=Start(of="s1_head"))
    soup = Soup("s6_soup", of=("s3_then", "s4_last"))
    recipe = replace(a_recipe(), stages=Stages(head=(S1, own, then, last, back, soup)))
    small = recipe.model
    expected = {"pretrained": small, "s1_head": small, "s5_back": small}
    expected |= dict.fromkeys(("s2_large", "s3_then", "s4_last", "s6_soup"), large)
    assert {name: recipe.model_of(name) for name in expected} == expected and small != large
    assert recipe.models == (small, large)


def test_digest_of_a_stage_changes_with_the_row_it_starts_from():
    recipe = a_recipe()
    between = replace(S1, name="s1b_head")
    changed = replace(recipe, stages=replace(recipe.stages, head=(S1, between)))
    assert recipe.parent(recipe.row("s2_backbone")) == "s1_head"
    assert changed.parent(changed.row("s2_backbone")) == "s1b_head"
    assert changed.digest("stages.s2_backbone") != recipe.digest("stages.s2_backbone")
    assert changed.digest("stages.s1_head") == recipe.digest("stages.s1_head")


@pytest.mark.parametrize(
    "reads",
    [
        ("seed",),
        ("data.sources", "seed"),
        ("model",),
        ("stages.s3",),
        ("stages.s3.optim", "stages.s2.start.model"),
        ("embed.settings", "data.drawn"),
        ("export",),
    ],
)
def test_digest_changes_with_the_fields_read_and_with_no_others(reads: tuple[str, ...]):
    recipe = every_kind()
    # A row is found by its name: under a new one it is another row, or the row after it has another parent.
    found = [leaf for leaf in leaves(recipe) if not re.fullmatch(r"stages\.\w+\.name", leaf.path)]
    assert len(found) > 400
    before = recipe.digest(*reads)
    for leaf in found:
        is_read = any(leaf.path == field or leaf.path.startswith(field + ".") for field in reads)
        has_changed = put(recipe, leaf.path, another(leaf)).digest(*reads) != before
        assert has_changed == is_read, leaf.path


def test_digest_of_the_whole_recipe_changes_with_every_field():
    """But for the fields of the other kinds of objectives, which tests/contract/test_digests.py changes one by one."""
    recipe = every_kind()
    others = [kind.__name__ for kind in OTHER_OBJECTIVES]
    kept = tuple(row for row in recipe.stages.backbone if row.name not in others)
    recipe = replace(recipe, stages=replace(recipe.stages, backbone=kept))
    digests = [put(recipe, leaf.path, another(leaf)).digest() for leaf in leaves(recipe)]
    assert recipe.digest() not in digests and len(set(digests)) == len(digests) > 150


@pytest.mark.parametrize(
    ("path", "one", "other"),
    [
        ("optim.method", AdamW(), Adam()),
        ("optim.schedule", OneCycle(0.3), Constant(0.3)),
        ("optim.blocks", None, LayerDecay()),
        ("objective", ArcFace(0.3), CosFace(0.3)),
        ("objective.margin_rad", GrowingMargin(0.5, 0.0, 0.5), 0.5),
    ],
)
def test_digest_changes_where_only_the_kind_does(path: str, one: Any, other: Any):
    before, after = (put(a_recipe(), f"stages.s1_head.{path}", value) for value in (one, other))
    for reads in ((), ("stages.s1_head",), (f"stages.s1_head.{path}",)):
        assert before.digest(*reads) != after.digest(*reads), reads


@pytest.mark.parametrize("phase", ["head", "backbone", "highres"])
def test_row_that_is_called_as_a_phase_is_a_row(phase: str):
    recipe = put(a_recipe(), "stages.s2_backbone.name", phase)
    changed = override_field(recipe, f"stages.{phase}.image_px=80")
    assert changed.row(phase) == replace(S2, name=phase, image_px=80)
    for path in (f"stages.{phase}", f"stages.{phase}.image_px"):
        assert changed.digest(path) != recipe.digest(path)
    assert changed.digest(f"stages.{phase}.start") == recipe.digest(f"stages.{phase}.start")


def test_digest_is_the_same_for_an_equal_recipe():
    assert a_recipe().digest("model", "seed") == a_recipe().digest("model", "seed")
    assert a_recipe().digest("model", "seed") == a_recipe().digest("seed", "model")


def at_path(tree: Any, path: str) -> dict[str, Any]:
    """What stands at a path of a recipe as JSON has it; rows are reached without their phase."""
    for key in path.split("."):
        if isinstance(tree, list):
            tree = {item.get("name", str(i)): item for i, item in enumerate(tree)}
        elif set(tree) == {"head", "backbone", "highres"}:
            tree = {row["name"]: row for rows in tree.values() for row in rows}
        tree = tree[key]
    return tree


def test_json_holds_every_field_and_the_kind_where_there_are_several():
    recipe = every_kind()
    expected = json.loads(json.dumps(asdict(recipe)))
    for row in recipe.stages:
        at_path(expected, f"stages.{row.name}")["kind"] = type(row).__name__
    for leaf in walk(recipe):
        kinds = [kind for kind in leaf.kinds if is_dataclass(kind)]
        assert len(kinds) < 2 or all("kind" not in {field.name for field in fields(kind)} for kind in kinds)
        if len(kinds) > 1 and is_dataclass(leaf.value):
            at_path(expected, leaf.path)["kind"] = type(leaf.value).__name__
        if is_rows(leaf.value) and len(classes_of(leaf.hint)) > 1:
            for i, item in enumerate(leaf.value):
                at_path(expected, f"{leaf.path}.{i}")["kind"] = type(item).__name__
    assert json.loads(recipe.to_json()) == expected


def test_json_says_of_which_kind_settings_are():
    phases = json.loads(every_kind().to_json())["stages"]
    rows = {row["name"]: row for phase in ("head", "backbone", "highres") for row in phases[phase]}
    assert {name: row["kind"] for name, row in rows.items()} == {
        **dict.fromkeys(("s1", "s2", "s3", "s4", "s5"), "Stage"),
        **{kind.__name__: "Stage" for kind in OTHER_OBJECTIVES},
        **{f"mined_{type(miner).__name__}": "Stage" for miner in MINERS},
        "s6": "Soup",
        "s7": "Interpolate",
    }
    told = {
        name: [
            row["objective"]["kind"],
            row["optim"]["method"]["kind"],
            row["optim"]["schedule"]["kind"],
            row["sampling"]["kind"],
        ]
        for name, row in rows.items()
        if row["kind"] == "Stage" and row["name"].startswith("s")
    }
    assert all(rows[kind.__name__]["objective"]["kind"] == kind.__name__ for kind in OTHER_OBJECTIVES)
    assert told == {
        "s1": ["ArcFace", "Sgd", "Cosine", "Weighted"],
        "s2": ["ArcFace", "Adam", "Steps", "PerClass"],
        "s3": ["CosFace", "AdamW", "Exponential", "Weighted"],
        "s4": ["Softmax", "AdamW", "Constant", "Weighted"],
        "s5": ["ArcFace", "AdamW", "OneCycle", "Weighted"],
    }
    assert rows["s3"]["optim"]["blocks"] == {"kind": "BlockFactors", "edges": [2, 4], "factors": [0.1, 0.5]}
    assert rows["s4"]["optim"]["blocks"] == {"kind": "LayerDecay", "factor": 0.9}
    assert rows["s5"]["optim"]["blocks"] is None
    assert rows["s2"]["objective"]["margin_rad"] == {"kind": "ClassMargin", "low": 0.05, "high": 0.5, "power": -0.25}
    assert rows["s5"]["objective"]["margin_rad"] == 0.3
    assert "kind" not in rows["s1"]["optim"] and "kind" not in rows["s1"]["start"]  # which have one kind alone


def test_load_recipe_unknown_name_says_what_to_do():
    told = r"no recipe 'minibenhc'; did you mean 'minibench'\? Or give the path of a .py file that defines RECIPE"
    with pytest.raises(ValueError, match=told):
        load_recipe("minibenhc")
    with pytest.raises(ValueError, match=r"no recipe 'xx'; known: .*unifex_2024\. Or give the path"):
        load_recipe("xx")


def test_load_recipe_missing_file():
    with pytest.raises(FileNotFoundError, match=r"nowhere/mine.py does not exist"):
        load_recipe("nowhere/mine.py")


def test_load_recipe_file_without_recipe(tmp_path: Path):
    path = tmp_path / "mine.py"
    path.write_text("RECIPE = 3\n")
    with pytest.raises(ValueError, match=r"mine.py defines no RECIPE of type guie.recipe.Recipe"):
        load_recipe(str(path))


@pytest.mark.parametrize("text", ["RECIPE = (\n", "import no_such_module\n", "RECIPE = Recipe()\n"])
def test_load_recipe_broken_file_is_a_user_error_that_names_the_file(tmp_path: Path, text: str):
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"mine\.py"):
        load_recipe(str(path))


def test_load_recipe_own_file_with_overrides(tmp_path: Path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from guie.recipe import *\n"
        "RECIPE = Recipe('mine', Data((Source('a', 'class_folders', 'a', 'd'),)), Model('timm', 'resnet18'),\n"
        "    Stages(head=(Stage('s1', trains='head', image_px=64, start=Start(fresh=HEAD),\n"
        "        optim=Optim(n_epochs=1, batch_size=8, lr=0.01)),)),\n"
        "    Embed((Setting('only', (Member('s1', 64),)),)))\n"
    )
    recipe = load_recipe(str(path), ["seed=3", "stages.s1.optim.n_epochs=9"])
    assert (recipe.name, recipe.seed, recipe.stages.trained[0].optim.n_epochs) == ("mine", 3, 9)
    with pytest.raises(ValueError, match=r"stages.s1.optim.n_epochs is 0"):
        load_recipe(str(path), ["stages.s1.optim.n_epochs=0"])


def test_tiny_copy_of_batches_by_class_and_of_many_backbones_is_valid():
    starts = tuple(Start(of="pretrained", fresh=HEAD, model=Model("timm", f"vit_{i}")) for i in range(4))
    heads = tuple(replace(S1, name=f"h{i}", start=start) for i, start in enumerate(starts))
    large = Optim(n_epochs=1, batch_size=48, lr=0.1)
    by_class = replace(heads[0], name="by_class", optim=large, sampling=PerClass(images_per_class=3))
    tiny = shrunk(rows(head=(*heads, by_class))(a_recipe()).validate())
    assert tiny.stage("by_class").sampling == PerClass(images_per_class=2)
    assert len({row.start.model for row in tiny.stages.trained}) >= 3


def test_mean_of_equal_widths_is_exported_without_pca():
    recipe = final(combine="mean", pca_dim=0, power=0.5)(a_recipe())
    assert recipe.validate() is recipe


def test_what_was_chosen_on_validation_is_found_in_all_ancestors() -> None:
    head = (
        replace(S1, name="plain"),
        replace(S1, name="best", validation=Validation(keeps_best=True, every_epochs=1)),
    )
    backbone = (
        replace(S2, name="child", start=Start(of="best")),
        replace(S2, name="grandchild", start=Start(of="child")),
        replace(S2, name="other", start=Start(of="plain")),
        Soup("greedy", of=("plain", "child"), is_greedy=True),
        replace(S2, name="after", start=Start(of="greedy")),
        Soup("soup", of=("other", "child")),
        Interpolate("between", of="other", shares=(0.2, 0.8)),
        Interpolate("half", of="other", start="child"),
        replace(S2, name="last", start=Start(of="between")),
    )
    recipe = rows(*backbone, head=head)(a_recipe()).validate()

    def found(*names: str, **fields: Any) -> tuple[str, ...]:
        return recipe.chosen_on_validation(Setting("row", tuple(Member(name, 64) for name in names), **fields))

    assert found("pretrained") == found("plain") == found("other", "pretrained") == ()
    assert found("best") == found("child") == found("other", "grandchild") == found("soup") == ("best: best epoch",)
    assert found("greedy") == found("after") == ("best: best epoch", "greedy: greedy soup")
    assert found("between") == found("last") == ("between: share",) and found("half") == ("best: best epoch",)
    assert found("pretrained", is_chosen_on_validation=True) == ("the setting",)
    assert found("best", is_chosen_on_validation=True) == ("the setting", "best: best epoch")


def test_teacher_moves_no_backbone_of_its_student() -> None:
    """Words are embedded by the text tower, beside which a frozen student's backbone still stands, and no soup of a
    moved one."""
    student = replace(S1, name="s3", start=Start(of="pretrained", fresh=HEAD), objective=KeepCosines(of="s2_backbone"))
    soup = Soup("s4", of=("s1_head", "s2_backbone"))
    recipe = replace(rows(S2, student, soup)(a_recipe()), model=Model("open_clip", "ViT-B-32", "pretrained:openai"))

    def fitted(name: str) -> Recipe:
        member = Member(name, 64, output="feature")
        setting = Setting("only", (member,), pca_dim=64, fit_on=(FitImages(), FitWords()))
        return replace(recipe, embed=Embed((setting,))).validate()

    assert fitted("s1_head") and fitted("s3")
    for name in ("s2_backbone", "s4"):
        with pytest.raises(ValueError, match=f"of member {name} s2_backbone trained its backbone away"):
            fitted(name)


def test_recipes_that_choose_on_validation_say_so() -> None:
    assert not any(map(load_recipe("tiny").chosen_on_validation, load_recipe("tiny").embed.settings))
    for name in ("demo", "minibench", "fifth_place"):
        recipe = load_recipe(name)
        for setting in recipe.embed.settings:
            is_trained = any(member.stage != "pretrained" for member in setting.members)
            assert bool(recipe.chosen_on_validation(setting)) == is_trained, setting.name
