"""The formats of `guie export`, for its --help without torch."""

from __future__ import annotations

NEED_A_RUN = ("program", "onnx", "hub")
OF_A_MODEL = ("torchscript", *NEED_A_RUN)
EMBEDDINGS = "embeddings"  # those of photos
FORMATS = (*OF_A_MODEL, EMBEDDINGS)
