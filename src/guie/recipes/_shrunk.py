"""Small copies of recipes, which the tests run in seconds."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

from guie.recipe import (
    Diva,
    DivideConquer,
    HierarchicalDivide,
    Memory,
    Mic,
    Model,
    ObjectiveSettings,
    Pads,
    PerClass,
    Recipe,
    Row,
    Stage,
    Stages,
    Sum,
    load_recipe,
)

LARGEST_BATCH = 16
LARGEST_PCA = 64  # directions of the small networks' features, and fewer than the drawn world has training images


def shrunk(recipe: Recipe, n_epochs: int = 2) -> Recipe:
    """A copy with the same phases, rows, members and views that runs in seconds on the drawn world.

    Its backbones are timm's smallest. They are transformers if the recipe's are, or if it has settings for patches
    or blocks.

    Args:
        recipe: The recipe to copy.
        n_epochs: Largest number of epochs of a stage.
    """
    tiny = load_recipe("tiny")
    names = itertools.cycle(_networks(recipe, tiny.model.name))
    has_tokens = _is_transformer(recipe)
    networks = {
        model: replace(tiny.model, name=next(names), feature=model.feature if _pools(model) and has_tokens else "")
        for model in recipe.models
    }
    sources = [source.name for source in tiny.data.sources]

    def network(model: Model) -> Model:
        first, *others = (networks[each] for each in model.each)
        return replace(first, beside=tuple(others))

    def rows(phase: str) -> tuple[Row, ...]:
        of_phase = recipe.stages.of_phase(phase)
        return tuple(_stage(row, network, sources, n_epochs) if isinstance(row, Stage) else row for row in of_phase)

    stages = Stages(head=rows("head"), backbone=rows("backbone"), highres=rows("highres"))
    settings = tuple(
        replace(row, members=tuple(replace(member, image_px=_px(member.image_px)) for member in row.members))
        for row in recipe.embed.settings
    )
    small = replace(recipe, name=f"{recipe.name}_tiny", data=tiny.data, model=network(recipe.model), stages=stages)
    return replace(small, embed=replace(recipe.embed, settings=settings)).validate()


def _networks(recipe: Recipe, convolutions: str) -> tuple[str, ...]:
    """Names of timm's smallest networks, to be given to the recipe's backbones in turn."""
    transformers = ("test_vit", "test_vit2", "test_vit3")
    return transformers if _is_transformer(recipe) else (convolutions, "test_resnet", "test_efficientnet")


def _is_transformer(recipe: Recipe) -> bool:
    """Whether the recipe's backbone is a transformer, by its name or by settings for patches or blocks."""
    has_blocks = any(s.patch_stride or s.optim.open_blocks or s.optim.blocks for s in recipe.stages.trained)
    return has_blocks or any(part in recipe.model.name.lower() for part in ("vit", "deit"))


def _stage(stage: Stage, network: Callable[[Model], Model], sources: list[str], n_epochs: int) -> Stage:
    """The stage with small images, small batches and few epochs, on sources of the drawn world."""
    own = tuple(name for name in stage.sources if name in sources) or tuple(sources[1:2] if stage.sources else ())
    batch_size = min(stage.optim.batch_size, LARGEST_BATCH)
    sampling = stage.sampling
    n_classes = 2  # least number of classes in a batch
    if isinstance(sampling, PerClass):
        sampling, batch_size = _per_class(sampling, batch_size, is_of_few=bool(own) or sampling.is_of_one_source)
        n_classes = batch_size // sampling.rows_per_class
    return replace(
        stage,
        image_px=_px(stage.image_px),
        objective=_objective(stage.objective, n_classes),
        optim=replace(
            stage.optim,
            n_epochs=min(stage.optim.n_epochs, n_epochs),
            batch_size=batch_size,
            open_blocks=min(stage.optim.open_blocks, 3),
        ),
        cost=replace(
            stage.cost,
            n_cached_augmentations=min(stage.cost.n_cached_augmentations, 1),
            n_parts=min(stage.cost.n_parts, 2 if batch_size % 2 == 0 else 1),
        ),
        start=replace(
            stage.start,
            model=network(stage.start.model) if stage.start.model else None,
        ),
        neck=replace(stage.neck, dim=min(stage.neck.dim, LARGEST_PCA)) if stage.start.has_pca_neck else stage.neck,
        retain=replace(stage.retain, generic=tuple(sources[:1] if stage.retain.generic else ())),
        sampling=sampling,
        sources=own,
    )


def _pools(model: Model) -> bool:
    """Whether the backbone's feature is a pooling of its tokens. The small transformers have these features, too."""
    return model.feature in ("cls", "mean", "max", "gem")


def _per_class(sampling: PerClass, batch_size: int, is_of_few: bool) -> tuple[PerClass, int]:
    """Limits the sampling to four images of a class and two views, and the batch to the classes of the drawn world.

    Args:
        sampling: The sampling of the stage.
        batch_size: The batch size of the stage, already reduced.
        is_of_few: Whether a batch comes from one data set.
    """
    views = min(sampling.views_per_image, 2) if batch_size % 2 == 0 else 1
    most = min(sampling.images_per_class, 4)
    n = max(n for n in range(1, most + 1) if n == 1 or batch_size % (n * views) == 0)
    sampling = replace(sampling, images_per_class=n, views_per_image=views)
    return sampling, min(batch_size, sampling.rows_per_class * (4 if is_of_few else 8))


def _objective(objective: ObjectiveSettings, n_classes: int) -> ObjectiveSettings:
    """The objective with memories, clusters and intervals that fit a hundred images and a few steps.

    Args:
        objective: The objective of the stage.
        n_classes: Number of classes in a batch.
    """
    match objective:
        case Sum(terms=terms):
            small = tuple(_objective(term, n_classes) for term in terms)
            return replace(objective, terms=cast(Any, small))
        case DivideConquer() | HierarchicalDivide():
            return replace(
                objective,
                n_clusters=2,
                every_epochs=1,
                n_divided_epochs=1,
                min_classes=min(objective.min_classes, n_classes),
            )
        case Mic():
            return replace(objective, n_clusters=min(objective.n_clusters, 4), every_epochs=1)
        case Diva():
            return replace(objective, queue_size=min(objective.queue_size, 32))
        case Pads():
            return replace(
                objective, every_steps=min(objective.every_steps, 2), max_held_out=min(objective.max_held_out, 16)
            )
    memory = getattr(objective, "memory", None)
    if memory is None:
        return objective
    small_memory = Memory(size=min(memory.size, 48), start_step=min(memory.start_step, 2))
    return cast(ObjectiveSettings, replace(cast(Any, objective), memory=small_memory))


def _px(px: int) -> int:
    """64 for sides up to 256, else 96, so that low and high resolutions still differ."""
    return 64 if px <= 256 else 96
