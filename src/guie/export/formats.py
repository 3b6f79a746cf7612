"""The formats of `guie export`, apart from the rest so that --help need not import torch."""

from __future__ import annotations

NEED_A_RUN = ("program", "onnx", "hub")
OF_A_MODEL = ("torchscript", *NEED_A_RUN)
EMBEDDINGS = "embeddings"  # embeddings of photos
FORMATS = (*OF_A_MODEL, EMBEDDINGS)
