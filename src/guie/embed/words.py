"""Embeddings of words, to fit a PCA on: by the text towers of a setting's members, combined as those of images are."""

from __future__ import annotations

import hashlib

import numpy as np

from guie.data.words import read_words
from guie.embed.ensemble import joined
from guie.model.text import text_embeddings
from guie.run import Run
from guie.settings.embed import Setting
from guie.settings.fit import FitWords


def embedded_words(run: Run, setting: Setting, entry: FitWords) -> np.ndarray:
    """Embeddings of the words by the setting's members, before the PCA: float32 [n_words, dim], of length one.

    Raises:
        FileNotFoundError: there is no such file of words, or of weights.
        ValueError: the file has too few words, or a member's weights hold no text tower.
    """
    texts = [entry.template.format(word) for word in read_words(run, entry.file)]
    by_model: dict[str, np.ndarray] = {}
    outputs = []
    for member in setting.members:
        model = run.recipe.model_of(member.stage)
        name = hashlib.sha256(repr(model).encode()).hexdigest()
        if name not in by_model:
            weights = run.weights_path(model.weights_file) if model.weights_file else None
            by_model[name] = text_embeddings(model, weights, texts, run.cache, run.device)
        outputs.append(by_model[name] * member.weight)
    return joined(outputs, setting)
