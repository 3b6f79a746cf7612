"""Model soups: the mean of the weights of alike models. Source: Wortsman et al., ICML 2022; 4th place of GUIE."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from torch import Tensor

from guie.done import read_done
from guie.embed.ensemble import stage_weights
from guie.embed.features import FeatureStore
from guie.run import Run
from guie.settings.mixed import Soup
from guie.train.model import Model
from guie.train.sharding import of_process_0
from guie.train.validation import validated

log = logging.getLogger(__name__)


def averaged(ingredients: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of each tensor, summed in float64, of the first's type; counters are the first's.

    Raises:
        ValueError: names or shapes that differ.
    """
    first = ingredients[0]
    for other in ingredients[1:]:
        if other.keys() != first.keys():
            raise ValueError(
                f"a soup is of alike models; only one has {', '.join(sorted(other.keys() ^ first.keys())[:3])}"
            )
        for name, tensor in other.items():
            if tensor.shape != first[name].shape:
                raise ValueError(
                    f"a soup is of alike models; {name} is {list(first[name].shape)} in one and {list(tensor.shape)} "
                    "in another"
                )
    means = {
        name: torch.stack([w[name].double() for w in ingredients]).mean(0)
        for name, tensor in first.items()
        if tensor.is_floating_point()
    }
    return {name: means[name].to(tensor.dtype) if name in means else tensor for name, tensor in first.items()}


def average_weights(run: Run, soup: Soup, model: Model, store: FeatureStore) -> None:
    """Fills `model` with the mean of the soup's rows: of all, or of those that do not lower the validation score
    (greedy)."""
    stage = run.recipe.stage(soup.name)

    def fill(names: Sequence[str]) -> None:
        means = averaged([stage_weights(run, name) for name in names])
        model.load_state_dict(model.state_dict() | means)  # an objective's buffers are not stored

    def score_of(names: Sequence[str]) -> float:
        fill(names)
        is_row = len(names) == 1  # whose features door 07 may ask for
        mp5 = validated(run, stage, model, store, is_kept=is_row)["mp5"]
        return of_process_0(mp5, store.accelerator)  # cards may round differently, and all must choose alike

    if not soup.is_greedy:
        fill(soup.of)
        return
    marks = {name: read_done(run.stage_folder(name)) for name in soup.of}
    rest = sorted(soup.of, key=lambda name: -(marks[name] or {"metrics": {"mp5": 0.0}})["metrics"]["mp5"])
    chosen = rest[:1]
    best = score_of(chosen)
    for name in rest[1:]:
        score = score_of([*chosen, name])
        text = "stage %s: %s with %s has mP@5 %.4f, %.4f without"
        log.info(text, soup.name, " + ".join(chosen), name, score, best)
        if score >= best:
            chosen, best = [*chosen, name], score
    fill(chosen)
