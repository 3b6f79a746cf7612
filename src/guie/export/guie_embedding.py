"""Loads this folder for sentence-transformers (5.4 or newer): images in, embeddings out.

This file is copied into every exported folder. `guie_graph.py` beside it holds the model's operators, and
`model.safetensors` its tensors.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from safetensors.torch import load_file, save_file
from sentence_transformers.base.modules import InputModule
from torch import Tensor, nn
from transformers.image_utils import load_image

from .guie_graph import embed  # made by each export

WEIGHTS = "model.safetensors"
GRAPH = "guie_graph.py"


class ImageEmbedding(InputModule):
    """The exported model as the only module of a SentenceTransformer."""

    config_keys = ["dim"]  # noqa: RUF012 (the base class reads it)
    save_in_root = True

    def __init__(self, dim: int, tensors: dict[str, Tensor]) -> None:
        """Takes the tensors by the names that `embed` uses."""
        super().__init__()
        self.dim = dim
        for name, tensor in tensors.items():
            if name.startswith("p_"):  # torch.export's prefix of parameters
                self.register_parameter(name, nn.Parameter(tensor))
            else:
                self.register_buffer(name, tensor)

    @classmethod
    def load(
        cls,
        model_name_or_path: str,
        subfolder: str = "",
        token: bool | str | None = None,
        cache_folder: str | None = None,
        revision: str | None = None,
        local_files_only: bool = False,
        init_defaults: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> ImageEmbedding:
        """The module of a folder, or of a model on the hub; other options are not used."""
        place: dict[str, Any] = {"subfolder": subfolder, "token": token, "cache_folder": cache_folder}
        place |= {"revision": revision, "local_files_only": local_files_only}
        config = cls.load_config(model_name_or_path, **place)
        weights = cls.load_file_path(model_name_or_path, WEIGHTS, **place)
        if weights is None:
            raise FileNotFoundError(f"{model_name_or_path} has no {WEIGHTS}; fetch or export it again")
        return cls(int(config["dim"]), load_file(weights))

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        """Writes config, tensors (always as safetensors) and operators."""
        self.save_config(output_path)
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.state_dict().items()}
        save_file(tensors, str(Path(output_path, WEIGHTS)), metadata={"format": "pt"})
        shutil.copyfile(Path(__file__).with_name(GRAPH), Path(output_path, GRAPH))

    @property
    def modalities(self) -> list[Any]:
        """Images only."""
        return ["image"]

    def get_embedding_dimension(self) -> int:
        """Number of dimensions of an embedding."""
        return self.dim

    def preprocess(self, inputs: Sequence[Any], prompt: str | None = None, **kwargs: Any) -> dict[str, Any]:
        """Images as uint8 [3, height, width], of any sizes: PIL images, paths, URLs, arrays or tensors."""
        return {"images": [_pixels(image) for image in inputs]}

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Adds `sentence_embedding`, float32 [n, dim]. Images of one size are computed together."""
        images: list[Tensor] = features["images"]
        tensors = dict(self.named_parameters()) | dict(self.named_buffers())
        rows: dict[torch.Size, list[int]] = {}
        for i, image in enumerate(images):
            rows.setdefault(image.shape, []).append(i)
        found: list[Tensor] = [torch.empty(0)] * len(images)
        for same in rows.values():
            batch = torch.stack([images[i] for i in same]).to(next(self.parameters()).device)
            for i, embedding in zip(same, embed(batch, tensors), strict=True):
                found[i] = embedding
        return features | {"sentence_embedding": torch.stack(found)}


def _pixels(image: Any) -> Tensor:
    """An image as uint8 [3, height, width]: upright, with transparent parts on white."""
    if isinstance(image, dict) and set(image) == {"image"}:
        image = image["image"]
    if isinstance(image, np.ndarray | Tensor):
        pixels = torch.tensor(image) if isinstance(image, np.ndarray) else image  # arrays may be read-only
        if pixels.dtype != torch.uint8 or pixels.ndim != 3 or 3 not in (pixels.shape[0], pixels.shape[2]):
            raise ValueError(f"an image is uint8 [3, h, w] or [h, w, 3], not {pixels.dtype} {list(pixels.shape)}")
        return pixels if pixels.shape[0] == 3 else pixels.permute(2, 0, 1)
    if isinstance(image, str):
        is_remote = image.startswith(("http://", "https://", "data:"))
        image = load_image(image) if is_remote else Image.open(image)
    upright = ImageOps.exif_transpose(image)
    if upright.has_transparency_data:
        layer = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", layer.size, (255, 255, 255, 255)), layer)
    return torch.from_numpy(np.array(upright.convert("RGB"))).permute(2, 0, 1)
