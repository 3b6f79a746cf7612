"""What a recipe may not say: each rule names the field, its value and what it must be."""

from __future__ import annotations

import re
from dataclasses import replace

from guie.checkpoint import PICKLED
from guie.override import nearest
from guie.recipe import AUGMENT_HIGH, PRETRAINED, PRETRAINED_TAG, RESERVED_DOMAINS, VIEWS, Data, Model, PostProcess, Recipe, Setting, Stage

PHASES = ("head", "backbone", "highres")
TRAINS = ("classifier", "neck", "head", "backbone", "all", "soup")
OPTIMIZERS = ("adamw", "adam", "sgd")
CLASSIFIERS = ("arcface", "cosface", "softmax")
SCHEDULES = ("one_cycle", "cosine", "step", "exponential", "constant")
SAME_IN_SOUP = ("image_px", "patch_stride", "embedding_dim", "neck", "n_sub_centers", "sources")
LIBRARIES = ("timm", "open_clip")
FEATURES = ("", "unprojected", "cls", "mean", "max", "gem")
STAGE_RANGES = {
    "image_px": (8, 4096), "batch_size": (1, 10**6), "lr": (1e-12, 100.0), "embedding_dim": (1, 10**5), "dropout": (0.0, 0.99),
    "scale": (1e-3, 1e4), "label_smoothing": (0.0, 0.99), "weight_decay": (0.0, 10.0), "warmup_share": (0.0, 1.0), "backbone_lr_factor": (0.0, 1e3),
    "clip_norm": (0.0, 1e6), "ema_decay": (0.0, 0.999999), "sample_power": (-1.0, 0.0), "n_cached_views": (0, 1000), "validate_every": (0, 10**6),
    "patch_stride": (0, 4096), "n_sub_centers": (1, 100), "momentum": (0.0, 0.9999), "sam_rho": (0.0, 10.0), "open_blocks": (0, 1000),
    "layer_decay": (0.01, 1.0), "epoch_decay": (1e-6, 1.0), "end_share": (0.0, 1.0), "n_accumulate": (1, 10**4), "images_per_class": (0, 10**4),
}  # fmt: skip

POST_RANGES = {
    "n_expanded": (0, 1000), "n_augmented": (0, 1000), "alpha": (0.0, 100.0), "rerank_k1": (0, 1000), "rerank_k2": (1, 1000), "rerank_weight": (0.0, 1.0),
    "length_mix": (0.0, 1.0),
}  # fmt: skip


def check(recipe: Recipe) -> None:
    """Raises ValueError with field, value and range at the first thing that cannot be."""
    _check_name("name", recipe.name)
    _check_data(recipe.data)
    for model in recipe.models:
        _check_model(model)
    _check_stages(recipe)
    _check_embed(recipe)
    _range("seed", recipe.seed, 0, 2**31 - 1)


def _range(what: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ValueError(f"{what} is {value}, must be {low} to {high}")


def _one_of(what: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{what} is {value!r}, must be one of {', '.join(known)}")


def _unique(what: str, names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{what}: the name {name!r} stands twice")


def _check_name(what: str, name: str) -> None:
    """Names become folders and parts of field paths."""
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise ValueError(f"{what} is {name!r}, must be of letters, digits, _ and - only")


def _check_data(data: Data) -> None:
    if not data.sources:
        raise ValueError("data.sources is empty; name at least one data set")
    _unique("data.sources", [s.name for s in data.sources])
    for source in data.sources:
        _check_name("data.sources.name", source.name)
        if source.domain in RESERVED_DOMAINS:
            raise ValueError(f"data.sources.{source.name}.domain is {source.domain!r}, as the column mp5_{source.domain} is; name it otherwise")
    _range("data.min_per_class", data.min_per_class, 1, 10**6)
    _range("data.max_per_class", data.max_per_class, data.min_per_class, 10**9)
    _range("data.fill_per_class", data.fill_per_class, 0, data.max_per_class)
    _unique("data.limits", [limit.name for limit in data.limits])
    names = [source.name for source in data.sources]
    for field, name in [("limits", limit.name) for limit in data.limits] + [("distractors", name) for name in data.distractors]:
        if name not in names:
            raise ValueError(f"data.{field} names {name!r}, which is no source; {nearest(name, names)}")
    for limit in data.limits:
        _range(f"data.limits.{limit.name}.n_classes", limit.n_classes, 0, 10**9)
        _range(f"data.limits.{limit.name}.n_images", limit.n_images, 0, 10**10)
        _range(f"data.limits.{limit.name}.min_per_class", limit.min_per_class, 0, 10**6)
        _range(f"data.limits.{limit.name}.weight", limit.weight, 1e-6, 1e6)
    _one_of("data.val_by", data.val_by, ("class", "image"))
    _one_of("data.licence", data.licence, ("any", "commercial"))
    _range("data.val_class_share", data.val_class_share, 0.01, 0.99)
    _range("data.val_fold", data.val_fold, 0, int(1 / data.val_class_share + 1e-9) - 1)
    _range("data.pack_px", data.pack_px, 16, 8192)
    _range("data.jpeg_quality", data.jpeg_quality, 1, 100)
    _range("data.shard_mb", data.shard_mb, 1, 10**6)
    _range("data.max_bad_share", data.max_bad_share, 0, 1)
    _range("data.duplicate_bits", data.duplicate_bits, -1, 4)


def _check_model(model: Model) -> None:
    _one_of("model.library", model.library, LIBRARIES)
    _one_of("model.feature", model.feature, FEATURES)
    if model.feature == "unprojected" and model.library != "open_clip":
        raise ValueError("model.feature is 'unprojected', which open_clip's towers have; timm's models have no projection: leave it empty")
    if model.weights_file and not model.weights_file.endswith((".safetensors", *PICKLED)):
        endings = ", ".join((".safetensors", *PICKLED))
        raise ValueError(f"model.weights is {model.weights!r}, must be a file ({endings}), {PRETRAINED_TAG}TAG, or empty for random weights")
    for name, value in (("mean", model.mean or ()), ("std", model.std or ())):
        for v in value:
            _range(f"model.{name}", v, 1e-6 if name == "std" else 0, 1)
    if (model.mean is None) != (model.std is None):
        raise ValueError(f"model.mean is {model.mean} and model.std is {model.std}: state both, or neither to take the library's")
    if model.own_normalisation_of and (model.mean is None or model.own_normalisation_of != model.weights):
        raise ValueError(
            f"model.own_normalisation_of is {model.own_normalisation_of!r}, and model.weights is {model.weights!r}: mean {model.mean} and std {model.std} are "
            "stated for the former alone. Set own_normalisation_of='' and mean and std to none to take the library's"
        )


def _check_stages(recipe: Recipe) -> None:
    if not recipe.stages:
        raise ValueError("stages is empty; a recipe trains at least one")
    _unique("stages", [s.name for s in recipe.stages])
    seen: dict[str, Stage] = {}
    for stage in recipe.stages:
        at = f"stages.{stage.name}"
        if stage.name == PRETRAINED:
            raise ValueError(f"{at}: the name {PRETRAINED!r} is taken by the backbone as it is loaded")
        _check_name("stages.name", stage.name)
        _one_of(f"{at}.phase", stage.phase, PHASES)
        _one_of(f"{at}.trains", stage.trains, TRAINS)
        _one_of(f"{at}.optimizer", stage.optimizer, OPTIMIZERS)
        _one_of(f"{at}.classifier", stage.classifier, CLASSIFIERS)
        _one_of(f"{at}.schedule", stage.schedule, SCHEDULES)
        for name, (low, high) in STAGE_RANGES.items():
            _range(f"{at}.{name}", getattr(stage, name), low, high)
        if bool(stage.soup) != (stage.trains == "soup"):
            raise ValueError(f"{at}: trains is {stage.trains!r} and soup is {stage.soup}; trains='soup' needs the stages to average, and no other has them")
        _range(f"{at}.n_epochs", stage.n_epochs, int(not stage.soup), 0 if stage.soup else 10**6)
        for name in ("start_rad", "step_rad", "max_rad"):
            _range(f"{at}.margin.{name}", getattr(stage.margin, name), 0.0, 1.57)
        if stage.batch_size % stage.n_accumulate:
            raise ValueError(f"{at}.n_accumulate is {stage.n_accumulate}, must divide the batch_size {stage.batch_size}")
        if stage.neck.has_norm and stage.trains in ("neck", "head", "all") and stage.batch_size < 2 * stage.n_accumulate:
            raise ValueError(
                f"{at}.neck.has_norm is true, but batch_size {stage.batch_size} in n_accumulate {stage.n_accumulate} parts leaves the batch norm of the neck "
                "one image at a time, which has no variance; take a larger batch_size, a smaller n_accumulate, or has_norm=False"
            )
        if stage.images_per_class and stage.batch_size % stage.images_per_class:
            raise ValueError(f"{at}.images_per_class is {stage.images_per_class}, must divide the batch_size {stage.batch_size}")
        if stage.has_sharded_weights and stage.trains not in ("backbone", "all"):
            raise ValueError(f"{at}.has_sharded_weights is for stages that train the backbone; this one trains {stage.trains!r}")
        if stage.keeps_best and (stage.ema_decay or not stage.validate_every):
            raise ValueError(f"{at}.keeps_best needs validate_every, the epochs between validations, and no ema_decay")
        names = [source.name for source in recipe.data.sources if source.name not in recipe.data.distractors]
        for name in stage.sources:
            if name not in names:
                raise ValueError(f"{at}.sources names {name!r}, which is no source to train on; {nearest(name, names)}")
        if bool(stage.drops) != (stage.schedule == "step") or list(stage.drops) != sorted(set(stage.drops)):
            raise ValueError(f"{at}.drops is {stage.drops}: the schedule 'step' needs epochs in rising order, and no other has them")
        if len(stage.block_edges) != len(stage.block_factors) or list(stage.block_edges) != sorted(set(stage.block_edges)):
            raise ValueError(f"{at}.block_edges is {stage.block_edges}: it needs rising numbers, and block_factors one for each")
        if stage.block_edges and stage.layer_decay != 1.0:
            raise ValueError(f"{at}: block_edges and layer_decay exclude each other")
        if stage.neck.has_size and (stage.neck.hidden_dim or recipe.data.pack_square or not (stage.is_backbone_frozen or stage.soup)):
            raise ValueError(f"{at}.neck.has_size needs a frozen backbone, whose features are cached, no hidden_dim, and data.pack_square off")
        if stage.has_mean_centers and not (stage.is_backbone_frozen and "classifier" in stage.fresh):
            raise ValueError(f"{at}.has_mean_centers needs a fresh classifier and a frozen backbone, whose features are cached")
        _range(f"{at}.class_margin.low_rad", stage.class_margin.low_rad, 0.0, stage.class_margin.high_rad)
        _range(f"{at}.class_margin.high_rad", stage.class_margin.high_rad, 0.0, 1.57)
        _range(f"{at}.class_margin.power", stage.class_margin.power, -10.0, 0.0)
        _range(f"{at}.neck.hidden_dim", stage.neck.hidden_dim, 0, 10**5)
        _range(f"{at}.neck.norm_eps", stage.neck.norm_eps, 1e-12, 1.0)
        for rate in stage.neck.dropouts:
            _range(f"{at}.neck.dropouts", rate, 0.0, 0.99)
        for name, high in AUGMENT_HIGH.items():
            _range(f"{at}.augment.{name}", getattr(stage.augment, name), 0.0, high)
        for name, least in (("cutout", 1e-3), ("jpeg", 1)):
            low, high = (getattr(stage.augment, f"{name}_{end}") for end in ("low", "high"))
            if not least <= low <= high:
                raise ValueError(f"{at}.augment.{name}_low is {low} and {name}_high {high}; the low one must be at least {least:g} and not above the high one")
        if (stage.epoch_decay != 1.0 and stage.schedule != "exponential") or (stage.end_share and stage.schedule != "cosine"):
            raise ValueError(f"{at}: epoch_decay is for the schedule 'exponential', end_share for 'cosine'; this one is {stage.schedule!r}")
        for part in stage.fresh:
            _one_of(f"{at}.fresh", part, ("neck", "classifier"))
        if seen and PHASES.index(stage.phase) < PHASES.index(next(reversed(seen.values())).phase):
            raise ValueError(f"{at}.phase is {stage.phase!r} after {next(reversed(seen.values())).phase!r}; phases never go backwards")
        _check_start(recipe, stage, seen)
        seen[stage.name] = stage


def _check_combination(recipe: Recipe, row: Setting) -> None:
    at = f"embed.settings.{row.name}"
    _one_of(f"{at}.combine", row.combine, ("concatenate", "mean"))
    _range(f"{at}.power", row.power, 0.01, 1.0)
    widths = {recipe.stage(m.stage).embedding_dim if m.output == "embedding" else recipe.model_of(m.stage) for m in row.members}
    if row.combine == "mean" and len(widths) > 1:
        raise ValueError(f"{at}.combine is 'mean', which needs members of one output width; these have {', '.join(map(str, widths))}: use 'concatenate'")
    dims = [recipe.stage(m.stage).embedding_dim for m in row.members if m.output == "embedding"]
    width = dims[0] if dims and row.combine == "mean" else sum(dims)
    if row.pca_dim > width and len(dims) == len(row.members):
        raise ValueError(f"{at}.pca_dim is {row.pca_dim}, more than the {width} numbers that its members give")


def _check_post(row: Setting) -> None:
    at, post = f"embed.settings.{row.name}.post", row.post
    for name, (low, high) in POST_RANGES.items():
        _range(f"{at}.{name}", getattr(post, name), low, high)
    if sum((bool(post.n_expanded or post.n_augmented), bool(post.rerank_k1), bool(post.length_mix))) > 1:
        raise ValueError(f"{at}: expansion with augmentation, re-ranking and length_mix exclude each other; make a setting of each")
    if post.length_mix and not row.pca_dim:
        raise ValueError(f"{at}.length_mix is {post.length_mix}, which needs pca_dim: members are combined with length one")


def _check_start(recipe: Recipe, stage: Stage, seen: dict[str, Stage]) -> None:
    at, parent = f"stages.{stage.name}", recipe.parent(stage)
    if stage.model and parent != PRETRAINED:
        raise ValueError(f"{at}.model: only a stage that starts from {PRETRAINED!r} has a backbone of its own; {parent} has its already")
    if stage.model and stage.model.mean and recipe.model.mean and (stage.model.mean, stage.model.std) != (recipe.model.mean, recipe.model.std):
        raise ValueError(f"{at}.model has the mean {stage.model.mean} and std {stage.model.std}, must have the recipe's: images are normalised once")
    for name in stage.soup:
        if name not in seen:
            raise ValueError(f"{at}.soup names {name!r}, which is no earlier stage; {nearest(name, list(seen))}")
        for field in SAME_IN_SOUP:
            if getattr(seen[name], field) != getattr(stage, field):
                raise ValueError(f"{at}.{field} is {getattr(stage, field)!r}, {name} has {getattr(seen[name], field)!r}; a soup is of alike models")
        if recipe.model_of(name) != recipe.model_of(stage.soup[0]):
            raise ValueError(f"{at}.soup: {name} has another backbone than {stage.soup[0]}; make a soup of each and concatenate them as members")
    if parent == PRETRAINED:
        if set(stage.fresh) != {"neck", "classifier"}:
            raise ValueError(f"{at}.fresh is {stage.fresh}; a stage that starts from the pretrained backbone has a fresh neck and classifier")
        return
    if parent not in seen:
        raise ValueError(f"{at}.starts_from is {parent!r}, which is no earlier stage; {nearest(parent, [PRETRAINED, *seen])}")
    if set(seen[parent].sources) != set(stage.sources) and "classifier" not in stage.fresh:
        raise ValueError(f"{at}.sources are others than {parent}'s, and so are the classes; name fresh=('classifier',)")
    if seen[parent].n_sub_centers != stage.n_sub_centers and "classifier" not in stage.fresh:
        raise ValueError(f"{at}.n_sub_centers is {stage.n_sub_centers}, {parent} has {seen[parent].n_sub_centers}; name fresh=('classifier',)")
    if replace(seen[parent].neck, dropouts=()) != replace(stage.neck, dropouts=()) and "neck" not in stage.fresh:
        raise ValueError(f"{at}.neck is another than {parent}'s; name fresh=('neck', 'classifier')")
    if seen[parent].embedding_dim != stage.embedding_dim and set(stage.fresh) != {"neck", "classifier"}:
        raise ValueError(f"{at}.embedding_dim is {stage.embedding_dim}, {parent} has {seen[parent].embedding_dim}; name fresh=('neck', 'classifier')")


def _check_embed(recipe: Recipe) -> None:
    if not recipe.embed.settings:
        raise ValueError("embed.settings is empty; the last one is what door 08 exports")
    _unique("embed.settings", [row.name for row in recipe.embed.settings])
    _one_of("embed.precision", recipe.embed.precision, ("auto", "float32", "bfloat16"))
    _range("embed.batch_size", recipe.embed.batch_size, 1, 10**6)
    _range("export.n_parity_images", recipe.export.n_parity_images, 1, 10**6)
    _range("export.min_parity_cosine", recipe.export.min_parity_cosine, 0.0, 1.0)
    _one_of("export.storage", recipe.export.storage, ("fp32", "bf16", "fp16"))
    for row in recipe.embed.settings:
        at = f"embed.settings.{row.name}"
        if not row.members:
            raise ValueError(f"{at}.members is empty")
        _range(f"{at}.pca_dim", row.pca_dim, 0, 10**5)
        _range(f"{at}.whiten", row.whiten, 0.0, 1.0)
        for member in row.members:
            if member.stage == PRETRAINED:
                if member.output != "feature":
                    raise ValueError(f"{at}: the pretrained backbone has no neck; its output is 'feature'")
            else:
                recipe.stage(member.stage)
            _one_of(f"{at}.output", member.output, ("embedding", "feature"))
            _range(f"{at}.weight", member.weight, 0.0, 1e3)
            _range(f"{at}.image_px", member.image_px, 8, 4096)
            _range(f"{at}.patch_stride", member.patch_stride, 0, 4096)
            if not member.views:
                raise ValueError(f"{at}: a member's views are empty; the image as it is is ('plain',)")
            for view in member.views:
                _one_of(f"{at}.views", view, VIEWS)
        _check_combination(recipe, row)
        _check_post(row)
    final = recipe.embed.final
    is_one = len(final.members) == 1 or final.combine == "mean"
    width = final.pca_dim or (recipe.stage(final.members[0].stage).embedding_dim if is_one and final.members[0].output == "embedding" else 0)
    if final.post != PostProcess():
        raise ValueError(
            f"embed.settings.{final.name}.post: the last setting is exported, and a file that sees one image at a time can neither expand, augment nor "
            "re-rank, nor does it mix lengths; let a setting without post stand last"
        )
    if width != 64:
        raise ValueError(f"embed.settings.{final.name} is exported and must give 64 numbers (the contest's limit); set its pca_dim to 64")
