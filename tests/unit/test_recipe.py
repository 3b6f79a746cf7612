"""Recipes: loading, overriding, validating, hashing."""

import json
import re
from collections.abc import Callable
from dataclasses import FrozenInstanceError, asdict, replace
from pathlib import Path
from typing import Any

import pytest

from guie.override import override_field
from guie.recipe import (
    Augment,
    Data,
    DrawnWorld,
    Embed,
    EpochMargin,
    Export,
    Limit,
    Member,
    Model,
    NeckShape,
    PostProcess,
    Recipe,
    Setting,
    Source,
    Stage,
    load_recipe,
)

HEAD = Stage("s1_head", "head", "head", image_px=64, n_epochs=3, batch_size=16, lr=1e-2, fresh=("neck", "classifier"))
BACKBONE = Stage("s2_backbone", "backbone", "backbone", image_px=64, n_epochs=2, batch_size=8, lr=1e-4)
HIGHRES = Stage("s3_highres", "highres", "all", image_px=96, n_epochs=1, batch_size=8, lr=1e-4)
RAW = Setting("raw", (Member("pretrained", 64, output="feature"),))
FINAL = Setting("final", (Member("s2_backbone", 64, ("plain", "flip")), Member("s3_highres", 96)), pca_dim=64)


def a_recipe() -> Recipe:
    return Recipe(
        name="example",
        data=Data(
            sources=(Source("shoes", "class_folders", "shoes", "apparel"), Source("towers", "gldv2", "towers", "landmarks")),
            drawn=DrawnWorld(),
            limits=(Limit("towers"),),
        ),
        model=Model("timm", "mobilenetv2_050"),
        stages=(HEAD, BACKBONE, HIGHRES),
        embed=Embed(settings=(RAW, FINAL)),
    )


def with_stage(index: int, **changes: Any) -> Callable[[Recipe], Recipe]:
    return lambda r: replace(r, stages=(*r.stages[:index], replace(r.stages[index], **changes), *r.stages[index + 1 :]))


def with_data(**changes: Any) -> Callable[[Recipe], Recipe]:
    return lambda r: replace(r, data=replace(r.data, **changes))


def with_model(**changes: Any) -> Callable[[Recipe], Recipe]:
    return lambda r: replace(r, model=replace(r.model, **changes))


def with_setting(index: int, **changes: Any) -> Callable[[Recipe], Recipe]:
    def change(r: Recipe) -> Recipe:
        rows = r.embed.settings
        return replace(r, embed=replace(r.embed, settings=(*rows[:index], replace(rows[index], **changes), *rows[index + 1 :])))

    return change


def with_member(**changes: Any) -> Callable[[Recipe], Recipe]:
    return with_setting(1, members=(replace(FINAL.members[0], **changes), FINAL.members[1]))


def test_example_recipe_is_valid():
    recipe = a_recipe()
    assert recipe.validate() is recipe


def test_recipe_cannot_be_changed_in_place():
    with pytest.raises(FrozenInstanceError):
        a_recipe().seed = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "value_of", "expected"),
    [
        ("seed=7", lambda r: r.seed, 7),
        ("name=mine", lambda r: r.name, "mine"),
        ("data.val_class_share=0.25", lambda r: r.data.val_class_share, 0.25),
        ("data.sources.shoes.folder=a/b=c", lambda r: r.data.sources[0].folder, "a/b=c"),
        ("data.drawn.n_views=3", lambda r: r.data.drawn.n_views, 3),
        ("model.weights=", lambda r: r.model.weights, ""),
        ("model.mean=0.1, 0.2,0.3", lambda r: r.model.mean, (0.1, 0.2, 0.3)),
        ("model.mean=none", lambda r: r.model.mean, None),
        ("stages.s2_backbone.n_epochs=5", lambda r: r.stages[1].n_epochs, 5),
        ("stages.s2_backbone.lr=3e-4", lambda r: r.stages[1].lr, 3e-4),
        ("stages.s2_backbone.fresh=classifier", lambda r: r.stages[1].fresh, ("classifier",)),
        ("stages.s2_backbone.fresh=", lambda r: r.stages[1].fresh, ()),
        ("stages.s1_head.margin.max_rad=0.4", lambda r: r.stages[0].margin, EpochMargin(max_rad=0.4)),
        ("stages.s1_head.augment.flip=0", lambda r: r.stages[0].augment, Augment(flip=0.0)),
        ("embed.settings.final.whiten=0.5", lambda r: r.embed.final.whiten, 0.5),
        ("embed.settings.final.members.1.views=plain,flip", lambda r: r.embed.final.members[1].views, ("plain", "flip")),
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
    before, after = asdict(a_recipe()), asdict(override_field(a_recipe(), "stages.s2_backbone.n_epochs=5"))
    after["stages"][1]["n_epochs"] = before["stages"][1]["n_epochs"]
    assert after == before


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("seed", r"'seed' has no '='"),
        ("sed=1", r"no field 'sed'; did you mean 'seed'\?"),
        ("zzz=1", r"no field 'zzz'; known: name, data, model, stages, embed, export, seed"),
        ("model.nmae=x", r"Model has no field 'nmae'; did you mean 'name'\?"),
        ("stages.s2_backbon.lr=1", r"no 's2_backbon' here; did you mean 's2_backbone'\?"),
        ("embed.settings.fnal.whiten=1", r"did you mean 'final'\?"),
        ("data.sources.shoe.folder=x", r"did you mean 'shoes'\?"),
        ("stages.s1_head=1", r"names a whole row; name one of its fields: name, phase,"),
        ("stages=1", r"no single value"),
        ("data=1", r"no single value"),
        ("seed.deeper=1", r"'deeper' goes deeper than the field does"),
        ("seed=1.5", r"seed=1.5: takes a whole number"),
        ("seed=", r"takes a whole number"),
        ("stages.s1_head.lr=fast", r"lr=fast: takes a number"),
        ("model.mean=0.5,0.5", r"takes 3 values"),
        ("model.mean=0.5,0.5,x", r"takes a number"),
        ("stages.s2_backbone.fresh.0=neck", r"--set stages.s2_backbone.fresh.0"),
        ("model.mean.0=0.4", r"--set model.mean.0"),
    ],
)
def test_override_refuses_with_the_remedy(text: str, complaint: str):
    with pytest.raises(ValueError, match=complaint):
        override_field(a_recipe(), text)


GREY = (0.5, 0.5, 0.5)
BROKEN: list[tuple[Callable[[Recipe], Recipe], str]] = [
    (lambda r: replace(r, embed=replace(r.embed, precision="int8")), "embed.precision is 'int8', must be one of auto, float32, bfloat16"),
    (with_setting(0, combine="sum"), "embed.settings.raw.combine is 'sum', must be one of concatenate, mean"),
    (with_setting(0, power=0.0), "embed.settings.raw.power is 0.0, must be 0.01 to 1.0"),
    (
        with_setting(1, combine="mean", members=(Member("pretrained", 64, output="feature"), FINAL.members[0])),
        "final.combine is 'mean', which needs members of",
    ),
    (with_setting(0, post=PostProcess(n_expanded=-1)), "raw.post.n_expanded is -1, must be 0 to 1000"),
    (with_setting(0, post=PostProcess(n_augmented=5, rerank_k1=20)), "raw.post: expansion with augmentation, re-ranking and length_mix exclude each other"),
    (with_setting(0, post=PostProcess(length_mix=0.5)), "raw.post.length_mix is 0.5, which needs pca_dim"),
    (with_setting(1, post=PostProcess(n_expanded=5)), "final.post: the last setting is exported, and a file that sees one image at a time can neither expand"),
    (with_setting(1, post=PostProcess(rerank_k1=20)), "final.post: the last setting is exported"),
    (with_setting(1, post=PostProcess(length_mix=0.5)), "final.post: the last setting is exported"),
    (with_data(sources=()), "data.sources is empty"),
    (with_data(sources=(Source("a", "k", "f", "d"), Source("a", "k", "g", "d"))), "data.sources: the name 'a' stands twice"),
    (with_data(sources=(Source("a/b", "k", "f", "d"),)), "data.sources.name is 'a/b', must be of letters"),
    (with_data(limits=(Limit("shows", 3),)), "data.limits names 'shows', which is no source; did you mean 'shoes'?"),
    (with_data(distractors=("tower",)), "data.distractors names 'tower', which is no source; did you mean 'towers'?"),
    (with_data(limits=(Limit("shoes", n_images=-1),)), "data.limits.shoes.n_images is -1, must be 0 to"),
    (with_data(val_by="picture"), "data.val_by is 'picture', must be one of class, image"),
    (with_data(licence="free"), "data.licence is 'free', must be one of any, commercial"),
    (with_data(val_class_share=0.2, val_fold=5), "data.val_fold is 5, must be 0 to 4"),
    (with_data(duplicate_bits=5), "data.duplicate_bits is 5, must be -1 to 4"),
    (with_data(sources=(Source("", "k", "f", "d"),)), "data.sources.name is '', must be of letters"),
    (with_data(min_per_class=0), "data.min_per_class is 0"),
    (with_data(min_per_class=5, max_per_class=4), "data.max_per_class is 4, must be 5 to"),
    (with_data(max_per_class=10, fill_per_class=11), "data.fill_per_class is 11, must be 0 to 10"),
    (with_data(val_class_share=0.0), "data.val_class_share is 0.0"),
    (with_data(val_class_share=1.0), "data.val_class_share is 1.0"),
    (with_data(val_class_share=float("nan")), "data.val_class_share is nan"),
    (with_data(pack_px=8), "data.pack_px is 8, must be 16 to 8192"),
    (with_data(jpeg_quality=0), "data.jpeg_quality is 0"),
    (with_data(jpeg_quality=101), "data.jpeg_quality is 101"),
    (with_data(shard_mb=0), "data.shard_mb is 0"),
    (with_data(max_bad_share=1.5), "data.max_bad_share is 1.5"),
    (with_model(library="keras"), "model.library is 'keras', must be one of timm, open_clip"),
    (with_model(mean=(0.5, 0.5, 1.5)), "model.mean is 1.5"),
    (with_model(std=(0.5, 0.0, 0.5)), "model.std is 0.0"),
    (lambda r: replace(r, stages=()), "stages is empty"),
    (lambda r: replace(r, stages=(HEAD, HEAD)), "stages: the name 's1_head' stands twice"),
    (with_stage(0, name="pretrained"), "stages.pretrained: the name 'pretrained' is taken"),
    (with_stage(0, phase="neck"), "stages.s1_head.phase is 'neck', must be one of head, backbone, highres"),
    (with_stage(0, trains="nothing"), "stages.s1_head.trains is 'nothing'"),
    (with_stage(0, optimizer="lion"), "stages.s1_head.optimizer is 'lion', must be one of adamw, adam, sgd"),
    (with_stage(0, schedule="steps"), "stages.s1_head.schedule is 'steps'"),
    (with_stage(0, image_px=4), "stages.s1_head.image_px is 4, must be 8 to 4096"),
    (with_stage(0, n_epochs=0), "stages.s1_head.n_epochs is 0"),
    (with_stage(0, batch_size=0), "stages.s1_head.batch_size is 0"),
    (with_stage(0, lr=0.0), "stages.s1_head.lr is 0.0"),
    (with_stage(0, lr=float("inf")), "stages.s1_head.lr is inf"),
    (with_stage(0, embedding_dim=0), "stages.s1_head.embedding_dim is 0"),
    (with_stage(0, dropout=1.0), "stages.s1_head.dropout is 1.0"),
    (with_stage(0, scale=0.0), "stages.s1_head.scale is 0.0"),
    (with_stage(0, label_smoothing=1.0), "stages.s1_head.label_smoothing is 1.0"),
    (with_stage(0, weight_decay=-1.0), "stages.s1_head.weight_decay is -1.0"),
    (with_stage(0, warmup_share=1.5), "stages.s1_head.warmup_share is 1.5"),
    (with_stage(0, clip_norm=-1.0), "stages.s1_head.clip_norm is -1.0"),
    (with_stage(0, ema_decay=1.0), "stages.s1_head.ema_decay is 1.0"),
    (with_stage(0, sample_power=0.5), "stages.s1_head.sample_power is 0.5"),
    (with_stage(0, n_cached_views=-1), "stages.s1_head.n_cached_views is -1"),
    (with_stage(0, validate_every=-1), "stages.s1_head.validate_every is -1"),
    (with_stage(0, margin=EpochMargin(max_rad=28.6)), "stages.s1_head.margin.max_rad is 28.6, must be 0.0 to 1.57"),
    (with_stage(0, fresh=("neck", "classifier", "backbone")), "stages.s1_head.fresh is 'backbone', must be one of neck, classifier"),
    (with_stage(0, fresh=()), "stages.s1_head.fresh is .* has a fresh neck and classifier"),
    (with_stage(2, phase="head"), "stages.s3_highres.phase is 'head' after 'backbone'; phases never go backwards"),
    (with_stage(2, starts_from="s1_haed"), "stages.s3_highres.starts_from is 's1_haed', which is no earlier stage; did you mean 's1_head'"),
    (with_stage(1, starts_from="s3_highres"), "stages.s2_backbone.starts_from is 's3_highres', which is no earlier stage"),
    (with_stage(1, starts_from="s2_backbone"), "stages.s2_backbone.starts_from is 's2_backbone', which is no earlier stage"),
    (with_stage(1, embedding_dim=128), "stages.s2_backbone.embedding_dim is 128, s1_head has 64; name fresh="),
    (with_stage(1, sources=("shose",)), "stages.s2_backbone.sources names 'shose', which is no source to train on; did you mean 'shoes'"),
    (with_stage(1, sources=("shoes",)), "stages.s2_backbone.sources are others than s1_head's, and so are the classes; name fresh="),
    (with_stage(1, soup=("s1_head",)), "stages.s2_backbone: trains is 'backbone' and soup is "),
    (with_stage(1, trains="soup"), "stages.s2_backbone: trains is 'soup' and soup is "),
    (with_stage(1, trains="soup", soup=("s1_head",)), "stages.s2_backbone.n_epochs is 2, must be 0 to 0"),
    (with_stage(1, trains="soup", soup=("s1_haed",), n_epochs=0), "stages.s2_backbone.soup names 's1_haed', which is no earlier stage; did you mean"),
    (with_stage(2, trains="soup", soup=("s1_head",), n_epochs=0), "stages.s3_highres.image_px is 96, s1_head has 64; a soup is of alike models"),
    (with_stage(1, model=Model("timm", "test_vit")), "stages.s2_backbone.model: only a stage that starts from 'pretrained' has a backbone of its own"),
    (
        lambda r: with_stage(0, model=Model("timm", "test_vit", mean=(0.4, 0.4, 0.4), std=GREY))(with_model(mean=GREY, std=GREY)(r)),
        "stages.s1_head.model has the mean .* must have the recipe's",
    ),
    (with_model(mean=(0.4, 0.4, 0.4)), "model.mean is .* and model.std is None: state both"),
    (with_model(weights="a.pth", own_normalisation_of="a.pth"), "model.own_normalisation_of is 'a.pth'"),
    (with_stage(1, keeps_best=True), "stages.s2_backbone.keeps_best needs validate_every"),
    (with_stage(1, images_per_class=3), "stages.s2_backbone.images_per_class is 3, must divide the batch_size 8"),
    (with_stage(1, n_accumulate=3), "stages.s2_backbone.n_accumulate is 3, must divide the batch_size 8"),
    (lambda r: replace(r, embed=Embed(settings=())), "embed.settings is empty"),
    (lambda r: replace(r, embed=Embed(settings=(FINAL, FINAL))), "embed.settings: the name 'final' stands twice"),
    (with_setting(1, members=()), "embed.settings.final.members is empty"),
    (with_setting(1, pca_dim=-1), "embed.settings.final.pca_dim is -1"),
    (with_setting(1, pca_dim=32), "embed.settings.final is exported and must give 64 numbers"),
    (with_setting(1, pca_dim=0), "embed.settings.final is exported and must give 64 numbers"),
    (with_setting(1, whiten=1.5), "embed.settings.final.whiten is 1.5"),
    (with_member(stage="s2_backbon"), "no stage 's2_backbon'; did you mean 's2_backbone'"),
    (with_member(stage="pretrained"), "the pretrained backbone has no neck"),
    (with_member(output="logits"), "embed.settings.final.output is 'logits', must be one of embedding, feature"),
    (with_member(weight=-1.0), "embed.settings.final.weight is -1.0"),
    (with_member(image_px=4), "embed.settings.final.image_px is 4"),
    (with_member(views=("plain", "rotate")), "embed.settings.final.views is 'rotate', must be one of plain, flip"),
    (with_stage(0, augment=Augment(cutout_low=0.5)), "augment.cutout_low is 0.5 and cutout_high 0.4"),
    (with_stage(0, augment=Augment(jpeg_low=0)), "augment.jpeg_low is 0 and jpeg_high 95; the low one must be at least 1"),
    (with_stage(0, augment=Augment(affine=1.5)), "augment.affine is 1.5, must be 0"),
    (with_stage(0, epoch_decay=0.5), "epoch_decay is for the schedule 'exponential'"),
    (with_stage(0, end_share=0.5), "end_share for 'cosine'; this one is"),
    (with_stage(0, neck=NeckShape(norm_eps=0.0)), "neck.norm_eps is 0.0"),
    (lambda r: replace(r, seed=-1), "seed is -1"),
    (lambda r: replace(r, seed=2**31), "seed is 2147483648"),
]


@pytest.mark.parametrize(("broken", "complaint"), BROKEN, ids=[complaint for _, complaint in BROKEN])
def test_validate_names_field_value_and_range(broken: Callable[[Recipe], Recipe], complaint: str):
    with pytest.raises(ValueError, match=complaint):
        broken(a_recipe()).validate()


@pytest.mark.parametrize("change", ["seed=0", "seed=2147483647", "data.val_class_share=0.99", "data.jpeg_quality=100", "stages.s1_head.sample_power=-1"])
def test_validate_takes_the_ends_of_a_range(change: str):
    changed = override_field(a_recipe(), change)
    assert changed.validate() is changed


def test_validate_takes_another_width_with_fresh_neck_and_classifier():
    changed = with_stage(2, embedding_dim=128, fresh=("neck", "classifier"))(a_recipe())
    assert changed.validate() is changed


def test_parent_is_the_row_before_unless_named():
    recipe = a_recipe()
    assert [recipe.parent(stage) for stage in recipe.stages] == ["pretrained", "s1_head", "s2_backbone"]
    changed = with_stage(2, starts_from="s1_head")(recipe)
    assert changed.parent(changed.stages[2]) == "s1_head"


def leaves(value: Any, at: str = "") -> list[str]:
    """Dotted paths of all leaves of a recipe, rows by their name."""
    if isinstance(value, dict):
        return [leaf for key, item in value.items() for leaf in leaves(item, f"{at}.{key}" if at else key)]
    if isinstance(value, list | tuple) and value and isinstance(value[0], dict):
        return [leaf for i, item in enumerate(value) for leaf in leaves(item, f"{at}.{item.get('name', i)}")]
    return [at]


def changed_leaf(recipe: Recipe, path: str) -> Recipe:
    """The recipe with another value at `path`, whatever it is."""
    for value in ("33", "0.123", "other", "0.1,0.2,0.3", "x,y", "true", "false"):
        try:
            changed = override_field(recipe, f"{path}={value}")
        except ValueError:
            continue
        if changed != recipe:
            return changed
    raise AssertionError(f"nothing changes {path}")


def test_backbone_of_a_stage_is_that_of_the_stage_its_weights_come_from():
    """Two ingredients, of which the second has another backbone, and what starts from each: a stage, one further on, and a soup."""
    large = Model("timm", "test_vit")
    fresh = ("neck", "classifier")
    own = replace(HEAD, name="s2_large", model=large, starts_from="pretrained", fresh=fresh)
    then = replace(HEAD, name="s3_then", fresh=(), starts_from="s2_large")
    last = replace(HEAD, name="s4_last", fresh=())  # of the row before
    back = replace(HEAD, name="s5_back", fresh=(), starts_from="s1_head")
    soup = replace(HEAD, name="s6_soup", trains="soup", soup=("s3_then", "s4_last"), n_epochs=0, fresh=())
    recipe = replace(a_recipe(), stages=(HEAD, own, then, last, back, soup))
    small = recipe.model
    expected = {"pretrained": small, "s1_head": small, "s2_large": large, "s3_then": large, "s4_last": large, "s5_back": small, "s6_soup": large}
    assert {name: recipe.model_of(name) for name in expected} == expected and small != large


def test_digest_of_a_stage_changes_with_the_row_it_starts_from():
    recipe = a_recipe()
    between = replace(recipe.stages[0], name="s1b_head")
    changed = replace(recipe, stages=(recipe.stages[0], between, *recipe.stages[1:]))
    assert recipe.parent(recipe.stages[1]) == "s1_head" and changed.parent(changed.stages[2]) == "s1b_head"
    assert changed.digest("stages.s2_backbone") != recipe.digest("stages.s2_backbone")
    assert changed.digest("stages.s1_head") == recipe.digest("stages.s1_head")


@pytest.mark.parametrize("reads", [("seed",), ("data.sources", "seed"), ("model",), ("stages.s2_backbone",), ("embed.settings", "data.drawn"), ("export",)])
def test_digest_changes_with_the_fields_read_and_with_no_others(reads: tuple[str, ...]):
    recipe = a_recipe()
    # A row is found by its name: under a new one it is another row, or the row after it has another parent.
    # A backbone of a stage's own is written in Python, not as a text.
    paths = [path for path in leaves(asdict(recipe)) if not re.fullmatch(r"stages\.\w+\.(name|model)", path)]
    assert len(paths) > 100
    for path in paths:
        is_read = any(path == field or path.startswith(field + ".") for field in reads)
        has_changed = changed_leaf(recipe, path).digest(*reads) != recipe.digest(*reads)
        assert has_changed == is_read, path


def test_digest_of_the_whole_recipe_changes_with_every_field():
    recipe = a_recipe()
    assert all(changed_leaf(recipe, path).digest() != recipe.digest() for path in leaves(asdict(recipe)) if not re.fullmatch(r"stages\.\w+\.model", path))
    assert with_stage(0, model=Model("timm", "test_vit"))(recipe).digest("stages.s1_head") != recipe.digest("stages.s1_head")


def test_digest_is_the_same_for_an_equal_recipe():
    assert a_recipe().digest("model", "seed") == a_recipe().digest("model", "seed")
    assert a_recipe().digest("model", "seed") == a_recipe().digest("seed", "model")


def test_json_holds_every_field():
    recipe = a_recipe()
    assert json.loads(recipe.to_json()) == json.loads(json.dumps(asdict(recipe)))


def test_load_recipe_unknown_name_says_what_to_do():
    with pytest.raises(ValueError, match=r"no recipe 'minibenhc'; .*Or give the path of a .py file that defines RECIPE"):
        load_recipe("minibenhc")


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
        "    (Stage('s1', 'head', 'head', 64, 1, 8, 0.01, fresh=('neck', 'classifier')),), Embed((Setting('only', (Member('s1', 64),)),)))\n"
    )
    recipe = load_recipe(str(path), ["seed=3", "stages.s1.n_epochs=9"])
    assert (recipe.name, recipe.seed, recipe.stages[0].n_epochs) == ("mine", 3, 9)
    with pytest.raises(ValueError, match=r"stages.s1.n_epochs is 0"):
        load_recipe(str(path), ["stages.s1.n_epochs=0"])


def test_tiny_copy_of_batches_by_class_and_of_many_backbones_is_valid():
    heads = tuple(replace(HEAD, name=f"h{i}", starts_from="pretrained", model=Model("timm", f"vit_{i}")) for i in range(4))
    recipe = replace(a_recipe(), stages=(*heads, replace(heads[0], name="by_class", batch_size=48, images_per_class=3)), embed=a_recipe().embed)
    tiny = replace(recipe, embed=Embed((Setting("only", (Member("by_class", 64),)),))).validate().tiny()
    assert tiny.stage("by_class").images_per_class == 2 and len({stage.model for stage in tiny.stages}) >= 3


def test_mean_of_equal_widths_is_exported_without_pca():
    recipe = with_setting(1, combine="mean", pca_dim=0, power=0.5)(a_recipe())
    assert recipe.validate() is recipe


def test_what_was_chosen_on_validation_is_found_in_all_ancestors() -> None:
    best = replace(HEAD, name="best", keeps_best=True, validate_every=1)
    greedy = replace(BACKBONE, name="greedy", starts_from="", trains="soup", soup=("plain", "child"), n_epochs=0, is_greedy=True)
    stages = (
        replace(HEAD, name="plain"),
        best,
        replace(BACKBONE, name="child", starts_from="best"),
        replace(BACKBONE, name="grandchild", starts_from="child"),
        replace(BACKBONE, name="other", starts_from="plain"),
        greedy,
        replace(BACKBONE, name="after", starts_from="greedy"),
        replace(BACKBONE, name="soup", starts_from="", trains="soup", soup=("other", "child"), n_epochs=0),
    )
    recipe = replace(a_recipe(), stages=stages)

    def found(*names: str, **fields: Any) -> tuple[str, ...]:
        return recipe.chosen_on_validation(Setting("row", tuple(Member(name, 64) for name in names), **fields))

    assert found("pretrained") == found("plain") == found("other", "pretrained") == ()
    assert found("best") == found("child") == found("other", "grandchild") == found("soup") == ("best: best epoch",)
    assert found("greedy") == found("after") == ("best: best epoch", "greedy: greedy soup")
    assert found("pretrained", is_chosen_on_validation=True) == ("the setting",)
    assert found("best", is_chosen_on_validation=True) == ("the setting", "best: best epoch")


def test_recipes_that_choose_on_validation_say_so() -> None:
    chosen = {name: [row.name for row in r.embed.settings if r.chosen_on_validation(row)] for name in ("minibench", "demo") for r in [load_recipe(name)]}
    assert chosen == {"minibench": ["+ PCA half whitened"], "demo": []}
    fifth = load_recipe("fifth_place")
    assert all(fifth.chosen_on_validation(row) for row in fifth.embed.settings if any(m.stage != "pretrained" for m in row.members))
