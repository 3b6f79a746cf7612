"""What every settings class is made of: ranges beside the fields, and one walk that checks a whole tree of them.

A settings class is a frozen dataclass. Its fields are str, int, float, bool, `Literal` words, other settings classes,
unions of settings classes (a choice of kinds), or tuples of those. A class may have a method `check(at)` for rules
between its fields.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, is_dataclass
from typing import Any


def within(default: Any = MISSING, *, low: float, high: float) -> Any:
    """A field whose number, or each number of whose tuple, must lie between `low` and `high`; without a default it must
    be given."""
    return dataclasses.field(default=default, metadata={"range": (low, high)})


def rows(default: Any = ()) -> Any:
    """A field of named rows that a path reaches by their own names, without the field's: `stages.s1.image_px`."""
    return dataclasses.field(default=default, metadata={"is_unnamed": True})


def hints_of(kind: Any) -> Mapping[str, Any]:
    """The types of a settings class' fields, by name."""
    return _hints(kind)


@functools.cache
def _hints(kind: Any) -> Mapping[str, Any]:
    return types.MappingProxyType(typing.get_type_hints(kind))  # which reads them anew from text each time


def kinds_of(hint: Any) -> tuple[Any, ...]:
    """The types that a field may hold: the members of a union, or the one type."""
    return typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)


@functools.cache
def classes_of(hint: Any) -> tuple[type, ...]:
    """The settings classes among `kinds_of`, those of a tuple's items included."""
    found: list[type] = []
    for kind in kinds_of(hint):
        if typing.get_origin(kind) is tuple:
            found += classes_of(typing.get_args(kind)[0])
        elif is_dataclass(kind):
            found.append(typing.cast(type, kind))
    return tuple(found)


def items_of(node: Any) -> Iterator[tuple[Field[Any], Any, bool]]:
    """A settings object's fields, their values, and whether a path leaves the field's name out."""
    for field in dataclasses.fields(node):
        yield field, getattr(node, field.name), bool(field.metadata.get("is_unnamed"))


def joined(*names: str) -> str:
    """A path such as `stages.s1.optim.lr` of its parts; empty ones are left out."""
    return ".".join(name for name in names if name)


def is_pair(kind: Any) -> bool:
    """Whether a type is a pair of a name and a value: `("margin", 0.2)`."""
    arguments = typing.get_args(kind)
    return typing.get_origin(kind) is tuple and len(arguments) == 2 and arguments[0] is str and arguments[1] is not ...


def name_of(item: Any, i: int) -> str:
    """How a path reaches an item of a tuple: by its name, or by its number."""
    name = getattr(item, "name", None)
    return name if isinstance(name, str) and is_dataclass(item) else str(i)


def nearest(name: str, known: Sequence[str]) -> str:
    """`did you mean ...?` with the name most like `name`, or the list of all when none is."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"


def check(node: Any, at: str = "") -> None:
    """Raises ValueError at the first field of a tree of settings that cannot be: path, value, and what it must be.

    Types come first, then ranges, then the classes' own rules, each for a class' fields before the class itself.

    Args:
        node: A settings object.
        at: Its own path, for messages.
    """
    hints = hints_of(type(node))
    for field, value, is_unnamed in items_of(node):
        place = at if is_unnamed else joined(at, field.name)
        _check_value(value, hints[field.name], place, joined(at, field.name))
        if "range" in field.metadata:
            check_range(place, value, *field.metadata["range"])
    if hasattr(node, "check"):
        node.check(at)


def check_range(place: str, value: Any, low: float, high: float) -> None:
    """Raises ValueError where a number, or one of a tuple, is not between `low` and `high`; other values pass."""
    for number in value if isinstance(value, tuple) else (value,):
        if isinstance(number, int | float) and not low <= number <= high:
            raise ValueError(f"{place} is {number}, must be {low} to {high}")


def range_of(kind: type, name: str) -> tuple[float, float]:
    """The lowest and the highest value of a settings class' field that `within` declares."""
    low, high = next(field.metadata["range"] for field in dataclasses.fields(kind) if field.name == name)
    return low, high


def check_unique(place: str, names: Sequence[str]) -> None:
    """Raises ValueError where a name stands twice."""
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{place}: the name {name!r} stands twice")


def _check_value(value: Any, hint: Any, place: str, field: str) -> None:
    for kind in kinds_of(hint):
        if _holds(value, kind):
            break
    else:
        raise ValueError(f"{field} is {_shown(value)}, must be {_wanted(value, hint)}")
    if typing.get_origin(kind) is typing.Literal and value not in typing.get_args(kind):
        words = ", ".join(word or "''" for word in typing.get_args(kind))
        raise ValueError(f"{place} is {value!r}, must be one of {words}")
    if typing.get_origin(kind) is tuple:
        arguments = typing.get_args(kind)
        for i, item in enumerate(value):
            own = place if _is_word(kind) else joined(place, name_of(item, i))
            _check_value(item, arguments[0] if arguments[1:] == (Ellipsis,) else arguments[i], own, own)
    elif is_dataclass(kind):
        check(value, place)


def _is_word(kind: Any) -> bool:
    """Whether a tuple is of words, whose messages name the field alone."""
    return typing.get_origin(typing.get_args(kind)[0]) is typing.Literal


def _holds(value: Any, kind: Any) -> bool:
    """Whether a value is of a type; a whole number may stand for a float, any text for a word of a Literal."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        return isinstance(value, tuple) and (arguments[1:] == (Ellipsis,) or len(value) == len(arguments))
    if origin is typing.Literal:
        return isinstance(value, str)
    return type(value) is kind or (kind is float and type(value) is int)


def _wanted(value: Any, hint: Any) -> str:
    """What a field takes, and how to write it."""
    kinds = [kind for kind in kinds_of(hint) if kind is not types.NoneType]
    if value in kinds and is_dataclass(value):
        return f"settings, not their class: write {typing.cast(type, value).__name__}()"
    if len(kinds) > 5:
        return f"one of {', '.join(getattr(kind, '__name__', str(kind)) for kind in kinds)}"
    if len(kinds) > 1:
        return " or ".join(_named(kind) for kind in kinds)
    if typing.get_origin(kinds[0]) is tuple:
        return f"{_named(kinds[0])}{_tuple_remedy(value, kinds[0])}"
    return f"{_named(kinds[0])}{_remedy(value, kinds[0])}"


def _named(kind: Any) -> str:
    words = {str: "a text", int: "a whole number", float: "a number", bool: "True or False"}
    if typing.get_origin(kind) is typing.Literal:
        return "a text"
    if is_pair(kind):
        return "a pair of a name and a value"
    if typing.get_origin(kind) is tuple:
        arguments = typing.get_args(kind)
        items = " or ".join(_plural(item) for item in kinds_of(arguments[0]))
        return f"a tuple of {items}" if arguments[1:] == (Ellipsis,) else f"a tuple of {len(arguments)} {items}"
    return words.get(kind) or f"{'an' if re.match('[AEIOU](?!ne)', kind.__name__) else 'a'} {kind.__name__}"


def _plural(kind: Any) -> str:
    if is_pair(kind):
        return "pairs of a name and a value"
    word = _named(kind).split(" ", 1)[1]
    return word if word.endswith("s") else f"{word}s"  # FitWords is a plural


def _remedy(value: Any, kind: Any) -> str:
    if kind in (int, float) and isinstance(value, str):
        return ": write it without quotes"
    if kind in (int, float) and not isinstance(value, bool) and hasattr(value, "item"):  # numpy's and torch's
        return f": write {kind.__name__}(...) around it"
    if is_dataclass(kind) and not is_dataclass(value):
        names = ", ".join(field.name for field in dataclasses.fields(kind))
        return f": write {typing.cast(type, kind).__name__}({names})"
    return ""


def _tuple_remedy(value: Any, kind: Any) -> str:
    item = typing.get_args(kind)[0]
    if is_pair(kind) or is_pair(item):
        return ": write (('name', value),)"
    if _holds(value, item) or is_dataclass(value):
        return f": write ({_short(repr(value))},)"
    return ": write (...) instead of [...]" if isinstance(value, list) else ""


def _shown(value: Any) -> str:
    return f"{_short(repr(value))} ({type(value).__name__})"


def _short(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:77]}..."
