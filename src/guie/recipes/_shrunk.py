"""Small copies of recipes, which the tests run in seconds."""

from __future__ import annotations

import itertools
from dataclasses import replace

from guie.recipe import Model, PerClass, Recipe, Soup, Stage, Stages, load_recipe


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
    networks = {model: replace(tiny.model, name=next(names)) for model in recipe.models}
    sources = [source.name for source in tiny.data.sources]

    def rows(phase: str) -> tuple[Stage | Soup, ...]:
        of_phase = recipe.stages.of_phase(phase)
        return tuple(_stage(row, networks, sources, n_epochs) if isinstance(row, Stage) else row for row in of_phase)

    stages = Stages(head=rows("head"), backbone=rows("backbone"), highres=rows("highres"))
    settings = tuple(
        replace(row, members=tuple(replace(member, image_px=_px(member.image_px)) for member in row.members))
        for row in recipe.embed.settings
    )
    small = replace(recipe, name=f"{recipe.name}_tiny", data=tiny.data, model=networks[recipe.model], stages=stages)
    return replace(small, embed=replace(recipe.embed, settings=settings)).validate()


def _networks(recipe: Recipe, convolutions: str) -> tuple[str, ...]:
    """Names of timm's smallest networks, to be given to the recipe's backbones in turn."""
    has_blocks = any(s.patch_stride or s.optim.open_blocks or s.optim.blocks for s in recipe.stages.trained)
    is_transformer = has_blocks or "vit" in recipe.model.name.lower()
    return (
        ("test_vit", "test_vit2", "test_vit3") if is_transformer else (convolutions, "test_resnet", "test_efficientnet")
    )


def _stage(stage: Stage, networks: dict[Model, Model], sources: list[str], n_epochs: int) -> Stage:
    """The stage with small images, small batches and few epochs, on sources of the drawn world."""
    own = tuple(name for name in stage.sources if name in sources) or tuple(sources[1:2] if stage.sources else ())
    batch_size = min(stage.optim.batch_size, 16)
    sampling = stage.sampling
    if isinstance(sampling, PerClass):
        most = min(sampling.images_per_class, 4)
        sampling = replace(sampling, images_per_class=max(n for n in range(1, most + 1) if batch_size % n == 0))
    return replace(
        stage,
        image_px=_px(stage.image_px),
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
        start=replace(stage.start, model=networks[stage.start.model] if stage.start.model else None),
        sampling=sampling,
        sources=own,
    )


def _px(px: int) -> int:
    """64 for sides up to 256, else 96, so that low and high resolutions still differ."""
    return 64 if px <= 256 else 96
