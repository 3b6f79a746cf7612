"""A folder that the Hugging Face hub shows and sentence-transformers loads.

    SentenceTransformer(folder, trust_remote_code=True).encode(images)

sentence-transformers runs code of a folder only with `trust_remote_code`, since its version 6.0 for local folders too.
None of its own classes can load this model, because views, members and the projection are ours. So the folder holds two
short files of code that anyone can read, and its weights as safetensors, which hold no code.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.export import ExportedProgram

from guie.export.graph import FUNCTION, as_source
from guie.files import load_weights, save_json, save_weights

MODULE = Path(__file__).with_name("guie_embedding.py")
GRAPH = "guie_graph.py"
WEIGHTS = "model.safetensors"
MODULES = "modules.json"
OLDEST = "5.4.0"  # of sentence-transformers: the first whose modules take images


def save_hub(exported: ExportedProgram, folder: Path, card: str, facts: dict[str, Any], dim: int) -> None:
    """Writes the folder's files. The caller must move `modules.json` last: without it nothing is loaded.

    Args:
        exported: The program.
        folder: An empty folder.
        card: The text of README.md.
        facts: Added to config.json, such as the recipe's name.
        dim: Number of dimensions of an embedding.
    """
    source, tensors = as_source(exported, dim)
    save_weights(folder / WEIGHTS, tensors)
    texts = {GRAPH: source, MODULE.name: MODULE.read_text(encoding="utf-8"), "README.md": card}
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    save_json(folder / "config.json", {"dim": dim} | facts)
    settings = {
        "model_type": "SentenceTransformer",
        "__version__": {"sentence_transformers": OLDEST, "pytorch": torch.__version__},
        "prompts": {},
        "default_prompt_name": None,
        "similarity_fn_name": "cosine",
    }
    save_json(folder / "config_sentence_transformers.json", settings)
    module = {"idx": 0, "name": "0", "path": "", "type": f"{MODULE.stem}.ImageEmbedding"}
    (folder / MODULES).write_text(json.dumps([module], indent=2) + "\n", encoding="utf-8")


class HubFolder:
    """The function of a folder's source with the folder's tensors; needs torch and safetensors alone."""

    def __init__(self, folder: Path) -> None:
        """Reads source and tensors."""
        names: dict[str, Any] = {}
        text = (folder / GRAPH).read_text(encoding="utf-8")
        exec(compile(text, str(folder / GRAPH), "exec"), names)
        self._embed = names[FUNCTION]
        self._tensors: dict[str, Tensor] = load_weights(folder / WEIGHTS)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """float32 [n, dim] of uint8 [n, 3, height, width]."""
        with torch.inference_mode():
            embeddings: np.ndarray = self._embed(torch.from_numpy(images), self._tensors).numpy()
        return embeddings
