"""The model card of an exported folder: what the model is, what it scores, on what data, and what it cannot do."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
import torch
from huggingface_hub import EvalResult, ModelCardData

from guie.embed.verdict import FEWEST, Verdict, read_verdict
from guie.export.hub import OLDEST
from guie.export.submission import final_scores
from guie.export.take_away import MIN_COSINE, Taken
from guie.export.torchscript import MAX_SIDE
from guie.run import FOLDERS, Run, commit
from guie.settings.fit import shares_described
from guie.settings.recipe import Recipe

TEMPLATE = Path(__file__).with_name("card.md")
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Facts:
    """What a card says about a run.

    Attributes:
        recipe: The recipe of the run.
        scores: The exported row of scores.csv, by column; None for an empty cell.
        first: The first row of scores.csv, most often the tower before training.
        licences: Rows of licences.json.
        code_loss: As `guie.evaluate.code_loss` returns it; None leaves the codes out.
        n_classes: Validation classes of two images or more; 0 if it is not known.
        verdict: What `guie train` found; None if it left no verdict on this recipe.
        n_refitted: Photos to which `guie refit` fitted the projection; 0 for the run's own projection.
    """

    recipe: Recipe
    scores: dict[str, Any]
    first: dict[str, Any]
    licences: list[dict[str, Any]]
    code_loss: pd.DataFrame | None
    n_classes: int = 0
    verdict: Verdict | None = None
    n_refitted: int = 0


def facts_of(run: Run, code_loss: pd.DataFrame | None, n_refitted: int = 0) -> Facts:
    """Reads a run's scores and licences.

    Raises:
        FileNotFoundError: the run lacks one of the files.
        ValueError: the scores lack the exported row.
    """
    scores, licences = run.out / FOLDERS[7] / "scores.csv", run.out / FOLDERS[2] / "licences.json"
    for path, number in ((scores, 7), (licences, 2)):
        if not path.is_file():
            raise FileNotFoundError(f"{path} does not exist; run door {number:02d} again")
    first = json.loads(pd.read_csv(scores).iloc[[0]].to_json(orient="records"))[0]
    return Facts(
        recipe=run.recipe,
        scores=final_scores(run),
        first=first,
        licences=json.loads(licences.read_text(encoding="utf-8")),
        code_loss=code_loss,
        n_classes=_n_classes(run.out / FOLDERS[7] / "val_ids.parquet"),
        verdict=read_verdict(run.out, run.recipe),
        n_refitted=n_refitted,
    )


def _n_classes(ids: Path) -> int:
    """Validation classes of two images or more; 0 if door 07 wrote no ids."""
    if not ids.is_file():
        return 0
    return int((pd.read_parquet(ids, columns=["class_id"])["class_id"].value_counts() >= 2).sum())


def card_text(facts: Facts, written: Sequence[Taken]) -> str:
    """The text of the folder's README.md.

    Args:
        facts: Facts of the run.
        written: Formats that were written beside the folder.
    """
    ladder = [(f"this model: {facts.scores['setting']}", facts.scores)]
    if facts.first.get("setting") != facts.scores.get("setting"):
        ladder.insert(0, (facts.first["setting"], facts.first))
    recipe = facts.recipe
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False)
    environment.filters |= {"cell": _cell, "number": _number, "interval": _interval}
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        metadata=_metadata(facts),
        recipe=recipe,
        verdict=facts.verdict,
        n_refitted=facts.n_refitted,
        scores={"dim": recipe.embed.dim, "n_queries": UNKNOWN, "n_index": UNKNOWN, "chosen_on": None} | facts.scores,
        ladder=[(name, {"mp5": None, "r1": None} | row) for name, row in ladder],
        domains=_by_domain(facts.scores),
        codes=[] if facts.code_loss is None else facts.code_loss.to_dict("records"),
        licences=[{"page": "", "n_images": UNKNOWN, "n_classes": UNKNOWN} | row for row in facts.licences],
        written=list(written),
        commit=commit(),
        torch=torch.__version__,
        oldest=OLDEST,
        min_cosine=MIN_COSINE,
        max_side=f"{MAX_SIDE:,}",
        sides=sorted({member.image_px for member in recipe.embed.final.members}),
        fitted_on=shares_described(recipe.embed.fit_on_of(recipe.embed.final)) + recipe.data.told_of_foreign,
        domains_of_data=[_cell(domain) for domain in recipe.data.domains_with_labels],
    )


def _by_domain(scores: dict[str, Any]) -> dict[str, Any]:
    """mP@5 of each domain, from a row of scores.csv."""
    names = [name for name in scores if name.startswith("mp5_") and name not in ("mp5_low", "mp5_high")]
    return {name.removeprefix("mp5_"): scores[name] for name in names}


def _metadata(facts: Facts) -> str:
    """The YAML at the head of the card, from which the hub makes its tags and its table of scores.

    If `guie train` found that training helps, the score is that of its comparison. A score of fewer than `FEWEST`
    classes is left out.
    """
    found = facts.verdict if facts.recipe.embed.final.is_trained else None
    score = facts.scores.get("mp5") if found is None else found.mp5
    n_classes = facts.n_classes if found is None else found.n_classes
    images = "held-back classes of a first training" if found is not None and found.is_unseen else "validation images"
    results = None
    if score is not None and n_classes >= FEWEST:
        results = [
            EvalResult(
                task_type="image-feature-extraction",
                dataset_type="validation",
                dataset_name=f"{images} of recipe {facts.recipe.name}",
                metric_type="mean-precision-at-5",
                metric_value=round(float(score), 4),
            )
        ]
    return ModelCardData(
        license="other",
        license_name="see-training-data",
        license_link="#its-data",
        library_name="sentence-transformers",
        pipeline_tag="image-feature-extraction",
        tags=["image-retrieval", "image-similarity", "metric-learning", "guie"],
        model_name=facts.recipe.name,
        eval_results=results,
    ).to_yaml()


def _interval(row: dict[str, Any]) -> str:
    """The interval of a row's mP@5."""
    low, high = row.get("mp5_low"), row.get("mp5_high")
    return UNKNOWN if pd.isna(low) or pd.isna(high) else f"{low:.3f} to {high:.3f}"


def _number(value: Any) -> str:
    """Three decimals."""
    return UNKNOWN if pd.isna(value) else f"{value:.3f}"


def _cell(text: Any) -> str:
    """Text that stays within its cell of a Markdown table and is no HTML."""
    return str(text).replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
