"""Embeds texts in the joint space of a language-image model, by open_clip's text tower for an image tower."""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from guie.errors import is_of_the_machine
from guie.files import digest_of_tensors, whole_file
from guie.model.weights import read_weights
from guie.settings.model import Model
from guie.shown import progress

PART = 1024  # texts in a cached file; at most this many are computed again after an interruption
BATCH = 64  # texts in a forward pass


def text_embeddings(
    model: Model, weights: Path | None, texts: Sequence[str], cache: Path, device: str = "cpu"
) -> np.ndarray:
    """Embeddings of texts by the model's text tower, float32 [n, d], of length one. It computes in float32 on any
    device.

    Args:
        model: An open_clip model.
        weights: A file with the weights of both towers; None takes the tag in `model.weights`.
        texts: Whole sentences.
        cache: Folder of cached embeddings, in parts. After an interruption the next start reuses them.
        device: Where to compute.

    Raises:
        ValueError: the weights hold no text tower, or the tower or its tokenizer cannot be built or fetched.
    """
    tower, tokenize = _text_tower(model, weights)
    digest = digest_of_tensors(tower.state_dict())
    tower.to(device)
    cache.mkdir(parents=True, exist_ok=True)
    parts = []
    for first in progress(range(0, len(texts), PART), desc="words", unit="part", delay=3, disable=None):
        own = texts[first : first + PART]
        key = hashlib.sha256("\0".join((digest, model.name, *own)).encode()).hexdigest()[:16]
        path = cache / f"text-{key}.npy"
        found = _cached(path, len(own))
        if found is None:
            found = _embedded(tower, tokenize, own, device)
            with whole_file(path) as temporary, temporary.open("wb") as handle:
                np.save(handle, found)
        parts.append(found)
    return np.concatenate(parts)


def _cached(path: Path, n: int) -> np.ndarray | None:
    """The embeddings of a cached part; None if there are none, or the file is damaged."""
    try:
        found: np.ndarray = np.load(path)
    except (OSError, EOFError, ValueError):
        return None
    return found if len(found) == n and np.isfinite(found).all() else None


def _embedded(tower: nn.Module, tokenize: Any, texts: Sequence[str], device: str) -> np.ndarray:
    rows = []
    with torch.inference_mode():
        for first in range(0, len(texts), BATCH):
            tokens = tokenize(list(texts[first : first + BATCH])).to(device)
            rows.append(nn.functional.normalize(tower.encode_text(tokens).float(), dim=1).cpu().numpy())  # type: ignore[operator]
    return np.concatenate(rows)


def _text_tower(model: Model, weights: Path | None) -> tuple[nn.Module, Any]:
    """The model without its image tower, in eval mode on the CPU, and its tokenizer."""
    import open_clip  # slow to import, and only needed here

    try:
        with torch.random.fork_rng(devices=[]), _without_warning_of_random_weights():
            whole = open_clip.create_model(model.name, pretrained=model.weights_tag or None, pretrained_text=False)
        tokenize = open_clip.get_tokenizer(model.name)
    except Exception as error:  # whatever a library, its hub or the network raises
        if is_of_the_machine(error):
            raise
        first = (str(error).strip().splitlines() or [""])[0][:150]
        raise ValueError(
            f"the text tower of open_clip's {model.name} cannot be built ({type(error).__name__}: {first}). Its "
            "tokenizer and weights must be in ~/.cache/huggingface; or take FitWords out of fit_on"
        ) from error
    if weights is not None:
        _load(whole, weights)
    whole.visual = nn.Identity()  # its weights are not needed, and may be most of the memory
    return whole.eval().requires_grad_(False), tokenize


@contextlib.contextmanager
def _without_warning_of_random_weights() -> Iterator[None]:
    """Hides open_clip's warning about a model without weights, since we load the weights afterwards."""

    def is_other(record: logging.LogRecord) -> bool:
        return "initialized randomly" not in record.getMessage()

    logging.getLogger().addFilter(is_other)  # open_clip logs by the root's functions
    try:
        yield
    finally:
        logging.getLogger().removeFilter(is_other)


def _load(whole: nn.Module, path: Path) -> None:
    """Loads the text tower's weights strictly and ignores those of the image tower.

    Raises:
        ValueError: some of the text tower's weights are missing or have another shape.
    """
    found = {name.removeprefix("module."): tensor for name, tensor in read_weights(path).items()}
    wanted = {name: tensor for name, tensor in whole.state_dict().items() if not name.startswith("visual.")}
    wrong = [name for name, tensor in wanted.items() if name not in found or found[name].shape != tensor.shape]
    if wrong:
        raise ValueError(
            f"{path} lacks {len(wrong)} of {len(wanted)} weights of the text tower, such as {wrong[0]}: words need the "
            "file of the whole model, in open_clip's own names; or take FitWords out of fit_on"
        )
    whole.load_state_dict({name: found[name] for name in wanted}, strict=False)
