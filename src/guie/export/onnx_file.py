"""The submission as an ONNX file: uint8 images of any size in, embeddings out, on any runtime that reads ONNX.

The file is made from the program of `torch.export` (`guie.export.program`), which computes the resize by matrix
products. So the file holds all preprocessing, and height, width and the number of images are free.

The operator set is 18, the one in which torch's converter is written. A file of a higher set would only be translated
from 18, and older runtimes could not read it: onnxruntime reads 18 since its version 1.14.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.export import ExportedProgram

OPSET = 18
IMAGES = "images"  # the input's name
EMBEDDINGS = "embeddings"  # the output's name
AXES = {0: "n", 2: "height", 3: "width"}  # of the input
MAX_INSIDE = 1_500_000_000  # bytes of weights; an ONNX file is one protobuf message, which ends at 2 GiB


def save_onnx(exported: ExportedProgram, path: Path, facts: dict[str, str]) -> None:
    """Writes an ONNX file.

    Weights of more than 1.5 GB go into a second file beside it, `<name>.data`, which ONNX calls external data.

    Args:
        exported: The program.
        path: Path of the file.
        facts: Stored in the file's metadata.

    Raises:
        ValueError: the program holds an operator that ONNX lacks.
    """
    program = _converted(exported)
    program.model.metadata_props.update(facts)
    n_bytes = sum(value.const_value.nbytes for value in program.model.graph.initializers.values())
    program.save(path, external_data=n_bytes > MAX_INSIDE)


def _converted(exported: ExportedProgram) -> Any:
    """The program as torch's ONNXProgram, without the converter's metadata, which contains paths of this machine.

    Raises:
        ValueError: torch cannot convert it.
    """
    with _quiet():
        try:
            program: Any = torch.onnx.export(
                exported,
                dynamo=True,
                opset_version=OPSET,
                input_names=[IMAGES],
                output_names=[EMBEDDINGS],
                verbose=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            first = str(error).strip().splitlines()[0]
            raise ValueError(
                f"this network has an operator that ONNX lacks ({first}); leave onnx out of --formats"
            ) from error
    (images,) = program.model.graph.inputs
    program.rename_axes({images.shape[i]: name for i, name in AXES.items()})
    model = program.model
    for node in model.graph.all_nodes():
        node.metadata_props.clear()
        for value in node.outputs:
            value.metadata_props.clear()
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
    return program


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences the converter's warnings about deprecated parts of torch. Errors are still logged."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def onnx_embedder(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """The function of an ONNX file in onnxruntime on the CPU: uint8 [n, 3, height, width] -> float32 [n, dim]."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def embed(images: np.ndarray) -> np.ndarray:
        embeddings: np.ndarray = session.run([EMBEDDINGS], {IMAGES: images})[0]
        return embeddings

    return embed
