"""A program of `torch.export` as Python source and tensors.

A `.pt2` file may not load in a later torch, and a TorchScript file needs a Python that torch.jit supports. Source that
calls aten operators loads wherever those operators exist, and anyone can read it before trusting it. The tensors become
safetensors, which hold no code.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind
from torch.fx.node import map_aggregate

FUNCTION = "embed"
_HEADER = '''"""The model as operators of PyTorch, written by guie. The tensors are in model.safetensors.

`{function}(images, tensors)` maps uint8 [n, 3, height, width] of any size to float32 [n, {dim}].
"""

from math import inf, nan  # noqa: F401

import torch


def {function}(images, tensors):
'''
_TENSORS = (InputKind.PARAMETER, InputKind.BUFFER, InputKind.CONSTANT_TENSOR)
_CHECKS = (torch.ops.aten._assert_tensor_metadata.default,)


def as_source(exported: ExportedProgram, dim: int) -> tuple[str, dict[str, Tensor]]:
    """Python source with one function, `embed(images, tensors)`, and the tensors that it takes, by name.

    The source names no device: new tensors are made on the device of the images. Tensors that the program never uses
    are left out.

    Args:
        exported: A program with one input, images, and one output, embeddings. It is not changed.
        dim: Number of dimensions of an embedding, for the source's docstring.

    Raises:
        ValueError: the program has inputs or calls that cannot be written as source.
    """
    graph = fx.Graph()
    output = graph.graph_copy(exported.graph_module.graph, {})
    graph.output(output)
    tensors = _lifted(exported, graph)
    (images,) = (node for node in graph.nodes if node.op == "placeholder" and node.name not in tensors)
    for node in list(graph.nodes):
        if node.target in _CHECKS:
            graph.erase_node(node)
    _follow_images(graph, images)
    for node in [node for node in graph.nodes if node.op == "placeholder" and not node.users]:
        tensors.pop(node.name, None)
        graph.erase_node(node)
    graph.lint()
    return _written(graph, images, tensors, dim), tensors


def _lifted(exported: ExportedProgram, graph: fx.Graph) -> dict[str, Tensor]:
    """Parameters, buffers and constants of a program, by the names of their placeholders in the graph.

    Raises:
        ValueError: the program has not exactly one input, or takes something else.
    """
    tensors: dict[str, Tensor] = {}
    names = {node.target: node.name for node in graph.nodes if node.op == "placeholder"}
    n_inputs = 0
    for spec in exported.graph_signature.input_specs:
        if spec.kind in _TENSORS:
            found = exported.state_dict.get(spec.target)
            value = exported.constants[spec.target] if found is None else found
            tensors[names[spec.arg.name]] = value.detach()
        elif spec.kind is InputKind.USER_INPUT:
            n_inputs += 1
        else:
            raise ValueError(f"the exported program takes a {spec.kind.name.lower()}, which source cannot hold")
    if n_inputs != 1:
        raise ValueError(f"the exported program takes {n_inputs} inputs, must take one: images")
    return tensors


def _follow_images(graph: fx.Graph, images: fx.Node) -> None:
    """Replaces every fixed device in a graph by that of the images."""
    first = next(node for node in graph.nodes if node.op != "placeholder")
    with graph.inserting_before(first):
        device = graph.call_function(getattr, (images, "device"))

    def moved(value: Any) -> Any:
        return device if isinstance(value, torch.device) else value

    for node in graph.nodes:
        if node.op == "call_function" and node is not device:
            node.args = map_aggregate(node.args, moved)
            node.kwargs = map_aggregate(node.kwargs, moved)
    if not device.users:
        graph.erase_node(device)


def _written(graph: fx.Graph, images: fx.Node, tensors: dict[str, Tensor], dim: int) -> str:
    """The source of a graph.

    Raises:
        ValueError: it refers to an object that is neither torch's nor a number.
    """
    code = graph.python_code("self")
    unknown = {name for name in code.globals if name.partition(".")[0] not in ("torch", "inf", "nan")}
    lines = code.src.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("def forward("))
    body = "\n".join(line for line in lines[start + 1 :] if line.strip())
    used = sorted(name for name in unknown if f"{name}(" in body or f"{name}." in body)
    if used:
        raise ValueError(f"the exported program calls {', '.join(used)}, which source cannot hold")
    given = [f"    {name} = tensors[{name!r}]" for name in tensors]
    renamed = [] if images.name == "images" else [f"    {images.name} = images"]
    last = body.rpartition("\n")[2].strip()
    if not (last.startswith("return (") and last.endswith(",)")):
        raise ValueError(f"the exported program ends with {last!r}, must return one tensor")
    body = body.rpartition("\n")[0] + f"\n    return {last.removeprefix('return (').removesuffix(',)')}"
    return _HEADER.format(function=FUNCTION, dim=dim) + "\n".join([*given, *renamed, body]) + "\n"
