"""Checks of the folds of `guie foreign` that run before any fold is trained."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from guie.cli.folds import ANSWERS, REFIT_SHARE, Fold, Plan, answers_digest, answers_read, packed_index
from guie.data.packed import PackedImages
from guie.done import read_done
from guie.kept import difference, made_otherwise
from guie.recipe import Recipe, load_recipe
from guie.run import check_reads_images
from guie.saved import RECIPE_FILE
from guie.settings.fit import FitImages

OWN_DOMAINS = ("csv_list", "lookalike130k")  # kinds of sources whose images may have domains other than the source's


def load_plain(name: str, overrides: list[str]) -> Recipe:
    """Loads the recipe that the folds are made from.

    Raises:
        ValueError: it names a foreign domain itself, or its validation images are of trained classes.
    """
    recipe = load_recipe(name, overrides)
    if recipe.data.foreign_domain:
        raise ValueError(
            f"data.foreign_domain is {recipe.data.foreign_domain!r}; guie foreign sets it for each fold: name the "
            "domains with --domains"
        )
    if recipe.data.val_by != "class":
        raise ValueError(
            f"data.val_by is {recipe.data.val_by!r}: then the others are asked about classes that were trained on, "
            "which is no fair comparison; --set data.val_by=class"
        )
    return recipe


def check_options(recipe: Recipe, data_root: Path | None, seeds: list[int], domains: list[str]) -> None:
    """Checks what the options name before an image is read. The domains of some sources are known only then.

    Raises:
        ValueError: a --data-root that is not read, a negative seed, or a domain that no source has.
    """
    if data_root is not None:
        check_reads_images(recipe, data_root)
    if min(seeds) < 0:
        raise ValueError(f"--seeds {min(seeds)}: a seed is 0 or more")
    known = recipe.data.domains_with_labels
    unknown = [name for name in domains if name not in known]
    if unknown and not any(source.kind in OWN_DOMAINS for source in recipe.data.sources):
        raise ValueError(f"--domains names {unknown[0]!r}, of which there is no source; there are {', '.join(known)}")


def unlabelled_in_all(recipe: Recipe) -> list[str]:
    """The unlabelled sources in use that no fold leaves out, because no labelled source is of their domain."""
    used = {name for stage in recipe.stages.trained for name in (*stage.sources, *stage.retain.generic)}
    for setting in recipe.embed.settings:
        entries = recipe.embed.fit_on_of(setting) if setting.pca_dim else ()
        used |= {name for entry in entries if isinstance(entry, FitImages) for name in entry.sources}
    apart = {source.name for source in recipe.data.sources if source.domain not in recipe.data.domains_with_labels}
    return [name for name in recipe.data.names_of_unlabelled if name in used & apart]


def with_refit_of_folds(plan: Plan) -> Plan:
    """The plan, with the share that finished folds were refitted with if it asks for no refit itself. Without it the
    table would lose their rows."""
    if plan.share:
        return plan
    marks = (read_done(folder / ANSWERS) or {} for folder in _folders(plan))
    return replace(plan, share=max((mark.get("read", {}).get(REFIT_SHARE, 0.0) for mark in marks), default=0.0))


def check_not_made_otherwise(plan: Plan) -> None:
    """Raises ValueError where any fold in the folder, whatever its seed and domain, holds results of other settings.

    Results without a refit count as the same settings, because results with a refit contain the same rows.
    """
    for folder in _folders(plan):
        seed, domain = _seed_and_domain(folder)
        recipe = plan.run(seed, domain).recipe
        what = made_otherwise(folder, [recipe]) or _answered_otherwise(folder / ANSWERS, recipe, plan.share)
        if what:
            raise ValueError(
                f"{folder} is finished with other settings ({what}); --name NAME makes other folds beside these, "
                "--replace makes them anew"
            )


def _folders(plan: Plan) -> list[Path]:
    return sorted(plan.folder.glob("seed*_without_*"))


def _answered_otherwise(folder: Path, recipe: Recipe, share: float) -> str:
    """Which settings of a fold's results differ from this recipe and this refit share, as text; '' where none
    differs."""
    mark = read_done(folder)
    if mark is None or mark["settings"] in (answers_digest(recipe, 0.0), answers_digest(recipe, share)):
        return ""
    return f"{folder.name}: {difference(mark.get('read', {}), answers_read(recipe, share))}"


def _seed_and_domain(folder: Path) -> tuple[int, str]:
    """The seed and the domain that a fold was run with; an impossible seed where its recipe.json cannot be read."""
    try:
        recipe = json.loads((folder / RECIPE_FILE).read_text(encoding="utf-8"))["recipe"]
        return int(recipe["seed"]), str(recipe["data"]["foreign_domain"])
    except (OSError, ValueError, KeyError, TypeError):
        return -1, ""


def all_folds(plan: Plan, seeds: list[int], domains: list[str]) -> Iterator[Fold]:
    """The folds of all seeds. Their images are packed first, so that impossible folds are reported before hours of
    training.

    Raises:
        ValueError: see `guie.evaluate.foreign.check_domains`, `guie.embed.fitted.check_rows` and
            `guie.train.train_set.TrainSet`.
        FileNotFoundError: a file of words that a PCA is fitted on is missing.
    """
    from guie.evaluate.foreign import check_domains, n_refit

    needed = n_refit(plan.recipe.embed, plan.share)
    for seed in seeds:
        for domain in check_domains(packed_index(plan, seed), domains, needed, seed):
            fold = Fold(seed, domain)
            packed = PackedImages(plan.run(seed).folder(3), domain)
            _check_trainable(plan, fold, packed)
            _tell_withheld(plan, fold, packed)
            yield fold


def _tell_withheld(plan: Plan, fold: Fold, packed: PackedImages) -> None:
    """Prints the sources of fit_on that a fold's PCAs are not fitted on."""
    from guie.embed.fitted import withheld_sources

    for row in plan.recipe.embed.settings:
        if row.pca_dim and (names := withheld_sources(plan.recipe, row, packed.index)):
            print(f"{fold}: {row.name} is not fitted on {', '.join(names)}", flush=True)


def _check_trainable(plan: Plan, fold: Fold, packed: PackedImages) -> None:
    """Raises the errors of doors 04 and 07 early, where too few images are left without the domain."""
    from guie.embed.fitted import check_rows
    from guie.train.train_set import TrainSet

    run = plan.run(fold.seed, fold.domain)
    try:
        check_rows(run, packed)
        for stage in run.recipe.stages.trained:
            TrainSet(run.recipe, stage, packed)
    except ValueError as error:
        raise ValueError(f"{fold}: {error}; or leave {fold.domain} out of --domains") from error
