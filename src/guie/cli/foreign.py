"""The command `guie foreign`: scores a recipe on domains that were left out of its training."""

from __future__ import annotations

import argparse
import logging
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from guie.errors import run_to_the_end
from guie.examples import ExamplesFirst
from guie.launch import check_device_is_here
from guie.machine import check_names, check_writable
from guie.options import NAMES, REFIT_SHARE, share
from guie.run import FOREIGN, FOREIGN_HEAD, default_out, set_up_logging
from guie.settings.names import check_name
from guie.shown import painted

if TYPE_CHECKING:  # at run time only where there is work: --help answers at once
    from guie.cli.folds import Fold, Plan

EXAMPLES = """
guie foreign minibench --data-root ../shared/data --seeds 0 1 2
guie foreign mine.py --head-only --against artifacts/minibench
"""
DESCRIPTION = """\
Leaves one domain of a recipe out, trains on the others, and scores all domains:
for every domain in turn, and every seed. The domain that is left out takes no
part in training, in the choice of epochs, or in a PCA.

The recipe's validation images of all domains are both queries and index, the
same in every fold. So the queries of a domain are scored by the model that
never saw the domain, and by the models that saw its other classes. A training
image that is also a query of any domain is in no fold's training, as in the
recipe's own run. If data.val_class_share is .5, half of each domain's classes
are asked about. --refit may use the images of the other half.

Each fold has its own folder in artifacts/NAME/foreign. If the command is
interrupted, start it again: finished folds are skipped. All folds share the
packed images.
Writes there: foreign.csv, the score of every seed, fold, domain and row;
summary.csv, the means with their 95 % intervals, for other classes of these
domains, and for other domains (of one domain alone, for other seeds);
queries.parquet; foreign.svg. They are of the folds that the command names. The
report of the run artifacts/NAME shows them, if its settings are the same. With
--refit also refits.csv, with --against compared.csv: what is gained, with both
intervals.
"""


def parser() -> argparse.ArgumentParser:
    """The options."""
    p = ExamplesFirst(EXAMPLES, prog="guie foreign", usage="guie foreign RECIPE [options]", description=DESCRIPTION)
    p.add_argument("recipe", metavar="RECIPE", help="a recipe in src/guie/recipes/, or a .py file that defines RECIPE")
    p.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="change one field; repeatable")
    p.add_argument("--name", help="of the results (default: the recipe's)")
    p.add_argument("--data-root", type=Path, help="folder of the raw data sets (default: GUIE_DATA or ./data)")
    p.add_argument("--out", type=Path, default=default_out(), help="where the results go (default: artifacts/)")
    p.add_argument(
        "--seeds", type=int, nargs="+", metavar="N",
        help="default: the recipe's; a single domain needs two or more for an interval",
    )  # fmt: skip
    p.add_argument("--domains", nargs="+", default=[], metavar="DOMAIN", help="leave out only these (default: each)")
    p.add_argument("--head-only", action="store_true", help="train the stages of the first phase only: quick")
    p.add_argument(
        "--refit", type=share, nargs="?", const=REFIT_SHARE, default=0.0, metavar="SHARE",
        help="add a row for each setting that ends in a PCA: the PCA is fitted, as by guie refit, to images of the "
        "left-out domain whose classes are not scored, without labels; SHARE is their weight in the fit "
        f"(default {REFIT_SHARE:g})",
    )  # fmt: skip
    p.add_argument("--against", type=Path, metavar="RUN", help="compare with the folds of this run, artifacts/X")
    p.add_argument("--replace", action="store_true", help="make folds anew that are finished with other settings")
    p.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, or auto (default)")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status. An error is reported in one line, see `guie.errors`."""
    arguments = parser().parse_args(argv)
    return run_to_the_end(lambda: foreign(arguments), "guie foreign", arguments.out, "the same command goes on")


def foreign(arguments: argparse.Namespace) -> None:
    """Trains the folds that are not finished, then prints and writes the results of all folds.

    Raises:
        ValueError: a device that is not here, options that do not go together, a domain that cannot be left out,
            finished folds of other settings, another run that does not compare, or a door that failed.
        FileNotFoundError: the recipe, or the run of --against, does not exist.
    """
    from guie.cli.fold_checks import (
        all_folds,
        check_not_made_otherwise,
        check_options,
        unlabelled_in_all,
        with_refit_of_folds,
    )
    from guie.cli.folds import asked_of, queries_of
    from guie.cli.foreign_results import read_against, tell, write_results
    from guie.done import locked
    from guie.evaluate.foreign_table import check_comparable

    check_device_is_here(arguments.device)
    set_up_logging(None)
    logging.getLogger("guie").setLevel(logging.WARNING)  # what doors and folds say is in their own log.txt
    plan = _plan(arguments)
    seeds = list(dict.fromkeys(arguments.seeds or [plan.recipe.seed]))
    check_options(plan.recipe, arguments.data_root, seeds, arguments.domains)
    against = None if arguments.against is None else read_against(arguments.against, plan.folder)
    with locked(plan.folder):
        if not arguments.replace:
            plan = with_refit_of_folds(plan)
            check_not_made_otherwise(plan)
        if plan.share != arguments.refit:
            print(f"with --refit {plan.share:g}, as the finished folds have it; --replace makes them anew without")
        print(f"images of {len(seeds)} seed{'s' * (len(seeds) > 1)}", flush=True)
        _write_recipe(plan)
        if kept := unlabelled_in_all(plan.recipe):
            print(f"every fold sees the unlabelled images of {', '.join(kept)}: no labelled source is of that domain")
        folds = list(all_folds(plan, seeds, arguments.domains))
        if against is not None:
            check_comparable(against[1], asked_of(plan, folds), (against[0], plan.recipe.name))
        _make(plan, folds)
        queries = queries_of(plan, folds)
        found = write_results(plan.folder, plan.recipe, queries, against)
    tell(found, plan.folder)


def _plan(arguments: argparse.Namespace) -> Plan:
    """What the options ask for.

    Raises:
        ValueError: see `foreign`.
    """
    from guie.cli.fold_checks import load_plain
    from guie.cli.folds import Plan
    from guie.evaluate.foreign import can_refit
    from guie.evaluate.foreign_recipe import head_only

    whole = recipe = load_plain(arguments.recipe, arguments.set)
    if any(text.startswith(NAMES) for text in arguments.set):
        raise ValueError("--set name=...: name the results with --name")
    if arguments.head_only:
        recipe = head_only(recipe)
    if arguments.refit and not any(map(can_refit, recipe.embed.settings)):
        if any(map(can_refit, whole.embed.settings)):
            raise ValueError(
                f"--refit: with --head-only no setting of recipe {recipe.name} is left that ends in a PCA; leave one "
                "of the two options out"
            )
        raise ValueError(
            f"--refit: no setting of recipe {recipe.name} ends in a PCA (embed.settings.*.pca_dim), and nothing else "
            "can be fitted to images without labels"
        )
    name = whole.name if arguments.name is None else arguments.name
    check_name("--name", name)
    out = arguments.out.resolve()
    check_names(out=out)
    folder = out / name / (FOREIGN_HEAD if arguments.head_only else FOREIGN)
    check_writable(folder)
    given = [] if arguments.data_root is None else ["--data-root", str(arguments.data_root.resolve())]
    root = arguments.data_root or Path(os.environ.get("GUIE_DATA", "data"))
    return Plan(
        recipe=replace(recipe, name=name),
        file=folder / "recipe.py",
        folder=folder,
        origins=tuple(dict.fromkeys((out / name, out / whole.name))),
        words=(*given, "--device", arguments.device),
        data_root=root.resolve(),
        device=arguments.device,
        share=arguments.refit,
    )


def _write_recipe(plan: Plan) -> None:
    """Writes the file that the doors of all folds read."""
    from guie.files import whole_file
    from guie.own.recipe_text import recipe_text

    doc = f"{plan.recipe.name}: written by guie foreign; each fold sets seed and data.foreign_domain.\n"
    with whole_file(plan.file) as temporary:
        temporary.write_text(recipe_text(plan.recipe, doc), encoding="utf-8")


def _make(plan: Plan, folds: list[Fold]) -> None:
    """Runs the unfinished folds, and prints an estimate of the remaining time."""
    from guie.cli.folds import answer, drop_cache, is_answered

    waiting = [fold for fold in folds if not is_answered(plan, fold)]
    for fold in set(folds) - set(waiting):
        drop_cache(plan, fold)  # which a kill after the answers has left
    if len(waiting) < len(folds):
        print(f"{len(folds) - len(waiting)} of {len(folds)} folds are finished already", flush=True)
    started = time.time()
    for i, fold in enumerate(waiting):
        left = (time.time() - started) / i * (len(waiting) - i) / 60 if i else 0
        rest = f", about {max(1, round(left))} min to go" if i else ""
        print(painted(f"fold {i + 1} of {len(waiting)}: {fold}{rest}", "score"), flush=True)
        answer(plan, fold)
