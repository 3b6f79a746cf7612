"""Reads weights files, in safetensors or torch.save's format: a state dict, or a (nested) training checkpoint."""

from __future__ import annotations

import logging
import re
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from guie.errors import is_of_the_machine
from guie.files import load_weights
from guie.settings.model import PICKLED

log = logging.getLogger(__name__)

# Where training checkpoints keep their weights. Averages and teachers come before the trained copy, as in timm, DINO
# and I-JEPA, whose average is the target_encoder.
WRAPPERS = (
    "state_dict_ema",
    "model_ema",
    "ema_state_dict",
    "ema_model",
    "model_ema_state_dict",
    "ema_model_state_dict",
    "ema_weights",
    "params_ema",
    "ema",
    "teacher",
    "teacher_state_dict",
    "target_encoder",
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "params",
    "module",
    "student",
    "student_state_dict",
    "backbone",
    "backbone_state_dict",
    "network",
    "net",
    "encoder",
    "visual",
    "image_encoder",
    "vision_model",
    "model_weights",
    "weights",
)
# Parts that torch.compile, FSDP and torch's checkpoint wrapper add to names.
INNER_PREFIXES = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
PLAIN_BUILTINS = (
    "bool",
    "bytes",
    "dict",
    "float",
    "frozenset",
    "int",
    "list",
    "object",
    "range",
    "slice",
    "str",
    "tuple",
)
MAX_UNKNOWN = 100  # most unknown classes in a file; each takes one more try to read it


def read_weights(
    path: Path, only_shapes: bool = False, fits: Callable[[Mapping[str, Tensor]], bool] | None = None
) -> dict[str, Tensor]:
    """Reads a weights file: torch.save's format if its name ends in one of `PICKLED`, else safetensors.

    In a training checkpoint the weights are found under the keys in `WRAPPERS`, also nested; what is taken and what is
    left out is logged. From a pickled file only tensors, numbers and texts are read. Objects of other classes
    (argparse.Namespace, numpy's numbers, dates, OmegaConf's) become empty placeholders, and none of their code runs.

    Args:
        path: The file.
        only_shapes: Read no values: the tensors are on the device `meta`. It takes a second for files of gigabytes.
        fits: Whether weights are those of the wanted network. Of several in a checkpoint the first that fit are read,
            or the first, if none fit.

    Returns:
        The tensors by name, without the parts that torch.compile and FSDP add to names.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is damaged, it would run code, or it holds no weights by name.
    """
    found: Any
    if path.name.endswith(PICKLED) and path.is_file():
        found = _unpickled(path, only_shapes)
    else:
        found = load_weights(path, only_shapes=only_shapes)
    candidates = list(_candidates(found, ()))
    if not candidates:
        raise ValueError(
            f"{path} holds no weights by name: {_described(found)}; save the model's state_dict() as safetensors"
        )
    number = _first_fitting(candidates, fits, path)
    weights, place = candidates[number]
    if number or place:
        unfit = [other for _, other in candidates[:number]]
        left_out = _left_out(found, place, unfit)
        log.info("weights %s: taken from %s%s%s", path.name, _worded(place), _because(unfit), left_out)
    return _renamed(weights, path)


def _first_fitting(
    candidates: Sequence[tuple[dict[str, Tensor], tuple[Any, ...]]],
    fits: Callable[[Mapping[str, Tensor]], bool] | None,
    path: Path,
) -> int:
    """The number of the first candidate that fits; 0 if none does, or if there is nothing to choose."""
    if fits is None or len(candidates) < 2:
        return 0

    def does_fit(weights: dict[str, Tensor]) -> bool:
        try:
            return fits(_renamed(weights, path))
        except ValueError:  # two tensors of one name
            return False

    return next((i for i, (weights, _) in enumerate(candidates) if does_fit(weights)), 0)


def _worded(place: Sequence[Any]) -> str:
    """The keys that lead to weights, as words."""
    return " > ".join(map(repr, place)) or "the outermost names"


def _because(unfit: Sequence[Sequence[Any]]) -> str:
    """Why the weights were not taken from where they usually are, as words after the place."""
    places = ", ".join(map(_worded, unfit))
    return f" because {places} cannot be loaded into the network" if unfit else ""


def _left_out(found: Any, place: Sequence[Any], told: Collection[Sequence[Any]]) -> str:
    """The other keys of a checkpoint that hold weights and are not yet told, as words after the place where they were
    taken from."""
    others = []
    for depth, name in enumerate(place):
        inner = [*(other for other in WRAPPERS if other in found), *(other for other in found if other not in WRAPPERS)]
        others += [
            repr(other)
            for other in inner
            if other != name and (*place[:depth], other) not in told and _holds_weights(found[other])
        ]
        found = found[name]
    return f"; {', '.join(others)} beside it {'is' if len(others) == 1 else 'are'} left out" if others else ""


def _holds_weights(found: Any) -> bool:
    """Whether there are weights under names with a dot. An optimizer numbers the parameters, and a loss's buffers have
    names of one word."""
    return any("." in name for weights, _ in _candidates(found, ()) for name in weights)


def _renamed(weights: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The tensors under their names without `INNER_PREFIXES`.

    Raises:
        ValueError: two different tensors would have the same name.
    """
    found: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        own = _without_inner(name)
        if own in found and not tensor.is_meta and not torch.equal(found[own], tensor):
            raise ValueError(f"{path} holds two different tensors {own}, one of them as {name}; save only one of them")
        found[own] = tensor
    return found


def _without_inner(name: str) -> str:
    for prefix in INNER_PREFIXES:
        name = name.replace(prefix, "")
    return name


class _Ignored:
    """A placeholder for an object of another class: it takes any arguments, keeps nothing and does nothing."""

    class_name = ""

    def __new__(cls, *arguments: Any, **words: Any) -> _Ignored:
        """An empty placeholder."""
        return super().__new__(cls)

    def __init__(self, *arguments: Any, **words: Any) -> None:
        """Ignores its arguments."""

    def __setstate__(self, state: Any) -> None:
        """Ignores the state."""


class _IgnoredList(_Ignored, list[Any]):
    """A placeholder for lists: torch's reader appends to it."""


class _IgnoredDict(_Ignored):
    """A placeholder for dicts: an OrderedDict, because torch's reader sets items of no class of our own."""

    def __new__(cls, *arguments: Any, **words: Any) -> Any:
        """An empty dict."""
        return OrderedDict()


def _unpickled(path: Path, only_shapes: bool) -> Any:
    """Reads a file by torch's weights_only reader. It calls nothing but functions that rebuild tensors, and
    `_Ignored`."""
    ignored: dict[str, Any] = {"collections.defaultdict": _stand_in("collections.defaultdict", _IgnoredDict)}
    ignored |= {f"builtins.{name}": _stand_in(name, _Ignored) for name in PLAIN_BUILTINS}
    for _ in range(MAX_UNKNOWN):
        try:
            with (
                torch.serialization.safe_globals([(stand_in, name) for name, stand_in in ignored.items()]),
                warnings.catch_warnings(),
            ):
                warnings.filterwarnings("ignore", message=".*TorchScript archive|Detected pickle protocol")
                if only_shapes:
                    return torch.load(path, map_location="meta", weights_only=True, mmap=zipfile.is_zipfile(path))
                return torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            if is_of_the_machine(error):
                raise
            more = _further_stand_in(str(error), ignored)
            if not more:
                raise ValueError(_why_unreadable(path, error)) from error
            ignored |= more
    raise ValueError(f"{path} holds objects of more than {MAX_UNKNOWN} classes; save its state_dict() as safetensors")


def _stand_in(name: str, kind: type[_Ignored]) -> Any:
    return type(name.rpartition(".")[2], (kind,), {"class_name": name})


def _further_stand_in(message: str, known: dict[str, Any]) -> dict[str, Any]:
    """A placeholder for the class at which torch's reader stopped, by its full name; {} if no placeholder is allowed.

    There is none for functions of builtins (exec, getattr), which torch names without their module, and none for
    modules that torch blocks (os, sys).
    """
    if found := re.search(r"Unsupported global: GLOBAL (\S+) was not an allowed global", message):
        name = found[1]
        return {name: _stand_in(name, _Ignored)} if "." in name and name not in known else {}
    if found := re.search(r"Can only (SETITEM|append).* got <class '[^']*?(\w+)'>", message):
        kind = _IgnoredList if found[1] == "append" else _IgnoredDict
        return {
            name: _stand_in(name, kind)
            for name, old in known.items()
            if name.rpartition(".")[2] == found[2] and not issubclass(old, kind)
        }
    return {}


def _why_unreadable(path: Path, error: Exception) -> str:
    if _is_safetensors(path):
        return f"{path} is a safetensors file; rename it so that its name ends in .safetensors"
    if "TorchScript" in str(error):
        return (
            f"{path} is a TorchScript archive, as OpenAI's first files are; extract its weights: "
            f"python -c \"import torch; torch.save(torch.jit.load('{path}', 'cpu').state_dict(), 'weights.pt')\""
        )
    if found := re.search(r"GLOBAL (\S+) (?:was not an allowed|whose module)", str(error)):
        return (
            f"{path} would call {found[1]} when it is opened, which weights never do: it is damaged, or holds more "
            "than weights; fetch it from a source that you trust"
        )
    found = re.search(r"WeightsUnpickler error:\s*([^\n]+)", str(error))
    told = found[1] if found else str(error).strip().split("\n")[0] or type(error).__name__
    return (
        f"{path} is damaged, or holds more than weights ({told[:120]}); fetch it again, or save its state_dict() as "
        "safetensors"
    )


def _is_safetensors(path: Path) -> bool:
    """Whether a file begins as one of safetensors: the length of its header in 8 bytes, then the header in JSON."""
    with path.open("rb") as file:
        head = file.read(9)
    return head[8:] == b"{" and 0 < int.from_bytes(head[:8], "little") < path.stat().st_size


def _candidates(found: Any, place: tuple[Any, ...]) -> Iterator[tuple[dict[str, Tensor], tuple[Any, ...]]]:
    """Yields all tensors by name that may be a network's weights, and the keys that lead to them. Those of inner dicts
    come first, in the order of `WRAPPERS`."""
    if not isinstance(found, dict) or len(place) > 4:
        return
    inner = [name for name in found if isinstance(found[name], dict)]
    for name in dict.fromkeys([*(name for name in WRAPPERS if name in inner), *(inner if len(inner) == 1 else [])]):
        yield from _candidates(found[name], (*place, name))
    tensors = {name: tensor for name, tensor in found.items() if isinstance(name, str) and isinstance(tensor, Tensor)}
    if any(tensor.ndim for tensor in tensors.values()):  # not only scalars, such as a decay or a counter
        yield tensors, place


def _described(found: Any) -> str:
    """What a file holds instead of weights, in a few words."""
    if isinstance(found, _Ignored):
        return f"an object of {found.class_name} (a whole model, perhaps)"
    if isinstance(found, dict) and found:
        return f"a dict of {', '.join(repr(name) for name in list(found)[:5])}{', ...' if len(found) > 5 else ''}"
    return f"a {type(found).__name__}"
