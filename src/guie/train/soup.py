"""Model soups: the mean of the weights of alike models. Source: Wortsman et al., ICML 2022; 4th place of GUIE."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from accelerate import Accelerator
from torch import Tensor

from guie.data.packing import PackedImages
from guie.done import read_done
from guie.embed.ensemble import stage_weights
from guie.model.embedder import Embedder
from guie.run import Run
from guie.settings.stage import Soup
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
            raise ValueError(f"a soup is of alike models; only one has {', '.join(sorted(other.keys() ^ first.keys())[:3])}")
        for name, tensor in other.items():
            if tensor.shape != first[name].shape:
                raise ValueError(f"a soup is of alike models; {name} is {list(first[name].shape)} in one and {list(tensor.shape)} in another")
    means = {name: torch.stack([w[name].double() for w in ingredients]).mean(0) for name, tensor in first.items() if tensor.is_floating_point()}
    return {name: means[name].to(tensor.dtype) if name in means else tensor for name, tensor in first.items()}


def cook(run: Run, soup: Soup, embedder: Embedder, packed: PackedImages, accelerator: Accelerator) -> None:
    """Fills `embedder` with the soup of the row's ingredients: all of them, or those that do not lower the score (greedy)."""
    if not soup.is_greedy:
        embedder.load_state_dict(averaged([stage_weights(run, name) for name in soup.of]))
        return

    stage = run.recipe.stage(soup.name)

    def score_of(names: Sequence[str]) -> float:
        embedder.load_state_dict(averaged([stage_weights(run, name) for name in names]))
        return validated(run, stage, embedder, packed, accelerator, is_kept=False)["mp5"]

    marks = {name: read_done(run.stage_folder(name)) for name in soup.of}
    rest = sorted(soup.of, key=lambda name: -(marks[name] or {"metrics": {"mp5": 0.0}})["metrics"]["mp5"])
    chosen = rest[:1]
    best = score_of(chosen)
    for name in rest[1:]:
        score = score_of([*chosen, name])
        log.info("stage %s: %s with %s has mP@5 %.4f, %.4f without", soup.name, " + ".join(chosen), name, score, best)
        if score >= best:
            chosen, best = [*chosen, name], score
    embedder.load_state_dict(averaged([stage_weights(run, name) for name in chosen]))
