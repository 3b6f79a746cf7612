"""Checks whether PyTorch 1.11, the contest's scorer, can load an exported file: its format, and the operators of its
graph.

`operators_of_torch_1_11.txt` is the output of `torch._C._jit_get_all_schemas()` of torch 1.11.0, one `name.overload`
per line.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import torch

from guie.export.torchscript import quiet_jit

NEWEST_FORMAT = 9  # kMaxSupportedFileFormatVersion of caffe2/serialize in 1.11
LIST = Path(__file__).with_name("operators_of_torch_1_11.txt")


def unknown_to_1_11(path: Path) -> list[str]:
    """What keeps PyTorch 1.11 from loading the file at `path`, sorted: a newer file format, and operators that it does
    not know.

    1.11 compiles all saved code when it loads a file, including branches that are never taken. So the code is searched
    as well as the graph.
    """
    with zipfile.ZipFile(path) as archive:
        version = int(archive.read(next(name for name in archive.namelist() if name.endswith("/version"))))
        code = "".join(archive.read(name).decode() for name in archive.namelist() if name.endswith(".py"))
    with quiet_jit():
        module = torch.jit.load(str(path), map_location="cpu")
    known = _known()
    in_graph = {name for name in _names(module.inlined_graph) if not name.startswith("prim::")}
    in_code = {f"aten::{name}" for name in re.findall(r"\btorch\.([a-z_0-9]+)\(", code)}
    bare = {name.partition(".")[0] for name in known}
    unknown = sorted(
        {name.partition(".")[0] for name in in_graph - known} | {name for name in in_code if name not in bare}
    )
    return ([f"file format {version}"] if version > NEWEST_FORMAT else []) + unknown


@cache
def _known() -> frozenset[str]:
    return frozenset(LIST.read_text(encoding="utf-8").split())


def _names(block: torch._C.Graph | torch._C.Block) -> Iterator[str]:
    for node in block.nodes():
        schema = node.schema()
        if "(" in schema and schema != "(no schema)":
            yield schema.partition("(")[0]
        for inner in node.blocks():
            yield from _names(inner)
